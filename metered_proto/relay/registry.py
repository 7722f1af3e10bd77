"""Who listens to what, and who is where.

A link that came in (`enter`) subscribes to names. A literal name makes it part of the channel: its peer is
present there, counted once however many links it has. A pattern makes it a listener of every channel that
matches, present in none. What a message to a channel leads to, its `Route`, is worked out once and kept until a
subscription that bears on it changes.

Patterns are filed under what stands before their first star, cut at the last `/`. A channel looks only into the
files that it begins with, so a thousand devices that each listen to `device/<own id>/*` do not slow each other.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from metered_proto.events import PresencePeer
from metered_proto.wire.channels import Pattern, is_pattern

MAX_ROUTES: Final = 1024
"""Routes kept at once. Over it the oldest is worked out again when it is needed."""


class Route:
    """The links that a message to one channel goes to. A link is in it once, whichever way it subscribed."""

    __slots__ = ("everyone", "listeners", "plain", "stamped")

    def __init__(self, wants: dict[int, bool], listeners: list[_Listeners]) -> None:
        self.everyone: tuple[int, ...] = tuple(wants)
        # Without anybody who asked for metadata, which is the rule, there is one tuple and not two.
        self.stamped: tuple[int, ...] = tuple(link for link, stamped in wants.items() if stamped)
        """Those who asked for the sender's metadata with any of their subscriptions that match."""
        self.plain: tuple[int, ...] = (
            tuple(link for link, stamped in wants.items() if not stamped) if self.stamped else self.everyone
        )
        """The others."""
        self.listeners = listeners
        """The patterns that had a part in it."""


