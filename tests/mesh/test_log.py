"""The mesh logs one line a second of each kind about each peer, and says how many it left out."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from airmoe.mesh.log import MOST_LOG_LINES, PEER_NAME_LENGTH, OneLineASecond, about, about_node, mesh_log


class Watched:
    """A logger with the filter, by a clock of the test's own; ``lines`` are what came."""

    def __init__(self) -> None:
        self.now_s, self.records = 0.0, list[logging.LogRecord]()
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.filter = OneLineASecond(self.records.append, lambda: self.now_s, self._later)
        self.logger = logging.Logger("of a test")
        self.logger.addFilter(self.filter)
        handler = logging.Handler()
        handler.emit = self.records.append  # type: ignore[method-assign]
        self.logger.addHandler(handler)

    def warn(self, template: str, *values: object, peer: str | None = None) -> None:
        self.logger.warning(template, *values, extra=about(peer) if peer else None)

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self.now_s += seconds
        for due_s, call in [each for each in self.due if each[0] <= self.now_s]:
            self.due.remove((due_s, call))
            call()

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def _later(self, after_s: float, call: Callable[[], None]) -> None:
        self.due.append((self.now_s + after_s, call))


@pytest.fixture
def log() -> Watched:
    return Watched()


def test_the_first_line_comes_at_once(log: Watched) -> None:
    log.warn("refused a request of %s: %s", "0-ab", "too late", peer="0-ab")
    assert log.lines == ["refused a request of 0-ab: too late"]


def test_within_a_second_the_last_one_comes_with_the_number_of_the_others(log: Watched) -> None:
    for number in range(14):
        log.warn("refused %d", number, peer="0-ab")
    assert log.lines == ["refused 0"]
    log.pass_s(1.0)
    assert log.lines == ["refused 0", "refused 13 (and 12 more like this)"]
    assert [record.__dict__.get("left_out") for record in log.records] == [None, 12]


def test_a_single_line_that_was_held_comes_as_it_is(log: Watched) -> None:
    log.warn("refused %d", 0, peer="0-ab")
    log.warn("refused %d", 1, peer="0-ab")
    log.pass_s(1.0)
    assert log.lines == ["refused 0", "refused 1"]


def test_a_flood_gives_a_line_a_second_and_every_message_is_counted(log: Watched) -> None:
    for _ in range(3000):
        log.warn("refused", peer="0-ab")
        log.pass_s(0.001)
    log.pass_s(1.0)
    assert len(log.lines) == 4
    assert sum(1 + record.__dict__.get("left_out", 0) for record in log.records) == 3000


def test_a_second_later_the_next_line_comes_at_once(log: Watched) -> None:
    log.warn("refused", peer="0-ab")
    log.pass_s(1.0)
    log.warn("refused", peer="0-ab")
    assert log.lines == ["refused", "refused"]


def test_a_line_after_held_ones_counts_them_where_nothing_else_told_of_them(log: Watched) -> None:
    for _ in range(3):
        log.warn("refused", peer="0-ab")
    log.now_s += 1.5  # and the other thread has not come to it
    log.warn("refused", peer="0-ab")
    assert log.lines == ["refused", "refused (and 2 more like this)"]
    log.pass_s(5.0)
    assert len(log.lines) == 2


def test_peers_and_kinds_do_not_hold_each_other_back(log: Watched) -> None:
    for peer in ("0-ab", "1-cd"):
        for kind in ("refused", "sent a bad reply"):
            log.warn(kind, peer=peer)
    assert len(log.lines) == 4


def test_lines_about_no_peer_all_come(log: Watched) -> None:
    for _ in range(3):
        log.warn("a file is damaged")
    assert log.lines == ["a file is damaged"] * 3


def test_at_the_end_of_the_process_nothing_is_held_any_longer(log: Watched) -> None:
    for _ in range(3):
        log.warn("refused", peer="0-ab")
    log.filter.tell_held(at_end=True)
    assert log.lines == ["refused", "refused (and 1 more like this)"]


