"""Measurements of each method of the demonstration, as records that are validated when they are read.

A value that was not measured is None; NaN and infinity are refused. Shape suffixes: N clients, E experts.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from airmoe.errors import InvalidInputError

MethodId = Literal[
    "moe-top1",
    "moe-top2",
    "moe-des",
    "moe-jesa",
    "all-averaged",
    "random",
    "local",
    "fedavg-network",
    "central-moe",
]
"""The methods of the demonstration."""

AnalogMethodId = Literal["naive-top1", "aware-top1", "best-link", "ideal-top1"]
"""The methods of its comparison over analog links."""

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """A record: unknown keys are errors, and so are NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figures(Record):
    """The measurements of a method, over queries of one image each.

    Attributes:
        macro_f1: the mean over clients.
        macro_f1_by_client: that of each client that asked.
        local_share: the client's own expert's share of the (image, expert) pairs asked for.
        local_share_own_classes: the same over images of the client's own classes.
        local_weight: the mean weight of the client's own expert in an answer.
        experts_per_query: the mean number of experts asked.
        bytes_per_query: the mean bytes of requests and replies.
        joules_per_query: the mean energy of the radio.
        latency_p50_ms: the median; None where nothing was timed.
        latency_p99_ms: the 99th percentile; None where nothing was timed.
        rerouted_share: the share of queries routed again around a lost expert.
        degraded_share: the share in which a wanted expert did not answer.
        fallback_share: the share decided by another policy than the one asked for.
        failed_queries: queries without an answer.
        queries: all queries.
    """

    macro_f1: Share
    macro_f1_by_client: tuple[Share, ...]
    local_share: Share
    local_share_own_classes: Share
    local_weight: NotNegative
    experts_per_query: NotNegative
    bytes_per_query: NotNegative
    joules_per_query: NotNegative
    latency_p50_ms: NotNegative | None
    latency_p99_ms: NotNegative | None
    rerouted_share: Share
    degraded_share: Share
    fallback_share: Share
    failed_queries: Count
    queries: Count


class MethodResult(Record):
    """One method of the demonstration.

    Attributes:
        id: its name in code.
        label: its name on the screen.
        family: "networked" for what the demonstration shows, "baseline" for what it is compared with.
        measured_in: "mesh" (node processes answered) or "simulation" (one process).
        figures: what was measured.
    """

    id: MethodId
    label: str
    family: Literal["networked", "baseline"]
    measured_in: Literal["mesh", "simulation"]
    figures: Figures


class Asked(Record):
    """How often each client (row) asked each expert (column)."""

    method: MethodId
    pairs_NE: tuple[tuple[Count, ...], ...]


class ImportancePoint(Record):
    """A method at one importance factor, in simulation."""

    importance: Share
    figures: Figures


class ImportanceSweep(Record):
    """A method as its importance factor grows."""

    method: MethodId
    points: Annotated[tuple[ImportancePoint, ...], Field(min_length=1)]


class EqualF1(Record):
    """Top-k, and the cheapest point of JESA's sweep with the same macro-F1, both in simulation.

    ``jesa`` is None where no importance factor reaches that macro-F1.
    """

    k: Annotated[int, Field(ge=1)]
    topk: Figures
    jesa: ImportancePoint | None


class SnrPoint(Record):
    """A method at one mean SNR of the links, in one process."""

    mean_snr_db: float
    figures: Figures


class SnrSweep(Record):
    """A method as the mean SNR of the links grows."""

    method: AnalogMethodId
    points: Annotated[tuple[SnrPoint, ...], Field(min_length=1)]


class AnalogMethodResult(Record):
    """One method of the comparison over analog links.

    Attributes:
        id: its name in code.
        label: its name on the screen.
        links: "analog"; or "ideal" for the ceiling, whose energy has another price.
        figures: what was measured through the mesh.
        mean_snr_db: mean over the links to other nodes that were used; None if none was, and for ideal links.
        macro_f1_simulated: macro-F1 in one process over the same links; None for ideal links.
    """

    id: AnalogMethodId
    label: str
    links: Literal["analog", "ideal"]
    figures: Figures
    mean_snr_db: float | None
    macro_f1_simulated: Share | None


class AnalogResults(Record):
    """Channel-aware against naive routing over the same analog links.

    Attributes:
        mean_snr_db: mean SNR of the links in the mesh.
        methods: every method; the last is the ceiling, over ideal links.
        sweeps: one for each gate.
        mesh_minus_simulation: largest difference between class probabilities, without noise.
    """

    mean_snr_db: float
    methods: tuple[AnalogMethodResult, ...]
    sweeps: tuple[SnrSweep, ...]
    mesh_minus_simulation: NotNegative

    def method(self, id_: AnalogMethodId) -> AnalogMethodResult:
        """Return the results of a method."""
        return next(method for method in self.methods if method.id == id_)

    @model_validator(mode="after")
    def _each_method_is_there_once(self) -> Self:
        refuse_other_ids([method.id for method in self.methods], get_args(AnalogMethodId))
        return self


def refuse_other_ids(found: list[str], expected: tuple[str, ...]) -> None:
    """Raise unless each expected id is found once."""
    if sorted(found) != sorted(expected):
        raise InvalidInputError("methods", ", ".join(found), f"each of {', '.join(expected)} once")
