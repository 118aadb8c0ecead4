"""Can this model be read exactly? Facts about it, and tests that it has to pass.

The model is tested on what it will be used for: it writes a few passages and reads them back. What it reads in its own
text has to agree with the model's own forward, must not depend on what shares a batch, and has to be as surprising
as it expected to be (`enaction.stats.identity`). A wrong template, a tokenizer of another model, a wrong temperature or
a broken cache makes one of these tests fail; which one it is shows where to look.

Nothing here raises for a model that fails: a failure is a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from enaction.errors import FramingError, ModelError
from enaction.framing import Framed, frame, frame_prompt, opening, retokenisation_drift, template_date
from enaction.passages import Message, Passage, Prompt
from enaction.reader.blocks import Blocks, blocks
from enaction.reader.head import deviation, is_causal, is_exact
from enaction.reader.reader import Reader
from enaction.reader.statistics import TokenStats
from enaction.reader.stepping import accepted
from enaction.sampling import sample
from enaction.stats.identity import IDENTITY_LIMIT, identity_residual
from enaction.words import Framing

MAX_NEW_TOKENS = 48
BATCH = 8  # small, so that the progress moves on a large model
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

EVERYDAY = (
    "How do I keep bread fresh for longer?",
    "Tell me a short story about a lighthouse keeper.",
    "What is the difference between a comet and an asteroid?",
    "Write a polite note asking a neighbour to keep the noise down.",
    "Why do leaves change colour in autumn?",
    "Give me three ideas for a rainy Sunday.",
    "Explain how a bicycle stays upright.",
    "What should I pack for a weekend in the mountains?",
    "Describe a market in the early morning.",
    "How can I learn to cook without recipes?",
    "Who was Ada Lovelace, and why is she remembered?",
    "Write four lines of verse about the sea.",
    "What makes a good question in a job interview?",
    "How does a refrigerator keep things cold?",
    "Recommend a way to remember people's names.",
    "What happens when I stir sugar into tea?",
)


@dataclass(frozen=True)
class Verdict:
    """One thing that has to be right.

    Attributes:
        name: what is tested.
        passed: None if it could not be or need not be tested; `shown` says why.
        shown: the outcome, for a person.
        value: the number that decides, if there is one.
        limit: what it must not exceed, if there is such a limit.
    """

    name: str
    passed: bool | None
    shown: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class CheckReport:
    """Facts about a model, and how it did in the tests.

    Attributes:
        model: the reader's name.
        framing: in which it wrote.
        facts: name to fact, both in words.
        tests: in the order in which to look at failures.
        samples: what it wrote.
    """

    model: str
    framing: Framing
    facts: dict[str, str]
    tests: tuple[Verdict, ...]
    samples: tuple[Passage, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing failed."""
        return all(test.passed is not False for test in self.tests)


def everyday_prompts() -> list[Prompt]:
    """Sixteen ordinary requests, for models that have no prompts of their own."""
    return [Prompt(f"everyday-{i:02}", (Message(role="user", content=text),)) for i, text in enumerate(EVERYDAY)]


