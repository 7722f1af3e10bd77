"""Questions and answers between two peers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.requests import (
    MAX_CODE_CHARS,
    MAX_MESSAGE_CHARS,
    REPLY_KEY,
    REQUEST_KEY,
    AnswerRequests,
    Request,
    reply,
    reply_error,
)
from metered_proto.errors import (
    DisconnectedError,
    NotConnectedError,
    OversizedPayloadError,
    RequestFailedError,
    RequestTimeoutError,
    ServerRequestError,
)
from metered_proto.events import Direct, RequestReceived
from metered_proto.facts import LinkBlocked, LinkDown, Withdrawn

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def direct(sender: str, data: object) -> dict[str, Any]:
    return {"type": "direct", "from": sender, "data": data}


def asks(talk: Any, peer_id: str = "you", data: object = 1, timeout: float = 5.0) -> tuple[int, str]:
    """Ask; returns the op, and the id that the answer has to name."""
    op = talk.asks(Request.of(peer_id, data, timeout))
    return op, talk.sent[-1]["data"][REQUEST_KEY]


class TestAsking:
    def test_the_question_is_a_direct_of_the_documented_shape(self, online: Any) -> None:
        op, request_id = asks(online, "you", {"what": "time"})
        frame = online.sent[-1]
        assert frame["type"] == "send"
        assert frame["to"] == "you"
        assert frame["data"] == {REQUEST_KEY: request_id, "data": {"what": "time"}}
        assert online.waits(op)

    @pytest.mark.parametrize("data", [None, 0, "text", [1, 2], {"a": {"b": None}}])
    def test_the_answer_is_what_the_peer_replied(self, online: Any, data: object) -> None:
        op, request_id = asks(online)
        online.ack("q1")
        assert online.waits(op)
        online.server(direct("you", {REPLY_KEY: request_id, "data": data}))
        assert online.answers[op].error is None
        assert online.answers[op].value == data
        assert not [event for event in online.told if isinstance(event, Direct)]

    def test_answers_may_come_in_any_order(self, online: Any) -> None:
        first, first_id = asks(online)
        second, second_id = asks(online)
        assert first_id != second_id
        online.server(direct("you", {REPLY_KEY: second_id, "data": 2}), direct("you", {REPLY_KEY: first_id, "data": 1}))
        assert (online.answers[first].value, online.answers[second].value) == (1, 2)

    def test_another_run_of_the_same_peer_has_other_ids(self, converse: Any) -> None:
        ids = []
        for seed in (1, 2):
            talk = converse(seed=seed)
            talk.connects()
            ids.append(asks(talk)[1])
        assert ids[0] != ids[1]


class TestNoAnswer:
    def test_in_time(self, online: Any) -> None:
        slow, slow_id = asks(online, timeout=5.0)
        quick, _ = asks(online, timeout=2.0)
        online.advance(1.999)
        assert online.waits(quick)
        online.advance(0.001)
        assert online.error(quick) == RequestTimeoutError(2.0)
        assert online.waits(slow)
        online.advance(3.0)
        assert online.error(slow) == RequestTimeoutError(5.0)
        online.server(direct("you", {REPLY_KEY: slow_id, "data": "late"}))
        assert online.told == [] or not isinstance(online.told[-1], Direct)

    def test_the_peer_is_not_there(self, online: Any) -> None:
        op, _ = asks(online, "nobody")
        online.refuse("q1", "peer_not_found", "who?")
        assert online.error(op) == ServerRequestError("peer_not_found", "who?", "q1")

    def test_the_peer_says_no(self, online: Any) -> None:
        op, request_id = asks(online)
        online.server(direct("you", {REPLY_KEY: request_id, "error": {"code": "busy", "message": "later"}}))
        assert online.error(op) == RequestFailedError("busy", "later")

    @pytest.mark.parametrize("failure", [None, "x", [], {}, {"code": 3, "message": []}])
    def test_the_peer_says_no_oddly(self, online: Any, failure: object) -> None:
        op, request_id = asks(online)
        online.server(direct("you", {REPLY_KEY: request_id, "error": failure}))
        assert online.error(op) == RequestFailedError("unknown", "")

    def test_what_the_peer_says_is_cut(self, online: Any) -> None:
        op, request_id = asks(online)
        online.server(direct("you", {REPLY_KEY: request_id, "error": {"code": "c" * 999, "message": "m" * 9999}}))
        assert online.error(op) == RequestFailedError("c" * MAX_CODE_CHARS, "m" * MAX_MESSAGE_CHARS)

    def test_the_connection_is_lost(self, online: Any) -> None:
        op, _ = asks(online)
        online.link_goes_down(1001, "bye")
        assert online.error(op) == DisconnectedError(1001, "bye")

    def test_there_is_no_connection(self, talk: Any) -> None:
        op = talk.asks(Request.of("you", 1, 5.0))
        assert talk.error(op) == NotConnectedError("idle")
        assert talk.sent == []

    def test_it_is_too_large(self, talk: Any) -> None:
        talk.connects(maxMessageSize=60)
        talk.forget()
        op = talk.asks(Request.of("you", "x" * 30, 5.0))
        error = talk.error(op)
        assert isinstance(error, OversizedPayloadError)
        assert error.size > 60 == error.cap
        assert talk.sent == []

    def test_nobody_waits_any_more(self, online: Any) -> None:
        op, request_id = asks(online)
        other, other_id = asks(online)
        online.withdraws(op)
        online.server(direct("you", {REPLY_KEY: request_id, "data": 1}))
        assert op not in online.answers
        online.server(direct("you", {REPLY_KEY: other_id, "data": 2}))
        assert online.answers[other].value == 2
        assert len(online.session._requests) == 0
        assert online.session._requests.deadline is None


class TestWhoAnswers:
    def test_only_the_peer_that_was_asked(self, online: Any) -> None:
        op, request_id = asks(online, "you")
        online.server(direct("mallory", {REPLY_KEY: request_id, "data": "mine"}))
        assert online.waits(op)
        online.server(direct("you", {REPLY_KEY: request_id, "data": "yours"}))
        assert online.answers[op].value == "yours"

    def test_only_the_first_time(self, online: Any) -> None:
        op, request_id = asks(online)
        online.server(*[direct("you", {REPLY_KEY: request_id, "data": number}) for number in range(3)])
        assert online.answers[op].value == 0

    @pytest.mark.parametrize("request_id", [None, 1, [], {}, "", "q1", "x" * 5000])
    def test_a_reply_to_nothing_is_dropped(self, online: Any, request_id: object) -> None:
        online.forget()
        online.server(direct("you", {REPLY_KEY: request_id, "data": 1}))
        assert online.told == []

    @pytest.mark.parametrize("request_id", ["q", "q0", "q2", "q01", "q²", "q" + "9" * 5000, "1q", "q1 "])
    def test_an_error_for_another_request_settles_nothing(self, online: Any, request_id: str) -> None:
        op, _ = asks(online)
        online.refuse(request_id)
        assert online.waits(op)


class TestBeingAsked:
    def test_not_before_somebody_answers(self, online: Any) -> None:
        online.forget()
        online.server(direct("you", {REQUEST_KEY: "r1", "data": 1}))
        assert online.told == [Direct("you", {REQUEST_KEY: "r1", "data": 1})]

    def test_a_question_is_told(self, online: Any) -> None:
        assert online.error(online.asks(AnswerRequests())) is None
        online.forget()
        online.server({**direct("you", {REQUEST_KEY: "r1", "data": {"a": 1}}), "fromMetadata": {"name": "Ann"}})
        assert online.told == [RequestReceived("you", "r1", {"a": 1}, {"name": "Ann"})]
        online.asks(AnswerRequests(on=False))
        online.forget()
        online.server(direct("you", {REQUEST_KEY: "r1", "data": 1}))
        assert isinstance(online.told[0], Direct)

    @pytest.mark.parametrize(
        "data",
        [
            {REQUEST_KEY: "r1"},
            {REQUEST_KEY: "", "data": 1},
            {REQUEST_KEY: "r" * 129, "data": 1},
            {REQUEST_KEY: 7, "data": 1},
        ],
    )
    def test_what_only_looks_like_one_is_a_direct(self, online: Any, data: object) -> None:
        online.asks(AnswerRequests())
        online.forget()
        online.server(direct("you", data))
        assert online.told == [Direct("you", data)]

    def test_replies_have_the_documented_shapes(self) -> None:
        question = RequestReceived("you", "r1", None)
        good, bad = reply(question, {"a": None}), reply_error(question, "c" * 999, "m" * 9999)
        assert good.peer_id == bad.peer_id == "you"
        assert msgspec.json.decode(good.data) == {REPLY_KEY: "r1", "data": {"a": None}}
        failure = {"code": "c" * MAX_CODE_CHARS, "message": "m" * MAX_MESSAGE_CHARS}
        assert msgspec.json.decode(bad.data) == {REPLY_KEY: "r1", "error": failure}
        assert msgspec.json.decode(reply(question, None).data) == {REPLY_KEY: "r1", "data": None}

    def test_a_reply_that_is_not_json_is_an_error_at_the_call(self) -> None:
        with pytest.raises(TypeError):
            reply(RequestReceived("you", "r1", None), object())


class TestBadCalls:
    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 10**400])
    def test_a_timeout_has_to_come_to_an_end(self, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout"):
            Request.of("you", 1, timeout)

    def test_types(self) -> None:
        with pytest.raises(TypeError):
            Request.of("you", 1, "5")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Request.of(7, 1, 5.0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="infinity"):
            Request.of("you", float("nan"), 5.0)


@given(json_values)
def test_any_data_makes_the_round_trip(value: object) -> None:
    question = RequestReceived("you", "r1", None)
    assert msgspec.json.decode(reply(question, value).data)["data"] == value


def test_facts_that_concern_no_question_change_nothing(online: Any) -> None:
    op, _ = asks(online)
    requests = online.session._requests
    assert requests.handle(online.now, Withdrawn(999)) == []
    assert requests.handle(online.now, LinkBlocked(online.link, 1)) == []
    assert len(requests) == 1
    assert [answer.op for answer in requests.handle(online.now, LinkDown(online.link, 1006))] == [op]
