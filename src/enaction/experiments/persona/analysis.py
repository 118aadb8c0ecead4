"""What a stage's texts of personas say: the square of conditions, the default Assistant, other models, running means.

Axes: R reader, A author, Q the persona requested, X the persona that the text was written under, P prompt, K length of
the beginning of a response.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import POOLED, STREAMS, Ledger, along, appended_mean, with_mean
from enaction.analysis.measures import INTERACTION, INTERACTION_OF_MEANS, OTHER_SELF_RATIO, add_measure, own
from enaction.experiments.persona.texts import NOBODY, text_of
from enaction.words import MEAN

_READERS = -2  # the axis of the readers in statistics [..., R, persona]
_FIRST_TOKENS = (
    "mean over prompts of the mean over the first tokens, all of a shorter response, without the end-of-turn token"
)


def analyse(
    data: Data, ledger: Ledger, members: Sequence[str], personas: Sequence[str], lengths: Sequence[int]
) -> None:
    """Write the findings of one stage.

    Args:
        ledger: of the stage, with the prompts that take part.
        members: the models of the stage.
        personas: `NOBODY`, then all others.
        lengths: of the beginnings whose surprise is averaged, tokens.
    """
    voiced = _voiced(data, ledger, members, personas)
    if voiced:
        entropy_RQXP, surprisal_RQXP = (_square(data, voiced, personas, field) for field in ("entropy", "surprisal"))
        entropy = ledger.resampled(entropy_RQXP)
        _conditions(ledger, voiced, personas, "entropy", entropy)
        _conditions(ledger, voiced, personas, "surprisal", ledger.resampled(surprisal_RQXP))
        _recognition(ledger, voiced, personas, entropy_RQXP, entropy)
        _default(ledger, voiced, personas, entropy_RQXP)
        _running(data, ledger, voiced, personas, lengths)
    if len(voiced) > 1:
        _across(data, ledger, voiced, personas)


def _voiced(data: Data, ledger: Ledger, members: Sequence[str], personas: Sequence[str]) -> list[str]:
    """The models that wrote and could read under every persona; the others are left out with the reason."""
    voiced = []
    for model in members:
        texts = [text_of(model, x, q) for x, q in itertools.product(personas, personas)]
        if reason := data.left_out(model, texts, "assistant"):
            why = f"{model} has no persona: its template takes no system turn, or {reason}"
            ledger.leave_out("persona_entropy", "nats", why, reader=model)
        else:
            voiced.append(model)
    return voiced


def _square(data: Data, voiced: Sequence[str], personas: Sequence[str], field: str) -> np.ndarray:
    """[R, Q, X, P] of each model's own text under every condition."""

    def value(model: str, written: str, requested: str) -> np.ndarray:
        return getattr(data.cell(model, text_of(model, written, requested), "assistant"), field)

    return np.array([[[value(model, x, q) for x in personas] for q in personas] for model in voiced])


def _conditions(
    ledger: Ledger, voiced: Sequence[str], personas: Sequence[str], field: str, square: stats.Resampled
) -> None:
    """Own text of each persona under its own persona, under others and under none, and their differences."""
    each = along("persona", personas)
    named, with_all = each[1:], [*each[1:], {"persona": MEAN}]
    text, same = "of the reader's own text of a persona, read", "under the text's own persona minus"
    vanilla = "of text written without a persona, read without one minus under a persona, mean over personas"
    for quantity, definition, statistic, axis, null in (
        (f"persona_{field}", f"{text} under that persona", own, each, None),
        (f"persona_{field}_unasked", f"{text} without a persona", _unasked, named, None),
        (f"persona_{field}_other", f"{text} under another one; mean over the others", _under_others, each, None),
        (f"{field}_own_minus_none", f"{same} without one, the same text, paired", _own_minus_none, with_all, 0.0),
        (f"{field}_own_minus_other", f"{same} under another, the same text, paired", _own_minus_other, with_all, 0.0),
        (f"vanilla_{field}_none_minus_persona", vanilla, _vanilla, each[:1], 0.0),
    ):
        definition, axes = f"{field} {definition}", [along("reader", [*voiced, MEAN]), axis]
        pooling, statistic = f"{field}: {POOLED}", with_mean(statistic, _READERS)
        ledger.add(
            quantity, "nats", definition, square, statistic, axes, pooling=pooling, null=null, n=ledger.n_prompts
        )


def _recognition(
    ledger: Ledger, voiced: Sequence[str], personas: Sequence[str], entropy_RQXP: np.ndarray, entropy: stats.Resampled
) -> None:
    """Is the own persona recognised, beyond what a text's persona and the one requested do to entropy alone?"""
    interaction = with_mean(lambda mean_RQX: appended_mean(INTERACTION_OF_MEANS.of(mean_RQX)), _READERS)
    how = "personas of the texts shuffled within each prompt"
    test = ledger.label_test(entropy_RQXP, 2, interaction, STREAMS["persona", "interaction"], "less", how)
    text = (
        "diagonal residual of log entropy over persona requested x persona of the text, the reader's own texts; below "
        "0: the own persona is recognised"
    )
    axes = [along("reader", [*voiced, MEAN]), along("persona", [*personas, MEAN])]
    n = ledger.n_prompts
    ledger.add("persona_interaction", "log units", text, entropy, interaction, axes, null=0.0, n=n, test=test)


