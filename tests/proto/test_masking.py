"""Masking undoes itself at every size, and no key is handed out twice."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row
from websockets.speedups import apply_mask
from wsproto.frame_protocol import XorMaskerSimple

from metered_proto.masking import MaskKeys, mask


class Counter:
    """A source whose bytes tell where they stand in the stream."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.made = 0

    def __call__(self, size: int) -> bytes:
        self.asked.append(size)
        stream = b"".join(n.to_bytes(4) for n in range(self.made // 4, (self.made + size) // 4 + 1))
        taken = stream[:size]
        self.made += (size + 3) // 4 * 4
        return taken


def test_the_example_of_section_5_7() -> None:
    assert mask(b"Hello", b"\x37\xfa\x21\x3d") == b"\x7f\x9f\x4d\x51\x58"


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_short_payloads_agree_with_wsproto(payload: bytes, key: bytes) -> None:
    assert mask(payload, key) == bytes(XorMaskerSimple(key).process(bytearray(payload)))
    assert mask(mask(payload, key), key) == payload


@each_row("size", [4092, 4093, 4094, 4095, 4096, 4097, 4098, 4099, 70_001])
def test_both_ways_of_masking_agree(size: int) -> None:
    payload, key = random.Random(size).randbytes(size), b"\x01\x80\xff\x00"
    assert mask(payload, key) == bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


@each_row("size", [0, 1, 3, 4, 7, 8, 125, 4097, 70_001])
def test_the_compiled_masker_agrees(size: int) -> None:
    payload, key = random.Random(size).randbytes(size), b"\x01\x80\xff\x00"
    assert apply_mask(payload, key) == mask(payload, key)
    assert type(apply_mask(payload, key)) is bytes


def test_a_pool_asks_its_source_rarely_and_repeats_nothing() -> None:
    source = Counter()
    keys = MaskKeys(source)
    taken = [keys(4) for _ in range(3000)]
    assert len(set(taken)) == 3000
    assert source.asked == [4096] * 3


def test_a_pool_gives_any_size() -> None:
    source = Counter()
    keys = MaskKeys(source)
    assert [len(keys(size)) for size in (16, 4096, 5000, 4, 0)] == [16, 4096, 5000, 4, 0]
    assert source.asked == [4096, 4096, 5000, 4096]
