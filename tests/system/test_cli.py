"""``airmoe serve`` and ``airmoe predict`` as a user of a small board runs them: with the core alone."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from airmoe.data import ImageSet
from airmoe.manifest import read_manifest
from airmoe.mesh import simulated_links
from airmoe.runfolder import GATE, client_folders
from airmoe.scheduling import allocate_subcarriers
from tests.mesh.exported import make_server_run
from tests.mesh.ports import free_address
from tests.system.commands import (
    AIRMOE_CORE,
    AIRMOE_WITHOUT_TORCH,
    Command,
    ended,
    ended_in_fork,
    processes_about,
    running,
)

SECURED = "mutual TLS"


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """A held-out 0 as an image file."""
    image_HW = digits.test_images[digits.test_labels == 0][0, 0]
    path = tmp_path_factory.mktemp("image") / "zero.png"
    Image.fromarray(image_HW).save(path)
    return path


@pytest.fixture(scope="module")
def mesh(run_folder: Path) -> Iterator[list[str]]:
    """Addresses of all nodes, in processes with the core alone; only 0 and 3, the first two, hold 0s.

    They are all there, since a client waits for those that are not.
    """
    folders, addresses = client_folders(run_folder), [free_address() for _ in range(4)]
    with ExitStack() as open_:
        for number, address in zip((0, 3, 1, 2), addresses, strict=True):
            options = ["--listen", address, "--connect", addresses[0]][: 2 if address == addresses[0] else 4]
            node = open_.enter_context(running("serve", folders[number], *options, program=AIRMOE_CORE))
            node.wait_for_line("serving expert")
        yield addresses


@pytest.fixture(scope="module")
def prediction(run_folder: Path, mesh: list[str], zero: Path) -> subprocess.CompletedProcess[str]:
    """What client 1 is told, who never saw a 0."""
    client = client_folders(run_folder)[1]
    connect = [word for address in mesh[:2] for word in ("--connect", address)]
    return ended("predict", zero, "--client", client, *connect, program=AIRMOE_CORE)


def test_predict_succeeds_with_the_core_alone(prediction: subprocess.CompletedProcess[str]) -> None:
    assert (prediction.returncode, prediction.stderr) == (0, "")


def test_predict_prints_the_right_class_first(prediction: subprocess.CompletedProcess[str]) -> None:
    classes = re.findall(r"^ *([\d.]+)%  (\d)$", prediction.stdout, re.MULTILINE)
    assert len(classes) == 3
    assert classes[0][1] == "0"
    shares = [float(share) for share, _ in classes]
    assert shares == sorted(shares, reverse=True)


def test_predict_prints_the_remote_expert_that_answered(
    prediction: subprocess.CompletedProcess[str],
) -> None:
    assert re.search(
        r"^answered by expert [03] \(remote, score [01]\.\d\d\)$", prediction.stdout, re.MULTILINE
    )


def test_predict_prints_joules_bytes_and_milliseconds(prediction: subprocess.CompletedProcess[str]) -> None:
    spent = re.search(
        r"^([\d.]+) µJ over simulated links, (\d+) bytes, ([\d.]+) ms$", prediction.stdout, re.M
    )
    assert spent is not None
    assert all(float(figure) > 0 for figure in spent.groups())


def test_predict_says_who_it_is(prediction: subprocess.CompletedProcess[str]) -> None:
    assert SECURED in prediction.stdout


def test_predict_breaks_no_line_however_narrow_it_is_read(
    run_folder: Path, mesh: list[str], zero: Path, prediction: subprocess.CompletedProcess[str]
) -> None:
    options = ["--client", client_folders(run_folder)[1], "--connect", mesh[0], "--connect", mesh[1]]
    narrow = ended("predict", zero, *options, program=AIRMOE_CORE, environment={"COLUMNS": "20"})
    assert len(narrow.stdout.splitlines()) == len(prediction.stdout.splitlines())


@pytest.fixture
def album(tmp_path: Path, zero: Path, digits: ImageSet) -> Path:
    """A folder of two images, one of them deeper, among files that are no images to take."""
    (tmp_path / "album" / "deeper").mkdir(parents=True)
    (tmp_path / "album" / ".hidden").mkdir()
    shutil.copy(zero, tmp_path / "album" / ".hidden" / "other.png")
    shutil.copy(zero, tmp_path / "album" / "a.png")
    nine_HW = digits.test_images[digits.test_labels == 9][0, 0]
    Image.fromarray(nine_HW).save(tmp_path / "album" / "deeper" / "b.PNG")
    (tmp_path / "album" / "notes.txt").write_text("no image")
    return tmp_path / "album"


def asked_in_json(run_folder: Path, mesh: list[str], *images: Path) -> tuple[int, list[dict[str, Any]], str]:
    options = ["--client", client_folders(run_folder)[1], "--connect", mesh[0], "--json"]
    told = ended("predict", *images, *options, program=AIRMOE_CORE)
    return told.returncode, [json.loads(line) for line in told.stdout.splitlines()], told.stderr


def test_predict_takes_files_and_folders_and_tells_each_in_json(
    run_folder: Path, mesh: list[str], zero: Path, album: Path
) -> None:
    status, records, stderr = asked_in_json(run_folder, mesh, zero, album)
    assert (status, stderr.splitlines()[1:]) == (0, [])
    assert re.fullmatch(rf"{re.escape(str(album))}: left out: 1 x \.txt; .*\n", stderr)
    named = [zero, album / "a.png", album / "deeper" / "b.PNG"]
    assert [record["image"] for record in records] == list(map(str, named))
    first, again, _ = records
    assert first["label"] == "0"
    assert first["probability"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    (who,) = first["answered_by"]
    assert who["node"] == who["expert"] in (0, 3)
    assert not who["here"]
    assert 0 < who["score"] <= 1
    assert first["energy_j"] == again["energy_j"] > 0
    assert first["bytes"] > 400 * 4
    assert (first["decided_by"], first["reached"], first["degraded"]) == ("topk:1", 1.0, False)
    assert (first["can_be_asked"], first["out_of_reach"], first["why_out_of_reach"]) == (4, 0, None)
    assert 0 < first["elapsed_s"] < 2


def test_predict_says_what_few_subcarriers_leave_out_of_reach(
    run_folder: Path, mesh: list[str], zero: Path, tmp_path: Path
) -> None:
    client = tmp_path / "client"
    shutil.copytree(client_folders(run_folder)[1], client)
    manifest = json.loads((client / "manifest.json").read_text(encoding="utf-8"))
    manifest["radio"]["subcarriers"] = 2
    (client / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    few, nodes = read_manifest(client), len(client_folders(run_folder))
    subcarrier_NN = allocate_subcarriers(simulated_links(few.radio, nodes))
    others = int(np.sum(subcarrier_NN[few.node, [0, 2, 3]] >= 0))
    assert others < 3
    options = ["--client", client, "--connect", mesh[0], "--identity", run_folder / "identities" / "01"]
    told = ended("predict", zero, *options, program=AIRMOE_CORE)
    assert told.returncode == 0
    assert f"{1 + others} of {nodes} experts can be asked" in told.stdout
    (why,) = re.findall(r"^(\d) experts live and are out of reach: (.*)$", told.stdout, re.MULTILINE)
    assert why[0] == str(3 - others)
    assert why[1].startswith("2 subcarriers are too few for the ")
    in_json = ended("predict", zero, *options, "--json", program=AIRMOE_CORE)
    record = json.loads(in_json.stdout)
    assert (record["can_be_asked"], record["out_of_reach"]) == (1 + others, 3 - others)
    assert record["why_out_of_reach"] == why[1]
    assert record["decided_by"] == "topk:1"
    assert record["scheduler"] is None


def test_predict_says_which_images_got_no_answer_and_answers_the_others(
    run_folder: Path, mesh: list[str], album: Path
) -> None:
    (album / "broken.png").write_bytes(b"no image at all")
    status, records, stderr = asked_in_json(run_folder, mesh, album, album / "absent.png")
    assert status == 1
    assert [record.get("label", record.get("error", "").partition(":")[0]) for record in records] == [
        "0",
        str(album / "broken.png"),
        records[2]["label"],
        str(album / "absent.png"),
    ]
    assert stderr.splitlines()[-1] == "airmoe: 2 of 4 images got no answer"


def test_predict_of_several_images_prints_a_line_for_each(
    run_folder: Path, mesh: list[str], album: Path
) -> None:
    (album / "broken.png").write_bytes(b"no image at all")
    options = ["--client", client_folders(run_folder)[1], "--connect", mesh[0]]
    told = ended("predict", album, *options, program=AIRMOE_CORE)
    assert told.returncode == 1
    first, _, last = told.stdout.splitlines()
    assert re.fullmatch(
        rf"{re.escape(str(album))}/a\.png: 0 [\d.]+%, answered by expert [03] \(remote, score .*\), "
        r"[\d.]+ µJ",
        first,
    )
    assert last.startswith(SECURED)
    assert told.stderr.splitlines()[1].startswith(f"airmoe: {album}/broken.png: cannot be read as an image")


def test_predict_refuses_where_no_image_gets_an_answer(
    run_folder: Path, mesh: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    options = ["--client", client_folders(run_folder)[1], "--connect", mesh[0]]
    for images, said in [
        ([tmp_path / "empty"], "empty: holds no images (.bmp, "),
        ([tmp_path / "x.png", tmp_path / "y.png"], "none of 2 images got an answer: "),
        ([tmp_path / "x.png"], "x.png: no such file"),
    ]:
        told = ended_in_fork("predict", *images, *options)
        assert (told.returncode, told.stdout) == (2, "")
        assert said in told.stderr.splitlines()[-1]


def test_predict_by_the_own_expert_sends_nothing(run_folder: Path, mesh: list[str], zero: Path) -> None:
    client = client_folders(run_folder)[0]
    told = ended_in_fork("predict", zero, "--client", client, "--connect", mesh[0], "--policy", "local")
    assert "answered by expert 0 (here, " in told.stdout
    assert "0.0 µJ over simulated links, 0 bytes" in told.stdout


def test_predict_asks_as_many_experts_as_the_policy_says(
    run_folder: Path, mesh: list[str], zero: Path
) -> None:
    client = client_folders(run_folder)[0]
    told = ended_in_fork("predict", zero, "--client", client, "--connect", mesh[0], "--policy", "topk:2")
    (answered,) = [line for line in told.stdout.splitlines() if line.startswith("answered by")]
    assert answered.count("score") == 2


@pytest.mark.parametrize("policy", ["des:0.5:2", "jesa:0.5:2", "homogeneous:0.5:2"])
def test_a_policy_that_needs_an_extra_says_which(
    run_folder: Path, mesh: list[str], zero: Path, policy: str
) -> None:
    options = ["--client", client_folders(run_folder)[1], "--connect", mesh[0], "--policy", policy]
    serving = [client_folders(run_folder)[2], "--listen", free_address(), "--schedule", policy]
    for command in [("predict", zero, *options)] + [("serve", *serving)] * ("des" not in policy):
        told = ended(*command, program=AIRMOE_CORE)
        assert (told.returncode, told.stdout) == (2, ""), told.stderr
        assert re.fullmatch(
            r"airmoe: the exact selection .* needs numba; install with: pip install .*\[schedule\].*\n",
            told.stderr,
        )


@pytest.fixture(scope="module")
def scheduler(run_folder: Path) -> Iterator[str]:
    """Address of node 0 of a mesh of its own, which also schedules."""
    folder, address = client_folders(run_folder)[0], free_address()
    options = ["--listen", address, "--schedule", "jesa:0.5:2", "--slot-ms", 10]
    with running("serve", folder, *options, program=AIRMOE_WITHOUT_TORCH) as node:
        node.wait_for_line("serving expert")
        assert node.wait_for_line("scheduling") == "scheduling by jesa:0.5:2 in slots of 10 ms\n"
        yield address


def test_predict_by_a_joint_policy_is_decided_by_the_scheduler(
    run_folder: Path, scheduler: str, zero: Path
) -> None:
    client = client_folders(run_folder)[1]
    options = ["--client", client, "--connect", scheduler, "--policy", "jesa:0.5:2"]
    told = ended("predict", zero, *options, program=AIRMOE_WITHOUT_TORCH)
    assert told.returncode == 0
    assert "answered by expert" in told.stdout
    assert "decided by jesa:0.5:2 at node 0, for all clients\n" in told.stdout
    assert "at this client" not in told.stderr


def test_predict_says_who_decided_when_no_scheduler_did(
    run_folder: Path, mesh: list[str], zero: Path
) -> None:
    client = client_folders(run_folder)[1]
    told = ended_in_fork("predict", zero, "--client", client, "--connect", mesh[0], "--policy", "jesa:0.5:2")
    assert told.returncode == 0
    assert "decided by des:0.5:2 at this client: no scheduler did\n" in told.stdout
    assert "no scheduler is alive; until one decides again, des:0.5:2 decides at this client" in told.stderr


@pytest.fixture(scope="module")
def analog_run(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory, digits: ImageSet
) -> tuple[Path, Path]:
    """Folders of the clients and of the server of a run over analog links, with a gate that sees SNR."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("analog") / "run"
    run = make_server_run(run_folder, out, digits, transmission="analog", mean_snr_db=15.0)
    return run.folder / "clients", run.server


