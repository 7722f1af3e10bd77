"""Pictures as arrays of numpy, and arrays as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import av

from metered_anyio.rtc.frames import LARGEST
from metered_proto.errors import WebRtcMissingError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

CHANNELS: Final = {"rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4, "argb": 4, "abgr": 4, "gray": 1}
"""The pixel formats that arrays can have, by FFmpeg's names, and how many bytes a pixel has. `gray` is (H, W)."""


def need_numpy() -> Any:
    """numpy. Raises `WebRtcMissingError`."""
    try:
        import numpy
    except ImportError:
        raise WebRtcMissingError("arrays need numpy: pip install 'metered-sansio[media]'") from None
    return numpy


def check_format(format: object) -> str:
    """A pixel format that arrays can have. Raises `TypeError` or `ValueError`."""
    if not isinstance(format, str):
        raise TypeError(f"format must be a str, not {type(format).__name__}")
    if format not in CHANNELS:
        raise ValueError(f"format must be one of {', '.join(CHANNELS)}, not {format!r}")
    return format


def picture_of(array: Any, format: str) -> av.VideoFrame:
    """A frame with a copy of an array of uint8: (height, width, bytes of a pixel), or (height, width) for `gray`.

    Raises `TypeError` for what is no such array, `ValueError` for a shape that cannot be.
    """
    numpy = need_numpy()
    if not isinstance(array, numpy.ndarray):
        raise TypeError(f"a picture is an av.VideoFrame or an array of numpy, not {type(array).__name__}")
    if array.dtype != numpy.uint8:
        raise TypeError(f"an array of a picture is of uint8, not of {array.dtype}")
    channels = CHANNELS[format]
    if channels == 1 and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    wanted = "(height, width)" if channels == 1 else f"(height, width, {channels})"
    if array.ndim != (2 if channels == 1 else 3) or (channels > 1 and array.shape[2] != channels):
        raise ValueError(f"an array of {format} has the shape {wanted}, not {array.shape}")
    height, width = array.shape[:2]
    check_size(width, height)
    return av.VideoFrame.from_ndarray(numpy.ascontiguousarray(array), format=format)


def check_size(width: int, height: int) -> None:
    """Raises `ValueError` for a picture that cannot be sent."""
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        raise ValueError(f"a picture has from 1x1 to {LARGEST}x{LARGEST} pixels, not {width}x{height}")


def array_of(frame: av.VideoFrame, format: str, reformatter: Any) -> NDArray[numpy.uint8]:
    """The pixels of a frame. For a thread: it takes milliseconds."""
    return reformatter.reformat(frame, format=format).to_ndarray()  # type: ignore[no-any-return]


def copy_of(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame with the same pixels that shares nothing with it, and has no time."""
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for to, source in zip(copy.planes, frame.planes, strict=True):
        pixels = memoryview(source)
        if to.line_size == source.line_size and to.buffer_size == source.buffer_size:
            to.update(pixels)  # type: ignore[arg-type]  # any buffer will do
        else:
            line, most = source.line_size, min(source.line_size, to.line_size)
            rows = (pixels[row * line : row * line + most].tobytes() for row in range(to.height))
            to.update(b"".join(row.ljust(to.line_size, b"\0") for row in rows).ljust(to.buffer_size, b"\0"))
    return copy
