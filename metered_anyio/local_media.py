"""The tracks that the application gave us, and the room's numbers for them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from metered_anyio.encoding import Encoding
from metered_anyio.lazy_engine import LazyEngine
from metered_anyio.media_stream import MediaTrack, StreamMetadata
from metered_proto.rtc.words import LocalTrack
from metered_proto.wire.caps import ID_CHARS
from metered_proto.wire.codec import encode_data


class LocalMedia:
    """Which object goes by which number. What is sent is the room's to say (`sent`); this follows."""

    def __init__(self, engine: LazyEngine, sent: Callable[[], tuple[LocalTrack, ...]]) -> None:
        self._engine = engine
        self._sent = sent
        self._objects: dict[int, MediaTrack] = {}
        self._encodings: dict[int, Encoding] = {}
        self._held: list[int] = []  # what is being replaced, and may have to come back
        self._numbers = 0

    def find(self, track: object) -> LocalTrack | None:
        """What the room sends of this very object."""
        for sent in self._sent():
            if self._objects.get(sent.key) is track:
                return sent
        return None

    def of_stream(self, stream_id: str) -> list[LocalTrack]:
        """What the room sends in a stream, in the order in which it was added."""
        return [sent for sent in self._sent() if sent.stream_id == stream_id]

    def number(
        self,
        track: Any,
        encoding: Encoding,
        stream_id: str | None = None,
        metadata: StreamMetadata | None = None,
    ) -> LocalTrack:
        """A number for an object, which the engine knows from now on. `tidy` takes it back if it is not sent."""
        self._numbers += 1
        key = self._numbers
        self._objects[key] = track
        self._encodings[key] = encoding
        self._engine.offer_track(key, track, encoding)
        return LocalTrack(key, track.kind, self._wire_id(track.id), stream_id, metadata)

    def encoding(self, key: int) -> Encoding:
        """How what goes by this number is encoded."""
        return self._encodings[key]

    def hold(self, keys: list[int]) -> Callable[[], None]:
        """Keep what goes by these numbers, sent or not, until what this returns is called."""
        self._held += keys

        def release() -> None:
            for key in keys:
                self._held.remove(key)
            self.tidy()

        return release

    def tidy(self) -> None:
        """Let go of what is not sent any more."""
        wanted = {sent.key for sent in self._sent()}.union(self._held)
        for key in [key for key in self._objects if key not in wanted]:
            del self._objects[key], self._encodings[key]
            self._engine.withdraw_track(key)

    def _wire_id(self, id: str) -> str:
        """The track's own id, if a description can carry it and no other track of ours has it."""
        fits = 0 < len(id) <= ID_CHARS and " " not in id and id.isprintable()
        return id if fits and all(sent.track_id != id for sent in self._sent()) else os.urandom(16).hex()


def copy_of(metadata: StreamMetadata | None) -> StreamMetadata | None:
    """Metadata that nobody else can change. Raises `TypeError` or `ValueError` for what is no JSON."""
    encode_data(metadata)
    try:
        return copy.deepcopy(metadata)
    except RecursionError:  # it takes more of the stack than `encode_data`
        raise ValueError("metadata is nested too deeply") from None
