"""CIFAR-10 in its official binary layout, with pixels that tell which record they came from."""

from pathlib import Path

import numpy as np

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)]
FILES = [*TRAIN_FILES, "test_batch.bin", "batches.meta.txt"]
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_official_tree(folder: Path) -> None:
    """Write 6 batches of 10,000 records.

    Label = record number mod 10, red = batch number, last blue byte = record number mod 251.
    """
    folder.mkdir(parents=True)
    for batch, name in enumerate(FILES[:-1], start=1):
        records = np.zeros((10_000, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(10_000) % 10
        records[:, 1 : 1 + 1024] = batch
        records[:, -1] = np.arange(10_000) % 251
        records.tofile(folder / name)
    (folder / "batches.meta.txt").write_text("\n".join(CLASS_NAMES) + "\n\n")


def link_tree(source: Path, folder: Path, *, without: str = "") -> Path:
    """Link the files of the tree into ``folder``, so that one file can be left out or replaced at no cost."""
    folder.mkdir(parents=True)
    for name in FILES:
        if name != without:
            (folder / name).symlink_to(source / name)
    return folder
