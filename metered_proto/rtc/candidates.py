"""ICE candidates, on their way in and on their way out.

Candidates trickle (RFC 8838), and they belong to a generation of the connection: that of the description which their
ICE user name fragment names, or, where a sender names none, of the description it sent last. The remote's are held
until the description of their generation has been applied; those of another generation are of no use to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from metered_proto.wire.caps import CANDIDATES_PER_NEGOTIATION
from metered_proto.wire.signals import Candidate, RtcIce


class RemoteCandidates:
    """What the remote trickles. At most `limit` candidates are held, and as many handed on for one generation."""

    __slots__ = ("_applied", "_ended", "_handed", "_held", "_latest", "_limit")

    def __init__(self, limit: int = CANDIDATES_PER_NEGOTIATION) -> None:
        self._limit = limit
        self._held: list[tuple[str | None, Candidate | None]] = []
        self._latest: str | None = None
        self._applied: tuple[str, ...] | None = None
        self._handed = 0
        self._ended = False

    def __len__(self) -> int:
        return len(self._held)

    def described(self, ufrags: Sequence[str]) -> None:
        """A description came, whatever becomes of it: what names no generation from now on belongs to this one.

        If it comes again, so do its candidates. An end of them that came before is none.
        """
        self._held = [held for held in self._held if held[1] is not None or held[0] not in ufrags]
        self._latest = ufrags[0] if ufrags else None

    def came(self, candidate: Candidate | None) -> None:
        """Hold a candidate; None is the end of them."""
        if len(self._held) < self._limit:
            ufrag = candidate.ufrag if candidate is not None else None
            self._held.append((self._latest if ufrag is None else ufrag, candidate))

    def opened(self) -> None:
        """There is another connection, without a description so far."""
        self._applied = None
        self._handed = 0
        self._ended = False

    def applied(self, ufrags: Sequence[str], awaited: Sequence[str]) -> None:
        """The connection has a description now. Of what is held, only its candidates and those that belong to
        descriptions which are still `awaited` can be of use."""
        self._applied = tuple(ufrags)
        self._held = [held for held in self._held if held[0] in awaited or self._fits(held[0])]

    def release(self) -> list[Candidate | None]:
        """What the connection can use now, in order. Nothing comes after the end of candidates."""
        if self._applied is None or not self._held:
            return []
        ready: list[Candidate | None] = []
        kept: list[tuple[str | None, Candidate | None]] = []
        for ufrag, candidate in self._held:
            if not self._fits(ufrag):
                kept.append((ufrag, candidate))
            elif not self._ended and (candidate is None or self._handed < self._limit):
                self._ended = candidate is None
                self._handed += candidate is not None
                ready.append(candidate)
        self._held = kept
        return ready

    def clear(self) -> None:
        """Forget what is held."""
        self._held.clear()

    def _fits(self, ufrag: str | None) -> bool:
        return ufrag is None or not self._applied or ufrag in self._applied


class LocalCandidates:
    """What our side of one connection found beyond its description, so that it can be said again with it."""

    __slots__ = ("_ended", "_found")

    def __init__(self) -> None:
        self._found: list[Candidate] = []
        self._ended = False

    def described(self, complete: bool) -> None:
        """There is a (new) description. It holds what was found so far."""
        self._found.clear()
        self._ended = complete

    def found(self, candidate: Candidate | None) -> bool:
        """Note a candidate, or the end of them; False if it is to be kept to ourselves."""
        if self._ended:
            return False
        if candidate is None:
            self._ended = True
            return True
        if len(self._found) == CANDIDATES_PER_NEGOTIATION:
            return False
        self._found.append(candidate)
        return True

    def to_say(self) -> list[RtcIce]:
        """All that has to follow the description."""
        end = [RtcIce(None)] if self._ended else []
        return [*(RtcIce(candidate) for candidate in self._found), *end]
