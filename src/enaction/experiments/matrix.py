"""E1, E2 and E5: reader x author entropy at each stage and framing, and what it says of recognition.

Question: does each reader have less entropy on its own text than its own confidence and the text's difficulty explain,
which stage brings that, and does it matter whose turn the text stands in?
Procedure: every model of a stage reads every model's passages; the table of mean entropies gives the ratio, which a
critic distrusts, and the interaction, which removes reader and author main effects. Beside them stand the controls: the
family's own base on the same texts, text of the world, surprisal, and the identity residual of every reader.
Source: From Simulation to Enaction (arXiv 2605.25459), its entropy matrix, role comparison and training stages.

All cells are resampled together over prompts. Axes: R reader, A author, P prompt, B resample, S stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from enaction import stats
from enaction.findings import Finding
from enaction.framing import Framing
from enaction.passages import Passage
from enaction.study.config import WORLD, Study
from enaction.study.engine import cells_of, framing_for
from enaction.study.store import Cell, Run
from enaction.tokens import table_notes

NAME = "matrix"
INTERVAL = "95 % percentile interval of a bootstrap over prompts, all cells resampled together"
POOLED = "mean over prompts of the mean over a response's tokens, without the end-of-turn token"


@dataclass(frozen=True)
class CellMeans:
    """One cell, pooled to prompts: each [P], NaN where the cell lacks the prompt.

    entropy, surprisal: response-weighted, nats. token_entropy with token_count: the same per token;
    byte_entropy with byte_count: nats of entropy per byte of text. largest: highest entropy of one passage, nats.
    """

    entropy: np.ndarray
    surprisal: np.ndarray
    token_entropy: np.ndarray
    token_count: np.ndarray
    byte_entropy: np.ndarray
    byte_count: np.ndarray
    largest: float


@dataclass(frozen=True)
class _Data:
    """What all analyses share: the study, its cells pooled, one set of resampling weights [B, P]."""

    study: Study
    run: Run
    own_framing: dict[str, Framing]
    prompt_code: dict[str, int]
    passages: dict[str, list[Passage]]
    cells: dict[Cell, CellMeans]
    weights: np.ndarray

    def cell(self, reader: str, author: str, framing: Framing) -> CellMeans:
        return self.cells[self.key(reader, author, framing)]

    def key(self, reader: str, author: str, framing: Framing) -> Cell:
        """The cell that stands for a reader and author where `framing` is asked for."""
        return Cell(reader, author, framing_for(self.own_framing[reader], framing))

    def table(self, readers: Sequence[str], authors: Sequence[str], framing: Framing, field: str) -> np.ndarray:
        """[R, A, P] of one field of `CellMeans`."""
        return np.array([[getattr(self.cell(r, a, framing), field) for a in authors] for r in readers])

    def estimate(self, value_P: np.ndarray, statistic: Any = None, size_P: np.ndarray | None = None) -> stats.Estimate:
        return stats.bootstrap_estimate(value_P, self.weights, statistic, size_P=size_P)

    @property
    def n_prompts(self) -> int:
        return len(self.prompt_code)


def analyse(study: Study, run: Run) -> list[Finding]:
    """All findings of this experiment, from the token tables of a finished run."""
    data = _load(study, run)
    findings = [*_identity(data), *_entropies(data), *_quality(data)]
    for stage, members in study.groups().items():
        for framing in study.framings:
            findings += _recognition(data, stage, members, framing)
            findings += _controls(data, stage, members, framing)
    return [*findings, *_changes(data)]


def _load(study: Study, run: Run) -> _Data:
    prompt_code = {prompt.id: code for code, prompt in enumerate(study.load_prompts())}
    authors = [*study.models, *([WORLD] if study.world_text else [])]
    passages = {author: run.passages(author) for author in authors}
    own: dict[str, Framing] = {name: passages[name][0].sampling["framing"] for name in study.models}
    cells = {
        cell: pool(run.tokens(cell), passages[cell.author], prompt_code)
        for reader in study.models
        for cell in cells_of(study, run, reader)
    }
    rng = np.random.default_rng([study.seed, 1])
    weights = stats.cluster_weights(len(prompt_code), study.resamples, rng)
    return _Data(study, run, own, prompt_code, passages, cells, weights)


def pool(tokens: pa.Table, passages: Sequence[Passage], prompt_code: dict[str, int]) -> CellMeans:
    """Pool a cell's token table to prompts."""
    n_prompts, n_passages = len(prompt_code), len(passages)
    passage_N = passage_codes(tokens, passages)
    prompt_M = np.array([prompt_code[p.prompt_id] for p in passages])
    bytes_M = np.array([len(p.response.encode()) for p in passages])
    is_text_N = ~tokens["is_end"].to_numpy()
    entropy = stats.passage_sums(passage_N, tokens["entropy"].to_numpy(), n_passages, is_text_N)
    surprisal = stats.passage_sums(passage_N, tokens["surprisal"].to_numpy(), n_passages, is_text_N)
    token_entropy, token_count = stats.prompt_rates(entropy.totals, entropy.counts, prompt_M, n_prompts)
    byte_entropy, byte_count = stats.prompt_rates(entropy.totals, bytes_M, prompt_M, n_prompts)
    return CellMeans(
        entropy=stats.prompt_means(entropy.means, prompt_M, n_prompts),
        surprisal=stats.prompt_means(surprisal.means, prompt_M, n_prompts),
        token_entropy=token_entropy,
        token_count=token_count,
        byte_entropy=byte_entropy,
        byte_count=byte_count,
        largest=float(np.nanmax(entropy.means)) if entropy.counts.any() else float("nan"),
    )