class Registry:
    """Links, channels and patterns. Links are numbers; everything comes out in the order in which it went in."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._links_of: dict[str, dict[int, None]] = {}
        self._channels: dict[str, _Channel] = {}
        self._files: dict[str, dict[str, _Listeners]] = {}
        self._routes: OrderedDict[str, Route] = OrderedDict()

    def enter(self, link: int, peer: PresencePeer, *, sees_presence: bool) -> None:
        """Let a link in. `sees_presence` says whether it is among those who are told of joins and departures."""
        self._entries[link] = _Entry(peer, sees_presence)
        self._links_of.setdefault(peer.peer_id, {})[link] = None

    def leave(self, link: int) -> list[str]:
        """Forget a link; returns the channels that its peer is no longer in because of it."""
        entry = self._entries[link]
        left = [name for name in tuple(entry.names) if self.unsubscribe(link, name)]
        del self._entries[link]
        links = self._links_of[entry.peer.peer_id]
        del links[link]
        if not links:
            del self._links_of[entry.peer.peer_id]
        return left

    def subscribe(self, link: int, name: str, *, stamped: bool) -> bool:
        """Subscribe to a channel or a pattern, or change a subscription. Returns whether the peer joined."""
        entry = self._entries[link]
        known = name in entry.names
        if known and entry.names[name] == stamped:
            return False
        entry.names[name] = stamped
        if is_pattern(name):
            self._file(name).links[link] = stamped
            entry.patterns += not known
            return False
        self._forget_route(name)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
        channel.links[link] = stamped
        if known:
            return False
        if entry.sees_presence:
            channel.audience[link] = None
        # The newest link of a peer has the last word on how the peer is seen.
        _, count = channel.peers.get(entry.peer.peer_id, (entry.peer, 0))
        channel.peers[entry.peer.peer_id] = entry.peer, count + 1
        return count == 0

    def unsubscribe(self, link: int, name: str) -> bool:
        """End a subscription, if there is one. Returns whether the peer left."""
        entry = self._entries[link]
        if entry.names.pop(name, None) is None:
            return False
        if is_pattern(name):
            entry.patterns -= 1
            self._unfile(link, name)
            return False
        self._forget_route(name)
        channel = self._channels[name]
        del channel.links[link]
        channel.audience.pop(link, None)
        peer_id = entry.peer.peer_id
        peer, count = channel.peers[peer_id]
        if count > 1:
            channel.peers[peer_id] = peer, count - 1
            return False
        del channel.peers[peer_id]
        if not channel.links:
            del self._channels[name]
        return True

    def subscriptions(self, link: int) -> dict[str, bool]:
        """The names a link subscribed to, patterns included, and whether it wants metadata. Not to be changed."""
        return self._entries[link].names

    def wish(self, link: int, channel: str) -> bool | None:
        """How a link would get a message to a channel: with metadata (True), without (False), not at all (None)."""
        entry = self._entries[link]
        wish = entry.names.get(channel)
        if entry.patterns:
            for listeners in self.route(channel).listeners:
                stamped = listeners.links.get(link)
                if stamped is not None:
                    wish = stamped or bool(wish)
        return wish

    def links_of(self, peer_id: str) -> tuple[int, ...]:
        """All links of a peer."""
        return tuple(self._links_of.get(peer_id, ()))

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._links_of

    def audience(self, channel: str) -> tuple[int, ...]:
        """The links that are told who joins and leaves a channel."""
        found = self._channels.get(channel)
        return tuple(found.audience) if found is not None else ()

    def peers(self, channel: str, *, but: str | None = None) -> tuple[PresencePeer, ...]:
        """The peers in a channel, without one of them."""
        found = self._channels.get(channel)
        if found is None:
            return ()
        return tuple(peer for peer_id, (peer, _) in found.peers.items() if peer_id != but)

    def route(self, channel: str) -> Route:
        """Where a message to a channel goes."""
        route = self._routes.get(channel)
        return route if route is not None else self._find_route(channel)

    @property
    def link_count(self) -> int:
        """Links in it."""
        return len(self._entries)

    @property
    def peer_count(self) -> int:
        """Peers in it."""
        return len(self._links_of)

    @property
    def channel_count(self) -> int:
        """Channels that somebody is in."""
        return len(self._channels)

    # --- patterns and routes --------------------------------------------------------------------------------

    def _find_route(self, channel: str) -> Route:
        found = self._channels.get(channel)
        wants = dict(found.links) if found is not None else {}
        matching = self._matching(channel)
        for listeners in matching:
            for link, stamped in listeners.links.items():
                wants[link] = stamped or wants.get(link, False)
            listeners.routes[channel] = None
        if len(self._routes) >= MAX_ROUTES:
            self._forget_route(next(iter(self._routes)))
        route = self._routes[channel] = Route(wants, matching)
        return route

    def _forget_route(self, channel: str) -> None:
        route = self._routes.pop(channel, None)
        if route is not None:
            for listeners in route.listeners:
                del listeners.routes[channel]

    def _matching(self, channel: str) -> list[_Listeners]:
        """Those who listen to the channel by a pattern, wherever they are filed."""
        if not self._files:
            return []
        found: list[_Listeners] = []
        end = 0
        while True:
            file = self._files.get(channel[:end])
            if file is not None:
                found += [listeners for listeners in file.values() if listeners.pattern.matches(channel)]
            end = channel.find("/", end) + 1
            if not end:
                return found

    def _file(self, name: str) -> _Listeners:
        """The listeners of a pattern that is about to get or change one."""
        file = self._files.setdefault(_folder(name), {})
        listeners = file.get(name)
        if listeners is not None:
            for channel in tuple(listeners.routes):
                self._forget_route(channel)
            return listeners
        listeners = file[name] = _Listeners(Pattern(name))
        # By its literal beginning only: matching every route would let one guest, who subscribes and unsubscribes all
        # the time, keep the relay busy. A route that is forgotten without need is found again when it is used.
        folder = _folder(name)
        for channel in [channel for channel in self._routes if channel.startswith(folder)]:
            self._forget_route(channel)
        return listeners

    def _unfile(self, link: int, name: str) -> None:
        folder = _folder(name)
        file = self._files[folder]
        listeners = file[name]
        for channel in tuple(listeners.routes):
            self._forget_route(channel)
        del listeners.links[link]
        if not listeners.links:
            del file[name]
            if not file:
                del self._files[folder]


class _Entry:
    """One link."""

    __slots__ = ("names", "patterns", "peer", "sees_presence")

    def __init__(self, peer: PresencePeer, sees_presence: bool) -> None:
        self.peer = peer
        self.sees_presence = sees_presence
        self.names: dict[str, bool] = {}
        self.patterns = 0
        """How many of the names are patterns."""


class _Channel:
    """One literal channel, for as long as somebody is in it."""

    __slots__ = ("audience", "links", "peers")

    def __init__(self) -> None:
        self.links: dict[int, bool] = {}
        self.audience: dict[int, None] = {}
        self.peers: dict[str, tuple[PresencePeer, int]] = {}
        """Each peer in the channel, and by how many links."""


class _Listeners:
    """One pattern, for as long as somebody listens by it."""

    __slots__ = ("links", "pattern", "routes")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.links: dict[int, bool] = {}
        self.routes: dict[str, None] = {}
        """The channels whose kept routes it has a part in."""


def _folder(pattern: str) -> str:
    """The file of a pattern: the literal text it begins with, up to the last `/` in it."""
    head = pattern[: pattern.index("*")].partition("\\")[0]
    return head[: head.rfind("/") + 1]
