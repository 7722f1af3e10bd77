"""How a lost connection comes back: when, with which servers, by whom, and what the application hears of it."""

from __future__ import annotations

import pytest
from talk_kit import CAMERA, MICROPHONE, SCREEN, Talk, kinds

from metered_proto.errors import IceRecoveryExhaustedError
from metered_proto.events import ConnectionReset, IceServer, NegotiationError, StateChange
from metered_proto.facts import Woken
from metered_proto.machine import SECOND
from metered_proto.rtc.recovery import Recovery
from metered_proto.rtc.servers import ServerRotation
from metered_proto.rtc.words import (
    MakeAnswer,
    MakeOffer,
    Reconcile,
    SetIce,
    Shut,
    StreamGone,
    StreamSeen,
    TrackGone,
    TrackSeen,
)

RTC = ("video sendrecv theirs t1",)


def states(talk: Talk) -> list[str]:
    return [event.to for event in talk.events(StateChange)]


class TestStates:
    def test_a_call_that_comes_up(self, talk: Talk) -> None:
        talk.connects()
        assert states(talk) == ["connecting", "connected"]
        assert (talk.peer.connected, talk.peer.pc) == (True, talk.pc)

    def test_a_rebuild(self, talk: Talk) -> None:
        talk.connects()
        talk.forget()
        talk.changes("failed")
        talk.offers()
        talk.remote_answers()
        talk.takes()
        assert talk.events(ConnectionReset) == []
        talk.changes("connected")
        assert talk.told[-2:] == [StateChange("reconnecting", "connected"), ConnectionReset()]
        assert states(talk) == ["reconnecting", "connected"]

    def test_what_an_engine_says_twice_is_told_once(self, talk: Talk) -> None:
        talk.connects()
        talk.forget()
        talk.changes("connected")
        talk.changes("connecting")
        assert talk.told == []

    def test_an_offer_that_comes_to_nothing_leaves_it_idle(self, talk: Talk) -> None:
        talk.remote_offers()
        talk.cannot()
        assert states(talk) == ["connecting", "idle"]
        assert talk.peer.deadline is None

    def test_a_first_connection_that_is_replaced_is_no_reset(self, talk: Talk) -> None:
        talk.offers()
        talk.changes("failed")
        talk.connects()
        assert talk.events(ConnectionReset) == []


class TestTheLadder:
    def test_each_rebuild_waits_longer_and_then_it_is_over(self) -> None:
        talk = Talk(polite=True, polite_wait=0)
        talk.wants(CAMERA)
        waited = []
        for _ in range(9):
            talk.changes("failed")
            waited.append(talk.until_woken() if talk.phase == "waiting" else 0)
        assert waited == [0, 1, 2, 4, 8, 16, 30, 30, 30]
        talk.changes("failed")
        assert talk.state == "closed"
        assert talk.events(NegotiationError) == [NegotiationError(IceRecoveryExhaustedError(9))]
        assert talk.peer.deadline is None

    def test_each_try_is_given_15_s(self, talk: Talk) -> None:
        talk.offers()
        assert talk.until_woken() == 3
        talk.remote_answers()
        talk.takes()
        assert talk.until_woken() == 12
        assert talk.phase == "waiting"

    def test_when_it_is_over_the_streams_are_gone(self) -> None:
        talk = Talk(polite=True, rebuild_delays=(0,))
        talk.connects(CAMERA, answer=RTC)
        talk.changes("failed")
        assert talk.streams == ["theirs"]
        talk.until_woken()
        talk.changes("failed")
        assert talk.streams == []
        assert talk.state == "closed"

    def test_nothing_is_tried_then_until_the_remote_offers(self) -> None:
        talk = Talk(polite=True, rebuild_delays=(0,))
        talk.offers()
        talk.changes("failed")
        talk.until_woken()
        talk.changes("failed")
        talk.wants(CAMERA, MICROPHONE)
        talk.link_goes_down()
        talk.link_comes_up()
        assert talk.state == "closed"
        talk.is_called()
        assert talk.state == "connected"

    def test_or_the_relay_was_lost_and_is_back(self) -> None:
        talk = Talk(polite=True, rebuild_delays=(0,))
        talk.offers()
        talk.changes("failed")
        talk.until_woken()
        talk.changes("failed")
        talk.asks(Reconcile(polite=True, replace=False))
        assert talk.until_woken() == 0.05
        assert isinstance(talk.work, MakeOffer)

    def test_a_connection_that_comes_up_earns_a_fresh_budget(self) -> None:
        ladder = Recovery((0, 1, 2))
        assert [ladder.climb(0) for _ in range(4)] == [0, SECOND, 2 * SECOND, None]
        ladder.came_up(0)
        assert ladder.attempts == 0
        assert ladder.climb(SECOND) == 2 * SECOND, "but one that falls down at once does not come back at once"
        ladder.came_up(0)
        assert ladder.climb(10 * SECOND) == 0
        ladder.reset()
        assert [ladder.climb(0) for _ in range(4)] == [0, SECOND, 2 * SECOND, None]

    def test_so_does_the_relay(self) -> None:
        talk = Talk(polite=True, polite_wait=0, rebuild_delays=(0, 1))
        talk.wants(CAMERA)
        talk.changes("failed")
        talk.changes("failed")
        talk.link_goes_down()
        talk.link_comes_up()
        assert isinstance(talk.work, MakeOffer), "at once"
        talk.changes("failed")
        talk.changes("failed")
        talk.until_woken()
        assert talk.state == "connecting"

    def test_without_the_relay_nothing_counts_as_tried(self) -> None:
        talk = Talk(polite=True, rebuild_delays=(0,))
        talk.connects()
        talk.link_goes_down()
        talk.changes("failed")
        talk.advance(1000)
        assert talk.state == "reconnecting"
        talk.link_comes_up()
        assert talk.until_woken() == 0.05

    def test_disconnected_is_not_failed_yet(self, talk: Talk) -> None:
        talk.connects()
        talk.changes("disconnected")
        assert talk.state == "connected"
        talk.advance(3)
        talk.changes("disconnected")
        talk.changes("connected")
        assert talk.peer.deadline is None
        talk.changes("disconnected")
        assert talk.until_woken() == 5
        assert talk.state == "reconnecting"

    def test_a_connection_that_never_was_up_cannot_be_disconnected(self, talk: Talk) -> None:
        talk.offers()
        talk.changes("disconnected")
        assert talk.peer._connection is not None
        assert talk.peer._connection.disconnected_at is None


