"""A received track, for readers on either event loop."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.frame_track import AUDIO_FRAMES, VIDEO_FRAMES
from metered_anyio.rtc.remote_track import Inlet, RemoteTrack

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(("kind", "bound"), [("video", VIDEO_FRAMES), ("audio", AUDIO_FRAMES)])
async def test_keeps_the_newest_when_nobody_reads(kind: str, bound: int) -> None:
    track = RemoteTrack(kind, "id")
    for number in range(bound + 7):
        track.push(number)
    assert track.frames_dropped == 7
    assert [await track.recv() for _ in range(bound)] == list(range(7, bound + 7))


async def test_wakes_a_reader_from_another_thread() -> None:
    track = RemoteTrack("video", "id")
    threading.Timer(0.02, track.push, ["frame"]).start()
    with anyio.fail_after(5):
        assert await track.recv() == "frame"


async def test_gives_each_frame_to_one_reader() -> None:
    track = RemoteTrack("video", "id")
    got: list[int] = []

    async def reader() -> None:
        while True:
            try:
                got.append(await track.recv())
            except MediaStreamError:
                return

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        for number in range(10):
            track.push(number)
        await anyio.wait_all_tasks_blocked()
        track.end()
    assert sorted(got) == list(range(10))


async def test_a_reader_that_gives_up_loses_nothing_for_others() -> None:
    track = RemoteTrack("video", "id")
    scope = anyio.CancelScope()

    async def first() -> None:
        with scope:
            await track.recv()

    got: list[str] = []

    async def second() -> None:
        got.append(await track.recv())

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        track.push("frame")
        if not got:
            await anyio.wait_all_tasks_blocked()
            if not got:  # it reached the first in its last moment
                track.push("another")
    assert len(got) == 1


async def test_what_was_kept_comes_before_the_end() -> None:
    track = RemoteTrack("video", "id")
    ended: list[str] = []
    track.on("ended", lambda: ended.append("ended"))
    track.push("frame")
    track.end()
    track.end()
    track.push("late")
    assert track.readyState == "ended"
    assert ended == ["ended"]
    assert await track.recv() == "frame"
    for _ in range(2):
        with pytest.raises(MediaStreamError):
            await track.recv()


async def test_stopped_by_the_reader_it_forgets() -> None:
    track = RemoteTrack("video", "id")
    track.push("frame")
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_a_section_without_a_taker_keeps_nothing() -> None:
    inlet, track = Inlet(), RemoteTrack("video", "id")
    await inlet.put("early")
    inlet.target = track
    await inlet.put("frame")
    await inlet.put(None)
    assert track.frames == 1
    assert track.readyState == "live"
