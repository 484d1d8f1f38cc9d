"""The stages with secure sums: they end as without, and no client's weights or sums are in the open."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, MissingExtraError
from airmoe.federated import Exchange, Loop, Message, State, Summing, federate
from airmoe.federated.fixed_point import BOUNDS
from airmoe.federated.masking_client import PREFIX, MaskingClient
from airmoe.federated.secure_sums import SecureSums
from airmoe.networked import split_among_clients
from airmoe.networked.closed_form import EXCHANGES, GateSumsClient, ridge
from airmoe.networked.config import NetworkedConfig, parse_config
from airmoe.networked.node import EXPERTS
from airmoe.networked.stages import NetworkedMoe, train_stages
from airmoe.plugins import register
from airmoe.progress import silent
from airmoe.runs.checkpoint import Checkpoint

Config = Callable[..., NetworkedConfig]
SECURE = {"secure_sums": True}


def trained(
    config: NetworkedConfig,
    images: ImageSet,
    folder: Path | None = None,
    progress: Callable[..., None] = silent,
) -> NetworkedMoe:
    checkpoint = None if folder is None else Checkpoint(folder, "same")
    return train_stages(config, split_among_clients(config, images), checkpoint=checkpoint, progress=progress)


@pytest.mark.parametrize("method", ["fedgate", "closed-form"])
def test_a_run_with_secure_sums_ends_as_one_without(
    method: str, tiny_config: Config, few_digits: ImageSet
) -> None:
    plain, secure = (
        trained(tiny_config(data={"clients": 3}, gate={"method": method}, federation=each), few_digits)
        for each in ({}, SECURE)
    )
    expected = plain.model.state_dict()
    for name, tensor in secure.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    assert [row["stage"] for row in secure.rows] == [row["stage"] for row in plain.rows]
    pairs = list(zip(secure.rows, plain.rows, strict=True))
    assert {s["stage"] for s, p in pairs if s["bytes"] != p["bytes"]} == {
        "features",
        "gate statistics",
        "gate",
    }


def test_a_gate_in_closed_form_is_that_without_secure_sums_to_nine_digits() -> None:
    # Features whose Gram matrix has entries from 1 to 10^9, on clients of very different size.
    random = torch.Generator().manual_seed(0)
    clients = []
    for client, items in enumerate((40, 5, 300)):
        features_TF = torch.randn(items, 12, generator=random) * torch.logspace(0, 3, 12) + 1
        labels_T = torch.randint(4, (items,), generator=random)
        weight_FC = torch.randn(12, 4, generator=random) * 1e-3
        expert = partial(_probabilities, weight_FC)
        clients.append(GateSumsClient(expert, features_TF, labels_T, client, 3))
    told = {"mean": torch.zeros(12), "std": torch.ones(12)}
    stage = Summing("gate", 3, EXCHANGES, told=told)
    masking = [
        MaskingClient(each, client, "gate", stage.sums, by_samples=False, others=EXCHANGES[:-1])
        for client, each in enumerate(clients)
    ]
    plain, _ = federate(stage, {}, Loop(clients), 1)
    secure, _ = federate(stage, {}, SecureSums(Loop(masking), stage), 1)
    assert float(plain["gram"].max()) > 1e8
    for penalty in (1e-3, 10.0):
        weights = [ridge(sums["gram"], sums["cross"], penalty) for sums in (secure, plain)]
        torch.testing.assert_close(*weights, rtol=1e-9, atol=1e-12)


def _probabilities(weight_FC: Tensor, features_TF: Tensor) -> Tensor:
    return torch.softmax(features_TF @ weight_FC, dim=1)


def test_what_a_stage_costs_is_eight_bytes_a_value_the_bounds_and_the_keys(
    tiny_config: Config, few_digits: ImageSet
) -> None:
    clients = 3
    config = tiny_config(data={"clients": clients}, gate={"rounds": 2}, federation=SECURE)
    run = trained(config, few_digits)
    network = [p.numel() for p in run.model.extractor.state_dict().values()]
    features = run.model.layer.gate.linear.in_features
    values = sum(network) + features * 10 + 10  # and the temporary head
    names = len(network) + 2
    told_twice = 2 * clients * (32 + 8) + names * 8
    later = clients * (values * 4 + names * len(BOUNDS) * 8 + values * 8 + told_twice)
    rows = [row["bytes"] for row in run.rows if row["stage"] == "features"]
    assert rows == [later + clients * 32, later, later]


def test_no_reply_in_a_stage_holds_a_value_in_the_open(
    tiny_config: Config, few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, set[str]]()
    carry = Loop.carry

    def watched(
        self: Loop, exchange: Exchange, messages: Mapping[int, Message]
    ) -> Iterator[tuple[int, Message]]:
        for client, reply in carry(self, exchange, messages):
            held = {name for name, tensor in reply.tensors.items() if tensor.numel()}
            seen.setdefault(exchange.stage, set()).update(held)
            yield client, reply

    monkeypatch.setattr(Loop, "carry", watched)
    trained(tiny_config(data={"clients": 3}, federation=SECURE), few_digits)
    own = {f"{PREFIX}key", f"{PREFIX}masked"}
    # The server asks the experts about images of its own: what they answer is no client's data.
    assert seen.pop("held-out") == {"probabilities"}
    assert seen.pop(EXPERTS) == set()
    assert seen == {"features": own, "gate statistics": own, "gate": own}


def test_a_run_with_secure_sums_resumes_at_the_same_weights(
    tiny_config: Config, few_digits: ImageSet, tmp_path: Path
) -> None:
    config = tiny_config(data={"clients": 3}, federation=SECURE)

    def stop(activity: str, done: int, total: int, note: str = "", /) -> None:
        if (activity, done) == ("gate", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(config, few_digits, tmp_path, stop)
    resumed = trained(config, few_digits, tmp_path).model.state_dict()
    whole = trained(config, few_digits).model.state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_fewer_than_three_clients_are_refused_with_the_settings(tiny_config: Config) -> None:
    said = r"data.clients is 2; expected at least 3 with federation.secure_sums: of two, each knows"
    with pytest.raises(ValidationError, match=said):
        tiny_config(data={"clients": 2}, federation=SECURE)


@pytest.mark.parametrize("section", ["features", "gate"])
def test_another_aggregation_than_the_mean_is_refused_with_the_settings(
    section: str, tiny_config: Config
) -> None:
    @register("aggregation", "first")
    def first(state: State, replies: Mapping[int, Message]) -> State:
        return replies[min(replies)].tensors

    said = rf"{section}.aggregation is 'first'; expected 'mean' with federation.secure_sums"
    with pytest.raises(ValidationError, match=said):
        tiny_config(data={"clients": 3}, federation=SECURE, **{section: {"aggregation": "first"}})


def test_a_missing_package_is_told_with_the_command_that_installs_it(
    tiny_config: Config, few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="secure_sums needs cryptography; install with: pip"):
        trained(tiny_config(data={"clients": 3}, federation=SECURE), few_digits)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[data]\nclients = 2\n[federation]\nsecure_sums = true", "data.clients is 2; expected at least 3"),
        ("[features.spectral]\nnoise_std = 1.0", "features.spectral.noise_std is 1.0; expected 0 with"),
        (
            '[model]\nbackbone = "patches"\n[features]\nmethod = "patches"\nparticipation = 0.5',
            "features.participation is 0.5; expected 1.0 with",
        ),
        (
            '[gate]\nmethod = "closed-form"\nparticipation = 0.5',
            "gate.participation is 0.5; expected 1.0 with",
        ),
        ("[gate]\nquery_k = 11", "gate.query_k is 11; expected at most 10"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_file_key_and_value(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as told:
        parse_config(text, "mine.toml")
    assert str(told.value).startswith(f"mine.toml: {said}")
