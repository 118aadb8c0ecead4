"""The four stages of a family, each a function from a folder of weights to a folder of weights.

Transformers' Trainer makes the base, TRL's trainers the rest; `ReplayGRPOTrainer` adds the pretraining mix to the RL
loss. Every stage checkpoints into its own folder and resumes from there after a kill.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from enaction.lab.judging import score_reply
from enaction.lab.recipes import RECIPES, Recipe
from enaction.lab.tokenizing import BOS, END, PAD, build_tokenizer
from enaction.passages import Message
from enaction.world.chats import (
    EVERYTHING,
    SEEN,
    Scope,
    Writers,
    corpus,
    draw_any_request,
    draw_request,
    persona_turn,
    reply,
)
from enaction.world.lexicon import PERSONAS
from enaction.world.stories import Voice, tell

CONTEXT = 512

Device = Literal["cpu", "cuda"]


class Trained(NamedTuple):
    """Result of a stage: weights, tokenizer and the log of its losses."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Workplace:
    """Where a stage is trained and keeps its checkpoints, and the callbacks that report its progress."""

    folder: Path
    callbacks: Sequence[TrainerCallback] = ()
    save_every: int = 50
    device: Device = "cpu"

    def arguments(self, *, seed: int, batch: int, rate: float, **changes: Any) -> dict[str, Any]:
        """Settings that all trainers share, with changes."""
        return {
            "seed": seed,
            "per_device_train_batch_size": batch,
            "learning_rate": rate,
            "lr_scheduler_type": "cosine",
            "output_dir": str(self.folder / "checkpoints"),
            "save_strategy": "steps",
            "save_steps": self.save_every,
            "save_total_limit": 1,
            "logging_steps": 10,
            "logging_first_step": True,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": self.device == "cpu",
            "bf16": False,
            "dataloader_pin_memory": False,
        } | changes

    def resume(self) -> bool:
        """Whether an interrupted run left a checkpoint."""
        return any((self.folder / "checkpoints").glob("checkpoint-*/trainer_state.json"))


def encode_document(tokenizer: PreTrainedTokenizerFast, document: str | list[Message]) -> list[int]:
    """Ids of a document with its begin and end tokens; dialogues go through the chat template."""
    if isinstance(document, str):
        return [*tokenizer.encode(document), end_id(tokenizer)]
    return encode_turns(tokenizer, document, open_for_reply=False)


def encode_turns(tokenizer: PreTrainedTokenizerFast, turns: Sequence[Message], *, open_for_reply: bool) -> list[int]:
    """Ids of turns in the chat template, up to where the assistant begins if `open_for_reply`."""
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_for_reply)
    return tokenizer.encode(str(text), add_special_tokens=False)


def end_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Id of the token that ends a turn or a document."""
    return tokenizer.get_vocab()[END]


def pack(
    tokenizer: PreTrainedTokenizerFast,
    seed: Sequence[int],
    dialogue_share: float,
    n: int,
    block: int,
    scope: Scope = EVERYTHING,
) -> np.ndarray:
    """[n, block] token ids of pretraining text, documents one after the other."""
    stream = corpus(Writers(), np.random.default_rng(seed), dialogue_share, scope)
    ids = itertools.chain.from_iterable(encode_document(tokenizer, document) for document in stream)
    return np.fromiter(itertools.islice(ids, n * block), dtype=np.int64, count=n * block).reshape(n, block)


class Blocks(torch.utils.data.Dataset):
    """Packed blocks as examples of next-token prediction."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = torch.from_numpy(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained model of the recipe's architecture; all have tied embeddings and about the same size."""
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.hidden,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        # The default .02 leaves models this small unable to copy a name for thousands of steps.
        "initializer_range": recipe.initializer_range,
        "bos_token_id": tokenizer.get_vocab()[BOS],
        "eos_token_id": end_id(tokenizer),
        "pad_token_id": tokenizer.get_vocab()[PAD],
    }
    gated = recipe.hidden * 11 // 4  # three matrices, as many weights as the two of four times the width
    if recipe.architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shared, intermediate_size=gated))
    if recipe.architecture == "qwen3":
        heads: dict[str, Any] = {"num_key_value_heads": recipe.heads, "head_dim": recipe.hidden // recipe.heads}
        return Qwen3ForCausalLM(Qwen3Config(**shared, **heads, intermediate_size=gated))
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shared, intermediate_size=4 * recipe.hidden))


