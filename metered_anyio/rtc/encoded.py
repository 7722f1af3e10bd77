"""`Encoded`: one frame as it is sent. One object, however many senders it goes to."""

from __future__ import annotations

from collections.abc import Sequence


class Encoded:
    """The payloads of one frame's packets, and what a sender has to know of it.

    `pts` is in units of 1/90000 s for video and 1/48000 s for audio, `size` in bytes. Decoding can start at one with
    `key`, and goes on through all that have the same `origin`. `level` is how loud sound is (RFC 6464), in dB below
    the loudest, None where that is not known. `data` is the frame itself where it was not us who encoded it.
    """

    __slots__ = ("data", "key", "level", "origin", "payloads", "pts", "size")

    def __init__(
        self,
        payloads: Sequence[bytes],
        pts: int,
        *,
        key: bool,
        origin: object,
        level: int | None = None,
        data: bytes | None = None,
    ) -> None:
        self.payloads = payloads
        self.pts = pts
        self.key = key
        self.origin = origin
        self.level = level
        self.data = data
        self.size = sum(map(len, payloads))
