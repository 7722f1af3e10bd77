"""The way between the application's loop and the loop of the peer connections, which may be one and the same."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Crossing(Protocol):
    """Calls to the other side, in the order in which they are made. Neither direction raises."""

    threaded: bool
    """Whether the two sides are different threads, so that a call arrives later than it is made."""

    def to_app(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back in the application's loop."""
        ...

    def to_engine(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back in the loop of the peer connections."""
        ...

    async def call(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine over there, from the application's loop, and wait for it. Cancelling cancels it."""
        ...

    def at_end(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What is to be run over there when it ends."""
        ...

    async def aclose(self) -> None:
        """There will be no more calls, except for what was to be run at the end."""
        ...


class Direct:
    """Both are the same loop: a call is a call."""

    threaded = False

    def to_app(self, callback: Callable[..., object], *args: Any) -> None:
        callback(*args)

    def to_engine(self, callback: Callable[..., object], *args: Any) -> None:
        callback(*args)

    async def call(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await run()

    def at_end(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._last = run

    async def aclose(self) -> None:
        await self._last()
