"""Anything that an application may do with a source, in any order: nothing is lost, and each marker is told once."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiortc.mediastreams import MediaStreamError
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media import AudioSource, Cleared, Played
from metered_media.audio_pacing import RATE, AudioPacing

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 9000)),
        st.tuples(st.just("read"), st.integers(1, 12)),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("pause"), st.none()),
    ),
    max_size=30,
)


async def run(steps: list[tuple[str, Any]], last: str) -> None:
    source = AudioSource(input_rate=24_000, max_buffered_seconds=0.1)
    ticks = itertools.count()
    source._pacing = AudioPacing(lambda: next(ticks) * 0.05)  # every frame is due
    told: list[Any] = []
    source.on(Played, told.append)
    source.on(Cleared, told.append)
    pushes: list[asyncio.Task[None]] = []
    given = dropped = cancelled = 0.0

    async def settle() -> None:
        for _ in range(12):
            await asyncio.sleep(0)

    for what, number in steps:
        if what == "push":
            given += number / 24_000
            pushes.append(asyncio.create_task(source.push(bytes([1]) * number * 2, marker=len(pushes))))
        elif what == "read":
            for _ in range(number):
                await source.recv()
        elif what == "clear":
            await settle()
            dropped += source.clear()
            assert source.buffered_seconds == 0
        elif what == "cancel" and number < len(pushes) and not pushes[-1 - number].done():
            await settle()
            before = sum(push.sound.seconds for push in source._pushes)
            pushes[-1 - number].cancel()
            await asyncio.wait([pushes[-1 - number]])
            cancelled += before - sum(push.sound.seconds for push in source._pushes)
        else:
            await settle()
        assert source.buffered_seconds <= 0.1
    await settle()
    if last == "end":
        rest = sum(push.sound.seconds for push in source._pushes)
        source.end()
        while True:
            try:
                await source.recv()
            except MediaStreamError:
                break
        assert source.played_seconds + dropped + cancelled + rest == pytest.approx(given, abs=1e-3 + len(pushes) / RATE)
    else:
        source.stop()
    await asyncio.wait_for(source.wait_for_playout(), 5)
    await asyncio.wait_for(asyncio.gather(*pushes, return_exceptions=True), 5)
    await settle()
    assert sorted(event.marker for event in told) == list(range(len(pushes)))


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from(["end", "stop"]))
def test_nothing_is_lost_and_each_marker_is_told_once(steps: list[tuple[str, Any]], last: str) -> None:
    asyncio.run(run(steps, last))
