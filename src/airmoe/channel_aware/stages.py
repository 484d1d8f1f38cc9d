"""The two training stages of a channel-aware mixture (after arXiv 2504.00819).

1 "clean": one network learns, or a few with a gate, and every expert begins stage 2 as a copy of one of them;
or, as published, extractor, gate and experts learn together, without a channel. 2 "channel": payloads cross
simulated links whose SNR is drawn anew for every image and expert. The gate learns what a link is worth.

Shape suffixes: T items, B items of a batch, E experts, C channels, H height, W width.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.channel_aware.augmentation import augmented
from airmoe.channel_aware.config import ChannelAwareConfig, ChannelStageSettings, StageSettings
from airmoe.channel_aware.expected_loss import expected_loss
from airmoe.channel_aware.routing_loss import RoutingLoss, routing_loss
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.links import LinkSnr, SnrProcess, TraceSnr, make_process
from airmoe.nn import LocalCarrier, MixtureOfExperts, MoeOutput, RadioCarrier
from airmoe.nn.build import backbone_digest
from airmoe.nn.channel_gates import GOOD_SNR_DB
from airmoe.progress import Progress, silent
from airmoe.radio import make_transmission
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.optimiser_state import flattened, restored
from airmoe.runs.run_writing import fingerprint
from airmoe.runs.weights import load_weights
from airmoe.seeding import torch_seeded
from airmoe.showing import OneLine

CHECK_EVERY = 50
"""Steps between looks at the loss: each look waits for the device."""

_MODEL, _OPTIMISER = "model", "optimiser"


@dataclass(frozen=True, eq=False, repr=False)
class TrainingImages(OneLine):
    """Images to train on, on the device that trains: ``images_TCHW`` uint8, ``labels_T`` int64."""

    images_TCHW: Tensor
    labels_T: Tensor

    @classmethod
    def drawn(cls, config: ChannelAwareConfig, images: ImageSet, device: torch.device) -> "TrainingImages":
        """Return the images that a configuration trains on.

        Raises:
            InvalidInputError: it wants more than there are.
        """
        wanted, available = config.data.train_images, len(images.train_labels)
        chosen_T = np.arange(available)
        if wanted is not None:
            if wanted > available:
                expected = f"at most {available}, or left out for all"
                raise InvalidInputError("data.train_images", wanted, expected)
            chosen_T = np.sort(stream(config.seed, "training images").permutation(available)[:wanted])
        return cls(
            torch.from_numpy(images.train_images[chosen_T]).to(device),
            torch.from_numpy(images.train_labels[chosen_T]).to(device),
        )


def channel_aware_fingerprint(config: ChannelAwareConfig, images: ImageSet) -> str:
    """Return a digest of a run's configuration, images, traces if it replays any, and pretrained weights.

    Raises:
        DataError: traces that cannot be read.
        InvalidInputError: as `airmoe.nn.build_extractor`.
    """
    process = make_process(config.channel.snr)
    traces = [process.digest] if isinstance(process, TraceSnr) else []
    backbone = backbone_digest(config.model.backbone, images.train_images.shape[1])
    return fingerprint(config, images, *traces, backbone)


def pick_device(name: str) -> torch.device:
    """Return a device by name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        InvalidInputError: an unknown device, or one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device: torch.device | None
    try:
        device = torch.zeros((), device=name).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InvalidInputError("device", name, "auto, cpu, or cuda where PyTorch finds a GPU")
    return device


