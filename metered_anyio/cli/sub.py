"""`metered sub`: print what is published, one line a message, until told to stop or until it is enough."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import anyio
import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
    CountOption,
    Failure,
    Interrupted,
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
from metered_anyio.cli.grants import check_wait
from metered_anyio.cli.online import FOREVER, Online
from metered_anyio.cli.screen import Cell, Unwritable, as_json, complain, word, write_cells, write_json
from metered_anyio.signalling_client import SignallingClient
from metered_proto.errors import AckTimeoutError, DisconnectedError, NotConnectedError
from metered_proto.events import Connected, Direct, Gap, Message, Presence
from metered_proto.settings import SubscribeOptions
from metered_proto.wire.channels import check_channel

Shown: TypeAlias = Message | Direct | Presence


def sub(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL...", help="Channels, or patterns like 'fleet/*'.")],
    presence: Annotated[bool, typer.Option("--presence", help="Also who comes (+) and who leaves (-).")] = False,
    directs: Annotated[bool, typer.Option("--directs", help="Also what is sent to this peer alone (>).")] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="Also what a sender's token says about him.")] = False,
    deduplicate: Annotated[
        bool,
        typer.Option(
            "--deduplicate",
            help="What comes out of an outbox as it was put in: out of its envelope and once only. Gaps are told on "
            "stderr.",
        ),
    ] = False,
    count: CountOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="End after so long; with --count, which was not reached then, with exit code 1."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing about the connection.")] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help='One JSON object a line: {"channel", "from", "data"}, with "metadata" where there is any; a direct '
            'has no "channel", and presence is {"channel", "joined", "left"}.',
        ),
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Print messages as they come, a line each: channel, sender, data.

    A lost connection comes back by itself, however often that takes, with
    the same channels. How it stands is told on stderr. Ctrl-C and SIGTERM
    end it with exit code 0. With --count it is the last message that does
    (presence does not count), and whatever comes before that is a failure.
    """
    try:
        for channel in channels:
            check_channel(channel)
    except ValueError as error:
        raise Misuse(str(error)) from None
    limit = None if timeout is None else check_wait(timeout, "--timeout")
    kinds: list[type[Shown]] = [Message]
    if presence:
        kinds.append(Presence)
    if directs:
        kinds.append(Direct)
    server = Server.choose(url, key, token)

    async def main() -> None:
        listener = Listener(channels, kinds, as_json=json, metadata=metadata, quiet=quiet, count=count)
        client = server.client(
            reconnect=FOREVER,
            logger=client_logger(verbose=verbose),
            deduplicate=deduplicate,
            on_expired=listener.expired,
        )
        try:
            with anyio.move_on_after(limit) as time:
                await until_signal(lambda: listener.listen(client))
        except Interrupted:
            if count is not None:
                raise
            return  # as one ends it
        if time.cancelled_caught and not listener.listens:
            raise Failure(f"not connected within {limit:g} s")
        if time.cancelled_caught and count is not None:
            raise Failure(f"{listener.shown} of {count} messages came within {limit:g} s")

    run_on(main, backend)


class Listener(Online):
    """One run of the command."""

    def __init__(
        self,
        channels: list[str],
        kinds: list[type[Shown]],
        *,
        as_json: bool,
        metadata: bool,
        quiet: bool,
        count: int | None = None,
    ) -> None:
        super().__init__(quiet=quiet)
        self._channels = channels
        self._kinds = kinds
        self._as_json = as_json
        self._options = SubscribeOptions(include_sender_metadata=metadata)
        self._count = count
        self.shown = 0
        """How many messages have come."""
        self.listens = False
        """Whether all channels were subscribed to."""

    async def listen(self, client: SignallingClient) -> None:
        """Connect, subscribe and print until there is nothing more to hear."""
        for kind in self._kinds:
            client.on(kind, self._show)
        client.on(Gap, self._on_gap)

        async def begin() -> None:
            for channel in self._channels:
                await self._subscribe(client, channel)
            self.listens = True
            self.say(f"listening as {word(client.peer_id or '')} to {' '.join(map(word, self._channels))}")

        await self.stay(client, begin)

    async def _subscribe(self, client: SignallingClient, channel: str) -> None:
        async with client.events(Connected) as connections:
            while True:
                try:
                    await client.subscribe(channel, self._options)
                except NotConnectedError:
                    # Nothing was sent, so nothing will be restored: once more on the next connection.
                    if await anext(connections, None) is None:
                        return  # there will be none: it has all ended
                except (DisconnectedError, AckTimeoutError):
                    return  # kept, and restored by the client
                else:
                    return

    # --- what is told ---

    def _show(self, event: Shown) -> None:
        if self.over:
            return
        try:
            if self._as_json:
                write_json(_as_object(event))
            else:
                for cells in _as_lines(event):
                    write_cells(*cells)
        except RecursionError:
            complain("a message is nested too deeply to be shown")
        except Unwritable as error:
            self.end(error)
            return
        if not isinstance(event, Presence):
            self.shown += 1
            if self.shown == self._count:
                self.end()

    def _on_gap(self, event: Gap) -> None:
        self.say(f"missed {event.missed} of {word(event.sender)} in {word(event.channel)}")


def _as_object(event: Shown) -> dict[str, Any]:
    if isinstance(event, Presence):
        return {"channel": event.channel, "joined": event.joined, "left": event.left}
    found: dict[str, Any] = {"channel": event.channel} if isinstance(event, Message) else {}
    found |= {"from": event.sender_peer_id, "data": event.data}
    if event.sender_metadata is not None:
        found["metadata"] = event.sender_metadata
    return found


def _as_lines(event: Shown) -> list[list[Cell]]:
    if isinstance(event, Presence):
        return [
            [
                (sign, "bold"),
                (word(event.channel), "cyan"),
                (word(peer.peer_id), "green"),
                *_metadata_cell(peer.metadata),
            ]
            for sign, peers in (("+", event.joined), ("-", event.left))
            for peer in peers
        ]
    where: Cell = (word(event.channel), "cyan") if isinstance(event, Message) else (">", "bold")
    cells: list[Cell] = [where, (word(event.sender_peer_id), "green"), (as_json(event.data), "")]
    return [cells + _metadata_cell(event.sender_metadata)]


def _metadata_cell(metadata: dict[str, Any] | None) -> list[Cell]:
    return [] if metadata is None else [(as_json(metadata), "dim")]