def test_invented_names_share_a_line_of_each_kind_and_are_counted(log: Watched) -> None:
    for number in range(10 * MOST_LOG_LINES):
        log.warn("refused", peer=f"invented-{number}")
    log.pass_s(1.0)
    assert len(log.lines) == MOST_LOG_LINES + 2
    assert log.lines[-1] == f"refused (and {9 * MOST_LOG_LINES - 2} more like this, of several peers)"


def test_names_that_were_invented_long_ago_are_forgotten(log: Watched) -> None:
    for number in range(10 * MOST_LOG_LINES):
        log.warn("refused", peer=f"invented-{number}")
    for _ in range(3):
        log.pass_s(1.0)
    log.warn("refused", peer="0-ab")
    log.warn("refused", peer="0-ab")
    log.pass_s(1.0)
    assert log.lines[-2:] == ["refused", "refused"]
    assert len(log.filter._lines) == 1


def test_what_a_peer_sends_cannot_begin_a_line_of_its_own(log: Watched) -> None:
    log.warn("refused: %s", "no\n2026 ERROR all is lost\x1b[2J", peer="0-ab")
    log.warn("damaged: %s", "a\nb")
    assert log.lines == ["refused: no\\n2026 ERROR all is lost\\x1b[2J", "damaged: a\\nb"]


def test_a_held_line_keeps_nothing_that_a_peer_sent(log: Watched) -> None:
    for _ in range(2):
        try:
            raise ValueError("of a large request")
        except ValueError:
            log.logger.exception("failed: %s", object(), extra=about_node(3))
    log.pass_s(1.0)
    first, held = log.records
    assert first.exc_info
    assert (held.exc_info, held.args) == (None, None)


def test_the_log_of_the_mesh_is_limited_and_nothing_else_is_set_up() -> None:
    script = (
        "import logging, airmoe.mesh\n"
        "loggers = [logging.getLogger(name) for name in ('', 'airmoe', 'airmoe.mesh')]\n"
        "print([(each.handlers, each.level, len(each.filters)) for each in loggers])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == f"[([], {logging.WARNING}, 0), ([], 0, 0), ([], 0, 1)]\n"


def test_what_is_held_when_a_process_ends_is_told() -> None:
    script = (
        "from airmoe.mesh.log import about, mesh_log\n"
        "for number in range(5): mesh_log.warning('refused %d', number, extra=about('0-ab'))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stderr.splitlines() == ["refused 0", "refused 4 (and 3 more like this)"]


@pytest.fixture
def limited() -> Iterator[list[str]]:
    """The lines of the mesh's own log."""
    lines = list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    mesh_log.addHandler(handler)
    yield lines
    mesh_log.removeHandler(handler)


def test_held_lines_come_by_themselves(limited: list[str]) -> None:
    from tests.mesh.steering import wait_until

    for number in range(5):
        mesh_log.warning("of this test: %d", number, extra=about("0-ab"))
    wait_until(lambda: len(limited) == 2)
    assert limited == ["of this test: 0", "of this test: 4 (and 3 more like this)"]


def test_a_name_is_told_as_far_as_an_honest_one_goes() -> None:
    zenoh_id_digits, node_digits = 32, 6
    assert node_digits + len("-") + zenoh_id_digits <= PEER_NAME_LENGTH


def test_a_line_may_be_counted_alone_while_one_of_its_kind_is_held(log: Watched) -> None:
    assert not log.filter.counts("0-ab", "refused %d"), "none was told yet"
    log.warn("refused %d", 0, peer="0-ab")
    assert not log.filter.counts("0-ab", "refused %d"), "none is held that could tell the number"
    log.warn("refused %d", 1, peer="0-ab")
    assert [log.filter.counts("0-ab", "refused %d") for _ in range(5)] == [True] * 5
    assert not log.filter.counts("1-cd", "refused %d"), "of another peer"
    log.pass_s(1.0)
    assert log.lines == ["refused 0", "refused 1 (and 5 more like this)"]
    assert not log.filter.counts("0-ab", "refused %d")
