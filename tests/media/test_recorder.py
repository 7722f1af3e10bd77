"""Recordings of tracks, opened and measured: how long, how many frames, what is where, and what a crash leaves."""

from __future__ import annotations

import array
import contextlib
import itertools
import math
import os
import signal
import subprocess
import sys
import time
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import av
import pytest
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.frame_track import FrameTrack
from metered_media import (
    AudioSource,
    RecordingError,
    RecordingFinished,
    RecordingProgress,
    open_file,
    record,
    snapshot,
)
from metered_media.recorder_file import FileWriter, most_queued, stretched
from metered_media.recorder_format import FORMATS, RecordingOptions
from metered_media.recorder_output import open_output
from testbed.clips import clip
from testbed.tracks import BLUE, GREEN, RED, Colour, ColourTrack, colour_of, has_pitch, is_colour

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For what takes its time and happens in the thread of the file, whatever the event loop."""


class Measured:
    """What is in a file."""

    def __init__(self, path: Path) -> None:
        self.codecs: dict[str, str] = {}
        self.pictures: list[tuple[float, Colour, tuple[int, int]]] = []
        self.sound = bytearray()
        self.rate = 0
        self.sound_began: float | None = None
        with av.open(str(path)) as container:
            self.codecs = {stream.type: stream.codec_context.name for stream in container.streams}
            resampler = av.AudioResampler("s16", "mono")
            for frame in container.decode():
                assert frame.time is not None
                if isinstance(frame, av.VideoFrame):
                    self.pictures.append((frame.time, colour_of(frame), (frame.width, frame.height)))
                else:
                    if self.sound_began is None:
                        self.sound_began = frame.time
                    for piece in resampler.resample(frame):
                        self.rate = piece.sample_rate
                        self.sound += bytes(piece.planes[0])[: piece.samples * 2]

    @property
    def seconds_of_sound(self) -> float:
        return len(self.sound) / 2 / self.rate

    def first_picture(self, colour: Colour) -> float:
        return next(at for at, found, _ in self.pictures if is_colour(found, colour))

    def loud(self, step: float = 0.01) -> list[float]:
        """The times, each `step`, at which there is sound."""
        samples = memoryview(self.sound).cast("h")
        size = int(self.rate * step)
        began = self.sound_began or 0.0
        return [
            began + at / self.rate
            for at in range(0, len(samples) - size, size)
            if max(map(abs, samples[at : at + size])) > 2000
        ]


async def feed(track: FrameTrack, seconds: float, *, first: float = 0.0, colour: Colour = RED, hz: float = 400) -> None:
    """Push the frames of some seconds, when they are due, whatever the event loop."""
    began = anyio.current_time()
    if track.kind == "video":
        size = (320, 240)
        picture = ColourTrack(colour, size=size)._pictures[0]
        for number in range(int(seconds * 30)):
            await anyio.sleep_until(began + number / 30)
            frame = picture.reformat(format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = int((first + number / 30) * 90_000), Fraction(1, 90_000)
            track.push(frame)
        return
    tone = Tone(hz)
    for number in range(int(seconds * 50)):
        await anyio.sleep_until(began + (number + 1) / 50)
        frame = tone.frame(number)
        frame.pts += int(first * 48_000)
        track.push(frame)


class Tone:
    """Frames of 20 ms."""

    def __init__(self, hz: float) -> None:
        turn = 2 * math.pi * hz / 48_000
        self._data = array.array("h", (int(12_000 * math.sin(turn * n)) for n in range(960))).tobytes()

    def frame(self, number: int, *, loud: bool = True) -> Any:
        frame = av.AudioFrame("s16", "mono", 960)
        frame.planes[0].update(self._data if loud else bytes(len(self._data)))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
        return frame


async def test_pictures(tmp_path: Path) -> None:
    track = FrameTrack("video")
    codecs = {"a.mp4": "h264", "a.webm": "vp8", "a.mkv": "h264"}
    async with contextlib.AsyncExitStack() as stack:
        recordings = [await stack.enter_async_context(record(track, tmp_path / name)) for name in codecs]
        await feed(track, 2.0)
        track.end()
        for recording in recordings:
            with anyio.fail_after(5):
                await recording.wait()
            assert recording.over
    assert not track._branches
    for recording, (name, codec) in zip(recordings, codecs.items(), strict=True):
        assert recording.paths == (tmp_path / name,)
        assert (recording.dropped, recording.error) == (0, None)
        found = Measured(tmp_path / name)
        assert found.codecs == {"video": codec}
        assert len(found.pictures) == 60
        assert all(is_colour(colour, RED) for _, colour, _ in found.pictures)
        # How late the first ones were nobody knows before one comes in time.
        assert found.pictures[0][0] == 0
        for number, (at, _, _) in enumerate(found.pictures[10:], 10):
            assert at == pytest.approx(found.pictures[-1][0] - (59 - number) / 30, abs=0.01)


@one_loop
async def test_sound(tmp_path: Path) -> None:
    track = FrameTrack("audio")
    codecs = {"a.mp4": "aac", "a.mkv": "opus", "a.wav": "pcm_s16le"}
    async with contextlib.AsyncExitStack() as stack:
        for name in codecs:
            await stack.enter_async_context(record(track, tmp_path / name))
        await feed(track, 2.0)
        track.end()
    for name, codec in codecs.items():
        found = Measured(tmp_path / name)
        assert found.codecs == {"audio": codec}
        assert found.seconds_of_sound == pytest.approx(2.0, abs=0.005 if name == "a.wav" else 0.035)
        assert has_pitch([_as_frame(found.sound[9600:48_000])], 400)


def _as_frame(data: bytes) -> Any:
    frame = av.AudioFrame("s16", "mono", len(data) // 2)
    frame.planes[0].update(bytes(data).ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate = 48_000
    return frame


async def test_a_microphone_that_pauses_stays_in_time(tmp_path: Path) -> None:
    track = FrameTrack("audio")
    async with record(track, tmp_path / "a.wav", sample_rate=16_000, layout="mono"):
        await feed(track, 1.0)
        await anyio.sleep(1.5)
        await feed(track, 0.5, first=1.0)  # as if there had been no pause
        await anyio.sleep(1.0)
    found = Measured(tmp_path / "a.wav")
    assert found.rate == 16_000
    assert found.seconds_of_sound == pytest.approx(4.0, abs=0.3)
    loud = found.loud()
    silent = [(one, other) for one, other in itertools.pairwise(loud) if other - one > 0.5]
    assert len(silent) == 1
    assert silent[0] == (pytest.approx(1.0, abs=0.1), pytest.approx(2.5, abs=0.15))


@one_loop
async def test_pictures_that_pause_and_change_their_size(tmp_path: Path) -> None:
    track = FrameTrack("video")
    async with record(track, tmp_path / "a.mp4"):
        await feed(track, 0.5)
        await anyio.sleep(2.5)
        for number, size in enumerate(((640, 360), (160, 120), (321, 243))):
            frame = ColourTrack(BLUE, size=size, format="rgb24")._pictures[0]
            frame.pts, frame.time_base = 270_000 + number * 3000, Fraction(1, 90_000)
            track.push(frame)
            await anyio.sleep(1 / 30)
    found = Measured(tmp_path / "a.mp4")
    assert {size for _, _, size in found.pictures} == {(320, 240)}
    assert found.first_picture(BLUE) == pytest.approx(3.0, abs=0.2)
    stills = [at for at, _, _ in found.pictures if 0.6 < at < 2.9]
    assert len(stills) in (1, 2)  # one a second, so that a crash in a pause loses nothing


@one_loop
async def test_tracks_that_joined_at_different_times_are_together(tmp_path: Path) -> None:
    # A tone and a colour that come at one moment, in tracks whose time stamps have nothing to do with each other.
    over: list[None] = []
    token = anyio.lowlevel.current_token()
    writers = []
    for suffix in ("mp4", "webm", "mkv"):
        writer = FileWriter(
            tmp_path / f"a.{suffix}",
            FORMATS[suffix],
            frozenset({"audio", "video"}),
            RecordingOptions(size=(320, 240)),
            on_progress=lambda _: None,
            on_over=lambda: anyio.from_thread.run_sync(over.append, None, token=token),
        )
        writers.append(writer)
    tone = Tone(400)
    pictures = {colour: ColourTrack(colour, size=(320, 240))._pictures[0] for colour in (RED, BLUE)}
    began = anyio.current_time()
    for number in range(200):
        await anyio.sleep_until(began + (number + 1) / 50)
        frame = tone.frame(0, loud=number >= 150)
        frame.pts = 7_000_000 + number * 960
        for writer in writers:
            writer.put("audio", frame)
        if number >= 25 and number % 2 == 1:
            plain = pictures[BLUE if number >= 151 else RED].reformat(format="rgb24")
            plain.pts, plain.time_base = 5000 + (number - 25) * 20, Fraction(1, 1000)
            for writer in writers:
                writer.put("video", plain)
    for writer in writers:
        writer.finish()
    with anyio.fail_after(10):
        while len(over) < 3:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    for writer in writers:
        writer.join()
        assert (writer.error, writer.dropped) == (None, 0)
        found = Measured(writer.path)
        heard, seen = found.loud()[0], found.first_picture(BLUE)
        # The sound begins 20 ms before the picture: its first frame is over when the picture comes.
        assert heard == pytest.approx(3.0, abs=0.06)
        assert seen - heard == pytest.approx(0.04, abs=0.05)
        assert is_colour(found.pictures[0][1], (0, 0, 0))  # black until there is a picture
        assert abs(found.seconds_of_sound - found.pictures[-1][0]) < 0.1


async def test_who_else_reads_the_track_loses_nothing(tmp_path: Path) -> None:
    track, read = FrameTrack("video"), 0

    async def reading() -> None:
        nonlocal read
        while True:
            await track.recv()
            read += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reading)
        async with record(track, tmp_path / "a.mkv"):
            await feed(track, 1.0)
        tasks.cancel_scope.cancel()
    assert read == 30
    assert len(Measured(tmp_path / "a.mkv").pictures) == 30


@one_loop
async def test_progress_and_the_end_are_told(tmp_path: Path) -> None:
    track, told = FrameTrack("audio"), []
    recording = record(track, tmp_path / "a.wav")
    recording.on(RecordingProgress, told.append)
    recording.on(RecordingFinished, told.append)
    async with recording:
        await feed(track, 3.5)
    *progress, finished = told
    assert 2 <= len(progress) <= 4
    assert all(isinstance(each, RecordingProgress) for each in progress)
    assert [each.seconds for each in progress] == sorted(each.seconds for each in progress)
    size = (tmp_path / "a.wav").stat().st_size
    assert finished == RecordingFinished(str(tmp_path / "a.wav"), None, finished.seconds, size, None)
    assert finished.seconds == pytest.approx(3.5, abs=0.2)


async def test_nothing_came(tmp_path: Path) -> None:
    track, told = FrameTrack("audio"), []
    async with record(track, tmp_path / "a.wav") as recording:
        recording.on(RecordingFinished, told.append)
    assert (recording.paths, told, os.listdir(tmp_path)) == ((), [], [])


@one_loop
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to("/dev/full")
    (tmp_path / "a.mp4").symlink_to("/dev/full")

    async def fill(name: str) -> None:
        track, told = FrameTrack("audio"), []
        with pytest.raises(RecordingError) as caught:  # noqa: PT012
            async with record(track, tmp_path / name) as recording:
                recording.on(RecordingFinished, told.append)
                await feed(track, 2.5)
        assert caught.value.path == str(tmp_path / name)
        assert caught.value.reason == "No space left on device"
        assert told[0].error == "No space left on device"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fill, "a.wav")
        tasks.start_soon(fill, "a.mp4")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_disk_that_is_full_at_the_very_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.symlink_to("/dev/full")
    output = open_output(path, FORMATS[suffix], RecordingOptions(), None, True, time.time())
    with contextlib.suppress(OSError):
        output.sound(bytes(4 * 960))  # too little for an mp4 to write anything yet
    with pytest.raises(OSError, match="No space left"):
        output.close()


@one_loop
async def test_an_error_in_the_block_comes_out_of_it(tmp_path: Path) -> None:
    track = FrameTrack("audio")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with record(track, tmp_path / "a.wav"):
            await feed(track, 0.2)
            raise ZeroDivisionError
    assert Measured(tmp_path / "a.wav").seconds_of_sound == pytest.approx(0.2, abs=0.05)


async def test_it_is_entered_once(tmp_path: Path) -> None:
    recording = record(FrameTrack("audio"), tmp_path / "a.wav")
    with pytest.raises(RuntimeError):
        await recording.wait()
    async with recording:
        with pytest.raises(RuntimeError):
            await recording.__aenter__()
        await recording.stop()
        await recording.stop()


async def test_frames_that_nothing_can_be_made_of(tmp_path: Path) -> None:
    track = FrameTrack("video")
    async with record(track, tmp_path / "a.mp4") as recording:
        await feed(track, 0.3)
        track.push(av.VideoFrame(320, 240, "pal8"))
        track.push(object())
        await feed(track, 0.3, first=0.4, colour=GREEN)
    assert recording.error is None
    assert Measured(tmp_path / "a.mp4").first_picture(GREEN) > 0.2


@one_loop
@pytest.mark.parametrize("passthrough", [False, True])
async def test_a_file_that_is_played(tmp_path: Path, passthrough: bool) -> None:
    source = await open_file(clip(tmp_path, "h264"), passthrough=passthrough)
    async with source:
        assert (source.video.codec == "H264") is passthrough
        async with record(source.video, tmp_path / "a.mkv") as recording:
            with anyio.fail_after(20):
                await recording.wait()
    found = Measured(tmp_path / "a.mkv")
    assert len(found.pictures) >= 58
    assert found.pictures[-1][0] == pytest.approx(2.0, abs=0.2)


async def test_a_picture_of_a_source(tmp_path: Path) -> None:
    for passthrough in (False, True):
        async with await open_file(clip(tmp_path, "vp8"), passthrough=passthrough) as source:
            assert (await snapshot(source.video)).width == 320


async def test_what_is_sent_is_recorded_from_a_branch(tmp_path: Path) -> None:
    source = AudioSource()

    async def send() -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await source.recv()

    async with record(source.branch(), tmp_path / "a.wav") as recording, anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await source.push(bytes(16_000))
        source.end()
        with anyio.fail_after(10):
            await recording.wait()
    assert Measured(tmp_path / "a.wav").seconds_of_sound == pytest.approx(0.5, abs=0.1)


CRASH = """
import os, sys
import anyio
from metered_media import record
from testbed.tracks import RED, ColourTrack, ToneTrack

