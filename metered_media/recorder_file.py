"""One file of a recording, encoded and written in a thread of its own."""

from __future__ import annotations

import array
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
from av.audio.resampler import AudioResampler

from metered_media.decoding import PacketDecoder
from metered_media.recorder_format import Format, Kind, RecordingOptions, recorded_size
from metered_media.recorder_output import TICKS, Output, Shaper, open_output, sample_bytes
from metered_media.recorder_timeline import AudioTimeline, Silence, Sound, VideoTimeline

OPEN_AFTER: Final = 2.0
"""Seconds for which sound waits for the first picture, from which the file takes its size."""

NO_PICTURE: Final = (640, 360)
"""The size of the pictures of a file in whose first seconds there was none."""

QUEUED: Final = {"video": 45, "audio": 500}
"""Frames that may wait to be encoded. What comes beyond that is lost, and counted."""

QUEUED_PIXELS: Final = 60_000_000
"""Pixels that may, so that few large pictures wait: about 90 MB."""

_TICK: Final = 0.2
_PROGRESS: Final = 1.0
_LATE: Final = 0.05  # a first picture that comes so late has a black one before it


@dataclass(frozen=True, slots=True)
class Length:
    """How far a file is: seconds of media, and bytes."""

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: Kind
    arrival: float
    frame: Any
    codec: str | None


@dataclass(frozen=True, slots=True)
class _Finish:
    at: float


