"""The networked method over a SuperLink and nodes that are processes: what it ends at, and who may die."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("flwr", reason="needs airmoe[flower]")

import flwr

from airmoe.data import ImageSet
from airmoe.federated.flower.lab import Lab
from airmoe.federated.flower.quiet import environment
from airmoe.manifest import read_manifest
from airmoe.networked import load_config, train_run
from airmoe.networked.export_apart import FOLDER
from airmoe.networked.flower import SETTINGS
from airmoe.runfolder import client_folders, sha256_of
from tests.mesh.ports import free_address
from tests.system.commands import AIRMOE_CORE, Command, ended, left_after, running

pytestmark = pytest.mark.long
if any(letter.isspace() for letter in flwr.__file__):
    pytest.skip("Flower runs no SuperLink from a folder with a space", allow_module_level=True)

APP = "airmoe.networked.flower"
CLIENTS = 3
FEW_ROUNDS = """
[data]
clients = 3
[features]
rounds = 3
[experts]
epochs = 2
[gate]
rounds = 2
[federation]
secure_sums = true
"""
"""Sums are secure over Flower unless settings say otherwise; the loop has to be told."""
WITH_A_DEATH = FEW_ROUNDS.replace("rounds = 3", "rounds = 10").replace("true", "false")
"""Of two clients that are left, no sum would be secure."""
RUN_TAKES_S = 480.0
"""At most; three minutes on two quiet cores, most of them in Flower's own processes."""


def lab_in(folder: Path) -> Lab:
    return Lab(folder, CLIENTS, f"{APP}:server", f"{APP}:client", None, SETTINGS)


def begun(lab: Lab, settings: Path, out: Path, *, minimum: int, timeout_s: float = 120.0) -> Command:
    told = {"config": str(settings), "out": str(out), "minimum": minimum, "timeout_s": timeout_s}
    return Command(lab.begin_run(told))


