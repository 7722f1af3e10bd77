"""How much a machine holds, counted in things rather than bytes, and how much it may.

`held` walks through everything that a machine refers to and counts what stands in its containers. That number does
not depend on the interpreter, and what grows without end shows in it at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final

import msgspec

from metered_proto.client.outbox import OutboxQueue
from metered_proto.client.session import ClientSession
from metered_proto.relay import Relay
from metered_proto.room import Room


class _Same:
    """A key for one and the same object."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return object.__hash__(self.thing)


def held(machine: Any) -> int:
    """How many things stand in the containers of a machine and of all that it is made of."""
    count = 0
    seen: set[_Same] = set()
    waiting: list[Any] = [machine]
    while waiting:
        thing = waiting.pop()
        key = _Same(thing)
        if key in seen:
            continue
        if isinstance(thing, dict | OrderedDict):
            seen.add(key)
            count += len(thing)
            waiting += thing.values()
        elif isinstance(thing, list | tuple | deque | set | frozenset):
            seen.add(key)
            count += len(thing)
            waiting += thing
        elif isinstance(thing, msgspec.Struct):
            seen.add(key)
            waiting += [getattr(thing, name) for name in thing.__struct_fields__]
        elif type(thing).__module__.startswith("metered_proto"):
            seen.add(key)
            waiting += _attributes(thing)
    return count


def _attributes(thing: Any) -> list[Any]:
    found = list(getattr(thing, "__dict__", {}).values())
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        found += [getattr(thing, name) for name in slots if hasattr(thing, name)]
    return found


def bound_of_client(session: ClientSession, outbox: OutboxQueue | None = None) -> int:
    """A client: a fixed part, and so much for each channel, each request under way, and each message it holds."""
    messages = 0 if outbox is None else len(outbox) + outbox.in_flight
    return 100 + 6 * len(session.channels) + 6 * session.in_flight + 8 * messages


def bound_of_room(room: Room) -> int:
    """A room: a fixed part, and so much for each member, and for each of our tracks at each member."""
    members, tracks = len(room.members), len(room.tracks)
    return 100 + 60 * members + 25 * tracks * (1 + members)


def bound_of_relay(relay: Relay) -> int:
    """A relay: a fixed part, and so much for each connection, and for each channel that it may listen to."""
    stats = relay.stats()
    return 150 + 30 * stats.connections + 8 * stats.connections * (1 + stats.channels)


CLOSED: Final = 100
"""What is left of any of them once it has closed, or everybody has gone."""
