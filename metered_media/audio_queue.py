"""Sound on its way from the application to the frames of a track, with markers in it. Knows no time and no loop.

Positions are samples at 48 kHz since the beginning. Sound is written at `written`, read at `position`; between the two
is what is buffered, and the last of that may still be in the resampler. Each position that was read was either played
or cleared.

A frame that finds less than it holds takes what there is, and silence follows. A producer that is just in time, a
telephone line perhaps, would have such a seam at every frame. So if it comes back soon after running dry, its first
bit is held back for one frame: a head start, that it keeps.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from metered_media.audio_pacing import RATE, SAMPLES
from metered_media.audio_shaping import BYTES, Sound, SoundShaper
from metered_media.events import Cleared, Played

SILENCE: Final = bytes(SAMPLES * BYTES)

_SOON: Final = 25  # frames: a producer that ran dry this lately lives from hand to mouth


class Region:
    """Where the sound of one push with a marker is. Its end is known once it was pushed whole."""

    __slots__ = ("begin", "end", "marker", "whole")

    def __init__(self, marker: Any, begin: int) -> None:
        self.marker = marker
        self.begin = begin
        self.end: int | None = None
        self.whole = True


class AudioQueue:
    """Takes `Sound` in any format, up to `capacity` samples at 48 kHz, and gives frames of `SAMPLES`.

    `events` collects what is to be told; whoever calls takes it out.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.position = 0
        self.played = 0
        self.events: list[Played | Cleared] = []
        self._shaper = SoundShaper()
        self._data = bytearray()
        self._regions: deque[Region] = deque()
        self._running = False  # the last frame was full, with nothing scraped together
        self._held = False
        self._closed = False
        self._dry = _SOON  # frames since it last ran dry

    @property
    def buffered(self) -> int:
        """Samples that were taken in and are neither played nor cleared."""
        return len(self._data) // BYTES + self._shaper.delay

    @property
    def written(self) -> int:
        """Where the next sound will be."""
        return self.position + self.buffered

    # --- in ---

    def write(self, sound: Sound, most: int) -> bool:
        """Take as much of `sound` as there is room for, `most` samples of it at most. False if there is no room.

        Raises `ValueError` for what FFmpeg cannot resample.
        """
        room = self.capacity - self.buffered
        samples = min(sound.samples, most, self._shaper.most(sound.format, room)) if room > 0 else 0
        if samples <= 0:
            return False
        if not self._shaper.fits(sound.format):
            self._data += self._shaper.flush()
        self._data += self._shaper.shape(sound, samples)
        return True

    def begin(self, marker: Any) -> Region:
        """What is written from here on belongs to `marker`, until `finish`."""
        region = Region(marker, self.written)
        self._regions.append(region)
        return region

    def finish(self, region: Region, *, whole: bool) -> None:
        """That was all of it, or if not `whole`, all that there will be."""
        region.end, region.whole = self.written, whole
        self._reached()

    def close(self) -> None:
        """No more sound comes: nothing is held back."""
        self._data += self._shaper.flush()
        self._closed = True

    # --- out ---

    def frame(self) -> bytes:
        """The next frame: sound as far as there is some, then silence."""
        full = SAMPLES * BYTES
        dry = len(self._data) < full
        if dry:
            if not self._running and self._hold():
                return SILENCE
            self._data += self._shaper.flush()
        data = bytes(self._data[:full])
        del self._data[:full]
        self._held = False
        self._running = not dry
        self._dry = 0 if dry and data else min(self._dry + 1, _SOON)
        self.position += len(data) // BYTES
        self.played += len(data) // BYTES
        self._reached()
        return data.ljust(full, b"\0")

    def clear(self) -> int:
        """Drop everything that is buffered, and say how many samples that was."""
        dropped = self.buffered
        position = self.position
        self._data.clear()
        self._shaper.drop()
        self.position += dropped
        self._running = self._held = False
        self._dry = _SOON
        while self._regions:
            self._cleared(self._regions.popleft(), position)
        return dropped

    def _hold(self) -> bool:
        """Whether what is there waits for the next frame."""
        if self._held or self._closed or not self.buffered or self._dry >= _SOON:
            return False
        self._held = True
        return True

    def _reached(self) -> None:
        while self._regions:
            region = self._regions[0]
            if region.end is None or region.end > self.position:
                return
            self._regions.popleft()
            if region.whole:
                self.events.append(Played(region.marker, (self.played - self.position + region.end) / RATE))
            else:
                self._cleared(region, region.end)

    def _cleared(self, region: Region, position: int) -> None:
        self.events.append(Cleared(region.marker, max(0, position - region.begin) / RATE))
