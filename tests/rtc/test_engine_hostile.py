"""Whatever a remote sends over a connection that is up: nothing escapes, and the call goes on."""

from __future__ import annotations

import random
from struct import pack
from typing import Any

import pytest
from rtc_kit import Picture, negotiate, shade_of, two_sides

from metered_anyio.rtc import private
from metered_proto.rtc.words import AddCandidate, CandidateFailed
from metered_proto.wire.signals import Candidate

pytestmark = pytest.mark.anyio

JUNK = random.Random(7)


def packets() -> list[bytes]:
    """RTP and RTCP headers with anything behind them."""
    out = []
    for size in (0, 1, 4, 20, 200):
        rest = JUNK.randbytes(size)
        for second in (97, 0x80 | 97, 200, 201, 202, 203, 205, 206, 207):
            out.append(pack("!BBHLL", 0x90, second, JUNK.getrandbits(16), JUNK.getrandbits(32), 5) + rest)
            out.append(pack("!BB", 0x81, second) + rest)
    return out


async def test_packets_that_are_none(tasks: Any) -> None:
    async with two_sides() as (a, b):
        a.add(Picture(160))
        channel = a.channel()
        await negotiate(a, b)
        await a.until(lambda: channel.ready_state == "open")
        await b.received("0").recv()
        (dtls,) = private.dtls_transports(a.engine.connection(a.pc))
        (theirs,) = private.dtls_transports(b.engine.connection(b.pc))
        for packet in packets():  # as if they came out of SRTP, which would not send such
            await theirs._handle_rtp_data(packet, arrival_time_ms=0)
            await theirs._handle_rtcp_data(packet)
        for size in (1, 12, 16, 40, 400):
            await dtls._send_data(JUNK.randbytes(size))
        for payload in (b"", b"\x03", b"\x03" + bytes(11), b"\x02", b"\x03" * 12, b"\xff" * 30):
            await a.engine.connection(a.pc).sctp._send(9, 50, payload or b"\0")
        for _ in range(10):
            assert shade_of(await b.received("0").recv()) == pytest.approx(160, abs=6)
        channel.send("still there")
        got: list[Any] = []
        (await b.arrived()).on_message = got.append
        await b.until(lambda: "still there" in got)
        assert b.states == ["connecting", "connected"]
    await tasks()


async def test_sources_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.rtc.private.SOURCES", 10)
    async with two_sides() as (a, b):
        a.add(Picture(160))
        await negotiate(a, b)
        await b.received("0").recv()
        (ours,) = private.dtls_transports(a.engine.connection(a.pc))
        (theirs,) = private.dtls_transports(b.engine.connection(b.pc))
        for number in range(50):
            await ours._send_rtp(pack("!BBHLL", 0x80, 97, number, 0, 1000 + number) + b"\x10\x02")
        for _ in range(5):
            await b.received("0").recv()
        assert len(theirs._rtp_router.ssrc_table) <= 10


@pytest.mark.parametrize(
    "text",
    [
        "",
        "candidate:",
        "candidate:1 1 udp x 1.2.3.4 5 typ host",
        "candidate:1 1 udp 1 host.example 5 typ host",
        "candidate:1 1 tcp 1 1.2.3.4 5 typ host",
        "candidate:1 99 udp 1 1.2.3.4 5 typ host",
        "candidate:1 1 udp 1 1.2.3.4 99999999 typ martian",
    ],
)
async def test_candidates_that_are_none(text: str, tasks: Any) -> None:
    async with two_sides() as (a, b):
        a.add(Picture())
        a.order(AddCandidate(a.pc, Candidate(text, "0")))  # too early
        offer = await a.offer()
        answer = await b.answer(offer)
        b.order(AddCandidate(b.pc, Candidate(text, "0")))
        await a.take(answer)
        a.order(AddCandidate(a.pc, Candidate(text, "0")))
        a.order(AddCandidate(a.pc, None))
        a.order(AddCandidate(a.pc, None))
        await a.up()
        assert all("1.2.3.4" not in str(fact) for fact in a.facts if isinstance(fact, CandidateFailed))
    await tasks()
