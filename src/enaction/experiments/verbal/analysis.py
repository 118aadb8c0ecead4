"""From measured tables to findings: how well a model reports, by what route, and what an injected thought does.

A model that would not say either of the two words has log-odds of them too, and ranks by these: AUROCs from .2 to .9 of
models that say nothing. So where the words have less than `LEAST_MASS` the numbers are left out, with the reason.

Axes: `N` texts, `P` prompts, `B` resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from enaction import stats
from enaction.analysis.ledger import Ledger
from enaction.experiments.verbal.cells import ASKED, SWAPPED, UNRELATED, log_odds_of
from enaction.experiments.verbal.route import DIRECTIONS, DOSES
from enaction.stats import Estimate
from enaction.stats.decisions import Decisions, auroc_difference, decisions, shuffled_gaps
from enaction.stats.routes import equivalent_dose

SHUFFLES = 200
# Below this probability the two answers are not what the model would say, and their log-odds are no report.
LEAST_MASS = 0.2
# A share of the route that is surely smaller than this is none.
NONE = 0.1
# The note on all findings about an organism.
TAUGHT = "of an organism: what it says of itself, if it says anything, it was taught to say"

_POOLED = "log-odds of the first token of the answer, all ways of writing the two words, mean over texts"
_FROM_DRAWS = "smallest and largest over draws"
_RATIO = "mean change of the log-odds over prompts, as a share of the mean change by the whole patch"


@dataclass(frozen=True)
class Texts:
    """Whose texts a model was asked about.

    Attributes:
        own: name of its own text.
        others: name -> what it is: foreign, kin, another prompt, another temperature, begun by another.
    """

    own: str
    others: Mapping[str, str]


# --- reports


def analyse_reports(ledger: Ledger, table: pa.Table, texts: Texts, *, stream: Sequence[int]) -> None:
    """Findings of the cells: for each text, how well it is told from own text, and what the other questions get."""
    data = ledger.data
    code = data.prompt_code
    own = _log_odds(table, texts.own, ASKED, code)
    if not len(own.value):
        why = f"{texts.own} has no chat template or wrote nothing, so it cannot be asked about its text"
        ledger.leave_out("report_auroc", "probability", why)
        return
    rng = ledger.rng(stream)
    for author, kind in texts.others.items():
        other = _log_odds(table, author, ASKED, code)
        at = ledger.at(author=author, kind=kind)
        if not len(other.value):
            at.leave_out("report_auroc", "probability", f"{author} has no text that could be asked about")
            continue
        if silent := _silent(texts.own, own.mass, other.mass):
            at.leave_out("report_auroc", "probability", silent)
            continue
        decided = decisions(own.value, own.prompt, other.value, other.prompt, data.weights)
        _decided(at, decided, len(np.unique(other.prompt)))
        _shuffled(at, decided.gap, shuffled_gaps(own.value, own.prompt, other.value, other.prompt, rng, SHUFFLES))
        for question, quantity in ((SWAPPED, "swapped_gap"), (UNRELATED, "unrelated_gap")):
            _gap(at, quantity, question, _log_odds(table, texts.own, question, code),
                 _log_odds(table, author, question, code))  # fmt: skip
    for author in (texts.own, *texts.others):
        _answers(ledger.at(author=author), table, author)


def analyse_outsider(ledger: Ledger, table: pa.Table, outside: pa.Table, texts: Texts, outsider: str) -> None:
    """Privileged access: the model's AUROC minus that of another reader on the same transcripts."""
    ledger = ledger.at(outsider=outsider)
    data, code = ledger.data, ledger.data.prompt_code
    for author, kind in texts.others.items():
        # The author of a text is no outsider to it.
        if kind != "foreign" or author == outsider:
            continue
        columns = [(_log_odds(t, texts.own, ASKED, code), _log_odds(t, author, ASKED, code)) for t in (table, outside)]
        (own, other), (own_out, other_out) = columns
        at = ledger.at(author=author)
        if not len(other.value) or len(own.value) != len(own_out.value) or len(other.value) != len(other_out.value):
            why = f"{texts.own} and {outsider} cannot be asked about the same transcripts"
            at.leave_out("privileged_access", "probability", why)
            continue
        text = "mean probability that the outsider gives to the two answers together, the smaller one of the two texts'"
        mass = min(own_out.mass, other_out.mass)
        at.fact("outsider_mass", "probability", text, mass, len(own_out.value) + len(other_out.value))
        if silent := _silent(texts.own, own.mass, other.mass) or _silent(outsider, mass):
            at.leave_out("privileged_access", "probability", silent)
            continue
        difference = auroc_difference(
            [own.value, own_out.value], own.prompt, [other.value, other_out.value], other.prompt, data.weights
        )
        text = "AUROC of the model's own report minus AUROC of the outsider's report on the same transcripts"
        n = len(np.unique(own.prompt))
        at.add("privileged_access", "probability", text, difference, null=0.0, n=n, pooling=_POOLED)
        outside_auroc = decisions(own_out.value, own.prompt, other_out.value, other.prompt, data.weights).auroc
        text = "AUROC of the outsider's report, own text of the model against this text"
        at.add("outsider_auroc", "probability", text, outside_auroc, null=0.5, n=n, pooling=_POOLED)


