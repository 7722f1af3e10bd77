"""What the core costs, without a socket: from bytes to event, from call to bytes, and through the relay's machine.

The published SDK has no core of its own. The nearest to one is the method that its reader calls with each text
message: it parses and emits, all synchronously, and needs no connection for messages. It is internal to that SDK, so
it is looked up by name, and a version that has it no more fails here at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import metered_realtime
import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.uri import parse_uri
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from benchmarks.figures import BARE, PUBLISHED, WSPROTO, Figure, compared
from benchmarks.plan import Plan
from benchmarks.turns import Samples, in_process, no_collections, take_turns
from benchmarks.workload import CHANNEL, KEY, READING
from metered_anyio.emitter import Emitter
from metered_anyio.logger import NoopLogger
from metered_proto.client import ClientSession, Connect, Publish
from metered_proto.entropy import Entropy
from metered_proto.events import Message
from metered_proto.facts import Asked, LinkAsked, LinkUp, Received
from metered_proto.masking import MaskKeys
from metered_proto.orders import AnswerAll, Broadcast, Send, TellAll
from metered_proto.relay import Limits, PublishableKey, Relay, RelaySettings
from metered_proto.settings import ClientSettings
from metered_proto.websocket import WebSocket, server_text_frame
from metered_proto.websocket_events import Messages

BATCH = 256
"""Messages in one read, as under load."""

MESSAGE = msgspec.json.encode({"type": "message", "channel": CHANNEL, "from": "peer_0123456789abcdef", "data": READING})
TEXT = MESSAGE.decode()

Work = Callable[[], object]


def core(plan: Plan) -> Iterator[Figure]:
    """All of it, in microseconds of CPU."""
    with no_collections():
        yield from _to_event(plan)
        yield from _to_handler(plan)
        yield from _stream_to_handler(plan)
        yield from _publish(plan)
        yield from _peel(plan, "WebSocket, client: read a text frame", masked=False)
        yield from _peel(plan, "WebSocket, server: read a masked text frame", masked=True)
        yield from _decide(plan, 1)
        yield from _decide(plan, 1000)


def _to_event(plan: Plan) -> Iterator[Figure]:
    """From a message's text to its event. Nobody listens to the events, on either side."""
    session, texts = _online_session(), [TEXT] * BATCH
    received = Received(1, [*texts])
    handle = _published_handle()
    decode = msgspec.json.Decoder(Message).decode

    def bare() -> None:
        events = [decode(text) for text in texts]
        assert len(events) == BATCH

    def ours() -> None:
        (told,) = session.handle(1, received)
        assert isinstance(told, TellAll)

    def published() -> None:
        for text in texts:
            handle(text)

    works = {"ours": (ours, BATCH), "published": (published, BATCH), "bare": (bare, BATCH)}
    name, unit = "bytes to event, 60 B", "µs a message"
    samples = _measure(plan, works)
    yield compared("core", name, unit, samples, ours="ours", theirs="published", peer=PUBLISHED, at_least=9.0)
    yield compared("core", name, unit, samples, ours="ours", theirs="bare", peer=f"bare {BARE}", at_least=0.7)


def _to_handler(plan: Plan) -> Iterator[Figure]:
    """The same, and on to a handler of the application's."""
    session, texts = _online_session(), [TEXT] * BATCH
    received = Received(1, [*texts])
    emitter, ours_heard, published_heard = Emitter(NoopLogger()), Ear(), Ear()
    emitter.on(Message, ours_heard)
    handle = _published_handle(published_heard)

    def ours() -> None:
        (told,) = session.handle(1, received)
        assert isinstance(told, TellAll)
        emitter.emit_all(told.events)

    def published() -> None:
        for text in texts:
            handle(text)

    samples = _measure(plan, {"ours": (ours, BATCH), "published": (published, BATCH)})
    assert ours_heard.messages
    assert published_heard.messages
    name = "bytes to handler, 60 B"
    yield compared("core", name, "µs a message", samples, ours="ours", theirs="published", peer=PUBLISHED)


def _stream_to_handler(plan: Plan) -> Iterator[Figure]:
    """From what comes out of the socket. The published SDK stands on websockets, whose protocol is sans-IO, too."""
    stream = server_text_frame(MESSAGE) * BATCH
    ws, session, emitter, ours_heard, published_heard = _open(), _online_session(), Emitter(NoopLogger()), Ear(), Ear()
    emitter.on(Message, ours_heard)
    handle = _published_handle(published_heard)
    protocol = ClientProtocol(parse_uri("ws://localhost/v1"), state=OPEN)

    def ours() -> None:
        for event in ws.receive(stream):
            assert isinstance(event, Messages)
            (told,) = session.handle(1, Received(1, event.payloads))
            assert isinstance(told, TellAll)
            emitter.emit_all(told.events)

    def published() -> None:
        protocol.receive_data(stream)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            handle(bytes(frame.data).decode())

    samples = _measure(plan, {"ours": (ours, BATCH), "published": (published, BATCH)})
    assert ours_heard.messages
    assert published_heard.messages
    name, peer = "WebSocket stream to handler, 60 B", f"{PUBLISHED} on its websockets"
    yield compared("core", name, "µs a message", samples, ours="ours", theirs="published", peer=peer)


