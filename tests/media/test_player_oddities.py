"""Files and objects that are not what they seem."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import av
import pytest
from player_kit import read_all

from metered_media import SourceOpenError, open_file
from metered_media.packets import Packets
from testbed.clips import clip

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oddities")


class Object:
    """Something with `read`, which answers with whatever it was made with."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def read(self, size: int = -1) -> Any:
        return self._answer(size)


def _object(answer: Any) -> Any:
    return Object(answer)


GREEDY = """
import anyio
from metered_media import SourceOpenError, open_file

class Greedy:
    def read(self, size):
        return bytes(size + 1_000_000)

async def main():
    try:
        await open_file(Greedy())
    except SourceOpenError as error:
        print(error.reason)

anyio.run(main)
"""


def test_an_object_that_gives_more_than_was_asked_for_overwrites_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "its read() returned more than was asked for\n"), done.stderr


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda size: "text", "its read() returned str, not bytes"),
        (lambda size: None, "its read() returned NoneType, not bytes"),
        (lambda size: 1 / 0, "ZeroDivisionError"),
    ],
)
async def test_an_object_that_gives_no_bytes_says_so(answer: Any, reason: str) -> None:
    with pytest.raises(SourceOpenError) as caught:
        await open_file(_object(answer))
    assert (caught.value.code, caught.value.reason) == ("failed", reason)


async def test_bytes_of_other_kinds_are_bytes(folder: Path) -> None:
    file = io.BytesIO(clip(folder, "h264_slow").read_bytes())
    async with await open_file(_object(lambda size: bytearray(file.read(size))), timeout=30) as player:
        assert player.video is not None


async def test_a_pipe_is_read_once_it_was_opened(folder: Path) -> None:
    data = clip(folder, "h264_ts").read_bytes()
    out, into = os.pipe()

    def write() -> None:
        with open(into, "wb") as writing:
            writing.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(out, "rb") as pipe:
        with pytest.raises(ValueError, match="cannot loop"):
            await open_file(pipe, loop=True)
        async with await open_file(pipe, timeout=30) as player:
            seen = await read_all(player, 5)
            assert len(seen["video"].things) == 5
            player.stop()
            await player.wait_closed()
        pipe.read()
    writer.join()


async def test_the_cover_of_a_record_is_no_video(folder: Path) -> None:
    path = folder / "cover.mp3"
    path.write_bytes(_with_cover(_mp3(folder / "plain.mp3")))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    for passthrough in (False, True):
        async with await open_file(path, timeout=30, passthrough=passthrough) as player:
            assert player.video is None
            assert player.audio is not None
            assert isinstance(await player.audio.recv(), av.AudioFrame)


def _mp3(path: Path) -> bytes:
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mp3", rate=44_100)
        for number in range(20):
            frame = av.AudioFrame("s16p", "stereo", 1152)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts = 44_100, number * 1152
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def _with_cover(mp3: bytes) -> bytes:
    """With a tag of ID3v2.3 ahead, which holds a picture."""
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width = context.height = 64
    context.pix_fmt = "yuvj420p"
    jpeg = b"".join(bytes(packet) for packet in context.encode(av.VideoFrame(64, 64, "yuvj420p")))
    body = b"\0image/jpeg\0\3\0" + jpeg
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    old = 10 + sum(mp3[6 + at] << shift for at, shift in enumerate((21, 14, 7, 0))) if mp3[:3] == b"ID3" else 0
    return b"ID3\3\0\0" + size + frame + mp3[old:]


class Changing:
    """A container in which a stream begins that was not there when it was opened, as PyAV tells of it."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    def demux(self, streams: Any) -> Any:
        while self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            yield answer


def test_streams_that_begin_later_do_not_end_those_that_are_there() -> None:
    packets = Packets(Changing(["one", IndexError(), "two", IndexError(), IndexError(), "three"]), [])
    assert [packets.next() for _ in range(4)] == ["one", "two", "three", None]
    assert packets.error is None
    for error, said in ((OSError(5, "hung up"), "hung up"), (ValueError("secret"), "ValueError")):
        packets = Packets(Changing(["one", error]), [])
        assert [packets.next(), packets.next(), packets.error] == ["one", None, said]
    packets = Packets(Changing([IndexError() for _ in range(20_000)]), [])
    assert packets.next() is None
    assert packets.error is not None


async def test_sound_of_an_absurd_rate_is_left_out(tmp_path: Path) -> None:
    data = bytearray(clip(tmp_path, "wav_mono_8000").read_bytes())
    data[24:32] = (1).to_bytes(4, "little") + (2).to_bytes(4, "little")  # samples and bytes a second
    path = tmp_path / "slow.wav"
    path.write_bytes(data)
    async with await open_file(path, timeout=30) as player:
        seen = await read_all(player)
        # Each frame would last half an hour, and take a third of a gigabyte at 48 kHz.
        assert seen["audio"].things == []
        assert player.stats.broken > 0
