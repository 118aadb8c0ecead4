"""How fast is reading, from text to statistics? `frame` and `Reader.score` against plain loops, minicons and lm-eval.

`python -m benchmarks.end_to_end [--model NAME] [--texts N] [--rounds N]`. Every way starts from text, tokenisation
included, and gets surprisal per token unless its name says more (lm-eval gives one sum a text). Ours gives surprisal,
entropy, varentropy and rank. Two jobs: separate short texts, and a study's own, several responses to each prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.side_by_side import Table, installed, publish, race
from enaction import zoo
from enaction.framing import frame, frame_prompt
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample

BATCH = 8  # of the peers and the plain loops: minicons' and lm-eval's usual sizes are 1 to 16
ABOUT = (
    "From text to per-token statistics: `frame` and `Reader.score` (surprisal, entropy, varentropy, rank) against "
    "plain transformers loops, minicons and lm-evaluation-harness. CPU time on one thread, ways by turns, speed as "
    "ratio of medians (2 = twice as fast as the first row)."
)
Pair = tuple[list[int], list[int]]  # ids of a context and ids that are scored after it


def plain(model: PreTrainedModel, pairs: list[Pair], *, is_sorted: bool, has_all: bool) -> list[torch.Tensor]:
    """A batch forward, log_softmax and gather: what one writes by hand."""
    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i]))) if is_sorted else list(range(len(pairs)))
    scores: list[torch.Tensor] = [torch.empty(0)] * len(pairs)
    for begin in range(0, len(order), BATCH):
        batch = [pairs[i] for i in order[begin : begin + BATCH]]
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
        for row, (index, (context, scored)) in enumerate(zip(order[begin : begin + BATCH], batch, strict=True)):
            scores[index] = surprisal_BT[row, len(context) - 1 : len(context) + len(scored) - 1]
    return scores


def harness(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Pair]], list[float]]:
    """lm-evaluation-harness: sums of log-probabilities; it sorts by length by itself."""
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]  (a peer, optional)

    scorer = HFLM(
        pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=BATCH, softmax_dtype="float32", max_length=512
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


def separate_texts(reader: Reader, texts: list[str], rounds: int) -> Table:
    """Texts that have nothing in common."""
    model, tokenizer = reader.model, reader.tokenizer

    def pairs() -> list[Pair]:
        return [(ids[:1], ids[1:]) for ids in ids_of(tokenizer, texts)]

    def ours() -> list[Any]:
        passages = [Passage(str(i), "", (), text, "world") for i, text in enumerate(texts)]
        return reader.score([frame(tokenizer, p, "none") for p in passages])

    ways: dict[str, Callable[[], Any]] = {
        "transformers, order as given": lambda: plain(model, pairs(), is_sorted=False, has_all=False),
        "transformers, sorted": lambda: plain(model, pairs(), is_sorted=True, has_all=False),
        "transformers, order as given, all four": lambda: plain(model, pairs(), is_sorted=False, has_all=True),
    }
    if installed("minicons"):
        scorer = cons(model, tokenizer)
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        ways["minicons"] = lambda: [scorer.token_score(b, surprisal=True) for b in batches]
        ways["minicons, with rank"] = lambda: [scorer.token_score(b, surprisal=True, rank=True) for b in batches]
    if installed("lm_eval"):
        run = harness(model, tokenizer)
        ways["lm-eval, sums"] = lambda: run(pairs())
    ways["enaction, all four"] = ours
    own = np.concatenate([s.surprisal for s in ours()])
    check = torch.cat(plain(model, pairs(), is_sorted=False, has_all=False)).numpy()
    error = np.abs(own - check).max()
    note = f"{len(texts)} texts, {len(own)} scored tokens; largest difference of surprisals {error:.1e}."
    return race(f"{reader.name}: separate texts", note, ways, rounds)


def responses(reader: Reader, passages: list[Passage], rounds: int, title: str) -> Table:
    """A study's own work: several responses to each prompt, read after the prompt's ids."""
    model, tokenizer = reader.model, reader.tokenizer
    framing = "assistant" if reader.has_template else "none"

    def pairs() -> list[Pair]:
        framed = [frame(tokenizer, p, framing) for p in passages]
        return [(list(f.ids[: f.start]), list(f.ids[f.start : f.stop])) for f in framed]

    def ours() -> list[Any]:
        return reader.score([frame(tokenizer, p, framing) for p in passages])

    ways: dict[str, Callable[[], Any]] = {
        "transformers, sorted": lambda: plain(model, pairs(), is_sorted=True, has_all=False)
    }
    if installed("lm_eval"):
        run = harness(model, tokenizer)
        ways["lm-eval, sums"] = lambda: run(pairs())
    if installed("minicons"):
        scorer = cons(model, tokenizer)

        def minicons(*, rank: bool) -> None:
            texts = [
                (str(tokenizer.decode(list(frame_prompt(tokenizer, _prompt(p), framing).ids))), p.response)
                for p in passages
            ]
            for begin in range(0, len(texts), BATCH):
                contexts, scored = zip(*texts[begin : begin + BATCH], strict=True)
                scorer.compute_stats(scorer.prime_text(list(contexts), list(scored), separator=""), rank=rank)

        ways["minicons"] = lambda: minicons(rank=False)
        ways["minicons, with rank"] = lambda: minicons(rank=True)
    ways["enaction, all four"] = ours
    own = np.concatenate([s.surprisal for s in ours()])
    check = torch.cat(plain(model, pairs(), is_sorted=True, has_all=False)).numpy()
    context = int(np.median([len(c) for c, _ in pairs()]))
    error = np.abs(own - check).max()
    note = (
        f"{len(passages)} responses, {len(own)} scored tokens, prompts of {context} tokens (median); largest "
        f"difference of surprisals {error:.1e}."
    )
    return race(title, note, ways, rounds)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    reader = Reader.load("zoo:ash-rl")
    rng = np.random.default_rng(0)
    words = str(reader.tokenizer.decode(list(range(20, 590)))).split()
    texts = [" ".join(rng.choice(words, rng.integers(90, 151))) for _ in range(200)]
    prompts = zoo.prompts()[:25]
    own = sample(reader, prompts, n=8, max_new_tokens=110)
    long = sample(reader, conversations(prompts[:12], own[::8], 2), n=8, max_new_tokens=110)
    tables = [
        separate_texts(reader, texts, rounds),
        responses(reader, own, rounds, f"{reader.name}: 8 responses to each of 25 prompts"),
        responses(reader, long, rounds, f"{reader.name}: 8 responses to each of 12 conversations"),
    ]
    publish("end_to_end", ABOUT, tables)


if __name__ == "__main__":
    main()
