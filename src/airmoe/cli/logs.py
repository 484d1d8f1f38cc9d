"""How the command line writes its log: the message alone, a line with time and level, or a JSON object."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import typer

LogForm = Literal["short", "full", "json"]

LogOption = Annotated[
    LogForm,
    typer.Option(
        "--log",
        help="How the log is written to standard error: the messages alone, with time and level, or as JSON "
        "objects with time, level, message and peer.",
    ),
]


def begin_log() -> None:
    """Log to standard error, in short; what other libraries say only from warnings on."""
    log_as("short")
    logging.basicConfig(handlers=[_handler], level=logging.WARNING)
    logging.getLogger("airmoe").setLevel(logging.INFO)


def log_as(form: LogForm) -> None:
    """Write the log in this form from now on."""
    _handler.setFormatter(_FORMATTERS[form]())


class InFull(logging.Formatter):
    """A record in a line: time, level, message; below it the traceback, if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time with its distance from UTC."""
        return _time(record)


class AsJson(logging.Formatter):
    """A record as a JSON object in a line.

    ``time``, ``level``, ``message``; ``peer`` whom it is about; ``left_out`` how many lines like it did not
    come; ``traceback`` of an error.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told = {"time": _time(record), "level": record.levelname, "message": record.getMessage()}
        told |= {name: getattr(record, name) for name in ("peer", "left_out") if hasattr(record, name)}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def json_of_node(node: int, line: str) -> str | None:
    """Return a line that a node's process wrote as JSON, with the node's number; None for any other line."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return json.dumps({"node": node} | told) if isinstance(told, dict) else None


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


_FORMATTERS: dict[LogForm, Callable[[], logging.Formatter]] = {
    "short": logging.Formatter,
    "full": InFull,
    "json": AsJson,
}
_handler = logging.StreamHandler(sys.stderr)
