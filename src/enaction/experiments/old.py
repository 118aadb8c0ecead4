"""Transition: the experiments that are not converted yet, behind the new contract. Goes with the last one."""

from __future__ import annotations

from enaction.experiments import calibration, controls, framings, matrix, prior, splice, stages
from enaction.experiments.base import Experiment
from enaction.experiments.cells import Data as OldData


def _old(module):
    class Old(module.Settings, Experiment):
        name = module.NAME
        title = module.NAME
        asks = ""

        def plan(self, study, prompts):
            return module.plan(study, self)

        def analyse(self, data, ledger):
            ledger.findings.extend(module.analyse(OldData.load(data.study, data.run, data.plan), self))

    return Old


Matrix, Stages, Controls, Framings = _old(matrix), _old(stages), _old(controls), _old(framings)
Prior, Splice, Calibration = _old(prior), _old(splice), _old(calibration)
