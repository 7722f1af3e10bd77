"""A program on a signalling client, ours or the published one; the same code drives both.

    python -m benchmarks.roles.client asyncio | uvloop | trio | pure | recorded | published URL

It ends when its stdin does.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import anyio

from benchmarks.children import obey
from benchmarks.workload import KEY, PAYLOADS

PATIENCE = 30.0
"""Seconds until what should arrive counts as lost."""


class Program:
    """The commands. Costs are `{"cpu": seconds of this process, "wall": seconds}`."""

    def __init__(self, sdk: Any, url: str) -> None:
        self._sdk = sdk
        self._client = sdk.SignallingClient(api_key=KEY, url=url)
        self._url = url
        self._arrived: Counter | None = None

    async def run(self) -> None:
        await self._client.connect()
        commands = ("publish", "expect", "arrived", "deliver", "storm", "pace", "paced", "watch", "watched")
        await obey({name: getattr(self, name) for name in commands})
        await self._client.close()

    async def publish(self, channel: str, payload: str, count: int, in_flight: int) -> Any:
        """Publish so many, acknowledged, so many at a time."""
        cost = Cost()
        await self._publish(channel, payload, count, in_flight)
        return cost.so_far()

    async def _publish(self, channel: str, payload: str, count: int, in_flight: int) -> None:
        publish, data = self._client.publish, PAYLOADS[payload]
        left = count

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await publish(channel, data)

        if in_flight == 1:
            await worker()
        else:
            async with anyio.create_task_group() as group:
                for _ in range(in_flight):
                    group.start_soon(worker)

    async def expect(self, channel: str, count: int) -> None:
        """Begin to count what arrives, and what it costs."""
        if self._arrived is None:
            await self._client.subscribe(channel)
        else:
            self._client.off(self._sdk.Message, self._arrived.note)
        self._arrived = Counter(count)
        self._client.on(self._sdk.Message, self._arrived.note)

    async def arrived(self) -> Any:
        """Wait until all that is expected has arrived."""
        assert self._arrived is not None
        return await self._arrived.wait()

    async def deliver(self, channel: str, payload: str, count: int, in_flight: int) -> Any:
        """Publish here, with a subscriber in the same process, until all has arrived there."""
        async with self._sdk.SignallingClient(api_key=KEY, url=self._url) as subscriber:
            await subscriber.subscribe(channel)
            counter = Counter(count)
            subscriber.on(self._sdk.Message, counter.note)
            await self._publish(channel, payload, count, in_flight)
            return await counter.wait()

    async def storm(self, count: int) -> Any:
        """So many clients connect at once."""
        clients = [self._sdk.SignallingClient(api_key=KEY, url=self._url) for _ in range(count)]
        failures = 0

        async def connect(client: Any) -> None:
            nonlocal failures
            try:
                await client.connect()
            except Exception:
                failures += 1

        cost = Cost()
        async with anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(connect, client)
        spent = cost.so_far()
        async with anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(client.close)
        return {**spent, "failures": failures}

    async def pace(self, channel: str, payload: str, rate: float, seconds: float) -> int:
        """Publish at an even rate, acknowledged; returns how many."""
        start, sent = anyio.current_time(), 0
        async with anyio.create_task_group() as group:
            while (passed := anyio.current_time() - start) < seconds:
                for _ in range(round(passed * rate) - sent):
                    group.start_soon(self._client.publish, channel, PAYLOADS[payload])
                    sent += 1
                await anyio.sleep(0.01)
        return sent

    async def paced(self, channel: str, payload: str, rate: float, seconds: float) -> Any:
        """As `pace`, and what it costs; with the `count`."""
        cost = Cost()
        count = await self.pace(channel, payload, rate, seconds)
        return {**cost.so_far(), "count": count}

    async def watch(self, channel: str) -> None:
        """Begin to check a channel on which every sender numbers its messages from 0: `{"n": …}`."""
        self._next: dict[str, int] = {}
        self._out_of_turn = 0
        self._client.on(self._sdk.Message, self._check)
        await self._client.subscribe(channel)

    def _check(self, message: Any) -> None:
        sender, number = message.sender_peer_id, message.data["n"]
        self._out_of_turn += number != self._next.get(sender, 0)
        self._next[sender] = number + 1

    async def watched(self) -> Any:
        """How many came, of how many senders, and how many were not the next of their sender's."""
        arrived = sum(self._next.values())
        return {"arrived": arrived, "senders": len(self._next), "out_of_turn": self._out_of_turn}


class Cost:
    """What this process spends from the moment that this is made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def so_far(self) -> dict[str, float]:
        return {"cpu": time.process_time() - self._cpu, "wall": time.perf_counter() - self._wall}


class Counter:
    """Counts messages up to a number, from the moment it is made."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._done = anyio.Event()
        self._cost = Cost()
        self._spent: dict[str, float] = {}

    def note(self, message: object) -> None:
        self._left -= 1
        if not self._left:
            self._spent = self._cost.so_far()
            self._done.set()

    async def wait(self) -> Any:
        with anyio.move_on_after(PATIENCE):
            await self._done.wait()
        if self._left:
            raise AssertionError(f"{self._left} messages are missing")
        return self._spent


RUN: dict[str, Callable[[Any], object]] = {
    "asyncio": lambda main: anyio.run(main),
    "uvloop": lambda main: anyio.run(main, backend_options={"use_uvloop": True}),
    "trio": lambda main: anyio.run(main, backend="trio"),
    "pure": lambda main: anyio.run(main),
    "recorded": lambda main: anyio.run(main),
    "published": lambda main: anyio.run(main),
}

if __name__ == "__main__":
    who, url = sys.argv[1:]
    if who == "pure":
        sys.modules["websockets.speedups"] = None  # type: ignore[assignment]
    if who == "recorded":
        os.environ["METERED_RECORD"] = tempfile.mkdtemp()
    sdk = importlib.import_module("metered_realtime" if who == "published" else "metered_anyio")

    async def main() -> None:
        await Program(sdk, url).run()

    RUN[who](main)
    if who == "recorded":
        shutil.rmtree(os.environ["METERED_RECORD"])
