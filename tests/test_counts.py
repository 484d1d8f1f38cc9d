"""Counts and seeds: an integer of NumPy is as good as one of Python, and a bool is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airmoe.data import load_images, partition
from airmoe.dispatch import why_out_of_reach
from airmoe.errors import InvalidInputError
from airmoe.links import Ofdma, RayleighFading, make_process
from airmoe.nn import build_extractor
from airmoe.scheduling import BestLink, RandomK, TopK, make_policy
from tests.studies.lines import study_of_lines

LABELS_T = np.arange(40) % 10
CALLS: dict[str, tuple[int, Callable[[Any], object]]] = {
    "TopK": (2, TopK),
    "BestLink": (2, BestLink),
    "RandomK": (2, lambda n: RandomK(n, seed=1)),
    "RandomK.seed": (3, lambda n: RandomK(2, seed=n)),
    "make_policy": (3, lambda n: make_policy("random:2", seed=n)),
    "Ofdma": (16, lambda n: Ofdma(subcarriers=n)),
    "RayleighFading.nodes": (3, lambda n: RayleighFading(n, Ofdma(4)).at(0).gain_NNM.tolist()),
    "RayleighFading.seed": (3, lambda n: RayleighFading(2, Ofdma(4), seed=n).at(0).gain_NNM.tolist()),
    "RayleighFading.at": (3, lambda n: RayleighFading(2, Ofdma(4)).at(n).gain_NNM.tolist()),
    "draw": (3, lambda n: make_process("uniform:0:1").draw(n, 2, np.random.default_rng(0)).shape),
    "why_out_of_reach": (20, lambda n: why_out_of_reach(n, 128)),
    "partition": (4, lambda n: [list(each) for each in partition(LABELS_T, n, "ring", seed=0)]),
    "partition.seed": (4, lambda n: [list(each) for each in partition(LABELS_T, 5, "iid", seed=n)]),
    "load_images": (32, lambda n: load_images("digits", size=n).train_images.shape),
    "build_extractor": (4, lambda n: build_extractor("resnet18", 1, width=n).features),
}


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("name", CALLS)
def test_an_integer_of_numpy_is_as_good_as_one_of_python(name: str, kind: Callable[[int], Any]) -> None:
    number, call = CALLS[name]
    assert call(kind(number)) == call(number)


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.0, "1"])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_integer_is_refused(name: str, value: Any) -> None:
    _, call = CALLS[name]
    with pytest.raises(InvalidInputError, match=r"expected .*(integer|32| to 40)"):
        call(value)


@pytest.mark.parametrize("seed", [True, 1.0, "1"])
def test_a_study_takes_integers_as_seeds_alone(tmp_path: Path, seed: Any) -> None:
    from airmoe.studies.curves import run_study

    study = study_of_lines(tmp_path / "figures")
    with pytest.raises(InvalidInputError, match=r"^seed is .*; expected an integer"):
        run_study(study, tmp_path / "out", seed=seed)
    run_study(study, tmp_path / "numpy", seed=np.int64(3), only=["lines"])  # type: ignore[arg-type]
