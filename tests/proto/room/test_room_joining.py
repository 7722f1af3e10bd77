"""Joining and leaving a room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from table_kit import each_row

from metered_proto.entropy import Entropy
from metered_proto.errors import (
    AckTimeoutError,
    DisconnectedError,
    LocalProtocolError,
    MeteredPeerSendError,
    MeteredPeerStateError,
    ServerRequestError,
    SignallingConnectError,
)
from metered_proto.events import Joined, Left, StateChange
from metered_proto.facts import EffectDone, LinkAsked, LinkDown
from metered_proto.orders import CloseLink, OpenLink
from metered_proto.room.room import Room
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import AtPeer, Join, MemberJoined, MemberLeft, SendAll
from metered_proto.rtc.words import Shut
from metered_proto.settings import ClientSettings

Converse = Callable[..., Any]


def test_a_join_connects_subscribes_and_is_answered_on_the_acknowledgement(talk: Any) -> None:
    op = talk.asks_to_join("room", include_sender_metadata=True)
    assert (talk.state, talk.room.peer_id, talk.room.channel) == ("joining", None, None)
    talk.is_welcomed("me")
    assert talk.requests("subscribe")[-1]["channel"] == "room"
    assert talk.requests("subscribe")[-1]["includeSenderMetadata"] is True
    assert talk.waits(op)
    assert (talk.state, talk.room.channel) == ("joining", None)
    talk.ack(talk.requests("subscribe")[-1])
    assert talk.error(op) is None
    assert (talk.state, talk.room.peer_id, talk.room.channel) == ("joined", "me", "room")
    assert talk.told == [StateChange("idle", "joining"), StateChange("joining", "joined"), Joined("me", "room")]


def test_those_who_are_there_come_with_the_snapshot(talk: Any) -> None:
    talk.joins("bob", "zoe")
    assert [event for event in talk.told if isinstance(event, MemberJoined)] == [
        MemberJoined("bob", None),
        MemberJoined("zoe", None),
    ]
    assert talk.room.members == ("bob", "zoe")
    assert [machine.link_up for machine in talk.machines] == [True, True]
    assert [machine.polite for machine in talk.machines] == [False, True]
    assert [talk.room.is_polite(peer_id) for peer_id in ("bob", "zoe", "who")] == [False, True, None]
    assert [talk.room.member_state(peer_id) for peer_id in ("bob", "who")] == ["idle", None]
    assert talk.room.peer("who") is None


@each_row("channel", ["_metered/x", "_INTERNAL/x", "_System/x"])
def test_a_reserved_channel_is_refused(channel: str, converse: Converse) -> None:
    talk = converse()
    op = talk.asks_to_join(channel)
    assert talk.error(op) == MeteredPeerSendError("reserved_channel")
    assert talk.state == "idle"
    assert not talk.opened


@pytest.mark.parametrize(
    ("channel", "error"), [("", ValueError), ("a*", ValueError), ("x" * 300, ValueError), (7, TypeError)]
)
def test_what_is_no_name_is_an_error_at_the_call(channel: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Join(channel)


def test_an_option_of_the_wrong_type_is_an_error_at_the_call() -> None:
    with pytest.raises(TypeError, match="include_sender_metadata"):
        Join("room", include_sender_metadata=1)  # type: ignore[arg-type]


@each_row("state", ["joining", "joined", "reconnecting", "closed"])
def test_join_is_for_the_idle(state: str, converse: Converse) -> None:
    talk = converse()
    if state == "joining":
        talk.asks_to_join()
    else:
        talk.joins()
    if state == "reconnecting":
        talk.link_goes_down()
    if state == "closed":
        talk.leaves()
    assert talk.state == state
    op = talk.asks_to_join()
    assert talk.error(op) == MeteredPeerStateError("invalid_state", "join", state)
    assert talk.state == state


class TestAJoinThatFails:
    def fails(self, talk: Any, op: int, error: Exception) -> None:
        assert talk.error(op) == error
        assert talk.state == "idle"
        assert (talk.room.peer_id, talk.room.channel) == (None, None)
        assert talk.room.deadline is None
        talk.forget()
        again = talk.joins("bob")
        assert talk.error(again) is None
        assert talk.room.members == ("bob",)

    def test_nobody_there(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.link_goes_down(1006, "refused")
        self.fails(talk, op, SignallingConnectError(1006, "refused"))

    def test_turned_away(self, talk: Any) -> None:
        """The caller is told, and nobody else."""
        op = talk.asks_to_join()
        talk.link_comes_up()
        talk.link_goes_down(4001, "invalid_token")
        assert talk.told == [StateChange("idle", "joining"), StateChange("joining", "idle")]
        self.fails(talk, op, SignallingConnectError(4001, "invalid_token"))

    def test_the_token_does_not_come(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        op = talk.asks_to_join()
        talk.give(EffectDone(talk.effect, error=OSError("no route")))
        self.fails(talk, op, SignallingConnectError(1006, "the token provider failed: OSError"))

    def test_lost_while_subscribing(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        talk.link_goes_down(1001, "restart")
        assert talk.told == [StateChange("idle", "joining"), StateChange("joining", "idle")]
        self.fails(talk, op, DisconnectedError(1001, "restart"))

    def test_closed_for_good_while_subscribing(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        talk.link_goes_down(4003, "not yours")
        self.fails(talk, op, DisconnectedError(4003, "not yours"))

    def test_the_subscribe_is_refused(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        subscribe = talk.requests("subscribe")[-1]
        talk.refuse(subscribe, "channel_not_authorized")
        assert [order for order in talk.orders if isinstance(order, CloseLink)]
        self.fails(talk, op, ServerRequestError("channel_not_authorized", "no", subscribe["requestId"]))

    def test_a_fatal_error_that_belongs_to_no_request(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        talk.refuse(None, "account_suspended", "unpaid")
        self.fails(talk, op, ServerRequestError("account_suspended", "unpaid"))

    def test_the_subscribe_is_not_answered(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        talk.advance(15)
        self.fails(talk, op, AckTimeoutError(15.0))

    def test_members_that_came_too_early_are_gone_again(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        talk.presence("bob")
        assert talk.room.members == ("bob",)
        talk.link_goes_down()
        assert MemberLeft("bob") in talk.told
        assert isinstance(talk.machines[0].calls[-1], Shut)
        self.fails(talk, op, DisconnectedError(1006))

    def test_what_is_left_of_it_is_ignored(self, talk: Any) -> None:
        talk.asks_to_join()
        talk.is_welcomed()
        old = talk.link
        talk.refuse(talk.requests("subscribe")[-1], "backend_error")
        talk.asks_to_join()
        talk.give(LinkDown(old, 1000))
        assert talk.state == "joining"
        assert talk.link > old


class TestAJoinThatIsCalledOff:
    @pytest.mark.parametrize("api_key", ["pk_live_q7Wd0aZtNw5xKfB3", None])
    def test_while_it_connects(self, api_key: str | None, converse: Converse) -> None:
        talk = converse(api_key=api_key)
        op = talk.asks_to_join()
        talk.withdraws(op)
        assert talk.state == "idle"
        assert talk.room.deadline is None
        talk.joins()

    def test_while_it_subscribes(self, talk: Any) -> None:
        op = talk.asks_to_join()
        talk.is_welcomed()
        talk.withdraws(op)
        assert talk.state == "idle"
        assert talk.told[-1] == StateChange("joining", "idle")
        talk.joins()

    def test_too_late(self, talk: Any) -> None:
        op = talk.joins()
        talk.withdraws(op)
        assert talk.state == "joined"


class TestLeaving:
    def test_from_a_room_with_members(self, talk: Any) -> None:
        talk.joins("bob", "zoe")
        talk.connection("bob")
        talk.forget()
        op = talk.leaves("bye")
        assert talk.error(op) is None
        assert talk.told == [
            StateChange("joined", "leaving"),
            AtPeer("bob", StateChange("connected", "closed")),
            MemberLeft("bob"),
            AtPeer("zoe", StateChange("idle", "closed")),
            MemberLeft("zoe"),
            StateChange("leaving", "closed"),
            Left("me", "room", "bye"),
        ]
        assert [order for order in talk.orders if isinstance(order, CloseLink)] == [CloseLink(talk.link, 1000, "bye")]

    def test_before_it_began(self, talk: Any) -> None:
        op = talk.leaves()
        assert talk.error(op) is None
        assert talk.told[-1] == Left(None, None, None)

    def test_while_it_connects(self, talk: Any) -> None:
        join = talk.asks_to_join()
        talk.leaves("enough")
        assert talk.error(join) == SignallingConnectError(1000, "enough")
        assert talk.told[-1] == Left(None, None, "enough")

    def test_while_it_subscribes(self, talk: Any) -> None:
        join = talk.asks_to_join()
        talk.is_welcomed()
        talk.leaves()
        assert talk.error(join) == DisconnectedError(1000)
        assert talk.told[-1] == Left("me", None, None)

    def test_while_it_reconnects(self, talk: Any) -> None:
        talk.joins("bob")
        talk.link_goes_down()
        talk.leaves()
        assert MemberLeft("bob") in talk.told
        assert talk.told[-1] == Left("me", "room", None)

    def test_twice(self, joined: Any) -> None:
        joined.leaves()
        joined.forget()
        assert joined.error(joined.leaves("again")) is None
        assert joined.told == []

    def test_requests_in_flight_are_answered(self, joined: Any) -> None:
        op = joined.sends()
        joined.leaves("bye")
        assert joined.error(op) == DisconnectedError(1000, "bye")

    def test_a_long_reason_is_cut_to_fit_a_close_frame(self, joined: Any) -> None:
        reason = "é" * 100 + "\ud800"
        joined.leaves(reason)
        [close] = [order for order in joined.orders if isinstance(order, CloseLink)]
        assert close.reason == "é" * 61
        assert joined.told[-1] == Left("me", "room", reason)

    def test_afterwards_nothing_happens(self, talk: Any) -> None:
        talk.joins("bob")
        talk.leaves()
        talk.forget()
        talk.give(LinkDown(talk.link, 1000))
        talk.advance(100)
        assert talk.orders == []


def test_the_room_is_no_place_for_other_facts_and_calls(talk: Any) -> None:
    with pytest.raises(LocalProtocolError, match="LinkAsked is not for a room"):
        talk.give(LinkAsked(1, "/", "192.0.2.1"))
    with pytest.raises(LocalProtocolError, match="int is not a call to a room"):
        talk.asks(7)


def test_two_rooms_with_the_same_seed_say_the_same() -> None:
    settings = RoomSettings(client=ClientSettings(api_key="pk_live_q7Wd0aZtNw5xKfB3"))
    one, two = Room(settings, Entropy(5)), Room(settings, Entropy(5))
    assert one._entropy.token() == two._entropy.token()


def test_no_attempt_is_made_before_a_join(talk: Any) -> None:
    assert talk.error(talk.asks(SendAll(b"1"))) == MeteredPeerSendError("not_joined")  # type: ignore[arg-type]
    assert not [order for order in talk.orders if isinstance(order, OpenLink)]
