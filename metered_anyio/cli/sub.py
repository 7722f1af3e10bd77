"""`metered sub`: print what is published, one line a message, until told to stop."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

import anyio
import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
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
from metered_anyio.cli.screen import (
    Cell,
    Unwritable,
    as_json,
    complain,
    tell,
    without_secrets,
    word,
    write_cells,
    write_json,
)
from metered_anyio.signalling_client import SignallingClient
from metered_proto.errors import AckTimeoutError, DisconnectedError, NotConnectedError
from metered_proto.events import Connected, Direct, Disconnected, GoingAway, Message, Presence, ServerError
from metered_proto.settings import ReconnectOptions, SubscribeOptions
from metered_proto.wire.channels import check_channel

Shown: TypeAlias = Message | Direct | Presence

FOREVER = ReconnectOptions(max_attempts=math.inf)


def sub(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL...", help="Channels, or patterns like 'fleet/*'.")],
    presence: Annotated[bool, typer.Option("--presence", help="Also who comes (+) and who leaves (-).")] = False,
    directs: Annotated[bool, typer.Option("--directs", help="Also what is sent to this peer alone (>).")] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="Also what a sender's token says about him.")] = False,
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
    end it with exit code 0.
    """
    try:
        for channel in channels:
            check_channel(channel)
    except ValueError as error:
        raise Misuse(str(error)) from None
    kinds: list[type[Shown]] = [Message]
    if presence:
        kinds.append(Presence)
    if directs:
        kinds.append(Direct)
    server = Server.choose(url, key, token)

    async def main() -> None:
        listener = Listener(channels, kinds, as_json=json, metadata=metadata, quiet=quiet)
        logger = client_logger(verbose=verbose)
        client = server.client(reconnect=FOREVER, logger=logger, on_expired=listener.expired)
        try:
            await until_signal(lambda: listener.listen(client))
        except Interrupted:
            pass  # as one ends it

    run_on(main, backend)


class Listener:
    """One run of the command."""

    def __init__(
        self, channels: list[str], kinds: list[type[Shown]], *, as_json: bool, metadata: bool, quiet: bool
    ) -> None:
        self._channels = channels
        self._kinds = kinds
        self._as_json = as_json
        self._options = SubscribeOptions(include_sender_metadata=metadata)
        self._quiet = quiet
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None

    async def listen(self, client: SignallingClient) -> None:
        """Connect, subscribe and print. Returns only by an exception that says why there is nothing more to hear."""
        for kind in self._kinds:
            client.on(kind, self._show)
        client.on(Disconnected, self._on_disconnected)
        client.on(Connected, self._on_connected)
        client.on(GoingAway, self._on_going_away)
        client.on(ServerError, self._on_server_error)
        with self._scope:
            async with client:
                for channel in self._channels:
                    await self._subscribe(client, channel)
                self._say(f"listening as {word(client.peer_id or '')} to {' '.join(map(word, self._channels))}")
                await anyio.sleep_forever()
        if self._failure is not None:
            raise self._failure

    def expired(self) -> None:
        """The token is over, and there is no other."""
        self._end(Failure("the token has expired"))

    async def _subscribe(self, client: SignallingClient, channel: str) -> None:
        async with client.events(Connected) as connections:
            while True:
                try:
                    await client.subscribe(channel, self._options)
                except NotConnectedError:
                    # Nothing was sent, so nothing will be restored: once more on the next connection.
                    if await anext(connections, None) is None:
                        return  # there will be none: `_on_disconnected` has ended it all
                except (DisconnectedError, AckTimeoutError):
                    return  # kept, and restored by the client
                else:
                    return

    def _end(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        self._scope.cancel()

    # --- what is told ---

    def _show(self, event: Shown) -> None:
        try:
            if self._as_json:
                write_json(_as_object(event))
            else:
                for cells in _as_lines(event):
                    write_cells(*cells)
        except RecursionError:
            complain("a message is nested too deeply to be shown")
        except Unwritable as error:
            self._end(error)

    def _on_connected(self, event: Connected) -> None:
        if event.is_reconnect:
            self._say(f"connected again as {word(event.peer_id)}")

    def _on_disconnected(self, event: Disconnected) -> None:
        why = f"{event.code} {without_secrets(event.reason)}".rstrip()
        if event.will_reconnect:
            self._say(f"connection lost: {why}")
        else:
            self._end(Failure(f"disconnected for good: {why}"))

    def _on_going_away(self, event: GoingAway) -> None:
        wait = f", back in {event.retry_after_ms / 1000:g} s at the earliest" if event.retry_after_ms else ""
        self._say(f"the server is going away{wait}")

    def _on_server_error(self, event: ServerError) -> None:
        complain(without_secrets(f"the server reports {event.code}: {event.message}"))

    def _say(self, message: str) -> None:
        if not self._quiet:
            tell(message)


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
