"""A track that frames are put into, and its branches."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.frame_track import FrameTrack

pytestmark = pytest.mark.anyio


async def rest(track: FrameTrack) -> list[Any]:
    """What is left until the end."""
    found = []
    with anyio.fail_after(10):
        while True:
            try:
                found.append(await track.recv())
            except MediaStreamError:
                return found


async def test_a_branch_gets_every_frame_from_now_on() -> None:
    track = FrameTrack("video", "id")
    track.push(1)
    first = track.branch()
    track.push(2)
    second = first.branch()
    track.push(3)
    assert (first.kind, first.id) == ("video", "id")
    track.end()
    assert await rest(track) == [1, 2, 3]
    assert await rest(first) == [2, 3]
    assert await rest(second) == [3]


async def test_a_branch_stops_alone() -> None:
    track = FrameTrack("audio", "id")
    left, right = track.branch(), track.branch()
    left.stop()
    left.stop()
    track.push(1)
    assert (track.readyState, left.readyState, right.readyState) == ("live", "ended", "live")
    track.end()
    assert (await rest(track), await rest(left), await rest(right)) == ([1], [], [1])


async def test_a_branch_of_what_has_ended_has_ended() -> None:
    track = FrameTrack("audio", "id")
    track.end()
    assert track.branch().readyState == "ended"


async def test_a_slow_branch_costs_only_itself() -> None:
    track = FrameTrack("video", "id")
    branch = track.branch(capacity=2)
    for number in range(5):
        track.push(number)
    assert (track.frames_dropped, branch.frames_dropped) == (0, 3)
    assert [await branch.recv(), await branch.recv()] == [3, 4]


async def test_the_end_is_told_once_to_listeners_of_each() -> None:
    track = FrameTrack("video", "id")
    branch = track.branch()
    ended: list[str] = []
    track.on("ended", lambda: ended.append("track"))
    branch.on("ended", lambda: ended.append("branch"))
    track.stop()
    track.end()
    branch.stop()
    assert sorted(ended) == ["branch", "track"]
