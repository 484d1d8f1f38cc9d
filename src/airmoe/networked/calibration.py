"""An expert's confidence set by images that it was not trained on: temperature scaling.

After Guo et al., ICML 2017 (arXiv 1706.04599): logits are divided by the temperature T at which the held-back
images are most probable. T divides the last layer's weights, so an exported expert is of the same form.

Shape suffixes: T items, F features, C classes.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from airmoe.nn import MlpExpert

SHARPEST, FLATTEST = 0.05, 20.0
"""Temperatures lie between these: images that are all answered rightly would ask for zero."""


def held_back(items: int, share: float) -> int:
    """Return how many of a client's images set its expert's confidence: a share, rounded down."""
    return int(items * share)


def calibrate(expert: MlpExpert, features_TF: Tensor, labels_T: Tensor) -> float:
    """Divide an expert's logits, in place, by the temperature that suits held-back images; return it.

    Args:
        expert: a trained one.
        features_TF: float32, of images that it was not trained on.
        labels_T: int64, their classes.
    """
    with torch.no_grad():
        logits_TC = expert.logits(features_TF).double()

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(logits_TC / math.exp(log_temperature), labels_T))

    bounds = math.log(SHARPEST), math.log(FLATTEST)
    temperature = math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)
    last = expert.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.div_(temperature)
    return temperature
