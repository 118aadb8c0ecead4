"""What a critic asks first: the own base on the same texts, text of the world, entropy at equal surprise.

Axes: R reader, P prompt, N pair of neighbouring tokens.
"""

from __future__ import annotations

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger, along, with_mean
from enaction.analysis.measures import BASE_READER_RATIO, in_place_of
from enaction.words import MEAN, WORLD, Framing


def add_critics(data: Data, ledger: Ledger, members: list[str], framing: Framing) -> None:
    """The three controls of a table.

    Args:
        data: of a finished run.
        ledger: at the place of the table.
        members, framing: of the table.
    """
    _add_bases(data, ledger, members, framing)
    if data.study.world_text:
        _add_world(data, ledger, members, framing)
    for reader in members:
        _add_matched_gap(data, ledger, reader, members, framing)


def _add_bases(data: Data, ledger: Ledger, members: list[str], framing: Framing) -> None:
    for own, member in enumerate(members):
        base = data.study.base_of(member)
        if base is None or any(data.key(base, author, framing) not in data.cells for author in members):
            continue
        ledger.add(
            BASE_READER_RATIO.name,
            BASE_READER_RATIO.unit,
            BASE_READER_RATIO.text,
            data.matrix([base], members, framing),
            in_place_of(BASE_READER_RATIO.of, own),
            null=BASE_READER_RATIO.null,
            n=data.n_prompts,
            reader=base,
            of=member,
        )


def _add_world(data: Data, ledger: Ledger, members: list[str], framing: Framing) -> None:
    entropy_R2P = np.array([[data.cell(m, author, framing).entropy for author in (WORLD, m)] for m in members])
    ledger.add(
        "world_self_ratio",
        "ratio",
        "entropy on fresh text of the world divided by entropy on the reader's own",
        entropy_R2P,
        with_mean(lambda mean_R2: mean_R2[..., 0] / mean_R2[..., 1]),
        [along("reader", [*members, MEAN])],
        null=1.0,
        n=data.n_prompts,
    )


def _add_matched_gap(data: Data, ledger: Ledger, reader: str, members: list[str], framing: Framing) -> None:
    columns_of = []
    for author in members:
        tokens = data.tokens(data.key(reader, author, framing)).text()
        pairs = stats.next_token_pairs(tokens.passage, tokens.position, tokens.surprisal, tokens.entropy)
        is_own_N = np.full(len(pairs.index), author == reader)
        prompt_N = data.prompt_codes(author)[tokens.passage[pairs.index]]
        columns_of.append((pairs.surprisal, pairs.next_entropy, is_own_N, prompt_N))
    surprisal_N, next_entropy_N, is_own_N, prompt_N = (np.concatenate(c) for c in zip(*columns_of, strict=True))
    quantity, unit, n = "matched_gap", "nats", data.n_prompts
    text = (
        "own minus other mean entropy of the next prediction among tokens of equal input surprise (50 quantile bins, "
        "Mantel-Haenszel weights); below 0: more than the last token's surprise explains"
    )
    try:
        matched = stats.matched_gap(surprisal_N, next_entropy_N, is_own_N, prompt_N, data.weights)
    except stats.NoOverlapError as error:  # a few short texts
        ledger.leave_out(quantity, unit, str(error), n=n, text=text, reader=reader)
        return
    ledger.add(quantity, unit, text, matched.gap, null=0.0, n=n, pooling="entropy: mean over tokens", reader=reader)
