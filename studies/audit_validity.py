"""How often an audit says `foreign` of text that is the model's own: the error of the test, on many own passages.

    python studies/audit_validity.py run runs/audit-validity        # own passages, round by round (or those named)
    python studies/audit_validity.py noise runs/audit-validity      # sampler and reader at other precisions
    python studies/audit_validity.py prefill runs/audit-validity    # foreign beginnings that the reader continues
    python studies/audit_validity.py tables runs/audit-validity     # Markdown, from whatever is there

Each goes on where it was. Every passage is sampled anew and read once, so that passages are independent given their
prompts. Each is stopped at its worst moment: what counts is the largest value that its e-process ever has. Readings of
one passage at two noise budgets are one passage, not two.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from enaction import Reader, sample, zoo
from enaction.audit import RUN_LENGTH, Settings
from enaction.audit.reading import Read, read_turns
from enaction.framing import beginning_ids
from enaction.passages import Passage, Prompt
from enaction.stats.evidence import Bets, Null, Stream, bets_on, change_path, fewest_foreign, passage_path
from enaction.words import Framing

FAMILIES = ("ash", "birch", "cedar")
STAGES = ("base", "sft", "dpo", "rl")
# Temperature and top-p of the samplers.
SAMPLERS = ((1.0, 1.0), (0.7, 1.0), (1.3, 1.0), (1.0, 0.9), (0.7, 0.9))
KINDS: tuple[zoo.PromptKind, ...] = ("stories", "questions", "names")
# Tokens at most of a passage, by round: whole passages, then two of cut-off ones.
LONGEST = (160, 32, 24)
NOISE = (0.0, 0.05)
SHUFFLES, STREAM = 20, 15_000
ALPHAS = (0.05, 0.01)


def asked(kind: zoo.PromptKind, round_number: int) -> list[Prompt]:
    """Requests of one kind, seen and held out; the few requests for names six times each."""
    prompts = [*zoo.prompts(kind), *zoo.prompts(kind, seen=True)]
    times = 6 if kind == "names" else 1
    return [Prompt(f"{p.id}/{round_number}.{i}", p.messages) for p in prompts for i in range(times)]


def written(
    author: Reader,
    temperature: float,
    top_p: float,
    framing: Framing,
    round_number: int,
    kinds: Sequence[zoo.PromptKind] = KINDS,
) -> tuple[list[Passage], np.ndarray]:
    """One passage for each request, with the number of its kind."""
    passages, kind_P = [], []
    for kind in kinds:
        passages += sample(
            author,
            asked(kind, round_number),
            temperature=temperature,
            top_p=top_p,
            framing=framing,
            max_new_tokens=LONGEST[round_number % len(LONGEST)],
            seed=1700 + round_number,
            batch_size=512,
        )
        kind_P += [KINDS.index(kind)] * (len(passages) - len(kind_P))
    return passages, np.array(kind_P)


def joined(nulls: Sequence[Null]) -> Null:
    """What is known of the tokens of all passages in a row: bets are made token by token, so in one go."""
    first = nulls[0]

    def column(name: str) -> Any:
        return None if getattr(first, name) is None else np.concatenate([getattr(null, name) for null in nulls])

    columns = ("surprisal_N", "entropy_N", "varentropy_N", "log_sums_NB", "log_top_N", "is_top_N", "log_bound_N")
    return replace(
        first,
        **{name: column(name) for name in (*columns, "log_unigram_N", "log_full_N")},
        kept={name: pairs([null.kept[name] for null in nulls]) for name in first.kept},
        common={name: pairs([null.common[name] for null in nulls]) for name in first.common},
        others={name: np.concatenate([null.others[name] for null in nulls]) for name in first.others},
    )


def pairs(of_passages: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of all passages in a row."""
    first, second = zip(*of_passages, strict=True)
    return np.concatenate(first), np.concatenate(second)


def part(bets: Bets, start: int, stop: int) -> Bets:
    """Bets on tokens `start` to `stop`."""
    return replace(bets, log_factors_NE=bets.log_factors_NE[start:stop], log_arms_NA=bets.log_arms_NA[start:stop])


