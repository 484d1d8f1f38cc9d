"""Measuring of the energy and the relevance of policies over the layers of one pass.

The relevance kept is the sum of a token's chosen scores. It is a proxy of accuracy that needs no trained
model; every layer counts the same.

Shape suffixes: T tokens, E experts, N nodes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from airmoe.errors import InvalidInputError, did_you_mean
from airmoe.scheduling import (
    All,
    Cheapest,
    Cost,
    Des,
    Policy,
    RandomK,
    Slot,
    TopK,
    Wlr,
    allocate_subcarriers,
    make_policy,
    schedule_layer,
    select_experts,
)
from airmoe.studies.curves.rows import Row
from airmoe.studies.curves.settings import Experts, Seeds, Share, Values
from airmoe.studies.selection.drawn_layers import DrawnLayer, draw_layer
from airmoe.studies.selection.settings import Between, LayerSettings

COLUMNS = ("energy_j", "comm_j", "relevance", "relevance_first_quarter", "experts", "met_share")
"""Per token, means over all layers: J in all and over the air, relevance kept (and that of the first quarter
of the layers), experts chosen, and the share of tokens whose scores sum to what was asked."""

LAYER_COLUMNS = ("energy_j", "comm_j", "relevance", "experts", "met_share")

ENOUGH = 1e-9


class EnergySettings(LayerSettings):
    """A policy over all layers of one pass; fading is drawn anew for every layer.

    Attributes:
        policy: jesa and homogeneous choose experts and subcarriers together; lower-bound puts every link on
            its best subcarrier, shared if need be; des, wlr and cheapest decide by the prices of an
            assignment for equal loads, and are charged these; topk, random and all decide without prices,
            and subcarriers are assigned for the loads that come of it. Or the text of any policy, such as one
            that a plugin brings: it decides as des does, or, where it is joint, is charged for its own
            subcarriers. A setting's name in braces stands for its value.
        layers: L.
        importance: gamma0; jesa, des and lower-bound ask z gamma0^l of layer l, counted from 1.
        z: factor of that; homogeneous asks z of every layer.
        k: how many experts topk, random and cheapest choose.
        theta: parameter of wlr.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5},
        "smoke": {"seeds": 2, "layers": 4, "tokens": 32, "values": [0.3, 0.6, 0.9]},
    }

    seeds: Seeds = 20
    compute_j: Between = (1e-4, 1e-3)
    layers: Annotated[int, Field(ge=1, le=1000)] = 32
    importance: Share = 0.7
    z: Share = 1.0
    k: Experts = 2
    theta: Share = 0.5
    swept: Literal["importance", "z", "max_experts", "k", "theta"] = "importance"
    values: Values = (
        *(0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        *(0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0),
    )

    policy: str  # last, for it may name the others

    @model_validator(mode="after")
    def _every_link_fits(self) -> Self:
        links = self.nodes * (self.nodes - 1)
        if self.subcarriers < links:
            raise ValueError(f"subcarriers at least {links}, one for every link")
        return self

    @field_validator("policy")
    @classmethod
    def _known(cls, policy: str, info: ValidationInfo) -> str:
        known = (*AT_SOURCE, *JOINTLY, LOWER_BOUND)
        if policy in known:
            return policy
        try:
            make_policy(policy.format(**info.data))
        except InvalidInputError as error:
            raise ValueError(
                f"one of {', '.join(known)}, or {error.expected}{did_you_mean(policy, known)}"
            ) from None
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"names of settings in braces, as in {{importance}} ({error})") from None
        return policy

    def described(self, seed: int) -> Policy:
        """Return the policy that the text describes."""
        return make_policy(self.policy.format(**self.model_dump()), seed)

    def required(self, layer: int) -> float:
        """Return what a token's chosen scores must sum to in a layer, counted from 1."""
        return self.z if self.policy == "homogeneous" else self.z * self.importance**layer


class MaxExpertsSettings(EnergySettings):
    """The same, against the largest number of experts that a token may get."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5},
        "smoke": {"seeds": 2, "layers": 4, "tokens": 32, "values": [1, 2, 3]},
    }

    swept: Literal["importance", "z", "max_experts", "k", "theta"] = "max_experts"
    values: Values = (1, 2, 3, 4, 5, 6)


class ByLayerSettings(EnergySettings):
    """The same, layer by layer, at one value."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5},
        "smoke": {"seeds": 2, "layers": 4, "tokens": 32},
    }

    importance: Share = 0.9
    values: Annotated[Values, Field(max_length=1)] = (0.9,)

    @property
    def x_values(self) -> range:
        """The layers."""
        return range(1, self.layers + 1)


@dataclass(frozen=True)
class AtSource:
    """A policy that every source follows by itself.

    Attributes:
        make: returns it for settings and seed.
        by_price: it decides by the prices of an assignment for equal loads, and is charged these; else
            subcarriers are assigned for the loads that come of it.
    """

    make: Callable[[EnergySettings, int], Policy]
    by_price: bool


AT_SOURCE = {
    "des": AtSource(lambda curve, seed: Des(curve.importance, curve.max_experts, curve.z), by_price=True),
    "wlr": AtSource(lambda curve, seed: Wlr(curve.theta), by_price=True),
    "cheapest": AtSource(lambda curve, seed: Cheapest(curve.k), by_price=True),
    "topk": AtSource(lambda curve, seed: TopK(curve.k), by_price=False),
    "random": AtSource(lambda curve, seed: RandomK(curve.k, seed), by_price=False),
    "all": AtSource(lambda curve, seed: All(), by_price=False),
}


