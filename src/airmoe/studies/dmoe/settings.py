"""Settings of the study's curves: what is trained, the links, and who chooses experts."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from airmoe.errors import InvalidInputError
from airmoe.language.config import BranchSettings, DmoeConfig, MixSettings, StepSettings, TextSettings
from airmoe.language.form import TransformerSettings
from airmoe.runs.settings import Positive, expected_by, readable_by
from airmoe.scheduling import make_policy
from airmoe.studies.curves.settings import Count, CurveSettings, Decibels, Seeds, Values

QUICK = {"seeds": 1, "dense_steps": 120, "branch_steps": 30, "mix_steps": 15, "windows": 24}
SMOKE = {
    "seeds": 1,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "expert_hidden": 16,
    "context": 32,
    "dense_steps": 4,
    "branch_steps": 2,
    "mix_steps": 2,
    "batch_size": 4,
    "windows": 4,
}

# A TOML has arrays, not tuples.
OneValue = Annotated[tuple[int], Field(strict=False)]
Joules = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], Field(strict=False)
]


class LanguageSettings(CurveSettings):
    """What is trained, and what is asked of it.

    Attributes:
        data: as `airmoe.language.load_texts` names it.
        width: of a hidden state.
        layers: MoE layers, each behind an attention.
        heads: of attention.
        expert_hidden: values inside an expert.
        experts: in every layer, shared evenly among the domains of the texts.
        context: bytes of a window.
        dense_steps: of the seed.
        branch_steps: of each expert.
        mix_steps: of the routers, after they were fitted to sums.
        batch_size: windows of a step.
        windows: of each domain's held-out texts, on which is measured.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": QUICK, "smoke": SMOKE}

    seeds: Seeds = 3
    data: str = "python"
    width: Positive = 128
    layers: Annotated[int, Field(ge=1, le=100)] = 4
    heads: Annotated[int, Field(ge=1, le=100)] = 4
    expert_hidden: Positive = 256
    experts: Annotated[int, Field(ge=1, le=64)] = 4
    context: Annotated[int, Field(ge=2, le=4096)] = 128
    dense_steps: Positive = 700
    branch_steps: Positive = 300
    mix_steps: Annotated[int, Field(ge=0, le=10**6)] = 60
    batch_size: Positive = 32
    windows: Count = 64

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        self.training(0)
        return self

    def training(self, seed: int) -> DmoeConfig:
        """Return how the model of this curve is trained; curves with the same training share it."""
        return DmoeConfig(
            seed=seed,
            data=TextSettings(name=self.data),
            model=TransformerSettings(
                width=self.width,
                layers=self.layers,
                heads=self.heads,
                expert_hidden=self.expert_hidden,
                experts=self.experts,
                k=min(2, self.experts),
                context=self.context,
            ),
            dense=StepSettings(steps=self.dense_steps, batch_size=self.batch_size),
            branch=BranchSettings(steps=self.branch_steps, batch_size=self.batch_size),
            mix=MixSettings(steps=self.mix_steps, batch_size=self.batch_size),
        )


class QualitySettings(LanguageSettings):
    """Bits per byte of one model, for each domain and for the mixture of all, which comes last.

    Attributes:
        domains: how many the texts have.
        method: the mixture by its routers (k experts a byte), one of its experts alone, the dense seed, or
            the seed trained on for as many steps as one expert ("dense-branch") or as all that was trained
            after it ("dense-all").
        k: experts of a byte, of the mixture.
        expert: which one, of "expert".
    """

    swept: Literal["domains"] = "domains"
    values: OneValue = (2,)
    domains: Positive = 2
    method: Literal["mixture", "expert", "seed", "dense-branch", "dense-all"] = "mixture"
    k: Annotated[int, Field(ge=1, le=64)] = 2
    expert: Annotated[int, Field(ge=0, le=63)] = 0

    @property
    def x_values(self) -> tuple[float, ...]:
        """A number for each domain, and one for all together."""
        return tuple(float(domain) for domain in range(self.values[0] + 1))

    @model_validator(mode="after")
    def _there_is_such_an_expert(self) -> Self:
        for name, value in (("k", self.k), ("expert", self.expert + 1)):
            if value > self.experts:
                raise ValueError(f"{name} that {self.experts} experts allow")
        return self


