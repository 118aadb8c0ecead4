"""LoRA adapters of the user's own, against a product that is merged by hand in float64."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command import enaction
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from enaction.errors import ModelError
from enaction.framing import frame
from enaction.reader import Reader
from enaction.study.config import ModelSpec, study_of, with_absolute_paths

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

RANK, ALPHA = 4, 6
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "task_type": "CAUSAL_LM"}
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


class Case:
    """A base, and an adapter with what it should make of the base's weights.

    Attributes:
        model: the base.
        tensors: the adapter's file.
        settings: its adapter_config.json.
    """

    def __init__(self, settings: dict[str, Any] | None = None, *, tied: bool = False) -> None:
        self.tokenizer = tiny.byte_tokenizer()
        self.model: PreTrainedModel = tiny.llama(len(self.tokenizer), tied=tied)
        self.settings = PLAIN | {"base_model_name_or_path": "../base", "target_modules": []} | (settings or {})
        self.tensors: dict[str, Tensor] = {}
        self.merged = {name: weight.double() for name, weight in self.model.state_dict().items()}
        self._generator = torch.Generator().manual_seed(1)

    def drawn(self, *shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=self._generator)

    def adapt(self, module: str, rank: int = RANK, alpha: float = ALPHA, *, dora: bool = False) -> Case:
        """W + scale B A, with the rows of DoRA brought to their magnitudes."""
        weight_OI = self.merged[f"{module}.weight"]
        a_RI, b_OR = self.drawn(rank, weight_OI.shape[1]), self.drawn(weight_OI.shape[0], rank)
        scale = alpha / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)
        product_OI = weight_OI + scale * b_OR.double() @ a_RI.double()
        prefix = f"base_model.model.{module}"
        self.tensors |= {f"{prefix}.lora_A.weight": a_RI, f"{prefix}.lora_B.weight": b_OR}
        if dora:
            magnitude_O = 1 + self.drawn(len(weight_OI)).abs()
            self.tensors[f"{prefix}.lora_magnitude_vector"] = magnitude_O
            product_OI = product_OI * (magnitude_O.double() / product_OI.norm(dim=1))[:, None]
        self.merged[f"{module}.weight"] = product_OI
        self.settings["target_modules"].append(module)
        return self

    def replace(self, module: str, weight: Tensor) -> Case:
        """A module that was trained whole."""
        self.tensors[f"base_model.model.{module}.weight"] = weight
        self.merged[f"{module}.weight"] = weight.double()
        self.settings["modules_to_save"] = [*self.settings.get("modules_to_save", []), module.split(".")[-1]]
        return self

    def save(self, folder: Path) -> Path:
        """The adapter's folder, beside the base's."""
        self.model.save_pretrained(folder / "base")
        self.tokenizer.save_pretrained(folder / "base")
        adapter = folder / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps(self.settings))
        save_file(
            {name: tensor.contiguous() for name, tensor in self.tensors.items()}, adapter / "adapter_model.safetensors"
        )
        return adapter


def patterns() -> Case:
    return Case({"rank_pattern": {Q: 2}, "alpha_pattern": {Q: 5}}).adapt(Q, 2, 5).adapt(DOWN)


def trained_embedding_of_a_tied_model() -> Case:
    """The head keeps the base's weights, as it had them while the adapter was trained."""
    case = Case(tied=True)
    embedding = case.merged["model.embed_tokens.weight"]
    return case.adapt(Q).replace("model.embed_tokens", embedding.float() + case.drawn(*embedding.shape))


def trained_head() -> Case:
    case = Case(tied=True)
    return case.adapt(Q).replace("lm_head", case.drawn(*case.merged["lm_head.weight"].shape))


def low_rank_embedding_of_a_tied_model() -> Case:
    """W + scale (B A)^T in the embedding; the head keeps the base's weights."""
    case = Case(tied=True)
    name = "model.embed_tokens"
    weight_VD = case.merged[f"{name}.weight"]
    a_RV, b_DR = case.drawn(RANK, len(weight_VD)), case.drawn(weight_VD.shape[1], RANK)
    prefix = f"base_model.model.{name}"
    case.tensors |= {f"{prefix}.lora_embedding_A": a_RV, f"{prefix}.lora_embedding_B": b_DR}
    case.merged[f"{name}.weight"] = weight_VD + ALPHA / RANK * (b_DR.double() @ a_RV.double()).T
    case.settings["target_modules"].append(name)
    return case


