"""What a room counts and measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metered_anyio.stats import ClientStats

if TYPE_CHECKING:
    from metered_anyio.rtc.engine import ConnectionStats


@dataclass(frozen=True, slots=True)
class RoomStats:
    """How a room stands. `signalling` is what was counted on the way to the relay since the peer was made.

    `signals_in` and `signals_out` count the messages in which peers agree on connections, `signals_malformed` those
    that were dropped as broken, `strangers` messages of senders that are not in the room. `remotes` has each
    connection, by the id of the remote; one without a connection is None.
    """

    state: str
    signalling: ClientStats
    signals_in: int
    signals_out: int
    signals_malformed: int
    signals_refused: int
    strangers: int
    members_refused: int
    remotes: dict[str, ConnectionStats | None]
