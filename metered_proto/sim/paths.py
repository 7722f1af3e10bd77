"""The ways between hosts and the relay: sockets with latency, stalls, silence, and buffers that fill up.

A socket is two pipes. What is put into a pipe comes out at the other end in the order in which it went in, later; a
path says how much later. A pipe that takes more than it can deliver tells whoever writes to it, as a real one does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from metered_proto.facts import Fact, Heard, LinkAsked, LinkBlocked, LinkDown, LinkDrained, LinkUp, Received
from metered_proto.machine import SECOND, Micros

if TYPE_CHECKING:
    from metered_proto.entropy import Entropy
    from metered_proto.sim.hosts import Host, RelayHost
    from metered_proto.sim.world import World

HIGH_WATER: Final = 64 * 1024
"""Bytes that may wait to be written before whoever writes is told that the link is blocked."""

CLOSE_TIMEOUT: Final[Micros] = 10 * SECOND
"""How long whoever closes a link waits for the other end's answer."""


class Path:
    """What lies between one host and the relay. `rate` is bytes a second towards the host, None without end."""

    __slots__ = ("_entropy", "jitter", "latency", "rate", "slow_until", "stalled_until")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.latency: Micros = round(entropy.uniform(1_000, 60_000))
        self.jitter: Micros = round(entropy.uniform(0, 20_000))
        self.stalled_until: Micros = 0
        self.rate: int | None = None
        self.slow_until: Micros = 0

    def arrival(self, now: Micros) -> Micros:
        """When what leaves now arrives, as things are."""
        start = max(now, self.stalled_until)
        return start + self.latency + round(self._entropy.uniform(0, self.jitter))


class Closing(msgspec.Struct, frozen=True):
    """A close frame in a pipe."""

    code: int
    reason: str


class Control(msgspec.Struct, frozen=True):
    """Something in a pipe that is no message: the other end's fact, in the order of everything."""

    fact: Fact


class Pipe:
    """One direction of a socket. `deliver` is given what arrives, in batches; `writer` is told of back-pressure."""

    __slots__ = (
        "_blocked",
        "_busy_until",
        "_deliver",
        "_items",
        "_last",
        "_path",
        "_queued",
        "_slows",
        "_world",
        "_writer",
        "broken",
        "silent",
    )

    def __init__(
        self,
        world: World,
        path: Path,
        deliver: Callable[[list[Any]], None],
        writer: Callable[[bool, int], None],
        *,
        slows: bool,
    ) -> None:
        self._world, self._path, self._deliver, self._writer, self._slows = world, path, deliver, writer, slows
        self._items: deque[tuple[Micros, Any, int]] = deque()
        self._last: Micros = 0
        self._busy_until: Micros = 0
        self._queued = 0
        self._blocked = False
        self.silent = False
        self.broken = False

    def put(self, item: Any, size: int = 0) -> None:
        """Write something."""
        if self.broken:
            return
        self._queued += size
        if not self.silent:  # what goes into a silent one stays there
            now = self._world.now
            arrival = self._path.arrival(now)
            rate = self._path.rate
            if self._slows and rate is not None and now < self._path.slow_until:
                self._busy_until = max(self._busy_until, now) + size * SECOND // rate
                arrival = min(max(arrival, self._busy_until), self._path.slow_until)
            arrival = self._last = max(arrival, self._last)
            self._items.append((arrival, item, size))
            if len(self._items) == 1:
                self._world.at(arrival, self._arrived)
        if self._queued > HIGH_WATER and not self._blocked:
            self._blocked = True
            self._writer(True, self._queued)

    def fall_silent(self) -> None:
        """Nothing comes out of it any more; what is in it stays there."""
        self.silent = True
        self._items.clear()

    def break_off(self) -> None:
        """It is gone, with all that is in it."""
        self.broken = True
        self._items.clear()

    def _arrived(self) -> None:
        items, now = self._items, self._world.now
        if not items:
            return
        stalled = self._path.stalled_until
        if now < stalled:
            self._world.at(stalled + self._path.latency, self._arrived)
            return
        batch: list[Any] = []
        while items and items[0][0] <= now:
            _, item, size = items.popleft()
            self._queued -= size
            batch.append(item)
        if items:
            self._world.at(items[0][0], self._arrived)
        if self._blocked and not self._queued:
            self._blocked = False
            self._writer(False, 0)
        self._deliver(batch)


