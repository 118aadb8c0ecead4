"""Requests to a server: time-outs, retries, its pauses, several at a time, and what a person is told when they fail.

What a server says is data from a stranger: sizes and times are bounded, its words are cut to a line, and the key goes
to the host that was named and nowhere else.
"""

from __future__ import annotations

import email.utils
import json
import math
import queue
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from enaction import __version__
from enaction.endpoint.address import KEY, Address, key_for
from enaction.errors import ModelError

if TYPE_CHECKING:
    import httpx

    from enaction.reader import Progress

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Limits:
    """What a server is given.

    Attributes:
        timeout: for one answer, from the request to its last byte, seconds.
        connect: to be reached, seconds.
        retries: after an answer that asks for another try (429, 500, 502, 503, 504) or a lost connection.
        pause: before the first retry, seconds; each further one doubles it, if the server names no time (Retry-After).
        longest_pause: that a server may ask for, seconds.
        concurrency: requests under way at a time.
        largest: answer, bytes.
    """

    timeout: float = 300.0
    connect: float = 10.0
    retries: int = 5
    pause: float = 0.5
    longest_pause: float = 120.0
    concurrency: int = 8
    largest: int = 1 << 28


class RefusedError(ModelError):
    """The server does not take a request as it is (400, 413 or 422); another form of it may do."""


class _PassingError(ModelError):
    """A failure that another try may not meet."""


class _LateError(_PassingError):
    """An answer that did not come in time."""


_TRY_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
_REFUSED = (400, 413, 422)
_ELSEWHERE = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
# A server that is asked once more after a time-out is busy twice: once is enough.
_RETRIES_OF_TIMEOUTS = 1


