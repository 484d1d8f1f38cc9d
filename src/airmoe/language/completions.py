"""Completions as OpenAI's clients ask for them: what a request may say, and the text as it grows.

This module knows no network. Tokens are bytes.
"""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from airmoe.errors import InvalidInputError
from airmoe.language.generation import Written
from airmoe.language.record import TextRecord, energy_j, is_degraded, leading_expert, missed_nodes
from airmoe.language.writer import Writer
from airmoe.records import Record, refusal

MOST_SEQUENCES = 32
"""The most texts of one request."""


def _as_list(given: object) -> object:
    return [given] if isinstance(given, str) else given


Text = Annotated[str, Field(min_length=1)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


def _neutral(value: float) -> AfterValidator:
    """Return a check that a parameter which airmoe does not have would change nothing."""

    def check(given: float) -> float:
        if given != value:
            raise ValueError(f"{value:g}, or nothing: airmoe has no such parameter")
        return given

    return AfterValidator(check)


One = Annotated[float, _neutral(1)]
Nothing = Annotated[float, _neutral(0)]


def _refuse_known(given: object) -> object:
    if given is not None:
        raise ValueError("nothing: airmoe has no such parameter")
    return given


Unknown = Annotated[object, BeforeValidator(_refuse_known)]


class StreamOptions(Record):
    """What a stream tells besides: the number of bytes, at its end."""

    include_usage: bool = False
    include_obfuscation: bool = False


class CompletionRequest(Record):
    """A request for completions; what airmoe does not do is refused, where it would change the text.

    Attributes:
        model: name of the mesh.
        prompt: a text, or several.
        max_tokens: bytes to write.
        temperature: of drawing; 0 takes the most probable byte.
        seed: of drawing; left out, another one each time.
        n: texts for each prompt.
        stream: whether the text comes as it grows.
        stream_options: see `StreamOptions`.
        stop: the text ends before any of these.
        echo: whether the prompt is repeated.
        without: nodes whose experts are left out. Not OpenAI's: ``extra_body={"without": [2]}``.
        user: not looked at.
    """

    model: str
    prompt: Annotated[list[Text], Field(min_length=1, max_length=MOST_SEQUENCES), BeforeValidator(_as_list)]
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 16
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_SEQUENCES)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Annotated[list[Stop], Field(max_length=4), BeforeValidator(_as_list)] | None = None
    echo: bool = False
    without: Annotated[list[int], Field(default_factory=list)]
    user: str | None = None
    suffix: Unknown = None
    logprobs: Unknown = None
    logit_bias: Unknown = None
    top_p: One | None = None
    best_of: One | None = None
    presence_penalty: Nothing | None = None
    frequency_penalty: Nothing | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: object) -> object:
        """Take null for what is left out, as OpenAI does."""
        return {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given

    @property
    def prompts(self) -> list[str]:
        """Every prompt, n times."""
        return [prompt for prompt in self.prompt for _ in range(self.n)]


def read_request(body: bytes) -> CompletionRequest:
    """Return the request in a body.

    Raises:
        InvalidInputError: no JSON, an unknown key, or a value that is not taken.
    """
    try:
        request = CompletionRequest.model_validate_json(body)
        if len(request.prompts) > MOST_SEQUENCES:
            told = f"at most {MOST_SEQUENCES} texts of one request"
            raise InvalidInputError("prompts times n", len(request.prompts), told)
        for prompt in request.prompts:
            prompt.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("prompt", "half a character", "text in UTF-8") from None
    except ValidationError as error:
        raise refusal(error, lambda key: key or "request", CompletionRequest) from None
    return request


class GrowingText:
    """A text of which bytes come one by one, and that ends before a stop.

    Args:
        stops: texts that end it.

    Attributes:
        ended: whether one has come.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.ended = False
        self._stops, self._held = stops, ""
        # A byte may be a part of a character only.
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def add(self, byte: bytes, *, last: bool = False) -> str:
        """Take a byte; return what is sure to belong to the text by now."""
        if self.ended:
            return ""
        self._held += self._decode(byte, final=last)
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        self.ended = bool(found)
        sure = min(found) if found else len(self._held) if last else len(self._held) - self._maybe_stop()
        given, self._held = self._held[:sure], "" if found else self._held[sure:]
        return given

    def _maybe_stop(self) -> int:
        """Return how many of the last characters may be the beginning of a stop."""
        ends = (
            size for stop in self._stops for size in range(1, len(stop)) if self._held.endswith(stop[:size])
        )
        return max(ends, default=0)


@dataclass
class Completion:
    """The answer to one request, as it grows.

    Args:
        request: what was asked.
        writer: writes.
        name: of the model, as it is told.
        goes_on: called before each byte; what it raises ends the answer.
    """

    request: CompletionRequest
    writer: Writer
    name: str
    goes_on: Callable[[], None] = lambda: None
    _head: dict[str, Any] = field(init=False)
    _record: TextRecord = field(default_factory=TextRecord, init=False)

    def __post_init__(self) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.name,
        }
        seed = secrets.randbits(62) if self.request.seed is None else self.request.seed
        try:
            self._steps = self.writer.write(
                [prompt.encode() for prompt in self.request.prompts],
                self.request.max_tokens,
                temperature=self.request.temperature,
                seed=seed,
                without=self.request.without,
            )
        except InvalidInputError as error:
            if error.name != "length":
                raise
            raise InvalidInputError("max_tokens", error.value, error.expected) from None

    def whole(self) -> dict[str, Any]:
        """Return the whole answer."""
        texts = [prompt if self.request.echo else "" for prompt in self.request.prompts]
        reasons, counts = ["length"] * len(texts), [0] * len(texts)
        for grown, _ in self._grown():
            for number, text, reason in grown:
                texts[number] += text
                counts[number] += 1
                reasons[number] = reason or reasons[number]
        choices = [_choice(*each) for each in zip(range(len(texts)), texts, reasons, strict=True)]
        return self._head | {"choices": choices, "usage": self._usage(counts), "airmoe": self._taken()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Return an iterator over the answer in pieces; each tells what it took, the last one the total."""
        counts = [0] * len(self.request.prompts)
        if self.request.echo:
            for number, prompt in enumerate(self.request.prompts):
                yield self._head | {"choices": [_choice(number, prompt, None)]}
        joules = 0.0
        for grown, taken in self._grown():
            for number, _, _ in grown:
                counts[number] += 1
            joules += taken["energy_j"]
            told = [_choice(*each) for each in grown if each[1] or each[2]]
            if told:  # what may be the beginning of a stop is held back
                yield self._head | {
                    "choices": told,
                    "airmoe": taken | {"energy_j": joules} | self._total(grown),
                }
                joules = 0.0
        if self.request.stream_options is not None and self.request.stream_options.include_usage:
            yield self._head | {"choices": [], "usage": self._usage(counts)}

    def _grown(self) -> Iterator[tuple[list[tuple[int, str, str | None]], dict[str, Any]]]:
        """Yield, byte by byte, what was added to each text that goes on, and what that took."""
        growing = [GrowingText(self.request.stop or []) for _ in self.request.prompts]
        for number in range(1, self.request.max_tokens + 1):
            self.goes_on()
            step = next(self._steps)
            last = number == self.request.max_tokens
            choices = []
            for sequence, text in enumerate(growing):
                if not text.ended:
                    added = text.add(step.byte_B[sequence : sequence + 1].tobytes(), last=last)
                    reason = "stop" if text.ended else "length" if last else None
                    choices.append((sequence, added, reason))
            yield choices, self._of_step(step)
            if all(text.ended for text in growing):
                return

    def _of_step(self, step: Written) -> dict[str, Any]:
        self._record.add(step.layers)
        return {
            "energy_j": energy_j(step.layers),
            "experts": [leading_expert(step.layers, row) for row in step.row_B.tolist()],
            "degraded": is_degraded(step.layers),
            "missed_nodes": missed_nodes(step.layers),
        }

    def _total(self, grown: list[tuple[int, str, str | None]]) -> dict[str, Any]:
        """Return what the whole answer took, where these are its last pieces."""
        return {"total": self._taken()} if all(reason for _, _, reason in grown) else {}

    def _taken(self) -> dict[str, Any]:
        """Return what the answer took, and who had no part in it."""
        return {
            "energy_j": self._record.energy_j,
            "degraded_bytes": self._record.degraded,
            "missed_nodes": sorted(self._record.missed_nodes),
            "missed_experts": sorted(self._record.missed_experts),
            "decided_by": sorted(self._record.decided_by),
            "without": sorted(set(self.request.without)),
        }

    def _usage(self, counts: list[int]) -> dict[str, int]:
        prompt, written = sum(len(prompt.encode()) for prompt in self.request.prompt), sum(counts)
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _choice(number: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": number, "text": text, "logprobs": None, "finish_reason": reason}
