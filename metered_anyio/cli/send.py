"""`metered send`: hand something to one peer."""

from __future__ import annotations

from typing import Annotated

import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
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
from metered_anyio.cli.data import DataArgument, StringOption, read_data
from metered_anyio.cli.screen import write_json, write_line
from metered_proto.client import SendTo


def send(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="The id of the peer.")],
    data: DataArgument,
    string: StringOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Send something to one peer. Exit code 0 means that the peer is there and the server has acknowledged it."""
    payload = read_data(data, string=string)
    try:
        SendTo.of(peer, payload)
    except ValueError as error:
        raise Misuse(str(error)) from None
    client = Server.choose(url, key, token).client(reconnect=False, logger=client_logger(verbose=verbose))

    async def deliver() -> None:
        async with client:
            await client.send(peer, payload)

    run_on(lambda: until_signal(deliver), backend)
    if as_json:
        write_json({"to": peer, "from": client.peer_id, "acknowledged": True})
    else:
        write_line("acknowledged")
