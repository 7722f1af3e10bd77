"""The byte layer: conversations in memory, every rule of RFC 6455 broken once, and proof that neither the fast path
nor the way the network cuts a stream changes what is said."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, TextMessage

from metered_proto.errors import LocalProtocolError
from metered_proto.masking import Masker, mask
from metered_proto.websocket import (
    TRANSITIONS,
    Closed,
    Event,
    Heard,
    MaskKeys,
    Messages,
    Opened,
    PlainRequest,
    Refused,
    Reply,
    Requested,
    State,
    WebSocket,
    server_text_frame,
)

LIMIT = 70_000
ROLES = ("client", "server")

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80


class WithoutFastPath(WebSocket):
    """The same, except that every frame goes to wsproto."""

    __slots__ = ()

    def _peel(self, data: bytes, position: int, payloads: list[str | bytes]) -> int:
        return position


def source(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def connect(kind: type[WebSocket] = WebSocket, *, limit: int = LIMIT, seed: int = 1) -> tuple[WebSocket, WebSocket]:
    """A client and a server with an open WebSocket between them."""
    client = kind.client("h", "/v1?key=s3cr3t", random=source(seed), max_message_size=limit)
    server = kind.server(max_message_size=limit)
    [asked] = server.receive(client.open())
    assert isinstance(asked, Requested)
    answer, events = server.accept()
    assert events == []
    assert client.receive(answer) == [Opened()]
    assert client.state is server.state is State.OPEN
    return client, server


def make(role: str, kind: type[WebSocket] = WebSocket, *, limit: int = LIMIT) -> WebSocket:
    """The end of that role, open."""
    client, server = connect(kind, limit=limit)
    return client if role == "client" else server


def frame(
    role: str,
    first: int,
    payload: bytes = b"",
    *,
    masked: bool | None = None,
    form: int | None = None,
    size: int | None = None,
    key: bytes = b"\x11\x80\x00\xff",
) -> bytes:
    """A frame as it reaches `role`, well masked and of minimal length unless told otherwise."""
    size = len(payload) if size is None else size
    form = form or (0 if size < 126 else 2 if size < 1 << 16 else 8)
    masked = role == "server" if masked is None else masked
    second = size if form == 0 else 126 if form == 2 else 127
    head = bytes((first, second | (0x80 if masked else 0))) + (size.to_bytes(form) if form else b"")
    return head + (key + mask(payload, key) if masked else payload)


def close_frame(role: str, code: int, reason: bytes = b"") -> bytes:
    return frame(role, FIN | CLOSE, code.to_bytes(2) + reason)


class Summary(msgspec.Struct):
    """All that a WebSocket said of a stream, without regard to how it was cut."""

    payloads: list[str | bytes] = []
    replies: bytes = b""
    heard: bool = False
    closed: Closed | None = None


ORDER: list[type[Event]] = [Opened, Reply, Heard, Messages, Closed]


def read(ws: WebSocket, pieces: Iterable[bytes]) -> Summary:
    said = Summary(payloads=[])
    for piece in pieces:
        events = ws.receive(piece)
        kinds = [ORDER.index(type(event)) for event in events]
        assert kinds == sorted(set(kinds)), "at most one of each, in order"
        assert said.closed is None or not events, "nothing comes after Closed"
        for event in events:
            match event:
                case Messages(payloads):
                    assert payloads
                    said.payloads += payloads
                case Reply(data):
                    said.replies += data
                case Heard():
                    said.heard = True
                case Closed():
                    said.closed = event
        assert ws.closed == (said.closed is not None)
    return said


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, over and over."""
    at, turn = 0, 0
    while at < len(data):
        yield data[at : at + sizes[turn % len(sizes)]]
        at += sizes[turn % len(sizes)]
        turn += 1


def replies_of(role: str, data: bytes) -> list[tuple[int, bytes]]:
    """The frames that `role` wrote: opcode and unmasked payload. They are all small."""
    frames: list[tuple[int, bytes]] = []
    while data:
        size, masked = data[1] & 0x7F, data[1] & 0x80
        assert data[0] & 0x70 == 0
        assert bool(masked) == (role == "client")
        assert size < 126
        start = 6 if masked else 2
        payload = data[start : start + size]
        frames.append((data[0], mask(payload, data[2:6]) if masked else payload))
        data = data[start + size :]
    return frames