def passage_codes(tokens: pa.Table, passages: Sequence[Passage]) -> np.ndarray:
    """[N] index of each row's passage."""
    code = {p.id: i for i, p in enumerate(passages)}
    column = tokens["passage_id"].combine_chunks()
    lookup = np.array([code[i] for i in column.dictionary.to_pylist()], dtype=np.int64)
    return lookup[column.indices.to_numpy()] if len(column) else np.empty(0, np.int64)


def _finding(
    quantity: str, where: dict[str, Any], found: stats.Estimate, n: int, unit: str, definition: str
) -> Finding:
    def number(value: np.ndarray) -> float | None:
        return float(value) if np.isfinite(value) else None

    return Finding(
        NAME, quantity, where, number(found.value), number(found.low), number(found.high), n, unit, definition
    )


def _identity(data: _Data) -> list[Finding]:
    """The alarm: every reader on its own text, in the framing it was sampled in."""
    sampled_plainly = data.study.sampling.temperature == 1 and data.study.sampling.top_p == 1
    if not sampled_plainly:
        return []
    findings = []
    for name in data.study.models:
        framing = data.own_framing[name]
        cell = Cell(name, name, framing)
        if cell not in data.cells:
            continue
        tokens = data.run.tokens(cell)
        columns = [tokens[c].to_numpy() for c in ("surprisal", "entropy", "varentropy")]
        found = stats.identity_residual(*columns)
        where = {"reader": name, "stage": data.study.models[name].stage, "framing": framing}
        notes = []
        if found.is_alarming:
            notes.append(f"outside +-{stats.IDENTITY_LIMIT:g}: template, tokenisation, temperature or cache is wrong")
        findings.append(
            Finding(
                NAME,
                "identity_residual",
                where,
                found.standardised,
                found.standardised - 1.96,
                found.standardised + 1.96,
                found.n_tokens,
                "standard deviations",
                "sum(s - H) / sqrt(sum V) over all tokens of the reader's own text, end-of-turn included, in the "
                "framing it was sampled in; about N(0, 1) if all is well; n counts tokens",
                notes,
            )
        )
        half = 1.96 * found.standard_error
        findings.append(
            Finding(
                NAME,
                "identity_gap",
                where,
                found.mean,
                found.mean - half,
                found.mean + half,
                found.n_tokens,
                "nats",
                "mean of s - H over the same tokens; interval from the predictable variance; n counts tokens",
            )
        )
    return findings


