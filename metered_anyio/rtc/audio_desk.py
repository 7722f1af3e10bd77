"""Sound on its way to viewers: encoded once for each codec, or passed on.

It is encoded in the event loop: 20 ms take less of it than handing them to a thread and back would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, cast

import av

from metered_anyio.encoding import Encoding
from metered_anyio.rtc.desk import Desk
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.frames import AudioShaper
from metered_anyio.rtc.lanes import AudioLane
from metered_anyio.rtc.packing import pack_whole
from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES, Timeline

LONG: Final = 0.1
"""Seconds of sound in one frame, from which on it is encoded in a thread after all."""


class AudioDesk(Desk[AudioLane]):
    """See `Desk`."""

    def __init__(self, executor: Executor, skipped: Callable[[BaseException], None]) -> None:
        super().__init__(skipped)
        self._executor = executor
        self._shaper = AudioShaper()
        self._decoder: Any = None
        self._timeline = Timeline(AUDIO_CLOCK, SAMPLES, self._now)
        self._origin = object()

    def _make(self, codec: str, encoding: Encoding) -> AudioLane:
        return AudioLane(codec, encoding)

    async def take(self, item: Any, codec: str | None) -> None:
        frames: list[av.AudioFrame]
        if isinstance(item, av.Packet):
            assert codec is not None
            self._now_passing(codec)
            data = bytes(item)
            self._pass_on(data, item)
            if not (lanes := self._encoding()):
                self._decoder = None
                return
            frames = self._decode(data, item, codec)
        elif isinstance(item, av.AudioFrame):
            if item.samples <= LONG * item.sample_rate:
                self.take_now(item)
                return
            lanes, frames = self._frames_come(), [item]
        else:
            raise TypeError(f"{type(item).__name__} is no frame")
        try:
            if sum(frame.samples / frame.sample_rate for frame in frames if frame.sample_rate) > LONG:
                loop = asyncio.get_running_loop()
                made = await loop.run_in_executor(self._executor, self._encode, frames, lanes)
            else:
                made = self._encode(frames, lanes)
        except (av.FFmpegError, ValueError) as error:
            self._skipped(error)
            return
        for lane, encoded in zip(lanes, made, strict=True):
            lane.hand_out(encoded)

    def take_now(self, frame: av.AudioFrame) -> None:
        """A frame of no more than `LONG`, which has been sent when this returns."""
        lanes = self._frames_come()
        try:
            shaped = self._shaper.shape(frame)
            made = [lane.encode(shaped) for lane in lanes]
        except (av.FFmpegError, ValueError) as error:
            self._skipped(error)
            return
        for lane, encoded in zip(lanes, made, strict=True):
            lane.hand_out(encoded)

    def _frames_come(self) -> list[AudioLane]:
        self._now_passing(None)
        self._decoder = None
        return self._encoding()

    def _pass_on(self, data: bytes, packet: av.Packet[Any]) -> None:
        lanes = list(self._passing())
        if lanes:
            at = self._timeline.stamp(packet.pts, packet.time_base)
            encoded = Encoded(pack_whole(data), at, key=True, origin=self._origin)
            for lane in lanes:
                lane.hand_out([encoded])

    def _decode(self, data: bytes, packet: av.Packet[Any], codec: str) -> list[av.AudioFrame]:
        if self._decoder is None:
            self._decoder = av.CodecContext.create(_DECODERS.get(codec, codec), "r")
        own: av.Packet[Any] = av.Packet(data)
        own.pts = packet.pts
        if packet.time_base is not None:
            own.time_base = packet.time_base
        try:
            return cast(list[av.AudioFrame], self._decoder.decode(own))
        except (av.FFmpegError, ValueError) as error:
            self._skipped(error)
            return []

    def _encode(self, frames: list[av.AudioFrame], lanes: list[AudioLane]) -> list[list[Encoded]]:
        shaped = [each for frame in frames for each in self._shaper.shape(frame)]
        return [lane.encode(shaped) for lane in lanes]


_DECODERS: Final = {"opus": "libopus", "PCMU": "pcm_mulaw", "PCMA": "pcm_alaw", "G722": "g722"}
