"""A data set and a run that are small enough to train many times over."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from airmoe.data import ImageSet
from airmoe.training import RunConfig, parse_config


@pytest.fixture(scope="session")
def few_digits(digits: ImageSet) -> ImageSet:
    """200 digits to train on, 60 held out."""
    return replace(
        digits,
        train_images=digits.train_images[:200],
        train_labels=digits.train_labels[:200],
        test_images=digits.test_images[:60],
        test_labels=digits.test_labels[:60],
    )


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., RunConfig]:
    """A run of a second, with changes by section: ``tiny_config(gate={"rounds": 5})``."""

    def build(**changes: object) -> RunConfig:
        settings: dict[str, object] = {
            "data": {"clients": 2},
            "model": {"expert_hidden": 8},
            "features": {"rounds": 3},
            "experts": {"epochs": 2},
            "gate": {"rounds": 3},
        }
        for section, values in changes.items():
            before = settings.get(section)
            settings[section] = before | values if isinstance(before, dict) else values  # type: ignore[operator]
        return RunConfig.model_validate(settings)

    # The two ways to make a configuration agree.
    assert build() == parse_config(
        "data.clients = 2\nmodel.expert_hidden = 8\nfeatures.rounds = 3\nexperts.epochs = 2\ngate.rounds = 3",
        "tiny",
    )
    return build
