"""Fashion-MNIST in its official IDX files: found in a folder, or downloaded once into the user's cache.

An IDX file has a magic number, the sides of its array as big-endian uint32, and a byte for each value.
"""

import gzip
import hashlib
import math
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.data.download import download
from airmoe.data.image_set import ImageSet
from airmoe.data.places import cache, places
from airmoe.errors import DataError
from airmoe.progress import Progress

FASHION_MNIST = "fashion-mnist"
CLASS_NAMES = (
    *("T-shirt or top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

_SIDE, _BORDER = 28, 2
_FILES = {
    "train-images-idx3-ubyte": (
        (60_000, _SIDE, _SIDE),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        (10_000, _SIDE, _SIDE),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
"""The shape of each file's array, and the SHA-256 of the whole file, unpacked."""

_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_MAX_DOWNLOAD_BYTES = 50_000_000
_DEBIAN = Path("/usr/share/datasets") / FASHION_MNIST


def load_fashion_mnist(data_dir: Path | None, progress: Progress) -> ImageSet:
    """Load 60,000 training and 10,000 held-out images, uint8 1x32x32: 28x28 with a black border of 2.

    Args:
        data_dir: the first folder to look in, before ``$AIRMOE_DATA``, the cache and that of Debian's package
            dataset-fashion-mnist. The files may be packed (.gz) or not.
        progress: called as in `airmoe.data.load_images`.

    Raises:
        InvalidInputError: ``data_dir`` is not a folder.
        DataError: a file is missing or damaged, or the download failed.
    """
    folder = _find([*places(data_dir), _DEBIAN]) or _download_into(cache() / FASHION_MNIST, progress)
    train_images, train_labels, test_images, test_labels = (_read(folder, name) for name in _FILES)
    return ImageSet(
        name=FASHION_MNIST,
        train_images=_with_border(train_images),
        train_labels=_checked(train_labels, folder),
        test_images=_with_border(test_images),
        test_labels=_checked(test_labels, folder),
        class_names=CLASS_NAMES,
    )


def _find(among: list[Path]) -> Path | None:
    for place in among:
        for folder in (place, place / FASHION_MNIST):
            # One file is enough: an incomplete copy is reported, and not silently replaced by a download.
            if any(_file(folder, name) is not None for name in _FILES):
                return folder
    return None


def _file(folder: Path, name: str) -> Path | None:
    try:
        return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
    except OSError as error:
        raise DataError(f"{folder}: cannot be searched ({error.strerror})") from error


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    """Return the array in a file, packed or not."""
    shape, _ = _FILES[name]
    file = _file(folder, name)
    if file is None:
        raise DataError(f"{folder / name}: does not exist, nor does {name}.gz; expected one of them")
    content = _content(file, shape)
    head = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    expected = len(head) + math.prod(shape)
    if len(content) != expected:
        size = f"more than {expected}" if len(content) > expected else str(len(content))
        raise DataError(f"{file}: has {size} bytes; expected {expected}")
    if content[: len(head)] != head:
        raise DataError(
            f"{file}: begins with {content[: len(head)].hex()}; expected {head.hex()}, an IDX file"
        )
    return np.frombuffer(content, np.uint8, offset=len(head)).reshape(shape)


def _content(file: Path, shape: tuple[int, ...]) -> bytes:
    """Return what is in a file, unpacked, and one byte more at most than belongs there."""
    most = 4 * (1 + len(shape)) + math.prod(shape) + 1
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            return opened.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error}); expected {most - 1} bytes") from error


def _checked(labels_T: NDArray[np.uint8], folder: Path) -> NDArray[np.int64]:
    if labels_T.max() >= len(CLASS_NAMES):
        item = int(np.argmax(labels_T >= len(CLASS_NAMES)))
        raise DataError(f"{folder}: label {item} is {labels_T[item]}; expected 0 to {len(CLASS_NAMES) - 1}")
    return labels_T.astype(np.int64)


def _with_border(images_THW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    border = (_BORDER, _BORDER)
    return np.pad(images_THW, ((0, 0), border, border))[:, np.newaxis]


def _download_into(folder: Path, progress: Progress) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            got = Path(temporary) / folder.name
            got.mkdir()
            for name, (shape, sha256) in _FILES.items():
                packed = got / f"{name}.gz"
                download(f"{_URL}{packed.name}", packed, max_bytes=_MAX_DOWNLOAD_BYTES, progress=progress)
                if (found := hashlib.sha256(_content(packed, shape)).hexdigest()) != sha256:
                    raise DataError(f"{packed.name} has SHA-256 {found} unpacked; expected {sha256}")
            if _find([folder]) is None:  # else another process was faster
                got.replace(folder)
    except (DataError, OSError) as error:
        raise DataError(
            f"{FASHION_MNIST}: {error}. To go on without a download, put {', '.join(_FILES)}, packed (.gz) "
            f"or not, into {folder}, or into a folder that --data-dir or AIRMOE_DATA names"
        ) from error
    return folder
