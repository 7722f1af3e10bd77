"""Whether a snapshot is still to come, and how often it is asked for."""

from __future__ import annotations

from metered_proto.events import Presence, PresencePeer
from metered_proto.machine import Deadline
from metered_proto.room.membership import RESUBSCRIBES, Membership

BOB = (PresencePeer("bob", None),)


def member() -> Membership:
    return Membership("room", include_sender_metadata=False, known_as="anna")


def test_the_first_presence_is_the_snapshot_and_only_that() -> None:
    membership = member()
    assert membership.takes_as_snapshot(Presence("room", (), ()))
    assert not membership.takes_as_snapshot(Presence("room", BOB, ()))


def test_a_presence_that_only_names_who_left_is_no_snapshot() -> None:
    membership = member()
    assert not membership.takes_as_snapshot(Presence("room", (), BOB))
    assert membership.takes_as_snapshot(Presence("room", BOB, BOB))


def test_another_connection_brings_another_snapshot_which_is_waited_for() -> None:
    membership = member()
    membership.takes_as_snapshot(Presence("room", (), ()))
    membership.lost()
    assert membership.timer is None
    membership.awaits(5)
    assert membership.timer == Deadline(5, "snapshot")
    assert membership.takes_as_snapshot(Presence("room", BOB, ()))
    assert membership.timer is None


def test_it_is_asked_for_again_so_many_times_on_each_connection() -> None:
    membership = member()
    for _ in range(2):
        membership.lost()
        membership.awaits(5)
        for attempt in range(RESUBSCRIBES):
            assert membership.asks_again(10 + attempt)
            assert membership.timer == Deadline(10 + attempt, "snapshot")
        assert not membership.asks_again(20)


def test_a_lost_connection_ends_the_wait() -> None:
    membership = member()
    membership.awaits(5)
    membership.lost()
    assert membership.timer is None
