"""What the application sends, and what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from table_kit import each_row

from metered_proto.errors import (
    AckTimeoutError,
    DisconnectedError,
    MeteredPeerOversizedError,
    MeteredPeerSendError,
    OversizedPayloadError,
    ServerRequestError,
)
from metered_proto.events import Data

Converse = Callable[..., Any]


class TestSending:
    def test_to_everybody(self, joined: Any) -> None:
        op = joined.sends({"type": "chat"})
        assert joined.sent == [{"type": "publish", "channel": "room", "data": {"type": "chat"}, "requestId": str(op)}]
        assert joined.waits(op)
        joined.ack(joined.sent[-1])
        assert joined.error(op) is None

    def test_to_one(self, joined: Any) -> None:
        op = joined.sends_to("bob", "psst")
        assert joined.sent == [{"type": "send", "to": "bob", "data": "psst", "requestId": str(op)}]
        joined.ack(joined.sent[-1])
        assert joined.error(op) is None

    def test_several_of_them(self, joined: Any) -> None:
        ops = [joined.sends(number) for number in range(3)]
        joined.server(*({"type": "ack", "requestId": frame["requestId"]} for frame in joined.sent))
        assert [joined.error(op) for op in ops] == [None] * 3

    @each_row("state", ["idle", "joining", "reconnecting", "closed"])
    def test_not_before_and_not_after(self, state: str, converse: Converse) -> None:
        talk = converse()
        if state == "joining":
            talk.asks_to_join()
        elif state != "idle":
            talk.joins("bob")
            talk.link_goes_down(1006 if state == "reconnecting" else 4020)
        assert talk.state == state
        assert talk.error(talk.sends()) == MeteredPeerSendError("not_joined")
        assert talk.error(talk.sends_to("bob")) == MeteredPeerSendError("not_joined")

    def test_not_between_the_welcome_and_the_snapshot(self, talk: Any) -> None:
        talk.joins("bob")
        talk.link_goes_down()
        talk.until_woken()
        talk.gets_in()
        assert talk.error(talk.sends()) == MeteredPeerSendError("not_joined")

    def test_not_to_ourselves(self, joined: Any) -> None:
        assert joined.error(joined.sends_to("me")) == MeteredPeerSendError("self_send")

    @each_row("peer_id", ["", None, 7, "x" * 129, "b\u00f6b"])
    def test_not_to_what_is_no_id(self, peer_id: Any, converse: Converse) -> None:
        talk = converse()
        talk.joins()
        assert talk.error(talk.sends_to(peer_id)) == MeteredPeerSendError("invalid_args")
        assert not talk.requests("send")

    @each_row("size", [98, 99])
    def test_not_more_than_the_server_takes(self, size: int, converse: Converse) -> None:
        talk = converse()
        talk.joins("bob", maxMessageSize=100)
        for op in (talk.sends("x" * size), talk.sends_to("bob", "x" * size)):
            if size == 98:
                assert talk.waits(op)
            else:
                error = talk.error(op)
                assert error == MeteredPeerOversizedError(101, 100)
                assert isinstance(error, OversizedPayloadError)

    def test_what_the_server_says_to_it_is_raised_there(self, joined: Any) -> None:
        op = joined.sends_to("who")
        joined.refuse(joined.sent[-1], "peer_not_found")
        assert joined.error(op) == ServerRequestError("peer_not_found", "no", str(op))
        op = joined.sends()
        joined.refuse(joined.sent[-1], "action_not_permitted")
        assert joined.error(op) == ServerRequestError("action_not_permitted", "no", str(op))
        assert joined.state == "joined"
        assert joined.told == []

    def test_without_an_answer(self, joined: Any) -> None:
        op = joined.sends()
        joined.advance(15)
        assert joined.error(op) == AckTimeoutError(15.0)

    def test_lost_on_the_way(self, joined: Any) -> None:
        op = joined.sends()
        joined.link_goes_down(1001)
        assert joined.error(op) == DisconnectedError(1001)

    def test_nobody_waits_any_more(self, joined: Any) -> None:
        op = joined.sends()
        joined.withdraws(op)
        joined.ack(joined.sent[-1])
        assert op not in joined.answers

    @each_row(
        ("data", "warned"),
        [
            ({"type": "rtc-ice", "candidate": None}, True),
            ({"type": "rtc-description"}, True),
            ({"__meteredTrackMeta": 1}, True),
            ({"type": "chat", "text": "rtc-ice"}, False),
            ("__meteredTrackMeta", False),
            ({"type": "chat"}, False),
        ],
    )
    def test_what_has_the_shape_of_a_signal_is_sent_with_a_warning(
        self, data: Any, warned: bool, converse: Converse
    ) -> None:
        talk = converse()
        talk.joins("bob")
        talk.forget()
        talk.sends_to("bob", data)
        assert talk.sent[-1]["data"] == data
        assert bool([note for note in talk.notes if note.level == "warning"]) == warned

    def test_to_everybody_it_is_no_signal(self, joined: Any) -> None:
        joined.sends({"type": "rtc-ice", "candidate": None})
        assert not joined.notes


class TestReceiving:
    @pytest.fixture
    def bobs(self, talk: Any) -> Any:
        talk.joins("bob")
        talk.forget()
        return talk

    def test_from_everybody_to_everybody(self, bobs: Any) -> None:
        bobs.message("bob", {"text": "hi"}, fromMetadata={"name": "Bob"})
        assert bobs.told == [Data("bob", {"text": "hi"}, "broadcast", {"name": "Bob"})]

    def test_to_us_alone(self, bobs: Any) -> None:
        bobs.direct("bob", None)
        bobs.direct("bob", [1], fromMetadata={"name": "Bob"})
        assert bobs.told == [Data("bob", None, "direct", None), Data("bob", [1], "direct", {"name": "Bob"})]

    def test_our_own_words_are_no_news(self, bobs: Any) -> None:
        """Another socket of the same peer may have sent them."""
        bobs.message("me", 1)
        bobs.direct("me", 1)
        assert bobs.told == []
        assert bobs.room.counters.strangers == 0

    def test_strangers_are_not_heard(self, bobs: Any) -> None:
        bobs.message("who", 1)
        bobs.direct("who", 1)
        bobs.direct("who", {"type": "rtc-ice", "candidate": None})
        assert bobs.told == []
        assert bobs.room.counters.strangers == 3
        assert bobs.room.members == ("bob",)

    def test_who_has_left_is_a_stranger(self, bobs: Any) -> None:
        bobs.presence(left=("bob",))
        bobs.forget()
        bobs.message("bob", 1)
        assert bobs.told == []

    def test_messages_of_another_channel_are_not_ours(self, bobs: Any) -> None:
        bobs.message("bob", 1, channel="elsewhere")
        assert bobs.told == []

    def test_a_signal_is_no_data(self, bobs: Any) -> None:
        bobs.direct("bob", {"type": "rtc-ice", "candidate": None})
        assert bobs.told == []
        assert len(bobs.peer("bob").signals) == 1

    def test_a_broken_signal_is_no_data_either(self, bobs: Any) -> None:
        broken = (
            {"type": "rtc-ice"},
            {"type": "rtc-description", "description": 7},
            {"__meteredTrackMeta": []},
        )
        for data in broken:
            bobs.direct("bob", data)
        assert bobs.told == []
        assert bobs.peer("bob").signals == []
        assert bobs.room.counters.signals_malformed == 3
        assert [note.context["count"] for note in bobs.notes] == [1, 2]

    def test_what_is_sent_to_everybody_is_never_a_signal(self, bobs: Any) -> None:
        data = {"type": "rtc-ice", "candidate": None}
        bobs.message("bob", data)
        assert bobs.told == [Data("bob", data, "broadcast", None)]
        assert bobs.peer("bob").signals == []

    def test_several_at_once(self, bobs: Any) -> None:
        message = {"type": "message", "channel": "room", "from": "bob"}
        bobs.server(*({**message, "data": number} for number in range(3)))
        assert bobs.told == [Data("bob", number, "broadcast", None) for number in range(3)]

    def test_while_the_snapshot_is_waited_for(self, bobs: Any) -> None:
        bobs.link_goes_down()
        bobs.until_woken()
        bobs.gets_in()
        bobs.forget()
        bobs.direct("bob", 1)
        bobs.message("bob", 2)
        assert bobs.told == [Data("bob", 1, "direct", None), Data("bob", 2, "broadcast", None)]
