"""`EnactionCallback`: watch a model recognise its own words, and its sampler agree with its trainer, while it trains.

A callback of transformers' Trainer and so of TRL's trainers (SFT, DPO, GRPO and others); TRL itself is not imported.
Training ends with the same weights, bit by bit, as without it. What is measured is in `watching` and `rolled`, how it
is set up in `setting_up`, what is set back afterwards in `untouched`; docs/callback.md says what the numbers mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from transformers import TrainerCallback
from transformers.utils import logging

from enaction.integrations.rolled import append, compared, drawn, is_batch, rolled
from enaction.integrations.setting_up import START, Settings, core_of, watch_of
from enaction.integrations.untouched import own_forward, untouched
from enaction.integrations.verdicts import verdict_on
from enaction.integrations.watching import Numbers, Watch
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.words import Framing

# The logger of transformers: what goes wrong is to be seen where the trainer's own warnings are.
_log = logging.get_logger("transformers.enaction")
_PREFIX = "enaction/"
_MAX_ROLLOUTS = 64
# What goes into the trainer's log; the history has all.
_LOGGED = (
    *("identity", "identity_se", "recognition", "recognition_se", "ease", "ease_se", "log_ratio", "log_ratio_se"),
    *("entropy", "kl_start", "kl_start_se", "kl_sampler", "kl_sampler_se", "kl_sampler_sd", "kl_sampler_outside"),
    *("kl_reference", "kl_reference_se", "rollout_identity", "rollout_identity_se", "verdict", "alarm"),
    *("step", "time_share"),
)

Self = TypeVar("Self", bound="EnactionCallback")


class EnactionCallback(TrainerCallback):
    """Log `enaction/...` numbers of the model in training every so many steps.

    Give it in `callbacks=[...]`, or better `EnactionCallback(...).attach(trainer)`: attached, its numbers reach every
    logger (W&B, TensorBoard), and the rollouts of a GRPO trainer are compared and saved.

    Attributes:
        history: an entry an evaluation: `step`, the numbers without prefix, `verdict`, `seconds`.
        skipped: evaluations left out for the time budget.
        is_off: an error switched it off; the warning said which.
    """

    def __init__(
        self,
        prompts: str | Path | Sequence[Prompt | str],
        foreign: str | Path | Sequence[Passage] = (),
        *,
        judge: Reader | str | None = START,
        every_steps: int = 50,
        time_share: float = 0.05,
        per_prompt: int = 1,
        max_new_tokens: int = 64,
        seed: int = 0,
        framing: Framing | None = None,
        noise: float = 0.05,
        save_rollouts: str | Path | None = None,
    ) -> None:
        """Say what is measured; nothing is read yet.

        Args:
            prompts: held out, answered by the model each time: prompts, texts of a user, or a file of them.
            foreign: passages of another author to some of these prompts (a file or passages), for recognition and
                ease. Neither the model nor the judge should have written them.
            judge: who says how easy a text is: `start`, the model as it is before training (an adapter switched off,
                else a copy, which takes the memory of one); a Reader or the name of a model, best one that wrote
                neither text; None for no judge, and the log ratio alone.
            every_steps: how often.
            time_share: of the training time that evaluations may take; those beyond it are skipped. 1 is no limit.
            per_prompt: own passages to each prompt.
            max_new_tokens: of an own passage.
            seed: of the own passages; the same numbers each time, so that steps can be compared.
            framing: `assistant` or `none`; by default `assistant` where there is a chat template.
            noise: standard deviation, nats, that numerics may put between sampler and trainer; .05 is usual for vLLM.
            save_rollouts: a JSONL file to which the batch of a GRPO trainer is added at each evaluation, for
                `enaction doctor`.
        """
        self.history: list[dict[str, Any]] = []
        self.skipped = 0
        self.is_off = False
        self._settings = Settings(
            prompts=prompts,
            foreign=foreign,
            judge=judge,
            every_steps=every_steps,
            time_share=time_share,
            per_prompt=per_prompt,
            max_new_tokens=max_new_tokens,
            seed=seed,
            framing=framing,
            noise=noise,
            rollouts=None if save_rollouts is None else Path(save_rollouts),
        )
        self._trainer: Any = None
        self._watch: Watch | None = None
        self._pending: dict[str, Any] = {}
        self._measured: Numbers = {}
        self._batch: Any = None
        self._is_due = False
        # Seconds: when training began, what all evaluations took, the last one, and the one that is under way.
        self._begun, self._spent, self._last_cost, self._cost = 0.0, 0.0, 0.0, 0.0

    def attach(self: Self, trainer: Any) -> Self:
        """Join a trainer's callbacks as the first of them, so that what it adds to a log reaches all the others."""
        callbacks = trainer.callback_handler.callbacks
        if self in callbacks:
            callbacks.remove(self)
        callbacks.insert(0, self)
        self._trainer = trainer
        return self

    def to_table(self) -> pa.Table:
        """The history as a table, a row an evaluation; null where an evaluation has no such number."""
        names = list(dict.fromkeys(name for entry in self.history for name in entry))
        return pa.table({name: [entry.get(name) for entry in self.history] for name in names})

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **_: Any
    ) -> None:
        """Check everything that can be checked, and measure once before the first step.

        Raises:
            UserError: something is set up so that it could not work.
        """
        self.is_off = not state.is_world_process_zero
        self._begun, self._spent, self._pending = time.monotonic(), 0.0, {}
        if self.is_off:
            return
        self._settings.require(args, self._trainer, is_resumed=state.global_step > 0)
        with untouched(model), own_forward(core_of(model)):
            self._watch = watch_of(self._settings, model, processing_class)
            judge = self._watch.judge
            if state.global_step and judge is not None and judge.reader is not self._watch.reader and judge.is_start:
                _log.warning(
                    f"enaction: training goes on from step {state.global_step}, so the judge is the model of that step "
                    "and not of the start: give EnactionCallback judge=NAME of the model that training began with"
                )
            self._spent = time.monotonic() - self._begun
            self._evaluate(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide whether there is time for an evaluation at this step."""
        self._is_due = not self.is_off and (state.global_step + 1) % self._settings.every_steps == 0
        if not self._is_due:
            return
        trained = time.monotonic() - self._begun - self._spent
        if self._spent + self._last_cost > self._settings.time_share * trained and self._settings.time_share < 1:
            self._is_due = False
            self.skipped += 1
            self._pending[f"{_PREFIX}skipped"] = self.skipped
        else:
            self._batch = getattr(self._trainer, "_buffered_inputs", None)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Compare the rollouts with the trainer while it still has the weights that sampled them."""
        batch = getattr(self._trainer, "_buffered_inputs", None)
        if self._is_due and is_batch(batch):
            self._guarded(model, lambda: self._compare(args, batch, state.global_step + 1))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Measure the model as it is after the step."""
        if self._is_due and not self.is_off:
            self._guarded(model, lambda: self._evaluate(state.global_step))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Add what is new to the trainer's own log entry."""
        if logs is None or not self._pending or any(name.startswith("eval_") for name in logs):
            return
        logs.update(self._pending)
        if state.log_history:  # written before the callbacks are asked
            state.log_history[-1].update(self._pending)
        self._pending = {}

    def _guarded(self, model: Any, work: Callable[[], None]) -> None:
        """Do it, and on any error say so in one line and stay away from the training from then on."""
        try:
            with untouched(model), own_forward(core_of(model)):
                work()
        except Exception as error:  # whatever it is, a training of days must not die of a measurement
            self.is_off = True
            line = " ".join(str(error).split()) or type(error).__name__
            _log.warning(f"enaction: {line}; EnactionCallback is off from here on, and the training goes on")

    def _compare(self, args: Any, batch: Any, step: int) -> None:
        begun = time.monotonic()
        answers, how = rolled(batch)[:_MAX_ROLLOUTS], drawn(args)
        assert self._watch is not None
        if answers:
            is_fresh = batch is not self._batch  # sampled in this step, and so by these weights
            self._measured, answers = compared(
                self._watch.reader, answers, how, is_fresh=is_fresh, noise=self._settings.noise
            )
            if self._settings.rollouts is not None:
                append(self._settings.rollouts, answers, how, step)
        self._batch = None
        self._cost += time.monotonic() - begun

    def _evaluate(self, step: int) -> None:
        """Measure, and keep the numbers for the history and the next log entry."""
        begun = time.monotonic()
        assert self._watch is not None
        numbers = self._watch.numbers() | self._measured
        judge = self._watch.judge
        words, is_alarm = verdict_on(numbers, judge is not None and judge.is_start)
        self._last_cost = self._cost + time.monotonic() - begun
        self._measured, self._cost = {}, 0.0
        self._spent += self._last_cost
        entry = {"step": step, **numbers, "verdict": words, "alarm": int(is_alarm), "seconds": self._last_cost}
        if self.history:  # before the first step there is no training to have a share of
            entry["time_share"] = self._spent / max(time.monotonic() - self._begun - self._spent, 1e-9)
        self.history.append(entry)
        self._pending |= {f"{_PREFIX}{name}": value for name, value in entry.items() if name in _LOGGED}
        if is_alarm:
            _log.warning(f"enaction: step {step}: {words}")
