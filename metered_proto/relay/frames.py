"""What the relay sends, where it differs from how a client reads it.

`data` and the sender's metadata stay the bytes they came as, and metadata that nobody asked for is left out
altogether. A snapshot too long for one message is cut in several.
"""

from __future__ import annotations

import msgspec

from metered_proto.events import Presence, PresencePeer
from metered_proto.wire.codec import encode_frame
from metered_proto.wire.messages import MAX_INBOUND_BYTES, Pong

Stamp = msgspec.Raw | msgspec.UnsetType
"""A sender's metadata, encoded; unset where there is none, or where it is not wanted."""

NO_STAMP = msgspec.UNSET


class MessageOut(msgspec.Struct, frozen=True, gc=False, tag="message"):
    """`data` as it was published to `channel`."""

    channel: str
    sender: str = msgspec.field(name="from")
    data: msgspec.Raw
    stamp: Stamp = msgspec.field(name="fromMetadata", default=NO_STAMP)


class DirectOut(msgspec.Struct, frozen=True, gc=False, tag="direct"):
    """`data` as it was sent to one peer."""

    sender: str = msgspec.field(name="from")
    data: msgspec.Raw
    stamp: Stamp = msgspec.field(name="fromMetadata", default=NO_STAMP)


PONG = encode_frame(Pong())


def presence_joined(channel: str, peers: tuple[PresencePeer, ...]) -> list[bytes]:
    """The frames that say who is in a channel: one, unless a client would find it too long."""
    payload = encode_frame(Presence(channel, joined=peers))
    if len(payload) <= MAX_INBOUND_BYTES or len(peers) < 2:
        return [payload]
    half = len(peers) // 2
    return presence_joined(channel, peers[:half]) + presence_joined(channel, peers[half:])


def presence_left(channel: str, peer: PresencePeer) -> bytes:
    """The frame that says that a peer is gone."""
    return encode_frame(Presence(channel, left=(peer,)))
