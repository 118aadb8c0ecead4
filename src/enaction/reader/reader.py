"""The reader: one causal language model that reads passages by teacher forcing.

Logits at index t-1 predict `ids[t]`: the hidden states gathered for a span `[start, stop)` are those at `start-1` to
`stop-2`, and the last token is not fed at all. Only these positions go through the output head, a bounded slice at a
time.

Batches are sorted by length, longest first, and padded on the right: under a causal mask no measured position can see
what follows it, so a score does not depend on what shared its batch. The attention mask is passed nevertheless.

Axes: `B` batch, `T` time, `N` measured positions, `D` hidden, `V` vocabulary. Statistics are float32, in nats.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from enaction.errors import FramingError, ModelError
from enaction.framing import Framed, template_of, tokenizer_fingerprint, with_switches
from enaction.reader.batching import batches, pace_of, shared_contexts
from enaction.reader.head import Head, is_causal, is_exact, locate_head, look_ahead, probe_ids
from enaction.reader.lean import LeanSteps, lean_steps
from enaction.reader.load import load_model
from enaction.reader.measuring import LOGITS_IN_FLIGHT, cut, measure, nothing_measured
from enaction.reader.memory import halving
from enaction.reader.naming import AUTO
from enaction.reader.rotary import on_each_side, side, steady_length, switches_of
from enaction.reader.statistics import TokenStats, Wanted
from enaction.reader.stepping import CACHES, ROUTES, Replay, Route, accepted, deviation, prove_route
from enaction.reader.windows import check_window, joined, windows

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
        self.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.context_length: int | None = limit if isinstance(limit, int) and limit > 0 else None
        steady = steady_length(model.config.get_text_config())
        if steady is not None:
            self.context_length = min(steady, self.context_length or steady)
        self.doubts: tuple[str, ...] = ()
        self.rotary_switches = switches_of(model.config.get_text_config())
        with self.reading(), self._forward_in_question():
            probe_11 = torch.zeros((1, 1), dtype=torch.long, device=model.device)
            probe = model(**accepted(model, {"input_ids": probe_11, "use_cache": False}))
            if not isinstance(getattr(probe, "logits", None), Tensor) or probe.logits.dim() != 3:
                raise ModelError(
                    f"{self.name} is a {type(model).__name__} and gives no next-token logits: load a causal LM"
                )
            if probe.logits.shape[1] != 1:
                raise ModelError(
                    f"{self.name} makes {probe.logits.shape[1]} predictions of 1 token (a soft prompt, as prompt "
                    "tuning puts it in front), so they cannot be told apart: load the model without it"
                )
            if probe.logits.isnan().any():
                raise ModelError(
                    f"the logits of {self.name} are NaN in {self.dtype}: its weights are damaged, or too large for "
                    "it; load them again, or as float32 or bfloat16"
                )
            self.vocabulary_size: int = probe.logits.shape[-1]
            if not is_causal(look_ahead(model), next(model.parameters()).dtype):
                raise ModelError(
                    f"the predictions of {self.name} change with the tokens that come later, so they are not those of "
                    "a causal LM: load a model that was made for writing (an encoder needs is_decoder=True in its "
                    "configuration, and the training that goes with it)"
                )
            head, self.parity_error = locate_head(model)
        exact = is_exact(self.parity_error, next(model.parameters()).dtype)
        self._head = head if exact else None
        self._cache_name = CACHES[0]
        self._can_be_lean = self._head is not None and lean_steps(self._head.body) is not None
        self.head_path: Literal["streamed", "own logits"] = "streamed" if exact else "own logits"

    @classmethod
    def load(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str = AUTO,
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
            f"{self.device}, context {context}, {template}>"
        )

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.device

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
        return self._head

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
            self._check(passage)
        if self._head is None:
            # The model's own forward holds logits of every position; keep them near the same bound.
            token_budget = min(token_budget, max(1, 2 * LOGITS_IN_FLIGHT // self.vocabulary_size))
        results = [nothing_measured(self.vocabulary_size, wanted)] * len(framed)
        measured = [i for i, f in enumerate(framed) if f.stop > f.start]
        done = len(framed) - len(measured)
        with self.reading():
            planned, shared = self._plan(framed, measured, token_budget)
            scored = halving(
                planned,
                lambda batch: self._score_batch([framed[i] for i in batch], shared[batch[0]], wanted),
                size=lambda batch: len(batch) * max(framed[i].stop for i in batch),
                too_large=lambda i: (
                    f"memory has no room for {self.name} with passage '{framed[i].passage_id}' of {framed[i].stop - 1} "
                    "tokens by itself: use bfloat16, read it in windows (--window N), or take a larger machine"
                ),
            )
            for batch, scores in scored:
                for index, stats in zip(batch, scores, strict=True):
                    results[index] = stats
                done += len(batch)
                if progress is not None:
                    progress(done, len(framed))
        return results

    def _plan(
        self, framed: Sequence[Framed], measured: list[int], token_budget: int
    ) -> tuple[list[list[int]], dict[int, int]]:
        """Batches, and how many leading tokens each passage shares with the others of its batch, which are run once."""
        planned, shared = [], {}
        by_side: dict[int, list[int]] = {}
        for i in measured:
            by_side.setdefault(side(framed[i].stop - 1, self.rotary_switches), []).append(i)
        for on, members in by_side.items():
            for together, length in self._groups(framed, members, on):
                planned += batches(framed, together, token_budget, length, pace_of(self.device.type).batch_cost)
                shared |= dict.fromkeys(together, length)
        return planned, shared

    def _groups(self, framed: Sequence[Framed], members: list[int], on: int) -> list[tuple[list[int], int]]:
        """Passages on one side of the switches, those that share a context together, with its length; 0 for others."""
        if self._head is None:
            return [(members, 0)]
        groups, alone = shared_contexts(framed, members, pace_of(self.device.type))
        kept = []
        for together, length in groups:
            # A context that is read by itself has to be on the side of the texts that continue it.
            if side(length, self.rotary_switches) == on and self._can_share:
                kept.append((together, length))
            else:
                alone = [*alone, *together]
        return [*kept, (alone, 0)]

    def _score_batch(self, batch: list[Framed], shared: int, wanted: Wanted | None) -> list[TokenStats]:
        lengths = [f.stop - 1 - shared for f in batch]
        longest = max(lengths)
        ids_BT = np.zeros((len(batch), longest), dtype=np.int64)
        mask_BT = np.zeros((len(batch), longest), dtype=np.int64)
        for row, (f, length) in enumerate(zip(batch, lengths, strict=True)):
            ids_BT[row, :length] = f.ids[shared : f.stop - 1]
            mask_BT[row, :length] = 1
        row_N = np.concatenate([np.full(f.stop - f.start, row) for row, f in enumerate(batch)])
        position_N = np.concatenate([np.arange(f.start - 1, f.stop - 1) - shared for f in batch])
        targets = torch.tensor([i for f in batch for i in f.ids[f.start : f.stop]], dtype=torch.long)
        # A mask of ones says nothing, and without one the attention kernels take their plain causal path.
        mask = None if mask_BT.all() else torch.from_numpy(mask_BT).to(self.device)
        index_N = torch.from_numpy(row_N * longest + position_N).to(self.device)
        context_1P = torch.tensor([batch[0].ids[:shared]], device=self.device) if shared else None
        ids = torch.from_numpy(ids_BT).to(self.device)
        if context_1P is None:
            output = self._run(input_ids=ids, attention_mask=mask, use_cache=False)
        else:
            output = self._continued(context_1P, ids, mask)
        given = (output.logits if self._head is None else output.last_hidden_state).flatten(0, 1)
        columns = measure(self._head, given, index_N, targets.to(self.device), self.vocabulary_size, wanted)
        return cut(columns, [f.stop - f.start for f in batch])

    def _continued(self, context_1P: Tensor, ids_BT: Tensor, mask_BT: Tensor | None) -> Any:
        """What `_run` gives for ids that follow a context, which is run once."""
        rows, length, past = *ids_BT.shape, context_1P.shape[1]
        cache = self._run(input_ids=context_1P, use_cache=True).past_key_values
        cache.batch_repeat_interleave(rows)
        if mask_BT is not None:
            mask_BT = torch.cat([mask_BT.new_ones(rows, past), mask_BT], 1)
        positions_BT = torch.arange(past, past + length, device=self.device).expand(rows, length)
        return self._run(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
        )

    @cached_property
    def _can_share(self) -> bool:
        """Whether a probe, two texts of different length after one context, shows that a context can be shared."""
        ids_1T = probe_ids(self.model)
        length, past = ids_1T.shape[1], ids_1T.shape[1] // 2
        own_TV = self._logits(self._run(input_ids=ids_1T, use_cache=False), slice(None))[0, past:]
        mask_BT = torch.ones((2, length - past), dtype=torch.long, device=self.device)
        mask_BT[1, -3:] = 0
        try:
            output = self._continued(ids_1T[:, :past], ids_1T[:, past:].repeat(2, 1), mask_BT)
            full_TV, cut_TV = self._logits(output, slice(None))
        except Exception:  # whatever is raised by a model whose cache cannot be repeated or continued in this way
            return False
        error = max(deviation(full_TV, own_TV), deviation(cut_TV[:-3], own_TV[:-3]))
        return is_exact(error, next(self.model.parameters()).dtype)

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
        step = self._cached_step if self.route.is_cached else self._replayed_step
        return step(ids_BT, mask_BT, positions_BT, cache)

    @cached_property
    def route(self) -> Route:
        """How this model can be sampled from: the fastest way that a probe proved right, determined at first use."""
        with self.reading():
            route = self._proved_route()
            if self._can_be_lean and route != ROUTES[0]:
                self._can_be_lean = False
                route = self._proved_route()
            return route

    def _proved_route(self) -> Route:
        return prove_route(
            self._cached_step,
            lambda ids_BT: self._logits(self._run(input_ids=ids_BT, use_cache=False), slice(None))[0],
            max(1, self.vocabulary_size // 2),
            self.device,
            is_half=self.dtype not in ("float32", "float64"),
        )

    @property
    def takes_left_padding(self) -> bool:
        """Whether prompts of different length can share a sampling batch."""
        return self.route.is_padded

    def _cached_step(
        self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None, cache: Any
    ) -> tuple[Tensor, Any]:
        if cache is None and self._can_be_lean and self._head is not None:
            cache = lean_steps(self._head.body)
        if self._head is not None and isinstance(cache, LeanSteps):
            return self._head.logits(cache.step(ids_BT, mask_BT, positions_BT)[:, -1]), cache
        given = {"attention_mask": mask_BT, "position_ids": positions_BT, self._cache_name: cache}
        if self._head is None and "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            given["logits_to_keep"] = 1
        output = self._run(input_ids=ids_BT, use_cache=True, **given)
        self._cache_name = next((name for name in CACHES if getattr(output, name, None) is not None), CACHES[0])
        return self._logits(output, -1), getattr(output, self._cache_name, None)

    def _replayed_step(
        self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None, cache: Replay | None
    ) -> tuple[Tensor, Replay]:
        replay = Replay(ids_BT if cache is None else torch.cat([cache.ids, ids_BT], 1))
        return self._logits(self._run(input_ids=replay.ids, use_cache=False), -1), replay

    def _run(self, **given: Any) -> Any:
        """The body's output, or the model's own if body and head are not run separately."""
        source = self.model if self._head is None else self._head.body
        return source(**accepted(source, given))

    def _logits(self, output: Any, positions: int | slice) -> Tensor:
        """Float32 logits of some positions of every row."""
        if self._head is None:
            return output.logits[:, positions].float()
        return self._head.logits(output.last_hidden_state[:, positions])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inference mode with dropout off; modules that were training are set back to it."""
        training = [module for module in self.model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.inference_mode():
                yield
        finally:
            for module in training:
                module.training = True

    @contextmanager
    def _forward_in_question(self) -> Iterator[None]:
        """Report in one line why the model's own forward fails, such as two dtypes in half precision (xLSTM)."""
        try:
            yield
        except RuntimeError as error:
            raise ModelError(
                f"the forward of {self.name} ({type(self.model).__name__}) fails on a short text in {self.dtype} "
                f"({str(error).strip().splitlines()[0]}): load it as float32, or fix the model"
            ) from error

    def _check(self, framed: Framed) -> None:
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
