"""The packets of an open container, one after the other. Blocks: for threads."""

from __future__ import annotations

from typing import Any, Final

import av

_UNKNOWN: Final = 10_000
"""Packets in a row that belong to streams which were not there when it was opened."""


class Packets:
    """Reads the packets of some streams. `error` says what ended them, None if that was simply their end."""

    def __init__(self, container: Any, streams: list[Any]) -> None:
        self.error: str | None = None
        self._container, self._streams = container, streams
        self._packets = container.demux(streams)

    def next(self) -> Any:
        """The next packet, an empty one for each stream at its end; None when there are no more."""
        for _ in range(_UNKNOWN):
            try:
                return next(self._packets, None)
            except IndexError:
                # A stream began that PyAV does not know. The others go on.
                self._packets = self._container.demux(self._streams)
            except (av.FFmpegError, OSError, ValueError) as error:
                self.error = getattr(error, "strerror", None) or type(error).__name__
                return None
        self.error = "its streams are others by now"
        return None
