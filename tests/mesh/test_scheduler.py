"""A scheduler decides for all sources of a slot at once, refuses singly, and goes on."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zenoh

from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.manifest import Manifest, read_manifest, write_manifest
from airmoe.mesh import Node, open_session, simulated_links
from airmoe.mesh.frame import encode
from airmoe.mesh.scheduler import MAX_SLOT_BYTES, MAX_SLOT_REQUESTS, Scheduler
from airmoe.scheduling import Cost, Homogeneous, Jesa, Routing, Slot, TopK, allocate_subcarriers
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.mesh.slot_asker import (
    BITS,
    EXPERTS,
    SlotAsker,
    array_of,
    decided,
    items_of,
    refusal,
    reply_in,
    routed_together,
)

SLOT_MS = 250.0
"""Long enough that all requests of a test fall into one slot even where the machine is busy."""


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


def test_a_slot_closes_when_its_time_is_over(asker: SlotAsker) -> None:
    begin = time.monotonic()
    decided(asker.send(asker.frame(items_of(1))))
    assert SLOT_MS / 1000 <= time.monotonic() - begin < SLOT_MS / 1000 + 0.5


def test_what_gathers_while_a_slot_is_decided_does_not_wait_for_another(
    folders: list[Path], manifest: Manifest
) -> None:
    def slowly(routing: Routing) -> Routing:
        time.sleep(0.6)
        return routing

    policy = Watched(slowly)
    with scheduling(folders[0], manifest, policy, slot_ms=300) as asker:
        begin = time.monotonic()
        first = asker.send(asker.frame(items_of(0)))
        time.sleep(0.4)  # the first slot has closed and is being decided
        late = [asker.send(asker.frame(items_of(source))) for source in (1, 2)]
        for each in (first, *late):
            decided(each)
        assert len(policy.slots) == 1 + 2
        assert time.monotonic() - begin < 0.3 + 0.6 + 0.6 + 0.25, "another slot was waited for"


GOOD = items_of(1)
NAN, NEGATIVE, INFINITE = (array_of(GOOD) for _ in range(3))
NAN[3, 2], NEGATIVE[3, 2], INFINITE[3, 2] = np.nan, -0.1, np.inf
HALF, FREE, DEAR, ODD = (array_of(GOOD) for _ in range(4))
HALF[4, 7], FREE[2, 0], DEAR[2, 0], ODD[0, 0] = 0.5, 0, BITS + 1, np.nan
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
        lambda a: a.frame(GOOD, array=array_of(GOOD, "jesa:0.3:2")),
        "the policies differ: here it is jesa:0.5:2",
    ),
    "no policy": (lambda a: a.frame(GOOD, array=ODD), "the policies differ"),
    "unknown source": (lambda a: a.frame(GOOD, expert=EXPERTS), "the source is node 4; expected less than 4"),
    "a reply": (lambda a: a.frame(GOOD, is_reply=True), "expected a request in float32"),
    "narrow": (lambda a: a.frame(GOOD, wire_type="float16"), "expected a request in float32"),
    "features": (
        lambda a: a.frame(GOOD, array=np.zeros((20, 400), np.float32)),
        "(20, 400); expected (1 + T",
    ),
    "no items": (lambda a: a.frame(GOOD, array=array_of(GOOD)[:1]), "shape (1, 9); expected (1 + T, 9)"),
    "flat": (lambda a: a.frame(GOOD, array=array_of(GOOD).ravel()), "shape (189,); expected"),
    "no dimension": (lambda a: a.frame(GOOD, array=np.zeros((), np.float32)), "shape (); expected"),
    "a score too many": (lambda a: a.frame(GOOD, array=np.ones((3, 10), np.float32)), "shape (3, 10)"),
    "NaN": (lambda a: a.frame(GOOD, array=NAN), "scores of the request are nan; expected finite and >= 0"),
    "negative": (lambda a: a.frame(GOOD, array=NEGATIVE), "scores of the request are -0.1; expected"),
    "infinite": (lambda a: a.frame(GOOD, array=INFINITE), "scores of the request are inf; expected"),
    "half reachable": (
        lambda a: a.frame(GOOD, array=HALF),
        "reachable of the request are 0.5; expected 0 or 1",
    ),
    "no bits": (lambda a: a.frame(GOOD, array=FREE), "bits of the request are 0; expected 1 to 12832"),
    "too many bits": (lambda a: a.frame(GOOD, array=DEAR), "bits of the request are 12833; expected 1 to"),
    "too late": (lambda a: a.frame(GOOD, remaining_ms=int(SLOT_MS / 5)), "too late: waited 0."),
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
    large = asker.frame(items_of(1, 10_000))  # 360 kB: two of them fit
    for _ in range(2):
        replies = [reply_in(each) for each in [asker.send(large) for _ in range(4)]]
        refusals = [reply.err.payload.to_bytes().decode() for reply in replies if reply.err is not None]
        assert refusals == ["overloaded: too many requests are waiting"] * 2
    mask_TE = decided(asker.send(asker.frame(GOOD))).mask_TE
    np.testing.assert_array_equal(mask_TE, routed_together(links, GOOD).mask_TE)


def test_a_request_with_an_attachment_is_refused_at_once(asker: SlotAsker, links: Links) -> None:
    begin = time.monotonic()
    refused = reply_in(asker.send(asker.frame(GOOD), attachment=b"more"))
    assert time.monotonic() - begin < SLOT_MS / 1000
    assert refused.err is not None
    assert b"bytes alone" in refused.err.payload.to_bytes()
    mask_TE = decided(asker.send(asker.frame(GOOD))).mask_TE
    np.testing.assert_array_equal(mask_TE, routed_together(links, GOOD).mask_TE)


def test_too_many_requests_are_refused_as_overloaded_and_the_next_slot_is_served(asker: SlotAsker) -> None:
    one = encode(asker.frame(items_of(1, 1)))
    begin = time.monotonic()
    pending = [asker.send(one) for _ in range(MAX_SLOT_REQUESTS + 30)]
    assert time.monotonic() - begin < SLOT_MS / 1000, "they were not sent within one slot"
    replies = [reply_in(each) for each in pending]
    assert sum(reply.err is not None for reply in replies) == 30
    decided(asker.send(asker.frame(GOOD)))


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
    folders: list[Path], manifest: Manifest, links: Links
) -> None:
    address = free_address()
    node = Node(folders[0], address, schedule=Jesa(), slot_ms=500)
    with open_session(free_address(), [address]) as session:
        asker = SlotAsker(manifest, session)
        tokens = session.liveliness().declare_subscriber(asker.key, history=True)
        assert tokens.recv().kind == zenoh.SampleKind.PUT
        begin = time.monotonic()
        pending = asker.send(asker.frame(GOOD))
        time.sleep(0.2)
        closing = threading.Thread(target=node.close)
        closing.start()
        np.testing.assert_array_equal(decided(pending).mask_TE, routed_together(links, GOOD).mask_TE)
        closing.join(5)
        assert time.monotonic() - begin < 0.45
        assert tokens.recv().kind == zenoh.SampleKind.DELETE
        assert list(asker.send(asker.frame(GOOD))) == []


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


def test_a_policy_that_puts_two_links_on_one_subcarrier_cannot_schedule(manifest: Manifest) -> None:
    flat = Links.from_snr(10.0, Ofdma(subcarriers=128), nodes=manifest.experts)
    with pytest.raises(InvalidInputError, match=r"^schedule is 'lower-bound:0.5:2'; expected a policy that"):
        Scheduler(LowerBound(0.5, 2), manifest, flat)


def test_any_joint_policy_can_be_scheduled(folders: list[Path], manifest: Manifest) -> None:
    with scheduling(folders[0], manifest, Homogeneous(0.4, 2), slot_ms=0) as asker:
        reply = reply_in(asker.send(asker.frame(GOOD, array=array_of(GOOD, "homogeneous:0.4:2"))))
        assert reply.ok is not None


def test_a_node_offers_no_schedule_unless_told_to(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    with Node(folders[0], address), open_session(connect=[address]) as session:
        key = SlotAsker(manifest, session).key
        found = [str(r.ok.key_expr) for r in session.liveliness().get("airmoe/**", timeout=2.0) if r.ok]
        assert key.rpartition("/scheduler")[0] + "/0" in found
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
