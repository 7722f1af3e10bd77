"""The small parts of a peer machine, each for itself, where conversations do not reach."""

from __future__ import annotations

from typing import Any

import pytest
from table_kit import each_row
from talk_kit import CAMERA, MICROPHONE, SCREEN, renamed, sdp

from metered_proto.machine import SECOND
from metered_proto.orders import Abandon, Answer, Begin
from metered_proto.rtc.candidates import LocalCandidates, RemoteCandidates
from metered_proto.rtc.connection import Connection
from metered_proto.rtc.matching import for_offer, name_of_offer, offer_named_in
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.recovery import Recovery
from metered_proto.rtc.sent import SentChannels, SentTracks
from metered_proto.rtc.side_work import SideWork
from metered_proto.rtc.words import ChannelOptions, CountReceived, Described, Numbers, OpenChannel, SwapSender
from metered_proto.wire.sdp import read_sdp
from metered_proto.wire.signals import Candidate


def candidate(number: int, ufrag: str | None = None) -> Candidate:
    return Candidate(f"candidate:{number}", "0", 0, ufrag)


class TestOptions:
    def test_the_defaults(self) -> None:
        options = RtcOptions()
        assert options.rebuild_delays == (0, 1, 2, 4, 8, 16, 30, 30, 30)
        assert (options.polite_wait, options.impolite_wait, options.attempt_timeout) == (0.05, 0.15, 15)

    @each_row(
        ("option", "value", "error"),
        [
            ("relay_only", 1, TypeError),
            ("ask_delay", 0, ValueError),
            ("answer_timeout", -1, ValueError),
            ("attempt_timeout", float("inf"), ValueError),
            ("disconnected_timeout", "5", TypeError),
            ("follow_interval", float("nan"), ValueError),
            ("stream_timeout", None, TypeError),
            ("polite_wait", -0.1, ValueError),
            ("polite_wait", False, TypeError),
            ("impolite_wait", float("inf"), ValueError),
            ("rebuild_delays", (), ValueError),
            ("rebuild_delays", (0, -1), ValueError),
            ("rebuild_delays", (0, "1"), TypeError),
            ("offer_retries", (0, -1), ValueError),
            ("offer_retries", ("1",), TypeError),
        ],
    )
    def test_bad_ones(self, option: str, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            RtcOptions(**{option: value})

    def test_no_wait_at_all(self) -> None:
        assert RtcOptions(polite_wait=0, impolite_wait=0).polite_wait == 0


class TestRemoteCandidates:
    def test_without_a_name_they_belong_to_the_last_description(self) -> None:
        held = RemoteCandidates()
        held.described(("one",))
        held.came(candidate(1))
        held.described(("two",))
        held.came(candidate(2))
        held.opened()
        assert held.release() == []
        held.applied(("two",), ())
        assert held.release() == [candidate(2)]
        assert len(held) == 0

    def test_those_of_a_description_that_waits_are_kept(self) -> None:
        held = RemoteCandidates()
        held.came(candidate(1, "one"))
        held.came(candidate(2, "two"))
        held.came(candidate(3, "three"))
        held.applied(("one",), ("two",))
        assert held.release() == [candidate(1, "one")]
        assert len(held) == 1
        held.applied(("two",), ())
        assert held.release() == [candidate(2, "two")]

    def test_a_description_without_a_name_takes_all(self) -> None:
        held = RemoteCandidates()
        held.described(())
        held.came(candidate(1))
        held.came(candidate(2, "whose"))
        held.applied((), ())
        assert held.release() == [candidate(1), candidate(2, "whose")]

    def test_so_many_are_held_and_so_many_used(self) -> None:
        held = RemoteCandidates(limit=3)
        for number in range(5):
            held.came(candidate(number))
        assert len(held) == 3
        held.applied(("one",), ())
        assert len(held.release()) == 3
        held.came(candidate(9))
        held.came(None)
        assert held.release() == [None], "the end is always used"

    def test_another_connection_can_use_as_many_again(self) -> None:
        held = RemoteCandidates(limit=2)
        for _ in range(2):
            held.opened()
            held.applied(("one",), ())
            held.came(candidate(1))
            held.came(candidate(2))
            assert held.release() == [candidate(1), candidate(2)]
            held.came(candidate(3))
            assert held.release() == []

    def test_another_connection_has_to_be_described_first(self) -> None:
        held = RemoteCandidates()
        held.applied(("one",), ())
        held.opened()
        held.came(candidate(1))
        assert held.release() == []
        held.applied(("one",), ())
        assert held.release() == [candidate(1)]

    def test_nothing_after_the_end_until_there_is_another_connection(self) -> None:
        held = RemoteCandidates()
        held.applied(("one",), ())
        held.came(None)
        held.came(candidate(1))
        held.came(None)
        assert held.release() == [None]
        held.opened()
        held.came(candidate(2))
        held.applied(("two",), ())
        assert held.release() == [candidate(2)]

    def test_an_end_ahead_of_its_description_is_none(self) -> None:
        """Its candidates have been thrown away meanwhile, and come again with it."""
        held = RemoteCandidates()
        held.described(("one",))
        held.came(candidate(1))
        held.clear()
        held.came(None)
        held.described(("one",))
        held.came(candidate(1))
        held.came(None)
        held.applied(("one",), ())
        assert held.release() == [candidate(1), None]

    def test_cleared(self) -> None:
        held = RemoteCandidates()
        held.came(candidate(1))
        held.clear()
        held.applied((), ())
        assert held.release() == []


class TestLocalCandidates:
    def test_all_are_said_again(self) -> None:
        ours = LocalCandidates()
        ours.described(complete=False)
        assert ours.found(candidate(1))
        assert ours.found(None)
        assert not ours.found(candidate(2)), "after the end"
        assert [ice.candidate for ice in ours.to_say()] == [candidate(1), None]

    def test_a_new_description_has_those_that_were_found(self) -> None:
        ours = LocalCandidates()
        ours.found(candidate(1))
        ours.described(complete=False)
        assert ours.to_say() == []

    def test_only_so_many(self) -> None:
        ours = LocalCandidates()
        assert sum(ours.found(candidate(number)) for number in range(300)) == 200


class TestMatching:
    def test_an_answer_names_its_offer(self) -> None:
        offer, answer = sdp("they", "video"), sdp("we", "video")
        named = for_offer(answer, offer)
        assert offer_named_in(named) == name_of_offer(offer)
        assert read_sdp(named) == read_sdp(answer)

    @each_row(
        "text",
        ["", "v=0", sdp("we", "video"), "m=video\r\na=x-metered-offer:0123456789abcdef", "a=x-metered-offer:0123"],
    )
    def test_others_name_none(self, text: str) -> None:
        assert offer_named_in(text) is None

    def test_what_is_no_description_stays_as_it_is(self) -> None:
        assert for_offer("junk", "offer") == "junk"

    def test_names_differ_even_for_what_is_no_unicode(self) -> None:
        assert len({name_of_offer(text) for text in ("", "a", "b", "\ud800", "\udfff")}) == 5


class TestConnection:
    def test_an_answer_to_an_offer_that_gave_way_is_late(self) -> None:
        connection = Connection(-1, 0)
        connection.offers(Described("our offer"))
        answer = for_offer(sdp("they", "video"), "our offer")
        assert not connection.is_late(answer)
        connection.answers("their offer", Described(sdp("we", "video")))
        assert connection.is_late(answer)

    def test_one_to_an_offer_that_was_agreed_on_is_not(self) -> None:
        connection = Connection(-1, 0)
        connection.offers(Described("our offer"))
        connection.agreed()
        connection.answers("their offer", Described(sdp("we", "video")))
        assert not connection.is_late(for_offer(sdp("they", "video"), "our offer"))

    def test_before_it_is_described_nothing_is_said(self) -> None:
        connection = Connection(-1, 0)
        assert connection.found(candidate(1)) == []
        assert not connection.has_application()


class TestSentTracks:
    def test_what_is_described_is_carried_once_it_is_agreed_on(self) -> None:
        sent = SentTracks()
        sent.want((CAMERA,))
        assert sent.to_describe() == (CAMERA,)
        assert sent.differ
        assert sent.place_of(1) == CAMERA
        sent.agreed()
        assert not sent.differ
        sent.withdrawn()
        sent.opened()
        assert sent.differ

    def test_swapping_what_the_room_has_dropped_already(self) -> None:
        sent = SentTracks()
        sent.want((SCREEN,))
        sent.swap(1, CAMERA)
        assert sent.wanted == (SCREEN,)

    def test_swapping_for_a_track_that_is_wanted_elsewhere(self) -> None:
        sent = SentTracks()
        sent.want((CAMERA, MICROPHONE, SCREEN))
        sent.swap(1, SCREEN)
        assert sent.wanted == (SCREEN, MICROPHONE)
        sent.swap(3, None)
        assert sent.wanted == (MICROPHONE,)

    def test_which_sections_an_offer_lacks(self) -> None:
        sent = SentTracks()
        sent.want((CAMERA,))
        sent.to_describe()
        assert sent.lacking(("video", "video", "audio", "application")) == ("audio", "video", "application")
        assert sent.lacking(("video",)) == ()


def test_channels_move_until_they_are_settled() -> None:
    channels = SentChannels()
    options = ChannelOptions("chat")
    channels.make(-1, options)
    channels.make(-2, options)
    channels.settled(-1)
    channels.settled(-9)
    assert channels.waiting
    assert channels.move(-5) == [OpenChannel(-5, -2, options)]


class TestSideWork:
    def test_a_swap_that_fails_is_undone(self) -> None:
        tracks = SentTracks()
        tracks.want((CAMERA,))
        tracks.to_describe()
        tracks.agreed()
        work = SideWork(Numbers(), tracks)
        new = renamed(CAMERA, 9, "file")
        assert work.swap(1, -7, CAMERA, new) == [Begin(-1, SwapSender(-7, 1, new))]
        assert (tracks.wanted, tracks.carried) == ((new,), {9: new})
        error = ValueError()
        assert work.done(-1, None, error) == ([Answer(1, error=error)], False)
        assert (tracks.wanted, tracks.carried) == ((CAMERA,), {1: CAMERA})

    def test_whoever_stopped_waiting_gets_no_answer(self) -> None:
        work = SideWork(Numbers(), SentTracks())
        work.swap(1, -7, CAMERA, SCREEN)
        work.count(2, -7)
        for op in (1, 2, 3):
            work.withdraw(op)
        assert work.done(-1, None, None) == ([], True)
        assert work.done(-2, 10, None) == ([], False)
        assert work.done(-2, 10, None) == ([], False)

    def test_the_end_of_the_connection(self) -> None:
        tracks = SentTracks()
        tracks.want((CAMERA, SCREEN))
        work = SideWork(Numbers(), tracks)
        assert work.swap(1, -7, CAMERA, None) == [Begin(-1, SwapSender(-7, 1, None))]
        assert work.count(2, -7) == [Begin(-2, CountReceived(-7))]
        work.count(3, -7)
        work.swap(4, -7, SCREEN, MICROPHONE)
        work.withdraw(3)
        work.withdraw(4)
        assert work.end() == [Abandon(-1), Answer(1), Abandon(-4), Abandon(-2), Answer(2), Abandon(-3)]
        assert tracks.wanted == (MICROPHONE,)


def test_a_budget_that_is_smaller_than_the_delays_already_climbed() -> None:
    ladder = Recovery((0, 1))
    ladder.climb(0)
    ladder.climb(0)
    ladder.came_up(0)
    assert ladder.climb(1) == SECOND, "the last delay, again"
