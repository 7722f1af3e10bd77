"""A lost relay, and what survives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metered_proto.events import IceServer, Left, StateChange
from metered_proto.facts import LinkDown
from metered_proto.machine import SECOND
from metered_proto.orders import CloseLink
from metered_proto.room.words import AtPeer, MemberJoined, MemberLeft, MemberUpdated
from metered_proto.rtc.words import Reconcile, SetIce, SetTracks, Shut

Converse = Callable[..., Any]


class TestWhatSurvives:
    """The table of "What survives a reconnect", as far as it concerns the machine."""

    def test_the_members_and_their_machines(self, talk: Any) -> None:
        talk.joins("bob", "zoe")
        bob, zoe = talk.peer("bob"), talk.peer("zoe")
        talk.connection("bob")
        talk.forget()
        talk.link_goes_down()
        assert talk.told == [StateChange("joined", "reconnecting")]
        assert (bob.link_up, zoe.link_up) == (False, False)
        assert bob.connected
        talk.comes_back("bob", "zoe")
        assert talk.told == [StateChange("joined", "reconnecting"), StateChange("reconnecting", "joined")]
        assert (talk.peer("bob"), talk.peer("zoe")) == (bob, zoe)
        assert [bob.calls, zoe.calls] == [[SetIce(()), Reconcile(False, False)], [SetIce(()), Reconcile(True, False)]]
        assert (bob.link_up, zoe.link_up) == (True, True)
        assert len(talk.machines) == 2

    def test_our_tracks(self, talk: Any, make_track: Any) -> None:
        talk.adds(1)
        talk.joins("bob")
        talk.link_goes_down()
        talk.forget()
        talk.comes_back("bob", "amy")
        assert talk.room.tracks == (make_track(1),)
        assert SetTracks((make_track(1),)) in talk.peer("amy").calls
        assert not [call for call in talk.peer("bob").calls if isinstance(call, SetTracks)], "it has them"

    def test_our_name_for_the_room(self, talk: Any) -> None:
        talk.joins()
        talk.link_goes_down()
        assert (talk.room.peer_id, talk.room.channel) == ("me", "room")
        talk.until_woken()
        talk.gets_in()
        assert talk.requests("subscribe")[-1]["channel"] == "room"


def test_alone_we_are_back_at_once(joined: Any) -> None:
    joined.link_goes_down()
    joined.until_woken()
    joined.gets_in()
    assert joined.state == "reconnecting"
    joined.presence()
    assert joined.state == "joined"
    assert joined.room.deadline is None


def test_departures_then_survivors_then_newcomers(talk: Any) -> None:
    talk.joins("bob", "cat", "zoe")
    talk.link_goes_down()
    talk.forget()
    talk.comes_back("new", "zoe", "cat", cat={"n": 1})
    events = [event for event in talk.told if not isinstance(event, AtPeer)]
    assert events == [
        MemberLeft("bob"),
        MemberUpdated("cat", {"n": 1}),
        MemberJoined("new", None),
        StateChange("reconnecting", "joined"),
    ]
    assert talk.room.members == ("cat", "zoe", "new")


def test_under_a_new_id_every_connection_is_replaced(talk: Any) -> None:
    talk.joins("bob", peer_id="abc")
    assert talk.room.is_polite("bob")
    talk.connection("bob")
    talk.link_goes_down()
    talk.forget()
    talk.comes_back("bob", peer_id="xyz")
    assert talk.peer("bob").calls[-1] == Reconcile(polite=False, replace=True)
    assert talk.room.is_polite("bob") is False
    assert talk.room.peer_id == "xyz"
    talk.link_goes_down()
    talk.comes_back("bob", peer_id="xyz")
    assert talk.peer("bob").calls[-1] == Reconcile(polite=False, replace=False)


def test_a_new_id_is_not_forgotten_where_the_snapshot_takes_another_attempt(talk: Any) -> None:
    talk.joins("bob", peer_id="one")
    talk.link_goes_down()
    talk.until_woken()
    talk.gets_in("two")
    talk.link_goes_down()
    talk.comes_back("bob", peer_id="two")
    assert talk.peer("bob").calls[-1].replace


def test_our_old_id_may_still_be_in_the_snapshot(talk: Any) -> None:
    """The server has not noticed the end of the old socket yet. Later that id may be anybody's."""
    talk.joins(peer_id="one")
    talk.link_goes_down()
    talk.comes_back("one", peer_id="two")
    assert talk.room.members == ()
    talk.presence(left=("one",))
    talk.presence("one")
    assert talk.room.members == ("one",)


def test_a_closed_survivor_is_reconciled_like_any_other(talk: Any) -> None:
    talk.joins("bob", "zoe")
    bob = talk.peer("bob")
    bob.state = "reconnecting"  # exhausted, say: what becomes of it is the peer machine's to decide
    talk.link_goes_down()
    talk.comes_back("bob", "zoe")
    assert isinstance(bob.calls[-1], Reconcile)


