"""`Player`: a file, a camera or a device that is open or being opened, and its tracks."""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import anyio

from metered_anyio.logger import ContainedLogger, Logger, NoopLogger
from metered_anyio.rtc.mailbox import Mailbox
from metered_media.errors import PassthroughError, SourceOpenError
from metered_media.events import SourceEnded
from metered_media.notices import Notices
from metered_media.opening import Origin
from metered_media.player_track import PlayerTrack
from metered_media.reading import Plan, Reading
from metered_proto.events import Event

LOOK_FILE: Final = 0.1
LOOK: Final = 0.005
"""Seconds since it was made that asking for a track waits to see what there is: for a local file, and for all else."""

LEAVE: Final = 1.0
"""Seconds that the end of the program waits for sources that are still open."""


@dataclass(frozen=True, slots=True)
class PlayerStats:
    """What a player has done so far.

    `open_seconds` is how long opening took, None before it is done. `video` and `audio` count what its tracks gave,
    `dropped` what went because nobody read it in time, `skipped` what was left out because it was late, `broken`
    packets that could not be decoded. `passes` counts how often the source was read from its start, and `losses` how
    often it went away.
    """

    open_seconds: float | None
    video: int
    audio: int
    dropped: int
    skipped: int
    broken: int
    passes: int
    losses: int


class Player(Notices):
    """What `from_file`, `from_rtsp` and the others return. It tells `SourceLost`, `SourceRestored` and `SourceEnded`,
    after which its streams of events end.

    Whoever made it stops it, or all of its tracks, so that file, socket or device are let go of. It is also a context
    manager, with `with` and with `async with`. One of which neither player nor tracks are held any more stops, too,
    whenever the garbage collector comes by.
    """

    def __init__(self, origin: Origin, plan: Plan, logger: Logger | None = None) -> None:
        contained = ContainedLogger(NoopLogger() if logger is None else logger)
        super().__init__(contained)
        self._origin = origin
        told = weakref.WeakMethod(self.tell)

        def tell(event: Event) -> None:
            here = told()
            if here is not None:
                here(event)

        self._reading = reading = Reading(origin, plan, tell, contained)
        self._made = time.monotonic()
        self._look = LOOK_FILE if origin.kind == "file" else LOOK
        self._opened: Mailbox[None] = Mailbox(1)
        self._closed: Mailbox[None] = Mailbox(1)
        closed = self._closed

        def on_closed() -> None:
            closed.end()
            _open.discard(reading)

        reading.on_opened, reading.on_closed = self._opened.end, on_closed
        weakref.finalize(self, reading.abandon).atexit = False
        _open.add(reading)
        self._tracks = reading.begin(self)

    def __repr__(self) -> str:
        return f"<Player {self._origin.shown} {'closed' if self.closed else 'open' if self.opened else 'opening'}>"

    @property
    def audio(self) -> PlayerTrack | None:
        """Its sound, None if it has none.

        What is not open yet gives a track anyway, which ends by itself if it turns out that there is no sound. Raises
        `SourceOpenError` if it is known already that it cannot be opened, and `PassthroughError` that it cannot be sent
        as it is and is not to be decoded; but once a track was given, that is left to `error`. It blocks for a moment
        at most.
        """
        return self._track("audio")

    @property
    def video(self) -> PlayerTrack | None:
        """Its pictures, None if it has none. As `audio`."""
        return self._track("video")

    @property
    def opened(self) -> bool:
        """Whether it was opened, or it is known that it cannot be."""
        return self._reading.opened.is_set()

    @property
    def closed(self) -> bool:
        """Whether it is over and everything was let go of."""
        tracks = self._tracks.values()
        return self._closed.ended and all(track.readyState == "ended" for track in tracks)

    @property
    def error(self) -> Exception | None:
        """Why it could not be opened, or what ended it; None if nothing went wrong."""
        return self._reading.error

    @property
    def passthrough_error(self) -> PassthroughError | None:
        """Why it is not sent as it is, although that was asked for. Its frames are decoded instead, unless
        `fallback=False` was given."""
        return self._reading.misfit

    @property
    def stats(self) -> PlayerStats:
        """Figures."""
        counts, tracks = self._reading.counts, self._tracks
        return PlayerStats(
            open_seconds=counts.open_seconds,
            video=tracks["video"].frames,
            audio=tracks["audio"].frames,
            dropped=sum(track.frames_dropped for track in tracks.values()),
            skipped=counts.skipped + sum(track.skipped for track in tracks.values()),
            broken=counts.broken + self._reading.broken_now,
            passes=counts.passes,
            losses=counts.losses,
        )

    def tell(self, event: Event) -> None:
        """Tell everybody who listens. May be called in any thread."""
        super().tell(event)
        if isinstance(event, SourceEnded):
            self.end()  # whoever loops over what it tells is not to wait for ever

    def stop(self) -> None:
        """End its tracks and let go of the source. Returns at once; a source that waits for the network lets go when
        that wait is over. Idempotent."""
        self._reading.stop()

    async def aclose(self) -> None:
        """Stop, and wait until everything was let go of, for a second at most."""
        self.stop()
        with anyio.move_on_after(LEAVE):
            await self.wait_closed()
        await self.finish()

    async def wait_closed(self) -> None:
        """Wait until the source is read to its end or was stopped, and was let go of."""
        await _ended(self._closed)

    async def wait_opened(self, timeout: float | None = None) -> None:
        """Wait until it is open. Raises `SourceOpenError` if it cannot be opened, `timed_out` after `timeout` seconds,
        or `PassthroughError` if it was to be sent as it is and nothing else."""
        self.bind()
        with anyio.move_on_after(timeout):
            await _ended(self._opened)
        error = self._reading.error
        if error is not None:
            raise error
        if not self.opened:
            raise SourceOpenError(self._origin.shown, "timed_out", f"it did not open within {timeout:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    def _track(self, kind: str) -> PlayerTrack | None:
        self.bind()
        self._reading.opened.wait(max(0.0, self._made + self._look - time.monotonic()))
        reading = self._reading
        if reading.error is not None and self.opened and not reading.anything_handed_out:
            raise reading.error
        track = self._tracks[kind]
        if reading.lacks(kind):
            return None
        return reading.hand_out(kind) if track.readyState == "live" else track


_open: weakref.WeakSet[Reading] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    # A thread that is in FFmpeg when the interpreter goes away would be cut off in the middle.
    readings = list(_open)
    for reading in readings:
        reading.abandon()
    end = time.monotonic() + LEAVE
    for reading in readings:
        reading.thread.join(max(0.0, end - time.monotonic()))


async def open_player(make: Callable[[], Player], timeout: float) -> Player:
    """Make a player and wait until it is open. One that is not open in time is stopped."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
    player = make()
    try:
        await player.wait_opened(timeout)
    except BaseException:
        player.stop()
        raise
    return player


async def _ended(box: Mailbox[None]) -> None:
    try:
        await box.take()
    except anyio.EndOfStream:
        pass
