"""A server's model as a reader: passages that are framed here are observed there."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from enaction.endpoint.address import read_address
from enaction.endpoint.client import Client, Limits, RefusedError
from enaction.endpoint.scoring import TOP, Observed, UnansweredError, Way, find_way, observe
from enaction.endpoint.vocabulary import is_checked, likely_tokenizer, load_tokenizer, trial_ids
from enaction.errors import FramingError, ModelError
from enaction.framing import Framed, template_of, tokenizer_fingerprint, with_switches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from enaction.reader import Progress

# Ids by which a server is tried: enough to tell a prompt's entries from those of a generated token.
_TRIAL_LENGTH = 12


class EndpointReader:
    """A model that a server runs, with its tokenizer here.

    Attributes:
        client: carries the requests.
        name: what the `reader` and `author` columns call it.
        tokenizer: the model's, fast; templates are rendered with it here.
        vocabulary_size: tokens of the tokenizer. The model may have more rows (padding), which a server does not tell.
        context_length: longest passage that can be observed, tokens with the prompt; None if the server names no
            limit. It is one less than the model's own: servers generate a token after what they read.
        doubts: what a person should know before trusting a number, a sentence each.
    """

    def __init__(
        self,
        client: Client,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        context_length: int | None = None,
        doubts: tuple[str, ...] = (),
        top: int = TOP,
    ) -> None:
        """Put together what `open` has found out."""
        self.client, self.tokenizer, self.name = client, tokenizer, name
        self.context_length, self.doubts = context_length, doubts
        self.vocabulary_size = len(tokenizer)
        self._top = top

    @classmethod
    def open(
        cls,
        model: str,
        *,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        template_switches: Mapping[str, Any] | None = None,
        name: str | None = None,
        top: int = TOP,
        limits: Limits | None = None,
    ) -> EndpointReader:
        """Reach a server, and see that it has the model and cuts text as the tokenizer does.

        Args:
            model: `openai:http://HOST/v1#MODEL`.
            tokenizer: the model's: a folder, a hub id, `zoo:NAME`, or one in memory. By default what MODEL names, where
                that is a hub id or a folder.
            chat_template: Jinja text that replaces the tokenizer's own template.
            template_switches: variables of the chat template to set.
            name: what tables call the reader; defaults to `model`.
            top: likeliest tokens to ask for; fewer are taken where the server refuses so many.
            limits: of time and number of requests.

        Raises:
            ModelError: the name has another form, the server cannot be reached, asks for a key or has no such model,
                there is no tokenizer, or it is another model's; in one line with the remedy.
        """
        address = read_address(model)
        client = Client(address, limits)
        card = client.require_model()
        if tokenizer is None or isinstance(tokenizer, str):
            tokenizer = load_tokenizer(tokenizer or likely_tokenizer(address.model))
        if chat_template is not None or template_switches:
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.chat_template = chat_template if chat_template is not None else template_of(tokenizer)
            tokenizer.chat_template = with_switches(tokenizer.chat_template, template_switches or {})
        ids = trial_ids(tokenizer)[:_TRIAL_LENGTH]
        try:
            client.complete({"prompt": ids, "max_tokens": 1, "temperature": 0})
        except RefusedError as error:
            raise ModelError(f"{error}; it was sent token ids as a prompt, which it has to take") from error
        doubts = []
        if not is_checked(client, tokenizer):
            doubts.append(
                f"{address.url} has no /tokenize: that the tokenizer is the model's was checked by the words of a few "
                "tokens at most"
            )
        assert client.served is not None
        if client.served[0] != address.model:
            doubts.append(f"asked for {address.model}, {address.url} answers as {client.served[0]}")
        limit = card.get("max_model_len")
        context_length = limit - 1 if isinstance(limit, int) and limit > 1 else None
        return cls(client, tokenizer, name=name or model, context_length=context_length, doubts=tuple(doubts), top=top)

    def __repr__(self) -> str:
        return f"<EndpointReader {self.name}: {' '.join(self.served)}, tokenizer {self.fingerprint}>"

    @property
    def served(self) -> tuple[str, ...]:
        """What the server calls its model and, if it says so, its system; as far as it has answered."""
        return tuple(filter(None, self.client.served or ()))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the tokenizer, as passages record it."""
        return tokenizer_fingerprint(self.tokenizer)

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return self.tokenizer.chat_template is not None

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokenizer's end token; a template may add its own, and a server stops at others that it knows of."""
        eos = self.tokenizer.eos_token_id
        return frozenset([eos] if isinstance(eos, int) else [])

    @cached_property
    def way(self) -> Way:
        """How the server tells log-probabilities of given tokens, found out at first use.

        Raises:
            ModelError: it does not.
        """
        return find_way(self.client, self.tokenizer, trial_ids(self.tokenizer)[:_TRIAL_LENGTH], self._top)

    @property
    def narrowed(self) -> tuple[str, ...]:
        """What cannot be known of this server's model that is known of one whose weights are here, a sentence each."""
        top = self.way.top
        lines = [
            f"entropy and varentropy are unknown: of each distribution the server gives {top} tokens, and the one that "
            "came",
            f"top-p and top-k are checked as far as the likeliest {top} tokens reach",
            "log-probabilities are taken to be those before temperature, as vLLM gives them for a prompt",
        ]
        if not top:
            lines[1] = "top-p, top-k and temperature cannot be checked: the server gives no likeliest tokens"
        if not self.way.names_ids:
            lines.append(
                "the likeliest tokens come by text: tokens of the same text count as one, ranks beyond are unknown"
            )
        elif self.way.name != "prompt_logprobs":
            lines.append(f"ranks beyond the likeliest {top} are unknown")
        return tuple(lines)

    def observe(self, framed: Sequence[Framed], progress: Progress | None = None) -> list[Observed]:
        """What the server says about the measured tokens of each passage, in the order given.

        Args:
            framed: passages as `enaction.framing.frame` returns them.
            progress: called after each passage with the number done and their total.

        Raises:
            FramingError: a passage is longer than the server takes, or holds ids that its model does not have.
            ModelError: the server fails, or answers about something else than what was sent.
        """
        for passage in framed:
            self.check_fits(passage)
        way = self.way
        return self.client.each(lambda passage: self._observe(passage, way), framed, progress)

    def _observe(self, framed: Framed, way: Way) -> Observed:
        if framed.stop <= framed.start:
            return _nothing(way.top)
        try:
            return observe(self.client, way, framed.ids[: framed.stop], framed.start)[0]
        except UnansweredError as error:
            raise ModelError(
                f"passage '{framed.passage_id}': {self.client.address.url} answers about something else than it was "
                f"sent ({error}), and did not when it was tried: look into what runs there"
            ) from error
        except RefusedError as error:
            raise ModelError(f"passage '{framed.passage_id}': {error}") from error

    def check_fits(self, framed: Framed) -> None:
        """Refuse a passage that the server does not take.

        Raises:
            FramingError: it is longer than the server's limit, or holds ids that are not of the tokenizer.
        """
        if self.context_length is not None and framed.stop > self.context_length:
            raise FramingError(
                f"passage '{framed.passage_id}' has {framed.stop} tokens with its prompt and {self.name} takes "
                f"{self.context_length}: shorten it, or serve the model with a longer context (--max-model-len)"
            )
        if framed.ids and not 0 <= min(framed.ids) <= max(framed.ids) < self.vocabulary_size:
            raise FramingError(
                f"passage '{framed.passage_id}' holds a token id that the tokenizer of {self.name} does not have "
                f"({self.vocabulary_size} tokens): the ids are another model's"
            )


def _nothing(top: int) -> Observed:
    """Of a passage without a measured token."""
    import numpy as np

    none_N = np.zeros(0, dtype=np.int32)
    none_Nk = np.zeros((0, top))
    return Observed(np.zeros(0), none_N, none_Nk.astype(np.int32), none_Nk, none_N)
