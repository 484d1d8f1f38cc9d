"""Whom a client asks about its images in a round of stage 3.

The paper names three methods: RanGate asks experts drawn at random, RollGate goes round all of them, FedGate
asks those that the gate suggests. A rule says what it would ask; of that a client fetches what it does not
know yet, and its own expert costs no bytes.

Shape suffixes: T items, E experts.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.nn import topk_mask
from airmoe.spec_text import SpecText, SpecTexts


class Query(Protocol):
    """Says which experts a client wants to hear about its images; `airmoe.plugins` brings your own."""

    @property
    def name(self) -> str:
        """The text that `make_query` reads."""

    def __call__(self, scores_TE: Tensor, round_: int, client: int, random: np.random.Generator) -> Tensor:
        """Return bool (T, E), True for each expert that is wanted for an image, known or not.

        Args:
            scores_TE: float32, of the client's gate.
            round_: of the stage, from 0.
            client: the number of the client, and of its own expert.
            random: draws for this client and round.
        """
        ...


@dataclass(frozen=True)
class TopK(SpecText, rule="topk"):
    """The ``k`` experts that the gate scores best, and one more drawn at random, which may be among them."""

    k: int = 1

    def __call__(self, scores_TE: Tensor, round_: int, client: int, random: np.random.Generator) -> Tensor:
        """Return what is wanted; see `Query`."""
        items, experts = scores_TE.shape
        wanted_TE = topk_mask(scores_TE, self.k)
        wanted_TE[torch.arange(items), torch.from_numpy(random.integers(experts, size=items))] = True
        return wanted_TE


@dataclass(frozen=True)
class RandomK(SpecText, rule="random-k"):
    """``k`` experts, drawn for each image anew; none of them twice."""

    k: int = 1

    def __call__(self, scores_TE: Tensor, round_: int, client: int, random: np.random.Generator) -> Tensor:
        """Return what is wanted; see `Query`."""
        drawn_TE = torch.from_numpy(random.random(scores_TE.shape))
        return topk_mask(drawn_TE, self.k)


@dataclass(frozen=True)
class Roll(SpecText, rule="roll"):
    """One expert about all images: in round t client i asks expert (i + t) mod E."""

    def __call__(self, scores_TE: Tensor, round_: int, client: int, random: np.random.Generator) -> Tensor:
        """Return what is wanted; see `Query`."""
        wanted_TE = torch.zeros_like(scores_TE, dtype=torch.bool)
        wanted_TE[:, (client + round_) % scores_TE.shape[1]] = True
        return wanted_TE


@dataclass(frozen=True)
class All(SpecText, rule="all"):
    """Every expert about every image: after the first round all is known."""

    def __call__(self, scores_TE: Tensor, round_: int, client: int, random: np.random.Generator) -> Tensor:
        """Return what is wanted; see `Query`."""
        return torch.ones_like(scores_TE, dtype=torch.bool)


_QUERIES = SpecTexts[Query]("query", (TopK, RandomK, Roll, All))


def make_query(text: str, k: int = 1) -> Query:
    """Return the rule of this name.

    Args:
        text: "topk[:K]", "random-k[:K]", "roll", "all", or one that a plugin brings.
        k: experts per image where the text leaves it out.

    Raises:
        InvalidInputError: none of these (the message lists them), or a parameter out of range.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from airmoe.networked.queries import make_query
        >>> make_query("roll")(torch.zeros(2, 3), round_=1, client=2, random=np.random.default_rng(0))
        tensor([[ True, False, False],
                [ True, False, False]])
    """
    return _QUERIES.read(text, k=k)


def refuse_too_many(query: Query, experts: int) -> None:
    """Refuse a rule that asks more experts about an image than there are.

    Raises:
        InvalidInputError: its ``k`` is more than ``experts``.
    """
    if isinstance(query, TopK | RandomK) and query.k > experts:
        raise InvalidInputError("gate.query_k", query.k, f"at most {experts}, the number of experts")
