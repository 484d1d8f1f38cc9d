"""Figures of the demonstration; each is the text of one SVG."""

import itertools
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from airmoe.report.measured import AnalogResults, Figures
from airmoe.report.panels import Line, Panel, draw_panels
from airmoe.report.results import DemoResults
from airmoe.report.style import ACCENT, ALARM, INK, MUTED, SECOND, STYLE, WARM, svg_text

STAGES = {
    "features": ("stage 1, FedCE: extractor and temporary head", MUTED),
    "gate": ("stage 3, FedGate: top-1 routing over the experts", WARM),
    "channel-aware gate": ("stage 3, channel-aware, over analog links", ACCENT),
    "fedavg network": ("baseline: one FedAvg network", SECOND),
}
"""Title and colour of each training stage whose macro-F1 is measured, by its name in ``metrics.jsonl``."""

NEAR_F1 = 0.04
"""Methods this close to the best are shown again in the close-up."""


def f1_against_energy(results: DemoResults) -> str:
    """Return macro-F1 against microjoules per query: all methods, and a close-up of the best."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.2), layout="constrained")
        whole, close = figure.subplots(1, 2, width_ratios=(5, 6))
        swept = [point.figures for sweep in results.sweeps for point in sweep.points]
        best = max(figures.macro_f1 for figures in (*swept, *(m.figures for m in results.methods)))
        for sweep, colour in zip(results.sweeps, (MUTED, ACCENT), strict=True):
            ends = f"importance {sweep.points[0].importance:g} to {sweep.points[-1].importance:g}"
            for axes in (whole, close):
                axes.plot(
                    [_microjoules(point.figures) for point in sweep.points],
                    [point.figures.macro_f1 for point in sweep.points],
                    color=colour,
                    marker=".",
                    linewidth=1.5,
                    zorder=2,
                    label=f"{results.method(sweep.method).label}, {ends}",
                )
        markers = itertools.cycle("os^Dv<>P")
        for method in results.methods:
            colour = WARM if method.family == "networked" else MUTED
            where = _microjoules(method.figures), method.figures.macro_f1
            whole.scatter(*where, s=36, color=colour, zorder=3)
            if method.figures.macro_f1 > best - NEAR_F1:
                marker = next(markers)
                close.scatter(*where, s=60, marker=marker, color=colour, zorder=3, label=method.label)
            else:
                whole.annotate(
                    method.label, where, (6, 4), textcoords="offset points", color=MUTED, fontsize=8.5
                )
        for axes in (whole, close):
            axes.set_xlabel("energy per query, µJ")
        whole.set_ylim(0, 1.05)
        whole.set_ylabel("macro-F1, mean over clients")
        whole.set_title("all methods")
        whole.margins(x=0.25)
        close.set_ylim(best - NEAR_F1, best + NEAR_F1 / 8)
        close.set_title("the best, closer up")
        close.legend(loc="lower right", fontsize=8.5)
        return svg_text(figure)


def who_asks_whom(results: DemoResults) -> str:
    """Return how often each client asked each expert, a panel for each method of ``results.asked``."""
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9.4, 4.4), layout="constrained")
        for axes, asked in zip(figure.subplots(1, len(results.asked)), results.asked, strict=True):
            counts = np.array(asked.pairs_NE, float)
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(share * 100, cmap="GnBu", vmin=0)
            for own in range(min(share.shape)):
                axes.add_patch(Rectangle((own - 0.5, own - 0.5), 1, 1, fill=False, edgecolor=WARM, lw=1.2))
            axes.set_title(results.method(asked.method).label)
            axes.set_xlabel("expert asked (own expert framed)")
            axes.set_ylabel("client that asks")
            axes.set_xticks(range(share.shape[1]))
            axes.set_yticks(range(share.shape[0]))
            figure.colorbar(image, ax=axes, shrink=0.8, label="% of the client's pairs")
        return svg_text(figure)


def training_curves(results: DemoResults) -> str:
    """Return macro-F1 on the held-out images against federated rounds, by stage."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for stage in results.training.stages:
            if stage.curve:
                title, colour = STAGES[stage.stage]
                rounds, f1 = zip(*((point.round, point.macro_f1) for point in stage.curve), strict=True)
                axes.plot(rounds, f1, label=title, color=colour, linewidth=1.8)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("round of the stage")
        axes.set_ylabel("macro-F1, held-out images")
        axes.legend(loc="lower right")
        return svg_text(figure)


