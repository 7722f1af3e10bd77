"""Packets of a file or a camera as senders want them, without decoding: or why that cannot be.

H.264 becomes Annex B with the parameter sets ahead of every key frame (RFC 6184 carries no others), VP8 and Opus go as
they are. What no browser would show properly is a `PassthroughError`, if need be in mid-stream: some streams show
only later that they have their pictures out of order.
"""

from __future__ import annotations

from typing import Any, Final

import av

from metered_media import h264
from metered_media.errors import PassthroughError

CODECS: Final = {"h264": "H264", "vp8": "VP8", "opus": "opus", "libopus": "opus"}
"""FFmpeg's names of what can be sent as it is, and the names that it has in RTP."""


def straight(stream: Any) -> Straight:
    """How to send this stream as it is. Raises `PassthroughError` if it is plain already that it cannot be."""
    name = stream.codec_context.name
    if CODECS.get(name) == "H264":
        return StraightH264(stream)
    if CODECS.get(name) == "opus" and stream.codec_context.channels > 2:
        raise PassthroughError("codec", "its sound has more than two channels")
    if name not in CODECS:
        raise PassthroughError("codec", f"its codec is {name}, and neither H.264, VP8 nor Opus")
    return Straight(CODECS[name])


class Straight:
    """Packets that are sent as they are: VP8 and Opus."""

    def __init__(self, codec: str) -> None:
        self.codec = codec

    def take(self, packet: Any) -> Any | None:
        """The packet to send; None if there is none yet. Raises `PassthroughError`."""
        return _packet(bytes(packet), packet.is_keyframe)


class StraightH264(Straight):
    """H.264, from whatever container."""

    def __init__(self, stream: Any) -> None:
        super().__init__("H264")
        record = bytes(stream.codec_context.extradata or b"")
        # A record that begins with its version 1 says that units have their length ahead (ISO/IEC 14496-15, 5.3.3.1).
        self._size = (record[4] & 3) + 1 if record[:1] == b"\1" and len(record) > 6 else None
        self._sets: dict[int, bytes] = {}
        self._sps: h264.Sps | None = None
        self._newest: int | None = None
        self._note(h264.from_avcc(record) if self._size is not None else h264.units(record))
        if stream.codec_context.has_b_frames and self._unsure:
            raise PassthroughError("b_frames", "its pictures are out of order")

    def take(self, packet: Any) -> Any | None:
        data = bytes(packet)
        units = h264.units(data) if self._size is None else h264.split(data, self._size)
        if not units:
            return None
        self._note(units)
        self._check_order(packet, units)
        kinds = {h264.unit_type(unit) for unit in units}
        key = h264.IDR in kinds
        if key and not {h264.SPS, h264.PPS} <= kinds:
            if not {h264.SPS, h264.PPS} <= self._sets.keys():
                raise PassthroughError("parameter_sets", "a key frame came without parameter sets")
            sets = [self._sets[kind] for kind in (h264.SPS, h264.PPS)]
            units = sets + [unit for unit in units if h264.unit_type(unit) not in (h264.SPS, h264.PPS)]
        elif self._size is None and not key:
            return _packet(data, False)
        return _packet(h264.annex_b(units), key)

    @property
    def _unsure(self) -> bool:
        """Whether the parameter sets leave open if pictures are out of order."""
        return self._sps is None or self._sps.reorder is None

    def _note(self, units: list[bytes]) -> None:
        for unit in units:
            kind = h264.unit_type(unit)
            if kind not in (h264.SPS, h264.PPS) or self._sets.get(kind) == unit:
                continue
            self._sets[kind] = unit
            if kind == h264.SPS:
                self._sps = h264.read_sps(unit)
                if self._sps is None:
                    raise PassthroughError("parameter_sets", "its parameter sets cannot be read")
                if self._sps.misfit is not None:
                    code, reason = self._sps.misfit
                    raise PassthroughError(code, reason)

    def _check_order(self, packet: Any, units: list[bytes]) -> None:
        if self._unsure and any(h264.has_b_slice(unit) for unit in units):
            raise PassthroughError("b_frames", "it has B-frames")
        if packet.pts is not None:
            # Times that begin anew do so with a key frame, and that is no disorder.
            if self._newest is not None and packet.pts < self._newest and not packet.is_keyframe:
                raise PassthroughError("b_frames", "its pictures are out of order")
            self._newest = packet.pts


def _packet(data: bytes, key: bool) -> Any:
    made: Any = av.Packet(data)
    made.is_keyframe = key
    return made
