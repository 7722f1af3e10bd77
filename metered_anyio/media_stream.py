"""`MediaStream`: tracks that belong together, under an id that receivers see."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol, Self, TypeAlias

from metered_proto.wire.caps import ID_CHARS

StreamMetadata: TypeAlias = dict[str, Any]
"""What a sender says about a track or a stream. Any JSON object; `role` and `label` are custom. Untrusted."""


class MediaTrack(Protocol):
    """A track, sent or received, as far as this package looks at it. Those of `aiortc` are such."""

    @property
    def kind(self) -> str:
        """`audio` or `video`."""
        ...

    @property
    def id(self) -> str:
        """Its id, by which nothing but the track itself is known."""
        ...


class MediaStream:
    """Tracks under one id. It holds them and does nothing with them: `MeteredPeer.add_stream` sends them.

    `id` is the same at the sender and at each receiver, and stays so over reconnects; the object does not: a
    receiver gets a new one whenever the stream comes anew. Without one, an id is made up. It is 1 to 256 printable
    characters without a space, since that is what fits into a session description (RFC 8830).

    Raises `TypeError` or `ValueError` for a bad id and for what is no track.
    """

    def __init__(self, tracks: Iterable[MediaTrack] = (), *, id: str | None = None) -> None:
        self._id = os.urandom(16).hex() if id is None else _checked(id)
        self._tracks: list[MediaTrack] = []
        for track in tracks:
            self.add_track(track)

    @classmethod
    def received(cls, id: str) -> Self:
        """A stream that a remote named, however it pleased."""
        stream = cls()
        stream._id = id
        return stream

    def __repr__(self) -> str:
        return f"<MediaStream {self._id} of {len(self._tracks)} tracks>"

    @property
    def id(self) -> str:
        """The id that receivers see."""
        return self._id

    @property
    def tracks(self) -> tuple[Any, ...]:
        """The tracks in the order in which they were added, as they are now."""
        return tuple(self._tracks)

    def get_tracks(self) -> list[Any]:
        """The tracks in the order in which they were added, as they are now."""
        return list(self._tracks)

    def get_audio_tracks(self) -> list[Any]:
        """The tracks whose kind is `audio`."""
        return [track for track in self._tracks if track.kind == "audio"]

    def get_video_tracks(self) -> list[Any]:
        """The tracks whose kind is `video`."""
        return [track for track in self._tracks if track.kind == "video"]

    def add_track(self, track: MediaTrack) -> None:
        """Add a track, which sends nothing by itself. A no-op if it is there already."""
        check_track("track", track)
        if not any(track is other for other in self._tracks):
            self._tracks.append(track)

    def remove_track(self, track: MediaTrack) -> None:
        """Take a track out, which does not stop its being sent. A no-op if it is not there."""
        self._tracks = [other for other in self._tracks if other is not track]


def check_track(name: str, track: object) -> None:
    """Raises `TypeError` for what is no track: a track has a `kind`, `audio` or `video`, and an `id`."""
    if getattr(track, "kind", None) not in ("audio", "video") or not isinstance(getattr(track, "id", None), str):
        player = hasattr(type(track), "audio") and hasattr(type(track), "video")
        hint = ": its tracks are its audio and its video" if player else ""
        raise TypeError(f"{name} must be an audio or video track, not {type(track).__name__}{hint}")


def _checked(id: str) -> str:
    if not isinstance(id, str):
        raise TypeError(f"a stream's id must be a str, not {type(id).__name__}")
    if not 0 < len(id) <= ID_CHARS or id == "-" or " " in id or not id.isprintable():
        raise ValueError(f"a stream's id must be 1 to {ID_CHARS} printable characters without a space, and not '-'")
    return id
