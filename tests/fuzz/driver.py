"""Runs targets over mutated inputs, and watches for what must not happen: an escape, a hang, growth.

An **escape** is any exception of a target's `check`, the assertions in it included. A **hang** is an input that takes
longer than `HANG` seconds. **Growth** is memory that is still held when a run is over.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import signal
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.fuzz.mutator import Mutator

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"

TARGETS = (
    "admission", "channels", "codec", "control", "http", "recording", "relay", "scrub", "sdp", "session", "signals",
    "tokens", "tunnel", "websocket_client", "websocket_server",
)  # fmt: skip

HANG = 10.0
GROWTH = 40_000
"""Objects that a run may leave behind, caches of the libraries included."""

BATCH = 500
LIMIT = 4096
"""Bytes of an input, at most."""


class Target(NamedTuple):
    """What is fuzzed. `check` raises if the invariant does not hold, and returns what became of the input, in short."""

    name: str
    invariant: str
    check: Callable[[bytes], Hashable]
    words: tuple[bytes, ...]
    corpus: tuple[bytes, ...]


class Report(NamedTuple):
    """How a run went."""

    target: str
    inputs: int
    seconds: float
    outcomes: int
    grown: int


class Fault(Exception):
    """The invariant of a target does not hold for an input."""

    def __init__(self, target: str, data: bytes, error: BaseException) -> None:
        self.target, self.data, self.error = target, data, error
        super().__init__(f"{target}: {type(error).__name__}: {error}\n  input: {data!r}")


def load(name: str) -> Target:
    """The target of that name, with its corpus."""
    module = importlib.import_module(f"tests.fuzz.targets.{name}")
    invariant = (module.__doc__ or "").strip()
    folder = CORPUS / name
    corpus = tuple(path.read_bytes() for path in sorted(folder.iterdir())) if folder.is_dir() else ()
    return Target(name, invariant, module.check, module.WORDS, corpus)


def run(target: Target, *, inputs: int, seconds: float, seed: int, hang: float | None = HANG) -> Report:
    """Run over the corpus, and then over so many inputs, or for so long. Raises `Fault`.

    `hang` None leaves it to others to notice a hang.
    """
    began = time.monotonic()
    mutator = Mutator(seed, target.corpus, target.words, LIMIT)
    for data in target.corpus:
        mutator.learn(data, _one(target, data))
    gc.collect()
    before = len(gc.get_objects())
    done = 0
    check, make, learn = target.check, mutator.make, mutator.learn
    while done < inputs and time.monotonic() - began < seconds:
        for data in _guarded(target, make, min(BATCH, inputs - done), hang):
            try:
                outcome = check(data)
            except Fault:
                raise
            except Exception as error:
                raise Fault(target.name, data, error) from error
            learn(data, outcome)
            done += 1
    gc.collect()
    grown = len(gc.get_objects()) - before
    if grown > GROWTH:
        raise Fault(target.name, b"", MemoryError(f"{grown} objects are left behind by {done} inputs"))
    return Report(target.name, done, time.monotonic() - began, mutator.outcomes, grown)


def keep(fault: Fault) -> Path:
    """Write an input down, as small as it can easily be made."""
    FOUND.mkdir(exist_ok=True)
    data = shrink(load(fault.target), fault.data)
    path = FOUND / f"{fault.target}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def shrink(target: Target, data: bytes) -> bytes:
    """Leave out pieces, larger ones first, as long as what is left still fails."""
    size = len(data) // 2
    while size:
        for start in range(0, len(data), size):
            shorter = data[:start] + data[start + size :]
            if _fails(target, shorter):
                data = shorter
                break
        else:
            size //= 2
    return data


def _fails(target: Target, data: bytes) -> bool:
    try:
        target.check(data)
    except Exception:
        return True
    return False


def _one(target: Target, data: bytes) -> Hashable:
    try:
        return target.check(data)
    except Exception as error:
        raise Fault(target.name, data, error) from error


def _guarded(target: Target, make: Callable[[], bytes], count: int, hang: float | None) -> Iterator[bytes]:
    """So many inputs; whoever takes too long over one of them is interrupted."""
    if hang is None or sys.platform == "win32":
        for _ in range(count):
            yield make()
        return
    current = b""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise Fault(target.name, current, TimeoutError(f"took more than {hang} s"))

    before = signal.signal(signal.SIGALRM, too_long)
    try:
        for _ in range(count):
            current = make()
            signal.setitimer(signal.ITIMER_REAL, hang)
            yield current
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
