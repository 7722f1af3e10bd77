"""Whatever a remote sends over a connection that is up: nothing escapes, and the call goes on."""

from __future__ import annotations

import random
import socket
from struct import pack
from typing import Any

import anyio
import pytest
from aioice import stun
from aiortc.rtcsctptransport import DataChunk
from rtc_kit import PATIENCE, Picture, negotiate, shade_of, two_sides

from metered_anyio.rtc import private, private_ice, private_sctp
from metered_proto.rtc.words import AddCandidate, CandidateFailed, Described
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


class TestMessagesWithoutAnEnd:
    """A remote that sends pieces of messages, and never the last one."""

    async def flood(self, b: Any, a: Any, chunks: Any) -> int:
        """Have `b` get these chunks. How many does it hold in the end?"""
        sctp = b.engine.connection(b.pc).sctp
        await a.until(lambda: sctp.state == "connected")
        last = sctp._last_received_tsn
        for number, chunk in enumerate(chunks):
            chunk.tsn = (last + chunk.tsn + number) & 0xFFFFFFFF
            await sctp._receive_data_chunk(chunk)
        return sum(len(stream.reassembly) for stream in sctp._inbound_streams.values())

    def chunk(self, *, stream: int = 0, ahead: int = 1, size: int = 1, flags: int = 0) -> DataChunk:
        chunk = DataChunk(flags=flags)
        chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.protocol = ahead, stream, 0, 53
        chunk.user_data = bytes(size)
        return chunk

    @pytest.mark.parametrize(("chunks", "bytes"), [(50, 1 << 30), (1 << 30, 50_000)])
    async def test_are_not_kept_without_bound(self, chunks: int, bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(private_sctp, "HELD_CHUNKS", chunks)
        monkeypatch.setattr(private_sctp, "HELD_BYTES", bytes)
        async with two_sides() as (a, b):
            a.channel()
            await negotiate(a, b)
            pieces = [self.chunk(stream=number % 7, size=1000) for number in range(500)]
            assert await self.flood(b, a, pieces) <= 50

    async def test_must_not_come_before_their_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(private_sctp, "WINDOW", 100)
        async with two_sides() as (a, b):
            a.channel()
            await negotiate(a, b)
            whole = [self.chunk(ahead=2, flags=7) for _ in range(500)]  # unordered, complete, and one before is missing
            await self.flood(b, a, whole)
            assert len(b.engine.connection(b.pc).sctp._sack_misordered) <= 100

    async def test_do_not_count_when_they_end_after_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(private_sctp, "HELD_CHUNKS", 300)
        monkeypatch.setattr(private_sctp, "HELD_BYTES", 300_000)
        async with two_sides() as (a, b):
            channel = a.channel()
            await negotiate(a, b)
            got: list[Any] = []
            (await b.arrived()).on_message = got.append
            for number in range(300):
                channel.send(bytes([number % 256]) * 5000)
            await b.until(lambda: len(got) == 300)
            assert [message[0] for message in got] == [number % 256 for number in range(300)]


async def test_datagrams_of_strangers(tasks: Any) -> None:
    async with two_sides() as (a, b):
        a.add(Picture(160))
        await negotiate(a, b)
        await b.received("0").recv()
        (dtls,) = private.dtls_transports(b.engine.connection(b.pc))
        (protocol, *_) = private_ice.host_protocols(private.ice_connection(dtls))
        address = protocol.transport.get_extra_info("sockname")
        short = bytes.fromhex("000100102112a442644e9433") + bytes(8) + bytes.fromhex("000d000b") + bytes(12)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for packet in (short, b"", b"\x00", bytes(20), JUNK.randbytes(50), *packets()):
                stranger.sendto(packet, address[:2])
        with anyio.fail_after(PATIENCE):
            for _ in range(5):
                await b.received("0").recv()
    await tasks()


async def test_datagrams_before_there_is_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_ice, "DATAGRAMS", 10)
    async with two_sides() as (a, _):
        a.channel()
        await a.offer()
        (dtls,) = private.dtls_transports(a.engine.connection(a.pc))
        ice = private.ice_connection(dtls)
        (protocol, *_) = private_ice.host_protocols(ice)
        for _ in range(100):
            protocol.datagram_received(b"\x16" * 100, ("127.0.0.9", 5))
        assert ice._queue.qsize() == 10


async def test_checks_from_ever_new_addresses(monkeypatch: pytest.MonkeyPatch, tasks: Any) -> None:
    monkeypatch.setattr(private_ice, "ADDRESSES", 20)
    async with two_sides() as (a, b):
        a.add(Picture(160))
        await negotiate(a, b)
        await b.received("0").recv()
        (dtls,) = private.dtls_transports(b.engine.connection(b.pc))
        ice = private.ice_connection(dtls)
        (protocol, *_) = private_ice.host_protocols(ice)
        for port in range(1000, 1100):
            message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
            message.attributes["USERNAME"] = f"{ice.local_username}:{ice.remote_username}"
            message.attributes["ICE-CONTROLLING"] = message.attributes["PRIORITY"] = 1
            message.add_message_integrity(ice.local_password.encode())
            message.add_fingerprint()
            protocol.datagram_received(bytes(message), ("127.0.0.9", port))
        assert len(ice._remote_candidates) <= 20
        for _ in range(5):
            await b.received("0").recv()
    await tasks()


async def test_candidates_without_end(monkeypatch: pytest.MonkeyPatch, tasks: Any) -> None:
    monkeypatch.setattr("metered_anyio.rtc.remote_candidates.CANDIDATES", 10)
    monkeypatch.setattr("metered_anyio.rtc.mending.CANDIDATES_PER_NEGOTIATION", 10)
    line = "candidate:1 1 udp 1 127.0.0.1 {} typ host"
    async with two_sides() as (a, b):
        a.add(Picture())
        offer = await a.offer()
        many = "".join(f"a={line.format(port)}\r\n" for port in range(5000, 5100))
        answer = await b.answer(Described(offer.sdp + many, complete=False))
        for port in range(6000, 6100):
            b.order(AddCandidate(b.pc, Candidate(line.format(port), "0")))
        b.order(AddCandidate(b.pc, None))
        await a.take(answer)
        await b.up()
        (dtls,) = private.dtls_transports(b.engine.connection(b.pc))
        assert len(private.ice_connection(dtls).remote_candidates) <= 30
    await tasks()
