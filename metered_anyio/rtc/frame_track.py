"""A track that frames are put into from one thread, and read from in any other, on any event loop; and its branches."""

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


class FrameTrack(MediaStreamTrack):
    """A track of `kind`, `audio` or `video`, that keeps up to `capacity` frames for its readers.

    Each frame goes to one of the readers of the track itself, and to every branch.
    """

    def __init__(self, kind: str, id: str | None = None, *, capacity: int | None = None) -> None:
        super().__init__()
        self.kind = kind
        if id is not None:
            self._id = id
        self.frames = 0
        self._box: Mailbox[Any] = Mailbox(capacity or (VIDEO_FRAMES if kind == "video" else AUDIO_FRAMES))
        self._branches: tuple[Branch, ...] = ()
        self._branching = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.readyState}>"

    @property
    def readyState(self) -> str:  # noqa: N802 - the name it has in the W3C specification
        """`live` or `ended`. An ended track may still have frames that wait to be read."""
        return "ended" if self._box.ended else "live"

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

    def branch(self, *, capacity: int | None = None) -> Branch:
        """A track that gets every frame from now on, whoever reads this one, and ends when this one ends.

        Stopping it ends nothing but itself. The frames are those that other readers get, so they are not to be
        written to. `capacity` is how many it keeps for its own reader, the newest.
        """
        branch = Branch(self, capacity or self._box.capacity)
        with self._branching:
            live = not self._box.ended
            if live:
                self._branches += (branch,)
        if not live:
            branch.end()
        return branch

    def push(self, frame: Any) -> None:
        """A frame is there. May be called in any thread."""
        if self._box.ended:
            return
        self.frames += 1
        self._box.put(frame)
        self.spread(frame)

    def spread(self, frame: Any) -> None:
        """Give a frame to the branches alone. For tracks that hand out their own frames in another way."""
        for branch in self._branches:
            branch.push(frame)

    def stop(self) -> None:
        """No more frames are wanted. What is kept is forgotten, and `recv` raises from now on."""
        self.end()
        self._box.clear()

    def end(self) -> None:
        """There are no more: readers get what is kept, and then the end."""
        with self._branching:
            first = self._box.end()
            branches, self._branches = self._branches, ()
        for branch in branches:
            branch.end()
        if first:
            super().stop()

    def prune(self, branch: Branch) -> None:
        """This branch wants nothing more."""
        with self._branching:
            self._branches = tuple(each for each in self._branches if each is not branch)


class Branch(FrameTrack):
    """What `FrameTrack.branch` gives."""

    def __init__(self, parent: FrameTrack, capacity: int) -> None:
        super().__init__(parent.kind, parent.id, capacity=capacity)
        self._parent = parent

    def end(self) -> None:
        """No more frames come. What it keeps can still be read."""
        self._parent.prune(self)
        super().end()
