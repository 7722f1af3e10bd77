"""Where the service lives: checking a server URL and a credential, and the address of one connection attempt."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, urlsplit

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""The hosts to which `ws:`, without TLS, is legal."""


def check_url(url: str) -> str:
    """Return the server URL without a trailing slash.

    `wss:` anywhere, `ws:` to this machine only; a host, perhaps a port, and nothing else. An international name is
    written in its ASCII form (RFC 5890). Raises `TypeError` or `ValueError`, and never shows the URL, which may have
    been given with a credential in it.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    problem = "url must be wss://HOST[:PORT]"
    if any(not "!" <= character <= "~" or character in '\\"<>' for character in url):
        raise ValueError(f"{problem}: it holds a character that no URL has")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{problem}: its host or port cannot be read") from None
    if parts.scheme not in ("wss", "ws"):
        raise ValueError(f"{problem}: the scheme is not wss")
    if not host:
        raise ValueError(f"{problem}: there is no host")
    if "@" in parts.netloc:
        raise ValueError(f"{problem}: it must not hold a user name or a password")
    if parts.path not in ("", "/") or parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError(f"{problem}: it must not have a path, a query or a fragment")
    if port == 0:
        raise ValueError(f"{problem}: port 0 cannot be connected to")
    if parts.scheme == "ws" and host not in LOCAL_HOSTS:
        raise ValueError(f"{problem}: ws, without TLS, is for localhost, 127.0.0.1 and ::1 only")
    return url.rstrip("/")


def check_credential(name: str, credential: object) -> str:
    """Return a key or a token that can go into a URL. Raises `TypeError` or `ValueError`, and never shows it."""
    if not isinstance(credential, str):
        raise TypeError(f"{name} must be a str, not {type(credential).__name__}")
    if not credential:
        raise ValueError(f"{name} must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in credential):
        raise ValueError(f"{name} must not hold a lone surrogate: UTF-8 cannot carry it")
    return credential


def attempt_url(url: str, kind: Literal["key", "token"], credential: str) -> str:
    """The address of one connection attempt, credential included: `…/v1?key=…` or `…/v1?token=…`."""
    return f"{url.rstrip('/')}/v1?{kind}={quote(credential, safe='')}"
