"""Ten thousand malformed or hostile frames of many kinds, at client and relay alike.

No exception escapes (see `nothing_escapes` in conftest), nothing grows, and the connection lives on where the
protocol says that it does.
"""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from typing import Any

import anyio
import pytest
from adapter_kit import BROKEN, FakeServer, Guest, Stranger, make_client, make_relay, nothing_left, told, until

from metered_anyio import Message, Presence, ServerError, SignallingConnectError
from metered_anyio.relay import Limits
from metered_proto.masking import mask

pytestmark = pytest.mark.anyio

FRAMES = 10_000

SERVER_TYPES = ("welcome", "ack", "error", "message", "direct", "presence", "going_away", "pong")
CLIENT_TYPES = ("subscribe", "unsubscribe", "publish", "send", "ping")
FIELDS = (
    "channel", "from", "to", "data", "requestId", "fromMetadata", "joined", "left", "peerId", "code", "message",
    "retryAfterMs", "metadata", "maxMessageSize", "expiresAt", "serverTime", "includeSenderMetadata", "extra",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e308, 2**63, 2**70, -(2**70), "", "x", "\x00", "é\u202e", "x" * 3000, "_system/x", "*",
    "**", [], [[]], [None], {}, {"peerId": 7}, {"a": {"b": []}}, [{"peerId": "p"}], [{"peerId": "p", "metadata": 1}],
)  # fmt: skip
TEXTS = (
    "", " ", "null", "true", "7", '"text"', "[]", "{", "}{", "{}", '{"type":}', '{"type":"x"}', '{"type":null}', "nul",
    '{"type":"message"', '{"type":"message","type":"ack"}', "\x00", "\ufeff{}", "NaN",
    '{"type":"ack","requestId":"1"}x',
    '{"type":"ping","x":' + "[" * 5000 + "]" * 5000 + "}", "[" * 20_000, '{"a":' * 5000,
    '{"type":"message","channel":"\\ud800","from":"x","data":1}', '{"type":"error","code":"\\udfff"}',
    '{"type":"publish","channel":"c","data":"\\ud83d"}', '{"type":"subscribe","channel":"\\ud800","requestId":"9"}',
    '{"type":"publish","channel":"room","data":1e400}', '{"type":"publish","channel":"room"}',
)  # fmt: skip


def nonsense(types: tuple[str, ...], dice: random.Random) -> bytes:
    """The payload of one hostile text message."""
    kind = dice.random()
    if kind < 0.2:
        return dice.choice(TEXTS).encode()
    if kind < 0.3:
        text = json.dumps({"type": dice.choice(types), "channel": "room", "data": 1}).encode()
        at = dice.randrange(len(text))
        return text[:at] if dice.random() < 0.5 else text[:at] + b"\x01" + text[at + 1 :]
    frame: dict[str, Any] = {"type": dice.choice((*types, "unknown", 7, None, [types]))}
    for name in dice.sample(FIELDS, dice.randrange(8)):
        frame[name] = dice.choice(VALUES)
    return json.dumps(frame).encode()


def framed(payload: bytes, first: int = 0x81, key: bytes | None = None) -> bytes:
    """One WebSocket frame, with whatever first byte."""
    size = len(payload)
    length = (
        bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 1 << 16 else b"\x7f" + size.to_bytes(8)
    )
    if key is None:
        return bytes([first]) + length + payload
    return bytes([first, length[0] | 0x80]) + length[1:] + key + mask(payload, key)


def survivable(types: tuple[str, ...], dice: random.Random, key: bytes | None) -> bytes:
    """Frames that a connection has to survive."""
    payload = nonsense(types, dice)
    kind = dice.random()
    if kind < 0.1:  # binary
        return framed(dice.randbytes(dice.randrange(300)), 0x82, key)
    if kind < 0.2:  # pings and pongs that nobody asked for
        return framed(dice.randbytes(dice.randrange(126)), dice.choice((0x89, 0x8A)), key)
    if kind < 0.3:  # in fragments, with a ping in between, and empty ones
        at = dice.randrange(len(payload) + 1)
        return (
            framed(payload[:at], 0x01, key)
            + framed(b"", 0x00, key)
            + framed(b"?", 0x89, key)
            + framed(payload[at:], 0x80, key)
        )
    return framed(payload, key=key)


