"""`AudioSource`: a track of sound that the application makes itself, speech of an agent for example."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import av
from aiortc.mediastreams import MediaStreamError

from metered_anyio.logger import Logger
from metered_anyio.rtc.sleepers import Sleepers
from metered_media.audio_pacing import RATE, SAMPLES, AudioPacing
from metered_media.audio_queue import AudioQueue, Region
from metered_media.audio_shaping import HIGHEST_RATE, LOWEST_RATE, Sound
from metered_media.events import Cleared
from metered_media.telling_track import TellingTrack

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from typing_extensions import Buffer

Samples: TypeAlias = "Buffer | NDArray[numpy.int16] | av.AudioFrame"
"""Sound: raw s16 samples, or a frame of any format. An array of int16, as numpy has them, is as good as its bytes."""

_TIME_BASE: Final = Fraction(1, RATE)
_SLICE: Final = 10  # so many a second: what is resampled while nobody else gets at the queue
_SLICES: Final = 2  # so many before the loop has a turn
_WIDTHS: Final = {"mono": 2, "stereo": 4}
_BYTES: Final = ("B", "b", "c", "h", "<h", "=h", "@h")  # of one dimension or several


class AudioSource(TellingTrack):
    """A track that sends what is pushed: frames of 20 ms, 48 kHz, stereo, in real time, and silence in between.

    `input_rate` and `input_layout` (`mono` or `stereo`) are those of raw samples. `max_buffered_seconds` is how much
    is buffered before `push` waits, one frame at least. As long as nobody is there to hear it, what is buffered waits.

    `push`, `clear` and the rest are called in the application's loop, asyncio's or trio's; the track is read in any.

    Raises `TypeError` or `ValueError` for what cannot be.
    """

    def __init__(
        self,
        *,
        input_rate: int = 16_000,
        input_layout: str = "mono",
        max_buffered_seconds: float = 5.0,
        logger: Logger | None = None,
    ) -> None:
        _check_number("input_rate", input_rate, int)
        if not LOWEST_RATE <= input_rate <= HIGHEST_RATE:
            raise ValueError(f"input_rate must be from {LOWEST_RATE} to {HIGHEST_RATE}, not {input_rate}")
        if not isinstance(input_layout, str):
            raise TypeError(f"input_layout must be a str, not {type(input_layout).__name__}")
        if input_layout not in _WIDTHS:
            raise ValueError(f"input_layout must be 'mono' or 'stereo', not {input_layout!r}")
        _check_number("max_buffered_seconds", max_buffered_seconds, (int, float))
        if not 0 < max_buffered_seconds < math.inf:
            raise ValueError(f"max_buffered_seconds must be positive, not {max_buffered_seconds}")
        super().__init__("audio", logger=logger)
        self._format = ("s16", input_layout, input_rate)
        self._width = _WIDTHS[input_layout]
        self._partial = b""
        capacity = max(SAMPLES, int(max_buffered_seconds * RATE))
        self._enough = min(RATE // 4, max(capacity // 8, 1))  # room for which it is worth to wake somebody
        self._pacing = AudioPacing(time.monotonic)
        self._guard = threading.Lock()  # of everything below: pushed to in one thread, read in another
        self._queue = AudioQueue(capacity)
        self._ending = False
        self._pushes: deque[_Push] = deque()  # the first one has its turn
        self._turns = Sleepers(self._guard)
        self._room = Sleepers(self._guard)
        self._targets: list[int] = []
        self._playout = Sleepers(self._guard)

    @property
    def buffered_seconds(self) -> float:
        """Seconds of sound that were taken in and not sent yet."""
        with self._guard:
            return self._queue.buffered / RATE

    @property
    def played_seconds(self) -> float:
        """Seconds of pushed sound that were sent so far. Silence in between does not count."""
        with self._guard:
            return self._queue.played / RATE

    # --- the application's side ---

    async def push(self, data: Samples, *, marker: Any = None) -> None:
        """Take in sound, to be sent behind what is there already, and wait as long as there is no room for it.

        `data` is raw s16 samples, interleaved, in the machine's byte order, as `input_rate` and `input_layout` say; or
        an `av.AudioFrame`, which says itself what it is. Part of a sample at the end is kept for the next push of
        bytes. With a `marker`, `Played` tells when the last sample was sent, which includes the millisecond that a
        resampler looks ahead; `Cleared`, that it was not. Empty data with a marker marks the end of what is before.

        Several pushes at once take turns, in the order of their calls. One that is cancelled leaves what it brought
        in so far; its marker is told as `Cleared` when that was sent. Does nothing after `end` or `stop`.

        Raises `TypeError` for anything else, and `ValueError` for a frame that FFmpeg cannot resample.
        """
        given = _given(data)
        self._notices.bind()
        with self._guard:
            if self._ending:
                return
            if isinstance(given, bytes):
                given = self._aligned(given)
            push = _Push(given, marker)
            self._pushes.append(push)
        try:
            await self._bring_in(push)
        finally:
            with self._guard:
                self._pushes.remove(push)
                if not push.dropped:
                    self._done(push)
                push.end = self._queue.written
                self._turns.call_all()
                self._playout.call_all()
                self._tell()

    def clear(self) -> float:
        """Drop everything that waits to be sent, and say how many seconds that was.

        For an agent that is interrupted: nothing of it is heard any more beyond the frame that is being sent. Pushes
        that wait for room return, their rest is dropped and counted, too; so is part of a sample that was kept. Their
        markers, and all that were not reached, are told by `Cleared`.
        """
        self._notices.bind()
        with self._guard:
            seconds = self._queue.clear() / RATE + sum(push.sound.seconds for push in self._pushes if not push.dropped)
            self._partial = b""
            self._give_up_pushes()
            self._playout.call_all()
            self._tell()
            return seconds

    async def wait_for_playout(self) -> None:
        """Return when everything that was pushed so far has been sent, or dropped by `clear` or `stop`.

        That takes somebody who is there to hear it.
        """
        self._notices.bind()
        with self._guard:
            before, target = tuple(self._pushes), self._queue.written
        while True:
            with self._guard:
                waiting = [push for push in before if push.end is None]
                if not waiting:
                    target = max([target, *(push.end or 0 for push in before)])
                if self._over or (not waiting and self._queue.position >= target):
                    return
                self._targets.append(target)
                sleeper = self._playout.join()
            try:
                await self._playout.sleep(sleeper)
            finally:
                with self._guard:
                    self._targets.remove(target)

    def end(self) -> None:
        """No more sound comes: what is buffered is sent, then the track ends. A second call does nothing.

        Pushes that wait for room return, and their rest is dropped.
        """
        self._notices.bind()
        with self._guard:
            if self._ending:
                return
            self._ending = True
            self._give_up_pushes()
            self._queue.close()
            self._tell()
            over = not self._queue.buffered
        if over:
            self._close()

    def stop(self) -> None:
        """End at once. What is buffered is dropped."""
        with self._guard:
            self._ending = True
            self._queue.clear()
            self._give_up_pushes()
            self._tell()
        self._close()

    # --- the reader's side ---

    async def recv(self) -> av.AudioFrame:
        """The next frame, when it is due. Raises aiortc's `MediaStreamError` at the end."""
        while (wait := self.due_in()) is not None:
            if wait <= 0:
                return self.take_due()
            await _sleep(wait)
        self._close()
        raise MediaStreamError

    def due_in(self) -> float | None:
        """Seconds until the next frame is due, not positive if it is; None at the end, which `recv` tells."""
        if self._over or (self._ending and not self._queue.buffered):
            return None
        return self._pacing.wait()

    def take_due(self) -> av.AudioFrame:
        """The frame that is due, for a reader that waits by itself: see `metered_anyio.rtc.engine.TimedSource`."""
        with self._guard:
            data, pts = self._queue.frame(), self._pacing.leave()
            self.frames += 1
            if self._pushes and self._queue.capacity - self._queue.buffered >= self._enough:
                self._room.call_all()
            if self._targets and min(self._targets) <= self._queue.position:
                self._playout.call_all()
            self._tell()
            if self._branches:
                self.spread(_frame(data, pts))  # one of their own: whoever sends ours may write to it
        return _frame(data, pts)

    # --- with the guard held ---

    def _aligned(self, data: bytes) -> Sound:
        data = self._partial + data
        whole = len(data) - len(data) % self._width
        self._partial = data[whole:]
        return Sound(self._format, whole // self._width, [memoryview(data)[:whole]])

    def _give_up_pushes(self) -> None:
        for push in self._pushes:
            if not push.dropped:
                push.dropped = True
                self._done(push)
        self._turns.call_all()
        self._room.call_all()

    def _done(self, push: _Push) -> None:
        if push.region is not None:
            self._queue.finish(push.region, whole=not push.sound.samples)
        elif push.marker is not None:
            self._queue.events.append(Cleared(push.marker, 0.0))  # it never had its turn

    def _tell(self) -> None:
        events = self._queue.events
        if events:
            self._queue.events = []
            for event in events:
                self._notices.tell(event)

    # --- and without ---

    async def _bring_in(self, push: _Push) -> None:
        while True:
            line = None
            with self._guard:
                if push.dropped:
                    return
                if self._pushes[0] is not push:
                    line = self._turns
                elif not self._write(push):
                    line = self._room
                elif not push.sound.samples:
                    return
                sleeper = None if line is None else line.join()
            if line is None or sleeper is None:
                await anyio.lowlevel.checkpoint()
            else:
                await line.sleep(sleeper)

    def _write(self, push: _Push) -> bool:
        """Take in some more of it. False if there is no room for what is left."""
        if push.marker is not None and push.region is None:
            push.region = self._queue.begin(push.marker)
        for _ in range(_SLICES):
            if not push.sound.samples:
                break
            if not self._queue.write(push.sound, push.sound.format[2] // _SLICE):
                return False
        return True

    def _close(self) -> None:
        super()._close()
        with self._guard:
            self._playout.call_all()


class _Push:
    """One call of `push`."""

    __slots__ = ("dropped", "end", "marker", "region", "sound")

    def __init__(self, sound: Sound, marker: Any) -> None:
        self.sound = sound
        self.marker = marker
        self.region: Region | None = None
        self.dropped = False
        self.end: int | None = None


def _frame(data: bytes, pts: int) -> av.AudioFrame:
    frame = av.AudioFrame("s16", "stereo", SAMPLES)
    frame.planes[0].update(data)
    frame.sample_rate, frame.pts, frame.time_base = RATE, pts, _TIME_BASE
    return frame


async def _sleep(seconds: float) -> None:
    # anyio would first find out which loop this is, and that costs as much as all the rest of a frame.
    try:
        in_asyncio = asyncio.current_task() is not None
    except RuntimeError:
        in_asyncio = False
    await (asyncio.sleep if in_asyncio else anyio.sleep)(seconds)


def _given(data: object) -> bytes | Sound:
    if isinstance(data, bytes):
        return data
    if isinstance(data, av.AudioFrame):
        return Sound.of_frame(data)
    try:
        view = memoryview(data)  # type: ignore[arg-type]  # that is what is found out here
    except TypeError:
        view = None
    if view is None or view.format not in _BYTES:
        kind = type(data).__name__ if view is None else f"{type(data).__name__} of {view.format!r}"
        raise TypeError(f"sound is bytes of s16 samples or an av.AudioFrame, not {kind}")
    return view.tobytes()


def _check_number(name: str, value: object, kinds: type | tuple[type, ...]) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = "an int" if kinds is int else "a number"
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")
