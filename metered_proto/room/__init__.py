"""A room as a machine: a channel of the relay in which every member is a peer, and what is asked of it and told."""

from metered_proto.room.room import Room
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import (
    AddTrack,
    AtPeer,
    Join,
    Leave,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    OpenDataChannel,
    RemoveTrack,
    ReplaceTrack,
    RoomCall,
    RoomState,
    SendAll,
    SendOne,
)

__all__ = [
    "AddTrack",
    "AtPeer",
    "Join",
    "Leave",
    "MemberJoined",
    "MemberLeft",
    "MemberUpdated",
    "OpenDataChannel",
    "RemoveTrack",
    "ReplaceTrack",
    "Room",
    "RoomCall",
    "RoomSettings",
    "RoomState",
    "SendAll",
    "SendOne",
]
