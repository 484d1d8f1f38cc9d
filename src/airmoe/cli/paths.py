"""Paths as users type them."""

from pathlib import Path

from airmoe.files import as_path


def expanded(path: Path | None) -> Path | None:
    """Return a path with ``~`` for the home folder, which a shell leaves in ``--out=~/runs``."""
    return None if path is None else as_path(path)


def all_expanded(paths: list[Path]) -> list[Path]:
    """Return each path as `expanded` does."""
    return [as_path(path) for path in paths]


def client_folder(path: Path) -> Path:
    """Return a client's folder; that of a pack is unpacked beside it."""
    folder = as_path(path)
    if folder.suffix != ".airmoe" or not folder.is_file():
        return folder
    from airmoe.mesh.pack import unpacked

    return unpacked(folder)
