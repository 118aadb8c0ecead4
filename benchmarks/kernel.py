"""What does the output head cost on a GPU? The Triton kernel against the bare matrix product, torch and Liger.

`python -m benchmarks.kernel [--tune] [--rounds N]` on a machine with CUDA times each way of getting from hidden states
to per-token statistics in turns, by CUDA events, then `Reader.score` on whole models with random weights against their
bare bodies, and writes results/kernel.md and kernel.json. `--tune` times every tiling of
`enaction.reader.kernel.TILINGS` for each shape instead, and writes nothing: put the best first there.
The goal is 1.3 times the bare product.
"""

# pyright: reportMissingImports=false
# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.head import BETAS
from benchmarks.side_by_side import Row, Table, installed, publish
from enaction.framing import Framed
from enaction.reader import Reader, Wanted, measuring
from enaction.reader.batching import CPU, GPU, batches
from enaction.reader.head import Head, HeadLogits
from enaction.reader.streaming import block_rows, stream

# Rows, hidden, vocabulary: a small model and large ones.
CASES = {
    "SmolLM2 135M": (4096, 576, 49_152),
    "Qwen 2.5 1.5B": (4096, 1536, 151_936),
    "Llama 3 8B": (4096, 4096, 128_256),
    "Gemma 3 27B": (2048, 5376, 262_144),
}
# Llamas with random weights: hidden, of the MLP, layers, heads, heads of keys, vocabulary.
MODELS = {
    "SmolLM2 135M": (576, 1536, 30, 9, 3, 49_152),
    "Llama 3.2 1B": (2048, 8192, 16, 32, 8, 128_256),
}
TEXTS, TOKENS = 64, 512
PROMPTS, RESPONSES = 32, 8
BUDGETS = (CPU.token_budget, 4096, GPU.token_budget)
CHECKED_ROWS = 64
ABOUT = (
    "From hidden states and weights in bfloat16 to statistics of each position, on {device}. Time is between CUDA "
    "events, ways by turns with the level-2 cache overwritten before each, as a ratio of medians to the bare product "
    "(range: fastest and slowest round); memory is the peak beyond inputs; errors are the largest against float64 over "
    "{rows} rows, from products that are rounded to bfloat16 where the model's own forward rounds them (Liger does not "
    "round). s is surprisal, H entropy, V varentropy, nats and nats^2; the grid is log sum p^beta for beta {betas}. "
    "Versions beside those below: {versions}."
)
FLUSHED = 2**28  # bytes

