"""The outbox's bounds, to the byte and to the message, drafts included."""

from __future__ import annotations

import pytest
from outbox_kit import Desk

from metered_proto.client.outbox import Delivered, Dropped, Enqueue
from metered_proto.errors import OutboxFullError

DATA = b'{"n":1}'


def size_of_one() -> int:
    return Desk().draft(DATA).size


@pytest.mark.parametrize("spare", [0, -1])
def test_to_the_byte_with_what_is_drafted(spare: int) -> None:
    desk = Desk(max_bytes=3 * size_of_one() + spare, overflow="reject")
    desk.enqueue(DATA)
    desk.draft(DATA)
    if spare:
        with pytest.raises(OutboxFullError):
            desk.draft(DATA)
    else:
        desk.draft(DATA)


def test_to_the_message_with_what_is_drafted() -> None:
    desk = Desk(max_messages=2, overflow="reject")
    desk.draft(DATA)
    desk.enqueue(DATA)
    with pytest.raises(OutboxFullError):
        desk.draft(DATA)


def test_what_is_given_back_makes_room_once() -> None:
    desk = Desk(max_bytes=2 * size_of_one(), overflow="reject")
    entry = desk.draft(DATA)
    desk.enqueue(DATA)
    for _ in range(300):
        desk.queue.discard(entry)
    desk.draft(DATA)
    with pytest.raises(OutboxFullError):
        desk.draft(b"1")


def test_what_comes_too_late_counts_as_dropped() -> None:
    desk = Desk()
    late = desk.draft(DATA)
    desk.take(desk.queue.closed())
    assert desk.outcome(desk.ask(Enqueue(late))) == Dropped("closed")
    assert desk.queue.counters.dropped == 1


def test_what_is_on_its_way_makes_no_room() -> None:
    desk = Desk(max_bytes=2 * size_of_one(), window=10)
    desk.connect()
    first, second = desk.enqueue(DATA), desk.enqueue(DATA)
    assert desk.queue.draft(0, "c", DATA) == Dropped("overflow"), "the oldest are on their way, and may arrive"
    desk.ack("o1")
    assert isinstance(desk.outcome(first), Delivered)
    third = desk.enqueue(DATA)
    assert second not in desk.answers
    assert third not in desk.answers
    # One that waits may be dropped for another one.
    desk.lose()
    desk.enqueue(DATA)
    assert desk.outcome(second) == Dropped("overflow")
