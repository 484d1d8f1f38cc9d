"""The report: one HTML file that opens offline, and its figures beside it."""

import base64
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template

from airmoe.files import AnyPath, as_path, replaced_file
from airmoe.report.dark import dark_svg
from airmoe.report.demo_tables import analog_html, demo_tables, equal_f1_text, methods_html, or_dash
from airmoe.report.figures import descriptions, drawings
from airmoe.report.measured import AnalogResults
from airmoe.report.results import DemoResults, Sample
from airmoe.report.writing import write_figures, write_tables


def write_report(results: DemoResults, run_folder: AnyPath) -> None:
    """Write ``report.html``, ``figures/`` and ``tables/`` into a run folder (see `airmoe.report.writing`)."""
    made = drawings(results)
    run_folder = as_path(run_folder)
    files_of = write_figures(made, run_folder)
    write_tables(demo_tables(results), run_folder)
    told = descriptions(results)
    images = {name.replace("-", "_"): _picture(files_of[name]["svg"], told[name]) for name in made}
    with replaced_file(run_folder / "report.html") as temporary:
        temporary.write_text(_page(results, images), encoding="utf-8")


def _picture(svg: bytes, told: str) -> str:
    """Return a figure with its description, for light and for dark screens."""
    light, dark = (
        f"data:image/svg+xml;base64,{base64.b64encode(one).decode()}" for one in (svg, dark_svg(svg))
    )
    on_dark = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
    return f'<figure><picture>{on_dark}<img alt="{escape(told)}" src="{light}"></picture></figure>'


def _sample(sample: Sample, classes: tuple[str, ...]) -> str:
    """Return an image, who answered it and how, as an item of a list."""
    asked, label, answer = sample.client, escape(classes[sample.label]), escape(classes[sample.answer])
    who = "itself" if sample.expert == asked else f"client {sample.expert}"
    right = sample.answer == sample.label
    verdict = f'<b class="{"right" if right else "wrong"}">{"✓" if right else "✗"} {answer}</b>'
    return (
        f'<li><img alt="an image of class {label}" src="data:image/png;base64,{sample.png_base64}">'
        f"class {label}<br>client {asked} asks {who}<br>{verdict} at {sample.probability:.0%}<br>"
        f"gate's score {sample.score:.2f}<br>{sample.joules * 1e6:.1f} µJ</li>"
    )


def _page(results: DemoResults, images: dict[str, str]) -> str:
    routed = results.method("moe-top1").figures
    data, training, kills, nodes = results.data, results.training, results.kills, results.nodes
    return _template("page.html").substitute(
        images,
        style=files("airmoe.report").joinpath("page.css").read_text(encoding="utf-8"),
        samples="".join(_sample(sample, data.classes) for sample in results.samples),
        analog="" if results.analog is None else _analog_section(results.analog, images),
        dataset=escape(data.name),
        clients=data.clients,
        partition=escape(data.partition),
        classes=len(data.classes),
        train_images=f"{data.train_images:,}",
        asked_images=f"{data.asked_images:,}",
        held_out_images=f"{data.held_out_images:,}",
        seed=results.seed,
        f1=f"{routed.macro_f1:.3f}",
        f1_local=f"{results.method('local').figures.macro_f1:.3f}",
        f1_fedavg=f"{results.method('fedavg-network').figures.macro_f1:.3f}",
        f1_central=f"{results.method('central-moe').figures.macro_f1:.3f}",
        p50=or_dash("{:.2f}", routed.latency_p50_ms),
        p99=or_dash("{:.2f}", routed.latency_p99_ms),
        equal_f1=escape(equal_f1_text(results)),
        microjoules=f"{routed.joules_per_query * 1e6:.1f}",
        table=methods_html(results),
        victims=" and ".join(str(victim) for victim in kills.victims),
        queries=f"{kills.queries:,}",
        failed=kills.failed_queries,
        rerouted=kills.rerouted_queries,
        degraded=kills.degraded_queries,
        queries_during=f"{len(kills.stream.latency_ms):,}",
        rerouted_during=len(kills.stream.rerouted),
        degraded_during=len(kills.stream.degraded),
        f1_before=f"{kills.f1_before:.3f}",
        f1_after=f"{kills.f1_after:.3f}",
        rounds=training.feature_rounds,
        central_epochs=training.central_epochs,
        slowest=f"{kills.slowest_ms:.0f}",
        node_memory=f"{max(nodes.memory_mb[1:]):.0f}",
        scheduler_memory=f"{nodes.memory_mb[0]:.0f}",
        nodes_serving=f"{nodes.all_serving_s:.1f}",
        memory=f"{results.memory_mb / 1000:.2f}",
        difference=f"{results.mesh_minus_simulation:.0e}",
        seconds=_rows((step.step, f"{step.seconds:.1f} s") for step in results.steps),
        traffic=_rows((stage.stage, f"{stage.bytes_per_client:,.0f} bytes") for stage in training.stages),
        settings=escape(json.dumps(results.config, indent=1)),
    )


def _analog_section(analog: AnalogResults, images: dict[str, str]) -> str:
    return _template("analog.html").substitute(
        images,
        mean_snr=f"{analog.mean_snr_db:g}",
        table=analog_html(analog),
        difference=f"{analog.mesh_minus_simulation:.0e}",
    )


def _template(name: str) -> Template:
    return Template(files("airmoe.report").joinpath(name).read_text(encoding="utf-8"))


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)
