"""Signals on their way to the relay: paced, in order for each member, and members taking turns.

In a big room a join is an offer to everybody at once, and a relay closes a connection that sends too much. So they
wait here for the pace. A turn of a member ends with a session description: what belongs together (the metadata of the
tracks, then the description that carries them) goes out together, so some calls are up while others wait, and nobody
who makes us say much keeps the others waiting.

A machine that gets no answer says its offer again, and does not know that it may still wait here. What waits already
is not taken a second time, or the wait would make itself longer.

What waits when the connection to the relay is lost is thrown away; peer machines know to say again what matters.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from metered_proto.client.pace import Pace
from metered_proto.machine import Micros
from metered_proto.wire.caps import TRACK_METADATA_ENTRIES
from metered_proto.wire.signals import RtcDescription, Signal, TrackMeta

MOST_WAITING: Final = TRACK_METADATA_ENTRIES + 128
"""Signals to one member that may wait; over it, the oldest goes. A remote decides how often we have to answer it."""

LONGEST_TURN: Final = 16
"""Signals after which a member's turn ends without a description, too."""


class Outgoing:
    """The signals that wait, by member."""

    def __init__(self, rate: float, burst: int) -> None:
        """At most `rate` a second, `burst` of them at once."""
        self._pace = Pace(rate, burst)
        # The first has its turn. An OrderedDict and no dict: taking the first out of a dict again and again walks
        # over all that was taken before.
        self._waiting: OrderedDict[str, deque[Signal]] = OrderedDict()
        self._turn = 0  # signals sent in it
        self.dropped = 0
        """How many were thrown away because too many waited."""

    def __len__(self) -> int:
        return sum(len(signals) for signals in self._waiting.values())

    @property
    def next(self) -> Micros | None:
        """From when on there is something to send."""
        return self._pace.free_at if self._waiting else None

    def put(self, peer_id: str, signal: Signal) -> None:
        """A signal is to go out."""
        signals = self._waiting.get(peer_id)
        if signals is None:
            signals = self._waiting[peer_id] = deque(maxlen=MOST_WAITING)
        elif _waits(signal, signals):
            return
        self.dropped += len(signals) == MOST_WAITING
        signals.append(signal)

    def take(self, now: Micros) -> tuple[str, Signal] | None:
        """The next signal to be sent, and to whom; None when nothing waits, or it is too early."""
        if not self._waiting or self._pace.free_at > now:
            return None
        self._pace.take(now)
        peer_id, signals = next(iter(self._waiting.items()))
        signal = signals.popleft()
        self._turn += 1
        if not signals:
            self.forget(peer_id)
        elif isinstance(signal, RtcDescription) or self._turn == LONGEST_TURN:
            self._waiting.move_to_end(peer_id)
            self._turn = 0
        return peer_id, signal

    def forget(self, peer_id: str) -> None:
        """What waits for a member is not wanted any more."""
        if self._waiting and peer_id == next(iter(self._waiting)):
            self._turn = 0
        self._waiting.pop(peer_id, None)

    def clear(self) -> None:
        """Nothing is wanted any more."""
        self._waiting.clear()
        self._turn = 0


def _waits(signal: Signal, signals: deque[Signal]) -> bool:
    """Whether the same is among those that wait, and nothing since has made it untrue."""
    for waiting in reversed(signals):
        if waiting == signal:
            return True
        if isinstance(signal, TrackMeta):
            if isinstance(waiting, TrackMeta) and waiting.track_id == signal.track_id:
                return False
        elif isinstance(waiting, RtcDescription):
            return False
    return False
