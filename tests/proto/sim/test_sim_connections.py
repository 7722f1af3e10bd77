"""Simulated connections: what they can do, and what they cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from table_kit import each_row

from metered_proto.rtc.words import LocalTrack, MakeAnswer, MakeOffer, SwapSender, TakeAnswer
from metered_proto.sim.connections import EngineError, SimConnection
from metered_proto.wire.sdp import read_sdp

VIDEO = LocalTrack(1, "video", "track", "stream")
OTHER = LocalTrack(2, "video", "other", None)
AUDIO = LocalTrack(3, "audio", "sound", "stream")


def connection(name: str = "a", *, rolls_back: bool = True) -> SimConnection:
    return SimConnection(-1, name, rolls_back)


def agreed(*, rolls_back: bool = True) -> tuple[SimConnection, SimConnection]:
    """Two that have described themselves to each other; the first sends a picture."""
    a, b = connection("a", rolls_back=rolls_back), connection("b", rolls_back=rolls_back)
    offer = a.offer(MakeOffer(-1, (VIDEO,))).sdp
    a.take(TakeAnswer(-1, b.answer(MakeAnswer(-1, offer, ())).sdp))
    return a, b


def test_an_offer_and_its_answer() -> None:
    a, b = agreed()
    assert a.remote_ufrag == "b"
    assert b.remote_ufrag == "a"
    assert b.sections[0].remote_sends
    assert not a.sections[0].remote_sends
    assert a.described


def test_what_does_not_fit_into_an_answer_is_said() -> None:
    a, b = connection("a"), connection("b")
    b.channels.append(1)
    made = b.answer(MakeAnswer(-1, a.offer(MakeOffer(-1, (VIDEO,))).sdp, (OTHER, AUDIO)))
    assert made.unfitted
    assert read_sdp(made.sdp).media[0].direction == "sendrecv"


def test_sections_to_receive_in_and_for_channels() -> None:
    a = connection()
    a.channels.append(1)
    media = read_sdp(a.offer(MakeOffer(-1, (), ("audio", "application"))).sdp).media
    assert [section.kind for section in media] == ["audio", "application"]
    a.sections, a.before = [], None
    assert [section.kind for section in read_sdp(a.offer(MakeOffer(-1, ())).sdp).media] == ["application"]


def test_an_offer_that_gives_way() -> None:
    a, b = agreed()
    a.offer(MakeOffer(-1, (VIDEO, OTHER)))
    a.answer(MakeAnswer(-1, b.offer(MakeOffer(-1, (AUDIO,))).sdp, (VIDEO,)))
    assert [section.kind for section in a.sections] == ["video", "audio"]


def test_another_track_in_the_place_of_one() -> None:
    a, _ = agreed()
    a.swap(SwapSender(-1, 1, OTHER))
    assert a.sections[0].track is OTHER
    with pytest.raises(EngineError, match="no such track"):
        a.swap(SwapSender(-1, 1, None))


def offers_twice() -> None:
    a = connection()
    for _ in range(2):
        a.offer(MakeOffer(-1, (VIDEO,)))


def has_nothing() -> None:
    connection().offer(MakeOffer(-1, ()))


def cannot_roll_back() -> None:
    a, b = agreed(rolls_back=False)
    a.offer(MakeOffer(-1, (VIDEO, OTHER)))
    a.answer(MakeAnswer(-1, b.offer(MakeOffer(-1, (AUDIO,))).sdp, (VIDEO,)))


def answers_nothing() -> None:
    connection().take(TakeAnswer(-1, agreed()[1]._write(offer=False)))


def hears_noise() -> None:
    connection().answer(MakeAnswer(-1, "noise", ()))


def meets_a_stranger() -> None:
    a, _ = agreed()
    a.answer(MakeAnswer(-1, connection("zoe").offer(MakeOffer(-1, (VIDEO,))).sdp, ()))


def gets_an_answer_to_another_offer() -> None:
    a, b = connection("a"), connection("b")
    a.offer(MakeOffer(-1, (VIDEO,)))
    a.take(TakeAnswer(-1, b.answer(MakeAnswer(-1, connection().offer(MakeOffer(-1, (AUDIO,))).sdp, ())).sdp))


def sees_sections_change() -> None:
    a, b = agreed()
    b.sections[0].kind = "audio"
    a.answer(MakeAnswer(-1, b.offer(MakeOffer(-1, ())).sdp, ()))


def sees_sections_go() -> None:
    a, b = agreed()
    a._add("audio")
    a.answer(MakeAnswer(-1, b.offer(MakeOffer(-1, ())).sdp, ()))


@each_row(
    "act, why",
    [
        (offers_twice, "an offer is out"),
        (has_nothing, "nothing to offer"),
        (cannot_roll_back, "no rollback"),
        (answers_nothing, "no offer is out"),
        (hears_noise, "no description"),
        (meets_a_stranger, "cannot be restarted"),
        (gets_an_answer_to_another_offer, "another offer"),
        (sees_sections_change, "changed"),
        (sees_sections_go, "missing"),
    ],
)
def test_what_it_cannot_do(act: Callable[[], None], why: str) -> None:
    with pytest.raises(EngineError, match=why):
        act()
