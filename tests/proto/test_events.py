"""What an application is told: frozen, slotted, quiet about secrets, and the very frames of the wire."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto import events
from metered_proto.events import (
    Connected,
    ConnectionReset,
    Data,
    Direct,
    Disconnected,
    Event,
    FatalError,
    Gap,
    GoingAway,
    IceCandidateError,
    IceServer,
    Joined,
    Left,
    Message,
    NegotiationError,
    Presence,
    PresencePeer,
    RequestReceived,
    ServerError,
    StateChange,
    TokenProviderError,
)

SAMPLES: list[Event] = [
    Connected("me", 1_700_000_000_000, None, False, 65536, (IceServer(("stun:stun.example",)),)),
    Disconnected(1006, "", True),
    StateChange("idle", "connecting"),
    Message("room", "you", {"a": [1]}, {"name": "You"}),
    Direct("you", None),
    Presence("room", (PresencePeer("a", {"n": 1}),), (PresencePeer("b"),)),
    ServerError("internal_error", "", None),
    GoingAway(5000),
    TokenProviderError(3, ValueError("no token")),
    Gap("room", "you", 2),
    RequestReceived("you", "q-1", {"ask": 1}),
    Joined("me", "room"),
    Left("me", "room", None),
    Data("you", {"text": "hi"}, "broadcast", {"name": "You"}),
    FatalError(ValueError("kicked")),
    ConnectionReset(),
    NegotiationError(ValueError("no codec")),
    IceCandidateError(ValueError("no route")),
]

STRUCTS = [
    value
    for value in vars(events).values()
    if inspect.isclass(value) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
]


class TestEveryEvent:
    def test_every_event_has_a_sample_here(self) -> None:
        assert {type(event) for event in SAMPLES} == {cls for cls in STRUCTS if issubclass(cls, Event)} - {Event}

    @each_row("cls", STRUCTS)
    def test_it_is_frozen(self, cls: type[msgspec.Struct]) -> None:
        assert cls.__struct_config__.frozen

    @each_row("event", SAMPLES, ids=lambda event: type(event).__name__)
    def test_it_is_slotted(self, event: Event) -> None:
        assert not hasattr(event, "__dict__")

    @each_row("event", SAMPLES, ids=lambda event: type(event).__name__)
    def test_nothing_of_it_can_be_changed_or_added(self, event: Event) -> None:
        for name in (*event.__struct_fields__, "something_else"):
            with pytest.raises(AttributeError):
                setattr(event, name, None)

    @each_row("event", SAMPLES, ids=lambda event: type(event).__name__)
    def test_its_fields_match_by_position(self, event: Event) -> None:
        values = [getattr(event, name) for name in type(event).__match_args__]
        assert type(event)(*values) == event


class TestOnTheWire:
    @pytest.mark.parametrize(
        ("text", "event"),
        [
            (
                '{"type":"message","channel":"c","from":"p","data":{"a":1},"fromMetadata":{"n":2}}',
                Message("c", "p", {"a": 1}, {"n": 2}),
            ),
            ('{"type":"message","channel":"c","from":"p","data":null}', Message("c", "p", None)),
            ('{"type":"direct","from":"p","data":[1,"x"],"later":true}', Direct("p", [1, "x"])),
            (
                '{"type":"presence","channel":"c","joined":[{"peerId":"a"},{"peerId":"b","metadata":{"n":1}}],"left":[]}',
                Presence("c", (PresencePeer("a"), PresencePeer("b", {"n": 1}))),
            ),
            ('{"type":"presence","channel":"c","left":[{"peerId":"a"}]}', Presence("c", (), (PresencePeer("a"),))),
        ],
    )
    def test_a_frame_is_the_event(self, text: str, event: Event) -> None:
        assert msgspec.json.decode(text, type=Message | Direct | Presence) == event
        assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event

    @pytest.mark.parametrize("text", ['{"type":"message","channel":"c","from":"p"}', '{"type":"direct","data":1}'])
    def test_a_frame_without_what_it_needs_is_none(self, text: str) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=Message | Direct | Presence)

    def test_absent_metadata_is_not_written(self) -> None:
        assert msgspec.json.encode(PresencePeer("a")) == b'{"peerId":"a"}'
        assert msgspec.json.encode(IceServer(("stun:s",))) == b'{"urls":["stun:s"]}'


class TestSecrets:
    @pytest.mark.parametrize("show", [repr, str, "{}".format])
    def test_a_turn_credential_is_never_shown(self, show: Any) -> None:
        server = IceServer(("turn:turn.example",), "user-name", "the-credential")
        assert server.__rich_repr__() == [("urls", ("turn:turn.example",))]
        for value in (server, [server], Connected("me", 0, None, False, 1, (server,))):
            text = show(value)
            assert "turn:turn.example" in text
            assert "the-credential" not in text
            assert "user-name" not in text
