"""What the tables say: trust, entropies, recognition at each stage and framing, and its changes between stages.

All cells are resampled together over prompts. Axes: R reader, A author, P prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import POOLED, STREAMS, Ledger, along
from enaction.analysis.measures import (
    EASE,
    GEOMETRIC_RATIO,
    INTERACTION,
    INTERACTION_CLIPPED,
    INTERACTION_OF_MEANS,
    INTERACTION_PER_BYTE,
    INTERACTION_TOKEN_WEIGHTED,
    LOG_RATIO,
    OTHER_SELF_RATIO,
    OWN_RANK_AMONG_AUTHORS,
    OWN_RANK_AMONG_READERS,
    RATIO_PER_BYTE,
    RATIO_PER_TOKEN,
    RECOGNITION,
    add_measure,
    difference,
    of_rows,
    rows_of,
)
from enaction.analysis.ownness import add_ownness
from enaction.experiments.matrix.authorship import add_authorship
from enaction.experiments.matrix.critics import add_critics
from enaction.experiments.matrix.positions import add_positions
from enaction.experiments.matrix.quality import add_quality
from enaction.experiments.matrix.witnesses import add_witnesses
from enaction.stats import Resampled
from enaction.study.config import Study
from enaction.study.store import Cell
from enaction.words import WORLD, Framing, checkpoint, known_stage


def analyse(data: Data, ledger: Ledger, first_tokens: Sequence[int]) -> None:
    """All findings of the matrix.

    Args:
        data, ledger: of a finished run.
        first_tokens: numbers k, rising, see `add_positions`.
    """
    _add_identity(data, ledger)
    _add_cells(data, ledger)
    add_quality(data, ledger)
    for stage, members in data.study.groups().items():
        for framing in data.study.framings:
            here = ledger.at(stage=stage, framing=framing)
            _add_recognition(data, here, members, framing)
            add_critics(data, here, members, framing)
            add_witnesses(data, here, members, framing)
            add_authorship(data, here, members, framing)
            for measure in (OWN_RANK_AMONG_AUTHORS, OWN_RANK_AMONG_READERS):
                table = data.matrix(members, members, framing, measure.field)
                add_measure(here, measure, table, members, n=data.n_prompts)
            add_positions(data, here, members, framing, first_tokens)
    for quantity, before, after in _changes(data.study):
        _add_change(data, ledger, quantity, before, after)


def _add_identity(data: Data, ledger: Ledger) -> None:
    """The alarm: every reader on its own text, in the framing in which it was sampled, at temperature 1."""
    if data.study.sampling.temperature != 1 or data.study.sampling.top_p != 1:
        return
    for name, spec in data.study.models.items():
        cell = Cell(name, name, data.own_framing[name])
        if cell not in data.cells:
            continue
        tokens = data.tokens(cell)
        residual = stats.identity_residual(tokens.surprisal, tokens.entropy, tokens.varentropy)
        here = ledger.at(reader=name, stage=spec.stage, framing=cell.framing)
        alarm = f"outside +-{stats.IDENTITY_LIMIT:g}: template, tokenisation, temperature or cache is wrong"
        here.fact(
            "identity_residual",
            "standard deviations",
            "sum(s - H) / sqrt(sum V) over all tokens of the reader's own text, end-of-turn included, in the framing "
            "in which it was sampled; about N(0, 1) if all is well; n counts tokens",
            residual.standardised,
            residual.n_tokens,
            low=residual.standardised - 1.96,
            high=residual.standardised + 1.96,
            null=0.0,
            notes=[alarm] if residual.is_alarming else [],
        )
        here.fact(
            "identity_gap",
            "nats",
            "mean of s - H over the same tokens; interval from the predictable variance; n counts tokens",
            residual.mean,
            residual.n_tokens,
            low=residual.mean - 1.96 * residual.standard_error,
            high=residual.mean + 1.96 * residual.standard_error,
            null=0.0,
        )


def _add_cells(data: Data, ledger: Ledger) -> None:
    """Entropy, surprisal and ownness of every cell, and the largest entropy of one passage on own text."""
    stage_of = {name: spec.stage for name, spec in data.study.models.items()} | {WORLD: WORLD}
    for cell in data.cells:
        if cell.author not in stage_of:
            continue
        here = ledger.at(**cell._asdict(), reader_stage=stage_of[cell.reader], author_stage=stage_of[cell.author])
        means = data.means(cell)
        n = int(np.isfinite(means.entropy).sum())
        estimate = data.estimate(np.array([means.entropy, means.surprisal]))
        for i, quantity in enumerate(("entropy", "surprisal")):
            here.add(quantity, "nats", "", estimate[i], pooling=f"{quantity}: {POOLED}", n=n)
        add_ownness(here, cell)
        if cell.author == cell.reader:
            text = "largest mean entropy of one passage of the cell: far above its mean, a few passages carry it"
            here.fact("entropy_item_max", "nats", text, means.largest, n)


# Those that claims rest on follow the paper's ratio; the others show that pooling does not make the effect.
_MEASURES = (
    OTHER_SELF_RATIO, RATIO_PER_TOKEN, RATIO_PER_BYTE, INTERACTION, INTERACTION_PER_BYTE, INTERACTION_TOKEN_WEIGHTED,
    INTERACTION_OF_MEANS, INTERACTION_CLIPPED, LOG_RATIO, GEOMETRIC_RATIO, RECOGNITION, EASE,
)  # fmt: skip
# A cell of which more passages than this are counted as `stats.ENTROPY_FLOOR` is noted.
_FLOORED = 0.05


def _add_recognition(data: Data, ledger: Ledger, members: list[str], framing: Framing) -> None:
    """Ratio, interaction, their split and variants, of each reader of a matrix and in the mean."""
    plain = data.without_template(members, framing)
    here = ledger.at(authors=members, notes=[f"{m} has no chat template and is read without one" for m in plain])
    entropy = data.matrix(members, members, framing)
    clipped_RAP = np.minimum(entropy.value, np.nanquantile(entropy.value, 0.95, axis=-1, keepdims=True))
    for measure in _MEASURES:
        clips = measure is INTERACTION_CLIPPED
        table = data.resampled(clipped_RAP) if clips else data.matrix(members, members, framing, measure.field)
        test = ledger.author_test(table.value, STREAMS["matrix", "interaction"]) if measure is INTERACTION else None
        notes = _floored(data, members, framing) if measure.field == "log_entropy" else []
        add_measure(here, measure, table, members, n=entropy.n_prompts, test=test, notes=notes)


def _floored(data: Data, members: Sequence[str], framing: Framing) -> list[str]:
    shares = {(r, a): data.cell(r, a, framing).floored for r in members for a in members}
    return [
        f"{share:.0%} of {author}'s passages as read by {reader} have less than {stats.ENTROPY_FLOOR:g} nats of mean "
        "entropy and count as that in logs"
        for (reader, author), share in shares.items()
        if share > _FLOORED
    ]


def _changes(study: Study) -> list[tuple[str, str, str]]:
    """Quantity, stage before, stage after: from each to the next, and over a stage from before its checkpoints.

    Another run of a stage (`rl-paid` beside `rl`) comes after the stage before it, not after the first run.
    """
    groups = study.groups()
    names = list(groups)
    families = {name: [study.models[m].family for m in members] for name, members in groups.items()}
    changes = []
    for i, after in enumerate(names):
        alike = [name for name in names[:i] if families[name] == families[after]]
        outside = [name for name in alike if known_stage(name) != known_stage(after)]
        if known_stage(after) in alike and not checkpoint(after):
            changes += [("interaction_change", name, after) for name in outside[-1:]]
            continue
        if alike and alike[-1] == names[i - 1]:
            changes.append(("interaction_change", alike[-1], after))
        if outside and outside[-1] != alike[-1] and not checkpoint(after):
            changes.append(("interaction_change_over_stage", outside[-1], after))
    return changes


def _add_change(data: Data, ledger: Ledger, quantity: str, before: str, after: str) -> None:
    """The interaction of each reader of a matrix, and of their mean, minus that of another matrix."""
    groups = data.study.groups()
    for framing in data.study.framings:
        ledger.at(stage=after, from_stage=before, framing=framing).add(
            quantity,
            INTERACTION.unit,
            f"at this stage minus at {before}, same prompts: {INTERACTION.text}",
            Resampled.stack(
                [data.matrix(groups[stage], groups[stage], framing, INTERACTION.field) for stage in (before, after)]
            ),
            of_rows(INTERACTION, len(groups[after]), difference(INTERACTION.of, 1, 0)),
            [along("reader", rows_of(INTERACTION, groups[after]))],
            pooling=INTERACTION.pooling,
            interval=INTERACTION.interval,
            null=0.0,
            n=data.n_prompts,
        )
