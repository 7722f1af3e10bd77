"""The clips that other tests look at are what they say."""

from __future__ import annotations

import itertools
from pathlib import Path

import av

from testbed import clips


def test_every_clip_holds_its_pictures_in_their_order(tmp_path: Path) -> None:
    for name, recipe in clips.CLIPS.items():
        with av.open(str(clips.clip(tmp_path, name))) as file:
            assert bool(file.streams.audio) == (recipe.audio is not None), name
            if recipe.video is not None:
                numbers = [clips.number_of(frame) for frame in file.decode(video=0)]
                assert numbers == list(range(round(recipe.seconds * recipe.video.rate))), name


def test_clips_that_are_put_together_of_others(tmp_path: Path) -> None:
    with av.open(str(clips.b_frames_later(tmp_path))) as file:
        assert [clips.number_of(frame) for frame in file.decode(video=0)] == list(range(60))
    with av.open(str(clips.long_clip(tmp_path, seconds=20, size=(160, 120), bitrate=200_000))) as file:
        packets = [packet for packet in file.demux(video=0) if packet.dts is not None]
        assert sum(packet.is_keyframe for packet in packets) == 10
        assert all(one.dts < other.dts for one, other in itertools.pairwise(packets))