def more_rows() -> Case:
    case = Case()
    width = case.merged["lm_head.weight"].shape[1]
    case.adapt(Q)
    for module in ("model.embed_tokens", "lm_head"):
        case.replace(module, torch.cat([case.merged[f"{module}.weight"].float(), case.drawn(3, width)]))
    return case


CASES: dict[str, Callable[[], Case]] = {
    "plain": lambda: Case().adapt(Q).adapt(DOWN),
    "patterns of rank and alpha": patterns,
    "rank-stabilised": lambda: Case({"use_rslora": True}).adapt(Q),
    "DoRA": lambda: Case({"use_dora": True}).adapt(Q, dora=True).adapt(DOWN, dora=True),
    "head": lambda: Case().adapt("lm_head"),
    "head of a tied model": lambda: Case(tied=True).adapt("lm_head"),
    "embedding of a tied model": low_rank_embedding_of_a_tied_model,
    "trained embedding of a tied model": trained_embedding_of_a_tied_model,
    "trained head of a tied model": trained_head,
    "more rows": more_rows,
}


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_is_read_as_the_product_merged_by_hand(name: str, tmp_path: Path) -> None:
    case = CASES[name]()
    adapter = case.save(tmp_path)
    expected = tiny.llama(len(case.merged["model.embed_tokens.weight"]), tied=False).double()
    expected.load_state_dict(case.merged)
    reader = Reader.load(str(adapter), device="cpu")
    framed = frame(case.tokenizer, tiny.passage(), "assistant")
    (scores,) = reader.score([framed])
    by_hand = tiny.reference(expected, framed.ids, framed.start, framed.stop)
    np.testing.assert_allclose(scores.surprisal, by_hand[0], atol=1e-4)
    np.testing.assert_allclose(scores.entropy, by_hand[1], atol=1e-4)
    (of_base,) = Reader(case.model, case.tokenizer).score([framed])
    assert np.abs(of_base.entropy - scores.entropy).max() > 1e-2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"base_model_name_or_path": "/nowhere/at/all"},
            "is an adapter of /nowhere/at/all, which is not here: give the base",
        ),
        ({"base_model_name_or_path": None}, "does not say of which model"),
        ({"base_model_name_or_path": "."}, "an adapter itself"),
        ({"peft_type": "PREFIX_TUNING"}, "of the kind PREFIX_TUNING, and LORA alone is merged"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4, which changes the base too"),
        ({"alora_invocation_tokens": [1, 2]}, "activated LoRA"),
        (
            {"target_modules": [Q, DOWN]},
            "holds no base_model.model.model.layers.1.mlp.down_proj.lora_A.weight and 1 more",
        ),
        ({"r": 3}, "does not fit its base"),
    ],
)
def test_what_cannot_be_merged_exactly_is_refused_by_name(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    case = Case().adapt(Q)
    case.settings |= settings
    with pytest.raises(ModelError) as caught:
        Reader.load(str(case.save(tmp_path)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_that_the_base_has_no_place_for_are_refused(tmp_path: Path) -> None:
    case = Case().adapt(Q)
    case.tensors["base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.ones(RANK, 32)
    with pytest.raises(ModelError, match=r"with no place in its base, .*layers.7"):
        Reader.load(str(case.save(tmp_path)))


def test_the_base_can_be_given_and_a_missing_one_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case({"base_model_name_or_path": "./moved"}).adapt(Q)
    adapter = case.save(tmp_path)
    reader = Reader.load(str(adapter), base=tmp_path / "base")
    assert reader.vocabulary_size == len(case.tokenizer)
    capsys.readouterr()
    code, _, said = enaction(capsys, monkeypatch, "check", adapter)
    assert (code, said.count("\n")) == (2, 1)
    assert "is an adapter of ./moved, which is not here: give the base with --base" in said


def test_an_adapter_is_not_quantised_or_spread(tmp_path: Path) -> None:
    adapter = Case().adapt(Q).save(tmp_path)
    with pytest.raises(ModelError, match="leave out device_map and quantization"):
        Reader.load(str(adapter), device_map={"": "cpu"})


def test_a_base_of_a_study_is_relative_to_the_study_or_an_id(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    given = {"base": "base", "file": "there/base.gguf", "id": "org/name"}
    models = {name: {"model": "./adapter", "base": base} for name, base in given.items()}
    study = with_absolute_paths(study_of({"name": "s", "models": models}, "study.yaml"), tmp_path)

    def base(name: str) -> str:
        spec: ModelSpec = study.models[name]
        return str(spec.base)

    assert base("base") == str(tmp_path / "base")
    assert base("file") == str(tmp_path / "there" / "base.gguf")
    assert base("id") == "org/name"
