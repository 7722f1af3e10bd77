"""A remote that means ill, or is merely broken: nothing raises, nothing grows, nothing leaks, and work is bounded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from talk_kit import CAMERA, PASSWORD, Talk, sdp

from metered_proto.events import NegotiationError
from metered_proto.facts import EffectDone
from metered_proto.rtc.inbox import Heard
from metered_proto.rtc.words import Described, MakeAnswer, MakeOffer, SignalCame, TakeAnswer
from metered_proto.wire.sdp import read_sdp
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, Signal, TrackMeta

JUNK = [
    "", "\x00", "v=0", "m=", "m=video", "a=mid:0", "\r\n" * 500, "m=video 9 x 96\r\n" * 300, "m=audio -1 x y\r\na=mid:",
    "a=ice-ufrag:" + "u" * 5_000, "m=application 0\r\na=mid:x\r\na=ice-ufrag:they1", "\ud800" * 50, "é" * 1000,
    "m=video 9 x 96\r\na=mid:0\r\na=mid:0\r\n" * 2 + "a=ice-ufrag:they1\r\na=msid:- -\r\n",
    "a=x-metered-offer:zz\r\nm=video 9 x 96", "a=x-metered-offer:0123456789abcdef\r\nm=video 9 x 96\r\na=ice-ufrag:q",
]  # fmt: skip


def hostile_signals(count: int, seed: int) -> Iterator[Signal]:
    """Every signal that the codec lets through, in no order that makes sense."""
    dice = random.Random(seed)
    for _ in range(count):
        ufrag = f"they{dice.randrange(4)}"
        match dice.randrange(6):
            case 0 | 1:
                junk = dice.random() < 0.5
                sections = [dice.choice(["video sendrecv s t", "audio sendonly - t", "video -", "application"])] * 2
                text = dice.choice(JUNK) if junk else sdp(ufrag, *sections[: dice.randrange(3)])
                yield RtcDescription(dice.choice(["offer", "answer"]), text)  # type: ignore[arg-type]
            case 2 | 3:
                candidate = Candidate("candidate:" + "9" * dice.randrange(990), "0", None, dice.choice([None, ufrag]))
                yield RtcIce(dice.choice([candidate, candidate, None]))
            case _:
                bag: Any = dice.choice([None, {}, {"role": "x" * dice.randrange(100)}, {"x": [1] * 50}])
                yield TrackMeta(f"t{dice.randrange(2000)}", bag, dice.choice([None, "s"]), dice.choice([None, "video"]))  # type: ignore[arg-type]


def size_of_state(thing: Any, depth: int = 8) -> int:
    """How many things a machine holds on to, wherever they are."""
    if isinstance(thing, dict):
        return sum(1 + size_of_state(value, depth - 1) for value in thing.values())
    if isinstance(thing, list | tuple | set | frozenset):
        return sum(1 + size_of_state(value, depth - 1) for value in thing)
    if isinstance(thing, str | bytes):
        return len(thing)
    if depth > 0 and type(thing).__module__.startswith("metered_proto"):
        names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        names += list(getattr(thing, "__dict__", ())) + list(getattr(thing, "__struct_fields__", ()))
        return sum(size_of_state(getattr(thing, name, None), depth - 1) for name in dict.fromkeys(names))
    return 0


@pytest.mark.parametrize("seed", range(3))
def test_fifteen_hundred_signals(seed: int) -> None:
    dice = random.Random(seed)
    talk = Talk(polite=seed % 2 == 0)
    if seed % 3:
        talk.wants(CAMERA)
    sizes = []
    for number, signal in enumerate(hostile_signals(1500, seed)):
        talk.hears(signal)
        if talk.works and number % 7 == 0:
            effect, work = next(iter(talk.works.items()))
            if dice.random() < 0.5:
                talk.give(EffectDone(effect, error=ValueError("no description")))
            else:
                result = None if isinstance(work, TakeAnswer) else Described(sdp(f"we{-work.pc}", "video sendrecv s t"))
                talk.give(EffectDone(effect, result))
        if number % 50 == 0:
            talk.advance(0.2)
            sizes.append(size_of_state(talk.peer))
    # 512 entries of metadata, 200 candidates of 1000 characters, a few descriptions.
    assert max(sizes) < 400_000
    # 6 s of virtual time: a connection for each 2 s that replaces one, one that replaces none, and the ladder.
    assert len(talk.opened) < 40


def test_a_flood_of_offers_makes_two_connections_in_two_seconds() -> None:
    talk = Talk(polite=True)
    for number in range(2000):
        talk.remote_offers(ufrag=f"they{number}")
        if talk.works:
            talk.describes()
    assert len(talk.opened) <= 2
    assert len(talk.peer._inbox) == 1


def test_a_flood_of_junk_offers_that_the_engine_refuses() -> None:
    talk = Talk(polite=True)
    for number in range(2000):
        talk.hears(RtcDescription("offer", f"junk {number}"))
        if talk.works:
            talk.cannot()
    assert len(talk.opened) <= 2
    assert len(talk.events(NegotiationError)) <= 2


def test_a_flood_of_offers_on_one_connection_is_answered_one_by_one() -> None:
    """The engine sets the pace: while it is at one, all but the last of the others are dropped."""
    talk = Talk(polite=True)
    talk.is_called("video sendrecv s t")
    talk.forget()
    for number in range(1000):
        talk.remote_offers("video sendrecv s t", f"audio sendonly s a{number}")
    assert len(talk.works) == 1
    talk.describes()
    talk.describes()
    assert not talk.works


def test_a_flood_of_candidates_is_cut() -> None:
    talk = Talk(polite=True)
    for _ in range(1000):
        talk.remote_trickles(ufrag="they9")
    assert len(talk.peer._candidates) == 200
    talk.is_called()
    for _ in range(1000):
        talk.remote_trickles()
    assert len(talk.candidates) == 200
    talk.remote_trickles_no_more()
    assert talk.candidates[-1] is None


def test_a_flood_of_metadata_is_cut() -> None:
    talk = Talk(polite=True)
    for number in range(5000):
        talk.hears(TrackMeta(f"t{number}", {"n": number}))
    assert size_of_state(talk.peer._received) < 20_000


@pytest.mark.parametrize("text", JUNK)
@pytest.mark.parametrize("when", ["idle", "waiting", "offered", "connected"])
def test_junk_changes_nothing_that_was_agreed(text: str, when: str) -> None:
    talk = Talk(polite=True)
    if when == "waiting":
        talk.wants(CAMERA)
    elif when == "offered":
        talk.offers()
    elif when == "connected":
        talk.connects(CAMERA)
    for type in ("answer", "offer"):
        talk.give(SignalCame(RtcDescription(type, text)))  # type: ignore[arg-type]
        if talk.works and when == "connected":
            talk.cannot()
    if when == "connected" and not read_sdp(text).media:
        assert talk.state == "connected"


def test_more_sections_than_are_read() -> None:
    talk = Talk(polite=True)
    talk.remote_offers(*["video sendonly s t"] * 400)
    talk.describes(*["video recvonly"] * 400)
    assert len(talk.tracks) == 256


def test_no_password_is_shown() -> None:
    text = sdp("they1", "video sendrecv s t")
    shown = [
        Heard("offer", text, read_sdp(text)),
        MakeAnswer(1, text, ()),
        TakeAnswer(1, text),
        MakeOffer(1, (), (), text),
        MakeOffer(1, ()),
        Described(text),
    ]
    for thing in shown:
        assert PASSWORD not in repr(thing)
