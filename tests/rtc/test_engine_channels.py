"""Data channels between two engines."""

from __future__ import annotations

from typing import Any

import pytest
from rtc_kit import Picture, negotiate, two_sides

from metered_anyio.rtc.channels import KEPT_MESSAGES
from metered_proto.errors import DataChannelClosedError
from metered_proto.rtc.words import ChannelClosed, ChannelOpened

pytestmark = pytest.mark.anyio


async def test_say_what_they_were_opened_with() -> None:
    async with two_sides() as (a, b):
        ours = a.channel("gemüse 🥕", ordered=False, max_retransmits=3, protocol="v1-ß")
        assert (ours.ready_state, ours.id, ours.buffered_amount) == ("connecting", None, 0)
        await negotiate(a, b)
        theirs = await b.arrived()
        await a.until(lambda: ours.ready_state == "open")
        for channel in (ours, theirs):
            assert channel.label == "gemüse 🥕"
            assert channel.protocol == "v1-ß"
            assert channel.ordered is False
            assert channel.max_retransmits == 3
            assert channel.max_packet_life_time is None
            assert isinstance(channel.id, int)
        assert [type(f) for f in a.facts if isinstance(f, ChannelOpened)] == [ChannelOpened]
        assert not [fact for fact in b.facts if isinstance(fact, ChannelOpened)]


async def test_carry_text_and_bytes_of_any_size_both_ways() -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        await negotiate(a, b)
        theirs = await b.arrived()
        await a.until(lambda: ours.ready_state == "open")
        sent = ["", b"", "ü🙂", b"\0\xff", "x" * 100_000, b"y" * 200_000]
        for channel, other in ((ours, theirs), (theirs, ours)):
            got: list[str | bytes] = []
            other.on_message = got.append
            for message in sent:
                channel.send(message)
            await a.until(lambda got=got: len(got) == len(sent))
            assert got == sent


async def test_keep_what_comes_before_anybody_listens() -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        await negotiate(a, b)
        theirs = await b.arrived()
        await a.until(lambda: ours.ready_state == "open")
        for number in range(KEPT_MESSAGES + 5):
            ours.send(str(number))
        await b.until(lambda: theirs.messages_lost == 5)
        got: list[str | bytes] = []
        theirs.on_message = got.append
        assert got == [str(number) for number in range(5, KEPT_MESSAGES + 5)]
        ours.send(b"z" * 100_000)
        await b.until(lambda: got[-1] == b"z" * 100_000)


async def test_tell_when_there_is_room_again() -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        drained: list[int] = []
        ours.on_drained = lambda: drained.append(ours.buffered_amount)
        await negotiate(a, b)
        await a.until(lambda: ours.ready_state == "open")
        ours.low_threshold = 50_000
        for _ in range(10):
            ours.send(b"x" * 30_000)
        assert ours.buffered_amount > 200_000
        await a.until(lambda: drained)
        assert len(drained) == 1
        assert drained[0] <= 50_000


async def test_refuse_what_cannot_be_sent() -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        with pytest.raises(DataChannelClosedError):
            ours.send("early")
        await negotiate(a, b)
        await a.until(lambda: ours.ready_state == "open")
        with pytest.raises(ValueError, match="at most 262144"):
            ours.send(b"x" * 262_145)
        ours.send(b"x" * 262_144)
        ours.close()
        with pytest.raises(DataChannelClosedError):
            ours.send("late")


@pytest.mark.parametrize("who", ["ours", "theirs"])
async def test_close_on_both_sides(who: str) -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        closed: list[str] = []
        ours.on_close = lambda: closed.append("ours")
        await negotiate(a, b)
        theirs = await b.arrived()
        theirs.on_close = lambda: closed.append("theirs")
        await a.until(lambda: ours.ready_state == "open")
        channel: Any = {"ours": ours, "theirs": theirs}[who]
        channel.close()
        channel.close()
        await a.until(lambda: len(closed) == 2)
        assert sorted(closed) == ["ours", "theirs"]
        assert [f.channel for f in a.facts if isinstance(f, ChannelClosed)] == [ours.number]
        assert "closed" not in a.states


async def test_one_that_is_not_open_yet_moves_to_another_connection() -> None:
    async with two_sides() as (a, b):
        ours = a.channel("moved")
        await a.offer()
        a.close()
        assert ours.ready_state == "connecting"
        a.open()
        a.order(type_of_open(a, ours))
        await negotiate(a, b)
        assert (await b.arrived()).label == "moved"
        await a.until(lambda: ours.ready_state == "open")
        a.close()
        assert ours.ready_state == "closed"


async def test_one_that_is_not_open_yet_can_be_closed() -> None:
    async with two_sides() as (a, _):
        bound, unbound = a.channel(), a.channel()
        bound.close()
        assert bound.ready_state == "closed"
        a.close()
        unbound.close()
        assert unbound.ready_state == "closed"
        assert [f.channel for f in a.facts if isinstance(f, ChannelClosed)] == [bound.number, unbound.number]


async def test_an_offer_without_them_needs_another() -> None:
    async with two_sides() as (a, b):
        a.add(Picture())
        channel = b.channel()
        _, answer = await negotiate(a, b)
        assert answer.unfitted
        await negotiate(b, a)
        await b.until(lambda: channel.ready_state == "open")
        _, answer = await negotiate(a, b)
        assert not answer.unfitted


async def test_come_with_a_wish_to_receive() -> None:
    async with two_sides() as (a, b):
        channel = b.channel()
        _, answer = await negotiate(a, b, receive=("application",))
        assert not answer.unfitted
        await b.until(lambda: channel.ready_state == "open")


async def test_all_end_with_their_connection() -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        await negotiate(a, b)
        theirs = await b.arrived()
        await a.until(lambda: ours.ready_state == "open")
        a.close()
        assert ours.ready_state == "closed"
        await b.until(lambda: theirs.ready_state == "closed")


async def test_a_message_that_is_no_text_is_dropped() -> None:
    async with two_sides() as (a, b):
        ours = a.channel()
        await negotiate(a, b)
        theirs = await b.arrived()
        got: list[str | bytes] = []
        theirs.on_message = got.append
        await a.until(lambda: ours.ready_state == "open")
        sctp = a.engine.connection(a.pc).sctp
        await sctp._send(ours.id, 51, b"\xff\xfe")  # a WebRTC string
        ours.send("fine")
        await b.until(lambda: got == ["fine"])
        assert "closed" not in b.states


async def test_one_for_a_connection_that_the_remote_has_closed_waits_for_the_next() -> None:
    async with two_sides() as (a, b):
        a.add(Picture())
        await negotiate(a, b)
        await a.up()
        await b.up()
        a.close()
        await b.until(lambda: "closed" in b.states)
        channel = b.channel()
        assert channel.ready_state == "connecting"


async def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.rtc.connection.CHANNELS", 2)
    async with two_sides() as (a, b):
        ours = [a.channel(str(number)) for number in range(4)]
        await negotiate(a, b)
        await a.until(lambda: sorted(channel.ready_state for channel in ours) == ["closed", "closed", "open", "open"])


def type_of_open(side: Any, channel: Any) -> Any:
    from metered_proto.rtc.words import ChannelOptions, OpenChannel

    return OpenChannel(side.pc, channel.number, ChannelOptions(channel.label))
