"""`metered request`: ask a peer, and print what it answers."""

from __future__ import annotations

from typing import Annotated, Any

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
from metered_anyio.cli.data import DataArgument, StringOption, read_data
from metered_anyio.cli.grants import check_wait
from metered_anyio.cli.screen import write_json
from metered_proto.client.requests import Request


def request(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="The id of the peer.")],
    data: DataArgument,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for the answer once connected.")
    ] = 10.0,
    string: StringOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Ask a peer and print its answer, which is JSON. Exit code 0 means that there is one.

    With --json it is one object: {"to", "from", "data"}.
    """
    check_wait(timeout, "--timeout")
    question = read_data(data, string=string)
    try:
        Request.of(peer, question, timeout)
    except ValueError as error:
        raise Misuse(str(error)) from None
    client = Server.choose(url, key, token).client(reconnect=False, logger=client_logger(verbose=verbose))
    answers: list[Any] = []

    async def ask() -> None:
        async with client:
            answers.append(await client.request(peer, question, timeout=timeout))

    run_on(lambda: until_signal(ask), backend)
    answer = answers[0]
    try:
        write_json({"to": peer, "from": client.peer_id, "data": answer} if as_json else answer)
    except RecursionError:
        raise Failure("the answer is nested too deeply to be shown") from None
