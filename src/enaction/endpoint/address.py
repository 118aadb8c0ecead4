"""Where an endpoint is, which model of it is meant, and which key it may see."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from enaction.errors import ModelError
from enaction.reader.sources import ENDPOINT_PREFIX

# The first is sent wherever its owner points this package; the second is another service's, and is better guarded.
KEY, OTHER_KEY = "ENACTION_API_KEY", "OPENAI_API_KEY"
_FORM = f"write {ENDPOINT_PREFIX}http://HOST:PORT/v1#MODEL"


@dataclass(frozen=True)
class Address:
    """A model of a server.

    Attributes:
        name: as the user gave it.
        url: of the API, without a slash at its end: `http://host:8000/v1`.
        model: as the server calls it.
        is_local: the server is on this machine (a loopback address).
    """

    name: str
    url: str
    model: str
    is_local: bool

    @property
    def root(self) -> str:
        """The server's own address, without the version of the API."""
        return self.url.removesuffix("/v1")


def read_address(name: str) -> Address:
    """The address that a name of the form `openai:URL#MODEL` gives.

    Raises:
        ModelError: another form, or a URL with a password or a query, which would end up in every table.
    """
    given = name.removeprefix(ENDPOINT_PREFIX)
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ModelError(f"{name} is no address of an endpoint ({error}): {_FORM}") from None
    if "@" in parts.netloc or parts.query:
        # Without the name: it holds what nobody should read.
        raise ModelError(f"the name of an endpoint holds a password or a query: {_FORM}, and put the key into ${KEY}")
    if not name.startswith(ENDPOINT_PREFIX) or parts.scheme not in ("http", "https") or not host:
        raise ModelError(f"{name} is no address of an endpoint: {_FORM}")
    if not parts.fragment:
        raise ModelError(f"{name} does not say which model: {_FORM}")
    url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
    return Address(name, url, parts.fragment, _is_loopback(host))


def key_for(address: Address) -> str | None:
    """The key to send, from the environment; None if there is none for this address.

    `OPENAI_API_KEY` is sent encrypted or to this machine only.

    Raises:
        ModelError: a key that no header can carry.
    """
    key, variable = os.environ.get(KEY, "").strip(), KEY
    if not key and (address.url.startswith("https:") or address.is_local):
        key, variable = os.environ.get(OTHER_KEY, "").strip(), OTHER_KEY
    if not (key.isascii() and key.isprintable()):
        raise ModelError(f"${variable} holds characters that no key has: set it again")
    return key or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