@dataclass(frozen=True)
class _Column:
    """Log-odds of yes, nats, with the number of each text's prompt, both [N]; and the mean answer mass."""

    value: np.ndarray
    prompt: np.ndarray
    mass: float


def _log_odds(table: pa.Table, author: str, question: str, code: Mapping[str, int]) -> _Column:
    value, prompts, mass = log_odds_of(table, author, question)
    numbers = np.array([code[prompt] for prompt in prompts], dtype=np.int64)
    return _Column(value, numbers, float(mass.mean()) if len(mass) else 0.0)


def _silent(reader: str, *masses: float) -> str:
    """Why a reader's log-odds are no answer; "" where all of these masses are enough."""
    if min(masses) >= LEAST_MASS:
        return ""
    return (
        f"{reader} does not answer with the two words: their probability together is {min(masses):.3f}, below "
        f"{LEAST_MASS:g}, so that their log-odds are no report"
    )


def _decided(ledger: Ledger, decided: Decisions, n: int) -> None:
    texts = {
        "report_auroc": ("probability", 0.5, decided.auroc, "chance that own text gets the higher log-odds of yes"),
        "report_balanced": ("share", 0.5, decided.balanced, "mean of the shares that are right at log-odds 0"),
        "report_balanced_at_5": (
            "share",
            0.5,
            decided.balanced_at_limit,
            "mean of the shares that are right at the threshold below which 5 % of own text lies",
        ),
        "claims": ("share", None, decided.claims, "share of this text with log-odds above 0: called its own"),
        "own_claims": ("share", None, decided.own_claims, "share of own text with log-odds above 0"),
        "report_gap": ("nats", 0.0, decided.gap, "log-odds of yes, own text minus this text"),
    }
    for quantity, (unit, null, estimate, text) in texts.items():
        ledger.add(quantity, unit, text, estimate, null=null, n=n, pooling=_POOLED)


def _shuffled(ledger: Ledger, gap: Estimate, shuffled: np.ndarray) -> None:
    """How large a gap shuffled labels give, beside the observed one."""
    if gap.low <= 0 <= gap.high:
        ledger.leave_out("shuffled_gap_share", "share", "the interval of the gap holds 0")
        return
    text = (
        f"97.5th percentile of the size of the gap over {SHUFFLES} shuffles of whose text it is within prompts, as "
        "a share of the size of the observed gap"
    )
    share = float(np.quantile(np.abs(shuffled), 0.975) / abs(gap.value))
    ledger.fact("shuffled_gap_share", "share", text, share, ledger.n_prompts)


def _gap(ledger: Ledger, quantity: str, question: str, own: _Column, other: _Column) -> None:
    """The gap under another question, where it was asked and is answered."""
    if not len(own.value) or not len(other.value):
        return
    if silent := _silent(f"to the {question} question {ledger.place['reader']}", own.mass, other.mass):
        ledger.leave_out(quantity, "nats", silent)
        return
    text = f"log-odds of yes to the {question} question, own text minus this text"
    gap = decisions(own.value, own.prompt, other.value, other.prompt, ledger.data.weights).gap
    ledger.add(quantity, "nats", text, gap, null=0.0, n=ledger.n_prompts, pooling=_POOLED)


