"""A plan is data: it can be sent to another process, and the same study gives the same plan there."""

from __future__ import annotations

import pickle

import pytest

from enaction.experiments import EXPERIMENTS, plan
from enaction.study.config import Study


def _study(experiment: str) -> Study:
    models = {
        f"{family}-{stage}": {"model": "nowhere", "family": family, "stage": stage}
        for stage in ("base", "sft", "rl")
        for family in ("ash", "birch", "cedar")
    }
    return Study.model_validate(
        {"name": "plans", "models": models, "n_prompts": 4, "experiments": [experiment], "world_text": True}
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_plan_pickles_and_keeps_its_digest(experiment: str) -> None:
    made = plan(_study(experiment))
    sent = pickle.loads(pickle.dumps(made))
    assert sent == made
    assert sent.digest() == made.digest() == plan(_study(experiment)).digest()


def test_another_study_has_another_digest() -> None:
    smaller = _study("controls").model_copy(update={"n_prompts": 3})
    assert plan(smaller).digest() != plan(_study("controls")).digest()
