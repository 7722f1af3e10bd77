"""What `metered bench` does to a relay: messages from publishers to subscribers, or many connections at once.

Both ends of every message are in this process, so one clock tells how long it took.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import anyio
import msgspec

from metered_anyio.cli.common import Failure
from metered_anyio.cli.pacing import Pacer
from metered_anyio.cli.screen import without_secrets
from metered_anyio.cli.tasks import all_of, for_each
from metered_anyio.cli.timings import Timings
from metered_anyio.signalling_client import SignallingClient
from metered_proto.errors import DisconnectedError, SignallingConnectError
from metered_proto.events import Disconnected, Message
from metered_proto.wire.close_codes import WsCloseCode

MIN_SIZE: Final = 48
"""The smallest payload that holds what a delivery has to tell, in bytes."""

CONNECTING: Final = 64
"""Connections made at a time before the measuring begins."""

STRAGGLERS: Final = 5.0
"""Seconds in which the last deliveries may still come."""

REASONS: Final = 20
"""Different ways to fail that are told apart."""

QUANTILES: Final = ("p50", "p90", "p99", "max")

ClientFactory = Callable[[], SignallingClient]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of what. `in_flight` is for each publisher, or for all connections; `rate` for each publisher."""

    clients: int
    in_flight: int
    size: int = 60
    rate: float | None = None
    burst: int = 1
    seconds: float = math.inf
    count: int | None = None
    channel: str = "bench"


class Scenario(ABC):
    """One run. What it counts can be read at any time."""

    started = False
    """Whether there is anything to report."""

    @abstractmethod
    async def run(self) -> None:
        """Do it. Raises `Failure` if anything of it did not work out."""

    @abstractmethod
    def progress(self) -> str:
        """How far it is, in one line."""

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """What was counted and measured."""


class Traffic(Scenario):
    """Every publisher publishes to one channel, all subscribers get all of it."""

    def __init__(self, make_client: ClientFactory, plan: Plan, *, publishers: int, subscribers: int) -> None:
        self._plan = plan
        self._publishers = [make_client() for _ in range(publishers)]
        self._subscribers = [make_client() for _ in range(subscribers)]
        self._doing = "connecting"
        self._published = self._acknowledged = self._delivered = 0
        self._acks, self._deliveries = Timings(), Timings()
        self._began = self._ended = self._heard_last = 0.0
        self._missing = math.inf  # deliveries, once it is known how many there are to be
        self._complete = anyio.Event()
        self._scope = anyio.CancelScope()
        self._closing = False
        self._failure: Failure | None = None

    async def run(self) -> None:
        everybody = self._publishers + self._subscribers
        for client in everybody:
            client.on(Disconnected, self._on_disconnected)
        try:
            with self._scope:
                await for_each(everybody, _connect, at_once=CONNECTING)
                await for_each(self._subscribers, self._subscribe, at_once=CONNECTING)
                await self._publish_all()
                await self._wait_for_stragglers()
        finally:
            self._closing = True
            with anyio.CancelScope(shield=True):
                await for_each(everybody, SignallingClient.close, at_once=len(everybody))
        if self._failure is not None:
            raise self._failure
        if self._missing > 0:
            raise Failure(f"{self._missing} of {self._expected} deliveries did not come")

    @property
    def _expected(self) -> int:
        return self._acknowledged * len(self._subscribers)

    async def _subscribe(self, client: SignallingClient) -> None:
        due = [0] * len(self._publishers)  # the number that comes next, from each
        client.on(Message, lambda event: self._on_message(event, due))
        await client.subscribe(self._plan.channel)

    async def _publish_all(self) -> None:
        self._doing, self.started, self._began = "publishing", True, perf_counter()
        until = anyio.current_time() + self._plan.seconds
        await all_of(
            [work for number in range(len(self._publishers)) for work in self._publisher(number, until)],
        )
        self._ended = perf_counter()

    def _publisher(self, number: int, until: float) -> list[Callable[[], Any]]:
        client, plan, pacer, sent = self._publishers[number], self._plan, Pacer(self._plan.rate, self._plan.burst), 0

        async def work() -> None:
            nonlocal sent
            while await pacer.turn(until) and self._published != plan.count:
                began = perf_counter()
                payload = _payload(number, sent, began - self._began, plan.size)
                self._published += 1
                sent += 1
                try:
                    await client.publish(plan.channel, payload)
                except DisconnectedError as error:
                    raise Failure(_explained(error.code, error.reason)) from None
                self._acks.add(perf_counter() - began)
                self._acknowledged += 1

        return [work] * plan.in_flight

    async def _wait_for_stragglers(self) -> None:
        self._doing = "waiting for the last deliveries"
        self._missing = self._expected - self._delivered
        if self._missing > 0:
            with anyio.move_on_after(STRAGGLERS):
                await self._complete.wait()

    def _on_message(self, event: Message, due: list[int]) -> None:
        match event.data:
            case [int(publisher), int(number), int(sent), str()] if 0 <= publisher < len(due):
                now = perf_counter()
                took = now - self._began - sent / 1e6 if 0 <= sent < 1e15 else -1.0
                if number < due[publisher] or took < 0:
                    return  # a repeat, or somebody else's
                due[publisher] = number + 1
                self._heard_last = now
                self._delivered += 1
                self._deliveries.add(took)
                self._missing -= 1
                if self._missing == 0:
                    self._complete.set()

    def _on_disconnected(self, event: Disconnected) -> None:
        if not self._closing and self._failure is None:
            self._failure = Failure(_explained(event.code, event.reason))
            self._scope.cancel()

    def progress(self) -> str:
        if not self.started:
            ready = sum(client.state == "connected" for client in self._publishers + self._subscribers)
            return f"{self._doing}: {ready} of {len(self._publishers) + len(self._subscribers)}"
        seconds = perf_counter() - self._began
        return (
            f"{self._doing}, {seconds:.1f} s: {self._acknowledged} acknowledged, {self._delivered} delivered, "
            f"{self._acknowledged / seconds:.0f}/s"
        )

    def results(self) -> dict[str, Any]:
        publishing = (self._ended or perf_counter()) - self._began
        delivering = max(self._heard_last - self._began, 0.0)
        return {
            "publishers": len(self._publishers),
            "subscribers": len(self._subscribers),
            "inFlight": self._plan.in_flight,
            "size": self._plan.size,
            "rate": self._plan.rate,
            "seconds": round(publishing, 3),
            "published": self._published,
            "acknowledged": self._acknowledged,
            "acknowledgedPerSecond": _per_second(self._acknowledged, publishing),
            "delivered": self._delivered,
            "expected": self._expected,
            "deliveredPerSecond": _per_second(self._delivered, delivering),
            "ackMs": self._acks.in_ms(*QUANTILES),
            "deliveryMs": self._deliveries.in_ms(*QUANTILES),
        }