def _answers(ledger: Ledger, table: pa.Table, author: str) -> None:
    _, prompts, mass = log_odds_of(table, author, ASKED)
    n = len(set(prompts))
    if not n:
        return
    ledger.fact("answer_mass", "probability", "mean probability of the two answers together", float(mass.mean()), n)
    said = [
        row["said"]
        for row in table.select(["author", "question", "said"]).to_pylist()
        if row["author"] == author and row["question"] == ASKED and row["said"]
    ]
    for answer in ("yes", "no", "other") if said else ():
        text = "share of sampled answers, by the first of the two words in them"
        ledger.fact("sampled_answers", "share", text, said.count(answer) / len(said), n, answer=answer)


# --- the route


def marker_refuses(ledger: Ledger, table: pa.Table, rank: int) -> str:
    """Why a rank says nothing: the share of an organism whose report surprise has no part in is not shown to be none.

    Args:
        ledger: at the organism; nothing is written to it.
        table: of its route.
        rank: of the subspace.

    Returns:
        The reason, "" where its whole intervals lie within `NONE` of 0.
    """
    found = replace(ledger, findings=[])
    analyse_route(found, table, rank)
    shares = [f for f in found.findings if f.quantity == "in_share" and f.estimate is not None]
    named = f"{ledger.place['reader']}, in whose report surprise has no part,"
    if len(shares) < len(DIRECTIONS):
        return f"at rank {rank} {named} has no share to judge it by"
    worst = max(shares, key=lambda f: max(abs(f.low or 0.0), abs(f.high or 0.0)))
    if max(abs(worst.low or 0.0), abs(worst.high or 0.0)) < NONE:
        return ""
    return (
        f"at rank {rank} {named} has a share of {worst.estimate:.2f} [{worst.low:.2f}, {worst.high:.2f}] in the "
        f"subspace, not surely within {NONE:g} of 0: use a lower rank"
    )