def _publish(plan: Plan) -> Iterator[Figure]:
    """From `publish()` to the socket's bytes, and from its acknowledgement to the answer."""
    ws, session, theirs, op = _open(), _online_session(), Connection(ConnectionType.CLIENT), 1

    def ours() -> None:
        nonlocal op
        numbers = range(op + 1, op + 1 + BATCH)
        op += BATCH
        texts: list[bytes] = []
        for number in numbers:
            for order in session.handle(1, Asked(number, Publish.of(CHANNEL, READING))):
                assert isinstance(order, Send)
                texts.append(order.payload)
        assert ws.frames(texts)
        acks = Received(1, [f'{{"type":"ack","requestId":"{number}"}}' for number in numbers])
        (answered,) = session.handle(1, acks)
        assert isinstance(answered, AnswerAll)
        assert len(answered.ops) == BATCH

    def by_hand() -> None:
        for number in range(BATCH):
            frame = {"type": "publish", "channel": CHANNEL, "data": READING, "requestId": str(number)}
            theirs.send(TextMessage(data=msgspec.json.encode(frame).decode()))

    samples = _measure(plan, {"ours": (ours, BATCH), "by hand": (by_hand, BATCH)})
    name, peer = "publish() to bytes, and its ack", f"{BARE} and {WSPROTO} by hand, without the ack"
    yield compared("core", name, "µs a publish", samples, ours="ours", theirs="by hand", peer=peer)


def _peel(plan: Plan, name: str, *, masked: bool) -> Iterator[Figure]:
    client, server = _shake_hands()
    if masked:
        stream = b"".join(client.frame(MESSAGE) for _ in range(BATCH))
        ours, theirs = server, Connection(ConnectionType.SERVER)
    else:
        stream = server_text_frame(MESSAGE) * BATCH
        ours, theirs = client, Connection(ConnectionType.CLIENT)

    def read() -> None:
        events = ours.receive(stream)
        assert sum(len(event.payloads) for event in events if isinstance(event, Messages)) == BATCH

    def wsproto_reads() -> None:
        theirs.receive_data(stream)
        assert sum(isinstance(event, TextMessage) for event in theirs.events()) >= BATCH

    samples = _measure(plan, {"ours": (read, BATCH), "wsproto": (wsproto_reads, BATCH)})
    yield compared("core", name, "µs a frame", samples, ours="ours", theirs="wsproto", peer=WSPROTO)


def _decide(plan: Plan, subscribers: int) -> Iterator[Figure]:
    """A publish through the relay's machine: one `Broadcast`, whoever it goes to."""
    relay = _relay(subscribers)
    text = msgspec.json.encode({"type": "publish", "channel": CHANNEL, "data": READING, "requestId": "1"}).decode()
    batch = Received(1, [text] * 16)
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

    def ours() -> None:
        orders = relay.handle(1, batch)
        assert sum(len(list(order.links)) for order in orders if isinstance(order, Broadcast)) == 16 * subscribers

    def floor() -> None:
        for _ in range(16):
            read = decode(text)
            encode({"type": "message", "channel": read["channel"], "from": "peer_1", "data": read["data"]})
            encode({"type": "ack", "requestId": read["requestId"]})

    samples = _measure(plan, {"ours": (ours, 16), "floor": (floor, 16)})
    name, peer = f"relay's machine, a publish 1 → {subscribers}", f"{BARE} decoding and encoding once"
    yield compared("core", name, "µs a publish", samples, ours="ours", theirs="floor", peer=peer)


# --- what these stand on ------------------------------------------------------------------------------------


def _measure(plan: Plan, works: Mapping[str, tuple[Work, int]]) -> Samples:
    sides = {name: in_process(work, units, plan.core_sample) for name, (work, units) in works.items()}
    return take_turns(sides, plan.core_rounds)


class Ear:
    """A handler that counts."""

    def __init__(self) -> None:
        self.messages = 0

    def __call__(self, event: object) -> None:
        self.messages += 1


def _published_handle(ear: Ear | None = None) -> Callable[[str], None]:
    client = metered_realtime.SignallingClient(api_key=KEY, url="ws://localhost")
    if ear is not None:
        client.on(metered_realtime.Message, ear)
    handle: Callable[[str], None] = client._handle_frame
    return handle


def _shake_hands() -> tuple[WebSocket, WebSocket]:
    client = WebSocket.client("localhost", f"/v1?key={KEY}", random=MaskKeys(os.urandom))
    server = WebSocket.server()
    server.receive(client.open())
    answer, _ = server.accept()
    client.receive(answer)
    return client, server


def _open() -> WebSocket:
    return _shake_hands()[0]


def _online_session() -> ClientSession:
    session = ClientSession(ClientSettings(api_key=KEY, url="ws://localhost"), Entropy(0))
    session.handle(0, Asked(1, Connect()))
    session.handle(0, LinkUp(1))
    session.handle(0, Received(1, ['{"type":"welcome","peerId":"peer_1","serverTime":0,"maxMessageSize":65536}']))
    assert session.state == "connected"
    return session


def _relay(subscribers: int) -> Relay:
    limits = Limits(message_rate=None, connects_per_minute=None)
    relay = Relay(RelaySettings(born_at=0.0, keys=(PublishableKey(KEY),), limits=limits), Entropy(0))
    for link in range(1, subscribers + 2):
        relay.handle(0, LinkAsked(link, f"/v1?key={KEY}", "127.0.0.1"))
        relay.handle(0, LinkUp(link))
        if link > 1:
            relay.handle(0, Received(link, [f'{{"type":"subscribe","channel":"{CHANNEL}"}}']))
    return relay
