"""Cautions: what a run cannot say by its design, or must not be believed in; shown above everything else.

Each is one sentence about what is wrong and one about what to do. They follow from the study and the findings alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from enaction.findings import Findings
from enaction.page import Statement
from enaction.paper.claims import is_flat
from enaction.stats import IDENTITY_LIMIT
from enaction.study.config import Study
from enaction.words import UNNAMED_STAGES

# With fewer prompts intervals of heavy-tailed cells are too short; see docs/definitions.md.
FEWEST_PROMPTS = 40


def cautions(study: Study, findings: Findings, kept: Sequence[str] = ()) -> list[Statement]:
    """What to know before reading a run's results, worst first; empty where nothing is to be said.

    Args:
        study, findings: of the run.
        kept: experiments whose findings an earlier version made.
    """
    texts = [
        *_alarming(findings),
        *_kept(kept),
        *_flat(findings),
        *_few_models(study),
        *_of_tables(study),
        *_few_prompts(findings),
    ]
    return [Statement(text, verdict="alarm") for text in texts]


def _alarming(findings: Findings) -> Iterator[str]:
    outside = [
        str(f.where["reader"])
        for f in findings.select("identity_residual").measured
        if f.estimate is not None and abs(f.estimate) > IDENTITY_LIMIT
    ]
    if outside:
        yield (
            f"The identity residual of {_names(outside)} is outside ±{IDENTITY_LIMIT:g}: a reader does not read what "
            "it sampled as it sampled it. Believe no number of it; look at its template, tokenizer and precision with "
            "`enaction check`."
        )


def _kept(experiments: Sequence[str]) -> Iterator[str]:
    if experiments:
        yield (
            f"What is shown of {_names(experiments)} is the result of an earlier analysis: texts or readings that it "
            "needs are missing or damaged, or this version needs more of them. `enaction run` with the same study and "
            "--out makes them."
        )


def _flat(findings: Findings) -> Iterator[str]:
    verdicts = findings.select("recognised", "matrix").measured
    flat = list(dict.fromkeys(str(f.where["reader"]) for f in verdicts if is_flat(f)))
    if flat:
        yield (
            f"{_names(flat)} hardly responds to how difficult a text is (slope near 0): its recognition says nothing. "
            "Leave it out, or check that its weights are the trained ones."
        )


def _few_models(study: Study) -> Iterator[str]:
    if len(study.models) == 1:
        yield (
            "This study has one model: there is no other author to compare its own text with. Add a model of another "
            "family."
        )


def _of_tables(study: Study) -> Iterator[str]:
    groups = study.groups()
    two = [stage for stage, members in groups.items() if len(members) == 2]
    if two:
        yield (
            f"{_tables(two)} two models: one number for both readers, which says nothing of either alone. Add a model "
            "of a third family."
        )
    for stage, members in groups.items():
        families = [study.models[member].family for member in members]
        which = "of all models" if stage in UNNAMED_STAGES else stage
        alike = sorted({family for family in families if families.count(family) > 1})
        if alike:
            yield (
                f"The matrix {which} has several models of the family {_names(alike)}: kin take "
                "each other's text for their own, which hides recognition. Put them into matrices of their own."
            )
    if len(study.models) > 1:
        used = {member for members in groups.values() for member in members} | _named_in(study.experiments)
        alone = [name for name in study.models if name not in used]
        if alone:
            yield (
                f"{_names(alone)} {'is' if len(alone) == 1 else 'are'} in no matrix, so nothing is said of "
                f"{'its' if len(alone) == 1 else 'their'} recognition. Name {'it' if len(alone) == 1 else 'them'} in "
                "`matrices`, with models of other families."
            )


def _few_prompts(findings: Findings) -> Iterator[str]:
    counts = [f.n for f in findings.select("entropy", "matrix").measured]
    if counts and max(counts) < FEWEST_PROMPTS:
        yield (
            f"This run has {max(counts)} prompts: with fewer than {FEWEST_PROMPTS} the 95 % intervals are too short. "
            "Raise `n_prompts`, and take no interval that barely excludes 0 for an effect."
        )


def _named_in(settings: Any) -> set[str]:
    """Every string in the settings of experiments: kin and judges need no matrix."""
    if isinstance(settings, dict):
        return {name for item in settings.items() for part in item for name in _named_in(part)}
    if isinstance(settings, list | tuple):
        return {name for part in settings for name in _named_in(part)}
    return {settings} if isinstance(settings, str) else set()


def _tables(stages: list[str]) -> str:
    if set(stages) <= set(UNNAMED_STAGES):
        return "The matrix has"
    return f"The matrix {stages[0]} has" if len(stages) == 1 else f"The matrices {_names(stages)} have"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
