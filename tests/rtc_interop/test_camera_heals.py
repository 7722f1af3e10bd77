"""A camera that goes away and comes back, seen from the other end of a call: how old is the picture?"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from metered_media import SourceLost, SourceRestored, open_rtsp
from testbed.clock_camera import ClockCamera, age
from testbed.guest import Guest, Seen
from testbed.stage import Stage

pytestmark = pytest.mark.anyio

ME, IT = "alice", "middle"

AWAY = 2.0
BACK = 3.0
"""Seconds after its return within which there is a picture of now again."""

OLDER = 0.15
"""Seconds by which pictures may be older than before: less than five frames."""


@pytest.fixture
def camera() -> Iterator[ClockCamera]:
    with ClockCamera() as camera:
        yield camera


async def ages(viewer: Guest, seconds: float) -> list[float]:
    """How old each new picture is when it is seen."""
    (seen,) = viewer.tracks
    found: list[float] = []
    newest, until = seen.newest, time.monotonic() + seconds
    while time.monotonic() < until:
        if seen.newest is not newest:
            newest = seen.newest
            found.append(age(newest, seen.last_at or 0))
        await asyncio.sleep(0.003)
    return found


def is_fresh(seen: Seen, since: float) -> bool:
    """Whether the newest picture was taken after a moment."""
    return seen.newest is not None and (seen.last_at or 0) - age(seen.newest, seen.last_at or 0) >= since


@pytest.mark.parametrize(("kind", "passthrough"), [("published", True), ("ours", False)])
async def test_pictures_come_back_as_young_as_they_were(
    meeting: Stage, camera: ClockCamera, kind: str, passthrough: bool
) -> None:
    player = await open_rtsp(camera.url, reconnect=True, passthrough=passthrough)
    told: list[Any] = []
    for event in (SourceLost, SourceRestored):
        player.on(event, told.append)
    try:
        guest = meeting.ours(ME)
        video = guest.send("camera", player.video)
        await guest.join()
        viewer = meeting.guest(kind, IT)
        await viewer.join()
        await viewer.until(lambda: viewer.tracks and viewer.tracks[0].frames > 30, "pictures")
        before = await ages(viewer, 1.2)
        assert len(before) > 20
        await asyncio.to_thread(camera.kill)
        await asyncio.sleep(AWAY)
        await asyncio.to_thread(camera.start)
        back = time.time()
        await viewer.until(lambda: is_fresh(viewer.tracks[0], back), "a picture of now")
        took = time.time() - back
        assert took < BACK
        after = await ages(viewer, 1.2)
        assert len(after) > 20
        assert statistics.median(after) < statistics.median(before) + OLDER
        # It is the same track, for us and for the viewer.
        assert player.video is video
        assert video is not None
        assert video.readyState == "live"
        assert len(viewer.tracks) == 1
        await guest.until(lambda: len(told) == 2, "what happened")
        assert isinstance(told[0], SourceLost)
        assert isinstance(told[1], SourceRestored)
        assert told[1].away >= AWAY - 0.5
        assert told[1].attempts >= 1
    finally:
        player.stop()
