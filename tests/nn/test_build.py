"""Networks by name, and the shapes they map."""

import pytest
import torch

from airmoe.errors import InvalidInputError
from airmoe.nn import LeNet5Extractor, MlpExpert, build_extractor, build_model


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["group", "none"])
def test_lenet5_maps_images_to_400_features(channels: int, norm: str) -> None:
    extractor = LeNet5Extractor(channels, norm)  # type: ignore[arg-type]
    assert extractor(torch.rand(2, channels, 32, 32)).shape == (2, extractor.features) == (2, 400)


@pytest.mark.parametrize(
    ("channels", "norm", "expected"), [(1, "none", 2572), (3, "none", 2872), (1, "group", 2616)]
)
def test_lenet5_has_the_parameters_of_its_two_convolutions(channels: int, norm: str, expected: int) -> None:
    # 6 (25 C + 1) + 16 (6 x 25 + 1), and two per normalised channel.
    assert sum(p.numel() for p in LeNet5Extractor(channels, norm).parameters()) == expected  # type: ignore[arg-type]


def test_lenet5_answers_each_image_alone() -> None:
    extractor, images = LeNet5Extractor(1), torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(extractor(images)[1:2], extractor(images[1:2]))


def test_lenet5_centres_pixels_itself() -> None:
    extractor, images = LeNet5Extractor(1), torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(extractor(images), extractor.layers(4 * images - 2))


def test_an_expert_answers_with_probabilities_and_trains_on_logits() -> None:
    expert, features = MlpExpert(5, 3, hidden=4), torch.randn(6, 5)
    torch.testing.assert_close(expert(features).sum(dim=1), torch.ones(6))
    torch.testing.assert_close(torch.softmax(expert.logits(features), dim=1), expert(features))


def test_build_model_puts_the_parts_together() -> None:
    model = build_model("lenet5", classes=7, experts=3, channels=1, expert_hidden=8, training_k=2)
    assert len(model.experts) == 3
    assert model.training_k == 2
    assert model.eval()(torch.rand(4, 1, 32, 32)).y_TC.shape == (4, 7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"experts": 0}, "experts is 0; expected at least 1"),
        ({"classes": 1}, "classes is 1; expected at least 2"),
        ({"expert_hidden": 0}, "expert_hidden is 0; expected at least 1"),
        ({"training_k": 0}, "training_k is 0; expected 1 to 3"),
        ({"training_k": 4}, "training_k is 4; expected 1 to 3"),
        ({"channels": 2}, "channels is 2; expected 1 or 3"),
        ({"norm": "batch"}, "norm is 'batch'; expected one of group, none"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_expected(wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"classes": 10, "experts": 3} | wrong
    with pytest.raises(InvalidInputError, match=message):
        build_model("lenet5", **arguments)  # type: ignore[arg-type]


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="backbone is 'lenet6'; expected one of lenet5"):
        build_extractor("lenet6", 1)
