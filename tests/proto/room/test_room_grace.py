"""Members that the relay has lost, and whose connections live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from metered_proto.events import StateChange
from metered_proto.facts import Asked, EffectDone, LinkDown
from metered_proto.orders import Answer, Begin, Order
from metered_proto.room.words import AtPeer, MemberJoined, MemberLeft, MemberUpdated
from metered_proto.rtc.words import CountReceived, MeasureTraffic, Reconcile, Shut

Converse = Callable[..., Any]


@pytest.fixture
def call(talk: Any) -> Any:
    """In a room with bob, to whom a connection is up, and zoe, to whom there is none."""
    talk.joins("bob", "zoe")
    talk.connection("bob")
    talk.forget()
    return talk


def left(talk: Any) -> list[str]:
    return [event.peer_id for event in talk.told if isinstance(event, MemberLeft)]


def flows(talk: Any, peer_id: str, seconds: float) -> None:
    """Let time pass while bytes arrive from a member."""
    machine, end = talk.peer(peer_id), talk.now + seconds * 1_000_000
    while talk.now < end and peer_id in talk.room.members:
        machine.received += 100
        talk.advance(0.25)


def test_who_has_no_connection_leaves_at_once(call: Any) -> None:
    call.presence(left=("zoe",))
    assert left(call) == ["zoe"]


def test_who_has_one_is_kept_and_the_way_to_it_is_down(call: Any) -> None:
    bob = call.peer("bob")
    call.presence(left=("bob",))
    assert call.told == []
    assert [fact for fact in bob.facts if isinstance(fact, LinkDown)] == [LinkDown(0, 1006)]
    assert call.room.members == ("bob", "zoe")
    assert bob.measured == 1


def test_for_three_seconds_when_nothing_arrives(call: Any) -> None:
    bob = call.peer("bob")
    call.presence(left=("bob",))
    call.advance(2.9)
    assert left(call) == []
    call.advance(0.2)
    assert left(call) == ["bob"]
    assert bob.calls == [Shut()]


def test_for_ten_seconds_while_bytes_arrive(call: Any) -> None:
    bob = call.peer("bob")
    call.presence(left=("bob",))
    flows(call, "bob", 9.5)
    assert left(call) == []
    assert 9 < bob.measured < 25
    flows(call, "bob", 0.75)
    assert left(call) == ["bob"]


def test_for_three_seconds_after_the_last_byte(call: Any) -> None:
    call.presence(left=("bob",))
    flows(call, "bob", 4)
    call.advance(2.4)
    assert left(call) == []
    call.advance(1)
    assert left(call) == ["bob"]


@pytest.mark.parametrize("state", ["closed", "failed"])
def test_not_a_moment_after_the_connection_is_gone(state: str, call: Any) -> None:
    call.presence(left=("bob",))
    call.advance(1)
    call.connection("bob", state)
    assert left(call) == ["bob"]
    assert call.told[0] == AtPeer("bob", StateChange("connected", "reconnecting"))


def test_who_comes_back_was_never_gone(call: Any) -> None:
    bob = call.peer("bob")
    call.presence(left=("bob",))
    call.advance(2)
    call.presence("bob")
    assert call.told == []
    assert call.peer("bob") is bob
    assert bob.calls == [Reconcile(polite=False, replace=False)]
    assert bob.link_up
    call.advance(20)
    assert left(call) == []
    assert call.room.deadline is None


def test_who_comes_back_may_have_changed(call: Any) -> None:
    call.presence(left=("bob",))
    call.presence("bob", bob={"n": 1})
    assert call.told == [MemberUpdated("bob", {"n": 1})]


def test_gone_and_back_in_one_presence(call: Any) -> None:
    bob = call.peer("bob")
    call.presence("bob", left=("bob",))
    assert call.told == []
    assert bob.calls == [Reconcile(polite=False, replace=False)]
    call.advance(20)
    assert left(call) == []


def test_who_comes_back_too_late_is_somebody_new(call: Any) -> None:
    bob = call.peer("bob")
    call.presence(left=("bob",))
    call.advance(4)
    call.presence("bob")
    assert [type(event) for event in call.told if not isinstance(event, AtPeer)] == [MemberLeft, MemberJoined]
    assert call.peer("bob") is not bob


def test_who_is_missing_from_the_snapshot_after_a_reconnect(call: Any) -> None:
    """It may simply come back later than we did."""
    bob = call.peer("bob")
    call.link_goes_down()
    call.forget()
    call.comes_back("zoe")
    assert call.state == "joined"
    assert left(call) == []
    assert not bob.link_up
    call.advance(2)
    call.presence("bob")
    assert bob.link_up
    assert left(call) == []
    assert bob.calls[-1] == Reconcile(polite=False, replace=False)


def test_who_stays_missing_leaves_after_a_while(call: Any) -> None:
    call.link_goes_down()
    call.comes_back("zoe")
    call.advance(3.1)
    assert left(call) == ["bob"]


def test_under_a_new_id_nobody_is_kept(call: Any) -> None:
    """To whoever comes back we will be a stranger, so there is nothing to wait for."""
    call.link_goes_down()
    call.comes_back("zoe", peer_id="other")
    assert left(call) == ["bob"]


def test_while_we_are_away_nobody_can_tell(call: Any) -> None:
    """A relay that stops loses one socket after the other. Who is missing is judged once it is back."""
    call.presence(left=("bob",))
    call.advance(1)
    call.link_goes_down()
    call.advance(0.4)
    assert left(call) == []
    call.until_woken()
    call.advance(9)
    assert left(call) == []
    call.gets_in()
    call.presence("bob", "zoe")
    assert left(call) == []
    call.advance(20)
    assert left(call) == []


def test_a_message_from_who_is_away_is_heard(call: Any) -> None:
    call.presence(left=("bob",))
    call.direct("bob", {"type": "rtc-ice", "candidate": None})
    assert len(call.peer("bob").signals) == 1


def test_departed_again_while_away_changes_nothing(call: Any) -> None:
    bob = call.peer("bob")
    call.presence(left=("bob",))
    call.presence(left=("bob",))
    assert len([fact for fact in bob.facts if isinstance(fact, LinkDown)]) == 1
    call.advance(3.1)
    assert left(call) == ["bob"]


def test_leaving_does_not_wait_for_anybody(call: Any) -> None:
    call.presence(left=("bob",))
    call.leaves()
    assert sorted(left(call)) == ["bob", "zoe"]
    assert call.room.deadline is None


def test_a_measurement_that_takes_its_time(converse: Converse) -> None:
    """Machines measure by an effect, so the answer comes later, or never."""
    talk = converse()
    talk.joins("bob")
    talk.connection("bob")
    bob = talk.peer("bob")
    answer, effects = bob._asked, []

    def slowly(op: int, call: Any) -> list[Order]:
        if not isinstance(call, MeasureTraffic):
            return answer(op, call)
        effects.append((bob.numbers.next(), op))
        return [Begin(effects[-1][0], CountReceived(bob.pc or 0))]

    bob._asked = slowly  # type: ignore[method-assign]
    talk.presence(left=("bob",))
    for received in (10, 20, 30, 40, 50, 60):
        talk.advance(0.6)
        (effect, op), effects = effects[0], []
        bob.says = [Answer(op, received)]
        talk.give(EffectDone(effect, received))
    assert left(talk) == []
    talk.advance(3.1)
    assert left(talk) == ["bob"]
    assert len([fact for fact in bob.facts if isinstance(fact, Asked)]) < 25
    assert not talk.room._company._measures


def test_other_graces_can_be_asked_for(converse: Converse) -> None:
    talk = converse(grace=2.0, silence=0.2)
    talk.joins("bob")
    talk.connection("bob")
    talk.presence(left=("bob",))
    talk.advance(0.25)
    assert left(talk) == ["bob"]
