"""The frames: each row of the protocol's two tables, as it stands on the wire."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from table_kit import each_row

from metered_proto.events import Direct, Message, Presence, PresencePeer
from metered_proto.wire.channels import MAX_REQUEST_ID
from metered_proto.wire.messages import (
    DEFAULT_MAX_MESSAGE_SIZE,
    MAX_INBOUND_BYTES,
    Ack,
    AnyClientFrame,
    AnyServerFrame,
    ErrorFrame,
    GoingAwayFrame,
    PingFrame,
    Pong,
    PublishFrame,
    SendFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    Welcome,
)

CLIENT: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    # the whole frame, its fields on the wire, and what is left when all that can be left out is
    (
        SubscribeFrame("c", True, "r"),
        {"type": "subscribe", "channel": "c", "includeSenderMetadata": True, "requestId": "r"},
        {"type": "subscribe", "channel": "c"},
    ),
    (
        UnsubscribeFrame("c", "r"),
        {"type": "unsubscribe", "channel": "c", "requestId": "r"},
        {"type": "unsubscribe", "channel": "c"},
    ),
    (
        PublishFrame("c", msgspec.Raw(b"null"), "r"),
        {"type": "publish", "channel": "c", "data": None, "requestId": "r"},
        {"type": "publish", "channel": "c"},
    ),
    (
        SendFrame("p", msgspec.Raw(b"[1]"), "r"),
        {"type": "send", "to": "p", "data": [1], "requestId": "r"},
        {"type": "send", "to": "p"},
    ),
    (PingFrame("r"), {"type": "ping", "requestId": "r"}, {"type": "ping"}),
]

SERVER: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    # the whole frame, its fields on the wire, and the least that is still such a frame
    (
        Welcome("me", 1, 2, 3, {"a": 1}),
        {
            "type": "welcome",
            "peerId": "me",
            "expiresAt": 1,
            "serverTime": 2,
            "maxMessageSize": 3,
            "metadata": {"a": 1},
        },
        {"type": "welcome", "peerId": "me"},
    ),
    (Ack("r"), {"type": "ack", "requestId": "r"}, {"type": "ack", "requestId": "r"}),
    (
        ErrorFrame("missing_data", "r", "m"),
        {"type": "error", "code": "missing_data", "requestId": "r", "message": "m"},
        {"type": "error", "code": "missing_data"},
    ),
    (
        Message("c", "p", None, {"a": 1}),
        {"type": "message", "channel": "c", "from": "p", "data": None, "fromMetadata": {"a": 1}},
        {"type": "message", "channel": "c", "from": "p", "data": 1},
    ),
    (
        Direct("p", [1], {"a": 1}),
        {"type": "direct", "from": "p", "data": [1], "fromMetadata": {"a": 1}},
        {"type": "direct", "from": "p", "data": 1},
    ),
    (
        Presence("c", (PresencePeer("a", {"n": 1}),), (PresencePeer("b"),)),
        {
            "type": "presence",
            "channel": "c",
            "joined": [{"peerId": "a", "metadata": {"n": 1}}],
            "left": [{"peerId": "b"}],
        },
        {"type": "presence", "channel": "c"},
    ),
    (
        GoingAwayFrame(1500.5),
        {"type": "going_away", "retryAfterMs": 1500.5},
        {"type": "going_away"},
    ),
    (Pong(), {"type": "pong"}, {"type": "pong"}),
]


def named(row: object) -> str:
    return type(row).__name__


@pytest.mark.parametrize(
    ("rows", "frames"), [(CLIENT, AnyClientFrame), (SERVER, AnyServerFrame)], ids=["client", "server"]
)
class TestTheTables:
    def test_no_frame_is_missing_here(self, rows: list[Any], frames: Any) -> None:
        assert {type(frame) for frame, _, _ in rows} == set(get_args(frames))

    def test_on_the_wire(self, rows: list[Any], frames: Any) -> None:
        for frame, whole, _ in rows:
            assert msgspec.json.decode(msgspec.json.encode(frame)) == whole

    def test_and_back(self, rows: list[Any], frames: Any) -> None:
        for frame, whole, _ in rows:
            read = msgspec.json.decode(msgspec.json.encode(whole), type=frames)
            assert type(read) is type(frame)
            assert msgspec.json.encode(read) == msgspec.json.encode(frame)

    def test_the_least(self, rows: list[Any], frames: Any) -> None:
        for frame, _, least in rows:
            read = msgspec.json.decode(msgspec.json.encode(least), type=frames)
            assert type(read) is type(frame)

    def test_less_than_the_least(self, rows: list[Any], frames: Any) -> None:
        for _, _, least in rows:
            for name in least:
                if name == "type":
                    continue
                less = {key: value for key, value in least.items() if key != name}
                with pytest.raises(msgspec.ValidationError, match=name):
                    msgspec.json.decode(msgspec.json.encode(less), type=frames)

    def test_null_is_no_value_for_what_is_needed(self, rows: list[Any], frames: Any) -> None:
        for _, _, least in rows:
            for name in set(least) - {"data"}:
                with pytest.raises(msgspec.ValidationError):
                    msgspec.json.decode(msgspec.json.encode({**least, name: None}), type=frames)

    def test_unknown_fields_are_ignored(self, rows: list[Any], frames: Any) -> None:
        for frame, whole, _ in rows:
            read = msgspec.json.decode(msgspec.json.encode({**whole, "later": [1]}), type=frames)
            assert msgspec.json.encode(read) == msgspec.json.encode(frame)


class TestClientFrames:
    @pytest.mark.parametrize(("frame", "whole", "least"), CLIENT, ids=named)
    def test_what_can_be_left_out_is(self, frame: Any, whole: Any, least: dict[str, Any]) -> None:
        read = msgspec.json.decode(msgspec.json.encode(least), type=AnyClientFrame)
        assert msgspec.json.decode(msgspec.json.encode(read)) == least

    @each_row("least", [least for _, _, least in CLIENT], ids=lambda least: least["type"])
    @each_row(
        ("request_id", "good"),
        [
            ("r", True),
            ("é" * MAX_REQUEST_ID, True),
            (None, True),
            ("", False),
            ("r" * (MAX_REQUEST_ID + 1), False),
            (5, False),
        ],
    )
    def test_request_ids_have_1_to_128_characters(self, least: dict[str, Any], request_id: object, good: bool) -> None:
        text = msgspec.json.encode({**least, "requestId": request_id})
        if good:
            assert msgspec.json.decode(text, type=AnyClientFrame).request_id == request_id
        else:
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(text, type=AnyClientFrame)

    @pytest.mark.parametrize("data", ["null", "0", '""', " [1, 2.50,\t{}]", '{"a":"\\u00e9"}'])
    def test_data_stays_the_bytes_it_came_as(self, data: str) -> None:
        text = '{"type":"publish","channel":"c","data":' + data + "}"
        read = msgspec.json.decode(text, type=AnyClientFrame)
        assert isinstance(read, PublishFrame)
        assert bytes(read.data) == data.strip().encode()
        assert data.strip().encode() in msgspec.json.encode(read)

    def test_missing_data_is_told_from_null(self) -> None:
        missing, null = (
            msgspec.json.decode(text, type=AnyClientFrame)
            for text in ('{"type":"send","to":"p"}', '{"type":"send","to":"p","data":null}')
        )
        assert isinstance(missing, SendFrame)
        assert isinstance(null, SendFrame)
        assert (bytes(missing.data), bytes(null.data)) == (b"", b"null")


class TestServerFrames:
    def test_a_welcome_that_says_little(self) -> None:
        read = msgspec.json.decode('{"type":"welcome","peerId":"me"}', type=AnyServerFrame)
        assert read == Welcome("me", None, 0, DEFAULT_MAX_MESSAGE_SIZE, msgspec.UNSET)

    def test_a_welcome_without_an_expiry_says_null(self) -> None:
        written = msgspec.json.decode(msgspec.json.encode(Welcome("me")))
        assert written["expiresAt"] is None
        assert "metadata" not in written

    def test_an_error_of_no_request(self) -> None:
        assert msgspec.json.encode(ErrorFrame("unknown_type")) == b'{"type":"error","code":"unknown_type"}'

    def test_a_presence_says_who_even_where_nobody(self) -> None:
        written = msgspec.json.decode(msgspec.json.encode(Presence("c")))
        assert written == {"type": "presence", "channel": "c", "joined": [], "left": []}


def test_sizes() -> None:
    assert DEFAULT_MAX_MESSAGE_SIZE == 64 * 1024
    assert MAX_INBOUND_BYTES == 1024 * 1024
