"""A connection that was lost: what the close code decides, how long to wait, and what comes back with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.client.calls import Close, Connect
from metered_proto.errors import DisconnectedError
from metered_proto.events import (
    Connected,
    Disconnected,
    GoingAway,
    IceServer,
    ServerError,
    StateChange,
    TokenProviderError,
)
from metered_proto.facts import EffectDone, Heard, LinkDown, LinkUp, Received
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Answer, CloseLink, Note, OpenLink, Tell
from metered_proto.wire.close_codes import WsCloseCode, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]


class TestLostAndBack:
    def test_it_goes_like_this(self, online: Conversation) -> None:
        online.advance(1)
        op = online.publishes()
        online.forget()

        online.link_goes_down(1006, "reset")
        assert online.orders == [
            Answer(op, error=DisconnectedError(1006, "reset")),
            Note("info", "state", {"from": "connected", "to": "reconnecting"}),
            Tell(StateChange("connected", "reconnecting")),
            Note("warning", "connection lost", {"code": 1006, "reason": "reset"}),
            Tell(Disconnected(1006, "reset", will_reconnect=True)),
        ]
        assert online.session.deadline == Deadline(online.now + SECOND // 2, "reconnect")

        online.forget()
        online.until_woken()
        assert [type(order) for order in online.orders] == [OpenLink]
        assert online.opened[0].link == 2

        online.forget()
        online.link_comes_up()
        online.welcome(peerId="somebody new")
        assert online.told == [
            StateChange("reconnecting", "connected"),
            Connected("somebody new", 1_700_000_000_000, None, True, 65_536, ()),
        ]
        assert online.session.peer_id == "somebody new"
        assert (online.session.counters.connects, online.session.counters.reconnects) == (2, 1)

    def test_a_failed_attempt_is_noted_and_not_told(self, online: Conversation) -> None:
        online.link_goes_down()
        online.until_woken()
        online.forget()
        online.link_goes_down(503, "unavailable")
        assert online.orders == [Note("warning", "attempt failed", {"code": 503, "reason": "unavailable"})]

    def test_the_ladder_is_climbed_and_a_connection_that_lasts_starts_it_again(self, online: Conversation) -> None:
        waits = []
        for _ in range(8):
            online.link_goes_down()
            waits.append(online.until_woken())
        assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
        online.link_is_made()
        online.advance(10)
        online.link_goes_down()
        assert online.until_woken() == 0.5

    def test_a_server_that_lets_everybody_in_to_fall_down_again_is_not_run_against(self, online: Conversation) -> None:
        online.advance(10)
        waits = []
        for _ in range(7):
            online.link_goes_down(1006)
            waits.append(online.until_woken())
            online.link_is_made()
            online.advance(9.999)
        assert waits == [0.5, 1, 2, 4, 8, 16, 30]

    def test_such_connections_do_not_count_as_failed_attempts(self, converse: Converse) -> None:
        talk = converse(reconnect={"max_attempts": 2})
        talk.connects()
        for _ in range(5):
            talk.link_goes_down()
            talk.comes_back()
        assert talk.state == "connected"

    def test_a_link_without_a_welcome_does_not_start_it_again(self, online: Conversation) -> None:
        waits = []
        for _ in range(3):
            online.link_goes_down()
            waits.append(online.until_woken())
            online.link_comes_up()
        assert waits == [0.5, 1, 2]

    def test_the_delays_are_jittered(self, converse: Converse) -> None:
        waits = set()
        for seed in range(30):
            talk = converse(seed=seed, reconnect={"jitter_ratio": 0.2})
            talk.connects()
            talk.link_goes_down()
            waits.add(talk.until_woken())
        assert len(waits) > 25
        assert all(0.4 <= wait <= 0.6 for wait in waits)

    def test_no_welcome_on_a_reconnect(self, online: Conversation) -> None:
        online.link_goes_down()
        online.until_woken()
        online.link_comes_up()
        online.advance(10)
        assert online.closes == [CloseLink(2, 4000, "no welcome came")]
        assert online.state == "reconnecting"
        assert online.session.deadline is not None
        assert online.session.deadline.why == "reconnect"

    def test_the_link_does_not_open_in_time_on_a_reconnect(self, online: Conversation) -> None:
        online.link_goes_down()
        online.until_woken()
        online.advance(10)
        assert online.closes == [CloseLink(2, 1006, abort=True)]
        assert online.until_woken() == 1


class TestTheEnd:
    """Every terminal exit says `Disconnected(will_reconnect=False)`, and then nothing more."""

    def test_attempts_used_up(self, converse: Converse) -> None:
        talk = converse(reconnect={"max_attempts": 3})
        talk.connects()
        for _ in range(3):
            talk.link_goes_down()
            talk.until_woken()
        assert [order.link for order in talk.opened] == [1, 2, 3, 4]
        talk.forget()
        talk.link_goes_down(503, "full")
        assert talk.orders == [
            Note("info", "state", {"from": "reconnecting", "to": "closed"}),
            Tell(StateChange("reconnecting", "closed")),
            Note("error", "disconnected for good", {"code": 503, "reason": "full"}),
            Tell(Disconnected(503, "full", will_reconnect=False)),
        ]

    def test_infinite_attempts_are_never_used_up(self, converse: Converse) -> None:
        talk = converse(reconnect={"max_attempts": math.inf})
        talk.connects()
        for _ in range(300):
            talk.link_goes_down()
            talk.until_woken()
        assert talk.state == "reconnecting"

    def test_reconnect_turned_off(self, converse: Converse) -> None:
        talk = converse(no_reconnect=True)
        talk.connects()
        op = talk.publishes()
        talk.link_goes_down(1001, "bye")
        assert talk.state == "closed"
        assert talk.error(op) == DisconnectedError(1001, "bye")
        assert talk.told[-1] == Disconnected(1001, "bye", will_reconnect=False)

    def test_the_last_token_failure_is_told_ahead_of_it(self, converse: Converse) -> None:
        talk = converse(api_key=None, reconnect={"max_attempts": 3})
        talk.connects()
        talk.link_goes_down()
        for _ in range(3):
            talk.until_woken()
            talk.token_fails()
        assert [type(event).__name__ for event in talk.told[-3:]] == [
            "TokenProviderError",
            "StateChange",
            "Disconnected",
        ]
        assert talk.told[-1] == Disconnected(1006, "the token provider failed: OSError", will_reconnect=False)

    def test_nothing_is_listened_to_any_more(self, online: Conversation) -> None:
        online.subscribed()
        assert online.session.channels == ("room",)
        online.link_goes_down(4020)
        assert online.session.channels == ()


def lost_with(converse: Converse, code: int, *, api_key: str | None) -> Conversation:
    talk = converse(api_key=api_key)
    talk.connects()
    talk.forget()
    talk.link_goes_down(code, "why")
    return talk


class TestCloseCodes:
    """Each row of the protocol's table, with a key and with a token provider."""

    CLIENT = {
        WsCloseCode.NORMAL: "reconnect",
        WsCloseCode.GOING_AWAY: "reconnect",
        WsCloseCode.ABNORMAL: "reconnect",
        WsCloseCode.POLICY_VIOLATION: "reconnect",
        WsCloseCode.MESSAGE_TOO_BIG: "reconnect",
        WsCloseCode.INACTIVITY: "reconnect",
        WsCloseCode.INVALID_TOKEN: "stop",
        WsCloseCode.TOKEN_EXPIRED: "reconnect with a fresh token, stop with a key",
        WsCloseCode.CHANNEL_NOT_AUTHORIZED: "stop",
        WsCloseCode.CONCURRENT_LIMIT: "reconnect",
        WsCloseCode.MESSAGE_RATE: "reconnect",
        WsCloseCode.ACCOUNT_SUSPENDED: "stop",
        WsCloseCode.ADMIN_DISCONNECT: "stop",
    }

    def test_every_code_is_here(self) -> None:
        assert set(self.CLIENT) == set(WsCloseCode)

    @each_row("code", CLIENT, ids=lambda code: f"{code} {code.name}")
    @each_row("api_key", ["pk_live_q7Wd0aZtNw5xKfB3", None], ids=["key", "provider"])
    def test_what_the_client_does(self, converse: Converse, code: WsCloseCode, api_key: str | None) -> None:
        talk = lost_with(converse, code, api_key=api_key)
        comes_back = self.CLIENT[code] == "reconnect" or ("fresh" in self.CLIENT[code] and api_key is None)
        assert talk.told[-1] == Disconnected(code, "why", will_reconnect=comes_back)
        assert talk.state == ("reconnecting" if comes_back else "closed")
        if comes_back:
            talk.comes_back()

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503])
    def test_an_http_status_is_read_as_a_close_code(self, online: Conversation, status: int) -> None:
        online.link_goes_down()
        online.until_woken()
        online.link_goes_down(status)
        assert online.state == "reconnecting"

    def test_4002_with_a_provider_asks_for_a_fresh_token(self, converse: Converse) -> None:
        talk = lost_with(converse, 4002, api_key=None)
        talk.until_woken()
        talk.token_comes("another")
        assert talk.opened[-1].target.endswith("?token=another")

    def test_4010_waits_at_least_30_s(self, online: Conversation) -> None:
        online.link_goes_down(4010)
        assert online.until_woken() == 30
        online.link_goes_down(1006)
        assert online.until_woken() == 1, "the first delay only"

    def test_4010_is_spread(self, converse: Converse) -> None:
        waits = set()
        for seed in range(30):
            talk = converse(seed=seed, reconnect={"jitter_ratio": 0.2})
            talk.connects()
            talk.link_goes_down(4010)
            waits.add(talk.until_woken())
        assert len(waits) > 25
        assert all(30 <= wait <= 36 for wait in waits)

    @given(code=st.integers(0, 9999) | st.sampled_from(WsCloseCode), api_key=st.sampled_from(["pk_live_x", None]))
    def test_any_code_is_ruled_by_its_verdict(self, converse: Converse, code: int, api_key: str | None) -> None:
        ruling = verdict(code, can_refresh=api_key is None)
        talk = lost_with(converse, code, api_key=api_key)
        assert talk.told[-1] == Disconnected(code, "why", will_reconnect=ruling.reconnect)
        if ruling.reconnect:
            assert talk.session.deadline == Deadline(max(SECOND // 2, ruling.min_delay), "reconnect")
        else:
            assert talk.state == "closed"


class TestGoingAway:
    def test_told_and_not_back_before(self, online: Conversation) -> None:
        online.server({"type": "going_away", "retryAfterMs": 5000})
        assert online.told == [GoingAway(5000)]
        assert online.state == "connected"
        online.advance(1)
        online.link_goes_down(1001)
        assert online.until_woken() == 4, "5 s from when it was said"

    def test_it_holds_for_every_attempt_until_then(self, online: Conversation) -> None:
        online.server({"type": "going_away", "retryAfterMs": 5000})
        online.link_goes_down(1001)
        assert online.until_woken() == 5
        online.link_goes_down()
        assert online.until_woken() == 1

    def test_a_welcome_ends_it(self, online: Conversation) -> None:
        online.server({"type": "going_away", "retryAfterMs": 60_000})
        online.link_goes_down(1001)
        online.comes_back()
        online.advance(10)
        online.link_goes_down()
        assert online.until_woken() == 0.5

    def test_the_ladders_own_delay_counts_when_it_is_longer(self, online: Conversation) -> None:
        online.server({"type": "going_away", "retryAfterMs": 100})
        online.link_goes_down(1001)
        assert online.until_woken() == 0.5

    def test_a_fleet_comes_back_spread(self, converse: Converse) -> None:
        waits = set()
        for seed in range(30):
            talk = converse(seed=seed, reconnect={"jitter_ratio": 0.2})
            talk.connects()
            talk.server({"type": "going_away", "retryAfterMs": 10_000})
            talk.link_goes_down(1001)
            waits.add(talk.until_woken())
        assert len(waits) > 25
        assert all(10 <= wait <= 12 for wait in waits)

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("0", 0),
            ("-5", 0),
            ("-1e308", 0),
            ("1500.5", 1500),
            ("600000", 600_000),
            ("600001", 600_000),
            ("1e308", 600_000),
            ("99999999999999999999999999", 600_000),
            ('"soon"', 0),
            ("null", 0),
            ("true", 0),
        ],
    )
    def test_it_is_clamped_to_ten_minutes(self, online: Conversation, said: str, told: int) -> None:
        online.server('{"type":"going_away","retryAfterMs":' + said + "}")
        assert online.told == [GoingAway(told)]
        online.link_goes_down(1001)
        assert online.until_woken() == pytest.approx(max(0.5, told / 1000), abs=0.001)

    def test_without_a_time(self, online: Conversation) -> None:
        online.server({"type": "going_away"})
        assert online.told == [GoingAway(0)]

    def test_the_latest_counts(self, online: Conversation) -> None:
        online.server({"type": "going_away", "retryAfterMs": 60_000}, {"type": "going_away", "retryAfterMs": 1000})
        online.link_goes_down(1001)
        assert online.until_woken() == 1


