"""Somebody who sends one picture to everybody in a room, and watches how late its own event loop is.

python -m benchmarks.roles.source ours | published URL
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import psutil

import metered_anyio
from benchmarks.children import obey
from testbed.access import token
from testbed.guest import Guest, library
from testbed.tracks import RED, ColourTrack

TICK = 0.005
"""Seconds between two looks at the clock."""


class Source:
    """The commands."""

    def __init__(self, side: str, url: str) -> None:
        async def provide() -> str:
            return token("source")

        self._guest = Guest(metered_anyio if side == "ours" else library(), url=url, token_provider=provide)

    async def run(self) -> None:
        await obey({"share": self.share, "lag": self.lag, "swap": self.swap})
        await self._guest.close()

    async def share(self, width: int, height: int, rate: float, format: str) -> None:
        """Join, and send a picture with noise in it."""
        track = ColourTrack(RED, size=(width, height), rate=rate, format=format, noise=True)
        self._guest.share("stream", track)
        await self._guest.join()

    async def swap(self, red: int, green: int, blue: int) -> bool:
        """Send another picture instead. Returns whether the old one was let go: it is read no longer."""
        old = self._guest.sources[-1]
        new = self._guest.source(ColourTrack((red, green, blue), size=(640, 480)))
        await self._guest.peer.replace_track(old, new)
        await asyncio.sleep(0.3)
        made = old.made
        await asyncio.sleep(0.3)
        return bool(old.made == made)

    async def lag(self, seconds: float) -> dict[str, Any]:
        """For so long: how late the loop is, in ms; cores used; MB held."""
        process = psutil.Process()
        late = []
        before, began = sum(process.cpu_times()[:2]), time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            await asyncio.sleep(TICK)
            late.append((time.perf_counter() - now - TICK) * 1e3)
        used = sum(process.cpu_times()[:2]) - before
        late.sort()
        return {
            "p50": late[len(late) // 2],
            "p99": late[int(len(late) * 0.99)],
            "max": late[-1],
            "cores": used / (time.perf_counter() - began),
            "rss": process.memory_info().rss / 1e6,
        }


async def main() -> None:
    """Be that child."""
    _, side, url = sys.argv
    await Source(side, url).run()


if __name__ == "__main__":
    asyncio.run(main())