class TestConversations:
    """Our client with our server, in memory."""

    def test_messages_both_ways(self) -> None:
        client, server = connect()
        assert server.receive(client.frame(b"hello")) == [Messages(["hello"])]
        assert client.receive(server.frame("grüße".encode())) == [Messages(["grüße"])]
        both = client.frame(b"one") + client.frame(b"") + client.frame(b"two")
        assert server.receive(both) == [Messages(["one", "", "two"])]

    @each_row("size", [0, 1, 125, 126, 127, 65_535, 65_536, LIMIT])
    def test_every_length_form(self, size: int) -> None:
        client, server = connect()
        payload = bytes(0x20 + i % 90 for i in range(size))
        for data, reader in ((client.frame(payload), server), (server.frame(payload), client)):
            assert read(reader, [data]).payloads == [payload.decode()]
            assert read(reader, cut(data, [1000])).payloads == [payload.decode()]
        assert server.frame(payload) == server_text_frame(payload)

    def test_pings_are_answered_and_pongs_heard(self) -> None:
        client, server = connect()
        for asks, answers in ((client, server), (server, client)):
            [reply, heard] = answers.receive(asks.ping(b"are you there"))
            assert heard == Heard()
            assert isinstance(reply, Reply)
            assert replies_of("client" if answers is client else "server", reply.data) == [
                (FIN | PONG, b"are you there")
            ]
            assert asks.receive(reply.data) == [Heard()]

    @pytest.mark.parametrize("starter", ROLES)
    def test_a_closing_handshake(self, starter: str) -> None:
        client, server = connect()
        starts, answers = (client, server) if starter == "client" else (server, client)
        goodbye = starts.close(4001, "invalid key")
        assert starts.state is State.CLOSING
        assert starts.close(1000) == b""
        [reply, closed] = answers.receive(goodbye)
        assert closed == Closed(4001, "invalid key")
        assert isinstance(reply, Reply)
        assert answers.closed
        assert starts.receive(reply.data) == [Closed(4001, "invalid key")]
        assert starts.closed

    def test_closing_handshakes_that_cross(self) -> None:
        client, server = connect()
        from_client, from_server = client.close(1000, "done"), server.close(1001, "going")
        assert server.receive(from_client) == [Closed(1000, "done")]
        assert client.receive(from_server) == [Closed(1001, "going")]

    def test_messages_still_come_while_closing(self) -> None:
        client, server = connect()
        late = server.frame(b"an ack that was under way") + server.ping(b"x")
        goodbye = client.close(1000)
        [reply, heard, messages] = client.receive(late)
        assert (heard, messages) == (Heard(), Messages(["an ack that was under way"]))
        [echo, closed] = server.receive(goodbye + reply.data if isinstance(reply, Reply) else b"")
        assert closed == Closed(1000, "")
        assert isinstance(echo, Reply)
        assert client.receive(echo.data) == [Closed(1000, "")]

    def test_what_comes_with_the_answer_to_the_handshake_is_not_lost(self) -> None:
        client = WebSocket.client("h", "/", random=source())
        server = WebSocket.server()
        server.receive(client.open())
        answer, _ = server.accept()
        whole = answer + server.frame(b"welcome") + server.ping()
        for sizes in ([len(whole)], [1], [len(answer) + 3, 2]):
            client = WebSocket.client("h", "/", random=source())
            client.open()
            events = [event for piece in cut(whole, sizes) for event in client.receive(piece)]
            assert sorted(type(event).__name__ for event in events) == ["Heard", "Messages", "Opened", "Reply"]
            assert Messages(["welcome"]) in events
            assert events[0] == Opened()

    def test_what_comes_with_the_request_is_not_lost(self) -> None:
        client, _ = connect()
        early = client.frame(b"early")
        for ahead in ([early, b""], [early[:-2], early[-2:]]):
            server = WebSocket.server()
            request = WebSocket.client("h", "/", random=source()).open()
            [asked] = server.receive(request + ahead[0])
            assert isinstance(asked, Requested)
            answer, events = server.accept()
            assert answer.startswith(b"HTTP/1.1 101 ")
            events += server.receive(ahead[1]) if ahead[1] else []
            assert events == [Messages(["early"])]

    def test_bytes_between_request_and_answer(self) -> None:
        client, _ = connect()
        server = WebSocket.server()
        server.receive(WebSocket.client("h", "/", random=source()).open())
        assert server.receive(client.frame(b"early")) == []
        assert server.accept()[1] == [Messages(["early"])]


