"""The ``airmoe`` command: all groups of commands, and one line for a user's error."""

import codecs
import os
import sys
import traceback
from io import TextIOWrapper
from typing import NoReturn

# Loaded here, because from ten imports deeper it takes 20 ms more: CPython maps its stack in pieces of
# 16 KiB, and where the end of a piece lies just above NumPy, each of its calls maps and unmaps memory.
import numpy  # noqa: F401
import typer
import typer.core

from airmoe.cli import end
from airmoe.cli.asking import predict
from airmoe.cli.bare import HELP_OPTIONS, explain_airmoe
from airmoe.cli.certificates import cert, roster
from airmoe.cli.evaluation import evaluate
from airmoe.cli.flower import flower
from airmoe.cli.generating import generate
from airmoe.cli.interrupts import hear_interrupts, was_interrupted
from airmoe.cli.links import links
from airmoe.cli.logs import begin_log
from airmoe.cli.merging import merge
from airmoe.cli.monitoring import monitor
from airmoe.cli.packing import pack
from airmoe.cli.serving import serve
from airmoe.cli.status import status
from airmoe.cli.study import study
from airmoe.cli.training import demo, train
from airmoe.cli.usage import WrongUsage, line_about_usage
from airmoe.trouble import line_about

BUG = "this is a bug, in airmoe or in a part of your own; please report it with all lines above"

SHOWN = {"µ": "u", "±": "~"}
"""What stands for a character that a terminal cannot show; a question mark for all others."""

# Typer escapes brackets for Rich, which shows none of its help here.
typer.core.HAS_RICH = False

app = typer.Typer(
    callback=explain_airmoe,
    invoke_without_command=True,
    context_settings=HELP_OPTIONS,
    rich_markup_mode=None,  # what stands in brackets is text
    pretty_exceptions_enable=False,
)
for command in (demo, train, evaluate, serve, predict, generate, status, links, monitor, pack, merge):
    app.command()(command)
app.add_typer(study, name="study")
app.add_typer(flower, name="flower")
app.add_typer(cert, name="cert")
app.add_typer(roster, name="roster")


def main() -> None:
    """Run the command line; a user's error gives one line and exit status 2, a bug its traceback and 1."""
    _write_what_the_streams_can_show()
    begin_log()
    hear_interrupts()
    try:
        status = app(prog_name="airmoe", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        end(130)
    except BrokenPipeError:  # who reads this, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if was_interrupted():
            end(130)
        _fail(error)
    end(status if isinstance(status, int) else 0)


def _fail(error: Exception) -> NoReturn:
    line = line_about_usage(error) if isinstance(error, WrongUsage) else line_about(error)
    if line is None:
        traceback.print_exception(error)
    print(f"airmoe: {line or BUG}", file=sys.stderr)
    sys.exit(1 if line is None else 2)


def _write_what_the_streams_can_show() -> None:
    """Let a terminal that knows few characters show others as "u" for micro and "?"."""
    codecs.register_error("airmoe", _shown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="airmoe")


def _shown(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    unknown = error.object[error.start : error.end]
    return "".join(SHOWN.get(character, "?") for character in unknown), error.end
