"""Tables, figures and the HTML report."""

from airmoe.report.page import write_report
from airmoe.report.tables import analog_table, equal_f1_text, methods_table

__all__ = ["analog_table", "equal_f1_text", "methods_table", "write_report"]
