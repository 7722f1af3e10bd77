"""Whatever a machine can be told or order is written as JSON, and is equal when it is read."""

from __future__ import annotations

import importlib
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

import metered_proto
from metered_proto.client import Publish
from metered_proto.client.calls import Call, FetchToken
from metered_proto.client.outbox import Entry, Loaded
from metered_proto.errors import (
    AckTimeoutError,
    LocalProtocolError,
    MeteredPeerReplaceTrackError,
    MeteredRealtimeError,
    PublishManyError,
    ReplaceTrackFailure,
    RequestTimeoutError,
)
from metered_proto.events import Event, IceServer, Message
from metered_proto.facts import Asked, EffectDone, Fact, Received, Woken
from metered_proto.orders import Answer, AnswerAll, Broadcast, Order, Send, Tell, TellAll
from metered_proto.relay.settings import PublishableKey, RelaySettings, SecretKey
from metered_proto.replay.notation import RecordedError, Unknown, Unreadable, encode_json, read_value, tree
from metered_proto.replay.recorder import step_line
from metered_proto.replay.registry import ERRORS, INSIDE, STRUCTS, fields_of
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import RoomCall
from metered_proto.rtc.words import RtcCall, Work
from metered_proto.settings import ClientSettings
from metered_proto.wire.signals import Candidate

CLIENT = ClientSettings(api_key="pk_live_x")

MADE: dict[str, msgspec.Struct] = {
    "ClientSettings": CLIENT,
    "RoomSettings": RoomSettings(client=CLIENT),
    "PublishableKey": PublishableKey("pk_live_x", origins=("https://a",)),
    "SecretKey": SecretKey("sk_id_x", "sk_secret_0123456789abcdef0123456789abcdef"),
    "RelaySettings": RelaySettings(born_at=1.5),
}
"""Those that check what they are given."""

VALUES: dict[tuple[str, str], Any] = {
    ("Close", "code"): 3000,
    ("Kick", "peer_id"): "somebody",
    ("SendTo", "peer_id"): "somebody",
    ("PublishAs", "sender"): "somebody",
    ("Loaded", "sequences"): {"a": 3},
    ("Outbox", "path"): "a file",
    ("Limits", "pong_timeout"): 0.5,
    ("ReconnectOptions", "max_attempts"): math.inf,
    ("ReconnectOptions", "jitter_ratio"): 0.5,
    ("RelaySettings", "keys"): (),
    ("IceServer", "urls"): ("stun:a",),
    ("PublishAs", "channel"): "a",
    ("RoomPlan", "settings"): MADE["RoomSettings"],
    ("RelayPlan", "settings"): MADE["RelaySettings"],
    ("Outbox", "overflow"): "reject",
    ("PublishableKey", "permissions"): ("publish",),
}


ERROR_SAMPLES: dict[str, Callable[[], MeteredRealtimeError]] = {
    "AckTimeoutError": lambda: AckTimeoutError(15.5),
    "RequestTimeoutError": lambda: RequestTimeoutError(2),
    "PublishManyError": lambda: PublishManyError(((3, AckTimeoutError(1.0)),)),
    "MeteredPeerReplaceTrackError": lambda: MeteredPeerReplaceTrackError(
        ("a",), (ReplaceTrackFailure("b", OSError(5, "no")),)
    ),
}


def sample(struct: type[msgspec.Struct]) -> msgspec.Struct:
    """A struct with something in each field."""
    name = struct.__name__
    if name in MADE:
        return MADE[name]
    values = {
        field.name: VALUES[name, field.name] if (name, field.name) in VALUES else value_for(field.type)
        for field in fields_of(struct)
    }
    return struct(**values)


