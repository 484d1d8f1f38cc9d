"""The record of a run, run.json: command, seed, options, versions, cores, threads and plugins."""

import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from airmoe.errors import RunFolderError
from airmoe.files import portable, replaced_file, with_short_home
from airmoe.plugins import loaded_plugins, plugin_records
from airmoe.studies.curves.settings import Scale
from airmoe.studies.curves.study import Study
from airmoe.versions import kind_of_host, version_of

Record = dict[str, Any]


def command_of(
    study: Study,
    scale: Scale,
    only: Sequence[str],
    settings: Path | None,
    seed: int,
    options: Mapping[str, str],
) -> str:
    """Return the command that makes a run."""
    words = ["airmoe", "study", study.name, *([] if scale == study.scales[0] else [f"--{scale}"])]
    words += [word for figure in only for word in ("--only", figure)]
    words += [] if settings is None else ["--settings", str(settings)]
    words += [word for plugin in loaded_plugins() for word in ("--plugin", str(plugin.path))]
    return shlex.join([*map(portable, [*words, *_option_words(options)]), "--seed", str(seed)])


def alone(command: str, figure: str) -> str:
    """Return the command that makes only this one of a command's figures."""
    return shlex.join([*_without(command, {"--only"}), "--only", figure])


def new_record(study: Study, command: str, seed: int, options: Mapping[str, str]) -> Record:
    """Return the record of a run that begins."""
    host = kind_of_host()
    return {
        "format": _format(study),
        "command": command,
        "seed": seed,
        **({"options": _written(options)} if options else {}),
        "versions": versions(study),
        "host": host,
        "threads": host["cores"] if study.threads is None else study.threads,
        "plugins": plugin_records(),
    }


def with_options(record: Record, options: Mapping[str, str]) -> Record:
    """Return a record in which some of the study's own options have other values."""
    recorded: dict[str, str] = record.get("options", {})
    changed = {name: value for name, value in _written(options).items() if recorded.get(name) != value}
    if not changed:
        return record
    kept = _without(record["command"], set(_option_words(changed)[::2]))
    return record | {
        "command": shlex.join([*kept, *map(portable, _option_words(changed))]),
        "options": recorded | changed,
    }


def _written(options: Mapping[str, str]) -> dict[str, str]:
    return {name: with_short_home(str(value)) for name, value in options.items()}


def options_of(record: Record) -> dict[str, str]:
    """Return the study's own options that are recorded, with the home folder in full."""
    options: dict[str, str] = record.get("options", {})
    return {name: str(Path(value).expanduser()) for name, value in options.items()}


def finished(record: Record) -> Record:
    """Return the record of a run that is done: nothing resumes from it, so its options are portable."""
    if "options" not in record:
        return record
    return record | {"options": {name: portable(value) for name, value in record["options"].items()}}


def write_record(folder: Path, record: Record) -> None:
    """Write a record into a run folder."""
    with replaced_file(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path, study: Study) -> Record:
    """Return the record of an unfinished run.

    Raises:
        RunFolderError: it is damaged, or of another study.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"format": str, "command": str, "seed": int, "versions": dict, "host": dict}
        kinds = [isinstance(record[key], kind) for key, kind in wanted.items()]
        if not all(kinds) or not isinstance(record.get("options", {}), dict):
            raise ValueError("a key has a value of another type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); remove {folder} to begin anew") from None
    if record["format"] != _format(study):
        raise RunFolderError(f"{path} is a {record['format']!r}, not a {_format(study)!r}")
    return cast(Record, record)


def versions(study: Study) -> dict[str, str]:
    """Return the versions of Python and of the study's packages."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in study.packages}


def _format(study: Study) -> str:
    return f"airmoe {study.name} study 1"


def _option_words(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _without(command: str, flags: set[str]) -> Iterator[str]:
    """Return the words of a command without these flags and their values."""
    words = iter(shlex.split(command))
    return (word for word in words if word not in flags or not next(words))
