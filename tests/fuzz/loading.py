"""What is fuzzed: the targets by name, and where their inputs are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"
"""What runs find: inputs that reached something new, a folder for each target; in `faults`, what broke an invariant."""

TARGETS = (
    "admission", "channels", "codec", "control", "http", "recording", "relay", "scrub", "sdp", "session", "signals",
    "tokens", "tunnel", "websocket_client", "websocket_server",
)  # fmt: skip

LIMIT = 4096
"""Bytes of an input, at most."""


class Target(NamedTuple):
    """What is fuzzed. `check` raises if the invariant does not hold, and returns what became of the input, in short."""

    name: str
    invariant: str
    check: Callable[[bytes], Hashable]
    words: tuple[bytes, ...]
    corpus: tuple[bytes, ...]


def load(name: str) -> Target:
    """The target of that name, with its corpus."""
    module = importlib.import_module(f"tests.fuzz.targets.{name}")
    folder = CORPUS / name
    corpus = tuple(path.read_bytes() for path in sorted(folder.iterdir())) if folder.is_dir() else ()
    return Target(name, (module.__doc__ or "").strip(), module.check, module.WORDS, corpus)
