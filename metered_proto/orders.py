"""Orders: what to do, in the imperative. A driver carries them out one after the other and reports back in facts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


class Order(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The base of everything a machine can ask of its driver."""


class OpenLink(Order, frozen=True):
    """Open a link to `target`, and report `LinkUp` or `LinkDown`.

    The query of `target` may hold a credential: never log it. The repr leaves it out.
    """

    link: int
    target: str

    def __repr__(self) -> str:
        address, mark, _ = self.target.partition("?")
        return f"OpenLink(link={self.link}, target={address + mark + '…' * len(mark)!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec has one of its own, for the rich library, and it would show the credential.
        return [("link", self.link), ("target", self.target.partition("?")[0])]


class AcceptLink(Order, frozen=True):
    """Complete the handshake of a link that asked to come in, and report `LinkUp`."""

    link: int


class RefuseLink(Order, frozen=True):
    """Answer a link that asked to come in with an HTTP error, and forget it."""

    link: int
    status: int
    reason: str
    retry_after: int | None = None
    """Seconds for a `Retry-After` header."""


class Send(Order, frozen=True):
    """Write one text message (UTF-8 JSON) to a link."""

    link: int
    payload: bytes


class Broadcast(Order, frozen=True):
    """Write the same text message to many links, in the order given; `skip` is left out if it is among them.

    Two broadcasts with the very same `links` go to the same: so it is never changed once it was given away.
    """

    links: Collection[int]
    payload: bytes
    skip: int | None = None


class PingLink(Order, frozen=True):
    """Write a WebSocket ping to a link; the pong comes back as `Heard`."""

    link: int


class CloseLink(Order, frozen=True):
    """Close a link. What was sent before it is still delivered, unless `abort` says to throw it away."""

    link: int
    code: int
    reason: str = ""
    abort: bool = False


class Answer(Order, frozen=True):
    """The outcome of an `Asked`: exactly one for each that was not withdrawn."""

    op: int
    value: Any = None
    error: Exception | None = None


class AnswerAll(Order, frozen=True):
    """All these are answered, with neither value nor error: as many `Answer`, but cheaper."""

    ops: Sequence[int]


class Begin(Order, frozen=True):
    """Start work that a machine cannot do itself, and report `EffectDone` under the same number."""

    effect: int
    work: Any


class Abandon(Order, frozen=True):
    """Stop work that was begun; its result is no longer wanted."""

    effect: int


class Tell(Order, frozen=True):
    """Hand an event to the application."""

    event: Any


class TellAll(Order, frozen=True):
    """Hand events of one and the same class to the application, one after the other: as many `Tell`, but cheaper."""

    events: Sequence[Any]


class Note(Order, frozen=True):
    """Write a line to the log. Neither the message nor the context ever holds a secret."""

    level: Level
    message: str
    context: dict[str, Any] = {}
