"""The report: one HTML file that opens offline, and its figures beside it."""

import base64
import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from airmoe.files import replaced_file
from airmoe.report.figures import ANALOG_FIGURE, FIGURES, over_analog_links
from airmoe.report.tables import analog_html, equal_f1_text, methods_html


def write_report(results: dict[str, Any], run_folder: Path) -> None:
    """Write ``report.html`` and ``figures/*.svg`` into a run folder from the content of ``results.json``."""
    images, figures = {}, dict(FIGURES)
    if "analog" in results:
        figures[ANALOG_FIGURE] = over_analog_links
    for name, draw in figures.items():
        svg = draw(results)
        with replaced_file(run_folder / "figures" / f"{name}.svg") as temporary:
            temporary.write_text(svg, encoding="utf-8")
        images[name.replace("-", "_")] = _inline(svg)
    with replaced_file(run_folder / "report.html") as temporary:
        temporary.write_text(_page(results, images), encoding="utf-8")


def _inline(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _page(results: dict[str, Any], images: dict[str, str]) -> str:
    by_name = {method["name"]: method for method in results["methods"]}
    routed, local = by_name["networked MoE, top-1"], by_name["local expert only"]
    fedavg, central = by_name["one FedAvg network"], by_name["centrally trained MoE"]
    kills, data, config = results["kills"], results["data"], results["config"]
    return _template("page.html").substitute(
        images,
        analog=_analog_section(results, images) if "analog" in results else "",
        dataset=escape(data["name"]),
        clients=config["data"]["clients"],
        partition=escape(config["data"]["partition"]),
        classes=len(data["classes"]),
        train_images=f"{data['train_images']:,}",
        asked_images=f"{data['asked_images']:,}",
        held_out_images=f"{data['held_out_images']:,}",
        seed=config["seed"],
        f1=f"{routed['macro_f1']:.3f}",
        f1_local=f"{local['macro_f1']:.3f}",
        f1_fedavg=f"{fedavg['macro_f1']:.3f}",
        f1_central=f"{central['macro_f1']:.3f}",
        p50=f"{routed['latency_p50_ms']:.2f}",
        p99=f"{routed['latency_p99_ms']:.2f}",
        equal_f1=escape(equal_f1_text(results)),
        microjoules=f"{routed['joules_per_query'] * 1e6:.1f}",
        table=methods_html(results),
        victims=" and ".join(str(victim) for victim in kills["victims"]),
        queries=f"{kills['queries']:,}",
        failed=kills["failed_queries"],
        rerouted=kills["rerouted"],
        degraded=kills["degraded"],
        f1_before=f"{kills['f1_before']:.3f}",
        f1_after=f"{kills['f1_after']:.3f}",
        rounds=config["features"]["rounds"],
        central_epochs=results["central_epochs"],
        slowest=f"{kills['slowest_ms']:.0f}",
        node_memory=f"{max(results['nodes']['memory_mb'][1:]):.0f}",
        scheduler_memory=f"{results['nodes']['memory_mb'][0]:.0f}",
        nodes_serving=f"{results['nodes']['all_serving_s']:.1f}",
        memory=f"{results['memory_mb'] / 1000:.2f}",
        difference=f"{results['mesh_minus_simulation']:.0e}",
        seconds=_rows(results["seconds"], "{:.1f} s"),
        traffic=_rows(results["training_bytes_per_client"], "{:,.0f} bytes"),
        settings=escape(json.dumps(config, indent=1)),
    )


def _analog_section(results: dict[str, Any], images: dict[str, str]) -> str:
    analog = results["analog"]
    return _template("analog.html").substitute(
        images,
        mean_snr=f"{analog['mean_snr_db']:g}",
        table=analog_html(results),
        difference=f"{analog['mesh_minus_simulation']:.0e}",
    )


def _template(name: str) -> Template:
    return Template(files("airmoe.report").joinpath(name).read_text(encoding="utf-8"))


def _rows(figures: dict[str, float], form: str) -> str:
    return "".join(
        f"<tr><td>{escape(name)}</td><td>{form.format(value)}</td></tr>" for name, value in figures.items()
    )
