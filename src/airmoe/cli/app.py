"""The ``airmoe`` command: all groups of commands, and one line for a user's error."""

import logging
import signal
import sys
from typing import NoReturn

# Loaded here, because from ten imports deeper it takes 20 ms more: CPython maps its stack in pieces of
# 16 KiB, and where the end of a piece lies just above NumPy, each of its calls maps and unmaps memory.
import numpy  # noqa: F401
import typer

from airmoe.cli.asking import predict
from airmoe.cli.serving import serve
from airmoe.cli.study import study
from airmoe.cli.training import demo, train
from airmoe.errors import AirmoeError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # what stands in brackets is text
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and run a mixture of experts whose experts live on different devices joined by a network.",
)
for command in (demo, train, serve, predict):
    app.command()(command)
app.add_typer(study, name="study")


def main() -> None:
    """Run the command line; a user's error gives one line and exit status 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("airmoe").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        status = app(standalone_mode=False)
    except AirmoeError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}; expected to be able to use it")
    except typer.TyperException as error:
        if not error.format_message():  # no command: the help was printed instead
            sys.exit(2)
        _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"airmoe: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _interrupt(*_: object) -> None:
    # Objects that are half built now (Numba's, while it loads) fail to clean up; no user can act on that.
    sys.unraisablehook = lambda _: None
    raise KeyboardInterrupt
