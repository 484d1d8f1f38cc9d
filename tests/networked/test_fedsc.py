"""Stage 1, FedSC, and FedAvg of local spectral contrast.

Shape suffixes: T items, C channels, H height, W width, P values of a projection.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.federated import (
    Averaging,
    Exchange,
    Loop,
    Message,
    Participation,
    State,
    composed_epsilon,
    federate,
)
from airmoe.networked import ClientData, fedsc, outlook, split_among_clients, train_stages
from airmoe.networked.config import FeatureSettings, NetworkedConfig
from airmoe.networked.correlated_averaging import CorrelatedAveraging, weights_of
from airmoe.networked.features import feature_network
from airmoe.networked.fedce import Network
from airmoe.networked.fedsc import EXCHANGES, SpectralClient
from airmoe.networked.spectral import clipped, correlation, spectral_loss
from airmoe.networked.views import view
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint

Config = Callable[..., NetworkedConfig]
WIDTH = 6


class Recording(Loop):
    """A loop that keeps what every client was told and replied, by round, exchange and client."""

    def __init__(self, clients: list[SpectralClient]) -> None:
        super().__init__(clients)
        self.told: dict[tuple[int, str, int], Message] = {}
        self.replied: dict[tuple[int, str, int], Message] = {}

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        for client, message in messages.items():
            self.told[exchange.round_, exchange.name, client] = message
        for client, reply in super().carry(exchange, messages):
            self.replied[exchange.round_, exchange.name, client] = reply
            yield client, reply


class Stage1:
    """Stage 1 of a tiny run, whose parts tests look at."""

    def __init__(self, config: NetworkedConfig, images: ImageSet) -> None:
        self.config, self.settings = config, config.features
        self.data: ClientData = split_among_clients(config, images)
        self.count = len(self.data.labels_T)
        image_shape = self.data.test_images_TCHW.shape[1:]
        self.network: Network = feature_network(config, image_shape, classes=10)
        self.clients = [
            SpectralClient(self.network, images, self.settings, self.count, config.seed, client)
            for client, images in enumerate(self.data.images_TCHW)
        ]
        self.engine = Recording(self.clients)
        participation = Participation(self.settings.participation, config.seed)
        if self.settings.method == "fedsc":
            averaging = Averaging("features", self.count, EXCHANGES, participation=participation)
            self.stage: CorrelatedAveraging | Averaging = CorrelatedAveraging(averaging, WIDTH)
        else:
            self.stage = Averaging("features", self.count, participation=participation)

    def run(
        self, rounds: int = 0, checkpoint: Checkpoint | None = None
    ) -> tuple[State, list[dict[str, object]]]:
        state, rows = federate(
            self.stage,
            self.network.state_dict(),
            self.engine,
            rounds or self.settings.rounds,
            checkpoint=checkpoint,
        )
        return state, rows  # type: ignore[return-value]


@pytest.fixture
def stage_1(tiny_config: Config, few_digits: ImageSet) -> Callable[..., Stage1]:
    def build(
        method: str = "fedsc", clients: int = 3, seed: int = 0, spectral: object = None, **features: object
    ) -> Stage1:
        narrow = {"projector_hidden": 8, "projector_out": WIDTH, "augmentation_passes": 2}
        changed = {"rounds": 2, **features, "method": method, "spectral": narrow | (spectral or {})}  # type: ignore[operator]
        data = {"clients": clients, "partition": "ring" if clients > 1 else "iid"}
        return Stage1(tiny_config(seed=seed, data=data, features=changed), few_digits)

    return build


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


def test_with_a_share_of_the_clients_bytes_are_those_of_the_share(stage_1: Callable[..., Stage1]) -> None:
    _, all_rows = stage_1(clients=4).run()
    _, rows = stage_1(clients=4, participation=0.5).run()
    assert [row["bytes"] for row in rows] == [row["bytes"] / 2 for row in all_rows]  # type: ignore[operator]
    assert [row["participants"] for row in rows] == [2, 2]
    assert [row["participants"] for row in all_rows] == [4, 4]


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


def test_with_a_share_the_last_matrices_of_absent_clients_stay_in_the_sum(
    stage_1: Callable[..., Stage1],
) -> None:
    made = stage_1(clients=4, participation=0.5, rounds=5)
    made.run()
    last: dict[int, Tensor] = {}
    absent = 0
    for round_ in range(5):
        here = [client for client in range(4) if (round_, "correlate", client) in made.engine.replied]
        assert len(here) == 2
        for client in here:
            last[client] = made.engine.replied[round_, "correlate", client].tensors["correlation"]
        absent += len(last) - 2
        for client in here:
            told = made.engine.told[round_, "train", client]
            assert told.numbers["clients"] == len(last)
            torch.testing.assert_close(told.tensors["sum"], torch.stack(list(last.values())).sum(dim=0))
    assert absent > 0  # otherwise nothing was kept


def test_where_all_take_part_the_server_needs_sums_alone_and_keeps_no_matrix(
    stage_1: Callable[..., Stage1],
) -> None:
    whole, share = stage_1(), stage_1(participation=0.4)
    assert whole.stage.sums == ("correlate", "train")
    assert share.stage.sums == ("train",)
    whole_state, _ = whole.run()
    share_state, _ = share.run()
    assert whole_state.keys() == whole.network.state_dict().keys() == weights_of(share_state).keys()
    assert share_state.keys() > whole_state.keys()


def test_every_client_counts_alike_in_the_mean_of_weights(stage_1: Callable[..., Stage1]) -> None:
    made = stage_1()
    state, _ = made.run(rounds=1)
    assert len({len(labels) for labels in made.data.labels_T}) > 1
    for name, tensor in state.items():
        replies = [made.engine.replied[0, "train", client].tensors[name] for client in range(3)]
        torch.testing.assert_close(tensor, torch.stack(replies).mean(dim=0))


def test_noise_is_symmetric_and_of_the_deviation_asked_for(stage_1: Callable[..., Stage1]) -> None:
    wide = {"projector_out": 200, "noise_std": 0.5}
    noises = []
    for spectral in (wide, wide | {"noise_std": 0.0}):
        made = stage_1(spectral=spectral)
        made.stage = CorrelatedAveraging(made.stage.averaging, 200)  # type: ignore[union-attr]
        made.run(rounds=1)
        noises.append([made.engine.replied[0, "correlate", i].tensors["correlation"] for i in range(2)])
    first, second = (noisy - plain for noisy, plain in zip(*noises, strict=True))
    torch.testing.assert_close(first, first.T)
    assert float(first.triu(1)[first.triu(1) != 0].std()) == pytest.approx(0.5, rel=0.03)
    assert float(first.diag().std()) == pytest.approx(0.5, rel=0.2)
    assert abs(float((first * second).mean())) < 0.01  # clients draw apart


def test_noise_is_drawn_anew_in_every_round_from_a_seed_of_its_own(stage_1: Callable[..., Stage1]) -> None:
    made = stage_1(spectral={"noise_std": 100.0})
    message = Message(dict(made.network.state_dict()), {"round": 0})

    def matrix(round_: int, noise_seed: int | None) -> Tensor:
        images = made.data.images_TCHW[0]
        client = SpectralClient(made.network, images, made.settings, 3, 0, 0, noise_seed)
        _, reply = client.correlate({}, Message(message.tensors, {"round": round_}))
        return reply.tensors["correlation"]

    assert torch.equal(matrix(0, None), matrix(0, 0))
    for other in (matrix(1, None), matrix(0, 1)):
        assert float((matrix(0, None) - other).abs().median()) > 30


def test_rows_tell_the_privacy_that_every_client_has_spent(stage_1: Callable[..., Stage1]) -> None:
    made = stage_1(spectral={"noise_std": 0.05, "delta": 1e-6}, rounds=3)
    _, rows = made.run()
    images = [len(labels) for labels in made.data.labels_T]
    for round_, row in enumerate(rows):
        spent = [composed_epsilon(4 / n, 0.05, round_ + 1, 1e-6) for n in images]
        assert row["epsilon"] == max(spent)
        assert row["epsilons"] == ", ".join(f"{i}: {each:.4g}" for i, each in enumerate(spent))
    assert spent[images.index(min(images))] == max(spent)


def test_rows_tell_that_there_is_no_privacy_without_noise(stage_1: Callable[..., Stage1]) -> None:
    _, rows = stage_1().run()
    assert [row["privacy"] for row in rows] == ["none", "none"]
    assert not any("epsilon" in row for row in rows)
    _, rows = stage_1("local-spectral").run()  # releases no matrix
    assert not any("privacy" in row for row in rows)


def test_absent_clients_spend_no_privacy_and_the_largest_epsilon_never_falls(
    stage_1: Callable[..., Stage1],
) -> None:
    made = stage_1(clients=4, participation=0.5, rounds=6, spectral={"noise_std": 0.05})
    _, rows = made.run()
    releases = [0] * 4
    for round_, row in enumerate(rows):
        for client in range(4):
            releases[client] += (round_, "correlate", client) in made.engine.replied
        spent = [
            composed_epsilon(4 / len(labels), 0.05, count, 1e-5)
            for labels, count in zip(made.data.labels_T, releases, strict=True)
        ]
        assert row["epsilon"] == pytest.approx(max(spent))
    assert max(releases) < 6


@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_a_resumed_run_ends_at_the_same_weights_and_the_same_privacy(
    tmp_path: Path, stage_1: Callable[..., Stage1], participation: float
) -> None:
    changes = {"clients": 4, "participation": participation, "rounds": 4, "spectral": {"noise_std": 0.05}}
    whole, rows = stage_1(**changes).run()
    checkpoint = Checkpoint(tmp_path, "x")
    stage_1(**changes).run(rounds=2, checkpoint=checkpoint)
    resumed, resumed_rows = stage_1(**changes).run(checkpoint=checkpoint)
    assert resumed_rows == rows
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def global_objective(network: Network, images: Tensor) -> float:
    """-2 tr(R+) + |R|^2 over all images, in views that are always the same."""
    random = np.random.default_rng(0)
    with torch.no_grad():
        first, second = (clipped(network(view(images, 0.2, True, random)), 4.0) for _ in range(2))
    return float(spectral_loss(first, second))


@pytest.mark.parametrize("method", ["fedsc", "local-spectral"])
def test_the_objective_over_all_images_falls(stage_1: Callable[..., Stage1], method: str) -> None:
    made = stage_1(method, rounds=5, spectral={"projector_hidden": 32})
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


@pytest.mark.parametrize(
    ("spoilt", "fault"),
    [
        (torch.full((WIDTH, WIDTH), float("nan")), "1: correlation is not finite"),
        (torch.zeros(WIDTH, WIDTH - 1), r"1: correlation is \(torch.float32, \(6, 5\)\); expected"),
        (torch.zeros(WIDTH, WIDTH, dtype=torch.float64), "1: correlation is .*float64"),
    ],
)
@pytest.mark.parametrize("participation", [1.0, 0.7])
def test_a_matrix_that_is_none_is_rejected_and_the_round_goes_on_without_it(
    stage_1: Callable[..., Stage1],
    monkeypatch: pytest.MonkeyPatch,
    spoilt: Tensor,
    fault: str,
    participation: float,
) -> None:
    made = stage_1(participation=participation)
    monkeypatch.setattr(
        made.clients[1],
        "correlate",
        lambda state, message: (state, Message({"correlation": spoilt}, {"samples": 1})),
    )
    _, rows = made.run(rounds=2)
    rejected = [row for row in rows if "rejected" in row]
    assert rejected
    for row in rejected:
        assert re.match(fault, str(row["rejected"]))
    told = [m for (_, exchange, client), m in made.engine.told.items() if exchange == "train"]
    assert told
    assert all(bool(message.tensors["sum"].isfinite().all()) for message in told)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_client_that_wants_to_count_more_than_others_is_rejected(
    exchange: str, stage_1: Callable[..., Stage1], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage_1()
    step = made.clients[2].client_step

    def greedy(name: str, state: State, message: Message) -> tuple[State, Message]:
        state, reply = step(name, state, message)
        return state, replace(
            reply, numbers={**reply.numbers, "samples": 1000}
        ) if name == exchange else reply

    monkeypatch.setattr(made.clients[2], "client_step", greedy)
    _, rows = made.run(rounds=1)
    assert rows[0]["rejected"] == "2: samples is 1000; expected 1: every client counts alike"
    assert rows[0]["participants"] == 2


def test_a_round_to_which_nobody_replies_changes_nothing(stage_1: Callable[..., Stage1]) -> None:
    for participation in (1.0, 0.5):
        made = stage_1(participation=participation)
        made.engine.carry = lambda exchange, messages: iter(())  # type: ignore[method-assign]
        state, rows = made.run(rounds=1)
        assert rows[0]["participants"] == 0
        begun = made.network.state_dict()
        assert all(torch.equal(state[name], begun[name]) for name in begun)


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


@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_what_is_told_before_a_run_are_the_bytes_and_the_privacy_of_its_end(
    tiny_config: Config, few_digits: ImageSet, participation: float
) -> None:
    narrow = {"projector_hidden": 64, "projector_out": 32, "augmentation_passes": 1, "noise_std": 0.05}
    changed = {"method": "fedsc", "rounds": 3, "participation": participation, "spectral": narrow}
    config = tiny_config(data={"clients": 4}, features=changed)
    told = outlook(config, few_digits)
    trained = train_stages(config, split_among_clients(config, few_digits))
    rows = [row for row in trained.rows if row["stage"] == "features"]
    exchanged = sum(float(row["bytes"]) for row in rows)
    assert float(told[2].split(", ")[1].split(" MB")[0]) == pytest.approx(exchanged / 1e6, abs=0.051)
    assert f" to {rows[-1]['epsilon']:.3g} over the clients, delta 1e-05; the weights have none" in told[3]
    config = tiny_config(features=changed | {"spectral": narrow | {"noise_std": 0.0}})
    assert outlook(config, few_digits)[3].startswith("no privacy: correlation matrices and weights")


def test_with_secure_sums_matrices_and_weights_are_masked_and_the_run_ends_almost_alike(
    tiny_config: Config, few_digits: ImageSet
) -> None:
    pytest.importorskip("cryptography")
    narrow = {"projector_hidden": 8, "projector_out": WIDTH, "augmentation_passes": 1, "noise_std": 0.05}
    changes = {"data": {"clients": 3}, "features": {"method": "fedsc", "rounds": 2, "spectral": narrow}}
    plain, masked = (
        train_stages(config, split_among_clients(config, few_digits))
        for config in (tiny_config(**changes), tiny_config(**changes, federation={"secure_sums": True}))
    )
    for name, tensor in plain.model.extractor.state_dict().items():
        torch.testing.assert_close(masked.model.extractor.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    epsilons = [[row["epsilon"] for row in each.rows if "epsilon" in row] for each in (plain, masked)]
    assert epsilons[0] == epsilons[1]
    # What is masked takes 8 bytes a value: were one of the two sent in the open, there would be fewer bytes.
    first, second = ([row for row in each.rows if row["stage"] == "features"] for each in (plain, masked))
    up = float(first[0]["bytes"]) / 2
    assert float(second[1]["bytes"]) >= up + 2 * up


def test_secure_sums_are_refused_where_the_server_has_to_keep_matrices(tiny_config: Config) -> None:
    changes = {"data": {"clients": 10}, "federation": {"secure_sums": True}}
    tiny_config(**changes, features={"participation": 0.5})
    with pytest.raises(ValueError, match=r"participation is 0.5; expected 1.0 with fedsc"):
        tiny_config(**changes, features={"participation": 0.5, "method": "fedsc"})
    for stage in ("features", "gate"):
        with pytest.raises(ValueError, match=rf"{stage}.participation is 0.2; expected .* at least 3 of 10"):
            tiny_config(**changes, **{stage: {"participation": 0.2}})
