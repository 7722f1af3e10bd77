"""Signals that wait for their turn."""

from __future__ import annotations

from metered_proto.machine import SECOND
from metered_proto.room.outgoing import LONGEST_TURN, MOST_WAITING, Outgoing
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, Signal, TrackMeta

OFFER = RtcDescription("offer", "v=0")
END = RtcIce(None)


def meta(number: int) -> Signal:
    return TrackMeta(f"t{number}", {})


def take_all(outgoing: Outgoing, now: int = 0) -> list[tuple[str, Signal]]:
    taken = []
    while (one := outgoing.take(now)) is not None:
        taken.append(one)
    return taken


def test_in_order_for_each_member() -> None:
    outgoing = Outgoing(10, 100)
    signals = [meta(1), OFFER, END, meta(2), RtcDescription("offer", "v=1"), END]
    for signal in signals:
        outgoing.put("a", signal)
        outgoing.put("b", signal)
    taken = take_all(outgoing)
    for member in "ab":
        assert [signal for who, signal in taken if who == member] == signals
    assert (len(outgoing), outgoing.next) == (0, None)


def test_a_turn_ends_with_a_description() -> None:
    outgoing = Outgoing(10, 100)
    for member in "ab":
        for signal in (meta(1), meta(2), OFFER, END):
            outgoing.put(member, signal)
    assert "".join(who for who, _ in take_all(outgoing)) == "aaabbbab"


def test_or_when_it_has_gone_on_for_long() -> None:
    outgoing = Outgoing(10, 100)
    for number in range(LONGEST_TURN + 2):
        outgoing.put("a", meta(number))
    outgoing.put("b", END)
    assert "".join(who for who, _ in take_all(outgoing)) == "a" * LONGEST_TURN + "b" + "aa"


def test_at_a_pace() -> None:
    outgoing = Outgoing(10, 3)
    for number in range(5):
        outgoing.put("a", meta(number))
    assert len(take_all(outgoing)) == 3
    assert outgoing.next is not None
    assert 0 < outgoing.next <= SECOND // 10
    assert len(take_all(outgoing, SECOND // 10)) == 1
    assert len(take_all(outgoing, SECOND)) == 1


def test_no_more_than_so_many_wait() -> None:
    """A remote that makes us answer again and again makes us say only the latest."""
    outgoing = Outgoing(1, 1)
    for number in range(MOST_WAITING + 5):
        outgoing.put("a", RtcIce(Candidate(str(number), "0")))
    assert (len(outgoing), outgoing.dropped) == (MOST_WAITING, 5)
    assert outgoing.take(0) == ("a", RtcIce(Candidate("5", "0")))


class TestWhatWaitsAlready:
    def all_of(self, *signals: Signal) -> list[Signal]:
        outgoing = Outgoing(10, 100)
        for signal in signals:
            outgoing.put("a", signal)
        return [signal for _, signal in take_all(outgoing)]

    def test_is_not_taken_again(self) -> None:
        said = [meta(1), meta(2), OFFER, END]
        assert self.all_of(*said, *said) == said

    def test_unless_something_else_has_been_said_since(self) -> None:
        another = RtcDescription("offer", "v=1")
        for said in (
            [OFFER, END, another, END],
            [OFFER, another, OFFER],
            [meta(1), TrackMeta("t1"), meta(1)],
            [RtcIce(Candidate("1", "0")), OFFER, RtcIce(Candidate("1", "0"))],
        ):
            assert self.all_of(*said) == said

    def test_and_has_not_gone_out(self) -> None:
        outgoing = Outgoing(10, 100)
        for _ in range(2):
            outgoing.put("a", OFFER)
            assert outgoing.take(0) == ("a", OFFER)

    def test_for_another_is_not_for_this_one(self) -> None:
        outgoing = Outgoing(10, 100)
        outgoing.put("a", OFFER)
        outgoing.put("b", OFFER)
        assert len(outgoing) == 2


def test_forgotten() -> None:
    outgoing = Outgoing(10, 100)
    for member in "abc":
        outgoing.put(member, meta(1))
        outgoing.put(member, meta(2))
    assert outgoing.take(0) == ("a", meta(1))
    outgoing.forget("a")
    outgoing.forget("c")
    outgoing.forget("nobody")
    assert [who for who, _ in take_all(outgoing)] == ["b", "b"]
    outgoing.put("a", END)
    outgoing.clear()
    assert outgoing.take(0) is None
