"""Clients with a joint policy share slots, and answer what the same model answers in one process."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.dispatch import IdealPrice
from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.manifest import read_manifest, write_manifest
from airmoe.mesh import Answer, MeshClient, Node, simulated_links
from airmoe.runfolder import client_folders
from airmoe.scheduling import Cost, Des, Jesa, Policy, Routing, Slot, make_policy
from tests.mesh.ports import free_address
from tests.mesh.slot_asker import BITS, EXPERTS
from tests.mesh.steering import answer_to, warnings_of

if TYPE_CHECKING:
    from airmoe.nn import MixtureOfExperts

JESA, ALONE = "jesa:0.5:2", "des:0.5:2"


@dataclass
class Counted:
    """JESA that counts its slots and the items in them."""

    items: list[int] = field(default_factory=list)
    name, joint, fallback = JESA, True, Jesa().fallback

    def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Routing:
        self.items.append(len(slot.source_T))
        return Jesa().route(scores_TE, cost, slot)


@pytest.fixture(scope="module")
def scarce(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The clients' folders of the same run over a radio with just one subcarrier per link."""
    copy = tmp_path_factory.mktemp("scarce") / "run"
    shutil.copytree(run_folder, copy)
    for folder in client_folders(copy):
        manifest = read_manifest(folder)
        radio = manifest.radio.model_copy(update={"subcarriers": EXPERTS * (EXPERTS - 1)})
        write_manifest(folder, manifest.model_copy(update={"radio": radio}))
    return client_folders(copy)


@pytest.fixture(scope="module")
def links(scarce: list[Path]) -> Links:
    return simulated_links(read_manifest(scarce[0]).radio, EXPERTS)


@pytest.fixture(scope="module")
def counted() -> Counted:
    return Counted()


@pytest.fixture(scope="module")
def clients(scarce: list[Path], counted: Counted) -> Iterator[list[MeshClient]]:
    """A client of each node, in a mesh whose node 0 schedules."""
    addresses = [free_address() for _ in scarce]
    with ExitStack() as open_:
        for node, (folder, address) in enumerate(zip(scarce, addresses, strict=True)):
            schedule, connect = (None, addresses[:1]) if node else (counted, [])
            open_.enter_context(Node(folder, address, connect, schedule=schedule, slot_ms=500))
        clients = [open_.enter_context(MeshClient(f, addresses[:1], policy=Jesa())) for f in scarce]
        for client in clients:
            client.wait_for_nodes(EXPERTS)
            assert client.schedulers.liveliness.wait_until(bool, 5)
        yield clients


@pytest.fixture(scope="module")
def shares(digits: ImageSet) -> list[NDArray[np.uint8]]:
    """What each client asks: other images, and another number of them."""
    return np.split(digits.test_images[:100], [10, 30, 60])


