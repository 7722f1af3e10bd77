"""Objects with `read` as FFmpeg may have them: what they give is looked at before it gets to C."""

from __future__ import annotations

import errno
from typing import Any


class Readable:
    """Reads a binary object of the application. `can_seek`: it may be read from its start again.

    PyAV copies whatever `read` returns into a buffer of the size that it asked for, and crashes if that is more.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    @property
    def can_seek(self) -> bool:
        """Whether it can go back. A pipe has a `seek`, too, which only raises."""
        seekable = getattr(self._file, "seekable", None)
        return callable(getattr(self._file, "seek", None)) and (seekable is None or bool(seekable()))

    def rewind(self) -> None:
        """Go to the start, if it can."""
        if self.can_seek:
            self._file.seek(0)

    def for_ffmpeg(self) -> Any:
        """What to give to `av.open`."""
        return _Seekable(self._file) if self.can_seek and hasattr(self._file, "tell") else _Stream(self._file)


class _Stream:
    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        # What is said here is shown as the reason.
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise OSError(errno.EIO, f"its read() returned {type(data).__name__}, not bytes")
        data = bytes(data)
        if len(data) > size:
            raise OSError(errno.EIO, "its read() returned more than was asked for")
        return data


class _Seekable(_Stream):
    def seek(self, offset: int, whence: int = 0) -> Any:
        return self._file.seek(offset, whence)

    def tell(self) -> Any:
        return self._file.tell()