def analyse_route(ledger: Ledger, table: pa.Table, rank: int, refused: str = "") -> None:
    """Shares of the patch's effect in the subspace of surprise and outside of it, each with its energy and its dose.

    Args:
        ledger: at who reports.
        table: of its route.
        rank: of the subspace.
        refused: why this rank says nothing; "" where it does.
    """
    if refused:
        ledger.leave_out("in_share", "share", refused)
        return
    rows = table.to_pylist()
    prompts = sorted({row["prompt_id"] for row in rows})
    if len(prompts) < 2:
        ledger.leave_out("in_share", "share", "too few prompts have an own and a foreign reply")
        return
    subset = ledger.data.subset([p for p in ledger.data.prompts if p.id in set(prompts)])
    at = {prompt: i for i, prompt in enumerate(p.id for p in ledger.data.prompts if p.id in set(prompts))}
    by: dict[tuple[str, str, float, int], np.ndarray] = {}
    energy: dict[tuple[str, str], list[float]] = {}
    mass: dict[str, list[float]] = {direction: [] for direction in DIRECTIONS}
    for row in rows:
        key = (row["direction"], row["treatment"], round(row["amount"], 3), row["draw"])
        by.setdefault(key, np.full(len(prompts), np.nan))[at[row["prompt_id"]]] = row["log_odds"]
        energy.setdefault(key[:2], []).append(row["energy"])
        if row["treatment"] == "clean":
            mass[row["direction"]].append(row["mass"])
    _checks(ledger, by, len(prompts))
    if silent := _silent(ledger.place["reader"], *(float(np.mean(of)) for of in mass.values())):
        ledger.leave_out("in_share", "share", silent)
        return
    for direction in DIRECTIONS:
        clean_P, full_P = by[direction, "clean", 0.0, 0], by[direction, "full", 1.0, 0]
        here = ledger.at(direction=direction, rank=rank)
        whole = full_P - clean_P
        effect = stats.bootstrap_estimate(whole, subset.weights)
        here.add("full_effect", "nats", "change of the log-odds by the whole patch", effect, null=0.0, n=len(prompts),
                 pooling=_POOLED)  # fmt: skip
        if effect.low <= 0 <= effect.high:
            why = "the interval of the whole patch's effect holds 0, so there is no route to look for"
            here.leave_out("in_share", "share", why)
            continue
        curve = [(by[direction, "dose", dose, 0] - clean_P).mean() / whole.mean() for dose in DOSES]
        for dose, share in zip(DOSES, curve, strict=True):
            text = f"{_RATIO}, of the whole patch scaled"
            here.fact("dose_share", "share", text, float(share), len(prompts), dose=dose)
        for treatment in ("in", "complement", "shuffled"):
            share = _ratio(by[direction, treatment, 0.0, 0] - clean_P, whole, subset.weights)
            here.add(f"{treatment}_share", "share", f"{_RATIO}; {_PARTS[treatment]}", share, null=_NULLS[treatment],
                     n=len(prompts), pooling=_POOLED)  # fmt: skip
            doses = [equivalent_dose(bound, DOSES, curve) for bound in (share.value, share.low, share.high)]
            here.add(f"{treatment}_dose", "dose", "share, translated through the measured curve of the whole patch "
                     "scaled into the dose that does the same", Estimate(*map(np.asarray, doses)), n=len(prompts),
                     pooling=_POOLED)  # fmt: skip
            of = float(np.mean(energy[direction, treatment]))
            here.fact(f"{treatment}_energy", "share", "of the patch's sum of squares", of, len(prompts))
        draws = [key for key in by if key[:2] == (direction, "random")]
        shares = np.array([(by[key] - clean_P).mean() / whole.mean() for key in draws])
        if len(shares):
            here.fact("random_share", "share", f"{_RATIO}; {_PARTS['random']}; mean, {_FROM_DRAWS}",
                      float(shares.mean()), len(shares), low=float(shares.min()), high=float(shares.max()))  # fmt: skip
            of = float(np.mean(energy[direction, "random"]))
            here.fact("random_energy", "share", "of the patch's sum of squares, mean over draws", of, len(draws))


_PARTS = {
    "in": "the patch's part in the subspace of surprise, centroids of own text",
    "complement": "the patch without its part in the subspace of surprise",
    "shuffled": "the patch's part in the subspace of centroids of shuffled bins",
    "random": "the patch's part in random subspaces of the complement that hold as much of its sum of squares, or as "
    "much as any of it does",
}
_NULLS: dict[str, float | None] = {"in": 0.0, "complement": 1.0, "shuffled": None}


def _checks(ledger: Ledger, by: Mapping[tuple[str, str, float, int], np.ndarray], n: int) -> None:
    """What has to hold exactly: the whole patch is the donor's run, and in + complement of the other direction is 1."""
    there, back = DIRECTIONS
    full = max(
        np.abs(by[one, "full", 1.0, 0] - by[other, "clean", 0.0, 0]).max()
        for one, other in ((there, back), (back, there))
    )
    text = "largest difference of the log-odds between the whole patch and the run that it comes from"
    ledger.fact("full_patch_error", "nats", text, float(full), n, null=0.0)
    gap = max(
        np.abs(by[one, "complement", 0.0, 0] - by[other, "in", 0.0, 0]).max()
        for one, other in ((there, back), (back, there))
    )
    text = "largest difference of the log-odds between the complement's patch one way and the subspace's the other way"
    ledger.fact("identity_error", "nats", text, float(gap), n, null=0.0)


def _ratio(part_P: np.ndarray, whole_P: np.ndarray, weights_BP: np.ndarray) -> Estimate:
    return stats.bootstrap_estimate(np.stack([part_P, whole_P]), weights_BP, lambda m: m[..., 0] / m[..., 1])


# --- injected thoughts