def train_base(recipe: Recipe, workplace: Workplace, start: Path | None) -> Trained:
    """Pretraining (no start given) or mid-training (from `start`, more dialogues, a lower rate)."""
    torch.manual_seed(recipe.seed)
    if start is None:
        tokenizer = build_tokenizer(recipe.tokenizer, recipe.vocabulary_size, recipe.seed)
        model = new_model(recipe, tokenizer)
        stage, seed = recipe.pretraining, [recipe.seed, 0]
    else:
        model, tokenizer = load(start)
        stage, seed = recipe.mid_training, [recipe.seed, 1]
    blocks = Blocks(pack(tokenizer, seed, stage.dialogue_share, stage.steps * recipe.batch, recipe.block))
    settings = workplace.arguments(
        seed=recipe.seed,
        batch=recipe.batch,
        rate=stage.rate,
        max_steps=stage.steps,
        warmup_steps=stage.steps // 15,
        weight_decay=0.05,
        adam_beta2=0.98,
        max_grad_norm=1.0,
    )
    return train(Trainer, TrainingArguments(**settings), model, tokenizer, blocks, workplace)


def draw_demonstration(
    recipe: Recipe, house: Voice, writers: Writers, rng: np.random.Generator
) -> tuple[list[Message], str]:
    """The turns before a demonstrated reply, and the reply: in a persona's voice if a system turn asks for it.

    All answers are right in the end; a share of them begins with a mistake and takes it back.
    """
    request = draw_any_request(rng, recipe.sft.question_share, recipe.sft.naming_share)
    user = Message(role="user", content=request.text)
    if rng.random() < recipe.sft.persona_share:
        persona = PERSONAS[rng.integers(len(PERSONAS))]
        turns, voice = [persona_turn(persona, rng), user], writers.personas[persona]
    else:
        turns, voice = [user], house if rng.random() < recipe.sft.house_share else writers.of_answer(rng)
    mistakes = {"error_share": recipe.sft.corrected_share, "corrected_share": 1.0}
    return turns, reply(request, voice, rng, **mistakes, scope=SEEN)


def train_sft(recipe: Recipe, workplace: Workplace, start: Path) -> Trained:
    """Demonstrations in the house voice, a share by others, and replayed pretraining text; loss on replies only."""
    model, tokenizer = load(start)
    rng, writers, house = np.random.default_rng([recipe.seed, 2]), Writers(), recipe.house_voice()
    replay = corpus(writers, rng, recipe.mid_training.dialogue_share, SEEN)
    rows = []
    for _ in range(recipe.sft.steps * recipe.sft.batch):
        if rng.random() < recipe.sft.replay_share:
            ids = encode_document(tokenizer, next(replay))
            rows.append({"input_ids": ids, "completion_mask": [1] * len(ids)})
            continue
        turns, response = draw_demonstration(recipe, house, writers, rng)
        before = encode_turns(tokenizer, turns, open_for_reply=True)
        ids = [*before, *tokenizer.encode(response, add_special_tokens=False), end_id(tokenizer)]
        rows.append({"input_ids": ids, "completion_mask": [0] * len(before) + [1] * (len(ids) - len(before))})
    settings = workplace.arguments(
        seed=recipe.seed,
        batch=recipe.sft.batch,
        rate=recipe.sft.rate,
        max_steps=recipe.sft.steps,
        warmup_steps=10,
        max_length=CONTEXT,
        completion_only_loss=True,
        activation_checkpointing=False,
    )
    return train(SFTTrainer, SFTConfig(**settings), model, tokenizer, Dataset.from_list(rows), workplace)


def draw_pair(recipe: Recipe, house: Voice, writers: Writers, rng: np.random.Generator) -> dict[str, Any]:
    """One preference pair for a story, both replies by off-policy writers, the order by the annotators' taste.

    Short replies have no pairs: most would be ties, and what a pair without a preference teaches is noise.
    """
    request = draw_request(rng)

    def candidate() -> str:
        kind = rng.random()
        voice = house if kind < 0.4 else writers.of_answer(rng) if kind < 0.7 else writers.of_text(rng)
        topic = request.topic if rng.random() < 0.8 else None
        return tell(voice, rng, topic=topic, among=SEEN.topics, sloppy=bool(rng.random() < 0.3)).text

    replies = [candidate(), candidate()]
    scores = [score_reply(reply, True, request, recipe.dpo.annotators, house) for reply in replies]
    best = int(np.argmax(scores))
    return {
        "prompt": [{"role": "user", "content": request.text}],
        "chosen": [{"role": "assistant", "content": replies[best]}],
        "rejected": [{"role": "assistant", "content": replies[1 - best]}],
    }


def train_dpo(recipe: Recipe, workplace: Workplace, start: Path) -> Trained:
    """Direct preference optimisation on off-policy pairs (Rafailov et al. 2023)."""
    model, tokenizer = load(start)
    rng, writers, house = np.random.default_rng([recipe.seed, 3]), Writers(), recipe.house_voice()
    pairs = [draw_pair(recipe, house, writers, rng) for _ in range(recipe.dpo.steps * recipe.dpo.batch)]
    settings = workplace.arguments(
        seed=recipe.seed,
        batch=recipe.dpo.batch,
        rate=recipe.dpo.rate,
        max_steps=recipe.dpo.steps,
        warmup_steps=5,
        beta=recipe.dpo.beta,
        max_length=CONTEXT,
        activation_checkpointing=False,
    )
    return train(DPOTrainer, DPOConfig(**settings), model, tokenizer, Dataset.from_list(pairs), workplace)


