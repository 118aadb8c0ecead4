"""How often an audit finds text that is not the model's, beside the scores that others compute, on the same passages.

    python -m studies.audit_power run runs/audit-power            # sources, reader by reader; goes on where it was
    python -m studies.audit_power resampled runs/audit-power      # ranks among answers that are sampled again
    python -m studies.audit_power temperatures runs/audit-power   # growth on streams beside the Neyman-Pearson rate
    python -m studies.audit_power tables runs/audit-power         # Markdown, from whatever is there

A score is compared at 1 % false positives: its threshold is what 1 % of the reader's own passages exceed. Each of the
others is taken one-sided and two-sided, and the better of the two is printed for each source, which favours them. Only
the audit has a level without own passages to calibrate it on; `--resample` makes such passages, for each prompt.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enaction import Reader, sample, zoo
from enaction.audit import Settings
from enaction.audit.binoculars import binoculars
from enaction.audit.reading import NO_TEMPLATE, Read, read_turns
from enaction.audit.resampling import two_sided
from enaction.framing import frame, frame_prompt
from enaction.passages import Passage, Prompt
from enaction.stats.evidence import Bets, Stream, bets_on, passage_path
from enaction.world.passages import world_passages
from studies.audit_validity import ALPHAS, NOISE, by_passage, curvatures, header, joined, row, wilson

READERS = ("ash-rl", "ash-sft")
BASE = "ash-base"
OWN, FOREIGN = 5, 1
# Answers to each request that a turn is ranked among, and requests that are answered together.
ANSWERS, TOGETHER = 199, 18
LONGEST, SEED = 110, 4700
TEMPERATURES = (0.7, 0.9, 1.1, 1.3)
EDITS = (1, 2, 4, 8)
# Audits, by whether the base is given as another reader (`--versus`), and by noise.
AUDITS = tuple((versus, noise) for versus in (False, True) for noise in NOISE)


def prompts() -> list[Prompt]:
    """All requests for stories."""
    return [*zoo.prompts(), *zoo.prompts(seen=True)]


def of(author: Reader, n: int, seed: int = SEED, **settings: Any) -> list[Passage]:
    """So many stories to each request."""
    return sample(author, prompts(), n=n, max_new_tokens=LONGEST, seed=seed, batch_size=512, **settings)


def sources(model: str, reader: Reader, base: Reader) -> Iterator[tuple[str, Callable[[], list[Passage]]]]:
    """Kinds of text, each with how it is made."""
    family, stage = model.split("-")

    def by(name: str) -> Callable[[], list[Passage]]:
        return lambda: of(Reader.load(f"zoo:{name}"), FOREIGN)

    yield "own", lambda: of(reader, OWN, SEED + 1)
    for other in ("birch", "cedar"):
        yield f"family {other}", by(f"{other}-{stage}")
    yield "base", by(BASE)
    for other in ("sft", "dpo", "rl"):
        if other != stage:
            yield f"stage {other}", by(f"{family}-{other}")
    if stage == "rl":
        yield "RL step 60 of 80", by("ash-rl60")
        yield "second run of RL", by("ash-rl-seed2")
        yield "near-clone", by("ash2-rl")
        yield "int8 copy", by("ash-rl-int8")
    yield "world text", lambda: world_passages(prompts(), FOREIGN, SEED)
    yield "without template", lambda: of(reader, FOREIGN, framing="none")
    for temperature in TEMPERATURES:
        yield f"temperature {temperature}", lambda t=temperature: of(reader, FOREIGN, temperature=t)
    yield "top-p 0.9", lambda: of(reader, FOREIGN, top_p=0.9)
    for k in EDITS:
        yield f"replaced tokens {k}, unigram", lambda k=k: edited(of(reader, FOREIGN), reader, None, k)
        yield f"replaced tokens {k}, in context", lambda k=k: edited(of(reader, FOREIGN), reader, base, k)


def edited(passages: Sequence[Passage], reader: Reader, base: Reader | None, count: int) -> list[Passage]:
    """Passages with some tokens replaced by others: by their frequency in all passages, or as a base would go on."""
    rng = np.random.default_rng(count)
    pool = [token for p in passages for token in (p.token_ids or ())[:-1]]
    found = []
    for passage in passages:
        ids = list(passage.token_ids or ())
        if len(ids) <= 2 * count:
            continue
        places = rng.choice(len(ids) - 1, count, replace=False)
        p_NV = None if base is None else _continuations(base, passage, ids)
        for place in places:
            new = ids[place]
            while new == ids[place]:
                if p_NV is None:
                    new = pool[rng.integers(len(pool))]
                else:
                    p_V = p_NV[place].copy()
                    p_V[[ids[place], *base_special(base)]] = 0
                    new = int(rng.choice(len(p_V), p=p_V / p_V.sum()))
            ids[place] = new
        body = ids[:-1] if passage.ended else ids
        text = str(reader.tokenizer.decode(body, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        found.append(replace(passage, token_ids=tuple(ids), response=text, logprobs=None))
    return found


def base_special(base: Reader | None) -> list[int]:
    """Ids that no edit puts into a text."""
    return [] if base is None else list(base.tokenizer.all_special_ids)


def _continuations(base: Reader, passage: Passage, ids: Sequence[int]) -> np.ndarray:
    """What a base would say at each place of a passage [N, V], after the request's words."""
    context = frame_prompt(base.tokenizer, Prompt(passage.prompt_id, passage.prompt), "none").ids
    with torch.inference_mode():
        logits_TV = base.model(torch.tensor([[*context, *ids]])).logits[0, len(context) - 1 : -1]
    return torch.softmax(logits_TV.double(), 1).numpy()