class TestTokensOnAReconnect:
    def test_a_failure_counts_as_a_failed_attempt(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        talk.connects()
        talk.link_goes_down()
        waits = []
        for _ in range(4):
            waits.append(talk.until_woken())
            talk.token_fails()
        assert waits == [0.5, 1, 2, 4]

    def test_from_the_third_in_a_row_the_application_is_told_of_each(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        talk.connects()
        talk.link_goes_down()
        errors = [OSError(str(count)) for count in range(5)]
        talk.forget()
        for error in errors:
            talk.until_woken()
            talk.token_fails(error)
        assert talk.told == [
            TokenProviderError(3, errors[2]),
            TokenProviderError(4, errors[3]),
            TokenProviderError(5, errors[4]),
        ]

    def test_time_running_out_and_wrong_types_count(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        talk.connects()
        talk.link_goes_down()
        talk.forget()
        talk.until_woken()
        talk.until_woken()  # the token did not come in time
        talk.until_woken()
        talk.token_comes(None)
        talk.until_woken()
        talk.token_comes("")
        assert [(event.consecutive_failures, type(event.err)) for event in talk.told] == [(3, ValueError)]

    def test_a_token_that_comes_late_is_not_used(self, converse: Converse) -> None:
        talk = converse(api_key=None)
        talk.connects()
        talk.link_goes_down()
        talk.until_woken()
        late = talk.effect
        talk.until_woken()
        talk.until_woken()
        talk.forget()
        talk.give(EffectDone(late, "late"))
        assert talk.orders == []
        talk.token_comes()
        assert len(talk.opened) == 1


class TestKeepalive:
    def test_silence_pings_twice_and_closes_with_4000(self, online: Conversation) -> None:
        op = online.publishes()
        online.forget()
        assert online.session.deadline == Deadline(15 * SECOND, "ack")
        online.ack(op)
        online.advance(19.999_999)
        assert online.sent == []
        online.advance(0.000_001)
        assert online.sent == [{"type": "ping"}]
        online.advance(20)
        assert online.sent == [{"type": "ping"}] * 2
        online.forget()
        online.advance(20)
        assert online.closes == [CloseLink(1, 4000, "nothing arrived in time")]
        assert online.told == [
            StateChange("connected", "reconnecting"),
            Disconnected(4000, "nothing arrived in time", will_reconnect=True),
        ]
        online.comes_back()

    def test_whoever_waits_for_an_answer_is_told(self, converse: Converse) -> None:
        talk = converse(inactivity_timeout=9.0)
        talk.connects()
        op = talk.publishes()
        talk.advance(9)
        assert talk.error(op) == DisconnectedError(4000, "nothing arrived in time")

    @pytest.mark.parametrize("sign", ["pong frame", "websocket pong", "message", "nonsense", "binary"])
    def test_any_sign_of_life_will_do(self, online: Conversation, sign: str) -> None:
        for _ in range(5):
            online.advance(50)
            match sign:
                case "pong frame":
                    online.server({"type": "pong"})
                case "websocket pong":
                    online.pong()
                case "message":
                    online.server({"type": "message", "channel": "c", "from": "p", "data": 1})
                case "nonsense":
                    online.server("nonsense")
                case _:
                    online.server(b"\x00")
        assert online.state == "connected"

    def test_an_older_server_does_not_know_the_ping(self, online: Conversation) -> None:
        online.advance(20)
        online.forget()
        online.refuse(None, "unknown_type")
        assert online.orders == []
        online.advance(59)
        assert online.state == "connected"

    @pytest.mark.parametrize("timeout", [0, -1, math.inf])
    def test_turned_off(self, converse: Converse, timeout: float) -> None:
        talk = converse(inactivity_timeout=timeout)
        talk.connects()
        talk.forget()
        assert talk.session.deadline is None
        talk.advance(1e6)
        assert talk.orders == []

    def test_after_a_long_sleep_the_connection_is_replaced_at_once(self, online: Conversation) -> None:
        online.subscribed()
        op = online.publishes()
        online.sleeps(8 * 3600)
        assert isinstance(online.error(op), Exception)
        assert online.closes[-1].code == 4000
        online.comes_back()
        assert online.sent[-1]["channel"] == "room"


class TestRestoring:
    def test_all_subscriptions_are_replayed(self, online: Conversation) -> None:
        online.subscribed("a", include_sender_metadata=True)
        online.subscribed("b*")
        online.link_goes_down()
        assert online.session.channels == ("a", "b*")
        online.forget()
        online.comes_back()
        assert online.sent == [
            {"type": "subscribe", "channel": "a", "includeSenderMetadata": True, "requestId": "s3"},
            {"type": "subscribe", "channel": "b*", "requestId": "s4"},
        ]
        online.ack("s3")
        online.ack("s4")
        assert online.session.deadline is not None
        assert online.session.deadline.why == "ping"

    def test_connected_is_told_before_they_go_out(self, online: Conversation) -> None:
        online.subscribed()
        online.link_goes_down()
        online.until_woken()
        op = online.asks(Connect())
        online.link_comes_up()
        online.forget()
        online.welcome()
        kinds = [type(order).__name__ for order in online.orders]
        assert kinds == ["Note", "Tell", "Tell", "Send", "Answer"]
        assert online.orders[-1] == Answer(op)

    def test_not_with_auto_resubscribe_off(self, converse: Converse) -> None:
        talk = converse(auto_resubscribe=False)
        talk.connects()
        talk.subscribed()
        talk.link_goes_down()
        assert talk.session.channels == ()
        talk.forget()
        talk.comes_back()
        assert talk.sent == []

    def test_a_failed_replay_is_tried_three_more_times_two_seconds_apart(self, online: Conversation) -> None:
        online.subscribed()
        online.link_goes_down()
        online.comes_back()
        for _ in range(3):
            online.refuse(online.sent[-1]["requestId"], "backend_error")
            online.forget()
            online.advance(1.999_999)
            assert online.sent == []
            online.advance(0.000_001)
            assert [frame["type"] for frame in online.sent] == ["subscribe"]
        online.refuse(online.sent[-1]["requestId"], "backend_error")
        assert online.told == [
            ServerError("backend_error", "could not restore the subscription to room", online.sent[-1]["requestId"])
        ]
        online.forget()
        online.advance(15)
        assert online.sent == []
        assert online.state == "connected"
        online.link_goes_down()
        online.comes_back()
        assert [frame["channel"] for frame in online.sent] == ["room"], "a new connection, a new chance"

    def test_an_unsubscribe_in_between_cancels_it(self, online: Conversation) -> None:
        online.subscribed()
        online.link_goes_down()
        online.comes_back()
        online.refuse(online.sent[-1]["requestId"], "backend_error")
        online.ack(online.unsubscribes())
        online.forget()
        online.advance(10)
        assert online.sent == []
        assert online.session.channels == ()

    def test_a_subscribe_in_between_takes_its_place(self, online: Conversation) -> None:
        online.subscribed()
        online.link_goes_down()
        online.comes_back()
        online.refuse(online.sent[-1]["requestId"], "backend_error")
        online.subscribed()
        online.forget()
        online.advance(10)
        assert online.sent == []
        assert online.session.channels == ("room",)

    def test_an_unsubscribe_without_a_connection_is_not_forgotten(self, online: Conversation) -> None:
        online.subscribed("a")
        online.subscribed("b")
        online.link_goes_down()
        online.unsubscribes("a")
        online.forget()
        online.comes_back()
        assert [frame["channel"] for frame in online.sent] == ["b"]

    def test_a_subscribe_that_was_not_answered_in_time_is_restored(self, online: Conversation) -> None:
        online.subscribes()
        online.advance(15)
        online.link_goes_down()
        online.forget()
        online.comes_back()
        assert [frame["channel"] for frame in online.sent] == ["room"]

    def test_ice_servers_stay_where_a_reconnect_brings_none(self, converse: Converse) -> None:
        talk = converse()
        servers = [{"urls": "turn:t.example", "username": "u", "credential": "c"}]
        talk.connects(metadata={"iceServers": servers})
        kept = (IceServer(("turn:t.example",), "u", "c"),)
        assert talk.told[-1].ice_servers == talk.session.ice_servers == kept
        for metadata in (None, {}, {"iceServers": []}, {"iceServers": [{"urls": "http://no.example"}]}):
            talk.link_goes_down()
            talk.comes_back(metadata=metadata)
            assert talk.told[-1].ice_servers == kept
        talk.link_goes_down()
        talk.comes_back(metadata={"iceServers": [{"urls": ["stun:s.example:3478"]}]})
        assert talk.told[-1].ice_servers == (IceServer(("stun:s.example:3478",)),)


class TestStaleLinks:
    """Whatever is heard of a link that is no longer ours changes nothing, in each phase."""

    @pytest.mark.parametrize("phase", ["fetching", "opening", "greeting", "online", "waiting", "closed"])
    def test_in_each_phase(self, converse: Converse, phase: str) -> None:
        talk = converse(api_key=None)
        talk.connects()
        talk.link_goes_down()
        if phase == "closed":
            talk.asks(Close())
        elif phase != "waiting":
            talk.until_woken()
        if phase in ("opening", "greeting", "online"):
            talk.token_comes()
        if phase in ("greeting", "online"):
            talk.link_comes_up()
        if phase == "online":
            talk.welcome()
        assert talk.session._phase.name == phase
        due = talk.session.deadline
        talk.now += 1000
        talk.forget()
        for link in (1, 99):
            talk.give(LinkUp(link))
            talk.give(Received(link, ['{"type":"welcome","peerId":"ghost"}', "nonsense"]))
            talk.give(Heard(link))
            talk.give(LinkDown(link, 4001, "ghost"))
        talk.give(EffectDone(1, "stale"))
        talk.give(EffectDone(99, error=OSError()))
        assert talk.orders == []
        assert talk.session._phase.name == phase
        assert talk.session.deadline == due
        assert talk.session.peer_id == "me"
        assert talk.session.counters.malformed_frames == 0

    def test_a_link_comes_up_once(self, talk: Conversation) -> None:
        talk.asks(Connect())
        talk.link_comes_up()
        due = talk.session.deadline
        talk.now += 1000
        talk.give(LinkUp(1))
        assert talk.session.deadline == due
