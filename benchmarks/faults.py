"""What a mesh of real processes does while its nodes vanish, freeze, hang, slow down, lie or are overloaded.

    python benchmarks/faults.py RUN_FOLDER [TOPIC ...] [--minutes 10]

Topics are honesty, slow, overload, greedy, service, large, soak and growth. It needs a run of 10 clients
(``airmoe train``). Without a topic it does all: in a quarter of an hour, and the soak's 10 minutes. Every
topic prints rows of one table: what was measured, the goal, and whether it was met. Phases with a fault stand
between phases without it, so that a busy machine shifts both alike; times want a quiet machine all the same.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from airmoe.data import ImageSet, load_images

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from tests.system.faults.growth import at_size, rates, run_of  # noqa: E402
from tests.system.faults.honesty import LIES, half_gone, lied_to, other_weights  # noqa: E402
from tests.system.faults.large import large  # noqa: E402
from tests.system.faults.overload import BURDEN_S, full_queue, greed, overload  # noqa: E402
from tests.system.faults.service import long_service  # noqa: E402
from tests.system.faults.slow_peers import first_query_to_a_frozen_node_s, hurried, slow_peers  # noqa: E402
from tests.system.faults.soak import soak  # noqa: E402

PHASE_S = 5.0
GONE = (1, 3, 5, 7, 9)


class Figure(NamedTuple):
    """A row of a table; ``met`` is None where no goal is set."""

    what: str
    value: str
    goal: str = ""
    met: bool | None = None


class Bench(NamedTuple):
    """What the topics measure on."""

    run: Path
    digits: ImageSet
    minutes: float


def honesty(bench: Bench) -> Iterator[Figure]:
    images_TCHW, label_T = bench.digits.test_images, bench.digits.test_labels
    for experts in (1, 2):
        before, after = half_gone(bench.run, images_TCHW, label_T, GONE, experts)
        up = before.lost_marked + before.whole_marked
        share = after.first_lost_marked / after.first_lost
        false = after.whole_marked + after.false
        policy = f"top-{experts}"
        yield Figure(f"{policy}, all up: marked of {before.answers}", str(up), "0", up == 0)
        yield Figure(
            f"{policy}, 5 of 10 gone: marked of {after.first_lost} without their first choice",
            f"{share:.1%}",
            "95 %",
            share >= 0.95,
        )
        yield Figure(f"{policy}, 5 of 10 gone: wrongly marked, or not as said", str(false), "0", false == 0)
        counts = f"{after.answers - after.lost} unmarked, {after.lost} marked answers"
        right = f"{after.right_unmarked:.3f}, {after.right_marked:.3f}"
        yield Figure(f"{policy}, 5 of 10 gone: accuracy of {counts}", right)
    for lie in LIES:
        lied = lied_to(bench.run, images_TCHW[:50], lie)
        what = f"liar of weight 0.001, {lie}: changed of {lied.answers}"
        yield Figure(what, f"{lied.changed} ({lied.marked} marked)", "0", lied.changed == 0)
    with tempfile.TemporaryDirectory() as scratch:
        found = other_weights(bench.run, Path(scratch), images_TCHW[:20])
    named = all(name in " ".join(found.said) for name in found.hashes)
    what = f"other weights under a key: heard in {found.answers} answers"
    value = f"{found.came}, {'both' if named else 'not'} named"
    yield Figure(what, value, "0, both named", named and not found.came)


def slow(bench: Bench) -> Iterator[Figure]:
    for policy in ("topk:1", "topk:2"):
        for fault, slowed in slow_peers(bench.run, bench.digits.test_images, PHASE_S, policy).items():
            slowest_s, ratio, what = slowed.slowest_s, slowed.rate_ratio, f"{policy}, {fault}"
            rates_of = (np.median([pace.rate for pace in each]) for each in (slowed.faulty, slowed.healthy))
            value = f"{ratio:.0%} ({' beside '.join(f'{rate:.0f}' for rate in rates_of)} a second)"
            yield Figure(f"{what}: slowest query", f"{slowest_s * 1e3:.0f} ms", "100 ms", slowest_s < 0.1)
            yield Figure(f"{what}: throughput", value, "80 %", ratio >= 0.8)
    found = hurried(bench.run, bench.digits.test_images)
    met = found.trusted_before == found.trusted_after
    value = f"{found.trusted_before}, {found.trusted_after}"
    yield Figure("who can be asked before and after 200 deadlines of 5 ms", value, "the same", met)
    for others_known, asker in (
        (True, "a client that knows the others"),
        (False, "a client that knows none"),
    ):
        cold_s = first_query_to_a_frozen_node_s(
            bench.run, bench.digits.test_images, others_known=others_known
        )
        yield Figure(f"first query to a node that is frozen, of {asker}", f"{cold_s * 1e3:.0f} ms")


def overloaded(bench: Bench) -> Iterator[Figure]:
    full = sorted(full_queue(bench.run, 8, 500).refused_s)
    median_s, late_s = full[len(full) // 2], full[int(0.99 * len(full))]
    value = f"{median_s * 1e3:.1f} ms, {late_s * 1e3:.1f} ms"
    yield Figure("one request too many is refused: p50, p99", value, "10 ms", late_s < 0.01)
    for items in BURDEN_S:
        found = overload(bench.run, items, PHASE_S)
        what = f"{items} images, {found.sent_at_3:.1f} times {found.capacity:.0f} requests a second"
        yield Figure(f"{what}: goodput, of that at once", f"{found.kept:.0%}", "80 %", found.kept >= 0.8)
        yield Figure(f"{what}: more memory", f"{found.more_mb:.0f} MB", "50 MB", found.more_mb <= 50)
        came = ", ".join(f"{share:.0%} {what}" for what, share in sorted(found.came_at_3.items()))
        yield Figure(f"{what}: what became of them", came)
        soon_ms = [f"{seconds * 1e3:.1f} ms" for seconds in found.overloaded_s]
        value = ", ".join(soon_ms) if found.came_at_3.get("overloaded") else "none"
        yield Figure(f"{what}: refused as overloaded, p50, p99", value)


def greedy(bench: Bench) -> Iterator[Figure]:
    for images in (1, 64):
        found = greed(bench.run, bench.digits.test_images[:images], PHASE_S)
        what = f"{images} images: the worst of 3 clients keeps beside a greedy one"
        alone, beside = (f"{min(each):.0f}" for each in (found.alone, found.beside))
        yield Figure(
            what, f"{found.least_kept:.0%} ({alone} to {beside} a second)", "50 %", found.least_kept >= 0.5
        )


def service(bench: Bench) -> Iterator[Figure]:
    found = long_service(bench.run, bench.digits.test_images)
    what = f"{found.queries:,} queries, 3 killed, 2 frozen, all back"
    late, false = found.unanswered + found.late, found.whole_marked + found.false
    for name, value, count in (
        ("unanswered, late", f"{found.unanswered}, {found.late}", late),
        (f"unmarked of {found.lost} that lack an expert", str(found.lost_unmarked), found.lost_unmarked),
        ("wrongly marked, or not as said", str(false), false),
        ("marked in the last twentieth", str(found.marked_last), found.marked_last),
    ):
        yield Figure(f"{what}: {name}", value, "0", not count)
    yield Figure(f"{what}: slowest; rate", f"{found.slowest_s * 1e3:.0f} ms; {found.rate:.0f} a second")


def large_batches(bench: Bench) -> Iterator[Figure]:
    for images in (5_000, 10_000, 20_000, 40_000):
        for policy in ("topk:2", "all"):
            found = large(bench.run, images, policy)
            how = "answered" if found.answered else "refused"
            value = f"{how} in {found.took_s:.2f} s, {found.marked:.0%} marked, {found.more_mb:.0f} MB more"
            met = found.took_s < (2.2 if found.answered else 0.5)
            yield Figure(f"{images:,} images, deadline 2 s, {policy}", value, "2.2 s, or refused in 0.5", met)


def soaked(bench: Bench) -> Iterator[Figure]:
    found = soak(bench.run, bench.digits.test_images, 60 * bench.minutes)
    what = f"{bench.minutes:g} minutes, {found.queries:,} queries"
    per = "MB for each 10,000"
    yield Figure(f"{what}: client", f"{found.client_mb:+.2f} {per}", "1", found.client_mb < 1)
    yield Figure(f"{what}: node that grows most", f"{found.node_mb:+.2f} {per}", "1", found.node_mb < 1)
    yield Figure(f"{what}: more descriptors", str(found.descriptors), "0", found.descriptors <= 0)


def growth(bench: Bench) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for nodes in (2, 4, 8, 16, 32):
            found = at_size(run_of(nodes, Path(folder)), 500)
            value = ", ".join(f"top-{experts} {p50:.2f} ms" for experts, p50 in found.p50_ms.items())
            yield Figure(f"{nodes} nodes of small networks: p50", value)
    for clients, rate in rates(bench.run, bench.digits.test_images, PHASE_S).items():
        yield Figure(f"{clients} client processes, top-2", f"{rate:.0f} a second")


TOPICS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "honesty": honesty,
    "slow": slow,
    "overload": overloaded,
    "greedy": greedy,
    "service": service,
    "large": large_batches,
    "soak": soaked,
    "growth": growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("topics", nargs="*", metavar="topic", help=", ".join(TOPICS))
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    arguments = parser.parse_args()
    if unknown := set(arguments.topics) - set(TOPICS):
        parser.error(f"topic is {unknown.pop()}; expected one of {', '.join(TOPICS)}")
    logging.getLogger("airmoe.mesh").addHandler(logging.NullHandler())
    bench = Bench(arguments.run_folder, load_images("digits"), arguments.minutes)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| what | measured | goal | met |\n|---|---|---|---|")
    for topic in arguments.topics or TOPICS:
        for figure in TOPICS[topic](bench):
            met = "" if figure.met is None else "yes" if figure.met else "**no**"
            print(f"| {figure.what} | {figure.value} | {figure.goal} | {met} |", flush=True)


if __name__ == "__main__":
    main()
