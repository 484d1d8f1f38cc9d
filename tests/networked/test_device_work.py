"""Parameters and operations of a device, against counts by hand for LeNet-5 on 3x32x32 and 1x32x32 images.

A convolution has (outputs) x (height x width) x (inputs x kernel) multiply-adds. Backward it takes as many
for its weights, and as many again for its inputs unless these are the images.
"""

import pytest

from airmoe.networked.config import NetworkedConfig
from airmoe.networked.device_work import (
    answer_flops,
    central_step,
    client_steps,
    counted_flops,
    device_model,
)

CONV_1 = {3: 6 * 28 * 28 * 3 * 25, 1: 6 * 28 * 28 * 25}
CONV_2 = 16 * 10 * 10 * 6 * 25
GATE, HEAD, EXPERT = 400 * 10, 400 * 10, 400 * 256 + 256 * 10
"""Multiply-adds for one image."""

SHAPE, CLASSES = (3, 32, 32), 10
CONFIG = NetworkedConfig()


def parameters(holds: int | None) -> int:
    model = device_model(CONFIG, SHAPE, CLASSES, holds=holds)
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_client_has_extractor_gate_and_one_expert() -> None:
    extractor = 6 * (3 * 25 + 1) + 2 * 6 + 16 * (6 * 25 + 1) + 2 * 16  # group normalisation has 2 a channel
    gate, expert = 400 * 10 + 10, 400 * 256 + 256 + 256 * 10 + 10
    assert parameters(holds=1) == extractor + gate + expert == 112_152
    assert parameters(holds=None) == extractor + gate + 10 * expert


@pytest.mark.parametrize("channels", [1, 3])
def test_an_answer_takes_two_operations_for_each_multiply_add(channels: int) -> None:
    shape = channels, 32, 32
    assert answer_flops(device_model(CONFIG, shape, CLASSES, holds=1), shape) == {
        "extractor": 2 * (CONV_1[channels] + CONV_2),
        "gate": 2 * GATE,
        "expert": 2 * EXPERT,
    }


def test_a_step_of_each_stage_goes_forward_and_backward() -> None:
    config = CONFIG.model_copy(update={"gate": CONFIG.gate.model_copy(update={"batch_size": 8})})
    steps = client_steps(device_model(config, SHAPE, CLASSES, holds=1), config, SHAPE, CLASSES)
    flops = {stage: counted_flops(step) for stage, step in steps.items()}
    assert flops == {
        "features": 2 * 32 * (2 * CONV_1[3] + 3 * CONV_2 + 3 * HEAD),
        "experts": 2 * 32 * (2 * 400 * 256 + 3 * 256 * 10),
        "gate": 2 * 8 * 2 * GATE,
    }


def test_a_gate_in_closed_form_takes_no_steps() -> None:
    config = CONFIG.model_copy(update={"gate": CONFIG.gate.model_copy(update={"method": "closed-form"})})
    assert set(client_steps(device_model(config, SHAPE, CLASSES, holds=1), config, SHAPE, CLASSES)) == {
        "features",
        "experts",
    }


def test_a_step_of_the_whole_mixture_trains_one_expert_an_image() -> None:
    step = central_step(device_model(CONFIG, SHAPE, CLASSES), CONFIG, SHAPE)
    assert counted_flops(step) == 2 * 32 * (2 * CONV_1[3] + 3 * (CONV_2 + GATE + EXPERT))


def test_a_step_changes_the_weights() -> None:
    model = device_model(CONFIG, SHAPE, CLASSES, holds=1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for step in client_steps(model, CONFIG, SHAPE, CLASSES).values():
        step()
    changed = {name for name, weight in model.state_dict().items() if not weight.equal(before[name])}
    assert {name.partition(".")[0] for name in changed} == {"extractor", "layer"}


def steps_of(**changes: dict[str, object]) -> dict[str, int]:
    config = NetworkedConfig.model_validate(changes)
    model = device_model(config, SHAPE, CLASSES, holds=1)
    steps = client_steps(model, config, SHAPE, CLASSES)
    return {stage: counted_flops(step) for stage, step in steps.items()}


@pytest.mark.parametrize("method", ["rangate", "rollgate"])
def test_every_gate_that_is_trained_takes_the_same_steps(method: str) -> None:
    assert steps_of(gate={"method": method}) == steps_of(gate={"method": "fedgate"})


@pytest.mark.parametrize("method", ["fedsc", "local-spectral"])
def test_contrast_trains_on_two_views_of_every_image(method: str) -> None:
    of_views = 2 * 2 * 32 * (2 * CONV_1[3] + 3 * (CONV_2 + 400 * 256 + 256 * 64))
    # Beside the network there are products of projections of 64 values.
    assert of_views < steps_of(features={"method": method})["features"] < 1.1 * of_views


def test_what_is_fitted_to_sums_takes_no_steps() -> None:
    by_sums = {"experts": {"method": "sums"}, "gate": {"method": "posterior"}}
    assert set(steps_of(**by_sums)) == {"features"}
    patches = {"features": {"method": "patches"}, "model": {"backbone": "patches", "width": 8}}
    assert set(steps_of(**patches)) == {"experts", "gate"}


def test_fitted_experts_and_gates_are_counted_by_their_values() -> None:
    config = NetworkedConfig.model_validate({"experts": {"method": "sums"}, "gate": {"method": "posterior"}})
    state = device_model(config, SHAPE, CLASSES, holds=1).layer.state_dict()
    expert, gate = 400 * 10 + 10 + 10, 400 * 10 + 10 + 10 * 10
    assert sum(value.numel() for value in state.values()) == expert + gate
