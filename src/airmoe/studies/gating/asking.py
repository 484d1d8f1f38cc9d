"""Asking a trained model about held-out images over simulated links, by each method of the study.

Shape suffixes: T items, B items of a batch, E experts, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.channel_aware.stages import unseen
from airmoe.dispatch import Carrier
from airmoe.links import LinkSnr
from airmoe.nn import LocalCarrier, MixtureOfExperts, RadioCarrier
from airmoe.radio import make_transmission
from airmoe.randomness import stream
from airmoe.runs.asking import ask_layer
from airmoe.seeding import torch_seeded
from airmoe.studies.gating.models import BATCH, Asked
from airmoe.studies.gating.settings import GatingSettings


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers about images: which were right, which experts gave them, over which links.

    Attributes:
        right_T: bool, whether each image was classified correctly.
        chosen_TE: bool, the experts that answered.
        snr_db_TE: dB, the true SNR of every link.
    """

    right_T: NDArray[np.bool_]
    chosen_TE: NDArray[np.bool_]
    snr_db_TE: NDArray[np.float64]


def ask_over_links(asked: Asked, settings: GatingSettings, seed: int, point: int) -> Answers:
    """Return the answers about every image, each asked once over links of its own.

    All methods meet the same links at the same point of a curve.

    Args:
        asked: the model of the settings, and the images.
        settings: the curve at this point.
        seed: seed of links, noise and random choices.
        point: number of the point on its curve.
    """
    snr = LinkSnr.drawn(
        settings.process(),
        len(asked.labels_T),
        settings.experts,
        stream(seed, "study links", point),
        delay_slots=settings.delay_slots,
        error_db=settings.error_db,
    )
    method = settings.described
    if method.one_network:
        link_TE = np.zeros((len(asked.labels_T), 1), np.int64)
        if method.chooses == "best snr":
            link_TE = np.argsort(-snr.observed_db_TE, axis=1, kind="stable")[:, : settings.k]
        snr = LinkSnr(
            *(np.take_along_axis(db_TE, link_TE, axis=1) for db_TE in (snr.true_db_TE, snr.observed_db_TE))
        )
    elif not method.gate_is_told:
        snr = unseen(snr.true_db_TE)
    policy, radio = settings.policy_of(seed), RadioCarrier(make_transmission(settings.transmission))
    carrier: Carrier[Tensor, Tensor] = radio if method.over_links else LocalCarrier()

    def ask(batch_B: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        payload_B, labels_B, of_batch = (
            asked.payload_T[batch_B],
            asked.labels_T[batch_B],
            snr.of_items(batch_B.numpy()),
        )
        if method.chooses == "oracle":
            return _ask_all(asked.model, radio, payload_B, labels_B, of_batch)
        if of_batch.true_db_TE.shape[1] > len(asked.model.layer.experts):
            return _ask_copies(asked.model, radio, payload_B, labels_B, of_batch)
        answered = ask_layer(asked.model.layer, payload_B, policy=policy, carrier=carrier, snr=of_batch)
        return answered.answer_T == labels_B.cpu().numpy(), answered.arrived_TE

    with torch.no_grad(), torch_seeded(seed, "study noise", point):
        parts = [ask(batch_B) for batch_B in torch.arange(len(asked.labels_T)).split(BATCH)]
    right, chosen = zip(*parts, strict=True)
    return Answers(np.concatenate(right), np.concatenate(chosen), snr.true_db_TE)


def _ask_copies(
    model: MixtureOfExperts, radio: RadioCarrier, payload_B: Tensor, labels_B: Tensor, snr: LinkSnr
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Ask a copy of the one expert over every link; its answers count by the linear SNR that was observed."""
    answer_BC = sum(
        torch.from_numpy(10 ** (snr.observed_db_TE[:, [link]] / 10)).to(payload_B)
        * model.layer.experts[0](
            radio.transmission(payload_B, torch.from_numpy(snr.true_db_TE[:, link]).to(payload_B))
        )
        for link in range(snr.true_db_TE.shape[1])
    )
    assert isinstance(answer_BC, Tensor)
    right_B = (answer_BC.argmax(dim=1) == labels_B).cpu().numpy()
    return right_B, np.ones(snr.true_db_TE.shape, dtype=np.bool_)


def _ask_all(
    model: MixtureOfExperts, radio: RadioCarrier, payload_B: Tensor, labels_B: Tensor, snr: LinkSnr
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Ask every expert over its own link; any right one makes the image right, and counts as chosen."""
    right_BE = torch.stack(
        [
            expert(
                radio.transmission(payload_B, torch.from_numpy(snr.true_db_TE[:, number]).to(payload_B))
            ).argmax(dim=1)
            == labels_B
            for number, expert in enumerate(model.layer.experts)
        ],
        dim=1,
    )
    right = right_BE.cpu().numpy()
    return np.asarray(right.any(axis=1)), right
