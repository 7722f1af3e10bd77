"""`metered respond`: answer the questions of peers."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.lowlevel
import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
    Interrupted,
    KeyOption,
    Server,
    TokenOption,
    UrlOption,
    VerboseOption,
    client_logger,
    until_signal,
)
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.data import StringOption, read_data
from metered_anyio.cli.online import FOREVER, Online
from metered_anyio.cli.screen import Unwritable, as_json, complain, word, write_cells, write_json
from metered_anyio.signalling_client import SignallingClient
from metered_proto.events import RequestReceived


def respond(
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="The answer: JSON, or else text. Default: the question itself."),
    ] = None,
    string: StringOption = False,
    json: Annotated[
        bool, typer.Option("--json", help='Print each question as a JSON object a line: {"from", "data"}.')
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Answer each question of a peer (metered request) with DATA, and print the question.

    Its id, which others need to ask it, is told on stderr. It goes on
    until Ctrl-C or SIGTERM, as sub does.
    """
    echo = data is None
    answer = None if data is None else read_data(data, string=string)
    server = Server.choose(url, key, token)

    async def main() -> None:
        online = Online(quiet=False)
        client = server.client(reconnect=FOREVER, logger=client_logger(verbose=verbose), on_expired=online.expired)

        @client.respond
        def respond(question: RequestReceived) -> Any:
            try:
                _show(question, json=json)
            except Unwritable as error:
                online.end(error)
            return question.data if echo else answer

        try:
            await until_signal(lambda: online.stay(client, lambda: _tell_id(online, client)))
        except Interrupted:
            pass  # as one ends it

    run_on(main, backend)


async def _tell_id(online: Online, client: SignallingClient) -> None:
    online.say(f"answering as {word(client.peer_id or '')}")
    await anyio.lowlevel.checkpoint()


def _show(question: RequestReceived, *, json: bool) -> None:
    try:
        if json:
            write_json({"from": question.sender_peer_id, "data": question.data})
        else:
            write_cells(("?", "bold"), (word(question.sender_peer_id), "green"), (as_json(question.data), ""))
    except RecursionError:
        complain("a question is nested too deeply to be shown")
