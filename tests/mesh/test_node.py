"""A node serves its expert, refuses with a reason what it should not serve, and goes on serving."""

import json
import logging
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zenoh
from numpy.typing import NDArray

from airmoe.errors import AddressError, RunFolderError
from airmoe.manifest import MANIFEST, Manifest, read_manifest
from airmoe.mesh import Node, open_session
from airmoe.mesh.bundle import bundled, unbundled
from airmoe.mesh.frame import MAX_FRAME_BYTES, Frame, Kind, WireType, decode, encode
from airmoe.mesh.keys import asked_key, expert_key, layer_key
from airmoe.mesh.networks import OnnxNetwork
from airmoe.mesh.request_queue import CREDITS, RequestQueue
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes
from tests.mesh.steering import LONG_S, wait_until
from tests.threads import started_since_now

DEADLINE_S = 10.0
FEATURES = 400


class Asker:
    """A bare session that asks the node of client 0."""

    def __init__(self, manifest: Manifest, session: zenoh.Session) -> None:
        self.session = session
        served = expert_key(manifest.mesh, manifest.model_hash, 1, manifest.node, manifest.node)
        self.key = asked_key(served, "tester")
        features_TF = np.random.default_rng(1).random((5, FEATURES), np.float32)
        self.request = Frame(
            Kind.PAYLOADS,
            {"payload": features_TF},
            42,
            manifest.model_hash,
            1,
            manifest.node,
            5000,
            expert_hash=manifest.layer(1).hashes[manifest.node],
        )

    def get(self, payload: bytes | None, key: str | None = None) -> zenoh.Reply:
        (reply,) = self.session.get(key or self.key, payload=payload, timeout=DEADLINE_S)
        return reply

    def answer(self, request: Frame, key: str | None = None) -> Frame:
        reply = self.get(encode(request), key)
        assert reply.ok is not None
        return decode(reply.ok.payload.to_bytes())

    def refusal(self, payload: bytes | None) -> str:
        reply = self.get(payload)
        assert reply.err is not None
        return reply.err.payload.to_bytes().decode()


def wait_for_token(session: zenoh.Session, manifest: Manifest) -> None:
    key = layer_key(manifest.mesh, manifest.model_hash, 1)
    subscriber = session.liveliness().declare_subscriber(f"{key}/**", history=True)
    subscriber.recv()
    subscriber.undeclare()


@pytest.fixture(scope="module")
def asker(folders: list[Path], manifest: Manifest) -> Iterator[Asker]:
    address = free_address()
    with Node(folders[0], address), open_session(connect=[address]) as session:
        wait_for_token(session, manifest)
        yield Asker(manifest, session)


@pytest.fixture
def expected(folders: list[Path], asker: Asker) -> NDArray[np.float32]:
    expert = OnnxNetwork(folders[0] / "expert-0.onnx", {"input": (FEATURES,)}, (10,))
    return expert(asker.request.arrays["payload"])


def output_of(reply: Frame) -> NDArray[np.float32]:
    return reply.arrays["output"]


def with_payload(request: Frame, payload_T: NDArray[Any], **changes: Any) -> Frame:
    return replace(request, arrays={"payload": payload_T}, **changes)


def test_a_node_answers_what_its_expert_computes(asker: Asker, expected: NDArray[np.float32]) -> None:
    reply = asker.answer(asker.request)
    np.testing.assert_array_equal(output_of(reply), expected)
    assert reply.kind == Kind.OUTPUTS
    assert (reply.request_id, reply.model_hash) == (42, asker.request.model_hash)
    assert (reply.layer, reply.expert, reply.remaining_ms) == (1, 0, 0)


@pytest.mark.parametrize("wire_type", ["float16", "bfloat16"])
def test_a_node_answers_in_the_type_it_was_asked_in(
    asker: Asker, expected: NDArray[np.float32], wire_type: WireType
) -> None:
    reply = asker.answer(replace(asker.request, wire_type=wire_type))
    assert reply.wire_type == wire_type
    np.testing.assert_allclose(output_of(reply), expected, atol=0.05)


@pytest.mark.parametrize("key", ["{layer}/*/*/from/tester", "{layer}/0/0/from/*", "{layer}/**"])
def test_a_question_to_several_at_once_gets_no_answer(asker: Asker, manifest: Manifest, key: str) -> None:
    layer = layer_key(manifest.mesh, manifest.model_hash, 1)
    everyone = key.format(layer=layer)
    assert list(asker.session.get(everyone, payload=encode(asker.request), timeout=DEADLINE_S)) == []


def test_an_expert_of_other_weights_is_not_asked_for_here(asker: Asker, manifest: Manifest) -> None:
    refusal = asker.refusal(encode(replace(asker.request, expert_hash="0123456789abcdef")))
    assert refusal == (
        "the request is for expert 0 of hash 0123456789abcdef; "
        f"this node serves {manifest.layer(1).hashes[0]}"
    )


