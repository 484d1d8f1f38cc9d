"""What a demonstration found, as ``results.json`` holds it; tables, figures and the page read this alone."""

from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import JsonValue, ValidationError, model_validator

from airmoe.errors import RunFolderError
from airmoe.files import replaced_file
from airmoe.report.measured import (
    AnalogResults,
    Asked,
    Count,
    EqualF1,
    ImportanceSweep,
    MethodId,
    MethodResult,
    NotNegative,
    Record,
    Share,
    refuse_other_ids,
)

RESULTS = "results.json"


class DataSplit(Record):
    """The images, and how they fell on the clients.

    Attributes:
        name: of the data set.
        partition: how it was split.
        train_images: of all clients together.
        held_out_images: that nobody trained on.
        asked_images: of these, asked by every client.
        classes: their names.
        holds: for each client the classes in its data.
    """

    name: str
    partition: str
    train_images: Count
    held_out_images: Count
    asked_images: Count
    classes: tuple[str, ...]
    holds: tuple[tuple[Count, ...], ...]

    @property
    def clients(self) -> int:
        """The number of clients."""
        return len(self.holds)


class CurvePoint(Record):
    """Macro-F1 on the held-out images after a round."""

    round: Count
    macro_f1: Share


class StageTraining(Record):
    """One stage of federated training.

    Attributes:
        stage: its name in ``metrics.jsonl``.
        curve: where macro-F1 was measured.
        bytes_per_client: sent and received by one client over all rounds, on average.
    """

    stage: str
    curve: tuple[CurvePoint, ...]
    bytes_per_client: NotNegative


class Training(Record):
    """How long was trained, and what each federated stage reached and sent."""

    feature_rounds: Count
    central_epochs: Count
    stages: tuple[StageTraining, ...]


class QueryStream(Record):
    """The queries asked while two nodes died, in the order in which they began.

    Attributes:
        latency_ms: of each.
        correct: whether each answer was right.
        rerouted: the numbers of those routed again.
        degraded: the numbers of those degraded.
    """

    latency_ms: tuple[NotNegative, ...]
    correct: tuple[bool, ...]
    rerouted: tuple[Count, ...]
    degraded: tuple[Count, ...]


class Kills(Record):
    """What happened to the queries of the surviving clients while two nodes died, and after.

    Attributes:
        victims: the nodes.
        struck_at_query: how many queries were done when each was struck.
        classes_with_a_holder: those that a survivor holds.
        f1_before: macro-F1 of these classes with every node alive.
        f1_after: the same once both are dead.
        queries: during and after.
        failed_queries: without an answer.
        rerouted_queries: routed again around a lost node.
        degraded_queries: an expert that was wanted did not answer.
        slowest_ms: the longest latency.
        stream: every query during.
    """

    victims: tuple[Count, Count]
    struck_at_query: tuple[Count, Count]
    classes_with_a_holder: tuple[Count, ...]
    f1_before: Share
    f1_after: Share
    queries: Count
    failed_queries: Count
    rerouted_queries: Count
    degraded_queries: Count
    slowest_ms: NotNegative
    stream: QueryStream


class NodeProcesses(Record):
    """The node processes: peak memory of each, and the seconds until all served."""

    memory_mb: tuple[NotNegative, ...]
    all_serving_s: NotNegative


class StepTime(Record):
    """How long a step of the demonstration took."""

    step: str
    seconds: NotNegative


class DemoResults(Record):
    """Everything that a demonstration found.

    Attributes:
        format: of the file.
        seed: of everything random.
        config: the settings, as in ``config.toml``.
        data: the images.
        training: rounds, curves, bytes.
        methods: in the order of the table.
        asked: who asked whom, of the methods that are compared in that.
        sweeps: methods as their importance factor grows.
        equal_f1: what JESA spends at the macro-F1 of top-1 and of top-2.
        mesh_minus_simulation: largest difference between class probabilities.
        kills: two nodes die.
        nodes: the node processes.
        memory_mb: peak memory of all processes.
        steps: the time each step took, in order.
        analog: the comparison over analog links; None where it was not asked for.
    """

    format: Literal["airmoe demo 2"] = "airmoe demo 2"
    seed: Count
    config: dict[str, JsonValue]
    data: DataSplit
    training: Training
    methods: tuple[MethodResult, ...]
    asked: tuple[Asked, ...]
    sweeps: tuple[ImportanceSweep, ...]
    equal_f1: tuple[EqualF1, ...]
    mesh_minus_simulation: NotNegative
    kills: Kills
    nodes: NodeProcesses
    memory_mb: NotNegative
    steps: tuple[StepTime, ...]
    analog: AnalogResults | None = None

    def method(self, id_: MethodId) -> MethodResult:
        """Return what was found of a method."""
        return next(method for method in self.methods if method.id == id_)

    @model_validator(mode="after")
    def _each_method_is_there_once(self) -> Self:
        refuse_other_ids([method.id for method in self.methods], get_args(MethodId))
        return self


def write_results(results: DemoResults, run_folder: Path) -> None:
    """Write ``results.json`` into a run folder."""
    with replaced_file(run_folder / RESULTS) as temporary:
        temporary.write_text(results.model_dump_json() + "\n", encoding="utf-8")


def read_results(run_folder: Path) -> DemoResults:
    """Return the results of the demonstration in a run folder.

    Raises:
        RunFolderError: they are missing, damaged, or of another format.
    """
    path = run_folder / RESULTS
    try:
        return DemoResults.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RunFolderError(f"{path} does not exist; expected the run folder of a demonstration") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "results"
        raise RunFolderError(f"{path} is damaged or of another format: {key}: {first['msg']}") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from None