MASKED = b"\x81\x84\x00\x00\x00\x00abcd"
"""What a server must not send."""

FATAL: tuple[bytes, ...] = (
    b"\xc1\x00",  # a reserved bit
    b"\x83\x00",  # a reserved opcode
    b"\x8b\x00",
    b"\x09\x00",  # a ping in fragments
    b"\x89\x7e\x00\xff",  # a ping too long
    b"\x80\x00",  # a continuation of nothing
    b"\x88\x01x",  # a close frame of one byte
    b"\x88\x02\x03\xee",  # a code that must not be sent
    b"\x88\x02\x03\xe8",  # a proper close
    b"\x88\x04\x03\xe8\xff\xfe",  # a reason that is no UTF-8
    b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",  # a length beyond all measure
    b"\x81\x7f\x00\x00\x00\x00\x7f\xff\xff\xff",  # 2 GiB announced
    b"\x81\x7e\x00\x01x",  # a length that is not minimal
    b"\x81\x02\xff\xfe",  # no UTF-8
    b"\x01\x01x\x81\x01x",  # a message inside another
    MASKED,
    b"\xff" * 50,
    b"GET / HTTP/1.1\r\n\r\n",
)


async def test_hostile_frames_at_the_client() -> None:
    dice = random.Random(1)
    done = anyio.Event()
    go_on = anyio.Event()

    async def script(guest: Guest) -> None:
        await guest.enter()
        await go_on.wait()
        batch = bytearray()
        for _ in range(FRAMES):
            batch += survivable(SERVER_TYPES, dice, None)
            if len(batch) > 50_000:
                await guest.raw(bytes(batch))
                batch.clear()
        await guest.raw(bytes(batch))
        await guest.send({"type": "message", "channel": "room", "from": "x", "data": "the end"})
        done.set()
        await guest.obey()

    async with FakeServer(script) as server, nothing_left():
        client = make_client(server.url)
        count = 0
        ended = anyio.Event()

        @client.on(Message)
        def on_message(event: Message) -> None:
            nonlocal count
            count += 1
            if event.data == "the end":
                ended.set()

        client.on(Presence, lambda event: len(event.joined))
        client.on(ServerError, lambda event: repr(event))
        await client.connect()
        with anyio.fail_after(20):
            go_on.set()
            await ended.wait()
        # Frames that take the shape of answers to calls in progress are answered by nobody: there are none.
        assert client.state == "connected"
        assert client._session.counters.malformed_frames > FRAMES / 4
        assert client._session.in_flight == 0
        assert client._session.channels == ()
        assert len(server.guests) == 1
        assert count > 1
        await client.publish("room", 1)
        await client.close()


async def test_hostile_frames_at_the_client_do_not_grow_it() -> None:
    dice = random.Random(2)
    batch = b"".join(survivable(SERVER_TYPES, dice, None) for _ in range(500))
    rounds = 0

    async def script(guest: Guest) -> None:
        nonlocal rounds
        await guest.enter()
        while True:
            await guest.receive()
            await guest.raw(batch)
            await guest.send({"type": "message", "channel": "room", "from": "x", "data": "round"})
            rounds += 1

    async with FakeServer(script) as server, make_client(server.url) as client:
        ends = told(client, Message)

        async def play(times: int) -> None:
            for _ in range(times):
                seen = sum(event.data == "round" for event in ends)
                with anyio.move_on_after(0.001):
                    await client.publish("room", 1)
                await until(lambda seen=seen: sum(event.data == "round" for event in ends) > seen)
                ends.clear()

        await play(3)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await play(10)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 200_000, grown


