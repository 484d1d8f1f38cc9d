"""Networks that clients train alone."""

from collections.abc import Callable

import pytest

from airmoe.data import ImageSet
from airmoe.networked import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.local_networks import local_scores


def test_a_network_trained_on_two_classes_names_no_others(
    digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(
        data={"clients": 10}, features={"rounds": 4}, experts={"epochs": 4}, model={"expert_hidden": 32}
    )
    told = list[tuple[object, ...]]()
    data = split_among_clients(config, digits)
    scores = local_scores(config, data, progress=lambda *words: told.append(words))
    assert scores.own_f1 > 0.9
    assert 0.05 < scores.macro_f1 < 0.12  # 6.67 % where answers to foreign images are split evenly
    assert scores.local_share == scores.own_local_share == 1.0
    assert told[-1][:3] == ("local networks", 10, 10)


def test_smoothing_changes_what_is_learnt(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config()
    data = split_among_clients(config, few_digits)
    plain, smoothed = (local_scores(config, data, label_smoothing=share) for share in (0.0, 0.5))
    assert plain != smoothed
    assert plain == local_scores(config, data)
    assert smoothed.macro_f1 == pytest.approx(plain.macro_f1, abs=0.5)
