"""What is bad or too much: long texts, little memory, broken logits, a strange vocabulary or dtype."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from enaction.cli import main
from enaction.errors import FramingError, ModelError, UserError
from enaction.framing import Framed, frame
from enaction.passages import Passage, write_passages
from enaction.reader import Reader, TokenStats, Wanted
from enaction.reader.memory import halving, is_out_of_memory
from enaction.reader.windows import windows
from enaction.sampling import sample
from enaction.tokens import read_token_table, score_passages, table_notes

MODELS: dict[str, Callable[[int], PreTrainedModel]] = {"llama": tiny.llama, "gemma2": tiny.gemma2, "neox": tiny.neox}
STATISTICS = ("surprisal", "entropy", "varentropy")


def reader(name: str = "llama") -> Reader:
    tokenizer = tiny.word_tokenizer()
    return Reader(MODELS[name](len(tokenizer)), tokenizer, name="tiny")


def unlike(count: int = 9) -> list[Passage]:
    """Passages of very unlike lengths, each to a prompt of its own, so that they share no context."""
    rng = np.random.default_rng(0)
    return [
        tiny.passage(" ".join(rng.choice(tiny.WORDS, 3 + 5 * i)), "why the fox " * (1 + i), name=f"x{i}")
        for i in range(count)
    ]


def framed_with(model: Reader, passages: list[Passage]) -> list[Framed]:
    return [frame(model.tokenizer, passage, "assistant") for passage in passages]


def stacked(stats: TokenStats) -> np.ndarray:
    return np.stack([stats.surprisal, stats.entropy, stats.varentropy, stats.rank])


def bend(model: PreTrainedModel, change: Callable[[Tensor], Tensor]) -> None:
    """Put a fault behind a model's body."""
    run = model.base_model.forward

    def forward(**given: Any) -> Any:
        output = run(**given)
        output.last_hidden_state = change(output.last_hidden_state)
        return output

    model.base_model.forward = forward


# Longer than the context.


