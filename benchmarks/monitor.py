"""What the page of `airmoe monitor` takes: share of a core, of the process that serves it and of its browser.

    python benchmarks/monitor.py [--nodes 32] [--clients 2] [--seconds 20] [--rounds 3]

Each node is a process; so is each client, which asks twice a second about four digits. One Chromium shows
the page, without a graphics card. The floor is the same process while nobody watches.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from airmoe.data import load_images
from airmoe.mesh.fleet import NodeFleet
from airmoe.networked import train_run
from airmoe.networked.config import parse_config
from airmoe.runfolder import client_folders

SETTLES_S = 12.0
SHORT = """
data.clients = {clients}
model.expert_hidden = 8
features.rounds = 2
experts.epochs = 1
gate.rounds = 2
links.subcarriers = 1024
"""
CLIENT = """
import sys, time
from pathlib import Path
import numpy as np
from airmoe.mesh import MeshClient, local_identity

folder, address, nodes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with MeshClient(folder, [address], policy="topk:2", identity=local_identity(folder)) as client:
    client.wait_for_nodes(nodes, 60)
    random = np.random.default_rng(client.manifest.node)
    while True:
        client.predict(random.integers(0, 255, (4, 1, 32, 32), np.uint8))
        time.sleep(0.5)
"""


def cpu_s(pid: int) -> float:
    """Return the seconds of computing of a process, and of all that it started."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def shares(pids: list[int], seconds: float) -> list[float]:
    before, begin_s = [cpu_s(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    passed_s = time.monotonic() - begin_s
    return [(cpu_s(pid) - was_s) / passed_s for pid, was_s in zip(pids, before, strict=True)]


@contextmanager
def monitor(folder: Path, address: str) -> Iterator[tuple[int, str]]:
    """Yield process and page."""
    command = [sys.executable, "-m", "airmoe.cli", "monitor", str(folder), "--connect", address]
    with subprocess.Popen([*command, "--timeout-s", "60"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def told(name: str, measured: list[float]) -> None:
    low, middle, high = np.quantile(measured, (0.0, 0.5, 1.0))
    print(f"{name:<34} {middle:6.2%} of a core ({low:.2%} to {high:.2%})", flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    chromium = shutil.which("chromium")
    assert chromium is not None, "there is no chromium on PATH"
    with ExitStack() as open_:
        run = Path(open_.enter_context(tempfile.TemporaryDirectory())) / "run"
        config = parse_config(SHORT.format(clients=asked.nodes), "a short run")
        train_run(config, load_images("digits"), run)
        folders = client_folders(run)
        fleet = open_.enter_context(NodeFleet(folders))
        pid, url = open_.enter_context(monitor(folders[0], fleet.addresses[0]))
        chrome = open_.enter_context(sync_playwright()).chromium
        browser = chrome.launch(executable_path=chromium, args=["--no-sandbox"])
        open_.callback(browser.close)
        browsers = [each.pid for each in psutil.Process().children() if "node" in each.name()]

        def measure() -> list[list[float]]:
            return [shares([pid, *browsers], asked.seconds) for _ in range(asked.rounds)]

        time.sleep(SETTLES_S)
        print(f"{asked.nodes} nodes")
        told("nobody watches", [each[0] for each in measure()])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_selector("#topology .node")
        time.sleep(SETTLES_S)
        quiet = measure()
        told("a browser watches, no queries", [each[0] for each in quiet])
        told("  the browser itself", [sum(each[1:]) for each in quiet])
        for folder in folders[1 : 1 + asked.clients]:
            words = [sys.executable, "-c", CLIENT, str(folder), fleet.addresses[0], str(asked.nodes)]
            open_.callback(subprocess.Popen(words).kill)
        time.sleep(SETTLES_S)
        busy = measure()
        requests = page.inner_text("#requests")
        told(f"{asked.clients} clients, {requests}", [each[0] for each in busy])
        told("  the browser itself", [sum(each[1:]) for each in busy])


if __name__ == "__main__":
    main()
