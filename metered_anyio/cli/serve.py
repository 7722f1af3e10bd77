"""`metered serve`: a relay of one's own."""

from __future__ import annotations

import os
import signal
import ssl
from typing import Annotated

import anyio
import msgspec
import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
    Failure,
    Misuse,
    VerboseOption,
    allow_many_sockets,
    from_environment,
    log_to_stderr,
)
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.grants import check_seconds, parse_connect_rate, parse_key, parse_rate, parse_secret
from metered_anyio.cli.screen import write_line
from metered_anyio.relay import Limits, PublishableKey, RelayServer, SecretKey


def serve(
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 is any free one.")] = 8787,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="A publishable key that lets clients in, pk_live_…, perhaps with what it is good for. May be given "
            "several times. Default: METERED_KEY.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECRET",
            help="A secret key that signs tokens and opens the REST plane, sk_id_…:sk_secret_…. May be given several "
            "times. Default: METERED_SECRET.",
        ),
    ] = None,
    rate: Annotated[
        str,
        typer.Option(
            metavar="RATE/BURST|off", help="Messages a second from one connection, and how many may come at once."
        ),
    ] = "100/200",
    connect_rate: Annotated[
        str, typer.Option(metavar="N|off", help="Connection attempts a minute from one address.")
    ] = "60",
    max_connections: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Connections at once. Default: no limit.")
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="A certificate chain in PEM; makes it wss.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="The certificate's private key, where it is in another file.")
    ] = None,
    drain_grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long clients are served on after a signal to stop.")
    ] = 0.0,
    retry_after: Annotated[
        float, typer.Option(metavar="SECONDS", help="When clients are told to come back after that.")
    ] = 0.0,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Record what the relay does, for metered replay. Default: METERED_RECORD, or nothing."
        ),
    ] = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Run a relay. Prints "listening on ws://HOST:PORT" once it is ready.

    Behind a key may stand what it is good for, each part after a semicolon:
    --key 'pk_live_x;channels=fleet/**,room-*;actions=publish,subscribe'
    Parts are channels (patterns), actions (publish, subscribe, presence,
    send) and origins (of web pages). A part that is left out allows all.

    On SIGTERM or SIGINT nobody new comes in, everybody is told to come
    back, and the process ends with exit code 0 when all are gone. A second
    signal does not wait for that.
    """
    sustained, burst = parse_rate(rate)
    limits = Limits(
        message_rate=sustained, connects_per_minute=parse_connect_rate(connect_rate), max_connections=max_connections
    )
    if sustained is not None:
        limits = msgspec.structs.replace(limits, message_burst=burst or max(1, round(2 * sustained)))
    keys = _keys(key)
    secrets = _secrets(secret)
    if not keys and not secrets:
        raise Misuse(
            "nobody could come in: give --key pk_live_… or --secret sk_id_…:sk_secret_…, "
            "or set METERED_KEY or METERED_SECRET"
        )
    tls = _tls(tls_cert, tls_key)
    grace = check_seconds(drain_grace, "--drain-grace")
    retry_after_ms = round(check_seconds(retry_after, "--retry-after") * 1000)
    try:
        relay = RelayServer(
            keys=keys,
            secrets=secrets,
            limits=limits,
            host=host,
            port=port,
            ssl_context=tls,
            logger=log_to_stderr(verbose=verbose),
            record=_directory(record),
        )
    except OSError as error:
        raise Misuse(f"--record: {error.strerror}") from None
    except ValueError as error:
        raise Misuse(str(error)) from None
    allow_many_sockets()
    shown = f"[{host}]" if ":" in host else host

    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            try:
                await relay.start()
            except OSError as error:
                why = (error.strerror or "").partition(" (")[0]  # where is said already
                raise Failure(f"cannot listen on {shown}:{port}: {why}") from None
            try:
                write_line(f"listening on {'ws' if tls is None else 'wss'}://{shown}:{relay.port}")
                await anext(signals)
                async with anyio.create_task_group() as group:

                    async def drain() -> None:
                        await relay.drain(retry_after_ms, grace)
                        group.cancel_scope.cancel()

                    group.start_soon(drain)
                    async for _ in signals:
                        group.cancel_scope.cancel()
            finally:
                await relay.close()

    run_on(main, backend)


def _keys(given: list[str] | None) -> list[PublishableKey]:
    if given:
        return [parse_key(text) for text in given]
    key = from_environment("METERED_KEY")
    return [] if key is None else [parse_key(key, "METERED_KEY")]


def _secrets(given: list[str] | None) -> list[SecretKey]:
    if given:
        return [parse_secret(text) for text in given]
    secret = from_environment("METERED_SECRET")
    return [] if secret is None else [parse_secret(secret, "METERED_SECRET")]


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise Misuse("--tls-key needs --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key that is encrypted would otherwise have OpenSSL ask for the pass phrase, on a terminal or nowhere.
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError:
        raise Misuse("--tls-cert and --tls-key must be a certificate and its own key, not encrypted, in PEM") from None
    except OSError as error:
        raise Misuse(f"--tls-cert or --tls-key cannot be read: {error.strerror}") from None
    return context


def _directory(path: str | None) -> str | None:
    """The directory to record in, made if it is not there."""
    if path is not None:
        os.makedirs(path, exist_ok=True)
    return path