def _entropies(data: _Data) -> list[Finding]:
    """Entropy and surprisal of every cell, and the largest entropy of one passage on own text."""
    findings = []
    for cell, means in data.cells.items():
        where = {
            "reader": cell.reader,
            "author": cell.author,
            "framing": cell.framing,
            "reader_stage": data.study.models[cell.reader].stage,
            "author_stage": WORLD if cell.author == WORLD else data.study.models[cell.author].stage,
        }
        found = data.estimate(np.array([means.entropy, means.surprisal]))
        n = int(np.isfinite(means.entropy).sum())
        for i, quantity in enumerate(("entropy", "surprisal")):
            findings.append(_finding(quantity, where, found[i], n, "nats", f"{quantity}: {POOLED}; {INTERVAL}"))
        if cell.author == cell.reader:
            findings.append(
                Finding(
                    NAME,
                    "entropy_item_max",
                    where,
                    means.largest,
                    None,
                    None,
                    n,
                    "nats",
                    "largest mean entropy of one passage of the cell: far above its mean, a few passages carry it",
                )
            )
    return findings


def _recognition(data: _Data, stage: str, members: list[str], framing: Framing) -> list[Finding]:
    """Ratio, interaction, their split and variants, of each reader of a matrix and in the mean."""
    entropy_RAP = data.table(members, members, framing, "entropy")
    n = int(np.isfinite(entropy_RAP).all(axis=(0, 1)).sum())
    where = {"stage": stage, "framing": framing, "authors": members}
    plain = [m for m in members if framing_for(data.own_framing[m], framing) != framing]
    notes = [f"{m} has no chat template and is read without one" for m in plain]

    def per_reader(quantity: str, unit: str, definition: str, statistic: Any, **values: np.ndarray) -> list[Finding]:
        found = data.estimate(values.get("value", entropy_RAP), _with_mean(statistic), values.get("size"))
        made = [
            _finding(quantity, {"reader": reader, **where}, found[i], n, unit, f"{definition}; {INTERVAL}")
            for i, reader in enumerate([*members, "mean"])
        ]
        for finding in made:
            finding.notes.extend(notes)
        return made

    ratio = "mean entropy over the other authors' text divided by entropy on the reader's own"
    findings = per_reader("other_self_ratio", "ratio", f"{ratio}; entropy: {POOLED}", stats.other_self_ratio)
    findings += per_reader(
        "other_self_ratio_token_weighted",
        "ratio",
        f"{ratio}; entropy: mean over all tokens",
        stats.other_self_ratio,
        value=data.table(members, members, framing, "token_entropy"),
        size=data.table(members, members, framing, "token_count"),
    )
    findings += per_reader(
        "other_self_ratio_per_byte",
        "ratio",
        f"{ratio}; entropy: nats per byte of text, comparable across tokenizers",
        stats.other_self_ratio,
        value=data.table(members, members, framing, "byte_entropy"),
        size=data.table(members, members, framing, "byte_count"),
    )
    diagonal = "diagonal residual of log entropy after reader and author main effects; below 0: recognition"
    test = stats.permutation_pvalue(entropy_RAP, np.random.default_rng([data.study.seed, 2]), data.study.resamples)
    interactions = per_reader("interaction", "log units", diagonal, stats.interaction)
    for finding, p in zip(interactions, [*test.pvalue, test.mean_pvalue], strict=True):
        finding.notes.append(f"permutation p = {p:.4f} (authors shuffled within each prompt, one-sided)")
    findings += interactions
    clipped_RAP = np.minimum(entropy_RAP, np.nanquantile(entropy_RAP, 0.95, axis=-1, keepdims=True))
    findings += per_reader(
        "interaction_clipped",
        "log units",
        f"{diagonal}; each cell's prompts clipped at its 95th percentile, so that no few items carry it",
        stats.interaction,
        value=clipped_RAP,
    )
    for i, (quantity, definition) in enumerate(
        (
            ("log_ratio", "log of the geometric-mean other/self ratio = recognition + ease"),
            ("recognition", "part of log_ratio that reader and author effects do not explain: -N/(N-1) * interaction"),
            ("ease", "part of log_ratio from text: mean author effect of the others minus that of the reader's own"),
        )
    ):
        findings += per_reader(quantity, "log units", definition, lambda m, i=i: stats.log_ratio_split(m)[i])
    return findings


