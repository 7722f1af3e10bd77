"""Somebody who sends a file, or speech, to everybody in a room, and opens sources; measured as a whole process.

python -m benchmarks.roles.camera ours | published [URL]
"""

from __future__ import annotations

import array
import asyncio
import gc
import importlib
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil

from benchmarks.children import obey
from testbed.access import ROOM, token
from testbed.guest import Guest, library

NAME = "camera"
"""Its peer id."""

SPEECH_RATE = 16_000
CHUNK = 0.1
"""Seconds of sound in one push."""

FRAME = 0.02
"""Seconds of sound in one frame that is sent."""

LOOK = 0.001
"""Seconds between two looks at the clock while a source opens."""


class Camera:
    """The commands."""

    def __init__(self, side: str, url: str) -> None:
        self._side, self._url = side, url
        self._guest: Guest | None = None
        self._players: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._pushed = 0

    async def run(self) -> None:
        await obey(
            {
                "file": self.file,
                "speech": self.speech,
                "cost": self.cost,
                "lag": self.lag,
                "pace": self.pace,
                "open": self.open,
                "encoders": self.encoders,
            }
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._guest is not None:
            await self._guest.close()
        for player in self._players:
            stop_player(player)

    # Only one of the two is ever in this process.

    @property
    def _rooms(self) -> Any:
        """Where peers come from."""
        return importlib.import_module("metered_anyio") if self._side == "ours" else library()

    @property
    def _media(self) -> Any:
        """Where sources come from."""
        return importlib.import_module("metered_media") if self._side == "ours" else library()

    async def file(self, path: str, source: dict[str, Any], track: dict[str, Any]) -> None:
        """Join, and send the picture of a file. `source` are more words for `from_file`, `track` for `add_track`."""
        player = self._media.from_file(path, **source)
        self._players.append(player)
        await self._send(player.video, track)

    async def speech(self, track: dict[str, Any]) -> None:
        """Join, and send speech that is pushed faster than it is spoken."""
        source = self._media.AudioSource(input_rate=SPEECH_RATE)
        self._tasks.append(asyncio.create_task(talk(source)))
        await self._send(source, track)

    async def _send(self, track: Any, options: dict[str, Any]) -> None:
        async def provide() -> str:
            return token(NAME)

        self._guest = Guest(self._rooms, url=self._url, token_provider=provide)
        self._guest.send("stream", track, **options)
        await self._guest.join(ROOM)

    async def cost(self, seconds: float) -> dict[str, float]:
        """For so long, nothing is done beside what is measured: cores used; MB held."""
        before, began = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        used, took = time.process_time() - before, time.monotonic() - began
        return {"cores": used / took, "rss": psutil.Process().memory_info().rss / 1e6}

    async def lag(self, seconds: float) -> dict[str, float]:
        """For so long: how late the loop is, in ms."""
        return await lateness(seconds)

    async def encoders(self) -> list[dict[str, Any]]:
        """What is known of each track that is sent, remote by remote. Ours alone tell."""
        assert self._guest is not None
        stats = await self._guest.peer.stats()
        return [
            {name: getattr(track, name) for name in track.__dataclass_fields__}
            for connection in stats.remotes.values()
            if connection is not None
            for track in connection.tracks
            if track.direction == "send"
        ]

    async def pace(self, count: int, seconds: float) -> dict[str, float]:
        """Read so many sources of speech at once: how far frames are off their time, in ms, and cores used."""
        sources = [self._media.AudioSource(input_rate=SPEECH_RATE) for _ in range(count)]
        talking = [asyncio.create_task(talk(source)) for source in sources]
        await asyncio.sleep(0.5)
        gc.collect()
        before, began = time.process_time(), time.monotonic()
        arrivals = await asyncio.gather(*(listen(source, seconds) for source in sources))
        used, took = time.process_time() - before, time.monotonic() - began
        for task, source in zip(talking, sources, strict=True):
            task.cancel()
            source.stop()
        await asyncio.gather(*talking, return_exceptions=True)
        off = sorted(abs(late) * 1e3 for times in arrivals for late in against_grid(times))
        return {"p50": off[len(off) // 2], "p99": off[int(len(off) * 0.99)], "max": off[-1], "cores": used / took}

    async def open(self, kind: str, target: str, timeout: float) -> dict[str, Any]:
        """Open a source and take a first frame: how long that took, and the loop's longest stall meanwhile, in ms.

        `error` is the kind of error that came instead.
        """
        error = player = None
        how = getattr(self._media, f"open_{kind}" if self._side == "ours" else f"from_{kind}")  # loaded beforehand
        async with stalls() as longest:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(timeout + 10):
                    player = await how(target, timeout=timeout) if self._side == "ours" else how(target)
                    await player.video.recv()
            except Exception as found:
                error = f"{type(found).__name__} {getattr(found, 'code', '')}".strip()
            took = time.perf_counter() - began
        if player is not None:
            stop_player(player)
        return {"took": took, "stall": longest() * 1e3, "error": error}


async def talk(source: Any) -> None:
    """Push a tone for ever; the source takes it at the speed of speech."""
    turn = 2 * math.pi * 440 / SPEECH_RATE
    samples = round(CHUNK * SPEECH_RATE)  # whole turns of the tone, so that chunks fit together
    chunk = array.array("h", (int(8000 * math.sin(turn * n)) for n in range(samples))).tobytes()
    while True:
        await source.push(chunk)


async def listen(source: Any, seconds: float) -> list[float]:
    """Take frames for so long; returns when each came."""
    arrivals = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await source.recv()
        arrivals.append(time.perf_counter())
    return arrivals


def against_grid(times: list[float]) -> list[float]:
    """How far each arrival is off a grid of 20 ms that fits most of them best."""
    offsets = sorted(at - number * FRAME for number, at in enumerate(times))
    middle = offsets[len(offsets) // 2]
    return [offset - middle for offset in offsets]


async def lateness(seconds: float, tick: float = 0.005) -> dict[str, float]:
    """How late timers of the running loop are for so long, in ms."""
    late = []
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        await asyncio.sleep(tick)
        late.append((time.perf_counter() - now - tick) * 1e3)
    late.sort()
    return {"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "max": late[-1]}


@asynccontextmanager
async def stalls() -> AsyncIterator[Callable[[], float]]:
    """Watch the running loop; gives the longest time, in seconds, in which it did nothing of what was due."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(LOOK)
            longest = max(longest, time.perf_counter() - before - LOOK)

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield lambda: longest
        await asyncio.sleep(2 * LOOK)  # what stalled it last counts, too
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def stop_player(player: Any) -> None:
    """Let go of a player, as each of the two libraries wants it."""
    if hasattr(player, "stop"):
        player.stop()
    for track in (player.audio, player.video):
        if track is not None:
            track.stop()


async def main() -> None:
    """Be that child."""
    _, side, *url = sys.argv
    await Camera(side, *url or [""]).run()


if __name__ == "__main__":
    asyncio.run(main())