def ratios(reads: Sequence[Read], passages: Sequence[Passage], reader: Reader, base: Reader) -> np.ndarray:
    """Binoculars' ratio [P] with the base as observer, which sees the request without template if it has none."""
    found = []
    for read, passage in zip(reads, passages, strict=True):
        f = read.framed
        context = f.ids[: f.start]
        if not base.has_template:
            context = frame_prompt(base.tokenizer, Prompt(passage.prompt_id, passage.prompt), "none").ids
        ids = (*context, *f.ids[f.start : f.stop])
        found.append(binoculars(reader, base, f, replace(f, ids=ids, start=len(context), stop=len(ids))))
    return np.array(found)


def scores(
    reads: Sequence[Read], passages: Sequence[Passage], reader: Reader, base: Reader, second: str = BASE
) -> dict[str, np.ndarray]:
    """All scores of all passages [P], greater where a text is less like the reader's own."""
    nulls = [read.null for read in reads]
    return {
        "curvature": -curvatures(reads),
        "log-probability": np.array([null.surprisal_N.mean() for null in nulls]),
        "log-rank": np.array([read.log_rank_N.mean() for read in reads]),
        "ratio to base": np.array([(null.others[second] - null.log_bound_N).mean() for null in nulls]),
        "Binoculars": ratios(reads, passages, reader, base),
        # token-difr's figures that need no seed: the share of greedy tokens, and the mean probability.
        "greedy match": np.array([-null.is_top_N.mean() for null in nulls]),
        "mean probability": np.array([-np.exp(-null.surprisal_N).mean() for null in nulls]),
    }


def run(folder: Path, readers: Sequence[str] = READERS) -> None:
    """Each source of each reader, stored when it is done."""
    base = Reader.load(f"zoo:{BASE}")
    for model in readers:
        reader = Reader.load(f"zoo:{model}")
        for name, make in sources(model, reader, base):
            target = folder / f"{model}-{name}.npz"
            if target.exists():
                continue
            passages = make()
            np.savez_compressed(target, **measured(passages, reader, base))
            print(target.name, len(passages), flush=True)


def measured(
    passages: Sequence[Passage], reader: Reader, base: Reader, second: str = BASE, token_budget: int = 16384
) -> dict[str, Any]:
    """All scores, greatest evidence [P] of each audit, and what a stream of the passages needs, by name."""
    reads = read_turns(reader, passages, Settings(framing="assistant"), {second: base}, token_budget=token_budget)
    found: dict[str, Any] = scores(reads, passages, reader, base, second)
    lengths = [len(read.null) for read in reads]
    both = joined([read.null for read in reads])
    for versus, noise in AUDITS:
        null = both if versus else replace(both, others={NO_TEMPLATE: both.others[NO_TEMPLATE]})
        pieces = list(by_passage(bets_on(null, noise), lengths))
        found[f"audit_{versus}_{noise}"] = np.array([passage_path(bets).max() for bets in pieces])
        found[f"stream_{versus}_{noise}"] = np.array(streamed(pieces))
    return found | {"length": np.array(lengths)}


