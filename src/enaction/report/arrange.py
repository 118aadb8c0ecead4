"""Findings put in the order in which people read them, and numbers as they are printed.

Sentences, tables, figures and the page all take their stages, readers, framings and cells from here, so that they agree
on what is there, what comes first and how a number looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enaction.findings import Finding, select
from enaction.reader.sources import short_name
from enaction.stats import IDENTITY_LIMIT
from enaction.words import STAGES, checkpoint

FRAMINGS = ("assistant", "user", "none")
MEAN = "mean"
WORLD = "world"
IDENTITY_BAND = 1.96
# Some sums are zero by construction and come out as 1e-17.
_ROUNDING = 1e-9

# The value of a quantity that means "no effect".
NULL = {
    "other_self_ratio": 1.0,
    "other_self_ratio_token_weighted": 1.0,
    "other_self_ratio_per_byte": 1.0,
    "base_reader_ratio": 1.0,
    "world_self_ratio": 1.0,
    "interaction": 0.0,
    "interaction_clipped": 0.0,
    "interaction_change": 0.0,
    "interaction_change_over_stage": 0.0,
    "interaction_first_tokens": 0.0,
    "interaction_at_positions": 0.0,
    "log_ratio": 0.0,
    "recognition": 0.0,
    "ease": 0.0,
    "matched_gap": 0.0,
    "identity_residual": 0.0,
    "identity_gap": 0.0,
}

_STAGE_LABELS = {"base": "base", "sft": "SFT", "dpo": "DPO", "rl": "RL", "": "all models"}
_FRAMING_LABELS = {"assistant": "assistant turn", "user": "user turn", "none": "no template", "": "one framing"}


class Grid(NamedTuple):
    """Reader x author cells of one framing; NaN where a cell was not read. Nats.

    `plain` are the readers that have no template and were read without one whatever the framing.
    """

    readers: list[str]
    authors: list[str]
    entropy_RA: NDArray[np.float64]  # noqa: N815  # axes, by the house convention
    surprisal_RA: NDArray[np.float64]  # noqa: N815
    plain: set[str]


class StagePoint(NamedTuple):
    """One stage of a curve: the mean over its readers (None if the run has none) and each reader's own finding."""

    stage: str
    mean: Finding | None
    readers: list[Finding]


class Triple(NamedTuple):
    """What one reader makes of three kinds of text: cells of the last stage's own author, the others, and the world."""

    reader: str
    author: str
    own: Finding
    others: list[Finding]
    world: Finding | None


def ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Each name once: those of `first` in that order, then the rest as they came."""
    seen = list(dict.fromkeys(names))
    return [name for name in dict.fromkeys(first) if name in seen] + [name for name in seen if name not in first]


def in_training_order(stages: Iterable[str]) -> list[str]:
    """Each stage once: the known ones in order, each behind its checkpoints (`rl20`), then the rest as they came."""
    found = list(dict.fromkeys(stages))
    checkpoints = sorted((at for at in map(checkpoint, found) if at), key=lambda at: at[1])
    known = [[f"{of}{step}" for of, step in checkpoints if of == stage] + [stage] for stage in STAGES]
    return ordered(found, [stage for group in known for stage in group])


def last_stage(stages: Sequence[str]) -> str | None:
    """The end of training among stages in order: `rl` where it is there (kin may stand behind it), else the last."""
    return STAGES[-1] if STAGES[-1] in stages else [None, *stages][-1]


def stages(findings: Sequence[Finding]) -> list[str]:
    """The stages that have a matrix, in the order of training; `""` stands for models without a stage.

    A matrix is known by its ratios and interactions. A run that has neither (one model alone) gives the stages of its
    readers.
    """
    of_matrices = [
        _text(f, "stage") for f in findings if f.quantity in ("other_self_ratio", "interaction", "recognition")
    ]
    return in_training_order(of_matrices or [_text(f, "reader_stage") for f in select(findings, "entropy")])


def main_stage(findings: Sequence[Finding]) -> str:
    """The stage that figures and headlines take where they show only one: the end of training; `""` where is none."""
    return last_stage(stages(findings)) or ""


def framings(findings: Sequence[Finding], *quantities: str) -> list[str]:
    """The framings in which these quantities were measured, `assistant` first."""
    measured = [f for f in findings if f.quantity in quantities and f.estimate is not None]
    return ordered((_text(f, "framing") for f in measured), FRAMINGS)


def main_framing(findings: Sequence[Finding]) -> str:
    """The framing that figures and headlines take where they show only one: assistant, else the first there is."""
    there = framings(findings, "other_self_ratio", "interaction", "entropy")
    return there[0] if there else FRAMINGS[0]


def members(findings: Sequence[Finding], stage: str) -> list[str]:
    """The models of one stage's matrix, in the order of the findings."""
    names = [
        _text(f, "reader")
        for f in findings
        if f.quantity in ("other_self_ratio", "interaction", "recognition") and _text(f, "stage") == stage
    ]
    if not names:
        names = [_text(f, "reader") for f in select(findings, "entropy") if _text(f, "reader_stage") == stage]
    return [name for name in dict.fromkeys(names) if name != MEAN]


