"""The ways from peer to peer: whether two simulated connections find each other, and when they lose each other.

Two connections belong together when each has the other's ICE user name fragment in its remote description (RFC 8839,
section 5.4). They come up if there is a way: directly, unless a NAT is in the way, or by a TURN server that one of
them was given. A way that is lost shows as `disconnected` after a while, and as `failed` after another.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from metered_proto.machine import SECOND, Micros
from metered_proto.rtc.words import (
    ChannelArrived,
    ChannelOpened,
    ConnectionChanged,
)
from metered_proto.sim.connections import SimConnection

if TYPE_CHECKING:
    from metered_proto.entropy import Entropy
    from metered_proto.sim.hosts import PeerHost
    from metered_proto.sim.world import World

ICE_PATIENCE: Final[Micros] = 12 * SECOND
"""How long candidates are tried before a connection fails."""

CONSENT: Final[Micros] = 6 * SECOND
"""A connection over which nothing arrives for so long is `disconnected` (RFC 7675, section 5.1, has 30 s at most)."""

GIVE_UP: Final[Micros] = 15 * SECOND
"""And after so long it has failed."""


class Call:
    """Two connections that belong together."""

    __slots__ = ("began", "by_turn", "ends", "over", "quiet", "up")

    def __init__(
        self, ends: tuple[tuple[PeerHost, SimConnection], tuple[PeerHost, SimConnection]], now: Micros
    ) -> None:
        self.ends = ends
        self.began = now
        self.up = False
        self.over = False
        self.by_turn = False
        self.quiet = False
        """Both ends were told that it is disconnected."""


class Media:
    """All connections of a world."""

    def __init__(self, world: World, entropy: Entropy) -> None:
        self._world, self._entropy = world, entropy
        self._by_ufrag: dict[str, tuple[PeerHost, SimConnection]] = {}
        self._calls: dict[str, Call] = {}
        """By the fragment of either end."""
        self._lost: dict[tuple[str, str], Micros] = {}
        """Until when the way between two hosts is lost."""
        self.turn_down_until: Micros = 0

    # --- what engines report ---

    def opened(self, host: PeerHost, connection: SimConnection) -> None:
        """There is another connection."""
        self._by_ufrag[connection.ufrag] = host, connection

    def described(self, connection: SimConnection) -> None:
        """A connection knows more of its remote: perhaps it belongs to another one now."""
        remote = self._by_ufrag.get(connection.remote_ufrag or "")
        if remote is None or remote[1].remote_ufrag != connection.ufrag or connection.ufrag in self._calls:
            return
        call = Call((self._by_ufrag[connection.ufrag], remote), self._world.now)
        self._calls[connection.ufrag] = self._calls[remote[1].ufrag] = call
        self._world.after(self._delay(20_000, 300_000), lambda: self._try(call))

    def closed(self, connection: SimConnection) -> None:
        """A connection is closed; if it was up, the other end hears a goodbye, where there is a way."""
        del self._by_ufrag[connection.ufrag]
        call = self._calls.pop(connection.ufrag, None)
        if call is None or call.over:
            return
        call.over = True
        host, other = next(end for end in call.ends if end[1] is not connection)
        if call.up and self._way(call):
            self._world.after(self._delay(1_000, 60_000), lambda: self._changed(host, other, "closed"))
        else:
            self._world.after(GIVE_UP, lambda: self._changed(host, other, "failed"))

    def channel(self, connection: SimConnection) -> None:
        """A data channel of a connection waits to open, or the connection has a place for it now."""
        call = self._calls.get(connection.ufrag)
        if call is not None and call.up and not call.over:
            self._world.after(self._delay(1_000, 60_000), lambda: self._open_channels(call))

    def is_heard(self, connection: SimConnection) -> bool:
        """Whether anything arrives over a connection."""
        call = self._calls.get(connection.ufrag)
        return call is not None and call.up and not call.over and self._way(call)

    # --- what happens ---

    def lose(self, one: str, other: str, span: Micros) -> None:
        """There is no way between two hosts for a while."""
        key = (min(one, other), max(one, other))
        self._lost[key] = max(self._lost.get(key, 0), self._world.now + span)
        self.look()

    def turn_is_down(self, span: Micros) -> None:
        """There is no way by the TURN server for a while."""
        self.turn_down_until = self._world.now + span
        self.look()

    def look(self) -> None:
        """Something has changed: see which calls have lost their way."""
        calls: dict[str, Call] = {call.ends[0][1].ufrag: call for call in self._calls.values()}
        for call in calls.values():
            if call.up and not call.over and not self._way(call):
                self._world.after(CONSENT, partial(self._silence, call, "disconnected"))
                self._world.after(GIVE_UP, partial(self._silence, call, "failed"))

    # --- detail ---

    def _delay(self, low: Micros, high: Micros) -> Micros:
        return round(self._entropy.uniform(low, high))

    def _directly(self, call: Call) -> bool:
        (one, ours), (other, theirs) = call.ends
        if ours.relay_only or theirs.relay_only or one.spec.closed_nat or other.spec.closed_nat:
            return False
        return self._lost.get((min(one.name, other.name), max(one.name, other.name)), 0) <= self._world.now

    def _has_turn(self, call: Call) -> bool:
        if self._world.now < self.turn_down_until:
            return False
        return any(
            url.startswith("turn")
            for _, connection in call.ends
            for server in connection.ice_servers
            for url in server.urls
        )

    def _way(self, call: Call) -> bool:
        """Whether packets get from one end to the other."""
        if any(host.is_dead or host.is_asleep for host, _ in call.ends):
            return False
        if call.up:
            return self._has_turn(call) if call.by_turn else self._directly(call)
        return self._directly(call) or self._has_turn(call)

    def _knows_a_candidate(self, call: Call) -> bool:
        """One that is reached can answer (RFC 8445, section 7.3.1.3), so one side's candidates are enough."""
        (one, ours), (other, theirs) = call.ends
        return not (one.trickles and other.trickles) or any((ours.candidates, theirs.candidates))

    def _try(self, call: Call) -> None:
        if call.over or call.up:
            return
        if self._way(call) and self._knows_a_candidate(call):
            call.by_turn = not self._directly(call)
            call.up = True
            for host, connection in call.ends:
                self._world.after(self._delay(0, 40_000), partial(self._come_up, call, host, connection))
        elif self._world.now - call.began < ICE_PATIENCE:
            self._world.after(SECOND, lambda: self._try(call))
        else:
            call.over = True
            for host, connection in call.ends:
                self._changed(host, connection, "failed")

    def _come_up(self, call: Call, host: PeerHost, connection: SimConnection) -> None:
        if connection.ufrag in self._by_ufrag and not call.over:
            connection.up = True
            host.tell(ConnectionChanged(connection.pc, "connected"))
            self.channel(connection)

    def _silence(self, call: Call, state: str) -> None:
        """Nothing has come for a while; or it has, and all is well."""
        if call.over:
            return
        if self._way(call):
            if call.quiet:
                call.quiet = False
                for host, connection in call.ends:
                    host.tell(ConnectionChanged(connection.pc, "connected"))
            return
        call.quiet = True
        for host, connection in call.ends:
            if state == "disconnected":
                host.tell(ConnectionChanged(connection.pc, "disconnected"))
            else:
                self._changed(host, connection, "failed")
        call.over = state == "failed"

    def _changed(self, host: PeerHost, connection: SimConnection, state: str) -> None:
        if connection.ufrag in self._by_ufrag:
            connection.up = False
            host.tell(ConnectionChanged(connection.pc, "closed" if state == "closed" else "failed"))

    def _open_channels(self, call: Call) -> None:
        if call.over:
            return
        for (host, connection), (other, theirs) in (call.ends, call.ends[::-1]):
            agreed = any(section.kind == "application" and section.agreed for section in connection.sections)
            while agreed and connection.up and theirs.up and connection.channels:
                number = connection.channels.pop(0)
                host.tell(ChannelOpened(number))
                other.tell(ChannelArrived(theirs.pc, self._world.next_number()))