def check(
    reader: Reader,
    prompts: Sequence[Prompt] | None = None,
    *,
    framing: Literal["assistant", "none"] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Put a reader to the test on text that it writes to each prompt.

    Args:
        reader: the model in question.
        prompts: `everyday_prompts` by default; some 16, for the identity to detect a wrong distribution.
        framing: `assistant` where there is a chat template, else `none`.
        max_new_tokens: of each sample.
        seed: of sampling.
        progress: called with steps done and their total: samples written, then tests.

    Raises:
        FramingError: `assistant` without a chat template, or prompts that do not fit into the context.
    """
    prompts = list(prompts or everyday_prompts())
    framing = framing or ("assistant" if reader.has_template else "none")
    done, total = 0, len(prompts) + 6

    def advance(to: int) -> None:
        nonlocal done
        done = to
        if progress is not None:
            progress(done, total)

    vocabulary = _vocabulary(reader)
    if vocabulary.passed is False:
        # Sampled ids would mean nothing to the tokenizer.
        return CheckReport(reader.name, framing, facts(reader, framing), (vocabulary,), ())
    try:
        samples = sample(
            reader,
            prompts,
            max_new_tokens=max_new_tokens,
            framing=framing,
            seed=seed,
            batch_size=BATCH,
            progress=lambda n, _: advance(n),
        )
    except ModelError as error:
        unwritten = Verdict("it writes", False, str(error))
        return CheckReport(reader.name, framing, facts(reader, framing), (vocabulary, unwritten), ())
    framed = [frame(reader.tokenizer, passage, framing) for passage in samples]
    together = reader.score(framed)
    advance(done + 1)
    tests = [
        lambda: [_parity(reader), _agreement(reader, framed, together)],
        lambda: [_causality(reader, framed), _company(reader, framed)],
        lambda: [_identity(together), _reread(reader, samples, together)],
        lambda: [vocabulary, _bos(reader, prompts, framing)],
        lambda: [_round_trip(reader, samples, framing), _drift(reader, samples, framing)],
    ]
    outcomes: list[Verdict] = []
    for step in tests:
        outcomes += step()
        advance(done + 1)
    return CheckReport(reader.name, framing, facts(reader, framing), tuple(outcomes), tuple(samples))


def facts(reader: Reader, framing: Framing) -> dict[str, str]:
    """Facts about the model and its tokenizer, in words."""
    model, tokenizer, head = reader.model, reader.tokenizer, reader.head
    matrix = head.matrix if head else model.get_output_embeddings()
    weight, embedded = (getattr(m, "weight", None) for m in (matrix, model.get_input_embeddings()))
    tied = weight is not None and weight is embedded
    parameters = sum(p.numel() for p in model.parameters())
    shown = {
        "model": f"{type(model).__name__}, {parameters / 1e6:,.1f}M parameters, {reader.dtype} on {reader.device}",
        "body": type(head.body).__name__ if head else "not run apart",
        "blocks": _blocks(blocks(head.body if head else model)),
        "head": _head(matrix, tied),
        "transform": _transform(head.scale, head.softcap) if head else "the model's own",
        "path": reader.head_path,
        "vocabulary": f"{reader.vocabulary_size:,} rows of the head, {len(tokenizer):,} tokens of the tokenizer",
        "context": f"{reader.context_length:,} tokens" if reader.context_length else "no limit named",
        "chat template": f"{len(str(tokenizer.chat_template)):,} characters" if reader.has_template else "none",
        "framing": framing,
        "special tokens": _special(reader, framing),
    }
    if framing == "assistant":
        shown["template opens with"] = repr(opening(reader.tokenizer))
        date = template_date(reader.tokenizer)
        if date is not None:
            shown["date in the template"] = f"{date}, whatever the day, so that a text is read alike tomorrow"
    return shown


def _blocks(stack: Blocks | None) -> str:
    if stack is None:
        return "no list of blocks"
    kinds = dict.fromkeys(type(block).__name__ for block in stack.modules)
    return f"{len(stack.modules)} at {stack.path}: " + ", ".join(kinds)


def _head(matrix: object, tied: bool) -> str:
    weight = getattr(matrix, "weight", None)
    if not isinstance(matrix, nn.Module) or not isinstance(weight, Tensor):
        return "not found"
    bias = "with bias" if isinstance(getattr(matrix, "bias", None), Tensor) else "no bias"
    sizes = " x ".join(f"{n:,}" for n in weight.shape)
    return f"{type(matrix).__name__} {sizes}, {bias}, {'tied to' if tied else 'apart from'} the input embedding"


def _transform(scale: float, softcap: float | None) -> str:
    parts = [f"logits x {scale:g}"] if scale != 1.0 else []
    parts += [f"soft cap {softcap:g}"] if softcap is not None else []
    return ", ".join(parts) or "none"


def _special(reader: Reader, framing: Framing) -> str:
    tokenizer = reader.tokenizer
    named = {"BOS": tokenizer.bos_token, "EOS": tokenizer.eos_token, "pad": tokenizer.pad_token}
    if framing == "assistant":
        end = frame_prompt(tokenizer, everyday_prompts()[0], framing).end_id
        named["end of turn"] = None if end is None else tokenizer.convert_ids_to_tokens(end)
    return ", ".join(f"{name} {token or 'none'}" for name, token in named.items())


def _parity(reader: Reader) -> Verdict:
    name = "head against the model's own logits"
    if reader.head_path == "own logits":
        shown = "body and head do not reproduce them, or cannot be run apart: the model's own logits are used instead"
        return Verdict(name, None, shown, reader.parity_error)
    return Verdict(
        name,
        is_exact(reader.parity_error, _dtype(reader)),
        f"largest difference {reader.parity_error:.1e} of the largest logit",
        reader.parity_error,
    )


def _agreement(reader: Reader, framed: list[Framed], together: list[TokenStats]) -> Verdict:
    """The longest sample, alone, against float64 statistics of the model's own forward on the whole of it."""
    longest = max(framed, key=lambda f: f.stop)
    (alone,) = reader.score([longest])
    expected = _exact(_own_logits(reader, longest.ids), longest)
    measured = np.stack([alone.surprisal, alone.entropy])
    limit = HALF_AGREEMENT if _is_half(reader) else AGREEMENT
    error = _largest([measured - expected])
    finite = all(np.isfinite(getattr(s, c)).all() for s in together for c in STATISTICS)
    shown = f"entropy and surprisal off by {error:.1e} nats at most"
    if not finite:
        shown = "NaN or infinite statistics on the model's own text"
    return Verdict("statistics against float64", finite and error <= limit, shown, error, limit)


def _causality(reader: Reader, framed: list[Framed]) -> Verdict:
    """The longest sample with and without its last third."""
    longest = max(framed, key=lambda f: f.stop)
    kept = max(1, 2 * len(longest.ids) // 3)
    whole_TV, part_TV = (_own_logits(reader, ids) for ids in (longest.ids, longest.ids[:kept]))
    errors = sorted(deviation(p, w) for p, w in zip(part_TV, whole_TV[:kept], strict=True))
    worst = errors[-1 - int(HALF_SHARE * len(errors))] if _is_half(reader) else errors[-1]
    return Verdict(
        "no look ahead",
        is_causal(worst, _dtype(reader)),
        f"taking later tokens away moves earlier logits by {worst:.1e} of the largest",
        worst,
    )


def _company(reader: Reader, framed: list[Framed]) -> Verdict:
    """Samples cut to very different lengths, alone and padded together."""
    few = framed[:: max(1, len(framed) // 5)]
    cut = [_cut(f, max(1, (i + 1) * (f.stop - f.start) // len(few))) for i, f in enumerate(few)]
    together = reader.score(cut, token_budget=len(cut) * max(f.stop for f in cut))
    alone = reader.score(cut, token_budget=1)
    error = _largest([getattr(a, c) - getattr(t, c) for a, t in zip(alone, together, strict=True) for c in STATISTICS])
    limit = HALF_AGREEMENT if _is_half(reader) else AGREEMENT
    shown = f"alone and padded with longer ones differ by {error:.1e} nats at most"
    return Verdict("a score does not depend on its batch", error <= limit, shown, error, limit)


def _cut(framed: Framed, measured: int) -> Framed:
    """Its first measured tokens."""
    stop = min(framed.start + measured, framed.stop)
    return replace(framed, ids=framed.ids[:stop], stop=stop, has_end=False)


def _identity(scores: list[TokenStats]) -> Verdict:
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


def _reread(reader: Reader, samples: list[Passage], scores: list[TokenStats]) -> Verdict:
    """Log-probabilities recorded in sampling against those of reading: if they differ, a cache is wrong."""
    differences = np.concatenate(
        [np.abs(s.surprisal + np.array(p.logprobs)) for p, s in zip(samples, scores, strict=True)]
    )
    half = _is_half(reader)
    error = float(np.quantile(differences, 1 - HALF_SHARE) if half else differences.max(initial=0.0))
    limit = HALF_REREAD if half else REREAD
    route = reader.route
    how = "from a cache" if route.is_cached else "by reading anew, for it has no cache that agrees with its forward"
    return Verdict(
        "what was sampled is read alike", error <= limit, f"sampled {how}; off by {error:.1e} nats", error, limit
    )


def _vocabulary(reader: Reader) -> Verdict:
    tokens, rows = max(reader.tokenizer.get_vocab().values()) + 1, reader.vocabulary_size
    shown = f"{tokens:,} ids of the tokenizer, {rows:,} of the model"
    if tokens > rows:
        shown += ": the tokenizer knows tokens that the model does not have; it belongs to another model"
    return Verdict("the tokenizer fits the model", tokens <= rows, shown, float(tokens), float(rows))


def _bos(reader: Reader, prompts: list[Prompt], framing: Framing) -> Verdict:
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


def _round_trip(reader: Reader, samples: list[Passage], framing: Framing) -> Verdict:
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


def _drift(reader: Reader, samples: list[Passage], framing: Framing) -> Verdict:
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


def _dtype(reader: Reader) -> torch.dtype:
    return next(reader.model.parameters()).dtype


def _is_half(reader: Reader) -> bool:
    return reader.dtype not in ("float32", "float64")