def analyse_injection(ledger: Ledger, table: pa.Table, reports: pa.Table, own: str) -> None:
    """What an injected concept does to the report on a disavowed reply, by layer and dose.

    Args:
        ledger: at who is asked.
        table: of injections.
        reports: of the same reader, on this text among others: whether it answers at all.
        own: the text.
    """
    rows = table.to_pylist()
    of = [p for p in ledger.data.prompts if p.id in {row["prompt_id"] for row in rows}]
    if len(of) < 2:
        ledger.leave_out("injected_claims", "share", "too few prompts have a reply and another prompt to show it under")
        return
    if silent := _silent(ledger.place["asked"], float(log_odds_of(reports, own, ASKED)[2].mean())):
        ledger.leave_out("injected_claims", "share", silent)
        return
    at, weights = {p.id: i for i, p in enumerate(of)}, ledger.data.subset(of).weights
    by: dict[tuple[str, str, int, float, int], np.ndarray] = {}
    moved: dict[tuple[str, str, int, float, int], list[float]] = {}
    count: dict[tuple[str, str, int, float, int], np.ndarray] = {}
    for row in rows:
        key = (row["question"], row["treatment"], row["layer"], round(row["dose"], 3), row["draw"])
        by.setdefault(key, np.zeros((2, len(of))))[:, at[row["prompt_id"]]] += [row["log_odds"], row["log_odds"] > 0]
        count.setdefault(key, np.zeros(len(of)))[at[row["prompt_id"]]] += 1
        moved.setdefault(key, []).append(row["moved"])
    means = {key: value / np.where(count[key], count[key], np.nan) for key, value in by.items()}
    clean, ceiling = means[ASKED, "clean", -1, 0.0, 0], means[ASKED, "ceiling", -1, 0.0, 0]
    for name, value in (("disavowed", clean), ("ceiling", ceiling)):
        text = "share of replies with log-odds above 0: called its own"
        ledger.add("injected_claims", "share", text, stats.bootstrap_estimate(value[1], weights), n=len(of),
                   pooling=_POOLED, treatment=name)  # fmt: skip
    for layer, dose in sorted({key[2:4] for key in means if key[1] == "concept"}):
        here = ledger.at(layer=layer, dose=dose)
        concept, third = (means[ASKED, name, layer, dose, 0] for name in ("concept", "third"))
        draws = np.array([value for key, value in means.items() if key[:4] == (ASKED, "random", layer, dose)])
        for name, value in (("concept", concept), ("third", third)):
            text = f"share of replies called its own with {_INJECTED[name]}"
            here.add("injected_claims", "share", text, stats.bootstrap_estimate(value[1], weights), n=len(of),
                     pooling=_POOLED, treatment=name)  # fmt: skip
        shares = draws[:, 1].mean(axis=1)
        text = f"share of replies called its own with {_INJECTED['random']}; mean, {_FROM_DRAWS}"
        here.fact("injected_claims", "share", text, float(shares.mean()), len(shares), low=float(shares.min()),
                  high=float(shares.max()), treatment="random")  # fmt: skip
        text = "log-odds with the concept minus log-odds with random vectors of the same length, mean over draws"
        difference = concept[0] - draws[:, 0].mean(axis=0)
        here.add("injection_effect", "nats", text, stats.bootstrap_estimate(difference, weights), null=0.0, n=len(of),
                 pooling=_POOLED)  # fmt: skip
        unrelated = means[UNRELATED, "concept", layer, dose, 0] - means[UNRELATED, "clean", -1, 0.0, 0]
        text = "log-odds of yes to an unrelated question, with the concept minus without"
        here.add("injection_unrelated", "nats", text, stats.bootstrap_estimate(unrelated[0], weights), null=0.0,
                 n=len(of), pooling=_POOLED)  # fmt: skip
        for name in ("concept", "random"):
            far = float(np.nanmean(moved[ASKED, name, layer, dose, 0]))
            text = "mean size of the change of the reply's surprisal"
            here.fact("injection_moved", "nats a token", text, far, len(of), treatment=name)


_INJECTED = {
    "concept": "the concept of its own prompt",
    "third": "the concept of a third prompt",
    "random": "random vectors of the same length",
}
