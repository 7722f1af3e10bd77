"""Publishing without acknowledgements: on their way is good enough, as long as they get away."""

from __future__ import annotations

from typing import Any

from metered_proto.client.calls import Publish
from metered_proto.client.unacked import Unacked
from metered_proto.errors import DisconnectedError, NotConnectedError, OversizedPayloadError
from metered_proto.facts import LinkBlocked, LinkDown, LinkDrained, Withdrawn, Woken
from metered_proto.orders import Answer


def publishes(talk: Any, data: object = 1) -> int:
    op = talk.asks(Publish.of("room", data, ack=False))
    assert isinstance(op, int)
    return op


class TestThePart:
    def test_answered_at_once(self) -> None:
        unacked = Unacked()
        assert unacked.sent(1, 1) == [Answer(1)]
        assert len(unacked) == 0
        assert unacked.deadline is None

    def test_while_the_link_is_blocked_they_wait_in_order(self) -> None:
        unacked = Unacked()
        assert unacked.handle(0, LinkBlocked(1, 10)) == []
        assert unacked.sent(1, 1) == unacked.sent(2, 1) == []
        assert unacked.handle(0, LinkDrained(1)) == [Answer(1), Answer(2)]
        assert unacked.sent(3, 1) == [Answer(3)]

    def test_a_lost_link_ends_the_wait(self) -> None:
        unacked = Unacked()
        unacked.handle(0, LinkBlocked(1, 10))
        unacked.sent(1, 1)
        assert unacked.handle(0, LinkDown(1, 1006, "reset")) == [Answer(1, error=DisconnectedError(1006, "reset"))]
        assert unacked.sent(2, 2) == [Answer(2)]

    def test_only_the_link_that_is_blocked_keeps_anybody_waiting(self) -> None:
        unacked = Unacked()
        unacked.handle(0, LinkBlocked(1, 10))
        assert unacked.sent(1, 2) == [Answer(1)]

    def test_who_withdraws_is_not_answered(self) -> None:
        unacked = Unacked()
        unacked.handle(0, LinkBlocked(1, 10))
        unacked.sent(1, 1)
        unacked.sent(2, 1)
        assert unacked.handle(0, Withdrawn(1)) == []
        assert unacked.handle(0, Withdrawn(9)) == []
        assert unacked.handle(0, Woken()) == []
        assert unacked.handle(0, LinkDrained(1)) == [Answer(2)]


class TestInASession:
    def test_no_acknowledgement_is_asked_for(self, online: Any) -> None:
        op = publishes(online, {"a": 1})
        assert online.sent[-1] == {"type": "publish", "channel": "room", "data": {"a": 1}}
        assert online.error(op) is None
        assert online.session.in_flight == 0

    def test_back_pressure(self, online: Any) -> None:
        online.give(LinkBlocked(online.link, 100_000))
        op = publishes(online)
        acked = online.publishes()
        assert online.waits(op)
        assert online.waits(acked)
        online.give(LinkDrained(online.link))
        assert online.error(op) is None
        assert online.waits(acked)

    def test_of_a_connection_that_never_came_about(self, talk: Any) -> None:
        talk.connects()
        talk.link_goes_down()
        talk.until_woken()
        talk.link_comes_up()
        talk.give(LinkBlocked(talk.link, 100_000))
        talk.link_goes_down()
        talk.comes_back()
        assert talk.error(publishes(talk)) is None

    def test_another_links_back_pressure_is_nothing_to_us(self, online: Any) -> None:
        online.give(LinkBlocked(online.link + 5, 100_000))
        assert online.error(publishes(online)) is None

    def test_withdrawn(self, online: Any) -> None:
        online.give(LinkBlocked(online.link, 100_000))
        op = publishes(online)
        online.withdraws(op)
        online.give(LinkDrained(online.link))
        assert op not in online.answers

    def test_not_connected(self, talk: Any) -> None:
        assert talk.error(publishes(talk)) == NotConnectedError("idle")

    def test_too_large(self, talk: Any) -> None:
        talk.connects(maxMessageSize=10)
        talk.forget()
        assert talk.error(publishes(talk, "x" * 20)) == OversizedPayloadError(22, 10)
        assert talk.sent == []
