"""The backend: listens to the whole fleet on one connection, says what it misses, and gives commands."""

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
from metered_anyio import (
    Connected,
    Gap,
    Message,
    ReconnectOptions,
    RequestFailedError,
    RequestReceived,
    SignallingClient,
    SignallingError,
)

_TELEMETRY = re.compile(r"fleet/([^/]+)/telemetry")

HELLO_EVERY = 1.0
"""Seconds."""

ANSWERS_A_SECOND = 50
"""Each hello makes every device ask. The relay takes 100 messages a second from one connection."""

ASK_AGAIN = 2.0
"""Seconds after which a command without an answer is given again."""


class Backend:
    """What is known of each device is in `devices`, by name."""

    def __init__(self, url: str, key: str) -> None:
        self.devices: defaultdict[str, Deliveries] = defaultdict(Deliveries)
        self.nonsense = 0
        self.reconnects = 0
        self._newcomer = anyio.Event()
        self.client = SignallingClient(
            api_key=key,
            url=url,
            reconnect=ReconnectOptions(max_attempts=math.inf, initial_delay=0.25, max_delay=1.0),
            deduplicate=True,
        )
        self.client.on(Connected, self._on_connected)
        self.client.on(Message, self._on_message)
        self.client.on(Gap, self._on_gap)
        self.client.respond(self._missing)

    async def __aenter__(self) -> Self:
        await self.client.connect()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, traceback)

    async def listen(self) -> None:
        """Listen to the fleet; returns once the relay confirms that we do, which after an outage it has to anew."""
        while True:
            try:
                return await self.client.subscribe("fleet/*/telemetry")
            except SignallingError:
                await anyio.sleep(0.1)

    async def heard_of(self, count: int) -> None:
        """Wait until so many devices have sent something."""
        while len(self.devices) < count:
            await self._newcomer.wait()

    async def say_hello(self) -> None:
        """Tell the devices, for as long as this runs, that we are there to be asked what we miss."""
        while True:
            with suppress(SignallingError):
                await self.client.publish("fleet/backend/hello", None)
            await anyio.sleep(max(HELLO_EVERY, len(self.devices) / ANSWERS_A_SECOND))

    async def command(self, name: str, what: str) -> float:
        """Give one device a command, again and again until it answers; returns the seconds it took."""
        begun = time.monotonic()
        while True:
            try:
                await self.client.request(self.devices[name].peer_id, {"type": what}, timeout=ASK_AGAIN)
            except SignallingError:
                await anyio.sleep(0.1)
            else:
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

    def _on_gap(self, event: Gap) -> None:
        if match := _TELEMETRY.fullmatch(event.channel):
            self.devices[match[1]].missed += event.missed

    def _missing(self, question: RequestReceived) -> list[int]:
        match question.data:
            case {"device": str(name), "have": [*have]} if all(isinstance(at, int) for at in have):
                return self.devices.get(name, Deliveries()).missing(have)
        raise RequestFailedError("nonsense", "a device, and what it has")