def test_fresh_servers_go_to_everybody(talk: Any) -> None:
    talk.joins("bob")
    talk.link_goes_down()
    talk.until_woken()
    servers = [{"urls": ["stun:stun.example"]}]
    talk.gets_in(metadata={"iceServers": servers})
    assert talk.peer("bob").servers == (IceServer(("stun:stun.example",)),)
    talk.presence("bob", "amy")
    assert talk.peer("amy").servers == (IceServer(("stun:stun.example",)),)


def test_the_applications_servers_are_used_where_the_server_gives_none(converse: Converse) -> None:
    own = (IceServer(("stun:own.example",)),)
    talk = converse(ice_servers=own, ice_transport_policy="relay")
    talk.joins("bob")
    assert talk.peer("bob").servers == own
    assert talk.peer("bob").options.relay_only
    assert talk.room.ice_servers == own


class TestASnapshotThatDoesNotCome:
    def comes_back_without(self, talk: Any) -> None:
        talk.joins("bob")
        talk.link_goes_down()
        talk.until_woken()
        talk.gets_in()
        talk.forget()

    def test_is_asked_for_again(self, talk: Any) -> None:
        self.comes_back_without(talk)
        assert talk.until_woken() == 10
        [again] = talk.requests("subscribe")
        talk.ack(again)
        talk.presence("bob")
        assert talk.state == "joined"
        assert talk.room.deadline is None

    def test_twice(self, talk: Any) -> None:
        self.comes_back_without(talk)
        start = talk.now
        for _ in range(2):
            talk.until_woken()
            talk.ack(talk.requests("subscribe")[-1])
        talk.until_woken()
        assert talk.now - start == 30 * SECOND
        assert len(talk.requests("subscribe")) == 2
        assert talk.state == "closed"
        assert talk.told[-1] == Left("me", "room", "reconcile_timeout")
        assert [order for order in talk.orders if isinstance(order, CloseLink)]

    def test_and_is_refused_meanwhile(self, talk: Any) -> None:
        self.comes_back_without(talk)
        talk.until_woken()
        talk.refuse(talk.requests("subscribe")[-1], "backend_error")
        assert talk.state == "reconnecting"
        talk.until_woken()
        talk.presence("bob")
        assert talk.state == "joined"

    def test_and_is_refused_for_good(self, talk: Any) -> None:
        self.comes_back_without(talk)
        talk.until_woken()
        talk.refuse(talk.requests("subscribe")[-1], "channel_not_authorized")
        assert talk.told[-1] == Left("me", "room", "channel_not_authorized")

    def test_is_not_waited_for_without_a_connection(self, talk: Any) -> None:
        self.comes_back_without(talk)
        talk.link_goes_down()
        assert talk.room.deadline.why == "reconnect"
        talk.until_woken()
        talk.gets_in()
        talk.advance(29)
        assert talk.state == "reconnecting", "the count begins anew with each connection"

    def test_of_another_channel_does_not_count(self, talk: Any) -> None:
        self.comes_back_without(talk)
        talk.presence("bob", channel="elsewhere")
        assert talk.state == "reconnecting"


def test_the_trouble_of_one_survivor_is_not_that_of_others(talk: Any) -> None:
    talk.joins("bob", "zoe")
    bob, zoe = talk.peer("bob"), talk.peer("zoe")
    talk.connection("bob")
    talk.link_goes_down()
    bob.state = "reconnecting"  # its connection breaks meanwhile
    talk.comes_back("bob", "zoe")
    assert isinstance(zoe.calls[-1], Reconcile)
    assert talk.room.members == ("bob", "zoe")


def test_nobody_is_given_up_while_we_are_away_ourselves(talk: Any) -> None:
    talk.joins("bob", "zoe")
    talk.connection("bob")
    talk.link_goes_down()
    talk.advance(0.4)
    talk.connection("bob", "failed")
    assert talk.room.members == ("bob", "zoe")


def test_a_second_snapshot_is_a_delta(talk: Any) -> None:
    """It was asked for again, and then both came."""
    talk.joins("bob", "zoe")
    talk.link_goes_down()
    talk.comes_back("bob", "zoe")
    talk.forget()
    talk.presence("bob", "zoe")
    assert talk.told == []
    assert talk.peer("bob").calls == []


def test_the_way_is_said_to_be_down_once(talk: Any) -> None:
    talk.joins("bob")
    talk.forget()
    talk.link_goes_down(1001)
    talk.until_woken()
    talk.gets_in()
    talk.link_goes_down()
    assert [fact for fact in talk.peer("bob").facts if isinstance(fact, LinkDown)] == [LinkDown(0, 1001)]


def test_somebody_who_leaves_for_good_while_we_are_away(talk: Any) -> None:
    talk.joins("bob")
    bob = talk.peer("bob")
    talk.link_goes_down()
    talk.comes_back()
    assert bob.calls[-1] == Shut()
    assert MemberLeft("bob") in talk.told
