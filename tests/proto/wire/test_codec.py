"""Text to frames and back: fast for what is good, patient with what is nearly good, and never surprised."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.events import Direct, Message, Presence, PresencePeer
from metered_proto.wire.codec import (
    Malformed,
    decode_client_frame,
    decode_server_frame,
    decode_server_frames,
    encode_data,
    encode_frame,
)
from metered_proto.wire.messages import (
    Ack,
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

DECODERS = [decode_server_frame, decode_client_frame]
both = each_row("decode", DECODERS)

BAD = Malformed("malformed_message", "not JSON")
NO_OBJECT = Malformed("malformed_message", "not a JSON object")
UNKNOWN = Malformed("unknown_type", "an unknown frame type")


def malformed(kind: str) -> Malformed:
    return Malformed("malformed_message", f"a malformed {kind}")


class TestWhatIsNoFrame:
    @each_row(
        "text",
        [
            "",
            " ",
            "{",
            "}",
            "nonsense",
            "'",
            '{"type":"pong"',
            '{"type":"pong"} x',
            '{"type":"pong",}',
            "NaN",
            "1e999",
            "\ufeff{}",
            '{"type":"\ud800"}',
            "9" * 5000,
            "\x00",
        ],
    )
    @both
    def test_no_json(self, decode: Any, text: str) -> None:
        assert decode(text) == BAD

    @each_row("text", ["[" * 100_000, '{"a":' * 100_000, '{"type":"message","data":' + "[" * 10_000])
    @both
    def test_nested_out_of_all_measure(self, decode: Any, text: str) -> None:
        assert decode(text) == BAD

    @each_row("text", ["null", "true", "0", "1.5", '"pong"', "[]", '[{"type":"pong"}]'])
    @both
    def test_no_object(self, decode: Any, text: str) -> None:
        assert decode(text) == NO_OBJECT

    @each_row("kind", ["{}", '{"type":null}', '{"type":5}', '{"type":["ack"]}', '{"type":"what"}', '{"type":""}'])
    @both
    def test_no_type_or_an_unknown_one(self, decode: Any, kind: str) -> None:
        assert decode(kind) == UNKNOWN

    @each_row("payload", [b"", b'{"type":"pong"}', b"\xff\x00"])
    @both
    def test_binary(self, decode: Any, payload: bytes) -> None:
        assert decode(payload) == Malformed("malformed_message", "a binary message")


class TestServersFrames:
    @each_row(
        ("text", "frame"),
        [
            ('{"type":"welcome","peerId":"me","expiresAt":null}', Welcome("me")),
            ('{"type":"ack","requestId":"1"}', Ack("1")),
            ('{"type":"error","code":"c","requestId":null}', ErrorFrame("c")),
            ('{"type":"message","channel":"c","from":"p","data":[1,null]}', Message("c", "p", [1, None])),
            ('{"from":"p","data":{},"type":"direct"}', Direct("p", {})),
            ('{"type":"presence","channel":"c","left":[{"peerId":"p"}]}', Presence("c", (), (PresencePeer("p"),))),
            ('{"type":"going_away","retryAfterMs":5}', GoingAwayFrame(5)),
            ('{"type":"pong","later":[1]}', Pong()),
        ],
    )
    def test_good(self, text: str, frame: object) -> None:
        assert decode_server_frame(text) == frame

    @each_row(
        ("text", "kind"),
        [
            ('{"type":"welcome"}', "welcome"),
            ('{"type":"welcome","peerId":5}', "welcome"),
            ('{"type":"ack"}', "ack"),
            ('{"type":"ack","requestId":5}', "ack"),
            ('{"type":"error"}', "error"),
            ('{"type":"error","code":7}', "error"),
            ('{"type":"message","channel":"c","from":"p"}', "message"),
            ('{"type":"message","channel":5,"from":"p","data":1}', "message"),
            ('{"type":"direct","data":1}', "direct"),
            ('{"type":"presence"}', "presence"),
            ('{"type":"presence","channel":"c","joined":[{}]}', "presence"),
            ('{"type":"presence","channel":"c","joined":["p"]}', "presence"),
        ],
    )
    def test_without_what_they_need(self, text: str, kind: str) -> None:
        assert decode_server_frame(text) == malformed(kind)

    @pytest.mark.parametrize("odd", ["null", "5", '"x"', "[]", "true"])
    def test_metadata_that_is_no_object_reads_as_absent(self, odd: str) -> None:
        people = '[{"peerId":"p","metadata":%s},{"peerId":"q","metadata":{"joined":1}}]' % odd  # noqa: UP031
        for text, frame in [
            ('{"type":"message","channel":"c","from":"p","data":1,"fromMetadata":' + odd + "}", Message("c", "p", 1)),
            ('{"type":"direct","from":"p","data":1,"fromMetadata":' + odd + "}", Direct("p", 1)),
            (
                '{"type":"presence","channel":"c","joined":' + people + ',"left":' + people + "}",
                Presence("c", *[(PresencePeer("p"), PresencePeer("q", {"joined": 1}))] * 2),
            ),
        ]:
            assert decode_server_frame(text) == frame
        welcome = decode_server_frame('{"type":"welcome","peerId":"me","metadata":' + odd + "}")
        assert isinstance(welcome, Welcome)
        assert not welcome.metadata

    @pytest.mark.parametrize(
        ("text", "frame"),
        [
            ('{"type":"welcome","peerId":"me","expiresAt":"x","serverTime":[],"maxMessageSize":true}', Welcome("me")),
            (
                '{"type":"welcome","peerId":"me","expiresAt":7.9,"serverTime":1.7e12}',
                Welcome("me", 7, 1_700_000_000_000),
            ),
            ('{"type":"error","code":"c","requestId":5,"message":null}', ErrorFrame("c")),
            ('{"type":"presence","channel":"c","joined":null,"left":{}}', Presence("c")),
            ('{"type":"going_away","retryAfterMs":"soon"}', GoingAwayFrame(0)),
        ],
    )
    def test_other_fields_that_can_be_done_without(self, text: str, frame: object) -> None:
        assert decode_server_frame(text) == frame

    def test_a_number_too_large_even_for_a_float(self) -> None:
        assert decode_server_frame('{"type":"going_away","retryAfterMs":' + "9" * 400 + "}") == malformed("going_away")

    def test_where_the_frame_has_to_be_mended_data_is_still_as_it_came(self) -> None:
        text = '{"type":"direct","from":"p","data":{"metadata":5,"fromMetadata":null},"fromMetadata":5}'
        assert decode_server_frame(text) == Direct("p", {"metadata": 5, "fromMetadata": None})


class TestOneRead:
    @each_row(
        "texts",
        [
            [],
            ['{"type":"pong"}'],
            ['{"type":"pong"}', '{"type":"ack","requestId":"1"}'] * 3,
            ['{"type":"pong"}', "rubbish", '{"type":"ack","requestId":"1"}'],
            ['{"type":"pong"}', b'{"type":"pong"}'],
            ['{"type":"ack","requestId":"1"}', '{"type":"ack","requestId":"\\ud800"}'],
            ['{"type":"pong"}', "[" * 100_000],
        ],
    )
    def test_each_is_read_as_if_it_came_alone(self, texts: list[str | bytes]) -> None:
        assert decode_server_frames(texts) == [decode_server_frame(text) for text in texts]


class TestClientsFrames:
    @pytest.mark.parametrize(
        ("text", "frame"),
        [
            ('{"type":"subscribe","channel":"c","requestId":"1"}', SubscribeFrame("c", False, "1")),
            ('{"type":"unsubscribe","channel":"c"}', UnsubscribeFrame("c")),
            ('{"type":"ping","requestId":null}', PingFrame()),
        ],
    )
    def test_good(self, text: str, frame: object) -> None:
        assert decode_client_frame(text) == frame

    def test_data_is_kept_as_bytes(self) -> None:
        publish = decode_client_frame('{"type":"publish","channel":"c","data":{"a" : 1}}')
        assert isinstance(publish, PublishFrame)
        assert bytes(publish.data) == b'{"a" : 1}'
        send = decode_client_frame('{"type":"send","to":"p"}')
        assert isinstance(send, SendFrame)
        assert bytes(send.data) == b""

    @pytest.mark.parametrize(
        ("request_id", "kept"),
        [
            ('"r1"', "r1"),
            ('"' + "é" * 128 + '"', "é" * 128),
            ('""', None),
            ('"' + "r" * 129 + '"', None),
            ("5", None),
            ("null", None),
        ],
    )
    def test_who_is_refused_can_be_told(self, request_id: str, kept: str | None) -> None:
        unknown = '{"type":"what","requestId":' + request_id + "}"
        assert decode_client_frame(unknown) == Malformed("unknown_type", UNKNOWN.reason, kept)
        bad = '{"type":"subscribe","channel":5,"requestId":' + request_id + "}"
        assert decode_client_frame(bad) == Malformed("malformed_message", "a malformed subscribe", kept)

    @pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "publish", "send"])
    def test_without_what_they_need(self, kind: str) -> None:
        assert decode_client_frame('{"type":"' + kind + '"}') == malformed(kind)

    def test_a_request_id_out_of_bounds_is_malformed(self) -> None:
        assert decode_client_frame('{"type":"ping","requestId":""}') == malformed("ping")

    @each_row("kind", ["welcome", "ack", "message", "direct", "presence", "going_away", "pong", "error"])
    def test_a_servers_frame_is_unknown_to_a_server(self, kind: str) -> None:
        assert decode_client_frame('{"type":"' + kind + '"}') == UNKNOWN


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "publish", "send", "ping"])
def test_a_clients_frame_is_unknown_to_a_client(kind: str) -> None:
    assert decode_server_frame('{"type":"' + kind + '"}') == UNKNOWN


class TestLoneSurrogates:
    """Browsers send them, escaped; UTF-8 has no bytes for them."""

    @each_row(
        ("escaped", "read"),
        [
            (r"\ud83d\ude00", "😀"),
            (r"\uD83D\uDE00", "😀"),
            (r"\ud83d", "\ufffd"),
            (r"\ude00", "\ufffd"),
            (r"a\ud83db", "a\ufffdb"),
            (r"\ude00\ud83d", "\ufffd\ufffd"),
            (r"\ud83d\ud83d\ude00", "\ufffd😀"),
            (r"\ud83d\ude00\ude00", "😀\ufffd"),
            (r"\ud83d\\ude00", "\ufffd\\ude00"),
            (r"\\ud83d", "\\ud83d"),
            (r"\\\ud83d", "\\\ufffd"),
            (r"\\\\ud83d", "\\\\ud83d"),
            (r"\"\ud83d\n", '"\ufffd\n'),
            (r"\ud83d\u0041", "\ufffdA"),
        ],
    )
    def test_become_the_replacement_character(self, escaped: str, read: str) -> None:
        assert decode_server_frame('{"type":"direct","from":"p","data":"' + escaped + '"}') == Direct("p", read)

    def test_in_a_clients_names(self) -> None:
        text = r'{"type":"subscribe","channel":"a\ud800","requestId":"1"}'
        assert decode_client_frame(text) == SubscribeFrame("a\ufffd", False, "1")

    def test_in_a_frame_that_is_bad_even_so(self) -> None:
        assert decode_client_frame(r'{"type":"what\ud800","requestId":"1"}') == Malformed(
            "unknown_type", UNKNOWN.reason, "1"
        )
        assert decode_client_frame(r'{"type":"ping","requestId":"\ud800') == BAD

    @given(st.text(st.characters(codec=None), max_size=12))
    def test_any_text_a_browser_can_send(self, text: str) -> None:
        written = json.dumps({"type": "direct", "from": "p", "data": text})  # escapes what is not ASCII
        expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        frame = decode_server_frame(written)
        assert isinstance(frame, Direct)
        assert len(frame.data) == len(expected)
        assert frame.data == expected


class TestEncodeData:
    @each_row(
        ("data", "written"),
        [
            (None, b"null"),
            ([None, True, 1, -1.5, "é\n"], '[null,true,1,-1.5,"é\\n"]'.encode()),
            ({"null": "null", 1: None}, b'{"null":"null","1":null}'),
            (2**70, str(2**70).encode()),
            ((1, None), b"[1,null]"),
            ({math.nan: None}, b'{"nan":null}'),
            (Decimal("NaN"), b'"NaN"'),
            ([datetime.date(2026, 1, 2), None], b'["2026-01-02",null]'),
            ([msgspec.Raw(b'{"a": 1}'), None], b'[{"a": 1},null]'),
            (PresencePeer("p"), b'{"peerId":"p"}'),
        ],
    )
    def test_what_json_can_express(self, data: object, written: bytes) -> None:
        assert encode_data(data) == written

    @dataclasses.dataclass
    class Reading:
        value: float

    @pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
    def test_what_would_go_out_as_null(self, odd: float) -> None:
        for data in (odd, [1, [odd]], {"a": {"b": odd}}, {"a": None, "b": (odd,)}, self.Reading(odd), {1.5: odd}):
            with pytest.raises(ValueError, match="NaN or an infinity"):
                encode_data(data)

    @pytest.mark.parametrize("data", ["\ud800", ["a\udfff"], {"\ud800": 1}])
    def test_what_utf8_cannot_express(self, data: object) -> None:
        with pytest.raises(ValueError, match="lone surrogate") as caught:
            encode_data(data)
        assert type(caught.value) is ValueError

    def test_nested_too_deeply(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(ValueError, match="nested too deeply"):
            encode_data(deep)
        round_about: list[Any] = []
        round_about.append(round_about)
        with pytest.raises(ValueError, match="nested too deeply"):
            encode_data(round_about)

    @pytest.mark.parametrize("data", [object(), {(1, 2): 3}, {None: 1}, print, 5j])
    def test_what_json_has_no_word_for(self, data: object) -> None:
        with pytest.raises(TypeError):
            encode_data(data)


# --- properties ---------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
bag = st.dictionaries(text, json_values, max_size=2)
bags = st.none() | bag
people = st.lists(st.builds(PresencePeer, text, bags), max_size=3).map(tuple)
request_ids = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
raw = json_values.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))

server_frames = st.one_of(
    st.builds(Message, text, text, json_values, bags),
    st.builds(Direct, text, json_values, bags),
    st.builds(Presence, text, people, people),
    st.builds(Ack, text),
    st.builds(ErrorFrame, text, st.none() | text, text),
    st.builds(GoingAwayFrame, st.integers(0, 2**40).map(float)),
    st.builds(
        Welcome, text, st.none() | st.integers(0, 2**40), st.integers(), st.integers(), st.just(msgspec.UNSET) | bag
    ),
    st.just(Pong()),
)
client_frames = st.one_of(
    st.builds(SubscribeFrame, text, st.booleans(), request_ids),
    st.builds(UnsubscribeFrame, text, request_ids),
    st.builds(PublishFrame, text, raw, request_ids),
    st.builds(SendFrame, text, raw, request_ids),
    st.builds(PingFrame, request_ids),
)


class TestProperties:
    @given(server_frames)
    def test_a_servers_frame_comes_back_as_it_went(self, frame: Any) -> None:
        assert decode_server_frame(encode_frame(frame).decode()) == frame

    @given(client_frames)
    def test_a_clients_frame_comes_back_as_it_went(self, frame: Any) -> None:
        written = encode_frame(frame)
        read = decode_client_frame(written.decode())
        assert type(read) is type(frame)
        assert encode_frame(read) == written

    @given(server_frames, st.sampled_from([r"\ud800", r"\udfff", ""]))
    def test_the_slow_way_reads_what_the_fast_way_reads(self, frame: Any, surrogate: str) -> None:
        written = encode_frame(frame).decode()
        ignored = '"later":"' + surrogate + '"'
        slow = written[:-1] + ("," if len(written) > 2 else "") + ignored + "}"
        assert decode_server_frame(slow) == frame

    @given(json_values)
    def test_data_comes_back_as_it_went(self, data: object) -> None:
        assert msgspec.json.decode(encode_data(data)) == data

    @given(st.text(st.characters(codec=None), max_size=40) | st.binary(max_size=40))
    def test_garbage_never_raises(self, garbage: str | bytes) -> None:
        for decode in DECODERS:
            assert isinstance(decode(garbage), Malformed)

    @given(
        st.sampled_from(
            ["welcome", "ack", "error", "message", "direct", "presence", "going_away", "pong", "publish", "send"]
        ),
        st.dictionaries(
            st.sampled_from(
                [
                    "peerId",
                    "expiresAt",
                    "serverTime",
                    "maxMessageSize",
                    "metadata",
                    "requestId",
                    "code",
                    "message",
                    "channel",
                    "from",
                    "data",
                    "fromMetadata",
                    "joined",
                    "left",
                    "retryAfterMs",
                    "to",
                    "includeSenderMetadata",
                ]
            ),
            json_values | st.lists(st.dictionaries(st.sampled_from(["peerId", "metadata"]), json_values), max_size=2),
        ),
    )
    def test_fields_of_any_shape_never_raise_and_are_never_quoted(self, kind: str, fields: dict[str, Any]) -> None:
        text = json.dumps({**fields, "type": kind, "secret": "sk_secret_x"})
        for decode in DECODERS:
            frame = decode(text)
            assert "sk_secret_x" not in repr(frame)
            if isinstance(frame, Malformed):
                assert frame.reason in (UNKNOWN.reason, f"a malformed {kind}")
