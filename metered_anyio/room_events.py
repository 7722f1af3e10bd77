"""Who comes to a room and who leaves it, as objects."""

from __future__ import annotations

from typing import ClassVar

from metered_anyio.remote_peer import RemotePeer
from metered_proto.events import Event

# Unlike plain events these may be part of a cycle (a peer whose handler keeps the event), hence gc=True.


class PeerJoined(Event, frozen=True, gc=True):
    """Somebody else is in the room. Register on `peer` here for what it sends."""

    lasting: ClassVar[bool] = True

    peer: RemotePeer


class PeerLeft(Event, frozen=True, gc=True):
    """Somebody has left the room, or has been away for too long. Its `peer` is `closed` for good."""

    peer: RemotePeer
