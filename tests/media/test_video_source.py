"""The track that sends pictures that are put into it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from fractions import Fraction
from typing import Any

import anyio
import anyio.to_thread
import av
import numpy
import pytest
from aiortc.mediastreams import MediaStreamError

from metered_media import VideoSource

pytestmark = pytest.mark.anyio


def grey(level: int, *, width: int = 32, height: int = 16) -> Any:
    return numpy.full((height, width, 3), level, dtype=numpy.uint8)


def level(frame: av.VideoFrame) -> int:
    return int(frame.to_ndarray(format="rgb24")[0, 0, 0])


async def test_the_newest_wins() -> None:
    source = VideoSource()
    assert source.push(grey(1))
    assert not source.push(grey(2))
    assert not source.push(grey(3))
    frame = await source.recv()
    assert (level(frame), frame.width, frame.height, frame.pts) == (3, 32, 16, 0)
    assert (source.frames, source.frames_dropped) == (1, 2)


async def test_a_queue_keeps_several_and_put_waits() -> None:
    source = VideoSource(queue=2)
    got: list[int] = []

    async def produce() -> None:
        for number in range(10):
            assert await source.put(grey(number))
        source.end()
        assert not await source.put(grey(99))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            for _ in range(10):
                got.append(level(await source.recv()))
            with pytest.raises(MediaStreamError):
                await source.recv()
    assert got == list(range(10))
    assert source.frames_dropped == 0
    assert source.readyState == "ended"


async def test_an_array_may_be_used_again() -> None:
    source = VideoSource()
    array = grey(7)
    source.push(array)
    array[:] = 200
    assert level(await source.recv()) == 7


@pytest.mark.parametrize(
    ("format", "shape", "colour"),
    [
        ("rgb24", (6, 10, 3), (10, 20, 30)),
        ("bgr24", (6, 10, 3), (30, 20, 10)),
        ("rgba", (6, 10, 4), (10, 20, 30, 255)),
        ("bgra", (6, 10, 4), (30, 20, 10, 255)),
        ("argb", (6, 10, 4), (255, 10, 20, 30)),
        ("abgr", (6, 10, 4), (255, 30, 20, 10)),
    ],
)
async def test_arrays_of_any_order(format: str, shape: tuple[int, ...], colour: tuple[int, ...]) -> None:
    source = VideoSource(format=format)
    array = numpy.empty(shape, dtype=numpy.uint8)
    array[:] = colour
    source.push(array)
    frame = await source.recv()
    assert frame.to_ndarray(format="rgb24")[3, 4].tolist() == [10, 20, 30]
    source.push(grey(5), format="bgr24")
    assert level(await source.recv()) == 5


async def test_arrays_that_are_views_and_grey_ones_and_tiny_ones() -> None:
    source = VideoSource()
    wide = numpy.arange(40 * 60 * 3, dtype=numpy.uint8).reshape(40, 60, 3)
    view = wide[::2, 10:21, ::-1]
    source.push(view)
    assert (numpy.asarray((await source.recv()).to_ndarray(format="rgb24")) == view).all()
    for array in (numpy.full((5, 7), 9, dtype=numpy.uint8), numpy.full((5, 7, 1), 9, dtype=numpy.uint8)):
        source.push(array, format="gray")
        assert level(await source.recv()) == 9
    source.push(grey(3, width=1, height=1))
    assert level(await source.recv()) == 3


@pytest.mark.parametrize("format", ["yuv420p", "nv12", "yuyv422", "gray", "rgb24", "yuv422p10le"])
async def test_frames_of_any_format(format: str) -> None:
    source = VideoSource()
    source.push(av.VideoFrame(64, 48, format))
    frame = await source.recv()
    assert (frame.format.name, frame.width, frame.height) == (format, 64, 48)


async def test_no_more_than_so_many_a_second_and_the_newest_of_them() -> None:
    source = VideoSource(fps=20)
    times, stamps, over = [], [], threading.Event()

    def camera() -> None:
        number = 0
        while not over.is_set():
            source.push(grey(number % 250))
            number += 1
            time.sleep(0.004)

    thread = threading.Thread(target=camera)
    thread.start()
    try:
        with anyio.fail_after(30):
            for _ in range(12):
                frame = await source.recv()
                times.append(time.monotonic())
                stamps.append(frame.pts)
    finally:
        over.set()
        await anyio.to_thread.run_sync(thread.join)
    assert times[-1] - times[0] >= 11 / 20 - 0.03
    assert source.frames_dropped > 0
    assert all(later > sooner for sooner, later in itertools.pairwise(stamps))


async def test_whoever_makes_them_faster_is_paced() -> None:
    source = VideoSource(fps=50, queue=3)
    stamps = []

    async def produce() -> None:
        for number in range(10):
            await source.put(grey(number))
        source.end()

    began = time.monotonic()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            for _ in range(10):
                stamps.append((await source.recv()).pts)
    assert time.monotonic() - began >= 9 / 50 - 0.02
    steps = [later - sooner for sooner, later in itertools.pairwise(stamps)]
    assert min(steps) >= 90_000 // 50 - 2


async def test_times_are_those_of_the_pushes() -> None:
    source = VideoSource(queue=5)
    source.push(grey(1))
    await anyio.sleep(0.05)
    source.push(grey(2))
    first, second = await source.recv(), await source.recv()
    assert first.time_base == second.time_base == Fraction(1, 90_000)
    assert (second.pts or 0) - (first.pts or 0) >= 0.049 * 90_000


async def test_a_still_picture_is_sent_again() -> None:
    source = VideoSource(repeat_after=0.05)
    source.push(grey(4))
    with anyio.fail_after(10):
        frames = [await source.recv() for _ in range(3)]
    assert [level(frame) for frame in frames] == [4, 4, 4]
    assert (frames[2].pts or 0) - (frames[0].pts or 0) >= 0.09 * 90_000
    assert len({id(frame) for frame in frames}) == 3
    source.push(grey(5))
    assert level(await source.recv()) == 5


async def test_whoever_comes_after_a_pause_sees_it_at_once() -> None:
    source = VideoSource(repeat_after=0.5)
    source.push(grey(4))
    await source.recv()
    await anyio.sleep(0.55)
    with anyio.move_on_after(0.4) as scope:
        assert level(await source.recv()) == 4
    assert not scope.cancelled_caught


async def test_it_is_not_sent_again_if_nobody_wants_that() -> None:
    source = VideoSource(repeat_after=None)
    source.push(grey(4))
    await source.recv()
    with anyio.move_on_after(0.1) as scope:
        await source.recv()
    assert scope.cancelled_caught


async def test_frames_may_keep_their_own_time() -> None:
    source = VideoSource(timestamps="frame", queue=2)
    frame = av.VideoFrame(16, 16, "yuv420p")
    with pytest.raises(ValueError, match="no time"):
        source.push(frame)
    frame.pts, frame.time_base = 1234, Fraction(1, 1000)
    source.push(frame)
    got = await source.recv()
    assert (got.pts, got.time_base) == (1234, Fraction(1, 1000))
    with pytest.raises(TypeError, match=r"av\.VideoFrame"):
        source.push(grey(1))


async def test_the_end() -> None:
    source = VideoSource()
    source.push(grey(1))
    source.end()
    source.end()
    assert not source.push(grey(2))
    assert source.readyState == "live"
    assert level(await source.recv()) == 1
    with pytest.raises(MediaStreamError):
        await source.recv()
    assert source.readyState == "ended"
    empty = VideoSource()
    empty.end()
    assert empty.readyState == "ended"


async def test_stopped_it_wakes_whoever_waits() -> None:
    source = VideoSource()
    branch = source.branch()

    async def wait() -> None:
        with pytest.raises(MediaStreamError):
            await source.recv()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            source.stop()
    assert (source.readyState, branch.readyState) == ("ended", "ended")


async def test_a_branch_sees_it_too() -> None:
    source = VideoSource()
    branch = source.branch()
    source.push(grey(1))
    frame = await source.recv()
    assert await branch.recv() is frame


async def test_read_in_the_loop_of_another_thread() -> None:
    source = VideoSource()
    got: list[int] = []

    async def read() -> None:
        try:
            while True:
                got.append(level(await source.recv()))
        except MediaStreamError:
            pass

    thread = threading.Thread(target=lambda: asyncio.run(read()))
    thread.start()
    with anyio.fail_after(30):
        for number in range(20):
            assert await source.put(grey(number))
        source.end()
        await anyio.to_thread.run_sync(thread.join)
    assert got == list(range(20))


@pytest.mark.parametrize(
    ("picture", "error"),
    [
        (None, TypeError),
        (b"bytes", TypeError),
        ([[1, 2, 3]], TypeError),
        (numpy.zeros((4, 4, 3), dtype=numpy.float32), TypeError),
        (numpy.zeros((4, 4), dtype=numpy.uint8), ValueError),
        (numpy.zeros((4, 4, 4), dtype=numpy.uint8), ValueError),
        (numpy.zeros((0, 4, 3), dtype=numpy.uint8), ValueError),
        (numpy.zeros((4, 0, 3), dtype=numpy.uint8), ValueError),
        (numpy.zeros((1, 9000, 3), dtype=numpy.uint8), ValueError),
        (av.VideoFrame(0, 0, "yuv420p"), ValueError),
    ],
)
async def test_what_is_no_picture_is_refused(picture: Any, error: type[Exception]) -> None:
    source = VideoSource()
    with pytest.raises(error):
        source.push(picture)
    with pytest.raises(error):
        await source.put(picture)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fps": 0}, ValueError),
        ({"fps": "30"}, TypeError),
        ({"queue": 0}, ValueError),
        ({"queue": 1.5}, TypeError),
        ({"format": "yuv9000"}, ValueError),
        ({"format": 3}, TypeError),
        ({"repeat_after": -1}, ValueError),
        ({"repeat_after": True}, TypeError),
        ({"timestamps": "mine"}, ValueError),
    ],
)
async def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        VideoSource(**options)
