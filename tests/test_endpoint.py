"""Endpoints: a server that behaves gives what a reader gives; one that does not is refused in one line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import command
import numpy as np
import pytest
from serving import Handler, Payload, Server, serving

from enaction import zoo
from enaction.endpoint import EndpointReader, Limits, sample
from enaction.endpoint.address import key_for, read_address
from enaction.endpoint.client import Client
from enaction.endpoint.writing import write_after
from enaction.errors import FramingError, ModelError, StudyError, UserError
from enaction.framing import Framed, frame
from enaction.passages import Passage, read_passages, write_passages
from enaction.reader import Reader, Wanted
from enaction.sampling import sample as sample_here
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.store import Run

QUICK = Limits(timeout=5, pause=0.01, retries=2, concurrency=4)


@pytest.fixture(scope="module")
def local() -> Reader:
    return Reader.load("zoo:ash-rl")


@pytest.fixture
def server(local: Reader, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("ENACTION_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with serving(local) as served:
        yield served


@pytest.fixture(scope="module")
def passages(local: Reader) -> list[Passage]:
    return sample_here(local, zoo.prompts()[:3], n=1, max_new_tokens=24)


@pytest.fixture(scope="module")
def framed(local: Reader, passages: list[Passage]) -> list[Framed]:
    return [frame(local.tokenizer, passage, "assistant") for passage in passages]


def opened(server: Server, **options: Any) -> EndpointReader:
    return EndpointReader.open(server.name, **{"tokenizer": server.reader.tokenizer, "limits": QUICK, **options})


# What a server that behaves gives.


@pytest.mark.parametrize(
    ("forms", "least", "way"),
    [
        (("prompt_logprobs", "echo by id", "echo"), 0, ("prompt_logprobs", 1)),
        (("echo by id", "echo"), 0, ("echo by id", 0)),
        (("echo by id", "echo"), 1, ("echo by id", 1)),
        (("echo",), 0, ("echo", 0)),
        (("echo",), 1, ("echo", 1)),
    ],
)
def test_a_server_says_of_each_token_what_the_model_says_here(
    server: Server, local: Reader, framed: list[Framed], forms: tuple[str, ...], least: int, way: tuple[str, int]
) -> None:
    server.forms, server.least = forms, least
    reader = opened(server)
    done: list[tuple[int, int]] = []
    observed = reader.observe(framed, lambda *counts: done.append(counts))
    assert (reader.way.name, reader.way.new, reader.way.top) == (*way, 20)
    assert done == [(1, 3), (2, 3), (3, 3)]
    for here, there in zip(local.score(framed, wanted=Wanted(likeliest=20)), observed, strict=True):
        assert here.likeliest_logprobs is not None
        assert here.tail_mass is not None
        np.testing.assert_allclose(there.logprob, -here.surprisal, atol=2e-5)
        np.testing.assert_allclose(there.top_logprobs, here.likeliest_logprobs, atol=2e-5)
        np.testing.assert_allclose(there.tail_mass, here.tail_mass, atol=1e-5)
        is_among = here.rank < 20
        np.testing.assert_array_equal(there.rank[is_among], here.rank[is_among])
        np.testing.assert_array_equal(there.place[is_among], here.rank[is_among])
        assert (there.place[~is_among] == -1).all()
        if way[0] == "prompt_logprobs":
            np.testing.assert_array_equal(there.rank, here.rank)
        if way[0] != "echo":
            assert here.likeliest_ids is not None
            np.testing.assert_array_equal(there.top_ids[:, 0], here.likeliest_ids[:, 0])


def test_what_a_server_does_not_tell_is_said(server: Server, framed: list[Framed]) -> None:
    assert "ranks" not in " ".join(opened(server).narrowed)
    assert "entropy and varentropy are unknown" in opened(server).narrowed[0]
    server.forms = ("echo by id",)
    assert "ranks beyond the likeliest 20 are unknown" in opened(server).narrowed
    server.forms = ("echo",)
    assert "tokens of the same text count as one" in opened(server).narrowed[-1]


@pytest.mark.parametrize(("most", "top", "taken"), [(7, 20, 5), (64, 50, 50), (0, 20, 0)])
def test_as_many_likeliest_tokens_as_the_server_allows(
    server: Server, framed: list[Framed], most: int, top: int, taken: int
) -> None:
    server.most = most
    (observed,) = opened(server, top=top).observe(framed[:1])
    assert observed.top_ids.shape == observed.top_logprobs.shape == (len(observed), taken)
    assert (observed.tail_mass <= 1).all()
    assert taken or (observed.tail_mass == 1).all()


def test_a_token_beyond_the_likeliest_is_in_none_of_their_places(server: Server, local: Reader) -> None:
    ids = (1, 5, 9, 20, 33, 7)  # what nobody would write
    (observed,) = opened(server, top=3).observe([Framed(ids, 1, 6, False)])
    logprob_NV = server.logprobs(ids)[:-1]
    own_N = logprob_NV[np.arange(5), list(ids[1:])]
    np.testing.assert_allclose(observed.logprob, own_N, atol=1e-6)
    np.testing.assert_array_equal(observed.place >= 0, own_N >= np.sort(logprob_NV)[:, -3])
    np.testing.assert_allclose(observed.top_logprobs, -np.sort(-logprob_NV)[:, :3], atol=1e-6)
    assert (observed.place == -1).any()


def test_a_passage_without_measured_tokens_is_not_sent(server: Server) -> None:
    reader = opened(server)
    assert reader.way.top == 20
    before = len(server.asked)
    (observed,) = reader.observe([Framed((1, 2), 2, 2, False)])
    assert len(observed) == 0
    assert observed.top_ids.shape == (0, 20)
    assert len(server.asked) == before


def test_requests_go_out_several_at_a_time_and_come_back_in_order(server: Server, local: Reader) -> None:
    texts = [Framed(tuple(range(2, 4 + i)), 1, 2 + i, False) for i in range(12)]
    reader = opened(server)
    assert reader.way
    server.delay, server.busiest = 0.02, 0
    assert [len(observed) for observed in reader.observe(texts)] == [1 + i for i in range(12)]
    assert 2 <= server.busiest <= QUICK.concurrency


def test_what_does_not_fit_is_refused_before_anything_is_sent(server: Server) -> None:
    reader = opened(server)
    before = len(server.asked)
    with pytest.raises(FramingError, match=r"'long' has 256 tokens with its prompt and openai:.* takes 255"):
        reader.observe([Framed((5,) * 256, 1, 256, False, passage_id="long")])
    with pytest.raises(FramingError, match="'odd' holds a token id"):
        reader.observe([Framed((5, 10**6), 1, 2, False, passage_id="odd")])
    assert len(server.asked) == before


# Servers that say something else than they were asked.


def _generated_alone(asked: Payload, answer: Payload) -> None:
    """As llama.cpp: log-probabilities of what was written, whatever is asked."""
    answer["choices"][0].pop("prompt_logprobs", None)
    answer["choices"][0]["logprobs"] = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1}]}


def _one_more(asked: Payload, answer: Payload) -> None:
    answer["usage"]["prompt_tokens"] += 1


def _shifted(asked: Payload, answer: Payload) -> None:
    entries = answer["choices"][0].get("prompt_logprobs")
    if entries:
        answer["choices"][0]["prompt_logprobs"] = [*entries[1:], entries[-1]]


def _shorter(asked: Payload, answer: Payload) -> None:
    if answer["choices"][0].get("prompt_logprobs"):
        del answer["choices"][0]["prompt_logprobs"][2]


def _valued(value: object) -> Callable[[Payload, Payload], None]:
    def change(asked: Payload, answer: Payload) -> None:
        for entry in answer["choices"][0].get("prompt_logprobs") or []:
            for of in (entry or {}).values():
                of["logprob"] = value

    return change


def _with_garbage(asked: Payload, answer: Payload) -> None:
    entries = answer["choices"][0].get("prompt_logprobs")
    if entries:
        entries[2]["; rm -rf"] = {"logprob": -1.0, "rank": 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_generated_alone, "1 entries for"),
        (_one_more, "12 ids it makes 13 tokens"),
        (_shifted, "entry 1 is not about the token that was sent"),
        (_shorter, "11 entries for 12 tokens"),
        (_valued(math.nan), "nan is given as a log-probability"),
        (_valued(3.5), "3.5 is given as a log-probability"),
        (_valued("-1"), "-1 is given as a log-probability"),
        (_valued(None), "None is given as a log-probability"),
        (_valued(-0.01), "have a probability of"),
        (_with_garbage, "is given as a token id"),
    ],
)
def test_answers_about_something_else_are_refused_by_counting(
    server: Server, framed: list[Framed], change: Callable[[Payload, Payload], None], words: str
) -> None:
    server.forms = ("prompt_logprobs",) if change is not _generated_alone else ("echo",)
    server.change = change
    with pytest.raises(ModelError, match="gives no log-probabilities of given tokens") as caught:
        opened(server).observe(framed)
    assert words in str(caught.value)
    assert "serve the model with vLLM" in str(caught.value)
    server.change = None
    reader = opened(server)
    assert reader.way  # it behaved when it was tried
    server.change = change
    with pytest.raises(ModelError, match=r"passage '.*': .* answers about something else than it was sent"):
        reader.observe(framed)


def test_minus_infinity_as_vllm_writes_it(server: Server, framed: list[Framed]) -> None:
    reader = opened(server)
    assert reader.way

    def change(asked: Payload, answer: Payload) -> None:
        for entry, token in zip(answer["choices"][0]["prompt_logprobs"][1:], asked["prompt"][1:], strict=True):
            entry[str(token)] = {"logprob": -9999.0, "rank": 617}

    server.change = change
    (observed,) = reader.observe(framed[:1])
    assert (observed.logprob == -np.inf).all()
    assert (observed.rank == 616).all()


def test_another_models_tokenizer_is_refused(server: Server, local: Reader) -> None:
    with pytest.raises(ModelError, match="the server cuts a text into other tokens; give the model's own"):
        EndpointReader.open(server.name, tokenizer="zoo:birch-rl", limits=QUICK)
    server.has_tokenize = False
    with pytest.raises(ModelError, match=r"is not that of ash: token .* there and .* here"):
        EndpointReader.open(server.name, tokenizer="zoo:birch-rl", limits=QUICK).observe([])
    assert "has no /tokenize" in opened(server).doubts[0]


# Servers that fail.


def _status(status: int, body: object = None, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, body or {"error": {"message": "no\x1b[31m"}}, **headers)


def _cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def _hang_up(handler: Handler) -> None:
    handler.close_connection = True


def _drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        time.sleep(0.02)
    handler.close_connection = True


FAILURES = [
    (_status(500), "fails (status 500: no [31m): try again later"),
    (_status(503), "fails (status 503"),
    (_status(429), "has too many requests (status 429"),
    (_cut, "breaks the connection off"),
    (_hang_up, "breaks the connection off"),
    (_status(200, b"<html>Bad Gateway</html>"), "answers with something else than JSON ('<html>Bad Gateway</html>')"),
    (_status(200, b'{"choices": [{"'), "answers with something else than JSON"),
    (_status(200, b"[" * 100_000), "answers with something else than JSON"),
]


@pytest.mark.parametrize(("failure", "words"), FAILURES)
def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_one_line(
    server: Server, framed: list[Framed], failure: Callable[[Handler], None], words: str
) -> None:
    reader = opened(server)
    assert reader.way
    server.failures = [failure] * QUICK.retries
    assert len(reader.observe(framed[:1])) == 1
    server.failures = [failure] * 9
    with pytest.raises(ModelError) as caught:
        reader.observe(framed[:1])
    assert words in str(caught.value)
    assert "(3 tries)" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(server.failures) == 9 - 3


def test_a_server_is_given_the_pause_that_it_asks_for(server: Server, framed: list[Framed]) -> None:
    reader = opened(server)
    assert reader.way
    server.failures = [_status(429, Retry_After="0.3")]
    begin = time.monotonic()
    reader.observe(framed[:1])
    assert 0.3 <= time.monotonic() - begin < 2
    for hour in ("3600", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))):
        server.failures = [_status(429, Retry_After=hour)]
        with pytest.raises(ModelError, match=r"asks to wait (3600|3599) s \(status 429\)"):
            reader.observe(framed[:1])
    server.failures = [_status(503, Retry_After="soon")]
    reader.observe(framed[:1])


@pytest.mark.parametrize("failure", [_drip, lambda handler: time.sleep(0.6)], ids=["drips", "is silent"])
def test_a_slow_server_is_given_up_after_one_more_try(
    server: Server, framed: list[Framed], failure: Callable[[Handler], None]
) -> None:
    reader = opened(server, limits=Limits(timeout=0.3, pause=0.01, retries=5))
    assert reader.way
    server.failures = [failure] * 5
    begin = time.monotonic()
    with pytest.raises(ModelError, match=r"gives no whole answer within 0.3 s: .* \(2 tries\)"):
        reader.observe(framed[:1])
    assert time.monotonic() - begin < 2


def test_an_endless_answer_is_not_read_to_its_end(server: Server, framed: list[Framed]) -> None:
    with pytest.raises(ModelError, match="sends an answer of more than 0 MiB"):
        opened(server, limits=Limits(largest=1000)).observe(framed[:1])


def test_after_the_first_failure_nothing_more_is_sent(server: Server, framed: list[Framed]) -> None:
    reader = opened(server)
    assert reader.way
    server.failures = [_status(401)] * 100
    before = len(server.asked)
    with pytest.raises(ModelError, match="does not let this request in"):
        reader.observe(framed * 10)
    time.sleep(0.05)
    assert len(server.asked) - before <= 2 * QUICK.concurrency


def test_a_server_that_is_not_there(server: Server) -> None:
    begin = time.monotonic()
    with pytest.raises(ModelError, match=r"cannot reach http://127.0.0.1:9/v1 \(.*refused.*\): start the server"):
        EndpointReader.open("openai:http://127.0.0.1:9/v1#ash", tokenizer=server.reader.tokenizer)
    assert time.monotonic() - begin < 2


def test_a_model_that_the_server_does_not_have(server: Server) -> None:
    server.names = ["oak", "elm"]
    with pytest.raises(ModelError, match="has no model 'ash': it offers elm, oak"):
        opened(server)


def test_a_server_that_cannot_list_its_models(server: Server, framed: list[Framed]) -> None:
    server.names = []
    assert len(opened(server).observe(framed)) == 3


@pytest.mark.parametrize("served", [("elm", "vllm-0"), ("ash", "vllm-1")])
def test_a_model_that_changes_during_the_run(
    server: Server, framed: list[Framed], served: tuple[str, str | None]
) -> None:
    reader = opened(server)
    assert reader.way
    assert reader.served == ("ash", "vllm-0")
    server.served = ("ash", None)  # says nothing about itself
    reader.observe(framed[:1])
    server.served = served
    with pytest.raises(ModelError, match=r"changed during the run from ash \(vllm-0\) to "):
        reader.observe(framed[:1])


def test_a_server_that_answers_under_another_name_is_doubted(server: Server) -> None:
    server.served = ("ash-2026-11-01", None)
    assert "answers as ash-2026-11-01" in opened(server).doubts[0]


def test_a_server_without_completions(server: Server) -> None:
    address = server.name.replace("/v1#", "/v2#")
    with pytest.raises(ModelError, match=r"/v2/completions does not exist .*usually ends in /v1"):
        EndpointReader.open(address, tokenizer=server.reader.tokenizer)


# The key.


def test_the_key_goes_to_the_server_and_into_no_message(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENACTION_API_KEY", "sk-secret-1")
    reader = opened(server)
    assert all(headers["Authorization"] == "Bearer sk-secret-1" for _, headers, _ in server.asked)
    assert "secret" not in repr(reader)
    assert "secret" not in reader.name
    server.failures = [_status(401, {"error": {"message": "Incorrect API key provided: sk-secret-1"}})]
    with pytest.raises(ModelError, match="the key that was sent") as caught:
        assert reader.way
    server.failures = [_status(400, {"error": {"message": "no logprobs for sk-secret-1"}})] * 30
    with pytest.raises(ModelError, match=r"for \[key\]") as other:
        assert reader.way
    assert "secret" not in str(caught.value) + str(other.value)
    monkeypatch.delenv("ENACTION_API_KEY")
    server.failures = [_status(401)]
    with pytest.raises(ModelError, match=r"no key was sent; set \$ENACTION_API_KEY"):
        opened(server)


def test_the_key_of_another_service_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENACTION_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    keys = {url: key_for(read_address(f"openai:{url}#m")) for url in ("http://gpu7:8000/v1", "https://gpu7/v1")}
    assert keys == {"http://gpu7:8000/v1": None, "https://gpu7/v1": "sk-other"}
    assert key_for(read_address("openai:http://localhost:8000/v1#m")) == "sk-other"
    monkeypatch.setenv("ENACTION_API_KEY", "sk-own")
    assert key_for(read_address("openai:http://gpu7:8000/v1#m")) == "sk-own"
    monkeypatch.setenv("ENACTION_API_KEY", "sk-\nown")
    with pytest.raises(ModelError, match=r"^\$ENACTION_API_KEY holds characters that no key has: set it again$"):
        key_for(read_address("openai:http://gpu7:8000/v1#m"))


def test_a_redirect_to_another_host_is_not_followed(
    server: Server, local: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENACTION_API_KEY", "sk-secret-1")
    with serving(local) as other:
        server.failures = [_status(307, Location=f"{other.url}/completions?key=1")]
        with pytest.raises(ModelError, match=rf"redirects to {other.url}/completions, and a request with its key"):
            opened(server)
        assert other.asked == []
    server.failures = [_status(307, Location=f"{server.url}/completions")]
    assert opened(server).served == ("ash", "vllm-0")
    server.failures = [_status(308, Location=f"{server.url}/completions")] * 9
    with pytest.raises(ModelError, match="redirects in a circle"):
        opened(server)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai:gpt-5", "is no address of an endpoint"),
        ("http://host/v1#m", "is no address of an endpoint"),
        ("openai:ftp://host/v1#m", "is no address of an endpoint"),
        ("openai:http:///v1#m", "is no address of an endpoint"),
        ("openai:http://host:port/v1#m", "is no address of an endpoint"),
        ("openai:http://[::1/v1#m", "is no address of an endpoint"),
        ("openai:http://host/v1", "does not say which model"),
        ("openai:http://me:secret@host/v1#m", "holds a password or a query"),
        ("openai:http://host/v1?key=secret#m", "holds a password or a query"),
    ],
)
def test_names_that_are_no_address(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=r"write openai:http://HOST:PORT/v1#MODEL") as caught:
        read_address(name)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_parts_of_an_address() -> None:
    address = read_address("openai:https://[::1]:8000/v1/#org/model-7B:free")
    assert (address.url, address.model, address.is_local) == ("https://[::1]:8000/v1", "org/model-7B:free", True)
    assert address.root == "https://[::1]:8000"
    assert not read_address("openai:https://127.0.0.1.example.com/v1#m").is_local


# Authors.


def test_passages_have_ids_and_the_log_probabilities_that_a_reader_here_gives(server: Server, local: Reader) -> None:
    reader = opened(server)
    prompts = zoo.prompts()[:2]
    written = sample(reader, prompts, n=2, max_new_tokens=90, author="far")
    assert [p.id for p in written] == [f"{prompt.id}/{k}" for prompt in prompts for k in range(2)]
    assert {p.author for p in written} == {"far"}
    assert {p.tokenizer for p in written} == {local.fingerprint}
    assert len({p.token_ids for p in written}) == 4, "each passage has a seed of its own"
    framed = [frame(local.tokenizer, p, "assistant") for p in written]
    for passage, there, stats in zip(written, framed, local.score(framed), strict=True):
        assert there.is_own
        assert passage.logprobs is not None
        assert passage.token_ids is not None
        np.testing.assert_allclose(passage.logprobs, -stats.surprisal, atol=2e-5)
        assert passage.ended is there.has_end is (passage.token_ids[-1] == 3)
        words = list(passage.token_ids[:-1] if passage.ended else passage.token_ids)
        assert local.tokenizer.decode(words, clean_up_tokenization_spaces=False) == passage.response
    assert any(p.ended for p in written)
    assert sample(reader, prompts, n=2, max_new_tokens=90, author="far") == written
    (cut,) = sample(reader, prompts[:1], max_new_tokens=3)
    assert cut.ended is False
    assert cut.token_ids is not None
    assert len(cut.token_ids) == 3
    asked = server.asked[-1][2]
    neutral = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "temperature": 1.0, "top_p": 1.0}
    assert neutral.items() <= asked.items(), "a server would take these from the model's generation settings"


@pytest.mark.parametrize("processed", [False, True])
def test_log_probabilities_of_another_distribution_are_left_out(server: Server, processed: bool) -> None:
    server.processed = processed
    (passage,) = sample(opened(server), zoo.prompts()[:1], max_new_tokens=5, temperature=0.7)
    assert (passage.logprobs is not None) is processed
    if passage.logprobs is not None and passage.token_ids is not None:
        ids = server.asked[-1][2]["prompt"]
        logprob_V = server.logprobs(ids)[-1] / 0.7
        first = logprob_V[passage.token_ids[0]] - np.log(np.exp(logprob_V).sum())
        assert passage.logprobs[0] == pytest.approx(first, abs=1e-6)
    (greedy,) = sample(opened(server), zoo.prompts()[:1], max_new_tokens=5, temperature=0)
    assert greedy.logprobs == (0.0,) * 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token_ids": None}, "returns no token ids of what it writes"),
        ({"token_ids": [5, -1, 5]}, "returns no token ids of what it writes"),
        ({"token_ids": [5]}, "returns 1 tokens of a text of at most 3 that ended by 'length'"),
        ({"token_ids": []}, "returns 0 tokens"),
        ({"prompt_token_ids": [1, 2]}, "wrote after other ids than it was sent"),
        ({"finish_reason": "content_filter"}, "ended a text because of 'content_filter'"),
        ({"logprobs": {"token_logprobs": [-1.0]}}, "not one for each token"),
        ({"logprobs": {"token_logprobs": [math.nan] * 3}}, "log-probabilities that are none"),
    ],
)
def test_an_author_without_ids_or_whole_texts_is_refused(server: Server, change: Payload, words: str) -> None:
    reader = opened(server)

    def changed(asked: Payload, answer: Payload) -> None:
        answer["choices"][0] |= change

    server.change = changed
    with pytest.raises(ModelError) as caught:
        write_after(reader, [1, 2, 3], max_tokens=3)
    assert words in str(caught.value)


def test_settings_that_no_author_can_have(server: Server) -> None:
    reader = opened(server)
    wrong: list[dict[str, Any]] = [{"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}, {"n": 0}]
    for settings in [*wrong, {"max_new_tokens": 0}]:
        with pytest.raises(UserError, match="is not possible"):
            sample(reader, ["why"], **settings)
    with pytest.raises(FramingError, match="does not fit into the 256 of"):
        sample(reader, ["why"], max_new_tokens=256)


# Studies.


def _study(server: Server, model: str) -> Study:
    spec = {"model": model, "server": server.name}
    given = {"name": "s", "models": {"ash": spec}, "n_prompts": 3, "framings": ["assistant"], "resamples": 100}
    return Study.model_validate(given | {"sampling": {"per_prompt": 2, "max_new_tokens": 20}})


def test_a_server_writes_the_texts_of_a_studys_model(server: Server, local: Reader, tmp_path: Path) -> None:
    prompts = tuple(zoo.prompts()[:3])
    desk = Desk(_study(server, "zoo:ash-rl"), prompts, Run(tmp_path), Reader(local.model, local.tokenizer, name="ash"))
    written = desk.sample(prompts, "ash", framing=None)
    assert [p.id for p in written] == [f"{prompt.id}/{k}" for prompt in prompts for k in range(2)]
    assert {p.author for p in written} == {"ash"}
    assert sum("seed" in asked for _, _, asked in server.asked) == 6
    grown = replace(desk, earlier={p.id: p for p in written[1:]})
    assert grown.sample(prompts, "ash", framing=None) == written, "a passage is the same whatever is sampled beside it"
    assert sum("seed" in asked for _, _, asked in server.asked) == 7
    begun = {prompt.id: (108, 373) for prompt in prompts}
    prefilled = desk.sample(prompts, "ash", framing=None, beginnings=begun)
    assert all(p.token_ids is not None and p.token_ids[:2] == (108, 373) for p in prefilled)
    assert all(p.logprobs is None and p.sampling["begun_with"] == 2 for p in prefilled)
    assert server.asked[-1][2]["prompt"][-2:] == [108, 373]


def test_a_server_of_other_weights_writes_nothing_for_a_study(server: Server, local: Reader, tmp_path: Path) -> None:
    prompts = tuple(zoo.prompts()[:3])
    other = Reader.load("zoo:ash-base", name="ash")
    with pytest.raises(StudyError, match=r"does not serve the weights of ash: log-probabilities differ by [.\d]+ nats"):
        Desk(_study(server, "zoo:ash-base"), prompts, Run(tmp_path), other).sample(prompts, "ash", framing="assistant")


def test_a_server_of_a_study_has_an_address() -> None:
    with pytest.raises(ValueError, match="is no address of an endpoint"):
        Study.model_validate({"name": "s", "models": {"a": {"model": "zoo:ash-rl", "server": "http://h/v1#m"}}})


# The command line.


def test_sample_resumes_after_a_server_failed(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("sample", "--model", server.name, "--tokenizer", "zoo:ash-rl", "--prompts", "zoo", "--limit", 6)
    common += ("--max-new-tokens", 8, "--batch-size", 1)
    completions = iter(range(100))

    def fail_late(asked: Payload, answer: Payload) -> None:
        if next(completions) == 5:
            server.failures = [_status(401)]

    server.change = fail_late
    code, _, err = command.enaction(capsys, monkeypatch, *common, "-o", "a.jsonl")
    assert code == 2
    assert "does not let this request in" in err
    assert "4 of 6 passages are kept in a.jsonl.partial" in err
    before = len(server.asked)
    code, _, err = command.enaction(capsys, monkeypatch, *common, "-o", "a.jsonl")
    assert code == 0
    assert "passages: a.jsonl" in err
    assert sum("seed" in asked for _, _, asked in server.asked[before:]) == 2
    code, _, _ = command.enaction(capsys, monkeypatch, *common, "-o", "b.jsonl")
    assert code == 0
    assert Path("a.jsonl").read_text() == Path("b.jsonl").read_text()
    assert len(read_passages("a.jsonl")) == 6
    assert not Path("a.jsonl.partial").exists()
    code, out, _ = command.enaction(capsys, monkeypatch, *common, "-o", "b.jsonl", "--json", "-q")
    assert code == 0
    assert json.loads(out)["passages"] == 6


def test_an_audit_says_what_a_server_does_not_tell(
    server: Server,
    passages: list[Passage],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_passages(passages, str(tmp_path / "own.jsonl"))
    line = ("audit", tmp_path / "own.jsonl", "--model", server.name, "--tokenizer", "zoo:ash-rl", "--json", "-q")
    code, out, err = command.enaction(capsys, monkeypatch, *line)
    assert (code, err) == (0, "")
    told = json.loads(out)["cautions"]
    assert any("entropy and varentropy are unknown: of each distribution the server gives 20" in line for line in told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "openai:http://me:secret@host/v1#m"), "an endpoint (openai:...) gives log-probabilities of tokens"),
        (("sample", "--model", "openai:http://host/v1", "--prompts", "zoo"), "does not say which model"),
        (("sample", "--model", "openai:http://h/v1#m", "--prompts", "zoo", "--dtype", "bf16"), "--dtype is for models"),
        (("sample", "--model", "zoo:ash-rl", "--prompts", "zoo", "--tokenizer", "x"), "--tokenizer is for endpoints"),
        (
            ("sample", "--model", "openai:http://127.0.0.1:9/v1#m", "--prompts", "zoo"),
            "cannot reach http://127.0.0.1:9/v1",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = command.enaction(capsys, monkeypatch, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert "secret" not in err


@pytest.mark.parametrize("name", ["nowhere/", "zoo:oak", "tokenizer.gguf", "openai:http://h/v1#m"])
def test_a_tokenizer_that_is_none(server: Server, name: str) -> None:
    with pytest.raises(ModelError):
        EndpointReader.open(server.name, tokenizer=name)


def test_a_tokenizer_that_the_name_does_not_suggest(server: Server) -> None:
    with pytest.raises(ModelError, match="which tokenizer ash has is not known here: give the model's own"):
        EndpointReader.open(server.name)


def test_neither_the_command_line_nor_these_modules_import_httpx_or_torch() -> None:
    code = (
        "import sys, enaction.cli, enaction.cli.commands, enaction.endpoint.reader, enaction.endpoint.writing\n"
        "print([name for name in ('httpx', 'torch', 'transformers') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


def test_a_client_is_closed_with_its_owner(server: Server) -> None:
    client = Client(read_address(server.name), QUICK)
    client.complete({"prompt": [1, 2], "max_tokens": 1, "temperature": 0})
    client.close()
    with pytest.raises(RuntimeError):
        client.complete({"prompt": [1, 2], "max_tokens": 1, "temperature": 0})
