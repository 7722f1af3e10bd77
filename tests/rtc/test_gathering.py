"""STUN and TURN servers that answer, that refuse and that say nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aioice import stun
from rtc_kit import Picture, Side, negotiate, two_sides

from metered_proto.events import IceServer
from metered_proto.rtc.words import CandidateFailed, CandidateGathered, Described
from metered_proto.wire.sdp import read_sdp
from testbed import MissingError
from testbed.turn_server import TurnServer

pytestmark = pytest.mark.anyio

OUTSIDE = ("203.0.113.9", 4321)


class StunServer(asyncio.DatagramProtocol):
    """Tells everybody that they look like `OUTSIDE`; or nothing, if `silent`."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        if not self.silent:
            request = stun.parse_message(data)
            response = stun.Message(
                message_method=stun.Method.BINDING,
                message_class=stun.Class.RESPONSE,
                transaction_id=request.transaction_id,
            )
            response.attributes["XOR-MAPPED-ADDRESS"] = OUTSIDE
            self.transport.sendto(bytes(response), address)


@asynccontextmanager
async def stun_server(*, silent: bool = False) -> AsyncIterator[tuple[StunServer, IceServer]]:
    loop = asyncio.get_running_loop()
    server = StunServer(silent=silent)
    transport, _ = await loop.create_datagram_endpoint(lambda: server, ("127.0.0.1", 0))
    try:
        yield server, IceServer((f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}",))
    finally:
        transport.close()
        await asyncio.sleep(0)


def gathered(side: Side) -> list[Any]:
    return [fact.candidate for fact in side.facts if isinstance(fact, CandidateGathered)]


def has_end(described: Described) -> bool:
    return any(section.end_of_candidates for section in read_sdp(described.sdp).media)


async def test_what_a_stun_server_says_comes_after_the_description() -> None:
    async with stun_server() as (_, server), two_sides() as (a, b):
        a.open((server,))
        a.add(Picture())
        offer, answer = await negotiate(a, b)
        assert not offer.complete
        assert not has_end(offer)
        assert read_sdp(offer.sdp).trickle
        assert answer.complete
        assert has_end(answer)
        await a.until(lambda: gathered(a) and gathered(a)[-1] is None)
        *candidates, _ = gathered(a)
        assert candidates
        for candidate in candidates:
            assert "203.0.113.9 4321 typ srflx" in candidate.candidate
            assert candidate.candidate.startswith("candidate:")
            assert candidate.sdp_mid == "0"
        await b.received("0").recv()
        again = await a.offer()
        assert again.complete
        assert "203.0.113.9" in again.sdp


async def test_a_silent_stun_server_delays_nothing(tasks: Any) -> None:
    async with stun_server(silent=True) as (silent, server):
        async with two_sides() as (a, b):
            a.open((server,))
            a.add(Picture())
            began = time.monotonic()
            await negotiate(a, b)
            await b.received("0").recv()
            assert time.monotonic() - began < 1.5
            await a.until(lambda: silent.asked)
            assert not gathered(a)
            began = time.monotonic()
        assert time.monotonic() - began < 1
        await tasks()


async def test_one_that_gives_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.rtc.gathering.PATIENCE", 0.05)
    async with stun_server(silent=True) as (_, server), two_sides() as (a, b):
        turn = IceServer((server.urls[0].replace("stun", "turn"),), "user", "SECRET")
        a.open((server, turn))
        a.add(Picture())
        await negotiate(a, b)
        await a.until(lambda: gathered(a) == [None])
        failures = [fact for fact in a.facts if isinstance(fact, CandidateFailed)]
        assert len(failures) >= 2
        assert "SECRET" not in repr(failures)
        await a.up()


@pytest.mark.parametrize("url", ["stun:[::1", "stuns:127.0.0.1", "turn:host:port", "http://x"])
async def test_an_address_that_aiortc_cannot_use_stops_nothing(url: str) -> None:
    async with two_sides() as (a, b):
        a.open((IceServer((url,), "user", "SECRET"),))
        a.add(Picture())
        await negotiate(a, b)
        await a.up()
        assert "SECRET" not in repr(a.facts)


async def test_relay_only_without_a_relay_fails() -> None:
    async with two_sides() as (a, _):
        a.open(relay_only=True)
        a.add(Picture())
        offer = await a.offer()
        assert offer.complete
        assert sum(section.candidates for section in read_sdp(offer.sdp).media) == 0
        await a.until(lambda: a.states == ["failed"])


class TestWithARealTurnServer:
    @pytest.fixture
    async def turn(self) -> AsyncIterator[IceServer]:
        try:
            server = await TurnServer().__aenter__()
        except MissingError as error:
            pytest.skip(str(error))
        (entry,) = server.ice_servers
        urls = entry["urls"]
        yield IceServer(
            tuple([urls] if isinstance(urls, str) else urls), entry.get("username"), entry.get("credential")
        )
        await server.__aexit__()

    async def test_relay_only_goes_through_it(self, turn: IceServer, tasks: Any) -> None:
        async with two_sides() as (a, b):
            a.open((turn,), relay_only=True)
            b.open((turn,), relay_only=True)
            a.add(Picture())
            offer, answer = await negotiate(a, b)
            for described in (offer, answer):
                assert described.complete
                assert described.sdp.count("a=candidate") == described.sdp.count("typ relay") > 0
            await b.received("0").recv()
            stats = await a.engine.stats(a.pc)
            assert stats.local is not None
            assert stats.local.type == "relay"
        await tasks()

    async def test_a_relay_that_comes_late_is_used(self, turn: IceServer) -> None:
        async with two_sides() as (a, b):
            a.open((turn,))
            b.open((turn,), relay_only=True)
            a.add(Picture())
            offer, _ = await negotiate(a, b)
            assert not offer.complete
            await a.until(lambda: gathered(a) and gathered(a)[-1] is None)
            assert "typ relay" in gathered(a)[0].candidate
            await b.received("0").recv()
