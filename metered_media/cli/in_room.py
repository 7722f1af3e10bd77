"""Being in a room until told to stop, whatever the network does, and saying once a second how it goes."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from metered_anyio.cli.common import Failure, Misuse, Server
from metered_anyio.cli.screen import Unwritable, printable, tell, without_secrets, word, write_json, write_line
from metered_anyio.logger import Logger
from metered_anyio.metered_peer import MeteredPeer
from metered_anyio.room_events import PeerJoined, PeerLeft
from metered_proto.errors import WebRtcMissingError
from metered_proto.events import FatalError, StateChange
from metered_proto.rtc.absent import HOW_TO_INSTALL
from metered_proto.settings import ReconnectOptions

FOREVER = ReconnectOptions(max_attempts=math.inf)

QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing about how it goes.")]
StatisticsJsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Tell what happens, and how it goes, as one JSON object a line.")
]

MEDIA = ("av", "aiortc")


def need_media() -> None:
    """Raises `WebRtcMissingError` unless the packages for media are installed."""
    if any(importlib.util.find_spec(name) is None for name in MEDIA):
        raise WebRtcMissingError(HOW_TO_INSTALL)


def make_peer(server: Server, logger: Logger, on_expired: Callable[[], object]) -> MeteredPeer:
    """A peer that comes back for ever. `on_expired` is as in `Server.token_provider`."""
    try:
        return MeteredPeer(
            api_key=server.key,
            token_provider=server.token_provider(on_expired),
            url=server.url,
            reconnect=FOREVER,
            logger=logger,
        )
    except ValueError as error:
        raise Misuse(str(error)) from None


class InRoom:
    """One stay in a room. `report` gives the lines of each second, as text and as what JSON is made of."""

    def __init__(self, peer: MeteredPeer, room: str, *, quiet: bool, as_json: bool) -> None:
        self.peer = peer
        self._room = room
        self._quiet, self._as_json = quiet, as_json
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None
        self._over = False
        self._live: Live | None = None

    async def stay(
        self,
        begin: Callable[[], Awaitable[object]],
        report: Callable[[], Awaitable[tuple[list[str], dict[str, Any]]]],
    ) -> None:
        """Join, do what is to be done then, and stay until `end`. Raises what that was given."""
        peer = self.peer
        peer.on(StateChange, self._on_state)
        peer.on(FatalError, lambda event: self.end(Failure(f"disconnected for good: {event.err}")))
        peer.on(PeerJoined, lambda event: self.say(f"+ {word(event.peer.id)}", joined=event.peer.id))
        peer.on(PeerLeft, lambda event: self.say(f"- {word(event.peer.id)}", left=event.peer.id))
        with self._scope:
            async with peer.joined(self._room):
                self.say(f"in {word(self._room)} as {word(peer.peer_id or '')}", room=self._room, as_=peer.peer_id)
                await begin()
                await self._report(report)
        if self._failure is not None:
            raise self._failure

    def end(self, failure: Exception | None = None) -> None:
        """It is over, by a failure or because all is done. What comes later counts no more."""
        if not self._over:
            self._over, self._failure = True, failure
        self._scope.cancel()

    def say(self, message: str, **facts: Any) -> None:
        """One line about what happens: on stderr, or as JSON on stdout."""
        if self._quiet:
            return
        if self._as_json:
            self._write(lambda: write_json({name.rstrip("_"): value for name, value in facts.items()}))
        elif self._live is not None:
            self._live.console.print(Text(printable(message)))
        else:
            tell(message)

    async def _report(self, report: Callable[[], Awaitable[tuple[list[str], dict[str, Any]]]]) -> None:
        on_terminal = sys.stdout.isatty() and not self._as_json and not self._quiet
        if not on_terminal:
            while True:
                await anyio.sleep(1)
                lines, facts = await report()
                if self._as_json:
                    self._write(lambda facts=facts: write_json(facts))  # type: ignore[misc]
                elif not self._quiet:
                    self._write(lambda lines=lines: write_line("  ".join(map(printable, lines))))  # type: ignore[misc]
        with Live(console=Console(highlight=False, markup=False, emoji=False), auto_refresh=False) as self._live:
            try:
                while True:
                    lines, _ = await report()
                    self._live.update(Text("\n".join(map(printable, lines))), refresh=True)
                    await anyio.sleep(1)
            finally:
                self._live.update(Text())  # how it was is of no use any more
                self._live = None

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Unwritable as error:
            self.end(error)

    def _on_state(self, event: StateChange) -> None:
        if event.to == "reconnecting":
            self.say("connection lost", state="reconnecting")
        elif event.from_ == "reconnecting" and event.to == "joined":
            self.say("connected again", state="joined")


def failure_of(error: Exception) -> Failure:
    """An error of a source or a file as the command's own."""
    return Failure(without_secrets(str(error)))


def rate(bits: float | None) -> str:
    """A bit rate for people."""
    if bits is None:
        return "-"
    return f"{bits / 1e6:.1f} Mbit/s" if bits >= 1e6 else f"{bits / 1e3:.0f} kbit/s"


def span(seconds: float) -> str:
    """A length of time for people: minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
