"""The page of the matrix: can the instrument be trusted, who is certain on whose text, and why."""

from __future__ import annotations

from enaction.experiments.matrix import grids
from enaction.experiments.matrix.charts import charts
from enaction.experiments.matrix.lookup import alarmed, main_framing, main_stage, members
from enaction.experiments.matrix.statements import statements
from enaction.findings import Findings
from enaction.page import Page, Section, Statement
from enaction.stats import IDENTITY_LIMIT


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of the matrix."""
    made, cells = charts(findings), grids.all_cells(findings)

    def shown(name: str) -> list[str]:
        return [name] if name in made else []

    return Page(
        title=title,
        question=question,
        statements=statements(findings),
        sections=[
            Section(
                "Can the instrument be trusted?",
                "On its own text, sampled at temperature 1, a reader is on average exactly as surprised as it expects "
                f"to be. Outside ±{IDENTITY_LIMIT:g} standard deviations something in the template, the tokenisation, "
                "the temperature or the cache is wrong.",
                _trust(findings),
                shown("identity"),
                [grids.identity(findings)],
            ),
            Section(
                "Who is certain on whose text?",
                "Rows read, columns wrote. Compare along rows: readers with different tokenizers count different "
                "tokens. Own text is marked.",
                charts=shown("matrix"),
                grids=grids.matrices(findings),
            ),
            *([Section("Every reader on every author, in each framing", grids=cells, folded=True)] if cells else []),
            Section(
                "Which stage of training brings it, and in whose turn?",
                "The raw ratio can come from an author who writes easy text. The interaction is what is left of log "
                "entropy on the diagonal after reader and author effects are removed; below 0 means recognition.",
                charts=shown("arc"),
                grids=[grids.arc_of_means(findings), grids.arc(findings)],
            ),
            Section(
                "Recognition, or easy text?",
                "The log of the geometric-mean other/self ratio is exactly recognition plus the ease of the reader's "
                "own text for all readers alike. In the mean over the readers of a table the eases cancel; look at "
                "single readers to see how much of a ratio is recognition.",
                charts=shown("split"),
                grids=grids.splits(findings),
            ),
            Section(
                "What a critic asks first",
                "Is the own text easier for the family's base too? What of fresh text that none of the models wrote? "
                "And does surprisal tell the same story as entropy: on foreign text a reader may be certain and wrong.",
                charts=shown("critic"),
                grids=[grids.critic(findings)],
            ),
            Section("The texts themselves", grids=[grids.quality(findings)], authors=_authors(findings)),
        ],
        charts=made,
        main={"stage": main_stage(findings), "framing": main_framing(findings)},
    )


def _trust(findings: Findings) -> Statement:
    residuals = findings.select("identity_residual")
    about = ("identity_residual",)
    if not residuals:
        text = "this run has no text that a reader sampled itself at temperature 1 with full support."
        return Statement(text, about, verdict="left out", subject="Not checked")
    if any(map(alarmed, residuals)):
        text = f"at least one reader is outside ±{IDENTITY_LIMIT:g}. Find the cause before reading on."
        return Statement(text, about, verdict="alarm", subject="ALARM")
    return Statement(f"every reader is within ±{IDENTITY_LIMIT:g}.", about, subject="Sound")


def _authors(findings: Findings) -> dict[str, bool]:
    """Everybody who wrote a text that was read as such; the models of the last stage are open."""
    last = members(findings, main_stage(findings))
    known = [str(f.where["author"]) for f in findings if set(f.where) == {"author"}]
    return {author: author in last for author in known}
