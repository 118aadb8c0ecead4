"""The reader: one causal language model that reads passages by teacher forcing.

This file is what users see. What a model has to show first is in `admission`, one forward in `forward`, batches in
`scoring`, and the steps of a sampling loop in `writing`.

Axes: `B` batch, `T` time, `V` vocabulary. Statistics are float32, in nats.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from enaction.errors import FramingError
from enaction.framing import Framed, template_of, tokenizer_fingerprint, with_switches
from enaction.reader.admission import vocabulary_of
from enaction.reader.batching import pace_of
from enaction.reader.forward import Forward
from enaction.reader.head import Head, is_exact, locate_head
from enaction.reader.load import load_model
from enaction.reader.naming import AUTO, DeviceMap, Quantization
from enaction.reader.placing import placement
from enaction.reader.precision import dtype_of, is_coarse, quantization_of
from enaction.reader.rotary import on_each_side, steady_length, switches_of
from enaction.reader.scoring import Scoring
from enaction.reader.statistics import TokenStats, Wanted
from enaction.reader.stepping import Route
from enaction.reader.windows import check_window, joined, windows
from enaction.reader.writing import Steps

Progress = Callable[[int, int], None]


class Reader:
    """A causal language model and its tokenizer, ready to read and to be sampled from.

    Neither object is changed: dropout is off only while a call runs, and a chat template given here goes to a copy of
    the tokenizer.

    Attributes:
        model: the causal LM as given.
        tokenizer: its tokenizer, fast.
        name: what the `reader` and `author` columns call it.
        dtype: dtype of the weights, `float32` or `bfloat16` and so on; statistics are float32 whatever it is.
        quantization: how the weights are quantised, in words; None if they are plain numbers of that dtype.
        is_coarse: whether rounding shows: weights in half precision, or quantised.
        head_path: `streamed` (body and head run separately, a bounded slice of logits) or `own logits` (the model's
            own forward, because the probe did not agree or there is no such pair).
        parity_error: largest difference of the streamed logits from the model's own on a probe, relative to their
            magnitude; inf if they could not be computed.
        context_length: longest sequence that the model takes, None if it names no limit.
        vocabulary_size: rows of the output head, padding rows included: they have probability like any other.
        doubts: what a person should know about how it was loaded before trusting a number, a sentence each.
        rotary_switches: lengths beyond which the model rotates all positions otherwise; `enaction.reader.rotary` says
            how texts across them are read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        chat_template: str | None = None,
        template_switches: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a model and a tokenizer that are already in memory.

        Args:
            model: a causal LM of transformers.
            tokenizer: its tokenizer.
            name: defaults to the name that the model was loaded by.
            chat_template: Jinja text that replaces the tokenizer's own template.
            template_switches: variables of the chat template to set, such as `{"enable_thinking": False}`.

        Raises:
            ModelError: the model has no causal LM head, looks ahead, or cannot run in its dtype.
            FramingError: the chat template does not know a switch.
        """
        if chat_template is not None or template_switches:
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.chat_template = chat_template if chat_template is not None else template_of(tokenizer)
            tokenizer.chat_template = with_switches(tokenizer.chat_template, template_switches or {})
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or getattr(model.config, "_name_or_path", "") or type(model).__name__
        self.dtype = str(dtype_of(model)).removeprefix("torch.")
        self.quantization = quantization_of(model)
        self.is_coarse = is_coarse(model)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.context_length: int | None = limit if isinstance(limit, int) and limit > 0 else None
        steady = steady_length(model.config.get_text_config())
        if steady is not None:
            self.context_length = min(steady, self.context_length or steady)
        self.doubts: tuple[str, ...] = ()
        self.rotary_switches = switches_of(model.config.get_text_config())
        with self.reading():
            self.vocabulary_size: int = vocabulary_of(model, self.name)
            head, self.parity_error = locate_head(model)
        exact = is_exact(self.parity_error, is_half=self.is_coarse)
        self.forward = Forward(model, head if exact else None)
        self._steps = Steps(self.forward, self.vocabulary_size)
        self.head_path: Literal["streamed", "own logits"] = "streamed" if exact else "own logits"

    @classmethod
    def load(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str = AUTO,
        device_map: DeviceMap | None = None,
        quantization: Quantization | None = None,
        chat_template: str | None = None,
        template_switches: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        use_safetensors: bool = True,
        name: str | None = None,
        base: str | Path | None = None,
    ) -> Reader:
        """Load a reader by name.

        Args:
            name_or_path: a hub id, optionally `@revision`; a local folder; a `.gguf` file; or `zoo:NAME`.
            revision: of a hub id, if the name does not carry it.
            dtype: of the weights, or its name (`bf16`, say); `auto` is what they are saved in. Statistics are float32
                whatever it is.
            device: where torch puts the model; by default `auto`, which is CUDA, else MPS, else the CPU, and for the
                small models of the embedded world always the CPU.
            device_map: where the parts of the model go, for one that no device has room for: `auto`, `balanced`,
                `balanced_low_0` or `sequential`, or a mapping of modules to devices, `cpu` and `disk` among them, as
                accelerate knows them (`pip install 'enaction[devices]'`); instead of `device`.
            quantization: `4bit` or `8bit` quantises the weights on loading, by bitsandbytes (`pip install
                'enaction[quantized]'`). A checkpoint that is quantised already is loaded as it is.
            chat_template: Jinja text that replaces the tokenizer's own template.
            template_switches: variables of the chat template to set, such as `{"enable_thinking": False}`.
            trust_remote_code: run code that comes with the model.
            use_safetensors: refuse weights in pickle files, which can run code.
            name: what tables call the reader; defaults to `name_or_path`.
            base: the base file of a model that ships as an adapter; by default the one inside its package.

        Raises:
            ModelError: the model cannot be found or loaded, or there is no such dtype, in one line with the remedy.
        """
        model, tokenizer, doubts = load_model(
            name_or_path,
            revision=revision,
            dtype=dtype,
            device=device,
            device_map=device_map,
            quantization=quantization,
            trust_remote_code=trust_remote_code,
            use_safetensors=use_safetensors,
            base=base,
        )
        reader = cls(
            model,
            tokenizer,
            name=name or name_or_path,
            chat_template=chat_template,
            template_switches=template_switches,
        )
        reader.doubts = doubts
        return reader

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        template = "a chat template" if self.has_template else "no chat template"
        context = f"{self.context_length:,} tokens" if self.context_length else "no limit named"
        return (
            f"<Reader {self.name}: {type(self.model).__name__}, {parameters / 1e6:,.1f}M parameters, {self.dtype} on "
            f"{placement(self.model)}, context {context}, {template}>"
        )

    @property
    def device(self) -> torch.device:
        """Where ids go in."""
        return self.forward.device

    @property
    def placement(self) -> str:
        """Where the model lies and in what numbers it computes: `device: cpu (float32)`."""
        place, numbers = placement(self.model), self.dtype
        if self.quantization is not None:
            numbers += f", weights {self.quantization}"
        return f"device{'s' if ' ' in place else ''}: {place} ({numbers})"

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the tokenizer, as passages record it."""
        return tokenizer_fingerprint(self.tokenizer)

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return self.tokenizer.chat_template is not None

    @property
    def head(self) -> Head | None:
        """Body, output matrix and transform if they are run separately; None if the model's own logits are used."""
        return self.forward.head

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a text by the model's generation settings or its tokenizer; a template may add its own."""
        settings = getattr(self.model, "generation_config", None)
        stops: set[int] = set()
        for eos in (getattr(settings, "eos_token_id", None), self.tokenizer.eos_token_id):
            stops.update(i for i in (eos if isinstance(eos, list) else [eos]) if isinstance(i, int))
        return frozenset(stops)

    def score(
        self,
        framed: Sequence[Framed],
        *,
        wanted: Wanted | None = None,
        window: int | None = None,
        token_budget: int | None = None,
        progress: Progress | None = None,
    ) -> list[TokenStats]:
        """Statistics of the measured tokens of each passage, in the order given; NaN where logits are NaN or +inf.

        A batch that does not fit into memory is read in halves.

        Args:
            framed: passages as `enaction.framing.frame` returns them.
            wanted: statistics beyond surprisal, entropy, varentropy and rank.
            window: read passages that are longer than this in windows of this many tokens; `enaction.reader.windows`
                says what context each token then has. By default all that precedes it.
            token_budget: tokens in a batch, padding included, by default what suits the device; a longer passage has a
                batch of its own.
            progress: called after each batch with the number of passages done (by their share of windows) and their
                total.

        Raises:
            FramingError: a passage is longer than the model's context, or holds ids that the model does not have.
            ModelError: a passage by itself does not fit into memory.
            UserError: a window that is too long or too short.
        """
        token_budget = token_budget or pace_of(self.device.type).token_budget
        if window is None and not self.rotary_switches:
            return self._score(framed, wanted, token_budget, progress)
        parts = [[passage] for passage in framed]
        if window is not None:
            check_window(window, self.context_length, self.name)
            parts = [list(windows(passage, window)) for passage in framed]
        if self.rotary_switches:
            parts = [[p for part in passage for p in on_each_side(part, self.rotary_switches)] for passage in parts]
        total = sum(map(len, parts))
        reported = progress and (lambda done, _: progress(done * len(framed) // total, len(framed)))
        scores = iter(self._score([part for passage in parts for part in passage], wanted, token_budget, reported))
        return [joined([next(scores) for _ in passage]) for passage in parts]

    def _score(
        self, framed: Sequence[Framed], wanted: Wanted | None, token_budget: int, progress: Progress | None
    ) -> list[TokenStats]:
        for passage in framed:
            self.check_fits(passage)
        scoring = Scoring(
            self.forward, self.vocabulary_size, self.rotary_switches, wanted, token_budget, self._too_large
        )
        with self.reading():
            return scoring.score(framed, progress)

    def _too_large(self, framed: Framed) -> str:
        return (
            f"memory has no room for {self.name} with passage '{framed.passage_id}' of {framed.stop - 1} "
            "tokens by itself: use bfloat16, read it in windows (--window N), or take a larger machine"
        )

    def next_logits(
        self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None, cache: Any
    ) -> tuple[Tensor, Any]:
        """Float32 logits [B, V] of what follows the last token of each row, and the cache, for a sampling loop.

        Args:
            ids_BT: the new tokens, int64; right-aligned, so that the last column is the newest token of every row.
            mask_BT: attention mask over cache and new tokens, or None if nothing is padded.
            positions_BT: position ids, or None if nothing is padded.
            cache: what the previous call returned, None at first.
        """
        return self._steps.next_logits(ids_BT, mask_BT, positions_BT, cache)

    @cached_property
    def route(self) -> Route:
        """How this model can be sampled from: the fastest way that a probe proved right, determined at first use."""
        with self.reading():
            return self._steps.route

    @property
    def takes_left_padding(self) -> bool:
        """Whether prompts of different length can share a sampling batch."""
        return self.route.is_padded

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inference mode with dropout off; modules that were training are set back to it."""
        training = [module for module in self.model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                # What bitsandbytes says at every product: `check` says that the weights are quantised.
                warnings.filterwarnings("ignore", message="MatMul8bitLt")
                yield
        finally:
            for module in training:
                module.training = True

    def check_fits(self, framed: Framed) -> None:
        """Refuse a passage that cannot be read whole.

        Raises:
            FramingError: it is longer than the model's context, or holds ids that the model does not have.
        """
        fed = framed.stop - 1
        if self.context_length is not None and fed > self.context_length:
            raise FramingError(
                f"passage '{framed.passage_id}' has {fed} tokens with its prompt and {self.name} takes "
                f"{self.context_length}: shorten the passage or the prompt, read it in windows (--window N), or take a "
                "reader with a longer context"
            )
        self.check_ids(framed.ids, f"passage '{framed.passage_id}'")

    def check_ids(self, ids: Sequence[int], what: str) -> None:
        """Refuse ids that the model does not have; fewer ids than rows of the head are in order (padded rows).

        Args:
            ids: of a text.
            what: the text, for the message.

        Raises:
            FramingError: an id is not below `vocabulary_size`.
        """
        if ids and max(ids) >= self.vocabulary_size:
            raise FramingError(
                f"{what} holds token id {max(ids)} and {self.name} has {self.vocabulary_size} tokens: the tokenizer "
                "does not belong to the model, or the ids to neither"
            )
