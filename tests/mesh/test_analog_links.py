"""Simulated analog links in the mesh: remote experts get what a receiver would, and airtime is charged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.links import LinkSnr
from airmoe.manifest import Manifest
from airmoe.mesh import MeshClient, Node
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.requests import Traffic
from airmoe.scheduling import All, Jesa, Local, Slot, TopK
from tests.mesh.exported import EXPERTS, ServerRun, links_at
from tests.mesh.impostor import Impostor, honest
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import answer_to, counts, prefer

torch = pytest.importorskip("torch")

USES = 400 / 2 + 32
"""Two values to a symbol, and 32 for the norm where a link carries a bit a symbol."""
USES_AT_MINUS_5_DB = 400 / 2 + 81
POWER_W, SUBCARRIER_HZ = 1e-2, 1e6
SNR_DB = (40.0, -5.0, 0.0, 10.0)
"""Of the links to the four experts; client 0 needs none to its own."""


@pytest.fixture
def impostor(manifest: Manifest, address: str) -> Iterator[Impostor]:
    """Keeps what experts 1, 2 and 3 are sent."""
    with Impostor(manifest, [1, 2, 3], honest, address) as impostor:
        yield impostor


def asking(folder: Path, address: str, **options: object) -> MeshClient:
    options = {"links": links_at(*SNR_DB, nodes=EXPERTS), "transmission": "analog"} | options
    return MeshClient(folder, [address], policy=All(), **options)  # type: ignore[arg-type]


def sent(
    folder: Path, impostor: Impostor, images: NDArray[np.uint8], **options: object
) -> dict[int | None, NDArray[Any]]:
    """What each expert is sent by a client of its own."""
    impostor.requests.clear()
    with asking(folder, impostor.address, **options) as client:
        client.wait_for_nodes(3)
        answer_to(client, images)
    return {request.expert: request.arrays["payload"] for request in impostor.requests}


def test_each_expert_is_sent_noise_at_the_snr_of_its_own_link(
    folders: list[Path], impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    clean, noisy = (
        sent(folders[0], impostor, images, transmission=transmission) for transmission in ("ideal", "analog")
    )
    for expert in (1, 2, 3):
        noise_TF = noisy[expert] - clean[expert]
        snr_T = np.square(clean[expert]).mean(axis=1) / np.square(noise_TF).mean(axis=1)
        # The power of 400 draws is within 7 % at one standard deviation, of all 64 items' within 0.9 %.
        assert snr_T == pytest.approx(10 ** (SNR_DB[expert] / 10), rel=0.45)
        assert snr_T.mean() == pytest.approx(10 ** (SNR_DB[expert] / 10), rel=0.05)
        assert abs(noise_TF.mean() / noise_TF.std()) < 0.03


def test_the_true_link_makes_the_noise_not_the_one_observed(
    folders: list[Path], impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    truth, seen = (links_at(*snr_db, nodes=EXPERTS) for snr_db in ([0.0] * 4, [300.0] * 4))
    clean = sent(folders[0], impostor, images, transmission="ideal")[1]
    noisy = sent(folders[0], impostor, images, links=truth.with_observed(seen))[1]
    assert np.square(noisy - clean).mean() == pytest.approx(np.square(clean).mean(), rel=0.05)


def test_noise_follows_its_seed_and_is_drawn_anew(
    folders: list[Path], impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    first, again, other = (sent(folders[0], impostor, images, seed=seed) for seed in (0, 0, 1))
    for expert in (1, 2, 3):
        np.testing.assert_array_equal(first[expert], again[expert])
        assert not np.isclose(first[expert], other[expert]).any(axis=1).all()
    assert not np.isclose(first[1][0], first[1][1]).all()
    with asking(folders[0], impostor.address) as client:
        client.wait_for_nodes(3)
        impostor.requests.clear()
        for _ in range(2):
            answer_to(client, images[:1])
    one, two = (request.arrays["payload"] for request in impostor.requests if request.expert == 1)
    assert not np.isclose(one, two).all()


def test_noise_stops_and_begins_with_the_links(
    folders: list[Path], impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    clear = links_at(*[300.0] * EXPERTS, nodes=EXPERTS)
    with asking(folders[0], impostor.address) as client:
        client.wait_for_nodes(3)
        for links in (links_at(*SNR_DB, nodes=EXPERTS), clear):
            answer_to(client, images, links=links)
    noisy, clean = (
        next(r.arrays["payload"] for r in impostor.requests[start : start + 3] if r.expert == 2)
        for start in (0, 3)
    )
    assert np.square(noisy - clean).mean() == pytest.approx(np.square(clean).mean(), rel=0.05)


def test_the_own_expert_gets_the_payload_as_it_is(
    folders: list[Path], impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    with asking(folders[0], impostor.address) as client:
        noisy = answer_to(client, images, policy=Local())
    with asking(folders[0], impostor.address, transmission="ideal") as client:
        clean = answer_to(client, images, policy=Local())
    np.testing.assert_array_equal(noisy.probability_TC, clean.probability_TC)
    assert not noisy.dispatched.energy_j_T.any()


def test_airtime_is_charged_for_every_other_expert_and_the_norm_takes_longer_below_0_db(
    folders: list[Path], impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    with asking(folders[0], impostor.address) as client:
        client.wait_for_nodes(3)
        answer = answer_to(client, images)
        np.testing.assert_allclose(
            answer.dispatched.energy_j_T,
            (USES_AT_MINUS_5_DB + 2 * USES) * POWER_W / SUBCARRIER_HZ,
            rtol=1e-12,
        )
        assert answer.transmission == "analog"
        answer = answer_to(client, images, policy=TopK(1), gate=prefer(0.1, 0.2, 0.3, 0.4))
        np.testing.assert_allclose(answer.dispatched.energy_j_T, USES * POWER_W / SUBCARRIER_HZ, rtol=1e-12)
        np.testing.assert_allclose(answer.dispatched.airtime_s_T, USES / SUBCARRIER_HZ, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transmission": "digital"}, "transmission is 'digital'; expected one of ideal, analog"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        ({"seed": 0.5}, "seed is 0.5; expected an integer of at least 0"),
    ],
)
def test_what_is_no_transmission_and_no_seed_is_refused(
    folders: list[Path], address: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        asking(folders[0], address, **options)


def test_a_joint_policy_decides_by_ideal_prices_and_airtime_is_charged(
    folders: list[Path], images: NDArray[np.uint8]
) -> None:
    seed = free_address()
    with (
        Node(folders[1], seed, schedule=Jesa()),
        Node(folders[2], free_address(), [seed]),
        Node(folders[3], free_address(), [seed]),
        MeshClient(folders[0], [seed], policy=Jesa(), transmission="analog") as noisy,
        MeshClient(folders[0], [seed], policy=Jesa()) as clean,
    ):
        answers = []
        for client in (noisy, clean):
            client.wait_for_nodes(3)
            assert client.schedulers.liveliness.wait_until(bool, 5)
            answers.append(answer_to(client, images))
    analog, ideal = answers
    assert analog.dispatched.decided_by == ideal.dispatched.decided_by == "jesa:0.5:2"
    assert (analog.transmission, ideal.transmission) == ("analog", "ideal")
    requested_TE = analog.dispatched.requested_TE
    np.testing.assert_array_equal(requested_TE, ideal.dispatched.requested_TE)
    np.testing.assert_allclose(
        analog.dispatched.energy_j_T, requested_TE[:, 1:].sum(axis=1) * USES * POWER_W / SUBCARRIER_HZ
    )
    assert len(np.unique(counts(requested_TE))) > 1


@pytest.mark.parametrize("snr_db", [-5.0, 5.0])
def test_noise_spoils_answers_as_much_as_in_simulation(
    server_run: ServerRun, expert_nodes: list[NodeProcess], digits: ImageSet, snr_db: float
) -> None:
    from airmoe.nn import LocalCarrier, RadioCarrier
    from airmoe.radio import Analog

    links, images, labels = links_at(*[snr_db] * EXPERTS), digits.test_images, digits.test_labels
    address = expert_nodes[0].address
    with MeshClient(server_run.server, [address], links=links, transmission="analog", seed=5) as client:
        client.wait_for_nodes(EXPERTS)
        mesh_TC = np.concatenate([answer_to(client, images).probability_TC for _ in range(2)])
    snr = LinkSnr(np.full((len(images), EXPERTS), snr_db))
    clean = server_run.in_one_process(images, TopK(1), LocalCarrier(), snr)
    clean_TC, radio = np.tile(clean.y_TC.numpy(), (2, 1)), RadioCarrier(Analog(), links)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        simulated = [server_run.in_one_process(images, TopK(1), radio) for _ in range(2)]
    simulated_TC = np.concatenate([answer.y_TC.numpy() for answer in simulated])

    labels = np.tile(labels, 2)
    moved = [np.abs(noisy_TC - clean_TC).sum(axis=1) for noisy_TC in (mesh_TC, simulated_TC)]
    right = [(noisy_TC.argmax(axis=1) == labels) * 1.0 for noisy_TC in (mesh_TC, simulated_TC)]
    for mesh, simulated in (moved, right):
        four_sigma = 4 * np.sqrt((mesh.var() + simulated.var()) / len(mesh))
        assert abs(mesh.mean() - simulated.mean()) < four_sigma
    assert moved[0].mean() > 0.05, "there is something to compare"


@pytest.mark.parametrize("values", [5, 7, 400])
def test_half_a_channel_use_counts_as_one_as_in_simulation(
    folders: list[Path], impostor: Impostor, values: int
) -> None:
    from airmoe.nn import RadioCarrier
    from airmoe.radio import Analog

    links, payload_T = links_at(*SNR_DB, nodes=EXPERTS), np.zeros((2, values), np.float32)
    slot = Slot(np.zeros(2, np.int64), np.arange(EXPERTS), links)
    with asking(folders[0], impostor.address) as client:
        carrier, simulated = MeshCarrier(client.layer, links, Traffic()), RadioCarrier(Analog(), links)
        price, same = carrier.price(payload_T, slot), simulated.price(torch.from_numpy(payload_T), slot)
        assert carrier.payload_bits(payload_T) == 32 * values + 32
    np.testing.assert_array_equal(price.charged.airtime_s_TE, same.charged.airtime_s_TE)
    uses_E = np.ceil(values / 2 + np.array([0, 81, 32, 32]))
    np.testing.assert_allclose(price.charged.airtime_s_TE[0, 1:] * SUBCARRIER_HZ, uses_E[1:])
