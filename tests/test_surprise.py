"""The experiment on surprise: organisms whose mechanism was designed get the designed answer, nulls get none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from enaction import Reader, running, zoo
from enaction.experiments.clean import clean
from enaction.experiments.surprise.steered import Response, answer_of
from enaction.findings import Finding, Findings
from enaction.framing import frame
from enaction.reader.interventions import Treated
from enaction.study.config import Study

ORGANISMS = {"surprise": "moves", "mixed": "moves", "regime": "does not", "delayed": "does not"}


def _study(folder: Path, models: dict[str, str], **settings: object) -> Study:
    """Each model beside the last one, the stranger mostly, in a group of its own."""
    lines = ["name: organisms", "models:"]
    lines += [f"  {name}: {{model: '{where}', family: {name}, stage: {name}}}" for name, where in models.items()]
    other = [*models][-1]
    lines += ["matrices:", *(f"  {name}: [{name}, {other}]" for name in models if name != other)]
    lines += ["cross_stage: false", "prompts: prompts.jsonl", "framings: [none]", "resamples: 400"]
    lines += ["sampling: {per_prompt: 2, max_new_tokens: 40}", f"experiments: {{surprise: {settings}}}"]
    (folder / "study.yaml").write_text("\n".join(lines))
    prompts = [f'{{"id": "p{i}", "prompt": "{("low", "high")[i // 2 % 2]}"}}' for i in range(40)]
    (folder / "prompts.jsonl").write_text("\n".join(prompts))
    return running.load_study(folder / "study.yaml")


def _verdicts(folder: Path, models: dict[str, str], **settings: object) -> Findings:
    return running.run(_study(folder, models, **settings), folder / "run", workers=1).findings


def _says(findings: Findings, reader: str) -> Finding:
    return next(f for f in findings.select("surprise_verdict", reader=reader))


def test_surprise_moves_one_organism_and_not_the_other(tmp_path: Path) -> None:
    """A small run of the whole experiment: plan, tables, analysis, page and report."""
    models = {name: f"zoo:organism-{name}" for name in ("surprise", "regime", "stranger")}
    settings = {"draws": 2, "profile": 1, "targets": 3, "ranks": [1], "keys": ["entropy"], "n_prompts": 24}
    run = running.run(_study(tmp_path, models, **settings), tmp_path / "run", workers=1)
    assert "key entropy: moves" in _says(run.findings, "surprise").notes
    # With so few tokens the null is not shown to be one; it must not be taken for an effect.
    assert "key entropy: moves" not in _says(run.findings, "regime").notes
    assert run.pages()["surprise"].charts.keys() == {"steering", "decoded"}
    (table,) = (tmp_path / "run" / "measured").glob("regime.surprise.parquet")
    before = table.stat().st_mtime_ns
    again = running.run(_study(tmp_path, models, **settings), tmp_path / "run", workers=1)
    assert table.stat().st_mtime_ns == before
    assert [f.estimate for f in again.findings] == [f.estimate for f in run.findings]
    table.write_bytes(table.read_bytes()[:-50])
    running.run(_study(tmp_path, models, **settings), tmp_path / "run", workers=1)
    assert table.stat().st_mtime_ns > before


def test_random_weights_and_a_clone_get_no_effect(tmp_path: Path) -> None:
    """What knows nothing is not moved by surprise, and surprise does not tell a clone's text from own text."""
    torch.manual_seed(0)
    where = zoo.path("organism-surprise")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(where)).save_pretrained(tmp_path / "random")
    AutoTokenizer.from_pretrained(where).save_pretrained(tmp_path / "random")
    models = {"surprise": "zoo:organism-surprise", "clone": "zoo:organism-surprise", "random": str(tmp_path / "random")}
    study = _study(tmp_path, models, draws=2, profile=0, targets=2, ranks=[1], keys=["entropy"], n_prompts=24)
    groups = {"clone": ["surprise", "clone"], "random": ["random", "surprise"]}
    findings = running.run(study.model_copy(update={"matrices": groups}), tmp_path / "run", workers=1).findings
    assert "key entropy: moves" not in _says(findings, "random").notes
    told = findings.one("trace_authorship", reader="clone", trace="surprise")
    assert told is not None
    assert told.low is not None
    assert told.high is not None
    assert told.low < 0.5 < told.high


