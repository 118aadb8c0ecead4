"""A diagnosis for people and for programs: a page of sentences and tables, and plain data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from enaction.doctor.divergence import Divergence, EValue
from enaction.doctor.faults import Diagnosis, Fault
from enaction.doctor.naming import Fit, Named
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.stats.resampling import Estimate

# Hypotheses that a table shows of each column.
_SHOWN = 6


def page_of(diagnosis: Diagnosis) -> Page:
    """The page: what is wrong first, then how far apart the columns are, then what was tried."""
    sections = [
        Section("How far apart", _APART, grids=[_divergences(diagnosis), _evidence(diagnosis)]),
        Section("What was tried", _TRIED, grids=[_fits(one) for one in diagnosis.named.values()]),
    ]
    if diagnosis.versions:
        sections.append(Section("Which weights wrote what", _VERSIONS, grids=[_versions(diagnosis)]))
    if diagnosis.logged or diagnosis.identity:
        sections.append(Section("Entropies and means", _ENTROPIES, grids=[_entropies(diagnosis)]))
    faults = [
        Statement(
            _told(fault),
            (fault.name,),
            {"column": fault.column},
            "alarm",
            fault.name,
        )
        for fault in diagnosis.faults
    ]
    answer = Statement(answer_of(diagnosis), verdict="alarm" if diagnosis.faults else "", headline=True)
    notes = [Statement(f"{note}.", subject="note") for note in diagnosis.notes]
    shown = [s for s in sections if any(grid.rows for grid in s.grids)]
    return Page("Doctor", "Are these log-probabilities right?", [answer, *faults, *notes], shown)


_APART = (
    "q is the sampler's log-probability, p the other's, over trained tokens. KL and k3 are two estimates of KL(q || p) "
    "in nats a token, with 95 % intervals by prompt; sd is the standard deviation of log q/p. Two e-values may be "
    "looked at after every token, and their largest log10 is shown: `matches` is against tokens from q and a p within "
    "the noise budget of it, `reported` against tokens drawn from the reported q; 2 is evidence at the level .01."
)
_TRIED = (
    "The residual is the root mean square of the column less what the hypothesis predicts, nats a token; the gain is "
    "by how many nats it explains the column better than a sound one would."
)
_VERSIONS = "Spans (rollouts, where no versions are stated) by the weights whose numbers they have."
_ENTROPIES = "Surprisal less entropy is 0 on average if the entropies are those of what was drawn."


def _told(fault: Fault) -> str:
    """What is so, how sure that is, and what to do."""
    sure = f" [{fault.sure}]" if fault.sure else ""
    remedy = f" To do: {fault.remedy}." if fault.remedy else ""
    return f"{fault.says}{sure}.{remedy}"


def answer_of(diagnosis: Diagnosis) -> str:
    """The answer in one sentence or two."""
    d = diagnosis
    counts = f"{_count(d.n_rollouts, 'rollout')} of {_count(d.n_clusters, 'prompt')}"
    what = f"{counts}, {_count(d.n_trained, 'trained token')} at {d.taken.words}"
    if d.faults:
        names = list(dict.fromkeys(f"{fault.name} ({fault.column})" for fault in d.faults))
        return f"{_count(len(names), 'fault')} in {what}: {'; '.join(names)}."
    judged = [one for one in d.named.values() if one.outcome != "little"]
    if not judged and d.identity is None and not d.logged:
        return f"Nothing could be judged in {what}: there are too few numbers to compare."
    parts = [f"No fault found in {what}"]
    apart = d.divergences.get("sampler against trainer")
    if apart is not None:
        parts.append(
            f"sampler and trainer agree within a noise of {d.settings.noise:g} nats: KL {_with_interval(apart.kl, 4)}, "
            f"standard deviation {apart.sd:.3f}, {100 * apart.outside:.1f} % of ratios outside [.9, 1.1]"
        )
    if judged:
        seen = max(smallest_effect(one, d.settings.noise) for one in judged)
        parts.append(
            f"a fault that moves log-probabilities by {seen:.3f} nats (root mean square) would have been named"
        )
    return "; ".join(parts) + "."


def smallest_effect(named: Named, noise: float) -> float:
    """The root mean square difference, nats, that a listed fault needs to be named among as many tokens and this noise.

    Where the threshold is n/2 (d/s)^2, with s the noise budget, or the residual of a sound column if that is larger.
    """
    fit = named.sound
    if fit.n == 0:
        return math.inf
    return max(fit.rms, noise) * math.sqrt(2 * named.threshold / fit.n)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _divergences(diagnosis: Diagnosis) -> Grid:
    rows = [
        [Cell(who, "name"), f"{d.n_tokens}", _with_interval(d.kl, 4), _with_interval(d.k3, 4), f"{d.sd:.3f}"]
        for who, d in diagnosis.divergences.items()
    ]
    header = ["", "tokens", "KL [95 %]", "k3 [95 %]", "sd"]
    return Grid("How far apart the log-probabilities are, nats", header, rows, brief=True)


def _evidence(diagnosis: Diagnosis) -> Grid:
    rows = [
        [
            Cell(who, "name"),
            f"{100 * d.outside:.1f} %",
            f"{d.mean_ratio:.3f}",
            f"{d.p95:.3f}",
            f"{d.largest:.2f}",
            f"{d.matches.log10_max:.1f}",
            f"{d.reported.log10_max:.1f}",
        ]
        for who, d in diagnosis.divergences.items()
    ]
    header = ["", "p/q outside [.9, 1.1]", "mean p/q", "95 % of |d|", "largest", "matches", "reported"]
    return Grid("Ratios, and log10 of the e-values", header, rows, brief=True)


def _fits(named: Named) -> Grid:
    chosen = list(named.fits[:_SHOWN])
    if named.sound not in chosen:
        chosen = [*chosen[: _SHOWN - 1], named.sound]
    rows = [
        [
            Cell(fit.hypothesis.name, "name"),
            Cell(_which(fit), "name"),
            Cell(f"{fit.rms:.3f}", "strong" if fit is named.best else ""),
            f"{fit.gain:.1f}",
            f"{fit.n}",
        ]
        for fit in chosen
    ]
    whose = "the two columns alone" if named.column == "pair" else f"the {named.column} column"
    title = f"What fits {whose}: a fault has to gain {named.threshold:.1f} nats"
    return Grid(
        title, ["hypothesis", "", "residual", "gain", "tokens"], rows if named.outcome != "little" else [], brief=True
    )


def _which(fit: Fit) -> str:
    """Which of the hypotheses of one name it is."""
    detail = fit.hypothesis.detail
    shown = {key: value for key, value in detail.items() if key not in ("rollouts", "moved", "weights", "part")}
    words = [f"{key.replace('_', '-')} {value}" for key, value in shown.items()]
    words += [str(detail["weights"])] if "weights" in detail else []
    words += [_count(int(detail["part"]), "rollout")] if "part" in detail else []
    return ", ".join(words)


def _versions(diagnosis: Diagnosis) -> Grid:
    names = list(dict.fromkeys(name for version in diagnosis.versions for name in version.rms))
    rows = [
        [
            Cell(version.label or "none stated", "name"),
            f"{version.n_tokens}",
            *(f"{version.rms[name]:.3f} ({version.fits.get(name, 0)})" for name in names),
            f"{version.undecided}",
        ]
        for version in diagnosis.versions
    ]
    header = ["version", "tokens", *names, "undecided"]
    return Grid("Residual by weights, nats (spans that they fit best)", header, rows, brief=True)


def _entropies(diagnosis: Diagnosis) -> Grid:
    rows: list[list[Cell | str]] = []
    if (found := diagnosis.identity) is not None:
        shown = [_with_interval(found.residual, 4), "0", "" if math.isnan(found.z) else f"z = {found.z:.1f}"]
        rows.append([Cell(f"surprisal ({found.column}) less entropy", "name"), *shown])
    for one in diagnosis.logged:
        which = one.best or "no average that was tried"
        rows.append([Cell(f"logged {one.name}", "name"), f"{np.mean(one.values):.4f}", f"{one.right:.4f}", which])
    return Grid("Entropies and logged means, nats", ["", "is", "should be", "what it is"], rows, brief=True)


def _with_interval(e: Estimate, digits: int) -> str:
    value, low, high = (float(x) for x in (e.value, e.low, e.high))
    if math.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as plain data, for JSON."""
    d = diagnosis
    return {
        "verdict": "fault" if d.faults else "no fault found",
        "answer": answer_of(d),
        "model": d.model or None,
        "rollouts": d.n_rollouts,
        "prompts": d.n_clusters,
        "tokens": d.n_tokens,
        "trained_tokens": d.n_trained,
        "sampled": {
            "temperature": d.taken.temperature,
            "top_p": d.taken.top_p,
            "top_k": d.taken.top_k or None,
            "is_stated": d.taken.is_stated,
        },
        "noise": d.settings.noise,
        "level": d.settings.level,
        "faults": [
            {"name": f.name, "column": f.column, "says": f.says, "remedy": f.remedy, "sure": f.sure} for f in d.faults
        ],
        "columns": {name: _named_data(one, d.settings.noise) for name, one in d.named.items()},
        "divergences": {who: _divergence_data(one) for who, one in d.divergences.items()},
        "identity": None
        if d.identity is None
        else {"residual": _estimate(d.identity.residual), "z": d.identity.z, "tokens": d.identity.n_tokens},
        "logged": [
            {
                "name": one.name,
                "logged": float(np.mean(one.values)),
                "should_be": one.right,
                "is_right": one.is_right,
                "average": one.best or None,
            }
            for one in d.logged
        ],
        "versions": [
            {
                "label": v.label or None,
                "tokens": v.n_tokens,
                "fits": v.fits,
                "undecided": v.undecided,
                "residual": v.rms,
            }
            for v in d.versions
        ],
        "foreign": None
        if d.foreign is None
        else {
            "log10_e": d.foreign.log10_e,
            "is_found": d.foreign.is_found,
            "spans": [
                {"rollout": row, "start": start, "stop": stop, "log10_e": log10}
                for row, start, stop, log10 in d.foreign.worst
            ],
        },
        "notes": list(d.notes),
    }


