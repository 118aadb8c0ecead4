"""Is every architecture read exactly? Each causal LM of the installed transformers, tiny, against its own logits.

`python -m benchmarks.architectures` builds each class of `MODEL_FOR_CAUSAL_LM_MAPPING` (see `tiny_models`), reads ids
with `Reader` and compares with float64 statistics of the model's own logits, one sequence at a time. It also asks
whether a score depends on its batch, and whether sampled ids, read afresh, have the log-probabilities that sampling
recorded: this is where a wrong cache shows. The table goes to docs/architectures.md, and `tests/test_architectures.py`
asserts what stands in it.
"""

from __future__ import annotations

import argparse
import logging
import math
import platform
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from benchmarks.tiny_models import VOCABULARY, model_types, tiny_model
from enaction.files import write_atomically
from enaction.framing import Framed, frame
from enaction.passages import Message, Prompt
from enaction.reader import Reader
from enaction.reader.stepping import accepted, deviation
from enaction.sampling import sample

TEXT_IDS = range(8, 44)  # below the markers of images, sounds and other media, which stand at the end
EXACT = 1e-4  # nats, of entropy and surprisal against float64 from the model's own logits
BATCH_FREE = 1e-5  # nats, of the same text alone and padded with longer ones
SAME_LOGPROB = 5e-3  # nats, of log-probabilities recorded in sampling against teacher forcing
CAUSAL = 1e-4  # relative: how far the model's own logits may move when later tokens are taken away
DOCUMENT = Path(__file__).parents[1] / "docs" / "architectures.md"

# Named by issue 4; each has to be exact.
REQUIRED = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "gemma3", "phi3", "gpt2",
    "gptj", "gpt_neox", "opt", "bloom", "falcon", "olmo2", "olmo3", "cohere", "cohere2", "granite", "starcoder2",
    "stablelm", "deepseek_v3", "smollm3", "nemotron", "mamba", "mamba2", "falcon_mamba", "rwkv",
)  # fmt: skip

