"""Giving things out, and keeping count for those who read too slowly.

A message is encoded once for those who want the sender's metadata and once for those who do not, and each of the
two is one `Broadcast`. As long as everybody reads, that is all there is to do. From the moment the driver reports
a link as blocked, every byte given to it is counted, and when more than the limit waits it is listed as overfull.
"""

from __future__ import annotations

import msgspec

from metered_proto.orders import Broadcast, Order, Send
from metered_proto.relay.frames import NO_STAMP, MessageOut, Stamp
from metered_proto.relay.registry import Registry
from metered_proto.relay.stats import Stats
from metered_proto.wire.codec import encode_frame


class Post:
    """Whatever leaves the relay goes through here."""

    def __init__(self, registry: Registry, stats: Stats, max_queue: int) -> None:
        self._registry = registry
        self._stats = stats
        self._max_queue = max_queue
        self._blocked: dict[int, int] = {}
        self.overfull: list[int] = []
        """Links to be cut, as soon as the fact at hand is dealt with. Not sooner: cutting one tells others about it,
        and they may be about to be cut as well."""

    @property
    def blocked(self) -> int:
        """How many links take no more at the moment."""
        return len(self._blocked)

    @property
    def queued_bytes(self) -> int:
        """What waits for them, if they have taken nothing since they were blocked."""
        return sum(self._blocked.values())

    def to(self, link: int, payload: bytes, orders: list[Order]) -> None:
        """Give a frame to one link."""
        orders.append(Send(link, payload))
        if self._blocked:
            self._charge(link, len(payload))

    def to_all(self, links: tuple[int, ...], payload: bytes, orders: list[Order], skip: int | None = None) -> None:
        """Give a frame to several links, but not to `skip`."""
        if not links:
            return
        orders.append(Broadcast(links, payload, skip))
        if self._blocked:
            for link in links:
                if link != skip:
                    self._charge(link, len(payload))

    def hand_out(
        self, links: tuple[int, ...], payload: bytes, reached: int, orders: list[Order], skip: int | None = None
    ) -> None:
        """Give a message to several links, `reached` of which are not `skip`, and count it."""
        self._stats.messages_out += reached
        self._stats.bytes_out += reached * len(payload)
        self.to_all(links, payload, orders, skip)

    def publish(
        self, channel: str, sender: str, data: msgspec.Raw, stamp: Stamp, orders: list[Order], publisher: int | None
    ) -> int:
        """Give a message to everybody who listens, but to the link it came from. Returns how many links got it."""
        route = self._registry.route(channel)
        own = self._registry.wish(publisher, channel) if publisher is not None else None
        if stamp is NO_STAMP or not route.stamped:
            reached = len(route.everyone) - (own is not None)
            if reached:
                payload = encode_frame(MessageOut(channel, sender, data))
                self.hand_out(route.everyone, payload, reached, orders, publisher)
            return reached
        plain = len(route.plain) - (own is False)
        if plain:
            self.hand_out(route.plain, encode_frame(MessageOut(channel, sender, data)), plain, orders, publisher)
        stamped = len(route.stamped) - (own is True)
        if stamped:
            payload = encode_frame(MessageOut(channel, sender, data, stamp))
            self.hand_out(route.stamped, payload, stamped, orders, publisher)
        return plain + stamped

    def block(self, link: int, queued: int) -> None:
        """A link takes no more, and `queued` bytes wait for it: count from there."""
        self._blocked[link] = 0
        self._charge(link, queued)

    def unblock(self, link: int) -> None:
        """Nothing waits for a link any more, or the link is gone."""
        self._blocked.pop(link, None)

    def _charge(self, link: int, size: int) -> None:
        queued = self._blocked.get(link)
        if queued is not None:
            self._blocked[link] = queued + size
            if queued <= self._max_queue < queued + size:
                self.overfull.append(link)
