import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airmoe.data import load_images
from airmoe.errors import InvalidInputError


@pytest.mark.parametrize("name", ["mnist", "", "folder:", "Digits"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    known = "digits, cifar10, cifar100, fashion-mnist, several of these joined by .*folder:PATH"
    with pytest.raises(InvalidInputError, match=f"expected {known}"):
        load_images(name)


@pytest.mark.parametrize("name", [Path("photos"), None, b"digits"])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^dataset is .*; expected the text digits, .*folder:PATH"):
        load_images(name)


def test_importing_the_package_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, airmoe.data; sys.exit(bool({'torch', 'sklearn'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=500, check=False).returncode == 0


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100", "fashion-mnist"])
def test_only_a_folder_offers_a_choice_of_size(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"size is 64; expected 32, the size of the images of {name}"):
        load_images(name, size=64)


@pytest.mark.parametrize("size", [0, -1, 1025, 2.5, True])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidInputError, match=r"^size is "):
        load_images("folder:nowhere", size=size)
