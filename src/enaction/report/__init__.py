"""What a reader sees at the end of a run, made from its findings: sentences, tables, figures and one HTML page.

Nothing here measures or computes a statistic; every number shown stands in findings.json with its definition.
"""

from enaction.report.figures import draw, hero, save
from enaction.report.html import build_report
from enaction.report.sentences import sentences
from enaction.report.tables import arc_table, critic_table, identity_table, matrix_table, split_table

__all__ = [
    "arc_table",
    "build_report",
    "critic_table",
    "draw",
    "hero",
    "identity_table",
    "matrix_table",
    "save",
    "sentences",
    "split_table",
]
