"""What people see: a live table on a terminal, now and then a line elsewhere, and the summary."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import anyio
from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.demo.backend import Backend
from examples.demo.deliveries import Deliveries
from examples.demo.fleet import Outcome

A_LINE_EVERY = 2.0
"""Seconds, where there is no terminal."""


class Screen:
    """The audience of a performance."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 120
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._begun = time.monotonic()
        self._backend: Backend | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """A line of the story, with the time since the beginning."""
        self._console.print(f"[dim]{time.monotonic() - self._begun:5.1f} s[/dim]  {text}")

    def watch(self, backend: Backend) -> None:
        """From now on, show what comes to `backend`."""
        self._backend = backend

    async def refresh(self) -> None:
        """Keep the table, or the lines, coming."""
        while True:
            await anyio.sleep(0.25 if self._console.is_terminal else A_LINE_EVERY)
            if self._backend is None:
                continue
            if self._console.is_terminal:
                self._live.update(_live_table(self._backend, time.monotonic()), refresh=True)
            else:
                delivered = sum(len(device.readings) for device in self._backend.devices.values())
                self.say(f"{len(self._backend.devices)} devices, {delivered} readings, {self._backend.client.state}")

    def summary(self, outcome: Outcome) -> None:
        """What it all came to."""
        headings = ("taken", "delivered", "lost", "longest gap", "reconnects", "buffered", "restored", "sent again")
        table = _table("", *headings)
        for account in outcome.accounts:
            table.add_row(
                account.device,
                str(account.taken),
                str(account.delivered),
                _or_unknown(account.lost),
                f"{account.longest_gap:.1f} s",
                _or_unknown(account.reconnects),
                _or_unknown(account.buffered),
                _or_unknown(account.restored),
                _or_unknown(account.sent_again),
            )
        self._console.print(table)
        taken = sum(account.taken for account in outcome.accounts)
        delivered = sum(account.delivered for account in outcome.accounts)
        lost = sum(account.lost or 0 for account in outcome.accounts)
        answered = sum(seconds is not None for seconds in outcome.commands)
        self._console.print(
            f"{taken} readings taken, {delivered} delivered, {lost} lost; "
            f"{answered} of {len(outcome.commands)} commands answered"
        )
        for problem in outcome.problems:
            self._console.print(f"[red]{problem}[/red]")


def _live_table(backend: Backend, now: float) -> Table:
    title = f"fleet/*/telemetry: {backend.client.state}"
    table = _table(title, "readings", "silent", "load", "memory", "disk", "out", "in", "°C")
    for name, device in sorted(backend.devices.items(), key=lambda item: (len(item[0]), item[0])):
        table.add_row(name, *_live_row(device, now))
    return table


def _live_row(device: Deliveries, now: float) -> list[str]:
    def show(name: str, form: str) -> str:
        value = device.latest.get(name)
        return "-" if value is None else form.format(value)

    return [
        str(len(device.readings)),
        "-" if device.last_at is None else f"{now - device.last_at:.1f} s",
        show("load", "{:.2f}"),
        show("memory", "{:.0f} %"),
        show("disk", "{:.0f} %"),
        show("sending", "{:,} B/s"),
        show("receiving", "{:,} B/s"),
        show("temperature", "{:.0f}"),
    ]


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column("device", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _or_unknown(number: int | None) -> str:
    return "?" if number is None else str(number)
