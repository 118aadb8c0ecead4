"""What the report says of each experiment beyond the matrix: one file an experiment, registered here.

A page is made of findings alone, so a report can be rebuilt from findings.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from enaction.findings import Finding


@dataclass(frozen=True)
class Grid:
    """A table of text: the first column names the row, the first row heads the columns."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Page:
    """An experiment in the report.

    Attributes:
        title: a few words.
        question: what it asks, one sentence.
        sentences: what came out, the number with interval and null in each, plain words, null results as such.
        grids: results as tables.
        figures: by a file name without ending; each with a caption.
    """

    title: str
    question: str
    sentences: list[str]
    grids: list[Grid] = field(default_factory=list)
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)


# Below what they are made of.
from enaction.report.pages import calibration, controls, framings, persona, prior, splice, stages  # noqa: E402

# Experiment -> its page, made from that experiment's findings.
PAGES: dict[str, Callable[[Sequence[Finding]], Page]] = {
    "stages": stages.page,
    "controls": controls.page,
    "framings": framings.page,
    "persona": persona.page,
    "prior": prior.page,
    "splice": splice.page,
    "calibration": calibration.page,
}


def make_pages(findings: Sequence[Finding]) -> dict[str, Page]:
    """The pages of the experiments that a run has findings of, in the order of `PAGES`."""
    there = {name: [f for f in findings if f.experiment == name] for name in PAGES}
    return {name: PAGES[name](found) for name, found in there.items() if found}
