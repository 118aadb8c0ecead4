"""All findings of commitment, reader by reader: `curves`, `states` and `broken` have one part each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import STREAMS, Ledger
from enaction.experiments.commitment.answers import answer_text
from enaction.experiments.commitment.broken import add_violation
from enaction.experiments.commitment.cases import Case
from enaction.experiments.commitment.curves import Labelled, add_curve, add_variety
from enaction.experiments.commitment.labels import Label, LabelSpec
from enaction.experiments.commitment.states import add_moves, add_probe, rows_of
from enaction.experiments.commitment.texts import Names, is_original
from enaction.passages import Passage
from enaction.stats import labels as of_labels


def analyse(
    ledger: Ledger,
    data: Data,
    readers: Sequence[Names],
    cases: tuple[Sequence[Case], Sequence[Case]],
    specs: Sequence[LabelSpec],
    windows: Sequence[tuple[int, int]],
) -> None:
    """Write all findings, reader by reader.

    Args:
        ledger: of the experiment.
        data: of the run, over the study's prompts.
        readers: with the names of their texts.
        cases: open prompts and named ones.
        specs: ways to label.
        windows: tokens after a beginning.
    """
    if len(cases[0]) < 2:
        why = f"left out: {len(cases[0])} open prompt; what is chance between prompts needs 2"
        ledger.leave_out("left_out", "none", why, text="commitment needs prompts to compare")
        return
    opened = Data(data.study, data.run, data.plan, [case.prompt for case in cases[0]])
    broken = Data(data.study, data.run, data.plan, [case.prompt for case in cases[1] or cases[0]])
    told = [spec for spec in specs if spec.clusters is None]
    for names in readers:
        at = replace(ledger, data=opened).at(stage=names.stage, reader=names.reader)
        samples, regenerated = opened.passages(names.samples), opened.passages(names.regenerated)
        originals = [p for p in samples if is_original(p)]
        for spec in specs:
            of = at.at(label=spec.name)
            labelled = Labelled.of(opened.prompt_code, *_labels(data, names, spec, samples, regenerated, ledger))
            add_variety(of, labelled, ledger.rng(STREAMS["commitment", "shuffled labels"]))
            add_curve(of, labelled, originals, opened.prompt_code)
            if names.states in data.plan.measured:
                add_probe(of, data.measured(names.states), labelled, opened.prompt_code)
        if names.moves in data.plan.measured:
            add_moves(at.at(label=told[0].name), data.measured(names.moves), told[0], opened.prompt_code)
        if told:
            passages = broken.passages(names.prefilled)
            cell = broken.key(names.reader, names.prefilled, "assistant")
            for spec in told:
                of = replace(ledger, data=broken).at(stage=names.stage, reader=names.reader, label=spec.name)
                add_violation(of, broken, cell, passages, spec, windows)


def _labels(
    data: Data,
    names: Names,
    spec: LabelSpec,
    samples: Sequence[Passage],
    regenerated: Sequence[Passage],
    ledger: Ledger,
) -> tuple[list[tuple[Passage, Label | None]], list[tuple[Passage, Label | None]]]:
    """Samples and regenerations with their labels."""
    if spec.clusters is None:
        label = spec.labeller()
        return [(p, label(answer_text(p))) for p in samples], [(p, label(answer_text(p))) for p in regenerated]
    table = data.measured(names.vectors)
    keys = zip(table["text"].to_pylist(), table["id"].to_pylist(), strict=True)
    vector = dict(zip(keys, rows_of(table["vector"]), strict=True))
    own, again = (
        np.array([vector[text, p.id] for p in passages])
        for text, passages in ((names.samples, samples), (names.regenerated, regenerated))
    )
    n = min(spec.clusters, len(own))
    code, centre = of_labels.clusters(own, n, ledger.rng(STREAMS["commitment", "clusters"]))
    nearest = of_labels.nearest(again, centre) if len(again) else np.zeros(0, int)
    return (
        [(p, Label(f"cluster {c}")) for p, c in zip(samples, code, strict=True)],
        [(p, Label(f"cluster {c}")) for p, c in zip(regenerated, nearest, strict=True)],
    )