class TestStrangers:
    """The same with the other end played by an implementation that shares no code with this one."""

    def test_our_client(self) -> None:
        ours, theirs = WebSocket.client("h", "/v1?key=x", random=source()), ServerProtocol()
        theirs.receive_data(ours.open())
        [request] = theirs.events_received()
        assert isinstance(request, Request)
        theirs.send_response(theirs.accept(request))
        assert ours.receive(b"".join(theirs.data_to_send())) == [Opened()]
        self.converse(ours, theirs)

    def test_our_server(self) -> None:
        ours, theirs = WebSocket.server(), ClientProtocol(parse_uri("ws://h/v1?key=x"))
        theirs.send_request(theirs.connect())
        [asked] = ours.receive(b"".join(theirs.data_to_send()))
        assert isinstance(asked, Requested)
        assert (asked.host, asked.target) == ("h", "/v1?key=x")
        theirs.receive_data(ours.accept()[0])
        assert theirs.events_received()[0].status_code == 101  # type: ignore[union-attr]
        self.converse(ours, theirs)

    def converse(self, ours: WebSocket, theirs: Protocol) -> None:
        long = b"x" * 66_000
        theirs.receive_data(ours.frame(b"hello") + ours.frame(long) + ours.ping(b"p"))
        assert [bytes(event.data) for event in theirs.events_received()] == [b"hello", long, b"p"]  # type: ignore[union-attr]
        theirs.send_text(b"a")
        theirs.send_text(b"b", fin=False)
        theirs.send_continuation(b"c", fin=True)
        theirs.send_binary(b"\x00")
        theirs.send_ping(b"q")
        [reply, heard, messages] = ours.receive(b"".join(theirs.data_to_send()))
        assert (heard, messages) == (Heard(), Messages(["a", "bc", b"\x00"]))
        assert isinstance(reply, Reply)
        theirs.receive_data(reply.data + ours.close(4000, "quiet"))
        pong, _ = theirs.events_received()
        assert pong == Frame(Opcode.PONG, b"q")
        assert ours.receive(b"".join(theirs.data_to_send())) == [Closed(4000, "quiet")]
        assert theirs.close_rcvd == Close(4000, "quiet")


class TestTheHandshake:
    def test_a_refusal(self) -> None:
        client, server = WebSocket.client("h", "/", random=source()), WebSocket.server()
        server.receive(client.open())
        answer = server.respond(429, headers=[("Retry-After", "7")], body=b"later")
        assert server.closed
        assert client.receive(answer) == [Refused(429, "Too Many Requests", b"later")]
        assert client.closed
        assert client.receive(b"") == server.receive(b"") == server.receive(b"x") == []

    def test_plain_http(self) -> None:
        server = WebSocket.server(max_body=10)
        [asked] = server.receive(b"PUT /x?y HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789")
        assert asked == PlainRequest("PUT", "/x?y", {"host": "h", "content-length": "10"}, b"0123456789")
        with pytest.raises(LocalProtocolError):
            server.accept()
        assert server.respond(204).startswith(b"HTTP/1.1 204 No Content\r\n")
        assert server.closed

    def test_a_server_that_fails_it(self) -> None:
        server = WebSocket.server(max_body=10)
        [reply, closed] = server.receive(b"PUT /x?y HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n")
        assert isinstance(reply, Reply)
        assert reply.data.startswith(b"HTTP/1.1 413 ")
        assert closed == Closed(1009, "the body may have 10 bytes")
        assert server.closed
        assert server.receive(b"more") == []

    def test_a_client_that_fails_it(self) -> None:
        client = WebSocket.client("h", "/", random=source())
        client.open()
        assert client.receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") == [
            Closed(1002, "the response does not upgrade to a WebSocket")
        ]
        assert client.closed

    @pytest.mark.parametrize("asked", [False, True])
    def test_a_stream_that_ends(self, asked: bool) -> None:
        lost = Closed(1006, "the connection was lost during the handshake")
        client, server = WebSocket.client("h", "/", random=source()), WebSocket.server()
        request = client.open()
        assert client.receive(b"") == [lost]
        server.receive(request if asked else request[:-1])
        assert server.receive(b"") == [lost]
        # Whoever drives it may not have noticed yet.
        assert server.accept() == (b"", [])
        assert server.respond(500) == b""

    def test_giving_up(self) -> None:
        client, server = WebSocket.client("h", "/", random=source()), WebSocket.server()
        server.receive(client.open())
        for ws in (client, server):
            assert ws.close(1000) == b""
            assert ws.closed
            assert ws.receive(b"HTTP/1.1 ") == []

    def test_calls_out_of_order(self) -> None:
        client, server = WebSocket.client("h", "/", random=source()), WebSocket.server()
        calls: list[Callable[[], Any]] = [
            client.accept,
            lambda: client.respond(500),
            lambda: client.frame(b""),
            client.ping,
            lambda: client.receive(b"HTTP/1.1 "),
            server.open,
            server.accept,
            lambda: server.respond(500),
            lambda: server.frame(b""),
        ]
        for call in calls:
            with pytest.raises(LocalProtocolError):
                call()
        client, server = connect()
        for call in (client.open, server.accept, lambda: server.respond(500)):
            with pytest.raises(LocalProtocolError):
                call()

    def test_a_repr_shows_no_secret(self) -> None:
        client = WebSocket.client("h", "/v1?key=s3cr3t", random=source())
        assert repr(client) == "<WebSocket client connecting>"
        assert repr(connect()[1]) == "<WebSocket server open>"


