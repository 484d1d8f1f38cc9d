"""The DMoE protocol in simulation: what a text costs, layer by layer, when its tokens rest on several nodes.

Per layer (arXiv 2503.13421): tokens rest at their source, which ran attention and the router; scores go to a
scheduler; hidden states go to the experts that it chose, over the subcarriers that it gave; outputs come
back, and the source adds them up. `airmoe.links.Ofdma` says whether the way back is charged, and
`airmoe.scheduling.Placement` what computing costs. Links are drawn anew for every layer of every batch.

Shape suffixes: W windows, S positions, B sequences, V bytes, T tokens, E experts, N nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from airmoe.checks import indices
from airmoe.dispatch import Carrier, Dispatched
from airmoe.errors import InvalidInputError
from airmoe.language.transformer import MoeTransformer
from airmoe.links import Links
from airmoe.nn import IdealRadioCarrier
from airmoe.scheduling import Policy, make_policy

SCORE_BITS = 32
"""Bits of a score on its way to the scheduler; a decision is one bit for each expert."""

SCHEDULER = 0
"""The node that decides where a policy is joint."""

Carriers = Sequence[Carrier[Tensor, Tensor]]
"""Who carries in each layer."""


@dataclass(frozen=True)
class LayerRecord:
    """What one layer of a text took.

    Attributes:
        layer: its number, from 1.
        tokens: T.
        energy_j: of transfers and computing.
        control_j: of scores to the scheduler and decisions back; 0 where sources decide.
        airtime_s: on the air, added up over all transfers.
        pairs_NE: int64, the tokens of each source that each expert got.
        away: pairs whose expert was on another node.
    """

    layer: int
    tokens: int
    energy_j: float
    control_j: float
    airtime_s: float
    pairs_NE: NDArray[np.int64]
    away: int

    def plus(self, other: LayerRecord) -> LayerRecord:
        """Return the record of both."""
        return LayerRecord(
            self.layer,
            self.tokens + other.tokens,
            self.energy_j + other.energy_j,
            self.control_j + other.control_j,
            self.airtime_s + other.airtime_s,
            self.pairs_NE + other.pairs_NE,
            self.away + other.away,
        )


def record_of(
    layer: int,
    done: Dispatched[Tensor],
    source_T: NDArray[np.int64],
    nodes: int,
    control_j: float = 0.0,
) -> LayerRecord:
    """Return the record of a batch in one layer.

    Args:
        layer: its number, from 1.
        done: what became of its tokens.
        source_T: the node where each rests.
        nodes: N.
        control_j: see `control_energy_j`.
    """
    token_P, expert_P = done.requested_TE.nonzero()
    pairs_NE = np.zeros((nodes, done.requested_TE.shape[1]), np.int64)
    np.add.at(pairs_NE, (source_T[token_P], expert_P), 1)
    away = int(np.count_nonzero(done.node_TE[token_P, expert_P] != source_T[token_P]))
    energy_j, airtime_s = float(done.energy_j_T.sum()), float(done.airtime_s_T.sum())
    return LayerRecord(layer, len(source_T), energy_j, control_j, airtime_s, pairs_NE, away)


def control_energy_j(source_T: NDArray[np.int64], experts: int, links: Links) -> float:
    """Return J of the scores of all tokens to the scheduler, and of its decisions back.

    They travel before the decision, one node after another, each on its link's best subcarrier.
    """
    there_NN = links.observed.energy_per_bit_j(links.observed.best_subcarrier_NN)
    per_token_N = experts * (SCORE_BITS * there_NN[:, SCHEDULER] + there_NN[SCHEDULER])
    return float(per_token_N[source_T].sum())


@dataclass(frozen=True)
class TextCost:
    """How well a text was predicted, and what it took.

    Attributes:
        bits_per_byte: mean of -log2 of the probability that each byte was given.
        layers: a record for each layer.
    """

    bits_per_byte: float
    layers: tuple[LayerRecord, ...]

    @property
    def energy_j_per_token(self) -> float:
        """J of transfers and computing in all layers."""
        return sum(each.energy_j for each in self.layers) / self.layers[0].tokens

    @property
    def control_j_per_token(self) -> float:
        """J of scores and decisions in all layers."""
        return sum(each.control_j for each in self.layers) / self.layers[0].tokens

    @property
    def experts_per_token(self) -> float:
        """Mean over tokens and layers."""
        return sum(int(each.pairs_NE.sum()) / each.tokens for each in self.layers) / len(self.layers)


def ask_text(
    model: MoeTransformer,
    windows_WS: Tensor,
    policy: Policy | str | Sequence[Policy | str],
    carriers_at: Callable[[int], Carriers],
    source_W: ArrayLike,
    *,
    seed: int = 0,
    at_once: int = 16,
) -> TextCost:
    """Predict a text whose windows rest on nodes; return how well, and what it took.

    Args:
        model: in evaluation mode.
        windows_WS: int64; a byte is predicted from those before it in its window.
        policy: who chooses experts; or one for each layer.
        carriers_at: the carriers of each layer for the batch of this number.
        source_W: the node where each window rests.
        seed: of policies that draw, where they are given as texts.
        at_once: windows of a batch; their tokens are scheduled together.

    Raises:
        InvalidInputError: a model in training mode, no windows, or nodes for another number of them.
    """
    if model.training:
        raise InvalidInputError("model", "in training mode", "one in evaluation mode: model.eval()")
    source_W = indices("source_W", source_W, 0, np.iinfo(np.int64).max)
    if not len(windows_WS) or source_W.shape != (len(windows_WS),):
        raise InvalidInputError(
            "shape of source_W", source_W.shape, f"(W,) = ({len(windows_WS)},), W at least 1"
        )
    given = (
        [policy] * model.settings.layers
        if isinstance(policy, str) or not isinstance(policy, Sequence)
        else policy
    )
    # A policy that draws goes on from layer to layer and from batch to batch.
    read = {text: make_policy(text, seed) for text in given if isinstance(text, str)}
    policies = [read[each] if isinstance(each, str) else each for each in given]
    nats, records, nodes = 0.0, list[LayerRecord](), int(source_W.max()) + 1
    with torch.no_grad():
        for number, windows_BS in enumerate(windows_WS.split(at_once)):
            carriers, source_B = carriers_at(number), source_W[number * at_once :][: len(windows_BS)]
            output = model(windows_BS[:, :-1], source_B=source_B, policy=policies, carrier=carriers)
            logits_V = output.logits_BSV.flatten(0, 1).double()
            nats += float(functional.cross_entropy(logits_V, windows_BS[:, 1:].flatten(), reduction="sum"))
            source_T = np.repeat(source_B, windows_BS.shape[1] - 1)
            of_batch = list[LayerRecord]()
            for layer, (done, carrier, by) in enumerate(
                zip(output.layers, carriers, policies, strict=True), start=1
            ):
                assert done.dispatched is not None
                experts, control_j = done.scores_TE.shape[1], 0.0
                if by.joint and carrier.links is not None:
                    control_j = control_energy_j(source_T, experts, carrier.links)
                of_batch.append(record_of(layer, done.dispatched, source_T, nodes, control_j))
            records = [a.plus(b) for a, b in zip(records, of_batch, strict=True)] if records else of_batch
    return TextCost(nats / math.log(2) / windows_WS[:, 1:].numel(), tuple(records))


def faded_carriers(
    at: Callable[[int], Links], layers: int, *, exclusive: bool = True
) -> Callable[[int], list[IdealRadioCarrier]]:
    """Return the carriers of a batch by its number: links are drawn anew for each layer.

    Args:
        at: links by slot, such as `airmoe.links.RayleighFading.at`.
        layers: L.
        exclusive: False gives every link its best subcarrier, whoever else uses it: the lower bound LB.
    """

    def carriers(batch: int) -> list[IdealRadioCarrier]:
        snapshots = [at(batch * layers + layer) for layer in range(layers)]
        return [
            IdealRadioCarrier(links, None if exclusive else links.observed.best_subcarrier_NN)
            for links in snapshots
        ]

    return carriers
