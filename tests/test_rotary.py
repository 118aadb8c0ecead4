"""Rotary factors that switch with the length of a text: no text changes how another one, or its own past, is read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from transformers import LlamaConfig, Phi3Config

from enaction.check import check
from enaction.framing import Framed, frame
from enaction.reader import Reader
from enaction.reader.rotary import on_each_side, steady_length, switches_of
from enaction.sampling import sample
from enaction.tokens import score_passages, table_notes

SWITCH = 64
CONTEXT = "the old fox walked over the river and found a small house in the garden so it was very old and red"


def reader() -> Reader:
    tokenizer = tiny.word_tokenizer()
    return Reader(tiny.longrope(len(tokenizer), switch=SWITCH), tokenizer, name="switching")


def as_written(model: Reader, f: Framed) -> np.ndarray:
    """[3, N] by the definition, in float64: each token from a plain forward over what precedes it, and nothing else."""
    exact = tiny.longrope(model.vocabulary_size, switch=SWITCH).double()
    columns = []
    with torch.inference_mode():
        for t in range(f.start, f.stop):
            logprob_V = torch.log_softmax(exact(input_ids=torch.tensor([f.ids[:t]])).logits[0, -1], 0)
            entropy = -(logprob_V.exp() * logprob_V).sum()
            varentropy = (logprob_V.exp() * (logprob_V + entropy) ** 2).sum()
            columns.append(torch.stack([-logprob_V[f.ids[t]], entropy, varentropy]))
    return torch.stack(columns, 1).numpy()


def texts(model: Reader, lengths: tuple[int, ...]) -> list[Framed]:
    """Responses of these lengths to one prompt."""
    rng = np.random.default_rng(0)
    passages = [tiny.passage(" ".join(rng.choice(tiny.WORDS, n)), CONTEXT, name=f"x{n}") for n in lengths]
    return [frame(model.tokenizer, passage, "assistant") for passage in passages]


@pytest.mark.parametrize("budget", [1, 300, 10_000])
def test_texts_on_both_sides_and_across_are_read_as_they_would_be_written(budget: int) -> None:
    model = reader()
    assert model.rotary_switches == (SWITCH,)
    assert model.head_path == "streamed"
    framed = texts(model, (3, 9, 20, 37, 38, 39, 40, 41, 60, 90))
    # Fed are all tokens but the last: lengths on either side, exactly at it, and contexts beyond it.
    assert {SWITCH - 1, SWITCH, SWITCH + 1} <= {f.stop - 1 for f in framed}
    rng = np.random.default_rng(1)
    beyond = tuple(int(i) for i in rng.integers(8, 50, SWITCH + 30))
    framed += [Framed((*beyond, *range(10, 13 + k)), len(beyond), len(beyond) + 3 + k, has_end=False) for k in range(3)]
    for f, stats in zip(framed, model.score(framed, token_budget=budget), strict=True):
        found = np.stack([stats.surprisal, stats.entropy, stats.varentropy])
        np.testing.assert_allclose(found, as_written(model, f), atol=2e-4, rtol=2e-4, err_msg=f"{f.stop - 1} tokens")


def test_windows_are_texts_of_their_own() -> None:
    model = reader()
    (long,) = texts(model, (150,))
    for window in (40, SWITCH, 100):
        (stats,) = model.score([long], window=window)
        assert len(stats) == long.stop - long.start
        t = SWITCH + 1  # the first token that a window of 64 does not reach from the start
        begin = next(b for b in range(0, t, window // 2) if t - b <= window)
        (alone,) = model.score([Framed(long.ids[begin : t + 1], t - begin, t - begin + 1, has_end=False)])
        np.testing.assert_allclose(stats.entropy[t - long.start], alone.entropy[0], atol=1e-4)


def test_what_is_sampled_across_the_switch_is_drawn_from_what_reads_it() -> None:
    model = reader()
    prompts = [
        tiny.prompt("why", "short"),
        tiny.prompt(f"tell me about {CONTEXT} {CONTEXT}", "near"),
        tiny.prompt(f"tell me of it {CONTEXT} {CONTEXT}", "also near"),
        tiny.prompt(f"{CONTEXT} and {CONTEXT} but {CONTEXT}", "beyond"),
    ]
    passages = sample(model, prompts, n=6, max_new_tokens=70, seed=3)
    framed = [frame(model.tokenizer, passage, "assistant") for passage in passages]
    assert sum(f.start <= SWITCH < f.stop - 1 for f in framed) > 3
    assert sum(f.stop - 1 < SWITCH for f in framed) > 1  # some ended before, and left the batch
    for passage, f, stats in zip(passages, framed, model.score(framed), strict=True):
        np.testing.assert_allclose(-np.array(passage.logprobs), stats.surprisal, atol=5e-4, err_msg=passage.id)
        np.testing.assert_allclose(stats.surprisal, as_written(model, f)[0], atol=5e-4)
    alone = sample(model, prompts, n=6, max_new_tokens=70, seed=3, batch_size=1)
    assert [p.token_ids for p in alone] == [p.token_ids for p in passages]


def test_notes_count_the_texts_across() -> None:
    passages = [tiny.passage("the fox " * n, CONTEXT, name=f"x{n}") for n in (3, 30)]
    assert table_notes(score_passages(reader(), passages, "assistant"))["passages_across_switch"] == 1


def test_check_passes_and_says_how_it_is_read() -> None:
    report = check(reader(), max_new_tokens=60)
    assert report.is_right, [t for t in report.tests if t.passed is False]
    across = next(test for test in report.tests if "switch" in test.name)
    assert across.passed
    assert f"{SWITCH:,} tokens" in report.facts["rotary positions"]


def test_a_loop_that_keeps_its_cache_across_the_switch_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """With samples too short to get there by themselves, as those of 48 tokens are with a switch at 4,096."""
    model = reader()
    monkeypatch.setattr("enaction.sampling.side", lambda length, switches: 0)
    report = check(model, max_new_tokens=6)
    assert [t.name for t in report.tests if t.passed is False] == ["texts across the rotary switch"]


def test_configurations_that_switch_are_known() -> None:
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 4096}
    assert switches_of(SimpleNamespace(rope_parameters=rope)) == (4096,)
    assert switches_of(SimpleNamespace(rope_parameters={"full": rope, "sliding": {"rope_type": "default"}})) == (4096,)
    old = SimpleNamespace(rope_scaling={"type": "su"}, original_max_position_embeddings=2048)
    assert switches_of(old) == (2048,)
    assert switches_of(LlamaConfig()) == ()
    assert switches_of(Phi3Config()) == ()
    assert steady_length(LlamaConfig()) is None
    assert steady_length(SimpleNamespace(use_dynamic_ntk=True, seq_length=2048)) == 2048


def test_parts_of_a_text_lie_on_their_sides() -> None:
    f = Framed(tuple(range(100)), 10, 100, has_end=True)
    parts = on_each_side(f, (20, 50))
    assert [(p.start, p.stop, p.has_end) for p in parts] == [(10, 21, False), (21, 51, False), (51, 100, True)]
    assert all(p.ids == f.ids[: p.stop] for p in parts)
    for same in (
        Framed(f.ids, 51, 100, has_end=False),
        Framed(f.ids[:21], 3, 21, has_end=False),
        Framed((), 0, 0, False),
    ):
        assert on_each_side(same, (20, 50)) == [same]
