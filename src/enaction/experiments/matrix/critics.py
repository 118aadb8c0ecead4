"""What a critic asks first: the own base on the same texts, text of the world, entropy at equal surprise."""

from __future__ import annotations

from typing import Any

import numpy as np

from enaction import stats
from enaction.experiments.cells import INTERVAL, Data, estimated, passage_codes, with_mean
from enaction.findings import Finding
from enaction.words import WORLD, Framing


def controls(data: Data, stage: str, members: list[str], framing: Framing) -> list[Finding]:
    """What a critic asks first: the own base on the same texts, text of the world, entropy at equal surprise."""
    where = {"stage": stage, "framing": framing}
    findings = []
    bases = [data.study.base_of(m) for m in members]
    for member, base in zip(members, bases, strict=True):
        if base is None or any(data.key(base, a, framing) not in data.cells for a in members):
            continue
        own = members.index(member)
        entropy_AP = data.table([base], members, framing, "entropy")[0]
        others = [i for i in range(len(members)) if i != own]
        found = data.estimate(entropy_AP, lambda m, own=own, others=others: m[..., others].mean(-1) / m[..., own])
        definition = (
            "the same texts read by the family's own base: its entropy on the other authors' text divided by that on "
            f"its descendant's; about 1: the descendant's text is no easier to predict; {INTERVAL}"
        )
        findings.append(
            estimated(
                "matrix",
                "base_reader_ratio",
                {"reader": base, "of": member, **where},
                found,
                data.n_prompts,
                "ratio",
                definition,
            )
        )
    if data.study.world_text:
        entropy_R2P = np.array(
            [[data.cell(m, WORLD, framing).entropy, data.cell(m, m, framing).entropy] for m in members]
        )
        found = data.estimate(entropy_R2P, with_mean(lambda m: m[..., 0] / m[..., 1]))
        findings += [
            estimated(
                "matrix",
                "world_self_ratio",
                {"reader": reader, **where},
                found[i],
                data.n_prompts,
                "ratio",
                f"entropy on fresh text of the world divided by entropy on the reader's own; {INTERVAL}",
            )
            for i, reader in enumerate([*members, "mean"])
        ]
    return [*findings, *(_matched_gap(data, reader, members, where, framing) for reader in members)]


def _matched_gap(data: Data, reader: str, members: list[str], where: dict[str, Any], framing: Framing) -> Finding:
    parts = []
    for author in members:
        tokens = data.run.tokens(data.key(reader, author, framing))
        tokens = tokens.filter(~tokens["is_end"].to_numpy())
        passages = data.passages(author)
        passage_N = passage_codes(tokens, passages)
        pairs = stats.next_token_pairs(
            passage_N, tokens["position"].to_numpy(), tokens["surprisal"].to_numpy(), tokens["entropy"].to_numpy()
        )
        prompt_M = np.array([data.prompt_code[p.prompt_id] for p in passages])
        is_own = np.full(len(pairs.index), author == reader)
        parts.append((pairs.surprisal, pairs.next_entropy, is_own, prompt_M[passage_N[pairs.index]]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    place = {"reader": reader, **where}
    definition = (
        "own minus other mean entropy of the next prediction among tokens of equal input surprise (50 quantile bins, "
        f"Mantel-Haenszel weights); below 0: more than the last token's surprise explains; {INTERVAL}"
    )
    try:
        found = stats.matched_gap(columns[0], columns[1], columns[2], columns[3], data.weights)
    except stats.NoOverlapError as error:  # a few short texts
        return Finding(
            "matrix", "matched_gap", place, None, None, None, data.n_prompts, "nats", definition, [str(error)]
        )
    return estimated("matrix", "matched_gap", place, found.gap, data.n_prompts, "nats", definition)
