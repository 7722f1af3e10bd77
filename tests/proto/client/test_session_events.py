"""What the application is told: every event with its fields, every state with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest

from metered_proto.client.calls import Close, Connect
from metered_proto.client.session import State
from metered_proto.events import (
    Connected,
    Direct,
    Disconnected,
    Event,
    GoingAway,
    IceServer,
    Message,
    Presence,
    PresencePeer,
    ServerError,
    StateChange,
    TokenProviderError,
)
from metered_proto.orders import Tell, TellAll

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]


class TestEvents:
    """The reference's list, in its order."""

    def test_connected(self, talk: Conversation) -> None:
        talk.connects(
            peerId="me",
            serverTime=5,
            expiresAt=7,
            maxMessageSize=9,
            metadata={"iceServers": [{"urls": ["stun:a.example", "stuns:b.example:5349"]}], "other": 1},
        )
        event = talk.told[-1]
        assert event == Connected(
            peer_id="me",
            server_time=5,
            expires_at=7,
            is_reconnect=False,
            max_message_size=9,
            ice_servers=(IceServer(("stun:a.example", "stuns:b.example:5349")),),
        )

    def test_disconnected(self, online: Conversation) -> None:
        online.link_goes_down(4020, "out")
        assert online.told[-1] == Disconnected(code=4020, reason="out", will_reconnect=False)

    def test_state_change(self, talk: Conversation) -> None:
        talk.asks(Connect())
        assert talk.told == [StateChange(from_="idle", to="connecting")]

    def test_message(self, online: Conversation) -> None:
        online.server({"type": "message", "channel": "fleet/1", "from": "p", "data": {"t": 20.5}, "fromMetadata": {}})
        assert online.told == [
            Message(channel="fleet/1", sender_peer_id="p", data={"t": 20.5}, sender_metadata={}),
        ]

    def test_several_messages_of_one_read_are_told_in_one_order(self, online: Conversation) -> None:
        frames = [{"type": "message", "channel": "fleet/1", "from": "p", "data": number} for number in range(3)]
        online.server(*frames)
        assert online.orders[-1:] == [TellAll([Message("fleet/1", "p", number) for number in range(3)])]
        assert [event.data for event in online.told] == [0, 1, 2]
        online.server(frames[0], {"type": "direct", "from": "p", "data": "in between"}, frames[1])
        assert [event.data for event in online.told[3:]] == [0, "in between", 1]

    def test_direct(self, online: Conversation) -> None:
        online.server({"type": "direct", "from": "p", "data": None, "fromMetadata": {"name": "P"}})
        assert online.told == [Direct(sender_peer_id="p", data=None, sender_metadata={"name": "P"})]

    def test_presence(self, online: Conversation) -> None:
        joined = [{"peerId": "a"}, {"peerId": "b", "metadata": {"name": "B"}}]
        online.server({"type": "presence", "channel": "room", "joined": joined, "left": [{"peerId": "c"}]})
        assert online.told == [
            Presence(
                channel="room",
                joined=(PresencePeer("a"), PresencePeer("b", {"name": "B"})),
                left=(PresencePeer("c"),),
            )
        ]

    def test_server_error(self, online: Conversation) -> None:
        online.server({"type": "error", "code": "backend_error", "message": "m", "requestId": "x"})
        assert online.told == [ServerError(code="backend_error", message="m", request_id="x")]

    def test_going_away(self, online: Conversation) -> None:
        online.server({"type": "going_away", "retryAfterMs": 1500})
        assert online.told == [GoingAway(retry_after_ms=1500)]

    def test_token_provider_error(self, converse: Converse) -> None:
        talk = converse(api_key=None, reconnect={"retry_first": True})
        talk.asks(Connect())
        error = OSError("no route")
        for _ in range(3):
            talk.token_fails(error)
            talk.until_woken()
        assert talk.told[-1] == TokenProviderError(consecutive_failures=3, err=error)

    def test_what_the_server_sends_is_what_the_application_gets(self, online: Conversation) -> None:
        online.server({"type": "message", "channel": "c", "from": "p", "data": 1})
        assert all(isinstance(event, Event) for event in online.told)
        assert all(isinstance(order, Tell) for order in online.orders), "and nothing is logged for it"

    def test_a_second_welcome_is_no_news(self, online: Conversation) -> None:
        online.welcome(peerId="somebody else")
        assert online.orders == []
        assert online.session.peer_id == "me"

    def test_metadata_of_a_wrong_shape_reads_as_absent(self, online: Conversation) -> None:
        online.server(
            {"type": "message", "channel": "c", "from": "p", "data": 1, "fromMetadata": "x"},
            {"type": "direct", "from": "p", "data": 1, "fromMetadata": [1]},
            {"type": "presence", "channel": "c", "joined": [{"peerId": "p", "metadata": 5}], "left": []},
        )
        assert online.told == [Message("c", "p", 1), Direct("p", 1), Presence("c", (PresencePeer("p"),))]

    def test_unknown_fields_are_ignored(self, online: Conversation) -> None:
        online.server({"type": "direct", "from": "p", "data": 1, "later": {"a": 1}})
        assert online.told == [Direct("p", 1)]


