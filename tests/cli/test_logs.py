"""The log of a command: short, with time and level, or JSON."""

import json
import logging
import re
import sys
from datetime import datetime

import pytest

from airmoe.cli.logs import AsJson, InFull, json_of_node
from tests.system.commands import ended

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def record(message: str, *values: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("airmoe.mesh", logging.WARNING, __file__, 1, message, values, None)
    made.__dict__.update(more)
    return made


def test_in_full_a_line_has_time_with_its_zone_level_and_message() -> None:
    line = InFull().format(record("refused a request of %s: %s", "0-ab", "too late"))
    assert re.fullmatch(rf"{TIME} WARNING refused a request of 0-ab: too late", line)


def test_as_json_a_line_has_time_level_message_peer_and_how_many_were_left_out() -> None:
    line = AsJson().format(record("refused", peer="0-ab", left_out=12))
    told = json.loads(line)
    assert datetime.fromisoformat(told.pop("time")).tzinfo
    assert told == {"level": "WARNING", "message": "refused", "peer": "0-ab", "left_out": 12}


def test_as_json_a_line_leaves_out_what_it_does_not_know() -> None:
    assert set(json.loads(AsJson().format(record("a file is damaged")))) == {"time", "level", "message"}


def test_as_json_an_error_has_its_traceback_and_the_line_stays_one() -> None:
    failed = record("a request failed\nbadly")
    try:
        raise ValueError("no")
    except ValueError:
        failed.exc_info = sys.exc_info()
    line = AsJson().format(failed)
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: no")


def test_a_node_of_several_is_named_in_its_json() -> None:
    assert json_of_node(3, '{"level": "INFO"}') == '{"node": 3, "level": "INFO"}'


@pytest.mark.parametrize("line", ["serving expert 3", "3", "[]", ""])
def test_what_a_node_says_beside_its_log_is_no_json(line: str) -> None:
    assert json_of_node(3, line) is None


SCRIPT = """
from airmoe.cli import app
from airmoe.cli.logs import log_as
import logging
def command(**options):
    {set_up}
    logging.getLogger("airmoe.data").info("two images are damaged")
    logging.getLogger("another").info("never told")
app.app = command
app.main()
"""


@pytest.mark.parametrize(
    ("set_up", "lines"),
    [
        ("pass", r"two images are damaged\n"),
        ("log_as('short')", r"two images are damaged\n"),
        ("log_as('full')", rf"{TIME} INFO two images are damaged\n"),
        ("log_as('json')", rf'{{"time": "{TIME}", "level": "INFO", "message": "two images are damaged"}}\n'),
    ],
)
def test_a_command_logs_in_short_unless_it_says_otherwise(set_up: str, lines: str) -> None:
    told = ended("-c", SCRIPT.format(set_up=set_up), program=[sys.executable])
    assert told.returncode == 0
    assert re.fullmatch(lines, told.stderr)


def test_another_form_is_refused() -> None:
    told = ended("serve", "nowhere", "--log", "xml")
    assert told.returncode == 2
    assert re.fullmatch(r"airmoe: .*'xml'.*'short', 'full', 'json'.*\n", told.stderr)
