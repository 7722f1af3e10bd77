"""The opening handshake from both ends, requirement by requirement, and the plain HTTP that may come instead."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.errors import LocalProtocolError
from metered_proto.upgrade import EARLY_LIMIT, KEPT_BODY, ClientUpgrade, ServerUpgrade, accept_key
from metered_proto.websocket_events import Closed, Event, Opened, PlainRequest, Refused, Reply, Requested

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HEADERS = {
    "Host": "server.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def head(first: str, headers: dict[str, str | None]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def request(first: str = "GET /v1?key=pk HTTP/1.1", **changed: str | None) -> bytes:
    return head(first, {**HEADERS, **{name.replace("_", "-"): value for name, value in changed.items()}})


def response(first: str = "HTTP/1.1 101 Switching Protocols", **changed: str | None) -> bytes:
    headers: dict[str, str | None] = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}
    return head(first, {**headers, **{name.replace("_", "-"): value for name, value in changed.items()}})


def sample_nonce(size: int) -> bytes:
    return b"the sample nonce"[:size]


def client() -> ClientUpgrade:
    upgrade = ClientUpgrade("server.example", "/v1?key=pk", random=sample_nonce)
    upgrade.open()
    return upgrade


def outcome(data: bytes, step: int = 1 << 20) -> tuple[Event | None, bytes]:
    """What a client makes of a response read in steps, and what is left for the WebSocket."""
    upgrade = client()
    for at in range(0, len(data), step):
        event = upgrade.receive(data[at : at + step])
        if event is not None:
            return event, upgrade.trailing + data[at + step :] if isinstance(event, Opened) else b""
    return None, b""


def serve(data: bytes, step: int = 1 << 20, max_body: int = 100) -> tuple[ServerUpgrade, list[Event]]:
    """A server that read `data` in steps, and what it said of it."""
    upgrade = ServerUpgrade(max_body=max_body)
    events: list[Event] = []
    for at in range(0, len(data), step):
        events += upgrade.receive(data[at : at + step])
        if events and isinstance(events[-1], Closed):
            break
    return upgrade, events


def parse(data: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """An HTTP response read by h11, and proof that it is a whole one after which the connection closes."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    reader.receive_data(b"")
    first = reader.next_event()
    assert isinstance(first, h11.Response)
    body = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert isinstance(reader.next_event(), h11.ConnectionClosed)
    headers = {name.decode(): value.decode() for name, value in first.headers}
    assert headers["connection"] == "close"
    return first.status_code, headers, body


def test_the_example_of_section_1_3() -> None:
    assert accept_key(KEY) == ACCEPT


