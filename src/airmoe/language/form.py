"""The form of a transformer: how wide, how deep, how many experts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from airmoe.errors import InvalidInputError
from airmoe.runs.settings import Section


class TransformerSettings(Section):
    """The form of a transformer; the defaults are ours, small enough to be trained on a processor.

    Attributes:
        width: W, values of a hidden state.
        layers: MoE layers, one after each attention.
        heads: of attention.
        expert_hidden: values inside an expert.
        experts: E, in every layer.
        k: experts of a token while training.
        context: the most positions that the model attends to.
    """

    width: Annotated[int, Field(ge=2, le=1 << 16)] = 128
    layers: Annotated[int, Field(ge=1, le=1000)] = 4
    heads: Annotated[int, Field(ge=1, le=1000)] = 4
    expert_hidden: Annotated[int, Field(ge=1, le=1 << 18)] = 256
    experts: Annotated[int, Field(ge=1, le=1000)] = 4
    k: Annotated[int, Field(ge=1, le=1000)] = 2
    context: Annotated[int, Field(ge=2, le=1 << 20)] = 256

    @property
    def dense(self) -> Self:
        """The same form with one expert a layer."""
        return self.model_copy(update={"experts": 1, "k": 1})

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % (2 * self.heads):
            told = f"a multiple of {2 * self.heads}: each of {self.heads} heads turns pairs of values"
            raise InvalidInputError("width", self.width, told)
        if self.k > self.experts:
            raise InvalidInputError("k", self.k, f"at most {self.experts}, the number of experts")
        return self
