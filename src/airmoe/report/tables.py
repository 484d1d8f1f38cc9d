"""The table of methods, for the terminal and for the page, from one list of columns."""

from collections.abc import Callable
from html import escape
from typing import Any

from rich.table import Table

COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "method": lambda method: method["name"],
    "F1": lambda method: f"{method['macro_f1']:.3f}",
    "local": lambda method: f"{method['local_share']:.0%}",
    "bytes": lambda method: f"{method['bytes_per_query']:,.0f}",
    "µJ": lambda method: f"{method['joules_per_query'] * 1e6:.1f}",
    "p50 ms": lambda method: _milliseconds(method["latency_p50_ms"]),
    "p99 ms": lambda method: _milliseconds(method["latency_p99_ms"]),
    "degraded": lambda method: f"{method['degraded_share']:.1%}",
}
"""Title and cell of each column; bytes, µJ and ms are per query of one image."""

PAGE_COLUMNS = COLUMNS | {
    "own classes": lambda method: f"{method['local_share_own_classes']:.0%}",
    "by weight": lambda method: f"{method['local_weight']:.0%}",
    "experts": lambda method: f"{method['experts_per_query']:.2f}",
    "measured in": lambda method: method["through"],
}


def methods_table(results: dict[str, Any]) -> Table:
    """Return the table for a terminal of 80 columns."""
    table = Table(title=f"{results['data']['name']}: one query is one image", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "method" else "right")
    for method in results["methods"]:
        table.add_row(*(cell(method) for cell in COLUMNS.values()))
    return table


def methods_html(results: dict[str, Any]) -> str:
    """Return the table as HTML."""
    head = "".join(f"<th>{escape(column)}</th>" for column in PAGE_COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(method))}</td>" for cell in PAGE_COLUMNS.values()) + "</tr>"
        for method in results["methods"]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


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


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
