"""A short form of `make real`: two public checkpoints, read and sampled with their own templates and tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from enaction.experiments import analyse
from enaction.findings import Findings, select
from enaction.running import load_study, run_study
from enaction.study.store import Cell, Run
from enaction.words import FRAMINGS

pytestmark = pytest.mark.real
MODELS = ("smollm2-sft", "gemma")
STUDY = Path(__file__).parent.parent / "studies" / "real.yaml"


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    study = load_study(STUDY)
    assert Path(study.models["gemma"].model).exists(), (
        "run `make real` or `make test-real`, which put the public checkpoints under .models/"
    )
    changed = {
        "models": {name: study.models[name] for name in MODELS},
        "matrices": {"sft": list(MODELS)},
        "framings": list(FRAMINGS),
        "n_prompts": 12,
        "sampling": study.sampling.model_copy(update={"max_new_tokens": 24}),
        "resamples": 500,
        "experiments": {"matrix": {}},
    }
    return run_study(study.model_copy(update=changed), tmp_path_factory.mktemp("real") / "run")


@pytest.fixture(scope="module", name="findings")
def _findings(run: Run) -> Findings:
    return analyse(run.study(), run)


def test_identity_holds_on_both_models(findings: Findings) -> None:
    found = {f.where["reader"]: f for f in select(findings, "identity_residual")}
    assert set(found) == set(MODELS)
    assert all(f.estimate is not None and abs(f.estimate) < 4 for f in found.values())
    assert found["smollm2-sft"].where["framing"] == "assistant"
    assert found["gemma"].where["framing"] == "none"


def test_recorded_log_probabilities_are_what_the_reader_reads(run: Run) -> None:
    for cell in (Cell("smollm2-sft", "smollm2-sft", "assistant"), Cell("gemma", "gemma", "none")):
        tokens, model = run.tokens(cell), cell.reader
        recorded = [-x for p in run.passages(model) for x in p.logprobs or ()]
        assert tokens["surprisal"].to_pylist() == pytest.approx(recorded, abs=1e-3)
        ids = [i for p in run.passages(model) for i in p.token_ids or ()]
        assert tokens["token_id"].to_pylist() == ids


def test_ratio_and_interaction_have_intervals(findings: Findings) -> None:
    for framing in FRAMINGS:
        for quantity in ("other_self_ratio", "interaction"):
            for found in select(findings, quantity, framing=framing):
                assert found.n == 12
                assert found.low is not None
                assert found.estimate is not None
                assert found.high is not None
                assert found.low <= found.estimate <= found.high
        (mean,) = select(findings, "interaction", framing=framing, reader="mean")
        assert any("gemma has no chat template" in note for note in mean.notes) is (framing != "none")
