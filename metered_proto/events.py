"""Events: what a signalling client tells its application.

All are frozen, slotted structs under `Event`. `Message` and `Direct` are at the same time the frames that the
codec decodes, so that nothing is copied between the wire and a handler.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False):
    """The base of every event; also what to name to hear all of them.

    `lasting`: it brings something that an async handler may stay with for as long as it is there, a track for example,
    so one that is busy with the first does not keep the second waiting.
    """

    lasting: ClassVar[bool] = False


class IceServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One STUN or TURN server (RFC 8445). Its repr shows the addresses only, never the credential."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None

    def __repr__(self) -> str:
        return f"IceServer(urls={self.urls!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec has one of its own, for the rich library, and it would show the credential.
        return [("urls", self.urls)]


class Connected(Event, frozen=True):
    """The server welcomed us.

    `server_time` is unix milliseconds, `expires_at` unix seconds or None, `max_message_size` the cap on
    serialized `data` in bytes. `is_reconnect` is False once in the life of a client.
    """

    peer_id: str
    server_time: int
    expires_at: int | None
    is_reconnect: bool
    max_message_size: int
    ice_servers: tuple[IceServer, ...] = ()


class Disconnected(Event, frozen=True):
    """The connection is gone. After `will_reconnect=False` there is nothing more to come."""

    code: int
    reason: str
    will_reconnect: bool


class StateChange(Event, frozen=True):
    """The state went from `from_` to `to`."""

    from_: str = msgspec.field(name="from")
    to: str


class Message(Event, frozen=True, tag="message"):
    """Somebody published `data` to `channel`. The sender's id is the server's word, not the sender's."""

    channel: str
    sender_peer_id: str = msgspec.field(name="from")
    data: Any
    sender_metadata: dict[str, Any] | None = msgspec.field(name="fromMetadata", default=None)


class Direct(Event, frozen=True, tag="direct"):
    """Somebody sent `data` to us alone."""

    sender_peer_id: str = msgspec.field(name="from")
    data: Any
    sender_metadata: dict[str, Any] | None = msgspec.field(name="fromMetadata", default=None)


class RequestReceived(Event, frozen=True):
    """A peer asks something and waits for the answer (`metered_proto.client.requests`)."""

    sender_peer_id: str
    request_id: str
    data: Any
    sender_metadata: dict[str, Any] | None = None


class PresencePeer(msgspec.Struct, frozen=True, rename={"peer_id": "peerId"}, omit_defaults=True):
    """A peer in a channel, and the identity its token asserts (the peer's own word where the backend lets it)."""

    peer_id: str
    metadata: dict[str, Any] | None = None


class Presence(Event, frozen=True, tag="presence"):
    """Peers came to or left a channel; the first one after a subscribe lists everybody already there."""

    channel: str
    joined: tuple[PresencePeer, ...] = ()
    left: tuple[PresencePeer, ...] = ()


class ServerError(Event, frozen=True):
    """The server reported an error that belongs to no call in progress."""

    code: str
    message: str
    request_id: str | None = None


class GoingAway(Event, frozen=True):
    """The server is about to shut down; the client will come back, not before `retry_after_ms`."""

    retry_after_ms: int


class TokenProviderError(Event, frozen=True):
    """The token provider failed `consecutive_failures` times in a row, the last time with `err`."""

    consecutive_failures: int
    err: Exception


class Gap(Event, frozen=True):
    """`missed` messages that `sender` put into its outbox for `channel` have not come.

    They may have been dropped on the way out, been published while we did not listen, or still come late.
    """

    channel: str
    sender: str
    missed: int


# --- rooms (metered-peer.txt) ---


class Joined(Event, frozen=True):
    """We are in the room: `join()` has done its work. `peer_id` is our id, `channel` the room's name."""

    peer_id: str
    channel: str


class Left(Event, frozen=True):
    """The state is `closed`: what we were, and why we left. Both are None where we never got so far."""

    peer_id: str | None
    channel: str | None
    reason: str | None


class Data(Event, frozen=True):
    """A member of the room sent `data` to everybody (`broadcast`) or to us alone (`direct`).

    `sender_peer_id` and `kind` are the server's word; `data` is whatever the sender chose.
    """

    sender_peer_id: str
    data: Any
    kind: Literal["broadcast", "direct"]
    sender_metadata: dict[str, Any] | None = None


class FatalError(Event, frozen=True):
    """Something that nothing will bring back by itself: `err` says what."""

    err: Exception


class ConnectionReset(Event, frozen=True):
    """The connection to a peer was replaced: data channels of the old one are gone, make them again."""


class NegotiationError(Event, frozen=True):
    """A negotiation with a peer failed. Final only if `err` is an `IceRecoveryExhaustedError`."""

    err: Exception


class IceCandidateError(Event, frozen=True):
    """A network candidate could not be used; others may do."""

    err: Exception