Way = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class KernelTable(Table):
    """Seconds of CUDA events, with what each way gives and its errors."""

    gives: dict[str, str]
    errors: dict[str, dict[str, float]]

    def markdown(self) -> str:
        lines = [
            f"### {self.title}\n\n{self.note}\n",
            "| way | gives | ms | time / bare product | extra MiB | error s | H | V |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            ratio = f"**{1 / row.speed:.2f}** [{1 / row.fastest:.2f}, {1 / row.slowest:.2f}]"
            errors = [self.errors[row.name].get(k) for k in ("surprisal", "entropy", "varentropy")]
            shown = " | ".join("" if error is None else f"{error:.1e}" for error in errors)
            time = f"{1000 * row.seconds:.3f} | {ratio} | {row.extra_mib:.0f}"
            lines.append(f"| {row.name} | {self.gives[row.name]} | {time} | {shown} |")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class ReadingTable(Table):
    """Seconds from ids to arrays on the host, and how many tokens were read in them."""

    tokens: int

    def markdown(self) -> str:
        lines = [
            f"### {self.title}\n\n{self.note}\n",
            "| way | ms | time / body alone | tokens a second | extra MiB |",
            "|---|---|---|---|---|",
        ]
        for row in self.rows:
            ratio = f"**{1 / row.speed:.2f}** [{1 / row.fastest:.2f}, {1 / row.slowest:.2f}]"
            speed = f"{self.tokens / row.seconds:,.0f} | {row.extra_mib:.0f}"
            lines.append(f"| {row.name} | {1000 * row.seconds:.1f} | {ratio} | {speed} |")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Inputs:
    """Hidden states [N, D] and the head in bfloat16, and the tokens that came [N], on the device."""

    hidden_ND: Tensor
    head: Head
    weight_VD: Tensor
    targets_N: Tensor


def make_inputs(rows: int, hidden: int, vocabulary: int) -> Inputs:
    """Logits of row i have standard deviation 0.5 + 5.5 i / N."""
    generator = torch.Generator("cuda").manual_seed(0)
    hidden_ND = torch.randn(rows, hidden, generator=generator, device="cuda") / hidden**0.5
    hidden_ND *= torch.linspace(0.5, 6, rows, device="cuda")[:, None]
    weight_VD = torch.randn(vocabulary, hidden, generator=generator, device="cuda", dtype=torch.bfloat16)
    matrix = nn.Linear(hidden, vocabulary, bias=False, device="meta")
    matrix.weight = nn.Parameter(weight_VD, requires_grad=False)
    targets_N = torch.randint(vocabulary, (rows,), generator=generator, device="cuda")
    return Inputs(hidden_ND.bfloat16(), Head(nn.Identity(), matrix, 1.0, None), weight_VD, targets_N)


def bare(inputs: Inputs) -> dict[str, Tensor]:
    """The product alone; it gives nothing."""
    _ = inputs.hidden_ND @ inputs.weight_VD.T  # the allocator keeps its memory for the next round
    return {}


def ways(inputs: Inputs) -> dict[str, tuple[str, Way]]:
    """What each way gives, and the way; the baseline first."""
    from enaction.reader.kernel import statistics_of

    hidden_ND, weight_VD, targets_N = inputs.hidden_ND, inputs.weight_VD, inputs.targets_N
    (rows, hidden), vocabulary = hidden_ND.shape, len(weight_VD)

    def fused(wanted: Wanted | None) -> Way:
        return lambda: statistics_of(inputs.head, hidden_ND, targets_N, vocabulary, wanted)

    def by_torch() -> dict[str, Tensor]:
        return stream(
            lambda block: HeadLogits(inputs.head, hidden_ND[block]),
            targets_N,
            vocabulary,
            Wanted(betas=BETAS),
            rows=block_rows(rows, hidden, vocabulary),
        )

    def liger() -> dict[str, Tensor]:
        from liger_kernel.ops.fused_linear_scaled_cross_entropy import LigerFusedLinearScaledCrossEntropyFunction

        surprisal_N, entropy_N = LigerFusedLinearScaledCrossEntropyFunction.apply(
            hidden_ND, weight_VD, targets_N, return_entropy=True
        )
        return {"surprisal": surprisal_N, "entropy": entropy_N}

    found: dict[str, tuple[str, Way]] = {
        "bare product": ("", partial(bare, inputs)),
        "enaction": ("s, H, V, rank", fused(None)),
        "enaction, with the grid": ("s, H, V, rank, top p, grid", fused(Wanted(betas=BETAS))),
        "enaction, torch path": ("s, H, V, rank, top p, grid", by_torch),
    }

    def liger_surprisal() -> dict[str, Tensor]:
        from liger_kernel.ops import LigerFusedLinearCrossEntropyFunction

        given = (hidden_ND, weight_VD, targets_N, None, None, -100, 0.0, 0.0, "none")
        return {"surprisal": LigerFusedLinearCrossEntropyFunction.apply(*given)[0]}

    peers = {
        "Liger, fused linear scaled cross entropy": ("s, H", liger),
        "Liger, fused linear cross entropy": ("s", liger_surprisal),
    }
    for name, (gives, way) in peers.items() if installed("liger_kernel") else ():
        try:
            way()
            found[name] = (gives, way)
        except Exception as e:  # its kernels are for some devices and shapes, and need packages of their own
            print(f"{name} is left out: {e!r}")
    return found


def tilings(inputs: Inputs) -> dict[str, Way]:
    """The kernel with the grid by each tiling there is for it, behind the baseline."""
    from enaction.reader.kernel import Tiling, statistics_of, tilings_for

    wanted = Wanted(betas=BETAS)

    def by(tiling: Tiling) -> Way:
        return lambda: statistics_of(
            inputs.head, inputs.hidden_ND, inputs.targets_N, len(inputs.weight_VD), wanted, tiling
        )

    found: dict[str, Way] = {"bare product": partial(bare, inputs)}
    return found | {str(tuple(tiling)): by(tiling) for tiling in tilings_for(inputs.head, wanted)}


def race(found: Mapping[str, Callable[[], object]], rounds: int) -> list[Row]:
    """Time each way `rounds` times, by turns, after three rounds to compile and to warm up."""
    extra = {name: extra_mib(way) for name, way in found.items()}
    seconds: dict[str, list[float]] = {name: [] for name in found}
    flushed = torch.empty(FLUSHED, dtype=torch.int8, device="cuda")
    for number in range(rounds + 3):
        for name, way in found.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flushed.zero_()
            begin.record()
            way()
            end.record()
            torch.cuda.synchronize()
            if number >= 3:
                seconds[name].append(begin.elapsed_time(end) / 1000)
    base = statistics.median(next(iter(seconds.values())))
    return [
        Row(name, statistics.median(s), base / statistics.median(s), base / max(s), base / min(s), rounds, extra[name])
        for name, s in seconds.items()
    ]


def extra_mib(way: Callable[[], object]) -> float:
    """Peak MiB of one run beyond what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def largest_errors(inputs: Inputs, got: dict[str, Tensor]) -> dict[str, float]:
    """Of each statistic, against the definitions in float64, over rows from all over."""
    row_M = torch.linspace(0, len(inputs.targets_N) - 1, CHECKED_ROWS, device="cuda").long()
    hidden_MD = inputs.hidden_ND[row_M].double()
    product_MV = torch.cat([hidden_MD @ part_VD.double().T for part_VD in inputs.weight_VD.split(16_384)], 1)
    logprob_MV = torch.log_softmax(product_MV.to(inputs.hidden_ND.dtype).double(), 1)
    p_MV = logprob_MV.exp()
    entropy_M = -(p_MV * logprob_MV).sum(1)
    exact = {
        "surprisal": -logprob_MV.gather(1, inputs.targets_N[row_M, None]).squeeze(1),
        "entropy": entropy_M,
        "varentropy": (p_MV * (logprob_MV + entropy_M[:, None]).square()).sum(1),
    }
    return {
        name: float((got[name][row_M].double() - value).abs().max()) for name, value in exact.items() if name in got
    }


def compare(title: str, shape: tuple[int, int, int], rounds: int) -> KernelTable:
    inputs = make_inputs(*shape)
    found = ways(inputs)
    errors = {name: largest_errors(inputs, way()) for name, (_, way) in found.items()}
    rows = race({name: way for name, (_, way) in found.items()}, rounds)
    note = "{:,} rows, hidden {:,}, vocabulary {:,}.".format(*shape)
    table = KernelTable(title, note, rows, {name: gives for name, (gives, _) in found.items()}, errors)
    print(table.markdown(), flush=True)
    return table


def separate_texts(vocabulary: int) -> list[Framed]:
    """Texts of one length."""
    ids_BT = torch.randint(vocabulary, (TEXTS, TOKENS), generator=torch.Generator().manual_seed(0))
    return [Framed(tuple(ids), 1, TOKENS, has_end=False) for ids in ids_BT.tolist()]


def responses(vocabulary: int) -> list[Framed]:
    """A study's own work: several responses of 60 to 180 tokens to each prompt of 24 to 64."""
    rng = np.random.default_rng(0)
    framed = []
    for _ in range(PROMPTS):
        prompt = rng.integers(vocabulary, size=rng.integers(24, 65)).tolist()
        for _ in range(RESPONSES):
            ids = (*prompt, *rng.integers(vocabulary, size=rng.integers(60, 181)).tolist())
            framed.append(Framed(ids, len(prompt), len(ids), has_end=False))
    return framed


def make_reader(title: str, shape: tuple[int, int, int, int, int, int]) -> Reader:
    """A model with random weights in bfloat16, which is never given text."""
    hidden, inner, layers, heads, key_heads, vocabulary = shape
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=TOKENS,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).bfloat16().eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"w": 0}, unk_token="w")))
    return Reader(model, tokenizer, name=title)


