"""``airmoe generate`` and ``airmoe serve --completions``, as a user runs them."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from airmoe.language import MoeTransformer
from airmoe.language.simulation import Simulated
from airmoe.language.writer import Writer
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders
from tests.language.served import served
from tests.mesh.ports import free_address
from tests.system.commands import ended_in_fork


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MoeTransformer]:
    return served(tmp_path_factory.mktemp("commanded") / "run")


@pytest.fixture(scope="module")
def fleet(run: tuple[Path, MoeTransformer]) -> Iterator[NodeFleet]:
    with NodeFleet(client_folders(run[0]), schedule="jesa:0.6:2", slot_ms=0.0) as fleet:
        yield fleet


@pytest.fixture
def asked(run: tuple[Path, MoeTransformer], fleet: NodeFleet) -> list[str]:
    client = str(client_folders(run[0])[0])
    return [
        "generate",
        client,
        "wireless",
        "--connect",
        fleet.addresses[0],
        "--length",
        "6",
        "--hedge-s",
        "9",
    ]


def expected(model: MoeTransformer) -> str:
    steps = Writer(model, Simulated(model)).write([b"wireless"], 6)
    return b"".join(step.byte_B.tobytes() for step in steps).decode(errors="replace")


def test_a_mesh_writes_the_text_and_tells_what_it_took(
    asked: list[str], run: tuple[Path, MoeTransformer]
) -> None:
    told = ended_in_fork(*asked)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "wireless" + expected(run[1]) + "\n"
    took = r"6 bytes, 2\.00 experts per byte and layer, [\d.]+ ms a byte \(.*\); [\d.]+ .J on simulated links"
    assert re.search(took, told.stderr)
    assert "decided by topk:2" in told.stderr
    assert "mutual TLS as node-" in told.stderr
    assert "as asked" not in told.stderr
    assert "degraded" not in told.stderr


def test_each_byte_has_a_line_and_a_record(asked: list[str], tmp_path: Path) -> None:
    told = ended_in_fork(*asked, "--each", "--record", tmp_path / "bytes.jsonl", "--policy", "jesa:0.6:2")
    assert told.returncode == 0, told.stderr
    head, *lines = told.stdout.splitlines()
    assert head.startswith("byte")
    assert len(lines) == 6
    assert all(
        re.fullmatch(r"'.*' +[\d.]+ .J +[\d.]+ ms   experts [\d+]+ [\d+]+ [\d+]+", line) for line in lines
    )
    records = [
        json.loads(line) for line in (tmp_path / "bytes.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(records) == 6
    assert [layer["decided_by"] for layer in records[0]["layers"]] == ["jesa:0.6:2"] * 3
    assert [layer["tokens"] for record in records for layer in record["layers"]] == [8] * 3 + [1] * 15


def test_who_is_left_out_is_told(asked: list[str]) -> None:
    told = ended_in_fork(*asked, "--without", "1", "--without", "2").stderr
    assert "without node 1, 2, as asked: nobody else holds expert 2 (of node 1, 2)" in told
    assert "degraded" not in told
    assert (
        "without node 3, as asked: others hold its experts" in ended_in_fork(*asked, "--without", "3").stderr
    )


def test_nodes_and_experts_that_are_gone_are_told(run: tuple[Path, MoeTransformer]) -> None:
    folders = client_folders(run[0])
    with NodeFleet(folders) as fleet:
        fleet.kill(1)
        fleet.kill(2)
        asked = ["generate", folders[0], "wireless", "--length", 2, "--policy", "all"]
        told = ended_in_fork(*asked, "--connect", fleet.addresses[0])
    assert told.returncode == 0, told.stderr
    assert "node 1, 2 does not serve now" in told.stderr
    assert "degraded: 2 bytes lack an expert that the gate wanted: expert 2 (of node 1, 2)" in told.stderr


def test_a_mesh_that_is_not_there_and_one_that_is_not_named(run: tuple[Path, MoeTransformer]) -> None:
    asked = ["generate", client_folders(run[0])[0], "wireless"]
    for options, named in (
        ((), "expected --connect HOST:PORT of a node"),
        (("--connect", free_address()), "expected 1"),
    ):
        told = ended_in_fork(*asked, *options)
        assert told.returncode == 2
        assert named in told.stderr
    told = ended_in_fork("generate", run[0] / "none", "wireless", "--connect", free_address())
    assert "expected a folder that exists" in told.stderr


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--snr-db", "10"], "snr-db is 10"),
        (["--without", "0"], "without is 0"),
        (["--without", "7"], "without.* is 7"),
        (["--length", "100"], "length is 100"),
        (["--deadline-s", "-1"], "deadline_s is -1"),
        (["--policy", "best"], "policy is 'best'"),
        (["--hedge-s", "0"], "hedge_s is 0"),
        (["--record", "."], "record is '.'; expected a file that does not exist yet"),
    ],
)
def test_a_wrong_option_is_refused(asked: list[str], changes: list[str], named: str) -> None:
    told = ended_in_fork(*asked, *changes)
    assert told.returncode == 2
    assert re.search(named, told.stderr)
    assert told.stderr.count("\n") == 1


def test_a_run_folder_has_no_nodes_to_connect_to(run: tuple[Path, MoeTransformer]) -> None:
    told = ended_in_fork("generate", run[0], "wireless", "--connect", "127.0.0.1:7447")
    assert told.returncode == 2
    assert "connect is '127.0.0.1:7447'; expected none for a run folder" in told.stderr


def test_a_prompt_without_a_character_is_refused(run: tuple[Path, MoeTransformer]) -> None:
    told = ended_in_fork("generate", run[0], "")
    assert told.returncode == 2
    assert "at least one character" in told.stderr


@pytest.mark.parametrize("everyone", [True, False])
def test_serve_answers_openais_clients(
    run: tuple[Path, MoeTransformer], everyone: bool, fleet: NodeFleet
) -> None:
    listen, http = free_address(), free_address()
    command = [sys.executable, "-m", "airmoe.cli", "serve", "--listen", listen, "--completions", http]
    folder = (
        [str(run[0]), "--all"]
        if everyone
        else [str(client_folders(run[0])[0]), "--connect", fleet.addresses[1]]
    )
    process = subprocess.Popen([*command, *folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("completions of model text"))
        url = line.split(" at ")[1].strip()
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            answer = client.completions.create(model="text", prompt="wireless", max_tokens=6, temperature=0)
            if (
                answer.choices[0].text == expected(run[1])
                and not answer.model_extra["airmoe"]["degraded_bytes"]
            ):  # type: ignore[index]
                break
        else:
            pytest.fail("the text of all experts never came")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_completions_of_images_are_refused(run_folder: Path) -> None:
    told = ended_in_fork(
        "serve", client_folders(run_folder)[0], "--listen", free_address(), "--completions", free_address()
    )
    assert told.returncode == 2
    assert "expected one of a language model" in told.stderr
