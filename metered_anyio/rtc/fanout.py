"""One source for any number of senders: read once, encoded once for each codec, and handed to all of them.

A source is read only while somebody listens. What happens to what it gives is in `video_desk` and `audio_desk`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

import av

from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc.audio_desk import AudioDesk
from metered_anyio.rtc.engine import LocalSource
from metered_anyio.rtc.outlet import Manner, Outlet
from metered_anyio.rtc.timing import Pace
from metered_anyio.rtc.video_desk import VideoDesk

_WAITED: Final = 0.001  # seconds; a source that took longer for a frame has let the others have their turn
_LOOK: Final = 0.25  # seconds between two looks at whether a source that gives nothing is still live


class FanOut:
    """Reads one source. `ended` is called once, when there is nothing more to come from it."""

    def __init__(
        self, source: LocalSource, executor: Executor, logger: ContainedLogger, ended: Callable[[], object]
    ) -> None:
        self.source = source
        self.frames = 0
        self.frames_skipped = 0  # that no encoder could take
        self._logger = logger
        self._ended = ended
        self._listeners: dict[Outlet, None] = {}
        self._codec: str | None = getattr(source, "codec", None)
        self._desk: VideoDesk | AudioDesk = (
            VideoDesk(executor, logger, self._skip, self._wish)
            if source.kind == "video"
            else AudioDesk(executor, self._skip)
        )
        self._task: asyncio.Task[None] | None = None
        self._before: asyncio.Task[None] | None = None  # the reader before this one, which may not be gone yet
        self._over = False

    @property
    def codec(self) -> str | None:
        """The codec of the packets that it gives; None for frames."""
        return self._codec

    def listen(self, outlet: Outlet) -> None:
        """Have what comes from now on go to `outlet`, too."""
        if self.frames == 0:
            self._codec = getattr(self.source, "codec", None)
        self._listeners[outlet] = None
        self._desk.join(outlet)
        if self._task is None and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._run(self._before))
            self._look(self._task, self.frames)

    def leave(self, outlet: Outlet) -> None:
        """No more for `outlet`. Without anybody else, nobody reads the source any more."""
        self._listeners.pop(outlet, None)
        self._desk.leave(outlet)
        if not self._listeners:
            self._rest()

    def restart(self, outlet: Outlet) -> None:
        """`outlet` starts anew, as if it had just come."""
        self._desk.restart(outlet)

    def ask_key_frame(self, outlet: Outlet) -> None:
        """`outlet` cannot go on without one."""
        self._desk.ask_key_frame(outlet)

    def estimated(self, outlet: Outlet, bitrate: float) -> None:
        """What the way to `outlet` can carry, in bit/s."""
        self._desk.estimated(outlet, bitrate)

    def manner(self, outlet: Outlet) -> Manner | None:
        """How what goes to `outlet` is made."""
        return self._desk.manner(outlet)

    def close(self) -> None:
        """Let go of the source."""
        self._listeners.clear()
        self._desk.close()
        self._rest()

    def _rest(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._before = task
            self._desk.rest()

    def _look(self, reader: asyncio.Task[None], frames: int) -> None:
        """A source that was stopped ends, even if it leaves whoever waits for its next frame waiting."""
        if self._task is not reader:
            return
        if self.source.readyState == "ended" and self.frames == frames:
            self._rest()
            self._end()
        else:
            asyncio.get_running_loop().call_later(_LOOK, self._look, reader, self.frames)

    def _end(self) -> None:
        self._over = True
        self._task = None
        self._ended()

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # a source has one reader at a time
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._read(task)
        except (Exception, asyncio.CancelledError) as error:
            if task.cancelling():
                return  # nobody listens any more
            # MediaStreamError is how a track of aiortc says that it has ended.
            if type(error).__name__ != "MediaStreamError":
                self._logger.warning("a track ended with an error", {"error": type(error).__name__})
            self._end()

    async def _read_when_due(self, desk: AudioDesk) -> None:
        """Read a source that knows when its frames are due, until there are no more in this way.

        A frame is taken, encoded and sent in one callback of a timer. A task that sleeps would have the loop go round
        once more for each, which is a good part of what a frame of sound costs.
        """
        loop = asyncio.get_running_loop()
        source: Any = self.source
        over: asyncio.Future[None] = loop.create_future()
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            if over.done():
                return
            try:
                wait = source.due_in()
                if wait is not None and wait <= 0:
                    self.frames += 1
                    desk.take_now(source.take_due())
                    wait = source.due_in()
                if wait is None:
                    over.set_result(None)
                else:
                    timer = loop.call_later(max(0.0, wait), look)
            except Exception as error:
                if not over.done():
                    over.set_exception(error)

        look()
        try:
            await over
        finally:
            if timer is not None:
                timer.cancel()

    async def _read(self, task: asyncio.Task[None]) -> None:
        if isinstance(self._desk, AudioDesk) and _is_timed(self.source):
            await self._read_when_due(self._desk)
        now = asyncio.get_running_loop().time
        pace = Pace(now)
        while not task.cancelling():  # which a source may keep to itself
            asked = now()
            item = await self.source.recv()
            waited = now() - asked
            if task.cancelling():
                break
            self.frames += 1
            self._look_at_codec(item)
            await self._desk.take(item, self._codec)
            ahead = pace.ahead(item, waited)
            if ahead > 0 or waited < _WAITED:  # one that never waits would let nobody else have a turn
                await asyncio.sleep(ahead)

    def _look_at_codec(self, item: Any) -> None:
        """What the source gives may change at any time, from one codec to another, or to frames."""
        codec: str | None = None
        if isinstance(item, av.Packet):
            codec = getattr(self.source, "codec", None) or self._codec or _guess(self.source.kind, item)
        if codec != self._codec:
            self._codec = codec
            self._desk.choose_again()

    def _wish(self) -> None:
        """A key frame is wanted of a source of packets."""
        ask = getattr(self.source, "ask_key_frame", None)
        if ask is not None:
            try:
                ask()
            except Exception as error:
                self._skip(error)

    def _skip(self, error: BaseException) -> None:
        self.frames_skipped += 1
        if self.frames_skipped == 1:
            self._logger.warning("a frame cannot be sent", {"error": type(error).__name__})


def _is_timed(source: LocalSource) -> bool:
    """Whether it is a `TimedSource`, and nobody has put a `recv` of their own in the place of what belongs to it."""
    owners: list[Any] = [source, *type(source).__mro__]
    owner = next(each for each in owners if "recv" in getattr(each, "__dict__", ()))
    return "due_in" in vars(owner)


def _guess(kind: str, packet: av.Packet[Any]) -> str:
    """The codec of a packet whose source does not say. aiortc's players do not."""
    if kind == "audio":
        return "opus"
    return "H264" if bytes(packet)[:4].startswith((b"\0\0\1", b"\0\0\0\1")) else "VP8"
