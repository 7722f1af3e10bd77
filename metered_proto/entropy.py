"""Randomness with a seed: the only place in the core that draws a random number.

A part that needs randomness gets a fork of its own, by name. A fork's numbers depend on the seed and the path
of names alone, so a new draw in one part shifts nothing in another, and a run can be had again from its seed.

These numbers spread delays and name guests. They are not secrets, and nothing here is fit for keys.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any


class Entropy:
    """A seeded source of numbers, forkable by name."""

    __slots__ = ("_path", "_random")

    def __init__(self, seed: int | str | bytes) -> None:
        text = seed.hex() if isinstance(seed, bytes) else str(seed)
        self._path = text
        self._random = random.Random(hashlib.sha256(text.encode()).digest())  # noqa: S311

    @property
    def seed(self) -> str:
        """What makes the same source again."""
        return self._path

    @property
    def position(self) -> tuple[Any, ...]:
        """How far it has come: what `go_to` takes."""
        return self._random.getstate()

    def go_to(self, position: tuple[Any, ...]) -> None:
        """Go on from where a source of the same seed was. Raises `TypeError` or `ValueError` for no such place."""
        self._random.setstate(position)

    def fork(self, name: str) -> Entropy:
        """An independent source for the part called `name`; the same name gives the same source."""
        return Entropy(f"{self._path}/{name}")

    def uniform(self, low: float, high: float) -> float:
        """A float between `low` and `high`."""
        return low + (high - low) * self._random.random()

    def token(self, size: int = 8) -> str:
        """`2 * size` hexadecimal digits."""
        return self._random.randbytes(size).hex()
