"""`metered bench`: what a relay, and the way to it, can do."""

from __future__ import annotations

import math
import secrets
import sys
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from metered_anyio.cli.common import (
    CLIENT_RATE,
    BackendName,
    BackendOption,
    JsonOption,
    KeyOption,
    Misuse,
    RateOption,
    Server,
    TokenOption,
    UrlOption,
    VerboseOption,
    allow_many_sockets,
    client_logger,
    until_signal,
)
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.grants import check_wait, parse_client_rate
from metered_anyio.cli.scenarios import MIN_SIZE, Plan, Scenario, Storm, Traffic
from metered_anyio.cli.screen import write_json, write_line
from metered_anyio.cli.tasks import all_of
from metered_anyio.signalling_client import SignallingClient
from metered_proto.client import Publish
from metered_proto.wire.urls import LOCAL_HOSTS


class Kind(StrEnum):
    """What to do to the relay."""

    pubsub = "pubsub"
    fanout = "fanout"
    storm = "storm"


CLIENTS: Final = {Kind.pubsub: 1, Kind.fanout: 50, Kind.storm: 50}
"""A relay takes 60 connections a minute from one address, unless it is told otherwise."""

SECONDS: Final = 5.0
LOOK: Final = 0.25
"""Seconds from one picture of the progress to the next."""


def bench(
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="pubsub|fanout|storm",
            help="pubsub (the default): publishers to one subscriber; fanout: one publisher to many subscribers; "
            "storm: many connections at once.",
        ),
    ] = Kind.pubsub,
    clients: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=100_000,
            help="How many publishers (default 1), subscribers (50) or connections (50).",
        ),
    ] = None,
    in_flight: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=10_000, help="Publishes of one publisher, or connections, under way at a time."
        ),
    ] = 64,
    size: Annotated[
        int, typer.Option(metavar="BYTES", min=MIN_SIZE, max=1 << 20, help="The size of what is published.")
    ] = 60,
    rate: RateOption = CLIENT_RATE,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help=f"Publish, or connect, for so long. Default: {SECONDS:g}, or as --count has it."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=1, help="Publish so many messages in all.")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(metavar="CHANNEL", help="Where to publish. Default: a channel that nobody knows, bench/…."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it to a server that is not on this machine.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Load a relay and measure: what is acknowledged and delivered a second, and how long that takes.

    Exit code 0 means that everything published was acknowledged and
    delivered, or that every connection stood. Times are up to an eighth
    too high, the longest is exact. On a terminal it shows how it goes on.

    The default rate is what a relay takes from one publisher; --rate off
    needs a relay that was told so: metered serve --rate off.
    """
    most, burst = parse_client_rate(rate)
    if seconds is not None:
        check_wait(seconds, "--seconds")
    elif kind is not Kind.storm and count is None:
        seconds = SECONDS
    plan = Plan(
        clients=clients or CLIENTS[kind],
        in_flight=in_flight,
        size=size,
        rate=most,
        burst=burst,
        seconds=math.inf if seconds is None else seconds,
        count=count,
        channel=f"bench/{secrets.token_hex(8)}" if channel is None else channel,
    )
    try:
        Publish.of(plan.channel, None)
    except ValueError as error:
        raise Misuse(str(error)) from None
    server, logger = Server.choose(url, key, token), client_logger(verbose=verbose)

    def make_client() -> SignallingClient:
        return server.client(reconnect=False, logger=logger)

    make_client()  # so that a bad url is told as such
    host = urlsplit(server.url).hostname
    if host not in LOCAL_HOSTS and not yes:
        raise Misuse(f"{host} is not this machine: bench would put load on it. Say --yes if you may do that")
    allow_many_sockets()
    made: list[Scenario] = []

    async def main() -> None:
        scenario = _make(kind, make_client, plan)
        made.append(scenario)
        await _watched(scenario)

    try:
        run_on(lambda: until_signal(main), backend)
    finally:
        if made and made[0].started:
            _report({"scenario": kind.value, "backend": backend.value, **made[0].results()}, as_json=as_json)


def _make(kind: Kind, make_client: Any, plan: Plan) -> Scenario:
    match kind:
        case Kind.pubsub:
            return Traffic(make_client, plan, publishers=plan.clients, subscribers=1)
        case Kind.fanout:
            return Traffic(make_client, plan, publishers=1, subscribers=plan.clients)
        case Kind.storm:
            return Storm(make_client, plan)


async def _watched(scenario: Scenario) -> None:
    """Run it, with its progress on stderr if that is a terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        await scenario.run()
        return
    done = anyio.Event()

    async def run() -> None:
        try:
            await scenario.run()
        finally:
            done.set()

    async def paint() -> None:
        with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
            while not done.is_set():
                live.update(Text(scenario.progress()), refresh=True)
                with anyio.move_on_after(LOOK):
                    await done.wait()

    await all_of([run, paint])


def _report(results: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(results)
        return
    width = max(map(len, results))
    for name, value in results.items():
        write_line(f"{name:<{width}}  {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {_shown(number)}" for name, number in value.items())
    return "-" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
