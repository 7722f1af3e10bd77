"""One device: takes readings of its host, and sees to it that the backend gets every one of them.

    python -m examples.demo.device sensor-1 ws://127.0.0.1:8787 pk_live_demo

It runs until its standard input ends (so it also ends with whoever started it), then takes no more readings, hands
over what it still has, and prints a report as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from contextlib import suppress
from typing import Any

import anyio

from examples.demo.buffer import Buffer
from examples.demo.readings import Host
from metered_anyio import Connected, Direct, Message, ReconnectOptions, SignallingClient, SignallingError

A_MESSAGE = 100
"""Readings in one message: after a long outage a backlog goes out in a few messages, not in hundreds."""


class Device:
    """One device and its connection."""

    def __init__(self, name: str, url: str, key: str, *, interval: float, forget: int | None = None) -> None:
        self.name = name
        self.buffer = Buffer()
        self._host = Host()
        self.taken = self.reconnects = 0
        self._interval = interval
        self._forget = forget
        self._news = anyio.Event()  # there may be something to send
        self._confirmed = anyio.Event()  # the buffer has become shorter
        self.client = SignallingClient(
            api_key=key,
            url=url,
            # A device in the field never gives up, not even if it boots before its network does. (There, a
            # max_delay of a minute is kinder to the server; here, people are watching.)
            reconnect=ReconnectOptions(max_attempts=math.inf, retry_first=True, initial_delay=0.25, max_delay=1.0),
        )
        self.client.on(Connected, self._on_connected)
        self.client.on(Direct, self._on_direct)
        self.client.on(Message, self._on_command)

    async def run(self, patience: float) -> None:
        """Work until standard input ends, then hand over the rest, but for no longer than `patience` seconds."""
        async with self.client, anyio.create_task_group() as tasks:
            tasks.start_soon(self._deliver)
            with anyio.CancelScope() as working:
                tasks.start_soon(_cancel_at_end_of_input, working)
                await self._listen_for_commands()
                await self._take_readings()
            with anyio.move_on_after(patience):
                while self.buffer:
                    await self._confirmed.wait()
            tasks.cancel_scope.cancel()

    def report(self) -> dict[str, Any]:
        """What there is to say at the end."""
        return {
            "device": self.name,
            "taken": self.taken,
            "unconfirmed": len(self.buffer),
            "discarded": self.buffer.discarded,
            "fullest": self.buffer.fullest,
            "reconnects": self.reconnects,
        }

    # --- out: readings ---

    async def _take_readings(self) -> None:
        while True:
            self.taken += 1
            if self.taken != self._forget:
                self.buffer.add(self.taken, self._host.read())
                self._news.set()
            await anyio.sleep(self._interval)

    async def _deliver(self) -> None:
        while True:
            batch = self.buffer.due(time.monotonic(), A_MESSAGE)
            if not batch or self.client.state != "connected":
                self._news = anyio.Event()
                with anyio.move_on_after(self._interval):
                    await self._news.wait()
                continue
            try:
                await self.client.publish(f"fleet/{self.name}/telemetry", {"readings": batch})
            except SignallingError:
                await anyio.sleep(0.1)  # whether it arrived is not known; it stays due
            else:
                self.buffer.sent(batch, time.monotonic())

    def _on_connected(self, event: Connected) -> None:
        self.reconnects += event.is_reconnect
        self.buffer.connection_lost()
        self._news.set()

    # --- in: confirmations and commands ---

    def _on_direct(self, event: Direct) -> None:
        match event.data:
            case {"type": "ack", "seqs": [*seqs]}:
                self.buffer.confirm(seq for seq in seqs if isinstance(seq, int))
                self._confirmed.set()
                self._confirmed = anyio.Event()

    async def _listen_for_commands(self) -> None:
        while True:
            try:
                return await self.client.subscribe(f"fleet/{self.name}/cmd")
            except SignallingError:
                await anyio.sleep(0.1)

    async def _on_command(self, event: Message) -> None:
        match event.data:
            case {"type": "describe", "id": int(number)}:
                # An answer is for the one who asked, so it goes to the sender that the relay names.
                answer = {"type": "done", "id": number, "device": self.name, "taken": self.taken}
                with suppress(SignallingError):  # who does not get an answer asks again
                    await self.client.send(event.sender_peer_id, answer)


async def _cancel_at_end_of_input(scope: anyio.CancelScope) -> None:
    # Nothing is ever written to it: it becomes readable when it ends.
    await anyio.wait_readable(sys.stdin.fileno())
    scope.cancel()


async def main() -> None:
    """Run one device as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between two readings")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to hand over what is left at the end")
    parser.add_argument("--forget", type=int, help="lose the reading of this number, to see whether anybody notices")
    args = parser.parse_args()
    device = Device(args.name, args.url, args.key, interval=args.interval, forget=args.forget)
    await device.run(args.patience)
    with suppress(BrokenPipeError):  # who started it may be gone
        os.write(sys.stdout.fileno(), json.dumps(device.report()).encode() + b"\n")


if __name__ == "__main__":
    anyio.run(main)
