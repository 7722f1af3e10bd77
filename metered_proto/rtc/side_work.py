"""What the engine does beside describing a connection: exchange what a sender sends, count what came in.

Neither takes a negotiation, so neither has to do with the phase of one; both are over when their connection is.
"""

from __future__ import annotations

import msgspec

from metered_proto.orders import Abandon, Answer, Begin, Order
from metered_proto.rtc.sent import SentTracks
from metered_proto.rtc.words import CountReceived, LocalTrack, Numbers, SwapSender


class Swap(msgspec.Struct):
    """A track that is being exchanged. `op` is None once nobody waits for it."""

    op: int | None
    old: LocalTrack
    new: LocalTrack | None


class SideWork:
    """The swaps and counts under way on one connection after another, by effect."""

    __slots__ = ("_counted", "_counted_before", "_counts", "_numbers", "_swaps", "_tracks")

    def __init__(self, numbers: Numbers, tracks: SentTracks) -> None:
        self._numbers = numbers
        self._tracks = tracks
        self._swaps: dict[int, Swap] = {}
        self._counts: dict[int, int | None] = {}
        self._counted = self._counted_before = 0

    def swap(self, op: int, pc: int, old: LocalTrack, new: LocalTrack | None) -> list[Order]:
        """Exchange a track that has a place on this connection."""
        effect = self._numbers.next()
        self._swaps[effect] = Swap(op, old, new)
        if new is not None:
            # From now on the place is the new one's: a description that is made meanwhile is made after the exchange.
            self._tracks.swap(old.key, new)
        return [Begin(effect, SwapSender(pc, old.key, new))]

    def count(self, op: int, pc: int) -> list[Order]:
        """Count what this connection has received."""
        effect = self._numbers.next()
        self._counts[effect] = op
        return [Begin(effect, CountReceived(pc))]

    def done(self, effect: int, result: object, error: Exception | None) -> tuple[list[Order], bool]:
        """Work is finished. Tells, beside the orders, whether a track was exchanged."""
        swap = self._swaps.pop(effect, None)
        if swap is not None:
            orders: list[Order] = [] if swap.op is None else [Answer(swap.op, error=error)]
            if error is None and swap.new is None:
                self._tracks.swap(swap.old.key, None)
            elif error is not None and swap.new is not None:
                self._tracks.swap(swap.new.key, swap.old)
            return orders, error is None
        if effect not in self._counts:
            return [], False
        op = self._counts.pop(effect)
        if error is None and isinstance(result, int):
            # The number of one connection grows, and that of the next one begins at nothing.
            self._counted = max(self._counted, self._counted_before + result)
        return ([] if op is None else [Answer(op, self._counted)]), False

    def end(self) -> list[Order]:
        """The connection goes. The next description carries the new tracks, so their exchange has succeeded."""
        orders: list[Order] = []
        for effect, swap in self._swaps.items():
            if swap.new is None:
                self._tracks.swap(swap.old.key, None)
            orders += [Abandon(effect), *([] if swap.op is None else [Answer(swap.op)])]
        for effect, op in self._counts.items():
            orders += [Abandon(effect), *([] if op is None else [Answer(op)])]
        self._swaps.clear()
        self._counts.clear()
        self._counted_before = self._counted
        return orders

    def withdraw(self, op: int) -> None:
        """Nobody waits for this any more."""
        for swap in self._swaps.values():
            if swap.op == op:
                swap.op = None
        for effect, waiting in self._counts.items():
            if waiting == op:
                self._counts[effect] = None
