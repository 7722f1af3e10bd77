"""Masking (RFC 6455 section 5.3): what a client does to every payload it sends, and where its keys come from.

A mask is no secret. It keeps a hostile page from choosing the bytes that appear on the wire, so a key has to be
unpredictable and must not be used twice. The core draws no such numbers itself: whoever drives it brings a
source of bytes, `os.urandom` say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Given a size, that many unpredictable bytes: `os.urandom`, or a `MaskKeys` over it."""

Masker: TypeAlias = Callable[[bytes, bytes], bytes]
"""What `mask` is. Whoever drives the core may bring another one: compiled, it takes a tenth of the time or less."""

_POOL = 4096
_LONG = 4096
"""From this many bytes on, four strided translations are faster than one XOR of big integers."""

_XOR = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def mask(payload: bytes, key: bytes) -> bytes:
    """`payload` with each byte XORed with the next of the four bytes of `key`; doing it again undoes it."""
    size = len(payload)
    if size < _LONG:
        return xor(payload, (key * ((size >> 2) + 1))[:size])
    masked = bytearray(payload)
    for offset in range(4):
        masked[offset::4] = payload[offset::4].translate(_XOR[key[offset]])
    return bytes(masked)


def xor(data: bytes, pad: bytes) -> bytes:
    """Two byte strings of equal length, XORed."""
    return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(len(data), "little")


class MaskKeys:
    """A pool in front of a costly source of random bytes.

    A system call for each frame would cost as much as the frame. One pool can serve every connection of a
    process; as it holds keys to come, there is no reason for each to have its own.
    """

    __slots__ = ("_at", "_pool", "_random")

    def __init__(self, random: RandomBytes) -> None:
        self._random = random
        self._pool = b""
        self._at = 0

    def __call__(self, size: int) -> bytes:
        """`size` bytes that were never handed out before."""
        at = self._at
        taken = self._pool[at : at + size]
        if len(taken) == size:
            self._at = at + size
            return taken
        if size > _POOL:
            return self._random(size)
        self._pool = self._random(_POOL)
        self._at = size
        return self._pool[:size]