@pytest.fixture(scope="module")
def expert_nodes(analog_run: tuple[Path, Path]) -> Iterator[str]:
    """The address of one of two nodes with nothing but an expert."""
    clients, addresses = analog_run[0], [free_address(), free_address()]
    with ExitStack() as open_:
        for name, address in zip(("00", "03"), addresses, strict=True):
            options = ["--listen", address, "--connect", addresses[0]][: 2 if address == addresses[0] else 4]
            node = open_.enter_context(
                running("serve", clients / name, *options, program=AIRMOE_WITHOUT_TORCH)
            )
            node.wait_for_line("serving expert")
        yield addresses[0]


def test_a_server_asks_over_analog_links_and_is_told_the_snr_of_who_answered(
    analog_run: tuple[Path, Path], expert_nodes: str, zero: Path
) -> None:
    options = ["--client", analog_run[1], "--connect", expert_nodes, "--policy", "topk:2"]
    told = ended("predict", zero, *options, program=AIRMOE_WITHOUT_TORCH)
    assert (told.returncode, told.stderr) == (0, "")
    (answered,) = [line for line in told.stdout.splitlines() if line.startswith("answered by expert")]
    links = simulated_links(read_manifest(analog_run[1]).radio, 5).snr_db([4], [0, 3])[0]
    assert re.fullmatch(
        rf"answered by expert 0 \(remote, score [01]\.\d\d, link {links[0]:.1f} dB\), "
        rf"3 \(remote, score [01]\.\d\d, link {links[1]:.1f} dB\)",
        answered,
    )
    assert "2 of 4 experts can be asked" in told.stdout
    joules = 2 * (400 / 2 + 32) * 1e-2 / 1e6
    assert f"{joules * 1e6:.1f} µJ over simulated analog links, " in told.stdout


