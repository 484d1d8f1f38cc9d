"""Tables, figures and the HTML report of a demonstration; panels of curves for every study."""

from airmoe.report.demo_tables import analog_table, equal_f1_text, methods_table
from airmoe.report.page import write_report
from airmoe.report.results import DemoResults, read_results, write_results

__all__ = [
    "DemoResults",
    "analog_table",
    "equal_f1_text",
    "methods_table",
    "read_results",
    "write_report",
    "write_results",
]