class TestServers:
    ALL = (
        IceServer(("stun:a", "stun:b")),
        IceServer(("turn:c", "turns:d", "TURN:e"), "user", "secret"),
        IceServer(("http:f",)),
    )

    def test_one_of_each_and_the_next_ones_after_a_failure(self) -> None:
        talk = Talk(polite=True, servers=self.ALL, polite_wait=0, relay_only=True)
        talk.wants(CAMERA)
        for _ in range(3):
            talk.changes("failed")
            if talk.phase == "waiting":
                talk.until_woken()
        assert [[server.urls[0] for server in order.ice_servers] for order in talk.opened] == [
            ["stun:a", "turn:c"],
            ["stun:b", "turns:d"],
            ["stun:a", "TURN:e"],
            ["stun:b", "turn:c"],
        ]
        assert all(order.relay_only for order in talk.opened)
        assert talk.opened[0].ice_servers[1].credential == "secret"
        assert "secret" not in repr(talk.opened)

    def test_new_ones_from_the_next_connection_on(self) -> None:
        talk = Talk(polite=True, servers=self.ALL)
        talk.connects()
        talk.asks(SetIce((IceServer(("stun:new",)),)))
        assert len(talk.opened) == 1
        talk.changes("failed")
        talk.until_woken()
        assert talk.opened[-1].ice_servers == (IceServer(("stun:new",)),)

    def test_none_at_all(self) -> None:
        rotation = ServerRotation(())
        rotation.rotate()
        assert rotation.current == ()


