"""From a name to a socket: addresses raced, proxies tunnelled through, nothing left of what lost or was given up."""

from __future__ import annotations

import base64
import logging
import os
import socket
import ssl
from typing import Any, Self

import anyio
import anyio.abc
import pytest
import trustme
from adapter_kit import BROKEN, KEY, FakeServer, make_client, make_relay, mute, until

from metered_anyio import SignallingConnectError, StdlibLogger, dial
from metered_anyio.dial import DialError, Proxy, interleave, proxy_from_environment
from metered_anyio.tls import TlsPipe

pytestmark = pytest.mark.anyio

V4, V6 = socket.AF_INET, socket.AF_INET6


# --- the order of addresses ---


def test_families_alternate_and_repeats_are_left_out() -> None:
    found = [(V6, "a"), (V6, "b"), (V6, "c"), (V4, "d"), (V6, "a"), (V4, "e")]
    assert interleave(found) == [(V6, "a"), (V4, "d"), (V6, "b"), (V4, "e"), (V6, "c")]
    assert interleave([(V4, "x"), (V6, "y")]) == [(V4, "x"), (V6, "y")]
    assert interleave([]) == []


# --- the race ---


class BlackHole:
    """An address that never answers: a listener whose backlog is full."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.address = self._listener.getsockname()
        self._fill = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(self.address)
            self._fill.append(sock)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (*self._fill, self._listener):
            sock.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> list[tuple[Any, ...]]:
    """Have every name mean these addresses; returns what was asked for."""
    asked: list[tuple[Any, ...]] = []

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
        asked.append((host, port))
        return [(V6 if ":" in address[0] else V4, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(dial.anyio, "getaddrinfo", getaddrinfo)
    return asked


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def test_a_refused_address_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeServer(mute) as server:
        resolve_to(monkeypatch, ("127.0.0.1", refused_port()), ("127.0.0.1", server.port))
        started = anyio.current_time()
        sock, early = await dial.dial("somewhere.example", 1)
        assert anyio.current_time() - started < 0.2
        assert early == b""
        assert sock.getpeername()[1] == server.port
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


async def test_a_silent_address_is_given_250_ms_before_the_next_is_tried_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with BlackHole() as hole:
        async with FakeServer(mute) as server:
            resolve_to(monkeypatch, hole.address, ("127.0.0.1", server.port))
            started = anyio.current_time()
            sock, _ = await dial.dial("somewhere.example", 1)
            assert 0.2 < anyio.current_time() - started < 0.5
            assert sock.getpeername()[1] == server.port
            sock.close()


async def test_of_two_that_answer_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY", 0)
    async with FakeServer(mute) as one, FakeServer(mute) as two:
        for _ in range(20):
            resolve_to(monkeypatch, ("127.0.0.1", one.port), ("127.0.0.1", two.port))
            sock, _ = await dial.dial("somewhere.example", 1)
            sock.close()


async def test_all_addresses_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ("127.0.0.1", refused_port()), ("127.0.0.2", refused_port()))
    with pytest.raises(DialError) as caught:
        await dial.dial("somewhere.example", 1)
    assert (caught.value.code, caught.value.reason) == (1006, "connection refused")


async def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch)
    with pytest.raises(DialError, match="the host has no address"):
        await dial.dial("somewhere.example", 1)


async def test_a_name_that_cannot_be_resolved() -> None:
    for name in ("no such name", "x" * 70 + ".example"):
        with pytest.raises(DialError, match="the host name could not be resolved"):
            await dial.dial(name, 1)


async def test_being_cancelled_closes_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY", 0.01)
    before = len(os.listdir("/proc/self/fd"))
    with BlackHole() as hole, BlackHole() as other:
        resolve_to(monkeypatch, hole.address, other.address)
        holes = len(os.listdir("/proc/self/fd"))
        with anyio.move_on_after(0.1) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(dial.dial, "somewhere.example", 1)
                await until(lambda: len(os.listdir("/proc/self/fd")) >= holes + 2)
        assert scope.cancelled_caught
        assert len(os.listdir("/proc/self/fd")) <= holes
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_client_tries_both_families_of_localhost() -> None:
    async with make_relay() as relay, make_client(f"ws://localhost:{relay.port}") as client:
        await client.publish("room", 1)
    if socket.has_ipv6:
        async with make_relay(host="::1") as relay, make_client(relay.url) as client:
            assert relay.url.startswith("ws://[::1]:")
            await client.publish("room", 1)


# --- proxies ---


class ProxyServer:
    """A CONNECT proxy for the one relay behind it, whatever name it is asked for."""

    def __init__(self, target_port: int, answer: bytes | None = None) -> None:
        self._target = target_port
        self._answer = answer
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self._listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port: int = self._listener.extra(anyio.abc.SocketAttribute.local_port)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._listener.serve, self._serve)
        return self

    async def __aexit__(self, *details: Any) -> None:
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(*details)
        finally:
            with anyio.CancelScope(shield=True):
                await self._listener.aclose()

    async def _serve(self, near: anyio.abc.SocketStream) -> None:
        try:
            async with near:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += await near.receive()
                self.requests.append(request.decode())
                if self._answer is not None:
                    await near.send(self._answer)
                    if not self._answer:
                        await anyio.sleep_forever()
                    return
                async with await anyio.connect_tcp("127.0.0.1", self._target) as far:
                    await near.send(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._forward, near, far, group.cancel_scope)
                        group.start_soon(self._forward, far, near, group.cancel_scope)
        except BROKEN:
            pass

    async def _forward(
        self, source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream, scope: anyio.CancelScope
    ) -> None:
        try:
            while True:
                await sink.send(await source.receive())
        except BROKEN:
            scope.cancel()


AUTHORITY = trustme.CA()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("relay.example").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(client)
    return server, client


async def test_through_a_proxy_with_credentials_that_are_never_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    serving, trusting = contexts()
    async with make_relay(ssl_context=serving) as relay, ProxyServer(relay.port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://the%20user:pass%3Aword@127.0.0.1:{proxy.port}")
        client = make_client("wss://relay.example:9443", ssl_context=trusting, logger=StdlibLogger())
        async with client:
            await client.publish("room", 1)
        (request,) = proxy.requests
        assert request.startswith("CONNECT relay.example:9443 HTTP/1.1\r\n")
        pair = base64.b64encode(b"the user:pass:word").decode()
        assert f"proxy-authorization: basic {pair}".lower() in request.lower()
        assert KEY not in request
        shown = caplog.text + repr(proxy_from_environment("relay.example", secure=True)) + repr(client)
        for secret in ("pass:word", "pass%3Aword", pair, KEY):
            assert secret not in shown


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", 407),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nno", 403),
        (b"SSH-2.0-nothing\r\n", 1006),
        (b"HTTP/1.1 200 OK\r\n\r\nthis is no TLS", 1006),
        (b"HTTP/1.1 " + b"x" * 100_000, 1006),
        (b"HTTP/1.1 200", 1006),  # and hangs up
    ],
)
async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int) -> None:
    _, trusting = contexts()
    async with ProxyServer(0, answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        client = make_client("wss://relay.example", ssl_context=trusting)
        with pytest.raises(SignallingConnectError) as caught, anyio.fail_after(3):
            await client.connect()
        assert caught.value.close_code == code
        assert "hunter2" not in str(caught.value)
        assert proxy.requests[0].startswith("CONNECT relay.example:443 ")


async def test_a_proxy_that_says_nothing_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    _, trusting = contexts()
    async with ProxyServer(0, b"") as proxy:
        monkeypatch.setenv("all_proxy", f"127.0.0.1:{proxy.port}")
        client = make_client("wss://relay.example", ssl_context=trusting)
        async with anyio.create_task_group() as group:
            group.start_soon(client.connect)
            await until(lambda: proxy.requests)
            group.cancel_scope.cancel()
        assert client.state == "idle"


async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{refused_port()}")
    with pytest.raises(SignallingConnectError) as caught:
        await make_client("wss://relay.example").connect()
    assert (caught.value.close_code, caught.value.close_reason) == (1006, "connection refused")


async def test_this_machine_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_relay() as relay, ProxyServer(relay.port) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for url in (relay.url, relay.url.replace("127.0.0.1", "localhost")):
            async with make_client(url) as client:
                await client.publish("room", 1)
        assert proxy.requests == []


def test_which_proxy_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_from_environment("relay.example", secure=True) is None
    monkeypatch.setenv("all_proxy", "http://everything:1")
    monkeypatch.setenv("https_proxy", "http://user@secure:2/")
    found = proxy_from_environment("relay.example", secure=True)
    assert found is not None
    assert (found.host, found.port, found.authorization) == ("secure", 2, "Basic dXNlcjo=")
    found = proxy_from_environment("relay.example", secure=False)
    assert found is not None
    assert (found.host, found.port, found.authorization) == ("everything", 1, None)
    assert repr(Proxy("host", 80, "Basic secret")) == "Proxy('host', 80)"
    monkeypatch.setenv("https_proxy", "http://no.port.given")
    found = proxy_from_environment("relay.example", secure=True)
    assert found is not None
    assert found.port == 80


@pytest.mark.parametrize("pattern", ["relay.example", ".example", "other,relay.example", "*"])
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", pattern)
    assert proxy_from_environment("relay.example", secure=True) is None
    if pattern != "*":
        assert proxy_from_environment("elsewhere.test", secure=True) is not None


@pytest.mark.parametrize("url", ["socks5://user:hunter2@proxy:1", "http://proxy:port", "http://", "https://proxy"])
async def test_a_proxy_that_cannot_be_used_is_an_error_not_a_detour(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("https_proxy", url)
    with pytest.raises(SignallingConnectError) as caught:
        await make_client("wss://relay.example").connect()
    assert caught.value.close_code == 1006
    assert "proxy" in caught.value.close_reason
    assert "hunter2" not in str(caught.value)


async def test_what_a_proxy_sends_behind_its_answer_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxyServer(0, b"HTTP/1.1 200 OK\r\n\r\nearly words") as proxy:
        sock, early = await dial.dial("relay.example", 443, Proxy("127.0.0.1", proxy.port))
        assert early == b"early words"
        sock.close()


def test_a_tls_pipe_has_no_hello_for_a_name_it_cannot_check() -> None:
    _, trusting = contexts()
    with pytest.raises(ValueError, match="server_hostname"):
        TlsPipe(trusting, server_side=False, hostname="")
