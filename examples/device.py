"""A device in the field: publishes readings, obeys commands, and loses nothing while its network is away.

    python -m examples.device sensor-42 --url ws://127.0.0.1:8787 --key pk_live_demo

`examples.dashboard` is its counterpart. With `--outbox FILE`, readings survive the device's own end, too. What is
published while nobody listens is gone; `examples.demo` shows what to do where that matters.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from typing import Any

import anyio

from metered_anyio import (
    BatchOptions,
    Connected,
    Direct,
    Message,
    Outbox,
    ReconnectOptions,
    SignallingClient,
)

DAEMON = ReconnectOptions(
    max_attempts=math.inf,  # nobody is there to restart it after a long outage
    max_delay=60.0,  # and nobody's server needs to be asked more often than that
    retry_first=True,  # it may boot before its network does
)


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


async def run(name: str, url: str, key: str, interval: float, batch: int, path: str | None) -> None:
    """Be the device, until it is told to reboot."""
    device = Device(interval)
    batching = None if batch == 1 else BatchOptions(max_messages=batch, max_delay=2 * batch * interval)
    client = SignallingClient(api_key=key, url=url, reconnect=DAEMON, outbox=Outbox(path=path, batch=batching))

    @client.on(Message)
    def command_came(event: Message) -> None:
        if event.channel == f"fleet/{name}/cmd":
            device.obey(event.data)

    @client.on(Direct)
    def confirmed(event: Direct) -> None:
        print(f"{event.sender_peer_id} says {event.data}", flush=True)

    @client.on(Connected)
    def back_again(event: Connected) -> None:
        outbox = client.stats().outbox
        if event.is_reconnect and outbox is not None:
            print(f"connected again, {outbox.messages} readings waited", flush=True)

    async with client:
        await client.subscribe(f"fleet/{name}/cmd")
        print(f"{name} is {client.peer_id}", flush=True)
        while not device.rebooting.is_set():
            client.enqueue(f"fleet/{name}/telemetry", device.read())
            with anyio.move_on_after(device.interval):
                await device.rebooting.wait()
        print("rebooting", flush=True)
        await client.flush(timeout=5)


def main() -> None:
    """Run one device as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two readings")
    parser.add_argument("--batch", type=int, default=1, help="readings in one message: cheaper, and later")
    parser.add_argument("--outbox", help="the file in which readings wait; without one they wait in memory")
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    anyio.run(run, args.name, args.url, args.key, args.interval, args.batch, args.outbox)


if __name__ == "__main__":
    main()
