"""What does the output head cost? Ours against the bare matrix product, plain PyTorch and TRL.

`python -m benchmarks.head [--quick] [--rounds N]` times each way of getting from hidden states to per-token statistics
in turns, measures its peak memory in a fresh process and its error against float64, and writes results/head.md and
head.json. Three shapes: a small and a large real vocabulary, and a small model's, where the product is cheap and
everything else shows. Random hidden states and weights; the spread of the logits runs from 0.5 to 6 over the rows, so
that entropies run from nearly log V to a tenth of a nat.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.side_by_side import Table, extra_mib, installed, publish, race
from enaction.reader import Wanted
from enaction.reader.head import Head
from enaction.reader.measuring import measure

BETAS = (0.5, 0.75, 1.25, 1.5, 2.0)
# Rows, hidden, vocabulary.
CASES = {"V = 49,152": (1024, 576, 49_152), "V = 151,936": (512, 896, 151_936), "V = 2,000": (2048, 128, 2000)}
# Rounds that make a case take about a minute; the small one can have many.
ROUNDS = {"V = 49,152": 7, "V = 151,936": 5, "V = 2,000": 60}
ABOUT = (
    "From hidden states to statistics of each position, float32 on one thread. Time is process CPU time, ways by "
    "turns, as a ratio of medians to the bare product (range: fastest and slowest round); memory is the peak beyond "
    "inputs and warm-up, outputs included, in a fresh process; errors are the largest against float64. s is surprisal, "
    "H entropy, V varentropy, nats and nats^2; the grid is log sum p^beta for beta " + ", ".join(map(str, BETAS)) + "."
)


@dataclass(frozen=True)
class Inputs:
    """Hidden states [N, D], the output matrix [V, D], and the tokens that came [N]."""

    hidden_ND: Tensor
    weight_VD: Tensor
    targets_N: Tensor


Way = Callable[[Inputs], dict[str, Tensor]]


def make_inputs(rows: int, hidden: int, vocabulary: int) -> Inputs:
    """Logits of row i have standard deviation 0.5 + 5.5 i / N."""
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(rows, hidden, generator=generator) / hidden**0.5
    return Inputs(
        hidden_ND * torch.linspace(0.5, 6, rows)[:, None],
        torch.randn(vocabulary, hidden, generator=generator),
        torch.randint(vocabulary, (rows,), generator=generator),
    )


def bare_product(inputs: Inputs) -> dict[str, Tensor]:
    for hidden_ND in inputs.hidden_ND.split(128):
        _ = hidden_ND @ inputs.weight_VD.T
    return {}


def ours(wanted: Wanted | None) -> Way:
    def way(inputs: Inputs) -> dict[str, Tensor]:
        vocabulary, hidden = inputs.weight_VD.shape
        with torch.device("meta"):
            matrix = nn.Linear(hidden, vocabulary, bias=False)
        matrix.weight = nn.Parameter(inputs.weight_VD, requires_grad=False)
        head = Head(nn.Identity(), matrix, 1.0, None)
        index_N = torch.arange(len(inputs.targets_N))
        return measure(head, inputs.hidden_ND, index_N, inputs.targets_N, vocabulary, wanted)

    return way


def log_softmax(inputs: Inputs) -> dict[str, Tensor]:
    logprob_NV = torch.log_softmax(inputs.hidden_ND @ inputs.weight_VD.T, 1)
    surprisal_N = -logprob_NV.gather(1, inputs.targets_N[:, None]).squeeze(1)
    return {"surprisal": surprisal_N, "entropy": -(logprob_NV.exp() * logprob_NV).sum(1)}


def trl_whole(inputs: Inputs) -> dict[str, Tensor]:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    logits_NV = inputs.hidden_ND @ inputs.weight_VD.T
    return {
        "surprisal": -selective_log_softmax(logits_NV, inputs.targets_N),
        "entropy": entropy_from_logits(logits_NV),
    }


def trl_chunked(chunk: int) -> Way:
    def way(inputs: Inputs) -> dict[str, Tensor]:
        from trl.kernels import ChunkedLogProbFunction

        logprob_N, entropy_N, *_ = ChunkedLogProbFunction.apply(
            inputs.hidden_ND, inputs.weight_VD, None, inputs.targets_N, 1.0, chunk, None, 1.0, ("entropy",)
        )
        return {"surprisal": -logprob_N, "entropy": entropy_N}

    return way


def linear_cross_entropy(inputs: Inputs) -> dict[str, Tensor]:
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=128, chunking_method=None)
    loss_N = functional.linear_cross_entropy(
        inputs.hidden_ND, inputs.weight_VD, inputs.targets_N, reduction="none", options=options
    )
    return {"surprisal": loss_N}


def ways() -> dict[str, tuple[str, Way]]:
    """What each way gives, and the way; the baseline first."""
    found: dict[str, tuple[str, Way]] = {
        "bare product, 128 rows at a time": ("", bare_product),
        "enaction": ("s, H, V, rank", ours(None)),
        "enaction, with the grid": ("s, H, V, rank, top p, grid", ours(Wanted(betas=BETAS))),
        "whole logits, log_softmax": ("s, H", log_softmax),
    }
    if installed("trl"):
        found["TRL, whole logits"] = ("s, H", trl_whole)
        found["TRL chunked, chunk 1024"] = ("s, H", trl_chunked(1024))
        found["TRL chunked, its default"] = ("s, H", trl_chunked(32_768))
    if hasattr(functional, "linear_cross_entropy"):
        found["linear_cross_entropy, 128 rows"] = ("s", linear_cross_entropy)
    return found


@dataclass(frozen=True)
class HeadTable(Table):
    """Times of `race`, memory of fresh processes, what each way gives and its errors."""

    gives: dict[str, str]
    errors: dict[str, dict[str, float]]

    def markdown(self) -> str:
        lines = [
            f"### {self.title}\n\n{self.note}\n",
            "| way | gives | time / bare product | extra MiB | error s | H | V | grid |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            times = f"**{1 / row.speed:.2f}** [{1 / row.fastest:.2f}, {1 / row.slowest:.2f}]"
            errors = [self.errors[row.name].get(k) for k in ("surprisal", "entropy", "varentropy", "power_sums")]
            shown = " | ".join("" if error is None else f"{error:.1e}" for error in errors)
            extra = "" if row.extra_mib is None else f"{row.extra_mib:.1f}"
            lines.append(f"| {row.name} | {self.gives[row.name]} | {times} | {extra} | {shown} |")
        return "\n".join(lines) + "\n"


def compare(title: str, shape: tuple[int, int, int], rounds: int) -> HeadTable:
    found = ways()
    note = "{:,} rows, hidden {:,}, vocabulary {:,}.".format(*shape)
    # First, while this process does not hold inputs of its own.
    memory = {name: extra_memory(name, shape) for name in found}
    inputs = make_inputs(*shape)
    table = race(title, note, {name: partial(way, inputs) for name, (_, way) in found.items()}, rounds)
    errors = largest_errors(inputs, {name: way(inputs) for name, (_, way) in found.items()})
    gives = {name: gives for name, (gives, _) in found.items()}
    rows = [replace(row, extra_mib=memory[row.name]) for row in table.rows]
    table = HeadTable(table.title, table.note, rows, gives, errors)
    print(table.markdown(), flush=True)
    return table


def largest_errors(inputs: Inputs, got: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, float]]:
    """Of each way and statistic, against the definitions in float64."""
    errors: dict[str, dict[str, float]] = {name: {} for name in got}
    weight_DV = inputs.weight_VD.double().T
    for begin in range(0, len(inputs.targets_N), 64):
        rows = slice(begin, begin + 64)
        logprob_NV = torch.log_softmax(inputs.hidden_ND[rows].double() @ weight_DV, 1)
        p_NV = logprob_NV.exp()
        entropy_N = -(p_NV * logprob_NV).sum(1)
        exact = {
            "surprisal": -logprob_NV.gather(1, inputs.targets_N[rows, None]).squeeze(1),
            "entropy": entropy_N,
            "varentropy": (p_NV * (logprob_NV + entropy_N[:, None]).square()).sum(1),
            "power_sums": torch.stack([(logprob_NV * beta).exp().sum(1).log() for beta in BETAS], 1),
        }
        for name, columns in got.items():
            for statistic in exact.keys() & columns.keys():
                error = float((columns[statistic][rows].double() - exact[statistic]).abs().max())
                errors[name][statistic] = max(error, errors[name].get(statistic, 0.0))
    return errors


def extra_memory(name: str, shape: tuple[int, int, int]) -> float | None:
    """Peak MiB of one run beyond what was there before, in a process of its own; None where Linux does not tell."""
    command = [sys.executable, "-m", "benchmarks.head", "--memory", name, *map(str, shape)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    return None if printed == "None" else float(printed)


def print_extra_memory(name: str, shape: tuple[int, int, int]) -> None:
    inputs, (_, way) = make_inputs(*shape), ways()[name]
    way(Inputs(inputs.hidden_ND[:2], inputs.weight_VD[:4096], inputs.targets_N[:2] % 2000))  # loads what is loaded late
    print(extra_mib(partial(way, inputs)))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rows and 3 rounds; nothing is written")
    parser.add_argument("--rounds", type=int, help="of each case; by default some minutes in all")
    parser.add_argument("--memory", nargs=4, metavar=("WAY", "ROWS", "HIDDEN", "VOCABULARY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        name, *shape = options.memory
        print_extra_memory(name, (int(shape[0]), int(shape[1]), int(shape[2])))
        return
    tables = []
    for title, (rows, hidden, vocabulary) in CASES.items():
        if options.quick:
            tables.append(compare(title, (rows // 4, hidden, vocabulary), options.rounds or 3))
        else:
            tables.append(compare(title, (rows, hidden, vocabulary), options.rounds or ROUNDS[title]))
    if not options.quick:
        publish("head", ABOUT, tables)


if __name__ == "__main__":
    main()
