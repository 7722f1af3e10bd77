"""`metered pub`: publish one message."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
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
from metered_anyio.cli.screen import write_json, write_line
from metered_proto.client import Publish


def pub(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Where to publish.")],
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="What to publish: JSON, or else text. Put -- before what begins with a -."),
    ],
    string: Annotated[bool, typer.Option("--string", help="DATA is text, also where it could be JSON.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Publish one message. Exit code 0 means that the server has acknowledged it."""
    payload = read_data(data, string=string)
    try:
        Publish.of(channel, payload)
    except ValueError as error:
        raise Misuse(str(error)) from None
    client = Server.choose(url, key, token).client(reconnect=False, logger=client_logger(verbose=verbose))

    async def publish() -> None:
        async with client:
            await client.publish(channel, payload)

    run_on(lambda: until_signal(publish), backend)
    if as_json:
        write_json({"channel": channel, "from": client.peer_id, "acknowledged": True})
    else:
        write_line("acknowledged")


def read_data(text: str, *, string: bool) -> Any:
    """What an argument stands for: the JSON it is, verbatim, so that numbers stay as they were written; or text."""
    if string:
        return text
    try:
        msgspec.json.decode(text)
    except RecursionError:
        raise Misuse("DATA is nested too deeply") from None
    except ValueError:
        return text
    return msgspec.Raw(text.strip().encode())
