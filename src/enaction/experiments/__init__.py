"""The experiments: one folder each, registered here on one line each.

`plan`, `analyse` and `pages` do for a study what each experiment does for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.errors import StudyError
from enaction.experiments.base import Experiment
from enaction.experiments.calibration import Calibration
from enaction.experiments.commitment import Commitment
from enaction.experiments.controls import Controls
from enaction.experiments.framings import Framings
from enaction.experiments.geometry import Geometry
from enaction.experiments.matrix import Matrix
from enaction.experiments.persona import Persona
from enaction.experiments.prior import Prior
from enaction.experiments.reaction import Reaction
from enaction.experiments.splice import Splice
from enaction.experiments.stages import Stages
from enaction.experiments.surprise import Surprise
from enaction.experiments.thesis import Thesis
from enaction.experiments.verbal import Verbal
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, merged, own_text
from enaction.study.problems import did_you_mean, problems_of
from enaction.study.store import Run

# In the order of the report.
EXPERIMENTS: dict[str, type[Experiment]] = {
    experiment.name: experiment
    for experiment in (
        Matrix,
        Stages,
        Controls,
        Framings,
        Persona,
        Prior,
        Splice,
        Calibration,
        Reaction,
        Surprise,
        Commitment,
        Verbal,
        Geometry,
        Thesis,
    )
}


def chosen(study: Study, folder: Path | None = None) -> list[Experiment]:
    """The experiments of a study with their settings.

    Args:
        study: names them.
        folder: that relative paths in the settings are relative to.

    Raises:
        StudyError: an experiment is not known, or its settings are not.
    """
    experiments = []
    for name, given in study.experiments.items():
        if name not in EXPERIMENTS:
            raise StudyError(
                f"there is no experiment '{name}'.{did_you_mean(name, EXPERIMENTS)} There are {', '.join(EXPERIMENTS)}"
            )
        try:
            experiments.append(EXPERIMENTS[name].model_validate(given, context={"folder": folder}))
        except ValidationError as error:
            raise StudyError(f"experiment {name}: {problems_of(error, EXPERIMENTS[name])}") from None
    return experiments


def settled(study: Study, folder: Path) -> Study:
    """The study with the paths in its experiments' settings, relative to the folder, made absolute.

    Raises:
        StudyError: as `chosen`.
    """
    experiments = {}
    for experiment in chosen(study, folder):
        given = study.experiments[experiment.name]
        paths = {key: str(path) for key in given if isinstance(path := getattr(experiment, key), Path)}
        experiments[experiment.name] = {**given, **paths}
    return study.model_copy(update={"experiments": experiments})


def plan(study: Study, prompts: Sequence[Prompt] | None = None) -> Plan:
    """Everything that a study's experiments need; every model's own text is always part of it.

    Args:
        study: names the experiments.
        prompts: those that a run answered; by default the study's, as they are now.

    Raises:
        StudyError: an experiment is not known, or its settings are not.
        PassageError: the prompts cannot be read.
    """
    experiments, prompts = chosen(study), tuple(study.load_prompts() if prompts is None else prompts)
    own = Plan({name: own_text(study, len(prompts), name) for name in study.models}, [])
    return merged([own, *(experiment.plan(study, prompts) for experiment in experiments)], prompts)


def analyse(study: Study, run: Run, planned: Plan | None = None) -> Findings:
    """The findings of all experiments of a finished run.

    Args:
        study: of the run.
        run: with every text and cell.
        planned: the study's plan, if it is at hand.

    Raises:
        StudyError: an author wrote nothing that can be measured, or the prompts have changed since the run.
    """
    data = Data(study, run, planned or plan(study))
    for model in study.models:
        if {passage.prompt_id for passage in data.passages(model)} != set(data.prompt_code):
            raise StudyError(
                f"{run.folder}: {model} answered other prompts than {study.prompts} has now; put the old prompts back, "
                "or give --out another folder"
            )
    findings = []
    for experiment in chosen(study):
        ledger = Ledger.of(data, experiment.name)
        experiment.analyse(data, ledger)
        findings += ledger.findings
    return Findings(findings)


def pages(study: Study, findings: Findings) -> dict[str, Page]:
    """The page of each experiment of a study that has findings, in the order of the registry."""
    by_name = {experiment.name: experiment for experiment in chosen(study)}
    return {
        name: by_name[name].page(findings.of(name))
        for name in EXPERIMENTS
        if name in by_name and name in findings.experiments
    }