JOINTLY = "jesa", "homogeneous"
LOWER_BOUND = "lower-bound"


@dataclass(frozen=True, eq=False)
class LayerChoice:
    """The choice of a policy for one layer, and its J per token, over the air and in all."""

    mask_TE: NDArray[np.bool_]
    comm_j: float
    energy_j: float


def measure_sweep(settings: EnergySettings, seed: int) -> Iterator[Row]:
    """Yield the mean over all layers at each value."""
    for value in settings.values:
        layers = list(_layers_of(settings.at(value), seed))
        shallow = layers[: -(-len(layers) // 4)]
        yield {
            "x": value,
            "seed": seed,
            **{name: float(np.mean([layer[name] for layer in layers])) for name in LAYER_COLUMNS},
            "relevance_first_quarter": float(np.mean([layer["relevance"] for layer in shallow])),
        }


def measure_layers(settings: ByLayerSettings, seed: int) -> Iterator[Row]:
    """Yield every layer by itself."""
    for number, layer in enumerate(_layers_of(settings.at(settings.values[0]), seed), 1):
        yield {"x": number, "seed": seed, **layer}


def _layers_of(settings: EnergySettings, seed: int) -> Iterator[dict[str, float]]:
    choose = _chooser(settings, seed)
    for number in range(1, settings.layers + 1):
        layer = draw_layer(settings, seed, number)
        chosen = choose(layer, number)
        kept_T = np.where(chosen.mask_TE, layer.scores_TE, 0.0).sum(axis=1)
        yield {
            "energy_j": chosen.energy_j,
            "comm_j": chosen.comm_j,
            "relevance": float(kept_T.mean()),
            "experts": float(chosen.mask_TE.sum(axis=1).mean()),
            "met_share": float((kept_T >= settings.required(number) - ENOUGH).mean()),
        }


def _chooser(settings: EnergySettings, seed: int) -> Callable[[DrawnLayer, int], LayerChoice]:
    if settings.policy in JOINTLY:
        return lambda layer, number: _joint(settings, layer, number)
    if settings.policy == LOWER_BOUND:
        return lambda layer, number: _lower_bound(settings, layer, number)
    kind = AT_SOURCE.get(settings.policy)
    policy = kind.make(settings, seed) if kind else settings.described(seed)
    by_price = kind is None or kind.by_price
    return lambda layer, number: _decided(settings, policy, by_price, layer, number)


def _joint(settings: EnergySettings, layer: DrawnLayer, number: int) -> LayerChoice:
    plan = schedule_layer(
        layer.scores_TE,
        layer.source_T,
        layer.links.gain_NNM,
        layer.links.radio,
        threshold=settings.required(number),
        max_experts=settings.max_experts,
        token_bits=settings.token_bits,
        compute_j_per_token=layer.compute_j_E,
        bound="none",
    )
    tokens = len(layer.source_T)
    return LayerChoice(plan.selection.mask, plan.comm_j / tokens, plan.energy_j / tokens)


def _lower_bound(settings: EnergySettings, layer: DrawnLayer, number: int) -> LayerChoice:
    best_NN = layer.links.gain_NNM.argmax(axis=2)
    energy_TE = _comm_j_TE(settings, layer, best_NN) + layer.compute_j_E
    chosen = select_experts(layer.scores_TE, energy_TE, settings.required(number), settings.max_experts)
    return _charged(settings, layer, chosen.mask, best_NN)


def _decided(
    settings: EnergySettings, policy: Policy, by_price: bool, layer: DrawnLayer, number: int
) -> LayerChoice:
    standing_NN = allocate_subcarriers(layer.links)
    placement_E = np.arange(settings.nodes)
    bits_T = np.full(len(layer.source_T), settings.token_bits)
    slot = Slot(layer.source_T, placement_E, layer.links, number, bits_T)
    comm_j_TE = _comm_j_TE(settings, layer, standing_NN)
    cost = Cost(comm_j_TE + layer.compute_j_E, comm_j_TE / layer.links.radio.power_w)
    routing = policy.route(layer.scores_TE, cost, slot)
    mask_TE = routing.mask_TE
    if by_price:
        decided_NN = routing.subcarrier_NN
        return _charged(settings, layer, mask_TE, standing_NN if decided_NN is None else decided_NN)
    load_NN = np.zeros((settings.nodes, settings.nodes))
    for node in placement_E:
        load_NN[node] = mask_TE[layer.source_T == node].sum(axis=0)
    return _charged(settings, layer, mask_TE, allocate_subcarriers(layer.links, load_NN))


def _charged(
    settings: EnergySettings, layer: DrawnLayer, mask_TE: NDArray[np.bool_], subcarrier_NN: NDArray[np.int64]
) -> LayerChoice:
    comm_j = np.where(mask_TE, _comm_j_TE(settings, layer, subcarrier_NN), 0.0).sum()
    compute_j = (mask_TE * layer.compute_j_E).sum()
    tokens = len(mask_TE)
    return LayerChoice(mask_TE, float(comm_j / tokens), float((comm_j + compute_j) / tokens))


def _comm_j_TE(
    settings: EnergySettings, layer: DrawnLayer, subcarrier_NN: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return J to send each token to each expert, 0 at home."""
    per_bit_NN = layer.links.energy_per_bit_j(subcarrier_NN)
    return np.asarray(settings.token_bits * per_bit_NN[layer.source_T])
