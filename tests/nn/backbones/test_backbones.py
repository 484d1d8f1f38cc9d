"""Backbones cut in two: shapes, parameters, and that both halves together are the network as published.

Shape suffixes: T items, C channels or classes, H height, W width.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from airmoe.errors import InvalidInputError
from airmoe.nn import (
    ClassifierExpert,
    Extractor,
    LeNet5Extractor,
    MlpExpert,
    Pooling,
    ResNet18Expert,
    ResNet18Extractor,
    VitExpert,
    VitExtractor,
    build_extractor,
    pool,
)
from airmoe.nn.backbones.resnet18 import BasicBlock
from airmoe.runs.onnx_files import export_onnx

TINY: dict[str, Callable[[int], Extractor]] = {
    "lenet5": LeNet5Extractor,
    "lenet5 none": lambda channels: LeNet5Extractor(channels, "none"),
    "resnet18": lambda channels: ResNet18Extractor(channels, width=4),
    "resnet18 group": lambda channels: ResNet18Extractor(channels, width=4, norm="group"),
    "vit": lambda channels: VitExtractor(channels, patch=8, width=12, depth=3, heads=3),
}
CLASSES = 7


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def disturb(*modules: nn.Module) -> None:
    """Give every parameter and statistic a value that no initialisation gives, so that each one counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in modules:
            for tensor in module.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TINY)
def test_payload_and_pooled_width_are_as_declared(name: str, channels: int) -> None:
    extractor = TINY[name](channels)
    payload_T = extractor(torch.rand(2, channels, 32, 32))
    assert payload_T.shape == (2, *extractor.payload_shape)
    assert pool(payload_T, extractor.pooling).shape == (2, extractor.features)
    assert extractor.tail(CLASSES)(payload_T).shape == (2, CLASSES)


