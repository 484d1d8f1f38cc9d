"""A scheduler decides for all sources of a slot at once, refuses singly, and goes on."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zenoh
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.manifest import Manifest, read_manifest, write_manifest
from airmoe.mesh import Node, open_session, simulated_links
from airmoe.mesh.frame import Kind, encode
from airmoe.mesh.scheduler import Scheduler
from airmoe.mesh.slot_decision import SlotDecision
from airmoe.mesh.slot_queue import MAX_SLOT_BYTES, MAX_SLOT_REQUESTS, SlotQueue, Waiting
from airmoe.scheduling import Cost, Homogeneous, Jesa, Routing, Slot, TopK, allocate_subcarriers
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.mesh.slot_asker import (
    BITS,
    EXPERTS,
    SlotAsker,
    arrays_of,
    decided,
    items_of,
    refusal,
    reply_in,
    routed_together,
)

SLOT_MS = 250.0
"""Long enough that all requests of a test fall into one slot even where the machine is busy."""

AN_HOUR_S = 3600.0
"""Whoever waited for such a slot would not end in a test's time."""


@dataclass
class Watched:
    """JESA that remembers its slots; ``spoil`` may change what it returns, or raise."""

    spoil: Callable[[Routing], Routing] | None = None
    slots: list[Slot] = field(default_factory=list)
    name, joint, fallback = "jesa:0.5:2", True, Jesa().fallback

    def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Routing:
        self.slots.append(slot)
        routing = Jesa().route(scores_TE, cost, slot)
        return routing if self.spoil is None or len(self.slots) == 1 else self.spoil(routing)


@contextmanager
def scheduling(
    folder: Path, manifest: Manifest, policy: Any, slot_ms: float = SLOT_MS
) -> Iterator[SlotAsker]:
    """A node that schedules by ``policy``, and somebody who asks it."""
    address = free_address()
    with (
        Node(folder, address, schedule=policy, slot_ms=slot_ms),
        open_session(connect=[address]) as session,
    ):
        asker = SlotAsker(manifest, session)
        asker.wait_until_scheduled()
        yield asker


@pytest.fixture(scope="module")
def links(manifest: Manifest) -> Links:
    return simulated_links(manifest.radio, EXPERTS)


@pytest.fixture(scope="module")
def watched() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def asker(folders: list[Path], manifest: Manifest, watched: Watched) -> Iterator[SlotAsker]:
    with scheduling(folders[0], manifest, watched) as asker:
        yield asker


def test_sources_that_ask_within_a_slot_are_decided_together(
    asker: SlotAsker, watched: Watched, links: Links
) -> None:
    sources = [items_of(source, 20 + source) for source in range(EXPERTS)]
    slots_before = len(watched.slots)
    pending = [asker.send(asker.frame(items)) for items in sources]
    replies = [decided(each) for each in pending]
    together = routed_together(links, *sources)
    assert len(watched.slots) == slots_before + 1
    np.testing.assert_array_equal(np.vstack([reply.mask_TE for reply in replies]), together.mask_TE)
    np.testing.assert_array_equal(np.hstack([reply.feasible_T for reply in replies]), together.feasible_T)
    for items, reply in zip(sources, replies, strict=True):
        assert (reply.request_id, reply.source) == (100 + items.source, items.source)
        np.testing.assert_array_equal(reply.subcarrier_NN, together.subcarrier_NN)
        assert not reply.mask_TE[~items.reachable_TE].any()


def with_subcarriers(folder: Path, subcarriers: int) -> Links:
    """Change the run's radio in a client's folder; return its links."""
    manifest = read_manifest(folder)
    radio = manifest.radio.model_copy(update={"subcarriers": subcarriers})
    write_manifest(folder, manifest.model_copy(update={"radio": radio}))
    return simulated_links(radio, EXPERTS)


