"""What FedSC hides, what that is worth, and that it is told.

Shape suffixes: T items, C channels, H height, W width, P values of a projection.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.federated import (
    Message,
    composed_epsilon,
)
from airmoe.networked import outlook, split_among_clients, train_stages
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.correlated_averaging import CorrelatedAveraging
from airmoe.networked.fedsc import SpectralClient
from airmoe.runs.checkpoint import Checkpoint
from tests.networked.spectral_stage import Stage1, stages

Config = Callable[..., NetworkedConfig]


@pytest.fixture
def stage_1(tiny_config: Config, few_digits: ImageSet) -> Callable[..., Stage1]:
    return stages(tiny_config, few_digits)


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
    narrow = {"projector_hidden": 8, "projector_out": 64, "augmentation_passes": 1, "noise_std": 0.05}
    changes = {"data": {"clients": 3}, "features": {"method": "fedsc", "rounds": 2, "spectral": narrow}}
    plain, masked = (
        train_stages(config, split_among_clients(config, few_digits))
        for config in (tiny_config(**changes), tiny_config(**changes, federation={"secure_sums": True}))
    )
    for name, tensor in plain.model.extractor.state_dict().items():
        torch.testing.assert_close(masked.model.extractor.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    epsilons = [[row["epsilon"] for row in each.rows if "epsilon" in row] for each in (plain, masked)]
    assert epsilons[0] == epsilons[1]
    # What is masked takes 8 bytes a value. Were either sent in the open, there would be fewer bytes.
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


def test_no_two_matrices_have_the_same_noise_and_a_repeated_one_has(stage_1: Callable[..., Stage1]) -> None:
    """The difference of two releases with the same noise would be free of it."""
    made = stage_1(spectral={"noise_std": 1.0})
    begun = made.network.state_dict()
    moved = {name: 1.001 * tensor for name, tensor in begun.items()}

    def matrix(weights: dict[str, Tensor]) -> Tensor:
        images = made.data.images_TCHW[0]
        client = SpectralClient(made.network, images, made.settings, 3, 0, 0, noise_seed=7)
        return client.correlate({}, Message(weights, {"round": 0.0}))[1].tensors["correlation"]

    assert torch.equal(matrix(begun), matrix(begun))
    assert float((matrix(begun) - matrix(moved)).abs().mean()) > 0.3