def test_predict_says_how_much_of_the_score_was_reached_where_wanted_experts_are_dead(
    analog_run: tuple[Path, Path], expert_nodes: str, zero: Path
) -> None:
    options = ["--client", analog_run[1], "--connect", expert_nodes, "--policy", "all"]
    told = ended_in_fork("predict", zero, *options)
    (answered,) = [line for line in told.stdout.splitlines() if line.startswith("answered by expert")]
    reached = sum(float(score) for score in re.findall(r"score ([01]\.\d\d)", answered))
    said_so = r"^degraded: of the wanted experts' score (\d+)% was reached: not expert [\d, ]+$"
    (said,) = re.findall(said_so, told.stdout, re.M)
    assert abs(int(said) - 100 * reached) <= 2
    (missed,) = re.findall(r"not expert ([\d, ]+)$", told.stdout, re.M)
    several = ended_in_fork("predict", zero, zero, *options).stdout.splitlines()[0]
    assert f"% of the score reached, not expert {missed}, " in several
    record = json.loads(ended_in_fork("predict", zero, *options, "--json").stdout)
    assert ", ".join(map(str, record["missed"])) == missed


def test_a_server_decides_by_a_joint_policy_at_ideal_prices(
    analog_run: tuple[Path, Path], expert_nodes: str, zero: Path
) -> None:
    options = ["--client", analog_run[1], "--connect", expert_nodes, "--policy", "jesa:0.5:2"]
    told = ended("predict", zero, *options, program=AIRMOE_WITHOUT_TORCH)
    assert told.returncode == 0
    assert "at this client" not in told.stderr
    assert "decided by jesa:0.5:2 here at the prices of ideal links\n" in told.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "serve",
            "client_folder is '{server}'; expected a folder with an expert: this one has none to serve",
        ),
        ("predict", "client_folder is '{expert}'; expected a client that asks: this one serves expert 0"),
    ],
)
def test_a_folder_for_the_other_command_is_refused(
    analog_run: tuple[Path, Path], zero: Path, command: str, message: str
) -> None:
    clients, server = analog_run
    arguments: dict[str, list[object]] = {
        "serve": [server, "--listen", free_address()],
        "predict": [zero, "--client", clients / "00", "--connect", free_address()],
    }
    told = ended_in_fork(command, *arguments[command])
    assert told.returncode == 2
    assert told.stderr.startswith("airmoe: " + message.format(server=server, expert=clients / "00"))
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "topk:1"], "airmoe: schedule is 'topk:1'; expected a joint policy"),
        (
            ["--schedule", "jesa"],
            "airmoe: schedule is 'jesa'; expected jesa:IMPORTANCE:MAX_EXPERTS[:Z[:RESTARTS]] or",
        ),
        (
            ["--schedule", "jesa:0.5:2", "--slot-ms", -1],
            "airmoe: slot_ms is -1.0; expected a number from 0 to",
        ),
    ],
)
def test_a_node_says_what_it_cannot_schedule_by(
    run_folder: Path, options: list[object], message: str
) -> None:
    told = ended_in_fork("serve", client_folders(run_folder)[0], "--listen", free_address(), *options)
    assert told.returncode == 2
    assert told.stderr.startswith(message)
    assert told.stderr.count("\n") == 1


