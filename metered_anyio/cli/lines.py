"""Lines from stdin, without a thread: reading can be called off, and never holds up the event loop."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from typing import Final

import anyio
import anyio.lowlevel

from metered_anyio.cli.common import Failure, Misuse

MAX_LINE: Final = 1 << 20
"""Longer lines are not read, in bytes. No server takes them either."""

_CHUNK: Final = 65_536


def stdin_descriptor() -> int:
    """Where stdin can be read. Raises `Misuse` if there is none."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):  # None, closed, or not a file
        raise Misuse("there is no stdin to read from") from None


class LineReader:
    """Reads the lines of a file descriptor, pipe, terminal or file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        kind = os.fstat(descriptor).st_mode
        # Only what may keep one waiting can be waited for: epoll refuses files and the like.
        self._may_wait = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(descriptor)
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._ended = False
        self.number = 0
        """Of the latest line, from 1."""

    async def next(self) -> str | None:
        """The next line, without what ends it, or None at the end. Raises `Failure` for what cannot be a line."""
        while not self._lines and not self._ended:
            await self._read()
        if not self._lines:
            return None
        self.number += 1
        line = self._lines.popleft()
        if len(line) > MAX_LINE:
            raise Failure(f"line {self.number} is longer than {MAX_LINE} bytes")
        try:
            return str(line.removesuffix(b"\r"), "utf-8")
        except UnicodeDecodeError:
            raise Failure(f"line {self.number} is not UTF-8") from None

    async def _read(self) -> None:
        if self._may_wait:
            await anyio.wait_readable(self._descriptor)
        else:
            await anyio.lowlevel.checkpoint()
        try:
            chunk = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return  # another process was quicker
        except OSError as error:
            raise Failure(f"cannot read stdin: {error.strerror}") from None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(lines)
        if self._rest and (not chunk or len(self._rest) > MAX_LINE):  # the last one, or one that is refused
            self._lines.append(self._rest)
            self._rest = b""
        self._ended = not chunk
