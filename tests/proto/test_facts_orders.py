"""The envelope: facts and orders as values that can be compared, matched, and written down."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto import facts, orders
from metered_proto.errors import AckTimeoutError
from metered_proto.facts import (
    Asked,
    EffectDone,
    Fact,
    Heard,
    LinkAsked,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    LinkUp,
    Received,
    Withdrawn,
    Woken,
)
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    AnswerAll,
    Begin,
    Broadcast,
    CloseLink,
    Note,
    OpenLink,
    Order,
    PingLink,
    RefuseLink,
    Send,
    Tell,
    TellAll,
)

FACTS: list[Fact] = [
    LinkAsked(1, "/v1?key=pk_live_secret", "192.0.2.1", "https://example.com"),
    LinkUp(1),
    Received(1, ["text", b"\x00binary"]),
    Heard(1),
    LinkDown(1, 1006),
    LinkBlocked(1, 4096),
    LinkDrained(1),
    Asked(7, {"call": "publish"}),
    Withdrawn(7),
    EffectDone(3, "token-secret"),
    Woken(),
]

ORDERS: list[Order] = [
    OpenLink(1, "wss://example.com/v1?token=secret"),
    AcceptLink(1),
    RefuseLink(1, 429, "too many", retry_after=5),
    Send(1, b"{}"),
    Broadcast([1, 2, 3], b"{}", skip=2),
    PingLink(1),
    CloseLink(1, 1000, "bye", abort=True),
    Answer(7, value=1),
    AnswerAll([7, 8]),
    Begin(3, {"work": "token"}),
    Abandon(3),
    Tell({"event": 1}),
    TellAll([{"event": 1}, {"event": 2}]),
    Note("info", "state", {"to": "connected"}),
]


def structs(module: Any, base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    return [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, base)]


KINDS = structs(facts, Fact) + structs(orders, Order)


class TestEveryKind:
    def test_each_has_a_sample_here(self) -> None:
        assert {type(sample) for sample in [*FACTS, *ORDERS]} == set(KINDS) - {Fact, Order}

    def test_no_two_share_a_tag(self) -> None:
        tags = [cls.__struct_config__.tag for cls in KINDS]
        assert len(set(tags)) == len(tags)
        assert None not in tags

    @each_row("cls", KINDS)
    def test_it_is_a_frozen_value(self, cls: type[msgspec.Struct]) -> None:
        assert cls.__struct_config__.frozen
        assert cls.__struct_config__.eq

    @each_row("sample", [*FACTS, *ORDERS], ids=lambda sample: type(sample).__name__)
    def test_it_cannot_be_changed(self, sample: msgspec.Struct) -> None:
        for name in (*sample.__struct_fields__, "something_else"):
            with pytest.raises(AttributeError):
                setattr(sample, name, None)

    @each_row("sample", [*FACTS, *ORDERS], ids=lambda sample: type(sample).__name__)
    def test_it_matches_by_position(self, sample: msgspec.Struct) -> None:
        values = [getattr(sample, name) for name in type(sample).__match_args__]
        assert type(sample)(*values) == sample

    @each_row("sample", [*FACTS, *ORDERS], ids=lambda sample: type(sample).__name__)
    def test_it_is_a_line_of_json_that_says_what_it_is(self, sample: msgspec.Struct) -> None:
        line = msgspec.json.encode(sample)
        assert b"\n" not in line
        written = msgspec.json.decode(line)
        assert written.pop("type") == type(sample).__name__
        assert set(written) == set(sample.__struct_fields__)


class TestReadBack:
    def test_a_log_of_facts(self) -> None:
        kinds = LinkAsked | LinkUp | Heard | LinkDown | LinkBlocked | LinkDrained | Asked | Withdrawn | Woken
        decoder = msgspec.json.Decoder(kinds)
        for fact in FACTS:
            if not isinstance(fact, Received | EffectDone):  # these need a word from whoever recorded them
                assert decoder.decode(msgspec.json.encode(fact)) == fact


class TestDefaults:
    def test_what_may_be_left_out(self) -> None:
        assert LinkAsked(1, "/", "::1").origin is None
        assert LinkDown(1, 1000).reason == ""
        assert EffectDone(1) == EffectDone(1, None, None)
        assert RefuseLink(1, 503, "").retry_after is None
        assert Broadcast([], b"").skip is None
        assert CloseLink(1, 1000) == CloseLink(1, 1000, "", abort=False)
        assert Answer(1) == Answer(1, None, None)

    def test_the_context_of_a_note_is_its_own(self) -> None:
        one, two = Note("info", "a"), Note("info", "b")
        one.context["x"] = 1
        assert two.context == {}

    def test_answers_with_equal_errors_are_equal(self) -> None:
        assert Answer(1, error=AckTimeoutError(15.0)) == Answer(1, error=AckTimeoutError(15.0))
        assert Answer(1, error=AckTimeoutError(15.0)) != Answer(1, error=AckTimeoutError(16.0))


class TestSecrets:
    """A credential is in the query of a target, and a token may be the result of an effect."""

    def test_nor_by_the_rich_library(self) -> None:
        assert LinkAsked(2, "/v1?key=secret", "::1", "https://a").__rich_repr__() == [
            ("link", 2),
            ("target", "/v1"),
            ("address", "::1"),
            ("origin", "https://a"),
        ]
        assert EffectDone(3, "secret").__rich_repr__() == [("effect", 3), ("result", "str"), ("error", None)]
        assert OpenLink(1, "wss://h/v1?token=secret").__rich_repr__() == [("link", 1), ("target", "wss://h/v1")]

    @pytest.mark.parametrize("show", [repr, str, "{}".format])
    def test_none_is_ever_shown(self, show: Any) -> None:
        for sample in [*FACTS, *ORDERS]:
            assert "secret" not in show(sample)
        assert show(OpenLink(1, "wss://example.com/v1?token=t")) == "OpenLink(link=1, target='wss://example.com/v1?…')"
        assert show(OpenLink(1, "wss://example.com/v1")) == "OpenLink(link=1, target='wss://example.com/v1')"
        assert show(LinkAsked(2, "/v1?key=k", "::1")) == "LinkAsked(link=2, target='/v1?…', address='::1', origin=None)"
        assert show(EffectDone(3, "t")) == "EffectDone(effect=3, result=<str>, error=None)"
        assert show(EffectDone(3, error=ValueError("x"))) == "EffectDone(effect=3, result=None, error=ValueError('x'))"