def answers_around_kills(results: DemoResults, window: int = 100) -> str:
    """Return every query's latency and the running accuracy, with the two kills marked."""
    kills, stream = results.kills, results.kills.stream
    latency_ms, correct = np.array(stream.latency_ms), np.array(stream.correct, float)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        number = np.arange(len(latency_ms))
        top.plot(number, latency_ms, ".", markersize=2.5, color=ACCENT, alpha=0.5, rasterized=True)
        for queries, marker, size, colour, title in (
            (stream.degraded, ".", 4, ALARM, "degraded: a wanted expert did not answer"),
            (stream.rerouted, "o", 6, WARM, "routed again around the lost node"),
        ):
            chosen = np.array(queries, int)
            label = f"{title} ({len(chosen)})"
            top.plot(chosen, latency_ms[chosen], marker, color=colour, markersize=size, label=label)
        top.set_yscale("log")
        top.set_ylabel("latency, ms")
        top.legend(loc="upper right", ncols=2)
        running = np.convolve(correct, np.ones(window) / window, mode="valid")
        bottom.plot(number[window - 1 :], running, color=INK, linewidth=1)
        bottom.set_ylim(min(0.7, running.min() - 0.05), 1.01)
        bottom.set_ylabel(f"accuracy, last {window}")
        bottom.set_xlabel("query")
        for axes in (top, bottom):
            struck = zip(kills.struck_at_query, kills.victims, ("killed", "frozen, then killed"), strict=True)
            for row, (query, victim, how) in enumerate(struck):
                axes.axvline(query, color=ALARM, linewidth=1, linestyle="--")
                if axes is bottom:
                    axes.annotate(
                        f"node {victim} {how}",
                        (query, 0.04 + 0.14 * row),
                        xycoords=("data", "axes fraction"),
                        xytext=(4, 0),
                        textcoords="offset points",
                        color=ALARM,
                        fontsize=9,
                    )
        return svg_text(figure)


def over_analog_links(analog: AnalogResults) -> str:
    """Return macro-F1, local share and energy of both gates against the mean SNR of analog links."""

    def curves(value: Callable[[Figures], float]) -> list[Line]:
        return [
            Line(
                analog.method(sweep.method).label,
                [point.mean_snr_db for point in sweep.points],
                [value(point.figures) for point in sweep.points],
                colour=colour,
            )
            for sweep, colour in zip(analog.sweeps, (WARM, MUTED), strict=True)
        ]

    ceiling, snr_label = analog.method("ideal-top1"), "mean SNR of the links, dB"
    f1 = curves(lambda figures: figures.macro_f1)
    level = [ceiling.figures.macro_f1] * len(f1[0].x)
    f1.append(Line(ceiling.label, f1[0].x, level, colour=INK, theory=True))
    at_home = curves(lambda figures: 100 * figures.local_share)
    return draw_panels(
        [
            Panel("right answers", snr_label, "macro-F1, mean over clients", f1),
            Panel("at home", snr_label, "own expert, % of the pairs", at_home),
            Panel("energy", snr_label, "µJ per query", curves(_microjoules)),
        ],
        panel_inches=(3.4, 3.3),
    )


ANALOG_FIGURE = "over-analog-links"
FIGURES = {
    "f1-against-energy": f1_against_energy,
    "who-asks-whom": who_asks_whom,
    "training-curves": training_curves,
    "answers-around-kills": answers_around_kills,
}


def _microjoules(figures: Figures) -> float:
    return figures.joules_per_query * 1e6
