"""`metered pub`: publish one message, or each line of stdin."""

from __future__ import annotations

from typing import Annotated

import typer

from metered_anyio.cli.common import (
    CLIENT_RATE,
    BackendName,
    BackendOption,
    CountOption,
    JsonOption,
    KeyOption,
    Misuse,
    RateOption,
    Server,
    TokenOption,
    UrlOption,
    VerboseOption,
    client_logger,
    until_signal,
)
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.data import StringOption, read_data
from metered_anyio.cli.grants import parse_client_rate
from metered_anyio.cli.lines import stdin_descriptor
from metered_anyio.cli.pub_lines import publish_stdin
from metered_anyio.cli.screen import write_json, write_line
from metered_proto.client import Publish
from metered_proto.wire.channels import check_channel


def pub(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Where to publish.")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA|-",
            help="What to publish: JSON, or else text; - is each line of stdin. Put -- before what begins with a -.",
        ),
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Publish each line of stdin; the same as -.")] = False,
    string: StringOption = False,
    count: CountOption = None,
    rate: RateOption = CLIENT_RATE,
    outbox: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep lines in this file until they are acknowledged: over lost connections, and for the next run.",
        ),
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Publish one message, or each line of stdin. Exit code 0 means that the server has acknowledged all of them.

    Lines go out in order and do not wait for each other. Empty ones are
    skipped, unless all are text by --string. The first that fails ends it.

    With --outbox lines come in an envelope (sub --deduplicate takes it off),
    so that a line that had to be sent again is known for a repeat.
    """
    from_stdin = stdin or data == "-"
    if stdin and data not in (None, "-"):
        raise Misuse("DATA and --stdin: give one of them, not both")
    if not from_stdin and data is None:
        raise Misuse("give DATA, or - for the lines of stdin")
    if not from_stdin and (count is not None or outbox is not None):
        raise Misuse("--count and --outbox are for the lines of stdin")
    pace = parse_client_rate(rate)
    try:
        check_channel(channel)
        payload = None if from_stdin else read_data(data or "", string=string)
        Publish.of(channel, payload)
    except ValueError as error:
        raise Misuse(str(error)) from None
    server = Server.choose(url, key, token)
    if from_stdin:
        publish_stdin(
            server,
            channel,
            stdin_descriptor(),
            string=string,
            count=count,
            rate=pace,
            outbox=outbox,
            backend=backend,
            as_json=as_json,
            verbose=verbose,
        )
        return
    client = server.client(reconnect=False, logger=client_logger(verbose=verbose))

    async def publish() -> None:
        async with client:
            await client.publish(channel, payload)

    run_on(lambda: until_signal(publish), backend)
    if as_json:
        write_json({"channel": channel, "from": client.peer_id, "acknowledged": True})
    else:
        write_line("acknowledged")
