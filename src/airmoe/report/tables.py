"""Tables of methods, for the terminal and for the page, each from one list of columns."""

from collections.abc import Callable
from html import escape
from typing import Any

from rich.table import Table

Columns = dict[str, Callable[[dict[str, Any]], str]]

COLUMNS: Columns = {
    "method": lambda method: method["name"],
    "F1": lambda method: f"{method['macro_f1']:.3f}",
    "local": lambda method: f"{method['local_share']:.0%}",
    "bytes": lambda method: f"{method['bytes_per_query']:,.0f}",
    "µJ": lambda method: f"{method['joules_per_query'] * 1e6:.1f}",
    "p50 ms": lambda method: _or_dash("{:.2f}", method["latency_p50_ms"]),
    "p99 ms": lambda method: _or_dash("{:.2f}", method["latency_p99_ms"]),
    "degraded": lambda method: f"{method['degraded_share']:.1%}",
}
"""Title and cell of each column; bytes, µJ and ms are per query of one image."""

PAGE_COLUMNS = COLUMNS | {
    "own classes": lambda method: f"{method['local_share_own_classes']:.0%}",
    "by weight": lambda method: f"{method['local_weight']:.0%}",
    "experts": lambda method: f"{method['experts_per_query']:.2f}",
    "measured in": lambda method: method["through"],
}


ANALOG_COLUMNS: Columns = {
    "method": lambda method: method["name"],
    "F1": lambda method: f"{method['macro_f1']:.3f}",
    "local": lambda method: f"{method['local_share']:.0%}",
    "own classes": lambda method: f"{method['local_share_own_classes']:.0%}",
    "dB": lambda method: _or_dash("{:.1f}", method["mean_snr_db"]),
    "µJ": lambda method: _or_dash("{:.2f}", method["joules_per_query"], 1e6),
    "simulated": lambda method: _or_dash("{:.3f}", method["macro_f1_simulated"]),
}
"""Over analog links: dB is the mean SNR of the links to other nodes that were used, "simulated" F1 in one
process."""


def methods_table(results: dict[str, Any]) -> Table:
    """Return the table for a terminal of 80 columns."""
    return _table(f"{results['data']['name']}: one query is one image", COLUMNS, results["methods"])


def analog_table(results: dict[str, Any]) -> Table:
    """Return the table of the methods over analog links, for a terminal of 80 columns."""
    analog = results["analog"]
    title = f"over analog links, {analog['mean_snr_db']:g} dB on average, the same for each"
    return _table(title, ANALOG_COLUMNS, analog["methods"])


def methods_html(results: dict[str, Any]) -> str:
    """Return the table as HTML."""
    return _html(PAGE_COLUMNS, results["methods"])


def analog_html(results: dict[str, Any]) -> str:
    """Return the table of the methods over analog links as HTML."""
    return _html(ANALOG_COLUMNS, results["analog"]["methods"])


def equal_f1_text(results: dict[str, Any]) -> str:
    """Return in words what JESA spends at the macro-F1 of top-1 and of top-2."""
    sentences = []
    for k, entry in enumerate(results["equal_f1"], start=1):
        if entry is None:
            sentences.append(f"at none of its importance factors JESA reaches the macro-F1 of top-{k}")
            continue
        jesa = f"JESA (importance {entry['importance']:g}, {entry['f1']:.3f})"
        spends = f"{entry['joules'] * 1e6:.1f} instead of {entry['topk_joules'] * 1e6:.1f} µJ a query"
        sentences.append(f"at the macro-F1 of top-{k} ({entry['topk_f1']:.3f}) {jesa} spends {spends}")
    return "; ".join(sentences) + "."


def _table(title: str, columns: Columns, methods: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    for method in methods:
        table.add_row(*(cell(method) for cell in columns.values()))
    return table


def _html(columns: Columns, methods: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(method))}</td>" for cell in columns.values()) + "</tr>"
        for method in methods
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _or_dash(form: str, value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else form.format(value * scale)