# Why a class is not read, where its own error does not tell.
REASONS = {
    "cpmant": "not causal: prompts are read in both directions",
    "dots3_note": "not built: its vision part has settings for each of 42 layers; the text part is `dots3_note_text`",
    "gemma3n": "not built: its vision part needs the package timm; the text part is `gemma3n_text`",
    "gemma4_assistant": "not a model of its own: drafts from the states of a larger one",
    "gemma4_unified_assistant": "not a model of its own: drafts from the states of a larger one",
    "musicgen": "writes four streams of audio codes, not text",
    "musicgen_melody": "writes four streams of audio codes, not text",
    "prophetnet": "not causal: its n-gram streams change with the length of the text",
    "xlnet": "not causal: without a permutation mask it reads in both directions",
}
# What to know about a class that is read.
NOTES = {
    "doge": "its own forward looks ahead in texts longer than `keep_window_size`",
    "moshi": "its cache drops what is outside `sliding_window`, its forward on a whole text does not",
    "nemotron_h": "its cached step clamps the time step otherwise than its forward on a whole text",
    "recurrent_gemma": "keeps its state inside the modules",
    "reformer": "its hash buckets depend on the length of the text, so its own logits change with later tokens",
    "rwkv": "its state (transformers 5) does not reproduce its forward on a whole text",
    "zamba2": "its cached step clamps the time step otherwise than its forward on a whole text",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one class.

    Attributes:
        model_type: its key in the mapping of transformers.
        class_name: the class.
        path: `streamed` or `own logits`; None if it was not read.
        reason: why it was not read, or was not sampled.
        parity_error: of the probe at load, relative.
        error: largest difference of entropy and surprisal from float64 of the model's own logits, nats.
        batch_error: largest difference of a score alone and in a padded batch, nats.
        shared_error: as `error`, of texts that share a context longer than windows and chunks, which is then run once
            for all where a probe allows it.
        model_batch_error: the same of the model's own logits with the same padding.
        look_ahead: how far the model's own logits move when later tokens are taken away, relative.
        sampling: how it is sampled: `cache, padded`, `cache`, or `reads anew`.
        sampling_error: largest difference of log-probabilities recorded in sampling from teacher forcing, nats.
    """

    model_type: str
    class_name: str
    path: str | None = None
    reason: str = ""
    parity_error: float = math.nan
    error: float = math.nan
    shared_error: float = math.nan
    batch_error: float = math.nan
    model_batch_error: float = math.nan
    look_ahead: float = math.nan
    sampling: str = ""
    sampling_error: float = math.nan

    @property
    def largest_error(self) -> float:
        """Of `error` and `shared_error`."""
        return max(self.error, self.shared_error)

    @property
    def is_exact(self) -> bool:
        """Whether it is read as it would read itself."""
        return self.path is not None and self.largest_error <= EXACT

    @property
    def is_batch_free(self) -> bool:
        """Whether company changes a score no more than it changes the model's own logits."""
        return self.batch_error <= max(BATCH_FREE, 3 * self.model_batch_error)

    @property
    def is_sampled_right(self) -> bool:
        """Whether what it writes has the log-probabilities that were recorded."""
        return self.sampling_error <= SAME_LOGPROB


def word(token_id: int) -> str:
    """The word of an id; of one width, so that no special token is the beginning of another word."""
    return f"w{token_id:02}"


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, named by its id; no template."""
    backend = Tokenizer(models.WordLevel({word(i): i for i in range(VOCABULARY)}, unk_token=word(0)))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": word(0), "pad_token": word(1), "bos_token": word(2), "eos_token": word(3)}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def texts(count: int = 6) -> list[Framed]:
    """Texts of unlike lengths with unlike measured spans."""
    rng = np.random.default_rng(0)
    framed = []
    for i in range(count):
        start, measured = 1 + 2 * (i % 3), 3 + 7 * i
        ids = tuple(int(t) for t in rng.choice(TEXT_IDS, start + measured))
        framed.append(Framed(ids, start, start + measured, has_end=False, passage_id=f"x{i}"))
    return framed


def texts_with_one_context(count: int = 4) -> list[Framed]:
    """Texts behind one context that is longer than the windows (8) and chunks (16) of the tiny models."""
    rng = np.random.default_rng(1)
    context = tuple(int(t) for t in rng.choice(TEXT_IDS, 27))
    framed = []
    for i in range(count):
        ids = (*context, *(int(t) for t in rng.choice(TEXT_IDS, 3 + 3 * i)))
        framed.append(Framed(ids, len(context), len(ids), has_end=False, passage_id=f"c{i}"))
    return framed


def own_logits(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """[T, V] of one text by the model's own forward, float32."""
    with torch.inference_mode():
        return model(**accepted(model, {"input_ids": torch.tensor([ids]), "use_cache": False})).logits[0].float()


def exact_statistics(logits_TV: Tensor, framed: Framed) -> np.ndarray:
    """[3, N] surprisal, entropy and varentropy by their definitions in float64."""
    span = slice(framed.start - 1, framed.stop - 1)
    logprob_NV = torch.log_softmax(logits_TV[span].double(), 1)
    p_NV = logprob_NV.exp()
    targets_N = torch.tensor(framed.ids[framed.start : framed.stop])
    surprisal_N = -logprob_NV.gather(1, targets_N[:, None])[:, 0]
    entropy_N = -torch.special.xlogy(p_NV, p_NV).sum(1)
    varentropy_N = (p_NV * (-logprob_NV - entropy_N[:, None]).nan_to_num(posinf=0.0) ** 2).sum(1)
    return torch.stack([surprisal_N, entropy_N, varentropy_N]).numpy()


def examine(model_type: str) -> Outcome:
    """Build one class tiny, read and sample with it, and compare."""
    class_name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]

    def not_read(reason: str) -> Outcome:
        return Outcome(model_type, class_name, reason=REASONS.get(model_type, reason))

    try:
        model = tiny_model(model_type)
    except Exception as err:  # whatever a foreign configuration or class sets off
        return not_read(f"not built: {gist(err)}")
    framed = texts()
    try:
        own = [own_logits(model, f.ids) for f in framed]
    except Exception as err:
        return not_read(f"its own forward needs more than token ids: {gist(err)}")
    try:
        reader = Reader(model, word_tokenizer())
        alone = [read(reader, [f])[0] for f in framed]
        together = read(reader, framed)
        shared = read(reader, texts_with_one_context())
    except Exception as err:
        return not_read(gist(err))
    expected = [exact_statistics(logits, f) for logits, f in zip(own, framed, strict=True)]
    found: dict[str, Any] = {
        "path": reader.head_path,
        "parity_error": reader.parity_error,
        "error": _largest(a[:2] - e[:2] for a, e in zip(alone, expected, strict=True)),
        "shared_error": _largest(
            a[:2] - exact_statistics(own_logits(model, f.ids), f)[:2]
            for a, f in zip(shared, texts_with_one_context(), strict=True)
        ),
        "batch_error": _largest(a - t for a, t in zip(alone, together, strict=True)),
        "model_batch_error": _own_batch_error(model, framed, expected),
        "look_ahead": _own_look_ahead(model, framed[-1], own[-1]),
    }
    try:
        route = reader.route
        found["sampling"] = "reads anew" if not route.is_cached else "cache, padded" if route.is_padded else "cache"
        found["sampling_error"] = sampling_error(reader)
    except Exception as err:
        found["reason"] = f"sampling: {gist(err)}"
    return Outcome(model_type, class_name, **found)


def read(reader: Reader, framed: list[Framed]) -> list[np.ndarray]:
    """[3, N] of each text, all in one batch."""
    scores = reader.score(framed, token_budget=100_000)
    return [np.stack([s.surprisal, s.entropy, s.varentropy]) for s in scores]


