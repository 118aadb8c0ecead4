"""How often does a run in which nothing is true get any of the paper's claims?

    python studies/familywise.py pool tests/data/clone_entropies.npz      # five minutes; models of the second zoo
    python studies/familywise.py rate src/enaction/paper/familywise.json  # some 20 minutes; see docs/claims.md

A null run is a study of three families at four stages whose texts all come from one author: disjoint sets of its
replies, dealt out at random to families and stages, and read by three readers in three framings. Nobody can recognise
anything there, so every claim that is not itself an absence has to be "not reproduced" or "not testable". The entropies
of passages are those that real readers found (the pool); matrix and framings use them as they are. For persona, prior
and splice, which cannot be cloned cheaply, each text (a persona's, a two-round text, a splice) is a further set of
replies, and the tokens of a passage scatter around its mean; personas are read with more surprisal under another
persona, so that the claim about the default can be had. All analyses are the product's own.

The kinds of nulls: replies of an RL model (heavy tails), of a base model (light tails), easy and hard authors (a factor
on all entropies of an author, log units N(0, .5)), and a flat reader (the same entropy on everything) beside easy and
hard authors.

Axes: R reader, F framing, P prompt, S reply, T token.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from enaction import experiments
from enaction.analysis.data import Data, Tokens
from enaction.analysis.ledger import Ledger
from enaction.experiments import plan
from enaction.findings import Finding, Findings
from enaction.paper.claims import CLAIMS, checked
from enaction.paper.standing import LEVEL
from enaction.passages import Passage, thinned
from enaction.study.config import Study
from enaction.study.planning import Plan
from enaction.study.store import Cell, Run
from enaction.words import FRAMINGS, TRACE, Framing

HEAVY, LIGHT, EASY, FLAT = KINDS = (
    "clones with heavy tails",
    "clones with light tails",
    "clones among easy and hard authors",
    "a flat reader among easy and hard authors",
)
# No null: own text of the bases has just so much less entropy that the claim of an absence is false.
AT_BOUND = "bases at the bound of an absence"
GOT = ("reproduced", "partly")
FAMILIES, STAGES = ("ash", "birch", "cedar"), ("base", "sft", "dpo", "rl")
N_TOKENS = 20  # of a passage
N_PROMPTS = 40
N_REPLIES = 22  # to each prompt, in the pool
RUNS = 250  # of each kind
EASE = 0.5  # standard deviation of an author's factor, log units
LEARNED = 0.3  # further surprisal under another persona, nats
POOL = Path(__file__).parents[1] / "tests" / "data" / "clone_entropies.npz"
COMMAND = "python studies/familywise.py rate src/enaction/paper/familywise.json"


def study_of(folder: Path, n_prompts: int, kind: str) -> Study:
    """Three families at each stage, none of which exists, with every experiment that a claim rests on."""
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "question {i}"}}\n' for i in range(n_prompts)))
    stages = STAGES[:1] if kind == AT_BOUND else STAGES
    models = {f"{f}-{s}": {"model": "nowhere", "family": f, "stage": s} for s in stages for f in FAMILIES}
    last: dict[str, Any] = {"stages": ["rl"]}
    of: dict[str, dict[str, Any]] = {
        "matrix": {"first_tokens": []},
        "framings": last | {"question": ["kept"]},
        "persona": last | {"personas": {"x": "be x", "y": "be y"}, "n_prompts": None, "curve": [1]},
        "prior": last | {"edges": [1, 2, 4, 8, 16], "n_prompts": None},
        "splice": last | {"lengths": [1, 4], "at": 4, "after": 8},
    }
    if kind == AT_BOUND:
        of = {"matrix": of["matrix"]}
    settings: dict[str, Any] = {"name": "null", "models": models, "prompts": str(path), "experiments": of}
    settings |= {"sampling": {"per_prompt": 1}, "resamples": 400, "cross_stage": False}
    return Study.model_validate(settings)


class NullData(Data):
    """A run that was never made: every text is a set of replies of one author, read as the pool was.

    Args:
        study: as `study_of` makes it.
        planned: its plan.
        pool_RFPS: mean entropies of replies.
        kind: of null.
        seed: of everything random.
    """

    def __init__(self, study: Study, planned: Plan, pool_RFPS: np.ndarray, kind: str, seed: int) -> None:
        super().__init__(study.model_copy(update={"seed": seed}), Run(Path(os.devnull)), planned)
        self._seed, self._kind = seed, kind
        rng = self._rng("deal")
        prompts = rng.permutation(pool_RFPS.shape[2])[: self.n_prompts]
        self._pool_RFPS = pool_RFPS[:, :, prompts]
        # Disjoint replies for the models, then any for what experiments derive from them.
        order_PS = np.array([rng.permutation(pool_RFPS.shape[3]) for _ in range(self.n_prompts)])
        names = [*study.models, *(name for name in planned.texts if name not in study.models)]
        self._reply = {name: order_PS[:, i % order_PS.shape[1]] for i, name in enumerate(names)}
        roles = {stage: rng.permutation(len(FAMILIES)) for stage in STAGES}
        self._role = {f"{f}-{s}": int(roles[s][i]) for s in STAGES for i, f in enumerate(FAMILIES)}
        self._ease = {name: rng.normal(0, EASE) if kind in (EASY, FLAT) else 0.0 for name in study.models}
        self._flat = f"{FAMILIES[rng.integers(3)]}-" if kind == FLAT else None

    @cached_property
    def own_framing(self) -> dict[str, Framing]:
        """All have a template."""
        return dict.fromkeys(self.study.models, "assistant")

    @cached_property
    def cells(self) -> list[Cell]:
        """Without the bases on texts of other stages, which no claim reads."""
        planned = dict.fromkeys(self.plan.cells)
        return [c for c in planned if c.author not in self.study.models or _stage(c.author) == _stage(c.reader)]

    def passages(self, author: str) -> list[Passage]:
        """One reply to each prompt, of N_TOKENS words."""
        if author not in self._passages:
            text = self.plan.texts[author]
            words = " ".join(f"w{t}" for t in range(N_TOKENS))
            marks = {"prefix": 4, "piece": getattr(text, "piece", 0), "earlier_words": 9, "earlier_words_whole": 9}
            prompts = thinned(self.prompts, getattr(text, "n_prompts", None))
            self._passages[author] = [
                Passage(f"{p.id}/0", p.id, p.messages, words, author, ended=False, marks=marks) for p in prompts
            ]
        return self._passages[author]

    def tokens(self, cell: Cell) -> Tokens:
        """What a reader finds in a reply: its entropy of the pool on average, and tokens that scatter around it."""
        if cell not in self._tokens:
            text = self.plan.texts[cell.author]
            source = getattr(text, "source", cell.author)  # the same text under another persona
            mean_P = self._pooled(cell.reader, source, cell.framing)
            own_PT = self._rng("text", source).gamma(2.0, size=(self.n_prompts, N_TOKENS))
            read_PT = own_PT * np.exp(self._rng("cell", *cell).normal(0, 0.1, own_PT.shape))
            entropy_N = (mean_P[:, None] * read_PT / read_PT.mean(axis=1, keepdims=True)).ravel()
            surprisal_N = entropy_N + (LEARNED if source != cell.author else 0.0)
            passage_N = np.repeat(np.arange(self.n_prompts), N_TOKENS)
            position_N = np.tile(np.arange(N_TOKENS), self.n_prompts)
            n = len(entropy_N)
            self._tokens[cell] = Tokens(
                passage_N, position_N, surprisal_N, entropy_N, np.ones(n), np.zeros(n, bool), np.zeros(n, int)
            )
        return self._tokens[cell]

    def _pooled(self, reader: str, text: str, framing: Framing) -> np.ndarray:
        pool_PS = self._pool_RFPS[self._role[reader], FRAMINGS.index(framing)]
        mean_P = pool_PS[np.arange(self.n_prompts), self._reply[text]]
        if self._flat and reader.startswith(self._flat):
            return np.exp(self._rng("flat", reader, text, framing).normal(0, 0.01, self.n_prompts))
        # What is derived from an author's text (`ash-rl.as-x`, `ash-rl.after-birch-rl`) is as easy as that.
        mean_P = mean_P * np.exp(self._ease[text.partition(".")[0]])
        if self._kind == AT_BOUND and reader == text and reader.endswith("-base"):
            n = len(FAMILIES)
            return mean_P * np.exp(-TRACE * n / (n - 1))  # an interaction of -TRACE
        return mean_P

    def _rng(self, *names: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32("/".join([self._kind, *names]).encode())])


def _stage(model: str) -> str:
    return model.rpartition("-")[2]


def findings_of(data: NullData) -> Findings:
    """All findings of a null run, by the product's own analyses."""
    written: list[Finding] = []
    for experiment in experiments.chosen(data.study):
        ledger = Ledger.of(data, experiment.name)
        experiment.analyse(data, ledger)
        written += ledger.findings
    return Findings(written)


