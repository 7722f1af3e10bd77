"""Inputs that are nearly right: `Mutator` changes what a corpus has, and remembers what turned out to be new.

Nearly right is what finds faults: an input that is wrong from its first byte is refused by the first check. What a
target tells of an input (its outcome) stands in for coverage: an input with an outcome that nobody has seen before
joins the pool that further ones are made of.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

POOL = 512
"""Inputs that further ones are made of, beside the corpus."""

ODD_BYTES = (0x00, 0x09, 0x0A, 0x0D, 0x20, 0x22, 0x2C, 0x3A, 0x5C, 0x7B, 0x7D, 0x7E, 0x7F, 0x80, 0xC0, 0xED, 0xFE, 0xFF)
ODD_NUMBERS = (b"0", b"-1", b"1e999", b"65536", b"4294967296", b"9223372036854775808", b"-9223372036854775809", b"0.1")
ODD_TEXTS = (b"\xed\xa0\x80", b"\\ud800", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\r\n", b"null", b"[" * 200, b"{}")


class Mutator:
    """Makes inputs for one target. The same seed and corpus make the same ones, as long as outcomes are the same."""

    def __init__(self, seed: int, corpus: Sequence[bytes], words: Sequence[bytes], limit: int) -> None:
        self._dice = random.Random(seed)
        self._corpus = list(corpus) or [b""]
        self._words = [*words, *ODD_NUMBERS, *ODD_TEXTS]
        self._limit = limit
        self._pool: list[bytes] = []
        self._seen: set[int] = set()

    @property
    def outcomes(self) -> int:
        """How many different ones there were."""
        return len(self._seen)

    def make(self) -> bytes:
        """One more input, of `limit` bytes at most."""
        dice = self._dice
        chosen = dice.choice(self._pool if self._pool and dice.random() < 0.5 else self._corpus)
        data = bytearray(chosen)
        # Often one change, seldom many.
        for _ in range(1 + int(dice.expovariate(0.7))):
            self._change(data)
        return bytes(data[: self._limit])

    def learn(self, data: bytes, outcome: Hashable) -> None:
        """What became of an input."""
        seen = hash(outcome)
        if seen in self._seen or len(self._seen) >= 100_000:
            return
        self._seen.add(seen)
        if len(self._pool) < POOL:
            self._pool.append(data)
        else:
            self._pool[self._dice.randrange(POOL)] = data

    def _change(self, data: bytearray) -> None:
        dice, size = self._dice, len(data)
        at = int(dice.random() * (size + 1))
        kind = int(dice.random() * 9)
        if kind == 0 and size:
            data[at % size] ^= 1 << int(dice.random() * 8)
        elif kind == 1 and size:
            data[at % size] = dice.choice(ODD_BYTES)
        elif kind == 2:
            data.insert(at, int(dice.random() * 256))
        elif kind == 3:
            del data[at : at + 1 + int(dice.expovariate(0.1))]
        elif kind == 4:
            data[at:at] = dice.choice(self._words)
        elif kind == 5:
            word = dice.choice(self._words)
            data[at : at + len(word)] = word
        elif kind == 6:
            end = at + 1 + int(dice.expovariate(0.05))
            data[at:at] = data[at:end] * (2 if dice.random() < 0.9 else 20)
        elif kind == 7:
            other = dice.choice(self._corpus)
            start = int(dice.random() * (len(other) + 1))
            data[at:] = other[start:]
        elif kind == 8:
            del data[at:]
