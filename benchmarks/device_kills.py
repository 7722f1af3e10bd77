"""A device that publishes through a file outbox, killed again and again: is a reading lost, is a repeat unmarked?

    python -m benchmarks.device_kills --kills 1000

Here everything is real: a relay, a backend that subscribes, and a device that is a process of its own with a
`SignallingClient`, on asyncio and on trio in turn. Each life of it enqueues numbered readings, notes each number in a
file of its own once `enqueue` has returned, closes its client and opens another one now and then, and is killed
(SIGKILL) at a random moment. The last life may finish. Then what the backend got is held against the notes. Exit code
1 if anything was lost, came in the wrong order, or came twice unmarked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.to_thread
import msgspec
import trio  # noqa: F401 - so that no life has to load it

from benchmarks.outbox_kills import CHANNELS, judge
from metered_anyio import BatchOptions, Message, Outbox, ReconnectOptions, SignallingClient
from metered_anyio.relay import Limits, RelayServer

KEY = "pk_live_kills"
OUTBOX = "outbox.db"
ACCEPTED = "accepted"
ARRIVED = "relay"


# --- the device -------------------------------------------------------------------------------------------------


class Device:
    """One life."""

    def __init__(self, directory: Path, url: str, life: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.url = url
        batch = BatchOptions(max_messages=5, max_delay=0.002) if life // 2 % 2 else None
        self.outbox = Outbox(path=directory / OUTBOX, max_messages=1_000_000, rate=None, window=8, batch=batch)
        self.accepted = open(directory / ACCEPTED, "ab", buffering=0)  # noqa: SIM115 - it ends with the process
        self.number = life * 1_000_000

    def client(self) -> SignallingClient:
        reconnect = ReconnectOptions(initial_delay=0.01, max_delay=0.05, retry_first=True)
        return SignallingClient(api_key=KEY, url=self.url, outbox=self.outbox, reconnect=reconnect)

    async def live(self) -> None:
        """Until the kill."""
        while True:
            client = self.client()
            async with anyio.create_task_group() as group:
                group.start_soon(client.connect)
                for _ in range(self.random.randrange(5, 60)):
                    self.enqueue(client)
                    if self.random.random() < 0.4:
                        await anyio.sleep(self.random.uniform(0, 0.004))
            await client.close()

    async def finish(self) -> None:
        """Until nothing is left."""
        async with self.client() as client:
            await client.flush()

    def enqueue(self, client: SignallingClient) -> None:
        self.number += 1
        client.enqueue(CHANNELS[self.random.random() < 0.2], {"n": self.number})
        self.accepted.write(b"%d\n" % self.number)


def one_life(directory: Path, url: str, life: int, seed: int, seconds: float | None) -> None:
    """Fork a device, and kill it after so many seconds; None lets it finish."""
    child = os.fork()
    if not child:
        code = 1
        try:
            device = Device(directory, url, life, seed)
            anyio.run(device.finish if seconds is None else device.live, backend=("asyncio", "trio")[life % 2])
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    expected = 0 if seconds is None else -signal.SIGKILL
    if os.waitstatus_to_exitcode(status) != expected:
        raise SystemExit(f"life {life} ended by itself: {status}")


def all_lives(directory: Path, url: str, kills: int, seed: int, longest: float) -> None:
    """One life after the other."""
    moments = random.Random(seed)
    for life in range(kills):
        one_life(directory, url, life, seed + life, moments.uniform(0, longest))
    one_life(directory, url, kills, seed + kills, None)


# --- the other end ----------------------------------------------------------------------------------------------


async def listen(arrived: BinaryIO, devices: int, url_to: int) -> int:
    """Be the relay and the backend until the process that runs the devices has ended; returns its exit code.

    What arrives is written down as `outbox_kills.judge` reads it.
    """
    limits = Limits(connects_per_minute=None, message_rate=None)
    async with RelayServer(keys=[KEY], limits=limits) as relay:
        backend = SignallingClient(api_key=KEY, url=relay.url)
        over = anyio.Event()

        @backend.on(Message)
        def on_message(message: Message) -> None:
            if message.channel == "over":
                over.set()
            else:
                arrived.write(msgspec.json.encode({"channel": message.channel, "data": message.data}) + b"\n")

        async with backend:
            for channel in (*CHANNELS, "over"):
                await backend.subscribe(channel)
            os.write(url_to, relay.url.encode())
            os.close(url_to)
            _, status = await anyio.to_thread.run_sync(os.waitpid, devices, 0)
            await relay.publish("over", None)
            await over.wait()
    return os.waitstatus_to_exitcode(status)


def run(directory: Path, kills: int, seed: int, longest: float) -> int:
    """Fork what runs the devices, before there is any event loop, and listen to them; returns an exit code."""
    url_from, url_to = os.pipe()
    devices = os.fork()
    if not devices:
        code = 1
        try:
            os.close(url_to)
            url = os.read(url_from, 1000).decode()
            all_lives(directory, url, kills, seed, longest)
            code = 0
        except SystemExit as end:
            print(end, file=sys.stderr)
        finally:
            os._exit(code)
    os.close(url_from)
    with open(directory / ARRIVED, "wb") as arrived:
        return anyio.run(listen, arrived, devices, url_to)


def main() -> int:
    """Run it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=0.1, help="seconds that a life lasts at most (default 0.1)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if run(directory, arguments.kills, arguments.seed, arguments.longest):
            return 1
        figures: dict[str, Any] = {"kills": arguments.kills, **judge(directory)}
    figures["seconds"] = round(time.monotonic() - began, 1)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for what, value in figures.items():
            print(f"{what.replace('_', ' '):>18}  {value}")
    wrong = ("lost", "delivered_twice", "out_of_order", "gaps", "unmarked_repeats")
    return int(any(figures[what] for what in wrong))


if __name__ == "__main__":
    sys.exit(main())
