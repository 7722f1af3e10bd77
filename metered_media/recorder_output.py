"""A file that is being written: frames in, a container out that can be played even if its end is never written."""

from __future__ import annotations

import wave
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import av
from av.audio.stream import AudioStream
from av.video.frame import PictureType
from av.video.stream import VideoStream

from metered_media.recorder_format import Format, RecordingOptions, usual_bitrate

TICKS: Final = 90_000
"""The ticks of a second in which pictures are timed."""

_GOP: Final = 60
_BLACK: Final = (16, 128, 128)


class Output(Protocol):
    """A file of one kind or another. What its methods raise (`OSError`, FFmpeg's or Python's) is its end."""

    def sound(self, samples: bytes) -> None:
        """Samples, s16, right behind those before."""
        ...

    def picture(self, frame: av.VideoFrame, at: int) -> None:
        """A picture as `shape` made it, to be shown from `at` on."""
        ...

    def close(self) -> None:
        """Write what is left, and close it."""
        ...


def open_output(
    path: Path, format: Format, options: RecordingOptions, size: tuple[int, int] | None, sound: bool, began: float
) -> Output:
    """Make the file. `size` is that of its pictures, None for a file without; `began` is in Unix time."""
    if format.suffix == "wav":
        return WaveFile(path, options)
    return Container(path, format, options, size, sound, began)