@pytest.fixture
def lone_node(run_folder: Path) -> Iterator[Command]:
    """A node that was started a moment ago."""
    folder = client_folders(run_folder)[2]
    with running("serve", folder, "--listen", free_address(), program=AIRMOE_CORE) as node:
        yield node


def test_a_node_serves_after_little_work(
    lone_node: Command, record_property: Callable[[str, object], None]
) -> None:
    lone_node.wait_for_line("serving expert")
    spent = psutil.Process(lone_node.pid).cpu_times()
    seconds = spent.user + spent.system
    record_property("seconds of computing until a node serves", round(seconds, 2))  # 0.6 s usually
    assert seconds < 3


def test_a_node_says_what_it_serves_and_who_it_is(lone_node: Command) -> None:
    assert re.match(
        r"serving expert 2 \(5, 6, 7, 8, 9\) of mesh lab on 127\.0\.0\.1:\d+$",
        lone_node.wait_for_line("serving expert"),
    )
    lone_node.wait_for_line(SECURED)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_ends_in_order_when_interrupted(lone_node: Command, number: signal.Signals) -> None:
    lone_node.wait_for_line(SECURED)
    lone_node.send(number)
    assert lone_node.wait() in {0, 130}
    assert "Traceback" not in lone_node.output


def test_a_node_without_standard_streams_serves_and_ends_in_order(run_folder: Path) -> None:
    address, without = free_address(), 'exec "$@" <&- >&- 2>&-'
    program = ["sh", "-c", without, "sh", *AIRMOE_CORE]
    with running("serve", client_folders(run_folder)[2], "--listen", address, program=program) as node:
        node.wait_until(lambda: is_listening(address))
        streams = [Path(f"/proc/{node.pid}/fd/{number}").readlink() for number in range(3)]
        assert streams == [Path(os.devnull)] * 3
        node.send(signal.SIGTERM)
        assert node.wait() == 0