class TestClient:
    def test_what_it_asks(self) -> None:
        upgrade = ClientUpgrade(
            "h:8080", "/v1?key=pk", random=sample_nonce, origin="https://o.example", headers=[("User-Agent", "x")]
        )
        assert upgrade.open().decode().split("\r\n") == [
            "GET /v1?key=pk HTTP/1.1",
            "Host: h:8080",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
            "Origin: https://o.example",
            "User-Agent: x",
            "",
            "",
        ]

    @each_row(
        ("data", "expected"),
        [
            pytest.param(response(), Opened(), id="as it should be"),
            pytest.param(response(Upgrade="WebSocket", Connection="keep-alive, upgrade"), Opened(), id="any case"),
            pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" + response(), Opened(), id="something before it"),
            pytest.param(
                response("HTTP/1.0 101 Switching Protocols"),
                Closed(1002, "the upgrade was not answered in HTTP/1.1"),
                id="HTTP/1.0",
            ),
            pytest.param(
                response(Upgrade=None), Closed(1002, "the response does not upgrade to a WebSocket"), id="no Upgrade"
            ),
            pytest.param(
                response(Upgrade="h2c"),
                Closed(1002, "the response does not upgrade to a WebSocket"),
                id="other Upgrade",
            ),
            pytest.param(
                response(Connection=None),
                Closed(1002, "the response does not upgrade the connection"),
                id="no Connection",
            ),
            pytest.param(
                response(Connection="close"),
                Closed(1002, "the response does not upgrade the connection"),
                id="other Connection",
            ),
            pytest.param(
                response(Sec_WebSocket_Accept=None),
                Closed(1002, "the response does not answer our key"),
                id="no Accept",
            ),
            pytest.param(
                response(Sec_WebSocket_Accept=ACCEPT.lower()),
                Closed(1002, "the response does not answer our key"),
                id="wrong Accept",
            ),
            pytest.param(
                response(Sec_WebSocket_Extensions="permessage-deflate"),
                Closed(1002, "the response has an extension that was not asked for"),
                id="extension",
            ),
            pytest.param(
                response(Sec_WebSocket_Protocol="chat"),
                Closed(1002, "the response has a subprotocol that was not asked for"),
                id="subprotocol",
            ),
        ],
    )
    def test_what_section_4_1_asks_of_a_response(self, data: bytes, expected: Event) -> None:
        for step in (1, 5, 1000):
            assert outcome(data, step) == (expected, b"")
            assert outcome(data + b"\x81\x00", step) == (expected, b"\x81\x00" if expected == Opened() else b"")

    @each_row(
        ("data", "expected"),
        [
            (b"HTTP/1.1 429 Slow down\r\nContent-Length: 4\r\n\r\nlate", Refused(429, "Slow down", b"late")),
            (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Refused(302, "Found", b"")),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Refused(200, "OK", b"hi")),
            (b"HTTP/1.1 204 \r\n\r\n", Refused(204, "", b"")),
            (
                b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                Refused(502, "Bad Gateway", b"abcde"),
            ),
            (
                b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n",
                Refused(502, "Bad Gateway", b"abc"),
            ),
            (
                b"HTTP/1.1 503 Busy\r\nContent-Length: 900000\r\n\r\n" + b"x" * 5000,
                Refused(503, "Busy", b"x" * KEPT_BODY),
            ),
            (
                b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;xxxxxxxxxxxxxx\r\ny\r\n" * 4000,
                Refused(503, "Busy", b"y" * 3118),
            ),
            (b"HTTP/1.1 503 Busy\r\nX: " + b"x" * 40_000, Closed(1002, "the response to the upgrade is too long")),
            (b"HTTP/1.1 103 Early\r\n\r\n" * 2000, Closed(1002, "the response to the upgrade is too long")),
            (b"SSH-2.0-OpenSSH\r\n\r\n", Closed(1002, "the response to the upgrade is not HTTP")),
            (b"\x15\x03\x01\x00\x02\x02\x16", Closed(1002, "the response to the upgrade is not HTTP")),
        ],
    )
    def test_plain_http_instead(self, data: bytes, expected: Event) -> None:
        assert outcome(data) == (expected, b"")
        assert outcome(data, 11) == (expected, b"")
        if len(data) < 1000:
            assert outcome(data, 1) == (expected, b"")

    def test_a_stream_that_ends(self) -> None:
        lost = Closed(1006, "the connection was lost during the handshake")
        assert client().receive(b"") == lost
        cut = client()
        assert cut.receive(response()[:-1]) is None
        assert cut.receive(b"") == lost

    @pytest.mark.parametrize("framing", ["", "Content-Length: 100\r\n"])
    def test_a_refusal_that_ends_with_the_stream(self, framing: str) -> None:
        upgrade = client()
        assert upgrade.receive(f"HTTP/1.1 503 Busy\r\n{framing}\r\nhalf".encode()) is None
        assert upgrade.receive(b"") == Refused(503, "Busy", b"half")

    @each_row(
        "wrong",
        [
            {"host": ""},
            {"host": "a b"},
            {"host": "a\r\nX: y"},
            {"host": "ü"},
            {"target": "v1?key=s3cr3t"},
            {"target": "/v1?key=s3cr3t x"},
            {"target": "/v1?key=s3cr3t\r\nX: y"},
            {"target": "/v1?key=s3cr3tü"},
            {"origin": "x\ny"},
            {"headers": [("Cookie", "s3cr3t\n")]},
            {"headers": [("Co okie", "x")]},
            {"headers": [("HOST", "x")]},
            {"headers": [("upgrade", "x")]},
            {"headers": [("Sec-WebSocket-Protocol", "x")]},
            {"headers": [("Content-Length", "3")]},
        ],
    )
    def test_what_cannot_be_asked(self, wrong: dict[str, object]) -> None:
        arguments: dict[str, object] = {"host": "h", "target": "/", "random": sample_nonce, **wrong}
        make: Callable[..., ClientUpgrade] = ClientUpgrade
        with pytest.raises(ValueError, match="the ") as caught:
            make(arguments.pop("host"), arguments.pop("target"), **arguments)
        assert "s3cr3t" not in repr(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    def test_calls_out_of_order(self) -> None:
        upgrade = ClientUpgrade("h", "/?key=s3cr3t", random=sample_nonce)
        assert "s3cr3t" not in repr(upgrade)
        with pytest.raises(LocalProtocolError):
            upgrade.receive(response())
        upgrade.open()
        with pytest.raises(LocalProtocolError):
            upgrade.open()


class TestServerUpgrades:
    def test_it_asks_whether_to_accept(self) -> None:
        data = request(Origin="https://o.example", X_Forwarded_For="10.0.0.1")
        for step in (1, 5, 1000):
            upgrade, [asked] = serve(data, step)
            assert isinstance(asked, Requested)
            assert (asked.target, asked.host, asked.origin) == ("/v1?key=pk", "server.example", "https://o.example")
            assert asked.headers["x-forwarded-for"] == "10.0.0.1"
            assert upgrade.asked is asked
            assert upgrade.accept() == (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n"
            )

    @each_row(
        "data",
        [
            request(Upgrade="WebSocket"),
            request(Upgrade="h2c, websocket"),
            request(Connection="keep-alive, uPGRADE"),
            request(Sec_WebSocket_Protocol="chat"),
            request(Sec_WebSocket_Extensions="permessage-deflate"),
            request(Content_Length="0"),
            request("GET http://server.example/v1?key=pk HTTP/1.1"),
        ],
    )
    def test_what_else_is_a_good_request(self, data: bytes) -> None:
        upgrade, events = serve(data)
        assert [type(event) for event in events] == [Requested]
        assert b"101" in upgrade.accept()

    @each_row(
        ("data", "status"),
        [
            pytest.param(request("POST /v1 HTTP/1.1"), 400, id="no GET"),
            pytest.param(request("GET /v1 HTTP/1.0"), 400, id="HTTP/1.0"),
            pytest.param(request(Content_Length="3"), 400, id="a body"),
            pytest.param(request(Transfer_Encoding="chunked"), 400, id="a chunked body"),
            pytest.param(request(Host=None), 400, id="no Host"),
            pytest.param(request().replace(b"Upgrade: w", b"Host: x\r\nUpgrade: w"), 400, id="two Hosts"),
            pytest.param(request(Connection=None), 400, id="no Connection"),
            pytest.param(request(Connection="close"), 400, id="other Connection"),
            pytest.param(request(Sec_WebSocket_Key=None), 400, id="no Key"),
            pytest.param(request(Sec_WebSocket_Key="dG9vIHNob3J0"), 400, id="short Key"),
            pytest.param(request(Sec_WebSocket_Key="?" * 24), 400, id="Key not base64"),
            pytest.param(request(Sec_WebSocket_Key="\xe9" * 24), 400, id="Key not ASCII"),
            pytest.param(request(sec_websocket_key=KEY), 400, id="two Keys"),
            pytest.param(request(Sec_WebSocket_Version=None), 426, id="no Version"),
            pytest.param(request(Sec_WebSocket_Version="8"), 426, id="other Version"),
            pytest.param(request(sec_websocket_version="13"), 426, id="two Versions"),
            pytest.param(request(X="x" * 40_000), 431, id="long headers"),
            pytest.param(b"GET /" + b"x" * 40_000, 431, id="long request line"),
            pytest.param(request(Transfer_Encoding="gzip"), 501, id="unknown coding"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, id="TLS"),
            pytest.param(b"GET /v1 HTTP/1.1\r\nHost\r\n\r\n", 400, id="bad header"),
            pytest.param(b"\r\n\r\n", 400, id="nothing"),
        ],
    )
    def test_what_section_4_2_1_asks_of_a_request(self, data: bytes, status: int) -> None:
        for step in (1, 7, 1 << 20):
            _, events = serve(data, step)
            reply, closed = events
            assert isinstance(reply, Reply)
            assert isinstance(closed, Closed)
            assert closed.code == 1002
            got, headers, body = parse(reply.data)
            assert got == status
            assert json.loads(body) == {"error": "invalid_request", "message": closed.reason}
            assert headers.get("sec-websocket-version") == ("13" if status == 426 else None)

    def test_refusing(self) -> None:
        upgrade, _ = serve(request())
        answer = upgrade.respond(429, "", [("Retry-After", "30")], b"later")
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        status, headers, body = parse(answer)
        assert (status, headers["retry-after"], body) == (429, "30", b"later")

    def test_bytes_sent_ahead_are_kept_up_to_a_limit(self) -> None:
        for step in (1, 9, 1000):
            upgrade, [_] = serve(request() + b"\x81\x80abcd", step)
            assert bytes(upgrade.trailing) == b"\x81\x80abcd"
        for step in (4000, 1 << 20):
            upgrade, events = serve(request() + bytes(EARLY_LIMIT), step)
            assert [type(event) for event in events] == [Requested]
            _, events = serve(request() + bytes(EARLY_LIMIT + 1), step)
            assert [type(event) for event in events] == [Requested, Reply, Closed]


class TestServerPlainRequests:
    @pytest.mark.parametrize(
        ("data", "body"),
        [
            (b"POST /v1/tokens?x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
            (b"POST /v1/tokens?x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
            (
                b"POST /v1/tokens?x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
                b"hello",
            ),
            (b"POST /v1/tokens?x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b""),
            (b"POST /v1/tokens?x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, b"x" * 100),
        ],
    )
    def test_it_comes_whole(self, data: bytes, body: bytes) -> None:
        for step in (1, 7, 1000):
            upgrade, [asked] = serve(data + b"GET /next HTTP/1.1", step)
            assert isinstance(asked, PlainRequest)
            assert (asked.method, asked.target, asked.body) == ("POST", "/v1/tokens?x", body)
            assert asked.headers.get("host", "h") == "h"
            with pytest.raises(LocalProtocolError):
                upgrade.accept()
            assert parse(upgrade.respond(200, "Fine", [], b"{}")) == (
                200,
                {"content-length": "2", "connection": "close"},
                b"{}",
            )

    @pytest.mark.parametrize(
        ("data", "whole"),
        [
            (b"Content-Length: 101\r\n\r\n" + b"x" * 101, False),
            (b"Content-Length: 99999999999999999999\r\n\r\n", False),
            (b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n", False),
            (b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 60_000, False),
            (b"Transfer-Encoding: chunked\r\n\r\n" + b"0\r\nX: " + b"x" * 60_000, False),
            (b"Transfer-Encoding: chunked\r\n\r\n" + b"14\r\n" + b"x" * 20 + b"\r\n0\r\nX: y\r\n\r\n", True),
        ],
    )
    def test_a_body_has_a_limit(self, data: bytes, whole: bool) -> None:
        for step in (1, 7, 1 << 20):
            _, events = serve(b"POST / HTTP/1.1\r\nHost: h\r\n" + data, step)
            if whole:
                assert [type(event) for event in events] == [PlainRequest]
                continue
            reply, closed = events
            assert closed == Closed(1009, "the body may have 100 bytes")
            assert isinstance(reply, Reply)
            assert parse(reply.data)[0] == 413

    def test_a_body_may_be_longer_than_a_head(self) -> None:
        body = bytes(32 * 1024)
        for framed in (
            b"Content-Length: 32768\r\n\r\n" + body,
            b"Transfer-Encoding: chunked\r\n\r\n" + (b"8\r\n" + bytes(8) + b"\r\n") * 4096 + b"0\r\n\r\n",
        ):
            _, [asked] = serve(b"POST / HTTP/1.1\r\nHost: h\r\n" + framed, 4096, max_body=32 * 1024)
            assert isinstance(asked, PlainRequest)
            assert asked.body == body

    def test_a_body_that_is_not_what_it_says(self) -> None:
        _, [reply, closed] = serve(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert isinstance(reply, Reply)
        assert parse(reply.data)[0] == 400
        assert isinstance(closed, Closed)

    def test_a_client_that_waits_is_told_to_go_on(self) -> None:
        ask = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        for step in (1, 1000):
            _, [reply, asked] = serve(ask % 5 + b"hello", step)
            assert reply == Reply(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert isinstance(asked, PlainRequest)
            assert asked.body == b"hello"
        _, [reply, _] = serve(ask % 500)
        assert isinstance(reply, Reply)
        assert parse(reply.data)[0] == 413

    @pytest.mark.parametrize(
        ("method", "status", "length", "body"),
        [
            ("GET", 200, "5", b"hello"),
            ("HEAD", 200, "5", b""),
            ("GET", 204, None, b""),
            ("GET", 304, None, b""),
            ("GET", 599, "5", b"hello"),
        ],
    )
    def test_responses_with_and_without_a_body(self, method: str, status: int, length: str | None, body: bytes) -> None:
        upgrade, _ = serve(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        got, headers, received = parse(upgrade.respond(status, "", [], b"hello"), method)
        assert (got, headers.get("content-length"), received) == (status, length, body)

    @each_row(
        ("status", "reason", "headers"),
        [
            (101, "", []),
            (600, "", []),
            (200, "a\r\nb", []),
            (200, "ü", []),
            (200, "", [("X", "a\nb")]),
            (200, "", [("X y", "a")]),
            (200, "", [("Content-Length", "7")]),
        ],
    )
    def test_what_cannot_be_answered(self, status: int, reason: str, headers: list[tuple[str, str]]) -> None:
        upgrade, _ = serve(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        with pytest.raises(ValueError, match=r"no status|forbids"):
            upgrade.respond(status, reason, headers, b"hello")
        assert parse(upgrade.respond(500, "", [], b""))[0] == 500


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_raise(data: bytes, step: int) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\nHost: h\r\n", request()[:-2]):
        assert serve(start + data, step)[1] == serve(start + data)[1]
    for start in (b"", b"HTTP/1.1 ", response()[:-2]):
        assert outcome(start + data, step) == outcome(start + data)


def test_broken_handshakes_never_raise() -> None:
    """Good handshakes with a few bytes changed, which get further than noise."""
    dice = random.Random(6455)
    for _ in range(1500):
        for good, read in ((request(), serve), (response(), outcome)):
            data = bytearray(good)
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            read(bytes(data))
