"""The results of a demonstration, as in ``results.json``; tables, figures and the page read nothing else."""

from typing import Literal, Self, get_args

from pydantic import JsonValue, ValidationError, model_validator

from airmoe.errors import RunFolderError
from airmoe.files import AnyPath, as_path, replaced_file
from airmoe.records import refusal
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
    """The images, and how they were divided among the clients.

    Attributes:
        name: name of the data set.
        partition: how it was split.
        train_images: number of training images of all clients together.
        held_out_images: number of images that nobody trained on.
        asked_images: number of held-out images that every client asked about.
        classes: names of the classes.
        holds: for each client the classes in its data.
        images_NC: for each client the number of its training images of each class.
    """

    name: str
    partition: str
    train_images: Count
    held_out_images: Count
    asked_images: Count
    classes: tuple[str, ...]
    holds: tuple[tuple[Count, ...], ...]
    images_NC: tuple[tuple[Count, ...], ...]

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
        curve: the rounds at which macro-F1 was measured.
        bytes_per_client: mean bytes that one client sent and received over all rounds.
    """

    stage: str
    curve: tuple[CurvePoint, ...]
    bytes_per_client: NotNegative


class Training(Record):
    """How long training took in rounds and epochs, and what each federated stage reached and sent."""

    feature_rounds: Count
    central_epochs: Count
    stages: tuple[StageTraining, ...]


class QueryStream(Record):
    """The queries asked while two nodes died, in the order in which they began.

    Attributes:
        latency_ms: latency of each query.
        correct: whether each answer was right.
        rerouted: numbers of the queries routed again.
        degraded: numbers of the degraded queries.
    """

    latency_ms: tuple[NotNegative, ...]
    correct: tuple[bool, ...]
    rerouted: tuple[Count, ...]
    degraded: tuple[Count, ...]


class Kills(Record):
    """What happened to the queries of the surviving clients while two nodes died, and after.

    Attributes:
        victims: the nodes that died.
        struck_at_query: how many queries were done when each was struck.
        classes_with_a_holder: the classes that a survivor holds.
        f1_before: macro-F1 of these classes with every node alive.
        f1_after: the same once both are dead.
        queries: number of queries during and after the kills.
        failed_queries: those without an answer.
        rerouted_queries: those routed again around a lost node.
        degraded_queries: those in which a wanted expert did not answer.
        slowest_ms: the longest latency.
        stream: every query during the kills.
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


class Sample(Record):
    """One held-out image, and who answered it through the mesh by top-1 routing.

    Attributes:
        png_base64: the image.
        label: its class.
        client: the client that asked.
        answer: the class answered.
        probability: that of the class answered.
        expert: the expert that the gate chose.
        score: the gate's score of this expert.
        joules: energy of the radio.
    """

    png_base64: str
    label: Count
    client: Count
    answer: Count
    probability: Share
    expert: Count
    score: NotNegative
    joules: NotNegative


class StepTime(Record):
    """How long a step of the demonstration took."""

    step: str
    seconds: NotNegative


class DemoResults(Record):
    """Everything that a demonstration found.

    Attributes:
        format: format of the file.
        seed: seed of everything random.
        config: the settings, as in ``config.toml``.
        data: the images.
        training: rounds, curves, bytes.
        methods: every method, in the order of the table.
        asked: who asked whom, for the methods that are compared in that.
        sweeps: methods as their importance factor grows.
        equal_f1: what JESA spends at the macro-F1 of top-1 and of top-2.
        mesh_minus_simulation: largest difference between class probabilities.
        kills: what happened while two nodes died.
        nodes: the node processes.
        links_db_NN: dB, the SNR of the simulated link from each node to each other; None to itself.
        confusion_CC: how often images of each class (row) were answered with each class (column) by top-1
            routing through the mesh.
        samples: some images and their answers.
        memory_mb: peak memory of all processes.
        steps: the time each step took, in order.
        analog: the comparison over analog links; None where it was not asked for.
    """

    format: Literal["airmoe demo 3"] = "airmoe demo 3"
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
    links_db_NN: tuple[tuple[float | None, ...], ...]
    confusion_CC: tuple[tuple[Count, ...], ...]
    samples: tuple[Sample, ...]
    memory_mb: NotNegative
    steps: tuple[StepTime, ...]
    analog: AnalogResults | None = None

    def method(self, id_: MethodId) -> MethodResult:
        """Return the results of a method."""
        return next(method for method in self.methods if method.id == id_)

    @model_validator(mode="after")
    def _each_method_is_there_once(self) -> Self:
        refuse_other_ids([method.id for method in self.methods], get_args(MethodId))
        return self


def write_results(results: DemoResults, run_folder: AnyPath) -> None:
    """Write ``results.json`` into a run folder."""
    with replaced_file(as_path(run_folder) / RESULTS) as temporary:
        temporary.write_text(results.model_dump_json() + "\n", encoding="utf-8")


def read_results(run_folder: AnyPath) -> DemoResults:
    """Return the results of the demonstration in a run folder.

    Raises:
        RunFolderError: they are missing, damaged, or of another format.
    """
    path = as_path(run_folder) / RESULTS
    try:
        return DemoResults.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RunFolderError(f"{path} does not exist; expected the run folder of a demonstration") from None
    except ValidationError as error:
        said = refusal(error, lambda key: key or "results")
        raise RunFolderError(f"{path} is damaged or of another format: {said}") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from None