def grid(findings: Sequence[Finding], framing: str, models: Sequence[str] | None = None) -> Grid:
    """Cells of one framing: these models as readers and authors, and the world's text where they read it.

    Without `models` it holds all readers and all authors, those that are readers first, the world last.
    """
    cells = _cells(findings, framing)
    if models is None:
        readers = list(dict.fromkeys(reader for _, reader, _ in cells))
        authors = ordered((author for *_, author in cells), readers)
    else:
        readers = list(models)
        authors = readers + [WORLD] * any(("entropy", reader, WORLD) in cells for reader in readers)
    if WORLD in authors:
        authors = [name for name in authors if name != WORLD] + [WORLD]

    def table(quantity: str) -> NDArray[np.float64]:
        read = [[cells.get((quantity, r, a)) for a in authors] for r in readers]
        rows = [[math.nan if f is None else value(f) for f in row] for row in read]
        return np.array(rows, dtype=np.float64).reshape(len(readers), len(authors))

    plain = {reader for (_, reader, _), f in cells.items() if _text(f, "framing") != framing}
    return Grid(readers, authors, table("entropy"), table("surprisal"), plain)


def curve(findings: Sequence[Finding], quantity: str, framing: str) -> list[StagePoint]:
    """A quantity along the stages in one framing; stages where it was not measured are left out."""
    points = []
    for stage in stages(findings):
        there = [
            f
            for f in findings
            if f.quantity == quantity
            and _text(f, "stage") == stage
            and _text(f, "framing") == framing
            and f.estimate is not None
        ]
        if there:
            means = [f for f in there if _text(f, "reader") == MEAN]
            points.append(
                StagePoint(stage, means[0] if means else None, [f for f in there if _text(f, "reader") != MEAN])
            )
    return points


def headline(point: StagePoint) -> Finding | None:
    """The finding that speaks for a stage: the mean over readers, or the reader itself where there is only one."""
    if point.mean is not None:
        return point.mean
    return point.readers[0] if len(point.readers) == 1 else None


def triples(findings: Sequence[Finding], quantity: str, stage: str, framing: str) -> list[Triple]:
    """What each model of a stage makes of its own, the others' and the world's text, in entropy or surprisal."""
    models = members(findings, stage)
    found = [_triple(findings, quantity, framing, reader, reader, models) for reader in models]
    return [t for t in found if t is not None]


def base_triples(findings: Sequence[Finding], quantity: str, stage: str, framing: str) -> list[Triple]:
    """The same texts as `triples`, read by the base of the family that wrote the own text."""
    models = members(findings, stage)
    found = [
        _triple(findings, quantity, framing, _text(f, "reader"), author, models)
        for f in findings
        if f.quantity == "base_reader_ratio" and _text(f, "stage") == stage and _text(f, "framing") == framing
        for author in [_text(f, "of")]
    ]
    return [t for t in found if t is not None]


def _triple(
    findings: Sequence[Finding], quantity: str, framing: str, reader: str, author: str, models: Sequence[str]
) -> Triple | None:
    read = {a: f for (q, r, a), f in _cells(findings, framing).items() if (q, r) == (quantity, reader)}
    if author not in read:
        return None
    others = [read[name] for name in models if name in read and name != author]
    return Triple(reader, author, read[author], others, read.get(WORLD))