def test_in_a_slot_no_two_links_share_a_subcarrier(own_copy: Path, manifest: Manifest) -> None:
    links = with_subcarriers(own_copy, EXPERTS * (EXPERTS - 1))
    sources = [items_of(source) for source in (0, 1, 3)]
    with scheduling(own_copy, manifest, Jesa()) as asker:
        replies = [decided(each) for each in [asker.send(asker.frame(items)) for items in sources]]
    table_NN = replies[0].subcarrier_NN
    used_L = table_NN[table_NN >= 0].tolist()
    assert len(used_L) == len(set(used_L)) == 3 * (EXPERTS - 1), "each link of three sources has its own"
    assert (table_NN[2] == -1).all(), "node 2 did not ask"
    alone_L = np.concatenate([routed_together(links, i).subcarrier_NN[i.source] for i in sources])
    assert len(set(alone_L[alone_L >= 0].tolist())) < 3 * (EXPERTS - 1), "decided alone they do collide"


def test_with_fewer_subcarriers_than_links_any_link_may_be_given_one(
    own_copy: Path, manifest: Manifest
) -> None:
    links = with_subcarriers(own_copy, 5)
    without_NN = allocate_subcarriers(links) < 0
    np.fill_diagonal(without_NN, False)
    chosen_without = 0
    with scheduling(own_copy, manifest, Jesa(), slot_ms=0) as asker:
        for source in range(EXPERTS):
            reply = decided(asker.send(asker.frame(items_of(source))))
            expected = routed_together(links, items_of(source))
            np.testing.assert_array_equal(reply.mask_TE, expected.mask_TE)
            np.testing.assert_array_equal(reply.subcarrier_NN, expected.subcarrier_NN)
            chosen_without += (reply.mask_TE & without_NN[source]).sum()
    assert chosen_without, "no link was used that has none while no joint policy decides"


def test_what_comes_after_a_slot_is_decided_in_the_next(asker: SlotAsker, links: Links) -> None:
    for items in (items_of(1), items_of(2)):
        reply, alone = decided(asker.send(asker.frame(items))), routed_together(links, items)
        np.testing.assert_array_equal(reply.mask_TE, alone.mask_TE)
        np.testing.assert_array_equal(reply.subcarrier_NN, alone.subcarrier_NN)


