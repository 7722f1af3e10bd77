"""Facts: what happened, in the past tense.

A driver tells a machine everything it needs to know in these words. They are frozen structs with a tag, so a
log of them can be written as JSON lines and read back.

A **link** is an ordered pipe, known by a number. Who numbers it: the side that brings it into being. A client
machine numbers its own sockets (in `OpenLink`); the driver of a relay numbers the guests it lets in.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Fact(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The base of everything a machine can be told."""


class LinkAsked(Fact, frozen=True):
    """Somebody wants a link to us: a WebSocket upgrade came, and waits for `AcceptLink` or `RefuseLink`.

    `target` is the request target as sent (path and query, so it may hold a credential, which the repr leaves
    out), `origin` the `Origin` header if there was one, `address` the network address of the remote, without its
    port.
    """

    link: int
    target: str
    address: str
    origin: str | None = None

    def __repr__(self) -> str:
        path, mark, _ = self.target.partition("?")
        shown = path + mark + "…" * len(mark)
        return f"LinkAsked(link={self.link}, target={shown!r}, address={self.address!r}, origin={self.origin!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec has one of its own, for the rich library, and it would show the credential.
        path = self.target.partition("?")[0]
        return [("link", self.link), ("target", path), ("address", self.address), ("origin", self.origin)]


class LinkUp(Fact, frozen=True):
    """A link is open in both directions: the handshake is over and messages can flow."""

    link: int


class Received(Fact, frozen=True):
    """Messages came in, in order: all that one read of the link brought.

    A text message is a `str`, a binary one `bytes`. They come as a batch because a fact for each message would
    cost as much as the message.
    """

    link: int
    payloads: list[str | bytes]


class Heard(Fact, frozen=True):
    """The other end showed signs of life without a message: a WebSocket ping or pong came."""

    link: int


class LinkDown(Fact, frozen=True):
    """A link is gone, or never came up. Nothing more will be heard of it.

    `code` is the close code the remote gave, 1006 where it gave none, or, for a refused upgrade, the HTTP
    status (100 to 599). `reason` is for people.
    """

    link: int
    code: int
    reason: str = ""


class LinkBlocked(Fact, frozen=True):
    """A link takes no more for now: `queued` bytes wait to be written to it."""

    link: int
    queued: int


class LinkDrained(Fact, frozen=True):
    """A link that was blocked has written all that waited."""

    link: int


class Asked(Fact, frozen=True):
    """The application wants something. `op` is a number of the driver's that it uses once."""

    op: int
    call: Any


class Withdrawn(Fact, frozen=True):
    """The application no longer waits for the answer to `op`; it will not be given."""

    op: int


class EffectDone(Fact, frozen=True):
    """Work that a `Begin` ordered is finished: with a result, or with the error that ended it.

    The result may be a token, so the repr shows no more than its type.
    """

    effect: int
    result: Any = None
    error: Exception | None = None

    def __repr__(self) -> str:
        result = None if self.result is None else f"<{type(self.result).__name__}>"
        return f"EffectDone(effect={self.effect}, result={result}, error={self.error!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # As for `LinkAsked`: rich would show the result.
        return [("effect", self.effect), ("result", type(self.result).__name__), ("error", self.error)]


class Woken(Fact, frozen=True):
    """Time passed: the deadline came, or somebody thinks that it did."""