def _with_mean(statistic: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Append the mean over readers to a statistic of each reader."""

    def both(matrix: np.ndarray) -> np.ndarray:
        value_R = statistic(matrix)
        return np.concatenate([value_R, value_R.mean(axis=-1, keepdims=True)], axis=-1)

    return both


def _controls(data: _Data, stage: str, members: list[str], framing: Framing) -> list[Finding]:
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
            _finding(
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
        found = data.estimate(entropy_R2P, _with_mean(lambda m: m[..., 0] / m[..., 1]))
        findings += [
            _finding(
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


def _matched_gap(data: _Data, reader: str, members: list[str], where: dict[str, Any], framing: Framing) -> Finding:
    parts = []
    for author in members:
        tokens = data.run.tokens(data.key(reader, author, framing))
        tokens = tokens.filter(~tokens["is_end"].to_numpy())
        passages = data.passages[author]
        passage_N = passage_codes(tokens, passages)
        pairs = stats.next_token_pairs(
            passage_N, tokens["position"].to_numpy(), tokens["surprisal"].to_numpy(), tokens["entropy"].to_numpy()
        )
        prompt_M = np.array([data.prompt_code[p.prompt_id] for p in passages])
        is_own = np.full(len(pairs.index), author == reader)
        parts.append((pairs.surprisal, pairs.next_entropy, is_own, prompt_M[passage_N[pairs.index]]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    found = stats.matched_gap(columns[0], columns[1], columns[2], columns[3], data.weights)
    definition = (
        "own minus other mean entropy of the next prediction among tokens of equal input surprise (50 quantile bins, "
        f"Mantel-Haenszel weights); below 0: more than the last token's surprise explains; {INTERVAL}"
    )
    return _finding("matched_gap", {"reader": reader, **where}, found.gap, data.n_prompts, "nats", definition)


def _changes(data: _Data) -> list[Finding]:
    """How the interaction changes from each stage to the next, paired over prompts."""
    groups = list(data.study.groups().items())
    findings = []
    for (before, first), (after, second) in itertools.pairwise(groups):
        families = [data.study.models[m].family for m in second]
        if [data.study.models[m].family for m in first] != families:
            continue
        for framing in data.study.framings:
            entropy_SRAP = np.array([data.table(g, g, framing, "entropy") for g in (first, second)])
            found = data.estimate(
                entropy_SRAP,
                _with_mean(lambda m: stats.interaction(m[..., 1, :, :]) - stats.interaction(m[..., 0, :, :])),
            )
            findings += [
                _finding(
                    "interaction_change",
                    {"reader": reader, "stage": after, "from_stage": before, "framing": framing},
                    found[i],
                    data.n_prompts,
                    "log units",
                    f"interaction at this stage minus interaction at the one before, same prompts; {INTERVAL}",
                )
                for i, reader in enumerate([*second, "mean"])
            ]
    return findings


def _quality(data: _Data) -> list[Finding]:
    """What the texts are like, author by author."""
    findings = []
    for author, passages in data.passages.items():
        texts = [p.response.split() for p in passages]
        n = len(passages)

        def add(quantity: str, value: float, unit: str, definition: str, author: str = author, n: int = n) -> None:
            findings.append(
                Finding(
                    NAME, quantity, {"author": author}, value, None, None, n, unit, f"{definition}; n counts passages"
                )
            )

        add(
            "ended_share",
            float(np.mean([p.ended is True for p in passages])),
            "share",
            "responses that ended by themselves",
        )
        add("mean_words", float(np.mean([len(t) for t in texts])), "words", "mean length of a response")
        add(
            "repeated_trigrams",
            float(np.mean([1 - len(set(g)) / len(g) if (g := _grams(t, 3)) else 0.0 for t in texts])),
            "share",
            "mean share of a response's word trigrams that occurred in it before",
        )
        bigrams = [g for t in texts for g in _grams(t, 2)]
        add(
            "distinct_bigrams",
            len(set(bigrams)) / max(len(bigrams), 1),
            "share",
            "different word bigrams among all of the author's",
        )
        add(
            "distinct_responses",
            len({p.response for p in passages}) / n,
            "share",
            "different responses among all of the author's",
        )
        if author != WORLD:
            cell = Cell(author, author, data.own_framing[author])
            if cell in data.cells:
                noted = table_notes(data.run.tokens(cell))
                add(
                    "drift_share",
                    noted.get("passages_that_would_drift", 0) / n,
                    "share",
                    "responses whose text does not tokenise back to the author's own ids (read by own ids here)",
                )
    return findings


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))
