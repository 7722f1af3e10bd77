"""What one encoded frame is on the wire: the payloads of its RTP packets. Made once, whoever they go to.

VP8 is RFC 7741, H.264 RFC 6184 in packetization mode 1, and Opus RFC 7587.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

LARGEST: Final = 1300
"""Bytes of one payload. With headers, encryption and a relay around it, it fits into a datagram on any path."""

PICTURE_IDS: Final = 1 << 15

_START: Final = b"\0\0\1"
_STAP_A: Final = 24
_FU_A: Final = 28
_IDR: Final = 5
_NOT_SENT: Final = frozenset({9, 12})  # access unit delimiters and filler data


def pack_vp8(frame: bytes, picture_id: int) -> list[bytes]:
    """The payloads of one frame. `picture_id` counts frames, modulo `PICTURE_IDS`."""
    name = bytes((0x80, 0x80 | picture_id >> 8, picture_id & 0xFF))
    first, next_ones = b"\x90" + name, b"\x80" + name  # the first one says where the partition starts
    room = LARGEST - 4
    return [(next_ones if at else first) + frame[at : at + room] for at in range(0, len(frame), room)]


def pack_h264(access_unit: bytes) -> list[bytes]:
    """The payloads of one access unit in Annex B form."""
    payloads: list[bytes] = []
    together: list[bytes] = []  # small units that go in one packet
    size = 1
    for unit in h264_units(access_unit):
        if unit[0] & 0x1F in _NOT_SENT:
            continue
        if together and size + 2 + len(unit) > LARGEST:
            payloads.append(_aggregate(together))
            together, size = [], 1
        if len(unit) > LARGEST:
            payloads += _fragments(unit)
        else:
            together.append(unit)
            size += 2 + len(unit)
    if together:
        payloads.append(_aggregate(together))
    return payloads


def pack_whole(frame: bytes) -> list[bytes]:
    """The payloads of a codec whose frame is one payload."""
    return [frame] if frame else []


def is_vp8_key_frame(frame: bytes) -> bool:
    """Whether decoding can start here (RFC 6386 section 9.1)."""
    return len(frame) > 0 and not frame[0] & 1


def is_h264_key_frame(access_unit: bytes) -> bool:
    """Whether there is an IDR picture in it (ITU-T H.264, table 7-1)."""
    return any(unit[0] & 0x1F == _IDR for unit in h264_units(access_unit))


def h264_units(access_unit: bytes) -> Iterator[bytes]:
    """The NAL units of an access unit in Annex B form, without start codes and without empty ones."""
    starts: list[int] = []
    at = access_unit.find(_START)
    while at >= 0:
        starts.append(at + 3)
        at = access_unit.find(_START, at + 3)
    for start, following in pairwise((*starts, len(access_unit) + 3)):
        # What is zero at the end belongs to the start code that follows.
        if unit := access_unit[start : following - 3].rstrip(b"\0"):
            yield unit


def _aggregate(units: list[bytes]) -> bytes:
    if len(units) == 1:
        return units[0]
    forbidden = max(unit[0] & 0x80 for unit in units)
    importance = max(unit[0] & 0x60 for unit in units)
    return bytes((forbidden | importance | _STAP_A,)) + b"".join(_sized(units))


def _sized(units: Iterable[bytes]) -> Iterator[bytes]:
    for unit in units:
        yield len(unit).to_bytes(2, "big")
        yield unit


def _fragments(unit: bytes) -> Iterator[bytes]:
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    count = -(-(len(unit) - 1) // (LARGEST - 2))
    bounds = [1 + (len(unit) - 1) * number // count for number in range(count + 1)]  # all of one size
    for number, (start, end) in enumerate(pairwise(bounds)):
        flags = 0x80 * (number == 0) | 0x40 * (number == count - 1)
        yield bytes((indicator, flags | kind)) + unit[start:end]
