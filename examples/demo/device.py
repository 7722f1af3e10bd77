"""One device: takes readings of its host, and sees to it that the backend gets every one of them.

    python -m examples.demo.device sensor-1 ws://127.0.0.1:8787 pk_live_demo --outbox sensor-1.db

It runs until its standard input ends (so it also ends with whoever started it), then takes no more readings, hands
over what it still has, and prints a report as a line of JSON; so it does with each reading that is in its outbox.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from contextlib import suppress
from typing import Any

import anyio

from examples.demo.readings import Host
from metered_anyio import (
    Connected,
    Message,
    Outbox,
    Receipt,
    ReconnectOptions,
    RequestFailedError,
    RequestReceived,
    SignallingClient,
    SignallingError,
)

MOST_KEPT = 10_000
"""Readings that wait for the relay, and readings that wait for the backend's word. Over it, the oldest goes."""

MOST_ASKED = 1000
"""Readings in one question to the backend."""


class Device:
    """One device and its connection. With a path for its `outbox`, what is in there survives the process."""

    def __init__(
        self, name: str, url: str, key: str, *, interval: float, outbox: str | None = None, forget: int | None = None
    ) -> None:
        self.name = name
        self._host = Host()
        self._interval = interval
        self._forget = forget
        self._taken = self._reconnects = self._sent_again = 0
        self._unconfirmed: dict[int, tuple[dict[str, Any], Receipt]] = {}  # by the time of the reading
        self._confirmed = anyio.Event()  # some have just gone from there
        self.client = SignallingClient(
            api_key=key,
            url=url,
            outbox=Outbox(max_messages=MOST_KEPT, path=outbox),
            # A device in the field never gives up, not even if it boots before its network does. (There, a
            # max_delay of a minute is kinder to the server; here, people are watching.)
            reconnect=ReconnectOptions(max_attempts=math.inf, retry_first=True, initial_delay=0.25, max_delay=1.0),
        )
        self._restored = self._fullest = self._waiting()
        self.client.on(Connected, self._on_connected)
        self.client.on(Message, self._on_hello)
        self.client.respond(self._obey)

    async def run(self, patience: float) -> None:
        """Work until standard input ends, then hand over the rest, but for no longer than `patience` seconds."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._get_online)
                with anyio.CancelScope() as working:
                    tasks.start_soon(_cancel_at_end_of_input, working)
                    await self._take_readings()
                with anyio.move_on_after(patience):
                    await self.client.flush()
                    while self._unconfirmed:
                        await self._confirmed.wait()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self.client.close()

    def report(self) -> dict[str, Any]:
        """What there is to say at the end."""
        return {
            "unconfirmed": len(self._unconfirmed),
            "restored": self._restored,
            "fullest": self._fullest,
            "sent_again": self._sent_again,
            "reconnects": self._reconnects,
        }

    # --- readings ---

    async def _take_readings(self) -> None:
        # From the first moment on, and whether there is a connection or not.
        while True:
            self._taken += 1
            reading = self._host.read()
            if self._taken != self._forget:
                self._enqueue(reading)
            say({"taken": reading["at"]})
            await anyio.sleep(self._interval)

    def _enqueue(self, reading: dict[str, Any]) -> None:
        at = reading["at"]
        receipt = self.client.enqueue(f"fleet/{self.name}/telemetry", reading, message_id=str(at))
        self._unconfirmed[at] = reading, receipt
        if len(self._unconfirmed) > MOST_KEPT:
            del self._unconfirmed[next(iter(self._unconfirmed))]
        self._fullest = max(self._fullest, self._waiting())

    def _waiting(self) -> int:
        outbox = self.client.stats().outbox
        assert outbox is not None  # it was made with one
        return outbox.messages

    async def _on_hello(self, event: Message) -> None:
        """The backend is there. Which of the readings that have left the outbox does it miss?"""
        left = [at for at, (_, receipt) in self._unconfirmed.items() if receipt.done()][:MOST_ASKED]
        if not left:
            return
        try:
            missing = await self.client.request(event.sender_peer_id, {"device": self.name, "have": left}, timeout=2.0)
        except SignallingError:
            return  # it will say hello again
        if not isinstance(missing, list):
            return  # whoever that was, it is not the backend
        for at in left:
            known = self._unconfirmed.pop(at, None)
            if known is not None and at in missing:
                self._enqueue(known[0])
                self._sent_again += 1
        self._confirmed.set()
        self._confirmed = anyio.Event()

    # --- the connection, and commands ---

    async def _get_online(self) -> None:
        await self.client.connect()
        while True:
            try:
                # A pattern, because a channel would tell every device of all the others that come and go.
                return await self.client.subscribe("fleet/*/hello")
            except SignallingError:
                await anyio.sleep(0.1)

    def _on_connected(self, event: Connected) -> None:
        self._reconnects += event.is_reconnect

    def _obey(self, question: RequestReceived) -> dict[str, Any]:
        match question.data:
            case {"type": "describe"}:
                return {"device": self.name, "taken": self._taken}
        raise RequestFailedError("unknown_command", "a command that I do not know")


def say(what: dict[str, Any]) -> None:
    """Print a line of JSON, at once and in one piece."""
    with suppress(BrokenPipeError):  # who started us may be gone
        os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


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
    parser.add_argument("--outbox", help="the file of the outbox; without one it is in memory")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to hand over what is left at the end")
    parser.add_argument("--forget", type=int, help="lose the reading of this number, to see whether anybody notices")
    args = parser.parse_args()
    device = Device(args.name, args.url, args.key, interval=args.interval, outbox=args.outbox, forget=args.forget)
    await device.run(args.patience)
    say({"report": device.report()})


if __name__ == "__main__":
    anyio.run(main)
