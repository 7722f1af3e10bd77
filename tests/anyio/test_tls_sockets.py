"""TLS on both ends: trusted and not, the right name and the wrong one, large messages, and ends at awkward moments."""

from __future__ import annotations

import ssl
import threading
from typing import Any

import anyio
import pytest
import trustme
from adapter_kit import KEY, FakeServer, Guest, make_client, make_relay, mute, nothing_left, told, until, warm_relay

from metered_anyio import Disconnected, Message, SignallingConnectError, tls
from metered_anyio.relay import Limits
from metered_anyio.tls import TlsPipe, default_context

pytestmark = pytest.mark.anyio

AUTHORITY = trustme.CA()


def server_context(*names: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def client_context(**attributes: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_and_relay(version: ssl.TLSVersion) -> None:
    async with make_relay(ssl_context=server_context(version=version)) as relay:
        assert relay.url.startswith("wss://")
        trust = client_context()
        async with make_client(relay.url, ssl_context=trust) as one, make_client(relay.url, ssl_context=trust) as two:
            messages = told(one, Message)
            await one.subscribe("room")
            for number in range(50):
                await two.publish("room", number)
            await until(lambda: len(messages) == 50)
            assert [message.data for message in messages] == list(range(50))
            assert one._pump is not None
            (link,) = one._pump.links.values()
            assert link._tls is not None
            assert link._tls._tls.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


async def test_large_messages_both_ways() -> None:
    limits = Limits(max_message_size=900_000, message_rate=None, connects_per_minute=None, max_queue=1 << 24)
    async with make_relay(ssl_context=server_context(), limits=limits) as relay:
        trust = client_context()
        async with make_client(relay.url, ssl_context=trust) as one, make_client(relay.url, ssl_context=trust) as two:
            messages = told(one, Message)
            await one.subscribe("room")
            async with anyio.create_task_group() as group:
                for letter in "abcdef":
                    group.start_soon(two.publish, "room", letter * 800_000)
            await until(lambda: len(messages) == 6)
            # trio starts tasks in any order, so they may be published in any.
            assert sorted(message.data for message in messages) == [letter * 800_000 for letter in "abcdef"]


async def test_a_server_nobody_trusts() -> None:
    async with warm_relay(ssl_context=server_context()) as relay:
        client = make_client(relay.url)
        async with nothing_left(within=0.2):
            with pytest.raises(SignallingConnectError) as caught:
                await client.connect()
        assert caught.value.close_code == 1006
        assert caught.value.close_reason.startswith("TLS: unable to get local issuer certificate")
        assert client.state == "idle"


async def test_a_server_of_another_name() -> None:
    async with make_relay(ssl_context=server_context("relay.example")) as relay:
        with pytest.raises(SignallingConnectError) as caught:
            await make_client(relay.url, ssl_context=client_context()).connect()
        assert caught.value.close_code == 1006
        assert "mismatch" in caught.value.close_reason
        trust = client_context(check_hostname=False)
        async with make_client(relay.url, ssl_context=trust) as client:
            await client.publish("room", 1)


async def test_no_version_in_common() -> None:
    async with make_relay(ssl_context=server_context(version=ssl.TLSVersion.TLSv1_2)) as relay:
        trust = client_context(minimum_version=ssl.TLSVersion.TLSv1_3)
        with pytest.raises(SignallingConnectError) as caught:
            await make_client(relay.url, ssl_context=trust).connect()
        assert caught.value.close_reason.startswith("TLS: ")


async def test_contexts_that_cannot_work_leave_no_socket() -> None:
    impossible = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    impossible.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    impossible.maximum_version = ssl.TLSVersion.TLSv1_2
    impossible.minimum_version = ssl.TLSVersion.TLSv1_3
    async with FakeServer(mute) as server:
        for context in (server_context(), impossible):
            with pytest.raises(SignallingConnectError) as caught:
                await make_client(server.url.replace("ws:", "wss:"), ssl_context=context).connect()
            assert caught.value.close_code == 1006


async def test_plain_where_tls_is_spoken_and_tls_where_it_is_not() -> None:
    async with make_relay(ssl_context=server_context()) as relay:
        with pytest.raises(SignallingConnectError), anyio.fail_after(3):
            await make_client(relay.url.replace("wss:", "ws:")).connect()
    async with make_relay() as relay:
        with pytest.raises(SignallingConnectError), anyio.fail_after(3):
            await make_client(relay.url.replace("ws:", "wss:"), ssl_context=client_context()).connect()


async def test_close_during_the_handshake() -> None:
    async with FakeServer(mute) as server, nothing_left():
        client = make_client(server.url.replace("ws:", "wss:"), ssl_context=client_context())
        async with anyio.create_task_group() as group:

            async def connect() -> None:
                with pytest.raises(SignallingConnectError):
                    await client.connect()

            group.start_soon(connect)
            await until(lambda: server.guests)
            with anyio.fail_after(0.5):
                await client.close()


@pytest.mark.parametrize(
    "answer", [b"", b"\x15\x03\x01\x00\x02\x02\x28", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16" * 9000]
)
async def test_a_handshake_that_ends_badly(answer: bytes) -> None:
    async def script(guest: Guest) -> None:
        await guest.stream.receive()
        if answer:
            await guest.stream.send(answer)

    async with FakeServer(script) as server:
        with pytest.raises(SignallingConnectError) as caught, anyio.fail_after(3):
            await make_client(server.url.replace("ws:", "wss:"), ssl_context=client_context()).connect()
        assert caught.value.close_code == 1006


async def test_a_tls_connection_that_is_cut_comes_back() -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        if len(server.guests) < 3:
            await guest.receive()  # and hang up, with no goodbye on any layer
        else:
            await guest.obey()

    async with FakeServer(script, ssl_context=server_context()) as server:
        client = make_client(server.url, ssl_context=client_context(), inactivity_timeout=0.15)
        lost = told(client, Disconnected)
        await client.connect()
        await until(lambda: len(lost) == 2 and client.state == "connected")
        await client.publish("room", 1)
        await client.close()


async def test_a_relay_drops_what_is_no_tls() -> None:
    async with make_relay(ssl_context=server_context()) as relay:
        for hello in (b"GET /v1 HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 5000):
            stream = await anyio.connect_tcp("127.0.0.1", relay.port)
            async with stream:
                await stream.send(hello)
                with anyio.fail_after(2):
                    try:
                        while True:
                            await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        pass
        async with make_client(relay.url, ssl_context=client_context()) as client:
            await client.publish("room", 1)


async def test_the_default_trust_store_is_loaded_once_and_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    trust = client_context()

    def load() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return trust

    tls._default_context.cache_clear()
    monkeypatch.setattr(ssl, "create_default_context", load)
    try:
        async with make_relay(ssl_context=server_context()) as relay:
            for _ in range(2):
                async with make_client(relay.url) as client:
                    await client.publish("room", 1)
            assert await default_context() is trust
    finally:
        tls._default_context.cache_clear()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def handshake(client: TlsPipe, server: TlsPipe) -> None:
    to_server, to_client = client.start(), server.start()
    while to_server or to_client:
        _, answer, _ = server.decrypt(to_server) if to_server else (b"", b"", False)
        to_client += answer
        to_server = b""
        if to_client:
            _, to_server, _ = client.decrypt(to_client)
            to_client = b""


def test_a_pipe_keeps_what_is_written_during_the_handshake() -> None:
    client = TlsPipe(client_context(), server_side=False, hostname="localhost")
    server = TlsPipe(server_context(), server_side=True)
    hello = client.start()
    assert client.encrypt(b"early ") == b""
    assert client.encrypt(b"words") == b""
    _, answer, ended = server.decrypt(hello)
    assert not ended
    plain, finish, ended = client.decrypt(answer)
    assert (plain, ended) == (b"", False)
    plain, _, ended = server.decrypt(finish)
    assert (plain, ended) == (b"early words", False)


def test_a_pipe_reports_the_end() -> None:
    client = TlsPipe(client_context(), server_side=False, hostname="localhost")
    server = TlsPipe(server_context(), server_side=True)
    handshake(client, server)
    plain, _, ended = server.decrypt(client.encrypt(b"x" * 200_000))
    assert (len(plain), ended) == (200_000, False)
    plain, _, ended = server.decrypt(b"")
    assert (plain, ended) == (b"", True)
    with pytest.raises(ssl.SSLError):
        TlsPipe(client_context(), server_side=False, hostname="localhost").decrypt(b"this is no TLS at all")


def test_the_key_is_in_no_clear_byte() -> None:
    client = TlsPipe(client_context(), server_side=False, hostname="localhost")
    server = TlsPipe(server_context(), server_side=True)
    handshake(client, server)
    assert KEY.encode() not in client.encrypt(KEY.encode())
