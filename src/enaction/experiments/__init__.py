"""The experiments: each one file that plans texts and cells and turns token tables into findings, registered here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from enaction.errors import StudyError
from enaction.experiments import calibration, controls, framings, matrix, persona, prior, splice, stages
from enaction.experiments.cells import Data
from enaction.findings import Finding
from enaction.study.config import Study
from enaction.study.planning import Plan, merged, own_text
from enaction.study.store import Run


class Experiment(NamedTuple):
    """An experiment: the settings that a study may give it, what it needs, and what it finds."""

    settings: type[BaseModel]
    plan: Callable[[Study, Any], Plan]
    analyse: Callable[[Data, Any], list[Finding]]


EXPERIMENTS = {
    matrix.NAME: Experiment(matrix.Settings, matrix.plan, matrix.analyse),
    stages.NAME: Experiment(stages.Settings, stages.plan, stages.analyse),
    controls.NAME: Experiment(controls.Settings, controls.plan, controls.analyse),
    splice.NAME: Experiment(splice.Settings, splice.plan, splice.analyse),
    calibration.NAME: Experiment(calibration.Settings, calibration.plan, calibration.analyse),
    framings.NAME: Experiment(framings.Settings, framings.plan, framings.analyse),
    persona.NAME: Experiment(persona.Settings, persona.plan, persona.analyse),
    prior.NAME: Experiment(prior.Settings, prior.plan, prior.analyse),
}


def plan(study: Study) -> Plan:
    """Everything that a study's experiments need; every model's own text is always there.

    Raises:
        StudyError: an experiment is not known, or its settings are not.
    """
    own = Plan({name: own_text(study, name) for name in study.models}, [])
    return merged([own, *(experiment.plan(study, settings) for experiment, settings in _chosen(study))])


def analyse(study: Study, run: Run) -> list[Finding]:
    """The findings of all experiments of a finished run.

    Raises:
        StudyError: an author wrote nothing that can be measured.
    """
    data = Data.load(study, run, plan(study))
    return [f for experiment, settings in _chosen(study) for f in experiment.analyse(data, settings)]


def paths_of(experiment: str) -> set[str]:
    """Settings of an experiment that name files; none where there is no such experiment."""
    fields = EXPERIMENTS[experiment].settings.model_fields if experiment in EXPERIMENTS else {}
    return {name for name, field in fields.items() if field.annotation in (Path, Path | None)}


def _chosen(study: Study) -> list[tuple[Experiment, BaseModel]]:
    chosen = []
    for name, given in study.experiments.items():
        if name not in EXPERIMENTS:
            raise StudyError(f"there is no experiment '{name}': there are {', '.join(EXPERIMENTS)}")
        try:
            chosen.append((EXPERIMENTS[name], EXPERIMENTS[name].settings.model_validate(given)))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise StudyError(f"experiment {name}: {problems}") from None
    return chosen
