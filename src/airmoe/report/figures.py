"""Figures of the demonstration, as SVG.

Each takes the dictionary of ``results.json`` and returns the text of one SVG.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from airmoe.report.panels import Line, Panel, draw_panels
from airmoe.report.style import ACCENT, ALARM, INK, MUTED, SECOND, STYLE, WARM, svg_text

NEAR_F1 = 0.04
"""Methods this close to the best are shown again in the close-up."""


def f1_against_energy(results: dict[str, Any]) -> str:
    """Return macro-F1 against microjoules per query: all methods, and beside them the best ones closer up."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.2), layout="constrained")
        whole, close = figure.subplots(1, 2, width_ratios=(5, 6))
        sweeps, methods = results["sweeps"], results["methods"]
        best = max(
            point["macro_f1"] for point in [*methods, *(p for sweep in sweeps.values() for p in sweep)]
        )
        near = [method for method in methods if method["macro_f1"] > best - NEAR_F1]
        for axes in (whole, close):
            for (name, sweep), colour in zip(sweeps.items(), (MUTED, ACCENT), strict=True):
                ends = f"{sweep[0]['importance']:g} to {sweep[-1]['importance']:g}"
                axes.plot(
                    [_microjoules(point) for point in sweep],
                    [point["macro_f1"] for point in sweep],
                    color=colour,
                    marker=".",
                    linewidth=1.5,
                    zorder=2,
                    label=f"{name}, importance {ends}" if axes is close else None,
                )
            axes.set_xlabel("energy per query, µJ")
        for method in methods:
            colour = WARM if method["name"].startswith("networked") else MUTED
            where = _microjoules(method), method["macro_f1"]
            whole.scatter(*where, s=36, color=colour, zorder=3)
            if method in near:
                marker = "os^Dv<>P"[near.index(method) % 8]
                close.scatter(*where, s=60, marker=marker, color=colour, zorder=3, label=method["name"])
            else:
                _label(whole, method, method["name"], MUTED, (6, 4))
        whole.set_ylim(0, 1.05)
        whole.set_ylabel("macro-F1, mean over clients")
        whole.set_title("all methods")
        whole.margins(x=0.25)
        close.set_ylim(best - NEAR_F1, best + NEAR_F1 / 8)
        close.set_title("the best, closer up")
        close.legend(loc="lower right", fontsize=8.5)
        return svg_text(figure)


def who_asks_whom(results: dict[str, Any]) -> str:
    """Return, for top-1 and least-energy routing, how often each client asked each expert."""
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        panels = results["asked_by_client"]
        figure = Figure(figsize=(9.4, 4.4), layout="constrained")
        for axes, (name, asked) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            counts = np.array(asked, float)
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(share * 100, cmap="GnBu", vmin=0)
            for own in range(min(share.shape)):
                axes.add_patch(Rectangle((own - 0.5, own - 0.5), 1, 1, fill=False, edgecolor=WARM, lw=1.2))
            axes.set_title(name)
            axes.set_xlabel("expert asked (own expert framed)")
            axes.set_ylabel("client that asks")
            axes.set_xticks(range(share.shape[1]))
            axes.set_yticks(range(share.shape[0]))
            figure.colorbar(image, ax=axes, shrink=0.8, label="% of the client's pairs")
        return svg_text(figure)


def training_curves(results: dict[str, Any]) -> str:
    """Return macro-F1 on the held-out images against federated rounds, by stage."""
    titles = {
        "features": ("stage 1, FedCE: extractor and temporary head", MUTED),
        "gate": ("stage 3, FedGate: top-1 routing over the experts", WARM),
        "channel-aware gate": ("stage 3, channel-aware, over analog links", ACCENT),
        "fedavg network": ("baseline: one FedAvg network", SECOND),
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for stage, points in results["curves"].items():
            title, colour = titles[stage]
            axes.plot(*zip(*points, strict=True), label=title, color=colour, linewidth=1.8)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("round of the stage")
        axes.set_ylabel("macro-F1, held-out images")
        axes.legend(loc="lower right")
        return svg_text(figure)


def answers_around_kills(results: dict[str, Any], window: int = 100) -> str:
    """Return every query's latency and the running accuracy, with the two kills marked."""
    kills = results["kills"]
    latency_ms = np.array(kills["stream"]["latency_ms"])
    correct = np.array(kills["stream"]["correct"], float)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        number = np.arange(len(latency_ms))
        top.plot(number, latency_ms, ".", markersize=2.5, color=ACCENT, alpha=0.5, rasterized=True)
        for kind, marker, colour, title in (
            ("rerouted", "o", WARM, "routed again around the lost node"),
            ("degraded", "X", ALARM, "degraded: own expert as last resort"),
        ):
            chosen = np.array(kills["stream"][kind], int)
            label = f"{title} ({len(chosen)})"
            top.plot(chosen, latency_ms[chosen], marker, color=colour, markersize=6, label=label)
        top.set_yscale("log")
        top.set_ylabel("latency, ms")
        top.legend(loc="upper right", ncols=2)
        running = np.convolve(correct, np.ones(window) / window, mode="valid")
        bottom.plot(number[window - 1 :], running, color=INK, linewidth=1)
        bottom.set_ylim(min(0.7, running.min() - 0.05), 1.01)
        bottom.set_ylabel(f"accuracy, last {window}")
        bottom.set_xlabel("query")
        for axes in (top, bottom):
            struck = zip(
                kills["struck_at_query"], kills["victims"], ("killed", "frozen, then killed"), strict=True
            )
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


def over_analog_links(results: dict[str, Any]) -> str:
    """Return macro-F1, local share and energy of both gates against the mean SNR of analog links."""
    sweep = results["analog"]["sweep"]
    mean_snr_db = [point["mean_snr_db"] for point in next(iter(sweep.values()))]
    ceiling = results["analog"]["methods"][-1]

    def panel(title: str, label: str, key: str, scale: float) -> Panel:
        curves = [
            Line(name, mean_snr_db, [point[key] * scale for point in points], colour=colour)
            for (name, points), colour in zip(sweep.items(), (WARM, MUTED), strict=True)
        ]
        if key == "macro_f1":
            level = [ceiling[key]] * len(mean_snr_db)
            curves.append(Line(ceiling["name"], mean_snr_db, level, colour=INK, theory=True))
        return Panel(title, "mean SNR of the links, dB", label, curves)

    return draw_panels(
        [
            panel("right answers", "macro-F1, mean over clients", "macro_f1", 1.0),
            panel("at home", "own expert, % of the pairs", "local_share", 100.0),
            panel("energy", "µJ per query", "joules_per_query", 1e6),
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


def _microjoules(figures: dict[str, Any]) -> float:
    return float(figures["joules_per_query"] * 1e6)


def _label(axes: Axes, point: dict[str, Any], text: str, colour: str, offset: tuple[int, int]) -> None:
    axes.annotate(
        text,
        (_microjoules(point), point["macro_f1"]),
        xytext=offset,
        textcoords="offset points",
        color=colour,
        fontsize=8.5,
    )