def by_passage(bets: Bets, lengths: Sequence[int]) -> Iterator[Bets]:
    """Bets on each passage of a row."""
    stops = np.cumsum(lengths)
    for start, stop in zip(stops - lengths, stops, strict=True):
        yield part(bets, int(start), int(stop))


def curvatures(reads: Sequence[Read]) -> np.ndarray:
    """Fast-DetectGPT's curvature of each passage, NaN where it has none; tokens outside a nucleus left out."""
    found = []
    for read in reads:
        inside_N = np.isfinite(read.null.surprisal_N)
        information = read.null.varentropy_N.sum()
        off = (read.null.entropy_N - read.null.surprisal_N)[inside_N].sum()
        found.append(off / math.sqrt(information) if information > 0 else math.nan)
    return np.array(found)


def change_alarms(bets: Bets) -> int:
    """Alarms of the change detector on a row of own tokens; it begins anew after each."""
    alarms, start = 0, 0
    while start < len(bets):
        over = np.nonzero(change_path(part(bets, start, len(bets))) >= math.log(RUN_LENGTH))[0]
        if not len(over):
            break
        alarms, start = alarms + 1, start + int(over[0]) + 1
    return alarms


def stream_greatest(bets: Bets, lengths: Sequence[int], order: Iterable[int], longest: int) -> float:
    """Largest log e of the stream of passages in this order, until it has so many tokens."""
    stream, pieces = Stream(), list(by_passage(bets, lengths))
    for index in order:
        stream.go_on(pieces[index])
        if stream.n_tokens >= longest:
            break
    return stream.greatest


def judged(
    reader: Reader, passages: Sequence[Passage], settings: Settings, reads: list[Read] | None = None
) -> tuple[list[Read], Bets, list[int], np.ndarray]:
    """Readings, bets on all tokens in a row, lengths of passages, and the largest log e of each [P]."""
    reads = reads or read_turns(reader, passages, settings, token_budget=16384)
    bets = bets_on(joined([read.null for read in reads]), settings.noise)
    lengths = [len(read.null) for read in reads]
    greatest_P = np.array(
        [max(0.0, float(passage_path(b).max())) if len(b) else 0.0 for b in by_passage(bets, lengths)]
    )
    return reads, bets, lengths, greatest_P


def cells() -> Iterator[tuple[str, float, float, Framing, Sequence[zoo.PromptKind]]]:
    """Model, temperature, top-p, framing and kinds; chat models without their template at temperature 1 only."""
    for temperature, top_p in SAMPLERS:
        for stage in STAGES:
            for family in FAMILIES:
                yield f"{family}-{stage}", temperature, top_p, "none" if stage == "base" else "assistant", KINDS
                if (temperature, top_p) == (1.0, 1.0) and stage != "base":
                    yield f"{family}-{stage}", temperature, top_p, "none", KINDS[:2]


def run(folder: Path, rounds: Iterable[int]) -> None:
    """Own passages, cell by cell, each stored when it is done."""
    readers: dict[str, Reader] = {}
    for round_number in rounds:
        for model, temperature, top_p, framing, kinds in cells():
            target = folder / f"own-{round_number}-{model}-{temperature}-{top_p}-{framing}.npz"
            if target.exists():
                continue
            if model not in readers:
                readers[model] = Reader.load(f"zoo:{model}")
            reader = readers[model]
            passages, kind_P = written(reader, temperature, top_p, framing, round_number, kinds)
            found: dict[str, Any] = {"kind": kind_P}
            reads = None
            for noise in NOISE:
                settings = Settings(temperature, top_p, noise=noise, framing=framing)
                # A nucleus is read as wide as the noise allows; without one the same reading serves both.
                reads, bets, lengths, greatest_P = judged(reader, passages, settings, None if top_p < 1 else reads)
                found |= {f"greatest_{noise}": greatest_P, "length": np.array(lengths)}
                order = range(len(lengths))
                found[f"stream_{noise}"] = stream_greatest(bets, lengths, order, 10**9)
                if noise == 0:
                    found |= {"curvature": curvatures(reads), "alarms": change_alarms(bets)}
                if round_number == 0 and (temperature, top_p) == (1.0, 1.0) and framing != "none":
                    rng = np.random.default_rng(0)
                    found[f"shuffled_{noise}"] = np.array(
                        [stream_greatest(bets, lengths, rng.permutation(len(lengths)), STREAM) for _ in range(SHUFFLES)]
                    )
            np.savez_compressed(target, **found)
            print(target.name, len(passages), flush=True)