def value_for(hint: Any) -> Any:
    """Something of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return value_for(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return value_for(arguments[0])
    if origin is Literal:
        return arguments[0]
    if hint is Any:
        return {"type": "message", "$": 1, "n": [1.5, None, True]}
    if hint in (dict[str, Any], dict):
        return {"$not_json": 1, "type": "Send"}
    if origin in (dict, Mapping):
        return {"a": value_for(arguments[1])}
    if origin in (list, Sequence):
        return [value_for(arguments[0])]
    if origin in (tuple, Collection):
        return (
            (value_for(arguments[0]),)
            if Ellipsis in arguments or len(arguments) == 1
            else tuple(map(value_for, arguments))
        )
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        concrete = next(iter(hint.__subclasses__()), hint)
        return sample(concrete)
    if hint is Exception:
        return AckTimeoutError(15.0)
    return {
        int: 7,
        float: 2.5,
        str: 'text: ü \\ "',
        bool: True,
        bytes: b'{"a": 1}',
        msgspec.Raw: msgspec.Raw(b"[1.0, 1e2]"),
    }[hint]


def through(value: Any) -> Any:
    """Written and read."""
    return read_value(encode_json(tree(value)))


def submodules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(metered_proto.__path__, "metered_proto.")]


def descendants(base: type) -> set[type]:
    return set(base.__subclasses__()).union(*(descendants(below) for below in base.__subclasses__()))


class TestNothingIsForgotten:
    def test_every_word_between_machines_and_drivers_is_known(self) -> None:
        for name in submodules():
            importlib.import_module(name)
        for base in (Fact, Order, Event, Call, RoomCall, RtcCall, Work):
            for struct in descendants(base):
                if struct.__module__.startswith("metered_proto."):
                    assert STRUCTS.get(struct.__name__) is struct, struct

    def test_what_is_called_inside_is_there(self) -> None:
        assert not INSIDE & set(STRUCTS)
        assert FetchToken in STRUCTS.values()

    @each_row("name", sorted(STRUCTS))
    def test_every_struct_comes_back(self, name: str) -> None:
        value = sample(STRUCTS[name])
        assert through(value) == value
        assert type(through(value)) is STRUCTS[name]

    @each_row("name", sorted(ERRORS))
    def test_every_error_comes_back(self, name: str) -> None:
        kind = ERRORS[name]
        error = ERROR_SAMPLES[name]() if name in ERROR_SAMPLES else kind(*("text" for _ in kind.fields))
        if name == "MeteredPeerReplaceTrackError":  # which holds an error of somebody else
            assert tree(through(error)) == tree(error)
            return
        assert through(error) == error
        assert str(through(error)) == str(error)


class TestValues:
    @each_row(
        "value",
        [
            None,
            True,
            -(1 << 63),
            1 << 64,
            -(1 << 200),
            2.5,
            math.inf,
            -math.inf,
            "",
            "a\nü\u2028",
            "\ud800",
            b"",
            b"text",
            b"\xff",
            b'{"$base64":"eA=="}',
            b'{"a":1}',
            b'{"a"\n:1}',
            b"[1] ",
            b"{broken",
            (),
            (1, (2, [3])),
            {},
            {"$": "int", "text": "1"},
            {"type": "Send"},
            {1: 2, "x": b"y"},
            {"nested": {"nan": [math.inf]}},
            msgspec.Raw(b"1.0"),
            msgspec.Raw(b'{"$raw":1}'),
            msgspec.Raw(b'{"a":\n1}'),
            msgspec.Raw(b"\xff"),
            [IceServer(("stun:a",)), Candidate("c", "0")],
        ],
    )
    def test_comes_back(self, value: Any) -> None:
        assert through(value) == value
        assert b"\n" not in encode_json(tree(value))

    def test_not_a_number(self) -> None:
        assert math.isnan(through(math.nan))

    def test_an_error_of_somebody_else_keeps_its_name_and_words(self) -> None:
        class OwnError(Exception):
            def __str__(self) -> str:
                return "own words"

        for error in (ConnectionRefusedError(111, "refused"), OwnError(object()), TimeoutError()):
            found = through(error)
            assert type(found).__name__ == type(error).__name__
            assert str(found) == str(error)
            assert isinstance(found, RecordedError)
            assert found == through(error)
            assert hash(found) == hash(through(error))
            assert tree(found) == tree(error)
        assert repr(through(ConnectionRefusedError(111, "no"))) == repr(ConnectionRefusedError(111, "no"))
        assert through(OSError(1)) != OSError(1)

    def test_an_error_that_cannot_be_shown(self) -> None:
        class BrokenError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        assert str(through(BrokenError())) == ""

    def test_what_no_recording_can_hold_leaves_its_name(self) -> None:
        assert through(object()) == Unknown("object")
        assert through(Unknown("x")) == Unknown("Unknown")

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.tuples(inner, inner)
                | st.dictionaries(st.text() | st.sampled_from(["$", "type", "$not_json"]), inner, max_size=3)
            ),
            max_leaves=8,
        )
    )
    def test_anything_comes_back(self, value: Any) -> None:
        found = through(Tell(value))
        assert found == Tell(value)
        note = through(Message("a", "b", value))
        assert note == Message("a", "b", value)


class TestTheShortWay:
    """The most frequent steps are written by msgspec alone, and are read all the same."""

    @each_row(
        ("fact", "orders"),
        [
            (Woken(), []),
            (Received(1, ["a", '{"$not_json":1}']), [AnswerAll([1, 2]), Answer(3)]),
            (
                Asked(1, Publish("a", msgspec.Raw(b'{"$raw":1.0}'))),
                [Send(1, b'{"type":"publish","data":{"$base64":"x"}}')],
            ),
            (Woken(), [Broadcast((1, 2), b'{"$":1}', 2), TellAll([Message("a", "b", {"$not_json": {"$": "int"}})])]),
        ],
    )
    def test_comes_back(self, fact: Fact, orders: list[Order]) -> None:
        line = step_line(5, fact, orders)
        assert b'"marks"' not in line
        read = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        assert read_value(read["fact"], marks=False) == fact
        assert read_value(read["orders"], marks=False) == orders

    @each_row(
        ("fact", "orders"),
        [
            (Received(1, [b"binary"]), []),
            (EffectDone(1, "t"), []),
            (Woken(), [Answer(1, 5), Answer(2, error=LocalProtocolError("x"))]),
            (Woken(), [Tell(IceServer(("stun:a",)))]),
            (Received(1, ["\ud800"]), []),
        ],
    )
    def test_what_takes_the_long_way(self, fact: Fact, orders: list[Order]) -> None:
        line = step_line(5, fact, orders)
        assert b'"marks"' in line
        read = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        assert read_value(read["fact"]) == fact
        assert read_value(read["orders"]) == orders

    def test_data_too_deep_to_be_written_leaves_its_name(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        line = step_line(1, Woken(), [Tell(Message("a", "b", deep))])
        assert line.endswith(b'"orders":[{"$":"unknown","kind":"Tell"}]}')


class TestHostileText:
    @each_row(
        "text",
        [
            b'{"$":"nothing"}',
            b'{"$":5}',
            b'{"type":"nothing"}',
            b'{"a":1}',
            b'{"$":"Close","code":2}',
            b'{"$":"Send"}',
            b'{"$":"error","class":"os.system","args":[],"text":""}',
            b'{"$":"error","class":"' + b"x" * 101 + b'","args":[],"text":""}',
            b'{"$":"error","class":"X","args":5,"text":""}',
            b'{"$":"AckTimeoutError","fields":[1,2]}',
            b'{"$":"AckTimeoutError","fields":["x"]}',
            b'{"$":"AckTimeoutError","fields":5}',
            b'{"$":"dict","json":[]}',
            b'{"$":"dict","items":5}',
            b'{"$":"dict","items":[[[],1]]}',
            b'{"$":"int","text":"x"}',
            b'{"$":"float","text":"x"}',
            b'{"$":"str","utf16":"0"}',
            b'{"$":"bytes","value":{"$base64":"?"}}',
            b'{"type":"Send","link":1,"payload":"\\ud800"}',
            b"[" * 5000,
            b"nul",
        ],
    )
    def test_ends_in_an_error_that_is_expected(self, text: bytes) -> None:
        with pytest.raises((ValueError, TypeError, RecursionError, KeyError)):
            read_value(text)

    def test_no_class_but_the_registered_ones_is_ever_made(self) -> None:
        with pytest.raises(Unreadable):
            read_value(b'{"$":"Popen","args":["x"]}')
        with pytest.raises(Unreadable):
            read_value(b'{"$":"Malformed","code":"a","reason":"b"}')
        assert isinstance(through(MeteredRealtimeError("x")), MeteredRealtimeError)
        assert through(Entry(1, "o", 1, "c", "i", b"1", 9, -5)) == Entry(1, "o", 1, "c", "i", b"1", 9, -5)
        assert through(Loaded()) == Loaded()
