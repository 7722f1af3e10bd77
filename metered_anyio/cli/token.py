"""`metered token`: sign a token for a peer."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from metered_anyio.cli.common import JsonOption, Misuse, from_environment
from metered_anyio.cli.grants import parse_list, parse_object, parse_secret
from metered_anyio.cli.screen import write_json, write_line
from metered_proto.wire.tokens import DEFAULT_LIFETIME, mint


def token(
    peer_id: Annotated[str, typer.Option(metavar="ID", help="Whom the token is for.")],
    secret: Annotated[
        str | None,
        typer.Option(metavar="SECRET", help="What signs it, sk_id_…:sk_secret_…. Default: METERED_SECRET."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(metavar="P,Q", help="The channel patterns it is for. Default: the secret key's.")
    ] = None,
    permissions: Annotated[
        str | None,
        typer.Option(metavar="P,Q", help="Any of publish, subscribe, presence, send. Default: the secret key's."),
    ] = None,
    expires_in: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long it is good for, at most 86400.")
    ] = DEFAULT_LIFETIME,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object for the peer alone, at most 8 KB.")
    ] = None,
    peer_metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object that others see, at most 4 KB.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a token. Prints it, or with --json also when it ends: {"token", "expiresAt"} (unix seconds)."""
    text, name = secret, "--secret"
    if text is None:
        text, name = from_environment("METERED_SECRET"), "METERED_SECRET"
    if text is None:
        raise Misuse("a secret key is needed: --secret sk_id_…:sk_secret_… or METERED_SECRET")
    key = parse_secret(text, name)
    now = int(time.time())
    try:
        signed = mint(
            key_id=key.id,
            secret=key.secret,
            peer_id=peer_id,
            now=now,
            expires_in=expires_in,
            channels=None if channels is None else parse_list(channels, "--channels"),
            permissions=None if permissions is None else parse_list(permissions, "--permissions"),
            metadata=None if metadata is None else parse_object(metadata, "--metadata"),
            peer_metadata=None if peer_metadata is None else parse_object(peer_metadata, "--peer-metadata"),
        )
    except ValueError as error:
        raise Misuse(str(error)) from None
    if as_json:
        write_json({"token": signed, "expiresAt": now + expires_in})
    else:
        write_line(signed)