class Container:
    """A file of FFmpeg's."""

    def __init__(
        self,
        path: Path,
        format: Format,
        options: RecordingOptions,
        size: tuple[int, int] | None,
        sound: bool,
        began: float,
    ) -> None:
        container_format = "matroska" if format.suffix == "mkv" else format.suffix
        self._file = _File(path)
        try:
            self._container = av.open(self._file, "w", format=container_format, options=dict(format.options))
        except BaseException:
            self._file.close()
            raise
        self._container.metadata["creation_time"] = datetime.fromtimestamp(began, UTC).isoformat()
        self._options = options
        self._samples = 0
        self._video: VideoStream | None = None
        self._audio: AudioStream | None = None
        try:
            if size is not None:
                self._video = self._add_video(options.encoder(format), size)
            if sound:
                self._audio = self._add_audio(format.audio[0])
        except BaseException:
            self._end()
            raise

    def _add_audio(self, encoder: str) -> AudioStream:
        stream: Any = self._container.add_stream(encoder, rate=self._options.sample_rate)
        stream.layout = self._options.layout
        if self._options.audio_bitrate is not None:
            stream.bit_rate = self._options.audio_bitrate
        found: AudioStream = stream
        return found

    def _add_video(self, encoder: str, size: tuple[int, int]) -> VideoStream:
        stream: Any = self._container.add_stream(encoder, rate=30)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.gop_size = _GOP
        context.max_b_frames = 0
        # One: the threads of libvpx wait for each other by spinning, and several files are written side by side anyway.
        context.thread_count = 1
        bitrate = self._options.video_bitrate
        if encoder == "libx264":
            # Without a look ahead, what is lost in a crash is little, and so is what is kept in memory.
            stream.options = {"preset": "veryfast", "tune": "zerolatency"} | ({} if bitrate else {"crf": "23"})
        else:
            stream.options = {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"}
            bitrate = bitrate or usual_bitrate(*size)
        if bitrate is not None:
            stream.bit_rate = bitrate
        found: VideoStream = stream
        return found

    def sound(self, samples: bytes) -> None:
        """See `Output`."""
        assert self._audio is not None
        count = len(samples) // sample_bytes(self._options.layout)
        frame = av.AudioFrame("s16", self._options.layout, count)
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate = self._options.sample_rate
        frame.pts, frame.time_base = self._samples, Fraction(1, self._options.sample_rate)
        self._samples += count
        self._container.mux(self._audio.encode(frame))

    def picture(self, frame: av.VideoFrame, at: int) -> None:
        """See `Output`."""
        assert self._video is not None
        frame.pts, frame.time_base = at, Fraction(1, TICKS)
        # The sender's key frames need not be ours.
        frame.pict_type = PictureType.NONE
        self._container.mux(self._video.encode(frame))

    def close(self) -> None:
        """See `Output`."""
        try:
            self._flush()
        except (av.FFmpegError, OSError):
            if self._file.error is None:
                raise
        if self._file.error is not None:
            raise self._file.error

    def _flush(self) -> None:
        try:
            for stream in (self._video, self._audio):
                if stream is not None:
                    self._container.mux(stream.encode(None))
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self._container.close()
        finally:
            self._file.close()


class _File:
    """What FFmpeg writes to. `error` keeps what went wrong: of the end of an mp4 FFmpeg does not tell."""

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file = path.open("wb", buffering=0)  # what was written survives us
        self.seek, self.tell = self._file.seek, self._file.tell

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = self.error or error
            raise
        return len(data)

    def close(self) -> None:
        self._file.close()


class WaveFile:
    """A WAV file, whose header is true after each second: FFmpeg writes it only at the end."""

    LONGEST: Final = 2**32 - 2**16
    """Bytes: the header has 32 bits for it."""

    def __init__(self, path: Path, options: RecordingOptions) -> None:
        self._file = wave.open(str(path), "wb")  # noqa: SIM115 - `close` closes it
        self._file.setnchannels(1 if options.layout == "mono" else 2)
        self._file.setsampwidth(2)
        self._file.setframerate(options.sample_rate)
        self._second = options.sample_rate * sample_bytes(options.layout)
        self._kept = bytearray()
        self._size = 0

    def sound(self, samples: bytes) -> None:
        """See `Output`."""
        self._size += len(samples)
        if self._size > self.LONGEST:
            raise OSError("a WAV file cannot be larger than 4 GiB")
        self._kept += samples
        if len(self._kept) >= self._second:
            self._write()

    def picture(self, frame: av.VideoFrame, at: int) -> None:
        """It holds none."""
        raise AssertionError

    def close(self) -> None:
        """See `Output`."""
        try:
            self._write()
        finally:
            self._file.close()

    def _write(self) -> None:
        self._file.writeframes(self._kept)  # and the header
        self._kept.clear()


class Shaper:
    """Makes pictures of any size and format fit for a file: scaled into its size, with black where nothing is.

    What it gives shares pixels with what it was given, perhaps, but neither time nor type.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._graph: av.filter.Graph | None = None
        self._seen: tuple[int, int, str] | None = None

    def shape(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture. Raises FFmpeg's errors or `ValueError` for one that nothing can be made of."""
        seen = (frame.width, frame.height, frame.format.name)
        if self._graph is None or seen != self._seen:
            self._graph, self._seen = self._make(*seen), seen
        self._graph.push(frame)
        shaped = self._graph.pull()
        assert isinstance(shaped, av.VideoFrame)
        return shaped

    def black(self) -> av.VideoFrame:
        """A black picture."""
        frame = av.VideoFrame(*self._size, "yuv420p")
        for plane, value in zip(frame.planes, _BLACK, strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        return frame

    def _make(self, width: int, height: int, format: str) -> av.filter.Graph:
        graph = av.filter.Graph()
        to_width, to_height = self._size
        parts = []
        if (width, height) != self._size:
            parts = [
                ("scale", f"{to_width}:{to_height}:force_original_aspect_ratio=decrease:force_divisible_by=2"),
                ("pad", f"{to_width}:{to_height}:-1:-1"),
            ]
        source = graph.add(
            "buffer", f"video_size={width}x{height}:pix_fmt={format}:time_base=1/{TICKS}:pixel_aspect=1/1"
        )
        for name, options in [*parts, ("format", "pix_fmts=yuv420p"), ("buffersink", None)]:
            following = graph.add(name, options)
            source.link_to(following)
            source = following
        graph.configure()
        return graph


def sample_bytes(layout: str) -> int:
    """The bytes of one sample, s16, of all channels."""
    return 2 if layout == "mono" else 4
