"""What we send."""

from __future__ import annotations

from typing import Any

from metered_proto.errors import MeteredPeerOversizedError, MeteredPeerStateError
from metered_proto.room.local_tracks import MOST_TRACKS, LocalTracks, Swap
from metered_proto.rtc.words import LocalTrack


def track(key: int, **more: Any) -> LocalTrack:
    return LocalTrack(key, "video", f"t{key}", **more)


def tracks_of(*keys: int) -> LocalTracks:
    tracks = LocalTracks()
    for key in keys:
        assert tracks.add(track(key), "idle", 1000) is None
    return tracks


def keys(tracks: LocalTracks) -> list[int]:
    return [track.key for track in tracks.all]


def test_in_the_order_in_which_they_were_added() -> None:
    tracks = tracks_of(2, 1, 3)
    assert keys(tracks) == [2, 1, 3]
    assert (len(tracks), 1 in tracks, 7 in tracks) == (3, True, False)
    assert tracks.remove(1)
    assert not tracks.remove(1)
    assert keys(tracks) == [2, 3]


def test_what_cannot_be_added_changes_nothing() -> None:
    tracks = tracks_of(1)
    assert tracks.add(track(1, stream_id="s"), "joined", 1000) == MeteredPeerStateError(
        "track_already_attached", "add_track", "joined"
    )
    assert isinstance(tracks.add(track(2, metadata={"n": "x" * 999}), "joined", 1000), MeteredPeerOversizedError)
    error = tracks.add(track(3, metadata={"n": "\ud800"}), "joined", 1000)
    assert isinstance(error, ValueError)
    assert error.__traceback__ is None
    assert keys(tracks) == [1]


def test_no_more_than_receivers_keep() -> None:
    tracks = tracks_of(*range(MOST_TRACKS))
    assert tracks.add(track(MOST_TRACKS), "idle", 1000) == MeteredPeerStateError("too_many_tracks", "add_track", "idle")


def test_a_swap_and_back() -> None:
    tracks = tracks_of(1, 2, 3)
    swap = tracks.swap(2, track(9), "joined", 1000)
    assert isinstance(swap, Swap)
    assert keys(tracks) == [1, 9, 3]
    tracks.undo(swap)
    assert keys(tracks) == [1, 2, 3]


def test_a_swap_for_nothing_and_back() -> None:
    tracks = tracks_of(1, 2, 3)
    swap = tracks.swap(2, None, "joined", 1000)
    assert isinstance(swap, Swap)
    assert keys(tracks) == [1, 3]
    tracks.remove(1)
    tracks.undo(swap)
    assert keys(tracks) == [3, 2], "its place is not there any more"


def test_a_swap_that_others_went_past_is_not_undone() -> None:
    for after in ("removed", "replaced", "added"):
        tracks = tracks_of(1, 2)
        swap = tracks.swap(2, track(9), "joined", 1000)
        assert isinstance(swap, Swap)
        if after == "removed":
            tracks.remove(9)
        elif after == "replaced":
            tracks.swap(9, track(10), "joined", 1000)
        else:
            tracks.add(track(2), "joined", 1000)
        before = keys(tracks)
        tracks.undo(swap)
        assert keys(tracks) == before
