"""How recorders read a track: without taking frames from others where that can be, and packets decoded."""

from __future__ import annotations

from typing import Any, Final

import av

from metered_anyio.rtc.frame_track import FrameTrack

_DECODERS: Final = {"H264": "h264", "VP8": "libvpx", "opus": "libopus"}


def own_branch(track: Any) -> FrameTrack | None:
    """A branch of a track that is filled whoever reads it, as received ones are; None for a track to be read itself.

    A source goes on as it is read, so a branch of it gets only what others read.
    """
    if isinstance(track, FrameTrack) and type(track).recv is FrameTrack.recv:
        return track.branch()
    return None


class PacketDecoder:
    """The frames of a track that gives packets, for one thread at a time."""

    def __init__(self) -> None:
        self._codec: str | None = None
        self._context: Any = None

    def frames(self, thing: Any, codec: str | None) -> list[Any]:
        """The frames in what a track gave while its `codec` was this one. Raises FFmpeg's errors.

        None as long as there was no key frame.
        """
        if not isinstance(thing, av.Packet):
            self._context = None
            return [thing]
        if codec is None:
            return []
        if self._context is None or codec != self._codec:
            if codec in ("H264", "VP8") and not thing.is_keyframe:
                return []
            self._context, self._codec = av.CodecContext.create(_DECODERS[codec], "r"), codec
            self._context.thread_count = 1
        found: list[Any] = self._context.decode(thing)
        return found
