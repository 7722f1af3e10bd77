"""What a client counts, in one plain struct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from metered_proto.client.outbox import OutboxCounters, OutboxQueue
from metered_proto.client.session import ClientSession

if TYPE_CHECKING:
    from metered_anyio.emitter import Emitter
    from metered_anyio.pump import Pump


class OutboxStats(msgspec.Struct, frozen=True):
    """How an outbox stands, in messages and bytes, and what went through it."""

    messages: int
    bytes: int
    in_flight: int
    """Publishes that wait for their acknowledgement."""
    counters: OutboxCounters


class ClientStats(msgspec.Struct, frozen=True):
    """Counted since the client was made. Latencies in seconds, None before the first."""

    state: str
    connects: int
    reconnects: int
    requests: int
    """What the application asked for."""
    in_flight: int
    """Requests that wait for their acknowledgement."""
    ack_p50: float | None
    """Of the latencies between a request and its acknowledgement: what half of them stay below, ..."""
    ack_p99: float | None
    """... and what 99 % do. Of acknowledgements read together only the longest counts."""
    frames_in: int
    bytes_in: int
    bytes_out: int
    """On the sockets, framing and TLS included."""
    queued_bytes: int
    """What waits for a socket that takes no more at the moment."""
    malformed_frames: int
    server_errors: int
    dropped_events: int
    """What full handler queues and streams have lost."""
    outbox: OutboxStats | None


def client_stats(session: ClientSession, queue: OutboxQueue | None, emitter: Emitter, pump: Pump | None) -> ClientStats:
    """Put together what the parts of a client count."""
    counters = session.counters
    outbox = None
    if queue is not None:
        outbox = OutboxStats(len(queue), queue.held_bytes, queue.in_flight, msgspec.structs.replace(queue.counters))
    return ClientStats(
        state=session.state,
        connects=counters.connects,
        reconnects=counters.reconnects,
        requests=counters.requests,
        in_flight=session.in_flight,
        ack_p50=session.ack_latencies.quantile(0.5),
        ack_p99=session.ack_latencies.quantile(0.99),
        frames_in=counters.frames_in,
        bytes_in=0 if pump is None else pump.bytes_in,
        bytes_out=0 if pump is None else pump.bytes_out,
        queued_bytes=0 if pump is None else sum(link.queued_bytes for link in pump.links.values()),
        malformed_frames=counters.malformed_frames,
        server_errors=counters.server_errors,
        dropped_events=emitter.dropped,
        outbox=outbox,
    )
