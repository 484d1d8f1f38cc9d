"""Parts of your own: a Python file registers them under names, and ``--plugin FILE.py`` brings it.

    from airmoe.plugins import register

    @register("policy", "good-enough")
    class GoodEnough:
        share: float = 0.5

        def route(self, scores_TE, cost, slot): ...

Then ``--policy good-enough:0.3`` works wherever a policy is named. What each kind needs:

* ``policy``: a class with `airmoe.scheduling.Policy.route`.
* ``channel``: a class with `airmoe.links.SnrProcess.draw`.
* ``partition``: (labels_T, clients, random) to an index array for each client; a function, or a class with
  ``__call__``.
* ``aggregation``: (state, replies by client) to the server's new state; likewise.
* ``query``: (scores_TE, round, client, random) to bool (T, E), whom a client asks in stage 3 of the networked
  method; likewise.
* ``sync``: a class with `airmoe.networked.syncs.Sync.neighbours`.
* ``gate``: a module made with (features, experts), as `airmoe.nn.Gate`, with a bool ``sees_snr``.
* ``backbone``: a module made with (channels), images to payloads; see `airmoe.nn.build_extractor`.

The fields of the first six are written in texts, after colons; a field ``seed`` is not, it gets the seed of
the run. Such a class needs no ``@dataclass`` and no ``name``.
"""

import hashlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from airmoe.errors import AirmoeError, InvalidInputError, PluginError, RunFolderError, one_of, telling
from airmoe.files import AnyPath, replaced_file
from airmoe.parts import KINDS, Kind, Part, add_part, is_used, parts_from, remove_parts
from airmoe.spec_text import Form

Registered = TypeVar("Registered", bound=Callable[..., Any])

FOLDER = "plugins"
"""The folder of a run folder that holds a copy of each plugin file that the run was made with."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")
_HOOKS = {
    "policy": ("route", "fallback"),
    "channel": ("draw",),
    "partition": ("__call__",),
    "aggregation": ("__call__",),
    "query": ("__call__",),
    "sync": ("neighbours",),
    "gate": ("forward",),
    "backbone": ("forward", "tail"),
}
"""The methods that airmoe calls; the first is what a function stands for."""

_MODULES = "gate", "backbone"


@dataclass(frozen=True)
class Plugin:
    """A plugin file that was loaded.

    Attributes:
        path: the file.
        sha256: of its content.
        parts: what it registers, e.g. "policy good-enough".
    """

    path: Path
    sha256: str
    parts: tuple[str, ...]

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.path.name


_loaded: dict[str, Plugin] = {}
_loading: list[Path] = []


def register(kind: Kind, name: str) -> Callable[[Registered], Registered]:
    """Register what is decorated, a class or a function, under a name.

    Args:
        kind: "policy", "gate", "channel", "partition", "backbone", "aggregation", "query" or "sync".
        name: small letters, digits and hyphens.

    Raises:
        InvalidInputError: an unknown kind, a name that is taken or none, or what cannot be such a part.

    Examples:
        >>> from airmoe.plugins import register
        >>> from airmoe.scheduling import Cheapest, make_policy
        >>> @register("policy", "good-enough")
        ... class GoodEnough:
        ...     share: float = 0.5
        ...
        ...     def route(self, scores_TE, cost, slot):
        ...         good_TE = scores_TE >= self.share * scores_TE.max(axis=1, keepdims=True)
        ...         return Cheapest(1).route(scores_TE, cost.where(good_TE), slot)
        >>> make_policy("good-enough:0.3")
        GoodEnough(share=0.3)
    """
    if kind not in KINDS:
        raise InvalidInputError("kind", kind, one_of(kind, KINDS))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError("name", name, "small letters, digits and hyphens, a letter first")

    def accept(made: Registered) -> Registered:
        origin = _loading[-1].name if _loading else made.__module__
        if _loading and any((part.kind, part.name) == (kind, name) for part in parts_from(origin)):
            raise InvalidInputError(f"name of a {kind} in {origin}", name, "another: it is there twice")
        where = f"{origin}: {kind} {name}"
        add_part(Part(kind, name, _part_of(kind, name, made, where), origin))
        return made

    return accept


def load_plugins(paths: AnyPath | Iterable[AnyPath]) -> tuple[Plugin, ...]:
    """Load plugin files, and return all that are loaded. A file that is loaded already is loaded anew if it
    has changed.

    Loading a file runs it: load none that you would not run.

    Args:
        paths: a file, or several.

    Raises:
        InvalidInputError: no such file, two files of one name, or a part that cannot be registered.
        PluginError: a file fails while it runs, or registers nothing.
    """
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        _load(Path(path).expanduser().resolve())
    return loaded_plugins()


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plugin files that were loaded, in order."""
    return tuple(_loaded.values())


def unused_plugins() -> list[Plugin]:
    """Return the plugin files that were loaded and of which no part was asked for by its name."""
    return [plugin for plugin in loaded_plugins() if not any(map(is_used, parts_from(plugin.file)))]


def unload_plugins() -> None:
    """Forget all plugin files and their parts."""
    for name in list(_loaded):
        del _loaded[name]
        remove_parts(name)


def plugin_digests() -> dict[str, str]:
    """Return the SHA-256 of every loaded plugin by the name of its file."""
    return {plugin.file: plugin.sha256 for plugin in loaded_plugins()}


def plugin_records() -> list[dict[str, Any]]:
    """Return file, SHA-256 and parts of every loaded plugin, as ``run.json`` has them."""
    return [
        {"file": plugin.file, "sha256": plugin.sha256, "parts": list(plugin.parts)}
        for plugin in loaded_plugins()
    ]


