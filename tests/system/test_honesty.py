"""Answers say what they lack: with nodes gone, a liar among them, or other weights under a key."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet
from tests.system.faults.honesty import LIES, half_gone, lied_to
from tests.system.faults.honesty import other_weights as ask_other_weights


@pytest.mark.parametrize("experts", [1, 2])
def test_with_half_of_the_nodes_gone_exactly_the_answers_that_lack_an_expert_are_marked(
    run_folder: Path, digits: ImageSet, experts: int
) -> None:
    images_TCHW, label_T = digits.test_images[:150], digits.test_labels[:150]
    before, after = half_gone(run_folder, images_TCHW, label_T, [1, 3], experts)
    assert (before.lost, before.whole_marked, before.false) == (0, 0, 0)
    assert 30 < after.lost == after.lost_marked
    assert (after.whole_marked, after.false) == (0, 0)


@pytest.mark.long
@pytest.mark.parametrize("experts", [1, 2])
def test_with_5_of_10_nodes_gone_answers_without_their_first_choice_are_marked(
    ten_nodes: Path, digits: ImageSet, experts: int
) -> None:
    gone = [1, 3, 5, 7, 9]
    before, after = half_gone(ten_nodes, digits.test_images, digits.test_labels, gone, experts)
    assert (before.lost, before.whole_marked) == (0, 0)
    assert after.first_lost > 100
    assert after.first_lost_marked >= 0.95 * after.first_lost
    assert (after.whole_marked, after.false) == (0, 0)


@pytest.mark.parametrize(("lie", "marked"), [*zip(LIES, [0, 50], strict=True)])
def test_a_liar_of_weight_a_thousandth_changes_no_answer(
    run_folder: Path, digits: ImageSet, lie: str, marked: int
) -> None:
    lied = lied_to(run_folder, digits.test_images[:50], lie)
    assert (lied.answers, lied.changed, lied.marked) == (50, 0, marked)


def test_other_weights_under_the_key_of_an_expert_are_refused_by_name(
    run_folder: Path, digits: ImageSet, tmp_path: Path
) -> None:
    found = ask_other_weights(run_folder, tmp_path, digits.test_images[:20])
    assert (found.answers, found.marked, found.came) == (20, 20, 0)
    meant, served = found.hashes
    why = f"the request is for expert 1 of hash {meant}; this node serves {served}"
    assert found.said == (f"expert 1 at node 1 refused: {why!r}",)
