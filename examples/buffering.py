"""Buffering by hand: what is published while there is no connection waits, and goes out in order after it.

    python -m examples.buffering sensor-42 --url ws://127.0.0.1:8787 --key pk_live_demo

`SignallingClient(outbox=Outbox())` with `enqueue` does all of this and more, and `examples.device` shows it. This is
how little it takes where that is not wanted: with a buffer of one's own kind, or with another client of the service.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import time
from collections import deque
from contextlib import suppress
from typing import Any

import anyio

from metered_anyio import (
    Connected,
    OversizedPayloadError,
    ReconnectOptions,
    ServerRequestError,
    SignallingClient,
    SignallingError,
)


class Buffer:
    """Messages on their way, in order. Over `limit`, the oldest goes.

    A message whose acknowledgement never came is published again: it arrives at least once, and its `messageId` tells
    whoever listens that it has come before.
    """

    def __init__(self, client: SignallingClient, limit: int = 10_000) -> None:
        self._client = client
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=limit)
        self._flushing = False
        self._boot, self._count = time.time_ns() // 1_000_000, itertools.count(1)
        client.on(Connected, self._on_connected)

    def __len__(self) -> int:
        return len(self._waiting)

    async def publish(self, channel: str, data: dict[str, Any]) -> None:
        """Publish now or, failing that, as soon as there is a connection again."""
        self._waiting.append((channel, {"messageId": f"{self._boot}-{next(self._count)}", **data}))
        await self.flush()

    async def flush(self) -> None:
        """Publish what waits, until nothing is left or the connection is gone."""
        if self._flushing:  # whoever does it takes the rest along
            return
        self._flushing = True
        try:
            while self._waiting and self._client.state == "connected":
                message = self._waiting[0]
                try:
                    await self._client.publish(*message)
                except (OversizedPayloadError, ServerRequestError) as error:
                    print(f"nobody will take this: {error}", flush=True)  # and it must not hold up the others
                except SignallingError:
                    return
                if self._waiting and self._waiting[0] is message:  # or it was the oldest, and had to go
                    self._waiting.popleft()
        finally:
            self._flushing = False

    async def _on_connected(self, event: Connected) -> None:
        if event.is_reconnect:
            print(f"connected again, {len(self)} messages waited", flush=True)
        await self.flush()


async def run(name: str, url: str, key: str, interval: float) -> None:
    """Publish the load of this machine, for as long as this runs."""
    reconnect = ReconnectOptions(max_attempts=math.inf, max_delay=60.0)
    async with SignallingClient(api_key=key, url=url, reconnect=reconnect) as client:
        buffer = Buffer(client)
        print(f"{name} is {client.peer_id}", flush=True)
        while True:
            await buffer.publish(f"fleet/{name}/telemetry", {"load": os.getloadavg()[0]})
            await anyio.sleep(interval)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two readings")
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    with suppress(KeyboardInterrupt):
        anyio.run(run, args.name, args.url, args.key, args.interval)


if __name__ == "__main__":
    main()