class TestWelcome:
    """Nothing but a peer id is needed, and no other field can spoil it."""

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"expiresAt": "soon", "serverTime": None, "maxMessageSize": True, "metadata": "none"},
            {"expiresAt": [], "serverTime": {}, "maxMessageSize": "1000", "metadata": ["iceServers"]},
            {"metadata": None},
            {"metadata": {"iceServers": "turn:me"}},
            {"metadata": {"iceServers": [{"urls": "turn:t.example"}]}},
        ],
    )
    def test_what_cannot_be_read_is_as_if_it_were_not_there(self, talk: Conversation, fields: dict[str, Any]) -> None:
        talk.asks(Connect())
        talk.link_comes_up()
        talk.server({"type": "welcome", "peerId": "me", **fields})
        assert talk.told[-1] == Connected("me", 0, None, False, 65_536, ())

    def test_fractions_of_a_second_are_cut_off(self, talk: Conversation) -> None:
        talk.connects(expiresAt=1_700_000_000.75, serverTime=1.7e12)
        assert talk.told[-1].expires_at == 1_700_000_000
        assert talk.told[-1].server_time == 1_700_000_000_000


class TestStates:
    def walk(self, begin: Converse) -> dict[str, Conversation]:
        idle, connecting, connected, reconnecting, closed = (begin() for _ in range(5))
        connecting.asks(Connect())
        connected.connects()
        reconnecting.connects()
        reconnecting.link_goes_down()
        closed.asks(Close())
        return {
            "idle": idle,
            "connecting": connecting,
            "connected": connected,
            "reconnecting": reconnecting,
            "closed": closed,
        }

    def test_each_has_its_name(self, converse: Converse) -> None:
        talks = self.walk(converse)
        assert set(talks) == set(get_args(State))
        assert {name: talk.state for name, talk in talks.items()} == {name: name for name in talks}

    def test_reconnecting_lasts_until_the_welcome(self, online: Conversation) -> None:
        online.link_goes_down()
        assert online.state == "reconnecting"
        online.until_woken()
        assert online.state == "reconnecting"
        online.link_comes_up()
        assert online.state == "reconnecting"
        online.welcome()
        assert online.state == "connected"

    def test_the_whole_life(self, online: Conversation) -> None:
        online.link_goes_down()
        online.comes_back()
        online.asks(Close(1000, "done"))
        assert [event for event in online.told if not isinstance(event, Connected)] == [
            StateChange("connected", "reconnecting"),
            Disconnected(1006, "", will_reconnect=True),
            StateChange("reconnecting", "connected"),
            StateChange("connected", "closed"),
            Disconnected(1000, "done", will_reconnect=False),
        ]