def sampling_error(reader: Reader) -> float:
    """Largest difference of recorded log-probabilities from what reading the sampled ids afresh gives, nats.

    Texts in which the random model wrote its padding token are left out: RoBERTa and its kin count positions without
    it, XLM takes it for the end, and no trained model writes it.
    """
    prompts = [
        Prompt(f"p{n}", (Message(role="user", content=" ".join(word(8 + i) for i in range(n))),)) for n in (3, 6)
    ]
    passages = sample(reader, prompts, n=5, max_new_tokens=14, framing="none")
    passages = [p for p in passages if reader.tokenizer.pad_token_id not in (p.token_ids or ())]
    scores = reader.score([frame(reader.tokenizer, p, "none") for p in passages])
    return _largest(s.surprisal + np.array(p.logprobs) for s, p in zip(scores, passages, strict=True))


def _own_batch_error(model: PreTrainedModel, framed: list[Framed], expected: list[np.ndarray]) -> float:
    """How far the model's own statistics depend on the batch, padded on the right and masked, nats."""
    longest = max(len(f.ids) for f in framed)
    ids_BT, mask_BT = (torch.zeros(len(framed), longest, dtype=torch.long) for _ in range(2))
    for row, f in enumerate(framed):
        ids_BT[row, : len(f.ids)] = torch.tensor(f.ids)
        mask_BT[row, : len(f.ids)] = 1
    with torch.inference_mode():
        given = accepted(model, {"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": False})
        logits_BTV = model(**given).logits.float()
    return _largest(exact_statistics(logits_BTV[row, : len(f.ids)], f) - expected[row] for row, f in enumerate(framed))


def _own_look_ahead(model: PreTrainedModel, framed: Framed, own_TV: Tensor) -> float:
    """How far the model's own logits move when the later third of a text is taken away, relative."""
    kept = 2 * len(framed.ids) // 3
    part_TV = own_logits(model, framed.ids[:kept])
    return deviation(part_TV, own_TV[:kept])


def _largest(differences: Iterable[np.ndarray]) -> float:
    return max(float(np.abs(d).max()) for d in differences)


def gist(err: BaseException) -> str:
    """The first line of an error, short."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return f"{type(err).__name__}: {lines[0] if lines else ''}"[:160]


def document(outcomes: Sequence[Outcome]) -> str:
    """The page: what was asked, versions, a summary, and one row a class."""
    read_ = [o for o in outcomes if o.path is not None]
    exact = [o for o in read_ if o.is_exact]
    streamed = sum(o.path == "streamed" for o in read_)
    sampled = sum(o.is_sampled_right for o in read_)
    lines = [
        "# Which architectures are read exactly",
        "",
        f"Of {len(outcomes)} classes that `AutoModelForCausalLM` knows {len(read_)} can be read, {len(exact)} of them "
        f"to {EXACT:.0e} nats; {streamed} are streamed. {sampled} are sampled as they are read, to "
        f"{SAME_LOGPROB:.0e} nats. The note says why a class is not read, or not exactly.",
        "",
        "Each class is built tiny with wide random weights (every kind of layer kept, output transforms switched on), "
        "and read. The columns, in nats:",
        "",
        "- **error**: largest difference of entropy and surprisal from float64 statistics of the model's own logits. "
        "Some of the texts share a long context, which is run once for all where that is exact.",
        "- **batch**: largest difference of any statistic of a text alone and padded in a batch with longer ones; in "
        f"brackets that of the model's own logits where it is above {BATCH_FREE:.0e}.",
        "- **sampling**: how the class is sampled, and the largest difference between the log-probabilities recorded "
        "then and those of the same ids read afresh.",
        "",
        "*Streamed*: body and head are run separately, and logits exist a bounded slice at a time. *Own logits*: what "
        "lies between body and head is not a known transform, so the model's own forward is used; this is as exact "
        "and takes more memory. *Reads anew*: no cache agrees with the forward on a whole text, so each token costs a "
        "forward on all tokens before it.",
        "",
        f"Written by `python -m benchmarks.architectures`; do not edit. transformers {transformers.__version__}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, CPU, float32.",
        "",
        "| model type | class | path | error | batch | sampling | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        if o.path is None:
            lines.append(f"| `{o.model_type}` | {o.class_name} | not read | | | | {_cell(o.reason)} |")
            continue
        batch = f"{o.batch_error:.0e}"
        if o.batch_error > BATCH_FREE:
            batch += f" ({o.model_batch_error:.0e})"
        how = f"{o.sampling}, {o.sampling_error:.0e}"
        note = _cell("; ".join(n for n in (NOTES.get(o.model_type, ""), o.reason) if n))
        lines.append(
            f"| `{o.model_type}` | {o.class_name} | {o.path} | {o.largest_error:.0e} | {batch} | {how} | {note} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Examine all classes, or those named, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("only", nargs="*", help="model types; all by default, and only then the page is written")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model_type in only or model_types():
            outcomes.append(o := examine(model_type))
            print(
                f"{o.model_type:26} {o.path or 'not read':10} error {o.largest_error:.0e} batch {o.batch_error:.0e} "
                f"({o.model_batch_error:.0e}) ahead {o.look_ahead:.0e} sampling {o.sampling_error:.0e} "
                f"{o.sampling} {o.reason}",
                flush=True,
            )
    if not only:
        with write_atomically(DOCUMENT) as temporary:
            temporary.write_text(document(outcomes))


if __name__ == "__main__":
    main()