def brute_force(model: Reader, f: Framed, window: int) -> np.ndarray:
    """[4, N] token by token: every beginning of a window is tried until one of them reaches up to the token."""
    columns = []
    for t in range(f.start, f.stop):
        begin = next(b for b in range(0, t, window // 2) if t - b <= window)
        context = f.ids[begin:t]
        columns.append(tiny.reference(model.model, (*context, f.ids[t]), len(context), len(context) + 1).numpy())
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize(("name", "window"), [("llama", 2), ("gemma2", 7), ("neox", 16), ("llama", 64)])
def test_sliding_windows_equal_a_brute_force_loop(name: str, window: int) -> None:
    model = reader(name)
    rng = np.random.default_rng(1)
    framed = [
        Framed(tuple(int(i) for i in rng.integers(8, 50, length)), start, length - cut, has_end=False)
        for length, start, cut in ((70, 1, 0), (60, 41, 0), (60, 58, 1), (17, 3, 0), (16, 15, 0), (8, 8, 0))
    ]
    for budget in (1, 10_000):
        for f, stats in zip(framed, model.score(framed, window=window, token_budget=budget), strict=True):
            assert len(stats) == f.stop - f.start
            if len(stats):
                np.testing.assert_allclose(stacked(stats), brute_force(model, f, window), atol=2e-5, rtol=2e-5)


def test_the_context_of_each_token_is_as_defined() -> None:
    """All of it for the first `window`, then more than half a window and at most a whole one."""
    for window in (2, 3, 10, 11):
        f = Framed(tuple(range(100)), 1, 100, has_end=False)
        seen: dict[int, int] = {}
        for part in windows(f, window):
            assert part.stop - 1 <= window
            for t in range(part.start, part.stop):
                assert part.ids[t] not in seen
                seen[part.ids[t]] = t
        assert list(seen) == list(range(1, 100))
        assert all(seen[t] == t for t in range(1, window + 1))
        assert all(window / 2 < seen[t] <= window for t in range(window + 1, 100))


def test_a_window_as_long_as_the_text_changes_nothing_and_others_do() -> None:
    model = reader()
    framed = framed_with(model, unlike())
    whole = model.score(framed, wanted=Wanted(betas=(0.5,), likeliest=3))
    wide = model.score(framed, wanted=Wanted(betas=(0.5,), likeliest=3), window=256)
    narrow = model.score(framed, wanted=Wanted(betas=(0.5,), likeliest=3), window=20)
    for f, one, two, three in zip(framed, whole, wide, narrow, strict=True):
        for name, column in vars(one).items():
            assert (column is None) == (getattr(three, name) is None)
            assert column is None or column.shape == getattr(three, name).shape
        np.testing.assert_allclose(stacked(one), stacked(two), atol=1e-5)
        seen_whole = max(0, 20 - f.start + 1)
        np.testing.assert_allclose(stacked(one)[:, :seen_whole], stacked(three)[:, :seen_whole], atol=1e-5)
    assert np.abs(whole[-1].surprisal - narrow[-1].surprisal)[30:].max() > 0.05


@pytest.mark.parametrize(("window", "words"), [(1, "2 or more"), (300, "tiny takes 256 tokens")])
def test_impossible_windows_are_refused(window: int, words: str) -> None:
    model = reader()
    with pytest.raises(UserError, match=words):
        model.score(framed_with(model, unlike()), window=window)


def test_the_command_reads_a_long_text_only_in_windows_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny.word_tokenizer()
    tiny.llama(len(tokenizer), context=64).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    long = tiny.passage("the old fox walked " * 30, name="long")
    write_passages([long, tiny.passage()], tmp_path / "p.jsonl")
    command = ["enaction", "score", str(tmp_path / "p.jsonl"), "--model", str(tmp_path / "m")]
    command += ["-o", str(tmp_path / "t.parquet")]
    for more, code, words in (([], 2, "--window N"), (["--window", "48"], 0, "1 passages are longer than 48 tokens")):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        with pytest.raises(SystemExit) as caught:
            main()
        assert (caught.value.code or 0) == code
        assert words in " ".join(capsys.readouterr().err.split())
    table = read_token_table(tmp_path / "t.parquet")
    notes = table_notes(table)
    assert (notes["window"], notes["window_stride"], notes["passages_in_windows"]) == (48, 24, 1)
    assert table["position"].to_pylist() == [*range(121), *range(8)]


def test_progress_in_windows_counts_passages() -> None:
    model = reader()
    steps: list[tuple[int, int]] = []
    model.score(framed_with(model, unlike()), window=16, progress=lambda *step: steps.append(step))
    assert steps[-1] == (9, 9)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


# Little memory.

ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
    "cpu": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    "linux": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "metal": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "python": MemoryError,
}


def cramp(model: Reader, most: int, error: Callable[[], Exception] = ERRORS["cuda"]) -> list[tuple[int, ...]]:
    """A model that has room for so many tokens in a batch; shapes of what it is given."""
    given: list[tuple[int, ...]] = []

    def check(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"]
        given.append(tuple(ids.shape))
        if ids.numel() > most:
            raise error()

    model.model.base_model.register_forward_pre_hook(check, with_kwargs=True)
    return given


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_batch_that_does_not_fit_is_halved_and_the_scores_stay(error: Callable[[], Exception]) -> None:
    plain, cramped = reader(), reader()
    framed = framed_with(plain, unlike(12))
    given = cramp(cramped, 150, error)
    steps: list[int] = []
    found = cramped.score(framed, token_budget=700, progress=lambda done, _: steps.append(done))
    for one, two in zip(plain.score(framed), found, strict=True):
        np.testing.assert_allclose(stacked(one), stacked(two), atol=1e-5)
    assert steps[-1] == 12
    tried = [rows * length for rows, length in given]
    assert sum(size > 150 for size in tried) > 0
    # What was learned from a failure is kept: no larger batch is tried behind it.
    after = tried[max(i for i, size in enumerate(tried) if size > 150) :]
    assert len(after) > 3
    assert max(after[1:]) <= 150


def test_passages_that_share_a_context_are_halved_too() -> None:
    rng = np.random.default_rng(0)
    context = tuple(int(i) for i in rng.integers(8, 50, 40))
    framed = [
        Framed(context + tuple(int(i) for i in rng.integers(8, 50, 9 + k)), 40, 49 + k, has_end=False) for k in range(9)
    ]
    plain, cramped = reader(), reader()
    given = cramp(cramped, 60)
    for one, two in zip(plain.score(framed), cramped.score(framed), strict=True):
        np.testing.assert_allclose(stacked(one), stacked(two), atol=1e-5)
    assert (9, 17) in given
    assert (1, 39) in given


def test_one_passage_that_does_not_fit_is_named_with_a_remedy_that_works() -> None:
    model = reader()
    cramp(model, 40)
    framed = [replace(f, passage_id=f"x{i}") for i, f in enumerate(framed_with(model, unlike()))]
    with pytest.raises(ModelError, match=r"no room for tiny with passage 'x8' .*--window N.*CUDA out of memory"):
        model.score(framed)
    assert [len(s) for s in model.score(framed, window=32)] == [f.stop - f.start for f in framed]


def test_a_batch_that_cannot_be_sampled_is_halved_with_the_same_responses() -> None:
    prompts = [tiny.prompt("why", "a"), tiny.prompt("tell me about the old red fox near the river", "b")]
    plain, cramped = reader("gemma2"), reader("gemma2")
    expected = sample(plain, prompts, n=9, max_new_tokens=20)
    assert cramped.route.is_cached  # proved before memory gets short
    given = cramp(cramped, 40, ERRORS["cpu"])
    steps: list[int] = []
    found = sample(cramped, prompts, n=9, max_new_tokens=20, progress=lambda done, _: steps.append(done))
    assert [p.token_ids for p in found] == [p.token_ids for p in expected]
    for one, two in zip(expected, found, strict=True):
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)
    assert steps[-1] == 18
    assert sum(rows * length > 40 for rows, length in given) >= 2


def test_memory_that_runs_out_on_the_way_leaves_the_responses_as_they_were() -> None:
    """The cache grows; the numbers that were drawn with before must be drawn with again."""
    model = reader("neox")
    expected = sample(model, [tiny.prompt()], n=8, max_new_tokens=12)
    steps = 0

    def run_out(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        nonlocal steps
        steps += 1
        if steps == 7:
            raise ERRORS["cuda"]()

    model.model.base_model.register_forward_pre_hook(run_out, with_kwargs=True)
    assert [p.token_ids for p in sample(model, [tiny.prompt()], n=8, max_new_tokens=12)] == [
        p.token_ids for p in expected
    ]
    assert steps > 12


def test_one_response_that_does_not_fit_is_named() -> None:
    model = reader("gemma2")
    assert model.route.is_cached
    cramp(model, 4)
    with pytest.raises(ModelError, match=r"no room for tiny with one response to prompt 'a'.*lower max_new_tokens"):
        sample(model, [tiny.prompt("tell me about the old red fox", "a")], n=3, max_new_tokens=5)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))

    def fail(batch: list[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(halving([[1, 2]], fail, size=len, too_large=str))


# Logits that are NaN or infinite.


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_logits_in_some_passages_are_told_and_never_averaged(value: float) -> None:
    model = reader()
    passages = unlike()
    framed = framed_with(model, passages)
    # A state that leaves the range of its dtype in long texts only, as half precision does.
    bend(model.model, lambda hidden: hidden * value if hidden.shape[1] > 70 else hidden)
    scores = model.score(framed, token_budget=1)
    is_broken = [f.stop - 1 > 70 for f in framed]
    assert any(is_broken)
    assert not all(is_broken)
    assert [bool(np.isnan(s.surprisal).any()) for s in scores] == is_broken
    with pytest.raises(ModelError, match=r"tiny \(float32\) are NaN or infinite in \d of 9 passages, .* 'x"):
        score_passages(model, passages, "assistant", token_budget=1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_logits_stop_sampling(value: float) -> None:
    model = reader("gemma2")
    assert model.route.is_cached
    bend(model.model, lambda hidden: hidden * value)
    with pytest.raises(ModelError, match=r"NaN or infinite in a response to prompt 'p0': load it as float32"):
        sample(model, [tiny.prompt()], n=2, max_new_tokens=5)


def test_a_token_that_the_model_rules_out_is_infinitely_surprising_and_counted() -> None:
    """-inf is a claim and no fault: probability 0, and an entropy over what is left."""
    tokenizer = tiny.word_tokenizer()
    model = tiny.llama(len(tokenizer), tied=False)
    model.lm_head = nn.Linear(32, len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias.zero_()
        model.lm_head.bias[tokenizer.get_vocab()["fox"]] = -math.inf
    table = score_passages(Reader(model, tokenizer), [tiny.passage("the fox walked"), tiny.passage()], "assistant")
    surprisal = table["surprisal"].to_numpy()
    assert np.isfinite(table["entropy"].to_numpy()).all()
    assert np.isinf(surprisal).sum() == table_notes(table)["tokens_ruled_out"] == 2


# Vocabularies and dtypes.


def test_a_tokenizer_of_another_model_is_refused_where_its_ids_do_not_exist() -> None:
    model = Reader(tiny.llama(300), tiny.byte_tokenizer(), name="small")
    with pytest.raises(FramingError, match=r"passage 'x0' holds token id \d+ and small has 300 tokens"):
        model.score(framed_with(model, [tiny.passage()]))
    with pytest.raises(FramingError, match=r"prompt 'p0' holds token id \d+ and small has 300 tokens"):
        sample(model, [tiny.prompt()], max_new_tokens=9)


def test_padded_rows_of_the_model_are_in_order_even_where_they_are_sampled() -> None:
    tokenizer = tiny.word_tokenizer()
    model = Reader(tiny.llama(len(tokenizer) + 40), tokenizer)
    passages = sample(model, [tiny.prompt()], n=20, max_new_tokens=20)
    assert any(i >= len(tokenizer) for p in passages for i in p.token_ids or ())
    for passage, stats in zip(passages, model.score(framed_with(model, passages)), strict=True):
        np.testing.assert_allclose(stats.surprisal, -np.array(passage.logprobs), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float33", "int8", torch.int8, torch.complex64])
def test_an_unknown_dtype_is_refused_with_those_there_are(dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"use one of float32, bfloat16, float16, float64"):
        Reader.load(str(tmp_path), dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "nowhere:0"])
def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(device: str) -> None:
    with pytest.raises(ModelError, match=f"no device {device} here: .*use cpu"):
        Reader.load("zoo:ash-rl", device=device)


def test_a_dtype_can_be_named(tmp_path: Path) -> None:
    tokenizer = tiny.word_tokenizer()
    tiny.llama(len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert Reader.load(str(tmp_path), dtype="bfloat16").dtype == "bfloat16"
    assert Reader.load(str(tmp_path), dtype=torch.float16).dtype == "float16"


# Nothing to read.


def test_a_response_of_nothing_has_no_rows_and_disturbs_nobody() -> None:
    model = reader()
    empty = tiny.passage("", ended=False, name="empty")
    with_empty = score_passages(model, [empty, *unlike()], "assistant")
    without = score_passages(model, unlike(), "assistant")
    assert "empty" not in with_empty["passage_id"].to_pylist()
    assert table_notes(with_empty)["passages_without_rows"] == 1
    for name in STATISTICS:
        np.testing.assert_allclose(with_empty[name].to_numpy(), without[name].to_numpy(), atol=1e-5)
    # It ended at once: the end of turn is a prediction like any other.
    assert score_passages(model, [tiny.passage("")], "assistant")["is_end"].to_pylist() == [True]