# Sampler, its precision, reader, its precision.
NOISY = (
    ("ash-rl-int8", "fp32", "ash-rl", "fp32"),
    ("ash-rl", "fp32", "ash-rl-int8", "fp32"),
    *((model, "bf16", model, "fp32") for model in ("ash-rl", "ash-sft", "birch-rl", "cedar-sft")),
    *((model, "fp32", model, "bf16") for model in ("ash-rl", "ash-sft", "birch-rl", "cedar-sft")),
)
BUDGETS = (0.0, 0.01, 0.05)


def run_noise(folder: Path, rounds: Iterable[int]) -> None:
    """Text of a sampler that computes otherwise than the reader."""
    for round_number in rounds:
        for temperature, top_p in ((1.0, 1.0), (0.7, 0.9)):
            for author, a_type, model, r_type in NOISY:
                target = folder / f"noise-{round_number}-{author}-{a_type}-{model}-{r_type}-{temperature}-{top_p}.npz"
                if target.exists():
                    continue
                writer, reader = (
                    Reader.load(f"zoo:{name}", dtype=t) for name, t in ((author, a_type), (model, r_type))
                )
                passages, _ = written(writer, temperature, top_p, "assistant", round_number)
                found: dict[str, Any] = {}
                reads = None
                for noise in BUDGETS:
                    settings = Settings(temperature, top_p, noise=noise, framing="assistant")
                    reads, bets, lengths, greatest_P = judged(reader, passages, settings, None if top_p < 1 else reads)
                    found |= {f"greatest_{noise}": greatest_P, "length": np.array(lengths)}
                    order = range(len(lengths))
                    found[f"stream_{noise}"] = stream_greatest(bets, lengths, order, 10**9)
                    found[f"outside_{noise}"] = sum(int(np.isinf(read.null.surprisal_N).sum()) for read in reads)
                np.savez_compressed(target, **found)
                print(target.name, len(passages), flush=True)


# Foreign author, reader: other families and an own earlier stage.
PREFILLED = (
    ("birch-rl", "ash-rl"),
    ("ash-sft", "ash-rl"),
    ("cedar-sft", "ash-sft"),
    ("ash-rl", "birch-rl"),
    ("birch-sft", "cedar-sft"),
)
BEGUN = (4, 8, 16, 32)


def run_prefill(folder: Path, rounds: Iterable[int]) -> None:
    """Passages that begin with the first k tokens of a foreign one, which the reader then continues."""
    for round_number in rounds:
        for author, model in PREFILLED:
            target = folder / f"prefill-{round_number}-{author}-{model}.npz"
            if target.exists():
                continue
            writer, reader = Reader.load(f"zoo:{author}"), Reader.load(f"zoo:{model}")
            prompts = [*zoo.prompts(), *zoo.prompts(seen=True)]
            texts = sample(writer, prompts, max_new_tokens=110, seed=2700 + round_number, batch_size=512)
            begun, settings = [], Settings(noise=0.0, framing="assistant")
            # Each foreign text is used once: its k goes around.
            for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
                k = BEGUN[(i + round_number) % len(BEGUN)]
                # Families have tokenizers of their own, so that the text is what they share.
                ids = beginning_ids(reader.tokenizer, prompt, text.response, "assistant")
                if len(ids) > k:
                    begun.append((prompt, ids[:k]))
            passages = sample(
                reader,
                [prompt for prompt, _ in begun],
                beginnings={prompt.id: ids for prompt, ids in begun},
                max_new_tokens=110,
                seed=3700 + round_number,
                batch_size=512,
            )
            found: dict[str, Any] = {"k": np.array([len(ids) for _, ids in begun])}
            reads = None
            for noise in NOISE:
                reads, bets, lengths, greatest_P = judged(reader, passages, replace(settings, noise=noise), reads)
                found[f"greatest_{noise}"] = greatest_P
                for alpha in ALPHAS:
                    found[f"least_{noise}_{alpha}"] = np.array(
                        [fewest_foreign(b, -math.log(alpha)) for b in by_passage(bets, lengths)]
                    )
            np.savez_compressed(target, **found)
            print(target.name, len(passages), flush=True)


