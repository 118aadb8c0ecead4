"""What a reader sees at the end of a run: the pages of its experiments in the terminal and in one HTML file.

Nothing here measures or computes a statistic, and nothing knows an experiment: every number shown is in findings.json
with its definition, and what is shown of it is on a page (`enaction.page`).
"""

from enaction.report.html import build_report
from enaction.report.terminal import show

__all__ = ["build_report", "show"]
