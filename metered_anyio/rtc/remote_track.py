"""A received track: frames that were decoded in the engine, for whoever reads them, on whatever event loop."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

import anyio.lowlevel
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from metered_anyio.backend import Backend, Waiter, current_backend

VIDEO_FRAMES: Final = 30
AUDIO_FRAMES: Final = 100
"""What is kept for a reader that falls behind, 1 s of video and 2 s of sound: the newest."""


class RemoteTrack(MediaStreamTrack):
    """What the remote sends in one media section, until it takes it back.

    Reads from any event loop, and in any thread. Each frame goes to one reader.
    """

    def __init__(self, kind: str, id: str) -> None:
        super().__init__()
        self.kind = kind
        self._id = id
        self.frames = 0
        self.frames_dropped = 0
        self._frames: deque[Any] = deque()
        self._bound = VIDEO_FRAMES if kind == "video" else AUDIO_FRAMES
        self._readers: deque[_Reader] = deque()
        self._guard = threading.Lock()
        self._over = False
        self._native: object = None
        self._backend: Backend | None = None

    def __repr__(self) -> str:
        return f"<RemoteTrack {self.kind} {self.readyState}>"

    @property
    def readyState(self) -> str:  # noqa: N802 - the name it has in the W3C specification
        """`live`, or `ended`: taken back by the remote, or stopped."""
        return "ended" if self._over else "live"

    async def recv(self) -> Any:
        """The next frame, an `av.VideoFrame` or `av.AudioFrame`. Raises aiortc's `MediaStreamError` at the end."""
        while True:
            with self._guard:
                if self._frames:
                    return self._frames.popleft()
                if self._over:
                    raise MediaStreamError
                reader = self._reader()
                self._readers.append(reader)
            try:
                await reader.waiter
            except BaseException:
                with self._guard:
                    if reader in self._readers:
                        self._readers.remove(reader)
                    elif self._frames:  # it was called for a frame that is somebody else's now
                        self._call_one()
                raise

    def stop(self) -> None:
        """No more frames are wanted. What is kept is forgotten, and `recv` raises from now on."""
        with self._guard:
            self._frames.clear()
        self.end()

    def push(self, frame: Any) -> None:
        """A frame is there. Called by the engine, in its own thread."""
        with self._guard:
            if self._over:
                return
            self.frames += 1
            self._frames.append(frame)
            if len(self._frames) > self._bound:
                self._frames.popleft()
                self.frames_dropped += 1
            self._call_one()

    def end(self) -> None:
        """There are no more: readers get what is kept, and then the end."""
        with self._guard:
            if self._over:
                return
            self._over = True
            while self._readers:
                self._call_one()
        super().stop()

    def _call_one(self) -> None:
        if self._readers:
            self._readers.popleft().call()

    def _reader(self) -> _Reader:
        loop = anyio.lowlevel.current_token().native_token
        if self._backend is None or loop is not self._native:
            self._native, self._backend = loop, current_backend()
        return _Reader(self._backend)


class _Reader:
    """One task that waits, perhaps in another thread than the one that calls it."""

    __slots__ = ("_backend", "_thread", "waiter")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread = threading.get_ident()
        self.waiter: Waiter[None] = backend.waiter()

    def call(self) -> None:
        if self._thread == threading.get_ident():
            self._wake()
        else:
            try:
                self._backend.call_from_thread(self._wake)
            except RuntimeError:
                pass  # its loop has ended

    def _wake(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)


class Inlet:
    """Where the decoder of one media section puts its frames: what aiortc takes for the track's queue."""

    def __init__(self) -> None:
        self.target: RemoteTrack | None = None

    async def put(self, frame: Any) -> None:
        """A frame, or None when the decoder has ended. The track ends when the room says so, not here."""
        if frame is not None and self.target is not None:
            self.target.push(frame)
