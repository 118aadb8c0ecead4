"""Controls (E10 and the critics): does recognition survive, arm by arm?

Question: is the interaction of the matrix recognition of own text, or something that a critic can name?
Procedure: each arm changes the texts or the comparison so that one rival explanation can no longer work, and gives
recognition (log units, as in the matrix) with an interval, beside the same number without the change. What each arm
changes is listed in docs/experiments/controls.md.
Source: PAPER.md section 2; arXiv 2605.25459 reports no such controls but a temperature plot.

Axes: see `arms`, `difficulty` and `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.errors import StudyError
from enaction.experiments.base import Experiment, StudyFile
from enaction.experiments.controls import analysis, page, texts
from enaction.experiments.controls.arms import Trial
from enaction.experiments.controls.imitation import texts as imitation_texts
from enaction.experiments.texts import WorldText
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt, Sampling
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell
from enaction.words import Framing


class Controls(Experiment):
    """What is varied; everything else is the study's own.

    Attributes:
        stage: the matrix whose models are tested; the last one without near-clones by default.
        framing: how all texts are read.
        temperatures, top_p: settings of the author, beside the study's own; each nucleus at temperature 1.
        kin: model -> near-clones of it (other seeds, rounded copies, adjacent checkpoints), all models of the study.
        human: passage file of people's answers to the study's prompts.
        memorised: passage file of texts that all models know by heart.
        synonyms: JSON file {word: the word that replaces it}; the embedded world's own for its prompts.
        bins: of base entropy in the comparison of equally difficult texts.
        imitate_from: further replies to each prompt that imitations of a model are made from; 0 for no imitations.
        judge: model of the study whose entropy replaces the base's there, for readers whose family has no base.
    """

    name = "controls"
    title = "What a critic demands"
    asks = "Is it recognition of own text, or temperature, kinship, familiarity, difficulty, topic or words?"

    stage: str | None = None
    framing: Framing = "assistant"
    temperatures: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.5, 0.7, 1.5)
    top_p: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.9,)
    kin: dict[str, list[str]] = {}  # noqa: RUF012  # pydantic copies it
    human: StudyFile | None = None
    memorised: StudyFile | None = None
    synonyms: StudyFile | None = None
    bins: Annotated[int, Field(ge=1)] = 8
    imitate_from: Annotated[int, Field(ge=0)] = 4
    judge: str | None = None

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """The texts of all arms, read by the models of the matrix; a base reads what its descendant is compared with.

        Raises:
            StudyError: there is no such matrix, model or text.
            PassageError: a file of texts cannot be read.
        """
        _, members = self._matrix(study)
        settings, synonyms = self._settings(study), texts.synonyms_of(study, self.synonyms)
        own = {model: texts.of_model(study, len(prompts), model, settings, synonyms) for model in members}
        foreign = self._foreign(study, prompts)
        written = {text.name: text for text in [*(text for of_model in own.values() for text in of_model), *foreign]}
        clones = [clone for model in members for clone in self.kin.get(model, [])]
        pairs = [(reader, author) for reader in members for author in [*members, *clones, *written]]
        for model in members:
            if (base := study.base_of(model)) is not None:
                of_others = [author for m in members for author in (m, f"{m}.moved")]
                of_own = [text.name for text in own[model]] + self.kin.get(model, [])
                pairs += [(base, author) for author in [*of_others, *of_own, *(text.name for text in foreign)]]
            elif self.judge is not None:
                pairs += [(self.judge, author) for author in members]
        imitations = imitation_texts.of_models(study, len(prompts), members, self.imitate_from)
        written |= {text.name: text for text in imitations}
        pairs += imitation_texts.read_by(members, written)
        return Plan(written, [Cell(*pair, self.framing) for pair in dict.fromkeys(pairs)])

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Recognition in each arm with interval and null, and its share of recognition without the arm."""
        stage, members = self._matrix(data.study)
        trial = Trial(data, ledger.at(stage=stage, framing=self.framing), members, self.framing)
        endings = [texts.ending(sampling) for sampling in self._settings(data.study)]
        analysis.analyse(trial, endings, self.kin, self.bins, self.judge)

    def page(self, findings: Findings) -> Page:
        """What a critic says, and whether recognition survives it, arm by arm."""
        return page.page(findings, self.title, self.asks)

    def _matrix(self, study: Study) -> tuple[str, list[str]]:
        """The matrix that is tested: its name and its models.

        Raises:
            StudyError: no matrix fits, or a near-clone or the judge is not among the models.
        """
        kin = {clone for clones in self.kin.values() for clone in clones}
        unknown = sorted((kin | set(self.kin)) - set(study.models))
        if unknown:
            raise StudyError(f"controls: kin: {', '.join(unknown)} not among the study's models")
        if self.judge is not None and self.judge not in study.models:
            raise StudyError(f"controls: judge: {self.judge} is not among the study's models")
        groups = {name: members for name, members in study.groups().items() if not kin & set(members)}
        stage = self.stage or (list(groups)[-1] if groups else None)
        if stage not in groups:
            known = ", ".join(groups) or "none"
            raise StudyError(
                f"controls: stage: no matrix '{stage}' without near-clones; there is {known}: see `matrices`"
            )
        return stage, groups[stage]

    def _settings(self, study: Study) -> list[Sampling]:
        return texts.settings_of(study, self.temperatures, self.top_p)

    def _foreign(self, study: Study, prompts: Sequence[Prompt]) -> list[Text]:
        """Texts that no model of the study wrote."""
        foreign: list[Text | None] = [
            WorldText.of(study, prompts) if study.world_text else None,
            texts.human(prompts, self.human) if self.human is not None else None,
            texts.memorised(study, prompts, self.memorised),
        ]
        return [text for text in foreign if text is not None]
