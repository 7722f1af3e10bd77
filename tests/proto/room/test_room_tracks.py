"""Our own tracks: added, removed, replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto.errors import (
    MeteredPeerOversizedError,
    MeteredPeerReplaceTrackError,
    MeteredPeerStateError,
    MeteredRealtimeError,
    ReplaceTrackFailure,
)
from metered_proto.orders import Answer
from metered_proto.room.local_tracks import MOST_TRACKS
from metered_proto.room.words import RemoveTrack, ReplaceTrack
from metered_proto.rtc.words import SetTracks, SwapTrack

Converse = Callable[..., Any]


def in_state(state: str, converse: Converse) -> Any:
    talk = converse()
    if state == "joining":
        talk.asks_to_join()
    elif state != "idle":
        talk.joins("bob")
        if state != "joined":
            talk.link_goes_down(1006 if state == "reconnecting" else 4020)
    assert talk.state == state
    return talk


class TestAdding:
    @each_row("state", ["idle", "joining", "joined", "reconnecting"])
    def test_at_any_time(self, state: str, converse: Converse, make_track: Any) -> None:
        talk = in_state(state, converse)
        assert talk.error(talk.adds(1)) is None
        assert talk.room.tracks == (make_track(1),)
        if "bob" in talk.room.members:
            assert talk.peer("bob").calls[-1] == SetTracks((make_track(1),))

    def test_not_after_the_end(self, converse: Converse) -> None:
        talk = in_state("closed", converse)
        assert talk.error(talk.adds(1)) == MeteredPeerStateError("invalid_state", "add_track", "closed")
        error = talk.error(talk.asks(RemoveTrack(1)))
        assert error == MeteredPeerStateError("invalid_state", "remove_track", "closed")

    def test_to_everybody_in_order(self, talk: Any, make_track: Any) -> None:
        talk.joins("bob", "zoe")
        talk.adds(2, kind="audio")
        talk.adds(1)
        both = SetTracks((make_track(2, "audio"), make_track(1)))
        assert [talk.peer(peer_id).calls[-1] for peer_id in ("bob", "zoe")] == [both, both]
        talk.presence("amy")
        assert talk.peer("amy").calls == [both]

    def test_twice_is_once(self, talk: Any) -> None:
        talk.joins("bob")
        talk.adds(1, stream_id="s")
        talk.forget()
        assert talk.error(talk.adds(1, stream_id="s", metadata={"n": 2})) is None
        assert talk.peer("bob").calls == []
        assert talk.room.tracks[0].metadata is None

    def test_one_track_is_in_one_stream(self, joined: Any) -> None:
        joined.adds(1, stream_id="s")
        error = joined.error(joined.adds(1, stream_id="t"))
        assert error == MeteredPeerStateError("track_already_attached", "add_track", "joined")
        assert joined.room.tracks[0].stream_id == "s"

    def test_metadata_that_no_message_can_carry(self, talk: Any) -> None:
        talk.joins("bob", maxMessageSize=200)
        error = talk.error(talk.adds(1, metadata={"text": "x" * 200}))
        assert isinstance(error, MeteredPeerOversizedError)
        assert (error.size > 200, error.cap) == (True, 200)
        assert talk.room.tracks == ()
        assert talk.peer("bob").calls == []

    def test_metadata_just_as_large_as_a_message(self, talk: Any) -> None:
        talk.joins(maxMessageSize=200)
        first = talk.error(talk.adds(1, metadata={"text": "x" * 200}))
        assert talk.error(talk.adds(1, metadata={"text": "x" * (200 - (first.size - 200))})) is None

    @pytest.mark.parametrize(("metadata", "error"), [({"n": float("nan")}, ValueError), ({"n": object()}, TypeError)])
    def test_metadata_that_is_no_json(self, metadata: Any, error: type[Exception], joined: Any) -> None:
        assert isinstance(joined.error(joined.adds(1, metadata=metadata)), error)
        assert joined.room.tracks == ()

    def test_there_is_an_end_to_it(self, joined: Any) -> None:
        for key in range(MOST_TRACKS):
            assert joined.error(joined.adds(key)) is None
        error = joined.error(joined.adds(MOST_TRACKS))
        assert error == MeteredPeerStateError("too_many_tracks", "add_track", "joined")


class TestRemoving:
    def test_from_everybody(self, talk: Any, make_track: Any) -> None:
        talk.joins("bob")
        talk.adds(1)
        talk.adds(2)
        assert talk.error(talk.asks(RemoveTrack(1))) is None
        assert talk.peer("bob").calls[-1] == SetTracks((make_track(2),))
        assert talk.room.tracks == (make_track(2),)

    def test_what_is_not_there(self, talk: Any) -> None:
        talk.joins("bob")
        assert talk.error(talk.asks(RemoveTrack(1))) is None
        assert talk.peer("bob").calls == []


class TestReplacing:
    @pytest.fixture
    def sending(self, talk: Any) -> Any:
        """In a room with bob and zoe, and tracks 1 to 3; the middle one has a stream and metadata."""
        talk.joins("bob", "zoe")
        talk.adds(1, kind="audio")
        talk.adds(2, stream_id="cam", metadata={"role": "camera"})
        talk.adds(3)
        talk.forget()
        return talk

    def test_everywhere(self, sending: Any, make_track: Any) -> None:
        op = sending.asks(ReplaceTrack(2, make_track(9)))
        taken = make_track(9, stream_id="cam", metadata={"role": "camera"})
        assert sending.error(op) is None
        assert [sending.peer(peer_id).calls for peer_id in ("bob", "zoe")] == [[SwapTrack(2, taken)]] * 2
        assert [track.key for track in sending.room.tracks] == [1, 9, 3]
        assert sending.room.tracks[1] == taken

    def test_by_nothing(self, sending: Any) -> None:
        op = sending.asks(ReplaceTrack(2, None))
        assert sending.error(op) is None
        assert sending.peer("bob").calls == [SwapTrack(2, None)]
        assert [track.key for track in sending.room.tracks] == [1, 3]
        sending.presence("amy")
        assert [track.key for track in sending.peer("amy").calls[0].tracks] == [1, 3]

    def test_with_nobody_there(self, joined: Any, make_track: Any) -> None:
        joined.adds(1)
        assert joined.error(joined.asks(ReplaceTrack(1, make_track(2)))) is None
        assert joined.room.tracks == (make_track(2),)

    def test_waits_for_the_last(self, sending: Any, make_track: Any) -> None:
        zoe = sending.peer("zoe")
        zoe.swaps = "wait"
        op = sending.asks(ReplaceTrack(2, make_track(9)))
        assert sending.waits(op)
        self.answers(sending, "zoe")
        assert sending.error(op) is None

    def answers(self, talk: Any, peer_id: str, error: Exception | None = None) -> None:
        """A machine that waited answers, at whatever it hears next."""
        machine = talk.peer(peer_id)
        machine.says = [Answer(machine.waiting.pop(0), error=error)]
        talk.direct(peer_id, {"type": "rtc-ice", "candidate": None})

    def test_fails_for_some(self, sending: Any, make_track: Any) -> None:
        sending.peer("zoe").swaps = "fail"
        op = sending.asks(ReplaceTrack(2, make_track(9)))
        failure = ReplaceTrackFailure("zoe", sending.peer("zoe").error)
        assert sending.error(op) == MeteredPeerReplaceTrackError(("bob",), (failure,))
        assert [track.key for track in sending.room.tracks] == [1, 9, 3]

    def test_fails_for_all(self, sending: Any, make_track: Any) -> None:
        for peer_id in ("bob", "zoe"):
            sending.peer(peer_id).swaps = "fail"
        op = sending.asks(ReplaceTrack(2, make_track(9)))
        error = sending.error(op)
        assert isinstance(error, MeteredPeerReplaceTrackError)
        assert (error.succeeded, [failure.peer_id for failure in error.failed]) == ((), ["bob", "zoe"])
        assert [track.key for track in sending.room.tracks] == [1, 2, 3]
        assert [track.key for track in sending.peer("bob").calls[-1].tracks] == [1, 2, 3]

    def test_by_nothing_fails_for_all(self, sending: Any) -> None:
        for peer_id in ("bob", "zoe"):
            sending.peer(peer_id).swaps = "fail"
        sending.asks(ReplaceTrack(2, None))
        assert [track.key for track in sending.room.tracks] == [1, 2, 3]

    def test_an_error_with_a_secret_is_scrubbed(self, sending: Any, make_track: Any) -> None:
        bob = sending.peer("bob")
        bob.swaps, bob.error = "fail", RuntimeError("a=ice-pwd:abcdefghijklmnopqrstuvwx refused")
        error = sending.error(sending.asks(ReplaceTrack(2, make_track(9))))
        [failure] = error.failed
        assert isinstance(failure.err, MeteredRealtimeError)
        assert "abcdefghij" not in str(failure.err)
        assert "RuntimeError" in str(failure.err)

    def test_whoever_leaves_meanwhile_has_not_failed(self, sending: Any, make_track: Any) -> None:
        sending.peer("zoe").swaps = "wait"
        op = sending.asks(ReplaceTrack(2, make_track(9)))
        sending.presence(left=("zoe",))
        assert sending.error(op) is None

    def test_nobody_waits_any_more(self, sending: Any, make_track: Any) -> None:
        sending.peer("zoe").swaps = "wait"
        op = sending.asks(ReplaceTrack(2, make_track(9)))
        sending.withdraws(op)
        self.answers(sending, "zoe", RuntimeError("too late"))
        assert op not in sending.answers

    def test_leaving_ends_the_wait(self, sending: Any, make_track: Any) -> None:
        sending.peer("zoe").swaps = "wait"
        op, other = (sending.asks(ReplaceTrack(key, make_track(key + 7))) for key in (2, 3))
        sending.withdraws(other)
        sending.leaves()
        assert sending.error(op) == MeteredPeerStateError("invalid_state", "replace_track", "closed")

    def test_in_the_meantime_newcomers_get_the_new_one(self, sending: Any, make_track: Any) -> None:
        sending.peer("zoe").swaps = "wait"
        sending.asks(ReplaceTrack(2, make_track(9)))
        sending.presence("amy")
        assert [track.key for track in sending.peer("amy").calls[0].tracks] == [1, 9, 3]

    def test_removed_while_it_fails(self, sending: Any, make_track: Any) -> None:
        for peer_id in ("bob", "zoe"):
            sending.peer(peer_id).swaps = "wait"
        sending.asks(ReplaceTrack(2, make_track(9)))
        sending.asks(RemoveTrack(9))
        for peer_id in ("bob", "zoe"):
            self.answers(sending, peer_id, RuntimeError("no"))
        assert [track.key for track in sending.room.tracks] == [1, 3]

    def test_two_at_once(self, sending: Any, make_track: Any) -> None:
        sending.peer("zoe").swaps = "wait"
        one, two = sending.asks(ReplaceTrack(1, make_track(8))), sending.asks(ReplaceTrack(2, make_track(9)))
        self.answers(sending, "zoe")
        assert (sending.waits(one), sending.waits(two)) == (False, True)
        self.answers(sending, "zoe")
        assert sending.error(two) is None
        assert [track.key for track in sending.room.tracks] == [8, 9, 3]

    def test_what_is_not_sent_is_not_replaced(self, sending: Any, make_track: Any) -> None:
        assert sending.error(sending.asks(ReplaceTrack(7, make_track(9)))) is None
        assert [track.key for track in sending.room.tracks] == [1, 2, 3]
        assert sending.peer("bob").calls == []

    def test_by_itself(self, sending: Any, make_track: Any) -> None:
        assert sending.error(sending.asks(ReplaceTrack(2, make_track(2)))) is None
        assert sending.peer("bob").calls == []

    def test_by_one_that_is_sent_already(self, sending: Any, make_track: Any) -> None:
        error = sending.error(sending.asks(ReplaceTrack(2, make_track(3))))
        assert error == MeteredPeerStateError("track_already_attached", "replace_track", "joined")

    def test_by_one_whose_name_makes_the_metadata_too_large(self, talk: Any, make_track: Any) -> None:
        talk.joins("bob", maxMessageSize=200)
        talk.adds(1, metadata={"text": "x" * 80})
        error = talk.error(talk.asks(ReplaceTrack(1, make_track(2, track_id="t" * 150))))
        assert isinstance(error, MeteredPeerOversizedError)
        assert talk.room.tracks[0].key == 1

    @each_row("state", ["reconnecting", "closed"])
    def test_not_without_the_relay(self, state: str, converse: Converse, make_track: Any) -> None:
        talk = in_state(state, converse)
        error = talk.error(talk.asks(ReplaceTrack(1, make_track(2))))
        assert error == MeteredPeerStateError("invalid_state", "replace_track", state)

    @each_row("state", ["idle", "joining"])
    def test_ahead_of_it_all(self, state: str, converse: Converse, make_track: Any) -> None:
        talk = in_state(state, converse)
        talk.adds(1)
        assert talk.error(talk.asks(ReplaceTrack(1, make_track(2)))) is None
        assert talk.room.tracks == (make_track(2),)


def test_a_track_is_not_changed_by_being_replaced(joined: Any, make_track: Any) -> None:
    metadata = {"role": "camera"}
    joined.adds(1, metadata=metadata)
    joined.asks(ReplaceTrack(1, make_track(2, metadata={"role": "screen"})))
    assert joined.room.tracks[0] == msgspec.structs.replace(make_track(2), metadata={"role": "camera"})
    assert metadata == {"role": "camera"}