def wilson(count: float, n: int, z: float = 1.96) -> str:
    """A share with its 95 % interval by Wilson."""
    if not n:
        return "-"
    share = count / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n)))
    return f"{share:.4f} [{low:.4f}, {high:.4f}]"


def row(*entries: object) -> None:
    """One row of a Markdown table."""
    print("| " + " | ".join(str(entry) for entry in entries) + " |")


def header(*names: str) -> None:
    """Head of a Markdown table."""
    row(*names)
    print("|" + "---|" * len(names))


def tables(folder: Path) -> None:
    """All that is there, as Markdown."""
    own_tables(folder)
    noise_tables(folder)
    prefill_tables(folder)


def own_tables(folder: Path) -> None:
    """False alarms by cell and in all, streams and change alarms."""
    groups: dict[str, dict[str, list]] = {}
    streams: dict[float, list[float]] = {noise: [] for noise in NOISE}
    shuffled: dict[float, list[float]] = {noise: [] for noise in NOISE}
    alarms, tokens = 0, 0
    for path in sorted(folder.glob("own-*.npz")):
        found = np.load(path)
        _, family, stage, temperature, top_p, framing = path.stem.removeprefix("own-").split("-")
        alarms, tokens = alarms + int(found["alarms"]), tokens + int(found["length"].sum())
        kind_P = found["kind"]
        keys = [("in all", slice(None)), (f"family {family}", slice(None)), (f"stage {stage}", slice(None))]
        keys += [(f"temperature {temperature}, top-p {top_p}", slice(None)), (f"framing {framing}", slice(None))]
        keys += [(kind, kind_P == i) for i, kind in enumerate(KINDS)]
        for low, high in ((1, 8), (9, 24), (25, 64), (65, 200)):
            keys.append((f"{low} to {high} tokens", (found["length"] >= low) & (found["length"] <= high)))
        for key, of_P in keys:
            group = groups.setdefault(key, {})
            for name in ("greatest_0.0", "greatest_0.05", "curvature"):
                group.setdefault(name, []).append(found[name][of_P])
        for noise in NOISE:
            streams[noise].append(float(found[f"stream_{noise}"]))
            if f"shuffled_{noise}" in found:
                shuffled[noise] += found[f"shuffled_{noise}"].tolist()
    if not groups:
        return
    header("own passages", "n", *(f"noise {c:g}, at {a:g}" for c in NOISE for a in ALPHAS), "curvature 5 %", "1 %")
    sorts = ("in all", "family", "stage", "temperature", "framing", *KINDS, "1 ", "9 ", "25", "65")
    for key in sorted(groups, key=lambda k: (next(i for i, sort in enumerate(sorts) if k.startswith(sort)), k)):
        group = {name: np.concatenate(values) for name, values in groups[key].items()}
        n = len(group["curvature"])
        shares = [wilson(int((group[f"greatest_{c}"] >= -math.log(a)).sum()), n) for c in NOISE for a in ALPHAS]
        z_P = np.abs(group["curvature"])
        row(key, n, *shares, *(f"{(z_P > z).sum() / np.isfinite(z_P).sum():.4f}" for z in (1.96, 2.576)))
    print()
    header("streams of own text", "n", *(f"noise {c:g}, at {a:g}" for c in NOISE for a in ALPHAS))
    for name, of in (("fresh, one a cell", streams), ("shuffled", shuffled)):
        counts = [(np.array(of[c]) >= -math.log(a)).sum() for c in NOISE for a in ALPHAS]
        row(name, len(of[0.0]), *(wilson(int(count), len(of[0.0])) for count in counts))
    print(f"\nChange: {alarms} alarms in {tokens} own tokens; promised at most one in {RUN_LENGTH}.\n")


