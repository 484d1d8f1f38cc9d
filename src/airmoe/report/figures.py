"""Figures of the demonstration, each at the width of one column."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from airmoe.report.drawing import Drawing, Grid, Line, Look, Network, Panel
from airmoe.report.measured import AnalogMethodId, AnalogResults, Figures, MethodId
from airmoe.report.results import DataSplit, DemoResults
from airmoe.report.style import LOOKS

Matrix = NDArray[np.float64]

STAGES = {
    "features": ("stage 1, FedCE: extractor and temporary head", "homogeneous"),
    "gate": ("stage 3, FedGate: top-1 routing over the experts", "topk"),
    "channel-aware gate": ("stage 3, channel-aware, over analog links", "channel-aware"),
    "fedavg network": ("baseline: one FedAvg network", "one-network"),
}
"""Title of each training stage whose macro-F1 is measured, and the method that it looks like, by its name in
``metrics.jsonl``."""

METHOD_LOOKS: dict[MethodId | AnalogMethodId, Look] = {
    "moe-top1": LOOKS["topk"],
    "moe-top2": replace(LOOKS["topk"], marker="D"),
    "moe-des": LOOKS["des"],
    "moe-jesa": LOOKS["jesa"],
    "all-averaged": LOOKS["all"],
    "random": LOOKS["random"],
    "local": LOOKS["local"],
    "fedavg-network": LOOKS["one-network"],
    "central-moe": replace(LOOKS["central"], marker="p"),
    "naive-top1": LOOKS["naive"],
    "aware-top1": LOOKS["channel-aware"],
    "best-link": LOOKS["best-link"],
    "ideal-top1": LOOKS["channel-off"],
}

NEAR_F1 = 0.04
"""The close-up reaches this far below the best, or below the best point of a curve if that is lower."""

WINDOWS = 40
"""Points of the curves around the kills."""

MOST_NAMES = 3


def drawings(results: DemoResults) -> dict[str, Drawing]:
    """Return every figure of a demonstration by name."""
    data, classes = results.data, results.data.classes
    holders = [held_classes(data, client) for client in range(data.clients)]
    found = {
        "nodes-and-links": nodes_and_links(results, holders),
        "classes-of-clients": grid(
            "training images of each class",
            "class",
            "client",
            "images",
            [f"{client}" for client in range(data.clients)],
            classes,
            np.array(data.images_NC, float),
        ),
        "confusion": grid(
            "top-1 routing through the mesh",
            "class answered",
            "true class",
            "% of the class's queries",
            classes,
            classes,
            _percent(results.confusion_CC),
        ),
        "f1-against-energy": f1_against_energy(results),
        "f1-against-energy-closer": f1_against_energy(results, closer=True),
        **{
            f"who-asks-whom-{asked.method}": grid(
                results.method(asked.method).label,
                "expert asked, by its classes",
                "client",
                "% of its pairs",
                [f"{client}" for client in range(data.clients)],
                holders,
                _percent(asked.pairs_NE),
            )
            for asked in results.asked
        },
        "training-curves": training_curves(results),
        "answers-around-kills": answers_around_kills(results),
    }
    return found | (over_analog_links(results.analog) if results.analog is not None else {})


def descriptions(results: DemoResults) -> dict[str, str]:
    """Return what each figure shows, for those who do not see it."""
    data = results.data
    held = "; ".join(held_classes(data, client) for client in range(data.clients))
    known = [snr_db for links_db in results.links_db_NN for snr_db in links_db if snr_db is not None]
    confusion = np.array(results.confusion_CC)
    right = int(confusion.trace()), int(confusion.sum())
    wrong = confusion - np.diag(confusion.diagonal())
    true, answered = np.unravel_index(wrong.argmax(), wrong.shape)
    shown = f"Confusion matrix: {right[0]} of {right[1]} right"
    worst = f"most often {data.classes[answered]} was answered for {data.classes[true]}, {wrong.max()} times"
    f1 = ", ".join(f"{method.label} {method.figures.macro_f1:.3f}" for method in results.methods)
    kills = results.kills
    return {
        "nodes-and-links": f"Nodes and classes: {held}. Links from {min(known):.1f} to {max(known):.1f} dB.",
        "classes-of-clients": f"Training images of each class by client. Classes: {held}.",
        "confusion": f"{shown}; {worst if wrong.any() else 'none wrong'}.",
        "f1-against-energy": f"Macro-F1 against energy per query. {f1}.",
        "f1-against-energy-closer": "The same for the best methods: see the table of methods.",
        **{
            f"who-asks-whom-{asked.method}": f"Share of each client's requests to each expert, "
            f"{results.method(asked.method).label}."
            for asked in results.asked
        },
        "training-curves": "Macro-F1 on held-out images against federated rounds. "
        + "; ".join(
            f"{STAGES[stage.stage][0]}: {stage.curve[-1].macro_f1:.3f} in the end"
            for stage in results.training.stages
            if stage.curve
        ),
        "answers-around-kills": f"Latency and accuracy while nodes {kills.victims[0]} and "
        f"{kills.victims[1]} die; the slowest query took {max(kills.stream.latency_ms):.0f} ms.",
        "analog-f1": "Macro-F1 against the mean SNR of analog links, for both gates and ideal links.",
        "analog-local": "Share of the own expert against the mean SNR of analog links, for both gates.",
        "analog-energy": "Energy per query against the mean SNR of analog links, for both gates.",
    }


def f1_against_energy(results: DemoResults, *, closer: bool = False) -> Drawing:
    """Return macro-F1 against microjoules per query: all methods, or the best closer up."""
    points = [(method, _microjoules(method.figures), method.figures.macro_f1) for method in results.methods]
    tops = [max(point.figures.macro_f1 for point in sweep.points) for sweep in results.sweeps]
    best = max([*(f1 for _, _, f1 in points), *tops])
    least = min([best, *tops]) - NEAR_F1
    shown = [point for point in points if not closer or point[2] > least]
    curves = [
        Line(method.label, [energy], [f1], look=replace(METHOD_LOOKS[method.id], dash=""))
        for method, energy, f1 in shown
    ]
    for sweep in results.sweeps:
        ends = f"importance {sweep.points[0].importance:g} to {sweep.points[-1].importance:g}"
        label = f"{results.method(sweep.method).label}, {ends}"
        energy = [_microjoules(point.figures) for point in sweep.points]
        f1_ = [point.figures.macro_f1 for point in sweep.points]
        curves.append(Line(label, energy, f1_, look=replace(METHOD_LOOKS[sweep.method], marker="")))
    y_range = (least, best + (best - least) / 8) if closer else (0.0, 1.05)
    title = "the best, closer up" if closer else "all methods"
    return Drawing(
        [Panel(title, "energy per query, µJ", "macro-F1, mean over clients", curves, y_range=y_range)]
    )


def nodes_and_links(results: DemoResults, holders: Sequence[str]) -> Drawing:
    """Return the nodes with the classes that each holds, and the SNR of their links."""
    nodes = []
    for holder, links_db in zip(holders, results.links_db_NN, strict=True):
        others = [(other, snr_db) for other, snr_db in enumerate(links_db) if snr_db is not None]
        label = holder.partition(": ")[2].replace(", ", "\n")
        nodes.append(Line(label, [other for other, _ in others], [snr_db for _, snr_db in others]))
    return Drawing(
        [Network("nodes, their classes, and the links between them", "SNR, dB", nodes)], panel_height=3.0
    )


def grid(
    title: str,
    x_label: str,
    y_label: str,
    unit: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Matrix,
) -> Drawing:
    """Return a matrix as a figure whose height follows from its rows."""
    lines = [
        Line(row, list(range(len(columns))), of_row)
        for row, of_row in zip(rows, values.tolist(), strict=True)
    ]
    longest = max(map(len, columns))
    turned = longest * len(columns) > 35  # labels beside each other do not fit, so they stand
    height = 1.0 + 0.2 * min(len(rows), 20) + (0.07 * min(longest, 20) if turned else 0.2)
    return Drawing([Grid(title, x_label, y_label, unit, list(columns), lines)], panel_height=height)


def held_classes(data: DataSplit, client: int) -> str:
    """Return the names of the classes that a client holds, and how many more there are."""
    names = [data.classes[number] for number in data.holds[client]]
    more = len(names) - MOST_NAMES
    return f"{client}: {', '.join(names[:MOST_NAMES])}{f' and {more} more' if more > 0 else ''}"


def training_curves(results: DemoResults) -> Drawing:
    """Return macro-F1 on the held-out images against federated rounds, by stage."""
    curves = []
    for stage in results.training.stages:
        if stage.curve:
            title, look = STAGES[stage.stage]
            rounds = [float(point.round) for point in stage.curve]
            f1 = [point.macro_f1 for point in stage.curve]
            curves.append(Line(title, rounds, f1, look=replace(LOOKS[look], marker="")))
    return Drawing(
        [Panel("", "round of the stage", "macro-F1, held-out images", curves, y_range=(0.0, 1.02))]
    )


def answers_around_kills(results: DemoResults) -> Drawing:
    """Return latency and accuracy of the queries while two nodes die, window by window."""
    kills, stream = results.kills, results.kills.stream
    latency_ms, right = np.array(stream.latency_ms), np.array(stream.correct, float)
    parts = [part for part in np.array_split(np.arange(len(right)), WINDOWS) if part.size]
    middle = [float(part.mean()) for part in parts]

    def of_windows(value: Callable[[Sequence[float]], float], of: Matrix) -> list[float]:
        return [float(value(of[part])) for part in parts]  # type: ignore[arg-type]

    def some(queries: Sequence[int], what: str, look: str) -> Iterator[Line]:
        label = f"{what} ({len(queries)})"
        yield Line(
            label,
            list(queries),
            [stream.latency_ms[query] for query in queries],
            look=replace(LOOKS[look], dash=""),
        )

    hows = ("killed", "frozen, then killed")
    marks = [
        [query, f"node {victim} {how}"]
        for query, victim, how in zip(kills.struck_at_query, kills.victims, hows, strict=True)
    ]
    latency = [
        *some(stream.rerouted, "routed again around the lost node", "random"),
        *some(stream.degraded, "degraded: a wanted expert did not answer", "largest"),
        Line(
            "slowest of a window", middle, of_windows(max, latency_ms), look=replace(LOOKS["all"], marker="")
        ),
        Line(
            "median of a window",
            middle,
            of_windows(np.median, latency_ms),
            look=replace(LOOKS["des"], marker=""),
        ),
    ]
    accuracy = [
        Line("mean of a window", middle, of_windows(np.mean, right), look=replace(LOOKS["wlr"], marker=""))
    ]
    asked, least = "query while nodes die", min(0.7, *accuracy[0].y)
    return Drawing(
        [
            Panel("", asked, "latency, ms", latency, y_log=True, marks=[[x, ""] for x, _ in marks]),
            Panel("", asked, "accuracy", accuracy, y_range=(least - 0.05, 1.01), marks=marks),
        ],
        columns=1,
        panel_height=1.9,
    )


def over_analog_links(analog: AnalogResults) -> dict[str, Drawing]:
    """Return macro-F1, local share and energy of both gates against the mean SNR of analog links."""

    def curves(value: Callable[[Figures], float]) -> list[Line]:
        return [
            Line(
                analog.method(sweep.method).label,
                [point.mean_snr_db for point in sweep.points],
                [value(point.figures) for point in sweep.points],
                look=METHOD_LOOKS[sweep.method],
            )
            for sweep in analog.sweeps
        ]

    def panel(title: str, y_label: str, drawn: list[Line]) -> Drawing:
        return Drawing([Panel(title, "mean SNR of the links, dB", y_label, drawn)])

    ceiling = analog.method("ideal-top1")
    f1 = curves(lambda figures: figures.macro_f1)
    level = [ceiling.figures.macro_f1] * len(f1[0].x)
    f1.append(Line(ceiling.label, f1[0].x, level, look=METHOD_LOOKS["ideal-top1"]))
    at_home = curves(lambda figures: 100 * figures.local_share)
    return {
        "analog-f1": panel("macro-F1", "macro-F1, mean over clients", f1),
        "analog-local": panel("at home", "own expert, % of the pairs", at_home),
        "analog-energy": panel("energy", "energy per query, µJ", curves(_microjoules)),
    }


def _percent(counts: Sequence[Sequence[int]]) -> Matrix:
    """Return counts in percent of their row."""
    matrix: Matrix = np.array(counts, float)
    percent: Matrix = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return percent


def _microjoules(figures: Figures) -> float:
    return figures.joules_per_query * 1e6