class Socket:
    """A link between a client's machine, where it is `link`, and a relay, where it is `guest`."""

    def __init__(self, world: World, host: Host, link: int, relay: RelayHost, guest: int, target: str) -> None:
        self._world, self._host, self._link, self._relay, self._guest = world, host, link, relay, guest
        self._down_at_host = self._down_at_relay = False
        path = world.path(host.name)
        self._up = Pipe(world, path, self._to_relay, self._host_writes, slows=False)
        self._down = Pipe(world, path, self._to_host, self._relay_writes, slows=True)
        self._up.put(Control(LinkAsked(guest, target, host.address)))

    # --- what the two ends do ---

    def host_sends(self, payload: bytes) -> None:
        """The host writes a message."""
        self._up.put(payload, len(payload))

    def host_closes(self, code: int, reason: str, *, abort: bool) -> None:
        """The host closes the link."""
        if abort:
            self._host_is_down(code, reason)
            self._break(self._up)
        else:
            self._up.put(Closing(code, reason))
            self._world.after(CLOSE_TIMEOUT, lambda: self._host_is_down(code, reason))

    def accepted(self) -> None:
        """The relay completes the handshake."""
        self._down.put(Control(LinkUp(self._link)))
        self._relay.tell_soon(LinkUp(self._guest))

    def refused(self, status: int, reason: str) -> None:
        """The relay answers with an HTTP error."""
        self._down_at_relay = True
        self._down.put(Control(LinkDown(self._link, status, reason)))

    def relay_sends(self, payload: bytes) -> None:
        """The relay writes a message."""
        self._down.put(payload, len(payload))

    def relay_pings(self) -> None:
        """The relay writes a ping; the host's end answers by itself, unless its process does not run."""
        self._down.put(Control(Heard(self._link)))

    def relay_closes(self, code: int, reason: str, *, abort: bool) -> None:
        """The relay closes the link."""
        if abort:
            self._relay_is_down(code, reason)
            self._break(self._down)
        else:
            self._down.put(Closing(code, reason))

    # --- what happens to it ---

    def cut(self) -> None:
        """It breaks, and both ends notice."""
        path = self._world.path(self._host.name)
        self._up.break_off()
        self._down.break_off()
        self._world.at(path.arrival(self._world.now), lambda: self._host_is_down(1006, ""))
        self._world.at(path.arrival(self._world.now), lambda: self._relay_is_down(1006, ""))

    def fall_silent(self) -> None:
        """Nothing arrives any more, at neither end."""
        self._up.fall_silent()
        self._down.fall_silent()

    def relay_is_gone(self, *, silently: bool) -> None:
        """The relay's process has ended; `silently`: so has its machine."""
        self._down_at_relay = True
        if silently:
            self.fall_silent()
        elif not self._down.silent:
            self._break(self._down)

    def host_is_gone(self, *, silently: bool) -> None:
        """The host's process has ended."""
        self._down_at_host = True
        if silently:
            self.fall_silent()
        elif not self._up.silent:
            self._break(self._up)

    # --- detail ---

    def _break(self, pipe: Pipe) -> None:
        """Whoever writes to this pipe resets the connection; the other end notices, if anything still gets there."""
        silent = pipe.silent
        self._up.break_off()
        self._down.break_off()
        if not silent:
            other = self._relay_is_down if pipe is self._up else self._host_is_down
            arrival = self._world.path(self._host.name).arrival(self._world.now)
            self._world.at(arrival, lambda: other(1006, ""))

    def _to_relay(self, batch: list[Any]) -> None:
        if self._down_at_relay:
            return
        if self._relay.is_dead:  # it died before the first of it arrived
            self.relay_is_gone(silently=False)
            return
        for fact in _facts(batch, self._guest):
            if isinstance(fact, LinkAsked):
                self._relay.sockets[self._guest] = self
                self._relay.tell(fact)
            elif isinstance(fact, LinkDown):
                self._down.put(Closing(fact.code, fact.reason))
                self._relay_is_down(fact.code, fact.reason)
            else:
                self._relay.tell(fact)

    def _to_host(self, batch: list[Any]) -> None:
        if self._down_at_host:
            return
        for fact in _facts(batch, self._link):
            if isinstance(fact, LinkDown):
                self._host_is_down(fact.code, fact.reason)
                if fact.code >= 1000:  # and no HTTP status
                    self._up.put(Closing(fact.code, fact.reason))
            elif isinstance(fact, Heard):
                self._host.tell(fact)
                self._up.put(Control(Heard(self._guest)))
            else:
                self._host.tell(fact)

    def _host_is_down(self, code: int, reason: str) -> None:
        if not self._down_at_host:
            self._down_at_host = True
            self._host.links.pop(self._link, None)
            self._host.tell(LinkDown(self._link, code, reason))

    def _relay_is_down(self, code: int, reason: str) -> None:
        if not self._down_at_relay:
            self._down_at_relay = True
            self._relay.sockets.pop(self._guest, None)
            self._relay.tell(LinkDown(self._guest, code, reason))

    def _host_writes(self, blocked: bool, queued: int) -> None:
        if not self._down_at_host:
            self._host.tell_soon(LinkBlocked(self._link, queued) if blocked else LinkDrained(self._link))

    def _relay_writes(self, blocked: bool, queued: int) -> None:
        if not self._down_at_relay:
            self._relay.tell_soon(LinkBlocked(self._guest, queued) if blocked else LinkDrained(self._guest))


def _facts(batch: list[Any], link: int) -> list[Fact]:
    """What arrived in one read, as facts: messages that came together are one."""
    facts: list[Fact] = []
    payloads: list[str | bytes] = []
    for item in [*batch, None]:
        if isinstance(item, bytes):
            payloads.append(item.decode())
            continue
        if payloads:
            facts.append(Received(link, payloads))
            payloads = []
        if isinstance(item, Closing):
            facts.append(LinkDown(link, item.code, item.reason))
        elif item is not None:
            facts.append(item.fact)
    return facts
