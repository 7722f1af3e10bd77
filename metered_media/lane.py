"""One stream of a source while it is open: its packets go in, and frames or packets to be sent come out. Blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import av

from metered_media.audio_shaping import HIGHEST_RATE, LOWEST_RATE
from metered_media.errors import PassthroughError
from metered_media.passthrough import Straight

KEPT: Final = 300
KEPT_BYTES: Final = 8_000_000
"""What is kept since the last key frame, for whoever begins to read in the middle."""

LARGEST: Final = 8192 * 8192
"""Pixels of a picture that is decoded. A stranger's file may claim any size, and we would have to find room for it."""

IMPATIENCE: Final = 250
"""Packets after which a stream without key frames is decoded as it is: some refresh their pictures bit by bit."""


class Item(NamedTuple):
    """A frame or a packet, when it is in the time of its own stream (None: not known), and how long it lasts."""

    thing: Any
    own: float | None
    lasts: float


class Lane:
    """`straight` is how packets are sent as they are; None: they are decoded. If they turn out to be unfit,
    `on_misfit` is told, and may raise; else they are decoded from there on."""

    def __init__(
        self,
        stream: Any,
        straight: Straight | None,
        on_misfit: Callable[[PassthroughError], None],
        *,
        live: bool,
    ) -> None:
        self.kind: str = stream.type
        self.straight = straight
        self.broken = 0
        self._stream = stream
        self._decoder = stream.codec_context
        self._on_misfit = on_misfit
        self._kept: deque[Any] = deque()
        self._kept_bytes = 0
        self._whole = False  # what is kept begins with a key frame
        self._resting = True  # nothing was given since, so the decoder has a gap
        self._waited = 0
        self._alone = False
        self._sent: float | None = None
        rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None) if self._video else None
        self._usual = float(1 / rate) if rate and 1 <= rate <= 1000 else 1 / 30
        if self._video:
            codec = self._decoder.codec
            # Pictures that need no others may be begun with anywhere. FFmpeg marks not all of them as key frames.
            self._alone = codec.intra_only or codec.name == "wrapped_avframe"
            # Threads that take a frame each would hold as many back.
            self._decoder.thread_type = "SLICE"
            self._decoder.options = {**self._decoder.options, "max_pixels": str(LARGEST)}
            if live:
                self._decoder.flags |= av.codec.context.Flags.low_delay

    @property
    def _video(self) -> bool:
        return self.kind == "video"

    def feed(self, packet: Any, wanted: bool) -> list[Item]:
        """What becomes of the next packet. If nothing is `wanted`, it is only kept in mind."""
        self._keep(packet)
        if not wanted:
            self._resting = True
            return []
        if not self._resting:
            return self._give(packet)
        return self._resume(packet)

    def flush(self) -> list[Item]:
        """The stream is over: what its decoder still holds."""
        return [] if self.straight is not None or self._resting else self._decode(None)

    def _keep(self, packet: Any) -> None:
        if not self._video:
            return
        if packet.is_keyframe or self._alone:
            self._forget()
            self._whole = True
        if self._whole:
            self._kept.append(packet)
            self._kept_bytes += packet.size
            if len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES:
                self._forget()

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0
        self._whole = False

    def _resume(self, packet: Any) -> list[Item]:
        """Somebody reads again: from the last key frame up to here, of which only the newest picture is shown."""
        if not self._video:
            self._resting = False
            return self._give(packet)
        if not self._whole:
            self._waited += 1
            if self._waited < IMPATIENCE or self.straight is not None:
                return []
        self._resting = False
        packets = list(self._kept) if self._whole else [packet]
        if self.straight is None and self._decoder.is_open:
            self._decoder.flush_buffers()
        items: list[Item] = []
        for each in packets:
            items += self._give(each)
        return items if self.straight is not None else items[-1:]

    def _give(self, packet: Any) -> list[Item]:
        if self.straight is None:
            return self._decode(packet)
        try:
            made = self.straight.take(packet)
        except PassthroughError as error:
            self.straight = None
            self._on_misfit(error)
            return self._go_over()
        if made is None:
            return []
        own = _seconds(packet.pts if packet.pts is not None else packet.dts, packet.time_base)
        lasts = _seconds(packet.duration, packet.time_base) or (self._usual if self._video else 0.02)
        self._sent = own
        return [Item(made, own, lasts)]

    def _go_over(self) -> list[Item]:
        """Decode from here on. The decoder has to see what was sent since the key frame; viewers need not."""
        items: list[Item] = []
        for each in list(self._kept):
            items += self._decode(each)
        sent = self._sent
        return [each for each in items if sent is None or each.own is None or each.own > sent]

    def _decode(self, packet: Any | None) -> list[Item]:
        try:
            frames = self._decoder.decode(packet)
        except av.error.EOFError:
            return []
        except (av.FFmpegError, ValueError):
            self.broken += 1
            return []
        if not self._video:
            usable = [frame for frame in frames if LOWEST_RATE <= (frame.sample_rate or 0) <= HIGHEST_RATE]
            self.broken += len(frames) - len(usable)
            frames = usable
        return [self._item(frame) for frame in frames]

    def _item(self, frame: Any) -> Item:
        own = _seconds(frame.pts, frame.time_base)
        if not self._video:
            return Item(frame, own, frame.samples / (frame.sample_rate or 48_000))
        lasts = _seconds(getattr(frame, "duration", None), frame.time_base) or self._usual
        return Item(frame, own, min(lasts, 10.0))


def _seconds(count: int | None, base: Any) -> float | None:
    return None if count is None or base is None else count * base.numerator / base.denominator
