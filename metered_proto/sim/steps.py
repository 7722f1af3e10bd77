"""The trace of a simulated run: every fact, what came of it, and a digest of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from metered_proto.errors import MeteredRealtimeError
from metered_proto.facts import Fact
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Order


class Step(msgspec.Struct, frozen=True, gc=False):
    """One machine was handed one fact.

    `host` names the machine: one that was started again has another name. `at` is the world's time, `now` the
    machine's own. `deadline` is what the machine wanted after it.
    """

    host: str
    at: Micros
    now: Micros
    fact: Fact
    orders: list[Order]
    deadline: Deadline | None = None


class Violation(msgspec.Struct, frozen=True, order=True):
    """A promise that was not kept: which, by whom, and how."""

    promise: str
    host: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.host}: {self.what}"


def _plain(value: Any) -> Any:
    """What an encoder does not know: errors, and raw JSON where a type hides it."""
    if isinstance(value, MeteredRealtimeError):
        return [type(value).__name__, [getattr(value, name) for name in value.fields] or list(value.args)]
    return [type(value).__name__, str(value)]


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def digest(steps: Iterable[Step]) -> str:
    """A fingerprint of a run: the same for the same facts and orders in the same order."""
    found = hashlib.sha256()
    for step in steps:
        found.update(_encode(step))
    return found.hexdigest()
