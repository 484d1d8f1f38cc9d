"""The baseline without any exchange: every client trains a network of its own on its own data.

Shape suffixes: N clients, T images.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from airmoe.networked.baselines import network_of_one_expert
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import features_of
from airmoe.networked.fedce import train_epochs
from airmoe.networked.scores import Scores, scores_of
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.evaluation import outputs_in_batches


def local_scores(
    config: NetworkedConfig, data: ClientData, *, label_smoothing: float = 0.0, progress: Progress = silent
) -> Scores:
    """Return the scores of networks that clients train alone, and ask alone.

    Each has the architecture of the extractor with one expert, the same initial weights, and as many epochs
    as the extractor and the expert of a mixture have together; batches and rates are those of stage 1.

    Without smoothing such a network names hardly any class that its client does not hold. With it, and with
    simpler networks, answers leak to other classes, which raises macro-F1 on all classes.

    Args:
        config: the run.
        data: of all clients.
        label_smoothing: share of a label that is spread over all classes.
        progress: told of every client.
    """
    epochs = config.features.rounds * config.features.local_epochs + config.experts.epochs
    answers = list[NDArray[np.int64]]()
    for client, (images, labels) in enumerate(zip(data.images_TCHW, data.labels_T, strict=True)):
        network = network_of_one_expert(config, data)
        trained: nn.Module = network
        inputs_T, test_T = images, data.test_images_TCHW
        if network.extractor.frozen:
            trained, (inputs_T, test_T) = network.head, features_of(network.extractor, [images, test_T])
        random = stream(config.seed, "local batches", client)
        orders = [torch.from_numpy(random.permutation(len(labels))) for _ in range(epochs)]
        train_epochs(trained, inputs_T, labels, config.features, orders, label_smoothing)
        logits_TC = outputs_in_batches(trained, test_T, network.extractor.images_at_once)
        answers.append(logits_TC.argmax(dim=1).numpy())
        progress("local networks", client + 1, len(data.labels_T))
    answers_NT = np.stack(answers)
    local_NT = np.ones(answers_NT.shape)
    return scores_of(answers_NT, local_NT, data.test_labels_T, data.holds, len(data.class_names))
