"""The cases of the core: from bytes to event, from call to bytes, and through the relay's machine."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from benchmarks.measure import Case
from metered_proto.client import ClientSession, Connect, Publish
from metered_proto.entropy import Entropy
from metered_proto.events import Message
from metered_proto.facts import Asked, LinkAsked, LinkUp, Received
from metered_proto.masking import MaskKeys
from metered_proto.orders import Broadcast, Order, Send
from metered_proto.relay import Limits, PublishableKey, Relay, RelaySettings
from metered_proto.settings import ClientSettings
from metered_proto.websocket import WebSocket, server_text_frame
from metered_proto.websocket_events import Messages

BATCH = 256
"""Messages in one read, as under load."""

CHANNEL = "fleet/sensor-42/telemetry"
READING = {"ts": 1_767_225_600_000, "temp": 21.5, "humidity": 40.25, "seq": 12_345}
MESSAGE = msgspec.json.encode({"type": "message", "channel": CHANNEL, "from": "peer_0123456789abcdef", "data": READING})


def cases() -> list[Case]:
    """All of them, each with machines of its own."""
    return [
        _peel_unmasked(),
        _peel_masked(),
        _bytes_to_event(),
        _publish(),
        _fan_out(1),
        _fan_out(1000),
    ]


def _peel_unmasked() -> Case:
    stream = server_text_frame(MESSAGE) * BATCH
    ours, theirs = _open_websocket(), Connection(ConnectionType.CLIENT)
    return Case(
        name="WebSocket, client: read a text frame",
        unit="frame",
        units=BATCH,
        ours=lambda: _expect(ours.receive(stream), BATCH),
        against="wsproto",
        theirs=_wsproto_reader(theirs, stream),
    )


def _peel_masked() -> Case:
    sender = _open_websocket()
    stream = b"".join(sender.frame(MESSAGE) for _ in range(BATCH))
    ours, theirs = _serving_websocket(), Connection(ConnectionType.SERVER)
    return Case(
        name="WebSocket, server: read a masked text frame",
        unit="frame",
        units=BATCH,
        ours=lambda: _expect(ours.receive(stream), BATCH),
        against="wsproto",
        theirs=_wsproto_reader(theirs, stream),
    )


def _bytes_to_event() -> Case:
    stream = server_text_frame(MESSAGE) * BATCH
    ws, session = _open_websocket(), _online_session()
    texts = [MESSAGE.decode()] * BATCH
    decode = msgspec.json.Decoder(Message).decode

    def ours() -> list[Order]:
        (event,) = ws.receive(stream)
        assert isinstance(event, Messages)
        return session.handle(1, Received(1, event.payloads))

    return Case(
        name="client: from bytes to the application's event",
        unit="message",
        units=BATCH,
        ours=ours,
        against="msgspec decoding the text alone",
        theirs=lambda: [decode(text) for text in texts],
    )


def _publish() -> Case:
    ws, session = _open_websocket(), _online_session()
    theirs = Connection(ConnectionType.CLIENT)
    op = 1

    def ours() -> None:
        nonlocal op
        out: list[bytes] = []
        for number in range(op + 1, op + 1 + BATCH):
            for order in session.handle(1, Asked(number, Publish.of(CHANNEL, READING))):
                assert isinstance(order, Send)
                out.append(ws.frame(order.payload))
        acks = [f'{{"type":"ack","requestId":"{number}"}}' for number in range(op + 1, op + 1 + BATCH)]
        assert len(session.handle(1, Received(1, [*acks]))) == BATCH == len(out)
        op += BATCH

    def by_hand() -> None:
        for number in range(BATCH):
            frame = {"type": "publish", "channel": CHANNEL, "data": READING, "requestId": str(number)}
            theirs.send(TextMessage(data=msgspec.json.encode(frame).decode()))

    return Case(
        name="client: from publish() to bytes, and its ack",
        unit="publish",
        units=BATCH,
        ours=ours,
        against="msgspec and wsproto by hand, without the ack",
        theirs=by_hand,
    )


def _fan_out(subscribers: int) -> Case:
    relay = _relay(subscribers)
    frame = {"type": "publish", "channel": CHANNEL, "data": READING, "requestId": "1"}
    text = msgspec.json.encode(frame).decode()
    batch = Received(1, [text] * 16)
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

    def ours() -> None:
        orders = relay.handle(1, batch)
        deliveries = [len(list(order.links)) for order in orders if isinstance(order, Broadcast)]
        assert deliveries == [subscribers] * 16

    def floor() -> None:
        for _ in range(16):
            read = decode(text)
            encode({"type": "message", "channel": read["channel"], "from": "peer_1", "data": read["data"]})
            encode({"type": "ack", "requestId": read["requestId"]})

    return Case(
        name=f"relay: a publish to {subscribers} subscriber{'s' * (subscribers > 1)}, decided and encoded",
        unit="publish",
        units=16,
        ours=ours,
        against="msgspec decoding and encoding once",
        theirs=floor,
    )


# --- what the cases stand on --------------------------------------------------------------------------------


def _expect(events: object, messages: int) -> None:
    assert isinstance(events, list)
    assert [len(event.payloads) for event in events] == [messages]


def _wsproto_reader(connection: Connection, stream: bytes) -> Callable[[], object]:
    def read() -> None:
        connection.receive_data(stream)
        assert sum(isinstance(event, TextMessage) for event in connection.events()) >= BATCH

    return read


def _shake_hands() -> tuple[WebSocket, WebSocket]:
    client = WebSocket.client("localhost", "/v1?key=pk_live_bench", random=MaskKeys(os.urandom))
    server = WebSocket.server()
    server.receive(client.open())
    answer, _ = server.accept()
    client.receive(answer)
    return client, server


def _open_websocket() -> WebSocket:
    return _shake_hands()[0]


def _serving_websocket() -> WebSocket:
    return _shake_hands()[1]


def _online_session() -> ClientSession:
    session = ClientSession(ClientSettings(api_key="pk_live_bench", url="ws://localhost"), Entropy(0))
    session.handle(0, Asked(1, Connect()))
    session.handle(0, LinkUp(1))
    session.handle(0, Received(1, ['{"type":"welcome","peerId":"peer_1","serverTime":0,"maxMessageSize":65536}']))
    assert session.state == "connected"
    return session


def _relay(subscribers: int) -> Relay:
    limits = Limits(message_rate=None, connects_per_minute=None)
    settings = RelaySettings(born_at=0.0, keys=(PublishableKey("pk_live_bench"),), limits=limits)
    relay = Relay(settings, Entropy(0))
    for link in range(1, subscribers + 2):
        relay.handle(0, LinkAsked(link, "/v1?key=pk_live_bench", "127.0.0.1"))
        relay.handle(0, LinkUp(link))
        if link > 1:
            relay.handle(0, Received(link, [f'{{"type":"subscribe","channel":"{CHANNEL}"}}']))
    return relay
