"""The same trials without a network: experts in this process behind simulated links.

Shape suffixes: Q queries (one image each), T items, E experts, C channels or classes, H height, W width.
"""

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
    """Have every client ask all images over ideal simulated links, each client's images as one batch.

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
    answers, requests, energies = [], [], []
    for client in range(clients):
        with torch.no_grad():
            output = model(images_TCHW, np.full(len(labels_T), client))
        assert output.dispatched is not None
        answers.append(output.y_TC.argmax(dim=1).numpy())
        requests.append(output.dispatched.requested_TE)
        energies.append(output.dispatched.energy_j_T)
    client_Q = np.repeat(np.arange(clients), len(labels_T))
    requested_QE = np.concatenate(requests)
    remote_Q = requested_QE.sum(axis=1) - requested_QE[np.arange(len(client_Q)), client_Q]
    with torch.no_grad():
        features = model.extractor(images_TCHW[:1]).numel()
    classes = output.y_TC.shape[1]
    return Trial(
        client_Q,
        np.tile(labels_T, clients),
        np.concatenate(answers),
        requested_QE,
        np.concatenate(energies),
        remote_Q * (features + classes) * BYTES_PER_VALUE,
        np.full(len(client_Q), np.nan),
        np.zeros(len(client_Q), np.bool_),
        np.zeros(len(client_Q), np.bool_),
    )


def ask_one_network(
    network: Network, images_TCHW: torch.Tensor, labels_T: NDArray[np.int64], clients: int
) -> Trial:
    """Have every client answer all images with its own copy of one network: nothing is sent."""
    answer_T = outputs_in_batches(network, images_TCHW).argmax(dim=1).numpy()
    client_Q = np.repeat(np.arange(clients), len(labels_T))
    nothing_Q = np.zeros(len(client_Q))
    return Trial(
        client_Q,
        np.tile(labels_T, clients),
        np.tile(answer_T, clients),
        np.eye(clients, dtype=np.bool_)[client_Q],
        nothing_Q,
        nothing_Q.astype(np.int64),
        np.full(len(client_Q), np.nan),
        nothing_Q.astype(np.bool_),
        nothing_Q.astype(np.bool_),
    )
