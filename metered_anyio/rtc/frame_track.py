"""A track that frames are put into from one thread, and read from in any other, on any event loop; and branches."""

from __future__ import annotations

import threading
from typing import Any, Final

import anyio
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.mailbox import Mailbox

VIDEO_FRAMES: Final = 30
AUDIO_FRAMES: Final = 100
"""What is kept for a reader that falls behind, 1 s of video and 2 s of sound: the newest."""


class BranchingTrack(MediaStreamTrack):
    """A track of `kind`, `audio` or `video`, whose frames can be had more than once. How they are read is for others.

    `frames` counts them.
    """

    def __init__(self, kind: str, id: str | None = None) -> None:
        super().__init__()
        self.kind = kind
        if id is not None:
            self._id = id
        self.frames = 0
        self._over = False
        self._branches: tuple[Branch, ...] = ()
        self._branching = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.readyState}>"

    @property
    def readyState(self) -> str:  # noqa: N802 - the name it has in the W3C specification
        """`live` or `ended`. An ended track may still have frames that wait to be read."""
        return "ended" if self._over else "live"

    def branch(self, *, capacity: int | None = None) -> Branch:
        """A track that gets every frame from now on, whoever reads this one, and ends when this one ends.

        Stopping it ends nothing but itself. The frames may be those that other readers get, so they are not to be
        written to. `capacity` is how many it keeps for its own reader, the newest: 1 s of video or 2 s of sound
        unless told otherwise.
        """
        branch = Branch(self, capacity)
        with self._branching:
            live = not self._over
            if live:
                self._branches += (branch,)
        if not live:
            branch.end()
        return branch

    def prune(self, branch: Branch) -> None:
        """This branch wants nothing more."""
        with self._branching:
            self._branches = tuple(each for each in self._branches if each is not branch)

    def spread(self, frame: Any) -> None:
        """Give a frame to the branches. May be called in any thread."""
        for branch in self._branches:
            branch.push(frame)

    def _close(self) -> None:
        """It has ended, and so do its branches. Idempotent."""
        with self._branching:
            first = not self._over
            self._over = True
            branches, self._branches = self._branches, ()
        for branch in branches:
            branch.end()
        if first:
            super().stop()


class FrameTrack(BranchingTrack):
    """A track that frames are put into. It keeps up to `capacity` of them for its readers, the newest.

    Each frame goes to one of the readers of the track itself, and to every branch.
    """

    def __init__(self, kind: str, id: str | None = None, *, capacity: int | None = None) -> None:
        super().__init__(kind, id)
        self._box: Mailbox[Any] = Mailbox(capacity or (VIDEO_FRAMES if kind == "video" else AUDIO_FRAMES))

    @property
    def frames_dropped(self) -> int:
        """Frames that went because the reader was slow, or there was none."""
        return self._box.dropped

    async def recv(self) -> Any:
        """The next frame, an `av.VideoFrame` or `av.AudioFrame`. Raises aiortc's `MediaStreamError` at the end."""
        try:
            return await self._box.take()
        except anyio.EndOfStream:
            raise MediaStreamError from None

    def push(self, frame: Any) -> None:
        """A frame is there. May be called in any thread."""
        if self._over:
            return
        self.frames += 1
        self._box.put(frame)
        self.spread(frame)

    def end(self) -> None:
        """There are no more: readers get what is kept, and then the end."""
        self._box.end()
        self._close()

    def stop(self) -> None:
        """No more frames are wanted. What is kept is forgotten, and `recv` raises from now on."""
        self._box.end()
        self._box.clear()
        self._close()


class Branch(FrameTrack):
    """What `BranchingTrack.branch` gives."""

    def __init__(self, parent: BranchingTrack, capacity: int | None) -> None:
        super().__init__(parent.kind, parent.id, capacity=capacity)
        self._parent = parent

    def _close(self) -> None:
        self._parent.prune(self)
        super()._close()
