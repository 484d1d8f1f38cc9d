"""A link that becomes slow for real: hosts in network namespaces, and 4 Mbit/s to one of them.

Run with -s to see the figures.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from airmoe.data import ImageSet
from airmoe.runfolder import client_folders
from tests.system.hosts import NODE, Hosts, hosts, script, why_no_hosts

if TYPE_CHECKING:
    from airmoe.networked.config import NetworkedConfig

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts()),
]

HOSTS, ASKER, SLOW, OTHER = 4, 3, 1, 2
SLOW_MBIT, IMAGES = 4, 512

ASKING = """
from airmoe.mesh import MeasuredLinks
from airmoe.scheduling import Des

score_E = np.array([0.02, 0.46, 0.46, 0.06], np.float32)  # experts 1 and 2 are as good as each other
images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 32, 32)).astype(np.uint8)
with MeshClient(Path(folder), session=session, links=MeasuredLinks(), policy=Des(0.4, 1)) as client:
    client.wait_for_nodes(3, 30)
    client.measure_links()
    print("up", flush=True)
    ends = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ends.set()), daemon=True).start()
    while not ends.wait(0.2):
        begin_s = time.monotonic()
        answer = client.predict(images, gate=lambda payload_T, snr_db_TE: score_E[None].repeat(IMAGES, 0))
        told = [begin_s, answer.elapsed_s, *answer.dispatched.requested_TE.sum(axis=0).tolist()]
        print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, digits: ImageSet, tiny_config: "Callable[..., NetworkedConfig]"
) -> list[Path]:
    pytest.importorskip("torch")
    from airmoe.networked import train_run

    out = tmp_path_factory.mktemp("throttled") / "run"
    train_run(tiny_config(data={"clients": HOSTS}), digits, out)
    return client_folders(out)


@pytest.fixture
def joined(folders: list[Path], tmp_path: Path) -> Iterator[tuple[Hosts, Callable[[], Path]]]:
    """Hosts with a node on each but the last, and what starts the asker there."""
    with hosts(HOSTS) as made, ExitStack() as open_:
        for host in range(HOSTS - 1):
            out = tmp_path / f"{host}.txt"
            open_.enter_context(made.start(host, script(NODE), folders[host], out, [0] if host else []))
            until(lambda out=out: "up" in out.read_text())

        def ask() -> Path:
            out = tmp_path / "asker.txt"
            asking = script(ASKING).replace("IMAGES", str(IMAGES))
            open_.enter_context(made.start(ASKER, asking, folders[ASKER], out, [0]))
            until(lambda: "up" in out.read_text())
            return out

        yield made, ask


def until(happened: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)


def batches(out: Path) -> list[list[float]]:
    """When each batch began, how long it took, and the items that each expert was asked about."""
    whole = out.read_text()[: out.read_text().rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("[")]


def test_batches_of_512_images_leave_a_link_that_became_slow_after_two_tries_at_most(
    joined: tuple[Hosts, Callable[[], Path]],
) -> None:
    made, ask = joined
    out = ask()
    until(lambda: len(batches(out)) >= 5)
    slow = SLOW if batches(out)[-1][2 + SLOW] else OTHER  # they are as good as each other: either
    made.throttle(slow, SLOW_MBIT)
    throttled_s = time.monotonic()

    def later() -> list[list[float]]:
        return [each for each in batches(out) if each[0] > throttled_s]

    until(lambda: len(later()) >= 30)
    before_s = np.median([each[1] for each in batches(out)[2:5]])
    after_s = [each[1] for each in later()]
    tries = [number for number, each in enumerate(later(), 1) if each[2 + slow]]
    print(f"\n{IMAGES} images a batch, {SLOW_MBIT} Mbit/s to a node: it was sent batches {tries} of 30")
    print(f"a batch took {before_s * 1e3:.0f} ms before; then {after_s[0] * 1e3:.0f}, {after_s[1] * 1e3:.0f}")
    print(f"and {np.median(after_s[2:]) * 1e3:.0f} ms from the third on")
    waited = [number for number, took_s in enumerate(after_s, 1) if took_s > 8 * IMAGES * 200 / 4e6]
    assert len(waited) <= 2
    assert tries[-1] < 15, "trials while the first batch is on its way"