def test_two_frames_in_one_message_get_two_answers_in_one(
    asker: Asker, expected: NDArray[np.float32]
) -> None:
    other = replace(with_payload(asker.request, asker.request.arrays["payload"][:2]), request_id=43)
    reply = asker.get(bundled([encode(asker.request), encode(other)]))
    assert reply.ok is not None
    first, second = map(decode, unbundled(reply.ok.payload.to_bytes()))
    assert (first.request_id, second.request_id) == (42, 43)
    np.testing.assert_array_equal(output_of(first), expected)
    np.testing.assert_allclose(output_of(second), expected[:2], atol=1e-6)


def test_no_items_get_no_answers(asker: Asker) -> None:
    nothing = with_payload(asker.request, np.empty((0, FEATURES), np.float32))
    assert output_of(asker.answer(nothing)).shape == (0, 10)


NAN = np.full((1, 400), np.nan, np.float32)
INFINITE = np.full((1, 400), np.inf, np.float32)
REFUSED: dict[str, tuple[Callable[[Frame], bytes | None], str]] = {
    "no payload": (lambda request: None, "the request has 0 bytes"),
    "no frame": (lambda request: b"GET / HTTP/1.1\r\n\r\n" * 9, "begins with b'GET '"),
    "truncated": (lambda request: encode(request)[:-1], "expected these to agree"),
    "oversized": (lambda request: bytes(MAX_FRAME_BYTES + 1), f"has {MAX_FRAME_BYTES + 1} bytes; expected"),
    "another model": (
        lambda request: encode(replace(request, model_hash="f" * 16)),
        "('ffffffffffffffff', ",
    ),
    "another layer": (lambda request: encode(replace(request, layer=9)), "9, 0); this node serves"),
    "another expert": (lambda request: encode(replace(request, expert=7)), ", 7); this node serves"),
    "no expert": (lambda request: encode(replace(request, expert=None)), ", None); this node serves"),
    "too wide": (
        lambda request: encode(with_payload(request, np.zeros((2, 401), np.float32))),
        "shape (2, 401); expected (T, 400)",
    ),
    "one dimension": (
        lambda request: encode(with_payload(request, np.zeros(400, np.float32))),
        "shape (400,); expected (T, 400)",
    ),
    "no dimension": (
        lambda request: encode(with_payload(request, np.zeros((), np.float32))),
        "shape (); expected (T, 400)",
    ),
    "float64": (
        lambda request: encode(with_payload(request, np.zeros((2, 400)))),
        "array 'payload' is float64; expected float32",
    ),
    "another array": (
        lambda request: encode(replace(request, arrays={"features": np.zeros((2, 400), np.float32)})),
        "no array 'payload'; it has features",
    ),
    "another array beside it": (
        lambda request: encode(
            replace(request, arrays={"decoy": np.zeros(1, np.float32)} | dict(request.arrays))
        ),
        "the request has 2 arrays; expected payload alone",
    ),
    "an expert of another node beside it": (
        lambda request: bundled([encode(request), encode(replace(request, expert=1))]),
        ", 1); this node serves",
    ),
    "another layer beside it": (
        lambda request: bundled([encode(request), encode(replace(request, layer=2))]),
        "2, 0); this node serves",
    ),
    "no frame beside it": (lambda request: bundled([encode(request), b"GET / "]), "has 6 bytes; expected at"),
    "a frame missing": (
        lambda request: bundled([encode(request)] * 2)[: -len(encode(request))],
        "its frames need",
    ),
    "NaN": (lambda request: encode(with_payload(request, NAN)), "not finite"),
    "infinite": (lambda request: encode(with_payload(request, INFINITE)), "not finite"),
    "a reply": (
        lambda request: encode(replace(request, kind=Kind.OUTPUTS)),
        "the frame is OUTPUTS; expected PAYLOADS",
    ),
    "too late": (lambda request: encode(replace(request, remaining_ms=0)), "its asker waits for 0.000 s"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_refused_with_the_reason_and_the_next_one_is_served(
    asker: Asker, expected: NDArray[np.float32], case: str
) -> None:
    make, reason = REFUSED[case]
    assert reason in asker.refusal(make(asker.request))
    np.testing.assert_array_equal(output_of(asker.answer(asker.request)), expected)


def test_a_flood_of_bad_requests_is_logged_in_a_line_a_second_that_names_who_sent_it(
    asker: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    begin_s, sent = time.monotonic(), 300
    for _ in range(sent):
        asker.refusal(b"no frame")
    told = "refused a request of tester: the frame has 8 bytes; expected at least 41"

    def lines() -> list[logging.LogRecord]:
        return [record for record in caplog.records if getattr(record, "peer", None) == "tester"]

    wait_until(lambda: sum(1 + getattr(record, "left_out", 0) for record in lines()) == sent)
    assert len(lines()) <= 2 + (time.monotonic() - begin_s)
    assert all(record.getMessage().startswith(told) for record in lines())
    last = lines()[-1]
    assert last.getMessage().endswith(f"(and {last.__dict__['left_out']} more like this)")


def test_refused_requests_do_not_count_as_quick_ones(
    folders: list[Path], manifest: Manifest, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(RequestQueue, "took", lambda queue, request, *_: counted.append(request.items))
    with Node(folders[0], address), open_session(connect=[address]) as session:
        wait_for_token(session, manifest)
        asker = Asker(manifest, session)
        asker.refusal(encode(with_payload(asker.request, NAN)))
        asker.answer(asker.request)
        wait_until(lambda: counted != [])
    assert counted == [5]


def test_a_full_queue_refuses_as_overloaded_and_drains(
    asker: Asker, expected: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.mesh.request_queue.CREDIT_BYTES", 1 << 30)  # the long one has 64 MB
    long_work = encode(
        with_payload(asker.request, np.zeros((40_000, FEATURES), np.float32), remaining_ms=60_000)
    )
    short_work = encode(replace(asker.request, remaining_ms=60_000))
    pending = [
        asker.session.get(
            asker.key,
            payload=payload,
            timeout=60.0,
            congestion_control=zenoh.CongestionControl.BLOCK,
        )
        for payload in [long_work] + [short_work] * (4 * CREDITS)
    ]
    replies = [reply for replies in pending for reply in replies]
    assert len(replies) == len(pending), "every request is answered or refused"
    refusals = [reply.err.payload.to_bytes().decode() for reply in replies if reply.err is not None]
    assert set(refusals) == {f"overloaded: {CREDITS} requests of this asker are waiting"}
    assert len(replies) - len(refusals) >= CREDITS, "what was accepted is answered"
    np.testing.assert_array_equal(output_of(asker.answer(asker.request)), expected)


def test_requests_of_too_many_bytes_together_are_refused_as_overloaded(
    asker: Asker, expected: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = encode(with_payload(asker.request, np.zeros((10, FEATURES), np.float32)))
    monkeypatch.setattr("airmoe.mesh.request_queue.MAX_WAITING_BYTES", len(large) - 1)
    assert asker.refusal(large) == "overloaded: too many bytes are waiting"
    np.testing.assert_array_equal(output_of(asker.answer(asker.request)), expected)


def test_a_node_outlives_whoever_asked(folders: list[Path], manifest: Manifest, address: str) -> None:
    with Node(folders[0], address):
        with open_session(connect=[address]) as session:
            wait_for_token(session, manifest)
            asker = Asker(manifest, session)
            bad = encode(with_payload(asker.request, NAN))
            pending = [session.get(asker.key, payload=bad) for _ in range(50)]
        del pending
        with open_session(connect=[address]) as session:
            wait_for_token(session, manifest)
            another = Asker(manifest, session).key.replace("tester", "another")
            assert Asker(manifest, session).answer(asker.request, another).request_id == 42


def test_two_nodes_on_one_port(folders: list[Path], address: str) -> None:
    with (
        Node(folders[0], address),
        pytest.raises(AddressError, match=f"^cannot listen on {address}: Address already in use$"),
    ):
        Node(folders[1], address)


def test_a_closed_node_frees_its_port_and_leaves_the_mesh(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    node = Node(folders[0], address)
    with open_session(free_address(), [address]) as session:
        key = layer_key(manifest.mesh, manifest.model_hash, 1)
        tokens = session.liveliness().declare_subscriber(f"{key}/**", history=True)
        assert tokens.recv().kind == zenoh.SampleKind.PUT
        node.close()
        assert tokens.recv().kind == zenoh.SampleKind.DELETE
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass


def test_a_node_does_not_listen_off_this_machine(folders: list[Path]) -> None:
    with pytest.raises(AddressError, match="expected a loopback address"):
        Node(folders[0], "0.0.0.0:7447")


def damage(folder: Path, what: str) -> None:
    expert, manifest = folder / "expert-0.onnx", folder / MANIFEST
    fields = json.loads(manifest.read_text())
    match what:
        case "no folder":
            shutil.rmtree(folder)
        case "no manifest":
            manifest.unlink()
        case "no expert":
            expert.unlink()
        case "one bit of the expert":
            data = bytearray(expert.read_bytes())
            data[len(data) // 2] ^= 1
            expert.write_bytes(data)
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:200])
        case "binary manifest":
            manifest.write_bytes(b"\xff\xfe\x00")
        case "unknown key":
            manifest.write_text(json.dumps(fields | {"extra": 1}))
        case "model hash":
            manifest.write_text(json.dumps(fields | {"model_hash": "../../etc"}))
        case "payload":
            fields["layers"][0]["payload"] = [401]
            manifest.write_text(json.dumps(fields))
        case "expert not hashed":
            fields["sha256"].pop("expert-0.onnx")
            manifest.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("no folder", "manifest.json does not exist"),
        ("no manifest", "manifest.json does not exist"),
        ("no expert", "expert-0.onnx cannot be read"),
        ("one bit of the expert", "expert-0.onnx is damaged: SHA-256"),
        ("half a manifest", "manifest.json is damaged"),
        ("binary manifest", "manifest.json is damaged"),
        ("unknown key", "extra"),
        ("model hash", "model_hash"),
        ("payload", "expert-0.onnx takes items of shape"),
        ("expert not hashed", "sha256 is 'expert-0.onnx'; expected the digests of exactly the files that"),
    ],
)
def test_a_damaged_folder_is_not_served(own_copy: Path, address: str, what: str, named: str) -> None:
    damage(own_copy, what)
    with pytest.raises(RunFolderError) as raised:
        Node(own_copy, address)
    assert named in str(raised.value)
    assert str(own_copy) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("harmed", "harm", "said"),
    [
        (["extractor.onnx"], "cut off", r"\S+/extractor.onnx is damaged: SHA-256 .{64}; the manifest .*"),
        (["gate.onnx"], "missing", r"\S+/gate.onnx cannot be read: No such file or directory"),
        (["extractor.onnx", "gate.onnx"], "cut off", r"\S+/extractor.onnx is .*; \S+/gate.onnx is .*"),
    ],
)
def test_a_node_whose_folder_cannot_ask_serves_and_says_which_files_are_damaged(
    own_copy: Path,
    address: str,
    caplog: pytest.LogCaptureFixture,
    harmed: list[str],
    harm: str,
    said: str,
) -> None:
    for name in harmed:
        data = (own_copy / name).read_bytes()
        (own_copy / name).unlink() if harm == "missing" else (own_copy / name).write_bytes(data[:-1])
    with Node(own_copy, address):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert re.fullmatch(f"{said}; the node serves, and nobody can ask from its folder", caplog.messages[0])


def test_a_node_whose_folder_is_whole_warns_of_nothing(
    own_copy: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Node(own_copy, address):
        pass
    assert caplog.records == []


def test_a_node_needs_no_more_than_its_own_files(own_copy: Path, address: str) -> None:
    alone = own_copy.rename(own_copy.parent.parent.parent / "elsewhere")
    shutil.rmtree(own_copy.parent.parent)
    with Node(alone, address) as node:
        assert node.manifest == read_manifest(alone)


def test_a_declaration_that_fails_closes_the_session_again(
    folders: list[Path], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.mesh.node.expert_key", lambda *place: "not//a key")
    working = started_since_now("airmoe")
    with pytest.raises(zenoh.ZError):
        Node(folders[0], address)
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass
    wait_until(lambda: working() == 0, LONG_S)


@pytest.fixture(scope="module")
def process(folders: list[Path], manifest: Manifest) -> Iterator[NodeProcess]:
    with node_processes(folders[:1], [free_address()]) as (process,):
        with open_session(connect=[process.address]) as session:
            wait_for_token(session, manifest)
            asker = Asker(manifest, session)
            for _ in range(20):
                asker.answer(with_payload(asker.request, np.zeros((64, FEATURES), np.float32)))
        yield process


@pytest.mark.parametrize("module", ["torch", "numba", "scipy.optimize", "onnx", "sklearn", "matplotlib"])
def test_a_serving_process_does_without(process: NodeProcess, module: str) -> None:
    assert process.ask(f"{module!r} in sys.modules") == "False"


def test_a_serving_process_stays_below_120_mb(process: NodeProcess) -> None:
    status = Path(f"/proc/{process.pid}/status").read_text()
    (peak_kb,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak_kb < 120_000


def test_a_serving_process_ends_in_order(folders: list[Path], address: str) -> None:
    with node_processes(folders[:1], [address]) as (process,):
        assert process.stop() == 0


def test_frames_without_items_count_as_work(asker: Asker) -> None:
    """Else they would make the node think that few items take long."""
    nothing = encode(with_payload(asker.request, np.empty((0, FEATURES), np.float32)))
    for _ in range(6):
        assert asker.get(bundled([encode(asker.request), *[nothing] * 400])).ok is not None
    hurried = encode(replace(asker.request, remaining_ms=500))
    for _ in range(5):
        assert asker.get(hurried).ok is not None
