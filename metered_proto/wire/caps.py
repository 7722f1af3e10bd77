"""How much a remote peer may make us hold.

Everything here is a bound on what somebody else controls. What goes over it is dropped; it is never an error
of ours, and it never ends a connection.
"""

from __future__ import annotations

from typing import Final

PEERS_PER_CHANNEL: Final = 256
"""Peers of one channel that a room keeps."""

CANDIDATES_PER_NEGOTIATION: Final = 200
"""Trickled ICE candidates kept for one offer and its answer."""

CANDIDATE_CHARS: Final = 1000
"""Characters of one candidate attribute (RFC 8839 section 5.1)."""

ID_CHARS: Final = 256
"""Characters of an msid stream or track id, of an ICE user name fragment, of a `mid`."""

MEDIA_SECTIONS: Final = 256
"""Media sections read from one session description."""

SDP_BYTES: Final = 1 << 20
"""Bytes of one session description: the most that fits into an inbound message."""

TRACK_METADATA_ENTRIES: Final = 512
"""Tracks of one peer whose metadata is kept; the oldest goes first."""
