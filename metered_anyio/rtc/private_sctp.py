"""What we use of aiortc's data channels that is not its public API, and why. See `private` for the rest of aiortc.

aiortc keeps whatever it cannot deliver yet: pieces of messages whose other pieces are still to come, in any number.
`private.missing()` looks after these names, too.
"""

from __future__ import annotations

from typing import Any, Final

from aiortc import RTCPeerConnection

from metered_proto.rtc.words import ChannelOptions

NAMES: Final = (
    *("_srtt", "_remote_max_message_size", "_handle_data"),
    *("_receive_data_chunk", "_inbound_streams", "_last_received_tsn"),
)
"""What an SCTP transport of aiortc has to have."""

WINDOW: Final = 4096
"""Chunks by which one may come before its time (TSN). Whoever sends further ahead sends it again."""

HELD_CHUNKS: Final = 32_768
HELD_BYTES: Final = 8 << 20
"""What may wait for the rest of its message, on all channels of a connection together. Nobody who follows RFC 9260
comes near: we offer a window of 1 MiB, and messages of 64 KiB."""


def bound_reassembly(sctp: Any) -> None:
    """Drop, as if the network had, what goes over these bounds. Idempotent."""
    if "_receive_data_chunk" in vars(sctp):
        return
    original, held = sctp._receive_data_chunk, _Held(sctp)

    async def receive(chunk: Any) -> None:
        ahead = (chunk.tsn - sctp._last_received_tsn) & 0xFFFFFFFF
        if WINDOW < ahead < 1 << 31 or not held.admits(chunk):
            return
        await original(chunk)

    sctp._receive_data_chunk = receive


class _Held:
    """Estimates from above what is held, and counts only when that goes over a bound."""

    def __init__(self, sctp: Any) -> None:
        self._sctp = sctp
        self._chunks = self._bytes = 0
        self._refused = 0  # that many go without another look

    def admits(self, chunk: Any) -> bool:
        if self._refused:
            self._refused -= 1
            return False
        self._chunks += 1
        self._bytes += len(chunk.user_data)
        if self._is_over():
            waiting = [len(c.user_data) for stream in self._sctp._inbound_streams.values() for c in stream.reassembly]
            self._chunks, self._bytes = 1 + len(waiting), len(chunk.user_data) + sum(waiting)
            if self._is_over():
                self._refused = _REFUSED
                return False
        return True

    def _is_over(self) -> bool:
        return self._chunks > HELD_CHUNKS or self._bytes > HELD_BYTES


_REFUSED: Final = 256


# --- what channels are ---


def largest_message(channel: Any) -> int:
    """How many bytes the remote takes in one message, 0 for any number."""
    size: int = channel.transport._remote_max_message_size
    return size


class Label(str):
    """A label or protocol of a data channel. aiortc takes the number of its characters for that of its bytes."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.encode())


def options_of(channel: Any) -> ChannelOptions:
    """What the remote opened a channel with."""
    return ChannelOptions(
        str(channel.label), channel.ordered, channel.maxRetransmits, channel.maxPacketLifeTime, str(channel.protocol)
    )


def round_trip(pc: RTCPeerConnection) -> float | None:
    """What data channels take there and back, in seconds, if anything was sent over them."""
    time: float | None = None if pc.sctp is None else pc.sctp._srtt
    return time