def null_runs(kind: str, seeds: Iterable[int], pool_RFPS: np.ndarray, n_prompts: int = N_PROMPTS) -> list[list[str]]:
    """The standing of each claim, in the order of the list, in a null run of each seed."""
    with tempfile.TemporaryDirectory() as folder:
        study = study_of(Path(folder), n_prompts, kind)
        planned = plan(study)
    return [
        [item.standing for item in checked(findings_of(NullData(study, planned, pool_RFPS, kind, seed)))]
        for seed in seeds
    ]


def gets_anything(standings: Sequence[str]) -> bool:
    """Whether a run gets a claim that is not an absence, which is true of clones."""
    return any(got in GOT and not claim.is_absence for got, claim in zip(standings, CLAIMS, strict=True))


def load_pool(kind: str, path: Path = POOL) -> np.ndarray:
    """[R, F, P, S] mean entropies of the replies that a kind of null takes, nats."""
    return np.load(path)["base" if kind in (LIGHT, AT_BOUND) else "rl"].astype(np.float64)


def write_pool(path: Path) -> None:
    """Let ash's RL model and its base write, and the three families read, in all framings."""
    from enaction import Reader, sample, score_passages, zoo  # torch, which the nulls do without

    prompts, pools = thinned(zoo.prompts(), 72), {}
    for stage in ("rl", "base"):
        readers = [Reader.load(f"zoo:{family}-{stage}") for family in FAMILIES]
        texts = sample(readers[0], prompts, n=N_REPLIES + 2, max_new_tokens=110, seed=41)  # some are empty
        pool_RFPS = np.array([[_entropies(r, texts, f, score_passages) for f in FRAMINGS] for r in readers])
        pool_RFPS = pool_RFPS.reshape(len(readers), len(FRAMINGS), len(prompts), -1)
        is_empty_PS = np.isnan(pool_RFPS).any(axis=(0, 1))
        kept_PS = np.argsort(is_empty_PS, axis=1, kind="stable")[:, :N_REPLIES]
        pools[stage] = np.take_along_axis(pool_RFPS, kept_PS[None, None], axis=3).astype(np.float16)
    np.savez_compressed(path, **pools)


