"""How often does the doctor name a planted fault rightly, and how often one that is not there?

    python studies/doctor_faults.py --batches 200                  # prints the table of docs/doctor.md; some 20 minutes

The rollouts are those of runs of TRL's GRPOTrainer with ash-rl, with the numbers that its sampler and its trainer had
(--sampled does without TRL), and for some faults those of ash-rl and its earlier steps as sampled here. Each fault is a
way to compute numbers about them wrongly, written here on the bare model in float64 without any code of the doctor or
the reader, as a trainer has it. To each number Gaussian noise is added (standard deviation .05 nats, what vLLM and
transformers in bfloat16 differ by). A batch is rollouts drawn at random until they have 250 tokens. The sampler's
numbers are sound except where the fault is the sampler's.

A batch counts as right if the first fault that the doctor says is the planted one, and as mixed up if it says another.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from enaction.doctor.batch import batch_of
from enaction.doctor.diagnosis import diagnosis_of
from enaction.doctor.faults import Diagnosis
from enaction.doctor.readings import Readings, read
from enaction.doctor.settings import Settings, sampled
from enaction.framing import frame_prompt
from enaction.passages import Message, Prompt
from enaction.reader import Reader
from enaction.reader.sources import find
from enaction.rollouts import Rollout, read_rollouts
from enaction.sampling import sample

TOKENS, NOISE, SYSTEM = 250, 0.05, "you tell stories about the town and its people."
Numbers = list[np.ndarray]


@dataclass(frozen=True)
class Pool:
    """Rollouts of one setting, with what the doctor's model says of them and what a trainer computes from the model.

    Attributes:
        reader: the model.
        rollouts: with sound numbers of sampler and trainer, nats.
        readings: of all of them.
        temperature, top_p: they were sampled at.
    """

    reader: Reader
    rollouts: tuple[Rollout, ...]
    readings: Readings
    temperature: float
    top_p: float


def logits_of(reader: Reader, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Logits [T, V] of the bare model at each token of prompt and answer, float64."""
    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *answer]])
        return reader.model(input_ids=ids).logits[0].double()


def logprobs_of(
    reader: Reader, prompt: Sequence[int], answer: Sequence[int], temperature: float = 1.0, top_p: float = 1.0
) -> np.ndarray:
    """Log-probability [N] of each token of the answer, as a trainer computes it: logits, shift, log-softmax, gather."""
    logits_NV = logits_of(reader, prompt, answer)[len(prompt) - 1 : -1] / temperature
    logprob_NV = torch.log_softmax(logits_NV, 1)
    if top_p < 1:
        ordered_NV, index_NV = logprob_NV.exp().sort(1, descending=True)
        is_out_NV = ordered_NV.cumsum(1) - ordered_NV >= top_p
        logprob_NV = logprob_NV.masked_fill(is_out_NV.scatter(1, index_NV, is_out_NV), -math.inf)
        logprob_NV = torch.log_softmax(logprob_NV, 1)
    return logprob_NV.gather(1, torch.tensor(answer)[:, None])[:, 0].numpy()


def entropies_of(reader: Reader, prompt: Sequence[int], answer: Sequence[int]) -> np.ndarray:
    """Entropy [T] of the prediction that each position of prompt and answer makes of what follows it."""
    logprob_TV = torch.log_softmax(logits_of(reader, prompt, answer), 1)
    return -(logprob_TV.exp() * logprob_TV).sum(1).numpy()


