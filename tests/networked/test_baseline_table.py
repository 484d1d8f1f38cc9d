"""All methods on one run, side by side."""

from collections.abc import Callable

import pytest

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.networked import baseline_table, train_stages
from airmoe.networked.baseline_table import METHODS, MethodScores, Setting, baselines_table, measure_method
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.equal_budget import equal_rounds
from airmoe.networked.stages import NetworkedMoe

CLIENTS = 3


@pytest.fixture(scope="module")
def trainings() -> list[NetworkedConfig]:
    return []


@pytest.fixture(scope="module")
def setting(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig], trainings: list[NetworkedConfig]
) -> Setting:
    def mixture(config: NetworkedConfig, data: ClientData) -> NetworkedMoe:
        trainings.append(config)
        return train_stages(config, data)

    return Setting(tiny_config(data={"clients": CLIENTS}), few_digits, mixture)


@pytest.fixture(scope="module")
def lines(setting: Setting) -> dict[str, MethodScores]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline_table, "MOST_CENTRAL_EPOCHS", 2)
        return {method: measure_method(method, setting) for method in METHODS}


def test_every_method_is_measured_and_all_share_one_mixture(
    lines: dict[str, MethodScores], trainings: list[NetworkedConfig]
) -> None:
    assert len(trainings) == 1
    for method, line in lines.items():
        assert line.method == method
        assert 0 <= line.scores.macro_f1 <= 1
        assert 0 <= line.scores.own_local_share <= 1


def test_bytes_are_those_that_a_method_needs(
    lines: dict[str, MethodScores], setting: Setting, few_digits: ImageSet
) -> None:
    sent = {method: line.training_bytes for method, line in lines.items()}
    by_stage = dict[str, float]()
    for row in setting.trained.rows:
        by_stage[str(row["stage"])] = by_stage.get(str(row["stage"]), 0) + float(row["bytes"]) / CLIENTS
    of_gate = by_stage["gate"] + by_stage["gate statistics"]
    assert sent["networked"] == sent["networked-top-2"] == pytest.approx(sum(by_stage.values()))
    for method in ("random", "oracle", "holder"):
        assert sent[method] == pytest.approx(sum(by_stage.values()) - of_gate)
    head = 2 * 400 * 12 + 2 * 400 * 4 + 401 * (401 + 10) * 8
    assert sent["global-head"] == pytest.approx(by_stage["features"] + by_stage["experts"] + head)
    assert sent["local"] == sent["local-smoothed"] == 0
    assert sent["central"] == few_digits.train_images.nbytes / CLIENTS


def test_the_averaged_network_has_the_budget_of_the_mixture(
    lines: dict[str, MethodScores], setting: Setting
) -> None:
    rounds = equal_rounds(setting.config, (1, 32, 32), 10)
    assert lines["fedavg"].notes == {"rounds": rounds}
    network = 6 * 26 + 12 + 16 * 151 + 32 + 400 * 8 + 8 + 8 * 10 + 10
    assert lines["fedavg"].training_bytes == 2 * rounds * network * 4


def test_no_choice_is_better_than_the_oracles(lines: dict[str, MethodScores]) -> None:
    best = lines["oracle"].scores.macro_f1
    for method in ("networked", "random", "holder"):
        assert lines[method].scores.macro_f1 <= best


def test_an_unknown_method_is_refused_with_the_known_ones(setting: Setting) -> None:
    with pytest.raises(InvalidInputError, match=r"method is 'centrl'; expected one of networked, .*central"):
        measure_method("centrl", setting)


def test_the_table_has_a_line_for_each_method(lines: dict[str, MethodScores]) -> None:
    table = baselines_table(list(lines.values()))
    assert [row[0] for row in table.rows] == list(METHODS)
    assert all(len(row) == len(table.header) for row in table.rows)
    fedavg = next(row for row in table.rows if row[0] == "fedavg")
    assert fedavg[1] == 100 * lines["fedavg"].scores.macro_f1
    assert fedavg[-1] == lines["fedavg"].training_bytes / 1e6
