"""The tables that the experiment measures: what is decoded, and what steering does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pyarrow as pa

from enaction.passages import thinned
from enaction.stats.decisions import auroc
from enaction.study.desk import Desk
from enaction.study.planning import Measured, framing_for, own_framing
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.experiments.clean import Clean
    from enaction.experiments.surprise.rows import Rows
    from enaction.reader import Reader

Kind = Literal["authorship", "decoding", "reliability", "steering"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Traces(Measured):
    """What one reader makes of surprise in its own and in foreign text.

    Attributes:
        authors: who wrote the foreign texts.
        n_prompts: of the study's, at most, spread evenly; half of them give directions, the others are steered.
        passages: of each author to a prompt, at most.
        n_bins: of a trace.
        ranks, draws, targets, profile, keys: as in `steering.Plans`.
        max_layers: of the residual stream that are clamped, spread evenly; None for all.
        version: of what is measured; a table of another version is measured again.
    """

    authors: tuple[str, ...]
    n_prompts: int | None
    passages: int
    n_bins: int
    ranks: tuple[int, ...]
    draws: int
    targets: int
    profile: int
    keys: tuple[str, ...]
    max_layers: int | None
    version: int = 2

    def measure(self, desk: Desk) -> pa.Table:
        """All rows of all kinds, a column of `kind` first; a column is null where a kind does not have it."""
        from enaction.experiments.surprise import decoding, steering
        from enaction.experiments.surprise.rows import Rows

        plans = steering.Plans(self.ranks, self.draws, self.targets, self.profile, self.keys)
        reader = desk.reader
        framing = framing_for(own_framing(desk.study, desk.run, self.model), "assistant")
        layers = _layers(reader, self.max_layers)
        of, names = _clean(desk, reader, self, framing, [0, *layers])
        step = _steps(desk, 2 * steering.passes(plans, layers) + len(decoding.TARGETS))
        tables: dict[Kind, Rows] = {kind: Rows() for kind in KINDS}
        _authorship(of, tables["authorship"])
        decoding.decode(of, tables["decoding"], step)
        decoding.reliability(of, self.n_bins, tables["reliability"])
        half = np.unique(of.prompt_M, return_inverse=True)[1] % 2 == 0
        for fold, use in enumerate((half, ~half)):
            bench = steering.Bench(reader, of.of(~use), of.of(use), layers, self.n_bins)
            steering.steer(bench, plans, fold, desk.study.seed, tables["steering"], step)
        parts = [_table(kind, rows.columns, names) for kind, rows in tables.items() if rows.columns]
        return pa.concat_tables(parts, promote_options="default")


def _layers(reader: Reader, most: int | None) -> list[int]:
    from enaction.reader.interventions import layers

    n = layers(reader)
    return list(np.unique(np.linspace(1, n, min(n, most or n)).round().astype(int)))


def _clean(
    desk: Desk, reader: Reader, of: Traces, framing: Framing, layers: Sequence[int]
) -> tuple[Clean, Sequence[str]]:
    """Own and foreign passages before the reader, as many own ones as foreign, and the names of the prompts' codes."""
    from enaction.experiments.clean import clean
    from enaction.framing import frame
    from enaction.reader.interventions import Treated

    chosen = {prompt.id: code for code, prompt in enumerate(thinned(desk.prompts, of.n_prompts))}
    framed, is_own, codes = [], [], []
    for author in (of.model, *of.authors):
        limit = of.passages * (len(of.authors) if author == of.model else 1)
        taken: dict[str, int] = {}
        for passage in desk.passages(author):
            if passage.prompt_id in chosen and taken.get(passage.prompt_id, 0) < limit:
                taken[passage.prompt_id] = taken.get(passage.prompt_id, 0) + 1
                framed.append(frame(reader.tokenizer, passage, framing, separator=desk.study.separator))
                is_own.append(author == of.model)
                codes.append(chosen[passage.prompt_id])
    return clean(Treated(reader, framed), is_own, codes, layers), list(chosen)


def _steps(desk: Desk, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        desk.progress(min(done, total), total)

    return step


def _table(kind: Kind, columns: dict[str, list[np.ndarray]], names: Sequence[str]) -> pa.Table:
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    if "prompt" in arrays:
        codes = pa.array(arrays.pop("prompt").astype(np.int32))
        arrays["prompt"] = pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())).cast(pa.string())
    given = {name: pa.array(a) if not isinstance(a, np.ndarray) else pa.array(a.tolist()) for name, a in arrays.items()}
    rows = len(next(iter(given.values())))
    return pa.table({"part": pa.array([kind] * rows, pa.string()), **given})


def _authorship(of: Clean, rows: Rows) -> None:
    """How well each trace alone tells own from foreign tokens of one prompt, which says what kind of trace it is."""
    from enaction.experiments.surprise.steering import HALF_LIFE

    for trace, value in {"surprise": of.surprisal, "running": of.running(HALF_LIFE)}.items():
        for prompt in np.unique(of.prompt):
            own, foreign = (value[(of.prompt == prompt) & (of.is_own == side)] for side in (True, False))
            if len(own) and len(foreign):
                rows.add(1, trace=trace, prompt=prompt, auroc=auroc(foreign, own))
