"""The remote's descriptions while they wait, and how often the remote may make us open a connection."""

from __future__ import annotations

from metered_proto.machine import SECOND
from metered_proto.rtc.inbox import MOST_DESCRIPTIONS, Inbox
from metered_proto.wire.signals import RtcDescription


def sdp(ufrag: str) -> str:
    return f"v=0\r\nm=audio 9 X 0\r\na=mid:0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:hush\r\n"


def offer(ufrag: str = "abcd") -> RtcDescription:
    return RtcDescription("offer", sdp(ufrag))


def answer(ufrag: str = "wxyz") -> RtcDescription:
    return RtcDescription("answer", sdp(ufrag))


def test_they_wait_in_order_and_an_offer_makes_all_before_it_void() -> None:
    inbox = Inbox(SECOND)
    assert inbox.first is None
    one = inbox.put(answer("one"))
    inbox.put(answer("two"))
    assert inbox.first is one
    assert inbox.ufrags == ["one", "two"]
    assert [inbox.take().ufrags, inbox.take().ufrags] == [("one",), ("two",)]
    inbox.put(answer("three"))
    heard = inbox.put(offer("four"))
    assert inbox.ufrags == ["four"]
    assert inbox.first is heard
    assert "hush" not in repr(heard)


def test_no_more_than_so_many_wait() -> None:
    inbox = Inbox(SECOND)
    for _ in range(MOST_DESCRIPTIONS + 3):
        inbox.put(answer())
    assert len(inbox) == MOST_DESCRIPTIONS


def test_one_connection_in_an_interval_for_each_kind() -> None:
    inbox = Inbox(SECOND)
    assert inbox.may_open(0, replaces=False)
    assert inbox.may_open(0, replaces=True)
    assert inbox.blocked_until is None
    assert not inbox.may_open(SECOND - 1, replaces=False)
    assert inbox.blocked_until == SECOND
    assert inbox.may_open(SECOND, replaces=False)
    assert inbox.blocked_until is None


def test_one_that_came_up_was_worth_while_and_one_that_replaced_another_counts_on() -> None:
    inbox = Inbox(SECOND)
    inbox.opened(0, replaces=False)
    inbox.opened(0, replaces=True)
    inbox.came_up()
    inbox.came_up()
    assert inbox.may_open(1, replaces=False)
    assert not inbox.may_open(1, replaces=True)


def test_after_a_loss_of_the_relay_nothing_counts_any_more() -> None:
    inbox = Inbox(SECOND)
    inbox.opened(0, replaces=False)
    inbox.opened(0, replaces=True)
    inbox.forgive()
    assert inbox.may_open(1, replaces=False)
    assert inbox.may_open(1, replaces=True)


def test_what_is_thrown_away_blocks_nothing() -> None:
    inbox = Inbox(SECOND)
    inbox.opened(0, replaces=True)
    inbox.put(answer())
    assert not inbox.may_open(1, replaces=True)
    inbox.clear()
    assert (len(inbox), inbox.blocked_until) == (0, None)
