"""The story: a fleet starts, the relay dies and comes back, the fleet finishes, and everything is counted.

While the relay is away, the last device is killed as well; it is started again once the backend listens again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from examples.demo.backend import Backend
from examples.demo.deliveries import Deliveries
from examples.demo.processes import DemoError, DeviceProcess, RelayProcess

KEY = "pk_live_demo"

START_WITHIN = 45.0
"""Seconds that the whole fleet may take to be heard of."""

HAND_OVER_WITHIN = 20.0
"""Seconds that a device may take at the end to hand over what it has."""

ANSWER_WITHIN = 15.0
"""Seconds that a command which is not answered yet may take after the last reading was due."""


@dataclass(frozen=True)
class Plan:
    """How to play it. Durations in seconds; an `outage` of 0 leaves the relay and the devices alone."""

    seconds: float = 20.0
    devices: int = 5
    outage: float = 4.0
    interval: float = 0.5
    sabotage: bool = False


@dataclass(frozen=True)
class Account:
    """What became of one device's readings. A device that died has not reported (None).

    `longest_gap` is the longest time, in seconds, in which nothing new came from it; `buffered` is how many readings
    were in its outbox at once, and `restored` how many it found there when it was started again. `missed` messages went
    by while nobody listened; `sent_again` readings were enqueued once more for that reason.
    """

    device: str
    lives: int
    taken: int
    delivered: int
    lost: int | None
    longest_gap: float
    reconnects: int | None
    buffered: int | None
    restored: int | None
    missed: int
    sent_again: int | None

    def problems(self, plan: Plan) -> Iterator[str]:
        """What should not have happened."""
        if self.lost is None:
            yield f"{self.device} died"
        if self.lost:
            yield f"{self.device} lost {self.lost} of {self.taken} readings"
        if plan.outage and self.lives == 1 and self.reconnects == 0:
            yield f"{self.device} never noticed the outage"


@dataclass(frozen=True)
class Outcome:
    """How it went. `commands` has the seconds to the answer of each command, None where there was none."""

    accounts: list[Account]
    commands: list[float | None]
    problems: list[str]


class Audience(Protocol):
    """Whoever watches."""

    def say(self, text: str) -> None:
        """Something happened."""
        ...

    def watch(self, backend: Backend) -> None:
        """From now on there is something to see in `backend`."""
        ...


class Fleet:
    """One performance of a `Plan`."""

    def __init__(self, plan: Plan, audience: Audience) -> None:
        self._plan = plan
        self._audience = audience
        self._relay = RelayProcess(KEY)
        self._commands: list[float | None] = []  # seconds to the answer
        options = ["--interval", str(plan.interval), "--patience", str(HAND_OVER_WITHIN)]
        sabotage = ["--forget", "2"] if plan.sabotage else []
        self.devices = [
            DeviceProcess(f"sensor-{number}", *options, *(sabotage if number == 1 else []))
            for number in range(1, plan.devices + 1)
        ]

    async def play(self) -> Outcome:
        """Play it to the end. Leaves nothing behind. May raise `DemoError`, in groups of exceptions."""
        with anyio.move_on_after(2 * START_WITHIN + self._plan.seconds + ANSWER_WITHIN + 2 * HAND_OVER_WITHIN):
            with TemporaryDirectory(prefix="metered-demo-") as folder:
                return await self._play(Path(folder))
        raise DemoError("something hangs")

    async def _play(self, folder: Path) -> Outcome:
        say = self._audience.say
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._relay.run)
            say(f"the relay listens on {self._relay.url}")
            async with Backend(self._relay.url, KEY) as backend:
                self._audience.watch(backend)
                tasks.start_soon(backend.say_hello)
                for device in self.devices:
                    tasks.start_soon(device.run, self._relay.url, KEY, folder / device.name)
                await self._all_heard_of(backend)
                say(f"{len(self.devices)} devices are there")
                await self._main_part(tasks, backend, folder)
                say("no more readings are taken, and the devices hand over what they have")
                await self._all_finished()
                outcome = self._outcome(backend)
            tasks.cancel_scope.cancel()
        return outcome

    async def _all_heard_of(self, backend: Backend) -> None:
        async def must_live(device: DeviceProcess) -> None:
            await device.ended.wait()
            raise DemoError(f"{device.name} died")

        async with anyio.create_task_group() as watch:
            for device in self.devices:
                watch.start_soon(must_live, device)
            with anyio.move_on_after(START_WITHIN) as waiting:
                await backend.heard_of(len(self.devices))
            if waiting.cancelled_caught:
                raise DemoError(f"only {len(backend.devices)} devices were heard of within {START_WITHIN:g} s")
            watch.cancel_scope.cancel()

    async def _main_part(self, tasks: TaskGroup, backend: Backend, folder: Path) -> None:
        plan, begun = self._plan, anyio.current_time()
        async with anyio.create_task_group() as commands:
            commands.start_soon(self._command, backend, self.devices[0])
            if plan.outage:
                await anyio.sleep((plan.seconds - plan.outage) / 2)
                await self._outage(tasks, backend, folder)
                commands.start_soon(self._command, backend, self.devices[-1])
            await anyio.sleep_until(begun + plan.seconds)
            commands.cancel_scope.deadline = anyio.current_time() + ANSWER_WITHIN

    async def _outage(self, tasks: TaskGroup, backend: Backend, folder: Path) -> None:
        seconds, say, victim = self._plan.outage, self._audience.say, self.devices[-1]
        await self._relay.kill()
        say(f"the relay was killed; it stays away for {seconds:g} s")
        await anyio.sleep(seconds / 2)
        await victim.kill()
        say(f"{victim.name} was killed, too, with readings in its outbox")
        await anyio.sleep(seconds / 2)
        await tasks.start(self._relay.run)
        say("the relay is back")
        await backend.listen()
        await tasks.start(victim.run, self._relay.url, KEY, folder / victim.name)
        say(f"the backend listens again, and {victim.name} is started again")

    async def _command(self, backend: Backend, device: DeviceProcess) -> None:
        number = len(self._commands)
        self._commands.append(None)
        seconds = self._commands[number] = await backend.command(device.name, "describe")
        self._audience.say(f"{device.name} answered a command, {seconds * 1000:.0f} ms after it was first given")

    async def _all_finished(self) -> None:
        for device in self.devices:
            await device.stop()
        with anyio.move_on_after(HAND_OVER_WITHIN + 5):
            for device in self.devices:
                await device.ended.wait()

    def _outcome(self, backend: Backend) -> Outcome:
        accounts = [_account(device, backend.devices[device.name]) for device in self.devices]
        problems = [problem for account in accounts for problem in account.problems(self._plan)]
        problems += ["a command was never answered" for seconds in self._commands if seconds is None]
        if backend.nonsense:
            problems.append(f"{backend.nonsense} messages made no sense")
        return Outcome(accounts, self._commands, problems)


def _account(device: DeviceProcess, deliveries: Deliveries) -> Account:
    report = device.report or {}
    # Killed before it could say that a reading is in its outbox, it may have taken one more.
    taken = device.taken | deliveries.readings
    return Account(
        device=device.name,
        lives=device.lives,
        taken=len(taken),
        delivered=len(deliveries.readings),
        lost=None if device.report is None else len(taken - deliveries.readings),
        longest_gap=round(deliveries.longest_gap, 2),
        reconnects=report.get("reconnects"),
        buffered=report.get("fullest"),
        restored=report.get("restored"),
        missed=deliveries.missed,
        sent_again=report.get("sent_again"),
    )
