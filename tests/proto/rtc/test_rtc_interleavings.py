"""Two peers and everything that can happen between them, in every order.

From a start, every step that is possible is taken, and from each world that comes of it again, breadth first; worlds
that are equal are looked at once. A step is: a signal arrives, an engine has finished, a connection comes up or is
heard to have been closed, time passes until somebody wants to be woken, and whatever else the scenario allows once
(the relay is lost and comes back, signals vanish unnoticed, a connection fails, tracks come and go, a room reconciles).

From every world reached, if nothing bad happens any more, both must come to an agreement: connected to each other's
live connection, with all of each other's tracks.

How far that goes is said in worlds that are looked into: `METERED_INTERLEAVINGS`, 20 unless it is set. With 20 every
order of the first four steps has been tried, or of the first three where everything may happen. The slow tests look
into 8 times as many, for seven steps, or five; with 2500 it is eleven, or seven.
"""

from __future__ import annotations

import io
import os
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from sim_kit import Side, Step, World

from metered_proto.rtc.words import ChannelOptions, CreateChannel, Reconcile

WORLDS = int(os.environ.get("METERED_INTERLEAVINGS", "20"))
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


@pytest.mark.parametrize("mishaps", MISHAPS)
@pytest.mark.parametrize("start", START)
def test_two_peers_come_to_an_agreement_whatever_happens(start: str, mishaps: str) -> None:
    reached = explore(begin(start, rolls_back=True), MISHAPS[mishaps], WORLDS)
    assert reached or (start, mishaps) == ("in a call", "nothing")


@pytest.mark.parametrize("mishaps", ["the relay is lost", "tracks come and go", "all of it"])
def test_even_where_no_offer_can_be_taken_back(mishaps: str) -> None:
    assert explore(begin("in a call", rolls_back=False), MISHAPS[mishaps], WORLDS * 3)


@pytest.mark.parametrize("mishaps", ["nothing", "connections fail", "tracks come and go", "one side reconciles"])
def test_candidates_reach_the_connection_they_are_for(mishaps: str) -> None:
    """And their end ends no other's: on an ordered way without losses each connection gets its remote's candidate."""

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
    assert explore(world, MISHAPS[mishaps], WORLDS * 3, has_its_candidate)


@pytest.mark.slow
@pytest.mark.parametrize("mishaps", MISHAPS)
@pytest.mark.parametrize("start", START)
def test_deeper(start: str, mishaps: str) -> None:
    reached = explore(begin(start, rolls_back=True), MISHAPS[mishaps], WORLDS * 8)
    assert reached or (start, mishaps) == ("in a call", "nothing")


def test_the_search_would_find_two_that_are_stuck() -> None:
    """Nothing that one side says ever arrives. Both give up in the end, and that is no agreement."""

    class Deaf(World):
        def steps(self) -> list[Step]:
            self.sides["a"].out.clear()
            return super().steps()

    world = Deaf(Side("a", polite=True), Side("b", polite=False), keep_told=False)
    take(world, ("video 1", "a"))
    assert not world.settle(wakes=200)
    assert world.sides["a"].peer.state == "closed"


def test_equal_worlds_are_known_to_be_equal() -> None:
    assert key_of(begin("both send", rolls_back=True)) == key_of(begin("both send", rolls_back=True))
    assert key_of(begin("both send", rolls_back=True)) != key_of(begin("the polite side sends", rolls_back=True))
