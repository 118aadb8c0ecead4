"""E5: every measure of the matrix along training, from point to point, and when recognition appears.

Question: does recognition exist after pretraining; if not, which stage brings it, in which framing, and is its order
reversed anywhere on the way?
Procedure: the points are the study's matrices in their order, each a stage or a checkpoint inside one, with one model
of each family; self is what the models of the point themselves sampled. Every model of a point reads every text of the
point. The null is the first point, and the families' bases reading the same texts.
Source: arXiv 2605.25459, its training stages of OLMo-3.

Axes: see `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.stages import analysis, page
from enaction.experiments.stages.points import Branch, branches_of, points_of
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan
from enaction.study.store import Cell


class Stages(Experiment):
    """The measures of the matrix at points of training.

    Attributes:
        points: names of the study's matrices in the order of training, checkpoints inside a stage among them; all of
            them in the order of the study by default.
        branches: matrix -> the point that it branches off (another run of a stage, say); its models' families may have
            other names, but count for those of the point in alphabetical order.
    """

    name = "stages"
    title = "Stages of training"
    asks = "Does recognition exist after pretraining, which point brings it, and is it reversed anywhere?"

    points: tuple[str, ...] | None = None
    branches: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """The models of a point, and their bases, read all texts of the point; likewise in a branch.

        Args:
            study, prompts: as in `Experiment.plan`.

        Raises:
            StudyError: as `points_of` and `branches_of`.
        """
        points, branches = self._of(study)
        cells = [
            Cell(reader, author, framing)
            for members in [*points.values(), *(branch.members for branch in branches)]
            for model in members
            for reader in [model, study.base_of(model)]
            if reader is not None
            for framing in study.framings
            for author in members
        ]
        return Plan({}, cells)

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Measures at each point, changes from each to the next, where recognition appears."""
        analysis.analyse(data, ledger, *self._of(data.study))

    def page(self, findings: Findings) -> Page:
        """Where recognition appears, the largest step, and reversals."""
        return page.page(self.title, self.asks, findings)

    def _of(self, study: Study) -> tuple[dict[str, list[str]], list[Branch]]:
        points = points_of(study, self.points)
        return points, branches_of(study, self.branches, points)
