"""`enaction check`: a healthy model passes, and each fault that can be planted fails the test that is there for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from enaction.check import CheckReport, Verdict, check, everyday_prompts
from enaction.cli import main
from enaction.cli.check import _as_json
from enaction.cli.showing import finite
from enaction.errors import FramingError, ModelError
from enaction.reader import Reader

PARITY = "head against the model's own logits"
FLOAT64 = "statistics against float64"
CAUSAL = "no look ahead"
COMPANY = "a score does not depend on its batch"
IDENTITY = "surprisal equals entropy on own text"
REREAD = "what was sampled is read alike"
VOCABULARY = "the tokenizer fits the model"
BOS = "one BOS at most"
WRITES = "it writes"
ROUND_TRIP = "own text comes out of the template whole"


def healthy(template: str | None = tiny.CHATML, *, bos: bool = False) -> Reader:
    tokenizer = tiny.byte_tokenizer(template, bos=bos)
    return Reader(tiny.llama(len(tokenizer)), tokenizer, name="tiny")


def failed(report: CheckReport) -> set[str]:
    return {test.name for test in report.tests if test.passed is False}


def bend(body: nn.Module, change: Callable[[Tensor, dict[str, Any]], Tensor]) -> None:
    """Put a fault behind a model's body."""
    run = body.forward

    def forward(**kwargs: Any) -> Any:
        output = run(**kwargs)
        output.last_hidden_state = change(output.last_hidden_state, kwargs)
        return output

    body.forward = forward  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.STRIPPING, tiny.DEFAULT_SYSTEM, tiny.DATED, tiny.BLANK, None])
def test_a_healthy_model_passes_whatever_its_template(template: str | None) -> None:
    steps: list[tuple[int, int]] = []
    reader = healthy(template, bos=True)
    report = check(reader, progress=lambda *step: steps.append(step))
    assert failed(report) == set()
    assert report.is_right
    assert report.framing == ("none" if template is None else "assistant")
    assert len(report.samples) == 16
    assert steps[-1] == (22, 22)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert report.facts["body"] == "LlamaModel"
    assert report.facts["blocks"] == "2 at layers: LlamaDecoderLayer"
    assert report.facts["head"] == "Linear 400 x 32, no bias, tied to the input embedding"
    assert report.facts["transform"] == "none"
    assert report.facts["vocabulary"] == "400 rows of the head, 400 tokens of the tokenizer"
    assert report.facts["context"] == "256 tokens"
    assert ("date in the template" in report.facts) == (template == tiny.DATED)
    if template == tiny.DEFAULT_SYSTEM:
        assert "tell me a story" in report.facts["template opens with"]


def test_facts_tell_the_transform_and_untied_heads() -> None:
    tokenizer = tiny.byte_tokenizer()
    capped = check(Reader(tiny.gemma2(len(tokenizer) + 5), tokenizer), everyday_prompts()[:4])
    assert capped.facts["transform"] == "soft cap 3"
    assert capped.facts["vocabulary"] == "405 rows of the head, 400 tokens of the tokenizer"
    untied = tiny.llama(len(tokenizer), tied=False)
    untied.lm_head.bias = nn.Parameter(torch.randn(len(tokenizer)))
    report = check(Reader(untied, tokenizer), everyday_prompts()[:4])
    assert report.facts["head"] == "Linear 400 x 32, with bias, apart from the input embedding"
    assert report.is_right


def test_a_transform_that_nobody_knows_is_a_note_and_no_failure() -> None:
    reader = healthy()
    model = reader.model
    run = model.forward

    def forward(**kwargs: Any) -> Any:
        output = run(**kwargs)
        output.logits = output.logits.asinh()
        return output

    model.forward = forward
    report = check(Reader(model, reader.tokenizer))
    assert {t.name: t.passed for t in report.tests}[PARITY] is None
    assert report.facts["path"] == "own logits"
    assert report.is_right
    infinite = replace(report, tests=(Verdict(PARITY, None, "", float("inf")),))
    assert json.loads(json.dumps(finite(_as_json(infinite)), allow_nan=False))["tests"][0]["value"] is None


def test_a_wrong_temperature_raises_the_identity_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = healthy()
    run = reader.next_logits
    monkeypatch.setattr(reader, "next_logits", lambda *given: (lambda out: (out[0] / 0.7, out[1]))(run(*given)))
    assert failed(check(reader)) == {IDENTITY, REREAD}


def test_logits_that_change_from_call_to_call_fail() -> None:
    """Neither the head nor the fallback can be right where the model does not agree with itself."""
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    bend(model.model, lambda hidden, _: hidden + 0.05 * torch.randn_like(hidden))
    # Noise makes every prediction depend on the call, so the reader itself takes it for a look ahead.
    with pytest.raises(ModelError, match="change with the tokens"):
        Reader(model, tokenizer)
    reader = healthy()
    bend(reader.model.base_model, lambda hidden, _: hidden + 0.05 * torch.randn_like(hidden))
    assert {FLOAT64, COMPANY, CAUSAL, REREAD} <= failed(check(reader))


def test_a_look_ahead_that_shows_in_long_texts_only_fails() -> None:
    """Beyond the 24 tokens of the reader's own probe, as a sparse attention with a wrong mask does."""

    def leak(hidden: Tensor, _: dict[str, Any]) -> Tensor:
        late = hidden.shape[1] > 60
        return hidden + 0.5 * hidden.mean(1, keepdim=True) if late else hidden

    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    bend(model.model, leak)
    assert CAUSAL in failed(check(Reader(model, tokenizer)))