class FileWriter:
    """Writes a file of `kinds`, from `put` to `finish`. The file is made with the first frame.

    `on_progress` is called once a second, `on_over` once at the end, both in its thread. `error` says then what went
    wrong, if anything did.
    """

    def __init__(
        self,
        path: Path,
        format: Format,
        kinds: frozenset[Kind],
        options: RecordingOptions,
        *,
        on_progress: Callable[[Length], object],
        on_over: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.kinds = kinds
        self.error: str | None = None
        self.dropped = 0
        """Frames lost since encoding or the disk did not keep up, or nothing could be made of them."""
        self._format = format
        self._options = options
        self._on_progress, self._on_over = on_progress, on_over
        self._clock = clock
        self._queue: queue.SimpleQueue[_Frame | _Finish] = queue.SimpleQueue()
        self._queued = {"video": 0, "audio": 0}
        self._guard = threading.Lock()
        self._finishing = False
        self._length = Length(0.0, 0)
        self._thread = threading.Thread(target=self._run, name=f"recording {path.name}", daemon=True)
        self._thread.start()

    @property
    def length(self) -> Length:
        """How far it is."""
        return self._length

    def put(self, kind: Kind, frame: Any, codec: str | None = None) -> None:
        """A frame is there, or a packet of `codec`. It is not written to. Returns at once."""
        with self._guard:
            if self._finishing:
                return
            if self._queued[kind] >= most_queued(kind, frame):
                self.dropped += 1
                return
            self._queued[kind] += 1
            self._queue.put(_Frame(kind, self._clock(), frame, codec))

    def finish(self) -> None:
        """No more frames come: the file ends now. Idempotent; `on_over` is called when it is closed."""
        with self._guard:
            if not self._finishing:
                self._finishing = True
                self._queue.put(_Finish(self._clock()))

    def join(self) -> None:
        """Wait for the thread, which is at its end or will soon be."""
        self._thread.join()

    # --- in the thread ---

    def _run(self) -> None:
        work = _Work(self.path, self._format, self.kinds, self._options)
        try:
            self._write(work)
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            self.error = _reason(error)
        finally:
            with self._guard:
                self._finishing = True
            error_of_closing = work.close()
            self.error = self.error or error_of_closing
            self._length = work.length()
            self._on_over()

    def _write(self, work: _Work) -> None:
        told = self._clock()
        while True:
            try:
                item = self._queue.get(timeout=_TICK)
            except queue.Empty:
                item = None  # time passes for those who wait, too
            match item:
                case _Frame(kind, arrival, frame, codec):
                    with self._guard:
                        self._queued[kind] -= 1
                    if not work.take(kind, arrival, frame, codec):
                        self.dropped += 1
                case _Finish(at):
                    work.finish(at)
                    return
            # What still waits in the queue has come, too: so time is that of what was seen last.
            work.advance(item.arrival if item is not None and not self._queue.empty() else self._clock())
            if self._clock() >= told + _PROGRESS:
                told = self._clock()
                self._length = work.length()
                if work.opened:
                    self._on_progress(self._length)


class _Work:
    """What the thread does, frame by frame. Times are those of its clock."""

    def __init__(self, path: Path, format: Format, kinds: frozenset[Kind], options: RecordingOptions) -> None:
        self._path, self._format, self._kinds, self._options = path, format, kinds, options
        self._began: float | None = None
        self._output: Output | None = None
        self._audio: AudioTimeline | None = None
        self._video: VideoTimeline | None = None
        self._shaper: Shaper | None = None
        self._picture: av.VideoFrame | None = None  # the last one
        self._resampler: AudioResampler | None = None
        self._heard: tuple[str, str, int] | None = None
        self._sample = sample_bytes(options.layout)
        self._decoders = {"audio": PacketDecoder(), "video": PacketDecoder()}

    @property
    def opened(self) -> bool:
        """Whether the file is there."""
        return self._output is not None

    def take(self, kind: Kind, arrival: float, given: Any, codec: str | None) -> bool:
        """Take in a frame or a packet. False if nothing can be made of it."""
        try:
            frames = self._decoders[kind].frames(given, codec)
        except (av.FFmpegError, ValueError):
            return False
        if kind == "audio":
            return all(isinstance(each, av.AudioFrame) and self._take_audio(arrival, each) for each in frames)
        return all(isinstance(each, av.VideoFrame) and self._take_video(arrival, each) for each in frames)

    def advance(self, now: float) -> None:
        """Write what is due by now."""
        if self._output is None:
            if self._began is not None and now >= self._began + OPEN_AFTER:
                self._open(now, None)
            return
        if self._audio is not None:
            self._write_sound(self._audio.due(now))
        if self._video is not None:
            while (at := self._video.still(now)) is not None:
                self._show_again(at)

    def finish(self, at: float) -> None:
        """Write what is left."""
        if self._began is None:
            return
        if self._output is None:
            self._open(at, None)
        if self._audio is not None:
            self._write_sound(self._audio.rest(at))
        if self._video is not None and (last := self._video.last(at)) is not None:
            self._show_again(last)

    def close(self) -> str | None:
        """Close the file. Says what went wrong with it, if anything did."""
        output, self._output = self._output, None
        if output is not None:
            try:
                output.close()
            except (av.FFmpegError, OSError, ValueError) as error:
                return _reason(error)
        return None

    def length(self) -> Length:
        """How far it is."""
        seconds = 0.0
        if self._audio is not None:
            seconds = self._audio.written / self._options.sample_rate
        if self._video is not None and self._video.shown is not None:
            seconds = max(seconds, self._video.shown / TICKS)
        try:
            return Length(seconds, os.stat(self._path).st_size if self._began is not None else 0)
        except OSError:
            return Length(seconds, 0)

    # --- sound ---

    def _take_audio(self, arrival: float, frame: av.AudioFrame) -> bool:
        try:
            pieces = self._resample(frame)
            stamp = _stamp(frame, arrival - frame.samples / frame.sample_rate)
        except (av.FFmpegError, ValueError, ZeroDivisionError):
            return False
        rate = self._options.sample_rate
        if self._audio is None:
            alone = "video" not in self._kinds
            self._audio = AudioTimeline(rate, self._begin(arrival - frame.samples / frame.sample_rate), alone=alone)
            if alone:
                self._open(arrival, None)
        count = sum(piece.samples for piece in pieces)
        data = b"".join(bytes(piece.planes[0])[: piece.samples * self._sample] for piece in pieces)
        if count:
            self._audio.put(arrival, stamp, count, data)
        return True

    def _resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        heard = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or heard != self._heard:
            self._heard = heard
            self._resampler = AudioResampler("s16", self._options.layout, self._options.sample_rate)
        return self._resampler.resample(frame)

    def _write_sound(self, pieces: Iterable[Silence | Sound]) -> None:
        assert self._output is not None
        for piece in pieces:
            if isinstance(piece, Silence):
                for at in range(0, piece.samples, self._options.sample_rate):
                    count = min(piece.samples - at, self._options.sample_rate)
                    self._output.sound(bytes(count * self._sample))
            else:
                data = piece.frame[piece.skip * self._sample :]
                self._output.sound(stretched(data, self._sample // 2, piece.samples))

    # --- pictures ---

    def _take_video(self, arrival: float, frame: av.VideoFrame) -> bool:
        stamp = _stamp(frame, arrival)
        if self._output is None:
            self._begin(arrival)
            self._open(arrival, frame)
        assert self._shaper is not None
        assert self._video is not None
        try:
            shaped = self._shaper.shape(frame)
        except (av.FFmpegError, ValueError):
            return False
        self._show(shaped, self._video.place(arrival, stamp))
        return True

    def _show(self, frame: av.VideoFrame, at: int) -> None:
        assert self._output is not None
        self._picture = frame
        self._output.picture(frame, at)

    def _show_again(self, at: int) -> None:
        assert self._shaper is not None
        assert self._picture is not None
        self._show(self._shaper.shape(self._picture), at)

    # --- the file ---

    def _begin(self, at: float) -> float:
        if self._began is None:
            self._began = at
        return self._began

    def _open(self, now: float, first: av.VideoFrame | None) -> None:
        assert self._began is not None
        size = None
        if "video" in self._kinds:
            size = self._options.size or (NO_PICTURE if first is None else (first.width, first.height))
            size = recorded_size(*size)
        began = time.time() - (now - self._began)
        sound = "audio" in self._kinds
        self._output = open_output(self._path, self._format, self._options, size, sound, began)
        if sound and self._audio is None:
            self._audio = AudioTimeline(self._options.sample_rate, self._began)
        if size is not None:
            self._shaper = Shaper(size)
            self._video = VideoTimeline(TICKS, self._began)
            if now > self._began + _LATE:
                self._show(self._shaper.black(), self._video.lead())


def most_queued(kind: Kind, frame: Any) -> int:
    """How many frames like this one may wait."""
    pixels = frame.width * frame.height if isinstance(frame, av.VideoFrame) else 0
    return max(2, min(QUEUED[kind], QUEUED_PIXELS // max(1, pixels)))


def stretched(samples: bytes, channels: int, count: int) -> bytes:
    """Some samples, s16, made longer or shorter by a little: `count` for each channel, along straight lines."""
    given = array.array("h", samples)
    had = len(given) // channels
    if had == count or had < 2 or count < 2:
        return samples[: count * channels * 2].ljust(count * channels * 2, b"\0")
    made = array.array("h", bytes(count * channels * 2))
    step = (had - 1) / (count - 1)
    for number in range(count):
        at = number * step
        left = min(int(at), had - 2)
        part = at - left
        for channel in range(channels):
            one, other = given[left * channels + channel], given[(left + 1) * channels + channel]
            made[number * channels + channel] = round(one + (other - one) * part)
    return made.tobytes()


def _stamp(frame: Any, arrival: float) -> float:
    if frame.pts is None or not frame.time_base:
        return arrival
    return float(frame.pts * frame.time_base)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
