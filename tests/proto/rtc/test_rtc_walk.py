"""Random walks: of two peers in their world, longer than every order of things can be tried, and of one alone.

The world and the conversation hold every step to what is promised at all times (see their `give`). The walks make the
steps.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from sim_kit import Side, World
from talk_kit import CAMERA, MICROPHONE, SCREEN, Talk, sdp

from metered_proto.facts import EffectDone, Woken
from metered_proto.orders import Answer
from metered_proto.rtc.words import (
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    ChannelOptions,
    ConnectionChanged,
    CountReceived,
    CreateChannel,
    Described,
    MeasureTraffic,
    Reconcile,
    Shut,
    SwapSender,
    SwapTrack,
    TakeAnswer,
)
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, TrackMeta

Step: TypeAlias = tuple[str, int]

# "on" is whatever is under way; without enough of it no walk would get far.
TOGETHER = (
    ["on"] * 12
    + ["wake"] * 2
    + ["add", "remove", "fail", "vanish", "relay", "relay", "channel", "reconcile", "replace", "swap"]
)
steps_together = st.lists(st.tuples(st.sampled_from(TOGETHER), st.integers(0, 11)), min_size=10, max_size=60)


class Pair:
    """Two sides, and what may happen to them."""

    def __init__(self, rolls_back: bool) -> None:
        a = Side("a", polite=True, rolls_back=rolls_back)
        self.world = World(a, Side("b", polite=False, rolls_back=rolls_back))
        self.numbers = 0

    def take(self, step: Step) -> None:
        what, number = step
        world = self.world
        side = world.sides["ab"[number % 2]]
        up = side.engine.live is not None and side.engine.live.up
        match what:
            case "on":
                possible = world.steps()
                if possible:
                    world.take(possible[number % len(possible)])
            case "wake" if any(each.peer.deadline for each in world.sides.values()):
                world.wake()
            case "add" if len(side.tracks) < 4:
                self.numbers += 1
                world.change(side, ("audio", "video")[number % 3 % 2], self.numbers)
            case "remove" if side.tracks:
                world.change(side, "remove", side.tracks[number % len(side.tracks)].key)
            case "fail" if up:
                world.take(("fail", side.name))
            case "vanish":
                side.out.clear()
            case "relay":
                if side.link:
                    world.cut()
                else:
                    world.mend()
            case "channel":
                world.ask(side, CreateChannel(ChannelOptions("chat")))
            case "reconcile" | "replace" if side.link:
                world.ask(side, Reconcile(side.peer.polite, what == "replace"))
            case "swap" if side.tracks:
                self.numbers += 1
                old = side.tracks[0]
                new = type(old)(self.numbers, old.kind, f"{side.name}-track-{self.numbers}", old.stream_id)
                side.tracks = (new, *side.tracks[1:])
                world.ask(side, SwapTrack(old.key, new))
            case _:
                pass


@given(steps=steps_together, rolls_back=st.booleans())
@settings(max_examples=60)
def test_two_peers_come_to_an_agreement_after_any_walk(steps: list[Step], rolls_back: bool) -> None:
    pair = Pair(rolls_back)
    for step in steps:
        pair.take(step)
    if not pair.world.sides["a"].link:
        pair.world.mend()
    assert pair.world.settle()
    for side in pair.world.sides.values():
        assert len(side.engine.work) <= 1 + side.ops
        assert len(side.peer._inbox) <= 4


ALONE = (
    ["effect"] * 6
    + ["up"] * 3
    + ["woken", "woken", "time", "time", "offer", "offer", "answer", "dup", "candidate", "end", "meta"]
    + ["tracks", "tracks", "channel", "swap", "measure", "reconcile", "replace", "failed", "closed", "disconnected"]
    + ["refuse", "gathered", "relay", "arrived", "opened", "channel closed", "stale"]
)
steps_alone = st.lists(st.tuples(st.sampled_from(ALONE), st.integers(0, 11)), min_size=20, max_size=100)
SETS = ((), (CAMERA,), (CAMERA, MICROPHONE), (CAMERA, MICROPHONE, SCREEN), (SCREEN,))
SECTIONS = (
    ("video sendrecv theirs t1",),
    ("video sendonly theirs t1", "audio sendonly theirs t2", "application"),
    ("video recvonly", "audio inactive", "application"),
    ("application",),
    (),
)


class Alone:
    """One machine, and a remote and an engine that do as they please."""

    def __init__(self, polite: bool) -> None:
        self.talk = Talk(polite=polite)
        self.last: Any = None

    def take(self, step: Step) -> None:
        what, number = step
        talk = self.talk
        pc = talk.peer.pc or -1
        match what:
            case "effect" if talk.works:
                effect, work = list(talk.works.items())[number % len(talk.works)]
                result: Any = Described(sdp(f"we{-work.pc}", *SECTIONS[number % 4]), number % 3 == 0, number % 2 == 0)
                if isinstance(work, TakeAnswer | SwapSender):
                    result = None
                elif isinstance(work, CountReceived):
                    result = number * 100
                talk.give(EffectDone(effect, result))
            case "refuse" if talk.works:
                talk.give(EffectDone(next(iter(talk.works)), error=RuntimeError("no")))
            case "up" | "failed" | "closed" | "disconnected":
                talk.give(ConnectionChanged(pc, "connected" if what == "up" else what))  # type: ignore[arg-type]
            case "woken":
                if talk.peer.deadline is not None:
                    talk.until_woken()
            case "time":
                talk.now += (0, 1, 150_000, 2_000_000, 16_000_000)[number % 5]
                talk.give(Woken())
            case "offer" | "answer":
                self.last = RtcDescription(what, sdp(f"they{number % 3}", *SECTIONS[number % 5]))  # type: ignore[arg-type]
                talk.hears(self.last)
            case "dup" if self.last is not None:
                talk.hears(self.last)
            case "candidate":
                talk.hears(RtcIce(Candidate("candidate:1", "0", 0, (None, "they0", "they1")[number % 3])))
            case "end":
                talk.hears(RtcIce(None))
            case "meta":
                talk.hears(TrackMeta(f"t{number}", ({}, None)[number % 2], "theirs", "video"))
            case "tracks":
                talk.wants(*SETS[number % len(SETS)])
            case "channel":
                talk.opens_channel()
            case "swap":
                talk.asks(SwapTrack(1 + number % 3, None if number % 2 else SCREEN))
            case "measure":
                talk.asks(MeasureTraffic())
            case "reconcile" | "replace":
                talk.link = True
                talk.asks(Reconcile(number % 2 == 0, what == "replace"))
            case "gathered":
                talk.give(CandidateGathered(pc, None if number % 2 else Candidate(f"candidate:{number}", "0", 0)))
            case "relay":
                if talk.link:
                    talk.link_goes_down()
                else:
                    talk.link_comes_up()
            case "arrived":
                talk.give(ChannelArrived(pc, number))
            case "opened":
                talk.give(ChannelOpened(-number))
            case "channel closed":
                talk.give(ChannelClosed(-number))
            case "stale":
                talk.give(ConnectionChanged(99, "failed"))
                talk.give(EffectDone(99, None))
            case _:
                pass


@given(steps=steps_alone, polite=st.booleans())
@settings(max_examples=30)
def test_one_peer_keeps_every_promise_on_any_walk(steps: list[Step], polite: bool) -> None:
    walk = Alone(polite)
    for step in steps:
        walk.take(step)
        assert len(walk.talk.works) <= 1 + len(walk.talk._asked)
    walk.talk.asks(Shut())
    assert set(walk.talk.answers) == walk.talk._asked, "at the end everybody has an answer"
    walk.talk.forget()
    for step in steps[:20]:
        if step[0] not in ("channel", "tracks", "effect", "refuse"):
            walk.take(step)
    assert [order for order in walk.talk.orders if not isinstance(order, Answer)] == [], "the end is the end"


def test_the_walks_get_somewhere() -> None:
    """By hand, to show that the steps do what they are called."""
    pair = Pair(rolls_back=True)
    start = [("add", 0), ("add", 1), ("wake", 0), *[("on", 0)] * 30, ("swap", 0), ("channel", 0), *[("on", 0)] * 12]
    for step in start:
        pair.take(step)
    assert all(side.peer.connected for side in pair.world.sides.values())
    pair.take(("fail", 0))
    pair.take(("relay", 0))
    assert not pair.world.sides["a"].peer.connected
    alone = Alone(polite=True)
    for step in [("tracks", 1), ("woken", 0), ("effect", 0), ("answer", 0), ("effect", 0), ("up", 0)]:
        alone.take(step)
    assert alone.talk.state == "connected"
