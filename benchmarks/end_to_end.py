"""How fast is reading, from text to statistics? `frame` and `Reader.score` against plain loops, minicons and lm-eval.

`python -m benchmarks.end_to_end [--only NAME ...] [--rounds N]`. Every way starts from text,
tokenisation included, and gets surprisal per token unless its name says more (lm-eval gives one sum a text). Ours gives
surprisal, entropy, varentropy and rank. Two jobs: separate short texts, and a study's own, several responses to each
prompt. The floor is the work that no reader with this body can do without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.models import VOCABULARY, everyday_prompts, prose, real, twelve_layers, words_of
from benchmarks.side_by_side import Jobs, Table, installed, main, race
from enaction import zoo
from enaction.framing import Framed, frame, frame_prompt
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Reader
from enaction.reader.batching import TOKEN_BUDGET, batches
from enaction.reader.statistics import TokenStats
from enaction.sampling import sample

BATCH = 8  # of the peers and the plain loops: minicons' and lm-eval's usual sizes are 1 to 16
FEW = 4  # where the vocabulary is large and texts are few
ABOUT = (
    "From text to per-token statistics: `frame` and `Reader.score` (surprisal, entropy, varentropy, rank) against "
    "plain transformers loops, minicons and lm-evaluation-harness. CPU time on one thread, ways by turns, speed as "
    "ratio of medians (2 = twice as fast as the first row); extra MiB is the peak beyond what the process held. The "
    "floor is the bare forward of the model's body on sorted batches and the bare product with the output matrix at "
    "measured positions: no text, no statistics, and nothing shared that texts have in common."
)
Pair = tuple[list[int], list[int]]  # ids of a context and ids that are scored after it


def plain(
    model: PreTrainedModel, pairs: list[Pair], size: int, *, is_sorted: bool, has_all: bool = False
) -> list[torch.Tensor]:
    """A forward on `size` texts at a time, log_softmax and gather: what one writes by hand."""
    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i]))) if is_sorted else list(range(len(pairs)))
    scores: list[torch.Tensor] = [torch.empty(0)] * len(pairs)
    for begin in range(0, len(order), size):
        batch = [pairs[i] for i in order[begin : begin + size]]
        longest = max(len(c) + len(s) for c, s in batch)
        ids_BT = torch.zeros(len(batch), longest, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, (context, scored) in enumerate(batch):
            ids_BT[row, : len(context) + len(scored)] = torch.tensor(context + scored)
            mask_BT[row, : len(context) + len(scored)] = 1
        with torch.inference_mode():
            logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT).logits[:, :-1]
            logprob_BTV = torch.log_softmax(logits_BTV.float(), -1)
            surprisal_BT = -logprob_BTV.gather(2, ids_BT[:, 1:, None]).squeeze(2)
            if has_all:
                p_BTV = logprob_BTV.exp()
                entropy_BT = -(p_BTV * logprob_BTV).sum(2)
                ((logprob_BTV + entropy_BT[..., None]).square() * p_BTV).sum(2)
                (logprob_BTV > -surprisal_BT[..., None]).sum(2)
        for row, (index, (context, scored)) in enumerate(zip(order[begin : begin + size], batch, strict=True)):
            scores[index] = surprisal_BT[row, len(context) - 1 : len(context) + len(scored) - 1]
    return scores


def harness(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, size: int
) -> Callable[[list[Pair]], list[float]]:
    """lm-evaluation-harness: sums of log-probabilities; it sorts by length by itself."""
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]  (a peer, optional)

    scorer = HFLM(
        pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=size, softmax_dtype="float32", max_length=512
    )
    return lambda pairs: [s for s, _ in scorer._loglikelihood_tokens([(("", ""), c, s) for c, s in pairs], True)]


def cons(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """minicons' scorer."""
    from minicons.scorer import IncrementalLMScorer  # pyright: ignore[reportMissingImports]  (a peer, optional)

    return IncrementalLMScorer(model, "cpu", tokenizer=tokenizer)


def ids_of(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool = True) -> list[list[int]]:
    encoded = tokenizer(texts, add_special_tokens=special)["input_ids"]
    assert isinstance(encoded, list)
    return encoded