def train_stage(
    stage: str,
    model: MixtureOfExperts,
    config: ChannelAwareConfig,
    data: TrainingImages,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> list[MetricsRow]:
    """Train a mixture in place over one stage; return a metrics row per epoch.

    Args:
        stage: "clean" or "channel".
        model: on the device of the data.
        config: the run.
        data: what to train on.
        checkpoint: saved after every epoch. Training goes on where it stands, with the same result.
        progress: told the stage and its steps; at the end of an epoch only after the checkpoint is saved.

    Raises:
        TrainingDivergedError: a loss or a weight is not finite; the last checkpoint is the last good one.
        RunFolderError: a checkpoint is damaged, or of another model or configuration.
    """
    training = _Stage(stage, model, config, data, progress)
    rows: list[MetricsRow] = []
    if checkpoint is not None and (saved := checkpoint.load(stage)) is not None:
        rows = saved.rows
        load_weights(model, saved.groups[_MODEL], f"checkpoint of stage {stage}")
        restored(training.optimiser, saved.groups.get(_OPTIMISER, {}))
    for epoch in range(len(rows), training.settings.epochs):
        loss = training.epoch(epoch)
        rows.append({"stage": stage, "round": epoch + 1, "loss": loss})
        if checkpoint is not None:
            groups = {_MODEL: _on_cpu(model.state_dict()), _OPTIMISER: flattened(training.optimiser)}
            checkpoint.save(stage, groups, rows)
        progress(stage, (epoch + 1) * training.batches, training.steps, f"loss {loss:.3f}")
    model.eval()
    return rows


class _Stage:
    """One stage of a mixture's training; see `train_stage`."""

    def __init__(
        self,
        name: str,
        model: MixtureOfExperts,
        config: ChannelAwareConfig,
        data: TrainingImages,
        progress: Progress,
    ) -> None:
        self._name, self._model, self._config, self._data = name, model, config, data
        self._progress = progress
        self.settings: StageSettings = config.clean if name == "clean" else config.channel
        self._process: SnrProcess | None = None
        self._extractor_rate = 1.0
        self._carrier: LocalCarrier | RadioCarrier = LocalCarrier()
        if name == "channel" or config.clean.over_links:
            self._process = make_process(config.channel.snr)
            self._carrier = RadioCarrier(make_transmission(config.channel.transmission))
        if name == "channel":
            self._extractor_rate = config.channel.extractor_rate
        shares = {
            model.layer.experts: 1.0,
            model.layer.gate: self.settings.gate_rate,
            model.extractor: self._extractor_rate,
        }
        groups = [
            {"params": tuned, "lr": self.settings.learning_rate * share}
            for part, share in shares.items()
            if share and (tuned := [weight for weight in part.parameters() if weight.requires_grad])
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay)
        self._rates: list[float] = [group["lr"] for group in self.optimiser.param_groups]
        self.batches = math.ceil(len(data.labels_T) / self.settings.batch_size)
        self.steps = self.batches * self.settings.epochs

    def epoch(self, epoch: int) -> float:
        """Train over all images once; return the mean loss."""
        data, device, first = self._data, self._data.labels_T.device, epoch * self.batches
        random = stream(self._config.seed, f"{self._name} epoch", epoch)
        order_T = torch.from_numpy(random.permutation(len(data.labels_T))).to(device)
        snr = None
        if self._process is not None:
            # A stream of their own: images are mirrored alike whatever links, experts and gate there are.
            links = stream(self._config.seed, f"{self._name} links", epoch)
            settings = self._config.channel
            snr_db_TE = self._process.draw(len(order_T), self._config.model.experts, links)
            experts = len(self._model.layer.experts)
            if experts < self._config.model.experts:
                snr_db_TE = _any_links(snr_db_TE, experts, links)
            if experts > 1:
                snr_db_TE = _some_alike(snr_db_TE, settings, links)
            snr = LinkSnr(snr_db_TE) if settings.gate_sees_snr else unseen(snr_db_TE)
        self._model.train()
        if not self._extractor_rate:
            self._model.extractor.eval()  # its batch statistics stay as they are, too
        losses: list[Tensor] = []
        with torch_seeded(self._config.seed, f"{self._name} noise", epoch):
            for number, place_B in enumerate(torch.arange(len(order_T)).split(self.settings.batch_size)):
                of_batch = None if snr is None else snr.of_items(place_B.numpy())
                losses.append(self._step(first + number, order_T[place_B.to(device)], of_batch, random))
                if (number + 1) % CHECK_EVERY == 0 or number + 1 == self.batches:
                    _refuse_divergence(self._name, losses, first, self.steps)
                if (number + 1) % CHECK_EVERY == 0 and number + 1 < self.batches:
                    done, note = first + number + 1, f"loss {float(losses[-1]):.3f}"
                    self._progress(self._name, done, self.steps, note)
        if not all(bool(tensor.isfinite().all()) for tensor in self._model.state_dict().values()):
            raise TrainingDivergedError(
                f"{self._name}: a weight is not finite after step {first + self.batches} of {self.steps}"
            )
        return float(torch.stack(losses).mean())

    def _step(self, step: int, batch_B: Tensor, snr: LinkSnr | None, random: np.random.Generator) -> Tensor:
        """Take one step; return the nll, which is made not finite where the whole loss is not."""
        config, data, device = self._config, self._data, batch_B.device
        share = self._share_of_rate(step)
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        images_BCHW = augmented(data.images_TCHW[batch_B], config.data.flip, config.data.shift, random)
        with torch.autocast(device.type, torch.bfloat16, enabled=_in_bfloat16(config, device)):
            output = self._model(images_BCHW, snr=snr, carrier=self._carrier)
        loss = self._loss(output, data.labels_T[batch_B])
        self.optimiser.zero_grad()
        loss.total.backward()
        self.optimiser.step()
        return loss.nll.detach() + 0 * loss.total.detach()

    def _share_of_rate(self, step: int) -> float:
        falling = (1 + math.cos(math.pi * step / self.steps)) / 2
        rising_steps = self.settings.warmup * self.steps
        return falling * min(1.0, (step + 1) / rising_steps) if rising_steps else falling

    def _loss(self, output: MoeOutput, labels_B: Tensor) -> RoutingLoss:
        settings, layer = self.settings, self._model.layer
        one_expert = layer.training_k + layer.explored == 1
        if settings.objective == "expected" and not one_expert:
            return expected_loss(output, labels_B, settings.balance, settings.common)
        return routing_loss(output, labels_B, settings.balance, one_expert=one_expert)


def _any_links(
    snr_db_TE: NDArray[np.float64], experts: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return so many of each image's links, drawn at random: a network is to stand behind any of them."""
    link_TE = random.permuted(np.broadcast_to(np.arange(snr_db_TE.shape[1]), snr_db_TE.shape), axis=1)
    return np.take_along_axis(snr_db_TE, link_TE[:, :experts], axis=1)


def _some_alike(
    snr_db_TE: NDArray[np.float64], settings: ChannelStageSettings, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the links, those of some images all set to their worst one, those of others to any of them."""
    if settings.no_good_link:
        bad_T1 = random.random((len(snr_db_TE), 1)) < settings.no_good_link
        snr_db_TE = np.where(bad_T1, snr_db_TE.min(axis=1, keepdims=True), snr_db_TE)
    if settings.alike:
        alike_T1 = random.random((len(snr_db_TE), 1)) < settings.alike
        snr_db_TE = np.where(alike_T1, _any_links(snr_db_TE, 1, random), snr_db_TE)
    return snr_db_TE


def unseen(true_db_TE: NDArray[np.float64]) -> LinkSnr:
    """Return links that no gate sees: it assumes that all of them are good."""
    return LinkSnr(true_db_TE, np.full_like(true_db_TE, GOOD_SNR_DB))


def _in_bfloat16(config: ChannelAwareConfig, device: torch.device) -> bool:
    return config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")


def _refuse_divergence(stage: str, losses: list[Tensor], first: int, total: int) -> None:
    wrong = (~torch.stack(losses).isfinite()).nonzero()
    if len(wrong):
        step = int(wrong[0])
        raise TrainingDivergedError(
            f"{stage}: the loss is {float(losses[step])} at step {first + step + 1} of {total}"
        )


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in state.items()}
