"""Tables, figures and the HTML report."""

from airmoe.report.page import write_report
from airmoe.report.tables import methods_table

__all__ = ["methods_table", "write_report"]
