"""Everything ends in bounded time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from rtc_kit import Picture, Tone, negotiate, two_sides

from metered_anyio.rtc import private, private_ice

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stage", ["made", "offered", "answered", "connecting", "up"])
async def test_at_any_stage(stage: str, tasks: Any) -> None:
    async with two_sides() as (a, b):
        if stage != "made":
            a.add(Picture())
            a.add(Tone())
            a.channel()
            offer = await a.offer()
            if stage != "offered":
                answer = await b.answer(offer)
                if stage != "answered":
                    await a.take(answer)
                    if stage == "up":
                        await b.received("0").recv()
        began = time.monotonic()
    assert time.monotonic() - began < 1
    await tasks()


async def test_in_the_middle_of_an_offer(tasks: Any) -> None:
    async with two_sides() as (a, _):
        a.add(Picture())
        task = asyncio.create_task(a.offer())
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.exception() is None or "offer" in str(task.exception())
    await tasks()


@pytest.mark.parametrize("after", [0, 0.001, 0.002, 0.004])
async def test_in_the_middle_of_an_offer_that_is_given_up(after: float, tasks: Any) -> None:
    async with two_sides() as (a, _):
        a.add(Picture())
        task = asyncio.create_task(a.offer())
        await asyncio.sleep(after)
        task.cancel()
        a.close()
    await asyncio.wait([task])
    await tasks()


@pytest.mark.parametrize("after", [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04])
async def test_while_it_is_coming_up(after: float, tasks: Any) -> None:
    async with two_sides() as (a, b):
        a.channel()
        await negotiate(a, b)
        await asyncio.sleep(after)
    await tasks()


async def test_when_the_remote_is_gone_without_a_word(tasks: Any) -> None:
    async with two_sides() as (a, b):
        a.add(Picture())
        await negotiate(a, b)
        await b.received("0").recv()
        for dtls in private.dtls_transports(b.engine.connection(b.pc)):
            for protocol in private.ice_connection(dtls)._protocols:
                private_ice.drop_protocol(protocol)
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    await tasks()


async def test_when_aiortc_does_not_come_to_an_end(monkeypatch: pytest.MonkeyPatch, tasks: Any) -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("metered_anyio.rtc.connection.FAREWELL", 0.05)
    async with two_sides() as (a, b):
        a.add(Picture())
        await negotiate(a, b)
        await b.received("0").recv()
        monkeypatch.setattr(a.engine.connection(a.pc), "close", never)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    await asyncio.sleep(0.05)
    await tasks()


@pytest.mark.parametrize("after", [0, 0.002, 0.01])
async def test_when_the_closing_is_broken_off(after: float, monkeypatch: pytest.MonkeyPatch, tasks: Any) -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    async with two_sides() as (a, b):
        a.add(Picture())
        await negotiate(a, b)
        await b.received("0").recv()
        monkeypatch.setattr(a.engine.connection(a.pc), "close", never)
        closing = asyncio.create_task(a.engine.aclose())
        await asyncio.sleep(after)
        closing.cancel()  # as asyncio does at its end, which no shield of anyio's holds back
        await asyncio.wait([closing])
        b.close()
    await tasks()


async def test_twice() -> None:
    async with two_sides() as (a, _):
        await a.engine.aclose()


async def test_a_connection_says_goodbye() -> None:
    async with two_sides() as (a, b):
        a.add(Picture())
        await negotiate(a, b)
        await a.up()
        await b.up()
        began = time.monotonic()
        a.close()
        await b.until(lambda: "closed" in b.states)
        assert time.monotonic() - began < 0.5
        a.close()


async def test_a_local_track_that_ends_is_told() -> None:
    async with two_sides() as (a, b):
        ended: list[int] = []
        a.engine.on_track_ended = ended.append
        track = a.add(Picture(length=3))
        await negotiate(a, b)
        await a.until(lambda: ended)
        assert ended == [track.key]
        assert "closed" not in a.states