def test_a_source_may_ask_twice_in_a_slot(asker: SlotAsker, links: Links) -> None:
    one, other = items_of(2, 12), replace(items_of(5 - 3, 30), scores_TE=items_of(1, 30).scores_TE)
    pending = [asker.send(asker.frame(items)) for items in (one, other)]
    mask_TE = np.vstack([decided(each).mask_TE for each in pending])
    np.testing.assert_array_equal(mask_TE, routed_together(links, one, other).mask_TE)


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released once for every request that comes to a scheduler."""
    gathered, add = threading.Semaphore(0), SlotQueue.add

    def counted(self: SlotQueue[Any], request: Waiting[Any]) -> bool:
        added = add(self, request)
        gathered.release()
        return added

    monkeypatch.setattr(SlotQueue, "add", counted)
    return gathered


def wait_for(gathered: threading.Semaphore, requests: int) -> None:
    for _ in range(requests):
        assert gathered.acquire(timeout=30)


def test_what_gathers_while_a_slot_is_decided_is_decided_together(
    folders: list[Path], manifest: Manifest, gathered: threading.Semaphore
) -> None:
    deciding, go_on = threading.Event(), threading.Event()

    def held_up(routing: Routing) -> Routing:
        deciding.set()
        assert go_on.wait(30)
        return routing

    policy = Watched(held_up)
    with scheduling(folders[0], manifest, policy, slot_ms=0) as asker:
        first = asker.send(asker.frame(items_of(0)))
        assert deciding.wait(30)
        late = [asker.send(asker.frame(items_of(source))) for source in (1, 2)]
        wait_for(gathered, 3)
        go_on.set()
        for each in (first, *late):
            decided(each)
    assert [len(slot.source_T) for slot in policy.slots] == [1, 20, 40]


GOOD = items_of(1)


def asking(**changes: Any) -> Callable[[SlotAsker], Any]:
    return lambda asker: asker.frame(GOOD, arrays=arrays_of(GOOD, **changes))


def with_score(score: float) -> NDArray[np.float64]:
    scores_TE = GOOD.scores_TE.astype(np.float64)
    scores_TE[3, 1] = score
    return scores_TE


def with_bits(bits: float) -> NDArray[np.float64]:
    bits_T = np.full(len(GOOD.scores_TE), float(BITS))
    bits_T[2] = bits
    return bits_T


NOTHING = replace(GOOD, scores_TE=GOOD.scores_TE[:0], reachable_TE=GOOD.reachable_TE[:0])
REFUSED: dict[str, tuple[Callable[[SlotAsker], Any], str]] = {
    "no payload": (lambda a: None, "the request has 0 bytes"),
    "no frame": (lambda a: b"GET / HTTP/1.1\r\n\r\n" * 9, "begins with b'GET '"),
    "truncated": (lambda a: encode(a.frame(GOOD))[:-1], "expected these to agree"),
    "oversized": (lambda a: bytes(MAX_SLOT_BYTES + 1), f"the request has {MAX_SLOT_BYTES + 1} bytes"),
    "huge": (lambda a: bytes(4 << 20), "the request has 4194304 bytes"),
    "too many rows": (lambda a: a.frame(items_of(1, 40_000)), "bytes; expected a frame of at most 1048576"),
    "another model": (lambda a: a.frame(GOOD, model_hash="f" * 16), "('ffffffffffffffff', 1); this sched"),
    "another layer": (lambda a: a.frame(GOOD, layer=2), ", 2); this scheduler serves"),
    "another policy": (
        asking(policy=np.frombuffer(b"jesa:0.3:2", np.uint8)),
        "the policies differ: here it is jesa:0.5:2, there jesa:0.3:2",
    ),
    "no policy": (asking(policy=None), "no array 'policy'; it has source, node, bits, scores, reachable"),
    "unknown source": (asking(source=np.int64(EXPERTS)), "the source is node 4; expected less than 4"),
    "a source below": (asking(source=np.int64(-1)), "the source is node -1; expected less than 4"),
    "another node": (asking(node=np.array([0, 1, 2, 2])), "node of expert 3 is 2; expected one of [3]"),
    "a reply": (lambda a: a.frame(GOOD, kind=Kind.SCHEDULE), "the frame is SCHEDULE; expected ITEMS"),
    "payloads": (lambda a: a.frame(GOOD, kind=Kind.PAYLOADS), "the frame is PAYLOADS; expected ITEMS"),
    "narrow": (asking(scores=GOOD.scores_TE), "array 'scores' is float32; expected float64"),
    "no items": (lambda a: a.frame(GOOD, arrays=arrays_of(NOTHING)), "has no items; expected at least one"),
    "flat": (asking(scores=with_score(0).ravel()), "'scores' has shape (80,); expected (T, 4)"),
    "a score too many": (asking(scores=np.ones((20, 5))), "'scores' has shape (20, 5); expected (T, 4)"),
    "an item too few": (asking(bits=with_bits(1)[1:]), "'bits' has shape (19,); expected (20,)"),
    "NaN": (asking(scores=with_score(np.nan)), "scores of the request are nan; expected finite and >= 0"),
    "negative": (asking(scores=with_score(-0.1)), "scores of the request are -0.1; expected"),
    "infinite": (asking(scores=with_score(np.inf)), "scores of the request are inf; expected"),
    "half reachable": (
        asking(reachable=np.full((20, 4), 0.5)),
        "array 'reachable' is float64; expected bool",
    ),
    "no bits": (asking(bits=with_bits(0)), "bits of the request are 0; expected 1 to 12832"),
    "too many bits": (asking(bits=with_bits(BITS + 1)), "bits of the request are 12833; expected 1 to"),
    "too late": (lambda a: a.frame(GOOD, remaining_ms=0), "too late: waited 0."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_refused_alone_and_the_slot_of_the_others_is_decided(
    asker: SlotAsker, links: Links, case: str
) -> None:
    make, reason = REFUSED[case]
    others = [items_of(0), items_of(3)]
    pending = [
        asker.send(asker.frame(others[0])),
        asker.send(make(asker)),
        asker.send(asker.frame(others[1])),
    ]
    assert reason in refusal(pending.pop(1))
    mask_TE = np.vstack([decided(each).mask_TE for each in pending])
    np.testing.assert_array_equal(mask_TE, routed_together(links, *others).mask_TE)


def test_too_many_bytes_together_are_refused_as_overloaded_and_the_next_slot_is_served(
    asker: SlotAsker, links: Links
) -> None:
    large = asker.frame(items_of(1, 10_000))  # 450 kB: two of them fit
    for _ in range(2):
        replies = [reply_in(each) for each in [asker.send(large) for _ in range(4)]]
        refusals = [reply.err.payload.to_bytes().decode() for reply in replies if reply.err is not None]
        assert refusals == ["overloaded: too many requests are waiting"] * 2
    mask_TE = decided(asker.send(asker.frame(GOOD))).mask_TE
    np.testing.assert_array_equal(mask_TE, routed_together(links, GOOD).mask_TE)


def test_a_request_with_an_attachment_is_refused(asker: SlotAsker, links: Links) -> None:
    assert "bytes alone" in refusal(asker.send(asker.frame(GOOD), attachment=b"more"))
    mask_TE = decided(asker.send(asker.frame(GOOD))).mask_TE
    np.testing.assert_array_equal(mask_TE, routed_together(links, GOOD).mask_TE)


def test_too_many_requests_are_refused_as_overloaded_and_the_next_slot_is_served(
    folders: list[Path], manifest: Manifest, gathered: threading.Semaphore
) -> None:
    deciding, go_on = threading.Event(), threading.Event()

    def held_up(routing: Routing) -> Routing:
        deciding.set()
        assert go_on.wait(60)
        return routing

    with scheduling(folders[0], manifest, Watched(held_up), slot_ms=0) as asker:
        one = encode(asker.frame(items_of(1, 1), remaining_ms=60_000))
        first = asker.send(one)
        assert deciding.wait(30)
        pending = [asker.send(one) for _ in range(MAX_SLOT_REQUESTS + 30)]
        wait_for(gathered, 1 + len(pending))
        go_on.set()
        replies = [reply_in(each) for each in pending]
        assert sum(reply.err is not None for reply in replies) == 30
        for each in (first, asker.send(asker.frame(GOOD))):
            decided(each)


def raise_an_error(routing: Routing) -> Routing:
    raise ZeroDivisionError


SPOILED: dict[str, tuple[Callable[[Routing], Any], str]] = {
    "raises": (raise_an_error, "internal error: ZeroDivisionError"),
    "nothing": (lambda routing: None, "internal error: AttributeError"),
    "a row too few": (
        lambda routing: replace(routing, mask_TE=routing.mask_TE[1:]),
        "shapes of jesa:0.5:2's",
    ),
    "no subcarriers": (lambda routing: replace(routing, subcarrier_NN=None), "shapes of jesa:0.5:2's"),
    "one subcarrier for all": (
        lambda routing: replace(routing, subcarrier_NN=np.full((4, 4), 7)),
        "subcarrier 7 of the slot serves 12 links; expected one",
    ),
    "no such subcarrier": (
        lambda routing: replace(routing, subcarrier_NN=routing.subcarrier_NN + 1000),
        "out of range; expected -1 to 127",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_policy_that_fails_refuses_its_slot_and_the_next_one_is_served(
    folders: list[Path], manifest: Manifest, case: str
) -> None:
    spoil, reason = SPOILED[case]
    policy = Watched(spoil)
    with scheduling(folders[0], manifest, policy, slot_ms=50) as asker:
        for each in [asker.send(asker.frame(items_of(source))) for source in (0, 1)]:
            assert reason in refusal(each)
        policy.spoil = None
        decided(asker.send(asker.frame(GOOD)))


def test_closing_answers_what_was_accepted_without_waiting_for_the_slot(
    manifest: Manifest, links: Links, address: str, gathered: threading.Semaphore
) -> None:
    with open_session(address) as here, open_session(connect=[address]) as there:
        scheduler = Scheduler(here, SlotDecision(Jesa(), manifest, 1, links), AN_HOUR_S)
        asker = SlotAsker(manifest, there)
        tokens = there.liveliness().declare_subscriber(asker.key, history=True)
        assert tokens.recv().kind == zenoh.SampleKind.PUT
        pending = asker.send(asker.frame(GOOD, remaining_ms=60_000))
        wait_for(gathered, 1)
        scheduler.close()
        np.testing.assert_array_equal(decided(pending).mask_TE, routed_together(links, GOOD).mask_TE)
        assert tokens.recv().kind == zenoh.SampleKind.DELETE
        assert list(asker.send(asker.frame(GOOD))) == []
        scheduler.close()


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "not joint": ({"schedule": TopK(1)}, r"^schedule is 'topk:1'; expected a joint policy"),
    "negative": ({"schedule": Jesa(), "slot_ms": -1}, r"^slot_ms is -1; expected a number from 0 to 500$"),
    "too long": ({"schedule": Jesa(), "slot_ms": 501}, r"^slot_ms is 501; "),
    "idle": ({"slot_ms": -1}, r"^slot_ms is -1; "),
    "no number": ({"schedule": Jesa(), "slot_ms": float("nan")}, r"^slot_ms is nan; "),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_cannot_schedule_is_refused_before_the_node_listens(
    folders: list[Path], address: str, case: str
) -> None:
    options, message = UNFIT[case]
    with pytest.raises(InvalidInputError, match=message), Node(folders[0], address, **options):
        pass
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass


def test_a_policy_that_puts_two_links_on_one_subcarrier_cannot_schedule(
    manifest: Manifest, links: Links
) -> None:
    crowded = Watched(lambda routing: replace(routing, subcarrier_NN=np.full((4, 4), 7)))
    crowded.slots.append(Slot([0], [0]))  # spoilt from the first decision on
    with pytest.raises(InvalidInputError, match=r"^schedule is 'jesa:0.5:2'; expected a policy that gives"):
        SlotDecision(crowded, manifest, 1, links)


def test_any_joint_policy_can_be_scheduled(folders: list[Path], manifest: Manifest) -> None:
    with scheduling(folders[0], manifest, Homogeneous(0.4, 2), slot_ms=0) as asker:
        reply = reply_in(asker.send(asker.frame(GOOD, arrays=arrays_of(GOOD, "homogeneous:0.4:2"))))
        assert reply.ok is not None


def test_a_node_offers_no_schedule_unless_told_to(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    with Node(folders[0], address), open_session(connect=[address]) as session:
        key = SlotAsker(manifest, session).key
        found = [str(r.ok.key_expr) for r in session.liveliness().get("airmoe/**", timeout=2.0) if r.ok]
        assert key.rpartition("/scheduler")[0] + "/0/0" in found
        assert key not in found


def test_the_kernels_are_compiled_before_the_scheduler_is_announced(
    folders: list[Path], address: str
) -> None:
    process = NodeProcess(folders[0], address, schedule="jesa:0.5:2")
    try:
        process.wait_until_serving()
        assert process.ask("'airmoe.scheduling.selection.quick_search' in sys.modules") == "True"
        assert (
            process.ask(
                "sys.modules['airmoe.scheduling.selection.quick_search'].select_rows.signatures != []"
            )
            == "True"
        )
        assert process.ask("'torch' in sys.modules") == "False"
        assert process.stop() == 0
    finally:
        process.destroy()