def pool(
    model: str | Reader,
    n: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    is_stated: bool = True,
    system: str = "",
    others: Sequence[str] = (),
    prompts: Sequence[Prompt] | None = None,
    author: str = "",
    seed: int = 1,
) -> Pool:
    """Rollouts of a model, or of `author` where that is another, with sound numbers."""
    reader = model if isinstance(model, Reader) else Reader.load(model)
    asked = list(prompts or find(str(model)).own_prompts() or ())[:n]
    if system:
        asked = [Prompt(p.id, (Message(role="system", content=system), *p.messages)) for p in asked]
    writer = Reader.load(author) if author else reader
    count = -(-n // len(asked))
    written = sample(writer, asked, n=count, temperature=temperature, top_p=top_p, max_new_tokens=80, seed=seed)
    rollouts = []
    for passage in written:
        before = frame_prompt(reader.tokenizer, Prompt(passage.prompt_id, passage.prompt), "assistant").ids
        ids = passage.token_ids or ()
        sound = logprobs_of(writer, before, ids, temperature, top_p)
        rollouts.append(
            Rollout(
                id=passage.id,
                cluster=passage.prompt_id,
                prompt=passage.prompt,
                prompt_ids=before,
                token_ids=ids,
                sampler_logprobs=sound,
                trainer_logprobs=logprobs_of(reader, before, ids, temperature, top_p) if author else sound,
                temperature=temperature,
                top_p=top_p if is_stated else None,
            )
        )
    return _read(reader, rollouts, temperature, top_p, others)


def _read(
    reader: Reader, rollouts: Sequence[Rollout], temperature: float, top_p: float = 1.0, others: Sequence[str] = ()
) -> Pool:
    batch = batch_of(rollouts)
    taken = sampled(batch.rollouts, Settings())
    readings = read(reader, batch, taken, {name: partial(Reader.load, name) for name in others})
    return Pool(reader, batch.rollouts, readings, temperature, top_p)


def grpo_pool(temperature: float) -> Pool:
    """The batches of a run of TRL's GRPOTrainer with ash-rl that stands still (learning rate 0): its sampler's
    log-probabilities, and those that the trainer computes."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from enaction.integrations.trl import EnactionCallback

    reader = Reader.load("zoo:ash-rl")
    prompts = list(find("zoo:ash-rl").own_prompts() or ())
    by_ids = {frame_prompt(reader.tokenizer, p, "assistant").ids: p for p in prompts}

    def rollouts(turns: list[Any], trainer: Any) -> dict[str, Any]:
        sampler = Reader(trainer.model, reader.tokenizer, name="sampler")
        asked = [Prompt(f"p{i}", tuple(turn)) for i, turn in enumerate(turns)]
        step = trainer.state.global_step
        drawn = sample(sampler, asked, temperature=temperature, max_new_tokens=80, seed=step)
        return {
            "prompt_ids": [list(frame_prompt(reader.tokenizer, p, "assistant").ids) for p in asked],
            "completion_ids": [list(p.token_ids or ()) for p in drawn],
            "logprobs": [list(p.logprobs or ()) for p in drawn],
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, max_steps=3, per_device_train_batch_size=64, num_generations=4, learning_rate=0.0,
            max_completion_length=80, temperature=temperature, seed=1, bf16=False, use_cpu=True, report_to="none",
            disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=reader.model,
            reward_funcs=lambda completions, **_: [float(len(set(c[0]["content"].split()))) for c in completions],
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": [dict(m) for m in p.messages]} for p in prompts]),
            processing_class=reader.tokenizer,
            rollout_func=rollouts,
        )
        path = Path(folder) / "rollouts.jsonl"
        EnactionCallback(prompts[:2], every_steps=1, time_share=1, save_rollouts=path).attach(trainer)
        trainer.train()
        saved = list(read_rollouts(path))
    known = [replace(r, prompt=by_ids[r.prompt_ids or ()].messages) for r in saved]
    return _read(Reader.load("zoo:ash-rl"), known, temperature)


# A fault breaks the rollouts of a batch, after noise was added, and knows whose rollouts they are.
Break = Callable[[Pool, list[Rollout], np.random.Generator], list[Rollout]]


@dataclass(frozen=True)
class Planted:
    """A fault that is planted.

    Attributes:
        label: for the table.
        pool: name of the pool it is planted in.
        name: what the doctor has to call it; "" for nothing at all.
        breaks: makes it.
        with_model: whether the doctor has the model.
        saying: what has to be in its sentence too, such as the weights.
    """

    label: str
    pool: str
    name: str
    breaks: Break
    with_model: bool = True
    saying: str = ""


def noisy(rng: np.random.Generator, values: np.ndarray, sd: float) -> np.ndarray:
    """The numbers with Gaussian noise."""
    return values + rng.normal(0, sd, len(values))


def each(of: Callable[[Pool, Rollout], np.ndarray], column: str = "trainer_logprobs", sd: float = NOISE) -> Break:
    """Break one column: other numbers for each rollout, with noise."""

    def breaks(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
        made = [noisy(rng, of(p, r), sd) for r in rollouts]
        if column == "entropies":
            made = [np.maximum(values, 0) for values in made]
        return [replace(r, **{column: values}) for r, values in zip(rollouts, made, strict=True)]

    return breaks


def _ids(rollout: Rollout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return rollout.prompt_ids or (), rollout.token_ids or ()


def _at(temperature: float) -> Callable[[Pool, Rollout], np.ndarray]:
    return lambda p, r: logprobs_of(p.reader, *_ids(r), temperature)


def _after(change: Callable[[Pool, Rollout], Sequence[int]]) -> Callable[[Pool, Rollout], np.ndarray]:
    """Numbers after another prompt."""
    return lambda p, r: logprobs_of(p.reader, change(p, r), _ids(r)[1], p.temperature)


def _text_alone(p: Pool, r: Rollout) -> list[int]:
    text = "\n".join(m["content"] for m in r.prompt or ()) + "\n"
    return p.reader.tokenizer(text)["input_ids"]  # pyright: ignore[reportReturnType]


def _rendered(p: Pool, r: Rollout, *, system: bool = True, header: bool = True) -> list[int]:
    messages = [{"role": m["role"], "content": m["content"]} for m in r.prompt or () if system or m["role"] != "system"]
    text = p.reader.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=header)
    return p.reader.tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore


def _by_next(p: Pool, r: Rollout) -> np.ndarray:
    """The log-probability of the token after each, as labels that were shifted twice give; the last is its own."""
    row = logprobs_of(p.reader, *_ids(r), p.temperature)
    return np.append(row[1:], row[-1])


def _retokenised(p: Pool, r: Rollout) -> np.ndarray:
    prompt, answer = _ids(r)
    text = p.reader.tokenizer.decode(list(answer))
    again: list[int] = p.reader.tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore
    values = logprobs_of(p.reader, prompt, again, p.temperature)[: len(answer)]
    return np.concatenate([values, np.full(len(answer) - len(values), np.nan)])


def _dealt(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    """Micro-batches sorted by length and not put back: numbers of another rollout, cut or filled up with 0.0."""
    order = sorted(range(len(rollouts)), key=lambda i: len(rollouts[i].token_ids or ()))
    if order == list(range(len(rollouts))):
        order = order[::-1]
    made = []
    for r, source in zip(rollouts, order, strict=True):
        values = rollouts[source].trainer_logprobs
        assert values is not None
        n = len(r.token_ids or ())
        made.append(replace(r, trainer_logprobs=np.append(values[:n], np.zeros(max(n - len(values), 0)))))
    return made


def _with_observations(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    """A tool's words after each answer, trained on, with 0.0 for the log-probability that no sampler has."""
    made = []
    for r in rollouts:
        prompt, answer = _ids(r)
        words = tuple(int(i) for i in rng.integers(10, p.readings.vocabulary, 12))
        values = logprobs_of(p.reader, prompt, (*answer, *words))
        made.append(
            replace(
                r,
                token_ids=(*answer, *words),
                mask=None,
                sampler_logprobs=np.append(noisy(rng, values[: len(answer)], NOISE), np.zeros(12)),
                trainer_logprobs=noisy(rng, values, NOISE),
            )
        )
    return made


def _foreign(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    """The same with a log-probability from both engines, as a prefill has it: only the text shows it."""
    made = _with_observations(p, rollouts, rng)
    return [replace(r, sampler_logprobs=r.trainer_logprobs) for r in made]


def _padded(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    """Rows filled up to the longest with the padding token and no mask."""
    longest = max(len(r.token_ids or ()) for r in rollouts) + 3
    pad = p.reader.tokenizer.pad_token_id
    assert isinstance(pad, int)
    made = []
    for r in rollouts:
        prompt, answer = _ids(r)
        ids = (*answer, *[pad] * (longest - len(answer)))
        values = noisy(rng, logprobs_of(p.reader, prompt, ids), NOISE)
        made.append(replace(r, token_ids=ids, mask=None, sampler_logprobs=values, trainer_logprobs=values))
    return made


def _entropy_shifted(p: Pool, r: Rollout) -> np.ndarray:
    """TRL SFT until #5620: the entropy of the prediction that each token's own position makes."""
    prompt, answer = _ids(r)
    return entropies_of(p.reader, prompt, answer)[len(prompt) :]


def _entropy_sound(p: Pool, r: Rollout) -> np.ndarray:
    prompt, answer = _ids(r)
    return entropies_of(p.reader, prompt, answer)[len(prompt) - 1 : -1]


def _entropy_dealt(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    """verl with dynamic batches: entropies that were not put back into the order of the rollouts."""
    given = [replace(r, trainer_logprobs=np.abs(noisy(rng, _entropy_sound(p, r), NOISE))) for r in rollouts]
    dealt = _dealt(p, given, rng)
    return [replace(r, entropies=d.trainer_logprobs) for r, d in zip(rollouts, dealt, strict=True)]


def _mean_logged(of: Callable[[Pool, Rollout], np.ndarray]) -> Break:
    """One mean for the batch, of whatever tokens were averaged."""

    def breaks(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
        mean = float(np.concatenate([of(p, r) for r in rollouts]).mean())
        return [replace(r, logged={"entropy": mean}) for r in rollouts]

    return breaks


def _as_it_is(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    return rollouts


def _whole_entropies(p: Pool, r: Rollout) -> np.ndarray:
    prompt, answer = _ids(r)
    return entropies_of(p.reader, prompt, answer)[:-1]


def _sound_of(p: Pool, r: Rollout) -> np.ndarray:
    return logprobs_of(p.reader, *_ids(r), p.temperature, p.top_p)


def _template_in_part(p: Pool, rollouts: list[Rollout], rng: np.random.Generator) -> list[Rollout]:
    """Every third rollout without its template, as where two code paths make prompts."""
    broken = each(_after(_text_alone))(p, rollouts, rng)
    return [b if i % 3 == 0 else r for i, (r, b) in enumerate(zip(rollouts, broken, strict=True))]


@cache
def _coarse() -> Reader:
    return Reader.load("zoo:ash-rl", dtype="bfloat16")


def _bos(p: Pool) -> int:
    bos = p.reader.tokenizer.bos_token_id
    assert isinstance(bos, int)
    return bos


FAULTS: tuple[Planted, ...] = (
    Planted("sound", "plain", "", _as_it_is),
    Planted("sound, temperature .6", "cold", "", _as_it_is),
    Planted("sound, top-p .8", "cut", "", _as_it_is),
    Planted("sound, with a system prompt", "system", "", _as_it_is),
    Planted("sound, entropies and their mean logged too", "plain", "", lambda p, r, g: _mean_logged(_entropy_sound)(
        p, each(_entropy_sound, "entropies")(p, r, g), g
    )),
    Planted("sound, the trainer in bfloat16 without other noise", "plain", "",
            each(lambda p, r: logprobs_of(_coarse(), *_ids(r)), sd=0.0)),
    Planted("sound, columns alone", "plain", "", _as_it_is, with_model=False),
    Planted("raw log-probabilities at temperature .6 (trl#4159)", "cold", "temperature not applied",
            each(_at(1.0), "sampler_logprobs")),
    Planted("temperature .6 applied twice", "cold", "temperature applied twice", each(_at(0.36))),
    Planted("log-probabilities divided by .6", "cold", "divided log-probabilities",
            each(lambda p, r: _at(1.0)(p, r) / 0.6)),
    Planted("temperature .9 for 1", "plain", "another temperature", each(_at(0.9)), saying="0.9,"),
    Planted("kept mass of top-p .8 (trl#6789)", "cut", "truncation not accounted for",
            each(lambda p, r: logprobs_of(p.reader, *_ids(r)))),
    Planted("an unstated top-p .9 in the sampler", "unstated", "another truncation",
            each(lambda p, r: logprobs_of(p.reader, *_ids(r))), saying="top-p 0.9"),
    Planted("no template", "plain", "no template", each(_after(_text_alone))),
    Planted("no template in every third rollout", "plain", "no template", _template_in_part),
    Planted("generation prompt left out", "plain", "generation prompt left out",
            each(_after(partial(_rendered, header=False)))),
    Planted("system prompt left out", "system", "system prompt left out",
            each(_after(partial(_rendered, system=False)))),
    Planted("prompt left out", "plain", "prompt left out", each(_after(lambda p, _: [_bos(p)]))),
    Planted("BOS left out", "plain", "BOS left out", each(_after(lambda _, r: _ids(r)[0][1:]))),
    Planted("BOS doubled (birch-rl)", "birch", "BOS doubled", each(_after(lambda p, r: [_bos(p), *_ids(r)[0]]))),
    Planted("BOS doubled (ash-rl, which hardly minds)", "plain", "BOS doubled",
            each(_after(lambda p, r: [_bos(p), *_ids(r)[0]]))),
    Planted("shift by one", "plain", "shift by one", each(_by_next)),
    Planted("rows not re-ordered", "plain", "rows re-ordered", _dealt),
    Planted("re-tokenised (random BPE model)", "pieces", "re-tokenised", each(_retokenised)),
    Planted("weights of step 60, not given", "stale", "other weights", _as_it_is),
    Planted("weights of step 60, given", "stale given", "other weights", _as_it_is, saying="zoo:ash-rl60"),
    Planted("weights of the DPO stage, not given", "kin", "other weights", _as_it_is),
    Planted("observation tokens counted (0.0)", "plain", "placeholders counted", _with_observations),
    Planted("observation tokens counted (with numbers)", "plain", "foreign tokens counted", _foreign),
    Planted("padding counted", "plain", "padding counted", _padded),
    Planted("entropies shifted by one (trl#5620)", "plain", "shift by one", each(_entropy_shifted, "entropies")),
    Planted("entropies not re-ordered (verl)", "plain", "rows re-ordered", _entropy_dealt),
    Planted("mean entropy with the prompt in it", "plain", "mean over the wrong tokens",
            _mean_logged(_whole_entropies), saying="prompt"),
    Planted("mean entropy shifted by one", "plain", "mean over the wrong tokens",
            _mean_logged(_entropy_shifted), saying="moved by one"),
    Planted("surprisals logged as entropies", "plain", "surprisal for entropy",
            each(lambda p, r: -_sound_of(p, r), "entropies")),
    Planted("shift by one, columns alone", "plain", "shift by one", each(_by_next), with_model=False),
    Planted("rows not re-ordered, columns alone", "plain", "rows re-ordered", _dealt, with_model=False),
    Planted("kept mass of top-p .8, columns alone", "cut", "truncation not accounted for",
            each(lambda p, r: logprobs_of(p.reader, *_ids(r))), with_model=False),
    Planted("logarithms of base 10, columns alone", "plain", "logarithm of base 10",
            each(lambda p, r: _sound_of(p, r) / math.log(10)), with_model=False),
    Planted("weights of step 60, columns alone", "stale", "gap beyond noise", _as_it_is, with_model=False),
)  # fmt: skip


def pools(n: int, wanted: set[str] | None = None, *, is_trained: bool = False) -> dict[str, Pool]:
    """The pools of rollouts by name; `is_trained` takes the two main ones from runs of TRL's trainer."""
    rl = "zoo:ash-rl"
    makers: dict[str, Callable[[], Pool]] = {
        "plain": lambda: pool(rl, n),
        "cold": lambda: pool(rl, n, temperature=0.6),
        "cut": lambda: pool(rl, n, top_p=0.8),
        "system": lambda: pool(rl, n, system=SYSTEM),
        "stale": lambda: pool(rl, n, author="zoo:ash-rl60"),
        "stale given": lambda: pool(rl, n, author="zoo:ash-rl60", others=["zoo:ash-rl60", "zoo:ash-dpo"]),
        "kin": lambda: pool(rl, n, author="zoo:ash-dpo"),
        "birch": lambda: pool("zoo:birch-rl", n),
        "unstated": lambda: pool(rl, n, top_p=0.9, is_stated=False),
        "pieces": lambda: pool(pieces(), n, prompts=find(rl).own_prompts()),
    }
    if is_trained:
        makers |= {"plain": lambda: grpo_pool(1.0), "cold": lambda: grpo_pool(0.6)}
    return {name: make() for name, make in makers.items() if wanted is None or name in wanted}


def pieces() -> Reader:
    """A small model with random weights whose tokenizer merges letters: its samples are seldom what a text gives."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    corpus = [str(m["content"]) for p in find("zoo:ash-rl").own_prompts() or () for m in p.messages]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|doc|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|doc|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = Reader.load("zoo:ash-rl").tokenizer.chat_template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        initializer_range=0.3,
    )
    return Reader(LlamaForCausalLM(config).eval(), tokenizer, name="pieces")


def draw_rows(p: Pool, rng: np.random.Generator, tokens: int = TOKENS) -> list[int]:
    """Rollouts drawn at random, until they have so many tokens."""
    rows, n = [], 0
    for row in rng.permutation(len(p.rollouts)).tolist():
        if n >= tokens:
            break
        rows.append(row)
        n += len(p.rollouts[row].token_ids or ())
    return rows


def examine(planted: Planted, p: Pool, rng: np.random.Generator, sd: float = NOISE) -> Diagnosis:
    """One batch with the fault, as the doctor sees it."""
    rows = draw_rows(p, rng)
    rollouts = []
    for row in rows:
        r = p.rollouts[row]
        assert r.sampler_logprobs is not None
        assert r.trainer_logprobs is not None
        rollouts.append(
            replace(
                r,
                sampler_logprobs=noisy(rng, r.sampler_logprobs, sd),
                trainer_logprobs=noisy(rng, r.trainer_logprobs, sd),
            )
        )
    broken = planted.breaks(p, rollouts, rng)
    batch = batch_of(broken)
    settings = Settings()
    taken = sampled(batch.rollouts, settings)
    if not planted.with_model:
        return diagnosis_of(batch, settings, taken)
    readings = p.readings.part(rows)
    if any(a.token_ids != b.token_ids for a, b in zip(broken, rollouts, strict=True)):
        readings = read(p.reader, batch, taken)  # the fault changed the tokens
    return diagnosis_of(batch, settings, taken, readings)


def is_right(planted: Planted, found: Diagnosis) -> bool:
    """Whether the doctor says this fault first, or nothing where there is none."""
    if not found.faults or not planted.name:
        return not found.faults and not planted.name
    return found.faults[0].name == planted.name and planted.saying in found.faults[0].says


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="of each fault")
    parser.add_argument("--sound", type=int, default=0, help="of each sound kind; as many as of faults by default")
    parser.add_argument("--rollouts", type=int, default=172, help="in each pool")
    parser.add_argument("--sampled", action="store_true", help="do without TRL: sample the two main pools here")
    parser.add_argument("--sd", type=float, default=NOISE, help="noise that is added, nats")
    parser.add_argument("--only", default="", help="labels that contain this")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th label from the I-th on, to share the work")
    given = parser.parse_args()
    first, step = map(int, given.part.split("/"))
    chosen = [f for f in FAULTS if given.only in f.label][first::step]
    torch.set_num_threads(1)
    made = pools(given.rollouts, {f.pool for f in chosen}, is_trained=not given.sampled)
    print("| planted | named | right, % [95 %] | batches | said instead |\n|---|---|---|---|---|", flush=True)
    for planted in chosen:
        n = given.sound or given.batches if not planted.name else given.batches
        rng = np.random.default_rng(7)
        right, instead = 0, dict[str, int]()
        for _ in range(n):
            found = examine(planted, made[planted.pool], rng, given.sd)
            if is_right(planted, found):
                right += 1
            else:
                said = found.faults[0].name if found.faults else "nothing"
                instead[said] = instead.get(said, 0) + 1
        low, high = wilson(right, n)
        others = ", ".join(f"{name} {count}" for name, count in sorted(instead.items(), key=lambda i: -i[1]))
        share = f"{100 * right / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        print(f"| {planted.label} | {planted.name or 'nothing'} | {share} | {n} | {others} |", flush=True)


if __name__ == "__main__":
    main()
