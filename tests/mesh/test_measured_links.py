"""Links are measured by a client's own messages, and choose: real nodes, over links that are emulated."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError, MeshError
from airmoe.links import EmulatedLinks, Links, Ofdma, RecordedLinks
from airmoe.mesh import MeasuredLinks, MeshClient, Node
from airmoe.mesh.keys import asked_key, link_key
from airmoe.mesh.link_meter import LinkMeasure, LinkMeter
from airmoe.mesh.measured_links import CHANNEL_HZ, LINKS_FOR_S, MOST_BITS_PER_HZ
from airmoe.mesh.probing import LARGE_BYTES
from airmoe.scheduling import Des
from tests.mesh.ports import free_address
from tests.mesh.steering import LONG_S, answer_to, counts, prefer, wait_until
from tests.threads import started_since_now

SLOW_BPS, QUICK_BPS = 4e6, 50e6
NODES = 4
RADIO = Ofdma(subcarriers=1, subcarrier_hz=CHANNEL_HZ, shared=False)


def air(**slow: float) -> Links:
    """Links of 50 Mbit/s between all, but for those of node 0 to others that are named: ``to_2=4e6``."""
    rate_NN = np.full((NODES, NODES), QUICK_BPS)
    for name, rate_bps in slow.items():
        node = int(name.removeprefix("to_"))
        rate_NN[0, node] = rate_NN[node, 0] = rate_bps
    with np.errstate(divide="ignore"):
        return Links.from_snr(10 * np.log10(np.exp2(rate_NN / CHANNEL_HZ) - 1), RADIO)


@pytest.fixture(scope="module")
def address(folders: list[Path]) -> Iterator[str]:
    """Of one of the nodes 1 to 3."""
    with ExitStack() as open_:
        seed = free_address()
        for folder in folders[1:]:
            open_.enter_context(Node(folder, seed if folder == folders[1] else free_address(), [seed]))
        yield seed


def client(
    folders: list[Path], address: str, emulated: EmulatedLinks | None, links: MeasuredLinks | None = None
) -> MeshClient:
    made = MeshClient(folders[0], [address], links=links or MeasuredLinks(), emulated=emulated)
    made.wait_for_nodes(NODES - 1, LONG_S)
    return made


def rates(asker: MeshClient) -> list[float]:
    measured = asker.measure_links(LONG_S)
    assert [each.node for each in measured] == [1, 2, 3]
    return [each.rate_bps or 0.0 for each in measured]


def test_the_rate_of_each_link_is_measured_as_it_is(folders: list[Path], address: str) -> None:
    with client(folders, address, EmulatedLinks([air(to_2=SLOW_BPS)], delay_s=0.02)) as asker:
        one, two, three = rates(asker)
        assert 0.6 * SLOW_BPS < two < 1.1 * SLOW_BPS
        assert min(one, three) > 1.5 * SLOW_BPS, "a busy machine is slower than these links"
        assert all(each.latency_s is not None and each.latency_s > 0.04 for each in asker.measure_links())


def test_the_links_that_a_policy_sees_are_those_that_were_measured(folders: list[Path], address: str) -> None:
    links = MeasuredLinks(power_w=2.0)
    with client(folders, address, EmulatedLinks([air(to_3=SLOW_BPS)]), links) as asker:
        good_db = 10 * np.log10(2**MOST_BITS_PER_HZ - 1)
        assert np.allclose(links.current().snr_db([0])[0, 1:], good_db), "good until they are measured"
        rates(asker)
        wait_until(lambda: links.current().snr_db([0])[0, 3] < 0)
        per_bit_j_NN = links.current().energy_per_bit_j(np.zeros((NODES, NODES), np.int64))
        assert per_bit_j_NN[0, 3] == pytest.approx(2.0 / SLOW_BPS, rel=0.4)
        assert links.current().snr_db([1])[0, 2] == -np.inf, "nobody here knows the links between others"
        assert links.current() is links.current()


def test_requests_alone_tell_that_a_link_became_slow_and_des_sends_less_over_it(
    folders: list[Path], address: str
) -> None:
    """Experts 1 and 2 are as good as each other; batches of 512 move elsewhere after two tries at most."""
    images, clock = np.zeros((512, 1, 32, 32), np.uint8), Clock()
    slots = [air(to_2=QUICK_BPS / 5), air(to_1=SLOW_BPS, to_2=QUICK_BPS / 5)]
    tries = []
    with client(folders, address, EmulatedLinks(slots, slot_s=10.0, clock=clock)) as asker:
        rates(asker)
        for clock.now_s in (0.0, 11.0, 12.0, 13.0, 14.0):
            answer = answer_to(asker, images, gate=prefer(0.02, 0.46, 0.46, 0.06), policy=Des(0.4, 1))
            tries.append(counts(answer.dispatched.arrived_TE))
            time.sleep(LINKS_FOR_S)
    assert tries[0] == tries[1] == [0, 512, 0, 0]
    assert tries[3] == tries[4] == [0, 0, 512, 0]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_static_links_go_on_choosing_the_slow_link(folders: list[Path], address: str) -> None:
    """What measuring is worth: without it the same batches stay."""
    images: NDArray[np.uint8] = np.zeros((64, 1, 32, 32), np.uint8)
    emulated = EmulatedLinks([air(to_1=SLOW_BPS)])
    with MeshClient(folders[0], [address], links=air(to_2=QUICK_BPS / 2), emulated=emulated) as asker:
        asker.wait_for_nodes(NODES - 1, LONG_S)
        for _ in range(3):
            answer = answer_to(asker, images, gate=prefer(0.02, 0.46, 0.46, 0.06), policy=Des(0.4, 1))
            assert counts(answer.dispatched.arrived_TE) == [0, 64, 0, 0]


def test_a_link_without_rate_loses_what_is_sent_and_the_query_goes_on(
    folders: list[Path], address: str
) -> None:
    with client(folders, address, EmulatedLinks([air(to_1=0.0)])) as asker:
        image = np.zeros((1, 1, 32, 32), np.uint8)
        answer = asker.predict(image, gate=prefer(0.05, 0.8, 0.1, 0.05), policy="topk:1", deadline_s=2.0)
        assert counts(answer.dispatched.arrived_TE)[1] == 0
        assert answer.degraded_T.all()
        wait_until(lambda: asker.measure_links(0.1)[0].unanswered > 0, LONG_S)
        assert asker.measure_links(0.1)[0].rate_bps is None


def test_all_lost_is_told_as_no_answer_and_a_client_that_is_closed_measures_nothing(
    folders: list[Path], address: str
) -> None:
    holding = started_since_now("airmoe air")
    asker = client(folders, address, EmulatedLinks([air()], loss=1.0))
    assert holding() == 1
    assert [each.rate_bps for each in asker.measure_links(0.1)] == [None] * 3
    asker.close()
    with pytest.raises(MeshError, match="closed"):
        asker.measure_links()
    wait_until(lambda: holding() == 0, LONG_S)


def test_a_link_that_nothing_is_sent_over_is_probed_while_the_client_is_used(
    folders: list[Path], address: str
) -> None:
    with client(folders, address, EmulatedLinks([air(to_2=SLOW_BPS)])) as asker:
        image = np.zeros((1, 1, 32, 32), np.uint8)
        answer_to(asker, image, gate=prefer(0.97, 0.01, 0.01, 0.01), policy="topk:1")  # at home
        wait_until(lambda: all(each.messages >= 2 for each in told(asker)), LONG_S)


def told(asker: MeshClient) -> list[LinkMeasure]:
    return [asker.layer.wire.meter.measure(node) for node in (1, 2, 3)]


def test_a_probe_that_is_too_large_is_refused(folders: list[Path], address: str) -> None:
    with client(folders, address, None) as asker:
        session, mesh = asker.layer.session, asker.manifest.mesh
        key = asked_key(link_key(mesh, 2), "anybody")
        answered = list(session.get(key, payload=bytes(LARGE_BYTES)))
        refused = list(session.get(key, payload=bytes(LARGE_BYTES + 1)))
        assert [reply.ok is not None for reply in answered] == [True]
        assert refused[0].err is not None
        assert b"expected at most 32768" in refused[0].err.payload.to_bytes()


def test_a_policy_that_decides_for_all_is_refused_over_measured_links(folders: list[Path]) -> None:
    with pytest.raises(InvalidInputError, match="a client measures its own links alone"):
        MeshClient(folders[0], [free_address()], links=MeasuredLinks(), policy="jesa:0.5:2")


def test_links_that_nobody_measures_and_those_of_another_client_are_refused(
    folders: list[Path], address: str
) -> None:
    with pytest.raises(MeshError, match="no client measures"):
        MeasuredLinks().current()
    links = MeasuredLinks()
    with client(folders, address, None, links), pytest.raises(MeshError, match="another client's already"):
        MeshClient(folders[0], [address], links=links)
    with pytest.raises(InvalidInputError, match="power_w"):
        MeasuredLinks(power_w=0.0)


def test_small_changes_leave_the_links_the_same_object() -> None:
    meter, links = LinkMeter(), MeasuredLinks()
    links.measured_by(meter, Ofdma(), NODES, 0)
    seen = []
    for rate_bps in (4e6, 4.1e6, 1e6):
        for _ in range(5):
            meter.answered(1, 64, 0, 0.001 + 8 * 64 / rate_bps)
            meter.answered(1, 32768, 0, 0.001 + 8 * 32768 / rate_bps)
        time.sleep(1.1 * LINKS_FOR_S)
        seen.append(links.current())
    assert seen[0] is seen[1] is not seen[2]


def test_a_client_with_other_links_measures_all_the_same(folders: list[Path], address: str) -> None:
    with MeshClient(folders[0], [address], links=RecordedLinks([air()])) as asker:
        asker.wait_for_nodes(NODES - 1, LONG_S)
        assert min(rates(asker)) > 0
