"""The settings of a mixture that is a language model: branch, train, mix."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airmoe.errors import InvalidInputError
from airmoe.language.form import TransformerSettings
from airmoe.manifest import RadioSettings, Seed
from airmoe.runs.settings import LearningRate, Positive, Section, Weight


class TextSettings(Section):
    """Which texts are learnt.

    Attributes:
        name: see `airmoe.language.load_texts`.
    """

    name: str = "python"


class StepSettings(Section):
    """A stage: AdamW, with a learning rate that rises over the first steps and falls along a cosine.

    Attributes:
        steps: how many.
        batch_size: windows of a step, shared evenly among the texts.
        learning_rate: the highest.
        weight_decay: of AdamW.
    """

    steps: Positive = 700
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    learning_rate: LearningRate = 3e-3
    weight_decay: Weight = 0.1


class BranchSettings(StepSettings):
    """Each expert is trained on texts of its own domain, from the seed's feed-forward parts."""

    steps: Positive = 300
    learning_rate: LearningRate = 1e-3


class MixSettings(StepSettings):
    """Routers are fitted to sums, and may then be trained on the texts of all domains, all else fixed.

    Attributes:
        windows: of its text that each owner adds up.
        steps: after that; 0 leaves the routers as the sums make them.
    """

    windows: Positive = 64
    steps: Annotated[int, Field(ge=0, le=10**6)] = 60
    learning_rate: LearningRate = 1e-2


class TextLinks(RadioSettings):
    """The radio that the experts are served over, a node for each: outputs are charged like payloads."""

    charge_return: bool = True


class DmoeConfig(Section):
    """A whole run: a dense seed, experts branched off it, and routers (after arXiv 2403.07816; ours).

    Attributes:
        seed: of everything random.
        data: the texts.
        model: the form of the model.
        dense: stage 1.
        branch: stage 2, for each expert.
        mix: stage 3.
        replicas: on how many nodes each expert lives.
        mesh: name of the mesh that serves the model.
        links: the radio between its nodes.
    """

    method: Literal["dmoe"] = "dmoe"
    seed: Seed = 0
    data: TextSettings = TextSettings()
    model: TransformerSettings = TransformerSettings()
    dense: StepSettings = StepSettings()
    branch: BranchSettings = BranchSettings()
    mix: MixSettings = MixSettings()
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "lab"
    links: TextLinks = TextLinks()

    @property
    def placement(self) -> list[list[int]]:
        """For each expert the nodes that hold it: expert e lives on nodes e, e + 1, ..., modulo E."""
        experts = self.model.experts
        return [sorted((expert + n) % experts for n in range(self.replicas)) for expert in range(experts)]

    @model_validator(mode="after")
    def _has_nodes(self) -> Self:
        if self.replicas > self.model.experts:
            raise InvalidInputError(
                "replicas", self.replicas, f"at most {self.model.experts}, one at each node"
            )
        return self
