"""Image sets by name."""

from airmoe.checks import integer_at_least
from airmoe.data.cifar import CIFAR_SETS, load_cifar
from airmoe.data.digits import load_digits
from airmoe.data.fashion import FASHION_MNIST, load_fashion_mnist
from airmoe.data.folder import load_folder
from airmoe.data.image_set import ImageSet
from airmoe.data.joined import joined_images
from airmoe.data.split import validation_images
from airmoe.errors import InvalidInputError, did_you_mean
from airmoe.files import AnyPath, as_path
from airmoe.progress import Progress, silent

USUAL_SIZE = 32
"""Height and width of images, pixels, where nobody says otherwise."""

LARGEST_SIZE = 1024

_FOLDER, _VALIDATION, _AND = "folder:", "validation:", "+"
_OFFICIAL = (*CIFAR_SETS, FASHION_MNIST)
_NAMED = ("digits", *_OFFICIAL)
_NAMES = (
    f"digits, {', '.join(_OFFICIAL)}, several of these joined by {_AND}, or folder:PATH, "
    "each also as validation:NAME"
)


def is_official(name: str) -> bool:
    """Whether a set of this name is read from official files, which are looked for or downloaded."""
    return any(part in _OFFICIAL for part in _parts(name.removeprefix(_VALIDATION)))


def _parts(name: str) -> list[str]:
    return [name] if name.startswith(_FOLDER) else name.split(_AND)


def load_images(
    name: str, *, data_dir: AnyPath | None = None, size: int = USUAL_SIZE, progress: Progress = silent
) -> ImageSet:
    """Load a labelled image set; the split into training and held-out images never depends on a seed.

    * ``"digits"``: scikit-learn's 1,797 handwritten digits, 1x32x32, 450 held out. Needs scikit-learn.
    * ``"cifar10"``, ``"cifar100"``: CIFAR in its official binary layout, 3x32x32, 10,000 held out. The
      classes of CIFAR-100 are the 100 fine ones. ``data_dir``, ``$AIRMOE_DATA`` and the cache
      (``$XDG_CACHE_HOME/airmoe`` or ``~/.cache/airmoe``) are searched for the files. The files may lie there
      directly or in the archive's folder, ``cifar-10-batches-bin/`` or ``cifar-100-binary/``. If nothing is
      found, the archive (170 MB) is downloaded into the cache.
    * ``"fashion-mnist"``: Fashion-MNIST in its official IDX files, packed (.gz) or not, 10,000 held out;
      1x32x32, since its 28x28 pixels get a black border. The same folders are searched, then that of
      Debian's package dataset-fashion-mnist; the download has 31 MB.
    * ``"folder:PATH"``: PATH holds one folder of images per class, or ``train/`` and ``test/`` with one per
      class each. Without those two, 20 % of every class is held out (at least one image). Images are read as
      `read_image` does, with 1 channel if all of them are greyscale and 3 otherwise.
    * ``"cifar10+fashion-mnist"``: several of the above but folders as one set; see
      `airmoe.data.joined.joined_images`.
    * ``"validation:NAME"``: NAME is one of the above. A fifth of the training images of every class takes
      the place of the held-out ones, which are not used. Settings are chosen by trial on these, so that the
      held-out images tell something new.

    Args:
        name: one of the above.
        data_dir: the first folder to look for official files in.
        size: height and width of images, pixels, 1 to 1024. Only a folder offers a choice.
        progress: told the bytes of a download so far and in all; 0 in all if that is not known. Told how many
            images of a folder are read.

    Returns:
        The images as uint8 (T, C, size, size), their labels as int64 (T,).

    Raises:
        InvalidInputError: the name is none of these, ``data_dir`` is not a folder, or the set has no images
            of this size.
        DataError: files are missing, damaged, or cannot be downloaded.

    Examples:
        >>> from airmoe.data import load_images
        >>> digits = load_images("digits")
        >>> digits.train_images.shape, digits.test_images.shape
        ((1347, 1, 32, 32), (450, 1, 32, 32))
        >>> digits.class_names
        ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    if not isinstance(name, str):
        raise InvalidInputError("dataset", name, f"the text {_NAMES}")
    if name.startswith(_VALIDATION):
        whole = load_images(name.removeprefix(_VALIDATION), data_dir=data_dir, size=size, progress=progress)
        return validation_images(name, whole)
    if len(parts := _parts(name)) > 1 and set(parts) <= set(_NAMED):
        sets = [load_images(part, data_dir=data_dir, size=size, progress=progress) for part in parts]
        return joined_images(name, sets)
    if not 1 <= integer_at_least("size", size, 1) <= LARGEST_SIZE:
        raise InvalidInputError("size", size, f"at most {LARGEST_SIZE}")
    if size != USUAL_SIZE and name in _NAMED:
        expected = f"{USUAL_SIZE}, the size of the images of {name}; folder:PATH offers a choice"
        raise InvalidInputError("size", size, expected)
    if name == "digits":
        return load_digits()
    if name in CIFAR_SETS:
        return load_cifar(CIFAR_SETS[name], None if data_dir is None else as_path(data_dir), progress)
    if name == FASHION_MNIST:
        return load_fashion_mnist(None if data_dir is None else as_path(data_dir), progress)
    if name.startswith(_FOLDER) and name != _FOLDER:
        return load_folder(name, as_path(name.removeprefix(_FOLDER)), size, progress)
    raise InvalidInputError("dataset", name, _NAMES + did_you_mean(name, _NAMED))