def floor(reader: Reader, framed: list[Framed]) -> Callable[[], None]:
    """What is left of reading without all that is ours: the body's forward on batches of ours, made beforehand, and the
    output matrix times the hidden states of the measured positions, 128 at a time. No text, no statistics; nothing that
    texts share is shared."""
    assert reader.head is not None
    body, matrix = reader.head.body, reader.head.matrix
    inputs = []
    for batch in batches(framed, list(range(len(framed))), TOKEN_BUDGET):
        longest = max(framed[i].stop - 1 for i in batch)
        ids_BT = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, i in enumerate(batch):
            ids_BT[row, : framed[i].stop - 1] = torch.tensor(framed[i].ids[: framed[i].stop - 1])
        measured = [
            row * longest + t for row, i in enumerate(batch) for t in range(framed[i].start - 1, framed[i].stop - 1)
        ]
        inputs.append((ids_BT, torch.tensor(measured)))

    @torch.inference_mode()
    def run() -> None:
        for ids_BT, index_N in inputs:
            hidden_MD = body(input_ids=ids_BT, use_cache=False).last_hidden_state.flatten(0, 1)
            for part_N in index_N.split(128):
                matrix(hidden_MD[part_N])

    return run


def separate_texts(reader: Reader, texts: list[str], rounds: int, size: int = BATCH) -> Table:
    """Texts that have nothing in common."""
    model, tokenizer = reader.model, reader.tokenizer
    passages = [Passage(str(i), "", (), text, "world") for i, text in enumerate(texts)]

    def pairs() -> list[Pair]:
        return [(ids[:1], ids[1:]) for ids in ids_of(tokenizer, texts)]

    def ours() -> list[TokenStats]:
        return reader.score([frame(tokenizer, p, "none") for p in passages])

    ways: dict[str, Callable[[], Any]] = {
        "transformers, order as given": lambda: plain(model, pairs(), size, is_sorted=False),
        "transformers, sorted": lambda: plain(model, pairs(), size, is_sorted=True),
        "transformers, order as given, all four": lambda: plain(model, pairs(), size, is_sorted=False, has_all=True),
    }
    if installed("minicons"):
        scorer = cons(model, tokenizer)
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        ways["minicons"] = lambda: [scorer.token_score(part, surprisal=True) for part in parts]
        ways["minicons, with rank"] = lambda: [scorer.token_score(part, surprisal=True, rank=True) for part in parts]
    if installed("lm_eval"):
        run = harness(model, tokenizer, size)
        ways["lm-eval, sums"] = lambda: run(pairs())
    ways["enaction, all four"] = ours
    ways["floor: body and output product alone"] = floor(reader, [frame(tokenizer, p, "none") for p in passages])
    scored, error = agreement(ours(), plain(model, pairs(), size, is_sorted=False))
    note = (
        f"{len(texts)} texts, {scored} scored tokens, peers in batches of {size}; largest difference of surprisals "
        f"{error:.1e}."
    )
    return race(f"{reader.name}: separate texts", note, ways, rounds)


def responses(reader: Reader, passages: list[Passage], rounds: int, kind: str = "prompts", size: int = BATCH) -> Table:
    """A study's own work: several responses to each prompt, read after the prompt's ids."""
    model, tokenizer = reader.model, reader.tokenizer
    framing = "assistant" if reader.has_template else "none"

    def framed() -> list[Framed]:
        return [frame(tokenizer, p, framing) for p in passages]

    def pairs() -> list[Pair]:
        return [(list(f.ids[: f.start]), list(f.ids[f.start : f.stop])) for f in framed()]

    ways: dict[str, Callable[[], Any]] = {"transformers, sorted": lambda: plain(model, pairs(), size, is_sorted=True)}
    if installed("lm_eval"):
        run = harness(model, tokenizer, size)
        ways["lm-eval, sums"] = lambda: run(pairs())
    if installed("minicons"):
        scorer = cons(model, tokenizer)

        def minicons(*, rank: bool) -> None:
            texts = [
                (str(tokenizer.decode(list(frame_prompt(tokenizer, _prompt(p), framing).ids))), p.response)
                for p in passages
            ]
            for begin in range(0, len(texts), size):
                contexts, scored = zip(*texts[begin : begin + size], strict=True)
                scorer.compute_stats(scorer.prime_text(list(contexts), list(scored), separator=""), rank=rank)

        ways["minicons"] = lambda: minicons(rank=False)
        ways["minicons, with rank"] = lambda: minicons(rank=True)
    ways["enaction, all four"] = lambda: reader.score(framed())
    ways["floor: body and output product alone"] = floor(reader, framed())
    scored, error = agreement(reader.score(framed()), plain(model, pairs(), size, is_sorted=True))
    context = int(np.median([len(c) for c, _ in pairs()]))
    prompts = len({p.prompt_id for p in passages})
    note = (
        f"{len(passages)} responses, {scored} scored tokens, prompts of {context} tokens (median), peers in batches of "
        f"{size}; largest difference of surprisals {error:.1e}."
    )
    whom = "one prompt" if prompts == 1 else f"each of {prompts} {kind}"
    return race(f"{reader.name}: {len(passages) // prompts} responses to {whom}", note, ways, rounds)


