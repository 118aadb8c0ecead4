"""A server on loopback that answers as vLLM does, from a model's true log-probabilities, or misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

from enaction.reader import Reader

Payload = dict[str, Any]


@dataclass
class Server:
    """What is served and how.

    Attributes:
        reader: the model.
        forms: of requests for log-probabilities of a prompt that are understood; others are ignored, as servers do.
        most: likeliest tokens that may be asked for.
        least: tokens that have to be generated.
        has_tokenize: whether /tokenize exists.
        processed: log-probabilities of what is sampled are those after temperature.
        names: models that it says it has; if there are none, asking for them fails.
        served: what answers call the model, and the fingerprint of the system.
        change: what is done to each answer of /completions before it is sent; None sends it as it is.
        failures: what is done in place of an answer, one for each of the next requests for completions.
        asked: path, headers and payload of each request so far.
        delay: before each answer, seconds.
        busiest: requests under way at a time, at most.
    """

    reader: Reader
    forms: Sequence[str] = ("prompt_logprobs", "echo by id", "echo")
    most: int = 20
    least: int = 0
    has_tokenize: bool = True
    processed: bool = False
    names: Sequence[str] = ("ash",)
    served: tuple[str, str | None] = ("ash", "vllm-0")
    change: Callable[[Payload, Payload], Payload | None] | None = None
    failures: list[Callable[[Handler], None]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], Payload]] = field(default_factory=list)
    delay: float = 0.0
    busiest: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.busy = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def name(self) -> str:
        return f"openai:{self.url}#ash"

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """float64 [N, V], of what follows each token."""
        with self.lock, torch.inference_mode():
            logits_NV = self.reader.model(torch.tensor([list(ids)])).logits[0]
        return torch.log_softmax(logits_NV.double(), 1).numpy()

    def completion(self, asked: Payload) -> tuple[int, Payload]:
        """Status and answer to a request for a completion."""
        ids, new = asked["prompt"], asked["max_tokens"]
        if self.names and asked["model"] not in self.names:
            return 404, {"error": {"message": f"The model `{asked['model']}` does not exist."}}
        if not all(isinstance(i, int) for i in ids):
            return 400, {"error": {"message": "a prompt is a list of ids here"}}
        echo = bool(asked.get("echo")) and any(form != "prompt_logprobs" for form in self.forms)
        top = asked.get("prompt_logprobs", asked.get("logprobs")) or 0
        if top > self.most:
            return 400, {"error": {"message": f"Requested logprobs of {top}, more than allowed: {self.most}"}}
        if new < max(self.least, 0 if echo else 1):
            return 400, {"error": {"message": f"max_tokens must be at least {max(self.least, 1)}, got {new}"}}
        choice = self._written(asked) if new else {"finish_reason": "length", "token_ids": [], "logprobs": None}
        if "prompt_logprobs" in self.forms and "prompt_logprobs" in asked:
            choice["prompt_logprobs"] = [None, *(self._entry(row) for row in self._rows(ids, top))]
        if echo:
            choice["logprobs"] = self._echoed(asked, ids, top, choice)
        usage = {"prompt_tokens": len(ids), "completion_tokens": new}
        model, fingerprint = self.served
        return 200, {"model": model, "system_fingerprint": fingerprint, "choices": [choice], "usage": usage}

    def _rows(self, ids: Sequence[int], top: int) -> list[list[tuple[int, float, int]]]:
        """Of each token but the first: id, log-probability and rank from 1, its own first, then the likeliest."""
        rows = []
        for token, logprob_V in zip(ids[1:], self.logprobs(ids), strict=False):
            order = np.argsort(-logprob_V, kind="stable")
            own = (token, float(logprob_V[token]), int((logprob_V >= logprob_V[token]).sum()))
            rows.append([own, *((int(i), float(logprob_V[i]), r + 1) for r, i in enumerate(order[:top]))])
        return rows

    def _entry(self, row: list[tuple[int, float, int]]) -> Payload:
        return {str(i): {"logprob": p, "rank": r, "decoded_token": self.word(i)} for i, p, r in row}

    def word(self, token: int) -> str:
        return str(self.reader.tokenizer.decode([token]))

    def _echoed(self, asked: Payload, ids: Sequence[int], top: int, choice: Payload) -> Payload:
        by_id = "echo by id" in self.forms and asked.get("return_tokens_as_token_ids")
        name = (lambda i: f"token_id:{i}") if by_id else self.word
        rows = self._rows(ids, top)
        written = choice["logprobs"] or {"tokens": [], "token_logprobs": [], "top_logprobs": []}
        return {
            "tokens": [*map(name, ids), *written["tokens"]],
            "token_logprobs": [None, *(row[0][1] for row in rows), *written["token_logprobs"]],
            "top_logprobs": [None, *({name(i): p for i, p, _ in row} for row in rows), *written["top_logprobs"]],
        }

    def _written(self, asked: Payload) -> Payload:
        """A continuation that is drawn here."""
        rng = np.random.default_rng(asked.get("seed", 0))
        ids, written, reported, tops, stops = list(asked["prompt"]), [], [], [], asked.get("stop_token_ids", [])
        reason = "length"
        while len(written) < asked["max_tokens"] and reason == "length":
            raw_V = self.logprobs(ids)[-1]
            temperature = asked["temperature"]
            drawn_V = raw_V / temperature - np.log(np.exp(raw_V / temperature).sum()) if temperature else raw_V
            token = int(rng.choice(len(drawn_V), p=np.exp(drawn_V))) if temperature else int(raw_V.argmax())
            told_V = drawn_V if self.processed else raw_V
            written.append(token)
            reported.append(float(told_V[token]))
            likeliest = np.argsort(-told_V)[: asked.get("logprobs", 0)]
            tops.append({self.word(int(i)): float(told_V[i]) for i in likeliest})
            ids.append(token)
            reason = "stop" if token in stops else "length"
        choice: Payload = {"text": "", "finish_reason": reason, "logprobs": None}
        if "logprobs" in asked:
            words = [self.word(i) for i in written]
            choice["logprobs"] = {"tokens": words, "token_logprobs": reported, "top_logprobs": tops}
        if asked.get("return_token_ids"):
            choice |= {"token_ids": written, "prompt_token_ids": asked["prompt"]}
        return choice


class Handler(BaseHTTPRequestHandler):
    """Carries requests to the `Server` that a class derived from this one has as `told`."""

    told: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would hold every answer back for 40 ms

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests are quiet."""

    def do_GET(self) -> None:
        """The models."""
        self.told.asked.append((self.path, dict(self.headers), {}))
        if self.path != "/v1/models":
            return self.answer(404, {"detail": "Not Found"})
        if not self.told.names:
            return self.answer(500, b"Internal Server Error")
        self.answer(200, {"data": [{"id": name, "max_model_len": 256} for name in self.told.names]})

    def do_POST(self) -> None:
        """Completions and tokens."""
        told = self.told
        with told.lock:
            told.busy += 1
            told.busiest = max(told.busiest, told.busy)
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append((self.path, dict(self.headers), asked))
            time.sleep(told.delay)
            if self.path == "/tokenize" and told.has_tokenize:
                ids = told.reader.tokenizer(asked["prompt"], add_special_tokens=False)["input_ids"]
                return self.answer(200, {"tokens": ids, "count": len(ids)})
            if self.path != "/v1/completions":
                return self.answer(404, {"detail": "Not Found"})
            if told.failures:
                return told.failures.pop(0)(self)
            status, answer = told.completion(asked)
            if told.change is not None and status == 200:
                answer = told.change(asked, answer) or answer
            self.answer(status, answer)
        finally:
            with told.lock:
                told.busy -= 1

    def answer(self, status: int, body: object, **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error here."""


@contextmanager
def serving(reader: Reader, **how: Any) -> Iterator[Server]:
    """Serve a reader's model while the block runs."""
    server = Server(reader, **how)
    listener = _Listener(("127.0.0.1", 0), type("_Handler", (Handler,), {"told": server}))
    server.port = listener.server_port
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
