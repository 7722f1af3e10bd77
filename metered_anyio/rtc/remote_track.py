"""A received track: frames that were decoded in the engine, for whoever reads them, on whatever event loop."""

from __future__ import annotations

from typing import Any

from metered_anyio.rtc.frame_track import FrameTrack


class RemoteTrack(FrameTrack):
    """What the remote sends in one media section, until it takes it back.

    Reads from any event loop, and in any thread. Each frame goes to one reader; `branch` is for one that wants them
    all. What is kept for a reader that falls behind is 1 s of video or 2 s of sound, the newest.
    """


class Inlet:
    """Where the decoder of one media section puts its frames: what aiortc takes for the track's queue."""

    def __init__(self) -> None:
        self.target: RemoteTrack | None = None

    async def put(self, frame: Any) -> None:
        """A frame, or None when the decoder has ended. The track ends when the room says so, not here."""
        if frame is not None and self.target is not None:
            self.target.push(frame)
