"""The remote's descriptions, until the engine has time for them, and until the remote may rebuild again."""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.machine import Micros
from metered_proto.wire.sdp import SdpFacts, read_sdp, ufrags
from metered_proto.wire.signals import DescriptionType, RtcDescription

MOST_DESCRIPTIONS: Final = 4
"""Descriptions that wait. An offer makes all before it void."""


class Heard(msgspec.Struct, frozen=True):
    """A description of the remote's, read. Its repr leaves out the SDP, which holds the ICE password."""

    type: DescriptionType
    sdp: str
    facts: SdpFacts

    @property
    def ufrags(self) -> tuple[str, ...]:
        """The ICE user name fragments it names."""
        return ufrags(self.facts)

    def __repr__(self) -> str:
        return f"Heard(type={self.type!r}, sdp=<{len(self.sdp)} characters>)"


class Inbox:
    """What waits, in order, and when the remote may make us open a connection.

    It may do so once in an `interval`: connections that replace one are counted for themselves, and so are those
    that replace none, until one of them has come up.
    """

    __slots__ = ("_interval", "_opened", "_waiting", "blocked_until")

    def __init__(self, interval: Micros) -> None:
        self._interval = interval
        self._waiting: list[Heard] = []
        self._opened: dict[bool, Micros] = {}
        self.blocked_until: Micros | None = None
        """When the first one may be taken up, if it has to wait for that."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> Heard | None:
        """The one whose turn it is."""
        return self._waiting[0] if self._waiting else None

    @property
    def ufrags(self) -> list[str]:
        """The ICE user name fragments of all that wait."""
        return [ufrag for heard in self._waiting for ufrag in heard.ufrags]

    def put(self, description: RtcDescription) -> Heard:
        """A description came."""
        heard = Heard(description.type, description.sdp, read_sdp(description.sdp))
        if heard.type == "offer":
            self.clear()
        if len(self._waiting) < MOST_DESCRIPTIONS:
            self._waiting.append(heard)
        return heard

    def take(self) -> Heard:
        """Take the first one out."""
        return self._waiting.pop(0)

    def may_open(self, now: Micros, *, replaces: bool) -> bool:
        """Whether the first one may make us open a connection now. If so it counts; if not, it is blocked."""
        last = self._opened.get(replaces)
        if last is not None and last + self._interval > now:
            self.blocked_until = last + self._interval
            return False
        self.opened(now, replaces=replaces)
        return True

    def opened(self, now: Micros, *, replaces: bool) -> None:
        """The remote made us open a connection."""
        self._opened[replaces] = now
        self.blocked_until = None

    def came_up(self) -> None:
        """A connection is up, so it was worth while to open it."""
        self._opened.pop(False, None)

    def forgive(self) -> None:
        """Whatever the remote made us do no longer counts."""
        self._opened.clear()

    def clear(self) -> None:
        """Throw away what waits."""
        self._waiting.clear()
        self.blocked_until = None
