"""Settings of curves: a TOML per curve that says what differs from the defaults; unknown keys are errors."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from airmoe.errors import InvalidInputError

Scale = Literal["full", "quick", "smoke"]
"""How much is measured: all of it, enough to see each curve's shape, or just that everything runs."""

Count = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Nodes = Annotated[int, Field(ge=2, le=64)]
Experts = Annotated[int, Field(ge=1, le=64)]
Subcarriers = Annotated[int, Field(ge=1, le=1 << 16)]
Joules = Annotated[float, Field(ge=0, le=1e6)]
Restarts = Annotated[int, Field(ge=0, le=1000)]
Seeds = Annotated[int, Field(ge=1, le=1000)]
# A TOML has arrays, not tuples.
Values = Annotated[tuple[int | float, ...], Field(strict=False, min_length=1, max_length=1000)]
Between = Annotated[tuple[Joules, Joules], Field(strict=False)]

MOST_GAINS = 1 << 24
"""Channel gains that one layer may have: 128 MiB."""


class CurveSettings(BaseModel):
    """One curve: one parameter is swept over values, and each value is measured with several seeds.

    Attributes:
        label: its name in legends and tables; left out, the name of its file.
        seeds: how many seeds, counted from the one that the command is given.
        swept: the setting that is swept.
        values: what it is set to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    label: Annotated[str, Field(max_length=60)] = ""
    seeds: Seeds = 5
    swept: str = ""
    values: Values = (0,)

    def at(self, value: float) -> Self:
        """Return the same curve at one value of what is swept; raises `ValidationError` if it is not one."""
        return self.model_validate(self.model_dump() | {self.swept: value})

    @property
    def x_values(self) -> Sequence[float]:
        """The abscissae, one row of results each, for every seed."""
        return self.values


class LayerSettings(CurveSettings):
    """Tokens, gate and radio of one MoE layer: softmax scores of normal logits, Rayleigh block fading.

    Attributes:
        nodes: K; expert e is on node e, and each token is on a node drawn uniformly.
        tokens: T, tokens per layer over all nodes.
        gate_std: standard deviation of the gate's logits, independent for each token, expert and layer.
        subcarriers: M.
        fading: "rayleigh" draws each subcarrier anew, "multipath" correlates them over the band.
        taps: paths of the multipath channel.
        mean_snr_db: mean SNR of every link and subcarrier, dB.
        token_bits: s0, bits of one hidden state: 4096 values of 16 bits.
        compute_j: a_j, J that an expert spends on a token: drawn once per seed and expert, uniform between
            these two; [0, 0] counts transmission alone.
        max_experts: D.
    """

    nodes: Nodes = 8
    tokens: Count = 64
    gate_std: Annotated[float, Field(ge=0, le=100)] = 1.5
    subcarriers: Subcarriers = 128
    fading: Literal["rayleigh", "multipath"] = "rayleigh"
    taps: Subcarriers = 8
    mean_snr_db: Annotated[float, Field(ge=-100, le=100)] = 10.0
    token_bits: Annotated[float, Field(gt=0, le=1e12)] = 65536.0
    compute_j: Between = (0.0, 0.0)
    max_experts: Experts = 2

    @model_validator(mode="after")
    def _values_fit_each_other(self) -> Self:
        gains = self.nodes**2 * self.subcarriers
        if gains > MOST_GAINS:
            raise ValueError(f"nodes^2 x subcarriers at most {MOST_GAINS}, not {gains}")
        if self.compute_j[0] > self.compute_j[1]:
            raise ValueError("compute_j as [least, most]")
        if self.fading == "multipath" and self.taps > self.subcarriers:
            raise ValueError("taps at most subcarriers")
        return self


class ScheduleSettings(LayerSettings):
    """How a layer is scheduled.

    Attributes:
        threshold: q, what a token's chosen scores must sum to.
        bound: "none", "fast" (LB of the paper) or "tight", which knows that subcarriers are exclusive (ours).
        restarts: further descents while a schedule is not proven optimal.
    """

    threshold: Share = 0.5
    bound: Literal["none", "fast", "tight"] = "none"
    restarts: Restarts = 0


Settings = TypeVar("Settings", bound=CurveSettings)


def read_curves(model: type[Settings], folder: Path, figure: str, scale: Scale) -> dict[str, Settings]:
    """Return the curves of one figure by the name of their files, in alphabetical order.

    What applies, later before earlier: the model's defaults, the model's for this scale, the file, and the
    table of the file that is named like the scale.

    Raises:
        InvalidInputError: no such file, not TOML, an unknown key, or a value out of range.
    """
    files = sorted((folder / figure).glob("*.toml"))
    if not files:
        raise InvalidInputError("settings", str(folder / figure), "a folder with a TOML file per curve")
    return {path.stem: _read_curve(model, path, f"{figure}/{path.name}", scale) for path in files}


def dump_curve(curve: CurveSettings) -> str:
    """Return a curve with all its values as TOML that `read_curves` reads back to the same at any scale."""
    # JSON escapes as TOML does, but for the delete character.
    rows = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in curve.model_dump().items())
    return "\n".join(rows).replace("\x7f", "\\u007f") + "\n"


def _read_curve(model: type[Settings], path: Path, origin: str, scale: Scale) -> Settings:
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("settings", str(path), f"a readable TOML file ({error})") from None
    except (ValueError, RecursionError) as error:  # not TOML, or nested beyond what Python reads
        raise InvalidInputError(origin, str(error), "valid TOML") from None
    own = {name: written.pop(name, {}) for name in get_args(Scale)}
    for name, table in own.items():
        if not isinstance(table, dict):
            raise InvalidInputError(f"{origin}: {name}", table, "a table of settings")
    # All scales are checked, whichever is asked for.
    curves = {
        name: _checked(model, {**model.SCALES.get(name, {}), **written, **own[name]}, origin)
        for name in get_args(Scale)
    }
    return curves[scale]


def _checked(model: type[Settings], values: dict[str, Any], origin: str) -> Settings:
    try:
        curve = model.model_validate(values)
        for value in curve.values:
            curve.at(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = None if first["type"] == "missing" else first["input"] if key else "a curve"
        kinds = {"missing": "a value", "extra_forbidden": "a known key"}
        said = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        expected = kinds.get(first["type"], said)
        raise InvalidInputError(f"{origin}: {key}" if key else origin, given, expected) from None
    return curve
