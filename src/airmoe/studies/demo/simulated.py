"""The same trials without a network: experts in this process behind simulated links.

Shape suffixes: Q queries (one image each), I queries decided at once, T items, E experts, C channels or
classes, H height, W width; a payload has the shape that the extractor gives it.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from airmoe.dispatch import Carrier
from airmoe.links import LinkSnr
from airmoe.networked.features import features_of
from airmoe.networked.fedce import Network
from airmoe.nn import MixtureOfExperts
from airmoe.runs.asking import ask_layer, joined
from airmoe.runs.evaluation import outputs_in_batches
from airmoe.scheduling import Policy
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.trials import Trial

BYTES_PER_VALUE = 4


def ask_simulated(
    model: MixtureOfExperts,
    policy: Policy,
    carrier: Carrier[torch.Tensor, torch.Tensor],
    questions: Questions,
    snr: LinkSnr | None = None,
) -> Trial:
    """Have every client ask about all images over simulated links.

    Each client's images are one batch; a joint policy decides on the images of all clients as one slot.

    Bytes are those of features out and probabilities back, without frames; latency is not measured.

    Args:
        model: the mixture.
        policy: decides.
        carrier: transports and prices.
        questions: the images that every client asks about; client i is node i.
        snr: the SNR of each query's links, the images of client 0 first; default that of the carrier's links.
    """
    model.eval()
    clients, images = questions.clients, len(questions.labels_T)
    client_Q, parts = np.repeat(np.arange(clients), images), []
    (payload_T,) = features_of(model.extractor, [questions.pixels_TCHW])
    for query_I in np.split(np.arange(len(client_Q)), 1 if policy.joint else clients):
        payload_I = torch.cat([payload_T] * (len(query_I) // images))
        of_part = None if snr is None else snr.of_items(query_I)
        parts.append(
            ask_layer(model.layer, payload_I, client_Q[query_I], policy=policy, carrier=carrier, snr=of_part)
        )
    asked, own_Q = joined(parts), (np.arange(len(client_Q)), client_Q)
    remote_Q = asked.requested_TE.sum(axis=1) - asked.requested_TE[own_Q]
    return _untimed(
        questions,
        answer_Q=asked.answer_T,
        requested_QE=asked.requested_TE,
        own_weight_Q=asked.weights_TE[own_Q],
        energy_j_Q=asked.energy_j_T,
        bytes_Q=remote_Q * (payload_T[0].numel() + questions.classes) * BYTES_PER_VALUE,
    )


def ask_one_network(network: Network, questions: Questions) -> Trial:
    """Have every client answer all images with its own copy of one network: nothing is sent."""
    at_once = network.extractor.images_at_once
    answer_T = outputs_in_batches(network, questions.pixels_TCHW, at_once).argmax(dim=1).numpy()
    clients, images = questions.clients, len(questions.labels_T)
    queries = clients * images
    return _untimed(
        questions,
        answer_Q=np.tile(answer_T, clients),
        requested_QE=np.repeat(np.eye(clients, dtype=np.bool_), images, axis=0),
        own_weight_Q=np.ones(queries),
        energy_j_Q=np.zeros(queries),
        bytes_Q=np.zeros(queries, np.int64),
    )


def _untimed(questions: Questions, **figures: NDArray[Any]) -> Trial:
    """Return the trial of all clients asking about all images in order; nothing is timed, nothing lost."""
    clients, images = questions.clients, len(questions.labels_T)
    queries = clients * images
    return Trial(
        client_Q=np.repeat(np.arange(clients), images),
        image_Q=np.tile(np.arange(images), clients),
        label_Q=np.tile(questions.labels_T, clients),
        latency_s_Q=np.full(queries, np.nan),
        rerouted_Q=np.zeros(queries, np.bool_),
        degraded_Q=np.zeros(queries, np.bool_),
        fallback_Q=np.zeros(queries, np.bool_),
        **figures,
    )