class Storm(Scenario):
    """Many connections, as fast as they come, all held until the last one stands."""

    def __init__(self, make_client: ClientFactory, plan: Plan) -> None:
        self._plan = plan
        self._clients = [make_client() for _ in range(plan.clients)]
        self._connects = Timings()
        self._failures: dict[str, int] = {}
        self._began = self._ended = 0.0
        self._held = 0

    async def run(self) -> None:
        self.started, self._began = True, perf_counter()
        try:
            with anyio.move_on_after(self._plan.seconds):
                await for_each(self._clients, self._connect, at_once=self._plan.in_flight)
            self._ended = perf_counter()
            self._held = sum(client.state == "connected" for client in self._clients)
        finally:
            with anyio.CancelScope(shield=True):
                await for_each(self._clients, SignallingClient.close, at_once=self._plan.in_flight)
        if self._held < len(self._clients):
            raise Failure(f"{self._held} of {len(self._clients)} connections stood at the end: {self._troubles()}")

    def _troubles(self) -> str:
        lost = len(self._connects) - self._held
        late = len(self._clients) - len(self._connects) - sum(self._failures.values())
        troubles = [f"{count} times {reason}" for reason, count in self._failures.items()]
        troubles += [f"{lost} lost again"] if lost else []
        troubles += [f"{late} not within {self._plan.seconds:g} s"] if late else []
        return "; ".join(troubles)

    async def _connect(self, client: SignallingClient) -> None:
        began = perf_counter()
        try:
            await client.connect()
        except SignallingConnectError as error:
            reason = _explained(error.close_code, error.close_reason)
            if reason not in self._failures and len(self._failures) >= REASONS:
                reason = "something else"
            self._failures[reason] = self._failures.get(reason, 0) + 1
        else:
            self._connects.add(perf_counter() - began)

    def progress(self) -> str:
        failed = sum(self._failures.values())
        return f"connecting: {len(self._connects)} of {len(self._clients)}" + (f", {failed} failed" if failed else "")

    def results(self) -> dict[str, Any]:
        seconds = (self._ended or perf_counter()) - self._began
        return {
            "clients": len(self._clients),
            "inFlight": self._plan.in_flight,
            "seconds": round(seconds, 3),
            "connected": len(self._connects),
            "held": self._held,
            "failed": sum(self._failures.values()),
            "connectedPerSecond": _per_second(len(self._connects), seconds),
            "connectMs": self._connects.in_ms(*QUANTILES),
        }


_HINTS: Final = {
    WsCloseCode.MESSAGE_RATE: "it takes fewer messages a second: lower --rate",
    WsCloseCode.CONCURRENT_LIMIT: "it takes fewer connections: lower --clients",
    429: "it takes fewer connections a minute: lower --clients, or serve with --connect-rate off",
}


async def _connect(client: SignallingClient) -> None:
    try:
        await client.connect()
    except SignallingConnectError as error:
        raise Failure(f"could not connect: {_explained(error.close_code, error.close_reason)}") from None


def _explained(code: int, reason: str) -> str:
    hint = _HINTS.get(code)
    return f"{code} {without_secrets(reason)}".rstrip() + (f" ({hint})" if hint else "")


def _payload(publisher: int, number: int, sent: float, size: int) -> msgspec.Raw:
    """`size` bytes of JSON: from whom, its number, and when it left, in microseconds since the beginning."""
    head = f'[{publisher},{number},{int(sent * 1e6)},"'
    return msgspec.Raw(f'{head}{"x" * (size - len(head) - 2)}"]'.encode())


def _per_second(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0
