"""A network in memory: `Timetable`, `MemoryWire` (one end of a connection) and `MemoryListener`.

Bytes arrive in order, after a latency, on the clock of whatever event loop runs. Nothing is lost while both ends are
there: a path that is cut either breaks its connections, or holds everything back until it is healed, as TCP would.
"""

from __future__ import annotations

import errno
import heapq
from collections import deque
from collections.abc import Callable
from typing import Final

from metered_anyio.backend import Backend, Callback

WINDOW: Final = 262_144
"""Bytes on their way, or not read yet, up to which a connection takes more."""


class Timetable:
    """What is to happen when, in one heap with one alarm. What is due at the same time happens in the order of `at`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._alarm = backend.alarm(self._ring)
        self._entries: list[tuple[float, int, Callback]] = []
        self._made = 0
        self._closed = False

    def now(self) -> float:
        """The loop's time, in seconds."""
        return self._backend.time()

    def at(self, when: float, callback: Callback) -> None:
        """Call back at a moment of the loop's time, never before this returns."""
        if self._closed:
            return
        self._made += 1
        entry = (when, self._made, callback)
        heapq.heappush(self._entries, entry)
        if self._entries[0] is entry:
            self._alarm.set(when)

    def after(self, seconds: float, callback: Callback) -> None:
        """Call back in a while."""
        self.at(self.now() + seconds, callback)

    def close(self) -> None:
        """Nothing happens any more."""
        self._closed = True
        self._entries.clear()
        self._alarm.set(None)

    def _ring(self) -> None:
        now, last = self.now(), self._made
        try:
            # What is added meanwhile waits for its own turn, so that whoever adds for ever does not hold up the loop.
            while self._entries and self._entries[0][0] <= now and self._entries[0][1] <= last:
                heapq.heappop(self._entries)[2]()
        finally:
            if self._entries:
                self._alarm.set(self._entries[0][0])