def agreement(ours: list[TokenStats], theirs: list[torch.Tensor]) -> tuple[int, float]:
    """Number of scored tokens and the largest difference of surprisals, nats."""
    own = np.concatenate([stats.surprisal for stats in ours])
    return len(own), float(np.abs(own - torch.cat(theirs).numpy()).max())


def _prompt(passage: Passage) -> Prompt:
    return Prompt(passage.prompt_id, passage.prompt)


def conversations(prompts: list[Prompt], replies: list[Passage], turns: int) -> list[Prompt]:
    """Prompts with finished turns before the last request."""
    made = []
    for i in range(len(prompts)):
        before: list[Message] = []
        for k in range(turns):
            reply = replies[(i + k) % len(replies)]
            before += [*reply.prompt, Message(role="assistant", content=reply.response)]
        made.append(Prompt(f"{prompts[i].id}-long", (*before, *prompts[i].messages)))
    return made


def embedded(rounds: int) -> list[Table]:
    """An embedded model of 0.9M parameters."""
    reader = Reader.load("zoo:ash-rl")
    words = str(reader.tokenizer.decode(list(range(20, 590)))).split()
    prompts = zoo.prompts()[:25]
    own = sample(reader, prompts, n=8, max_new_tokens=110)
    long = sample(reader, conversations(prompts[:12], own[::8], 2), n=8, max_new_tokens=110)
    return [
        separate_texts(reader, random_texts(words, 200), rounds),
        responses(reader, own, rounds),
        responses(reader, long, rounds, "conversations"),
    ]


def middle(rounds: int) -> list[Table]:
    """12 layers, V = 49,152."""
    reader = twelve_layers()
    return [separate_texts(reader, random_texts(words_of(VOCABULARY), 8), rounds, FEW)]


def middle_study(rounds: int) -> list[Table]:
    """The same model; 8 responses to one prompt of 12 tokens."""
    reader = twelve_layers()
    words = np.random.default_rng(1).choice(words_of(VOCABULARY), 12)
    own = sample(reader, [Prompt("p", (Message(role="user", content=" ".join(words)),))], n=8, max_new_tokens=48)
    return [responses(reader, own, rounds, size=FEW)]


def public(name: str, rounds: int) -> list[Table]:
    """A public checkpoint, if it is there."""
    reader = real(name)
    return [] if reader is None else [separate_texts(reader, prose(8), rounds, FEW)]


def public_study(name: str, rounds: int) -> list[Table]:
    """The same; 8 responses to one prompt."""
    reader = real(name)
    if reader is None:
        return []
    return [responses(reader, sample(reader, everyday_prompts(1), n=8, max_new_tokens=48), rounds, size=FEW)]


def random_texts(words: list[str], count: int) -> list[str]:
    """Texts of 90 to 150 random words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words, rng.integers(90, 151))) for _ in range(count)]


# With the rounds that make each a minute or a few on a quiet machine.
JOBS: Jobs = {
    "embedded": (embedded, 7),
    "middle": (middle, 3),
    "middle-study": (middle_study, 5),
    "smollm2": (partial(public, "SmolLM2 135M"), 3),
    "smollm2-study": (partial(public_study, "SmolLM2 135M"), 3),
    "gemma": (partial(public, "Gemma 3 270M"), 3),
}

if __name__ == "__main__":
    main("end_to_end", ABOUT, JOBS, __doc__)
