"""The media sections that a connection has to keep because the one before it, at the remote, had them.

A remote that keeps its connection and restarts ICE on it (every browser does) refuses an offer that lacks one of its
sections, or has them in another order, under other names, or with other numbers for header extensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiortc import RTCPeerConnection

from metered_anyio.rtc import private
from metered_anyio.rtc.mending import readable
from metered_proto.errors import PeerConnectionError


class Slot(NamedTuple):
    """One section to keep. `transceiver` is None for data channels. `open`: the remote was ready to receive in it."""

    mid: str
    transceiver: Any | None
    open: bool


class Layout(NamedTuple):
    """All of them, in their order. `unused` are the mids of those that the remote had rejected."""

    slots: tuple[Slot, ...] = ()
    unused: frozenset[str] = frozenset()

    @classmethod
    def build(cls, pc: RTCPeerConnection, like: str) -> Layout:
        """Make a transceiver for each section of the remote's description `like`. Unreadable, it asks for nothing."""
        try:
            text, unused = readable("offer", like, None)
            sections = private.SessionDescription.parse(text).media
        except (PeerConnectionError, *private.UNREADABLE):
            return cls()
        slots = []
        for media in sections:
            mid = media.rtp.muxId
            if media.kind == "application":
                private.create_sctp(pc)
                slots.append(Slot(mid, None, open=False))
                continue
            transceiver = pc.addTransceiver(media.kind, direction="recvonly")
            codecs = private.find_common_codecs(private.CODECS[media.kind], media.rtp.codecs)
            uris = {extension.uri for extension in private.HEADER_EXTENSIONS[media.kind]}
            extensions = [extension for extension in media.rtp.headerExtensions if extension.uri in uris]
            private.set_negotiated(transceiver, codecs, extensions)
            slots.append(Slot(mid, transceiver, media.direction in ("recvonly", "sendrecv") and mid not in unused))
        return cls(tuple(slots), unused)

    def places(self, remembered: Mapping[str, int]) -> Sequence[tuple[Any, int | None]]:
        """The transceivers in which we may send, each with the number of the track that it had, as far as known."""
        return [(slot.transceiver, remembered.get(slot.mid)) for slot in self.slots if slot.open]
