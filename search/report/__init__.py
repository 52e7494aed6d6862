"""The report of a run: an HTML file that needs no network."""

from search.report.page import build_report

__all__ = ["build_report"]
