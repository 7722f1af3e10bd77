"""Tracks that are being replaced at many members."""

from __future__ import annotations

from metered_proto.errors import MeteredPeerReplaceTrackError, MeteredRealtimeError, ReplaceTrackFailure
from metered_proto.room.local_tracks import Swap
from metered_proto.room.replacing import Replacements
from metered_proto.rtc.words import LocalTrack

SWAP = Swap(LocalTrack(1, "video", "t1"), None, 0)
NO = RuntimeError("no")


def test_over_when_all_have_answered() -> None:
    replacements = Replacements()
    assert replacements.begin(7, SWAP, {-1: "a", -2: "b"}) == []
    assert replacements.answered(-2, None) == []
    assert replacements.answered(-9, None) == []
    [over] = replacements.answered(-1, None)
    assert (over.op, over.error, over.failed_everywhere) == (7, None, False)
    assert replacements.answered(-1, None) == []


def test_with_nobody_there_it_is_over_at_once() -> None:
    [over] = Replacements().begin(7, SWAP, {})
    assert over.error is None


def test_some_fail() -> None:
    replacements = Replacements()
    replacements.begin(7, SWAP, {-1: "a", -2: "b"})
    replacements.answered(-1, NO)
    [over] = replacements.answered(-2, None)
    assert over.error == MeteredPeerReplaceTrackError(("b",), (ReplaceTrackFailure("a", NO),))
    assert not over.failed_everywhere


def test_in_the_order_of_the_members() -> None:
    replacements = Replacements()
    replacements.begin(7, SWAP, {-1: "a", -2: "b", -3: "c", -4: "d"})
    for op, error in ((-4, NO), (-3, None), (-2, NO)):
        replacements.answered(op, error)
    [over] = replacements.answered(-1, None)
    failures = (ReplaceTrackFailure("b", NO), ReplaceTrackFailure("d", NO))
    assert over.error == MeteredPeerReplaceTrackError(("a", "c"), failures)


def test_all_fail() -> None:
    replacements = Replacements()
    replacements.begin(7, SWAP, {-1: "a"})
    [over] = replacements.answered(-1, NO)
    assert over.failed_everywhere


def test_who_is_gone_is_not_waited_for() -> None:
    replacements = Replacements()
    replacements.begin(7, SWAP, {-1: "a", -2: "b"})
    replacements.begin(8, SWAP, {-3: "a"})
    [over] = replacements.gone("a")
    assert over.op == 8
    [other] = replacements.gone("b")
    assert (other.op, other.error) == (7, None)


def test_whoever_goes_takes_nobody_else_along() -> None:
    for left in "abc":
        replacements = Replacements()
        replacements.begin(7, SWAP, {-1: "a", -2: "b", -3: "c"})
        assert replacements.gone(left) == []
        first, last = (op for op, member in ((-1, "a"), (-2, "b"), (-3, "c")) if member != left)
        assert replacements.answered(first, None) == []
        assert [over.op for over in replacements.answered(last, None)] == [7]


def test_withdrawn_and_abandoned() -> None:
    replacements = Replacements()
    replacements.begin(7, SWAP, {-1: "a"})
    replacements.begin(8, SWAP, {-2: "a"})
    assert replacements.withdrawn(7)
    assert not replacements.withdrawn(9)
    assert replacements.abandon() == [8]
    assert replacements.answered(-1, None) == []


def test_an_error_is_fit_to_be_logged() -> None:
    replacements = Replacements()
    replacements.begin(7, SWAP, {-1: "a"})
    [over] = replacements.answered(-1, OSError("turn:x password=hunter2hunter2"))
    error = over.error
    assert error is not None
    [failure] = error.failed
    assert isinstance(failure.err, MeteredRealtimeError)
    assert "hunter2" not in str(failure.err)
