"""The first connect: from idle to a welcome, and all the ways in which that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from metered_proto.client.calls import Close, Connect
from metered_proto.errors import NotConnectedError, SignallingConnectError
from metered_proto.events import Connected, Disconnected, StateChange, TokenProviderError
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Abandon, Answer, Begin, CloseLink, Note, OpenLink, Tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]

KEY = "pk_live_q7Wd0aZtNw5xKfB3"


class TestWithAKey:
    def test_it_goes_like_this(self, talk: Conversation) -> None:
        assert talk.state == "idle"

        op = talk.asks(Connect())
        assert talk.state == "connecting"
        assert talk.orders == [
            Note("info", "state", {"from": "idle", "to": "connecting"}),
            Tell(StateChange("idle", "connecting")),
            OpenLink(1, f"wss://rms.metered.ca/v1?key={KEY}"),
        ]

        talk.forget()
        talk.link_comes_up()
        assert talk.state == "connecting"
        assert talk.orders == []

        talk.welcome(peerId="me", expiresAt=1_700_003_600, serverTime=1_700_000_000_123, maxMessageSize=1000)
        assert talk.state == "connected"
        assert talk.orders == [
            Note("info", "state", {"from": "connecting", "to": "connected"}),
            Tell(StateChange("connecting", "connected")),
            Tell(Connected("me", 1_700_000_000_123, 1_700_003_600, False, 1000, ())),
            Answer(op),
        ]
        assert talk.session.peer_id == "me"
        assert talk.session.max_message_size == 1000
        assert talk.session.counters.connects == 1

    def test_the_key_is_percent_encoded(self, converse: Converse) -> None:
        key = "pk_live_ä/?&=#% +"
        talk = converse(api_key=key, url="ws://localhost:8080/")
        talk.asks(Connect())
        parts = urlsplit(talk.opened[0].target)
        assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == ("ws", "localhost:8080", "/v1", "")
        assert parse_qs(parts.query) == {"key": [key]}
        assert "+" not in parts.query

    def test_welcome_in_the_same_read_as_what_follows(self, talk: Conversation) -> None:
        talk.asks(Connect())
        talk.link_comes_up()
        talk.server({"type": "welcome", "peerId": "me"}, {"type": "direct", "from": "you", "data": 1}, {"type": "pong"})
        assert [type(event).__name__ for event in talk.told] == ["StateChange", "StateChange", "Connected", "Direct"]


class TestFailure:
    """The first connect never retries by itself; the same instance may try again."""

    @pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1009, 4001, 4002, 4003, 4010, 4011, 4012, 4020, 429, 503])
    @pytest.mark.parametrize("greeting", [False, True])
    def test_reported_and_idle_again(self, talk: Conversation, code: int, greeting: bool) -> None:
        op = talk.asks(Connect())
        if greeting:
            talk.link_comes_up()
        talk.link_goes_down(code, "because")
        assert talk.error(op) == SignallingConnectError(code, "because")
        assert talk.state == "idle"
        assert talk.session.deadline is None
        assert not [event for event in talk.told if isinstance(event, Disconnected)]
        assert talk.notes[-1] == Note("error", "could not connect", {"code": code, "reason": "because"})

    def test_the_same_instance_may_connect_again(self, talk: Conversation) -> None:
        talk.asks(Connect())
        talk.link_goes_down()
        op = talk.asks(Connect())
        assert [order.link for order in talk.opened] == [1, 2]
        talk.link_is_made()
        assert talk.error(op) is None
        assert isinstance(talk.told[-1], Connected)
        assert not talk.told[-1].is_reconnect

    def test_everybody_who_waits_is_answered(self, talk: Conversation) -> None:
        ops = [talk.asks(Connect()), talk.asks(Connect())]
        talk.link_goes_down(4001)
        assert [talk.error(op) for op in ops] == [SignallingConnectError(4001)] * 2

    def test_the_link_does_not_open_in_time(self, converse: Converse) -> None:
        talk = converse(open_timeout=7.0)
        op = talk.asks(Connect())
        assert talk.session.deadline == Deadline(7 * SECOND, "open")
        talk.advance(6.999_999)
        assert talk.waits(op)
        talk.advance(0.000_001)
        assert talk.error(op) == SignallingConnectError(1006, "the connection timed out")
        assert talk.closes == [CloseLink(1, 1006, abort=True)]
        assert talk.state == "idle"

    def test_no_welcome_comes_in_time(self, talk: Conversation) -> None:
        op = talk.asks(Connect())
        talk.advance(3)
        talk.link_comes_up()
        assert talk.session.deadline == Deadline(13 * SECOND, "welcome"), "10 s from the socket on"
        talk.advance(9.999_999)
        assert talk.waits(op)
        talk.advance(0.000_001)
        assert talk.error(op) == SignallingConnectError(1006, "no welcome came")
        assert talk.closes == [CloseLink(1, 4000, "no welcome came")]
        assert talk.state == "idle"

    def test_talk_ahead_of_the_welcome_is_no_welcome(self, talk: Conversation) -> None:
        op = talk.asks(Connect())
        talk.link_comes_up()
        talk.forget()
        talk.server({"type": "message", "channel": "c", "from": "p", "data": 1}, "nonsense", {"type": "welcome"})
        assert talk.told == []
        assert talk.session.counters.malformed_frames == 3
        assert [note.context["code"] for note in talk.notes] == ["early", "malformed_message"]
        talk.advance(10)
        assert talk.error(op) == SignallingConnectError(1006, "no welcome came")

    def test_without_reconnecting_it_is_the_same(self, converse: Converse) -> None:
        talk = converse(no_reconnect=True)
        op = talk.asks(Connect())
        talk.link_goes_down()
        assert talk.error(op) == SignallingConnectError(1006)
        assert talk.state == "idle"
        talk.connects()


class TestRetryFirst:
    def test_the_first_connect_climbs_the_same_ladder(self, converse: Converse) -> None:
        talk = converse(reconnect={"retry_first": True})
        op = talk.asks(Connect())
        waits = []
        for _ in range(4):
            talk.link_goes_down()
            assert talk.state == "connecting"
            assert talk.session.deadline is not None
            assert talk.session.deadline.why == "reconnect"
            waits.append(talk.until_woken())
        assert waits == [0.5, 1, 2, 4]
        assert talk.waits(op)
        talk.link_is_made()
        assert talk.error(op) is None
        assert [event for event in talk.told if isinstance(event, StateChange)] == [
            StateChange("idle", "connecting"),
            StateChange("connecting", "connected"),
        ]
        assert not talk.told[-1].is_reconnect

    def test_until_the_attempts_are_used_up(self, converse: Converse) -> None:
        talk = converse(reconnect={"retry_first": True, "max_attempts": 2})
        op = talk.asks(Connect())
        for _ in range(2):
            talk.link_goes_down()
            talk.until_woken()
        talk.link_goes_down(503, "down")
        assert talk.error(op) == SignallingConnectError(503, "down")
        assert talk.state == "idle"
        again = talk.asks(Connect())
        talk.link_goes_down()
        assert talk.waits(again)
        assert talk.until_woken() == 0.5, "from the bottom again"

    @pytest.mark.parametrize("code", [4001, 4002, 4003, 4012, 4020])
    def test_a_final_close_code_is_final(self, converse: Converse, code: int) -> None:
        talk = converse(reconnect={"retry_first": True})
        op = talk.asks(Connect())
        talk.link_comes_up()
        talk.link_goes_down(code)
        assert talk.error(op) == SignallingConnectError(code)
        assert talk.state == "idle"

    def test_token_failures_are_told_from_the_third_on(self, converse: Converse) -> None:
        talk = converse(api_key=None, reconnect={"retry_first": True})
        talk.asks(Connect())
        for count in range(1, 5):
            talk.token_fails(OSError(str(count)))
            talk.until_woken()
        told = [event for event in talk.told if isinstance(event, TokenProviderError)]
        assert [(event.consecutive_failures, str(event.err)) for event in told] == [(3, "3"), (4, "4")]


class TestWithTokens:
    def test_a_token_is_fetched_first(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        op = talk.asks(Connect())
        assert isinstance(talk.orders[-1], Begin)
        assert talk.opened == []
        assert talk.session.deadline == Deadline(10 * SECOND, "token")
        talk.token_comes("a token/+")
        assert talk.opened == [OpenLink(1, "wss://rms.metered.ca/v1?token=a%20token%2F%2B")]
        talk.link_is_made()
        assert talk.error(op) is None

    def test_asked_before_every_attempt(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        talk.asks(Connect())
        talk.token_comes("one")
        talk.link_goes_down()
        talk.asks(Connect())
        talk.token_comes("two")
        talk.link_comes_up()
        talk.welcome()
        talk.link_goes_down()
        talk.until_woken()
        talk.token_comes("three")
        talk.link_goes_down()
        talk.until_woken()
        talk.token_comes("four")
        assert [order.target.partition("=")[2] for order in talk.opened] == ["one", "two", "three", "four"]

    def test_it_fails(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        op = talk.asks(Connect())
        error = RuntimeError("the backend said eyJh.secret.sig")
        talk.token_fails(error)
        failure = talk.error(op)
        assert failure == SignallingConnectError(1006, "the token provider failed: RuntimeError")
        assert failure is not None
        assert failure.__cause__ is error
        assert "secret" not in str(failure)
        assert talk.state == "idle"

    @pytest.mark.parametrize("token", [None, 5, b"bytes", ["a"], {"token": "a"}])
    def test_a_token_is_a_str(self, converse: Converse, token: object) -> None:
        talk = converse(api_key=None)
        op = talk.asks(Connect())
        talk.token_comes(token)
        assert talk.error(op) == SignallingConnectError(1006, "the token provider failed: TypeError")
        assert talk.opened == []

    @pytest.mark.parametrize("token", ["", "a\ud800b"])
    def test_a_token_can_go_into_an_address(self, converse: Converse, token: str) -> None:
        talk = converse(api_key=None)
        op = talk.asks(Connect())
        talk.token_comes(token)
        assert talk.error(op) == SignallingConnectError(1006, "the token provider failed: ValueError")

    def test_it_takes_too_long(self, converse: Converse) -> None:
        talk = converse(api_key=None, token_provider_timeout=4.0)
        op = talk.asks(Connect())
        talk.advance(3.999_999)
        assert talk.waits(op)
        talk.advance(0.000_001)
        assert talk.error(op) == SignallingConnectError(1006, "the token provider failed: TimeoutError")
        assert [order for order in talk.orders if isinstance(order, Abandon)] == [Abandon(1)]
        talk.token_comes("late")
        assert talk.opened == []

    def test_the_third_failure_in_a_row_is_told_ahead_of_the_outcome(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        for count in (1, 2, 3):
            talk.forget()
            op = talk.asks(Connect())
            talk.token_fails(OSError(str(count)))
        assert [type(order).__name__ for order in talk.orders[3:]] == ["Tell", "Note", "Tell", "Note", "Answer"]
        assert isinstance(talk.error(op), SignallingConnectError)
        assert isinstance(talk.told[1], TokenProviderError)
        assert talk.told[1].consecutive_failures == 3

    def test_a_token_between_failures_starts_the_count_again(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        for step in ("fails", "fails", "comes", "fails", "fails"):
            talk.asks(Connect())
            if step == "fails":
                talk.token_fails()
            else:
                talk.token_comes()
                talk.link_goes_down()
        assert not [event for event in talk.told if isinstance(event, TokenProviderError)]


class TestConnectAtOtherTimes:
    def test_while_connected_it_is_true_already(self, online: Conversation) -> None:
        op = online.asks(Connect())
        assert online.orders == [Answer(op)]

    def test_while_connecting_it_joins_in(self, talk: Conversation) -> None:
        ops = [talk.asks(Connect()), talk.asks(Connect())]
        assert len(talk.opened) == 1
        talk.link_is_made()
        assert [talk.error(op) for op in ops] == [None, None]

    def test_while_reconnecting_it_waits_for_that(self, online: Conversation) -> None:
        online.link_goes_down()
        op = online.asks(Connect())
        assert online.waits(op)
        online.comes_back()
        assert online.error(op) is None

    def test_while_reconnecting_it_fails_with_that(self, online: Conversation) -> None:
        online.link_goes_down()
        op = online.asks(Connect())
        online.until_woken()
        online.link_goes_down(4012, "unpaid")
        assert online.error(op) == SignallingConnectError(4012, "unpaid")

    def test_when_closed_it_is_too_late(self, online: Conversation) -> None:
        online.asks(Close())
        assert online.error(online.asks(Connect())) == NotConnectedError("closed")


class TestCalledOff:
    """Nobody waits for the first connect any more."""

    @pytest.mark.parametrize("phase", ["fetching", "opening", "greeting", "waiting"])
    def test_in_each_phase(self, converse: Converse, phase: str) -> None:
        talk = converse(api_key=None, reconnect={"retry_first": True})
        op = talk.asks(Connect())
        if phase != "fetching":
            talk.token_comes()
        if phase in ("greeting", "waiting"):
            talk.link_comes_up()
        if phase == "waiting":
            talk.link_goes_down()
        assert talk.session._phase.name == phase
        talk.forget()
        talk.withdraws(op)
        let_go: dict[str, list[Any]] = {
            "fetching": [Abandon(1)],
            "opening": [CloseLink(1, 1000, "called off")],
            "greeting": [CloseLink(1, 1000, "called off")],
            "waiting": [],
        }
        assert talk.orders == [
            *let_go[phase],
            Note("info", "state", {"from": "connecting", "to": "idle"}),
            Tell(StateChange("connecting", "idle")),
        ]
        assert talk.session.deadline is None
        talk.connects()

    def test_not_while_somebody_else_waits(self, talk: Conversation) -> None:
        first, second = talk.asks(Connect()), talk.asks(Connect())
        talk.withdraws(first)
        assert talk.state == "connecting"
        talk.link_is_made()
        assert talk.error(second) is None

    def test_not_once_there_was_a_connection(self, online: Conversation) -> None:
        online.link_goes_down()
        op = online.asks(Connect())
        online.withdraws(op)
        assert online.state == "reconnecting"
        online.comes_back()

    def test_the_ladder_starts_at_the_bottom_again(self, converse: Converse) -> None:
        talk = converse(reconnect={"retry_first": True})
        op = talk.asks(Connect())
        for _ in range(3):
            talk.link_goes_down()
            talk.until_woken()
        talk.withdraws(op)
        talk.asks(Connect())
        talk.link_goes_down()
        assert talk.until_woken() == 0.5

    def test_without_reconnecting(self, converse: Converse) -> None:
        talk = converse(no_reconnect=True)
        talk.withdraws(talk.asks(Connect()))
        assert talk.state == "idle"


class TestClosing:
    @pytest.mark.parametrize("phase", ["idle", "fetching", "opening", "greeting", "waiting", "online"])
    def test_in_each_phase(self, converse: Converse, phase: str) -> None:
        talk = converse(api_key=None, reconnect={"retry_first": True})
        op = None
        if phase != "idle":
            op = talk.asks(Connect())
        if phase in ("opening", "greeting", "waiting", "online"):
            talk.token_comes()
        if phase in ("greeting", "waiting", "online"):
            talk.link_comes_up()
        if phase == "waiting":
            talk.link_goes_down()
        if phase == "online":
            talk.welcome()
        assert talk.session._phase.name == phase
        before = talk.state
        talk.forget()
        close = talk.asks(Close(3001, "bye"))
        let_go: dict[str, list[Any]] = {
            "fetching": [Abandon(1)],
            "opening": [CloseLink(1, 3001, "bye")],
            "greeting": [CloseLink(1, 3001, "bye")],
            "online": [CloseLink(1, 3001, "bye")],
        }
        waiting = [] if phase in ("idle", "online") else [Answer(op or 0, error=SignallingConnectError(3001, "bye"))]
        assert talk.orders == [
            *let_go.get(phase, []),
            Note("info", "state", {"from": before, "to": "closed"}),
            Tell(StateChange(before, "closed")),
            Tell(Disconnected(3001, "bye", will_reconnect=False)),
            *waiting,
            Answer(close),
        ]
        assert talk.state == "closed"

    def test_again_changes_nothing(self, online: Conversation) -> None:
        online.asks(Close())
        online.forget()
        op = online.asks(Close(4000, "again"))
        assert online.orders == [Answer(op)]

    def test_without_a_reason_a_waiting_connect_is_told_why(self, talk: Conversation) -> None:
        op = talk.asks(Connect())
        talk.asks(Close())
        assert talk.error(op) == SignallingConnectError(1000, "closed by the application")
