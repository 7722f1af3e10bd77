"""The same messages, however the stream of bytes that carries them is cut."""

from __future__ import annotations

from collections.abc import Sequence

from metered_proto.entropy import Entropy
from metered_proto.sim.steps import Violation
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import Event, Messages, Opened, Requested


def cutting_changes_nothing(payloads: Sequence[str], seed: int, *, host: str = "stream") -> list[Violation]:
    """Carry text messages over a WebSocket whose bytes arrive in pieces of any size, and compare.

    The pieces are drawn from the seed, single bytes among them.
    """
    whole = _carried(payloads, None)
    cut = _carried(payloads, Entropy(f"cuts/{seed}"))
    if whole == cut == list(payloads):
        return []
    return [Violation("the same messages, however the bytes are cut", host, f"{len(cut)} came of {len(payloads)}")]


def _carried(payloads: Sequence[str], cuts: Entropy | None) -> list[str | bytes]:
    numbers = Entropy("masks")
    client = WebSocket.client("relay.example", "/v1", random=lambda count: bytes.fromhex(numbers.token(count)))
    server = WebSocket.server()
    asked = [event for event in server.receive(client.open()) if isinstance(event, Requested)]
    assert asked, "the upgrade did not get through"
    answer, _ = server.accept()
    stream = answer + server.frames([payload.encode() for payload in payloads])
    came: list[Event] = []
    at = 0
    while at < len(stream):
        size = len(stream) if cuts is None else _size(cuts)
        came += client.receive(stream[at : at + size])
        at += size
    assert any(isinstance(event, Opened) for event in came), "the answer did not get through"
    return [payload for event in came if isinstance(event, Messages) for payload in event.payloads]


def _size(cuts: Entropy) -> int:
    """One byte, some, or a whole read."""
    return int(2 ** cuts.uniform(0, 14))
