"""Geometry on models whose relation is known: the same weights, and random ones of the same shape."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from enaction import running, zoo
from enaction.findings import Findings


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """ash-base against itself, called a later stage, and against random weights with its tokenizer."""
    folder = tmp_path_factory.mktemp("geometry")
    torch.manual_seed(0)
    where = zoo.path("ash-base")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(where)).save_pretrained(folder / "random")
    AutoTokenizer.from_pretrained(where).save_pretrained(folder / "random")
    models = {
        "base": {"model": "zoo:ash-base", "family": "ash", "stage": "base"},
        "random": {"model": str(folder / "random"), "family": "ash", "stage": "sft", "framing": "none"},
        "clone": {"model": "zoo:ash-base", "family": "ash", "stage": "rl"},
        "other": {"model": "zoo:organism-origin", "family": "other", "stage": "base"},
    }
    study = {
        "name": "relatives",
        "models": models,
        "matrices": {
            stage: [model, "other"] for stage, model in (("base", "base"), ("sft", "random"), ("rl", "clone"))
        },
        "cross_stage": False,
        "prompts": "zoo",
        "n_prompts": 12,
        "framings": ["none"],
        "sampling": {"per_prompt": 1, "max_new_tokens": 40},
        "experiments": {"geometry": {"n_tokens": 400, "max_layers": 3}},
        "resamples": 100,
    }
    return running.run(study, folder / "run").findings


def _values(findings: Findings, quantity: str, stage: str) -> list[float]:
    found = findings.select(quantity, "geometry", stage=stage).measured
    return [f.estimate for f in found if f.estimate is not None]


def test_a_clone_holds_everything_alike(findings: Findings) -> None:
    for quantity in ("cosine", "centred_cosine", "cka"):
        assert _values(findings, quantity, "rl") == pytest.approx([1.0] * 3, abs=1e-3)
    angles = _values(findings, "direction_cosine", "rl")
    assert angles == pytest.approx([1.0] * len(angles), abs=1e-3)
    assert _values(findings, "procrustes", "rl") == pytest.approx([0.0] * 3, abs=1e-3)


def test_a_model_of_several_groups_is_not_compared_with_itself(findings: Findings) -> None:
    assert set(findings.select("cosine", "geometry").values("family")) == {"ash"}


def test_random_weights_hold_nothing_alike_and_their_directions_have_no_angle_of_note(findings: Findings) -> None:
    assert max(map(abs, _values(findings, "centred_cosine", "sft"))) < 0.1
    assert min(_values(findings, "procrustes", "sft")) > 0.2
    alike, floor = _values(findings, "cka", "sft"), []
    for f in findings.select("cka", "geometry", stage="sft"):
        floor.append(float(f.notes[0].rpartition(" ")[2]))
    # Random embeddings of the same tokens keep tokens apart, so CKA is far above shuffled tokens, and far below 1.
    assert all(shuffled < value < 0.9 for shuffled, value in zip(floor, alike, strict=True))
    assert all(value < 0.6 for value in _values(findings, "direction_cosine", "sft"))


def test_intervals_hold_their_estimates(findings: Findings) -> None:
    for f in findings.select("cosine", "geometry", stage="sft"):
        assert f.low is not None
        assert f.high is not None
        assert f.estimate is not None
        assert f.low <= f.estimate <= f.high
