"""The tests that a model has to pass, each of which returns what it found and never raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from enaction.check.report import COMPANY_TEST, STATISTICS_TEST, Verdict
from enaction.errors import FramingError
from enaction.framing import Framed, frame, frame_prompt, retokenisation_drift
from enaction.passages import Passage, Prompt
from enaction.reader.head import deviation, is_causal, is_exact
from enaction.reader.reader import Reader
from enaction.reader.rotary import on_each_side
from enaction.reader.statistics import TokenStats
from enaction.reader.stepping import accepted
from enaction.sampling import continuation
from enaction.stats.identity import IDENTITY_LIMIT, identity_residual
from enaction.words import Framing

# Largest differences that are rounding, nats: 1e-6 on a tiny model, 2e-5 with 30 layers. Half precision computes the
# same text in batches of another shape differently, and with a cache too.
AGREEMENT = 1e-3
HALF_AGREEMENT = 0.25
REREAD = 5e-3
HALF_REREAD = 0.5
# Dependence of a position on later tokens, relative to the largest logit: the share of positions that may exceed it
# in half precision, where a mixture of experts can route a token otherwise when a matrix has another shape.
HALF_SHARE = 0.1

STATISTICS = ("surprisal", "entropy", "varentropy")
# Tokens that are written around a rotary switch.
ACROSS = 12


def parity(reader: Reader) -> Verdict:
    """Whether the statistics of the output head are those of the model's own logits."""
    name = "head against the model's own logits"
    if reader.head_path == "own logits":
        shown = "body and head do not reproduce them, or cannot be run apart: the model's own logits are used instead"
        return Verdict(name, None, shown, reader.parity_error)
    return Verdict(
        name,
        is_exact(reader.parity_error, is_half=reader.is_coarse),
        f"largest difference {reader.parity_error:.1e} of the largest logit",
        reader.parity_error,
    )


def agreement(reader: Reader, framed: list[Framed], together: list[TokenStats]) -> Verdict:
    """The longest sample, alone, against float64 statistics of the model's own forward on the whole of it."""
    longest = max(framed, key=lambda f: f.stop)
    (alone,) = reader.score([longest])
    expected = _expected(reader, longest)
    measured = np.stack([alone.surprisal, alone.entropy])
    limit = HALF_AGREEMENT if reader.is_coarse else AGREEMENT
    error = _largest([measured - expected])
    finite = all(np.isfinite(getattr(s, c)).all() for s in together for c in STATISTICS)
    shown = f"entropy and surprisal off by {error:.1e} nats at most"
    if not finite:
        shown = "NaN or infinite statistics on the model's own text"
    return Verdict(STATISTICS_TEST, finite and error <= limit, shown, error, limit)


