"""Many messages, one answer."""

from __future__ import annotations

from typing import Any

import pytest

from metered_proto.client.calls import Publish, PublishMany
from metered_proto.client.ledger import Ledger
from metered_proto.errors import (
    AckTimeoutError,
    DisconnectedError,
    NotConnectedError,
    OversizedPayloadError,
    PublishManyError,
    ServerRequestError,
)


def many(talk: Any, *data: object) -> int:
    op = talk.asks(PublishMany(tuple(Publish.of(f"room-{index}", item) for index, item in enumerate(data))))
    assert isinstance(op, int)
    return op


def test_each_is_a_publish_of_its_own_in_order(online: Any) -> None:
    online.forget()
    op = many(online, "a", "b")
    assert online.sent == [
        {"type": "publish", "channel": "room-0", "data": "a", "requestId": f"{op}.0"},
        {"type": "publish", "channel": "room-1", "data": "b", "requestId": f"{op}.1"},
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_answer_comes_with_the_last_acknowledgement(online: Any, order: tuple[int, ...]) -> None:
    op = many(online, 1, 2, 3)
    for index in order[:-1]:
        online.ack(f"{op}.{index}")
        assert online.waits(op)
    online.ack(f"{op}.{order[-1]}")
    assert online.error(op) is None


def test_nothing_to_publish(online: Any) -> None:
    assert online.error(many(online)) is None


def test_some_are_refused(online: Any) -> None:
    op = many(online, 1, 2, 3)
    online.refuse(f"{op}.2", "invalid_channel", "bad")
    online.ack(f"{op}.1")
    online.refuse(f"{op}.0", "over_message_quota", "enough")
    assert online.error(op) == PublishManyError(
        (
            (0, ServerRequestError("over_message_quota", "enough", f"{op}.0")),
            (2, ServerRequestError("invalid_channel", "bad", f"{op}.2")),
        )
    )
    assert str(online.error(op)) == "2 messages failed, the first: over_message_quota: enough"


def test_the_link_is_lost(online: Any) -> None:
    op = many(online, 1, 2)
    online.ack(f"{op}.0")
    online.link_goes_down(1001, "bye")
    assert online.error(op) == PublishManyError(((1, DisconnectedError(1001, "bye")),))


def test_no_acknowledgement_in_time(online: Any) -> None:
    op = many(online, 1, 2)
    online.ack(f"{op}.1")
    online.advance(15)
    assert online.error(op) == PublishManyError(((0, AckTimeoutError(15)),))


def test_nobody_waits_any_more(online: Any) -> None:
    op = many(online, 1, 2)
    single = online.publishes()
    online.withdraws(op)
    online.ack(f"{op}.0")
    online.ack(f"{op}.1")
    online.ack(single)
    assert op not in online.answers
    assert online.error(single) is None
    assert online.session.in_flight == 0


def test_one_too_large_and_none_is_sent(talk: Any) -> None:
    talk.connects(maxMessageSize=10)
    talk.forget()
    assert talk.error(many(talk, 1, "x" * 20, 2)) == OversizedPayloadError(22, 10)
    assert talk.sent == []


def test_not_connected(talk: Any) -> None:
    assert talk.error(many(talk, 1)) == NotConnectedError("idle")


def test_the_ledger_forgets_a_batch_that_ended() -> None:
    ledger = Ledger(15)
    for request_id in ledger.enter_batch(0, 1, 3):
        request = ledger.settle(request_id)
        assert request is not None
        ledger.end(request, None)
    assert not ledger._batches
    assert len(ledger) == 0
