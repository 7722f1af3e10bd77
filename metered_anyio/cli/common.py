"""What the subcommands share: options, where to connect to and as whom, and running until told to stop."""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated, TypeAlias

import anyio
import typer

from metered_anyio.logger import Logger, NoopLogger, StdlibLogger
from metered_anyio.options import TokenProviderFn
from metered_anyio.signalling_client import SignallingClient
from metered_proto.settings import Outbox, ReconnectOptions
from metered_proto.wire.tokens import read_expiry

DEFAULT_URL = "wss://rms.metered.ca"


class Misuse(Exception):  # noqa: N818 - the command was not used rightly: exit code 2
    """What was typed cannot be carried out. The message shows no secret."""


class Failure(Exception):  # noqa: N818 - exit code 1
    """What was asked for did not work out."""


class Interrupted(Exception):  # noqa: N818 - exit code 128 and the signal's number
    """A signal came before the command was done."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class BackendName(StrEnum):
    """The event loop to run on."""

    asyncio = "asyncio"
    trio = "trio"


UrlOption: TypeAlias = Annotated[
    str | None, typer.Option("--url", metavar="URL", help=f"The server. Default: METERED_URL, or {DEFAULT_URL}.")
]
KeyOption: TypeAlias = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="A publishable key, pk_live_…. Default: METERED_KEY.")
]
TokenOption: TypeAlias = Annotated[
    str | None, typer.Option("--token", metavar="JWT", help="A token, in place of a key. Default: METERED_TOKEN.")
]
BackendOption: TypeAlias = Annotated[BackendName, typer.Option("--backend", help="The event loop to run on.")]
VerboseOption: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to stderr.")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CountOption: TypeAlias = Annotated[
    int | None, typer.Option("--count", "-n", metavar="N", min=1, help="End after so many messages.")
]
RateOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--rate", metavar="RATE/BURST|off", help="Publish at most so many a second, and so many of them at once."
    ),
]
CLIENT_RATE = "90/100"
"""A little below what a relay takes from one connection."""


@dataclass(frozen=True)
class Server:
    """Where to connect to, and as whom: with a key or a token, one of the two."""

    url: str
    key: str | None = field(repr=False)
    token: str | None = field(repr=False)

    @classmethod
    def choose(cls, url: str | None, key: str | None, token: str | None) -> Server:
        """From options or, where none is given, from the environment."""
        named = "--key and --token"
        if key is None and token is None:
            named = "METERED_KEY and METERED_TOKEN"
            key, token = from_environment("METERED_KEY"), from_environment("METERED_TOKEN")
        if key is not None and token is not None:
            raise Misuse(f"{named}: give one of them, not both")
        if key is None and token is None:
            raise Misuse("a key or a token is needed: --key, --token, METERED_KEY or METERED_TOKEN")
        return cls(url or from_environment("METERED_URL") or DEFAULT_URL, key, token)

    def token_provider(self, on_expired: Callable[[], object]) -> TokenProviderFn | None:
        """What gives the token, None without one. `on_expired` is called before an attempt whose token is over by now:
        there is no other one."""
        token = self.token
        if token is None:
            return None

        async def same_token() -> str:
            if (expiry := read_expiry(token)) is not None and expiry <= time.time():
                on_expired()
            return token

        return same_token

    def client(
        self,
        *,
        reconnect: ReconnectOptions | bool,
        logger: Logger,
        outbox: Outbox | None = None,
        deduplicate: bool = False,
        on_expired: Callable[[], object] = lambda: None,
    ) -> SignallingClient:
        """A client. `on_expired` is as in `token_provider`."""
        try:
            return SignallingClient(
                api_key=self.key,
                token_provider=self.token_provider(on_expired),
                url=self.url,
                reconnect=reconnect,
                logger=logger,
                outbox=outbox,
                deduplicate=deduplicate,
            )
        except ValueError as error:
            raise Misuse(str(error)) from None


def from_environment(name: str) -> str | None:
    """A variable of the environment; an empty one is none."""
    return os.environ.get(name) or None


def run(main: Callable[[], Awaitable[None]], backend: BackendName) -> None:
    """Run to the end on an event loop of its own."""
    if find_spec(backend) is None:
        raise Misuse("--backend trio needs one more package: pip install 'metered-sansio[trio]'")
    anyio.run(main, backend=backend.value)


async def until_signal(main: Callable[[], Awaitable[None]]) -> None:
    """Run to the end, or until SIGINT or SIGTERM cancels it: then `Interrupted` is raised.

    With this, Ctrl-C is no `KeyboardInterrupt`, which could strike anywhere, even inside of the event loop.
    """
    interrupted: Interrupted | None = None
    failures: list[Exception] = []
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:

            async def work() -> None:
                try:
                    await main()
                except Exception as failure:
                    failures.append(failure)  # and not raised here, where it would come out inside a group
                group.cancel_scope.cancel()

            group.start_soon(work)
            async for number in signals:
                interrupted = Interrupted(number)
                group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if interrupted is not None:
        raise interrupted


def allow_many_sockets() -> None:
    """A process is often given fewer descriptors than it may have, and every connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        pass  # not everywhere can "unlimited" be asked for; then it stays as it is


def log_to_stderr(*, verbose: bool) -> StdlibLogger:
    """A log on stderr: of everything, or of warnings and errors."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    if verbose:
        for layer in ("metered_proto", "metered_anyio"):
            logging.getLogger(layer).setLevel(logging.DEBUG)
    return StdlibLogger()


def client_logger(*, verbose: bool) -> Logger:
    """The log of a client, whose troubles the command itself tells: on stderr if asked for."""
    return log_to_stderr(verbose=True) if verbose else NoopLogger()