def test_rows_of_a_batch_that_touch_each_other_fail() -> None:
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    bend(model.model, lambda hidden, _: hidden + 0.2 * (hidden.mean(0, keepdim=True) - hidden))
    assert COMPANY in failed(check(Reader(model, tokenizer)))


def test_a_template_with_two_bos_fails() -> None:
    assert failed(check(healthy("{{ '<s><s>' }}" + tiny.CHATML))) == {BOS}


def test_a_template_that_rewrites_the_response_fails() -> None:
    """The author's own ids are still in order; a transcript of them could not be read."""
    rewriting = tiny.CHATML.replace("m['content']", "m['content'] | replace('e', 'E')", 1)
    # The mark that finds the response's place has these letters too, so such a template is refused from the start.
    with pytest.raises(FramingError, match="exactly once"):
        check(healthy(rewriting))
    sly = tiny.CHATML.replace("m['content']", "m['content'] | replace(' ', '_')", 1)
    assert failed(check(healthy(sly))) == {ROUND_TRIP}


def test_the_tokenizer_of_another_model_fails_before_it_writes_nonsense() -> None:
    reader = Reader(tiny.llama(300), tiny.byte_tokenizer())
    report = check(reader)
    assert failed(report) == {VOCABULARY}
    assert "belongs to another model" in report.tests[0].shown


def test_nan_is_named_at_load_and_later() -> None:
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    with pytest.raises(ModelError, match="NaN in float32"):
        Reader(model, tokenizer)
    reader = healthy()
    bend(reader.model.base_model, lambda hidden, _: hidden * float("nan") if hidden.shape[1] > 70 else hidden)
    report = check(reader)
    assert {FLOAT64, IDENTITY} <= failed(report)
    assert any("NaN" in test.shown for test in report.tests)


def test_a_model_that_breaks_while_it_writes_fails_in_words() -> None:
    reader = healthy()
    assert reader.route.is_cached
    bend(reader.model.base_model, lambda hidden, _: hidden * float("inf"))
    report = check(reader)
    assert failed(report) == {WRITES}
    assert "NaN or infinite in a response" in report.tests[-1].shown


def test_half_precision_is_judged_by_its_own_rounding() -> None:
    tokenizer = tiny.byte_tokenizer()
    report = check(Reader(tiny.llama(len(tokenizer)).bfloat16(), tokenizer))
    assert failed(report) == set()
    assert "bfloat16" in report.facts["runs on"]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny.byte_tokenizer()
    _save(folder, tiny.llama(len(tokenizer)), tokenizer)
    return folder


def _save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `enaction check ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["enaction", "check", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    captured = capsys.readouterr()
    return code if isinstance(code, int) else 0, captured.out, captured.err


def test_the_command_prints_facts_and_tests_and_exits_by_the_outcome(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = _run(capsys, monkeypatch, folder)
    assert code == 0
    for words in ("LlamaModel", "what was tested", IDENTITY.split(" on ")[0], "nothing failed", "is read to within"):
        assert words in " ".join(out.split())
    template = tmp_path / "two.jinja"
    template.write_text("{{ '<s><s>' }}" + tiny.CHATML)
    code, out, _ = _run(capsys, monkeypatch, folder, "--chat-template", template, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["is_right"] is False
    assert [t["name"] for t in found["tests"] if t["passed"] is False] == [BOS]
    assert found["facts"]["template opens with"].startswith("'<s><s>")
    code, out, _ = _run(capsys, monkeypatch, folder, "--framing", "none", "--dtype", "bfloat16", "--json")
    assert code == 0
    assert json.loads(out)["framing"] == "none"


@pytest.mark.parametrize(
    "name", [PARITY, FLOAT64, CAUSAL, COMPANY, IDENTITY, REREAD, VOCABULARY, BOS, ROUND_TRIP, WRITES]
)
def test_each_wrong_thing_alone_exits_with_1_and_everything_named_is_printed(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("model", "body", "blocks", "head", "transform", "path", "vocabulary", "context", "chat template")
    facts = {fact: f"what was found of the {fact}" for fact in names}
    tests = tuple(Verdict(n, n != name, f"{i} shown", 0.5) for i, n in enumerate((PARITY, IDENTITY, name)))
    monkeypatch.setattr("enaction.check.check", lambda *_, **__: CheckReport("m", "none", facts, tests, ()))
    code, out, _ = _run(capsys, monkeypatch, folder)
    assert code == 1
    shown = " ".join(out.split())
    for words in (
        *facts,
        *facts.values(),
        PARITY,
        IDENTITY,
        "0 shown",
        "1 shown",
        f"not read exactly as it is: {name}",
    ):
        assert words in shown or words in out.replace("\n", "")


def test_a_users_mistake_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = _run(capsys, monkeypatch, tmp_path / "nowhere")
    assert code == 2
    assert "no model folder" in err
    plain = tmp_path / "plain"
    tokenizer = tiny.byte_tokenizer(None)
    _save(plain, tiny.llama(len(tokenizer)), tokenizer)
    code, _, err = _run(capsys, monkeypatch, plain, "--framing", "assistant")
    assert code == 2
    assert "no chat template" in err


@pytest.mark.parametrize("name", ["ash-base", "birch-sft", "cedar-rl"])
def test_embedded_models_pass(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = _run(capsys, monkeypatch, f"zoo:{name}", "--json")
    found = json.loads(out)
    assert code == 0, [t for t in found["tests"] if t["passed"] is False]
    assert found["facts"]["path"] == "streamed"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enaction.check.BATCH", 16)
