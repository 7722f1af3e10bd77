"""Signals in and out, and whose a number is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from table_kit import each_row

from metered_proto.errors import MeteredPeerStateError
from metered_proto.events import NegotiationError
from metered_proto.facts import EffectDone, Fact
from metered_proto.machine import Deadline
from metered_proto.orders import Abandon, Begin, Note, Tell
from metered_proto.room.words import AtPeer, OpenDataChannel
from metered_proto.rtc.words import (
    CandidateFailed,
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    ChannelOptions,
    CloseConnection,
    ConnectionChanged,
    CreateChannel,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    SetIce,
)
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, TrackMeta

Converse = Callable[..., Any]

OFFER = RtcDescription("offer", "v=0")
END = RtcIce(None)


def says(talk: Any, peer_id: str, *orders: Any) -> None:
    """The machine of a member orders something, of its own accord."""
    machine = talk.peer(peer_id)
    machine.says = [*orders]
    talk.direct(peer_id, {"type": "rtc-ice", "candidate": None})


@pytest.fixture
def two(talk: Any) -> Any:
    talk.joins("bob", "zoe")
    talk.forget()
    return talk


class TestOut:
    def test_a_signal_is_a_directed_message(self, two: Any) -> None:
        says(two, "bob", *two.peer("bob").signals_out(TrackMeta("t", {"n": 1}), OFFER, END))
        assert [(frame["to"], frame["data"]) for frame in two.requests("send")] == [
            ("bob", {"__meteredTrackMeta": {"trackId": "t", "metadata": {"n": 1}}}),
            ("bob", {"type": "rtc-description", "description": {"type": "offer", "sdp": "v=0"}}),
            ("bob", {"type": "rtc-ice", "candidate": None}),
        ]
        assert len({frame["requestId"] for frame in two.sent}) == 3
        for frame in list(two.sent):
            two.ack(frame)
        assert two.answers.keys() == {1}
        assert two.room.counters.signals_out == 3

    @each_row("code", ["peer_not_found", "over_message_quota"])
    def test_one_that_is_refused_is_noted_quietly(self, code: str, converse: Converse) -> None:
        talk = converse()
        talk.joins("bob")
        talk.forget()
        says(talk, "bob", *talk.peer("bob").signals_out(OFFER))
        talk.refuse(talk.sent[-1], code)
        assert talk.told == []
        assert {note.level for note in talk.notes} == {"debug"}

    def test_one_that_is_not_answered(self, two: Any) -> None:
        says(two, "bob", *two.peer("bob").signals_out(OFFER))
        two.advance(15)
        assert two.told == []
        assert two.room.counters.signals_refused == 1

    def test_those_who_may_not_send_read_about_it(self, two: Any) -> None:
        for _ in range(3):
            says(two, "bob", *two.peer("bob").signals_out(OFFER))
            two.refuse(two.sent[-1], "action_not_permitted")
        assert [note.context["count"] for note in two.notes if note.level == "warning"] == [1, 2]

    def test_one_that_is_too_large_is_noted(self, talk: Any) -> None:
        talk.joins("bob", maxMessageSize=100)
        talk.forget()
        says(talk, "bob", *talk.peer("bob").signals_out(RtcDescription("offer", "x" * 200)))
        assert not talk.sent
        assert [note.level for note in talk.notes] == ["warning"]

    def test_a_crowd_is_called_at_a_pace(self, talk: Any) -> None:
        """The relay takes 200 messages at once and 100 a second; the application wants to send, too."""
        talk.joins(*[f"p{number:03}" for number in range(200)])
        talk.forget()
        for machine in talk.machines:
            machine.says = machine.signals_out(TrackMeta("t", {"n": 1}), OFFER, END)
        for number in range(200):
            talk.direct(f"p{number:03}", {"type": "rtc-ice", "candidate": None})
        assert len(talk.sent) == 120
        talk.advance(1)
        assert 195 <= len(talk.sent) <= 202
        talk.advance(10)
        assert len(talk.sent) == 600
        assert talk.room.deadline is None or talk.room.deadline.why == "ack"
        by_peer: dict[str, list[str]] = {}
        for frame in talk.sent:
            by_peer.setdefault(frame["to"], []).append(next(iter(frame["data"])) + str(frame["data"].get("type")))
        assert {tuple(words) for words in by_peer.values()} == {
            ("__meteredTrackMetaNone", "typertc-description", "typertc-ice")
        }

    def test_what_waits_is_thrown_away_with_the_connection(self, talk: Any) -> None:
        talk.joins("bob")
        says(talk, "bob", *talk.peer("bob").signals_out(*[TrackMeta(f"t{number}") for number in range(200)]))
        talk.link_goes_down()
        talk.forget()
        talk.comes_back("bob")
        talk.advance(5)
        assert not talk.requests("send")

    def test_what_waits_for_somebody_is_thrown_away_with_the_member(self, talk: Any) -> None:
        talk.joins("bob")
        says(talk, "bob", *talk.peer("bob").signals_out(*[TrackMeta(f"t{number}") for number in range(200)]))
        talk.presence(left=("bob",))
        talk.forget()
        talk.advance(5)
        assert not talk.requests("send")


class TestIn:
    def test_signals_go_to_the_machine_of_their_sender(self, two: Any) -> None:
        two.direct("bob", {"type": "rtc-description", "description": {"type": "offer", "sdp": "v=0"}})
        two.direct("zoe", {"type": "rtc-ice", "candidate": {"candidate": "c", "sdpMid": "0"}})
        two.direct("zoe", {"__meteredTrackMeta": {"trackId": "t"}})
        assert two.peer("bob").signals == [OFFER]
        assert two.peer("zoe").signals == [RtcIce(Candidate("c", "0")), TrackMeta("t")]
        assert two.room.counters.signals_in == 3

    def test_what_a_machine_tells_is_told_of_its_member(self, two: Any) -> None:
        error = NegotiationError(RuntimeError("no"))
        says(two, "zoe", Tell(error), Note("debug", "so it is", {"n": 1}))
        assert two.told == [AtPeer("zoe", error)]
        assert two.notes == [Note("debug", "so it is", {"n": 1, "peer": "zoe"})]


class TestWhoseANumberIs:
    def test_connections(self, two: Any) -> None:
        for peer_id in ("bob", "zoe"):
            says(two, peer_id, *two.peer(peer_id).connects())
        bob, zoe = two.peer("bob"), two.peer("zoe")
        assert bob.pc != zoe.pc
        facts: list[Fact] = [
            ConnectionChanged(zoe.pc, "connecting"),
            CandidateGathered(zoe.pc, None),
            ChannelArrived(zoe.pc, 7),
            CandidateFailed(zoe.pc, OSError("no")),
        ]
        two.forget()
        for fact in facts:
            two.give(fact)
        assert zoe.facts == facts
        assert bob.facts == []

    def test_of_a_connection_that_is_closed_nothing_is_heard(self, two: Any) -> None:
        says(two, "bob", *two.peer("bob").connects())
        pc = two.peer("bob").pc
        says(two, "bob", CloseConnection(pc))
        two.forget()
        two.give(ConnectionChanged(pc, "connected"))
        assert two.peer("bob").facts == []

    def test_effects(self, two: Any) -> None:
        says(two, "bob", Begin(-50, MakeOffer(-1, ())), Begin(-51, MakeOffer(-1, ())))
        two.forget()
        two.give(EffectDone(-50, 1))
        two.give(EffectDone(-50, 2))
        assert two.peer("bob").facts == [EffectDone(-50, 1)]
        says(two, "bob", Abandon(-51))
        two.forget()
        two.give(EffectDone(-51, 1))
        assert two.peer("bob").facts == []

    def test_channels(self, two: Any) -> None:
        op = two.asks(OpenDataChannel("bob", ChannelOptions("chat")))
        number = two.answers[op].value
        bob = two.peer("bob")
        assert [order for order in two.orders if isinstance(order, OpenConnection | OpenChannel)] == [
            OpenConnection(bob.pc, ()),
            OpenChannel(bob.pc, number, ChannelOptions("chat")),
        ]
        assert bob.calls == [CreateChannel(ChannelOptions("chat"))]
        two.forget()
        two.give(ChannelOpened(number))
        two.give(ChannelClosed(number))
        two.give(ChannelClosed(number))
        assert bob.facts == [ChannelOpened(number), ChannelClosed(number)]

    def test_a_channel_to_nobody(self, two: Any) -> None:
        error = two.error(two.asks(OpenDataChannel("who", ChannelOptions("chat"))))
        assert error == MeteredPeerStateError("invalid_state", "create_data_channel", "closed")

    def test_numbers_go_with_the_member(self, two: Any) -> None:
        two.asks(OpenDataChannel("bob", ChannelOptions("chat")))
        says(two, "bob", Begin(-50, MakeOffer(-1, ())))
        two.presence(left=("bob",))
        assert not two.room._company.members._owners
        two.forget()
        two.give(EffectDone(-50, 1))
        assert two.orders == []


class TestTime:
    def test_only_who_is_due_is_woken(self, two: Any) -> None:
        bob, zoe = two.peer("bob"), two.peer("zoe")
        bob.deadline, zoe.deadline = Deadline(5_000_000, "one"), Deadline(9_000_000, "two")
        for peer_id in ("bob", "zoe"):
            says(two, peer_id)
        assert two.room.deadline == Deadline(5_000_000, "peer")
        two.advance(6)
        assert (bob.wakes, zoe.wakes) == (1, 0)
        two.advance(6)
        assert (bob.wakes, zoe.wakes) == (1, 1)

    def test_a_deadline_may_move_and_go(self, two: Any) -> None:
        bob = two.peer("bob")
        for at in (5_000_000, 7_000_000, 2_000_000):
            bob.deadline = Deadline(at, "one")
            says(two, "bob")
            assert two.room.deadline.at == at
        bob.deadline = None
        says(two, "bob")
        assert two.room.deadline is None
        assert bob.wakes == 0

    def test_a_message_costs_the_same_however_many_are_there(self, talk: Any) -> None:
        talk.joins(*[f"p{number}" for number in range(256)])
        talk.forget()
        talk.message("p7", 1)
        assert sum(len(machine.facts) for machine in talk.machines) == 0

    def test_servers_are_said_once_a_connection(self, two: Any) -> None:
        two.link_goes_down()
        two.until_woken()
        two.gets_in()
        assert [call for call in two.peer("bob").calls if isinstance(call, SetIce)] == [SetIce(())]
