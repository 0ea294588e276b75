"""From runs to a page: scores, convergence, calibration, temperatures; studies and their claims."""

from bnnzoo.reports.report import write_report
from bnnzoo.reports.study_runner import StudyRun, load_study, run_study

__all__ = ["StudyRun", "load_study", "run_study", "write_report"]
