"""The envelope: what goes in comes out, whatever it is, and nothing that a remote sends makes it raise."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.client.envelope import (
    BATCH_ROOM,
    KEY,
    BatchStamp,
    Opened,
    batch_share,
    check_data,
    check_message_id,
    seal,
    seal_batch,
    unseal,
)
from metered_proto.wire.codec import encode_data

OUTBOX = "5f0c2a7700aa11bb"

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def sealed(data: bytes, **more: Any) -> Any:
    return msgspec.json.decode(seal(data, **{"id": "a-1", "outbox": OUTBOX, "seq": 1, **more}))


class TestOnTheWire:
    def test_an_object_keeps_its_shape(self) -> None:
        stamp = {"id": "a-1", "outbox": OUTBOX, "seq": 1}
        assert sealed(b'{"temp":21.5}') == {KEY: stamp, "temp": 21.5}

    @pytest.mark.parametrize("empty", [b"{}", b"{ }", b"{\n}"])
    def test_an_empty_object(self, empty: bytes) -> None:
        assert sealed(empty) == {KEY: {"id": "a-1", "outbox": OUTBOX, "seq": 1}}

    @pytest.mark.parametrize("data", [b"21.5", b"null", b'"x"', b"[]", b"[1]", b"true"])
    def test_anything_else_is_wrapped(self, data: bytes) -> None:
        stamp = {"id": "a-1", "outbox": OUTBOX, "seq": 1, "wrapped": True}
        assert sealed(data) == {KEY: stamp, "value": msgspec.json.decode(data)}

    def test_a_redelivery_says_so(self) -> None:
        assert sealed(b"{}", redelivered=True)[KEY]["redelivered"] is True
        assert sealed(b"1", redelivered=True)[KEY]["redelivered"] is True
        assert "redelivered" not in sealed(b"{}")[KEY]

    def test_a_batch(self) -> None:
        stamps = [BatchStamp("a-1", 1), BatchStamp("mine", 2, redelivered=True)]
        assert msgspec.json.decode(seal_batch(OUTBOX, stamps, [b'{"a":1}', b"2"])) == {
            KEY: {
                "outbox": OUTBOX,
                "batch": [{"id": "a-1", "seq": 1}, {"id": "mine", "seq": 2, "redelivered": True}],
            },
            "items": [{"a": 1}, 2],
        }


class TestThereAndBack:
    @given(data=JSON, id=st.text(min_size=1, max_size=128), seq=st.integers(1, 2**53), redelivered=st.booleans())
    def test_one(self, data: Any, id: str, seq: int, redelivered: bool) -> None:
        encoded = check_data(encode_data(data))
        envelope = msgspec.json.decode(seal(encoded, id=id, outbox=OUTBOX, seq=seq, redelivered=redelivered))
        assert unseal(envelope) == [Opened(OUTBOX, id, seq, redelivered, data)]

    @given(items=st.lists(st.tuples(JSON, st.text(min_size=1, max_size=9), st.booleans()), max_size=5))
    def test_a_batch(self, items: list[tuple[Any, str, bool]]) -> None:
        stamps = [BatchStamp(id, 7 + at, again) for at, (_, id, again) in enumerate(items)]
        payload = seal_batch(OUTBOX, stamps, [encode_data(data) for data, _, _ in items])
        opened = [Opened(OUTBOX, id, 7 + at, again, data) for at, (data, id, again) in enumerate(items)]
        assert unseal(msgspec.json.decode(payload)) == opened

    @given(items=st.lists(st.tuples(JSON, st.text(min_size=1, max_size=128)), min_size=1, max_size=5))
    def test_a_batch_is_as_large_as_its_shares_and_some_room(self, items: list[tuple[Any, str]]) -> None:
        encoded = [encode_data(data) for data, _ in items]
        stamps = [BatchStamp(id, 2**53, redelivered=True) for _, id in items]
        shares = sum(batch_share(data, id=stamp.id, seq=stamp.seq) for data, stamp in zip(encoded, stamps, strict=True))
        size = len(seal_batch("x" * 64, stamps, encoded))
        assert shares < size <= shares + BATCH_ROOM

    def test_a_value_that_looks_wrapped_is_told_from_one_that_is(self) -> None:
        as_object = sealed(b'{"value":1}')
        as_value = sealed(b"1")
        assert unseal(as_object) == [Opened(OUTBOX, "a-1", 1, False, {"value": 1})]
        assert unseal(as_value) == [Opened(OUTBOX, "a-1", 1, False, 1)]

    def test_what_came_is_not_changed(self) -> None:
        envelope = sealed(b'{"temp":21.5}')
        before = copy.deepcopy(envelope)
        unseal(envelope)
        assert envelope == before


STAMP = {"id": "a-1", "outbox": OUTBOX, "seq": 1}


class TestNonsense:
    @each_row(
        "data",
        [
            None,
            1,
            "text",
            [],
            {},
            {"temp": 1},
            {KEY: None},
            {KEY: []},
            {KEY: "x"},
            {KEY: {}},
            {KEY: {**STAMP, "id": ""}},
            {KEY: {**STAMP, "id": "x" * 129}},
            {KEY: {**STAMP, "id": 7}},
            {KEY: {**STAMP, "outbox": ""}},
            {KEY: {**STAMP, "outbox": "x" * 65}},
            {KEY: {**STAMP, "outbox": None}},
            {KEY: {**STAMP, "seq": 0}},
            {KEY: {**STAMP, "seq": -1}},
            {KEY: {**STAMP, "seq": 2**53 + 1}},
            {KEY: {**STAMP, "seq": 10**40}},
            {KEY: {**STAMP, "seq": 1.5}},
            {KEY: {**STAMP, "seq": True}},
            {KEY: {**STAMP, "seq": "1"}},
            {KEY: {**STAMP, "redelivered": "yes"}},
            {KEY: {**STAMP, "wrapped": 1}},
            {KEY: {**STAMP, "wrapped": True}},
            {KEY: {**STAMP, "batch": None}, "items": []},
            {KEY: {"outbox": OUTBOX, "batch": {}}, "items": []},
            {KEY: {"outbox": OUTBOX, "batch": [1]}, "items": [1]},
            {KEY: {"outbox": OUTBOX, "batch": [{"id": "a", "seq": 0}]}, "items": [1]},
            {KEY: {"outbox": OUTBOX, "batch": [{"id": "a", "seq": 1}]}, "items": []},
            {KEY: {"outbox": OUTBOX, "batch": [{"id": "a", "seq": 1}]}, "items": {"0": 1}},
            {KEY: {"outbox": OUTBOX, "batch": [{"id": "a", "seq": 1}]}},
            {KEY: {"batch": [{"id": "a", "seq": 1}]}, "items": [1]},
        ],
    )
    def test_it_is_in_no_envelope(self, data: Any) -> None:
        before = copy.deepcopy(data)
        assert unseal(data) is None
        assert data == before

    def test_fields_of_a_later_version_are_passed_over(self) -> None:
        assert unseal({KEY: {**STAMP, "later": [1]}, "a": 1}) == [Opened(OUTBOX, "a-1", 1, False, {"a": 1})]

    @given(under=JSON, items=JSON)
    def test_nothing_raises(self, under: Any, items: Any) -> None:
        unseal({KEY: under, "items": items, "value": items})
        unseal({KEY: {**STAMP, "batch": under}, "items": items})
        unseal({KEY: {**STAMP, "seq": under}})

    def test_a_deep_one(self) -> None:
        deep: Any = 1
        for _ in range(5000):
            deep = [deep]
        assert unseal({KEY: {**STAMP, "batch": deep}, "items": [1]}) is None


class TestCheckingData:
    @each_row("data", [b'{"a":1}', b"1", b"null", b'"x"', b"[1,2]", b'{"a":"\\u00e9"}', '"é"'.encode()])
    def test_json_passes_as_it_is(self, data: bytes) -> None:
        assert check_data(data) == data

    def test_space_around_it_goes(self) -> None:
        assert check_data(b' \n{"a": 1}\t') == b'{"a": 1}'

    @each_row(
        "data",
        [
            b"",
            b" ",
            b"{",
            b"nul",
            b"NaN",
            b"01",
            b'{"a":}',
            b"1 2",
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b'"\n"',
            b"[" * 50_000,
        ],
    )
    def test_anything_else_is_an_error(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="not JSON"):
            check_data(data)

    @pytest.mark.parametrize(
        "data",
        [
            b'{"__meteredOutbox":1}',
            b'{"a":1,"__meteredOutbox":null}',
            b'{ "__meteredOutbox" : {} }',
            b'{"__meteredOutb\\u006fx":1}',
            b'{"\\u005F_meteredOutbox":1}',
        ],
    )
    def test_the_reserved_key_is_an_error(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="reserved"):
            check_data(data)

    @pytest.mark.parametrize(
        "data",
        [b'{"a":{"__meteredOutbox":1}}', b'[{"__meteredOutbox":1}]', b'"__meteredOutbox"', b'{"a":"__meteredOutbox"}'],
    )
    def test_further_down_it_is_a_key_like_any_other(self, data: bytes) -> None:
        assert check_data(data) == data


class TestCheckingIds:
    @pytest.mark.parametrize("good", ["a", "x" * 128, "é", '"', "\n"])
    def test_good_ones(self, good: str) -> None:
        assert check_message_id(good) == good

    @pytest.mark.parametrize(
        ("bad", "error"), [("", ValueError), ("x" * 129, ValueError), ("\ud800", ValueError), (1, TypeError)]
    )
    def test_bad_ones(self, bad: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            check_message_id(bad)
