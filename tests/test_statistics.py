"""Statistics of rows of logits against their definitions in float64: every kind of row, head and tile."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from enaction.errors import UserError
from enaction.reader import TokenStats, Wanted, token_statistics
from enaction.reader.head import Head, HeadLogits
from enaction.reader.streaming import MOST_ROWS, TILE, WholeLogits, block_rows, stream
from enaction.reader.truncated import FIRST_GUESS, truncated

BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.75, 3.0, 0.25, 0.1, 1.3)
EVERYTHING = Wanted(betas=BETAS, likeliest=3, temperature=0.7)

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "flat": torch.zeros_like,
    "plain": lambda x_NV: 3 * x_NV,
    "confident": lambda x_NV: 60 * x_NV,
    "far from zero": lambda x_NV: 3 * x_NV + 9e3,
    "huge": lambda x_NV: 1e4 * x_NV.clamp(-1, 1),
    "ties": lambda x_NV: (2 * x_NV).round(),
    "ruled out": lambda x_NV: x_NV.masked_fill(x_NV < 0.2, -torch.inf),
    "almost ruled out": lambda x_NV: x_NV.masked_fill(x_NV < 0.2, -1e38),
}


@st.composite
def rows_of_logits(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """float32 logits [N, V] of one kind, and targets [N]; every row has a finite logit."""
    rows, vocabulary = draw(st.integers(1, 9)), draw(st.integers(1, 70))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits_NV = KINDS[draw(st.sampled_from(sorted(KINDS)))](torch.randn(rows, vocabulary, generator=generator))
    targets_N = torch.randint(vocabulary, (rows,), generator=generator)
    finite_N = torch.randint(vocabulary, (rows,), generator=generator)
    logits_NV[torch.arange(rows), finite_N] = logits_NV[torch.arange(rows), finite_N].clamp(min=-2e4)
    return logits_NV, targets_N


def oracle(logits_NV: Tensor, targets_N: Tensor) -> dict[str, Tensor]:
    """Surprisal, entropy, varentropy and rank by their definitions, float64, of a distribution over whole rows."""
    logprob_NV = torch.log_softmax(logits_NV.double(), 1)
    p_NV = logprob_NV.exp()
    # Where p is 0 the term is 0.
    information_NV = torch.where(p_NV > 0, -logprob_NV, 0)
    entropy_N = (p_NV * information_NV).sum(1)
    target_N1 = targets_N[:, None]
    return {
        "surprisal": -logprob_NV.gather(1, target_N1).squeeze(1),
        "entropy": entropy_N,
        "varentropy": (p_NV * (information_NV - entropy_N[:, None]) ** 2).sum(1),
        "rank": (logits_NV > logits_NV.gather(1, target_N1)).sum(1),
    }


def everything(logits_NV: Tensor, targets_N: Tensor, wanted: Wanted = EVERYTHING) -> dict[str, Tensor]:
    """The oracle of all statistics but the listed tokens, which may be tied."""
    logprob_NV = torch.log_softmax(logits_NV.double(), 1)
    likeliest_NL = logprob_NV.topk(min(wanted.likeliest, logits_NV.shape[1]), 1).values
    tempered = oracle(logits_NV.double() / wanted.temperature, targets_N)
    return oracle(logits_NV, targets_N) | {
        "top_probability": logprob_NV.amax(1).exp(),
        "power_sums": torch.stack([torch.logsumexp(beta * logprob_NV, 1) for beta in wanted.betas], 1),
        "likeliest_logprobs": likeliest_NL,
        "tail_mass": 1 - likeliest_NL.exp().sum(1),
        "sampled_surprisal": tempered["surprisal"],
        "sampled_entropy": tempered["entropy"],
        "sampled_varentropy": tempered["varentropy"],
        "kept_mass": torch.ones(len(logits_NV)),
    }


def streamed(
    logits_NV: Tensor, targets_N: Tensor, wanted: Wanted | None = None, *, rows: int, columns: int | None = None
) -> dict[str, Tensor]:
    vocabulary = logits_NV.shape[1]
    return stream(
        lambda block: WholeLogits(logits_NV[block]), targets_N, vocabulary, wanted, rows=rows, columns=columns
    )


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-5) -> None:
    for name, value in expected.items():
        if name == "rank":
            assert torch.equal(got[name], value.int())
        else:
            slack = 5 * atol if "varentropy" in name else atol
            torch.testing.assert_close(got[name].double(), value.double(), atol=slack, rtol=1e-5, msg=name)


@settings(max_examples=200, deadline=None)
@given(rows_of_logits(), st.integers(1, 80), st.integers(1, 10))
def test_every_statistic_equals_its_definition_whatever_the_tile(
    given_rows: tuple[Tensor, Tensor], columns: int, rows: int
) -> None:
    logits_NV, targets_N = given_rows
    before_NV = logits_NV.clone()
    got = streamed(logits_NV, targets_N, EVERYTHING, rows=rows, columns=columns)
    assert torch.equal(logits_NV, before_NV)
    assert_close(got, everything(logits_NV, targets_N))
    # Tied tokens may be listed in any order, but each with its own probability and none twice.
    logprob_NV = torch.log_softmax(logits_NV.double(), 1)
    ids_NL = got["likeliest_ids"].long()
    torch.testing.assert_close(got["likeliest_logprobs"].double(), logprob_NV.gather(1, ids_NL), atol=1e-5, rtol=1e-5)
    assert all(len(set(row)) == len(row) for row in ids_NL.tolist())


@pytest.mark.parametrize("vocabulary", [7, 458, 5000])
@pytest.mark.parametrize("spread", [0.0, 0.5, 6.0, 40.0])
def test_statistics_equal_their_definitions_in_float64(vocabulary: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits_NV = 20 + spread * torch.randn(64, vocabulary, generator=generator)
    targets_N = torch.randint(vocabulary, (64,), generator=generator)
    got = token_statistics(logits_NV, targets_N)
    assert got.dtype == torch.float32
    names = ("surprisal", "entropy", "varentropy", "rank")
    assert_close(dict(zip(names, got, strict=True)), oracle(logits_NV, targets_N))


def test_a_tiny_varentropy_is_not_lost_to_cancellation() -> None:
    """A confident row far from zero: the mean of squares less the square of the mean would be noise, or negative."""
    logits_NV = torch.full((1, 1000), 500.0)
    logits_NV[0, 3] = 530.0
    expected = oracle(logits_NV, torch.tensor([3]))
    for columns in (1000, 300, 1):
        got = streamed(logits_NV, torch.tensor([3]), rows=1, columns=columns)
        torch.testing.assert_close(got["entropy"].double(), expected["entropy"], rtol=0.05, atol=0.0)
        torch.testing.assert_close(got["varentropy"].double(), expected["varentropy"], rtol=1e-4, atol=0.0)


def test_tokens_that_a_model_rules_out_leave_the_statistics_finite() -> None:
    for low in (float("-inf"), torch.finfo(torch.float32).min):
        logits_NV = torch.tensor([[1.0, 1.0, low, low]])
        surprisal, entropy, varentropy, rank = token_statistics(logits_NV, torch.tensor([1]))[:, 0].tolist()
        assert surprisal == pytest.approx(np.log(2), abs=1e-6)
        assert entropy == pytest.approx(np.log(2), abs=1e-6)
        assert varentropy == pytest.approx(0, abs=1e-6)
        assert rank == 0
        assert token_statistics(logits_NV, torch.tensor([2]))[0].item() > 1e38 or low == float("-inf")
    with pytest.raises(ValueError, match="float32"):
        token_statistics(torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_not_hidden(bad: float) -> None:
    logits_NV = torch.randn(2, 50)
    logits_NV[1, slice(None) if bad == float("-inf") else 30] = bad  # only -inf: nothing is possible
    for columns in (50, 8):
        got = streamed(logits_NV, torch.tensor([4, 4]), EVERYTHING, rows=2, columns=columns)
        for name in ("surprisal", "entropy", "varentropy", "top_probability", "sampled_entropy"):
            assert got[name][0].isfinite()
            assert got[name][1].isnan()
    got = truncated(logits_NV.clone(), torch.tensor([4, 4]), Wanted(top_k=20, top_p=0.8))
    assert got["sampled_entropy"][0].isfinite()
    assert got["sampled_entropy"][1].isnan()


# Heads: bias, scale, soft cap and half precision, against whole logits of the same head.
HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.3},
    "soft cap": {"softcap": 5.0},
    "all": {"bias": True, "scale": 1.7, "softcap": 4.0},
    "bfloat16": {"dtype": torch.bfloat16},
    "bfloat16, all": {"dtype": torch.bfloat16, "bias": True, "scale": 1.7, "softcap": 4.0},
}


def make_head(
    vocabulary: int,
    hidden: int = 24,
    *,
    bias: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Head:
    matrix = nn.Linear(hidden, vocabulary, bias=bias, dtype=dtype)
    nn.init.normal_(matrix.weight)
    if bias:
        nn.init.normal_(matrix.bias)
    return Head(nn.Identity(), matrix, scale, softcap)


@torch.inference_mode()
@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 700), (40, 512), (130, 97), (130, None)])
def test_a_head_in_tiles_gives_what_its_whole_logits_give(
    options: dict[str, Any], rows: int, columns: int | None
) -> None:
    torch.manual_seed(0)
    head = make_head(3000, **options)
    hidden_ND = torch.randn(130, 24).to(options.get("dtype", torch.float32))
    targets_N = torch.randint(3000, (130,))
    assert head.is_tiled
    got = stream(
        lambda block: HeadLogits(head, hidden_ND[block]), targets_N, 3000, EVERYTHING, rows=rows, columns=columns
    )
    logits_NV = head.logits(hidden_ND)
    assert logits_NV.dtype == torch.float32
    expected = everything(logits_NV, targets_N)
    assert (got["rank"] - expected["rank"]).abs().max() <= 1  # a tie of two roundings of one product, see below
    # Half precision rounds a logit where one row or many are multiplied at a time; the soft cap spreads it no further.
    if rows > 1 or "dtype" not in options:
        assert_close({**got, "rank": expected["rank"].int()}, expected)


@torch.inference_mode()
@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_ranks_are_exact_against_the_very_logits(options: dict[str, Any]) -> None:
    """Equal rows of the matrix tie, and no target outranks itself: its value is the one that its tile holds."""
    torch.manual_seed(0)
    head = make_head(3000, hidden=100, **options)
    assert isinstance(head.matrix, nn.Linear)
    weight_VD = head.matrix.weight
    weight_VD[1000:2000] = weight_VD[:1000]  # every one of these ties with one that stands in another tile
    hidden_ND = torch.randn(200, 100).to(weight_VD.dtype)
    hidden_ND[:50] = (2 * hidden_ND[:50]).round()
    weight_VD[2000:] = (2 * weight_VD[2000:]).round()  # exact products: ties of different rows
    targets_N = torch.randint(3000, (200,))
    if head.matrix.bias is not None:
        head.matrix.bias[1000:2000] = head.matrix.bias[:1000]
    seen: list[Tensor] = []

    class Seen(HeadLogits):
        def tile(self, start: int, stop: int, out_NV: Tensor) -> Tensor:
            seen.append(super().tile(start, stop, out_NV).clone())
            return seen[-1].clone()

    got = stream(lambda block: Seen(head, hidden_ND[block]), targets_N, 3000, rows=200, columns=512)
    logits_NV = torch.cat(seen, 1)
    assert torch.equal(got["rank"], (logits_NV > logits_NV.gather(1, targets_N[:, None])).sum(1).int())


def test_a_matrix_that_is_no_plain_linear_layer_is_not_cut() -> None:
    class Louder(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    louder = Louder(4, 9)
    assert not Head(nn.Identity(), louder, 1.0, None).is_tiled
    hidden_ND = torch.randn(3, 4)
    assert torch.equal(Head(nn.Identity(), louder, 1.0, None).logits(hidden_ND), louder(hidden_ND))
    hooked = nn.Linear(4, 9)
    hooked.register_forward_hook(lambda *_: None)
    assert not Head(nn.Identity(), hooked, 1.0, None).is_tiled
    replaced = nn.Linear(4, 9)
    replaced.forward = lambda input: input  # as accelerate's hooks do
    assert not Head(nn.Identity(), replaced, 1.0, None).is_tiled


# Truncation.
def truncated_oracle(logits_NV: Tensor, targets_N: Tensor, wanted: Wanted) -> dict[str, Tensor]:
    """Row by row: temper, keep the top_k, then the smallest set of these that holds top_p; with ties of the last."""
    kept_mass, masked = [], []
    for logits_V in logits_NV.double() / wanted.temperature:
        keep_V = torch.ones_like(logits_V, dtype=torch.bool)
        if wanted.top_k is not None and wanted.top_k < len(logits_V):
            keep_V = logits_V >= logits_V.sort(descending=True).values[wanted.top_k - 1]
        left_V = logits_V.masked_fill(~keep_V, -torch.inf)
        p_V = torch.softmax(left_V, 0)
        before, edge = 0.0, torch.inf
        # By logit: probabilities that underflow to 0 are tied and their tokens are not.
        for index in left_V.argsort(descending=True).tolist():
            if before >= wanted.top_p + 1e-6:
                break
            before, edge = before + p_V[index].item(), logits_V[index].item()
        if wanted.top_p < 1:
            keep_V &= logits_V >= edge
        kept_mass.append(torch.softmax(logits_V, 0)[keep_V].sum())
        masked.append(logits_V.masked_fill(~keep_V, -torch.inf))
    masked_NV = torch.stack(masked)
    columns = oracle(masked_NV, targets_N)
    del columns["rank"]
    logprob_NV = torch.log_softmax(masked_NV, 1)
    columns["top_probability"] = logprob_NV.amax(1).exp()
    if wanted.betas:
        columns["power_sums"] = torch.stack([torch.logsumexp(beta * logprob_NV, 1) for beta in wanted.betas], 1)
    return {f"sampled_{name}": column for name, column in columns.items()} | {
        "kept_mass": torch.stack(kept_mass),
        "tempered_surprisal": oracle(logits_NV.double() / wanted.temperature, targets_N)["surprisal"],
    }


@settings(max_examples=200, deadline=None)
@given(
    rows_of_logits(),
    st.one_of(st.none(), st.integers(1, 80)),
    st.one_of(st.just(1.0), st.floats(0.01, 1)),
    st.sampled_from([0.3, 0.7, 1.0, 2.5]),
)
def test_truncated_sampling_equals_a_loop_over_the_sorted_row(
    given_rows: tuple[Tensor, Tensor], top_k: int | None, top_p: float, temperature: float
) -> None:
    logits_NV, targets_N = given_rows
    inner_top_k, inner_top_p = None if top_k is None else 1 + top_k // 2, 0.9 * top_p if top_p < 1 else 1.0
    inner = Wanted(temperature=temperature, top_k=inner_top_k, top_p=inner_top_p)
    betas = () if top_p < 0.02 else (0.25, 0.75, 1.0, 2.0)
    wanted = Wanted(betas, 0, temperature, top_k, top_p, inner_top_k, inner_top_p)
    expected = truncated_oracle(logits_NV, targets_N, wanted)
    got = truncated(logits_NV.clone(), targets_N, wanted)
    assert_close(got, expected)
    if wanted.has_inner:
        assert_close(
            {"inner_mass": got["inner_mass"]},
            {"inner_mass": truncated_oracle(logits_NV, targets_N, inner)["kept_mass"]},
        )


@pytest.mark.parametrize(("spread", "top_p"), [(4, 0.2), (4, 0.9), (1, 0.97)])
def test_truncation_keeps_what_transformers_keeps(spread: float, top_p: float) -> None:
    torch.manual_seed(0)
    logits_NV, temperature, top_k = spread * torch.randn(50, 5000), 1.3, 2000
    wanted = Wanted(temperature=temperature, top_k=top_k, top_p=top_p)
    scores_NV = logits_NV
    for warp in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        scores_NV = warp(torch.empty(0), scores_NV)  # pyright: ignore[reportArgumentType]  (the ids are not looked at)
    kept_N = scores_NV.isfinite().sum(1)
    if spread == 1:
        assert kept_N.min() > FIRST_GUESS  # the search for the edge went on
    targets_N = scores_NV.argmin(1)  # some token left out
    got = truncated(logits_NV.clone(), targets_N, wanted)
    assert got["sampled_surprisal"].isinf().all()
    last_N = scores_NV.masked_fill(~scores_NV.isfinite(), torch.inf).argmin(1)  # the last one kept
    got = truncated(logits_NV.clone(), last_N, wanted)
    assert_close({k.removeprefix("sampled_"): v for k, v in got.items()} | {"rank": torch.zeros(50).int()}, {
        **oracle(scores_NV, last_N), "rank": torch.zeros(50)
    })  # fmt: skip


def test_truncation_that_cuts_nothing_is_temperature_alone() -> None:
    torch.manual_seed(0)
    logits_NV, targets_N = 3 * torch.randn(20, 300), torch.randint(300, (20,))
    tempered = streamed(logits_NV, targets_N, Wanted(temperature=0.8), rows=20)
    whole = truncated(logits_NV.clone(), targets_N, Wanted(temperature=0.8, top_k=300))
    for name in ("sampled_surprisal", "sampled_entropy", "sampled_varentropy", "kept_mass"):
        torch.testing.assert_close(whole[name], tempered[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole["tempered_surprisal"], tempered["sampled_surprisal"], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_wanted_is_refused() -> None:
    for bad in ({"betas": (0.0,)}, {"betas": (1.0, float("inf"))}, {"likeliest": -1}, {"temperature": 0.0},
                {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}):  # fmt: skip
        with pytest.raises(UserError, match="not possible"):
            replace(Wanted(), **bad)


def test_nothing_is_there_that_was_not_asked_for() -> None:
    logits_NV, targets_N = torch.randn(5, 40), torch.arange(5)

    def names(wanted: Wanted | None) -> set[str]:
        return set(streamed(logits_NV, targets_N, wanted, rows=5))

    four = {"surprisal", "entropy", "varentropy", "rank"}
    assert names(None) == four
    assert names(Wanted()) == four | {"top_probability"}
    with_cut = Wanted(betas=(0.5,), top_p=0.9, inner_top_p=0.8)
    of_cut = set(truncated(logits_NV.clone(), targets_N, with_cut))
    assert names(EVERYTHING) | of_cut == {field for field in TokenStats.__dataclass_fields__}
    # Truncated statistics need whole rows and come from elsewhere.
    assert names(Wanted(temperature=0.5, top_p=0.9)) == names(Wanted())


@given(st.integers(0, 10_000), st.integers(1, 20_000), st.integers(1, 300_000))
def test_blocks_of_rows_are_bounded_and_equal(rows: int, hidden: int, vocabulary: int) -> None:
    size = block_rows(rows, hidden, vocabulary)
    assert 1 <= size <= max(1, min(rows, MOST_ROWS))
    assert size * hidden <= max(2 * TILE, hidden)
    if rows:
        blocks = -(-rows // size)
        assert rows - (blocks - 1) * size > size - blocks  # the last one is short of a row a block at most


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [2000, 49_152, 151_936])
def test_sixteen_mebibytes_are_enough_whatever_the_vocabulary(vocabulary: int) -> None:
    """Peak resident memory of a fresh process: torch allocates where tracemalloc does not look."""
    program = f"""
        import re, torch
        from pathlib import Path
        from torch import nn
        from enaction.reader import Wanted
        from enaction.reader.head import Head, HeadLogits
        from enaction.reader.streaming import block_rows, stream

        def peak():  # KiB
            return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

        torch.set_num_threads(1)
        wanted = Wanted(betas=(0.5, 0.75, 1.25, 1.5, 2.0, 0.3), likeliest=5, temperature=0.7)
        with torch.inference_mode():
            head = Head(nn.Identity(), nn.Linear(64, {vocabulary}), 1.0, None)
            hidden, targets = torch.randn(3000, 64), torch.randint({vocabulary}, (3000,))
            stream(lambda block: HeadLogits(head, hidden[block]), targets[:40], {vocabulary}, wanted, rows=40)  # warm
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
            before = peak()
            rows = block_rows(3000, 64, {vocabulary})
            stream(lambda block: HeadLogits(head, hidden[block]), targets, {vocabulary}, wanted, rows=rows)
            print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 1024