@contextmanager
def stock_supernode(lab: Lab, client: int, folder: Path) -> Iterator[None]:
    """Flower's own SuperNode in place of ``airmoe flower node``; it starts a process for each message."""
    home = folder.with_name("stock-home")
    with folder.with_name("stock.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("flower-supernode", "--superlink", lab.address, "--root-certificates", str(lab.authority)),
                *("--auth-supernode-private-key", str(lab.folder / f"node-{client}.key")),
                *("--node-config", f'client={client} folder="{folder}"'),
                *("--port", free_address().rpartition(":")[2]),
            ],
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def rows_of(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def folder_at(lab: Lab, client: int, run: int = 0) -> Path:
    """What the node of a client wrote, in the order in which runs began."""
    runs = sorted((lab.folder / f"node-{client}" / "runs").iterdir(), key=lambda each: each.stat().st_ctime)
    return runs[run] / FOLDER


@pytest.fixture(scope="module")
def few_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "few.toml"
    path.write_text(FEW_ROUNDS)
    return path


@pytest.fixture(scope="module")
def in_the_loop(few_rounds: Path, digits: ImageSet) -> Path:
    """The same run in one process."""
    train_run(load_config(few_rounds), digits, few_rounds.parent / "loop")
    return few_rounds.parent / "loop"


@pytest.fixture(scope="module")
def lab(few_rounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three nodes over which a run went without an accident, to ``out`` in its folder."""
    folder = tmp_path_factory.mktemp("flower") / "lab"
    with lab_in(folder) as lab:
        run = begun(lab, few_rounds, folder / "out", minimum=CLIENTS)
        run.wait(RUN_TAKES_S)
        assert (folder / "out").exists(), run.output
        yield lab
    assert left_after(folder) == {}


def test_shared_networks_and_every_clients_folder_are_those_of_the_loop(lab: Lab, in_the_loop: Path) -> None:
    shared = {path.name: sha256_of(path) for path in (lab.folder / "out" / "shared").iterdir()}
    assert shared == {path.name: sha256_of(path) for path in (in_the_loop / "shared").iterdir()}
    for client, folder in enumerate(client_folders(in_the_loop)):
        mine = {path.name: sha256_of(path) for path in folder_at(lab, client).iterdir()}
        assert mine == {path.name: sha256_of(path) for path in folder.iterdir()}


def test_the_metrics_are_those_of_the_loop_and_letters_count_both_ways(lab: Lab, in_the_loop: Path) -> None:
    mine, loops = rows_of(lab.folder / "out"), rows_of(in_the_loop)
    assert [row | {"bytes": 0} for row in mine] == [row | {"bytes": 0} for row in loops]
    for row, expected in zip(mine, loops, strict=True):
        relayed = int(str(row["bytes"])) - int(str(expected["bytes"]))
        assert relayed > 0 if row["stage"] == "gate" else relayed == 0


def test_no_expert_is_at_the_server(lab: Lab) -> None:
    weights = [
        (folder_at(lab, client) / f"expert-{client}.safetensors").read_bytes()[-64:] for client in range(3)
    ]
    at_server = [
        path
        for part in ("out", "superlink", "home", "app")
        for path in (lab.folder / part).rglob("*")
        if path.is_file()
    ]
    assert any(path.name == "superlink.db" for path in at_server)
    assert not [path for path in at_server if any(each in path.read_bytes() for each in weights)]


def test_a_server_that_was_killed_goes_on_and_ends_at_the_same_weights(
    lab: Lab, few_rounds: Path, in_the_loop: Path
) -> None:
    out = lab.folder / "resumed"
    first = begun(lab, few_rounds, out, minimum=CLIENTS)
    first.wait_for_line("features: 1 of 3")
    lab.kill("superlink")
    first.wait()
    assert not out.exists()
    lab.start_superlink()
    second = begun(lab, few_rounds, out, minimum=CLIENTS)
    second.wait(RUN_TAKES_S)
    assert "features: 1 of 3" not in second.output
    for name in ("extractor.safetensors", "gate.safetensors"):
        assert sha256_of(out / "shared" / name) == sha256_of(in_the_loop / "shared" / name)
    assert [row | {"bytes": 0} for row in rows_of(out)] == [
        row | {"bytes": 0} for row in rows_of(in_the_loop)
    ]


@pytest.fixture(scope="module")
def with_a_death(lab: Lab) -> Path:
    """A run in which node 1 dies in the middle of a round, and comes back when its client is given up."""
    settings, out = lab.folder / "more.toml", lab.folder / "death"
    settings.write_text(WITH_A_DEATH)
    run = begun(lab, settings, out, minimum=2, timeout_s=60.0)
    run.wait_for_line("features: 2 of 10")
    lab.kill("node-1")
    run.wait_for_line("features: 5 of 10")
    lab.start_node(1)
    run.wait(RUN_TAKES_S)
    assert out.exists(), run.output
    return out


def test_a_run_goes_on_without_a_node_that_was_killed_and_says_who_took_part(with_a_death: Path) -> None:
    missing = [row.get("missing", "") for row in rows_of(with_a_death)]
    assert missing[:2] == ["", ""]
    assert missing[3] == "1"
    assert missing[9:] == [""] * len(missing[9:])  # it came back


def test_what_all_nodes_wrote_serves_as_a_mesh(
    lab: Lab, with_a_death: Path, digits: ImageSet, tmp_path: Path
) -> None:
    assert "1" in [row.get("missing") for row in rows_of(with_a_death)]
    folders = [folder_at(lab, client, run=1) for client in range(CLIENTS)]
    assert len({read_manifest(folder).model_hash for folder in folders}) == 1
    Image.fromarray(digits.test_images[digits.test_labels == 4][0, 0]).save(tmp_path / "four.png")
    addresses = [free_address() for _ in folders]
    connect = [word for address in addresses for word in ("--connect", address)]
    with ExitStack() as open_:
        for folder, address in zip(folders, addresses, strict=True):
            node = open_.enter_context(
                running(
                    *("serve", folder, "--listen", address, "--insecure"),
                    *(("--connect", addresses[0]) if address != addresses[0] else ()),
                    program=AIRMOE_CORE,
                )
            )
            node.wait_for_line("serving expert")
        told = ended(
            "predict",
            tmp_path / "four.png",
            "--client",
            folders[0],
            "--insecure",
            *connect,
            program=AIRMOE_CORE,
        )
    assert (told.returncode, told.stderr) == (0, "")
    assert "4" in told.stdout.splitlines()[0] + told.stdout.splitlines()[1]


def test_a_stock_supernode_takes_part_as_any_other_node(
    lab: Lab, few_rounds: Path, in_the_loop: Path
) -> None:
    settings, out, folder = lab.folder / "stock.toml", lab.folder / "stock", lab.folder / "stock-node"
    settings.write_text(few_rounds.read_text().replace("true", "false"))
    lab.stop("node-2")
    with stock_supernode(lab, 2, folder):
        run = begun(lab, settings, out, minimum=CLIENTS)
        run.wait(RUN_TAKES_S)
    lab.start_node(2)
    assert out.exists(), run.output
    for name in ("extractor.safetensors", "gate.safetensors"):
        assert sha256_of(out / "shared" / name) == sha256_of(in_the_loop / "shared" / name)
    (expert,) = folder.glob(f"*/{FOLDER}/expert-2.safetensors")
    assert sha256_of(expert) == sha256_of(client_folders(in_the_loop)[2] / "expert-2.safetensors")


def test_a_node_that_comes_late_trains_its_expert_and_takes_part(lab: Lab, few_rounds: Path) -> None:
    """The last one: another seed is another run, so what it kept of others is of no use to it."""
    settings, out = lab.folder / "late.toml", lab.folder / "late"
    settings.write_text("seed = 7\n" + few_rounds.read_text().replace("true", "false"))
    lab.kill("node-2")
    run = begun(lab, settings, out, minimum=2, timeout_s=60.0)
    run.wait_for_line("experts: 2 of")
    lab.start_node(2)
    run.wait(RUN_TAKES_S)
    missing = {f"{row['stage']} {row['round']}": row.get("missing", "") for row in rows_of(out)}
    assert missing["experts 1"] == "2"
    assert missing["gate 2"] == ""
    assert (folder_at(lab, 2, run=-1) / "manifest.json").exists()


def test_the_command_of_a_run_names_no_secret(lab: Lab) -> None:
    provenance = json.loads((lab.folder / "out" / "run.json").read_text(encoding="utf-8"))
    assert provenance["command"] == ["flwr-serverapp"]


def test_a_run_without_settings_is_refused_by_name(lab: Lab) -> None:
    process: subprocess.Popen[str] = lab.begin_run({"out": str(lab.folder / "none")})
    said, _ = process.communicate(timeout=120.0)
    assert "config is ''; expected a path, in --run-config" in said
