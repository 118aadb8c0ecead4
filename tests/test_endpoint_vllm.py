"""Endpoints against vLLM itself, where `ENACTION_VLLM_PYTHON` names an interpreter that has it (docs/endpoints.md)."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from enaction import zoo
from enaction.audit import audit
from enaction.endpoint import EndpointReader, sample
from enaction.errors import ModelError
from enaction.framing import Framed, frame
from enaction.reader import Reader, Wanted
from enaction.sampling import sample as sample_here

PYTHON = os.environ.get("ENACTION_VLLM_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="ENACTION_VLLM_PYTHON names no interpreter with vllm"),
]
_PATIENCE = 300.0  # seconds; the first start compiles


@pytest.fixture(scope="module", params=["raw_logprobs", "processed_logprobs"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The name of ash-rl on a server of vLLM, and which log-probabilities it reports of what it samples."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("vllm")
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    line = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    line += ["--model", str(zoo.path("ash-rl")), "--served-model-name", "ash-rl", "--dtype", "float32"]
    line += ["--enforce-eager", "--max-model-len", "256", "--logprobs-mode", request.param]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(line, env=os.environ | settings, cwd=folder, stdout=log, stderr=log)
    try:
        _wait(server, f"http://127.0.0.1:{port}/v1/models", folder / "log")
        yield f"openai:http://127.0.0.1:{port}/v1#ash-rl", request.param
    finally:
        server.terminate()
        server.wait(60)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"vLLM did not start: {log.read_text(errors='replace')[-2000:]}")


def test_vllm_observes_and_writes_as_the_reader_here(served: tuple[str, str]) -> None:
    name, mode = served
    there, here = EndpointReader.open(name, tokenizer="zoo:ash-rl"), Reader.load("zoo:ash-rl")
    assert there.doubts == ()
    passages = sample(there, zoo.prompts()[:20], n=2, max_new_tokens=110)
    assert passages == sample(there, zoo.prompts()[:20], n=2, max_new_tokens=110)
    assert sum(p.ended is True for p in passages) > 30
    framed = [frame(here.tokenizer, passage, "assistant") for passage in passages]
    observed = there.observe(framed)
    assert there.way.name == "prompt_logprobs"
    for passage, far, near in zip(passages, observed, here.score(framed, wanted=Wanted(likeliest=20)), strict=True):
        assert near.likeliest_logprobs is not None
        assert near.tail_mass is not None
        np.testing.assert_allclose(far.logprob, -near.surprisal, atol=1e-4)
        np.testing.assert_allclose(far.logprob, passage.logprobs or (), atol=1e-4)
        np.testing.assert_allclose(far.top_logprobs, near.likeliest_logprobs, atol=1e-4)
        np.testing.assert_allclose(far.tail_mass, near.tail_mass, atol=1e-5)
        assert (far.rank != near.rank).mean() < 0.01  # near ties
    tempered = sample(there, zoo.prompts()[:3], temperature=0.7, max_new_tokens=40)
    if mode == "raw_logprobs":
        assert all(p.logprobs is None for p in tempered)
        return
    framed = [frame(here.tokenizer, passage, "assistant") for passage in tempered]
    for passage, stats in zip(tempered, here.score(framed, wanted=Wanted(temperature=0.7)), strict=True):
        assert stats.sampled_surprisal is not None
        np.testing.assert_allclose(passage.logprobs or (), -stats.sampled_surprisal, atol=1e-4)


def test_an_audit_says_of_a_served_model_what_it_says_of_one_here(served: tuple[str, str]) -> None:
    there, here = EndpointReader.open(served[0], tokenizer="zoo:ash-rl"), Reader.load("zoo:ash-rl")
    prompts = zoo.prompts()[:30]
    own = sample(there, prompts, max_new_tokens=110)
    foreign = sample_here(Reader.load("zoo:cedar-rl"), prompts, max_new_tokens=110)
    foreign = [replace(p, token_ids=None, logprobs=None, tokenizer=None) for p in foreign]
    verdicts = {
        reader.name: [[turn.verdict for turn in audit(reader, passages)] for passages in (own, foreign)]
        for reader in (here, there)
    }
    for of_own, of_foreign in verdicts.values():
        assert of_own.count("foreign") <= 3
        assert of_foreign.count("foreign") >= 20
    (own_here, foreign_here), (own_there, foreign_there) = verdicts.values()
    same = sum(a == b for a, b in zip(own_here + foreign_here, own_there + foreign_there, strict=True))
    assert same >= 54, "the bets differ: a server gives 20 tokens and the rest as one"


def test_what_vllm_does_not_take_is_said(served: tuple[str, str]) -> None:
    name, _ = served
    with pytest.raises(ModelError, match="has no model 'ash': it offers ash-rl"):
        EndpointReader.open(name.replace("#ash-rl", "#ash"), tokenizer="zoo:ash-rl")
    with pytest.raises(ModelError, match="the server cuts a text into other tokens"):
        EndpointReader.open(name, tokenizer="zoo:birch-rl")
    many = EndpointReader.open(name, tokenizer="zoo:ash-rl", top=100)
    assert many.way.top == 20
    (longest,) = many.observe([Framed((5,) * 255, 1, 255, False)])
    assert len(longest) == 254
