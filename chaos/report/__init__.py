"""The report of a run: one HTML file that opens offline and shows what happened, when, and what it means.

Knows what a run directory holds. Judges nothing: it shows what was recorded and what the judges said.
"""

from chaos.report.page import write_report

__all__ = ["write_report"]
