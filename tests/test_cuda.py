"""The kernel and the reader on a real GPU; everything here is skipped where torch finds no NVIDIA device.

Heads, inputs and definitions are those of `kernel_cases`, which runs the same kernel in Triton's interpreter. What only
hardware does is tested here: tensor cores, tensor descriptors, asynchronous copies, approximate exponentials.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available() or torch.version.cuda is None:
    pytest.skip("there is no NVIDIA GPU here", allow_module_level=True)

import tiny
from kernel_cases import BETAS, DTYPES, EVERYTHING, HEADS, by_torch, expected_of, inputs, logits_of, make_head
from test_reader import texts
from test_statistics import assert_close, everything
from torch import Tensor, nn

from enaction import zoo
from enaction.framing import Framed, frame
from enaction.reader import Reader, TokenStats, Wanted, kernel
from enaction.reader.head import Head
from enaction.reader.kernel import TILINGS, statistics_of, takes, tilings_for, why_not
from enaction.sampling import sample

DEVICE = torch.device("cuda", 0)
# Rows, hidden, vocabulary: odd ones, a multiple of nothing, and whole tiles.
SHAPES = ((301, 577, 5003), (70, 72, 301), (1, 1000, 2049), (256, 512, 4096))


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Products of the torch path are accumulated in float32 and rounded once, as the kernel's are."""
    products = torch.backends.cuda.matmul
    before = products.allow_bf16_reduced_precision_reduction, products.allow_fp16_reduced_precision_reduction
    products.allow_bf16_reduced_precision_reduction = products.allow_fp16_reduced_precision_reduction = False
    yield
    products.allow_bf16_reduced_precision_reduction, products.allow_fp16_reduced_precision_reduction = before


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the kernel was given, for each time it was used to read."""
    rows: list[int] = []
    run = kernel.statistics_of

    def counted(head: Head, hidden_ND: Tensor, *given: Any, **options: Any) -> dict[str, Tensor]:
        rows.append(len(hidden_ND))
        return run(head, hidden_ND, *given, **options)

    monkeypatch.setattr(kernel, "statistics_of", counted)
    return rows


def definitions(head: Head, hidden_ND: Tensor, targets_N: Tensor, wanted: Wanted) -> dict[str, Tensor]:
    return {name: value.to(DEVICE) for name, value in expected_of(head, hidden_ND, targets_N, wanted).items()}


def on_device(head: Head, *tensors: Tensor) -> tuple[Any, ...]:
    assert isinstance(head.matrix, nn.Linear)
    head.matrix.to(DEVICE)
    return (head, *(tensor.to(DEVICE) for tensor in tensors))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_statistic_equals_its_definition_and_the_torch_path(
    dtype: torch.dtype, kind: str, shape: tuple[int, int, int]
) -> None:
    rows, hidden, vocabulary = shape
    head, hidden_ND, targets_N = on_device(
        make_head(hidden, vocabulary, dtype, **HEADS[kind]), *inputs(rows, hidden, vocabulary, dtype)
    )
    wanted = EVERYTHING if rows > 100 else Wanted(betas=BETAS[:4]) if rows > 1 else Wanted()
    assert takes(head, hidden_ND, wanted)
    got = statistics_of(head, hidden_ND, targets_N, vocabulary, wanted)
    assert_close(got, definitions(head, hidden_ND, targets_N, wanted), atol=5e-5)
    own = by_torch(head, hidden_ND, targets_N, vocabulary, wanted)
    assert got.keys() == own.keys()
    assert_close(got, own, atol=5e-5)


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, tilings in TILINGS.items() for i in range(len(tilings))])
def test_every_tiling_is_right(name: str, i: int) -> None:
    if "Hopper" in name and torch.cuda.get_device_capability(DEVICE)[0] != 9:
        pytest.skip("it is for Hopper")
    dtype = torch.float32 if name == "float32" else torch.bfloat16
    softcap = 20.0 if "beside" in name else None
    head, hidden_ND, targets_N = on_device(make_head(320, 3001, dtype, softcap=softcap), *inputs(300, 320, 3001, dtype))
    wanted = Wanted(betas=(0.5, 1.25, 0.1))
    got = statistics_of(head, hidden_ND, targets_N, 3001, wanted, TILINGS[name][i])
    assert_close(got, definitions(head, hidden_ND, targets_N, wanted), atol=5e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_real_vocabulary_of_any_numbers(dtype: torch.dtype) -> None:
    """Entropies from almost nothing to log V. In half precision a sum near the middle may be rounded either way."""
    torch.manual_seed(0)
    head, _ = on_device(make_head(576, 49_152, dtype), torch.empty(0))
    head.matrix.weight.normal_()
    hidden_ND = (torch.randn(500, 576, device=DEVICE) * torch.linspace(0.3, 8, 500, device=DEVICE)[:, None]) / 24
    hidden_ND, targets_N = hidden_ND.to(dtype), torch.randint(49_152, (500,), device=DEVICE)
    assert takes(head, hidden_ND, EVERYTHING)
    got = statistics_of(head, hidden_ND, targets_N, 49_152, EVERYTHING)
    expected = everything(logits_of(head, hidden_ND), targets_N, EVERYTHING)
    for name in ("surprisal", "entropy", "varentropy", "top_probability", "power_sums", "sampled_entropy"):
        off = (got[name] - expected[name]).abs()
        assert off.median() < 1e-4, name
        assert off.max() < (1e-3 if dtype == torch.float32 else 0.1), name
    assert got["entropy"].min() < 1
    assert got["entropy"].max() > 9


@pytest.mark.parametrize("hidden", [100, 512])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_observed_token_outranks_itself_and_equal_weights_tie(dtype: torch.dtype, hidden: int) -> None:
    torch.manual_seed(0)
    head, _ = on_device(make_head(hidden, 6000, dtype), torch.empty(0))
    weight_VD = head.matrix.weight.normal_()
    weight_VD[3000:] = weight_VD[:3000]  # everything twice, in different tiles
    hidden_ND = torch.randn(200, hidden, device=DEVICE).to(dtype)
    best_N = (hidden_ND.double() @ weight_VD[:3000].double().T).argmax(1)
    for targets_N in (best_N, best_N + 3000):
        got = statistics_of(head, hidden_ND, targets_N, 6000, None)
        # Where another token is as likely in half precision, it may be ahead by a rounding.
        assert (got["rank"] == 0).float().mean() > (0.999 if dtype == torch.float32 else 0.95)
        assert (got["rank"] <= 3).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_a_number_stays_so_in_its_own_row(bad: float) -> None:
    head, hidden_ND, targets_N = on_device(make_head(64, 900, torch.bfloat16), *inputs(30, 64, 900, torch.bfloat16))
    expected = definitions(head, hidden_ND, targets_N, EVERYTHING)
    hidden_ND[7, 3] = bad
    got = statistics_of(head, hidden_ND, targets_N, 900, EVERYTHING)
    good_M = torch.tensor([row for row in range(30) if row != 7], device=DEVICE)
    assert_close({n: c[good_M] for n, c in got.items()}, {n: c[good_M] for n, c in expected.items()}, atol=5e-5)
    assert all(got[name][7].isnan().all() for name in expected.keys() - {"rank", "kept_mass"})


def test_hopper_is_fed_by_descriptors_and_its_own_tilings() -> None:
    if torch.cuda.get_device_capability(DEVICE)[0] != 9:
        pytest.skip("it is for Hopper")
    head, hidden_ND = on_device(make_head(128, 900, torch.bfloat16), torch.ones(3, 128, dtype=torch.bfloat16))
    assert why_not(head, hidden_ND, None) is None
    assert tilings_for(head, None) == TILINGS["half, Hopper"]
    assert tilings_for(replace(head, softcap=3.0), None) == TILINGS["half, Hopper, much beside"]


# A reader: its body on the GPU, its head by the kernel.


def make_readers(name: str, device: str | torch.device, dtype: torch.dtype = torch.float32) -> Reader:
    if name.startswith("zoo:"):
        return Reader.load(name, device=str(device), dtype=dtype)
    tokenizer = tiny.word_tokenizer()
    model = {"llama": tiny.llama, "gemma2": tiny.gemma2}[name](len(tokenizer))
    return Reader(model.to(device, dtype), tokenizer, name=name)  # pyright: ignore[reportArgumentType]


def framed_for(reader: Reader) -> list[Framed]:
    if not reader.name.startswith("zoo:"):
        return [frame(reader.tokenizer, passage, "assistant") for passage in texts(9)]
    passages = sample(make_readers(reader.name, "cpu"), zoo.prompts()[:4], n=3, max_new_tokens=60)
    return [frame(reader.tokenizer, passage, "assistant") for passage in passages]


def assert_alike(got: list[TokenStats], expected: list[TokenStats], atol: float = 1e-4) -> None:
    for one, other in zip(got, expected, strict=True):
        for name, value in vars(other).items():
            if value is None:
                continue
            if name == "rank":  # two tokens that are equally likely may change places
                assert np.abs(one.rank - other.rank).max() <= 1
                assert (one.rank == other.rank).mean() > 0.99
            else:
                np.testing.assert_allclose(getattr(one, name), value, atol=atol, rtol=1e-4, err_msg=name)


READERS = ("llama", "gemma2", "zoo:ash-rl")


@pytest.mark.parametrize("name", READERS)
def test_a_reader_says_on_the_gpu_what_it_says_on_the_cpu(name: str, calls: list[int]) -> None:
    reader = make_readers(name, DEVICE)
    assert reader.head_path == "streamed"
    framed, wanted = framed_for(reader), Wanted(betas=(0.5, 1.25), temperature=0.8)
    got = reader.score(framed, wanted=wanted)
    assert sum(calls) >= sum(f.stop - f.start for f in framed)
    assert_alike(got, make_readers(name, "cpu").score(framed, wanted=wanted))
    alone = [reader.score([one], wanted=wanted)[0] for one in framed]
    assert_alike(got, alone)


def test_half_precision_is_read_alike_by_either_path(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    reader = make_readers("zoo:ash-rl", DEVICE, torch.bfloat16)
    framed = framed_for(reader)
    got = reader.score(framed)
    assert calls
    monkeypatch.setattr(kernel, "takes", lambda *_: False)
    used = len(calls)
    other = reader.score(framed)
    assert len(calls) == used
    for name in ("surprisal", "entropy", "varentropy"):
        off = np.abs(np.concatenate([getattr(a, name) - getattr(b, name) for a, b in zip(got, other, strict=True)]))
        assert np.median(off) < 1e-4, name
        assert off.max() < 0.1, name


@pytest.mark.parametrize("name", READERS)
def test_what_is_sampled_on_the_gpu_has_the_logprobs_that_its_own_reading_finds(name: str, calls: list[int]) -> None:
    reader = make_readers(name, DEVICE)
    prompts = (
        zoo.prompts()[:3] if name.startswith("zoo:") else [tiny.prompt("why", "a"), tiny.prompt("how was it", "b")]
    )
    passages = sample(reader, prompts, n=6, max_new_tokens=40)
    scores = reader.score([frame(reader.tokenizer, passage, "assistant") for passage in passages])
    assert calls
    for passage, stats in zip(passages, scores, strict=True):
        assert passage.logprobs is not None
        np.testing.assert_allclose(stats.surprisal, -np.array(passage.logprobs), atol=1e-4)
