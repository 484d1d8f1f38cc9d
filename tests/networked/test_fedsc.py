"""Stage 1, FedSC, and FedAvg of local spectral contrast: the steps of a client.

Shape suffixes: T items, C channels, H height, W width, P values of a projection.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.federated import (
    Message,
    State,
)
from airmoe.networked import fedsc, outlook, split_among_clients, train_stages
from airmoe.networked.config import FeatureSettings, NetworkedConfig
from airmoe.networked.features import feature_network
from airmoe.networked.fedce import Network
from airmoe.networked.fedsc import SpectralClient
from airmoe.networked.spectral import clipped, correlation, spectral_loss
from airmoe.networked.views import view
from airmoe.randomness import stream
from tests.networked.spectral_stage import WIDTH, Stage1, stages

Config = Callable[..., NetworkedConfig]


@pytest.fixture
def stage_1(tiny_config: Config, few_digits: ImageSet) -> Callable[..., Stage1]:
    return stages(tiny_config, few_digits)


def test_bytes_are_those_of_the_closed_form(stage_1: Callable[..., Stage1]) -> None:
    extractor = 6 * (25 * 1 + 1) + 2 * 6 + 16 * (25 * 6 + 1) + 2 * 16
    projector_values = 400 * 8 + 8 + 8 * WIDTH + WIDTH
    clients, rounds = 3, 2
    _, rows = stage_1(clients=clients).run()
    values = extractor + projector_values + WIDTH**2
    assert sum(row["bytes"] for row in rows) == clients * 2 * rounds * values * 4  # type: ignore[misc]
    _, rows = stage_1("local-spectral", clients=clients).run()
    values = extractor + projector_values
    assert sum(row["bytes"] for row in rows) == clients * 2 * rounds * values * 4  # type: ignore[misc]


def test_alone_a_client_trains_as_plain_sgd_does_on_the_same_views(stage_1: Callable[..., Stage1]) -> None:
    effective = {"weight_decay": 0.1, "gradient_clip": 0.5}
    made = stage_1("local-spectral", clients=1, rounds=2, batch_size=40, spectral=effective)
    plain = stage_1("local-spectral", clients=1, rounds=2).network
    state, _ = made.run()
    (images,) = made.data.images_TCHW
    for round_, rate in enumerate((0.03, 0.015)):  # half a cosine over two rounds
        random = stream(0, "spectral batches", round_, 0)
        optimiser = torch.optim.SGD(plain.parameters(), lr=rate, momentum=0.9, weight_decay=0.1)
        for batch in np.array_split(random.permutation(len(images)), 5):
            first, second = (view(images[batch], 0.2, True, random) for _ in range(2))
            z = plain(torch.cat([first, second]))
            together = z * torch.clamp(2 / torch.linalg.vector_norm(z, dim=1, keepdim=True), max=1)
            half = len(together) // 2
            agreement = (together[:half] * together[half:]).sum(dim=1).mean()
            # (z . z')^2 over all pairs is |R|^2.
            loss = (together @ together.T).square().mean() - 2 * agreement
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimiser.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_client_tells_the_correlations_of_all_its_images_in_a_few_views(
    stage_1: Callable[..., Stage1],
) -> None:
    made = stage_1()
    made.run(rounds=1)
    begun = made.engine.told[0, "correlate", 1].tensors
    made.network.load_state_dict(begun)
    random, vectors = stream(0, "correlation views", 0, 1), []
    with torch.no_grad():
        for _ in range(2):
            seen = view(made.data.images_TCHW[1], 0.2, True, random)
            vectors.append(clipped(made.network(seen), 4.0))
    expected = correlation(torch.cat(vectors).double()).float()
    torch.testing.assert_close(made.engine.replied[0, "correlate", 1].tensors["correlation"], expected)


def test_a_client_trains_against_the_mean_of_the_others_matrices_with_falling_alpha(
    stage_1: Callable[..., Stage1], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[float, Tensor]] = []

    def spied(first: Tensor, second: Tensor, alpha: float, others: Tensor) -> Tensor:
        used.append((alpha, others))
        return plain(first, second, alpha, others)

    plain = fedsc.spectral_loss
    monkeypatch.setattr(fedsc, "spectral_loss", spied)
    made = stage_1(clients=3, rounds=3, batch_size=1000)
    made.run()
    assert [alpha for alpha, _ in used] == pytest.approx([1.0] * 3 + [2 / 3] * 3 + [1 / 3] * 3)
    for round_ in range(3):
        matrices = [made.engine.replied[round_, "correlate", i].tensors["correlation"] for i in range(3)]
        for client in range(3):
            others = torch.stack([m for i, m in enumerate(matrices) if i != client]).mean(dim=0)
            torch.testing.assert_close(used[3 * round_ + client][1], others)


def global_objective(network: Network, images: Tensor) -> float:
    """-2 tr(R+) + |R|^2 over all images, in views that are always the same."""
    random = np.random.default_rng(0)
    with torch.no_grad():
        first, second = (clipped(network(view(images, 0.2, True, random)), 4.0) for _ in range(2))
    return float(spectral_loss(first, second))


@pytest.mark.parametrize("method", ["fedsc", "local-spectral"])
def test_the_objective_over_all_images_falls(stage_1: Callable[..., Stage1], method: str) -> None:
    made = stage_1(method, rounds=5, batch_size=32, spectral={"projector_hidden": 32})
    images = torch.cat(made.data.images_TCHW)
    before = global_objective(made.network, images)
    state, _ = made.run()
    made.network.load_state_dict(state)
    assert global_objective(made.network, images) < before - 0.2


@pytest.mark.parametrize("images", [0, 1])
def test_a_client_with_fewer_than_two_images_is_refused(images: int, stage_1: Callable[..., Stage1]) -> None:
    made = stage_1()
    with pytest.raises(InvalidInputError, match=f"images of client 7 is {images}; expected at least 2"):
        SpectralClient(made.network, torch.zeros(images, 1, 32, 32), made.settings, 10, 0, 7)


@pytest.mark.parametrize(
    ("method", "exchange"), [("fedsc", "correlate"), ("fedsc", "train"), ("local-spectral", "train")]
)
def test_what_the_server_sends_must_be_finite(
    method: str, exchange: str, stage_1: Callable[..., Stage1]
) -> None:
    made = stage_1(method)
    sent = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    state: State = {}
    if (method, exchange) == ("fedsc", "train"):
        state, _ = made.clients[0].correlate({}, Message(sent, {"round": 0}))
        sent = {"sum": torch.eye(WIDTH)}
    next(iter(sent.values())).view(-1)[0] = float("nan")
    with pytest.raises(InvalidInputError, match="from the server is 'not finite'; expected finite numbers"):
        made.clients[0].client_step(exchange, state, Message(sent, {"round": 0, "clients": 3}))


def test_a_client_that_was_started_anew_within_a_round_says_so(stage_1: Callable[..., Stage1]) -> None:
    with pytest.raises(
        InvalidInputError, match=r"state of client 0 is \[\]; expected what exchange correlate"
    ):
        stage_1().clients[0].train({}, Message({"sum": torch.eye(WIDTH)}, {"round": 0, "clients": 3}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("noise_std", -0.1),
        ("projector_out", 0),
        ("projector_hidden", 0),
        ("mu", 0),
        ("delta", 0),
        ("delta", 1),
        ("smallest_part", 0),
        ("augmentation_passes", 0),
        ("gradient_clip", 0),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        FeatureSettings.model_validate({"spectral": {key: value}})


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused_in_the_settings(share: float) -> None:
    with pytest.raises(ValueError, match="participation"):
        FeatureSettings.model_validate({"participation": share})


def test_all_stages_run_on_features_that_were_learnt_without_labels(
    tiny_config: Config, few_digits: ImageSet
) -> None:
    narrow = {"projector_hidden": 8, "projector_out": WIDTH, "augmentation_passes": 1}
    config = tiny_config(features={"method": "fedsc", "rounds": 2, "spectral": narrow})
    trained = train_stages(config, split_among_clients(config, few_digits))
    rows = [row for row in trained.rows if row["stage"] == "features"]
    assert [row["round"] for row in rows if "probe_f1" in row] == [2]
    assert 0.3 < float(rows[-1]["probe_f1"]) < 1
    assert trained.rows[-1]["macro_f1"] > 0.2
    names = [name for name, _ in trained.model.named_parameters()]
    assert not any("head" in name or "projector" in name for name in names)  # dropped, as FedCE's head is


def test_both_methods_begin_with_the_same_extractor(tiny_config: Config) -> None:
    first, second = (
        feature_network(tiny_config(features={"method": method}), (1, 32, 32), 10).extractor.state_dict()
        for method in ("fedce", "fedsc")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_split_with_a_client_of_one_image_is_refused_at_once(
    tiny_config: Config, few_digits: ImageSet
) -> None:
    config = tiny_config(data={"clients": 150, "partition": "iid"}, features={"method": "fedsc"})
    for refusing in (split_among_clients, outlook):
        with pytest.raises(InvalidInputError, match=r"images of client [0-9]+ is 1; expected at least 2"):
            refusing(config, few_digits)
    split_among_clients(tiny_config(data={"clients": 150, "partition": "iid"}), few_digits)