class RadioSettings(LanguageSettings):
    """A model over links, expert e on node e, and windows that rest on the nodes in turn.

    Attributes:
        subcarriers: M.
        mean_snr_db: of i.i.d. Rayleigh fading on every subcarrier and link.
        charge_return: whether outputs are charged like payloads.
        compute_j: a_j, J that an expert spends on a byte: drawn once per seed and expert, uniform between
            these two.
        policy: who chooses experts; {x} stands for what is swept.
        exclusive: False gives every link its best subcarrier, whoever else uses it: the lower bound LB.
    """

    subcarriers: Annotated[int, Field(ge=1, le=65536)] = 64
    mean_snr_db: Decibels = 10.0
    charge_return: bool = True
    compute_j: Joules = (1e-6, 5e-6)
    policy: str = "jesa:{x}:2"
    exclusive: bool = True

    @property
    def look(self) -> str:
        """The method whose look its lines have."""
        return self.policy.partition(":")[0] if self.exclusive else "lower-bound"

    def policy_at(self, value: float) -> str:
        """Return the text of the policy at one value of what is swept."""
        return self.policy.replace("{x}", f"{value:g}")

    @model_validator(mode="after")
    def _energies_ascend(self) -> Self:
        if self.compute_j[0] > self.compute_j[1]:
            raise ValueError("compute_j as [least, most]")
        return self

    @model_validator(mode="after")
    def _policies_fit(self) -> Self:
        for value in self.values:
            try:
                policy = make_policy(text := self.policy_at(value))
            except InvalidInputError as error:
                raise ValueError(f"a policy: {expected_by(error, text)}") from None
            if policy.joint and not self.exclusive:
                raise ValueError(f"exclusive = true: {text} gives every link a subcarrier of its own anyway")
        return self


class TradeOffSettings(RadioSettings):
    """Bits per byte and joules of a policy against one of its parameters.

    Attributes:
        parameter: what stands for {x}.
    """

    swept: Literal["parameter"] = "parameter"
    values: Values = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    parameter: float = 0.5

    @model_validator(mode="after")
    def _something_is_swept(self) -> Self:
        if "{x}" not in self.policy and len(set(self.values)) > 1:
            raise ValueError("a policy with {x}, which stands for the values, or one value")
        return self


class LayersSettings(RadioSettings):
    """Bits per byte where one layer alone has another policy; at 0 none has.

    Attributes:
        layer: which one, from 1; 0 for none.
        weakened: the policy of that layer; all others have ``policy``.
    """

    SWEPT_IS_X: ClassVar[bool] = True
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": QUICK,
        "smoke": SMOKE | {"values": (0, 1, 2)},
    }

    swept: Literal["layer"] = "layer"
    values: Values = (0, 1, 2, 3, 4)
    layer: Annotated[int, Field(ge=0, le=100)] = 0
    policy: str = "topk:2"
    weakened: Annotated[str, readable_by(make_policy)] = "topk:1"

    @property
    def look(self) -> str:
        """The method whose look its lines have: that of the layer that has less."""
        return self.weakened.partition(":")[0]

    @model_validator(mode="after")
    def _there_is_such_a_layer(self) -> Self:
        if self.layer > self.layers:
            raise ValueError(f"layer is {self.layer}; expected 0 to {self.layers}, the number of layers")
        return self


class SubcarriersSettings(RadioSettings):
    """Joules of a policy against the number of subcarriers."""

    SWEPT_IS_X: ClassVar[bool] = True
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": QUICK,
        "smoke": SMOKE | {"values": (12, 24)},
    }

    swept: Literal["subcarriers"] = "subcarriers"
    values: Values = (12, 16, 32, 64, 128, 256)
    policy: str = "jesa:0.6:2"


class ProbeSettings(LanguageSettings):
    """What a node that serves an expert can read out of the hidden states that it is sent.

    Attributes:
        layer: whose hidden states, from 1.
        noise: standard deviation of Gaussian noise on all that is sent, as a share of its root mean square.
        known: windows of training text for which the reader knows both.
    """

    SWEPT_IS_X: ClassVar[bool] = True
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": QUICK,
        "smoke": SMOKE | {"values": (1, 2), "known": 8},
    }

    swept: Literal["layer"] = "layer"
    values: Values = (1, 2, 3, 4)
    layer: Annotated[int, Field(ge=1, le=100)] = 1
    noise: Annotated[float, Field(ge=0, le=100)] = 0.0
    known: Count = 256

    @model_validator(mode="after")
    def _there_is_such_a_layer(self) -> Self:
        if self.layer > self.layers:
            raise ValueError(f"layer is {self.layer}; expected 1 to {self.layers}, the number of layers")
        return self


class PatternSettings(RadioSettings):
    """Which share of a domain's bytes each expert of each layer gets.

    A row's abscissa is (layer - 1) x experts + expert.

    Attributes:
        domain: its number, in alphabetical order.
    """

    swept: Literal["layers"] = "layers"
    values: OneValue = (4,)
    policy: str = "topk:2"
    domain: Annotated[int, Field(ge=0, le=1000)] = 0
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": QUICK, "smoke": SMOKE | {"values": (2,)}}

    @property
    def x_values(self) -> tuple[float, ...]:
        """Every pair of a layer and an expert."""
        return tuple(float(pair) for pair in range(self.values[0] * self.experts))
