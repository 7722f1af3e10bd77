"""The track of a player: what its thread has read, given out when it is due."""

from __future__ import annotations

import time
from collections import deque
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import anyio
import av
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.frame_track import FrameTrack
from metered_media.continuous import STEP

VIDEO_CLOCK: Final = 90_000
AUDIO_CLOCK: Final = 48_000

REPEATED: Final = 0.2
"""Seconds between two placeholders while a camera is away: enough for whoever joins."""

UNREAD: Final = 1.0
"""Seconds after which a track that nobody reads counts as one that nobody wants."""

Mark: TypeAlias = Literal["last", "lost"]
"""What goes between the frames: it ends here; it is away from here on."""


class Timed(NamedTuple):
    """Something and its time in seconds, in the time of all passes."""

    thing: Any
    at: float


class Reader(Protocol):
    """Who fills a track, in another thread."""

    def wanted(self) -> None:
        """Somebody reads, and may be the first."""
        ...

    def taken(self, track: PlayerTrack) -> None:
        """One of its things was taken, so there is room."""
        ...

    def when(self, at: float, may_skip: bool) -> float | None:
        """When the thing at `at` is due on `time.monotonic`; None: it is to be left out."""
        ...

    def elapsed(self) -> float:
        """The time of all passes that is now, for a live source."""
        ...

    def left(self, track: PlayerTrack) -> None:
        """The track has ended."""
        ...


class PlayerTrack(FrameTrack):
    """Sound or pictures of a player. Its frames are paced to real time, whoever reads them on whatever event loop.

    With `passthrough` it gives packets, as long as `codec` is not None. `skipped` counts what was left out because it
    was late.
    """

    def __init__(self, kind: str, reader: Reader, *, capacity: int, placeholder: Any, keep: object = None) -> None:
        super().__init__(kind, capacity=capacity)
        self.skipped = 0
        self._keep = keep  # who goes on for as long as anybody has this track
        self._reader = reader
        self._placeholder = placeholder
        self._codec: str | None = None
        self._held: deque[Any] = deque()  # taken out, and not given because the reader went away
        self._reading = 0
        self._read_at: float | None = None
        self._away = False
        self._last_at: float | None = None
        self._shown: av.VideoFrame | None = None

    @property
    def codec(self) -> str | None:
        """`H264`, `VP8` or `opus` while it gives packets; None while it gives frames."""
        return self._codec

    @codec.setter
    def codec(self, name: str | None) -> None:
        self._codec = name

    def ask_key_frame(self) -> None:
        """Nothing: what is not encoded here has its key frames where it has them."""

    @property
    def waiting(self) -> int:
        """How many things were read ahead."""
        return len(self._box) + len(self._held)

    def wanted_at(self, now: float) -> bool:
        """Whether anybody reads, or did a moment ago."""
        return self._reading > 0 or (self._read_at is not None and now - self._read_at < UNREAD)

    def put(self, thing: Timed | Mark) -> None:
        """What was read. Called by the reader's thread."""
        self._box.put(thing)

    def forget(self) -> int:
        """Let go of what was read ahead. Returns how much that was."""
        return self._box.clear()

    async def recv(self) -> Any:
        """The next frame or packet, when it is due. Raises aiortc's `MediaStreamError` at the end."""
        self._reading += 1
        self._reader.wanted()
        try:
            return await self._next()
        finally:
            self._reading -= 1
            self._read_at = time.monotonic()

    async def _next(self) -> Any:
        while True:
            item = await self._item()
            if item is None:
                stand_in = self._stand_in()
                if stand_in is not None:
                    return self._give(Timed(stand_in, self._reader.elapsed()))
            elif item == "lost":
                self._away = True
            elif item == "last":
                self.end()
            else:
                self._away = False
                due = self._reader.when(item.at, not isinstance(item.thing, av.Packet) or self.kind == "audio")
                if due is None:
                    self.skipped += 1
                    continue
                await self._until(due, item)
                if not self._stopped:
                    return self._give(item)
                raise MediaStreamError

    async def _item(self) -> Any:
        """What is next; None if there is a gap to be filled."""
        if self._held:
            return self._held.popleft()
        item: Any = None
        if self._away and self.kind == "video" and self._placeholder is not None:
            with anyio.move_on_after(REPEATED):
                item = await self._take()
        else:
            item = await self._take()
        if item is not None:
            self._reader.taken(self)
        return item

    async def _take(self) -> Any:
        try:
            return await self._box.take()
        except anyio.EndOfStream:
            raise MediaStreamError from None

    async def _until(self, due: float, item: Timed) -> None:
        ahead = due - time.monotonic()
        if ahead <= 0:
            return
        try:
            await anyio.sleep(ahead)
        except BaseException:
            self._held.appendleft(item)
            raise

    def _give(self, item: Timed) -> Any:
        thing, at = item
        if self._last_at is not None and at <= self._last_at:
            at = self._last_at + STEP
        self._last_at = at
        if isinstance(thing, av.AudioFrame):
            rate = thing.sample_rate or AUDIO_CLOCK
        else:
            rate = AUDIO_CLOCK if self.kind == "audio" else VIDEO_CLOCK
        thing.pts, thing.time_base = round(at * rate), Fraction(1, rate)
        if isinstance(thing, av.Packet):
            thing.dts = thing.pts
        elif isinstance(thing, av.VideoFrame):
            self._shown = thing
        self.frames += 1
        self.spread(thing)
        return thing

    def _stand_in(self) -> av.VideoFrame | None:
        """A picture for as long as there are none. None if packets are sent, whose last picture stays anyway."""
        picture = self._placeholder
        if picture == "last":
            picture = self._shown
            if picture is None and self._codec is not None:
                return None
        if picture is None or isinstance(picture, str):
            width, height = (self._shown.width, self._shown.height) if self._shown is not None else (640, 480)
            picture = _black(width & ~1 or 2, height & ~1 or 2)
        # One of its own each time: whoever gets it may write to it.
        pixels = picture.to_ndarray(format="yuv420p", width=picture.width & ~1 or 2, height=picture.height & ~1 or 2)
        return av.VideoFrame.from_ndarray(pixels, format="yuv420p")

    @property
    def _stopped(self) -> bool:
        return self._box.ended

    def _close(self) -> None:
        first = not self._over
        super()._close()
        if first:
            self._box.clear()
            self._held.clear()
            self._shown = None
            self._reader.left(self)


def _black(width: int, height: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame
