"""Who offers, whose offer counts, what is sent ahead of it, and what happens to what comes in between."""

from __future__ import annotations

import pytest
from talk_kit import CAMERA, MICROPHONE, SCREEN, Talk, kinds, metas, renamed, sdp

from metered_proto.errors import LocalProtocolError, MeteredPeerStateError
from metered_proto.events import IceCandidateError, NegotiationError, StateChange
from metered_proto.facts import Asked, EffectDone, LinkUp, Received
from metered_proto.orders import Answer
from metered_proto.rtc.matching import for_offer
from metered_proto.rtc.words import (
    CandidateFailed,
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    ChannelOptions,
    ChannelSeen,
    CountReceived,
    CreateChannel,
    MakeAnswer,
    MakeOffer,
    MeasureTraffic,
    Reconcile,
    SetTracks,
    Shut,
    StreamGone,
    StreamSeen,
    SwapSender,
    SwapTrack,
    TakeAnswer,
    TrackGone,
    TrackSeen,
)
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, TrackMeta


class TestWhoOffers:
    def test_a_side_with_nothing_to_send_never_does(self, talk: Talk) -> None:
        assert talk.peer.deadline is None
        talk.link_goes_down()
        talk.link_comes_up()
        talk.wants()
        assert (talk.state, talk.orders, talk.peer.deadline) == ("idle", [Answer(1)], None)

    def test_the_polite_side_after_50_ms(self, polite: Talk) -> None:
        polite.wants(CAMERA)
        assert polite.state == "connecting"
        assert polite.until_woken() == 0.05
        assert polite.work == MakeOffer(polite.pc, (CAMERA,))

    def test_the_impolite_side_after_150_ms(self, impolite: Talk) -> None:
        impolite.wants(CAMERA)
        assert impolite.until_woken() == 0.15
        assert isinstance(impolite.work, MakeOffer)

    def test_a_channel_is_something_to_send(self, talk: Talk) -> None:
        number = talk.opens_channel()
        talk.until_woken()
        assert talk.channels == [(talk.pc, number)], "ahead of the offer, so that it has a place in it"
        talk.describes("application")
        talk.remote_answers("application")
        talk.takes()
        talk.changes("connected")
        talk.give(ChannelOpened(number))
        assert (talk.phase, talk.state) == ("stable", "connected")

    def test_an_offer_that_comes_first_is_answered_with_our_tracks(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        offer = talk.remote_offers()
        assert talk.work == MakeAnswer(talk.pc, offer, (CAMERA,))
        talk.describes()
        assert kinds(talk) == ["meta", "answer", "end"]
        assert talk.phase == "stable"

    def test_even_while_ours_is_being_made(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        talk.until_woken()
        before = talk.pc
        talk.remote_offers()
        assert talk.closed == [before], "it may have made its offer already, and cannot take it back"
        assert isinstance(talk.work, MakeAnswer)
        assert talk.said == []

    def test_what_changes_while_an_offer_is_out_goes_into_the_next(self, talk: Talk) -> None:
        talk.offers(CAMERA)
        talk.wants(CAMERA, MICROPHONE)
        talk.wants(CAMERA, MICROPHONE, SCREEN)
        assert kinds(talk) == ["meta", "offer", "end"]
        talk.remote_answers()
        talk.takes()
        assert talk.work == MakeOffer(talk.pc, (CAMERA, MICROPHONE, SCREEN))

    def test_what_does_not_fit_into_an_answer_gets_an_offer(self, talk: Talk) -> None:
        talk.wants(CAMERA, MICROPHONE)
        talk.remote_offers("video sendrecv theirs t1")
        talk.describes(unfitted=True)
        assert talk.work == MakeOffer(talk.pc, (CAMERA, MICROPHONE))
        talk.describes()
        talk.remote_answers()
        talk.takes()
        assert talk.phase == "stable"

    def test_so_does_a_channel_without_a_section(self, talk: Talk) -> None:
        talk.is_called()
        talk.opens_channel()
        assert isinstance(talk.work, MakeOffer)

    def test_a_channel_with_one_needs_none(self, talk: Talk) -> None:
        talk.is_called("video sendrecv theirs t1", "application")
        number = talk.opens_channel()
        assert talk.channels == [(talk.pc, number)]
        assert talk.phase == "stable"

    def test_one_of_a_kind_goes_before_another_comes(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(SCREEN, MICROPHONE)
        assert talk.work == MakeOffer(talk.pc, (MICROPHONE,)), "or the screen would be taken for the camera"
        talk.describes("video inactive", "audio sendonly cam microphone")
        talk.remote_answers()
        talk.takes()
        assert talk.work == MakeOffer(talk.pc, (SCREEN, MICROPHONE))

    def test_tracks_with_one_key_are_a_mistake_of_the_room(self, talk: Talk) -> None:
        with pytest.raises(LocalProtocolError):
            talk.give(Asked(99, SetTracks((CAMERA, renamed(SCREEN, 1, "x")))))
        assert talk.state == "idle"


class TestAPromise:
    """A remote that says what its tracks are for will offer them. The published SDK, when polite, takes 2 s for it."""

    CAMERA = TrackMeta("t1", {"role": "camera"}, "theirs", "video")
    MICROPHONE = TrackMeta("t2", {"role": "microphone"}, "theirs", "audio")

    def test_is_asked_for_by_the_impolite_side(self, impolite: Talk) -> None:
        impolite.hears(self.CAMERA)
        impolite.hears(self.MICROPHONE)
        assert impolite.until_woken() == 0.3
        assert impolite.work == MakeOffer(impolite.pc, (), ("audio", "video"))

    def test_unless_it_is_kept_by_then(self, impolite: Talk) -> None:
        impolite.hears(self.CAMERA)
        impolite.is_called()
        impolite.remote_offers("video recvonly")
        impolite.describes()
        impolite.forget()
        impolite.hears(self.MICROPHONE)
        assert (impolite.phase, impolite.orders) == ("stable", [])

    def test_whoever_has_something_to_send_just_offers(self, impolite: Talk) -> None:
        impolite.hears(self.CAMERA)
        impolite.wants(CAMERA)
        assert impolite.until_woken() == 0.15
        assert impolite.work.tracks == (CAMERA,)

    def test_the_polite_side_waits_for_it(self, polite: Talk) -> None:
        polite.hears(self.CAMERA)
        assert (polite.state, polite.peer.deadline) == ("idle", None)

    def test_without_a_kind_there_is_nothing_to_ask_for(self, impolite: Talk) -> None:
        impolite.hears(TrackMeta("t1", {"role": "camera"}))
        impolite.hears(TrackMeta("t1", None, None, "video"))
        assert impolite.state == "idle"

    def test_too_many_are_not_asked_for(self, impolite: Talk) -> None:
        for number in range(100):
            impolite.hears(TrackMeta(f"t{number}", {}, "theirs", "video"))
        impolite.until_woken()
        assert len(impolite.work.receive) == 16

    def test_one_that_is_never_kept_is_given_up(self) -> None:
        impolite = Talk(polite=False, rebuild_delays=(0,))
        impolite.hears(self.CAMERA)
        for _ in range(2):
            impolite.until_woken()
            impolite.changes("failed")
        assert impolite.state == "closed"
        impolite.asks(Reconcile(polite=False, replace=False))
        assert impolite.state == "idle"


class TestTwoOffersThatCross:
    def test_the_impolite_side_goes_on(self, impolite: Talk) -> None:
        impolite.offers()
        impolite.forget()
        impolite.remote_offers()
        assert (impolite.phase, impolite.said, impolite.opened) == ("offered", [], [])
        impolite.remote_answers()
        assert isinstance(impolite.work, TakeAnswer)

    def test_the_polite_side_answers_from_another_connection(self, polite: Talk) -> None:
        polite.offers()
        before = polite.pc
        polite.remote_offers()
        assert polite.closed == [before]
        assert polite.pc != before
        assert isinstance(polite.work, MakeAnswer)
        polite.changes("failed", before)
        assert polite.phase == "answering", "late news of the old one changes nothing"

    def test_on_a_connection_that_is_up_it_takes_its_offer_back(self, polite: Talk) -> None:
        polite.connects(CAMERA)
        polite.wants(CAMERA, SCREEN)
        polite.describes()
        before = polite.pc
        polite.remote_offers()
        assert polite.work == MakeAnswer(before, polite.work.sdp, (CAMERA, SCREEN))
        polite.describes(unfitted=True)
        assert isinstance(polite.work, MakeOffer), "and makes it again"
        assert polite.state == "connected"

    def test_or_answers_from_another_connection_where_there_is_no_way_back(self, polite: Talk) -> None:
        polite.connects(CAMERA)
        polite.wants(CAMERA, SCREEN)
        polite.describes()
        before = polite.pc
        offer = polite.remote_offers()
        polite.cannot()
        assert polite.work == MakeAnswer(polite.pc, offer, (CAMERA, SCREEN))
        assert polite.events(NegotiationError) == []
        assert polite.state == "reconnecting"
        polite.describes()
        assert polite.closed == [before]

    def test_the_impolite_side_keeps_its_call_while_it_makes_an_offer(self, impolite: Talk) -> None:
        impolite.connects(CAMERA)
        impolite.wants(CAMERA, SCREEN)
        impolite.remote_offers()
        assert isinstance(impolite.work, MakeOffer)

    def test_candidates_of_an_offer_that_is_ignored_are_not_used(self, impolite: Talk) -> None:
        impolite.offers()
        impolite.remote_offers(ufrag="ignored")
        impolite.remote_trickles()
        impolite.remote_trickles_no_more()
        impolite.remote_answers(ufrag="they2")
        impolite.remote_trickles("candidate:2 1 udp 1 192.0.2.2 9 typ host")
        impolite.takes()
        assert [c and c.candidate for c in impolite.candidates] == ["candidate:2 1 udp 1 192.0.2.2 9 typ host"]


class TestWhatIsLost:
    def test_an_offer_is_said_again_until_it_is_answered(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        talk.describes()
        talk.forget()
        offer = talk.peer._connection._last  # type: ignore[union-attr]
        assert [talk.until_woken() for _ in range(6)] == [3, 6, 12, 24, 30, 30]
        assert [s for s in talk.said if isinstance(s, RtcDescription)] == [offer] * 6
        assert metas(talk)[:1] == [("camera", {"role": "camera"})], "with what there is to say about its tracks"
        assert talk.state == "connected"

    def test_an_offer_that_comes_again_gets_the_same_answer_again(self, talk: Talk) -> None:
        offer = talk.remote_offers()
        talk.describes()
        answer = talk.said_last()
        talk.forget()
        talk.hears(RtcDescription("offer", offer))
        assert talk.said == [answer, RtcIce(None)]
        assert talk.phase == "stable"

    def test_even_while_an_offer_of_ours_is_out(self, talk: Talk) -> None:
        offer = talk.remote_offers()
        talk.describes()
        answer = talk.said_last()
        talk.wants(CAMERA)
        talk.describes()
        talk.hears(RtcDescription("offer", offer))
        assert talk.said_last() == answer
        assert talk.phase == "offered"

    def test_an_answer_that_comes_again_changes_nothing(self, talk: Talk) -> None:
        talk.connects()
        talk.forget()
        talk.remote_answers()
        assert talk.orders == []

    def test_an_answer_that_names_another_offer_is_not_taken(self, talk: Talk) -> None:
        talk.offers()
        late = for_offer(sdp("they1", "video recvonly"), "another offer")
        talk.hears(RtcDescription("answer", late))
        assert talk.phase == "offered"
        right = for_offer(sdp("they1", "video recvonly"), talk.said_last().sdp)
        talk.hears(RtcDescription("answer", right))
        assert talk.phase == "taking"

    def test_our_answers_name_their_offer(self, talk: Talk) -> None:
        offer = talk.remote_offers()
        answer = talk.describes()
        assert talk.said_last() == RtcDescription("answer", for_offer(answer, offer))

    def test_without_the_relay_an_offer_waits(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        talk.link_goes_down()
        talk.advance(60)
        assert talk.opened == []
        talk.link_comes_up()
        assert talk.until_woken() <= 0.15
        assert isinstance(talk.work, MakeOffer)

    def test_an_offer_that_was_made_meanwhile_is_said_when_it_is_back(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        talk.until_woken()
        talk.link_goes_down()
        talk.describes()
        talk.give(CandidateGathered(talk.pc, None))
        assert talk.said == []
        talk.link_comes_up()
        assert kinds(talk) == ["meta", "offer", "end"]

    def test_an_offer_that_was_out_is_said_again(self, talk: Talk) -> None:
        talk.offers()
        talk.link_goes_down()
        talk.forget()
        talk.link_comes_up()
        assert kinds(talk) == ["meta", "offer", "end"]
        assert talk.until_woken() == 3

    def test_an_answer_is_not(self, talk: Talk) -> None:
        """A browser that lost its socket begins anew, and would take it for the answer to its new offer."""
        talk.is_called()
        talk.link_goes_down()
        talk.forget()
        talk.link_comes_up()
        talk.give(LinkUp(0))
        assert talk.orders == []

    def test_not_even_one_that_was_made_meanwhile(self, talk: Talk) -> None:
        offer = talk.remote_offers()
        talk.link_goes_down()
        talk.describes()
        talk.link_comes_up()
        assert talk.said == []
        talk.hears(RtcDescription("offer", offer))
        assert kinds(talk) == ["answer", "end"], "until the offer comes again"

    def test_a_call_lives_without_the_relay(self, talk: Talk) -> None:
        talk.connects()
        talk.link_goes_down()
        talk.forget()
        talk.advance(600)
        assert (talk.state, talk.orders) == ("connected", [])

    def test_an_attempt_gets_its_whole_time_once_the_relay_is_back(self, talk: Talk) -> None:
        talk.offers()
        talk.remote_answers()
        talk.takes()
        talk.link_goes_down()
        talk.advance(100)
        assert talk.closed == []
        talk.link_comes_up()
        assert talk.until_woken() == 15
        assert len(talk.closed) == 1


class TestBusy:
    def test_while_the_engine_answers_the_next_offer_waits(self, talk: Talk) -> None:
        talk.remote_offers("video sendrecv theirs t1")
        second = talk.remote_offers("video sendrecv theirs t1", "audio sendrecv theirs t2")
        talk.describes()
        assert talk.work == MakeAnswer(talk.pc, second, ())

    def test_and_only_the_last_one_counts(self, talk: Talk) -> None:
        talk.remote_offers("video sendrecv theirs t1")
        for number in range(50):
            last = talk.remote_offers("video sendrecv theirs t1", f"audio sendrecv theirs a{number}")
        talk.describes()
        assert talk.work.sdp == last
        talk.describes()
        assert talk.phase == "stable"

    def test_of_answers_a_few(self, talk: Talk) -> None:
        talk.remote_offers()
        for _ in range(50):
            talk.remote_answers()
        assert len(talk.peer._inbox) == 4

    def test_an_offer_while_an_answer_is_taken_waits_too(self, talk: Talk) -> None:
        talk.offers()
        talk.remote_answers()
        offer = talk.remote_offers("video sendrecv theirs t1", "audio sendrecv theirs t2")
        assert isinstance(talk.work, TakeAnswer)
        talk.takes()
        assert talk.work == MakeAnswer(talk.pc, offer, (CAMERA,))


class TestCandidates:
    def test_ours_follow_the_description(self, talk: Talk) -> None:
        one, two = (Candidate(f"candidate:{n} 1 udp 1 192.0.2.1 {n} typ host", "0", 0) for n in (1, 2))
        talk.wants(CAMERA)
        talk.until_woken()
        talk.describes(complete=False)
        for candidate in (one, two, None, one):
            talk.give(CandidateGathered(talk.pc, candidate))
        assert [s.candidate for s in talk.said if isinstance(s, RtcIce)] == [one, two, None]
        talk.forget()
        talk.until_woken()
        assert [s.candidate for s in talk.said if isinstance(s, RtcIce)] == [one, two, None], "again with it"

    def test_those_of_another_connection_do_not(self, talk: Talk) -> None:
        talk.offers()
        talk.give(CandidateGathered(-99, None))
        assert kinds(talk) == ["meta", "offer", "end"]

    def test_the_remotes_are_held_until_its_description_is_applied(self, talk: Talk) -> None:
        talk.remote_offers()
        talk.remote_trickles()
        assert talk.candidates == []
        talk.describes()
        assert len(talk.candidates) == 1
        talk.remote_trickles("candidate:2 1 udp 1 192.0.2.2 9 typ host")
        talk.remote_trickles_no_more()
        talk.remote_trickles("candidate:3 1 udp 1 192.0.2.2 9 typ host")
        assert [c is None for c in talk.candidates] == [False, False, True], "in order, and nothing after the end"

    def test_one_that_comes_ahead_of_its_description(self, talk: Talk) -> None:
        talk.remote_trickles(ufrag="they1")
        talk.remote_offers(ufrag="they1")
        talk.describes()
        assert len(talk.candidates) == 1

    def test_one_of_an_older_generation_is_dropped(self, talk: Talk) -> None:
        talk.is_called(ufrag="they1")
        talk.advance(10)
        talk.remote_offers(ufrag="they2")
        talk.describes()
        talk.remote_trickles(ufrag="they1")
        assert talk.candidates == []

    def test_one_that_cannot_be_used_is_told(self, talk: Talk) -> None:
        talk.is_called()
        talk.give(CandidateFailed(talk.pc, OSError("no route")))
        talk.give(CandidateFailed(-99, OSError("no route")))
        assert len(talk.events(IceCandidateError)) == 1


class TestMetadata:
    def test_goes_ahead_of_the_description(self, talk: Talk) -> None:
        talk.offers(CAMERA, MICROPHONE)
        assert talk.said[0] == TrackMeta("camera", {"role": "camera"}, "cam", "video")
        assert kinds(talk) == ["meta", "offer", "end"], "and there is nothing to say about the microphone"

    def test_is_said_once(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.forget()
        talk.wants(CAMERA, MICROPHONE)
        talk.describes()
        assert kinds(talk) == ["offer", "end"]

    def test_is_taken_back_with_the_track(self, talk: Talk) -> None:
        talk.connects(CAMERA, MICROPHONE)
        talk.forget()
        talk.wants(MICROPHONE)
        talk.describes()
        assert metas(talk) == [("camera", None)]
        assert kinds(talk)[0] == "meta"

    def test_is_said_again_with_another_connection(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.forget()
        talk.changes("failed")
        talk.until_woken()
        talk.describes()
        assert metas(talk) == [("camera", {"role": "camera"})]

    def test_new_words_on_a_track_need_no_offer(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.forget()
        talk.wants(renamed(CAMERA, 1, "camera"))
        assert talk.said == []
        talk.wants(type(CAMERA)(1, "video", "camera", "cam", {"role": "door"}))
        assert metas(talk) == [("camera", {"role": "door"})]
        assert talk.phase == "stable"

    def test_the_remotes_comes_with_its_track(self, talk: Talk) -> None:
        talk.hears(TrackMeta("t1", {"role": "file"}, "theirs", "video"))
        talk.remote_offers("video sendonly theirs t1")
        talk.describes()
        assert talk.events(StreamSeen) == [StreamSeen("theirs", {"role": "file"})]
        [seen] = talk.events(TrackSeen)
        assert (seen.kind, seen.stream_id, seen.metadata) == ("video", "theirs", {"role": "file"})

    def test_a_stream_has_that_of_any_of_its_tracks(self, talk: Talk) -> None:
        talk.hears(TrackMeta("t2", {"role": "file"}, "theirs", "video"))
        talk.remote_offers("audio sendonly theirs t1", "video sendonly theirs t2")
        talk.describes()
        assert talk.events(StreamSeen) == [StreamSeen("theirs", {"role": "file"})]
        assert [seen.metadata for seen in talk.events(TrackSeen)] == [None, {"role": "file"}]

    def test_what_a_browser_says_of_a_track_that_it_signals_under_another_id(self, talk: Talk) -> None:
        talk.hears(TrackMeta("own-1", {"role": "cam"}))
        talk.hears(TrackMeta("own-2", {"role": "cam"}))
        talk.remote_offers("video sendonly theirs t1", "audio sendonly theirs t2")
        talk.describes()
        assert [seen.metadata for seen in talk.events(TrackSeen)] == [{"role": "cam"}] * 2
        talk.remote_offers("video sendonly theirs t1", "audio sendonly theirs t2", "video sendonly theirs t3")
        talk.describes()
        assert talk.events(TrackSeen)[-1].metadata is None, "that was about the others"

    def test_unless_it_says_this_and_that(self, talk: Talk) -> None:
        talk.hears(TrackMeta("own-1", {"role": "cam"}))
        talk.hears(TrackMeta("own-2", {"role": "screen"}))
        talk.hears(TrackMeta("own-3", {"role": "door"}))
        talk.hears(TrackMeta("own-3"))
        talk.remote_offers("video sendonly theirs t1", "audio sendonly theirs own-1")
        talk.describes()
        assert [seen.metadata for seen in talk.events(TrackSeen)] == [{"role": "screen"}, {"role": "cam"}]
        talk.hears(TrackMeta("own-4", {"role": "cam"}))
        talk.hears(TrackMeta("own-5", {"role": "screen"}))
        talk.remote_offers("video sendonly theirs t1", "audio sendonly theirs own-1", "video sendonly more t9")
        talk.describes()
        assert talk.events(TrackSeen)[-1].metadata is None

    def test_what_is_too_large_is_dropped(self, talk: Talk) -> None:
        talk.hears(TrackMeta("t1", {"role": "x" * 70_000}, "theirs", "video"))
        talk.remote_offers("video sendonly theirs t1")
        talk.describes()
        assert talk.events(TrackSeen)[0].metadata is None


class TestTracks:
    def test_added_and_removed(self, talk: Talk) -> None:
        talk.is_called("video sendrecv theirs t1")
        talk.remote_offers("video sendrecv theirs t1", "audio sendonly theirs t2", "video sendonly more t3")
        talk.describes()
        assert talk.streams == ["more", "theirs"]
        first, second, third = talk.tracks
        talk.remote_offers("video recvonly theirs t1", "audio sendonly theirs t2", "video inactive")
        talk.describes()
        assert talk.tracks == [second]
        assert talk.events(TrackGone) == [TrackGone(first), TrackGone(third)]
        assert talk.events(StreamGone) == [StreamGone("more")]

    def test_a_section_that_stops_and_starts_brings_another_track(self, talk: Talk) -> None:
        talk.is_called("video sendrecv theirs t1")
        [before] = talk.tracks
        talk.remote_offers("video recvonly")
        talk.describes()
        talk.remote_offers("video sendrecv other t2")
        talk.describes()
        [after] = talk.tracks
        assert before != after
        assert talk.streams == ["other"]

    def test_so_does_one_that_changes_its_stream(self, talk: Talk) -> None:
        talk.is_called("video sendrecv theirs t1")
        [before] = talk.tracks
        talk.remote_offers("video sendrecv other t2")
        talk.describes()
        assert talk.tracks != [before]
        assert talk.streams == ["other"]

    def test_another_id_in_the_same_place_is_the_same_track(self, talk: Talk) -> None:
        talk.is_called("video sendrecv theirs t1")
        before = talk.tracks
        talk.remote_offers("video sendrecv theirs t2")
        talk.describes()
        assert talk.tracks == before

    def test_a_track_without_a_stream(self, talk: Talk) -> None:
        talk.is_called("audio sendonly - t1")
        assert talk.events(StreamSeen) == []
        assert talk.events(TrackSeen)[0].stream_id is None

    def test_one_that_we_do_not_take_is_not_there(self, talk: Talk) -> None:
        talk.remote_offers("video sendonly theirs t1")
        talk.describes("video -")
        assert talk.tracks == []

    def test_the_answer_to_our_offer_brings_them_too(self, talk: Talk) -> None:
        talk.connects(CAMERA, answer=("video sendrecv theirs t1",))
        assert talk.streams == ["theirs"]


class TestSwapping:
    def test_on_a_connection(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.forget()
        new = renamed(CAMERA, 9, "file")
        op = talk.asks(SwapTrack(1, new))
        assert op not in talk.answers
        talk.finishes(SwapSender)
        assert talk.answers[op] == Answer(op)
        assert metas(talk) == [("camera", None), ("file", {"role": "camera"})]
        assert talk.phase == "stable", "no negotiation"

    def test_the_place_keeps_its_id_as_long_as_the_connection_lives(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        new = renamed(CAMERA, 9, "file")
        talk.asks(SwapTrack(1, new))
        talk.finishes(SwapSender)
        talk.wants(new, MICROPHONE)
        assert talk.work.tracks == (renamed(CAMERA, 9, "camera"), MICROPHONE)
        talk.changes("failed")
        talk.until_woken()
        assert talk.work.tracks == (new, MICROPHONE)

    def test_without_a_connection_the_next_offer_carries_the_new_one(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        op = talk.asks(SwapTrack(1, SCREEN))
        assert op in talk.answers
        talk.until_woken()
        assert talk.work.tracks == (SCREEN,)

    def test_while_an_offer_is_out(self, talk: Talk) -> None:
        talk.offers(CAMERA)
        talk.asks(SwapTrack(1, SCREEN))
        talk.finishes(SwapSender)
        talk.remote_answers()
        talk.takes()
        assert talk.phase == "stable"

    def test_nothing_in_its_place_takes_the_track_away(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.asks(SwapTrack(1, None))
        talk.finishes(SwapSender)
        assert talk.work == MakeOffer(talk.pc, ())

    def test_the_engine_cannot(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        op = talk.asks(SwapTrack(1, SCREEN))
        error = ValueError("another codec")
        talk.finishes(SwapSender, error=error)
        assert talk.answers[op] == Answer(op, error=error)
        talk.wants(CAMERA)
        assert talk.phase == "stable"

    def test_a_connection_that_goes_meanwhile_means_success(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        op = talk.asks(SwapTrack(1, SCREEN))
        talk.changes("failed")
        assert talk.answers[op] == Answer(op)
        talk.until_woken()
        assert talk.work.tracks == (SCREEN,)

    def test_the_room_wants_the_new_one_already(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.asks(SwapTrack(1, SCREEN))
        talk.finishes(SwapSender)
        talk.wants(SCREEN)
        assert talk.phase == "stable"


class TestChannels:
    def test_those_of_the_remote(self, talk: Talk) -> None:
        talk.is_called("application")
        talk.give(ChannelArrived(talk.pc, 77))
        talk.give(ChannelArrived(-99, 78))
        assert talk.events(ChannelSeen) == [ChannelSeen(77)]

    def test_one_that_has_not_opened_moves_to_the_next_connection(self, talk: Talk) -> None:
        waiting, opened, closed = talk.opens_channel(), talk.opens_channel(), talk.opens_channel()
        talk.until_woken()
        talk.give(ChannelOpened(opened))
        talk.give(ChannelClosed(closed))
        talk.forget()
        talk.changes("failed")
        talk.until_woken()
        assert talk.channels == [(talk.pc, waiting)]


class TestTraffic:
    def test_is_counted_on_a_connection_that_is_up(self, talk: Talk) -> None:
        op = talk.asks(MeasureTraffic())
        assert talk.answers[op].value is None
        talk.connects()
        op = talk.asks(MeasureTraffic())
        talk.finishes(CountReceived, 1000)
        assert talk.answers[op].value == 1000

    def test_and_never_shrinks(self, talk: Talk) -> None:
        talk.connects()
        talk.asks(MeasureTraffic())
        talk.finishes(CountReceived, 1000)
        pending = talk.asks(MeasureTraffic())
        talk.changes("failed")
        assert talk.answers[pending].value is None
        talk.until_woken()
        talk.describes()
        talk.remote_answers()
        talk.takes()
        talk.changes("connected")
        first, second = talk.asks(MeasureTraffic()), None
        talk.finishes(CountReceived, 10)
        second = talk.asks(MeasureTraffic())
        talk.finishes(CountReceived, error=OSError())
        assert [talk.answers[op].value for op in (first, second)] == [1010, 1010]


class TestTheEngineCannot:
    def test_describe_a_change_of_ours(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        for wait in (0.5, 1, 2):
            talk.cannot()
            assert (talk.state, talk.phase) == ("connected", "stable"), "the call goes on"
            assert talk.events(NegotiationError) == []
            assert talk.until_woken() == wait
            assert isinstance(talk.work, MakeOffer)
        error = RuntimeError("still not")
        talk.cannot(error)
        assert talk.events(NegotiationError) == [NegotiationError(error)]
        assert (talk.state, talk.phase) == ("connected", "stable"), "and nothing is tried for ever"
        assert talk.peer.deadline is None
        talk.wants(CAMERA, MICROPHONE)
        assert isinstance(talk.work, MakeOffer), "something else is"

    def test_describe_a_change_of_ours_at_first(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        talk.cannot(RuntimeError("a=ice-pwd:abcdefghijklmnopqrstuvwx refused"))
        assert "abcdefghijkl" not in repr(talk.orders), "nor is what it says of secrets in the log"
        talk.until_woken()
        talk.describes()
        talk.remote_answers()
        talk.takes()
        assert (talk.phase, talk.events(NegotiationError), talk.peer.deadline) == ("stable", [], None)

    def test_describe_what_is_not_wanted_any_more(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        talk.cannot()
        talk.wants(CAMERA)
        assert talk.peer.deadline is None, "there is nothing to try again"
        talk.wants(CAMERA, SCREEN)
        assert isinstance(talk.work, MakeOffer), "wanted anew, tried anew"

    def test_describe_what_was_changed_meanwhile(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        talk.wants(CAMERA, MICROPHONE)
        talk.cannot()
        assert isinstance(talk.work, MakeOffer), "what failed is not what is wanted now"

    def test_describe_ours_and_the_remote_offers_meanwhile(self, talk: Talk) -> None:
        talk.is_called("audio sendonly theirs a1")
        talk.wants(CAMERA)
        talk.cannot()
        talk.until_woken()
        talk.remote_offers("audio sendonly theirs a1", "audio sendonly theirs a2")
        assert talk.events(NegotiationError) == []
        if talk.peer.polite:
            talk.describes()
            assert (talk.phase, talk.peer.deadline) == ("stable", None), "the answer has our track"
        else:
            assert isinstance(talk.work, MakeOffer), "ours counts"

    def test_describe_a_change_of_the_remotes(self, talk: Talk) -> None:
        talk.is_called()
        talk.remote_offers("rubbish")
        talk.cannot()
        assert (talk.state, len(talk.events(NegotiationError))) == ("connected", 1)

    def test_take_an_answer(self, talk: Talk) -> None:
        talk.offers()
        talk.remote_answers("rubbish")
        talk.cannot()
        assert talk.state == "connecting"
        assert len(talk.closed) == 1
        talk.until_woken()
        assert isinstance(talk.work, MakeOffer)

    def test_come_to_an_end(self, talk: Talk) -> None:
        talk.connects(CAMERA)
        talk.wants(CAMERA, SCREEN)
        assert talk.until_woken() == 15
        assert talk.state == "reconnecting"

    def test_what_it_says_late_is_not_heard(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        talk.until_woken()
        effect = talk.effect
        talk.remote_offers()
        talk.forget()
        talk.give(EffectDone(effect, None))
        assert talk.orders == []

    def test_and_must_not_say_what_makes_no_sense(self, talk: Talk) -> None:
        talk.wants(CAMERA)
        talk.until_woken()
        with pytest.raises(LocalProtocolError):
            talk.peer.handle(talk.now, EffectDone(talk.effect, "an offer"))


class TestWhatIsNotForAPeer:
    def test_a_call(self, talk: Talk) -> None:
        with pytest.raises(LocalProtocolError):
            talk.peer.handle(0, Asked(1, "call"))

    def test_a_fact(self, talk: Talk) -> None:
        with pytest.raises(LocalProtocolError):
            talk.peer.handle(0, Received(0, []))


class TestTheEnd:
    def test_everything_is_closed(self, talk: Talk) -> None:
        talk.connects(CAMERA, answer=("video sendrecv theirs t1",))
        swap = talk.asks(SwapTrack(1, SCREEN))
        talk.forget()
        talk.asks(Shut())
        assert talk.answers[swap] == Answer(swap)
        [gone, stream, state] = talk.told
        assert isinstance(gone, TrackGone)
        assert (stream, state) == (StreamGone("theirs"), StateChange("connected", "closed"))

    def test_and_nothing_comes_after_it(self, talk: Talk) -> None:
        talk.asks(Shut())
        talk.forget()
        talk.remote_offers()
        talk.link_goes_down()
        talk.link_comes_up()
        assert talk.orders == []
        for call in (SetTracks((CAMERA,)), SwapTrack(1, None), MeasureTraffic(), Shut()):
            op = talk.asks(call)
            assert talk.answers[op] == Answer(op)
        op = talk.asks(CreateChannel(ChannelOptions("chat")))
        assert talk.answers[op].error == MeteredPeerStateError("invalid_state", "create_data_channel", "closed")
