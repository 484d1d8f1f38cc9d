"""Networks by name."""

import pytest
import torch
from torch import nn

from airmoe.errors import InvalidInputError
from airmoe.nn import (
    BiasGate,
    ConcatGate,
    LeNet5Expert,
    LeNet5Extractor,
    LinearGate,
    MlpExpert,
    MlpGate,
    NoisyTopK,
    ResNet18Expert,
    ResNet18Extractor,
    VitExpert,
    VitExtractor,
    build_extractor,
    build_model,
)


def test_build_model_puts_the_parts_together() -> None:
    model = build_model("lenet5", classes=7, experts=3, channels=1, expert_hidden=8, training_k=2)
    assert len(model.layer.experts) == 3
    assert model.layer.training_k == 2
    assert model.eval()(torch.rand(4, 1, 32, 32)).y_TC.shape == (4, 7)


@pytest.mark.parametrize(
    ("backbone", "extractor", "expert"),
    [
        ("lenet5", LeNet5Extractor, LeNet5Expert),
        ("resnet18", ResNet18Extractor, ResNet18Expert),
        ("vit", VitExtractor, VitExpert),
    ],
)
@pytest.mark.parametrize("hidden", [None, 4])
def test_experts_are_the_rest_of_the_backbone_or_mlps(
    backbone: str, extractor: type[nn.Module], expert: type[nn.Module], hidden: int | None
) -> None:
    width = {"resnet18": 4, "vit": 12}.get(backbone)
    model = build_model(
        backbone, classes=5, experts=3, channels=1, width=width, expert_hidden=hidden, training_k=2
    )
    assert type(model.extractor) is extractor
    assert {type(each) for each in model.layer.experts} == {MlpExpert if hidden else expert}
    images_TCHW = torch.rand(3, 1, 32, 32)
    assert model.train()(images_TCHW).y_TC.shape == (3, 5)
    torch.testing.assert_close(model.eval()(images_TCHW).y_TC.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize(("backbone", "norm"), [("lenet5", nn.GroupNorm), ("resnet18", nn.BatchNorm2d)])
def test_a_backbone_has_a_normalisation_of_its_own(backbone: str, norm: type[nn.Module]) -> None:
    layers = list(build_extractor(backbone, 1).modules())
    assert any(isinstance(layer, norm) for layer in layers)


def test_normalisation_and_width_reach_extractor_and_experts() -> None:
    model = build_model(
        "resnet18", classes=5, experts=2, channels=1, width=4, norm="group", expert_hidden=None
    )
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert model.extractor.payload_shape == (16, 8, 8)
    assert model.layer.experts[1].classifier.in_features == 32
    assert not any(
        isinstance(layer, nn.GroupNorm) for layer in build_extractor("lenet5", 1, "none").modules()
    )


@pytest.mark.parametrize(
    ("name", "gate"), [("linear", LinearGate), ("mlp", MlpGate), ("concat", ConcatGate), ("bias", BiasGate)]
)
def test_a_gate_is_had_by_name_with_or_without_noise(name: str, gate: type[nn.Module]) -> None:
    options = {"classes": 5, "experts": 3, "channels": 1, "gate": name, "training_k": 2}
    assert type(build_model("lenet5", **options).layer.gate) is gate  # type: ignore[arg-type]
    noisy = build_model("lenet5", noisy=True, **options)  # type: ignore[arg-type]
    assert type(noisy.layer.gate) is NoisyTopK
    assert noisy.layer.gate.k == 2
    assert type(noisy.layer.gate.gate) is gate
    assert noisy.train()(torch.rand(4, 1, 32, 32)).load_TE.shape == (4, 3)


@pytest.mark.parametrize("name", ["mlp", "concat", "bias"])
@pytest.mark.parametrize(("given", "hidden"), [({}, 128), ({"gate_hidden": 5}, 5)])
def test_the_hidden_layer_of_a_gate_is_as_wide_as_is_said(
    name: str, given: dict[str, int], hidden: int
) -> None:
    gate = build_model("lenet5", classes=5, experts=3, channels=1, gate=name, **given).layer.gate
    assert (gate.content if name == "bias" else gate).last.in_features == hidden


def test_normed_experts_see_what_differs_between_features_alone() -> None:
    def answers(normed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        options = {"classes": 5, "experts": 1, "channels": 1, "expert_hidden": 4, "expert_norm": normed}
        torch.manual_seed(0)
        expert = build_model("lenet5", **options).layer.experts[0]  # type: ignore[arg-type]
        payload_PF = torch.rand(6, 400)
        return expert(payload_PF), expert(3 * payload_PF + 2)

    torch.testing.assert_close(*answers(normed=True), rtol=0, atol=1e-4)
    plain, shifted = answers(normed=False)
    assert not torch.allclose(plain, shifted, rtol=0, atol=1e-2)


def test_a_bias_gate_serves_another_number_of_experts() -> None:
    gate = build_model("resnet18", classes=5, experts=3, channels=1, width=4, gate="bias").layer.gate
    wider = gate.of_experts([2, 0, None, 1, None])
    snr_db_TE = torch.tensor([[20.0, -5.0, 0.0, 10.0, 5.0]])
    scores_TE = wider(torch.rand(1, 16), snr_db_TE).scores_TE
    assert scores_TE.shape == (1, 5)
    torch.testing.assert_close(scores_TE.sum(), torch.tensor(1.0))


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return build_model("vit", classes=5, experts=2, width=12, expert_hidden=None).state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"experts": 0}, "experts is 0; expected an integer of at least 1"),
        ({"classes": 1}, "classes is 1; expected an integer of at least 2"),
        ({"expert_hidden": 0}, "expert_hidden is 0; expected an integer of at least 1"),
        ({"expert_hidden": True}, "expert_hidden is True; expected an integer of at least 1"),
        ({"training_k": 0}, "training_k is 0; expected an integer of at least 1"),
        ({"training_k": 4}, "training_k is 4; expected 1 to 3"),
        ({"training_k": 1.5}, "training_k is 1.5; expected an integer of at least 1"),
        ({"channels": 2}, "channels is 2; expected 1 or 3"),
        ({"norm": "batch"}, "norm is 'batch'; expected one of group, none"),
        ({"width": 16}, "width is 16; expected it left out: lenet5 offers no choice of it"),
        ({"backbone": "resnet18", "norm": "none"}, "norm is 'none'; expected one of batch, group"),
        ({"backbone": "resnet18", "width": -1}, "width is -1; expected an integer of at least 1"),
        (
            {"backbone": "vit", "norm": "batch"},
            "norm is 'batch'; expected it left out: vit offers no choice of it",
        ),
        ({"backbone": "vit", "width": 16}, "heads is 3; expected a divisor of the width, 16"),
        (
            {"backbone": "hf:x", "norm": "group"},
            "norm is 'group'; expected it left out: hf:x offers no choice",
        ),
        ({"backbone": "hf:x", "width": 16}, "width is 16; expected it left out: hf:x offers no choice"),
        ({"gate_hidden": 4}, "gate_hidden is 4; expected it left out: linear offers no choice of it"),
        ({"gate": "bias", "gate_hidden": 0}, "gate_hidden is 0; expected an integer of at least 1"),
        ({"gate": "softmax"}, "gate is 'softmax'; expected one of linear, mlp, concat, bias"),
        ({"noisy": True, "training_k": 4}, "training_k is 4; expected 1 to 3"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_expected(wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"backbone": "lenet5", "classes": 10, "experts": 3} | wrong
    with pytest.raises(InvalidInputError, match=message):
        build_model(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["lenet6", "", "hf:", "LeNet5"])
def test_an_unknown_backbone_is_refused_with_the_known_ones(name: str) -> None:
    expected = f"backbone is '{name}'; expected one of lenet5, resnet18, vit, patches, hf:NAME_OR_PATH"
    with pytest.raises(InvalidInputError, match=expected):
        build_extractor(name, 1)
