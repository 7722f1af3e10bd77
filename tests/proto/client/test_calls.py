"""Calls: whatever is wrong with one is said where it is made, by its type."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto.client import Close, Connect, FetchToken, Publish, SendTo, Subscribe, Unsubscribe

NAMED: list[Callable[[Any], object]] = [
    Subscribe,
    Unsubscribe,
    lambda name: Publish(name, msgspec.Raw(b"1")),
    lambda name: Publish.of(name, 1),
]
ADDRESSED: list[Callable[[Any], object]] = [
    lambda peer_id: SendTo(peer_id, msgspec.Raw(b"1")),
    lambda peer_id: SendTo.of(peer_id, 1),
]

each_named = each_row("call", NAMED)
each_addressed = each_row("call", ADDRESSED)
each_with_data = each_row("of", [lambda data: Publish.of("room", data), lambda data: SendTo.of("you", data)])


class TestChannels:
    @each_row("name", ["room", "fleet/sensor-*/telemetry", "**", "é" * 128, "a" * 256])
    @each_named
    def test_good(self, call: Callable[[Any], Any], name: str) -> None:
        assert call(name).channel == name

    @each_row("name", ["", "a" * 257, "é" * 129, "a\x00", "a\x7f", "a\x9f", "a\n", "\ud800"])
    @each_named
    def test_bad(self, call: Callable[[Any], Any], name: str) -> None:
        with pytest.raises(ValueError, match="channel"):
            call(name)

    @each_row("name", [None, 5, b"room", ["room"]])
    @each_named
    def test_no_str(self, call: Callable[[Any], Any], name: object) -> None:
        with pytest.raises(TypeError, match="channel"):
            call(name)


class TestPeerIds:
    @each_row("peer_id", ["you", "a b", "~" * 128])
    @each_addressed
    def test_good(self, call: Callable[[Any], Any], peer_id: str) -> None:
        assert call(peer_id).peer_id == peer_id

    @each_row("peer_id", ["", "a" * 129, "é", "a\n", "\ud800"])
    @each_addressed
    def test_bad(self, call: Callable[[Any], Any], peer_id: str) -> None:
        with pytest.raises(ValueError, match="peer id"):
            call(peer_id)

    @each_row("peer_id", [None, 5, b"you"])
    @each_addressed
    def test_no_str(self, call: Callable[[Any], Any], peer_id: object) -> None:
        with pytest.raises(TypeError, match="peer id"):
            call(peer_id)


class TestData:
    @each_row(("data", "written"), [(None, b"null"), ({"a": [1, 2.5, "é"]}, '{"a":[1,2.5,"é"]}'.encode()), ("", b'""')])
    @each_with_data
    def test_any_json_value_is_serialized_once(self, of: Callable[[Any], Any], data: object, written: bytes) -> None:
        assert bytes(of(data).data) == written

    @each_row("data", [math.nan, [math.inf], {"a": {"b": -math.inf}}, "\ud800"])
    @each_with_data
    def test_what_would_arrive_as_something_else(self, of: Callable[[Any], Any], data: object) -> None:
        with pytest.raises(ValueError, match="data"):
            of(data)

    @each_with_data
    def test_what_json_has_no_word_for(self, of: Callable[[Any], Any]) -> None:
        with pytest.raises(TypeError):
            of(object())


class TestSubscribe:
    @pytest.mark.parametrize("include", [True, False])
    def test_the_option(self, include: bool) -> None:
        assert Subscribe("room", include).include_sender_metadata is include

    @pytest.mark.parametrize("include", ["yes", 1, None])
    def test_it_is_a_bool(self, include: Any) -> None:
        with pytest.raises(TypeError, match="include_sender_metadata"):
            Subscribe("room", include)


class TestClose:
    def test_defaults(self) -> None:
        assert Close() == Close(1000, "")

    @pytest.mark.parametrize("code", [1000, 3000, 4000, 4999])
    def test_codes_that_may_be_sent(self, code: int) -> None:
        assert Close(code, "bye").code == code

    @each_row("code", [-1, 0, 999, 1001, 1005, 1006, 1015, 2999, 5000])
    def test_codes_that_may_not(self, code: int) -> None:
        with pytest.raises(ValueError, match="code must be 1000 or between 3000 and 4999"):
            Close(code)

    @pytest.mark.parametrize("code", [True, 1000.0, "1000", None])
    def test_a_code_is_an_int(self, code: Any) -> None:
        with pytest.raises(TypeError, match="code must be an int"):
            Close(code)

    @pytest.mark.parametrize("reason", ["", "a" * 123, "é" * 61 + "a"])
    def test_reasons_that_fit_into_a_close_frame(self, reason: str) -> None:
        assert Close(1000, reason).reason == reason

    @pytest.mark.parametrize("reason", ["a" * 124, "é" * 62])
    def test_reasons_that_do_not(self, reason: str) -> None:
        with pytest.raises(ValueError, match="reason must not be longer than 123 bytes of UTF-8, not 124"):
            Close(1000, reason)

    def test_a_reason_that_utf8_cannot_carry(self) -> None:
        with pytest.raises(ValueError, match="surrogate"):
            Close(1000, "\udfff")

    @pytest.mark.parametrize("reason", [None, b"bye", 5])
    def test_a_reason_is_a_str(self, reason: Any) -> None:
        with pytest.raises(TypeError, match="reason must be a str"):
            Close(1000, reason)


class TestWrittenDown:
    @pytest.mark.parametrize(
        "call",
        [Connect(), Close(3000, "bye"), Subscribe("room", True), Unsubscribe("room"), FetchToken()],
        ids=lambda call: type(call).__name__,
    )
    def test_and_read_back(self, call: msgspec.Struct) -> None:
        kinds = Connect | Close | Subscribe | Unsubscribe | FetchToken
        assert msgspec.json.decode(msgspec.json.encode(call), type=kinds) == call

    def test_data_stays_the_bytes_it_was(self) -> None:
        read = msgspec.json.decode(msgspec.json.encode(Publish.of("room", {"a": 1})), type=Publish | SendTo)
        assert isinstance(read, Publish)
        assert (read.channel, bytes(read.data)) == ("room", b'{"a":1}')