class Traffic:
    """What went over a path so far. `connections` are those that were made, `refused` those that were not."""

    def __init__(self) -> None:
        self.connections = 0
        self.refused = 0
        self.broken = 0
        self.bytes_up = 0
        self.bytes_down = 0

    def __repr__(self) -> str:
        return f"Traffic({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class MemoryWire:
    """One end of a connection. See `metered_anyio.backend.Wire`.

    `latency` gives the seconds that the next bytes take, `is_held` whether everything is held back for now, and
    `count` is called with the number of bytes that are sent.
    """

    def __init__(
        self,
        timetable: Timetable,
        latency: Callable[[], float],
        is_held: Callable[[], bool],
        count: Callable[[int], None],
    ) -> None:
        self._timetable = timetable
        self._latency = latency
        self._is_held = is_held
        self._count = count
        self._other: MemoryWire | None = None
        self._under_way: deque[tuple[float, bytes]] = deque()  # with the time of arrival; b"" is the end
        self._last_arrival = 0.0
        self._inbox: deque[bytes] = deque()
        self._unread = 0  # bytes that were sent to us and that nobody has read
        self._lost = self._closed = self._said_end = False
        self.readable = _Readiness(timetable, lambda: not self._closed and (bool(self._inbox) or self._lost))
        self.writable = _Readiness(
            timetable, lambda: not self._closed and (self._room > 0 or self._lost or self._said_end)
        )

    def join(self, other: MemoryWire) -> None:
        """These two are the ends of one connection."""
        self._other, other._other = other, self

    @property
    def open(self) -> bool:
        """Whether neither end has closed it, and nothing has broken it."""
        other = self._other
        return not (self._closed or self._lost or other is None or other._closed)

    @property
    def _room(self) -> int:
        return WINDOW - (0 if self._other is None else self._other._unread)

    # --- as a socket has it ---

    def send(self, data: bytes | memoryview, /) -> int:
        self._check()
        if self._said_end:
            raise BrokenPipeError(errno.EPIPE, "broken pipe")
        taken = bytes(data[: self._room])
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "there is no room")
        self._count(len(taken))
        self._put(taken)
        return len(taken)

    def recv(self, size: int, /) -> bytes:
        self._check()
        if not self._inbox:
            raise BlockingIOError(errno.EAGAIN, "nothing is there")
        first = self._inbox[0]
        if not first:
            return b""
        if len(first) > size:
            first, self._inbox[0] = first[:size], first[size:]
        else:
            self._inbox.popleft()
        self._unread -= len(first)
        if self._other is not None:
            self._other.writable.look()
        return first

    def shutdown(self, how: int, /) -> None:
        self._check()
        self._say_end()

    def close(self) -> None:
        if not self._closed:
            if not self._lost:
                self._say_end()
            self._closed = True
            self._inbox.clear()

    def watch_readable(self, callback: Callback, /) -> _Readiness:
        return self.readable.watch(callback)

    def watch_writable(self, callback: Callback, /) -> _Readiness:
        return self.writable.watch(callback)

    # --- what happens to it ---

    def break_off(self) -> None:
        """The connection is lost: both ends find out at once, and what is under way is gone."""
        for end in (self, self._other):
            if end is not None and not end._lost:
                end._lost = True
                end._inbox.clear()
                end._under_way.clear()
                end.readable.look()
                end.writable.look()

    def flow(self) -> None:
        """Nothing is held back any more."""
        for end in (self, self._other):
            if end is not None:
                end._timetable.after(0, end._arrive)

    def _check(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the connection is closed")
        if self._lost:
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")

    def _say_end(self) -> None:
        if not self._said_end:
            self._said_end = True
            self._put(b"")

    def _put(self, data: bytes) -> None:
        other = self._other
        if other is None:
            return
        arrival = other._last_arrival = max(other._last_arrival, self._timetable.now() + self._latency())
        other._unread += len(data)
        other._under_way.append((arrival, data))
        self._timetable.at(arrival, other._arrive)

    def _arrive(self) -> None:
        if self._is_held():
            return
        now = self._timetable.now()
        while self._under_way and self._under_way[0][0] <= now:
            _, data = self._under_way.popleft()
            if not self._closed:
                self._inbox.append(data)
            elif data and self._other is not None:  # nobody reads this any more, as the other end learns when it writes
                self._other._said_end = True
                self._other.writable.look()
        self.readable.look()


class _Readiness:
    """One who watches, and is called back as long as something holds. It is its own `Watch`."""

    def __init__(self, timetable: Timetable, holds: Callable[[], bool]) -> None:
        self._timetable = timetable
        self._holds = holds
        self._callback: Callback | None = None
        self._looking = False

    def watch(self, callback: Callback) -> _Readiness:
        self._callback = callback
        self.look()
        return self

    def cancel(self) -> None:
        self._callback = None

    def look(self) -> None:
        """Something has changed."""
        if self._callback is not None and not self._looking and self._holds():
            self._looking = True
            self._timetable.after(0, self._tell)

    def _tell(self) -> None:
        self._looking = False
        if self._callback is not None and self._holds():
            self._callback()
            self.look()


class MemoryListener:
    """Where connections come in. See `metered_anyio.relay.server.Listener`."""

    def __init__(self, timetable: Timetable, closed: Callable[[], object]) -> None:
        self._waiting: deque[tuple[MemoryWire, str]] = deque()
        self._readiness = _Readiness(timetable, lambda: bool(self._waiting))
        self._closed = closed

    def knock(self, wire: MemoryWire, address: str) -> None:
        """Somebody wants in."""
        self._waiting.append((wire, address))
        self._readiness.look()

    def accept(self) -> tuple[MemoryWire, tuple[str, int]]:
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, "nobody is there")
        wire, address = self._waiting.popleft()
        return wire, (address, 443)

    def getsockname(self) -> tuple[str, int]:
        return "in memory", 443

    def close(self) -> None:
        for wire, _ in self._waiting:
            wire.break_off()
        self._waiting.clear()
        self._readiness.cancel()
        self._closed()

    def watch_readable(self, callback: Callback, /) -> _Readiness:
        return self._readiness.watch(callback)

    def watch_writable(self, callback: Callback, /) -> _Readiness:
        raise OSError(errno.ENOTSUP, "a listener is not written to")
