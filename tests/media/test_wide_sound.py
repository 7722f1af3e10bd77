"""Sound of eight channels, as films have it, whose planes PyAV cannot be asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from av.audio.resampler import AudioResampler

from metered_media.audio_shaping import within_reach

LISTEN = """
import sys
import anyio
from metered_media import AudioSource, iter_audio, open_file

async def main():
    async with await open_file(sys.argv[1], timeout=30) as player:
        source = AudioSource()
        await source.push(await player.audio.recv())
        print(source.buffered_seconds > 0.02)
        source.stop()
        print(sum([len(array) async for array in iter_audio(player.audio)]) // 1600)

anyio.run(main)
"""


def test_a_film_can_be_heard(tmp_path: Path) -> None:
    path = tmp_path / "film.m4a"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("aac", rate=48_000, layout="7.1")
        for number in range(25):
            frame = _wide("fltp", number * 1024)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    # In a process of its own: this used to end it.
    done = subprocess.run([sys.executable, "-c", LISTEN, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    heard, tenths = done.stdout.split()
    assert heard == "True"
    assert 4 <= int(tenths) <= 6


@pytest.mark.parametrize("name", ["fltp", "s16p"])
def test_channels_are_interleaved(name: str) -> None:
    frame = within_reach(_wide(name, 5))
    assert (frame.format.name, frame.layout.name, frame.samples) == (name.removesuffix("p"), "7.1", 1024)
    assert len(frame.planes) == 1
    assert within_reach(frame) is frame


def _wide(name: str, pts: int) -> av.AudioFrame:
    frame = av.AudioFrame("s16", "7.1", 1024)
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    frame.sample_rate, frame.pts = 48_000, pts
    (made,) = AudioResampler(format=name, layout="7.1", rate=48_000).resample(frame)
    return made
