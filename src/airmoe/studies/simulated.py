"""The same trials without a network: experts in this process behind simulated links.

Shape suffixes: Q queries (one image each), T items, E experts, C channels or classes, H height, W width.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from airmoe.links import Links
from airmoe.nn import IdealRadioCarrier, MixtureOfExperts
from airmoe.scheduling import Policy
from airmoe.studies.trials import Trial
from airmoe.training.evaluation import outputs_in_batches
from airmoe.training.features import Network

BYTES_PER_VALUE = 4


def ask_simulated(
    model: MixtureOfExperts,
    policy: Policy,
    links: Links,
    images_TCHW: torch.Tensor,
    labels_T: NDArray[np.int64],
    clients: int,
) -> Trial:
    """Have every client ask all images over ideal simulated links.

    Each client's images are one batch; a joint policy decides on the images of all clients as one slot.

    Bytes are those of features out and probabilities back, without frames; latency is not measured.

    Args:
        model: the mixture; its carrier and policy are replaced.
        policy: decides.
        links: price the transfers.
        images_TCHW: float32 in [0, 1].
        labels_T: int64, the classes.
        clients: how many ask; client i is node i.
    """
    model.eval()
    model.carrier, model.policy = IdealRadioCarrier(links), policy
    answers, requests, energies, own_weights = [], [], [], []
    client_Q = np.repeat(np.arange(clients), len(labels_T))
    for source_T in [client_Q] if policy.joint else np.split(client_Q, clients):
        with torch.no_grad():
            output = model(images_TCHW.repeat(len(source_T) // len(labels_T), 1, 1, 1), source_T)
        assert output.dispatched is not None
        answers.append(output.y_TC.argmax(dim=1).numpy())
        requests.append(output.dispatched.requested_TE)
        energies.append(output.dispatched.energy_j_T)
        own_weights.append(output.weights_TE.numpy()[np.arange(len(source_T)), source_T])
    requested_QE = np.concatenate(requests)
    remote_Q = requested_QE.sum(axis=1) - requested_QE[np.arange(len(client_Q)), client_Q]
    with torch.no_grad():
        features = model.extractor(images_TCHW[:1]).numel()
    return _untimed(
        labels_T,
        clients,
        answer_Q=np.concatenate(answers),
        requested_QE=requested_QE,
        own_weight_Q=np.concatenate(own_weights),
        energy_j_Q=np.concatenate(energies),
        bytes_Q=remote_Q * (features + output.y_TC.shape[1]) * BYTES_PER_VALUE,
    )


def ask_one_network(
    network: Network, images_TCHW: torch.Tensor, labels_T: NDArray[np.int64], clients: int
) -> Trial:
    """Have every client answer all images with its own copy of one network: nothing is sent."""
    answer_T = outputs_in_batches(network, images_TCHW).argmax(dim=1).numpy()
    queries = clients * len(labels_T)
    return _untimed(
        labels_T,
        clients,
        answer_Q=np.tile(answer_T, clients),
        requested_QE=np.repeat(np.eye(clients, dtype=np.bool_), len(labels_T), axis=0),
        own_weight_Q=np.ones(queries),
        energy_j_Q=np.zeros(queries),
        bytes_Q=np.zeros(queries, np.int64),
    )


def _untimed(labels_T: NDArray[np.int64], clients: int, **figures: NDArray[Any]) -> Trial:
    """Return the trial of every client asking all images in order, with nothing timed and nothing lost."""
    queries = clients * len(labels_T)
    return Trial(
        client_Q=np.repeat(np.arange(clients), len(labels_T)),
        image_Q=np.tile(np.arange(len(labels_T)), clients),
        label_Q=np.tile(labels_T, clients),
        latency_s_Q=np.full(queries, np.nan),
        rerouted_Q=np.zeros(queries, np.bool_),
        degraded_Q=np.zeros(queries, np.bool_),
        fallback_Q=np.zeros(queries, np.bool_),
        **figures,
    )