async def main():
    track = ToneTrack(400) if sys.argv[2] == "audio" else ColourTrack(RED)
    async with record(track, sys.argv[1]):
        await anyio.sleep(3.5)
        print("now", flush=True)
        await anyio.sleep(60)

anyio.run(main)
"""


def test_a_crash_leaves_what_can_be_played(tmp_path: Path) -> None:
    kinds = {"a.mp4": "video", "b.mp4": "audio", "a.webm": "video", "a.mkv": "video", "a.wav": "audio"}
    children = [
        subprocess.Popen([sys.executable, "-c", CRASH, str(tmp_path / name), kind], cwd=ROOT, stdout=subprocess.PIPE)
        for name, kind in kinds.items()
    ]
    for child in children:
        assert child.stdout is not None
        with child.stdout:
            said = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert said == b"now\n"
    for name, kind in kinds.items():
        found = Measured(tmp_path / name)
        if kind == "audio":
            assert 1.0 < found.seconds_of_sound < 15
        else:
            assert 1.0 < found.pictures[-1][0] < 15
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getnframes() >= 48_000


def test_large_pictures_wait_in_small_numbers() -> None:
    sizes = {(320, 240): 45, (1280, 720): 45, (3840, 2160): 7, (8192, 8192): 2}
    assert {size: most_queued("video", av.VideoFrame(*size, "gray")) for size in sizes} == sizes
    assert most_queued("audio", Tone(400).frame(0)) == 500


def test_stretching() -> None:
    ramp = array.array("h", range(0, 1000, 10))
    for count in (98, 100, 102):
        made = array.array("h", stretched(ramp.tobytes(), 1, count))
        assert (len(made), made[0], made[-1]) == (count, 0, 990)
        assert all(0 <= later - earlier <= 12 for earlier, later in itertools.pairwise(made))
    stereo = array.array("h", [value for number in range(50) for value in (number, -number)])
    made = array.array("h", stretched(stereo.tobytes(), 2, 51))
    assert list(made[::2]) == [-value for value in made[1::2]]
    assert stretched(b"\1\2", 1, 3) == b"\1\2\0\0\0\0"
