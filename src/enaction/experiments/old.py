"""Transition: the experiments that are not converted yet, behind the new contract. Goes with the last one."""

from __future__ import annotations

from enaction.experiments.base import Experiment
from enaction.experiments.cells import Data as OldData
from enaction.page import Grid, Page, Section, Statement
from enaction.report.pages import make_pages


def _page(name, findings):
    """The old page as a new one, without its figures, which are not data yet."""
    old = make_pages(findings)[name]
    statements = [Statement(sentence) for sentence in old.sentences]
    grids = [Grid(grid.title, grid.header, grid.rows) for grid in old.grids]
    return Page(old.title, old.question, statements, [Section(grids=grids)])


def _old(module):
    class Old(module.Settings, Experiment):
        name = module.NAME
        title = module.NAME
        asks = ""

        def plan(self, study, prompts):
            return module.plan(study, self)

        def analyse(self, data, ledger):
            ledger.findings.extend(module.analyse(OldData.load(data.study, data.run, data.plan), self))

        def page(self, findings):
            return _page(module.NAME, findings)

    return Old
