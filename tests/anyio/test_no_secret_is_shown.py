"""Everything that can go wrong, with a log that keeps every word: no key, token or secret is in any of them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from adapter_kit import QUICK, SECRET, FakeServer, Guest, make_client, told, until

from metered_anyio import (
    Event,
    Message,
    NoopLogger,
    ServerRequestError,
    SignallingConnectError,
    SignallingError,
    StdlibLogger,
)
from metered_anyio.logger import ContainedLogger
from metered_anyio.relay import Limits, RelayServer
from metered_proto.wire.tokens import mint

pytestmark = pytest.mark.anyio

KEY = "pk_live_8f3Kq/ zé+secret"
"""With characters that look different in a URL."""


class Collector:
    """A logger that keeps everything, and shows all of it."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def _write(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        self.text.append(f"{msg} {ctx} {dict(ctx or {})!r}")

    debug = info = warning = error = _write


async def test_no_secret_in_any_log_error_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = Collector()
    token = mint(key_id=SECRET.id, secret=SECRET.secret, peer_id="dev", now=int(time.time()), metadata={
        "iceServers": [{"urls": "turn:turn.example", "username": "u", "credential": "turn-credential"}]
    })  # fmt: skip
    stale = mint(key_id=SECRET.id, secret=SECRET.secret, peer_id="dev", now=int(time.time()) - 9999)
    shown: list[str] = []

    async def give(what: str) -> str:
        return what

    async def fail() -> str:
        raise ValueError(f"the backend said {token}")

    async def echo(guest: Guest) -> None:
        """A server that says our own words back, in every place it has for words."""
        request = await guest.asked()
        secret = request.target.partition("=")[2]
        number = len(server.guests) % 4
        if number == 0:
            answer = guest.ws.respond(403, "Forbidden", headers=[("X-Target", secret)], body=secret.encode())
            await guest.raw(answer.replace(b"403 Forbidden", b"403 " + secret.encode()))
            return
        answer, _ = guest.ws.accept()
        await guest.raw(answer)
        if number == 1:
            await guest.close(4001, f"bad key {secret}"[:120])
            return
        await guest.send({"type": "welcome", "peerId": "me"})
        await guest.send({"type": "error", "code": secret, "message": f"what is {secret}?"})
        await guest.send({"type": secret})
        await guest.send({"type": "message", "channel": "room", "from": "x", "data": secret})
        frame = await guest.receive()
        await guest.send({"type": "error", "requestId": frame["requestId"], "code": "no", "message": secret})
        await guest.receive()
        await guest.close(1011, secret[:100])

    async def use(url: str, **options: Any) -> None:
        client = make_client(url, logger=log, **options)
        events: list[Event] = told(client)

        @client.on(Message)
        def bad(event: Message) -> None:
            raise RuntimeError(f"token={token}")

        try:
            await client.connect()
            shown.append(repr(client.ice_servers))
            with contextlib.suppress(ServerRequestError):
                await client.subscribe("room")
            await client.publish("room", 1)
        except SignallingError as error:
            shown.extend((str(error), repr(error)))  # the cause is the provider's own
        # What an application is sent as data is its own; everything else that it is told is shown here.
        shown.extend((repr(client), repr([event for event in events if not isinstance(event, Message)])))
        await client.close()

    relay = RelayServer(keys=["pk_live_relay"], secrets=[SECRET], limits=Limits(connects_per_minute=None), logger=log)
    async with relay, FakeServer(echo) as server:
        for _ in range(4):
            await use(server.url, api_key=KEY, reconnect=QUICK)
            await use(server.url, token_provider=lambda: give(token), reconnect=False)
        for provider in (lambda: give(token), lambda: give(stale), lambda: give(token[:-3]), fail):
            await use(relay.url, token_provider=provider, reconnect=QUICK)
        await use(relay.url, api_key=KEY)
        await use(relay.url, api_key="pk_live_relay")
        await use("wss://127.0.0.1:1", api_key=KEY)
        async with httpx.AsyncClient(base_url=relay.url.replace("ws:", "http:")) as http:
            for headers in ({"Authorization": f"Bearer {SECRET.id}:{SECRET.secret}"}, {"Authorization": f"x {KEY!a}"}):
                reply = await http.post("/v1/tokens", headers=headers, json={"peerId": "dev"})
                await http.get(f"/v1/x?token={token}", headers=headers)
                shown.append(reply.text if reply.status_code != 200 else "")
        shown.extend((repr(relay), repr(relay.stats()), repr(relay._settings)))
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    everything = "\n".join([*log.text, *shown, *ours])
    assert "connection lost" in everything
    assert "could not connect" in everything
    assert "a handler raised" in everything
    for secret in (KEY, quote(KEY, safe=""), token, stale, token.rpartition(".")[2], SECRET.secret, "turn-credential"):
        assert secret not in everything


async def test_a_logger_that_breaks_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(NoopLogger):
        def debug(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
            raise OSError("the disk is full")

        info = warning = error = debug

    async def script(guest: Guest) -> None:
        await guest.enter()
        await guest.raw(guest.ws.frame(b"{"))
        await guest.obey()

    async with FakeServer(script) as server:
        async with make_client(server.url, logger=Broken()) as client:
            await client.publish("room", 1)
            await until(lambda: client._session.counters.malformed_frames)
        with pytest.raises(SignallingConnectError):
            await make_client("ws://127.0.0.1:1", logger=Broken()).connect()
    complaints = [record for record in caplog.records if record.getMessage() == "a logger failed"]
    assert complaints
    caplog.clear()  # they were expected


def test_the_stdlib_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ContainedLogger(StdlibLogger())
    log.debug("unheard")
    log.info("state", {"from": "idle", "to": "connecting"})
    log.warning("careful")
    StdlibLogger("metered_proto").error("no", {"code": 1})
    StdlibLogger(logging.getLogger("own")).error("own")
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("metered_anyio", "INFO", "state from='idle' to='connecting'"),
        ("metered_anyio", "WARNING", "careful"),
        ("metered_proto", "ERROR", "no code=1"),
        ("own", "ERROR", "own"),
    ]
    StdlibLogger().warning("here")
    assert caplog.records[-1].filename == "test_no_secret_is_shown.py"