SIZES = [(16, 16), (28, 28), (33, 47), (64, 96), (128, 128)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backbone", ["lenet5", "resnet18"])
def test_images_of_any_size_give_the_payload_that_is_declared(backbone: str, size: tuple[int, int]) -> None:
    extractor = build_extractor(backbone, 3, width=4 if backbone == "resnet18" else None, size=size)
    images_TCHW = torch.rand(2, 3, *size)
    payload_T = extractor(images_TCHW)
    assert extractor.size == size
    assert payload_T.shape == (2, *extractor.payload_shape)
    assert pool(payload_T, extractor.pooling).shape == (2, extractor.features)
    assert extractor.tail(CLASSES)(payload_T).shape == (2, CLASSES)


@pytest.mark.parametrize(
    ("size", "tokens"), [((32, 32), 65), ((16, 16), 65), ((128, 128), 65), ((224, 224), 65), ((64, 96), 97)]
)
def test_a_vit_cuts_the_shorter_side_of_images_of_any_size_into_eight(
    size: tuple[int, int], tokens: int
) -> None:
    extractor = VitExtractor(3, width=12, depth=3, size=size)
    assert extractor.payload_shape == (tokens, 12)
    assert extractor(torch.rand(2, 3, *size)).shape == (2, tokens, 12)


@pytest.mark.parametrize(
    ("backbone", "size", "said"),
    [
        ("lenet5", (15, 32), r"size of images is \(15, 32\); expected 16 x 16 at least for lenet5"),
        ("lenet5", (32, 15), r"size of images is \(32, 15\); expected 16 x 16 at least for lenet5"),
        ("resnet18", (0, 32), "size of images is 0; expected an integer of at least 1"),
        ("vit", (4, 4), r"size of images is \(4, 4\); expected 8 x 8 at least for vit"),
        ("vit", (28, 28), r"size of images is \(28, 28\); expected multiples of 8 for vit"),
        ("vit", (16, 17), r"size of images is \(16, 17\); expected multiples of 8"),
    ],
)
def test_a_size_that_a_backbone_cannot_take_is_refused(
    backbone: str, size: tuple[int, int], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        build_extractor(backbone, 3, size=size)


@pytest.mark.parametrize(("side", "map_side"), [(32, 8), (63, 16), (64, 4), (96, 6), (128, 8), (224, 14)])
def test_resnet18_has_its_original_stem_from_64_pixels_on(side: int, map_side: int) -> None:
    extractor = ResNet18Extractor(3, width=4, size=(side, side))
    assert extractor.payload_shape == (16, map_side, map_side)
    stem = next(layer for layer in extractor.modules() if isinstance(layer, nn.Conv2d))
    assert stem.kernel_size == ((7, 7) if side >= 64 else (3, 3))


def test_resnet18_of_224_pixels_has_the_parameters_of_the_published_network() -> None:
    extractor = ResNet18Extractor(3, size=(224, 224))
    assert parameters(extractor, extractor.tail(1000)) == 11_689_512


@pytest.mark.parametrize(
    ("extractor", "shape", "features"),
    [
        (LeNet5Extractor, (400,), 400),
        (ResNet18Extractor, (256, 8, 8), 256),
        (VitExtractor, (65, 192), 192),
    ],
)
def test_default_payloads_are_those_of_the_method(
    extractor: type[Extractor], shape: tuple[int, ...], features: int
) -> None:
    made = extractor(3)
    assert (made.payload_shape, made.features) == (shape, features)


@pytest.mark.parametrize(
    ("channels", "norm", "expected"), [(1, "none", 2572), (3, "none", 2872), (1, "group", 2616)]
)
def test_lenet5_has_the_parameters_of_its_two_convolutions(channels: int, norm: str, expected: int) -> None:
    # 6 (25 C + 1) + 16 (6 x 25 + 1), and two per normalised channel.
    assert parameters(LeNet5Extractor(channels, norm)) == expected  # type: ignore[arg-type]


def test_lenet5_as_a_whole_has_62006_parameters() -> None:
    extractor = LeNet5Extractor(3, "none")
    assert parameters(extractor, extractor.tail(10)) == 62_006


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_resnet18_as_a_whole_has_11173962_parameters(norm: str) -> None:
    extractor = ResNet18Extractor(3, norm=norm)  # type: ignore[arg-type]
    assert parameters(extractor, extractor.tail(10)) == 11_173_962


@pytest.mark.parametrize(("patch", "width", "depth", "classes"), [(4, 192, 6, 10), (8, 12, 3, 7)])
def test_vit_has_the_parameters_of_its_blocks(patch: int, width: int, depth: int, classes: int) -> None:
    extractor = VitExtractor(3, patch, width, depth, heads=3)
    tokens = (32 // patch) ** 2 + 1
    embedding = (3 * patch**2 + 1) * width + width + tokens * width
    # Two normalisations, query, key, value and projection, and an MLP four times as wide.
    block = 2 * 2 * width + 4 * (width + 1) * width + (width + 1) * 4 * width + (4 * width + 1) * width
    head = 2 * width + (width + 1) * classes
    assert parameters(extractor) == embedding + (depth - 2) * block
    assert parameters(extractor.tail(classes)) == 2 * block + head


def test_lenet5_is_the_published_network() -> None:
    extractor = LeNet5Extractor(3, "none")
    expert = extractor.tail(CLASSES)
    disturb(extractor, expert)
    images_TCHW = torch.rand(3, 3, 32, 32)
    first, second = (layer for layer in extractor.modules() if isinstance(layer, nn.Conv2d))
    x = 4 * images_TCHW - 2
    x = functional.max_pool2d(functional.conv2d(x, first.weight, first.bias).relu(), 2)
    x = functional.max_pool2d(functional.conv2d(x, second.weight, second.bias).relu(), 2).flatten(1)
    c5, f6, output = (layer for layer in expert.modules() if isinstance(layer, nn.Linear))
    assert [layer.out_features for layer in (c5, f6, output)] == [120, 84, CLASSES]
    x = functional.linear(functional.linear(x, c5.weight, c5.bias).relu(), f6.weight, f6.bias).relu()
    expected_TC = functional.linear(x, output.weight, output.bias)
    torch.testing.assert_close(expert.logits(extractor(images_TCHW)), expected_TC)


def unsplit_resnet18(images_TCHW: Tensor, layers: list[nn.Module], classifier: nn.Linear) -> Tensor:
    """The network by its definition, on convolutions and normalisations in their order; eval mode."""
    queue = iter(layers)

    def normed(x: Tensor, stride: int) -> Tensor:
        conv, norm = next(queue), next(queue)
        x = functional.conv2d(x, conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2)
        return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    x = normed(4 * images_TCHW - 2, 1).relu()
    for layer in range(4):
        for block in range(2):
            stride = 2 if layer > 0 and block == 0 else 1
            y = normed(normed(x, stride).relu(), 1)
            x = (y + (normed(x, 2) if stride == 2 else x)).relu()
    return functional.linear(x.mean(dim=(2, 3)), classifier.weight, classifier.bias)


def test_resnet18_is_the_published_network() -> None:
    extractor = ResNet18Extractor(3, width=4).eval()
    expert = extractor.tail(CLASSES).eval()
    disturb(extractor, expert)
    layers = [
        layer
        for half in (extractor, expert)
        for layer in half.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    images_TCHW = torch.rand(3, 3, 32, 32)
    expected_TC = unsplit_resnet18(images_TCHW, layers, expert.classifier)
    torch.testing.assert_close(expert.logits(extractor(images_TCHW)), expected_TC)


def test_vit_is_a_stack_of_pre_norm_encoder_layers() -> None:
    width, heads = 12, 3
    extractor = VitExtractor(3, patch=8, width=width, depth=5, heads=heads)
    expert = extractor.tail(CLASSES)
    disturb(extractor, expert)
    images_TCHW = torch.rand(3, 3, 32, 32)
    patch_TCHW = extractor.patches(4 * images_TCHW - 2)
    tokens = [extractor.class_token_11D.expand(3, 1, width)]
    tokens += [patch_TCHW[:, :, row, column].unsqueeze(1) for row in range(4) for column in range(4)]
    x = torch.cat(tokens, dim=1) + extractor.position_1LD
    blocks = [*extractor.blocks, *expert.blocks]
    assert len(blocks) == 5
    for block in blocks:
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        named = {
            "self_attn.in_proj_": block.query_key_value,
            "self_attn.out_proj.": block.projection,
            "linear1.": block.mlp[0],
            "linear2.": block.mlp[2],
            "norm1.": block.attention_norm,
            "norm2.": block.mlp_norm,
        }
        layer.load_state_dict(
            {f"{name}{kind}": getattr(m, kind) for name, m in named.items() for kind in ("weight", "bias")}
        )
        x = layer(x)
    expected_TC = expert.classifier(expert.norm(x)[:, 0])
    torch.testing.assert_close(expert.logits(extractor(images_TCHW)), expected_TC)


@pytest.mark.parametrize("name", TINY)
def test_in_evaluation_each_image_is_answered_alone(name: str) -> None:
    extractor = TINY[name](1).eval()
    expert = extractor.tail(CLASSES).eval()
    images_TCHW = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(expert(extractor(images_TCHW))[1:2], expert(extractor(images_TCHW[1:2])))


def test_group_normalisation_does_not_look_at_other_items_even_in_training() -> None:
    images_TCHW = torch.rand(3, 1, 32, 32)
    for name, alone in (("resnet18 group", True), ("resnet18", False)):
        extractor = TINY[name](1).train()
        together_T, single_T = extractor(images_TCHW)[:1], extractor(images_TCHW[:1])
        assert torch.allclose(together_T, single_T, atol=1e-5) == alone


@pytest.mark.parametrize("width", [1, 16, 17, 50, 64])
def test_any_width_can_be_normalised_in_groups(width: int) -> None:
    extractor = ResNet18Extractor(1, width=width, norm="group")
    groups = {m.num_channels: m.num_groups for m in extractor.modules() if isinstance(m, nn.GroupNorm)}
    assert set(groups) == {width, 2 * width, 4 * width}
    if width % 16 == 0:
        assert all(channels // number == 16 for channels, number in groups.items())


@pytest.mark.parametrize("name", TINY)
def test_an_expert_learns_from_a_single_row(name: str) -> None:
    extractor = TINY[name](1).train()
    expert = extractor.tail(CLASSES).train()
    payload_T = extractor(torch.rand(1, 1, 32, 32)).detach()
    functional.cross_entropy(expert.logits(payload_T), torch.tensor([3])).backward()
    for parameter_name, parameter in expert.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert any(parameter.grad.abs().sum() > 0 for parameter in expert.parameters())


@pytest.mark.parametrize("name", TINY)
def test_an_expert_answers_with_probabilities_and_trains_on_logits(name: str) -> None:
    extractor = TINY[name](1).eval()
    payload_T = extractor(torch.rand(6, 1, 32, 32))
    for expert in (extractor.tail(CLASSES), MlpExpert(extractor.features, CLASSES, 4, extractor.pooling)):
        assert isinstance(expert, ClassifierExpert)
        probability_TC = expert.eval()(payload_T)
        torch.testing.assert_close(probability_TC.sum(dim=1), torch.ones(6))
        torch.testing.assert_close(torch.softmax(expert.logits(payload_T), dim=1), probability_TC)


@pytest.mark.parametrize(("pooling", "shape"), [("map", (5, 8, 8)), ("tokens", (17, 5)), ("vector", (5,))])
def test_an_mlp_expert_sees_what_the_gate_sees(pooling: Pooling, shape: tuple[int, ...]) -> None:
    expert, payload_T = MlpExpert(5, CLASSES, 4, pooling), torch.rand(2, *shape)
    logits = expert.layers(pool(payload_T, pooling))
    torch.testing.assert_close(expert(payload_T), torch.softmax(logits, dim=1))


@pytest.mark.usefixtures("traced_anew")
@pytest.mark.parametrize(
    "name", ["lenet5", *(pytest.param(each, marks=pytest.mark.long) for each in ("resnet18", "vit"))]
)
def test_both_halves_export_with_a_free_batch_axis(name: str, tmp_path: Path) -> None:
    extractor = TINY[name](3)
    network = nn.Sequential(extractor, extractor.tail(CLASSES)).eval()
    path = tmp_path / "network.onnx"
    export_onnx(network, {"input": torch.rand(2, 3, 32, 32)}, path)  # which compares the outputs
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images_TCHW = torch.rand(5, 3, 32, 32)
    (probability_TC,) = session.run(["output"], {"input": images_TCHW.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(probability_TC), network(images_TCHW), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet5Extractor(1, "batch"), "norm is 'batch'; expected one of group, none"),  # type: ignore[arg-type]
        (lambda: ResNet18Extractor(1, norm="none"), "norm is 'none'; expected one of batch, group"),  # type: ignore[arg-type]
        (lambda: ResNet18Extractor(1, width=0), "width is 0; expected an integer of at least 1"),
        (lambda: ResNet18Expert(2, width=0), "width is 0; expected an integer of at least 1"),
        (lambda: ResNet18Expert(2, norm="layer"), "norm is 'layer'; expected one of batch, group"),  # type: ignore[arg-type]
        (lambda: VitExtractor(1, width=10), "heads is 3; expected a divisor of the width, 10"),
        (lambda: VitExpert(2, width=10), "heads is 3; expected a divisor of the width, 10"),
        (lambda: VitExtractor(1, heads=0), "heads is 0; expected an integer of at least 1"),
        (lambda: VitExtractor(1, width=0), "width is 0; expected an integer of at least 1"),
        (lambda: VitExtractor(1, depth=2), "depth is 2; expected an integer of at least 3"),
        (lambda: VitExtractor(1, patch=5), "patch is 5; expected a divisor of 32"),
        (lambda: VitExtractor(1, patch=0), "patch is 0; expected an integer of at least 1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_expected(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_shortcut_is_a_convolution_that_strides(stride: int) -> None:
    block, map_TCHW = BasicBlock(4, 8, stride, "group").eval(), torch.rand(3, 4, 9, 9)
    convolution, norm = block.shortcut[0], block.shortcut[1]  # type: ignore[index]
    strided = norm(nn.functional.conv2d(map_TCHW, convolution.weight, stride=stride))
    expected = torch.relu(block.residual(map_TCHW) + strided)
    torch.testing.assert_close(block(map_TCHW), expected)


NARROW = """
import torch
from airmoe.nn.backbones.resnet18 import BasicBlock
torch.set_num_threads(1)
block = BasicBlock(4, 8, 2, "group")
for _ in range(200):
    map_TCHW = torch.rand(32, 4, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
    block(map_TCHW).sum().backward()
    among = [torch.rand(7 * size + 3) for size in range(20)]
"""


def test_narrow_maps_with_channels_last_are_trained_without_harm_to_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
