"""The backend: listens to the whole fleet on one connection, confirms what came, and gives commands."""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio

from examples.demo.deliveries import Deliveries
from metered_anyio import Connected, Direct, Message, ReconnectOptions, SignallingClient, SignallingError

_TELEMETRY = re.compile(r"fleet/([^/]+)/telemetry")

CONFIRM_EVERY = 0.5
"""Seconds. Confirmations are collected meanwhile: one message a device, however many readings came."""

CONFIRMATIONS_A_SECOND = 50
"""For all devices together. The relay takes 100 messages a second from one connection."""

ASK_AGAIN = 2.0
"""Seconds after which a command without an answer is given again."""


class Backend:
    """What is known of each device is in `devices`, by name."""

    def __init__(self, url: str, key: str) -> None:
        self.devices: defaultdict[str, Deliveries] = defaultdict(Deliveries)
        self.nonsense = 0
        self.reconnects = 0
        self._newcomer = anyio.Event()
        self._commands = 0
        self._answers: dict[int, anyio.Event] = {}
        self.client = SignallingClient(
            api_key=key,
            url=url,
            reconnect=ReconnectOptions(max_attempts=math.inf, initial_delay=0.25, max_delay=1.0),
        )
        self.client.on(Connected, self._on_connected)
        self.client.on(Message, self._on_message)
        self.client.on(Direct, self._on_direct)

    async def __aenter__(self) -> Self:
        await self.client.connect()
        await self.client.subscribe("fleet/*/telemetry")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, traceback)

    async def heard_of(self, count: int) -> None:
        """Wait until so many devices have sent something."""
        while len(self.devices) < count:
            await self._newcomer.wait()

    async def confirm(self) -> None:
        """Confirm what comes, to the device it came from, for as long as this runs."""
        while True:
            for device in list(self.devices.values()):
                if not (seqs := device.confirmations()):
                    continue
                with suppress(SignallingError):  # it will send those readings again, and then they are confirmed
                    await self.client.send(device.peer_id, {"type": "ack", "seqs": seqs})
            await anyio.sleep(max(CONFIRM_EVERY, len(self.devices) / CONFIRMATIONS_A_SECOND))

    async def command(self, name: str, what: str) -> float:
        """Give one device a command, again and again until it answers; returns the seconds it took.

        The number tells the device that it is the same command.
        """
        self._commands += 1
        answered = self._answers[self._commands] = anyio.Event()
        begun = time.monotonic()
        command = {"type": what, "id": self._commands}
        while not answered.is_set():
            with anyio.move_on_after(ASK_AGAIN):
                try:
                    await self.client.publish(f"fleet/{name}/cmd", command)
                    await answered.wait()
                except SignallingError:
                    await anyio.sleep(0.1)
        return time.monotonic() - begun

    def _on_connected(self, event: Connected) -> None:
        self.reconnects += event.is_reconnect

    def _on_message(self, event: Message) -> None:
        if match := _TELEMETRY.fullmatch(event.channel):
            if match[1] not in self.devices:
                self._newcomer.set()
                self._newcomer = anyio.Event()
            understood = self.devices[match[1]].take(event.sender_peer_id, event.data, time.monotonic())
            self.nonsense += not understood

    def _on_direct(self, event: Direct) -> None:
        match event.data:
            case {"type": "done", "id": int(number)} if number in self._answers:
                self._answers[number].set()