def is_listening(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as asker:
        return asker.connect_ex((host, int(port))) == 0


def test_a_node_that_was_stopped_and_goes_on_hears_a_signal_all_the_same(lone_node: Command) -> None:
    lone_node.wait_for_line(SECURED)
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM):
        lone_node.send(number)
    assert lone_node.wait() in {0, 130}


HALF_BUILT = """
import os, signal
from airmoe.cli import app

class HalfBuilt:
    def __del__(self):
        self.no_such_part

def command(**options):
    half_built = HalfBuilt()
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()

app.app = command
app.main()
"""


def test_what_is_half_built_when_a_signal_comes_says_nothing() -> None:
    ended_ = ended("-c", HALF_BUILT, program=[sys.executable])
    assert (ended_.returncode, ended_.stdout, ended_.stderr) == (130, "", "")


def test_a_node_told_to_ends_with_its_parent(run_folder: Path) -> None:
    address = free_address()
    options = ["serve", client_folders(run_folder)[2], "--listen", address, "--exit-with-parent"]
    with running(*options) as node:  # its standard input is at its end
        assert node.wait() == 0
        assert node.output.startswith("serving expert 2")


@pytest.fixture(scope="module")
def whole_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Path]]:
    """All four nodes of a run behind one command, with the last line that it says when they serve."""
    run = tmp_path_factory.mktemp("whole") / "run with spaces"
    shutil.copytree(run_folder, run)
    first = free_addresses_in_a_row(4)
    with running("serve", run, "--all", "--listen", first, program=AIRMOE_CORE) as nodes:
        nodes.wait_for_line(SECURED)
        yield nodes, run


