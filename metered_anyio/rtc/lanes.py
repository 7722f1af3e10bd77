"""One encoder and those who get what it makes: `VideoLane`, `AudioLane`.

A source has a lane for each codec that its viewers take, or for each viewer where they do not share. A lane lives in
the event loop but for `encode`, which is called in a thread, one call at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import av

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc.bitrate import Governor
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.encoders import AudioEncoder, VideoEncoder, is_live, level_of
from metered_anyio.rtc.key_frames import INTERVAL, Group, KeyFrames
from metered_anyio.rtc.outlet import Manner, Outlet
from metered_anyio.rtc.packing import PICTURE_IDS, pack_h264, pack_vp8, pack_whole
from metered_anyio.rtc.timing import VIDEO_CLOCK, Cap

RECENT: Final = 2 * 1024 * 1024
"""Bytes of the frames since the last key frame that a lane keeps, for as long as it may not make another one."""


class Packer:
    """Makes payloads of one codec. Its pictures are counted through."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._pictures = 0

    def pack(self, frame: bytes) -> list[bytes]:
        """The payloads of one frame."""
        match self._codec:
            case "VP8":
                self._pictures = (self._pictures + 1) % PICTURE_IDS
                return pack_vp8(frame, self._pictures)
            case "H264":
                return pack_h264(frame)
            case _:
                return pack_whole(frame)


class Order(NamedTuple):
    """What an encoder is to do with the next frame: see `VideoEncoder.encode`."""

    key: bool
    bitrate: int
    most: int
    held: bool


class VideoLane:
    """See above."""

    def __init__(self, codec: str, encoding: Encoding, logger: ContainedLogger) -> None:
        self.codec = codec
        self.encoding = encoding
        self.viewers: dict[Outlet, None] = {}
        self.refusals = 0
        self._logger = logger
        self._keys = KeyFrames()
        # Whoever comes when no key frame may be made yet starts with these.
        self._recent = Group(VIDEO_CLOCK, seconds=INTERVAL, size=RECENT, count=120)
        name = encoding.encoder
        self._governor = Governor(codec, encoding.max_bitrate, live=is_live(codec, name))
        self._cap = None if encoding.max_fps is None else Cap(encoding.max_fps, VIDEO_CLOCK)
        self._encoder: VideoEncoder | None = None
        self._packer = Packer(codec)
        self._target: int | None = None

    # --- viewers ---

    def join(self, viewer: Outlet) -> None:
        """Somebody else wants it."""
        self.viewers[viewer] = None
        if viewer.estimate is not None:
            self._governor.estimate(viewer, viewer.estimate)
        viewer.ration(None)
        if self._recent.frames:
            viewer.start_with(self._recent.frames)
        else:
            self._keys.ask()

    def leave(self, viewer: Outlet) -> None:
        """Somebody does not want it any more."""
        self.viewers.pop(viewer, None)
        self._governor.forget(viewer)

    def ask_key_frame(self) -> None:
        """A viewer cannot go on."""
        self._keys.ask()

    def estimated(self, viewer: Outlet, bitrate: float) -> None:
        """A viewer can take so much."""
        self._governor.estimate(viewer, bitrate)
        viewer.ration(bitrate if self._governor.is_short(viewer) else None)

    def manner(self) -> Manner:
        """How it is done."""
        name = None if self._encoder is None else self._encoder.name
        return Manner(name, self._target, self.encoding.shared, passthrough=False)

    # --- frames ---

    def wants(self, at: int) -> bool:
        """Whether the frame at this time is to be encoded."""
        return bool(self.viewers) and (self._cap is None or self._cap.lets_through(at))

    def order(self, width: int, height: int, now: float) -> Order:
        """What to do with a frame of this size."""
        self._target = self._governor.target(width, height, now)
        return Order(self._keys.is_due(now), self._target, self._governor.most, self._governor.is_held)

    def encode(self, frame: av.VideoFrame, order: Order) -> list[Encoded]:
        """Do it. In a thread. What cannot be encoded is left out."""
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = VideoEncoder(self.codec, self.encoding.encoder, self._warn)
        try:
            units = encoder.encode(frame, key=order.key, bitrate=order.bitrate, most=order.most, held=order.held)
        except (av.FFmpegError, ValueError, OSError) as error:
            self.refusals += 1
            if self.refusals == 1:
                self._warn("a frame cannot be encoded", type(error).__name__)
            return []
        origin = (encoder, encoder.made)
        return [Encoded(self._packer.pack(unit.data), unit.pts, key=unit.key, origin=origin) for unit in units]

    def hand_out(self, frames: Iterable[Encoded], now: float) -> None:
        """Give everybody what was made."""
        for frame in frames:
            if frame.key:
                self._keys.made(now)
            self._recent.add(frame)
            for viewer in list(self.viewers):
                viewer.take(frame)

    def left_out(self) -> None:
        """A frame was not encoded, because the one before it is not done yet."""
        for viewer in self.viewers:
            viewer.frames_dropped += 1

    def rest(self) -> None:
        """There is nothing to encode for now: let go of the encoder."""
        self._encoder = None
        self._recent.clear()
        self._keys.ask()

    def _warn(self, text: str, reason: str) -> None:
        self._logger.warning(text, {"error": reason})


class AudioLane:
    """See above."""

    def __init__(self, codec: str, encoding: Encoding) -> None:
        self.codec = codec
        self.encoding = encoding
        self.viewers: dict[Outlet, None] = {}
        self._encoder: AudioEncoder | None = None
        self._target = encoding.max_bitrate

    def manner(self) -> Manner:
        """How it is done."""
        name = None if self._encoder is None else self._encoder.name
        return Manner(name, self._target, self.encoding.shared, passthrough=False)

    def encode(self, frames: Iterable[av.AudioFrame]) -> list[Encoded]:
        """Encode sound in frames of 20 ms, as `AudioShaper` makes them. Raises what FFmpeg does."""
        if self._encoder is None:
            self._encoder = AudioEncoder(self.codec, self.encoding.max_bitrate)
        made: list[Encoded] = []
        for frame in frames:
            level = level_of(frame)
            made += [
                Encoded(pack_whole(unit.data), unit.pts, key=True, origin=self, level=level)
                for unit in self._encoder.encode(frame)
            ]
        return made

    def hand_out(self, frames: Iterable[Encoded]) -> None:
        """Give everybody what was made."""
        for frame in frames:
            for viewer in list(self.viewers):
                viewer.take(frame)

    def rest(self) -> None:
        """There is nothing to encode for now."""
        self._encoder = None


Lane = VideoLane | AudioLane


def lane_key(outlet: Outlet, codec: str) -> Any:
    """What viewers with the same lane have in common."""
    return codec, outlet.encoding, None if outlet.encoding.shared else outlet
