"""`metered ping`: how long the way to the server and back takes."""

from __future__ import annotations

import secrets
from time import perf_counter
from typing import Annotated

import anyio
import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
    Failure,
    JsonOption,
    KeyOption,
    Misuse,
    Server,
    TokenOption,
    UrlOption,
    VerboseOption,
    client_logger,
    until_signal,
)
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.grants import check_seconds
from metered_anyio.cli.screen import tell, word, write_json, write_line
from metered_anyio.cli.timings import Timings
from metered_anyio.signalling_client import SignallingClient
from metered_proto.client import Publish
from metered_proto.errors import AckTimeoutError


def ping(
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How often.")] = 5,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="The pause in between.")] = 1.0,
    channel: Annotated[
        str | None,
        typer.Option(metavar="CHANNEL", help="Where to publish. Default: a channel that nobody knows, ping/…."),
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Publish a few times and tell how long each acknowledgement took, and all of them in short.

    Exit code 0 means that each was acknowledged.
    """
    check_seconds(interval, "--interval")
    where = f"ping/{secrets.token_hex(8)}" if channel is None else channel
    try:
        Publish.of(where, None)
    except ValueError as error:
        raise Misuse(str(error)) from None
    client = Server.choose(url, key, token).client(reconnect=False, logger=client_logger(verbose=verbose))
    trips = Trips(client, where, quiet=as_json)
    try:
        run_on(lambda: until_signal(lambda: trips.run(count, interval)), backend)
    finally:
        if trips.sent:
            trips.report(as_json=as_json)
    if trips.lost:
        raise Failure(f"{trips.lost} of {trips.sent} were not acknowledged")


class Trips:
    """One run of the command."""

    def __init__(self, client: SignallingClient, channel: str, *, quiet: bool) -> None:
        self._client = client
        self._channel = channel
        self._quiet = quiet
        self._timings = Timings()
        self.sent = 0

    @property
    def lost(self) -> int:
        """How many were not acknowledged."""
        return self.sent - len(self._timings)

    async def run(self, count: int, interval: float) -> None:
        """Connect, and go `count` times there and back."""
        began = perf_counter()
        async with self._client as client:
            if not self._quiet:
                tell(f"connected as {word(client.peer_id or '')} in {(perf_counter() - began) * 1000:.2f} ms")
            while True:
                self._say(f"{self.sent + 1}: {await self._trip()}")
                if self.sent == count:
                    return
                await anyio.sleep(interval)

    async def _trip(self) -> str:
        began = perf_counter()
        self.sent += 1
        try:
            await self._client.publish(self._channel, None)
        except AckTimeoutError as error:
            return str(error)
        took = perf_counter() - began
        self._timings.add(took)
        return f"{took * 1000:.2f} ms"

    def report(self, *, as_json: bool) -> None:
        """All of them in short, on stdout."""
        names = ("min", "avg", "max", "p99")
        found = self._timings.in_ms(*names)
        if as_json:
            write_json({"sent": self.sent, "acknowledged": len(self._timings), "ms": found})
            return
        numbers = "/".join("-" if value is None else f"{value:.2f}" for value in found.values())
        write_line(f"{len(self._timings)} of {self.sent} acknowledged, {'/'.join(names)} {numbers} ms")

    def _say(self, line: str) -> None:
        if not self._quiet:
            write_line(line)