def free_addresses_in_a_row(count: int) -> str:
    """The first of so many free ports in a row."""
    for first in range(20_000 + os.getpid() % 10_000, 32_000, count):
        with ExitStack() as open_:
            try:
                for port in range(first, first + count):
                    open_.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return f"127.0.0.1:{first}"
    raise AssertionError("no free ports")


def test_one_command_serves_a_whole_run_and_says_how_to_ask(
    whole_run: tuple[Command, Path], zero: Path
) -> None:
    nodes, run = whole_run
    for node in range(4):
        assert f"node {node}: serving expert {node} " in nodes.output
    assert len(processes_about(run)) == 1 + 4
    (ask,) = re.findall(r"^4 nodes serve\. Ask with: airmoe (predict .*)$", nodes.output, re.MULTILINE)
    words = shlex.split(ask.replace("IMAGE", shlex.quote(str(zero))))
    told = ended(*words, program=AIRMOE_CORE)
    assert told.returncode == 0
    assert "4 of 4 experts can be asked" in told.stdout


def test_a_node_of_a_whole_run_computes_on_one_thread(whole_run: tuple[Command, Path]) -> None:
    nodes, _ = whole_run
    for node in psutil.Process(nodes.pid).children():
        assert {node.environ()[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"1"}


def test_a_node_of_a_whole_run_that_dies_is_named_and_one_interrupt_ends_the_others(
    whole_run: tuple[Command, Path],
) -> None:
    nodes, run = whole_run
    (victim,) = [number for number, line in processes_about(run).items() if "/clients/02 " in line]
    os.kill(victim, signal.SIGKILL)
    assert re.fullmatch(
        r"\S+ ERROR node 2 at 127\.0\.0\.1:\d+ died \(killed by SIGKILL\); 3 of 4 nodes serve on\n",
        nodes.wait_for_line("20"),
    )
    before = nodes.output
    nodes.send(signal.SIGINT)
    assert nodes.wait() == 0
    assert nodes.output == before
    assert processes_about(run) == {}


def test_the_logs_of_a_whole_run_are_one_in_json_with_the_node_of_each_line(
    run_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    damaged = client_folders(run)[1] / GATE
    damaged.unlink()
    first = free_addresses_in_a_row(4)
    with running("serve", run, "--all", "--listen", first, "--log", "json", program=AIRMOE_CORE) as nodes:
        told = json.loads(nodes.wait_for_line("{"))
        nodes.wait_for_line(SECURED)
        nodes.send(signal.SIGINT)
        assert nodes.wait() == 0
    assert (told["node"], told["level"]) == (1, "WARNING")
    assert told["message"].startswith(f"{damaged} cannot be read")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--connect", "127.0.0.1:1"], r"connect is \['127.0.0.1:1'\]; expected none beside --all: .*"),
        (
            ["--listen", "127.0.0.1:65534"],
            "listen is '127.0.0.1:65534'; expected a port of at most 65532: .*",
        ),
        (["--listen", "x"], "address is 'x'; expected HOST:PORT, .*"),
    ],
)
def test_what_a_whole_run_cannot_be_served_with_is_refused(
    run_folder: Path, options: list[str], message: str
) -> None:
    told = ended_in_fork("serve", run_folder, "--all", *options)
    assert (told.returncode, told.stdout) == (2, "")
    assert re.fullmatch(f"airmoe: {message}\n", told.stderr)


