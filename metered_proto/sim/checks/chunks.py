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
    sent = list(payloads)
    whole, cut = _carried(payloads, None), _carried(payloads, Entropy(f"cuts/{seed}"))
    if whole == cut == (sent, sent):
        return []
    counts = " and ".join(str(len(came)) for came in cut)
    return [Violation("the same messages, however the bytes are cut", host, f"{counts} came of {len(sent)}")]


def _carried(payloads: Sequence[str], cuts: Entropy | None) -> tuple[list[str | bytes], list[str | bytes]]:
    """What comes out at the client's end, and at the server's."""
    numbers = Entropy("masks")
    client = WebSocket.client("relay.example", "/v1", random=lambda count: bytes.fromhex(numbers.token(count)))
    server = WebSocket.server()
    asked = _cut(server, client.open(), cuts)
    assert any(isinstance(event, Requested) for event in asked), "the upgrade did not get through"
    answer, _ = server.accept()
    encoded = [payload.encode() for payload in payloads]
    down = _cut(client, answer + server.frames(encoded), cuts)
    assert any(isinstance(event, Opened) for event in down), "the answer did not get through"
    up = _cut(server, client.frames(encoded), cuts)
    return _messages(down), _messages(up)


def _messages(events: Sequence[Event]) -> list[str | bytes]:
    return [payload for event in events if isinstance(event, Messages) for payload in event.payloads]


def _cut(end: WebSocket, stream: bytes, cuts: Entropy | None) -> list[Event]:
    """What one end makes of a stream."""
    came: list[Event] = []
    at = 0
    while at < len(stream):
        size = len(stream) if cuts is None else _size(cuts)
        came += end.receive(stream[at : at + size])
        at += size
    return came


def _size(cuts: Entropy) -> int:
    """One byte, some, or a whole read."""
    return int(2 ** cuts.uniform(0, 14))