def _cells(findings: Sequence[Finding], framing: str) -> dict[tuple[str, str, str], Finding]:
    """(quantity, reader, author) -> entropy or surprisal of the cells of a framing.

    A reader without a template has cells in `none` only; they stand for every framing, as in the ratios.
    """
    there = [f for f in findings if f.quantity in ("entropy", "surprisal") and f.estimate is not None]
    templated = {_text(f, "reader") for f in there if _text(f, "framing") != "none"}
    return {
        (f.quantity, _text(f, "reader"), _text(f, "author")): f
        for f in there
        if _text(f, "framing") == (framing if _text(f, "reader") in templated else "none")
    }


def cancels(finding: Finding) -> bool:
    """Whether a number is zero by construction: over all readers of a table the eases of their own texts cancel."""
    return finding.quantity == "ease" and _text(finding, "reader") == MEAN


def value(finding: Finding) -> float:
    """The estimate as a number: NaN where there is none."""
    return math.nan if finding.estimate is None else finding.estimate


def contains(finding: Finding, null: float) -> bool | None:
    """Whether the interval contains the null, up to rounding errors; None if the finding has no interval."""
    if finding.low is None or finding.high is None:
        return None
    return finding.low - _ROUNDING <= null <= finding.high + _ROUNDING


def alarmed(finding: Finding) -> bool:
    """Whether an identity residual is outside the limits within which a sound instrument stays."""
    return finding.estimate is None or abs(finding.estimate) > IDENTITY_LIMIT


def stage_label(stage: str) -> str:
    """A stage as it is printed: `RL`, `RL 20` for its checkpoint after 20 steps, `RL-b` for another run (`rl-b`)."""
    of, step = checkpoint(stage) or (stage, "")
    known, dash, run = of.partition("-")
    return f"{_STAGE_LABELS.get(known, known)}{dash}{run} {step}".rstrip()


def models_of(stage: str | None) -> str:
    """The models of a stage as the subject of a sentence or title: `RL models`, `RL models after 20 steps`."""
    if not stage:
        return "All models"
    of, step = checkpoint(stage) or (stage, "")
    label = stage_label(of)
    return f"{label[0].upper()}{label[1:]} models" + (f" after {step} steps" if step else "")


def framing_label(framing: str) -> str:
    """A framing as it is printed: `no template`."""
    return _FRAMING_LABELS.get(framing, framing)


def number(value: float | None, digits: int = 3) -> str:
    """A number as text; a dash for none, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        digits = 0
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(finding: Finding, digits: int = 3) -> str:
    """Estimate and 95 % interval: `0.012 [-0.003, 0.027]`; the estimate alone where there is no interval.

    Digits are added where rounding would make a bound that excludes the null look as if it touched it.
    """
    if finding.low is None or finding.high is None:
        return number(finding.estimate, digits)
    null = NULL.get(finding.quantity)
    while null is not None and digits < 6 and any(_rounds_onto(b, null, digits) for b in (finding.low, finding.high)):
        digits += 1
    return f"{number(finding.estimate, digits)} [{number(finding.low, digits)}, {number(finding.high, digits)}]"


def short_names(names: Sequence[str], limit: int = 18) -> dict[str, str]:
    """Names for places where room is scarce: without hub owner or `zoo:`, the middle left out; never two alike."""
    cut = {name: short_name(name) for name in names}
    if len(set(cut.values())) < len(cut):
        cut = {name: name for name in names}
    short = {name: _middle_out(text, limit) for name, text in cut.items()}
    if len(set(short.values())) < len(short):
        short = {name: _middle_out(f"{i}·{text}", limit) for i, (name, text) in enumerate(cut.items(), start=1)}
    return short


def names_within(names: Sequence[str], stage: str, limit: int = 18) -> dict[str, str]:
    """Short names under a heading that has the stage already: `ash-rl` is `ash` where all end in the stage."""
    ending = f"-{stage}"
    models = [name for name in names if name != WORLD]
    if not stage or not all(name.endswith(ending) and name != ending for name in models):
        return short_names(names, limit)
    short = short_names([name.removesuffix(ending) for name in models], limit)
    return {name: name if name == WORLD else short[name.removesuffix(ending)] for name in names}


def _middle_out(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[-(limit - 1 - head) :]}"


def _rounds_onto(value: float, null: float, digits: int) -> bool:
    return abs(value - null) > _ROUNDING and round(value, digits) == null


def _text(finding: Finding, key: str) -> str:
    """A place of a finding as text; `""` where it has none."""
    value = finding.where.get(key)
    return "" if value is None else str(value)
