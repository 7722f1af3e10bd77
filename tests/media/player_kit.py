"""What tests of players share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiortc.mediastreams import MediaStreamError


class Seen:
    """What a track gave, and when."""

    def __init__(self) -> None:
        self.things: list[Any] = []
        self.at: list[float] = []
        self.over = False

    async def read(self, track: Any, count: int | None = None) -> Seen:
        """Read until the track ends, or `count` things have come."""
        try:
            while count is None or len(self.things) < count:
                self.things.append(await track.recv())
                self.at.append(time.monotonic())
        except MediaStreamError:
            self.over = True
        return self

    @property
    def times(self) -> list[float]:
        """The time of each, in seconds, by its own word."""
        return [float(thing.pts * thing.time_base) for thing in self.things]


async def read_all(player: Any, count: int | None = None) -> dict[str, Seen]:
    """Read both tracks of a player side by side."""
    found = {kind: Seen() for kind in ("audio", "video") if getattr(player, kind) is not None}
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for kind, seen in found.items():
                group.start_soon(seen.read, getattr(player, kind), count)
    return found


async def until(condition: Callable[[], bool], patience: float = 20.0) -> None:
    """Wait until something holds."""
    with anyio.fail_after(patience):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await anyio.sleep(0.01)


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """How long the event loop did not get around to anything, in seconds, again and again."""
    found: list[float] = []

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await anyio.sleep(0.001)
            now = time.perf_counter()
            found.append(now - last)
            last = now

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        yield found
        group.cancel_scope.cancel()