def _default(ledger: Ledger, voiced: Sequence[str], personas: Sequence[str], entropy_RQXP: np.ndarray) -> None:
    """Has the default Assistant the lowest entropy? Every text in its own condition."""
    entropy_RXP = np.einsum("rxxp->rxp", entropy_RQXP)
    readers, entropy, n = along("reader", [*voiced, MEAN]), ledger.resampled(entropy_RXP), ledger.n_prompts
    text = (
        "entropy of the text written and read without a persona minus that of the text written and read under one; "
        "other texts, the same prompts"
    )
    differences = with_mean(lambda mean_RX: mean_RX[..., :1] - mean_RX[..., 1:], _READERS)
    axes = [readers, along("persona", personas[1:])]
    ledger.add("default_minus_persona", "nats", text, entropy, differences, axes, null=0.0, n=n)
    text = (
        "least entropy among the personas, each on its own text, minus that of the default Assistant on its own; "
        "above 0: the default has the lowest; the mean is over readers"
    )
    margin = with_mean(lambda mean_RX: mean_RX[..., 1:].min(axis=-1) - mean_RX[..., 0])
    how = "personas' labels shuffled within each prompt"
    test = ledger.label_test(entropy_RXP, 1, margin, STREAMS["persona", "default"], "greater", how)
    ledger.add("default_margin", "nats", text, entropy, margin, [readers], null=0.0, n=n, test=test)


def _running(
    data: Data, ledger: Ledger, voiced: Sequence[str], personas: Sequence[str], lengths: Sequence[int]
) -> None:
    """Running mean of surprise over the first tokens of a persona's text, under the persona and without it."""
    axes = [along("reader", [*voiced, MEAN]), along("tokens", lengths)]
    mean_reader = with_mean(lambda mean_RK: mean_RK, _READERS)
    text = "surprisal of the beginning of the reader's own text of a persona"
    for persona in personas[1:]:
        for requested in (persona, NOBODY):
            value_RKP = np.array([_beginnings(data, r, text_of(r, persona, requested), lengths) for r in voiced])
            here, n = ledger.at(persona=persona, asked=requested), ledger.n_prompts
            here.add("running_surprise", "nats", text, value_RKP, mean_reader, axes, pooling=_FIRST_TOKENS, n=n)


def _beginnings(data: Data, reader: str, author: str, lengths: Sequence[int]) -> np.ndarray:
    """[K, P] mean surprisal of the first tokens of an author's passages."""
    tokens, prompt_M = data.tokens(data.key(reader, author, "assistant")).text(), data.prompt_codes(author)
    sums = (
        stats.passage_sums(tokens.passage, tokens.surprisal, len(prompt_M), tokens.position < length)
        for length in lengths
    )
    return np.array([stats.prompt_means(s.means, prompt_M, data.n_prompts) for s in sums])


def _across(data: Data, ledger: Ledger, voiced: Sequence[str], personas: Sequence[str]) -> None:
    """Does a model recognise its own text of a persona among other models' text of the same persona?"""
    for persona in personas:
        texts = [text_of(m, persona, persona) for m in voiced]
        if any(data.left_out(reader, texts, "assistant") for reader in voiced):
            continue
        for measure in (OTHER_SELF_RATIO, INTERACTION):
            value_RAP = data.table(voiced, texts, "assistant", measure.field)
            test = ledger.author_test(value_RAP, STREAMS["persona", "across"]) if measure is INTERACTION else None
            measure = replace(measure, text=f"{measure.text}; all texts of one persona, read under it")
            table = ledger.resampled(value_RAP)
            add_measure(ledger.at(persona=persona), measure, table, voiced, n=ledger.n_prompts, test=test)


# Statistics of the square of conditions, each [..., persona].


def _unasked(mean_QX: np.ndarray) -> np.ndarray:
    """Text of each persona but nobody's, read without a persona."""
    return mean_QX[..., 0, 1:]


def _under_others(mean_QX: np.ndarray) -> np.ndarray:
    """Mean over the personas requested that are neither the text's own nor nobody."""
    n = mean_QX.shape[-1]
    other_QX = ~np.eye(n, dtype=bool)
    other_QX[0] = False
    return np.where(other_QX, mean_QX, 0.0).sum(axis=-2) / other_QX.sum(axis=0)


def _own_minus_none(mean_QX: np.ndarray) -> np.ndarray:
    return appended_mean(own(mean_QX)[..., 1:] - _unasked(mean_QX))


def _own_minus_other(mean_QX: np.ndarray) -> np.ndarray:
    return appended_mean((own(mean_QX) - _under_others(mean_QX))[..., 1:])


def _vanilla(mean_QX: np.ndarray) -> np.ndarray:
    return (mean_QX[..., 0, 0] - mean_QX[..., 1:, 0].mean(axis=-1))[..., None]
