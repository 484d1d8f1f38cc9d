"""OpenAI's own client, and clients that are not so kind, at the endpoint."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from airmoe.errors import AddressError
from airmoe.language import MoeTransformer
from airmoe.language.endpoint import MOST_BODY_BYTES, MOST_CONNECTIONS, MOST_REQUESTS, CompletionServer
from airmoe.language.mesh import MeshSource
from airmoe.language.simulation import Simulated
from airmoe.language.writer import Writer
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders
from tests.language.served import random_model, served
from tests.mesh.ports import free_address


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MoeTransformer]:
    return served(tmp_path_factory.mktemp("asked") / "run")


@pytest.fixture(scope="module")
def server(run: tuple[Path, MoeTransformer]) -> Iterator[CompletionServer]:
    """In front of a mesh of four processes."""
    folders = client_folders(run[0])
    with (
        NodeFleet(folders) as fleet,
        MeshSource(folders[0], fleet.addresses, hedge_s=10.0, identity=fleet.identities[0]) as source,
    ):
        source.wait_for_all(20)
        with CompletionServer(Writer.over(source), "text", free_address()) as server:
            yield server


@pytest.fixture(scope="module")
def client(server: CompletionServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60)


def expected(model: MoeTransformer, prompt: str, length: int) -> str:
    steps = Writer(model, Simulated(model)).write([prompt.encode()], length)
    return b"".join(step.byte_B.tobytes() for step in steps).decode(errors="replace")


def test_the_text_is_that_of_the_whole_model(client: openai.OpenAI, run: tuple[Path, MoeTransformer]) -> None:
    answer = client.completions.create(model="text", prompt="wireless", max_tokens=9, temperature=0)
    (choice,) = answer.choices
    assert choice.text == expected(run[1], "wireless", 9)
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (8, 9)
    told = answer.model_extra["airmoe"]  # type: ignore[index]
    assert told["energy_j"] > 0
    assert (told["degraded_bytes"], told["missed_nodes"], told["without"]) == (0, [], [])
    assert (told["missed_experts"], told["decided_by"]) == ([], ["topk:2"])


def test_a_stream_gives_the_same_text_piece_by_piece(client: openai.OpenAI) -> None:
    options = {"model": "text", "prompt": ["wireless", "é"], "max_tokens": 9, "temperature": 0}
    whole = client.completions.create(**options)  # type: ignore[call-overload]
    stream = client.completions.create(**options, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    *chunks, last = list(stream)
    texts = ["", ""]
    for chunk in chunks:
        assert chunk.choices
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert [choice.finish_reason for choice in chunks[-1].choices] == ["length", "length"]
    joules = sum(chunk.model_extra["airmoe"]["energy_j"] for chunk in chunks)
    assert joules == pytest.approx(whole.model_extra["airmoe"]["energy_j"])
    assert chunks[-1].model_extra["airmoe"]["total"]["energy_j"] == pytest.approx(joules)
    assert last.usage == whole.usage


def test_a_stop_ends_the_text(client: openai.OpenAI, run: tuple[Path, MoeTransformer]) -> None:
    text = expected(run[1], "wireless", 12)
    stop = text[4:6]
    answer = client.completions.create(
        model="text", prompt="wireless", max_tokens=12, temperature=0, stop=stop
    )
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_a_seed_draws_the_same_text_again_and_none_another(client: openai.OpenAI) -> None:
    def drawn(**seed: int) -> str:
        answer = client.completions.create(model="text", prompt="a", max_tokens=20, temperature=1, **seed)  # type: ignore[call-overload]
        return str(answer.choices[0].text)

    assert drawn(seed=4) == drawn(seed=4)
    assert len({drawn() for _ in range(4)}) > 1


def test_echo_and_n(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="text", prompt="ab", max_tokens=3, n=2, echo=True, temperature=0)
    first, second = (choice.text for choice in answer.choices)
    assert first == second
    assert first.startswith("ab")
    (chunk, *_) = client.completions.create(model="text", prompt="ab", max_tokens=1, echo=True, stream=True)
    assert chunk.choices[0].text == "ab"


def test_an_owner_is_left_out_and_the_answer_says_so(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="text", prompt="wireless", max_tokens=4, temperature=0, extra_body={"without": [1, 2]}
    )
    assert answer.model_extra["airmoe"]["without"] == [1, 2]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"model": "gpt-4"}, 404, "model is 'gpt-4'; expected 'text'"),
        ({"prompt": "a" * 65}, 400, "the longest prompt is '65 bytes'; expected at most 64, the context"),
        ({"max_tokens": 100}, 400, "max_tokens is 100; expected at most"),
        ({"top_p": 0.5}, 400, "top_p is 0.5"),
        ({"prompt": [[1, 2]]}, 400, "prompt.0 is"),
        ({"extra_body": {"without": [0]}}, 400, "without is 0"),
        ({"extra_body": {"without": [9]}}, 400, "without"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(
    client: openai.OpenAI, changes: dict[str, object], status: int, told: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.completions.create(**{"model": "text", "prompt": "a", "max_tokens": 2} | changes)  # type: ignore[call-overload]
    assert raised.value.status_code == status
    assert told in raised.value.message


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["text"]
    assert client.models.retrieve("text").id == "text"
    with pytest.raises(openai.NotFoundError, match="no chat"):
        client.chat.completions.create(model="text", messages=[{"role": "user", "content": "a"}])


def asked(
    server: CompletionServer, body: bytes = b"{}", path: str = "/v1/completions", **headers: str
) -> tuple[int, str]:
    address = server.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(address, timeout=30)
    told = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): each for name, each in headers.items()
    }
    connection.request("POST", path, body, told)
    answer = connection.getresponse()
    message = json.loads(answer.read())["error"]["message"]
    connection.close()
    return answer.status, message


def test_a_web_page_cannot_ask(server: CompletionServer) -> None:
    assert asked(server, Host="evil.example:80")[0] == 421
    assert asked(server, Content_Type="text/plain")[0] == 415
    assert asked(server, Content_Type="application/x-www-form-urlencoded")[0] == 415


def test_sizes_are_bounded_and_paths_known(server: CompletionServer) -> None:
    assert asked(server, path="/v1/chat/completions")[0] == 404
    assert asked(server, b"{", Content_Length="1")[0] == 400
    address, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((address, int(port)), timeout=30) as raw:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {address}:{port}\r\nContent-Type: application/json\r\n"
        )
        raw.sendall(f"{head}Content-Length: {MOST_BODY_BYTES + 1}\r\n\r\n".encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")


def test_who_leaves_stops_its_text_and_others_are_answered(
    server: CompletionServer, client: openai.OpenAI
) -> None:
    stream = client.completions.create(model="text", prompt="a", max_tokens=60, temperature=0, stream=True)
    next(iter(stream))
    stream.close()
    assert client.completions.create(model="text", prompt="a", max_tokens=1).choices


def test_several_at_once_are_answered_one_after_another(client: openai.OpenAI) -> None:
    texts = list[str]()

    def ask() -> None:
        answer = client.completions.create(model="text", prompt="wireless", max_tokens=6, temperature=0)
        texts.append(answer.choices[0].text)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 6
    assert len(set(texts)) == 1


def test_an_address_in_use_or_beyond_this_machine_is_refused(server: CompletionServer) -> None:
    model = random_model()
    writer = Writer(model, Simulated(model))
    with pytest.raises(AddressError, match="cannot listen"):
        CompletionServer(writer, "text", server.url.removeprefix("http://").removesuffix("/v1"))
    with pytest.raises(AddressError, match="loopback"):
        CompletionServer(writer, "text", "0.0.0.0:8000")


def test_a_mesh_that_is_gone_is_told_as_a_fault_of_the_server(tmp_path: Path) -> None:
    from airmoe.runs.export_layers import export_layers
    from tests.language.served import RADIO

    model = random_model()
    layers = [list(block.moe.experts) for block in model.blocks]  # type: ignore[union-attr, arg-type]
    export_layers(tmp_path, layers, 16, radio=RADIO, server=True)
    with MeshSource(tmp_path / "clients" / "server", hedge_s=10.0) as source:
        writer = Writer(model, source, deadline_s=0.1)
        with CompletionServer(writer, "text", free_address()) as server:
            client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
            with pytest.raises(openai.InternalServerError, match="no expert"):
                client.completions.create(model="text", prompt="a", max_tokens=1)
            with pytest.raises(openai.APIError, match="no expert"):
                list(client.completions.create(model="text", prompt="a", max_tokens=1, stream=True))


def sent_raw(server: CompletionServer, data: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    address, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((address, int(port)), timeout=30) as raw:
        raw.sendall(data)
        answer = b""
        while part := raw.recv(4096):
            answer += part
    return answer


def test_the_body_of_a_refused_request_is_not_taken_for_another_request(server: CompletionServer) -> None:
    host = server.url.removeprefix("http://").removesuffix("/v1")
    inner = json.dumps({"model": "text", "prompt": "a", "max_tokens": 1}).encode()
    smuggled = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(inner)}\r\n\r\n"
    ).encode() + inner
    for head, status in (
        ("Host: evil.example:80\r\nContent-Type: text/plain", b"421"),
        (f"Host: {host}\r\nContent-Type: text/plain", b"415"),
    ):
        outer = f"POST /v1/completions HTTP/1.1\r\n{head}\r\nContent-Length: {len(smuggled)}\r\n\r\n"
        answer = sent_raw(server, outer.encode() + smuggled)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1") == 1
    length = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    assert sent_raw(server, f"{length}Content-Length: {'9' * 5000}\r\n\r\n".encode()).startswith(
        b"HTTP/1.1 413"
    )


def test_who_hangs_up_before_the_answer_gives_the_turn_back(
    server: CompletionServer, client: openai.OpenAI
) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    body = json.dumps({"model": "text", "prompt": "a", "max_tokens": 60, "n": 32}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    for _ in range(MOST_REQUESTS + 4):
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    patient = client.with_options(max_retries=20)
    assert patient.completions.create(model="text", prompt="a", max_tokens=1).choices


def test_more_connections_than_stand_at_once_are_answered_one_after_another(server: CompletionServer) -> None:
    host = server.url.removeprefix("http://").removesuffix("/v1")
    for _ in range(MOST_CONNECTIONS + 5):
        request = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert sent_raw(server, request.encode()).startswith(b"HTTP/1.1 200")


def test_closing_ends_the_text_that_is_being_written() -> None:
    model = random_model()
    server = CompletionServer(Writer(model, Simulated(model)), "text", free_address())
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60)
    stream = iter(client.completions.create(model="text", prompt=["a"] * 32, max_tokens=60, stream=True))
    next(stream)
    server.close()
    with pytest.raises(openai.APIError, match="the server is closing"):
        list(stream)
    server.close()


def test_null_is_taken_as_left_out_and_a_prompt_counts_once(client: openai.OpenAI) -> None:
    nothing = dict.fromkeys(("max_tokens", "temperature", "n", "echo", "stream", "stop", "seed", "suffix"))
    answer = client.completions.create(model="text", prompt="abc", extra_body=nothing)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 16)
    several = client.completions.create(model="text", prompt="abc", n=3, max_tokens=2)
    assert several.usage is not None
    assert (several.usage.prompt_tokens, several.usage.completion_tokens) == (3, 6)
