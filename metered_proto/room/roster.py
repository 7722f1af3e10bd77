"""Who is in the room, by the word of the server: presence in, changes out.

The first presence after a subscribe is a snapshot of everybody else; what follows are deltas. Between a snapshot and
what was known before stands the question of who is missing. Somebody who is missing need not be gone: whether it is
kept for a while, `away`, is decided by whoever asks (`keep`), because it depends on the peer's connection.

Our own id is no member, though it may well be in a presence: one peer can have several sockets. Neither is an id that
was ours before a reconnect, while the server has not noticed yet that its socket is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from metered_proto.events import Presence, PresencePeer
from metered_proto.wire.caps import PEERS_PER_CHANNEL
from metered_proto.wire.channels import peer_id_problem

FORMER_IDS: Final = 16
"""How many ids of our own are kept that the server may still know."""

NOBODY: Final[tuple[str, ...]] = ()


class Changes(msgspec.Struct, frozen=True):
    """What a presence comes to, in the order in which it is to be dealt with. Each id is in one of the first four at
    most, and `updated` has some of `stayed` and `returned`."""

    left: tuple[str, ...] = NOBODY
    """No members any more."""
    away: tuple[str, ...] = NOBODY
    """Missing from now on, but kept."""
    returned: tuple[str, ...] = NOBODY
    """They were away."""
    stayed: tuple[str, ...] = NOBODY
    """Members before and now, among those that the presence names."""
    updated: tuple[str, ...] = NOBODY
    """Members whose metadata has changed."""
    joined: tuple[str, ...] = NOBODY
    """New members."""
    refused: int = 0
    """How many found no room: there is an end to how much a server can make us hold."""


class _Entry(msgspec.Struct):
    metadata: dict[str, Any] | None
    away: bool = False


class Roster:
    """The members of one room, in the order in which they came."""

    __slots__ = ("_entries", "_former", "_limit", "_own_id")

    def __init__(self, limit: int = PEERS_PER_CHANNEL) -> None:
        self._entries: dict[str, _Entry] = {}
        self._limit = limit
        self._own_id: str | None = None
        self._former: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._entries

    @property
    def own_id(self) -> str | None:
        """Ours, once there is one."""
        return self._own_id

    def is_now(self, own_id: str) -> None:
        """The server calls us so from now on."""
        if self._own_id is not None and self._own_id != own_id:
            self._former[self._own_id] = None
            if len(self._former) > FORMER_IDS:
                del self._former[next(iter(self._former))]
        self._former.pop(own_id, None)
        self._own_id = own_id

    def metadata(self, peer_id: str) -> dict[str, Any] | None:
        """What a member's token asserts about it."""
        return self._entries[peer_id].metadata

    def is_away(self, peer_id: str) -> bool:
        """Whether a member is kept although it is not in the channel."""
        return self._entries[peer_id].away

    def snapshot(self, presence: Presence, keep: Callable[[str], bool]) -> Changes:
        """Everybody who is there now, but us."""
        there = {peer.peer_id for peer in presence.joined}
        self._former = {peer_id: None for peer_id in self._former if peer_id in there}
        named = self._read(presence.joined)
        return self._apply([peer_id for peer_id in self._entries if peer_id not in named], named, keep)

    def delta(self, presence: Presence, keep: Callable[[str], bool]) -> Changes:
        """Who left and who came since. One that is said to have done both left first."""
        for peer in presence.left:
            self._former.pop(peer.peer_id, None)
        missing = [peer_id for peer_id in self._read(presence.left) if peer_id in self._entries]
        return self._apply(missing, self._read(presence.joined), keep)

    def remove(self, peer_id: str) -> None:
        """Somebody who was kept is kept no longer."""
        del self._entries[peer_id]

    def recall(self) -> None:
        """The server cannot be asked any more: nobody counts as away until the next snapshot says so."""
        for entry in self._entries.values():
            entry.away = False

    def clear(self) -> None:
        """Nobody is there, and nothing is known of us."""
        self._entries.clear()
        self._former.clear()
        self._own_id = None

    def _read(self, peers: Iterable[PresencePeer]) -> dict[str, dict[str, Any] | None]:
        """Others by id, the last word on each. An id that nobody could be reached by is passed over."""
        return {
            peer.peer_id: peer.metadata
            for peer in peers
            if peer.peer_id != self._own_id
            and peer.peer_id not in self._former
            and peer_id_problem(peer.peer_id) is None
        }

    def _apply(
        self, missing: list[str], named: dict[str, dict[str, Any] | None], keep: Callable[[str], bool]
    ) -> Changes:
        left: list[str] = []
        away: list[str] = []
        for peer_id in missing:
            entry = self._entries[peer_id]
            if not keep(peer_id):
                del self._entries[peer_id]
                left.append(peer_id)
            elif not entry.away:
                entry.away = True
                if peer_id not in named:
                    away.append(peer_id)
        returned: list[str] = []
        stayed: list[str] = []
        updated: list[str] = []
        joined: list[str] = []
        refused = 0
        for peer_id, metadata in named.items():
            known = self._entries.get(peer_id)
            if known is None:
                if len(self._entries) < self._limit:
                    self._entries[peer_id] = _Entry(metadata)
                    joined.append(peer_id)
                else:
                    refused += 1
                continue
            (returned if known.away else stayed).append(peer_id)
            known.away = False
            if known.metadata != metadata:
                known.metadata = metadata
                updated.append(peer_id)
        return Changes(tuple(left), tuple(away), tuple(returned), tuple(stayed), tuple(updated), tuple(joined), refused)
