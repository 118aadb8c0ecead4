"""The audit with a reader: its null is the distribution that the sampler drew from, and its state is all there is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from enaction import zoo
from enaction.audit import Audit, Settings, Turn, audit
from enaction.audit.reading import NO_TEMPLATE, Read, read_turns
from enaction.audit.rolled import Given, turns_of
from enaction.audit.table import Tally, row_of
from enaction.errors import PassageError, UserError
from enaction.framing import frame, frame_prompt
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.rollouts import Rollout
from enaction.sampling import sample
from enaction.stats.evidence import BETAS

PROMPTS = [tiny.prompt("why", "a"), tiny.prompt("tell me about the old red fox", "b"), tiny.prompt("how", "c")]


@pytest.fixture(scope="module", name="reader")
def _reader() -> Reader:
    tokenizer = tiny.word_tokenizer()
    return Reader(tiny.llama(len(tokenizer)), tokenizer, name="tiny")


def own(reader: Reader, **how: float) -> list[Passage]:
    return sample(reader, PROMPTS, n=2, max_new_tokens=24, framing="assistant", **how)  # pyright: ignore[reportArgumentType]


def logprobs(reader: Reader, ids: tuple[int, ...], start: int) -> np.ndarray:
    """Log-probabilities [N, V] before each token from `start` on, of one sequence by itself, in float64."""
    with torch.inference_mode():
        logits_TV = reader.model(input_ids=torch.tensor([ids])).logits[0].double()
    return torch.log_softmax(logits_TV[start - 1 : -1], 1).numpy()


def distribution(reader: Reader, passage: Passage, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [N, V] as stated by the model's own logits in float64, and the ids that came."""
    framed = frame(reader.tokenizer, passage, "assistant")
    log_NV = logprobs(reader, framed.ids, framed.start) / settings.temperature
    log_NV -= np.logaddexp.reduce(log_NV, axis=1, keepdims=True)
    order_NV = np.argsort(-log_NV, axis=1)
    rank_NV = np.argsort(order_NV, axis=1)
    p_NV = np.take_along_axis(np.exp(log_NV), order_NV, 1)
    before_NV = np.take_along_axis(p_NV.cumsum(1) - p_NV, rank_NV, 1)
    out_NV = before_NV >= settings.top_p
    if settings.top_k is not None:
        out_NV |= rank_NV >= settings.top_k
    log_NV = np.where(out_NV, -np.inf, log_NV)
    log_NV -= np.logaddexp.reduce(log_NV, axis=1, keepdims=True)
    return log_NV, np.array(framed.ids[framed.start : framed.stop])


@pytest.mark.parametrize(
    "settings",
    [
        Settings(noise=0),
        Settings(temperature=0.7, noise=0),
        Settings(temperature=1.3, top_p=0.8, noise=0),
        Settings(top_k=3, noise=0),
    ],
    ids=["plain", "tempered", "nucleus", "top-k"],
)
def test_the_null_is_that_of_the_models_own_logits(reader: Reader, settings: Settings) -> None:
    passages = own(reader, temperature=settings.temperature, top_p=settings.top_p)
    for passage, read in zip(passages, read_turns(reader, passages, settings), strict=True):
        log_NV, token_N = distribution(reader, passage, settings)
        p_NV, came = np.exp(log_NV), (np.arange(len(token_N)), token_N)
        information_NV = np.where(p_NV > 0, -log_NV, 0)
        entropy_N = (p_NV * information_NV).sum(1)
        inside_N = np.isfinite(log_NV[came])
        assert inside_N.all() or settings.top_k is not None  # top-k is not how they were sampled
        null = read.null
        np.testing.assert_allclose(null.surprisal_N, -log_NV[came], atol=2e-5)
        np.testing.assert_allclose(null.entropy_N, entropy_N, atol=2e-5)
        varentropy_N = (p_NV * (information_NV - entropy_N[:, None]) ** 2).sum(1)
        np.testing.assert_allclose(null.varentropy_N, varentropy_N, atol=1e-4)
        np.testing.assert_allclose(null.log_top_N, log_NV.max(1), atol=2e-5)
        assert (null.is_top_N == (log_NV.argmax(1) == token_N)).all()
        for b, beta in enumerate(BETAS):
            np.testing.assert_allclose(null.log_sums_NB[:, b], np.log((p_NV**beta).sum(1)), atol=1e-4)


def test_own_text_gives_no_evidence_and_another_models_does(reader: Reader) -> None:
    other = Reader(tiny.llama(reader.vocabulary_size, seed=5), reader.tokenizer, name="other")
    turns = list(audit(reader, own(reader), Settings(noise=0)))
    assert {turn.verdict for turn in turns} == {"no evidence"}
    foreign = Audit(Settings(noise=0))
    strange = sample(other, PROMPTS, n=12, max_new_tokens=60, framing="assistant")
    for turn in audit(reader, strange, foreign, {"other": other}):
        assert turn.at_least <= turn.n_tokens
        assert (turn.crossing is None) == (turn.verdict != "foreign")
    assert foreign.stream.greatest > foreign.settings.log_threshold
    assert foreign.stream.n_tokens == sum(len(p.token_ids or ()) for p in strange)


