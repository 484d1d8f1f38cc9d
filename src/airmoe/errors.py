"""Every exception that airmoe raises on purpose.

AirmoeError
├── InvalidInputError      an argument, a configuration value or an option is wrong (also a ValueError)
├── MissingExtraError      packages are needed that are not installed; see `require`
├── DataError              a data set or an image is missing, truncated or has the wrong hash
├── RunFolderError         a checkpoint, manifest or model file of a run is missing, damaged or of another run
├── TrainingDivergedError  a loss is no longer finite
├── PluginError            a plugin cannot be loaded, or fails when it is called
└── MeshError              something between nodes went wrong
    ├── FrameError         a message is corrupt, oversized or of another protocol version
    ├── AddressError       an address is malformed, not loopback, or already in use
    ├── IdentityError      a certificate, key or roster is missing, damaged, over, or of somebody else
    ├── RefusedError       a node answered that it will not serve (wrong model, overloaded, too late)
    ├── NotScheduledError  no scheduler decided on the items of a slot
    ├── DeadlineError      a query is too large to be answered before its deadline
    ├── NoNodeReachableError  no node of the mesh was found before the deadline
    └── NoExpertReachedError  no expert answered and the source has none of its own

The command line prints the message of any of these as one line and exits with status 2.
"""

import json
import shlex
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

MOST_SHOWN = 300
"""How many characters of a wrong value a message shows."""


class AirmoeError(Exception):
    """Base class of everything that airmoe raises on purpose."""


class InvalidInputError(AirmoeError, ValueError):
    """A value from the caller is wrong.

    Args:
        name: the argument, key or option.
        value: the given value (a short form of it for arrays).
        expected: the allowed values, as a phrase.

    Examples:
        >>> from airmoe.errors import InvalidInputError
        >>> print(InvalidInputError("clients", 0, "an integer of at least 1"))
        clients is 0; expected an integer of at least 1
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} is {_shown(value)}; expected {expected}")

    def __reduce__(self) -> tuple[object, ...]:
        """Let it cross to another process, whole: with its parts, and with the words put in front."""
        parts = self.name, self.value, self.expected
        return _rebuilt, (type(self), parts, self.args)


def _shown(value: object) -> str:
    """Return a value in one short line: a file may have a list of thousands where one number belongs."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 4]} ..."


def one_of(value: object, known: Iterable[str]) -> str:
    """Return what is expected of a name: one of the known ones, and which was probably meant.

    Examples:
        >>> from airmoe.errors import one_of
        >>> one_of("lenet", ["lenet5", "vit"])
        'one of lenet5, vit; did you mean lenet5?'
    """
    names = list(known)
    return f"one of {', '.join(names)}{did_you_mean(value, names)}"


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known name that is near a wrong one; "" if none is."""
    from difflib import get_close_matches  # loaded here: a node has no use for it

    by_small_letters = {name.lower(): name for name in known}
    near = get_close_matches(str(value).lower(), by_small_letters, n=1)
    return f"; did you mean {by_small_letters[near[0]]}?" if near else ""


def _rebuilt(
    kind: type[InvalidInputError], parts: tuple[str, object, str], args: tuple[object, ...]
) -> InvalidInputError:
    error = kind(*parts)
    error.args = args
    return error


class MissingExtraError(AirmoeError):
    """Packages that not every installation has are missing."""


class DataError(AirmoeError):
    """A data set or an image is missing, truncated, unreadable or has the wrong hash."""


class RunFolderError(AirmoeError):
    """A file of a run folder is missing, damaged, or belongs to another run."""


class TrainingDivergedError(AirmoeError):
    """A training loss is no longer finite."""


class PluginError(AirmoeError):
    """A plugin file cannot be loaded, or a part of it fails when it is called."""


class MeshError(AirmoeError):
    """Something between the nodes of a mesh went wrong."""


class FrameError(MeshError):
    """A message is corrupt, oversized, or of another protocol version."""


class AddressError(MeshError):
    """An address is malformed, not allowed, or already in use."""


class IdentityError(MeshError):
    """A certificate, a key or a roster is missing, damaged, no longer or not yet valid, or another one's."""


class RefusedError(MeshError):
    """A node answered that it will not serve the request."""


class NotScheduledError(MeshError):
    """No scheduler decided on a slot: none is alive, or it refused, was late, or gave an invalid answer."""


class DeadlineError(MeshError):
    """A query is too large to be answered before its deadline."""


class NoNodeReachableError(MeshError):
    """No node of the mesh was found before the deadline."""


class NoExpertReachedError(MeshError):
    """No expert answered in time and the source holds none of its own."""


class telling:
    """Say where an error came from: in its message if airmoe raised it, in a note beside it if not."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AirmoeError):
            error.args = (f"{self._where}: {error}",)
        elif isinstance(error, Exception):
            error.add_note(f"airmoe: {self._where}")


def require(extra: str, *modules: str, by: str = "this command") -> None:
    """Refuse to go on without packages that not every installation of airmoe has.

    Args:
        extra: the extra of airmoe that brings them, e.g. "train".
        modules: names by which they are imported.
        by: what needs them.

    Raises:
        MissingExtraError: one or more are not installed; it names them and the command that installs them.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"{by} needs {', '.join(missing)}; install with: {_install_command(extra)}")


def _install_command(extra: str) -> str:
    """Return the command that adds an extra to this airmoe: to a checkout, to what it was installed from."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        where = "." if checkout == Path.cwd() else str(checkout)
        return shlex.join(["pip", "install", "-e", f"{where}[{extra}]"])
    # Loaded here, because a node never needs it and it brings an e-mail parser.
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("airmoe").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    from_file = f" @ {origin['url']}" if str(origin.get("url", "")).startswith("file:") else ""
    return shlex.join(["pip", "install", f"airmoe[{extra}]{from_file}"])
