"""A device in the field: publishes readings, obeys commands, and loses nothing while its network is away.

    python -m examples.device sensor-42 --url ws://127.0.0.1:8787 --key pk_live_demo

`examples.dashboard` is its counterpart. What is published while nobody listens is gone; `examples.demo` shows what to
do where that matters.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from collections import deque
from typing import Any

import anyio

from metered_anyio import (
    Connected,
    Direct,
    Message,
    OversizedPayloadError,
    ReconnectOptions,
    SignallingClient,
    SignallingError,
)

DAEMON = ReconnectOptions(
    max_attempts=math.inf,  # nobody is there to restart it after a long outage
    max_delay=60.0,  # and nobody's server needs to be asked more often than that
    retry_first=True,  # it may boot before its network does
)


class Outbox:
    """Batches of readings on their way to one channel, in order. While there is no connection they wait here.

    At most `limit` batches wait; then the oldest goes. A batch whose acknowledgement never came is published again:
    it arrives at least once, and its `id` tells whoever listens that it has come before.
    """

    def __init__(self, client: SignallingClient, channel: str, limit: int = 10_000) -> None:
        self._client = client
        self._channel = channel
        self._waiting: deque[dict[str, Any]] = deque(maxlen=limit)
        self._flushing = False
        self._boot, self._count = int(time.time()), 0

    def __len__(self) -> int:
        return len(self._waiting)

    async def publish(self, readings: list[dict[str, Any]]) -> None:
        """Publish now or, failing that, as soon as `flush` finds a connection again. Never raises."""
        self._waiting.append(self._batch(readings))
        await self.flush()

    async def flush(self) -> None:
        """Publish what waits, until nothing is left or it fails."""
        if self._flushing:  # whoever does it takes the rest along
            return
        self._flushing = True
        try:
            while self._waiting and self._client.state == "connected":
                batch = self._waiting[0]
                try:
                    await self._client.publish(self._channel, batch)
                except OversizedPayloadError:
                    self._waiting.popleft()
                    self._split(batch["readings"])
                except SignallingError:
                    return
                else:
                    if self._waiting[0] is batch:  # or it was the oldest, and had to go
                        self._waiting.popleft()
        finally:
            self._flushing = False

    def _split(self, readings: list[dict[str, Any]]) -> None:
        if (half := len(readings) // 2) == 0:
            return  # one reading that no server takes: nothing will make it smaller
        self._waiting.appendleft(self._batch(readings[half:]))
        self._waiting.appendleft(self._batch(readings[:half]))

    def _batch(self, readings: list[dict[str, Any]]) -> dict[str, Any]:
        self._count += 1
        return {"id": f"{self._boot}-{self._count}", "readings": readings}


class Device:
    """What the device does, and what it can be told to do."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.rebooting = anyio.Event()

    def read(self) -> dict[str, Any]:
        """One reading of this machine: unix milliseconds, the load, and the free space in bytes."""
        return {"at": time.time_ns() // 1_000_000, "load": os.getloadavg()[0], "free": shutil.disk_usage("/").free}

    def obey(self, command: Any) -> None:
        """Anybody who may publish to our channel can command us, so nothing is taken on trust."""
        match command:
            case {"type": "interval", "seconds": int() | float() as seconds} if 0.01 <= seconds <= 3600:
                self.interval = seconds
                print(f"a reading every {seconds:g} s from now on", flush=True)
            case {"type": "reboot"}:
                self.rebooting.set()
            case _:
                print("a command that I do not know", flush=True)


async def run(name: str, url: str, key: str, interval: float, batch: int) -> None:
    """Be the device, until it is told to reboot."""
    device = Device(interval)
    client = SignallingClient(api_key=key, url=url, reconnect=DAEMON)
    outbox = Outbox(client, f"fleet/{name}/telemetry")

    @client.on(Message)
    def command_came(event: Message) -> None:
        if event.channel == f"fleet/{name}/cmd":
            device.obey(event.data)

    @client.on(Direct)
    def confirmed(event: Direct) -> None:
        print(f"{event.sender_peer_id} says {event.data}", flush=True)

    @client.on(Connected)
    async def back_again(event: Connected) -> None:
        if event.is_reconnect:
            print(f"connected again, {len(outbox)} batches waited", flush=True)
            await outbox.flush()

    async with client:
        await client.subscribe(f"fleet/{name}/cmd")
        print(f"{name} is {client.peer_id}", flush=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_publish_readings, device, outbox, batch)
            await device.rebooting.wait()
            tasks.cancel_scope.cancel()
        print("rebooting", flush=True)


async def _publish_readings(device: Device, outbox: Outbox, batch: int) -> None:
    while True:
        readings = []
        for _ in range(batch):
            readings.append(device.read())
            await anyio.sleep(device.interval)
        await outbox.publish(readings)


def main() -> None:
    """Run one device as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two readings")
    parser.add_argument("--batch", type=int, default=1, help="readings in one message: cheaper, and later")
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    anyio.run(run, args.name, args.url, args.key, args.interval, args.batch)


if __name__ == "__main__":
    main()
