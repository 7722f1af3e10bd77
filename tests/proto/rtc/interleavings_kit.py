"""Two peers and everything that can happen between them, in every order.

From a start, every step that is possible is taken, and from each world that comes of it again, breadth first; worlds
that are equal are looked at once. A step is: a signal arrives, an engine has finished, a connection comes up or is
heard to have been closed, time passes until somebody wants to be woken, and whatever else the scenario allows once
(the relay is lost and comes back, signals vanish unnoticed, a connection fails, tracks come and go, a room reconciles).

From every world reached, if nothing bad happens any more, both must come to an agreement: connected to each other's
live connection, with all of each other's tracks. How far that goes is said in worlds that are looked into.
"""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from sim_kit import Side, Step, World

from metered_proto.rtc.words import ChannelOptions, CreateChannel, Reconcile

WAKES = 4
"""How often time may pass while something else is still under way."""

START = {
    "both send": [("video 1", "a"), ("video 1", "b")],
    "the polite side sends": [("video 1", "a"), ("audio 2", "a")],
    "the impolite side sends": [("video 1", "b")],
    "a channel alone": [("channel", "a")],
    "in a call": [("video 1", "a"), ("video 1", "b"), ("settle", "a")],
}

MISHAPS: dict[str, list[Step]] = {
    "nothing": [],
    "the relay is lost": [("link down", "a")],
    "signals vanish": [("vanish", "a"), ("vanish", "b"), ("video 11", "a")],
    "connections fail": [("fail", "a"), ("fail", "b")],
    "tracks come and go": [("video 11", "a"), ("audio 12", "b"), ("remove 1", "a"), ("remove 1", "b")],
    "one side reconciles": [("reconcile", "a"), ("fail", "b")],
    "the other side starts over": [("replace", "b"), ("vanish", "a")],
    "all of it": [("link down", "a"), ("fail", "b"), ("video 11", "a"), ("reconcile", "a"), ("vanish", "b")],
}


class State(NamedTuple):
    """A world as it can be kept, and what may still happen to it."""

    world: bytes
    mishaps: tuple[Step, ...]
    wakes: int
    path: tuple[Step, ...]


def key_of(world: World, *more: Any) -> tuple[Any, ...]:
    """Equal for worlds that are equal, whichever way they came about."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True  # without references between objects, equal ones are written alike
    pickler.dump(world)
    return (hash(buffer.getvalue()), *more)


def take(world: World, step: Step) -> None:
    """A step of the world, or a mishap."""
    what, name = step
    side = world.sides[name]
    match what:
        case "vanish":
            side.out.clear()
        case "settle":
            assert world.settle()
        case "channel":
            world.ask(side, CreateChannel(ChannelOptions("chat")))
        case "reconcile" | "replace":
            world.ask(side, Reconcile(side.peer.polite, what == "replace"))
        case _:
            world.take(step)


def is_possible(world: World, step: Step) -> bool:
    what, name = step
    side = world.sides[name]
    if what == "fail":
        return side.engine.live is not None and side.engine.live.up
    if what == "vanish":
        return bool(side.out)
    if what.startswith("remove"):
        return bool(side.tracks)
    return what != "reconcile" or side.link


def next_steps(world: World, state: State) -> list[tuple[Step, tuple[Step, ...], int]]:
    """What can happen next, with what may happen after it."""
    found = [(step, state.mishaps, state.wakes) for step in world.steps()]
    if state.wakes and any(side.peer.deadline for side in world.sides.values()):
        found.append((("wake", "a"), state.mishaps, state.wakes - 1))
    for mishap in state.mishaps:
        left = tuple(other for other in state.mishaps if other != mishap)
        if mishap[0] == "link down":
            left = (*left, ("link up", "a"))
        if is_possible(world, mishap):
            found.append((mishap, left, state.wakes))
    return found


def explore(
    world: World, mishaps: list[Step], worlds: int, at_the_end: Callable[[World], None] = lambda world: None
) -> int:
    """Look into so many worlds, and let each that is reached come to its end. Returns how many were reached."""
    start = State(pickle.dumps(world), tuple(mishaps), WAKES, ())
    seen: set[tuple[Any, ...]] = set()
    waiting = deque([start])
    for _ in range(worlds):
        if not waiting:
            break
        state = waiting.popleft()
        for step, left, wakes in next_steps(pickle.loads(state.world), state):
            path = (*state.path, step)
            after = pickle.loads(state.world)
            try:
                take(after, step)
                key = key_of(after, left, wakes)
                if key in seen:
                    continue
                seen.add(key)
                waiting.append(State(pickle.dumps(after), left, wakes, path))
                if ("link up", "a") in left:
                    after.mend()
                assert after.settle(), f"stuck: {[(s.peer.state, s.peer._phase.name) for s in after.sides.values()]}"
                at_the_end(after)
            except Exception as error:
                error.add_note(f"after {path}")
                raise
    return len(seen)


def begin(start: str, *, rolls_back: bool) -> World:
    a = Side("a", polite=True, rolls_back=rolls_back)
    b = Side("b", polite=False, rolls_back=rolls_back)
    world = World(a, b, keep_told=False)
    for step in START[start]:
        take(world, step)
    return world


def candidates_find_their_connection(mishaps: list[Step], worlds: int) -> int:
    """Candidates reach the connection they are for, and their end ends no other's.

    On an ordered way without losses each connection gets its remote's candidate.
    """

    def has_its_candidate(world: World) -> None:
        while world.steps():
            world.take(world.steps()[0])
        a, b = (side.engine.live for side in world.sides.values())
        for ours, theirs in ((a, b), (b, a)) if a is not None and b is not None else ():
            # One that was said again with its description came twice.
            assert list(dict.fromkeys(each and each.candidate for each in ours.candidates)) == [theirs.ufrag, None]

    a = Side("a", polite=True, trickles=True)
    b = Side("b", polite=False, trickles=True)
    world = World(a, b, keep_told=False)
    for step in START["both send"]:
        take(world, step)
    return explore(world, mishaps, worlds, has_its_candidate)