def keep_plugins(folder: Path) -> None:
    """Copy the loaded plugin files into a run folder."""
    for plugin in loaded_plugins():
        with replaced_file(folder / FOLDER / plugin.file) as temporary:
            temporary.write_bytes(plugin.path.read_bytes())


def refuse_other_plugins(folder: Path) -> None:
    """Refuse to go on with a run unless the plugins that it was made with are loaded, and no others.

    Args:
        folder: the run folder, with the copies that `keep_plugins` made.

    Raises:
        RunFolderError: a plugin is missing, changed or new; it is named.
    """
    refuse_missing_plugins(folder)
    kept = kept_digests(folder)
    for name in plugin_digests():
        if name not in kept:
            raise RunFolderError(f"{folder} was begun without the plugin {name}; resume without it")


def refuse_missing_plugins(folder: Path) -> None:
    """Refuse a run folder unless the plugins that it was made with are loaded.

    Raises:
        RunFolderError: a plugin is missing or changed; it names the file to load.
    """
    loaded = plugin_digests()
    for name, digest in kept_digests(folder).items():
        kept = folder / FOLDER / name
        if name not in loaded:
            raise RunFolderError(
                f"{folder} needs the plugin {name}; add --plugin {kept}, or the file it is of; "
                f"in Python call airmoe.plugins.load_plugins([{str(kept)!r}]) first"
            )
        if loaded[name] != digest:
            raise RunFolderError(f"{folder} was made with another {name}, which it keeps as {kept}")


def kept_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every plugin file that a run folder keeps, by its name."""
    paths = sorted((folder / FOLDER).glob("*.py"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _load(path: Path) -> None:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InvalidInputError("plugin", str(path), f"a readable Python file ({error.strerror})") from None
    digest, before = hashlib.sha256(source).hexdigest(), _loaded.get(path.name)
    if before is not None and before.sha256 == digest:
        return
    if before is not None and before.path != path:
        raise InvalidInputError("plugin", str(path), f"another file name than that of {before.path}")
    remove_parts(path.name)
    module = ModuleType("airmoe_plugin_" + re.sub(r"\W", "_", path.stem))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their types up there
    _loading.append(path)
    try:
        _run(source, path, module)
    except BaseException:
        remove_parts(path.name)
        _loaded.pop(path.name, None)
        del sys.modules[module.__name__]
        raise
    finally:
        _loading.pop()
    parts = tuple(f"{part.kind} {part.name}" for part in parts_from(path.name))
    if not parts:
        raise PluginError(f"{path.name} registers nothing; expected @register(kind, name) of airmoe.plugins")
    _loaded[path.name] = Plugin(path, digest, parts)


def _run(source: bytes, path: Path, module: ModuleType) -> None:
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except AirmoeError as error:
        error.args = (f"{path.name}{_line(error, path)}: {error}",)
        raise
    except SyntaxError as error:
        raise PluginError(f"{path.name}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise PluginError(f"{path.name}{_line(error, path)}: {said}") from error


def _line(error: Exception, path: Path) -> str:
    """Return the last line of a file that an error passed through, as ", line 3"."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f", line {lines[-1]}" if lines else ""


def _part_of(kind: str, name: str, made: Any, where: str) -> Any:
    """Return what the table holds: a maker of modules, or the form of a class that texts describe."""
    hooks = _HOOKS[kind]
    if not inspect.isclass(made):
        if not callable(made) or (kind not in _MODULES and hooks[0] != "__call__"):
            raise InvalidInputError(where, type(made).__name__, f"a class with the method {hooks[0]}")
        guarded = _guarded(made, where)
        if kind in _MODULES:
            return guarded
        made = type(made.__name__, (), {"__call__": staticmethod(guarded), "__module__": made.__module__})
    elif not callable(getattr(made, hooks[0], None)):
        raise InvalidInputError(where, made.__name__, f"a class with the method {hooks[0]}")
    for hook in hooks:
        if inspect.isfunction(method := vars(made).get(hook)):
            setattr(made, hook, _guarded(method, f"{where}: {hook}"))
    if kind in _MODULES:
        return _guarded(made, where)
    return _described(kind, name, made, where)


def _described(kind: str, name: str, made: type[Any], where: str) -> Form:
    """Make a class one that texts describe; return its form."""
    if "__dataclass_fields__" not in vars(made):
        if "__init__" in vars(made):
            raise InvalidInputError(where, made.__name__, "fields in place of __init__, as in a dataclass")
        with telling(where):
            made = dataclass(frozen=True)(made)
    written = tuple(field.name for field in fields(made) if field.init and field.name != "seed")
    form = Form(name, made, written=written)
    try:
        str(form)
    except (TypeError, NameError) as error:
        raise InvalidInputError(where, made.__name__, f"fields that a text can hold ({error})") from None
    made.form = form
    made.name = property(form.text_of)
    for of_kind, attribute in (("policy", "joint"), ("sync", "averages")):
        if kind == of_kind and not hasattr(made, attribute):
            setattr(made, attribute, False)
    return form


def _guarded(function: Callable[..., Any], where: str) -> Callable[..., Any]:
    """Return a function whose errors name the plugin, the part and the call."""

    @wraps(function, updated=())
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except PluginError:
            raise
        except AirmoeError as error:
            error.args = (f"{where}: {error}",)
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[1:]
            place = f"line {frames[0].lineno}: " if frames else ""
            raise PluginError(f"{where}: {place}{type(error).__name__}: {error}") from error

    return call