def test_a_clone_cannot_be_told_words_in_no_order_can_and_random_weights_did_not_write_a_story() -> None:
    model = Reader.load("zoo:ash-rl", device="cpu")
    stories = sample(model, zoo.prompts()[:6], seed=3)
    clone = [replace(p, author="clone") for p in stories]
    assert {turn.verdict for turn in audit(model, clone)} == {"no evidence"}
    rng = np.random.default_rng(0)
    nobody = [replace(p, token_ids=None, response=" ".join(rng.permutation(p.response.split()))) for p in stories]
    assert {turn.verdict for turn in audit(model, nobody)} == {"foreign"}
    random = Reader(tiny.llama(model.vocabulary_size, seed=1), model.tokenizer, name="random")
    together = Audit(Settings())
    list(audit(random, stories, together))
    assert together.stream.greatest > together.settings.log_threshold


def test_what_another_reader_says_is_of_the_same_tokens_and_absent_where_it_read_none(reader: Reader) -> None:
    other = Reader(tiny.llama(reader.vocabulary_size, seed=5), reader.tokenizer, name="other")
    passage = own(reader)[0]
    (turn,) = audit(reader, [passage], None, {"other": other})
    log_NV, token_N = distribution(other, passage, Settings())
    assert turn.versus["other"] == pytest.approx(
        float(log_NV[np.arange(len(token_N)), token_N].mean()) + turn.surprisal, abs=1e-4
    )
    (bare,) = audit(reader, [replace(passage, prompt=())], Settings(framing="assistant"))
    assert bare.versus == {}


def test_binoculars_is_surprisal_over_cross_entropy(reader: Reader) -> None:
    other = Reader(tiny.llama(reader.vocabulary_size, seed=5), reader.tokenizer, name="other")
    passage = replace(own(reader)[0], sampling={})
    log_NV, token_N = distribution(reader, passage, Settings())
    log_q_NV, _ = distribution(other, passage, Settings())
    expected = log_NV[np.arange(len(token_N)), token_N].sum() / (np.exp(log_q_NV) * log_NV).sum()
    (turn,) = audit(reader, [passage], None, {"other": other}, observer="other")
    assert turn.binoculars == pytest.approx(float(expected), rel=1e-5)
    # At any temperature of the sampler it is that of the models' own distributions; without an observer it is absent.
    (cold,) = audit(reader, [passage], Settings(temperature=0.7), {"other": other}, observer="other")
    assert cold.binoculars == pytest.approx(turn.binoculars)
    (plain,) = audit(reader, [passage], None, {"other": other})
    assert math.isnan(plain.binoculars)
    # A clone as observer would have said the model's own words: surprisal over entropy.
    clone = Reader(reader.model, reader.tokenizer, name="clone")
    (cloned,) = audit(reader, [passage], None, {"clone": clone}, observer="clone")
    assert cloned.binoculars == pytest.approx(cloned.surprisal / cloned.entropy, rel=1e-5)


def test_own_ids_are_read_and_not_the_text_again(reader: Reader) -> None:
    passage = own(reader)[0]
    strange = replace(passage, response="the the the")
    by_ids, by_text = (
        read_turns(reader, [p], Settings())[0] for p in (strange, replace(strange, token_ids=None, ended=False))
    )
    assert by_ids.framed.ids[by_ids.framed.start :] == passage.token_ids
    assert len(by_text.null) == 3


def test_the_alternative_without_template_reads_the_same_tokens(reader: Reader) -> None:
    passage = own(reader)[1]
    (read,) = read_turns(reader, [passage], Settings(noise=0))
    context = frame_prompt(reader.tokenizer, PROMPTS[0], "none").ids
    ids = (*context, *(passage.token_ids or ()))
    expected_NV = logprobs(reader, ids, len(context))
    np.testing.assert_allclose(
        read.null.others[NO_TEMPLATE], expected_NV[np.arange(len(read.null)), list(passage.token_ids or ())], atol=2e-5
    )
    assert read.framed.ids[read.framed.start :] == passage.token_ids


def test_no_more_tokens_are_called_foreign_than_were_put_into_the_models_mouth(reader: Reader) -> None:
    k, wrong, foreign = 12, 0, 0
    rng = np.random.default_rng(0)
    begun = {p.id: rng.integers(12, reader.vocabulary_size, k).tolist() for p in PROMPTS}
    passages = sample(reader, PROMPTS, n=10, max_new_tokens=30, framing="assistant", beginnings=begun)
    for turn in audit(reader, passages, Settings(noise=0)):
        foreign += turn.verdict == "foreign"
        wrong += turn.at_least > k
    assert wrong <= 3  # 5 % of 30, and some
    assert foreign >= 10


