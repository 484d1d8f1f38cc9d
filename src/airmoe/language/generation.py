"""Text, byte by byte: several sequences at once, each with its cache, and what every byte took.

Shape suffixes: B sequences, S positions, V bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from airmoe.checks import indices, integer_at_least, refuse_type
from airmoe.errors import InvalidInputError
from airmoe.language.calls import Calls
from airmoe.language.transformer import MoeTransformer
from airmoe.nn import MoeOutput
from airmoe.randomness import stream
from airmoe.scheduling import make_policy


@dataclass(frozen=True)
class Written:
    """One byte of each sequence.

    Attributes:
        byte_B: uint8.
        layers: what became of the tokens that it was predicted from: the whole prompts for the first byte,
            then one token of each sequence.
        row_B: int64, which of these tokens each byte was predicted from.
    """

    byte_B: NDArray[np.uint8]
    layers: tuple[MoeOutput, ...]
    row_B: NDArray[np.int64]


def generate(
    model: MoeTransformer,
    prompts: Sequence[bytes],
    length: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    source: ArrayLike = 0,
    policy: Any = None,
    carrier: Any = None,
    calls: Calls | None = None,
) -> Iterator[Written]:
    """Return an iterator over the bytes that follow each prompt, one of each sequence at a time.

    Args:
        model: in evaluation mode.
        prompts: B of them, none empty; they may differ in length.
        length: how many bytes.
        temperature: 0 takes the most probable byte; above, bytes are drawn from logits divided by it.
        seed: of what is drawn. A sequence's bytes depend on its place in the list, and not on what the others
            say.
        source: the node where each sequence rests, one number or (B,).
        policy: who chooses experts; see `MoeTransformer`. A text is read once for all bytes.
        carrier: who brings tokens to experts; see `MoeTransformer`.
        calls: says both instead; see `airmoe.language.calls.Reach`.

    Raises:
        InvalidInputError: an empty prompt, a number out of range, more bytes than the model's context holds,
            or logits that are not finite.
        NoExpertReachedError: a token got no answer from any expert.
    """
    if not prompts:
        raise InvalidInputError("prompts", list(prompts), "at least one")
    if isinstance(prompts, bytes | str):
        raise InvalidInputError("prompts", prompts, "a list of bytes")
    for number, prompt in enumerate(prompts):
        refuse_type(f"prompts[{number}]", prompt, bytes)
        if not prompt:
            raise InvalidInputError(f"prompts[{number}]", prompt, "at least one byte")
    integer_at_least("length", length, 1)
    if not 0 <= temperature < np.inf:
        raise InvalidInputError("temperature", temperature, "a number of at least 0")
    longest, context = max(map(len, prompts)), model.settings.context
    if longest > context:
        raise InvalidInputError("the longest prompt", f"{longest} bytes", f"at most {context}, the context")
    if longest + length - 1 > context:
        expected = (
            f"at most {context - longest + 1}: the context is {context}, the longest prompt {longest} bytes"
        )
        raise InvalidInputError("length", length, expected)
    integer_at_least("seed", seed, 0)
    source_B = indices("source", source, 0, np.iinfo(np.int64).max)
    if source_B.shape not in ((), (len(prompts),)):
        raise InvalidInputError("shape of source", source_B.shape, f"() or (B,) = ({len(prompts)},)")
    if isinstance(policy, str):
        policy = make_policy(policy, seed)
    return _written(model, prompts, length, temperature, seed, source_B, policy, carrier, calls)


def _written(
    model: MoeTransformer,
    prompts: Sequence[bytes],
    length: int,
    temperature: float,
    seed: int,
    source_B: NDArray[np.int64],
    policy: Any,
    carrier: Any,
    calls: Calls | None,
) -> Iterator[Written]:
    longest = max(map(len, prompts))
    count_B = torch.tensor([len(prompt) for prompt in prompts])
    tokens_BS = torch.zeros((len(prompts), longest), dtype=torch.int64)
    for row_S, prompt in zip(tokens_BS, prompts, strict=True):
        row_S[: len(prompt)] = torch.tensor(list(prompt))
    cache = model.new_cache(len(prompts))
    for step in range(length):
        with torch.no_grad():
            output = model(
                tokens_BS,
                count_B,
                cache=cache,
                source_B=source_B,
                policy=policy,
                carrier=carrier,
                calls=calls,
            )
        logits_BV = output.logits_BSV[torch.arange(len(prompts)), count_B - 1]
        byte_B = _chosen(logits_BV, temperature, seed, step)
        yield Written(byte_B, output.layers, np.cumsum(count_B.numpy()) - 1)
        tokens_BS, count_B = torch.from_numpy(byte_B.astype(np.int64))[:, None], torch.ones_like(count_B)


def _chosen(logits_BV: Tensor, temperature: float, seed: int, step: int) -> NDArray[np.uint8]:
    """Return the most probable byte of each sequence, or one drawn."""
    for sequence in (~logits_BV.isfinite().all(dim=1)).nonzero():
        raise InvalidInputError(f"logits of sequence {int(sequence)}", "not finite", "finite numbers")
    if temperature == 0:
        return logits_BV.argmax(dim=1).numpy().astype(np.uint8)
    # The largest of logits with Gumbel noise is a draw from their softmax.
    gumbel_BV = np.stack(
        [
            stream(seed, "bytes drawn", sequence, step).gumbel(size=logits_BV.shape[1])
            for sequence in range(len(logits_BV))
        ]
    )
    noisy_BV = logits_BV.double().numpy() + temperature * gumbel_BV
    return np.asarray(noisy_BV.argmax(axis=1), dtype=np.uint8)
