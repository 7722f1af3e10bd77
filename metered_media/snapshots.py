"""`snapshot`: one picture of a track."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import av

from metered_anyio.media_stream import MediaTrack, check_track
from metered_media.checking import check_number
from metered_media.decoding import PacketDecoder, own_branch
from metered_media.errors import SnapshotError

if TYPE_CHECKING:
    import numpy
    import numpy.typing

_SUFFIXES: Final = (".jpg", ".jpeg", ".png")


class Snapshot:
    """A picture. `frame` is it as an `av.VideoFrame`, which others may have, too: not to be written to."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self.frame = frame

    def __repr__(self) -> str:
        return f"<Snapshot {self.width}x{self.height} {self.frame.format.name}>"

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.frame.width

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.frame.height

    def to_ndarray(self) -> numpy.typing.NDArray[Any]:
        """The pixels, for `rgb24` as height × width × 3 of `uint8`. Needs numpy."""
        return self.frame.to_ndarray()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, `.jpg` or `.png`. Raises `ValueError` for another name, `OSError` if it cannot be."""
        suffix = Path(path).suffix.lower()
        if suffix not in _SUFFIXES:
            raise ValueError(f"the name must end in {', '.join(_SUFFIXES)}, not {suffix!r}")
        encoder = "png" if suffix == ".png" else "mjpeg"
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height = self.width, self.height
        context.pix_fmt = "rgb24" if encoder == "png" else "yuvj420p"
        context.time_base = 1
        frame = self.frame.reformat(format=context.pix_fmt)
        with open(path, "wb") as file:
            file.writelines(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


async def snapshot(track: MediaTrack, *, format: str = "rgb24", timeout: float = 5.0) -> Snapshot:
    """The next picture of a video track, in a pixel format of FFmpeg's.

    It takes no frame away from others who read a received track. A source of one's own must have no other reader; what
    is sent, too, is looked at in a `branch()` of it. Of packets the next key frame is waited for.

    Raises `SnapshotError` if none came within `timeout` seconds (`timed_out`) or the track is over (`ended`),
    `TypeError` or `ValueError` for what is no video track, for an unknown format and for no number of seconds.
    """
    check_track("track", track)
    if track.kind != "video":
        raise ValueError("track must be a video track, not audio")
    av.VideoFormat(format)
    check_number("timeout", timeout, 0, 86_400)
    own = own_branch(track)
    try:
        with anyio.fail_after(timeout):
            frame = await _next_frame(track if own is None else own)
    except TimeoutError:
        raise SnapshotError("timed_out", f"no picture came within {timeout:g} s") from None
    except Exception as error:
        raise SnapshotError("ended", "the track has ended") from error
    finally:
        if own is not None:
            own.stop()
    return Snapshot(await anyio.to_thread.run_sync(lambda: frame.reformat(format=format)))


async def _next_frame(track: Any) -> av.VideoFrame:
    decoder = PacketDecoder()
    while True:
        given: Any = await track.recv()
        if not isinstance(given, av.Packet):
            picture: av.VideoFrame = given
            return picture
        frames = await anyio.to_thread.run_sync(decoder.frames, given, track.codec)
        if frames:
            found: av.VideoFrame = frames[0]
            return found