def causality(reader: Reader, framed: list[Framed]) -> Verdict:
    """The longest sample with and without its last third."""
    ids = max(framed, key=lambda f: f.stop).ids
    # A text across a rotary switch does look ahead; `switch` tests that it is not read so.
    ids = next((ids[:s] for s in reader.rotary_switches if 2 * len(ids) // 3 <= s < len(ids)), ids)
    kept = max(1, 2 * len(ids) // 3)
    whole_TV, part_TV = (_own_logits(reader, ids) for ids in (ids, ids[:kept]))
    errors = sorted(deviation(p, w) for p, w in zip(part_TV, whole_TV[:kept], strict=True))
    worst = errors[-1 - int(HALF_SHARE * len(errors))] if reader.is_coarse else errors[-1]
    return Verdict(
        "no look ahead",
        is_causal(worst, is_half=reader.is_coarse),
        f"taking later tokens away moves earlier logits by {worst:.1e} of the largest",
        worst,
    )


def company(reader: Reader, framed: list[Framed]) -> Verdict:
    """Samples cut to very different lengths, alone and padded together."""
    few = framed[:: max(1, len(framed) // 5)]
    cut = [_cut(f, max(1, (i + 1) * (f.stop - f.start) // len(few))) for i, f in enumerate(few)]
    together = reader.score(cut, token_budget=len(cut) * max(f.stop for f in cut))
    alone = reader.score(cut, token_budget=1)
    error = _largest([getattr(a, c) - getattr(t, c) for a, t in zip(alone, together, strict=True) for c in STATISTICS])
    limit = HALF_AGREEMENT if reader.is_coarse else AGREEMENT
    shown = f"alone and padded with longer ones differ by {error:.1e} nats at most"
    return Verdict(COMPANY_TEST, error <= limit, shown, error, limit)


def _cut(framed: Framed, measured: int) -> Framed:
    """Its first measured tokens."""
    stop = min(framed.start + measured, framed.stop)
    return replace(framed, ids=framed.ids[:stop], stop=stop, has_end=False)


def switch(reader: Reader, framed: list[Framed]) -> list[Verdict]:
    """Words written across the first rotary switch are read as they were written, and change no shorter text.

    No sample needs to get there: what the model wrote is repeated up to a few tokens before the switch.
    """
    if not reader.rotary_switches:
        return []
    name, length = "texts across the rotary switch", reader.rotary_switches[0]
    if reader.context_length is not None and reader.context_length < length + ACROSS:
        return [Verdict(name, None, "the context ends before it")]
    filler = [token for f in framed for token in f.ids]
    context = tuple((filler * (length // len(filler) + 1))[: length - ACROSS // 2])
    written, logprobs = continuation(reader, context, ACROSS)
    across = Framed((*context, *written), len(context), len(context) + len(written), has_end=False)
    short = max((f for f in framed if f.stop <= length), key=lambda f: f.stop, default=None)
    together = reader.score([across, *([short] if short else [])])
    alone = [*reader.score([across]), *(reader.score([short]) if short else [])]
    error = _largest(
        [
            together[0].surprisal + np.array(logprobs),
            *(getattr(t, c) - getattr(a, c) for t, a in zip(together, alone, strict=True) for c in STATISTICS),
        ]
    )
    limit = HALF_REREAD if reader.is_coarse else REREAD
    shown = f"written and read across {length:,} tokens, alone and beside a short text; off by {error:.1e} nats at most"
    return [Verdict(name, error <= limit, shown, error, limit)]


def identity(scores: list[TokenStats]) -> Verdict:
    """Whether own samples are on average as surprising as expected, in standard deviations."""
    name = "surprisal equals entropy on own text"
    columns = [np.concatenate([getattr(s, c) for s in scores]) for c in STATISTICS]
    try:
        residual = identity_residual(*columns)
    except ValueError as error:
        return Verdict(name, False, str(error), None, IDENTITY_LIMIT)
    shown = (
        f"residual {residual.standardised:+.2f} standard deviations "
        f"({residual.mean:+.3f} +- {residual.standard_error:.3f} nats a token, {residual.n_tokens} tokens)"
    )
    if residual.is_alarming:
        shown += ": what it writes is not drawn from what it reads with; is the temperature 1, the template its own?"
    return Verdict(name, not residual.is_alarming, shown, residual.standardised, IDENTITY_LIMIT)


def reread(reader: Reader, samples: list[Passage], scores: list[TokenStats]) -> Verdict:
    """Log-probabilities recorded in sampling against those of reading: if they differ, a cache is wrong."""
    differences = np.concatenate(
        [np.abs(s.surprisal + np.array(p.logprobs)) for p, s in zip(samples, scores, strict=True)]
    )
    half = reader.is_coarse
    error = float(np.quantile(differences, 1 - HALF_SHARE) if half else differences.max(initial=0.0))
    limit = HALF_REREAD if half else REREAD
    route = reader.route
    how = "from a cache" if route.is_cached else "by reading anew, for it has no cache that agrees with its forward"
    return Verdict(
        "what was sampled is read alike", error <= limit, f"sampled {how}; off by {error:.1e} nats", error, limit
    )


def vocabulary(reader: Reader) -> Verdict:
    """Whether the tokenizer knows only tokens that the model has."""
    added, rows = reader.tokenizer.added_tokens_decoder, reader.vocabulary_size
    # Added tokens that a model was not resized for are refused where a text holds one; the others would be wrong.
    tokens = max(i for i in reader.tokenizer.get_vocab().values() if i < rows or i not in added) + 1
    shown = f"{tokens:,} ids of the tokenizer, {rows:,} of the model"
    if tokens > rows:
        shown += ": the tokenizer knows tokens that the model does not have; it belongs to another model"
    return Verdict("the tokenizer fits the model", tokens <= rows, shown, float(tokens), float(rows))


def bos(reader: Reader, prompts: list[Prompt], framing: Framing) -> Verdict:
    """How often a context begins with BOS: twice if both the template and the tokenizer add it."""
    name, tokenizer = "one BOS at most", reader.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return Verdict(name, None, "the tokenizer has no BOS")
    counts = []
    for prompt in prompts:
        ids = frame_prompt(tokenizer, prompt, framing).ids
        counts.append(next((i for i, token in enumerate(ids) if token != bos), len(ids)))
    most = max(counts)
    shown = f"a context begins with {most} of {tokenizer.bos_token}"
    adds = list(tokenizer("a")["input_ids"])[:1] == [bos]
    if most == 0 and adds:
        shown += "; the tokenizer adds one to plain text and this template does not: is that meant?"
    return Verdict(name, most <= 1, shown, float(most), 1.0)


def round_trip(reader: Reader, samples: list[Passage], framing: Framing) -> Verdict:
    """Own text, without its ids, put into the template and cut out again."""
    name, tokenizer = "own text comes out of the template whole", reader.tokenizer
    lost, tried = [], 0
    for passage in samples:
        if not passage.response.strip():
            continue
        tried += 1
        text_only = replace(passage, token_ids=None, logprobs=None, tokenizer=None)
        try:
            framed = frame(tokenizer, text_only, framing)
        except FramingError as error:
            return Verdict(name, False, str(error))
        body = framed.ids[framed.start - framed.skipped : framed.stop - framed.has_end]
        shown = str(tokenizer.decode(list(body), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        # A character cut in half has no text that it could come back to; that it is shown at all is tried above.
        if "\ufffd" not in passage.response and "".join(shown.split()) != "".join(passage.response.split()):
            lost.append(passage.id)
    if not tried:
        return Verdict(name, None, "no sample has text to try")
    shown = f"{tried - len(lost)} of {tried} samples" + (f"; not {lost[0]}" if lost else "")
    return Verdict(name, not lost, shown, float(len(lost)), 0.0)


def drift(reader: Reader, samples: list[Passage], framing: Framing) -> Verdict:
    """Not a fault: how much a transcript would differ from what was written if the ids were dropped."""
    name = "re-tokenising would change"
    try:
        drifts = [retokenisation_drift(reader.tokenizer, passage, framing) or 0 for passage in samples]
    except FramingError:
        return Verdict(name, None, "unknown, because the template does not show the text as it is")
    tokens = sum(len(p.token_ids or ()) for p in samples)
    share = sum(drifts) / max(1, tokens)
    shown = f"{sum(d > 0 for d in drifts)} of {len(samples)} samples, {share:.1%} of the tokens"
    return Verdict(name, None, shown, share)


def _own_logits(reader: Reader, ids: Sequence[int]) -> Tensor:
    """[T, V] float32 of one text by the model's own forward."""
    given = {"input_ids": torch.tensor([list(ids)], device=reader.device), "use_cache": False}
    with reader.reading():
        return reader.model(**accepted(reader.model, given)).logits[0].float().cpu()


def _expected(reader: Reader, framed: Framed) -> np.ndarray:
    """[2, N] surprisal and entropy of the model's own forward, on each side of a rotary switch by itself."""
    parts = on_each_side(framed, reader.rotary_switches)
    return np.concatenate([_exact(_own_logits(reader, part.ids[:-1]), part) for part in parts], 1)


def _exact(logits_TV: Tensor, framed: Framed) -> np.ndarray:
    """[2, N] surprisal and entropy by their definitions in float64."""
    logprob_NV = torch.log_softmax(logits_TV[framed.start - 1 : framed.stop - 1].double(), 1)
    p_NV = logprob_NV.exp()
    targets_N = torch.tensor(framed.ids[framed.start : framed.stop])
    surprisal_N = -logprob_NV.gather(1, targets_N[:, None])[:, 0]
    return torch.stack([surprisal_N, -torch.special.xlogy(p_NV, p_NV).sum(1)]).numpy()


def _largest(differences: Sequence[np.ndarray]) -> float:
    """NaN if one is NaN, which fails every comparison with a limit, and therefore the test."""
    return float(np.max([np.abs(part).max(initial=0.0) for part in differences]))
