"""Is the other end still there?

A `ping` goes out when nothing arrived for a third of the inactivity timeout, again at two thirds, and when the
whole of it has passed in silence the link is given up. Anything that arrives is a sign of life. A server that talks
but does not read is given up just so: a link that stays blocked for all that time takes nothing any more.
"""

from __future__ import annotations

import math

from metered_proto.facts import Fact, Heard, LinkBlocked, LinkDown, LinkDrained, LinkUp, Received, Woken
from metered_proto.machine import Deadline, Micros, micros
from metered_proto.orders import CloseLink, Order, Send
from metered_proto.wire.close_codes import WsCloseCode
from metered_proto.wire.codec import encode_frame
from metered_proto.wire.messages import PingFrame

_PING = encode_frame(PingFrame())


class Heartbeat:
    """Watches one link from its `LinkUp` to its `LinkDown`.

    `silent` is True from the moment the link was given up; the session then treats it as lost.
    """

    def __init__(self, inactivity_timeout: float) -> None:
        on = 0 < inactivity_timeout < math.inf
        # At least a microsecond for each third.
        self._timeout: Micros | None = max(micros(inactivity_timeout), 3) if on else None
        self._third: Micros = 0 if self._timeout is None else self._timeout // 3
        self._link: int | None = None
        self._last: Micros = 0
        self._pings = 0  # since the last sign of life
        self._blocked_at: Micros | None = None
        self.silent = False

    @property
    def deadline(self) -> Deadline | None:
        """The next ping, or the end of patience."""
        if self._timeout is None or self._link is None or self.silent:
            return None
        if self._pings < 2:
            due = Deadline(self._last + self._third * (self._pings + 1), "ping")
        else:
            due = Deadline(self._last + self._timeout, "inactivity")
        if self._blocked_at is not None and self._blocked_at + self._timeout < due.at:
            return Deadline(self._blocked_at + self._timeout, "blocked")
        return due

    def heard(self, now: Micros) -> None:
        """Something arrived."""
        self._last = now
        self._pings = 0

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in a fact of the link's life."""
        match fact:
            case LinkUp(link):
                self._link, self._last, self._pings, self.silent = link, now, 0, False
                self._blocked_at = None
            case LinkBlocked():
                self._blocked_at = now
            case LinkDrained():
                self._blocked_at = None
            case LinkDown():
                self._link = None
            case Received() | Heard():
                self.heard(now)
            case Woken():
                return self._look(now)
            case _:
                pass
        return []

    def _look(self, now: Micros) -> list[Order]:
        due = self.deadline
        if due is None or due.at > now or self._link is None or self._timeout is None:
            return []
        if self._blocked_at is not None and now - self._blocked_at >= self._timeout:
            self.silent = True
            return [CloseLink(self._link, WsCloseCode.INACTIVITY, "nothing was taken in time", abort=True)]
        if now - self._last >= self._timeout:
            self.silent = True
            return [CloseLink(self._link, WsCloseCode.INACTIVITY, "nothing arrived in time")]
        # Woken late, two pings may be due at once: one says as much.
        self._pings = min(2, (now - self._last) // self._third)
        return [Send(self._link, _PING)]