def test_a_folder_without_clients_is_no_run_to_serve(tmp_path: Path) -> None:
    told = ended_in_fork("serve", tmp_path, "--all")
    assert (told.returncode, told.stderr) == (
        2,
        f"airmoe: {tmp_path} holds no clients/<id>/ folders; expected the folder of a finished run\n",
    )


def test_a_client_that_finds_no_node_answers_by_its_own_expert(run_folder: Path, zero: Path) -> None:
    options = ["--client", client_folders(run_folder)[0], "--connect", free_address(), "--policy", "all"]
    told = ended("predict", zero, *options)
    assert told.returncode == 0
    assert re.match("airmoe: found 0 nodes .*: nothing listens at .*; the client answers itself", told.stderr)
    assert "answered by expert 0 (here" in told.stdout
    assert "degraded: " in told.stdout


NOBODY = """
import numpy as np
from airmoe.plugins import register
from airmoe.scheduling import routing_of

@register("policy", "nobody")
class Nobody:
    def route(self, scores_TE, cost, slot):
        return routing_of(np.zeros(scores_TE.shape, bool), cost)
"""


def test_predict_says_that_the_policy_chose_nobody(
    run_folder: Path, mesh: list[str], zero: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "nobody.py"
    plugin.write_text(NOBODY, encoding="utf-8")
    asks = ["--client", client_folders(run_folder)[1], "--connect", mesh[0], "--plugin", plugin]
    told = ended("predict", zero, *asks, "--policy", "nobody", program=AIRMOE_CORE)
    assert re.search(
        r"^answered by expert 1 \(here, score .*\); nobody chose no expert$", told.stdout, re.MULTILINE
    )
    records = [
        json.loads(ended("predict", zero, *asks, "--policy", policy, "--json", program=AIRMOE_CORE).stdout)
        for policy in ("nobody", "local")
    ]
    assert [record["chose_none"] for record in records] == [True, False]


def test_every_command_explains_itself() -> None:
    for command in ("demo", "train", "serve", "predict"):
        explained = ended_in_fork(command, "--help")
        assert explained.returncode == 0
        assert "--help" in explained.stdout
    assert {"demo", "train", "serve", "predict"} <= set(ended_in_fork("--help").stdout.split())


def test_help_of_evaluate_explains_every_row_that_comes_by_itself() -> None:
    explained = " ".join(ended_in_fork("evaluate", "--help").stdout.replace("│", " ").split())
    for words in ("own expert alone", "best score", "all experts", "ensemble: the plain mean of all experts"):
        assert words in explained


def test_scheduling_is_imported_without_torch() -> None:
    script = "import sys, airmoe.scheduling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=500, check=False).returncode == 0
