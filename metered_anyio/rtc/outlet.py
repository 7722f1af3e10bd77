"""What one sender sends, for its whole life, whatever it is fed from meanwhile: `Outlet`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from metered_anyio.encoding import Encoding
from metered_anyio.rtc.bitrate import Ration
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES, VIDEO_CLOCK, Timeline

VIDEO_QUEUE: Final = 30
AUDIO_QUEUE: Final = 50
"""Frames that wait for one sender: 1 s. It falls behind only if the event loop does, or the way out is blocked."""

_PATIENCE: Final = 4.0  # seconds between two key frames that a viewer on a ration asks for


class Fountain(Protocol):
    """What an outlet needs of its source: `metered_anyio.rtc.fanout.FanOut` is one."""

    def listen(self, outlet: Outlet) -> None:
        """Have what comes from now on go to `outlet`, too."""
        ...

    def leave(self, outlet: Outlet) -> None:
        """No more for `outlet`."""
        ...

    def restart(self, outlet: Outlet) -> None:
        """`outlet` starts anew, as if it had just come."""
        ...

    def ask_key_frame(self, outlet: Outlet) -> None:
        """`outlet` cannot go on without one."""
        ...

    def estimated(self, outlet: Outlet, bitrate: float) -> None:
        """What the way to `outlet` can carry."""
        ...

    def manner(self, outlet: Outlet) -> Manner | None:
        """How what goes to `outlet` is made, as far as it is by now."""
        ...

    @property
    def codec(self) -> str | None:
        """The codec of the packets that it gives; None for frames."""
        ...


class Manner(NamedTuple):
    """How what a sender sends is made. See `metered_anyio.rtc.engine.TrackStats`."""

    encoder: str | None
    target_bitrate: int | None
    shared: bool
    passthrough: bool


class Feed(NamedTuple):
    """A source, and how what comes from it is to be encoded."""

    source: Fountain
    encoding: Encoding


class Outlet:
    """Takes frames from a source, and hands them to one sender with times that fit together.

    It never ends by itself. One that stalls loses frames and delays nobody: what waits is forgotten, and it goes on
    with the next key frame; of sound the oldest goes.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.codec: str | None = None
        """What is sent, by its name; None before there is a way to the remote."""
        self.clock = VIDEO_CLOCK if kind == "video" else AUDIO_CLOCK
        self.frames = 0
        self.key_frames = 0
        self.frames_dropped = 0
        self.direct: Callable[[Encoded, int], bool] | None = None
        """Sends a frame with its time here and now, if it can. The sender's, for frames that need not wait."""
        self._now = asyncio.get_running_loop().time
        self._timeline = Timeline(self.clock, self.clock // 1000 if kind == "video" else SAMPLES, self._now)
        self._feed: Feed | None = None
        self._codecs: Sequence[str] = ()
        self._closed = False
        self._queue: deque[Encoded] = deque()
        self._replay: deque[Encoded] = deque()  # from before this outlet listened; sent first
        self._arrival: asyncio.Future[None] | None = None
        self._stamped: int | None = None  # the time of the frame that comes next, if it has one already
        self._origin: object = None  # of what is being sent
        self._ration: Ration | None = None
        self._asked_at = 0.0
        self._estimate: float | None = None

    @property
    def feed(self) -> Feed | None:
        """What it is fed from."""
        return self._feed

    @property
    def encoding(self) -> Encoding:
        """How it is to be encoded."""
        return Encoding() if self._feed is None else self._feed.encoding

    @property
    def estimate(self) -> float | None:
        """What the remote said that the way to it can carry, in bit/s."""
        return self._estimate

    # --- its place ---

    def feed_from(self, feed: Feed | None) -> None:
        """Send what this source gives, and nothing with None. What was not sent yet of another one is forgotten."""
        if feed == self._feed:
            return
        if self._feed is not None:
            self._feed.source.leave(self)
        self._feed = feed
        self.codec = None
        self._cut()
        self._listen()

    def open(self, codecs: Sequence[str]) -> None:
        """There is a way to the remote, which takes these codecs; the first is what it likes best."""
        self._codecs = codecs
        self._listen()

    def choose(self) -> str | None:
        """Settle what to send: what the application wants, what the source has, or what the remote likes best."""
        if not self._codecs:
            return None
        feed = self._feed
        # What it is by now stays, where that is all the same: a source may go over to frames, and back to packets.
        wanted = () if feed is None else (feed.encoding.codec, feed.source.codec, self.codec)
        self.codec = next((each for each in wanted if each in self._codecs), self._codecs[0])
        return self.codec

    def start_anew(self) -> None:
        """Nothing of what was handed out has been sent: begin with something that can be shown by itself."""
        if self._feed is not None:
            self._cut()
            self._feed.source.restart(self)

    def stop(self) -> None:
        """The sender is done for good."""
        self.direct = None
        self.feed_from(None)
        self._closed = True

    def _listen(self) -> None:
        if self._feed is not None and self._codecs and not self._closed:
            self._feed.source.listen(self)

    def _cut(self) -> None:
        self._queue.clear()
        self._replay.clear()
        self._timeline.cut()
        self._origin = None
        self._stamped = None

    # --- what comes ---

    def take(self, frame: Encoded) -> None:
        """A new frame is there."""
        waited_for = self._arrival is not None and not self._arrival.done()
        if self.kind == "audio":
            if waited_for and not self._queue and not self._replay and self._send_directly(frame):
                return
            self._queue.append(frame)
            if len(self._queue) > AUDIO_QUEUE:
                self._queue.popleft()
                self.frames_dropped += 1
        elif not self._take_picture(frame):
            return
        elif waited_for and len(self._queue) == 1 and not self._replay and self._send_directly(frame):
            self._queue.clear()
            return
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def start_with(self, group: Sequence[Encoded]) -> None:
        """Frames that were there before, the first a key frame. With them the viewer can start at once."""
        if group:
            self._cut()
            self._replay.extend(group)
            self._origin = group[-1].origin
            if self._arrival is not None and not self._arrival.done():
                self._arrival.set_result(None)

    def _take_picture(self, frame: Encoded) -> bool:
        if frame.key:
            self._origin = frame.origin
        elif frame.origin != self._origin:
            self.frames_dropped += 1  # of what came before it, something is missing
            self._recover()
            return False
        if self._ration is not None and not self._ration.allows(frame.size, self._now()):
            self._lose()
            return False
        if len(self._queue) >= VIDEO_QUEUE:
            self.frames_dropped += len(self._queue)
            self._queue.clear()
            if not frame.key:
                self._lose()
                self.ask_key_frame()
                return False
        self._queue.append(frame)
        return True

    def _send_directly(self, frame: Encoded) -> bool:
        if self.direct is None:
            return False
        at = self._timeline.place(frame.pts)
        try:
            if self.direct(frame, at):
                self._count(frame)
                return True
        except Exception:
            # Whatever it is, the sender is to meet it, and not those who get the same frame.
            self.direct = None
        self._stamped = at
        return False

    def _count(self, frame: Encoded) -> None:
        self.frames += 1
        if frame.key and self.kind == "video":
            self.key_frames += 1

    def _lose(self) -> None:
        self.frames_dropped += 1
        self._origin = None

    def _recover(self) -> None:
        now = self._now()
        if self._ration is not None and self._ration.is_full(now) and now - self._asked_at >= _PATIENCE:
            self._asked_at = now
            self.ask_key_frame()

    # --- what the remote wants ---

    def ask_key_frame(self) -> None:
        """The remote cannot go on without one."""
        if self._feed is not None and self._codecs:
            self._feed.source.ask_key_frame(self)

    def estimated(self, bitrate: float) -> None:
        """The remote says what the way to it can carry, in bit/s."""
        self._estimate = bitrate
        if self._feed is not None and self._codecs:
            self._feed.source.estimated(self, bitrate)

    def ration(self, bitrate: float | None) -> None:
        """Send no more than so many bit/s, by leaving frames out; None: all of them."""
        if bitrate is None:
            self._ration = None
        elif self._ration is None:
            self._ration = Ration(bitrate, self._now())
        else:
            self._ration.change(bitrate, self._now())

    # --- the sender's side ---

    async def next(self) -> tuple[Encoded, int]:
        """The next frame and its time, for as long as it takes."""
        while not self._queue and not self._replay:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        if self._replay:
            frame = self._replay.popleft()
            self._timeline.cut()  # as close together as they can be: all of it is in the past
        else:
            frame = self._queue.popleft()
        self._count(frame)
        at, self._stamped = self._stamped, None
        return frame, self._timeline.place(frame.pts) if at is None else at