def test_each_token_stands_beside_the_entropy_that_it_can_act_on() -> None:
    """s_t, H_t and H_{t+1} of every token against float64 softmaxes of the model's own logits, padded batch or not."""
    reader = Reader(tiny.llama(len(tiny.word_tokenizer())), tiny.word_tokenizer())
    texts = ("the old fox walked", "a bird sang near the river and lost the song", "night")
    framed = [frame(reader.tokenizer, tiny.passage(text), "assistant") for text in texts]
    of = clean(Treated(reader, framed), [True, False, True], [0, 1, 2], [0, 1])
    rows = iter(range(len(of.passage)))
    for number, f in enumerate(framed):
        with torch.inference_mode():
            output = reader.model(torch.tensor([f.ids]), output_hidden_states=True)
        logprobs = torch.log_softmax(output.logits[0].double(), -1)
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        # Tokens with a predecessor in the response; the last one, the end of the turn or not, is never fed.
        for t in range(f.start + 1, f.stop - 1):
            i = next(rows)
            assert (of.passage[i], of.position[i], of.token[i]) == (number, t, f.ids[t])
            assert of.previous[i] == f.ids[t - 1]
            assert of.surprisal[i] == pytest.approx(-logprobs[t - 1, f.ids[t]].item(), abs=2e-5)
            assert of.entropy[i] == pytest.approx(entropy[t - 1].item(), abs=2e-5)
            assert of.next_entropy[i] == pytest.approx(entropy[t].item(), abs=2e-5)
            np.testing.assert_allclose(of.states[1][i], output.hidden_states[1][0, t].numpy(), atol=1e-4)
    assert next(rows, None) is None
    running_mean = of.running(2.0)
    first = of.surprisal[:2]
    weight = 0.5**0.5
    assert running_mean[1] == pytest.approx((weight * first[0] + first[1]) / (weight + 1))


@pytest.mark.slow
def test_shipped_organisms_get_their_designed_answers(tmp_path: Path) -> None:
    names = [*ORGANISMS, "stranger"]
    findings = _verdicts(tmp_path, {name: f"zoo:organism-{name}" for name in names}, draws=10, profile=0)
    _check(findings)


def _check(findings: Findings) -> None:
    at = {"trace": "surprise", "key": "entropy", "rank": 1}
    for name, answer in ORGANISMS.items():
        verdict = _says(findings, name)
        assert f"key entropy: {answer}" in verdict.notes, (name, verdict)
        effect = findings.one("steering_effect", reader=name, **at)
        slope = findings.one("steering_slope", reader=name, **at)
        rotated = findings.one("control_slope", reader=name, kind="rotated")
        if answer == "moves":
            assert slope is not None
            assert slope.estimate is not None
            assert slope.estimate >= 0.5
            assert rotated is not None
            assert rotated.high is not None
            assert slope.estimate > rotated.high
        else:
            assert effect is not None
            assert effect.estimate is not None
            assert abs(effect.estimate) < 0.1
    # The method without a key, as the paper describes it, finds an effect where there is none by design.
    raw = findings.one("steering_slope", reader="regime", trace="surprise", key="none", rank=2)
    assert raw is not None
    assert raw.low is not None
    assert raw.low > 0.5


def _response(slope: tuple[float, float, float] | None, effect: tuple[float, float], natural: float) -> Response:
    def finding(estimate: float, low: float, high: float) -> Finding:
        return Finding("surprise", "x", {}, estimate, low, high, 40, "slope", "")

    return Response(finding(*slope) if slope else None, finding(float(np.mean(effect)), *effect), natural)


@pytest.mark.parametrize(
    ("slope", "effect", "natural", "rotated", "answer"),
    [
        ((0.7, 0.6, 0.8), (0.2, 0.3), 0.3, [0.1, 0.4], "moves"),
        ((0.7, 0.6, 0.8), (0.02, 0.05), 0.06, [0.1, 0.4], "moves"),
        ((0.7, 0.6, 0.8), (0.2, 0.3), 0.3, [0.1, 0.75], "unclear"),
        ((0.7, 0.6, 0.8), (-0.03, 0.02), 0.05, [0.1, 0.4], "levels"),
        ((0.7, 0.6, 0.8), (0.02, 0.05), -0.1, [0.1, 0.4], "levels"),
        ((0.2, -0.1, 0.4), (0.0, 0.1), 0.1, [0.1], "does not"),
        ((0.3, 0.2, 0.4), (0.0, 0.1), 0.1, [0.5], "unclear"),
        ((0.6, -0.1, 1.4), (0.0, 0.2), 0.1, [0.1], "unclear"),
        (None, (-0.02, 0.05), 0.0, [5.0], "does not"),
        (None, (-0.02, 0.25), 0.0, [5.0], "unclear"),
    ],
)
def test_the_rule(
    slope: tuple[float, float, float] | None, effect: tuple[float, float], natural: float, rotated: list, answer: str
) -> None:
    assert answer_of(_response(slope, effect, natural), rotated) == answer