class TestSending:
    def test_the_examples_of_section_5_7(self) -> None:
        keys = iter([b"k" * 16, b"\x37\xfa\x21\x3d"])
        client = WebSocket.client("h", "/", random=lambda size: next(keys))
        server = WebSocket.server()
        server.receive(client.open())
        client.receive(server.accept()[0])
        assert client.frame(b"Hello") == b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        assert server.frame(b"Hello") == b"\x81\x05Hello"
        assert server.ping(b"Hello") == b"\x89\x05Hello"
        assert client.receive(b"\x01\x03Hel") == []
        assert client.receive(b"\x80\x02lo") == [Messages(["Hello"])]
        assert client.receive(b"\x82\x7e\x01\x00" + bytes(256)) == [Messages([bytes(256)])]
        assert client.receive(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(65536)) == [Messages([bytes(65536)])]
        assert server.receive(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [Heard()]

    @pytest.mark.parametrize("role", ROLES)
    def test_after_the_end_there_is_nothing_to_say(self, role: str) -> None:
        ws = make(role)
        ws.close(1000)
        assert ws.frame(b"x") == ws.ping() == ws.close(1000) == b""
        ws.receive(b"")
        assert ws.frame(b"x") == ws.ping() == ws.close(1000) == b""

    @each_row("code", [-1, 0, 429, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, 70_000])
    def test_codes_that_cannot_be_sent(self, code: int) -> None:
        client, _ = connect()
        with pytest.raises(ValueError, match=str(code)):
            client.close(code)
        assert client.state is State.OPEN

    @each_row("code", [1000, 1003, 1007, 1013, 3000, 4000, 4999])
    def test_codes_that_can(self, code: int) -> None:
        client, server = connect()
        assert server.receive(client.close(code))[-1] == Closed(code, "")

    @pytest.mark.parametrize(
        ("reason", "sent"),
        [
            ("x" * 123, "x" * 123),
            ("x" * 124, "x" * 123),
            ("x" * 122 + "é", "x" * 122),
            ("😀" * 40, "😀" * 30),
            ("a\ud800b", "a?b"),
        ],
    )
    def test_reasons_are_cut_between_characters(self, reason: str, sent: str) -> None:
        client, server = connect()
        assert server.receive(client.close(1000, reason))[-1] == Closed(1000, sent)

    def test_a_ping_carries_at_most_125_bytes(self) -> None:
        client, server = connect()
        assert server.receive(client.ping(bytes(125)))[-1] == Heard()
        with pytest.raises(ValueError, match="125"):
            client.ping(bytes(126))

    def test_keys_come_from_the_source_alone(self) -> None:
        streams = []
        for _ in range(2):
            client, server = connect(seed=7)
            ping = client.receive(server.ping(b"x"))[0]
            assert isinstance(ping, Reply)
            streams.append(client.frame(b"a") + client.ping() + ping.data + client.close(1000))
        assert streams[0] == streams[1]


# What breaks a rule, for both roles unless it says which, and the code it is failed with.
BROKEN: list[tuple[str, Callable[[str], bytes], int]] = [
    *(
        (f"5.2 reserved bit {bit:#x}", lambda role, bit=bit: frame(role, FIN | bit | TEXT, b"x"), 1002)
        for bit in (64, 32, 16)
    ),
    *(
        (f"5.2 reserved opcode {code:#x}", lambda role, code=code: frame(role, FIN | code, b"x"), 1002)
        for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    ("5.1 wrong mask", lambda role: frame(role, FIN | TEXT, b"hello", masked=role == "client"), 1002),
    ("5.1 wrong mask, control", lambda role: frame(role, FIN | PING, b"hello", masked=role == "client"), 1002),
    ("5.1 wrong mask, long", lambda role: frame(role, FIN | TEXT, b"x" * 500, masked=role == "client"), 1002),
    ("5.2 length not minimal, 2 bytes", lambda role: frame(role, FIN | TEXT, b"x" * 125, form=2), 1002),
    ("5.2 length not minimal, 8 bytes", lambda role: frame(role, FIN | TEXT, b"x" * 65535, form=8), 1002),
    ("5.2 length with its top bit", lambda role: frame(role, FIN | TEXT, size=1 << 63, form=8), 1002),
    ("5.4 continuation of nothing", lambda role: frame(role, FIN | CONT, b"x"), 1002),
    ("5.4 empty continuation of nothing", lambda role: frame(role, CONT), 1002),
    ("5.4 text within fragments", lambda role: frame(role, TEXT, b"x") + frame(role, FIN | TEXT, b"x"), 1002),
    ("5.4 binary within fragments", lambda role: frame(role, TEXT, b"x") + frame(role, BINARY, b"x"), 1002),
    ("5.5 fragmented ping", lambda role: frame(role, PING, b"x"), 1002),
    ("5.5 fragmented close", lambda role: frame(role, CLOSE), 1002),
    ("5.5 long ping", lambda role: frame(role, FIN | PING, bytes(126)), 1002),
    ("5.5 long close", lambda role: frame(role, FIN | CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    ("5.5 control over the limit", lambda role: frame(role, FIN | PING, size=1 << 40), 1002),
    ("5.5.1 close with one byte", lambda role: frame(role, FIN | CLOSE, b"\x03"), 1002),
    ("5.5.1 close reason not UTF-8", lambda role: close_frame(role, 1000, b"\xff"), 1007),
    *(
        (f"7.4 close code {code}", lambda role, code=code: close_frame(role, code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ),
    ("8.1 text not UTF-8", lambda role: frame(role, FIN | TEXT, b"ok \xff"), 1007),
    ("8.1 surrogate", lambda role: frame(role, FIN | TEXT, b"\xed\xa0\x80"), 1007),
    ("8.1 overlong", lambda role: frame(role, FIN | TEXT, b"\xc0\xaf"), 1007),
    ("8.1 half a character", lambda role: frame(role, FIN | TEXT, "é".encode()[:1]), 1007),
    ("8.1 a later fragment", lambda role: frame(role, TEXT, b"ok") + frame(role, FIN | CONT, b"\xff"), 1007),
    ("8.1 half a character at the end", lambda role: frame(role, TEXT, b"\xc3") + frame(role, FIN | CONT), 1007),
    ("10.4 frame over the limit", lambda role: frame(role, FIN | TEXT, size=LIMIT + 1), 1009),
    ("10.4 binary over the limit", lambda role: frame(role, FIN | BINARY, size=LIMIT + 1), 1009),
    ("10.4 fragment over the limit", lambda role: frame(role, TEXT, size=LIMIT + 1), 1009),
    ("10.4 enormous", lambda role: frame(role, FIN | TEXT, size=(1 << 63) - 1), 1009),
    ("10.4 whole frame over the limit", lambda role: frame(role, FIN | TEXT, bytes(LIMIT + 1)), 1009),
    ("5.1 wrong mask, seen in the header", lambda role: frame(role, FIN | TEXT, size=9, masked=role == "client"), 1002),
    (
        "10.4 fragments over the limit",
        lambda role: frame(role, BINARY, bytes(LIMIT - 1)) + frame(role, CONT) + frame(role, FIN | CONT, size=2),
        1009,
    ),
]

each_kind = each_row("kind", [WebSocket, WithoutFastPath])
each_role = each_row("role", ROLES)
each_fault = each_row(("data", "code"), [pytest.param(data, code, id=name) for name, data, code in BROKEN])


class TestBrokenRules:
    @each_kind
    @each_role
    @each_fault
    def test_it_ends_the_connection(
        self, data: Callable[[str], bytes], code: int, role: str, kind: type[WebSocket]
    ) -> None:
        good = frame(role, FIN | TEXT, b"before")
        stream = good + data(role) + good
        outcomes = []
        for sizes in ([len(stream)], [1] if len(stream) < 2000 else [777], [5, 3000]):
            ws = make(role, kind)
            said = read(ws, cut(stream, sizes))
            assert said.payloads == ["before"]
            assert said.closed is not None
            assert said.closed.code == code
            assert replies_of(role, said.replies) == [
                (FIN | CLOSE, code.to_bytes(2) + said.closed.reason.encode()[:123])
            ]
            assert ws.receive(good) == ws.receive(b"") == []
            outcomes.append(said)
        assert all(said == outcomes[0] for said in outcomes)

    @each_kind
    @each_role
    @each_fault
    def test_while_closing_it_is_not_answered(
        self, data: Callable[[str], bytes], code: int, role: str, kind: type[WebSocket]
    ) -> None:
        ws = make(role, kind)
        ws.close(1000)
        said = read(ws, [data(role)])
        assert said.closed is not None
        assert (said.closed.code, said.replies) == (code, b"")


class TestReceiving:
    @each_row(
        ("frames", "payloads"),
        [
            ([(FIN | BINARY, b"\x00\xff")], [b"\x00\xff"]),
            ([(FIN | BINARY, b"")], [b""]),
            ([(FIN | TEXT, b"")], [""]),
            ([(TEXT, b"He"), (CONT, b"l"), (FIN | CONT, b"lo")], ["Hello"]),
            ([(BINARY, b"\x00"), (FIN | CONT, b"\xff")], [b"\x00\xff"]),
            ([(TEXT, b""), (CONT, b""), (FIN | CONT, b"")], [""]),
            ([(BINARY, b""), (FIN | CONT, b"")], [b""]),
            ([(TEXT, b"x" * LIMIT), (FIN | PING, b"p" * 99), (FIN | CONT, b"")], ["x" * LIMIT]),
            ([(TEXT, "é".encode()[:1]), (FIN | CONT, "é".encode()[1:])], ["é"]),
            ([(TEXT, b"a"), (FIN | CONT, b"b"), (FIN | TEXT, b"c"), (FIN | BINARY, b"d")], ["ab", "c", b"d"]),
            ([(TEXT, b"a"), (FIN | PING, b"p"), (FIN | CONT, b"b")], ["ab"]),
            ([(FIN | TEXT, b"x" * LIMIT), (FIN | TEXT, b"y" * LIMIT)], ["x" * LIMIT, "y" * LIMIT]),
            ([(FIN | BINARY, b"x" * LIMIT), (FIN | BINARY, b"y" * LIMIT)], [b"x" * LIMIT, b"y" * LIMIT]),
            (
                [(BINARY, b"x" * LIMIT), (CONT, b""), (FIN | CONT, b""), (BINARY, b""), (FIN | CONT, b"z")],
                [b"x" * LIMIT, b"z"],
            ),
        ],
    )
    @each_kind
    @each_role
    def test_messages(
        self, role: str, kind: type[WebSocket], frames: list[tuple[int, bytes]], payloads: list[str | bytes]
    ) -> None:
        data = b"".join(frame(role, *each) for each in frames)
        for sizes in ([len(data)], [1] if len(data) < 1000 else [4096], [3, 2000]):
            said = read(make(role, kind), cut(data, sizes))
            assert said.payloads == payloads
            assert [type(payload) for payload in said.payloads] == [type(payload) for payload in payloads]
            assert said.closed is None

    @each_kind
    @each_role
    def test_a_ping_within_fragments_is_answered_at_once(self, role: str, kind: type[WebSocket]) -> None:
        ws = make(role, kind)
        assert ws.receive(frame(role, TEXT, b"a")) == []
        [reply, heard] = ws.receive(frame(role, FIN | PING, b"p"))
        assert isinstance(reply, Reply)
        assert replies_of(role, reply.data) == [(FIN | PONG, b"p")]
        assert heard == Heard()
        assert ws.receive(frame(role, FIN | CONT, b"b")) == [Messages(["ab"])]

    @each_row(
        ("payload", "closed"),
        [
            (b"", Closed(1005, "")),
            (b"\x03\xe8", Closed(1000, "")),
            (b"\x03\xe8bye", Closed(1000, "bye")),
            (b"\x0f\xa4" + "é".encode() * 61, Closed(4004, "é" * 61)),
        ],
    )
    @each_kind
    @each_role
    def test_a_close_frame_is_echoed(self, role: str, kind: type[WebSocket], payload: bytes, closed: Closed) -> None:
        ws = make(role, kind)
        said = read(ws, [frame(role, FIN | TEXT, b"x") + frame(role, FIN | CLOSE, payload) + b"\xff\xff\xff"])
        assert (said.payloads, said.closed) == (["x"], closed)
        assert replies_of(role, said.replies) == [(FIN | CLOSE, payload)]

    @each_kind
    @each_role
    def test_a_close_frame_within_fragments(self, role: str, kind: type[WebSocket]) -> None:
        said = read(make(role, kind), [frame(role, TEXT, b"x") + close_frame(role, 1001)])
        assert (said.payloads, said.closed) == ([], Closed(1001, ""))

    @each_kind
    @each_role
    def test_the_stream_may_end_anywhere(self, role: str, kind: type[WebSocket]) -> None:
        data = (
            frame(role, FIN | TEXT, b"a")
            + frame(role, BINARY, b"b")
            + frame(role, FIN | PING)
            + frame(role, CONT, b"c" * 130)
        )
        for end in range(len(data) + 1):
            ws = make(role, kind)
            said = read(ws, [data[:end], b""] if end else [b""])
            assert said.closed == Closed(1006, "the connection was lost")
            assert ws.receive(b"") == []
            ws = make(role, kind)
            ws.close(1000)
            assert read(ws, [data[:end], b""] if end else [b""]).closed == Closed(1006, "the connection was lost")


FRAMES = st.builds(
    lambda first, payload, right_mask, form, key: (first, payload, right_mask, form, key),
    st.one_of(
        st.just(FIN | TEXT),
        st.sampled_from([TEXT, CONT, FIN | CONT, BINARY, FIN | BINARY, FIN | PING, FIN | PONG]),
        st.sampled_from([FIN | TEXT, FIN | CLOSE]),
        st.integers(0, 255),
    ),
    st.one_of(
        st.text(max_size=8).map(str.encode),
        st.binary(max_size=6),
        st.sampled_from([b"\x03\xe8", b"\x03\xedx", b"", b"x" * 125, b"y" * 126, b"z" * 200, b"\xc3", b"\xa9"]),
    ),
    st.sampled_from([True] * 20 + [False]),
    st.sampled_from([None] * 20 + [2, 8]),
    st.binary(min_size=4, max_size=4),
)


def stream(role: str, frames: list[tuple[int, bytes, bool, int | None, bytes]]) -> bytes:
    return b"".join(
        frame(role, first, payload, masked=(role == "server") == right_mask, form=form, key=key)
        for first, payload, right_mask, form, key in frames
    )


@given(
    st.sampled_from(ROLES),
    st.lists(FRAMES, max_size=8),
    st.binary(max_size=12),
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([20, 150, LIMIT]),
)
def test_neither_fast_path_nor_cuts_change_what_is_said(
    role: str, frames: list[Any], tail: bytes, sizes: list[int], closing: bool, limit: int
) -> None:
    data = stream(role, frames) + tail
    outcomes = []
    for kind in (WebSocket, WithoutFastPath):
        for cuts in ([max(1, len(data))], [1], sizes):
            ws = make(role, kind, limit=limit)
            if closing:
                ws.close(1000)
            outcomes.append(read(ws, [*cut(data, cuts), b""]))
    assert all(said == outcomes[0] for said in outcomes)


@given(st.sampled_from(ROLES), st.lists(FRAMES, max_size=10))
def test_whole_frames_mean_what_wsproto_says(role: str, frames: list[Any]) -> None:
    """wsproto as an oracle, fed the whole stream at once and asked nothing of ours."""
    data = stream(role, frames)
    oracle = Connection(ConnectionType.CLIENT if role == "client" else ConnectionType.SERVER)
    oracle.receive_data(data)
    payloads: list[str | bytes] = []
    parts: list[Any] = []
    pongs: list[tuple[int, bytes]] = []
    code: int | None = None
    for event in oracle.events():
        if isinstance(event, Message):
            parts.append(event.data)
            if event.message_finished:
                payloads.append(("" if isinstance(event, TextMessage) else b"").join(parts))
                parts = []
        elif isinstance(event, Ping):
            pongs.append((FIN | PONG, bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            code = int(event.code)
    said = read(make(role), [data] if data else [])
    assert said.payloads == payloads
    assert (said.closed.code if said.closed else None) == code
    replies = replies_of(role, said.replies)
    assert replies[: len(pongs)] == pongs
    assert [first for first, _ in replies[len(pongs) :]] == ([FIN | CLOSE] if code else [])


def test_noise_never_raises_and_never_piles_up() -> None:
    dice = random.Random(1)
    ended = set()
    for turn in range(1000):
        role = ROLES[turn % 2]
        ws = make(role, limit=5000)
        for _ in range(dice.randint(1, 4)):
            first = dice.choice([FIN | TEXT, TEXT, FIN | BINARY, CONT, FIN | PING, dice.randrange(256)])
            second = dice.randrange(128) | (0x80 if role == "server" else 0)
            events = ws.receive(bytes((first, second)) + dice.randbytes(dice.randrange(200)))
            ended.add(ws.closed)
            assert ws.closed == any(isinstance(event, Closed) for event in events) or events == []
            assert len(ws._buffer or b"") <= 5014
    assert ended == {True, False}


def test_many_tiny_fragments_cost_what_they_carry() -> None:
    ws = make("server", limit=1 << 20)
    ws.receive(frame("server", TEXT, b"x"))
    for _ in range(20):
        assert ws.receive(frame("server", CONT, b"x") * 100 + frame("server", CONT) * 100) == []
    odd = ws._odd
    assert odd is not None
    assert odd._message is not None
    assert len(odd._message) == 2001
    assert sys.getsizeof(odd._message) < 4100
    assert ws.receive(frame("server", FIN | CONT)) == [Messages(["x" * 2001])]


@pytest.mark.parametrize("role", ROLES)
def test_a_quiet_connection_holds_nothing(role: str) -> None:
    ws = make(role)
    ws.receive(frame(role, FIN | TEXT, b"hello")[:-1])
    assert ws._buffer is not None
    ws.receive(frame(role, FIN | TEXT, b"hello")[-1:])
    ws.receive(frame(role, FIN | PING, b"x") + frame(role, BINARY, b"a"))
    assert ws._odd is not None
    ws.receive(frame(role, FIN | CONT, b"b"))
    assert [ws._buffer, ws._odd, ws._upgrade] == [None] * 3
    assert not hasattr(ws, "__dict__")
    assert sys.getsizeof(ws) < 200


def test_waiting_for_a_long_frame_copies_nothing() -> None:
    ws = make("client")
    data = frame("client", FIN | TEXT, b"x" * 60_000)
    ws.receive(data[:5000])
    held = ws._buffer
    for piece in cut(data[5000:-1], [5000]):
        assert ws.receive(piece) == []
        assert ws._buffer is held
    assert ws.receive(data[-1:]) == [Messages(["x" * 60_000])]


def test_every_transition_is_taken_and_no_other() -> None:
    happenings: set[tuple[State, State, str]] = set()

    def follow(ws: WebSocket, *acts: Callable[[WebSocket], object]) -> None:
        for act in acts:
            before = ws.state
            act(ws)
            if ws.state is not before:
                happenings.add((before, ws.state, act.__name__))

    def handshake_done(ws: WebSocket) -> None:
        ws.receive(WebSocket.client("h", "/", random=source()).open())
        ws.accept()

    def handshake_failed(ws: WebSocket) -> None:
        ws.receive(b"\r\n\r\n")

    def end_of_stream(ws: WebSocket) -> None:
        ws.receive(b"")

    def close_frame_sent(ws: WebSocket) -> None:
        ws.close(1000)

    def close_frame_received(ws: WebSocket) -> None:
        ws.receive(close_frame("server", 1000))

    def rule_broken(ws: WebSocket) -> None:
        ws.receive(b"\xff\x80\x00\x00\x00\x00")

    acts = [handshake_done, handshake_failed, end_of_stream, close_frame_sent, close_frame_received, rule_broken]
    for act in acts[:3]:
        follow(WebSocket.server(), act)
    for act in acts[2:]:
        follow(make("server"), act)
        follow(make("server"), close_frame_sent, act)
    assert {(before, act.replace("_", " ")): after for before, after, act in happenings} == TRANSITIONS


def test_mask_keys_serve_many_clients() -> None:
    keys = MaskKeys(os.urandom)
    clients = [WebSocket.client("h", "/", random=keys) for _ in range(3)]
    assert len({client.open() for client in clients}) == 3


def slow_mask(payload: bytes, key: bytes) -> bytes:
    """A masker that somebody brought."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


class TestFramesTogether:
    """`frames` says the same as `frame` for each, with other keys."""

    @each_row("role", ROLES)
    @each_row(
        "sizes",
        [[], [0], [0, 0], [1, 125, 126, 127], [1023, 1024], [5, 1024, 1025], [65_535, 65_536, 3], [7] * 256, [7] * 257],
        ids=str,
    )
    def test_each_arrives_as_it_was(self, role: str, sizes: list[int]) -> None:
        client, server = connect()
        sender, receiver = (client, server) if role == "client" else (server, client)
        payloads = [bytes(33 + (index + at) % 90 for at in range(size)) for index, size in enumerate(sizes)]
        events = receiver.receive(sender.frames(payloads)) if payloads else []
        texts: list[str | bytes] = [payload.decode() for payload in payloads]
        assert events == ([Messages(texts)] if texts else [])
        assert receiver.state is State.OPEN
        if not payloads:
            assert sender.frames(payloads) == b""

    @each_row("sizes", [[0], [0, 1, 125, 126, 127], [1024, 1025], [65_535, 65_536, 3], [7] * 300])
    def test_a_masker_that_is_brought_changes_nothing(self, sizes: list[int]) -> None:
        client = WebSocket.client("h", "/", random=source(7), mask=slow_mask)
        plain, server = WebSocket.client("h", "/", random=source(7)), WebSocket.server(mask=slow_mask)
        server.receive(client.open())
        answer, _ = server.accept()
        client.receive(answer)
        plain.open()
        plain.receive(answer)
        payloads = [bytes(33 + (index + at) % 90 for at in range(size)) for index, size in enumerate(sizes)]
        sent = client.frames(payloads)
        assert sent == plain.frames(payloads)
        assert server.receive(sent) == [Messages([payload.decode() for payload in payloads])]
        assert client.frame(b"one more") == plain.frame(b"one more")

    @each_row("masker", [mask, slow_mask])
    def test_each_has_a_key_of_its_own(self, masker: Masker) -> None:
        client, server = WebSocket.client("h", "/", random=source(), mask=masker), WebSocket.server()
        server.receive(client.open())
        client.receive(server.accept()[0])
        sent = client.frames([b"same"] * 100)
        keys = {sent[at + 2 : at + 6] for at in range(0, len(sent), 10)}
        assert len(keys) == 100

    @pytest.mark.parametrize("role", ROLES)
    def test_nothing_once_closing(self, role: str) -> None:
        end = make(role)
        end.close(1000)
        assert end.frames([b"a", b"b"]) == b""

    def test_not_before_it_is_open(self) -> None:
        client = WebSocket.client("h", "/", random=source())
        with pytest.raises(LocalProtocolError):
            client.frames([b"a", b"b"])
