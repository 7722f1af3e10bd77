"""How long members are kept that are not in the channel any more.

Media flows between peers and not through the relay, so a peer that the relay has lost may be as well as ever, and
come back in a moment. It is kept for a while as long as bytes arrive from it, and for a shorter while when none do.
That its connection is gone for good is not noticed here: then it is not kept at all.
"""

from __future__ import annotations

import msgspec

from metered_proto.alarms import Alarms
from metered_proto.machine import Micros, micros

MEASURE_EVERY: Micros = micros(0.5)
"""Between two looks at how much has arrived."""


class _Grace(msgspec.Struct, gc=False):
    ends_at: Micros
    heard_at: Micros  # when something last arrived, as far as we know
    look_at: Micros
    received: int | None = None


class Graces:
    """Members that are away, by number."""

    def __init__(self, longest: float, silence: float) -> None:
        """Both in seconds."""
        self._longest = micros(longest)
        self._silence = micros(silence)
        self._graces: dict[int, _Grace] = {}
        self._alarms = Alarms()

    def __contains__(self, member: int) -> bool:
        return member in self._graces

    def __len__(self) -> int:
        return len(self._graces)

    @property
    def next(self) -> Micros | None:
        """When the next member is to be looked after."""
        return self._alarms.next

    def begin(self, now: Micros, member: int) -> None:
        """A member is away from now on. Its traffic is to be measured at once, and then whenever it is due."""
        grace = self._graces[member] = _Grace(now + self._longest, now, now + MEASURE_EVERY)
        self._alarms.set(member, min(grace.look_at, self._over_at(grace)))

    def end(self, member: int) -> None:
        """It is back, or gone."""
        if self._graces.pop(member, None) is not None:
            self._alarms.cancel(member)

    def clear(self) -> None:
        """Nobody is away any more."""
        for member in list(self._graces):
            self.end(member)

    def due(self, now: Micros) -> tuple[list[int], list[int]]:
        """Whose time is over, and whose traffic is to be measured. The former are forgotten."""
        over: list[int] = []
        look: list[int] = []
        for member in self._alarms.due(now):
            grace = self._graces[member]
            if self._over_at(grace) <= now:
                del self._graces[member]
                over.append(member)
            else:
                grace.look_at = now + MEASURE_EVERY
                look.append(member)
                self._alarms.set(member, min(grace.look_at, self._over_at(grace)))
        return over, look

    def measured(self, now: Micros, member: int, received: int) -> None:
        """How many bytes have arrived from a member so far."""
        grace = self._graces.get(member)
        if grace is not None:
            if grace.received is not None and received > grace.received:
                grace.heard_at = now
                self._alarms.set(member, min(grace.look_at, self._over_at(grace)))
            grace.received = received

    def _over_at(self, grace: _Grace) -> Micros:
        return min(grace.ends_at, grace.heard_at + self._silence)