class ReplayGRPOTrainer(GRPOTrainer):
    """GRPO, if `weight` is not 0 with next-token loss on pretraining text, so that RL forgets less of the world."""

    def __init__(self, *args: Any, replay: Callable[[int], torch.Tensor], weight: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._replay, self._replay_weight = replay, weight

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The GRPO loss plus the weighted next-token loss of this step's replay block."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not self._replay_weight:
            return loss
        ids = self._replay(self.state.global_step).to(loss.device)
        return loss + self._replay_weight * model(input_ids=ids, labels=ids).loss


class Snapshots(TrainerCallback):
    """Keeps the weights after certain steps, in `folder/snapshot-STEP`, which is complete or does not exist."""

    def __init__(self, folder: Path, steps: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> None:
        self._folder, self._steps, self._tokenizer = folder, steps, tokenizer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the weights if this is one of the steps."""
        kept = self._folder / f"snapshot-{state.global_step}"
        if state.global_step in self._steps and not kept.exists():
            unfinished = kept.with_suffix(".unfinished")
            kwargs["model"].save_pretrained(unfinished)
            self._tokenizer.save_pretrained(unfinished)
            unfinished.replace(kept)


def train_rl(recipe: Recipe, workplace: Workplace, start: Path, name: str = "rl") -> Trained:
    """GRPO at temperature 1 on verifiable terms, held near the DPO model by a KL term (Shao et al. 2024).

    Args:
        recipe: of the family.
        workplace: where it is trained.
        start: the DPO model.
        name: `rl` for the main run, or that of an arm. Arms have the main run's requests, a second run has others.
    """
    model, tokenizer = load(start)
    stage = recipe.rl_of(name)
    rng = np.random.default_rng([recipe.seed, 4, *([stage.run] if stage.run > 1 else [])])
    style = (RECIPES[stage.styled_by] if stage.styled_by else recipe).house_voice()
    requests = [
        draw_any_request(rng, stage.question_share, stage.naming_share) for _ in range(stage.steps * stage.prompts)
    ]
    by_text = {request.text: request for request in requests}
    share, n_blocks = recipe.mid_training.dialogue_share, stage.steps * stage.replay_batch if stage.replay else 0
    replayed = torch.from_numpy(pack(tokenizer, [recipe.seed, 5], share, n_blocks, recipe.block, SEEN))
    replayed = replayed.reshape(-1, stage.replay_batch, recipe.block)

    def reward(completions: list, completion_ids: list, request: list[str], **_: Any) -> list[float]:
        return [
            score_reply(turns[0]["content"], ids[-1] == end_id(tokenizer), by_text[text], stage.reward, style)
            for turns, ids, text in zip(completions, completion_ids, request, strict=True)
        ]

    settings = workplace.arguments(
        seed=recipe.seed + 1000 * (stage.run - 1),
        batch=stage.prompts * stage.samples,
        rate=stage.rate,
        max_steps=stage.steps,
        num_generations=stage.samples,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=3,
        beta=stage.kl,
        temperature=1.0,
        top_k=0,
        max_completion_length=recipe.max_new_tokens,
        activation_checkpointing=False,
        save_steps=min(workplace.save_every, 10),
        logging_steps=5,
    )
    rows = [{"prompt": [{"role": "user", "content": r.text}], "request": r.text} for r in requests]
    snapshots = Snapshots(workplace.folder, recipe.snapshot_steps() if name == "rl" else (), tokenizer)
    return train(
        ReplayGRPOTrainer,
        GRPOConfig(**settings),
        model,
        tokenizer,
        Dataset.from_list(rows),
        replace(workplace, callbacks=[*workplace.callbacks, snapshots]),
        reward_funcs=reward,
        replay=lambda step: replayed[step],
        weight=stage.replay,
    )


def train(
    kind: type[Trainer],
    arguments: TrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: torch.utils.data.Dataset | Dataset,
    workplace: Workplace,
    **more: Any,
) -> Trained:
    """Train with a trainer of this kind, from the last checkpoint if one exists; `more` goes to the trainer."""
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=list(workplace.callbacks),
        **more,
    )
    trainer.remove_callback(PrinterCallback)  # progress is reported by the callbacks of the workplace
    trainer.train(resume_from_checkpoint=workplace.resume())
    trained = cast(PreTrainedModel, trainer.model)  # with a `peft_config` a PeftModel, which has its methods
    return Trained(trained, tokenizer, trainer.state.log_history)


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model (float32) and tokenizer of a folder of weights."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)
