"""HTTP under a limit: the verdict never depends on how the bytes were cut."""

from __future__ import annotations

import h11
import pytest

from metered_proto.http1 import HttpReader, OverLimitError, header_map, tokens

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def read(data: bytes, step: int, limit: int) -> list[str]:
    """What a server reads of one request, in words: its events, then what is left or the limit if it was met."""
    reader = HttpReader(h11.SERVER, limit)
    said: list[str] = []
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        try:
            while (event := reader.next()) is not None:
                said.append(type(event).__name__)
                if isinstance(event, h11.EndOfMessage):
                    return [*said, (reader.trailing + data[at + step :]).decode()]
        except OverLimitError:
            return [*said, "over the limit"]
    return said


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_a_head_may_have_exactly_its_limit(step: int) -> None:
    size = len(REQUEST)
    assert read(REQUEST, step, size) == ["Request", "EndOfMessage", ""]
    assert read(REQUEST, step, size - 1) == ["over the limit"]
    assert read(REQUEST + b"more", step, size) == ["Request", "EndOfMessage", "more"]
    assert read(REQUEST + b"more", step, size + 2) == ["Request", "EndOfMessage", "more"]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_extend_gives_room_for_a_body(step: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
    reader = HttpReader(h11.SERVER, len(head))
    body = b""

    def read_all() -> None:
        nonlocal body
        for at in range(0, len(head) + 10, step):
            reader.feed((head + b"0123456789")[at : at + step])
            while (event := reader.next()) is not None:
                if isinstance(event, h11.Request):
                    reader.extend(6)
                elif isinstance(event, h11.Data):
                    body += event.data

    with pytest.raises(OverLimitError):
        read_all()
    assert body == b"012345"


def test_pausing_for_an_answer() -> None:
    reader = HttpReader(h11.SERVER)
    reader.feed(REQUEST + REQUEST)
    assert isinstance(reader.next(), h11.Request)
    assert isinstance(reader.next(), h11.EndOfMessage)
    assert reader.next() is None


def test_what_is_not_http_is_said_by_h11() -> None:
    reader = HttpReader(h11.SERVER)
    reader.feed(b"\x16\x03\x01")
    with pytest.raises(h11.RemoteProtocolError):
        reader.next()


def test_headers_by_name() -> None:
    headers = [(b"accept", b"a"), (b"x", b"\xe4"), (b"accept", b"b")]
    assert header_map(headers) == {"accept": "a, b", "x": "ä"}


def test_tokens() -> None:
    assert tokens("keep-alive, Upgrade ,\tX") == ["keep-alive", "upgrade", "x"]
    assert tokens("") == [""]