def run_resampled(folder: Path) -> None:
    """Two-sided p-values [P, 2] of log-probability and curvature among answers to the same request, by source."""
    base = Reader.load(f"zoo:{BASE}")
    for model in READERS:
        reader = Reader.load(f"zoo:{model}")
        pools: dict[str, list[tuple[float, float]]] = {}
        wanted = [(name, make) for name, make in sources(model, reader, base)]
        wanted = [(name, make) for name, make in wanted if not (folder / f"resampled-{model}-{name}.npz").exists()]
        for start in range(0, len(prompts()) if wanted else 0, TOGETHER):
            asked = prompts()[start : start + TOGETHER]
            answers = sample(reader, asked, n=ANSWERS, max_new_tokens=LONGEST, seed=SEED + 3 + start, batch_size=512)
            for answer, found in zip(answers, _statistics(reader, answers), strict=True):
                pools.setdefault(answer.prompt_id, []).append(found)
        for name, make in wanted:
            passages = make()
            p_P2 = [
                [two_sided(own[i], [other[i] for other in pools[passage.prompt_id]], ANSWERS) for i in (0, 1)]
                for passage, own in zip(passages, _statistics(reader, passages), strict=True)
            ]
            np.savez_compressed(folder / f"resampled-{model}-{name}.npz", p=np.array(p_P2))
            print("resampled", model, name, (np.array(p_P2) <= 0.05).mean(0), flush=True)


def _statistics(reader: Reader, passages: Sequence[Passage]) -> list[tuple[float, float]]:
    """Mean log-probability and curvature of each passage, as `--resample` compares them."""
    framed = [frame(reader.tokenizer, passage, "assistant") for passage in passages]
    found = []
    for stats in reader.score(framed, token_budget=16384):
        off = float((stats.entropy - stats.surprisal).astype(float).sum())
        variance = float(stats.varentropy.astype(float).sum())
        found.append((-float(stats.surprisal.mean()), off / math.sqrt(variance) if variance > 0 else math.nan))
    return found


def streamed(pieces: Sequence[Bets]) -> list[float]:
    """Median number of tokens after which a stream reaches 20, of three shuffles (inf: never); its growth a token."""
    crossed, growth = [], 0.0
    for seed in range(3):
        stream, first = Stream(), math.inf
        for index in np.random.default_rng(seed).permutation(len(pieces)):
            before = stream.n_tokens
            over = np.nonzero(stream.go_on(pieces[index]) >= math.log(20))[0]
            if len(over) and math.isinf(first):
                first = before + int(over[0]) + 1
        crossed.append(first)
        growth = stream.log_e / stream.n_tokens
    return [float(np.median(crossed)), growth]


def run_temperatures(folder: Path, n: int = 4) -> None:
    """Growth of the stream on text at another temperature, beside the exact relative entropy of the same tokens."""
    for model in READERS:
        reader = Reader.load(f"zoo:{model}")
        for temperature in TEMPERATURES:
            target = folder / f"temperature-{model}-{temperature}.npz"
            if target.exists():
                continue
            passages = of(reader, n, SEED + 2, temperature=temperature)
            plain = joined([r.null for r in read_turns(reader, passages, Settings(), token_budget=16384)])
            given = Settings(temperature=temperature, noise=0.0)
            tempered = joined([r.null for r in read_turns(reader, passages, given, token_budget=16384)])
            # log p_T = (log p)/T - log Z, so that the mean of log p under p_T is T (log Z - H_T).
            log_z_N = tempered.surprisal_N - plain.surprisal_N / temperature
            kl_N = -tempered.entropy_N - temperature * (log_z_N - tempered.entropy_N)
            found: dict[str, Any] = {"kl": kl_N, "ratio": plain.surprisal_N - tempered.surprisal_N}
            for noise in NOISE:
                bets = bets_on(plain, noise)
                found[f"path_{noise}"] = Stream().go_on(bets)
                sums_E = bets.log_factors_NE.sum(0)
                best = np.argsort(-sums_E)[:5]
                found[f"best_{noise}"] = np.array([f"{bets.names[i]}: {sums_E[i]:.1f}" for i in best])
            np.savez_compressed(target, **found)
            print(target.name, len(kl_N), kl_N.sum(), *(found[f"path_{c}"][-1] for c in NOISE), flush=True)


