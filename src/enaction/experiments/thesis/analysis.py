"""Findings of the thesis: the texts' quality, familiarity and its contrasts, distances, and surprisal less entropy.

`familiarity` is log entropy as fitted to the cells between arms and neutral models, less the log entropy found: how
much more certain a reader is than its own confidence and the text's ease explain.

Axes: R reader, A author, P prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.analysis.ownness import OWNNESS, ownness
from enaction.experiments.thesis import choices
from enaction.experiments.thesis.contrasts import Roles, contrasts
from enaction.experiments.thesis.panels import Panel
from enaction.experiments.thesis.seeds import SeedLedger
from enaction.findings import Finding
from enaction.stats.rates import cluster_rate
from enaction.words import Framing

_FAMILIARITY = (
    "familiarity: log entropy of the cell as fitted (reader and author effects) to the cells between arms and neutral "
    "models and between neutral families, less the log entropy found; log entropy: mean over prompts of the mean over "
    "a prompt's passages of the log of a passage's mean entropy"
)
_OVER_PROMPTS = "95 % t interval over prompts, of this seed's models alone"
_STREAM = 61  # of the random swaps of passages


def analyse(
    data: Data,
    ledger: Ledger,
    panels: Sequence[Panel],
    roles: Roles,
    framing: Framing,
    gate: Mapping[str, float],
) -> None:
    """All findings, panel by panel, then the means over seeds.

    Args:
        data, ledger: of a finished run.
        panels: every panel.
        roles, framing, gate: settings of the experiment.
    """
    if not panels:
        ledger.leave_out("familiarity", "log units", "the study names no arms of training")
        return
    seeds = SeedLedger(ledger.at(framing=framing))
    last = max(panel.point for panel in panels)
    for panel in panels:
        _add_quality(data, ledger, seeds, panel, gate)
        _add_contrasts(data, seeds, panel, roles, framing)
        _add_distances(data, seeds, panel, roles.actor, framing)
        if panel.point == last:
            _add_ownness(data, seeds, panel, framing)
    seeds.write_means()


def excluded(findings: Iterable[Finding], point: int) -> dict[str, list[str]]:
    """Arm -> why it fails the gate at a point, seed by seed; arms that pass are not in it."""
    failing: dict[str, list[str]] = {}
    for f in findings:
        if f.quantity == "passes_gate" and f.where["point"] == point and not f.estimate:
            failing.setdefault(f.where["arm"], []).append(f"seed {f.where['seed']}: {', '.join(f.notes)}")
    return failing


def _add_quality(data: Data, ledger: Ledger, seeds: SeedLedger, panel: Panel, gate: Mapping[str, float]) -> None:
    """What rules say of each arm's text, and whether it passes the gate."""
    in_world = data.study.prompts == "zoo"
    for arm, model in panel.arms.items():
        passages = data.passages(model)
        measured = choices.quality(passages, in_world)
        arc = choices.commonest_arc(passages) if in_world else None
        notes = [f"commonest arc: {arc[0]}, {arc[1]:.2f} of the stories"] if arc else []
        for name, value in measured.items():
            text = f"mean over responses of {name.replace('_', ' ')}, by rule"
            seeds.add(
                panel, f"quality_{name}", "share", text, value, len(passages), {"arm": arm},
                interval="n counts responses", notes=notes, of_seed={"author": model},
            )  # fmt: skip
        short = choices.fails(measured, gate)
        ledger.fact(
            "passes_gate",
            "truth",
            f"1 if the text reaches {', '.join(f'{name} {least:g}' for name, least in gate.items())}; 0 if not, and "
            "the arm then enters no conclusion",
            float(not short),
            len(passages),
            notes=short,
            point=panel.point,
            seed=panel.seed,
            arm=arm,
            author=model,
        )


def _add_contrasts(data: Data, seeds: SeedLedger, panel: Panel, roles: Roles, framing: Framing) -> None:
    """Familiarity of every arm with every text, and the sums of it that `contrasts` names."""
    members, left_out = panel.members, panel.kin_pairs()
    index = {model: i for i, model in enumerate(members)}
    wanted = list(contrasts(panel, roles))

    def values(log_RA: np.ndarray) -> np.ndarray:
        familiarity_RA = stats.familiarity(log_RA, left_out)
        return np.stack(
            [
                np.sum([times * familiarity_RA[..., index[r], index[a]] for (r, a), times in c.terms.items()], axis=0)
                for c in wanted
            ],
            axis=-1,
        )

    table = data.matrix(members, members, framing, "log_entropy")
    estimate = table.jackknife(values)
    for i, contrast in enumerate(wanted):
        text = f"{contrast.text}; {_FAMILIARITY}"
        seeds.add(
            panel, contrast.quantity, "log units", text, estimate[i], table.n_prompts, contrast.where,
            interval=_OVER_PROMPTS, null=0.0,
        )  # fmt: skip


def _add_distances(data: Data, seeds: SeedLedger, panel: Panel, actor: str, framing: Framing) -> None:
    """How certain an arm is of its text, and how far it is from its start and its wordings from the actor's."""
    for arm, model in panel.arms.items():
        at, entropy_P = {"arm": arm}, data.cell(model, model, framing).entropy
        entropy, n = float(np.nanmean(entropy_P)), int(np.isfinite(entropy_P).sum())
        seeds.add(panel, "own_entropy", "nats", "mean entropy on the arm's own text", entropy, n, at)
        (own_P, count_P), (start_P, start_count_P) = (
            _surprisal(data, reader, model, framing) for reader in (model, panel.starts[arm])
        )
        if (count_P == start_count_P).all():  # one tokenizer
            text = "surprisal of the arm's start less its own on its own text, a token: estimates the KL divergence"
            rate = cluster_rate(start_P - own_P, count_P)
            seeds.add(panel, "distance_from_start", "nats", text, rate, n, at, interval=_OVER_PROMPTS)
        if data.study.prompts == "zoo" and arm != actor and actor in panel.arms:
            rng = np.random.default_rng([data.study.seed, _STREAM, panel.seed, panel.point])
            passages, actors = data.passages(model), data.passages(panel.arms[actor])
            found, swapped = choices.distance(passages, actors, rng)
            text = "total variation between the wordings of the arm's and the actor's text"
            seeds.add(panel, "wording_distance", "share", text, found, len(passages), at)
            text += ", mean after passages were swapped at random between the two"
            seeds.add(panel, "wording_distance_floor", "share", text, swapped, len(passages), at)


def _surprisal(data: Data, reader: str, author: str, framing: Framing) -> tuple[np.ndarray, np.ndarray]:
    """[P] surprisal summed over a prompt's tokens, end-of-turn tokens included, nats; and [P] their number."""
    tokens = data.tokens(data.key(reader, author, framing))
    prompt_N = data.prompt_codes(author)[tokens.passage]
    total_P = np.bincount(prompt_N, tokens.surprisal.astype(np.float64), data.n_prompts)
    return total_P, np.bincount(prompt_N, minlength=data.n_prompts)


def _add_ownness(data: Data, seeds: SeedLedger, panel: Panel, framing: Framing) -> None:
    """Surprisal less entropy of every arm on every arm's text."""
    text = "surprisal less entropy a token, end-of-turn tokens included; 0 in expectation on text drawn from the reader"
    for reader, model in panel.arms.items():
        for author, writer in panel.arms.items():
            estimate, where = ownness(data, data.key(model, writer, framing)), {"reader": reader, "author": author}
            n = data.n_prompts
            seeds.add(panel, OWNNESS, "nats", text, estimate, n, where, interval=_OVER_PROMPTS, null=0.0)
