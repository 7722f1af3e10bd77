"""The tracks and streams of a remote, read from its descriptions.

A track is a media section that its author sends in and that we take (RFC 8829, section 5.10). What it is called, and
to which stream it belongs, the section's `a=msid` says (RFC 8830). A stream is there as long as any of its tracks is.

When a connection is replaced its tracks end, but its streams do not: they are awaited. Those that come are told of
again, with their new tracks, and those that do not are gone when somebody says so (`give_up`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from metered_proto.orders import Order, Tell
from metered_proto.rtc.words import (
    EndTrack,
    Numbers,
    SectionKind,
    StreamGone,
    StreamSeen,
    TakeTrack,
    TrackGone,
    TrackSeen,
)
from metered_proto.wire.caps import TRACK_METADATA_ENTRIES
from metered_proto.wire.sdp import MediaSection, SdpFacts, track_ids
from metered_proto.wire.signals import TrackKind, TrackMeta, TrackMetaCache

MOST_PROMISED: Final = 16
"""Tracks that we offer to receive on a promise."""


class ReceivedTrack(msgspec.Struct, frozen=True):
    """A track that is being received, under the room's number for it."""

    number: int
    kind: TrackKind
    stream_id: str | None


class ReceivedTracks:
    """What a remote sends."""

    __slots__ = ("_awaited", "_metadata", "_numbers", "_tracks", "_unclaimed", "kinds")

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._metadata = TrackMetaCache()
        self._unclaimed: dict[str, dict[str, Any]] = {}  # metadata without stream and kind, since a track came last
        self._tracks: dict[str, ReceivedTrack] = {}
        self._awaited: dict[str, None] = {}  # streams whose connection is gone
        self.kinds: tuple[SectionKind, ...] = ()
        """What the sections of the last description were for that brought something; ahead of it, what is promised."""

    @property
    def awaits(self) -> bool:
        """Whether streams of an earlier connection have not come back yet."""
        return bool(self._awaited)

    def announced(self, meta: TrackMeta, max_message_size: int) -> bool:
        """The remote says what a track is for; False if that is dropped, being too large."""
        self._unclaimed.pop(meta.track_id, None)
        if not self._metadata.apply(meta, max_message_size):
            return False
        if meta.metadata is not None and meta.stream_id is None and meta.kind is None:
            if len(self._unclaimed) == TRACK_METADATA_ENTRIES:
                del self._unclaimed[next(iter(self._unclaimed))]
            self._unclaimed[meta.track_id] = meta.metadata
        return True

    def promise(self, meta: TrackMeta) -> None:
        """A remote of which nothing is known yet will send this track."""
        if meta.kind is not None and len(self.kinds) < MOST_PROMISED:
            self.kinds = (*self.kinds, meta.kind)

    def described(self, pc: int, remote: SdpFacts, local: SdpFacts) -> list[Order]:
        """Both sides of a connection are described, anew perhaps. What went comes first, then what came."""
        ours = _taken_sections(local)
        sent: dict[str, MediaSection] = {}
        for section in remote.media:
            if section.mid is not None and section.mid in ours and _brings_a_track(section):
                sent.setdefault(section.mid, section)
        application = any(s.kind == "application" and not s.rejected and s.mid in ours for s in remote.media)
        self.kinds = (
            *("audio" if section.kind == "audio" else "video" for section in sent.values()),
            *(("application",) if application else ()),
        )
        orders: list[Order] = []
        before = self._streams
        for mid, track in list(self._tracks.items()):
            # A section that carries another stream than before carries another track, too. Another track id alone
            # says nothing: a sender may exchange what it sends at any time (RTCRtpSender.replaceTrack).
            if mid not in sent or _stream_of(sent[mid]) != track.stream_id:
                del self._tracks[mid]
                orders += [EndTrack(track.number), Tell(TrackGone(track.number))]
        coming = {_stream_of(section) for section in sent.values()}
        orders += [Tell(StreamGone(stream)) for stream in before if stream not in coming]
        signalled = track_ids(remote)
        self._unclaimed = {one: metadata for one, metadata in self._unclaimed.items() if one not in signalled}
        taken = [mid for mid in sent if mid not in self._tracks]
        metadata = {mid: self._metadata_of(sent[mid], signalled) for mid in taken}
        present = self._streams
        for mid in taken:
            stream = _stream_of(sent[mid])
            if stream is not None and stream not in present:
                present[stream] = None
                self._awaited.pop(stream, None)
                if stream not in before:
                    said = [metadata[other] for other in taken if _stream_of(sent[other]) == stream]
                    orders.append(Tell(StreamSeen(stream, next((bag for bag in said if bag is not None), None))))
            orders += self._take(pc, mid, sent[mid], metadata[mid])
        if taken:
            self._unclaimed.clear()
        return orders

    def end(self) -> list[Order]:
        """The connection goes. Its tracks end, its streams are awaited."""
        orders: list[Order] = []
        for track in self._tracks.values():
            orders += [EndTrack(track.number), Tell(TrackGone(track.number))]
        self._awaited.update(self._streams)
        self._tracks.clear()
        return orders

    def give_up(self) -> list[Order]:
        """What has not come back will not come back."""
        gone = list(self._awaited)
        self._awaited.clear()
        return [Tell(StreamGone(stream)) for stream in gone]

    @property
    def _streams(self) -> dict[str, None]:
        return {track.stream_id: None for track in self._tracks.values() if track.stream_id is not None}

    def _metadata_of(self, section: MediaSection, signalled: frozenset[str]) -> dict[str, Any] | None:
        stream_id, track_id = section.msids[0] if section.msids else (None, None)
        metadata = self._metadata.lookup(track_id, None, stream_id, section.kind, signalled)
        if metadata is None and self._unclaimed:
            # A browser whose track was given the place of an earlier one signals neither its id nor anything else that
            # is in what it said. If all that is left says the same, it can only mean this.
            first, *others = self._unclaimed.values()
            return first if all(other == first for other in others) else None
        return metadata

    def _take(self, pc: int, mid: str, section: MediaSection, metadata: dict[str, Any] | None) -> list[Order]:
        kind: TrackKind = "audio" if section.kind == "audio" else "video"
        stream_id, track_id = section.msids[0] if section.msids else (None, None)
        number = self._numbers.next()
        self._tracks[mid] = ReceivedTrack(number, kind, stream_id)
        return [
            TakeTrack(pc, mid, number, kind, track_id or ""),
            Tell(TrackSeen(number, kind, stream_id, metadata)),
        ]


def _taken_sections(local: SdpFacts) -> frozenset[str | None]:
    """The mids of the sections in which our description lets the remote send."""
    return frozenset(
        section.mid
        for section in local.media
        if not section.rejected and (section.kind == "application" or section.direction in ("sendrecv", "recvonly"))
    )


def _brings_a_track(section: MediaSection) -> bool:
    return section.kind in ("audio", "video") and not section.rejected and section.direction in ("sendrecv", "sendonly")


def _stream_of(section: MediaSection) -> str | None:
    return section.msids[0].stream_id if section.msids else None
