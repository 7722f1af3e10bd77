"""The words between a room and its application: what can be asked of it, and what it tells beside plain events."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from metered_proto.events import Event
from metered_proto.rtc.words import ChannelOptions, LocalTrack
from metered_proto.wire.channels import check_channel, is_pattern

RoomState: TypeAlias = Literal["idle", "joining", "joined", "reconnecting", "leaving", "closed"]


class RoomCall(msgspec.Struct, frozen=True, tag=True):
    """The base of what goes into an `Asked` to a room."""


class Join(RoomCall, frozen=True):
    """Connect and subscribe. Answered on the subscribe's acknowledgement.

    Raises `TypeError` or `ValueError` for what is no name of a channel; a pattern is none: nobody is present there.
    """

    channel: str
    include_sender_metadata: bool = False

    def __post_init__(self) -> None:
        check_channel(self.channel)
        if is_pattern(self.channel):
            raise ValueError("a room's name must not hold a *: a pattern has no members")
        if not isinstance(self.include_sender_metadata, bool):
            raise TypeError("include_sender_metadata must be True or False")


class Leave(RoomCall, frozen=True):
    """Close everything, for good. Answered once the state is `closed`."""

    reason: str | None = None


class SendAll(RoomCall, frozen=True):
    """Publish serialized `data` to the room."""

    data: msgspec.Raw


class SendOne(RoomCall, frozen=True):
    """Send serialized `data` to one peer of the room."""

    peer_id: str
    data: msgspec.Raw


class AddTrack(RoomCall, frozen=True):
    """Send this track to everybody, now and later. Answered at once. The application numbers the track (`key`)."""

    track: LocalTrack


class RemoveTrack(RoomCall, frozen=True):
    """Stop sending a track. Answered at once, also where it is not known."""

    key: int


class ReplaceTrack(RoomCall, frozen=True):
    """Send `new` (or nothing) in the place of `old`, to everybody. Answered when all are done, or with
    `MeteredPeerReplaceTrackError` if some failed."""

    old: int
    new: LocalTrack | None


class OpenDataChannel(RoomCall, frozen=True):
    """Open a data channel to a peer. Answered at once with its number."""

    peer_id: str
    options: ChannelOptions


# --- told ---


class MemberJoined(Event, frozen=True):
    """Somebody is in the room now: a new `RemotePeer`."""

    peer_id: str
    metadata: dict[str, Any] | None


class MemberUpdated(Event, frozen=True):
    """What the token of a member asserts about it has changed."""

    peer_id: str
    metadata: dict[str, Any] | None


class MemberLeft(Event, frozen=True):
    """Somebody is gone: its `RemotePeer` is over."""

    peer_id: str


class AtPeer(Event, frozen=True):
    """An event of one member: `StateChange`, `ConnectionReset`, `NegotiationError`, `IceCandidateError`, or one of
    `metered_proto.rtc.words` (`TrackSeen`, `StreamSeen`, …)."""

    peer_id: str
    event: Event
