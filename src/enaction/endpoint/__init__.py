"""Endpoints: models that a server runs, as readers of given tokens and as authors.

The one idea: ids go in and ids come out. A server is sent token ids that were framed here, by the model's own
tokenizer, and everything that it returns is counted and compared with what was sent. Servers differ in what they do
with a request for log-probabilities of a prompt: some answer it, some ignore it and return log-probabilities of what
they generated. Nothing is believed that cannot be told apart from that.

What a server gives is less than a reader has: the log-probability of each token and the likeliest few tokens, never
the whole distribution. `EndpointReader.narrowed` says what follows from that.

`address` reads names (`openai:http://host/v1#model`), `client` carries requests, `vocabulary` finds and checks the
tokenizer, `scoring` observes given ids, `writing` samples, `reader` puts these together. Nothing here imports torch;
httpx is imported with the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enaction.lazy import lazily

if TYPE_CHECKING:  # type checkers do not follow `_HOMES`
    from enaction.endpoint.client import Limits as Limits
    from enaction.endpoint.reader import EndpointReader as EndpointReader
    from enaction.endpoint.scoring import Observed as Observed
    from enaction.endpoint.writing import sample as sample

# Public name -> where it is defined.
_HOMES = {"EndpointReader": "reader", "Limits": "client", "Observed": "scoring", "sample": "writing"}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__ = lazily(__name__, _HOMES)