class Client:
    """A server's API, and one model of it.

    Attributes:
        address: of the model.
        limits: of requests.
        served: name of the model and fingerprint of the system as the first answer had them; None before it. A later
            answer that differs is an error: its numbers are another model's.
    """

    def __init__(self, address: Address, limits: Limits | None = None) -> None:
        """Make ready; nothing is sent yet.

        Raises:
            ModelError: a key that no header can carry, or a URL that cannot be.
        """
        import httpx

        self.address, self.limits = address, limits or Limits()
        self.served: tuple[str, str | None] | None = None
        self._key = key_for(address)
        headers = {"User-Agent": f"enaction/{__version__}", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        # A proxy of the environment is not asked for what is on this machine.
        self._http = httpx.Client(
            headers=headers,
            follow_redirects=False,
            trust_env=not address.is_local,
            timeout=httpx.Timeout(self.limits.timeout, connect=self.limits.connect),
        )
        weakref.finalize(self, self._http.close)
        self._lock = threading.Lock()
        self._resume_at = 0.0  # on the clock of time.monotonic
        self._has_answered = False
        self._given_up = threading.Event()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> dict[str, dict[str, Any]] | None:
        """The models that the server offers, by name; None if it does not say (some fail at this alone)."""
        try:
            answer = self._try("GET", f"{self.address.url}/models", None)
        except (_AbsentError, RefusedError, _PassingError):
            return None
        entries = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(entries, list):
            return None
        return {e["id"]: e for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)}

    def require_model(self) -> dict[str, Any]:
        """What the server says about the model, nothing if it does not say.

        Raises:
            ModelError: it offers others only, or cannot be reached.
        """
        offered = self.models()
        if offered is None:
            return {}
        if self.address.model not in offered:
            raise ModelError(self._lacks(offered))
        return offered[self.address.model]

    def complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The only choice of an answer of `/completions`, with `usage` of the whole answer beside its own keys.

        Args:
            payload: what is asked for; `model` is added.

        Raises:
            RefusedError: the server does not take the request as it is.
            ModelError: it fails otherwise, answers in another form, or has become another model.
        """
        url = f"{self.address.url}/completions"
        try:
            answer = self._request("POST", url, {"model": self.address.model, **payload})
        except _AbsentError as error:
            offered = self.models()
            if offered is not None and self.address.model not in offered:
                raise ModelError(self._lacks(offered)) from error
            raise ModelError(
                f"{url} does not exist ({error}): the server has to offer /completions, and the name the address "
                "of its API, which usually ends in /v1"
            ) from error
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
            raise ModelError(f"{self.address.url} gives an answer without a choice: is it an OpenAI-compatible server?")
        self._note_served(answer)
        return {**choices[0], "usage": answer.get("usage")}

    def ask(self, path: str, payload: dict[str, Any]) -> Any:
        """What the server says at another path of its own, such as `/tokenize`; None if it has no such path."""
        try:
            return self._request("POST", f"{self.address.root}{path}", payload)
        except (_AbsentError, RefusedError):
            return None

    def each(self, do: Callable[[T], U], items: Sequence[T], progress: Progress | None = None) -> list[U]:
        """`do` of each item, several at a time, in the order of the items.

        Args:
            do: sends requests.
            items: what it is given.
            progress: called after each with the number done and their total.

        Raises:
            Exception: the first that `do` raises; nothing more is then sent.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, U | None, BaseException | None]] = queue.SimpleQueue()
        self._given_up.clear()
        given_up = threading.Event()

        def work() -> None:
            while not given_up.is_set():
                try:
                    i = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((i, do(items[i]), None))
                except BaseException as error:  # raised where the items are waited for
                    given_up.set()
                    done.put((i, None, error))

        for i in range(len(items)):
            waiting.put(i)
        results: dict[int, Any] = {}
        # Daemons: a server that does not answer holds up no process that has been told to stop.
        for _ in range(min(self.limits.concurrency, len(items))):
            threading.Thread(target=work, daemon=True).start()
        try:
            while len(results) < len(items):
                i, result, error = done.get()
                if error is not None:
                    raise error
                results[i] = result
                if progress is not None:
                    progress(len(results), len(items))
        finally:
            if len(results) < len(items):
                given_up.set()
                self._given_up.set()
        return [results[i] for i in range(len(items))]

    def _note_served(self, answer: dict[str, Any]) -> None:
        """Remember which model answered, or see that it is the one that answered before."""
        model, fingerprint = answer.get("model"), answer.get("system_fingerprint")
        now = (
            self._shown(model) if isinstance(model, str) else self.address.model,
            self._shown(fingerprint) if isinstance(fingerprint, str) else None,
        )
        with self._lock:
            before = self.served
            if before is None or (before[0] == now[0] and before[1] is None):
                self.served = now
                return
        if before[0] != now[0] or now[1] not in (None, before[1]):
            raise ModelError(
                f"{self.address.url} changed during the run from {_described(before)} to {_described(now)}, and its "
                "numbers would be two models': use a server that stays the same, and begin anew"
            )

    def _request(self, method: str, url: str, payload: dict[str, Any] | None) -> Any:
        """The JSON of an answer, after as many tries as the limits allow."""
        timeouts = 0
        for attempt in range(self.limits.retries + 1):
            self._wait()
            try:
                return self._try(method, url, payload)
            except _PassingError as error:
                timeouts += isinstance(error, _LateError)
                is_last = attempt == self.limits.retries or timeouts > _RETRIES_OF_TIMEOUTS
                if is_last or self._given_up.is_set():
                    raise ModelError(f"{error} ({attempt + 1} tries)" if attempt else str(error)) from error
                # Spread, so that requests that failed together do not come back together.
                self._hold(self.limits.pause * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("the last try returns or raises")

    def _try(self, method: str, url: str, payload: dict[str, Any] | None) -> Any:
        import httpx

        try:
            status, headers, body = self._exchange(method, url, payload)
        except httpx.TimeoutException as error:
            where = "cannot be reached" if isinstance(error, httpx.ConnectTimeout) else "gives no whole answer"
            seconds = self.limits.connect if isinstance(error, httpx.ConnectTimeout) else self.limits.timeout
            raise _LateError(
                f"{self.address.url} {where} within {seconds:g} s: check that the server runs and is not overloaded"
            ) from None
        except httpx.ConnectError as error:
            # A server that has never answered is a wrong address, and waiting for it helps nobody.
            kind = _PassingError if self._has_answered else ModelError
            raise kind(
                f"cannot reach {self.address.url} ({self._shown(str(error))}): start the server, or check the address"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _PassingError(
                f"{self.address.url} breaks the connection off ({self._shown(str(error) or type(error).__name__)}): "
                "look into the server's log"
            ) from None
        self._has_answered = True
        if status in _ELSEWHERE:
            raise ModelError(
                f"{self.address.url} redirects to {self._shown(_origin(headers.get('location', '')))}, and a request "
                "with its key goes to the named host alone: give that address yourself"
            )
        if status != 200:
            raise self._failure(status, headers, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            # A proxy's page, or an answer that was cut off: the next one may be whole.
            raise _PassingError(
                f"{self.address.url} answers with something else than JSON ({self._shown(_decoded(body[:200]))!r}): "
                "check the address, which usually ends in /v1"
            ) from None

    def _exchange(self, method: str, url: str, payload: dict[str, Any] | None) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of one answer, read within the limits; redirects on the same host are followed."""
        import httpx

        deadline = time.monotonic() + self.limits.timeout
        for _ in range(_MOST_REDIRECTS + 1):
            with self._http.stream(method, url, json=payload) as response:
                target = response.next_request.url if response.next_request is not None else None
                if response.status_code in (307, 308) and target is not None and _same_host(target, response.url):
                    url = str(target)
                    continue
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > self.limits.largest:
                        raise ModelError(
                            f"{self.address.url} sends an answer of more than {self.limits.largest >> 20} MiB: "
                            "it is not what was asked for"
                        )
                    if time.monotonic() > deadline:  # each piece is in time, the whole is not
                        raise httpx.ReadTimeout("the whole answer takes too long")
                return response.status_code, response.headers, bytes(body)
        raise ModelError(f"{self.address.url} redirects in a circle: check the address")

    def _failure(self, status: int, headers: httpx.Headers, body: bytes) -> ModelError:
        """What an answer other than 200 means."""
        url, said = self.address.url, self._said(body)
        if status in _TRY_AGAIN:
            pause = _retry_after(headers.get("retry-after"))
            if pause is not None and pause > self.limits.longest_pause:
                return ModelError(
                    f"{url} asks to wait {pause:.0f} s (status {status}): try again then, or ask for less"
                )
            if pause is not None:
                self._hold(pause)
            what = "has too many requests" if status == 429 else "fails"
            return _PassingError(f"{url} {what} (status {status}: {said}): try again later, or look into its log")
        if status in (401, 403):
            sent = "the key that was sent" if self._key is not None else f"no key was sent; set ${KEY}"
            return ModelError(f"{url} does not let this request in (status {status}; {sent}): check the key")
        if status in (404, 405, 501):
            return _AbsentError(f"status {status}: {said}")
        if status in _REFUSED:
            return RefusedError(f"{url} refuses a request (status {status}): {said}")
        return ModelError(f"{url} answers with status {status} ({said}): check address and server")

    def _said(self, body: bytes) -> str:
        """What the server says about a failure, in one line."""
        text = _decoded(body[:10_000])
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            return self._shown(text)
        for key in ("error", "message", "detail"):
            if isinstance(given, dict) and key in given:
                given = given[key]
        return self._shown(given if isinstance(given, str) else json.dumps(given)).rstrip(".")

    def _shown(self, text: str) -> str:
        """A stranger's words for a message: one line, not long, printable, without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return (line if len(line) <= 200 else f"{line[:199]}…") or "no words"

    def _lacks(self, offered: dict[str, Any]) -> str:
        names = sorted(map(self._shown, offered))
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        return f"{self.address.url} has no model '{self.address.model}': it offers {listed or 'none'}"

    def _hold(self, seconds: float) -> None:
        """Let no request start within this time."""
        with self._lock:
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def _wait(self) -> None:
        """Wait until requests may start."""
        while (left := self._resume_at - time.monotonic()) > 0:
            if self._given_up.wait(left):
                return


class _AbsentError(ModelError):
    """The server has nothing at this path."""


def _described(served: tuple[str, str | None]) -> str:
    return served[0] if served[1] is None else f"{served[0]} ({served[1]})"


def _same_host(one: httpx.URL, two: httpx.URL) -> bool:
    return (one.scheme, one.host, one.port) == (two.scheme, two.host, two.port)


def _origin(location: str) -> str:
    """Scheme and host of where a redirect leads."""
    return location.split("?", 1)[0].split("#", 1)[0] or "nowhere"


def _decoded(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _retry_after(given: str | None) -> float | None:
    """Seconds that a header `Retry-After` asks for, as a number or a date; None without one that can be read."""
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