def noise_tables(folder: Path) -> None:
    """False alarms where sampler and reader compute otherwise."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in sorted(folder.glob("noise-*.npz")):
        found = np.load(path)
        name = path.stem.removeprefix("noise-").split("-", 1)[1]
        what, temperature, top_p = name.rsplit("-", 2)
        pair = "int8 sampler" if what.startswith("ash-rl-int8") else "int8 reader"
        if "bf16" in what:
            pair = "bf16 reader" if what.endswith("bf16") else "bf16 sampler"
        group = groups.setdefault((pair, f"{temperature}/{top_p}"), {})
        for c in BUDGETS:
            group.setdefault(f"greatest_{c}", []).append(found[f"greatest_{c}"])
            group.setdefault(f"stream_{c}", []).append(float(found[f"stream_{c}"]))
        group["outside"] = group.get("outside", 0) + int(found["outside_0.0"])
        group["tokens"] = group.get("tokens", 0) + int(found["length"].sum())
    if not groups:
        return
    shares = [f"noise {c:g}, at {a:g}" for c in BUDGETS for a in ALPHAS]
    header("noise", "T/top-p", "n", *shares, "tokens outside at 0", "streams >= 20", "streams")
    for (pair, setting), group in sorted(groups.items()):
        greatest = {c: np.concatenate(group[f"greatest_{c}"]) for c in BUDGETS}
        n = len(greatest[0.0])
        counts = [wilson(int((greatest[c] >= -math.log(a)).sum()), n) for c in BUDGETS for a in ALPHAS]
        over = "/".join(str(sum(s >= math.log(20) for s in group[f"stream_{c}"])) for c in BUDGETS)
        row(pair, setting, n, *counts, f"{group['outside']} of {group['tokens']}", over, len(group["stream_0.0"]))
    print()


def prefill_tables(folder: Path) -> None:
    """Share of right statements about the beginning, and how often anything is said."""
    groups: dict[str, list] = {}
    for path in sorted(folder.glob("prefill-*.npz")):
        found = dict(np.load(path))
        author_model = path.stem.removeprefix("prefill-").split("-", 1)[1]
        author, model = "-".join(author_model.split("-")[:2]), "-".join(author_model.split("-")[2:])
        groups.setdefault("in all", []).append(found)
        groups.setdefault(f"{author} begins, {model} continues", []).append(found)
        for k in BEGUN:
            of_P = found["k"] == k
            groups.setdefault(f"k = {k}", []).append({name: values[of_P] for name, values in found.items()})
    if not groups:
        return
    columns = [f"{what}, noise {c:g}" for c in NOISE for what in ("right at .05", "right at .01", "noticed at .05")]
    header("prefilled", "n", *columns, "median `at_least` where noticed (noise 0)")
    for key, parts in groups.items():
        found = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        n, entries = len(found["k"]), []
        for c in NOISE:
            entries += [wilson(int((found[f"least_{c}_{a}"] <= found["k"]).sum()), n) for a in ALPHAS]
            entries.append(wilson(int((found[f"least_{c}_0.05"] > 0).sum()), n))
        noticed = found["least_0.0_0.05"][found["least_0.0_0.05"] > 0]
        row(key, n, *entries, f"{np.median(noticed):.0f}" if len(noticed) else "-")
    print()


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    chosen = [int(argument) for argument in sys.argv[3:]] or range(7 if what == "prefill" else 3)
    if what == "run":
        run(where, chosen)
    elif what == "noise":
        run_noise(where, chosen)
    elif what == "prefill":
        run_prefill(where, chosen)
    else:
        tables(where)
