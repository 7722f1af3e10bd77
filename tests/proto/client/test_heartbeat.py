"""The heartbeat: pings at a third and at two thirds of the timeout, the end at the whole of it, exactly."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.heartbeat import Heartbeat
from metered_proto.facts import Heard, LinkBlocked, LinkDown, LinkDrained, LinkUp, Received, Woken
from metered_proto.machine import SECOND, Deadline, micros
from metered_proto.orders import CloseLink, Order, Send

PING = Send(1, b'{"type":"ping"}')
END = CloseLink(1, 4000, "nothing arrived in time")


def beating(timeout: float = 60.0, at: int = 0) -> Heartbeat:
    heart = Heartbeat(timeout)
    assert heart.handle(at, LinkUp(1)) == []
    return heart


def wake(heart: Heartbeat, seconds: float) -> list[Order]:
    return heart.handle(micros(seconds), Woken())


class TestSilence:
    def test_a_third_two_thirds_and_the_whole(self) -> None:
        heart = beating()
        assert heart.deadline == Deadline(20 * SECOND, "ping")
        assert wake(heart, 20) == [PING]
        assert heart.deadline == Deadline(40 * SECOND, "ping")
        assert wake(heart, 40) == [PING]
        assert heart.deadline == Deadline(60 * SECOND, "inactivity")
        assert not heart.silent
        assert wake(heart, 60) == [END]
        assert heart.silent
        assert heart.deadline is None

    def test_counting_begins_with_the_last_that_was_heard(self) -> None:
        heart = beating(at=100 * SECOND)
        assert wake(heart, 120) == [PING]
        assert heart.deadline == Deadline(140 * SECOND, "ping"), "the second is still to come"
        assert wake(heart, 140) == [PING]
        assert heart.deadline == Deadline(160 * SECOND, "inactivity")

    def test_it_is_given_up_once(self) -> None:
        heart = beating()
        assert wake(heart, 60) == [END]
        assert wake(heart, 61) == []

    def test_the_ping_asks_for_no_acknowledgement(self) -> None:
        assert msgspec.json.decode(PING.payload) == {"type": "ping"}

    def test_a_timeout_that_three_does_not_divide(self) -> None:
        heart = beating(0.000_01)
        assert [heart.handle(now, Woken()) for now in (2, 3, 5, 6, 9, 10)] == [[], [PING], [], [PING], [], [END]]

    @pytest.mark.parametrize("timeout", [1e-9, 1e-6, 2e-6])
    def test_a_timeout_too_short_to_have_thirds(self, timeout: float) -> None:
        heart = beating(timeout)
        assert [heart.handle(now, Woken()) for now in range(4)] == [[], [PING], [PING], [END]]


class TestWaking:
    def test_early_says_nothing(self) -> None:
        heart = beating()
        assert wake(heart, 19.999_999) == []
        assert heart.deadline == Deadline(20 * SECOND, "ping")

    def test_twice_says_it_once(self) -> None:
        heart = beating()
        assert [wake(heart, 20), wake(heart, 20)] == [[PING], []]

    def test_past_both_pings_sends_one(self) -> None:
        heart = beating()
        assert wake(heart, 45) == [PING]
        assert heart.deadline == Deadline(60 * SECOND, "inactivity")

    def test_past_the_end_is_the_end(self) -> None:
        assert wake(beating(), 3600) == [END]


class TestSignsOfLife:
    @pytest.mark.parametrize("fact", [Received(1, ["{}"]), Received(1, [b""]), Heard(1)])
    def test_anything_that_arrives(self, fact: Received | Heard) -> None:
        heart = beating()
        wake(heart, 20)
        wake(heart, 40)
        assert heart.handle(50 * SECOND, fact) == []
        assert heart.deadline == Deadline(70 * SECOND, "ping")
        assert wake(heart, 60) == []

    def test_arrived_while_asleep(self) -> None:
        """The machine slept, and what the server sent in the meantime is read before anybody looks at the clock."""
        heart = beating()
        heart.heard(3600 * SECOND)
        assert wake(heart, 3600) == []

    def test_other_facts_are_none(self) -> None:
        heart = beating()
        heart.handle(5 * SECOND, LinkBlocked(1, 10))
        assert heart.deadline == Deadline(20 * SECOND, "ping")


class TestLinks:
    def test_nothing_to_watch_before_one_is_up(self) -> None:
        heart = Heartbeat(60)
        assert heart.deadline is None
        assert wake(heart, 3600) == []

    def test_nothing_after_it_is_down(self) -> None:
        heart = beating()
        heart.handle(SECOND, LinkDown(1, 1006))
        assert heart.deadline is None
        assert wake(heart, 3600) == []

    def test_a_new_one_starts_afresh(self) -> None:
        heart = beating()
        wake(heart, 60)
        heart.handle(60 * SECOND, LinkDown(1, 4000))
        heart.handle(100 * SECOND, LinkUp(2))
        assert not heart.silent
        assert heart.deadline == Deadline(120 * SECOND, "ping")
        assert wake(heart, 120) == [Send(2, PING.payload)]


@pytest.mark.parametrize("timeout", [0, -1, -0.0, math.inf, -math.inf])
def test_zero_negative_and_infinite_turn_it_off(timeout: float) -> None:
    heart = beating(timeout)
    assert heart.deadline is None
    assert wake(heart, 1e9) == []
    assert not heart.silent


@given(
    st.integers(3, 100 * SECOND),
    st.lists(st.tuples(st.integers(0, 60 * SECOND), st.booleans()), max_size=30),
)
def test_against_the_rule_in_words(timeout: int, steps: list[tuple[int, bool]]) -> None:
    """Given up exactly when the whole timeout passed since the last sign of life; one ping at most a third."""
    heart = beating(timeout / SECOND)
    now = last = pinged = 0
    for pause, alive in steps:
        now += pause
        if alive:
            heart.handle(now, Heard(1))
            last, pinged = now, 0
            continue
        due = heart.deadline
        assert due is not None
        orders = heart.handle(now, Woken())
        if now - last >= timeout:
            assert orders == [END]
            return
        thirds = min(2, (now - last) // (timeout // 3))
        assert orders == ([PING] if thirds > pinged else [])
        assert bool(orders) == (due.at <= now)
        pinged = max(pinged, thirds)
        after = heart.deadline
        assert after is not None
        assert now < after.at <= last + timeout


class TestBlocked:
    """A server that talks, but takes nothing."""

    def blocked(self) -> Heartbeat:
        heartbeat = Heartbeat(60)
        heartbeat.handle(0, LinkUp(1))
        heartbeat.handle(5 * SECOND, LinkBlocked(1, 1000))
        return heartbeat

    def test_it_is_given_up_after_the_timeout_whatever_it_says(self) -> None:
        heartbeat = self.blocked()
        for second in range(6, 65):
            heartbeat.heard(second * SECOND)
            assert heartbeat.handle(second * SECOND, Woken()) == []
        assert heartbeat.deadline == Deadline(65 * SECOND, "blocked")
        assert heartbeat.handle(65 * SECOND, Woken()) == [CloseLink(1, 4000, "nothing was taken in time", abort=True)]
        assert heartbeat.silent

    def test_not_if_it_has_drained_meanwhile(self) -> None:
        heartbeat = self.blocked()
        heartbeat.handle(64 * SECOND, LinkDrained(1))
        heartbeat.heard(64 * SECOND)
        assert heartbeat.handle(65 * SECOND, Woken()) == []
        assert heartbeat.deadline == Deadline(84 * SECOND, "ping")

    def test_a_new_link_starts_free(self) -> None:
        heartbeat = self.blocked()
        heartbeat.handle(6 * SECOND, LinkDown(1, 1006))
        heartbeat.handle(60 * SECOND, LinkUp(2))
        assert heartbeat.deadline == Deadline(80 * SECOND, "ping")
