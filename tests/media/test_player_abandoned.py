"""Players that nobody stops: what keeps them going, and what does not."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from player_kit import until

from metered_media import Player, from_camera, from_file
from testbed.clips import clip

pytestmark = pytest.mark.anyio

TEST_PICTURE = "testsrc2=size=64x48:rate=30"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("abandoned")


def _threads() -> int:
    return sum(thread.name == "metered-media-source" for thread in threading.enumerate())


def _gone() -> bool:
    gc.collect()
    return not _threads()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("read", [0, 3])
async def test_a_player_that_nobody_has_ends(folder: Path, live: bool, read: int) -> None:
    def make() -> Player:
        if live:
            return from_camera(TEST_PICTURE, input_format="lavfi")
        return from_file(clip(folder, "h264_aac"), loop=True)

    async def use(make: Callable[[], Player]) -> None:
        track = make().video
        assert track is not None
        for _ in range(read):
            await track.recv()

    for _ in range(3):
        await use(make)
    await until(_gone)


async def test_a_track_keeps_its_player(folder: Path) -> None:
    player = from_file(clip(folder, "h264"), loop=True)
    noticed, track = weakref.ref(player), player.video
    del player
    gc.collect()
    assert track is not None
    assert noticed() is not None
    for _ in range(70):  # beyond the first pass
        await track.recv()
    branch = track.branch()
    del track
    gc.collect()
    assert noticed() is not None
    branch.stop()
    del branch
    await until(_gone)
    assert noticed() is None


LEFT_OPEN = """
import sys
import anyio
from metered_media import from_camera, from_file

kept = [from_file(sys.argv[1], loop=True), from_file(sys.argv[1], passthrough=True), from_camera(sys.argv[2],
    input_format="lavfi")]

async def main():
    for player in kept:
        await player.video.recv()
    kept.append(from_file(sys.argv[1]))

anyio.run(main)
"""


def test_a_program_that_ends_with_open_players_ends_cleanly(folder: Path) -> None:
    command = [sys.executable, "-c", LEFT_OPEN, str(clip(folder, "h264_aac")), TEST_PICTURE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