def threshold(own_P: np.ndarray) -> float:
    """What 1 % of own passages exceed at most."""
    return float(np.sort(own_P)[::-1][len(own_P) // 100])


OTHERS = (
    "curvature",
    "log-probability",
    "log-rank",
    "ratio to base",
    "Binoculars",
    "greedy match",
    "mean probability",
)


def tables_of(
    model: str, found: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str], ranked: Sequence[Path] = ()
) -> None:
    """Power of one reader on these sources, and tokens to a verdict."""
    own, names = found["own"], [name for name in names if name != "own"]
    print(f"\nReader {model}, {len(own['length'])} own passages, at 1 % false positives:\n")
    audits = [f"{'versus base' if v else 'default'}, noise {c:g}" for v, c in AUDITS]
    header("source", "n", *audits, *OTHERS, "within the interval of the best other")
    for name in names:
        shares, n = {}, len(found[name]["length"])
        for (v, c), label in zip(AUDITS, audits, strict=True):
            key = f"audit_{v}_{c}"
            shares[label] = float((found[name][key] > threshold(own[key])).mean())
        for key in OTHERS:
            middle = np.nanmedian(own[key])
            one = (found[name][key] > threshold(own[key])).mean()
            two = (np.abs(found[name][key] - middle) > threshold(np.abs(own[key] - middle))).mean()
            shares[key] = float(max(one, two))
        best = max(shares[key] for key in OTHERS)
        low = float(wilson(best * n, n).split("[")[1].split(",")[0])
        fits = ["yes" if shares[label] >= low else "no" for label in (audits[1], audits[3])]
        row(name, n, *(f"{share:.2f}" for share in shares.values()), "default {}, versus {}".format(*fits))
    print(f"\nReader {model}, share found at a level, stopped at the worst moment:\n")
    header("source", *(f"{label}, at {a:g}" for label in audits for a in ALPHAS))
    for name in ["own", *names]:
        data = own if name == "own" else found[name]
        row(name, *(f"{(data[f'audit_{v}_{c}'] >= -math.log(a)).mean():.3f}" for v, c in AUDITS for a in ALPHAS))
    ranks = {path.stem.removeprefix(f"resampled-{model}-"): np.load(path)["p"] for path in ranked}
    if ranks:
        print(f"\nReader {model}, share at a level of ranks among {ANSWERS} answers to the same request:\n")
        header("source", *(f"{what}, at {a:g}" for what in ("log-probability", "curvature") for a in ALPHAS))
        for name in [name for name in ("own", *names) if name in ranks]:
            row(name, *(f"{(ranks[name][:, i] <= a).mean():.3f}" for i in (0, 1) for a in ALPHAS))
    print(f"\nReader {model}, tokens of a stream until E >= 20 (median of three orders), growth in nats a token:\n")
    header("source", "tokens at hand", *audits)
    for name in ["own", *names]:
        data = own if name == "own" else found[name]
        streams = [data[f"stream_{v}_{c}"] for v, c in AUDITS]
        said = [f"{'never' if math.isinf(first) else int(first)}, {growth:.4f}" for first, growth in streams]
        row(name, data["length"].sum(), *said)


def tables(folder: Path) -> None:
    """Power at 1 % false positives and at a level, tokens to a verdict, and shares of the Neyman-Pearson rate."""
    for model in READERS:
        found = {path.stem.removeprefix(f"{model}-"): dict(np.load(path)) for path in folder.glob(f"{model}-*.npz")}
        if "own" not in found:
            continue
        base, reader = Reader.load(f"zoo:{BASE}"), Reader.load(f"zoo:{model}")
        ranked = sorted(folder.glob(f"resampled-{model}-*.npz"))
        tables_of(model, found, [name for name, _ in sources(model, reader, base) if name in found], ranked)
    print("\nTemperature faults on a stream, share of the Neyman-Pearson rate:\n")
    header("reader", "T", "tokens", "KL a token", *(f"noise {c:g}: of KL, of realised" for c in NOISE), "leading bets")
    for path in sorted(folder.glob("temperature-*.npz")):
        data = np.load(path)
        kl_N, shares = data["kl"], []
        for c in NOISE:
            gained = data[f"path_{c}"][-1]
            shares.append(f"{gained / kl_N.sum():.2f}, {gained / data['ratio'].sum():.2f}")
        family, stage, temperature = path.stem.removeprefix("temperature-").split("-")
        row(f"{family}-{stage}", temperature, len(kl_N), f"{kl_N.mean():.4f}", *shares, "; ".join(data["best_0.0"][:2]))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    if what == "run":
        run(where, sys.argv[3:] or READERS)
    elif what == "temperatures":
        run_temperatures(where)
    elif what == "resampled":
        run_resampled(where)
    else:
        tables(where)
