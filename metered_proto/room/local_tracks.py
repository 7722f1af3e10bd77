"""What we send: the tracks of our own, in the order in which they were added, and what may be added.

Changes are checked here against everything but the state of the room; an error is returned and nothing has changed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.errors import MeteredPeerOversizedError, MeteredPeerStateError
from metered_proto.rtc.words import LocalTrack
from metered_proto.wire.caps import TRACK_METADATA_ENTRIES
from metered_proto.wire.codec import encode_data
from metered_proto.wire.signals import TrackMeta, to_data

MOST_TRACKS: Final = TRACK_METADATA_ENTRIES
"""Receivers keep the metadata of so many tracks of one peer."""


class Swap(msgspec.Struct, frozen=True):
    """One track has taken the place of another. Enough to undo it."""

    old: LocalTrack
    new: LocalTrack | None
    place: int


class LocalTracks:
    """Our tracks, by the application's number for them (`key`)."""

    __slots__ = ("_tracks",)

    def __init__(self) -> None:
        self._tracks: dict[int, LocalTrack] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    def __contains__(self, key: object) -> bool:
        return key in self._tracks

    @property
    def all(self) -> tuple[LocalTrack, ...]:
        """What every member is to get."""
        return tuple(self._tracks.values())

    def add(self, track: LocalTrack, state: str, max_message_size: int) -> Exception | None:
        """Add a track. One that is there already in the same stream stays as it is.

        Errors: `track_already_attached` for one that is there in another stream, `too_many_tracks`,
        `MeteredPeerOversizedError` where its metadata makes no message that the server takes, and the `TypeError` or
        `ValueError` of `encode_data`.
        """
        known = self._tracks.get(track.key)
        if known is not None:
            if known.stream_id == track.stream_id:
                return None
            return MeteredPeerStateError("track_already_attached", "add_track", state)
        if len(self._tracks) == MOST_TRACKS:
            return MeteredPeerStateError("too_many_tracks", "add_track", state)
        error = _metadata_fault(track, max_message_size)
        if error is None:
            self._tracks[track.key] = track
        return error

    def remove(self, key: int) -> bool:
        """Remove a track; returns whether it was there."""
        return self._tracks.pop(key, None) is not None

    def swap(self, old: int, new: LocalTrack | None, state: str, max_message_size: int) -> Swap | Exception:
        """Put `new` in the place of `old`, with `old`'s stream and metadata; None: nothing. `old` must be there."""
        before = self._tracks[old]
        place = list(self._tracks).index(old)
        if new is not None:
            if new.key in self._tracks:
                return MeteredPeerStateError("track_already_attached", "replace_track", state)
            new = msgspec.structs.replace(new, stream_id=before.stream_id, metadata=before.metadata)
            if (error := _metadata_fault(new, max_message_size)) is not None:
                return error
        self._put(place, old, new)
        return Swap(before, new, place)

    def undo(self, swap: Swap) -> None:
        """Nobody could be sent the new track: what we have says again what is really sent."""
        if swap.old.key in self._tracks:
            return
        if swap.new is None:
            self._put(swap.place, None, swap.old)
        elif self._tracks.get(swap.new.key) is swap.new:
            self._put(list(self._tracks).index(swap.new.key), swap.new.key, swap.old)

    def _put(self, place: int, instead_of: int | None, track: LocalTrack | None) -> None:
        tracks = [known for known in self._tracks.values() if known.key != instead_of]
        if track is not None:
            tracks.insert(place, track)
        self._tracks = {known.key: known for known in tracks}


def _metadata_fault(track: LocalTrack, max_message_size: int) -> Exception | None:
    """What stands against sending the metadata of a track, in one message of its own."""
    if track.metadata is None:
        return None
    try:
        size = len(encode_data(to_data(TrackMeta(track.track_id, track.metadata, track.stream_id, track.kind))))
    except (TypeError, ValueError) as error:
        return error.with_traceback(None)
    return MeteredPeerOversizedError(size, max_message_size) if size > max_message_size else None
