"""What applications write, as a type checker sees it: this file says nothing about types, and mypy is content."""

from __future__ import annotations

import array
from pathlib import Path

import anyio
import numpy
import pytest

from metered_anyio import MediaStream, MeteredPeer
from metered_media import AudioSource, Played, from_file
from testbed.clips import clip

pytestmark = pytest.mark.anyio


async def test_sound_is_whatever_holds_samples_and_handlers_are_decorated() -> None:
    source = AudioSource(input_rate=48_000)
    told: list[str] = []

    @source.on(Played)
    def played(event: Played) -> None:
        told.append(event.marker)

    @source.once(Played)
    async def first(event: Played) -> None:
        told.append(f"first {event.marker}")

    await source.push(b"\0\0" * 240)
    await source.push(bytearray(480))
    await source.push(numpy.zeros(240, numpy.int16))
    await source.push(array.array("h", [0] * 240), marker="a")
    await source.push(memoryview(bytes(1920)), marker="b")
    with anyio.fail_after(20):
        for _ in range(2):
            await source.recv()
        while len(told) < 3:  # noqa: ASYNC110 - a list has no event
            await anyio.sleep(0.01)
    source.off(Played, played)
    source.stop()
    assert sorted(told) == ["a", "b", "first a"]


def test_a_clip_is_checked_for_what_it_has_and_added(tmp_path: Path) -> None:
    peer = MeteredPeer(api_key="pk_live_demo")
    with from_file(clip(tmp_path, "h264_aac")) as src:
        stream = MediaStream(id="clip")
        if src.video is not None:
            peer.add_track(src.video, stream)
        if src.audio is not None:
            peer.add_track(src.audio, stream, {"role": "file"})
        assert peer.get_stream_metadata(stream) is None
        assert src.audio is not None
        assert peer.get_track_metadata(src.audio) == {"role": "file"}