def read(reader: Reader, what: str, framed: list[Framed], rounds: int) -> ReadingTable:
    """`Reader.score` against the model's bare body."""
    assert reader.head is not None
    body, matrix = reader.head.body, reader.head.matrix
    planned = list(batches(framed, list(range(len(framed))), GPU.token_budget, batch_cost=GPU.batch_cost))

    def run(*, has_head: bool) -> None:
        for batch in planned:
            ids_BT = torch.zeros(len(batch), framed[batch[0]].stop - 1, dtype=torch.long)
            for row, i in enumerate(batch):
                ids_BT[row, : framed[i].stop - 1] = torch.tensor(framed[i].ids[:-1])
            hidden_MD = body(input_ids=ids_BT.to("cuda"), use_cache=False).last_hidden_state.flatten(0, 1)
            if has_head:
                spans = [(row * ids_BT.shape[1] - 1, framed[i]) for row, i in enumerate(batch)]
                index = [before + t for before, f in spans for t in range(f.start, f.stop)]
                for part_N in torch.tensor(index, device="cuda").split(4096):
                    matrix(hidden_MD[part_N])
        torch.cuda.synchronize()

    def by_torch() -> None:
        taken, measuring._kernel = measuring._kernel, lambda *_: None
        try:
            reader.score(framed)
        finally:
            measuring._kernel = taken

    found: dict[str, Callable[[], object]] = {
        "body alone": partial(run, has_head=False),
        "body and bare product": partial(run, has_head=True),
    }
    for budget in BUDGETS:
        found[f"Reader.score, {budget:,} tokens a batch"] = partial(reader.score, framed, token_budget=budget)
    found["Reader.score by the torch path"] = by_torch
    parameters = sum(p.numel() for p in reader.model.parameters()) / 1e6
    scored = sum(f.stop - f.start for f in framed)
    note = (
        f"{len(framed)} texts, {scored:,} scored random tokens; {parameters:,.0f}M parameters at random in bfloat16, "
        f"attention {reader.model.config._attn_implementation}; from ids to arrays on the host, and the bare rows in "
        f"batches of {BUDGETS[-1]:,} tokens. Rounds: {rounds}."
    )
    table = ReadingTable(f"{reader.name}, whole: {what}", note, race(found, rounds), scored)
    print(table.markdown(), flush=True)
    return table


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="time all tilings of the kernel; nothing is written")
    parser.add_argument("--rounds", type=int, default=20, help="of each way and shape")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "the kernel's benchmark needs a CUDA device, and torch finds none here; "
            "`python -m benchmarks.head` measures the output head on a CPU"
        )
    if not installed("triton"):
        sys.exit("the kernel needs Triton, which comes with torch for CUDA on Linux: pip install triton")
    if options.tune:
        for title, shape in CASES.items():
            print("{}: {:,} rows, hidden {:,}, vocabulary {:,}".format(title, *shape))
            for row in race(tilings(make_inputs(*shape)), options.rounds):
                print(f"  {row.name}: {1000 * row.seconds:.3f} ms, {1 / row.speed:.2f}", flush=True)
        return
    tables: list[Table] = [compare(title, shape, options.rounds) for title, shape in CASES.items()]
    for title, shape in MODELS.items():
        reader, vocabulary = make_reader(title, shape), shape[-1]
        for what, framed in (("texts", separate_texts(vocabulary)), ("responses", responses(vocabulary))):
            tables.append(read(reader, what, framed, max(3, options.rounds // 4)))
    peers = [name for name in ("triton", "liger-kernel") if installed(name.replace("-", "_"))]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in peers]
    about = ABOUT.format(
        device=torch.cuda.get_device_name(),
        rows=CHECKED_ROWS,
        betas=", ".join(str(beta) for beta in BETAS),
        versions=", ".join([f"CUDA {torch.version.cuda}", *versions]),
    )
    publish("kernel", about, tables)


if __name__ == "__main__":
    main()