def _entropies(reader: Any, texts: Sequence[Passage], framing: Framing, score: Callable[..., Any]) -> np.ndarray:
    tokens = score(reader, texts, framing if reader.has_template else "none").to_pandas()
    means = tokens[~tokens.is_end].groupby("passage_id", observed=True).entropy.mean()
    return means.reindex([p.id for p in texts]).to_numpy()


def write_rates(path: Path, runs: int, workers: int) -> None:
    """Simulate every kind and store how often a run gets anything."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        of = {
            kind: pool.map(_one_run, [(kind, seed) for seed in range(runs)], chunksize=5) for kind in (*KINDS, AT_BOUND)
        }
    kinds = [_rates(kind, of[kind]) for kind in KINDS]
    worst = max(kinds, key=lambda rates: rates["rate"])
    at_bound = of[AT_BOUND]
    absence = next(i for i, claim in enumerate(CLAIMS) if claim.is_absence)
    stored = {
        "worst": {key: worst[key] for key in ("rate", "low", "high", "kind", "runs")}
        | {"level": LEVEL, "date": time.strftime("%Y-%m-%d"), "command": COMMAND},
        "kinds": kinds,
        "absence_shown_at_bound": sum(got[absence] == "reproduced" for got in at_bound) / runs,
    }
    path.write_text(json.dumps(stored, indent=1) + "\n")
    print(json.dumps(stored, indent=1))


def _one_run(job: tuple[str, int]) -> list[str]:
    kind, seed = job
    return null_runs(kind, [seed], load_pool(kind))[0]


def _rates(kind: str, standings: Sequence[Sequence[str]]) -> dict[str, Any]:
    n, hits = len(standings), sum(map(gets_anything, standings))
    low, high = wilson(hits, n)
    by_claim = {claim.text: sum(got[i] in GOT for got in standings) / n for i, claim in enumerate(CLAIMS)}
    return {"kind": kind, "runs": n, "rate": hits / n, "low": low, "high": high, "claims": by_claim}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z2 = 1.96**2
    middle, half = (hits + z2 / 2) / (n + z2), 1.96 * math.sqrt(hits * (n - hits) / n + z2 / 4) / (n + z2)
    return round(middle - half, 4), round(middle + half, 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pool", "rate"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.what == "pool":
        write_pool(given.path)
    else:
        write_rates(given.path, given.runs, given.workers)