@pytest.mark.parametrize("rude", FATAL, ids=range(len(FATAL)))
async def test_frames_that_end_a_connection_end_only_that_one(rude: bytes) -> None:
    """The client reconnects; the relay goes on for everybody else."""

    async def script(guest: Guest) -> None:
        await guest.enter()
        if len(server.guests) == 1:
            await guest.raw(rude)
            while guest.ended is None:
                await guest.read()
        await guest.obey()

    async with FakeServer(script) as server:
        client = make_client(server.url)
        await client.connect()
        await until(lambda: len(server.guests) == 2 and client.state == "connected")
        await client.publish("room", 1)
        await client.close()

    async with make_relay() as relay, make_client(relay.url) as other:
        stranger = await Stranger.connect(relay.url)
        await stranger.receive()
        # Unmasked, which alone is reason enough; the one that is masked is what a client should send.
        await stranger.raw(rude if rude != MASKED else b"\x81\x04abcd")
        with anyio.fail_after(3):
            await stranger.drained()
        await stranger.aclose()
        await until(lambda: relay.stats().connections == 1)
        await other.publish("room", 1)


async def test_hostile_frames_at_the_relay() -> None:
    dice = random.Random(3)
    limits = Limits(connects_per_minute=None, message_rate=None, max_queue=1 << 24)
    async with make_relay(limits=limits) as relay, make_client(relay.url) as other:
        stranger = await Stranger.connect(relay.url)
        welcome = await stranger.receive()
        answers = 0

        async def read() -> None:
            nonlocal answers
            while True:
                answer = await stranger.receive()
                answers += 1
                if answer == {"type": "ack", "requestId": "the end"}:
                    return

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                batch = bytearray()
                for _ in range(FRAMES):
                    batch += survivable(CLIENT_TYPES, dice, dice.randbytes(4))
                    if len(batch) > 30_000:
                        await stranger.raw(bytes(batch))
                        batch.clear()
                await stranger.raw(bytes(batch))
                await stranger.send({"type": "publish", "channel": "room", "data": 1, "requestId": "the end"})
        assert stranger.is_open
        stats = relay.stats()
        assert stats.malformed > FRAMES / 4
        assert stats.connections == 2
        assert set(stats.errors) <= {
            "malformed_message",
            "unknown_type",
            "invalid_channel",
            "invalid_peer_id",
            "channel_reserved",
            "missing_data",
            "peer_not_found",
            "channel_limit_exceeded",
        }
        assert answers > FRAMES / 4
        await other.send(welcome["peerId"], "still there?")
        with anyio.fail_after(2):
            while (await stranger.receive())["type"] != "direct":
                pass
        await stranger.aclose()
        await until(lambda: relay.stats().connections == 1)
        assert relay.stats().channels == 0


async def test_random_bytes_at_the_relay() -> None:
    dice = random.Random(4)
    async with make_relay() as relay, make_client(relay.url) as other:
        for number in range(150):
            noise = dice.randbytes(dice.randrange(1, 3000))
            if number % 3 == 0:
                noise = b"GET /v1?key=" + noise
            elif number % 3 == 1:
                noise = b"POST /v1/tokens HTTP/1.1\r\nContent-Length: 99999999999\r\n" + noise
            async with await anyio.connect_tcp("127.0.0.1", relay.port) as stream:
                try:
                    await stream.send(noise)
                    await stream.send_eof()
                    with anyio.fail_after(3):
                        while True:
                            await stream.receive()
                except BROKEN:
                    pass
        await until(lambda: len(relay._running().links) == 1)
        await other.publish("room", 1)


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
async def test_random_bytes_instead_of_an_upgrade(how: str) -> None:
    dice = random.Random(5)

    async def script(guest: Guest) -> None:
        await guest.asked()
        noise = dice.choice(
            (b"", b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        )
        noise += dice.randbytes(dice.randrange(200))
        for piece in [noise] if how == "whole" else [bytes([byte]) for byte in noise]:
            await guest.raw(piece)

    async with FakeServer(script) as server:
        client = make_client(server.url)
        for _ in range(20):
            with pytest.raises(SignallingConnectError), anyio.fail_after(3):
                await client.connect()
            assert client.state == "idle"
