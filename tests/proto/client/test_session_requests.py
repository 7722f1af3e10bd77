"""Requests: sent when there is a connection, and each with exactly one outcome."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.calls import Close, Connect, FetchToken, Publish, PublishMany, SendTo, Subscribe, Unsubscribe
from metered_proto.client.session import ClientSession
from metered_proto.entropy import Entropy
from metered_proto.errors import (
    AckTimeoutError,
    DisconnectedError,
    LocalProtocolError,
    NotConnectedError,
    OversizedPayloadError,
    ServerRequestError,
)
from metered_proto.events import ServerError
from metered_proto.facts import Asked, LinkAsked, LinkBlocked, LinkDown, LinkDrained, LinkUp, Received, Withdrawn
from metered_proto.orders import Answer, AnswerAll, Note, Tell
from metered_proto.settings import ClientSettings
from metered_proto.wire.close_codes import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]

REQUESTS: list[Any] = [
    Publish.of("room", {"a": None}),
    SendTo.of("you", None),
    Subscribe("room", True),
    Unsubscribe("room"),
]
each_request = pytest.mark.parametrize("call", REQUESTS, ids=lambda call: type(call).__name__)


class TestTheFrames:
    def test_publish(self, online: Conversation) -> None:
        op = online.asks(Publish.of("room", {"a": [1, None]}))
        frame = {"type": "publish", "channel": "room", "data": {"a": [1, None]}, "requestId": str(op)}
        assert online.sent == [frame]

    def test_publish_null(self, online: Conversation) -> None:
        online.publishes("room", None)
        assert online.sent[0]["data"] is None

    def test_send(self, online: Conversation) -> None:
        op = online.asks(SendTo.of("you", "hello"))
        assert online.sent == [{"type": "send", "to": "you", "data": "hello", "requestId": str(op)}]

    def test_subscribe(self, online: Conversation) -> None:
        op = online.asks(Subscribe("room"))
        assert online.sent == [{"type": "subscribe", "channel": "room", "requestId": str(op)}]

    def test_subscribe_with_sender_metadata(self, online: Conversation) -> None:
        op = online.asks(Subscribe("room", True))
        frame = {"type": "subscribe", "channel": "room", "includeSenderMetadata": True, "requestId": str(op)}
        assert online.sent == [frame]

    def test_unsubscribe(self, online: Conversation) -> None:
        op = online.asks(Unsubscribe("room"))
        assert online.sent == [{"type": "unsubscribe", "channel": "room", "requestId": str(op)}]


@each_request
class TestOutcomes:
    def test_acknowledged(self, online: Conversation, call: Any) -> None:
        op = online.asks(call)
        assert online.waits(op)
        assert online.session.in_flight == 1
        online.ack(op)
        assert online.answers[op] == Answer(op)
        assert online.session.in_flight == 0

    def test_refused(self, online: Conversation, call: Any) -> None:
        op = online.asks(call)
        online.forget()
        online.refuse(op, "channel_not_authorized", "not yours")
        assert online.orders == [
            Answer(op, error=ServerRequestError("channel_not_authorized", "not yours", str(op)))
        ], "an error that belongs to a call is no event"

    def test_not_answered_in_time(self, converse: Converse, call: Any) -> None:
        talk = converse(ack_timeout=15.0)
        talk.connects()
        op = talk.asks(call)
        talk.advance(14.999_999)
        assert talk.waits(op)
        talk.advance(0.000_001)
        assert talk.error(op) == AckTimeoutError(15.0)
        talk.forget()
        talk.ack(op)
        assert talk.orders == [], "the answer that comes too late is no news"

    def test_dropped_before_the_answer(self, online: Conversation, call: Any) -> None:
        op = online.asks(call)
        online.link_goes_down(1011, "oops")
        assert online.error(op) == DisconnectedError(1011, "oops")

    def test_closed_before_the_answer(self, online: Conversation, call: Any) -> None:
        op = online.asks(call)
        online.asks(Close(4321, "enough"))
        assert online.error(op) == DisconnectedError(4321, "enough")

    def test_withdrawn(self, online: Conversation, call: Any) -> None:
        op = online.asks(call)
        online.forget()
        online.withdraws(op)
        online.ack(op)
        assert online.orders == []
        assert online.session.in_flight == 0

    def test_withdrawn_and_refused(self, online: Conversation, call: Any) -> None:
        op = online.asks(call)
        online.withdraws(op)
        online.forget()
        online.refuse(op)
        assert online.orders == []

    @pytest.mark.parametrize("phase", ["idle", "opening", "greeting", "waiting", "closed"])
    def test_not_connected_nothing_sent(self, talk: Conversation, call: Any, phase: str) -> None:
        if phase != "idle":
            talk.asks(Connect())
        if phase in ("greeting", "waiting"):
            talk.link_comes_up()
        if phase == "waiting":
            talk.welcome()
            talk.link_goes_down()
        if phase == "closed":
            talk.asks(Close())
        assert talk.session._phase.name == phase
        talk.forget()
        op = talk.asks(call)
        assert talk.orders == [Answer(op, error=NotConnectedError(talk.state))]
        assert talk.session.channels == (), "a subscribe refused for lack of a connection leaves none behind"


class TestSeveralAcknowledgementsOfOneRead:
    def test_they_are_one_answer(self, online: Conversation) -> None:
        ops = [online.publishes(data=number) for number in range(4)]
        online.withdraws(ops[1])
        online.server(*acks(*ops))
        assert online.orders[-1] == AnswerAll([ops[0], *ops[2:]])
        assert online.session.in_flight == 0

    def test_of_what_nobody_waits_for_there_is_none(self, online: Conversation) -> None:
        ops = [online.publishes(), online.publishes()]
        for op in ops:
            online.withdraws(op)
        online.forget()
        online.server(*acks(*ops))
        assert online.orders == []

    def test_repeats_and_strangers_among_them(self, online: Conversation) -> None:
        first, second = online.publishes(), online.publishes()
        online.server(*acks("stranger", second, second, first, first))
        assert [online.answers[op] for op in (first, second)] == [Answer(first), Answer(second)]

    def test_those_of_a_subscription_and_of_a_batch_among_them(self, online: Conversation) -> None:
        one, more = online.publishes(), online.asks(PublishMany((Publish.of("room", 1), Publish.of("room", 2))))
        subscribed = online.subscribes("room")
        online.server(*acks(one, f"{more}.0", subscribed, f"{more}.1"))
        assert {one, more, subscribed} <= set(online.answers)
        assert online.session.channels == ("room",)


def acks(*request_ids: int | str) -> list[dict[str, Any]]:
    return [{"type": "ack", "requestId": str(request_id)} for request_id in request_ids]


class TestErrorCodes:
    @pytest.mark.parametrize("code", [*ErrorCode, "some_day_a_new_one"])
    def test_of_a_request(self, online: Conversation, code: str) -> None:
        op = online.publishes()
        online.refuse(op, code, "because")
        assert online.error(op) == ServerRequestError(code, "because", str(op))

    @pytest.mark.parametrize("code", [code for code in ErrorCode if code != "unknown_type"] + ["some_day_a_new_one"])
    def test_of_no_request(self, online: Conversation, code: str) -> None:
        online.refuse(None, code, "because")
        assert online.told == [ServerError(code, "because", None)]
        context = {"code": code, "message": "because", "count": 1}
        assert online.notes == [Note("warning", "the server reports an error", context)]

    def test_of_a_request_nobody_made(self, online: Conversation) -> None:
        online.refuse("77", "unknown_type", "because")
        assert online.told == [ServerError("unknown_type", "because", "77")]

    def test_without_a_message(self, online: Conversation) -> None:
        op = online.publishes()
        online.server({"type": "error", "code": "internal_error", "requestId": str(op)})
        assert online.error(op) == ServerRequestError("internal_error", "", str(op))

    def test_the_log_does_not_grow_with_them(self, online: Conversation) -> None:
        online.server(*[{"type": "error", "code": "c" * 2500, "message": "m" * 2500}] * 100)
        assert len(online.told) == 100
        assert [note.context["count"] for note in online.notes] == [1, 2, 4, 8, 16, 32, 64]
        assert all(len(repr(note)) < 1000 for note in online.notes)


class TestSize:
    """What counts is the bytes of the serialized data."""

    def test_at_the_cap(self, converse: Converse) -> None:
        talk = converse()
        talk.connects(maxMessageSize=10)
        op = talk.publishes("a channel name is not counted", "12345678")
        assert talk.waits(op)

    @pytest.mark.parametrize("of", [lambda data: Publish.of("room", data), lambda data: SendTo.of("you", data)])
    @pytest.mark.parametrize(("data", "size"), [("123456789", 11), ("ééééé", 12)])
    def test_over_it_nothing_is_sent(self, converse: Converse, of: Any, data: str, size: int) -> None:
        talk = converse()
        talk.connects(maxMessageSize=10)
        talk.forget()
        op = talk.asks(of(data))
        assert talk.orders == [Answer(op, error=OversizedPayloadError(size, 10))]
        assert talk.session.in_flight == 0

    @pytest.mark.parametrize("said", [{}, {"maxMessageSize": 0}, {"maxMessageSize": -5}, {"maxMessageSize": "big"}])
    def test_64_kib_where_the_server_does_not_say(self, talk: Conversation, said: dict[str, object]) -> None:
        talk.asks(Connect())
        talk.link_comes_up()
        talk.server({"type": "welcome", "peerId": "me", **said})
        assert talk.session.max_message_size == 65_536
        assert talk.waits(talk.publishes("room", "a" * 65_534))
        op = talk.publishes("room", "a" * 65_535)
        assert talk.error(op) == OversizedPayloadError(65_537, 65_536)

    def test_the_latest_welcome_counts(self, online: Conversation) -> None:
        online.link_goes_down()
        online.comes_back(maxMessageSize=5)
        op = online.publishes("room", "1234")
        assert online.error(op) == OversizedPayloadError(6, 5)


class TestSubscriptions:
    def test_kept_once_sent(self, online: Conversation) -> None:
        online.subscribes()
        assert online.session.channels == ("room",)

    def test_refused_leaves_none(self, online: Conversation) -> None:
        online.refuse(online.subscribes())
        assert online.session.channels == ()

    def test_a_failed_second_subscribe_never_loses_the_first(self, online: Conversation) -> None:
        online.subscribed("room", True)
        online.refuse(online.subscribes("room", False), "over_message_quota")
        online.link_goes_down()
        online.forget()
        online.comes_back()
        assert [(frame["channel"], frame.get("includeSenderMetadata")) for frame in online.sent] == [("room", True)]

    def test_withdrawn_it_is_still_kept(self, online: Conversation) -> None:
        op = online.subscribes()
        online.withdraws(op)
        online.ack(op)
        assert online.session.channels == ("room",)

    def test_withdrawn_and_refused_it_is_not(self, online: Conversation) -> None:
        op = online.subscribes()
        online.withdraws(op)
        online.refuse(op)
        assert online.session.channels == ()

    def test_an_answer_from_before_the_unsubscribe_does_not_speak_for_what_came_after(
        self, online: Conversation
    ) -> None:
        first, gone, second = online.subscribes(), online.unsubscribes(), online.subscribes()
        online.ack(first)
        online.ack(gone)
        online.refuse(second)
        assert online.session.channels == ()

    def test_a_refused_unsubscribe_is_an_unsubscribe(self, online: Conversation) -> None:
        online.subscribed()
        op = online.unsubscribes()
        online.refuse(op, "internal_error")
        assert isinstance(online.error(op), ServerRequestError)
        assert online.session.channels == ()


class TestManyAtOnce:
    def test_answers_in_any_order(self, online: Conversation) -> None:
        ops = [online.publishes("room", number) for number in range(200)]
        assert online.session.in_flight == 200
        for op in reversed(ops):
            online.ack(op)
        assert all(online.error(op) is None for op in ops)
        assert online.session.in_flight == 0

    def test_an_ack_is_worth_something_once(self, online: Conversation) -> None:
        op = online.publishes()
        online.server(*[{"type": "ack", "requestId": str(op)}] * 3)
        assert online.answers[op] == Answer(op)

    @pytest.mark.parametrize("request_id", ["", "0", "-1", "1.0", "s1", "01", " 2"])
    def test_an_ack_for_nothing(self, online: Conversation, request_id: str) -> None:
        online.publishes()
        online.forget()
        online.ack(request_id)
        assert online.orders == []

    def test_back_pressure_is_left_to_those_who_wait(self, online: Conversation) -> None:
        online.give(LinkBlocked(1, 1_000_000))
        online.publishes()
        online.give(LinkDrained(1))
        assert len(online.sent) == 1


class TestOneRead:
    """What one read of the link brought is a batch, and where it was cut means nothing."""

    TRAFFIC = (
        '{"type":"message","channel":"room","from":"you","data":{"n":1}}',
        '{"type":"ack","requestId":"2"}',
        '{"type":"direct","from":"you","data":null}',
        "nonsense",
        '{"type":"error","code":"backend_error","requestId":"3"}',
        '{"type":"error","code":"internal_error"}',
        '{"type":"presence","channel":"room","joined":[{"peerId":"you"}],"left":[]}',
        b"\x00",
        '{"type":"going_away","retryAfterMs":5}',
        '{"type":"pong"}',
        '{"type":"ack","requestId":"9"}',
    )

    def heard(self, converse: Converse, batches: list[list[str | bytes]]) -> list[object]:
        talk = converse()
        talk.connects()
        talk.publishes()
        talk.sends()
        talk.forget()
        for batch in batches:
            talk.give(Received(1, batch))
        return list(talk.orders)

    @given(cuts=st.sets(st.integers(0, len(TRAFFIC))))
    def test_whole_or_split_it_gives_the_same_orders(self, converse: Converse, cuts: set[int]) -> None:
        edges = sorted({0, *cuts, len(self.TRAFFIC)})
        batches = [list(self.TRAFFIC[low:high]) for low, high in pairwise(edges)]
        whole = self.heard(converse, [list(self.TRAFFIC)])
        assert len(whole) == 10
        assert self.heard(converse, batches) == whole

    def test_an_empty_read(self, online: Conversation) -> None:
        online.give(Received(1, []))
        assert online.orders == []


class TestDrivenWrongly:
    @pytest.mark.parametrize("call", [None, "publish", FetchToken(), Tell(1)])
    def test_what_is_no_call(self, online: Conversation, call: object) -> None:
        with pytest.raises(LocalProtocolError, match="is not a call to a client"):
            online.give(Asked(1, call))

    def test_what_is_no_fact_for_a_client(self, online: Conversation) -> None:
        with pytest.raises(LocalProtocolError, match="LinkAsked is not for a client"):
            online.give(LinkAsked(1, "/v1?key=secret", "127.0.0.1"))

    def test_received_ahead_of_the_link_up_changes_nothing(self, talk: Conversation) -> None:
        talk.asks(Connect())
        with pytest.raises(LocalProtocolError, match="Received ahead of LinkUp"):
            talk.welcome()
        talk.give(LinkUp(1))
        talk.welcome()
        assert talk.state == "connected"

    def test_withdrawing_what_was_never_asked(self, online: Conversation) -> None:
        online.give(Withdrawn(99))
        assert online.orders == []


def test_two_sessions_with_one_seed_and_the_same_facts_say_the_same() -> None:
    def run(seed: int) -> list[bytes | int]:
        session = ClientSession(ClientSettings(api_key="pk_live_x"), Entropy(seed))
        facts = (
            Asked(1, Connect()),
            LinkUp(1),
            Received(1, ['{"type":"welcome","peerId":"me"}']),
            Asked(2, Publish.of("room", 1)),
            LinkDown(1, 1006),
        )
        said: list[bytes | int] = []
        for now, fact in enumerate(facts):
            said += [msgspec.json.encode(order, enc_hook=repr) for order in session.handle(now, fact)]
            said.append(session.deadline.at if session.deadline else 0)
        return said

    assert run(1) == run(1)
    assert run(1)[:-1] == run(2)[:-1]
    assert run(1) != run(2), "but not at the same time"
