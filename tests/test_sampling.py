"""Sampling: what is written comes from the model's own distribution, and says truly how probable it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from scipy import stats as scipy_stats
from transformers import PreTrainedModel

from enaction.errors import FramingError, UserError
from enaction.framing import beginning_ids, frame, frame_prompt
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.words import Framing

MODELS: dict[str, Callable[[int], PreTrainedModel]] = {"llama": tiny.llama, "gemma2": tiny.gemma2, "neox": tiny.neox}
# Unlike in length, so that batches are padded.
PROMPTS = [
    tiny.prompt("why", "a"),
    tiny.prompt("tell me about the old red fox near the river", "b"),
    tiny.prompt("how was the night", "c"),
]


def reader(name: str = "llama") -> Reader:
    tokenizer = tiny.word_tokenizer()
    return Reader(MODELS[name](len(tokenizer)), tokenizer, name=name)


def ending(bias: float) -> Reader:
    """A model with so much more logit on its end-of-turn token."""
    tokenizer = tiny.word_tokenizer()
    model = tiny.llama(len(tokenizer), tied=False)
    head = torch.nn.Linear(32, len(tokenizer))
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[7] = bias
    model.lm_head = head
    return Reader(model, tokenizer)


def score(model: Reader, passages: list[Passage], framing: Framing = "assistant") -> list[np.ndarray]:
    found = model.score([frame(model.tokenizer, passage, framing) for passage in passages])
    return [np.stack([s.surprisal, s.entropy, s.varentropy]) for s in found]


def residual(scores: list[np.ndarray]) -> float:
    """sum(s - H) / sqrt(sum V) over all measured tokens."""
    surprisal, entropy, varentropy = np.concatenate(scores, axis=1)
    return float((surprisal - entropy).sum() / np.sqrt(varentropy.sum()))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("framing", ["assistant", "none"])
def test_recorded_logprobs_are_what_teacher_forcing_finds(name: str, framing: Framing) -> None:
    model = reader(name)
    passages = sample(model, PROMPTS, n=12, max_new_tokens=40, framing=framing)
    for passage, found in zip(passages, score(model, passages, framing), strict=True):
        assert passage.logprobs is not None
        np.testing.assert_allclose(found[0], -np.array(passage.logprobs), atol=1e-4)
    # Rows left their batch at different times, and rows of unlike length shared it.
    assert len({len(p.token_ids or ()) for p in passages}) > 5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("framing", ["assistant", "none"])
def test_what_follows_a_given_beginning_is_drawn_from_the_model(name: str, framing: Framing) -> None:
    model = reader(name)
    begun = {p.id: beginning_ids(model.tokenizer, p, text, framing) for p, text in zip(PROMPTS, TEXTS, strict=True)}
    passages = sample(model, PROMPTS, n=60, max_new_tokens=30, framing=framing, beginnings=begun)
    drawn = []
    for passage, found in zip(passages, score(model, passages, framing), strict=True):
        first = begun[passage.prompt_id]
        assert passage.response.startswith(TEXTS[PROMPTS.index(_prompt(passage))])
        assert (passage.token_ids or ())[: len(first)] == first
        assert passage.sampling["begun_with"] == len(first)
        drawn.append(found[:, len(first) :])
    assert abs(residual(drawn)) < 4


TEXTS = ["the fox", "it was", "a night near the river"]


def _prompt(passage: Passage) -> Prompt:
    return next(p for p in PROMPTS if p.id == passage.prompt_id)


@pytest.mark.parametrize("name", MODELS)
def test_the_identity_residual_is_small_and_sees_a_wrong_temperature(name: str) -> None:
    model = reader(name)
    own = sample(model, PROMPTS, n=100, max_new_tokens=40)
    assert abs(residual(score(model, own))) < 4
    cold = sample(model, PROMPTS, n=100, max_new_tokens=40, temperature=0.5)
    assert residual(score(model, cold)) < -8
    cut = sample(model, PROMPTS, n=100, max_new_tokens=40, top_p=0.8)
    assert residual(score(model, cut)) < -8


def test_temperature_0_takes_the_most_probable_token_each_time() -> None:
    model = reader("llama")
    passages = sample(model, PROMPTS, n=2, max_new_tokens=12, temperature=0.0)
    for passage, found in zip(passages, score(model, passages), strict=True):
        assert passage.token_ids == next(p.token_ids for p in passages if p.prompt_id == passage.prompt_id)
        assert set(passage.logprobs or ()) == {0.0}
        ids = [*frame_prompt(model.tokenizer, _prompt(passage), "assistant").ids]
        for token in passage.token_ids or ():
            with torch.inference_mode():
                assert int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)
        assert found.shape[1] == len(passage.token_ids or ())


def test_the_identity_needs_the_end_token() -> None:
    """Leaving it out conditions on the token that was drawn: the residual of the rest is no longer centred."""
    model = ending(3.0)
    own = sample(model, PROMPTS, n=100, max_new_tokens=40)
    without = [s[:, :-1] if p.ended else s for p, s in zip(own, score(model, own), strict=True)]
    assert abs(residual(score(model, own))) < 4 < abs(residual(without))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.6)])
def test_first_tokens_follow_the_models_distribution(temperature: float, top_p: float) -> None:
    model = reader("neox")
    prompt = PROMPTS[1]
    passages = sample(model, [prompt], n=4000, max_new_tokens=1, batch_size=500, temperature=temperature, top_p=top_p)
    ids = frame_prompt(model.tokenizer, prompt, "assistant").ids
    with torch.inference_mode():
        p_V = torch.softmax(model.model(input_ids=torch.tensor([ids])).logits[0, -1].double() / temperature, 0).numpy()
    order = np.argsort(-p_V)
    p_V[order[np.cumsum(p_V[order]) - p_V[order] >= top_p]] = 0
    p_V /= p_V.sum()
    counts = Counter(p.token_ids[0] for p in passages if p.token_ids)
    seen = np.array([counts[i] for i in range(len(p_V))])
    assert seen[p_V == 0].sum() == 0
    common = p_V * len(passages) >= 5
    observed = np.append(seen[common], seen[~common].sum())
    expected = np.append(p_V[common], p_V[~common].sum()) * len(passages)
    keep = expected > 0
    assert scipy_stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-4
    for passage in passages[:20]:
        assert passage.token_ids is not None
        assert passage.logprobs is not None
        assert passage.logprobs[0] == pytest.approx(np.log(p_V[passage.token_ids[0]]), abs=1e-4)


def test_a_finished_response_stops_at_its_end_token() -> None:
    model = reader("gemma2")
    stops = {3, 7}  # EOS of the generation settings, <|end|> of the template
    passages = sample(model, PROMPTS, n=60, max_new_tokens=30)
    assert {p.ended for p in passages} == {True, False}
    assert {p.token_ids[-1] for p in passages if p.ended and p.token_ids} == stops
    for passage in passages:
        assert passage.token_ids is not None
        assert passage.logprobs is not None
        assert len(passage.logprobs) == len(passage.token_ids)
        body = passage.token_ids[:-1] if passage.ended else passage.token_ids
        assert not stops & set(body)
        assert len(passage.token_ids) == 30 or passage.ended
        assert passage.response == model.tokenizer.decode(list(body))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    model = reader()
    whole = sample(model, PROMPTS, n=7, max_new_tokens=20)
    assert [p.id for p in whole] == [f"{name}/{k}" for name in "abc" for k in range(7)]
    assert sample(model, PROMPTS[1:2], n=3, max_new_tokens=20, batch_size=2) == [
        replace(p, logprobs=q.logprobs)
        for p, q in zip(whole[7:10], sample(model, PROMPTS[1:2], n=3, max_new_tokens=20, batch_size=2), strict=True)
    ]
    assert len({p.token_ids for p in whole}) > 15
    again = sample(model, PROMPTS, n=7, max_new_tokens=20, seed=1)
    assert [p.token_ids for p in again] != [p.token_ids for p in whole]
    other = sample(model, PROMPTS, n=7, max_new_tokens=20, author="someone else")
    assert [p.token_ids for p in other] != [p.token_ids for p in whole]
    assert other[0].author == "someone else"


def test_a_model_that_cannot_be_padded_on_the_left_samples_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reader("neox")
    padded = sample(model, PROMPTS, n=5, max_new_tokens=20)
    monkeypatch.setattr(type(model), "takes_left_padding", property(lambda self: False))
    assert [p.token_ids for p in sample(model, PROMPTS, n=5, max_new_tokens=20)] == [p.token_ids for p in padded]


def test_settings_are_recorded_and_the_framing_has_a_default() -> None:
    steps: list[tuple[int, int]] = []
    passages = sample(
        reader(), PROMPTS, n=2, max_new_tokens=5, seed=4, batch_size=4, progress=lambda *step: steps.append(step)
    )
    expected = {"temperature": 1.0, "top_p": 1.0, "seed": 4, "max_new_tokens": 5, "framing": "assistant"}
    assert all(p.sampling == expected for p in passages)
    assert passages[0].prompt == PROMPTS[0].messages
    assert passages[0].prompt_id == "a"
    assert steps == [(4, 6), (6, 6)]
    bare = Reader(tiny.llama(len(tiny.word_tokenizer())), tiny.word_tokenizer(None))
    assert sample(bare, PROMPTS[:1], max_new_tokens=5)[0].sampling["framing"] == "none"


def test_an_empty_response_is_kept() -> None:
    """A model that ends at once says something about itself; dropping the passage would bend the mean."""
    model = ending(500.0)
    (passage,) = sample(model, PROMPTS[:1], max_new_tokens=5)
    assert passage.response == ""
    assert passage.token_ids == (7,)
    assert passage.ended
    (found,) = score(model, [passage])
    assert found.shape == (3, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -0.5}, "temperature -0.5"),
        ({"top_p": 1.5}, "top_p 1.5"),
        ({"n": 0}, "n 0"),
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        sample(reader(), PROMPTS, **settings)


def test_a_prompt_that_does_not_fit_is_refused_with_numbers() -> None:
    tokenizer = tiny.word_tokenizer()
    short = Reader(tiny.llama(len(tokenizer), context=20), tokenizer, name="short")
    with pytest.raises(FramingError, match=r"prompt 'b' has 13 tokens and with 10 new ones .* 20 of short: shorten"):
        sample(short, PROMPTS, max_new_tokens=10)
