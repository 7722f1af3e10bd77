"""The frames, one struct each. JSON objects told apart by their `type`.

What a server sends and an application is told as it came (`message`, `direct`, `presence`) lives in
`metered_proto.events`; the frame and the event are one struct.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

from metered_proto.events import Direct, Message, Presence
from metered_proto.wire.channels import MAX_REQUEST_ID

DEFAULT_MAX_MESSAGE_SIZE = 65_536
"""Bytes of serialized `data`, where a `welcome` does not say."""

MAX_INBOUND_BYTES = 1 << 20
"""A message longer than this ends the connection with 1009."""

RequestId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REQUEST_ID)]
"""What a client calls a request: the decoder takes no other."""

# --- client to server ---------------------------------------------------------------------------------------


class ClientFrame(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    rename={"request_id": "requestId", "include_sender_metadata": "includeSenderMetadata"},
):
    """The base of what a client sends. With a `request_id` (1 to 128 characters) it is acknowledged."""


class SubscribeFrame(ClientFrame, frozen=True, tag="subscribe"):
    """Listen to a channel, or to all channels that match a pattern."""

    channel: str
    include_sender_metadata: bool = False
    request_id: RequestId | None = None


class UnsubscribeFrame(ClientFrame, frozen=True, tag="unsubscribe"):
    """Stop listening."""

    channel: str
    request_id: RequestId | None = None


class PublishFrame(ClientFrame, frozen=True, tag="publish"):
    """Hand `data` to every other subscriber of a channel. `data` stays the bytes it came as; empty means missing."""

    channel: str
    data: msgspec.Raw = msgspec.Raw()
    request_id: RequestId | None = None


class SendFrame(ClientFrame, frozen=True, tag="send"):
    """Hand `data` to one peer."""

    to: str
    data: msgspec.Raw = msgspec.Raw()
    request_id: RequestId | None = None


class PingFrame(ClientFrame, frozen=True, tag="ping"):
    """Answered with `pong`."""

    request_id: RequestId | None = None


AnyClientFrame: TypeAlias = SubscribeFrame | UnsubscribeFrame | PublishFrame | SendFrame | PingFrame

# --- server to client ---------------------------------------------------------------------------------------


class Welcome(
    msgspec.Struct,
    frozen=True,
    tag="welcome",
    rename={
        "peer_id": "peerId",
        "expires_at": "expiresAt",
        "server_time": "serverTime",
        "max_message_size": "maxMessageSize",
    },
):
    """The first frame of a connection that was let in."""

    peer_id: str
    expires_at: int | None = None
    server_time: int = 0
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


class Ack(msgspec.Struct, frozen=True, gc=False, tag="ack", rename={"request_id": "requestId"}):
    """A request was carried out."""

    request_id: str


class ErrorFrame(msgspec.Struct, frozen=True, tag="error", rename={"request_id": "requestId"}, omit_defaults=True):
    """A request was refused, or something is wrong that belongs to no request."""

    code: str
    request_id: str | None = None
    message: str = ""


class GoingAwayFrame(msgspec.Struct, frozen=True, tag="going_away", rename={"retry_after_ms": "retryAfterMs"}):
    """The server shuts down; a close with 1001 follows."""

    retry_after_ms: float = 0


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The answer to `ping`."""


AnyServerFrame: TypeAlias = Message | Ack | Direct | Presence | ErrorFrame | Pong | Welcome | GoingAwayFrame
