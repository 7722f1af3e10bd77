"""`VideoSource`: a track of pictures that the application makes itself."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import anyio
import av
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.frame_track import BranchingTrack
from metered_anyio.rtc.mailbox import Mailbox
from metered_anyio.rtc.timing import VIDEO_CLOCK
from metered_media.pictures import check_format, check_size, copy_of, picture_of
from metered_media.video_pacing import VideoPacing

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Picture: TypeAlias = "NDArray[numpy.uint8] | av.VideoFrame"
    """A picture: an array of uint8, or a frame of any format."""

_TIME_BASE: Final = Fraction(1, VIDEO_CLOCK)


class VideoSource(BranchingTrack):
    """A track that sends the pictures that are put into it, from whatever thread, as they come.

    `fps` bounds how many are sent a second; without it, each is sent at once. Up to `queue` pictures wait to be sent:
    `push` never waits and drops the oldest for the newest, `put` waits for room. So `push` suits a camera, and `put`
    with an `fps` whoever makes pictures faster than they are to be shown.

    A picture bears the time at which it was put in, or with `fps` was due. With `timestamps="frame"` it bears its own,
    and only frames (`av.VideoFrame`) that have one are taken.

    When nothing new came for `repeat_after` seconds, the last picture is sent again: who comes late to a slide show
    sees it, too. None: it is not, and neither is one with a time of its own.

    `format` is the pixel format of arrays: `rgb24`, `bgr24`, `rgba`, `bgra`, `argb`, `abgr` of shape (height, width, 3
    or 4), or `gray` of shape (height, width).

    `frames` counts those sent, `frames_dropped` those that were not sent because newer ones came.

    Raises `TypeError` or `ValueError` for what cannot be.
    """

    def __init__(
        self,
        *,
        fps: float | None = None,
        queue: int = 1,
        format: str = "rgb24",
        repeat_after: float | None = 1.0,
        timestamps: Literal["clock", "frame"] = "clock",
    ) -> None:
        _check_number("fps", fps, 0.01, 240)
        _check_number("repeat_after", repeat_after, 0.01, 3600)
        if isinstance(queue, bool) or not isinstance(queue, int):
            raise TypeError(f"queue must be an int, not {type(queue).__name__}")
        if not 1 <= queue <= 1000:
            raise ValueError(f"queue must be from 1 to 1000, not {queue}")
        if timestamps not in ("clock", "frame"):
            raise ValueError(f"timestamps must be 'clock' or 'frame', not {timestamps!r}")
        super().__init__("video")
        self._format = check_format(format)
        self._own_time = timestamps == "frame"
        self._repeat_after = repeat_after
        self._now = time.monotonic
        self._pacing = None if fps is None else VideoPacing(fps, self._now)
        self._box: Mailbox[_Waiting] = Mailbox(queue)
        self._guard = threading.Lock()  # of what is below
        self._began: float | None = None
        self._last_pts = -1
        self._left = 0.0  # when the last one was sent
        self._last: av.VideoFrame | None = None

    @property
    def frames_dropped(self) -> int:
        """Pictures that were not sent because newer ones came."""
        return self._box.dropped

    # --- the application's side ---

    def push(self, picture: Picture, *, format: str | None = None) -> bool:
        """Send a picture, and if too many wait, drop the oldest of them. False if that was so, or it has ended.

        An array is copied; a frame is not, and must not be written to any more. `format` is that of this array, if it
        differs. May be called in any thread. Raises `TypeError` or `ValueError` for what is no picture.
        """
        return self._box.put(self._accepted(picture, format))

    async def put(self, picture: Picture, *, format: str | None = None) -> bool:
        """Send a picture, once there is room for it to wait. False if the source has ended. Otherwise as `push`.

        As long as nobody is there to see it, there may be no room.
        """
        return await self._box.send(self._accepted(picture, format))

    def end(self) -> None:
        """No more pictures come: those that wait are sent, then the track ends. A second call does nothing."""
        self._box.end()
        if not len(self._box):
            self._close()

    def stop(self) -> None:
        """End at once. What waits is dropped."""
        self._box.end()
        self._box.clear()
        self._close()

    def _accepted(self, picture: Picture, format: str | None) -> _Waiting:
        pixels = self._format if format is None else check_format(format)
        if not isinstance(picture, av.VideoFrame):
            if self._own_time:
                raise TypeError(f"a picture with a time of its own is an av.VideoFrame, not {type(picture).__name__}")
            return _Waiting(picture_of(picture, pixels), self._now())
        check_size(picture.width, picture.height)
        if self._own_time and (picture.pts is None or picture.time_base is None):
            raise ValueError("the frame has no time")
        return _Waiting(picture, self._now())

    # --- the reader's side ---

    async def recv(self) -> av.VideoFrame:
        """The next picture, when it is due. Raises aiortc's `MediaStreamError` at the end."""
        while self._pacing is not None and not self._over:
            wait = self._pacing.wait()
            if wait <= 0:
                break
            await anyio.sleep(wait)
        waiting: _Waiting | None = None
        try:
            if self._last is None or self._repeat_after is None:
                waiting = await self._box.take()
            else:
                with anyio.move_on_after(max(0.0, self._left + self._repeat_after - self._now())):
                    waiting = await self._box.take()
        except anyio.EndOfStream:
            self._close()
            raise MediaStreamError from None
        with self._guard:
            frame = self._stamped(waiting)
            self.frames += 1
            self._left = self._now()
        self.spread(frame)
        return frame

    def _stamped(self, waiting: _Waiting | None) -> av.VideoFrame:
        due = None if self._pacing is None else self._pacing.leave()
        if self._own_time and waiting is not None:
            return waiting.frame
        if waiting is None:
            assert self._last is not None
            frame, at = copy_of(self._last), self._now()  # whoever got it before may still have it
        else:
            frame, at = waiting
            self._last = frame
        at = at if due is None else due
        if self._began is None:
            self._began = at
        self._last_pts = max(self._last_pts + 1, round((at - self._began) * VIDEO_CLOCK))
        frame.pts, frame.time_base = self._last_pts, _TIME_BASE
        return frame


class _Waiting(NamedTuple):
    """A picture and when it was put in."""

    frame: av.VideoFrame
    at: float


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number or None, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