@pytest.fixture(scope="module")
def answers(clients: list[MeshClient], counted: Counted, shares: list[NDArray[np.uint8]]) -> list[Answer]:
    """What the four clients are answered who ask at the same time."""
    answers: dict[int, Answer] = {}
    together = threading.Barrier(EXPERTS)
    counted.items.clear()

    def ask(client: int) -> None:
        together.wait(60)
        answers[client] = answer_to(clients[client], shares[client])

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(EXPERTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [answers[client] for client in range(EXPERTS)]


@pytest.fixture(scope="module")
def together(answers: list[Answer], links: Links) -> tuple[Slot, Routing]:
    """The slot of all clients' items, by the scores that each of them saw, and what JESA decides on it."""
    source_T = np.repeat(np.arange(EXPERTS), [len(answer.scores_TE) for answer in answers])
    slot = Slot(source_T, np.arange(EXPERTS), links, 1, np.full(len(source_T), float(BITS)))
    scores_TE = np.vstack([answer.scores_TE for answer in answers])
    return slot, Jesa(0.5, 2).route(scores_TE, Cost(np.zeros(scores_TE.shape)), slot)


def test_clients_that_ask_together_are_decided_in_one_slot(
    answers: list[Answer], counted: Counted, together: tuple[Slot, Routing]
) -> None:
    assert counted.items == [100]
    assert {answer.dispatched.decided_by for answer in answers} == {JESA}
    assert {answer.scheduler for answer in answers} == {0}
    requested_TE = np.vstack([answer.dispatched.requested_TE for answer in answers])
    np.testing.assert_array_equal(requested_TE, together[1].mask_TE)


def test_a_transfer_is_charged_on_the_subcarriers_of_the_slot(
    answers: list[Answer], together: tuple[Slot, Routing], links: Links
) -> None:
    slot, routing = together
    assert routing.subcarrier_NN is not None
    price_j_NN = BITS * links.energy_per_bit_j(routing.subcarrier_NN)
    expected = (routing.mask_TE * price_j_NN[slot.source_T]).sum(axis=1)
    energy_j_T = np.concatenate([answer.dispatched.energy_j_T for answer in answers])
    np.testing.assert_allclose(energy_j_T, expected, rtol=1e-9, atol=0)
    standing = (routing.mask_TE * IdealPrice(links)(slot).charged.energy_j_TE).sum(axis=1)
    assert not np.allclose(energy_j_T, standing, rtol=1e-3, atol=0), "the standing allocation costs the same"


def test_a_scheduled_slot_answers_as_the_model_does_in_one_process(
    answers: list[Answer],
    model: "MixtureOfExperts",
    digits: ImageSet,
    together: tuple[Slot, Routing],
    links: Links,
) -> None:
    torch = pytest.importorskip("torch")
    from airmoe.nn.carriers import IdealRadioCarrier

    images, source_T = torch.from_numpy(digits.test_images[:100]).float() / 255, together[0].source_T
    with torch.no_grad():
        expected = model(images, source_T, policy=Jesa(), carrier=IdealRadioCarrier(links))
    probability_TC = np.vstack([answer.probability_TC for answer in answers])
    np.testing.assert_allclose(probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
    energy_j_T = np.concatenate([answer.dispatched.energy_j_T for answer in answers])
    np.testing.assert_allclose(energy_j_T, expected.dispatched.energy_j_T, rtol=1e-9, atol=0)
    assert expected.dispatched.decided_by == JESA


def head(**dimensions: int) -> int:
    """Bytes of a frame before the values, with arrays of these names and numbers of dimensions."""
    return 41 + sum(3 + len(name) + 4 * count for name, count in dimensions.items())


def test_the_bytes_of_scheduling_are_counted(answers: list[Answer]) -> None:
    for client, answer in enumerate(answers):
        remote_TE = np.delete(answer.dispatched.requested_TE, client, axis=1)
        pairs, asked, items = remote_TE.sum(), remote_TE.any(axis=0).sum(), len(answer.scores_TE)
        request = head(policy=1, source=0, node=1, bits=1, scores=2, reachable=2)
        request += len(JESA) + 4 + 4 * EXPERTS + items * (8 + 9 * EXPERTS)
        assert answer.sent_bytes == pairs * 400 * 4 + asked * head(payload=2) + request
        reply = head(policy=1, source=0, mask=2, feasible=1, subcarrier=2)
        reply += len(JESA) + 4 + items * (EXPERTS + 1) + 4 * EXPERTS**2
        assert answer.received_bytes == pairs * 10 * 4 + asked * head(output=2) + reply


def test_a_slot_that_takes_longer_than_half_the_deadline_is_not_waited_for(
    clients: list[MeshClient], images: NDArray[np.uint8]
) -> None:
    answer = clients[1].predict(images, deadline_s=0.4)  # half of it is over before the slot of 500 ms
    assert answer.dispatched.decided_by == ALONE
    assert answer.scheduler is None


OTHER = make_policy("jesa:0.3:2")
"""Not what the scheduler runs."""


def test_a_client_of_another_policy_is_refused_and_told_what_the_scheduler_runs(
    clients: list[MeshClient], images: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    answer = answer_to(clients[2], images, policy=OTHER)
    assert answer.dispatched.decided_by == "des:0.3:2"
    (warning,) = warnings_of(caplog)
    assert "refused: 'the policies differ: here it is jesa:0.5:2, there jesa:0.3:2'" in warning
    assert "des:0.3:2 decides at this client instead of jesa:0.3:2" in warning


def test_the_fallback_decides_and_is_charged_on_the_standing_subcarriers(
    clients: list[MeshClient], links: Links, images: NDArray[np.uint8]
) -> None:
    answer = answer_to(clients[2], images, policy=OTHER)
    slot = Slot(np.full(len(images), 2), np.arange(EXPERTS), links, 1, np.full(len(images), float(BITS)))
    standing = Des(0.3, 2).route(answer.scores_TE, IdealPrice(links)(slot).quoted, slot)
    np.testing.assert_array_equal(answer.dispatched.requested_TE, standing.mask_TE)
    np.testing.assert_allclose(answer.dispatched.energy_j_T, standing.energy_j_T, rtol=1e-9, atol=0)


class Unasked:
    """A joint policy that must not decide here."""

    name, joint = "unasked", True

    def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Routing:
        raise AssertionError("a joint policy decides at a scheduler")


class Fallback(Unasked):
    """With a fallback that remembers whether it was compiled."""

    def __init__(self) -> None:
        self.fallback = Remembering()


class Remembering:
    name, joint = "remembering", False

    def __init__(self) -> None:
        self.items: list[int] = []

    def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Routing:
        self.items.append(len(scores_TE))
        return Des().route(scores_TE, cost, slot)


class JointFallback(Unasked):
    fallback = Jesa()


@pytest.mark.parametrize("policy", [Unasked(), JointFallback()])
def test_a_joint_policy_that_cannot_do_without_a_scheduler_is_refused(
    folders: list[Path], clients: list[MeshClient], policy: Policy
) -> None:
    message = "^policy is 'unasked'; expected a joint policy with a `fallback`, not joint itself"
    with pytest.raises(InvalidInputError, match=message), MeshClient(folders[0], policy=policy):
        pass
    with pytest.raises(InvalidInputError, match=message):
        clients[0].prepare(policy)
    with pytest.raises(InvalidInputError, match=message):
        clients[0].predict(np.zeros((1, 1, 32, 32), np.uint8), policy=policy)


def test_preparing_a_joint_policy_compiles_its_fallback_only(clients: list[MeshClient]) -> None:
    policy = Fallback()
    clients[0].prepare(policy)
    assert policy.fallback.items == [1]
