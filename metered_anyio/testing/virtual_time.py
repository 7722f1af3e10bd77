"""Event loops whose clock jumps: whenever everybody waits, it is at once as late as the first of them waits for.

trio has such a clock (`trio.testing.MockClock`); for asyncio it is here.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

BackendName: TypeAlias = Literal["asyncio", "trio"]

PASS = 2e-9
"""Seconds that one pass of the loop takes: more than asyncio lets a timer ring early, so that nobody who looks at the
clock then, and waits on, does so for ever."""

_PEEK = 0.05  # seconds between two looks at whether a thread still works


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time: its clock begins at 0, and moves only when there is nothing else to do.

    While a thread of anyio's works (`watch_threads` has been called), the clock stands still, since what the thread
    brings comes first. Sockets work, but whoever waits for one beside a timer always sees the timer first.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._limiter: anyio.CapacityLimiter | None = None
        super().__init__(_JumpingSelector(self._jump, self._is_waited_for))

    def time(self) -> float:
        """Seconds since the loop was made, in its own time."""
        return self._now

    def watch_threads(self, limiter: anyio.CapacityLimiter) -> None:
        """Let no time pass as long as a thread has a token of `limiter`."""
        self._limiter = limiter

    def _jump(self, seconds: float) -> None:
        # After months, a float has no room for so short a time.
        self._now = max(self._now + seconds, math.nextafter(self._now, math.inf))

    def _is_waited_for(self) -> bool:
        return self._limiter is not None and self._limiter.borrowed_tokens > 0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], None], is_waited_for: Callable[[], bool]) -> None:
        super().__init__()
        self._jump = jump
        self._is_waited_for = is_waited_for

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready. Where nothing is, the time until the next timer passes at once."""
        self._jump(PASS)
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer at all: only the outside can go on with this
            return super().select(None)
        if self._is_waited_for():
            return super().select(_PEEK)
        self._jump(max(timeout, 0.0))
        return []


def virtual_backend(name: BackendName) -> tuple[str, dict[str, Any]]:
    """What anyio's pytest plugin takes as `anyio_backend` for tests in virtual time. Made anew for each test."""
    if name == "asyncio":
        return "asyncio", {"loop_factory": VirtualEventLoop}
    if name == "trio":
        from trio.testing import MockClock

        return "trio", {"clock": MockClock(autojump_threshold=0)}
    raise ValueError(f"the backend must be asyncio or trio, not {name!r}")


def run_virtual(main: Callable[..., Awaitable[T]], *args: Any, backend: BackendName = "asyncio") -> T:
    """`anyio.run` in virtual time: returns what `main(*args)` returns. Sleeping takes no time."""
    name, options = virtual_backend(backend)

    async def run() -> T:
        stop_for_threads()
        return await main(*args)

    return anyio.run(run, backend=name, backend_options=options)


def stop_for_threads() -> None:
    """Let the clock of the running loop stand still while a thread works, if it is one of ours."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # trio's
    if isinstance(loop, VirtualEventLoop):
        loop.watch_threads(anyio.to_thread.current_default_thread_limiter())
