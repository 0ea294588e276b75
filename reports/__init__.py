"""From runs to a page: scores, convergence, calibration, temperatures, settings."""

from bnnzoo.reports.report import write_report

__all__ = ["write_report"]
