"""What an experiment is: settings, a plan, an analysis and a page, in one class and one folder.

Its fields are the settings that a study may give it; its methods are the three acts. `plan` says what has to be written
and read, `analyse` turns token tables into findings, `page` turns findings into what a reader sees. Each is a pure
function of its arguments, so a page can be rebuilt from findings.json alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan


class Experiment(BaseModel):
    """An experiment with its settings.

    Attributes:
        name: in study files, findings and file names.
        title: a few words, the heading of its page.
        asks: its question, one sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    name: ClassVar[str]
    title: ClassVar[str]
    asks: ClassVar[str]

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """The texts and cells that the experiment needs beside every model's own text.

        Args:
            study: models, groups, framings and sampling.
            prompts: the study's.

        Raises:
            StudyError: the study has not what the settings name.
        """
        raise NotImplementedError

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Write the findings of a finished run into the ledger.

        Raises:
            StudyError: an author wrote nothing that can be measured.
        """
        raise NotImplementedError

    def page(self, findings: Findings) -> Page:
        """What the report shows of the experiment's own findings."""
        raise NotImplementedError


def _in_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return path if folder is None else (folder / path.expanduser()).resolve()


# A file that a setting names: relative to the study file, which is known where the study is loaded.
StudyFile = Annotated[Path, AfterValidator(_in_folder)]
