"""The settings of a mixture that is a language model: branch, train, mix."""

from typing import Annotated, Literal

from pydantic import Field

from airmoe.language.form import TransformerSettings
from airmoe.manifest import Seed
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


class DmoeConfig(Section):
    """A whole run: a dense seed, experts branched off it, and routers (after arXiv 2403.07816; ours)."""

    method: Literal["dmoe"] = "dmoe"
    seed: Seed = 0
    data: TextSettings = TextSettings()
    model: TransformerSettings = TransformerSettings()
    dense: StepSettings = StepSettings()
    branch: BranchSettings = BranchSettings()
    mix: MixSettings = MixSettings()
