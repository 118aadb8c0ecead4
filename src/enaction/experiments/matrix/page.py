"""The page of the matrix: can the instrument be trusted, who is certain on whose text, and why."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.experiments.matrix import grids
from enaction.experiments.matrix.charts import charts
from enaction.experiments.matrix.lookup import arranged, main_place, members
from enaction.experiments.matrix.statements import statements
from enaction.findings import Findings
from enaction.page import Page, Reading, Section, Statement
from enaction.stats import IDENTITY_LIMIT
from enaction.words import Framing

# How to read the two quantities of the matrix, wherever its headlines are printed.
REMARK = (
    "Two quantities. Recognition: less entropy on own text than the reader's confidence and the text's ease explain. "
    "It is familiarity with a distribution of text: whoever writes like this, a model or not, gets it. Authorship: "
    "surprisal less entropy, 0 on text drawn from the reader; above 0 the reader did not sample the text."
)
_AUTHORSHIP = (
    "Text drawn from a reader is on average exactly as surprising as the reader expects, so surprisal less entropy is "
    "0, whatever the model. Above 0 the text is less likely under the reader than its own would be: the reader did not "
    "sample it. Below 0 the text is greedier than its own. A close imitation can be near 0 as well: 0 does not prove "
    "that the reader wrote it."
)
_UNCHECKED = Statement(
    "this run has no text that a reader sampled itself at temperature 1 with full support.",
    ("identity_residual",),
    verdict="left out",
    subject="Not checked",
)


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of the matrix."""
    findings = arranged(findings)
    made, said, cells = charts(findings), statements(findings), grids.all_cells(findings)
    checked = [s for s in said if s.speaks_of("identity_residual")]
    last = members(findings, main_place(findings)["stage"])
    authors = [f.where["author"] for f in findings if set(f.where) == {"author"}]

    def shown(name: str) -> list[str]:
        return [name] if name in made else []

    return Page(
        title=title,
        question=question,
        statements=said,
        sections=[
            Section(
                "Can the instrument be trusted?",
                "On its own text, sampled at temperature 1, a reader is on average exactly as surprised as it expects "
                f"to be. Outside ±{IDENTITY_LIMIT:g} standard deviations something in the template, the tokenisation, "
                "the temperature or the cache is wrong.",
                checked[0] if checked else _UNCHECKED,
                shown("identity"),
                [grids.identity(findings)],
            ),
            Section(
                "Who is familiar with whose text, and who wrote it?",
                "Rows read, columns wrote; own text is marked. Entropy measures familiarity with a distribution of "
                "text: whoever writes like this, a model or not, gets all of it. Compare along rows: readers with "
                "different tokenizers count different tokens.",
                charts=shown("matrix"),
                grids=grids.matrices(findings),
            ),
            *([Section("Every reader on every author, in each framing", grids=cells, folded=True)] if cells else []),
            *(
                [
                    Section(
                        "Is it the reader's own text?",
                        _AUTHORSHIP,
                        charts=shown("ownness"),
                        grids=[grids.tellers(findings)],
                    )
                ]
                if "ownness" in made
                else []
            ),
            Section(
                "Who recognises text like its own?",
                "Recognition is the name of a number: how much less entropy a reader has on its own text than its "
                "confidence and the text's ease explain, with both estimated from foreign text alone. It is "
                "familiarity with a distribution of text, not proof of authorship. Two further numbers check it: the "
                "same, adjusted for the reader's response to difficulty (its slope), and the matched gap, own less "
                "other entropy after equally surprising tokens (below 0). A verdict on one reader rests on all three.",
                grids=grids.recognisers(findings),
            ),
            Section(
                "Which stage of training brings it, and in whose turn?",
                "The raw ratio can come from an author who writes easy text. The interaction sums up a table: what is "
                "left of log entropy on the diagonal after reader and author effects are removed; below 0 means that "
                "readers are more familiar with their own text than that.",
                charts=shown("arc"),
                grids=[grids.arc_of_means(findings), grids.arc(findings)],
            ),
            Section(
                "Familiarity, or easy text?",
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
            Section(
                "The texts themselves",
                grids=[grids.quality(findings)],
                authors={name: name in last for name in authors},
            ),
        ],
        charts=made,
        main=main_place(findings),
        remark=REMARK,
        opening=grids.opening(findings),
        readings=_readings(last, main_place(findings)["framing"]),
        hero="hero" if "hero" in made else "",
    )


def _readings(models: Sequence[str], framing: Framing) -> list[Reading]:
    """The texts of two models, each read by both."""
    readers = tuple(models[:2])
    return [Reading(author, readers, framing, f"written by {author}") for author in readers if len(readers) > 1]
