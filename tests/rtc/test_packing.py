"""Payloads of RTP packets, put together again by aiortc."""

from __future__ import annotations

import random

import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor

from metered_anyio.rtc.packing import (
    LARGEST,
    h264_units,
    is_h264_key_frame,
    is_vp8_key_frame,
    pack_h264,
    pack_vp8,
    pack_whole,
)


def noise(size: int, seed: int = 1) -> bytes:
    return bytes(random.Random(seed).choices(range(1, 256), k=size))


class TestVP8:
    @pytest.mark.parametrize("size", [1, 100, LARGEST - 4, LARGEST - 3, 5 * LARGEST, 20_000])
    @pytest.mark.parametrize("picture", [0, 127, 128, 32_767])
    def test_is_cut_into_payloads(self, size: int, picture: int) -> None:
        frame = noise(size)
        payloads = pack_vp8(frame, picture)
        assert max(map(len, payloads)) <= LARGEST
        whole = b""
        for number, payload in enumerate(payloads):
            descriptor, rest = VpxPayloadDescriptor.parse(payload)
            assert (descriptor.partition_start, descriptor.partition_id) == (int(number == 0), 0)
            assert descriptor.picture_id == picture
            whole += rest
        assert whole == frame

    @pytest.mark.parametrize(
        ("data", "expected"), [(b"\x10\x02\x00\x9d\x01\x2a", True), (b"\x11\x02\x00", False), (b"", False)]
    )
    def test_key_frames_are_known(self, data: bytes, expected: bool) -> None:
        assert is_vp8_key_frame(data) is expected


class TestH264:
    @pytest.mark.parametrize(
        "sizes",
        [[10], [10, 4, 2000], [LARGEST], [LARGEST + 1], [600, 600, 600], [20, 8, 30_000, 5, 5], [1299, 2], [1] * 500],
    )
    @pytest.mark.parametrize("start", [b"\0\0\1", b"\0\0\0\1"])
    def test_is_cut_into_payloads(self, sizes: list[int], start: bytes) -> None:
        units = [bytes([0x65]) + noise(size, size) for size in sizes]
        payloads = pack_h264(b"".join(start + unit for unit in units))
        assert max(map(len, payloads)) <= LARGEST
        again = b"".join(h264_depayload(payload) for payload in payloads)
        assert list(h264_units(again)) == units

    def test_of_units_in_one_packet_the_most_important_counts(self) -> None:
        (payload,) = pack_h264(b"\0\0\1\x06ab\0\0\1\x67abc\0\0\1\x41abc")
        assert payload[0] == 0x60 | 24

    def test_what_nobody_needs_is_left_out(self) -> None:
        assert pack_h264(b"\0\0\1\x09\xf0\0\0\1\x0c\xff\xff\0\0\1\x41abc") == [b"\x41abc"]
        assert pack_h264(b"") == pack_h264(b"\0\0\1") == pack_h264(b"no start code") == []

    @pytest.mark.parametrize(
        ("units", "expected"), [([0x67, 0x68, 0x65], True), ([0x65], True), ([0x41], False), ([0x67, 0x41], False)]
    )
    @pytest.mark.parametrize("start", [b"\0\0\1", b"\0\0\0\1"])
    def test_key_frames_are_known(self, units: list[int], expected: bool, start: bytes) -> None:
        assert is_h264_key_frame(b"".join(start + bytes([unit, 1, 2, 3]) for unit in units)) is expected


def test_what_needs_no_cutting() -> None:
    assert pack_whole(b"opus") == [b"opus"]
    assert pack_whole(b"") == []