def _named_data(one: Named, noise: float) -> dict[str, Any]:
    def fit(of: Fit) -> dict[str, Any]:
        h = of.hypothesis
        return {"name": h.name, "residual": of.rms, "gain": of.gain, "tokens": of.n, "detail": dict(h.detail)}

    return {
        "outcome": one.outcome,
        "named": one.best.hypothesis.name,
        "threshold": one.threshold,
        "limit": one.limit,
        "smallest_effect": smallest_effect(one, noise),
        "hypotheses": [fit(of) for of in one.fits],
    }


def _divergence_data(one: Divergence) -> dict[str, Any]:
    def evidence(e: EValue) -> dict[str, Any]:
        return {"log10": e.log10, "log10_max": e.log10_max, "crossed": e.crossed}

    return {
        "tokens": one.n_tokens,
        "prompts": one.n_clusters,
        "kl": _estimate(one.kl),
        "k3": _estimate(one.k3),
        "sd": one.sd,
        "p95": one.p95,
        "largest": one.largest,
        "outside": one.outside,
        "mean_ratio": one.mean_ratio,
        "effective_share": one.effective,
        "matches": evidence(one.matches),
        "reported": evidence(one.reported),
    }


def _estimate(e: Estimate) -> dict[str, float]:
    return {"value": float(e.value), "low": float(e.low), "high": float(e.high)}
