"""The kernel in Triton's interpreter, against definitions in float64 and against the torch path.

`test_kernel.py` runs this file in a process of its own with TRITON_INTERPRET=1, which has to be set before Triton is
imported and would send every other test through the interpreter too.

Hidden states and weights are multiples of 1/8 unless they are meant to be anything: sums of their products are then
exact in float32 in any order. So all ways round the same, and even ranks among ties have to agree.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reader import texts
from test_statistics import assert_close, everything
from torch import Tensor, nn

from enaction.framing import frame
from enaction.reader import Reader, Wanted, kernel, measuring
from enaction.reader.head import Head, HeadLogits
from enaction.reader.kernel import TILINGS, Tiling, statistics_of, takes, why_not
from enaction.reader.streaming import stream

BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 0.1, 1.3)
EVERYTHING = Wanted(betas=BETAS, temperature=0.7)
SOME = Wanted(betas=(0.5, 1.25, 0.1), temperature=0.7)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SMALL = Tiling(32, 64, 32, 4, 2, 1)

# NumPy, which the interpreter calculates with, warns of what comes of infinities; a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    assert kernel.is_interpreted()
    kernel.is_proved.cache_clear()


def exact(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return (torch.randint(-8, 9, shape, generator=generator) / 8).to(dtype)


def make_head(
    hidden: int,
    vocabulary: int,
    dtype: torch.dtype,
    *,
    bias: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    seed: int = 0,
) -> Head:
    generator = torch.Generator().manual_seed(seed)
    matrix = nn.Linear(hidden, vocabulary, bias=bias, dtype=dtype).requires_grad_(False)
    matrix.weight.copy_(exact((vocabulary, hidden), generator, dtype))
    if bias:
        matrix.bias.copy_(2 * exact((vocabulary,), generator, dtype))
    return Head(nn.Identity(), matrix, scale, softcap)


def inputs(rows: int, hidden: int, vocabulary: int, dtype: torch.dtype, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return exact((rows, hidden), generator, dtype), torch.randint(vocabulary, (rows,), generator=generator)


def logits_of(head: Head, hidden_ND: Tensor) -> Tensor:
    """Logits by definition: an exact product, rounded once to the dtype of the weights, transformed in float64."""
    assert isinstance(head.matrix, nn.Linear)
    product_NV = hidden_ND.double() @ head.matrix.weight.double().T
    if head.matrix.bias is not None:
        product_NV += head.matrix.bias.double()
    logits_NV = product_NV.to(hidden_ND.dtype).double() * head.scale
    return logits_NV if head.softcap is None else head.softcap * torch.tanh(logits_NV / head.softcap)


def expected_of(
    head: Head, hidden_ND: Tensor, targets_N: Tensor, wanted: Wanted, vocabulary: int | None = None
) -> dict[str, Tensor]:
    logits_NV = logits_of(head, hidden_ND)[:, :vocabulary]
    expected = everything(logits_NV, targets_N, replace(wanted, betas=wanted.betas or BETAS))
    left_out = {"likeliest_logprobs", "tail_mass"} | (set() if wanted.betas else {"power_sums"})
    if wanted.temperature == 1:
        left_out |= {"sampled_surprisal", "sampled_entropy", "sampled_varentropy", "kept_mass"}
    return {name: value for name, value in expected.items() if name not in left_out}


def by_torch(head: Head, hidden_ND: Tensor, targets_N: Tensor, vocabulary: int, wanted: Wanted) -> dict[str, Tensor]:
    return stream(lambda block: HeadLogits(head, hidden_ND[block]), targets_N, vocabulary, wanted, rows=50)


HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "soft cap": {"softcap": 12.0},
    "all": {"bias": True, "scale": 1.5, "softcap": 16.0},
}
TILES = (Tiling(16, 64, 16, 4, 2, 1), SMALL, Tiling(64, 32, 32, 4, 2, 1), Tiling(32, 128, 64, 8, 3, 1))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_statistic_equals_its_definition_and_the_torch_path(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    rows, hidden, vocabulary = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 150)))
    seed = data.draw(st.integers(0, 2**20))
    head = make_head(hidden, vocabulary, dtype, **data.draw(st.sampled_from(list(HEADS.values()))), seed=seed)
    hidden_ND, targets_N = inputs(rows, hidden, vocabulary, dtype, seed)
    wanted = data.draw(st.sampled_from([EVERYTHING, Wanted(), Wanted(betas=(0.3, 3.0)), Wanted(betas=BETAS[:3])]))
    tiling, programs = data.draw(st.sampled_from(TILES)), data.draw(st.integers(1, 40))
    got = statistics_of(head, hidden_ND, targets_N, vocabulary, wanted, tiling, programs)
    own = by_torch(head, hidden_ND, targets_N, vocabulary, wanted)
    assert got.keys() == own.keys()
    assert all(got[name].dtype == own[name].dtype and got[name].shape == own[name].shape for name in own)
    assert_close(got, expected_of(head, hidden_ND, targets_N, wanted), atol=2e-5)
    assert_close(got, own, atol=2e-5)


@pytest.mark.parametrize("name", TILINGS)
def test_the_tilings_that_are_used_cover_rows_and_vocabulary(name: str) -> None:
    dtype = torch.float32 if name == "float32" else torch.bfloat16
    head = make_head(72, 300, dtype, bias=True)
    hidden_ND, targets_N = inputs(70, 72, 300, dtype)
    wanted = Wanted(betas=(0.5, 1.25, 0.1))
    for tiling in TILINGS[name]:
        got = statistics_of(head, hidden_ND, targets_N, 300, wanted, tiling, programs=2)
        assert_close(got, expected_of(head, hidden_ND, targets_N, wanted), atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_confident_and_distant_logits_keep_their_digits(dtype: torch.dtype) -> None:
    """Random numbers of any kind, entropies from almost nothing to log V, logits some thousands from zero."""
    torch.manual_seed(0)
    head = make_head(64, 500, dtype, bias=True)
    assert isinstance(head.matrix, nn.Linear)
    head.matrix.weight.normal_()
    head.matrix.bias.fill_(3000 if dtype == torch.float32 else 16)
    hidden_ND = (torch.randn(60, 64) * torch.linspace(0.01, 8, 60)[:, None]).to(dtype)
    targets_N = torch.randint(500, (60,))
    got = statistics_of(head, hidden_ND, targets_N, 500, EVERYTHING, Tiling(64, 128, 64, 4, 2, 1), programs=2)
    # In half precision a sum near the middle of two numbers may go to either.
    logits_NV = head.logits(hidden_ND)
    close = 3e-3 if dtype == torch.float32 else 2e-2
    expected = everything(logits_NV, targets_N, EVERYTHING)
    for name in ("surprisal", "entropy", "varentropy", "top_probability", "power_sums", "sampled_entropy"):
        off = (got[name] - expected[name]).abs()
        assert off.median() < 1e-4, name
        assert off.max() < 5 * close, name
    assert (got["entropy"] >= 0).all()
    assert got["entropy"].min() < 1e-3
    assert got["entropy"].max() > 6


def test_no_observed_token_outranks_itself_and_equal_weights_tie() -> None:
    for dtype in DTYPES:
        head = make_head(48, 200, dtype)
        assert isinstance(head.matrix, nn.Linear)
        head.matrix.weight[100:] = head.matrix.weight[:100]  # everything twice, in different tiles
        hidden_ND, _ = inputs(32, 48, 200, dtype)
        best_N = logits_of(head, hidden_ND).argmax(1) % 100
        for targets_N in (best_N, best_N + 100):
            got = statistics_of(head, hidden_ND, targets_N, 200, None, SMALL, programs=9)
            assert (got["rank"] == 0).all()


def test_no_observed_token_outranks_itself_whatever_the_rounding() -> None:
    torch.manual_seed(0)
    head = make_head(100, 300, torch.float32)
    assert isinstance(head.matrix, nn.Linear)
    head.matrix.weight.normal_()
    hidden_ND = torch.randn(60, 100)
    logits_NV = hidden_ND.double() @ head.matrix.weight.double().T
    got = statistics_of(head, hidden_ND, logits_NV.argmax(1), 300, None, SMALL, programs=9)
    assert (got["rank"] == 0).all()
    second_N = logits_NV.topk(2, 1).indices[:, 1]  # not contiguous
    assert (statistics_of(head, hidden_ND, second_N, 300, None, SMALL)["rank"] == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tokens_that_are_ruled_out_count_for_nothing(dtype: torch.dtype) -> None:
    head = make_head(16, 200, dtype, bias=True)
    assert isinstance(head.matrix, nn.Linear)
    # Whole tiles, the first among them, single tokens, and some observed ones.
    head.matrix.bias[:70] = head.matrix.bias[90:95] = head.matrix.bias[-33:] = -torch.inf
    hidden_ND, targets_N = inputs(30, 16, 200, dtype)
    targets_N[:2] = torch.tensor([3, 199])
    for wanted in (SOME, Wanted(betas=(0.05, 0.3))):
        got = statistics_of(head, hidden_ND, targets_N, 200, wanted, SMALL, programs=5)
        assert_close(got, expected_of(head, hidden_ND, targets_N, wanted), atol=2e-5)
        assert_close(got, by_torch(head, hidden_ND, targets_N, 200, wanted), atol=2e-5)
    assert torch.isposinf(got["surprisal"][:2]).all()
    head.matrix.bias.fill_(-torch.inf)
    got = statistics_of(head, hidden_ND, targets_N, 200, SOME, SMALL)
    assert all(got[name].isnan().all() for name in ("surprisal", "entropy", "varentropy", "power_sums"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_stays_so_in_its_own_row(dtype: torch.dtype, bad: float) -> None:
    head = make_head(16, 200, dtype)
    hidden_ND, targets_N = inputs(30, 16, 200, dtype)
    expected = expected_of(head, hidden_ND, targets_N, SOME)
    hidden_ND[7, 3] = hidden_ND[29, 0] = bad
    got = statistics_of(head, hidden_ND, targets_N, 200, SOME, SMALL, programs=5)
    own = by_torch(head, hidden_ND, targets_N, 200, SOME)
    good_M = torch.tensor([row for row in range(30) if row not in (7, 29)])
    assert_close({n: c[good_M] for n, c in got.items()}, {n: c[good_M] for n, c in expected.items()}, atol=2e-5)
    for name in expected.keys() - {"rank", "kept_mass"}:
        assert got[name][[7, 29]].isnan().all(), name
        assert own[name][[7, 29]].isnan().all(), name


def test_one_infinite_logit_in_a_late_tile_spoils_its_rows() -> None:
    for bad in (torch.inf, torch.nan):
        for place in (0, 199):
            head = make_head(16, 200, torch.float32, bias=True)
            assert isinstance(head.matrix, nn.Linear)
            head.matrix.bias[place] = bad
            hidden_ND, targets_N = inputs(5, 16, 200, torch.float32)
            for programs in (1, 9):
                got = statistics_of(head, hidden_ND, targets_N, 200, SOME, SMALL, programs=programs)
                assert all(c.isnan().all() for n, c in got.items() if n not in ("rank", "kept_mass"))


def test_rows_of_the_matrix_behind_the_vocabulary_are_left_out_and_padding_rows_before_it_count() -> None:
    head = make_head(24, 250, torch.bfloat16)
    assert isinstance(head.matrix, nn.Linear)
    head.matrix.weight[180:] = 0  # as padding rows often are: logit 0, and probability like any other
    hidden_ND, targets_N = inputs(20, 24, 200, torch.bfloat16)
    got = statistics_of(head, hidden_ND, targets_N, 200, SOME, SMALL, programs=5)
    assert_close(got, expected_of(head, hidden_ND, targets_N, SOME, 200), atol=2e-5)
    assert_close(got, by_torch(head, hidden_ND, targets_N, 200, SOME), atol=2e-5)


def test_hidden_states_of_another_dtype_are_multiplied_in_that_of_the_weights() -> None:
    head, (hidden_ND, targets_N) = make_head(24, 100, torch.bfloat16), inputs(20, 24, 100, torch.float32)
    hidden_ND *= 1.01
    assert takes(head, hidden_ND, SOME)
    got = statistics_of(head, hidden_ND, targets_N, 100, SOME, SMALL)
    assert_close(got, by_torch(head, hidden_ND.bfloat16(), targets_N, 100, SOME), atol=2e-5)


def test_ranges_keep_every_program_busy_and_cover_the_vocabulary() -> None:
    for row_blocks in (1, 3, 8, 40, 500):
        for tiles in (1, 7, 192, 594, 1024):
            each = kernel.tiles_of_a_range(row_blocks, tiles, 132)
            ranges = -(-tiles // each)
            assert 1 <= each <= tiles
            waves = -(-row_blocks * ranges // 132)
            # At most a quarter of the time is lost to programs that wait, but where there is too little to do.
            if row_blocks * tiles > 20 * 132:
                assert waves * each * 132 < 1.25 * row_blocks * tiles


# The choice: measuring takes the kernel where it can, and the torch path everywhere else.


def test_a_reader_gives_the_same_by_either_path(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.word_tokenizer()
    framed = [frame(tokenizer, passage, "assistant") for passage in texts(5)]
    model = tiny.gemma2(len(tokenizer))
    calls: list[int] = []
    run = kernel.statistics_of

    def counted(*given: Any, **options: Any) -> dict[str, Tensor]:
        calls.append(1)
        return run(*given, **options)

    monkeypatch.setattr(kernel, "statistics_of", counted)
    wanted = Wanted(betas=(0.5, 1.25), temperature=0.8)
    got = Reader(model, tokenizer).score(framed, wanted=wanted)
    assert calls
    monkeypatch.setattr(kernel, "takes", lambda *_: False)
    calls.clear()
    for one, other in zip(got, Reader(model, tokenizer).score(framed, wanted=wanted), strict=True):
        for name, value in vars(other).items():
            if value is not None:
                np.testing.assert_allclose(getattr(one, name), value, atol=2e-5, rtol=1e-5, err_msg=name)
    assert not calls


def cases() -> dict[str, tuple[str, Callable[[], tuple[Head, Tensor, Wanted | None]]]]:
    plain = make_head(16, 50, torch.float32)
    hidden_ND = torch.ones(3, 16)
    wide = make_head(32, 50, torch.float32)
    assert isinstance(wide.matrix, nn.Linear)
    wide.matrix.weight = nn.Parameter(wide.matrix.weight[:, ::2], requires_grad=False)
    hooked = make_head(16, 50, torch.float32)
    hooked.matrix.register_forward_hook(lambda *_: None)
    return {
        "listed": ("likeliest", lambda: (plain, hidden_ND, Wanted(likeliest=2))),
        "truncated": ("truncated", lambda: (plain, hidden_ND, Wanted(top_k=3))),
        "float64": ("float64", lambda: (make_head(16, 50, torch.float64), hidden_ND.double(), None)),
        "strided": ("row by row", lambda: (wide, hidden_ND, None)),
        "hooked": ("plain linear", lambda: (hooked, hidden_ND, None)),
    }


@pytest.mark.parametrize("name", cases())
def test_what_the_kernel_cannot_take_goes_the_torch_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reason, make = cases()[name]
    head, hidden_ND, wanted = make()
    assert reason in (why_not(head, hidden_ND, wanted) or "")
    assert not takes(head, hidden_ND, wanted)
    monkeypatch.setattr(kernel, "statistics_of", None)
    columns = measuring.measure(head, hidden_ND, torch.arange(3), torch.tensor([1, 2, 3]), 50, wanted)
    assert columns["entropy"].isfinite().all()


def test_a_kernel_that_fails_or_is_off_says_so_once_and_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    head, (hidden_ND, targets_N) = make_head(16, 50, torch.float32), inputs(3, 16, 50, torch.float32)
    assert takes(head, hidden_ND, None)

    def fails(*_: Any, **__: Any) -> dict[str, Tensor]:
        raise RuntimeError("no such instruction")

    def is_off(*given: Any, **_: Any) -> dict[str, Tensor]:
        columns = by_torch(*given)
        return columns | {"entropy": columns["entropy"] + 1e-3}

    def ranks_wrong(*given: Any, **_: Any) -> dict[str, Tensor]:
        columns = by_torch(*given)
        return columns | {"rank": columns["rank"] + 3}

    def is_not_a_number(*given: Any, **_: Any) -> dict[str, Tensor]:
        return {name: column * torch.nan for name, column in by_torch(*given).items()}

    expected = by_torch(head, hidden_ND, targets_N, 50, Wanted())
    broken = {"no such instruction": fails, "off by 1": is_off, "3 ranks": ranks_wrong, "nan": is_not_a_number}
    for text, one in broken.items():
        kernel.is_proved.cache_clear()
        monkeypatch.setattr(kernel, "statistics_of", one)
        with pytest.warns(UserWarning, match=f"computed by torch.*{text}"):
            got = measuring.measure(head, hidden_ND, torch.arange(3), targets_N, 50, Wanted())
        again = measuring.measure(head, hidden_ND, torch.arange(3), targets_N, 50, Wanted())
        for name, value in expected.items():
            assert torch.equal(got[name], value)
            assert torch.equal(again[name], value)


def test_a_proof_that_memory_has_no_room_for_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head, hidden_ND = make_head(16, 50, torch.float32), torch.ones(2, 16)

    def is_full(*_: Any, **__: Any) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(kernel, "statistics_of", is_full)
        with pytest.raises(torch.OutOfMemoryError):
            takes(head, hidden_ND, None)
    assert takes(head, hidden_ND, None)


def test_no_measured_position_is_no_work_for_the_kernel() -> None:
    head, none_N = make_head(16, 50, torch.float32), torch.empty(0, dtype=torch.long)
    assert measuring.measure(head, torch.ones(3, 16), none_N, none_N, 50, None)["entropy"].shape == (0,)


def test_a_proof_is_one_for_all_cases_alike() -> None:
    for hidden in (16, 72):
        assert takes(make_head(hidden, 50, torch.bfloat16), torch.ones(2, hidden, dtype=torch.bfloat16), None)
    assert kernel.is_proved.cache_info().misses == 1
    assert takes(make_head(50, 50, torch.bfloat16), torch.ones(2, 50, dtype=torch.bfloat16), None)
    head = make_head(16, 50, torch.bfloat16, bias=True)
    assert takes(replace(head, softcap=3.0), torch.ones(2, 16, dtype=torch.bfloat16), Wanted(temperature=2.0))
    assert kernel.is_proved.cache_info().misses == 3