class TestWhoActs:
    def test_whoever_sends_offers(self, talk: Talk) -> None:
        talk.connects(CAMERA, answer=RTC)
        talk.changes("failed")
        assert talk.until_woken() <= 0.15
        assert talk.work.tracks == (CAMERA,)

    def test_whoever_only_receives_asks_for_it_after_a_while(self, talk: Talk) -> None:
        talk.is_called("video sendonly theirs t1", "audio sendonly theirs t2", "application")
        talk.changes("failed")
        assert 1 <= talk.until_woken() < 1.8
        assert (talk.work.tracks, talk.work.receive) == ((), ("audio", "video", "application"))
        assert talk.work.like is not None, "a browser wants it to look like the one before"

    def test_a_sender_asks_for_what_it_does_not_send_itself(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        talk.is_called(*RTC, "video sendonly more t2", "audio sendonly more t3")
        talk.changes("failed")
        talk.until_woken()
        assert (talk.work.tracks, talk.work.receive) == ((CAMERA,), ("audio", "video"))

    def test_a_call_without_anything_comes_back_too(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants()
        talk.describes("video inactive")
        talk.remote_answers("video inactive")
        talk.takes()
        talk.changes("failed")
        talk.until_woken()
        assert talk.work.receive == ("application",)

    def test_unless_the_remote_comes_first(self, talk: Talk) -> None:
        talk.is_called()
        talk.changes("failed")
        talk.advance(0.9)
        talk.remote_offers(ufrag="they2")
        assert isinstance(talk.work, MakeAnswer)

    def test_a_remote_that_said_goodbye_has_nothing_to_be_like(self, talk: Talk) -> None:
        talk.connects()
        talk.changes("closed")
        talk.until_woken()
        assert talk.work.like is None

    def test_nobody_waits_for_a_loss_that_only_the_remote_saw(self, talk: Talk) -> None:
        talk.connects(CAMERA, answer=RTC)
        before = talk.pc
        offer = talk.remote_offers(ufrag="they2")
        assert talk.work == MakeAnswer(talk.pc, offer, (CAMERA,))
        assert talk.state == "reconnecting"
        assert talk.closed == [], "its goodbye must not arrive ahead of the answer"
        talk.describes()
        assert talk.closed == [before]
        said = [type(order).__name__ for order in talk.orders]
        assert said.index("CloseConnection") > max(at for at, name in enumerate(said) if name == "SignalPeer")

    def test_what_takes_over_may_fail_too(self, talk: Talk) -> None:
        talk.is_called(ufrag="they1")
        talk.remote_offers(ufrag="they2")
        talk.cannot()
        assert len(talk.closed) == 2
        assert talk.phase == "waiting"

    def test_the_end_may_come_meanwhile(self, talk: Talk) -> None:
        talk.is_called(ufrag="they1")
        talk.remote_offers(ufrag="they2")
        talk.asks(Shut())
        assert len(talk.closed) == 2


class TestFollowing:
    """What the remote rebuilds, ours follows: at once, but at most every 2 s."""

    def test_an_answer_of_another_generation(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        talk.describes()
        before = talk.pc
        talk.remote_answers(ufrag="they2")
        assert talk.closed == [before]
        talk.until_woken()
        assert talk.work.tracks == (CAMERA, SCREEN)

    def test_one_that_nobody_waits_for(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.remote_answers(ufrag="they2")
        assert talk.phase == "waiting"

    def test_twice_in_2_s_waits_for_their_end_and_takes_the_last(self, talk: Talk) -> None:
        talk.is_called(ufrag="they1")
        talk.advance(60)
        talk.is_called(ufrag="they2")
        assert len(talk.opened) == 2
        for number in range(3, 30):
            last = talk.remote_offers(ufrag=f"they{number}")
        assert len(talk.opened) == 2
        assert talk.state == "connected"
        assert talk.until_woken() == 2
        assert talk.work == MakeAnswer(talk.pc, last, ())
        assert len(talk.opened) == 3

    def test_connections_that_replace_none_are_counted_for_themselves(self, talk: Talk) -> None:
        for number in range(5):
            talk.remote_offers(ufrag=f"they{number}")
            if talk.phase == "answering":
                talk.cannot()
        assert len(talk.opened) == 1
        assert talk.until_woken() == 2
        assert talk.phase == "answering"

    def test_an_answer_when_there_is_nothing_to_answer(self, talk: Talk) -> None:
        """The remote has a connection to one that we have given up. It has to know."""
        talk.remote_answers()
        assert talk.state == "connecting"
        assert talk.until_woken() <= 0.15
        assert isinstance(talk.work, MakeOffer)


class TestStreams:
    def test_come_back_with_new_tracks(self, talk: Talk) -> None:
        talk.is_called("video sendonly theirs t1", "video sendonly more t2")
        before = talk.tracks
        talk.forget()
        talk.changes("failed")
        assert talk.events(TrackGone) == [TrackGone(number) for number in before]
        talk.is_called("video sendonly theirs t1", "video sendonly more t2", ufrag="they2")
        assert [event.stream_id for event in talk.events(StreamSeen)] == ["theirs", "more"]
        assert not set(before) & {event.track for event in talk.events(TrackSeen)}
        talk.advance(60)
        assert talk.events(StreamGone) == [], "never because of a rebuild"

    def test_those_that_do_not_are_gone_a_while_after(self, talk: Talk) -> None:
        talk.is_called("video sendonly theirs t1", "video sendonly more t2")
        talk.changes("failed")
        talk.is_called("video sendonly theirs t1", ufrag="they2")
        talk.forget()
        assert talk.until_woken() == 2
        assert talk.told == [StreamGone("more")]

    def test_unless_they_come_in_the_next_offer(self, talk: Talk) -> None:
        talk.is_called("video sendonly theirs t1", "video sendonly more t2")
        talk.changes("failed")
        talk.is_called("video sendonly theirs t1", ufrag="they2")
        talk.forget()
        talk.remote_offers("video sendonly theirs t1", "video sendonly more t2", ufrag="they2")
        talk.describes()
        talk.advance(60)
        assert [type(event) for event in talk.told] == [StreamSeen, TrackSeen]


class TestReconcile:
    def test_a_call_that_is_up_is_kept(self, talk: Talk) -> None:
        talk.connects()
        talk.advance(30)
        talk.link_goes_down()
        talk.forget()
        talk.link = True
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        assert (talk.said, talk.opened, talk.closed, talk.told) == ([], [], [], [])
        assert talk.peer.deadline is None

    def test_what_is_asked_of_it_is_asked_again(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        talk.describes()
        talk.advance(1)
        talk.forget()
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        assert kinds(talk) == ["offer", "end"]
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        assert kinds(talk) == ["offer", "end"], "once"

    def test_strangers_replace_it(self, talk: Talk) -> None:
        talk.connects(CAMERA, answer=RTC)
        talk.forget()
        talk.asks(Reconcile(polite=not talk.peer.polite, replace=True))
        assert talk.state == "reconnecting"
        assert talk.until_woken() == (0.05 if talk.peer.polite else 0.15)
        assert talk.work.like is None, "the remote knows nothing of the one before"

    @pytest.mark.parametrize("how", ["offered", "taking", "failed", "lost", "closed"])
    def test_what_never_came_up_or_is_no_more_is_replaced(self, talk: Talk, how: str) -> None:
        talk.offers()
        if how != "offered":
            talk.remote_answers()
        if how not in ("offered", "taking"):
            talk.takes()
            talk.changes("failed" if how == "lost" else "connected")
        if how in ("failed", "closed"):
            talk.changes(how)
        before = len(talk.opened)
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        assert talk.until_woken() <= 0.15
        assert isinstance(talk.work, MakeOffer)
        assert len(talk.opened) == before + 1

    def test_an_offer_that_waited_is_of_no_use_any_more(self, talk: Talk) -> None:
        talk.is_called(ufrag="they1")
        talk.advance(60)
        talk.is_called(ufrag="they2")
        talk.remote_offers(ufrag="they3")
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        talk.forget()
        talk.advance(60)
        assert talk.opened == []

    def test_whoever_has_nothing_to_send_stays_idle(self, talk: Talk) -> None:
        talk.asks(Reconcile(polite=True, replace=True))
        assert (talk.state, talk.told, talk.peer.deadline) == ("idle", [], None)

    def test_but_asks_if_it_takes_a_connection_away(self, talk: Talk) -> None:
        """The remote may not have noticed anything, and wait for ever."""
        talk.remote_offers("video sendonly theirs t1")
        talk.describes()
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        assert talk.until_woken() <= 0.15
        assert talk.work.receive == ("video",)

    def test_while_it_waits_for_its_turn_the_turn_comes_at_once(self, talk: Talk) -> None:
        talk.offers()
        for _ in range(4):
            talk.changes("failed")
            if talk.phase == "waiting":
                talk.until_woken()
        talk.changes("failed")
        talk.asks(Reconcile(polite=talk.peer.polite, replace=False))
        assert talk.until_woken() <= 0.15


def test_waking_it_for_nothing_does_nothing(talk: Talk) -> None:
    talk.give(Woken())
    talk.connects()
    talk.forget()
    talk.give(Woken())
    assert talk.orders == []


def test_two_timers_at_once() -> None:
    """The connection runs out of time together with its offer, or in two ways: it is lost once."""
    talk = Talk(polite=True, answer_timeout=15.0)
    talk.offers()
    assert talk.until_woken() == 15
    assert (talk.phase, len(talk.closed)) == ("waiting", 1)
    talk = Talk(polite=True)
    talk.is_called()
    talk.wants(CAMERA)
    talk.changes("disconnected")
    talk.now += 60 * SECOND
    talk.give(Woken())
    assert (talk.phase, len(talk.closed)) == ("waiting", 1)
