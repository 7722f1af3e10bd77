"""H.264 as far as one must read it to send it as it is: NAL units, sequence parameter sets, slice types (ITU-T H.264).

Everything here takes bytes from strangers. What cannot be read is None or left out, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from metered_media.errors import PassthroughFailure

SLICE, IDR, SEI, SPS, PPS, DELIMITER = 1, 5, 6, 7, 8, 9
"""Types of NAL units (table 7-1)."""

START: Final = b"\0\0\0\1"

_WITH_CHROMA: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles whose parameter sets say which chroma they have (clause 7.3.2.1.1)."""

_PLAIN: Final = (66, 77, 100)
"""Baseline, Main, High: what decoders of browsers take."""

_MOST: Final = 64  # units of one access unit that are looked at; more is nothing that anybody sends


@dataclass(frozen=True, slots=True)
class Sps:
    """What a sequence parameter set says. `reorder` is how many pictures may be out of order, None if it is not said
    (clause E.2.1, max_num_reorder_frames)."""

    profile: int
    constraints: int
    level: int
    chroma: int
    depth: int
    progressive: bool
    reorder: int | None

    @property
    def misfit(self) -> tuple[PassthroughFailure, str] | None:
        """Why browsers cannot be given this: a code of `PassthroughError` and words; None if they can."""
        if self.profile not in _PLAIN:
            return "profile", f"its H.264 profile {self.profile} is none of Baseline, Main and High"
        if self.chroma != 1 or self.depth != 8:
            return "profile", "its pictures are not 4:2:0 with 8 bits"
        if not self.progressive:
            return "interlaced", "its pictures may be fields"
        if self.reorder:
            return "b_frames", f"its pictures are out of order by up to {self.reorder}"
        return None


def units(access_unit: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream (clause B.1), without start codes."""
    found: list[bytes] = []
    begin = access_unit.find(b"\0\0\1")
    while begin >= 0 and len(found) < _MOST:
        end = access_unit.find(b"\0\0\1", begin + 3)
        unit = access_unit[begin + 3 : end if end >= 0 else None].rstrip(b"\0")
        if unit:
            found.append(unit)
        begin = end
    return found


def unit_type(unit: bytes) -> int:
    """`nal_unit_type` (clause 7.3.1)."""
    return unit[0] & 0x1F


def annex_b(parts: Iterable[bytes]) -> bytes:
    """A byte stream of these units."""
    return b"".join(START + part for part in parts)


def split(access_unit: bytes, size: int) -> list[bytes]:
    """The NAL units of an access unit in which each has its length ahead, in `size` bytes (ISO/IEC 14496-15, 5.3.2)."""
    found: list[bytes] = []
    at = 0
    while at + size < len(access_unit) and len(found) < _MOST:
        length = int.from_bytes(access_unit[at : at + size], "big")
        at += size
        if length:
            found.append(access_unit[at : at + length])
        at += length
    return found


def from_avcc(record: bytes) -> list[bytes]:
    """The parameter sets in an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    found: list[bytes] = []
    if len(record) < 7 or record[0] != 1:
        return found
    at, count = 6, record[5] & 0x1F
    for _ in range(2):
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            unit = record[at + 2 : at + 2 + size]
            if not size or len(unit) < size:
                return found
            found.append(unit)
            at += 2 + size
        if at >= len(record):
            break
        at, count = at + 1, record[at]
    return found


def has_b_slice(unit: bytes) -> bool:
    """Whether a slice of type B begins here (clause 7.3.3, table 7-6)."""
    if unit_type(unit) not in (SLICE, IDR):
        return False
    bits = _Bits(_payload(unit[1:32]))
    try:
        bits.unsigned()  # first_mb_in_slice
        return bits.unsigned() % 5 == 1
    except EOFError:
        return False


def read_sps(unit: bytes) -> Sps | None:
    """What a sequence parameter set says (clauses 7.3.2.1.1 and E.1.1); None if it cannot be read."""
    try:
        return _read_sps(_Bits(_payload(unit[1:])))
    except EOFError:
        return None


def _read_sps(bits: _Bits) -> Sps:
    profile, constraints, level = bits.take(8), bits.take(8), bits.take(8)
    bits.unsigned()  # seq_parameter_set_id
    chroma, depth = 1, 8
    if profile in _WITH_CHROMA:
        chroma = bits.unsigned()
        if chroma == 3:
            bits.take(1)
        depth = 8 + max(bits.unsigned(), bits.unsigned())
        bits.take(1)
        if bits.take(1):
            for number in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    bits.unsigned()  # log2_max_frame_num_minus4
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        for _ in range(min(bits.unsigned(), 256)):
            bits.signed()
    bits.unsigned()  # max_num_ref_frames
    bits.take(1)
    bits.unsigned()
    bits.unsigned()
    progressive = bool(bits.take(1))
    # Baseline has no B slices, and type 2 shows pictures in the order in which they come (clause 8.2.1.3).
    reorder = 0 if profile == 66 or order == 2 else None
    try:
        reorder = _reorder(bits, progressive, reorder)
    except EOFError:
        pass  # it ends within what it need not have
    return Sps(profile, constraints, level, chroma, depth, progressive, reorder)


def _reorder(bits: _Bits, progressive: bool, otherwise: int | None) -> int | None:
    if not progressive:
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        for _ in range(4):
            bits.unsigned()
    if not bits.take(1):
        return otherwise
    # The usability information (clause E.1.1).
    if bits.take(1) and bits.take(8) == 255:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if bits.take(1):
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):
        bits.unsigned()
        bits.unsigned()
    if bits.take(1):
        bits.take(65)
    buffered = [_skip_hrd(bits) for _ in range(2) if bits.take(1)]
    if buffered:
        bits.take(1)
    bits.take(1)
    if not bits.take(1):
        return otherwise
    bits.take(1)
    for _ in range(4):
        bits.unsigned()
    return bits.unsigned()


def _skip_hrd(bits: _Bits) -> bool:
    count = bits.unsigned() + 1
    bits.take(8)
    for _ in range(min(count, 32)):
        bits.unsigned()
        bits.unsigned()
        bits.take(1)
    bits.take(20)
    return True


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _payload(body: bytes) -> bytes:
    return body.replace(b"\0\0\3", b"\0\0")  # emulation prevention (clause 7.4.1)


class _Bits:
    """Reads bits and Exp-Golomb codes (clause 9.1). Raises `EOFError` at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data[:1024], "big")
        self._left = 8 * min(len(data), 1024)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise EOFError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)
