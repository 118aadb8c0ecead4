"""What imitations get, what own text has beyond them, and whether a reader tells the two apart.

Axes: R reader, A author, P prompt; 2 own text and the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from enaction import stats
from enaction.analysis.ledger import POOLED_LOGS, T_INTERVAL, Ledger, along, appended_mean
from enaction.analysis.measures import RECOGNITION, others, own
from enaction.analysis.ownness import add_ownness
from enaction.experiments.controls.arms import Trial, write_arm
from enaction.experiments.controls.imitation.texts import ANEW, KINDS, MORE, Kind, habits, why_not
from enaction.study.store import Cell
from enaction.words import MEAN
from enaction.world.passages import requested_topics

_BEYOND = (
    "log(entropy on the imitation / on own text) of the reader, minus its mean over the other readers of the matrix, "
    "which wrote neither"
)
_PER_TOKEN = "summed over all tokens, end-of-turn tokens included, divided by the number of tokens"


def imitations(trial: Trial) -> None:
    """Write the findings of every kind of text that no reader wrote, and of the null."""
    planned = trial.data.plan.texts
    for kind in (*KINDS, ANEW):
        if f"{trial.members[0]}{kind.ending}" in planned:
            ledger = trial.arm(kind.arm, kind.setting)
            _recognition(trial, ledger, kind)
            _ownness(trial, ledger, kind)
        elif f"{trial.members[0]}{MORE}" in planned:
            trial.leave_out(kind.arm, why_not(trial.data.study, trial.members, kind), kind.setting)
    if f"{trial.members[0]}{MORE}" not in planned:
        return trial.leave_out(KINDS[0].arm, "the study asks for no imitations (setting imitate_from)")
    for member in trial.members:
        add_ownness(trial.ledger, trial.data.key(member, member, trial.framing))
    if f"{trial.members[0]}{KINDS[0].ending}" in planned:
        _well_formed(trial)


def _recognition(trial: Trial, ledger: Ledger, kind: Kind) -> None:
    members, n_readers = trial.members, len(trial.members)
    own_RAP, other_RAP = trial.table(), _table(trial, kind)
    cells = stats.Resampled.stack([trial.matrix, trial.data.resampled(other_RAP)])

    def statistic(log_2RA: np.ndarray) -> np.ndarray:
        own_R, other_R = (RECOGNITION.of(log_2RA[..., i, :, :]) for i in range(2))
        more_RA = log_2RA[..., 1, :, :] - log_2RA[..., 0, :, :]
        beyond_R = own(more_RA) - others(more_RA.swapaxes(-1, -2))
        reference = own_R.mean(axis=-1, keepdims=True)
        both = [appended_mean(beyond_R), appended_mean(other_R)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate([part for of in both for part in (of, of[..., -1:] / reference)], axis=-1)

    estimate, n = cells.jackknife(statistic), cells.n_prompts
    common: dict[str, Any] = {"n": n, "pooling": POOLED_LOGS, "interval": T_INTERVAL}
    blocks = [
        np.array([[own_RAP[i, r], other_RAP[i, r]] for i in [r, *(j for j in range(n_readers) if j != r)]])
        for r in range(n_readers)
    ]
    pvalue = stats.swap_pvalue(blocks, trial.rng(kind.arm, kind.setting), trial.data.study.resamples)
    write_arm(ledger, members, estimate[: n_readers + 2], n, _BEYOND, pvalue)
    with_numbers = members if n_readers >= RECOGNITION.least else []
    ledger.add(
        "imitation_recognition",
        RECOGNITION.unit,
        f"{RECOGNITION.text}, in the table in which every own text is replaced by such a text",
        estimate[-2 - len(with_numbers) : -1],
        axes=[along("reader", [*with_numbers, MEAN])],
        null=RECOGNITION.null,
        **common,
    )
    text = "mean recognition in that table divided by mean recognition in the matrix, resampled together; 1: as much"
    ledger.add("imitation_share", "ratio", text, estimate[-1], null=1.0, reader=MEAN, **common)


def _table(trial: Trial, kind: Kind) -> np.ndarray:
    """[R, A, P] log entropy; of own text that is tokenised anew others than the author have nothing new to read."""
    if kind is not ANEW:
        return trial.table(kind.ending)
    table_RAP = trial.table().copy()
    for r, reader in enumerate(trial.members):
        table_RAP[r, r] = trial.log_entropy(reader, f"{reader}{kind.ending}")
    return table_RAP


def _ownness(trial: Trial, ledger: Ledger, kind: Kind) -> None:
    """Surprisal less entropy of every reader on its imitation, and how far that lies from the same on own text."""
    pairs = [[trial.data.key(r, a, trial.framing) for a in (r, f"{r}{kind.ending}")] for r in trial.members]
    for _, cell in pairs:
        add_ownness(ledger, cell)
    excess = np.array([[_excess(trial, cell) for cell in pair] for pair in pairs])
    rate_R2P, count_R2P = excess[:, :, 0], excess[:, :, 1]
    ledger.add(
        "ownness_beyond_own",
        "nats",
        "surprisal less entropy on the text minus the same on own text; 0: the reader does not tell them apart by it",
        ledger.resampled(rate_R2P, count_R2P),
        lambda mean_R2: appended_mean(mean_R2[..., 1] - mean_R2[..., 0]),
        [along("reader", [*trial.members, MEAN])],
        pooling=f"surprisal less entropy: {_PER_TOKEN}",
        null=0.0,
    )


def _excess(trial: Trial, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """[P] surprisal less entropy a token, nats, and [P] the number of tokens; end-of-turn tokens count."""
    tokens, prompt_M = trial.data.tokens(cell), trial.data.prompt_codes(cell.author)
    sums = stats.passage_sums(tokens.passage, tokens.surprisal - tokens.entropy, len(prompt_M))
    return stats.prompt_rates(sums.totals, sums.counts, prompt_M, trial.data.n_prompts)


def _well_formed(trial: Trial) -> None:
    """How much of a model's text the generator could learn from."""
    text = "sentences of the further replies that the world's grammar parses: the habits of the others are not imitated"
    topics = requested_topics(trial.data.prompts)
    ledger = trial.arm(KINDS[0].arm, KINDS[0].setting)
    for member in trial.members:
        source = f"{member}{MORE}"
        seen = habits(trial.data.passages, topics, source)
        ledger.fact("imitated_share", "share", text, seen.well_formed, len(trial.data.passages(source)), reader=member)
