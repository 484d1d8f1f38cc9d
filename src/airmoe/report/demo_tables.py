"""Tables of methods for the terminal and the page; each is made from one list of columns."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TypeVar

from airmoe.report.measured import AnalogMethodResult, AnalogResults, MethodResult
from airmoe.report.results import DemoResults
from airmoe.report.table import Cell, Table
from airmoe.report.terminal import ScreenTable

Row = TypeVar("Row")
Columns = Mapping[str, Callable[[Row], str]]

COLUMNS: Columns[MethodResult] = {
    "method": lambda method: method.label,
    "macro-F1": lambda method: f"{method.figures.macro_f1:.3f}",
    "local": lambda method: f"{method.figures.local_share:.0%}",
    "bytes": lambda method: f"{method.figures.bytes_per_query:,.0f}",
    "µJ": lambda method: f"{method.figures.joules_per_query * 1e6:.1f}",
    "p50 ms": lambda method: or_dash("{:.2f}", method.figures.latency_p50_ms),
    "p99 ms": lambda method: or_dash("{:.2f}", method.figures.latency_p99_ms),
    "degraded": lambda method: f"{method.figures.degraded_share:.1%}",
}
"""Title and cell of each column; bytes, µJ and ms are per query of one image."""

PAGE_COLUMNS: Columns[MethodResult] = {
    **COLUMNS,
    "own classes": lambda method: f"{method.figures.local_share_own_classes:.0%}",
    "by weight": lambda method: f"{method.figures.local_weight:.0%}",
    "experts": lambda method: f"{method.figures.experts_per_query:.2f}",
    "measured in": lambda method: method.measured_in,
}

ANALOG_COLUMNS: Columns[AnalogMethodResult] = {
    "method": lambda method: method.label,
    "macro-F1": lambda method: f"{method.figures.macro_f1:.3f}",
    "local": lambda method: f"{method.figures.local_share:.0%}",
    "own classes": lambda method: f"{method.figures.local_share_own_classes:.0%}",
    "dB": lambda method: or_dash("{:.1f}", method.mean_snr_db),
    "µJ": lambda method: f"{method.figures.joules_per_query * 1e6:.2f}" if method.links == "analog" else "-",
    "simulated": lambda method: or_dash("{:.3f}", method.macro_f1_simulated),
}
"""Title and cell of each column over analog links. dB is the mean SNR of the links to other nodes that were
used; "simulated" is macro-F1 in one process. Joules over ideal links have another price, so they are not
shown."""


def methods_table(results: DemoResults) -> ScreenTable:
    """Return the table for a terminal; 80 columns show all of it."""
    return _table(f"{results.data.name}: one query is one image", COLUMNS, results.methods)


def analog_table(analog: AnalogResults) -> ScreenTable:
    """Return the table of the methods over analog links, for a terminal; 80 columns show all of it."""
    title = f"over analog links, {analog.mean_snr_db:g} dB on average, the same for each"
    return _table(title, ANALOG_COLUMNS, analog.methods)


def methods_html(results: DemoResults) -> str:
    """Return the table as HTML; the rows of the networked mixture are of class "networked"."""
    return _html(PAGE_COLUMNS, results.methods, lambda method: method.family == "networked")


def analog_html(analog: AnalogResults) -> str:
    """Return the table of the methods over analog links as HTML."""
    return _html(ANALOG_COLUMNS, analog.methods, lambda method: False)


def equal_f1_text(results: DemoResults) -> str:
    """Return in words what JESA spends at the macro-F1 of top-1 and of top-2."""
    sentences = []
    for equal in results.equal_f1:
        if equal.jesa is None:
            sentences.append(f"at none of its importance factors JESA reaches the macro-F1 of top-{equal.k}")
            continue
        topk, jesa = equal.topk, equal.jesa.figures
        point = f"JESA (importance {equal.jesa.importance:g}, {jesa.macro_f1:.3f})"
        spends = f"{jesa.joules_per_query * 1e6:.1f} instead of {topk.joules_per_query * 1e6:.1f} µJ a query"
        sentences.append(f"at the macro-F1 of top-{equal.k} ({topk.macro_f1:.3f}) {point} spends {spends}")
    return "; ".join(sentences) + "."


def demo_tables(results: DemoResults) -> list[Table]:
    """Return the tables of methods for the files beside the page, with every digit."""
    header = [
        *("method", "macro-F1", "own expert, % of the pairs", "bytes per query", "energy per query, µJ"),
        *("median latency, ms", "99th percentile of the latency, ms", "degraded, %", "measured in"),
    ]

    def cells(method: MethodResult | AnalogMethodResult, measured_in: str) -> list[Cell]:
        figures = method.figures
        latencies = (figures.latency_p50_ms, figures.latency_p99_ms)
        return [
            *(method.label, figures.macro_f1, 100 * figures.local_share, figures.bytes_per_query),
            figures.joules_per_query * 1e6,
            *("" if latency_ms is None else latency_ms for latency_ms in latencies),
            *(100 * figures.degraded_share, measured_in),
        ]

    methods = [cells(method, method.measured_in) for method in results.methods]
    found = [Table("methods", f"{results.data.name}: one query is one image", header, methods)]
    if results.analog is not None:
        title = f"Over analog links, {results.analog.mean_snr_db:g} dB on average"
        over_analog = [cells(method, "mesh") for method in results.analog.methods]
        found.append(Table("analog", title, header, over_analog))
    return found


def _table(title: str, columns: Columns[Row], rows: Sequence[Row]) -> ScreenTable:
    return ScreenTable(title, list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _html(columns: Columns[Row], rows: Sequence[Row], marked: Callable[[Row], bool]) -> str:
    """Return a table whose cells name their column, for narrow screens; roles keep it a table there."""
    head = "".join(f'<th role="columnheader" scope="col">{escape(column)}</th>' for column in columns)
    body = ""
    for row in rows:
        first, *cells = ((escape(title), escape(cell(row))) for title, cell in columns.items())
        body += '<tr role="row" class="networked">' if marked(row) else '<tr role="row">'
        body += f'<th role="rowheader" scope="row">{first[1]}</th>'
        body += (
            "".join(f'<td role="cell" data-title="{title}">{text}</td>' for title, text in cells) + "</tr>"
        )
    return (
        f'<table role="table" class="methods"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def or_dash(form: str, value: float | None) -> str:
    """Return a value in a format, or a dash where nothing was measured."""
    return "-" if value is None else form.format(value)