def test_an_audit_goes_on_from_its_state_as_if_nothing_had_happened(reader: Reader) -> None:
    passages = own(reader, seed=3)
    whole = Audit(Settings())
    expected = list(audit(reader, passages, whole))
    first = Audit(Settings())
    got = list(audit(reader, passages[:3], first))
    second = Audit.at(Settings(), first.state())
    got += list(audit(reader, passages[3:], second))
    assert second.state()["n_turns"] == whole.state()["n_turns"] == len(passages)
    assert second.stream.log_e == pytest.approx(whole.stream.log_e, abs=1e-5)
    for one, two in zip(expected, got, strict=True):
        assert one.log_e == pytest.approx(two.log_e, abs=1e-5)  # batches differ, so that the last bits may
    again = Audit.at(Settings(), first.state())
    list(audit(reader, passages[3:], again))
    assert again.state() == second.state()  # from the same state, to the bit


def test_rollouts_are_read_by_the_ids_of_their_sampler_and_only_where_the_mask_says(reader: Reader) -> None:
    passage = own(reader)[0]
    context = frame_prompt(reader.tokenizer, PROMPTS[0], "assistant").ids
    ids = passage.token_ids or ()
    n = len(ids)
    plain = Rollout("r", "c", prompt_ids=context, token_ids=ids, temperature=1.0)
    (turn,) = turns_of(plain, "me", reader.fingerprint)
    assert isinstance(turn, Given)
    assert turn.sampling == {"temperature": 1.0}
    (read,), (as_passage,) = read_turns(reader, [turn], Settings()), read_turns(reader, [passage], Settings())
    np.testing.assert_allclose(read.null.surprisal_N, as_passage.null.surprisal_N, atol=1e-5)
    mask = np.ones(n, bool)
    mask[2:4] = False
    parts = list(turns_of(replace(plain, mask=mask), "me", reader.fingerprint))
    assert [p.id for p in parts] == ["r/0", "r/1"]
    reads = read_turns(reader, parts, Settings())
    joined_N = np.concatenate([r.null.surprisal_N for r in reads])
    np.testing.assert_allclose(joined_N, as_passage.null.surprisal_N[mask], atol=1e-5)
    with pytest.raises(PassageError, match="give prompt_ids"):
        list(turns_of(replace(plain, prompt_ids=None, mask=mask), "me", reader.fingerprint))


def test_rows_of_any_number_take_no_memory_but_for_the_worst() -> None:
    turn = Turn(
        "a", "i", 3, "no evidence", 0.0, 0.0, None, 0, None, 0, 1.0, None, 1.0, 1.0, 0.0, 0.0, {}, math.nan, np.zeros(3)
    )
    rng, tally = np.random.default_rng(0), Tally(5)
    greatest = rng.random(2000)
    for number, value in enumerate(greatest, start=1):
        tally.add(row_of(number, replace(turn, greatest=float(value))))
    assert [row["turn"] for row in tally.worst] == (np.argsort(-greatest)[:5] + 1).tolist()
    assert (tally.n_turns, tally.n_tokens, len(tally.log_e)) == (2000, 6000, 2000)
    assert {f.name for f in dataclasses.fields(Turn)} > {"log_e", "greatest"}


def test_turns_are_taken_from_a_stream_a_few_at_a_time(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    from enaction.audit import streaming

    monkeypatch.setattr(streaming, "TURNS_TOGETHER", 2)
    taken = 0

    def endless() -> Iterator[Passage]:
        nonlocal taken
        while True:
            taken += 1
            yield replace(PASSAGE, id=str(taken))

    turns = audit(reader, endless())
    for _ in range(5):
        next(turns)
    assert taken <= 6


PASSAGE = Passage("x", "p", tiny.user("why"), "the fox", "me")


def test_another_tokenizer_is_refused(reader: Reader) -> None:
    tokenizer = tiny.byte_tokenizer()
    other = Reader(tiny.llama(len(tokenizer)), tokenizer, name="bytes")
    with pytest.raises(UserError, match="another tokenizer"):
        list(audit(reader, [PASSAGE], None, {"bytes": other}))


def test_nothing_to_read_is_no_evidence(reader: Reader) -> None:
    empty = replace(PASSAGE, response="", ended=False)
    turn = next(audit(reader, [empty]))
    assert (turn.verdict, turn.n_tokens, turn.log_e) == ("nothing to read", 0, 0.0)
    assert math.isnan(turn.curvature)
    assert isinstance(read_turns(reader, [empty], Settings())[0], Read)
