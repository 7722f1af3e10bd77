"""The engine in a thread of its own, under both event loops."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiortc.mediastreams import MediaStreamError
from rtc_kit import Picture, Side, negotiate, shade_of, two_sides

from metered_anyio.backend import current_backend
from metered_anyio.encoding import Encoding
from metered_anyio.logger import NoopLogger
from metered_anyio.rtc.thread_engine import ThreadEngine
from metered_proto.errors import PeerConnectionError
from metered_proto.facts import Fact
from metered_proto.rtc.words import CountReceived, MakeOffer, SwapSender

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def two_threads() -> AsyncIterator[tuple[Side, Side]]:
    backend = current_backend()
    here = threading.get_ident()

    def make(feed: Callable[[Fact], None]) -> ThreadEngine:
        def fed(fact: Fact) -> None:
            assert threading.get_ident() == here
            feed(fact)

        return ThreadEngine(fed, NoopLogger(), backend)

    async with two_sides(make) as sides:
        yield sides


async def test_a_call_with_pictures_and_a_channel() -> None:
    async with two_threads() as (a, b):
        a.add(Picture(200))
        b.add(Picture(50))
        channel = a.channel("chat")
        await negotiate(a, b)
        assert shade_of(await b.received("0").recv()) == pytest.approx(200, abs=6)
        assert shade_of(await a.received("0").recv()) == pytest.approx(50, abs=6)
        other = await b.arrived()
        got: list[str | bytes] = []
        other.on_message = got.append
        await a.until(lambda: channel.ready_state == "open")
        for number in range(100):
            channel.send(f"message {number}")
        await b.until(lambda: len(got) == 100)
        assert got == [f"message {number}" for number in range(100)]
        stats = await a.engine.stats(a.pc)
        assert stats.state == "connected"
        assert {track.direction for track in stats.tracks} == {"send", "receive"}
        assert await a.engine.work(CountReceived(a.pc)) > 0


async def test_callbacks_come_in_the_loop_of_the_application() -> None:
    here = threading.get_ident()
    seen: list[tuple[str, int]] = []
    async with two_threads() as (a, b):
        channel = a.channel()
        channel.on_open = lambda: seen.append(("open", threading.get_ident()))
        channel.on_drained = lambda: seen.append(("drained", threading.get_ident()))
        channel.on_close = lambda: seen.append(("close", threading.get_ident()))
        await negotiate(a, b)
        other = await b.arrived()
        await a.until(lambda: channel.ready_state == "open")
        channel.low_threshold = 1000
        for _ in range(10):
            channel.send(b"x" * 100_000)
        await a.until(lambda: ("drained", here) in seen)
        assert channel.buffered_amount <= 1000
        other.close()
        await a.until(lambda: channel.ready_state == "closed")
    assert {thread for _, thread in seen} == {here}
    assert [name for name, _ in seen if name != "drained"] == ["open", "close"]


async def test_a_reader_can_give_up() -> None:
    async with two_threads() as (a, b):
        a.add(Picture(fps=5))
        await negotiate(a, b)
        track = b.received("0")
        with anyio.move_on_after(0.001):
            await track.recv()
        assert await track.recv() is not None
        b.close()
        with pytest.raises(MediaStreamError):
            await rest(track)


async def rest(track: Any) -> None:
    while True:
        await track.recv()


async def test_work_can_be_given_up_and_fails_where_it_was_ordered() -> None:
    async with two_threads() as (a, b):
        with pytest.raises(PeerConnectionError):
            await a.engine.work(SwapSender(12345, 1, None))
        a.add(Picture())
        with anyio.move_on_after(0):
            await a.engine.work(MakeOffer(a.pc, tuple(a.tracks)))
        a.close()
        a.open()
        await negotiate(a, b)
        await a.up()


async def test_a_result_is_not_overtaken_by_what_follows_it() -> None:
    async with two_threads() as (a, b):
        a.channel()
        offer = await a.offer()
        answer = await b.answer(offer)
        assert not [fact for fact in b.facts if type(fact).__name__ == "CandidateGathered"]
        await a.take(answer)
        await a.up()


async def test_nothing_is_started_for_nothing() -> None:
    threads = threading.active_count()
    engine = ThreadEngine(lambda _: None, NoopLogger(), current_backend())
    await engine.aclose()
    assert threading.active_count() == threads


async def test_a_closed_engine_says_so() -> None:
    engine = ThreadEngine(lambda _: None, NoopLogger(), current_backend())
    engine.offer_track(1, Picture(), Encoding())
    await engine.aclose()
    await engine.aclose()
    engine.withdraw_track(1)
    with pytest.raises(PeerConnectionError):
        await engine.stats(-1)


@pytest.mark.parametrize("after", [0, 0.005, 0.02])
async def test_it_closes_even_if_nobody_has_the_time(after: float) -> None:
    async with two_threads() as (a, b):
        a.add(Picture())
        await negotiate(a, b)
        await b.received("0").recv()
        with anyio.move_on_after(after):
            await a.engine.aclose()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_it_ends_with_the_loop_of_the_application(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.rtc.thread_engine._BEAT", 0.05)
    kept = []

    async def abrupt() -> None:
        numbers, here = itertools.count(1), current_backend()
        a, b = (Side(numbers, lambda feed: ThreadEngine(feed, NoopLogger(), here)) for _ in range(2))
        kept.append((a, b))
        a.other, b.other = b, a
        a.open()
        b.open()
        a.add(Picture())
        await negotiate(a, b)
        await b.received("0").recv()

    anyio.run(abrupt, backend=backend)
    deadline = time.monotonic() + 5
    while any(thread.name == "metered-rtc" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "metered-rtc"]
    kept.clear()
