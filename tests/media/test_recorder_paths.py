"""Names of files: whatever people call themselves, files stay where they belong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_anyio import MeteredPeer
from metered_media import RecordingError, record
from metered_media.recorder_paths import file_name, target
from testbed.tracks import RED, ColourTrack, ToneTrack

HOSTILE = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    ".bashrc",
    "a/b",
    "a\\b",
    "a\0b",
    "con\n",
    "é" * 300,
    "%2E",
    "",
)


@pytest.mark.parametrize("peer_id", HOSTILE)
def test_nobody_leaves_the_directory(tmp_path: Path, peer_id: str) -> None:
    where = target(tmp_path / "calls", "webm", several=True)
    path = where.next_path(peer_id, lambda _: False)
    assert path.parent == tmp_path / "calls"
    path.write_bytes(b"")
    assert [each.resolve() for each in (tmp_path / "calls").iterdir()] == [(tmp_path / "calls").resolve() / path.name]
    assert not path.name.startswith(".")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_two_people_never_have_one_name(one: str, other: str) -> None:
    for name in (file_name(one), file_name(other)):
        assert "/" not in name
        assert name.isascii()
        assert name.isprintable()
        assert name not in ("", ".", "..")
    if one != other and max(len(file_name(one)), len(file_name(other))) < 120:
        assert file_name(one) != file_name(other)


def test_whoever_comes_again_gets_another_file(tmp_path: Path) -> None:
    where = target(tmp_path, None, several=True)
    taken = {tmp_path / "ann.mp4"}
    assert where.next_path("ann", taken.__contains__).name == "ann-2.mp4"
    (tmp_path / "ann-2.mp4").write_bytes(b"from a run before")
    (tmp_path / "ann-3.mp4").symlink_to("/nowhere")
    assert where.next_path("ann", taken.__contains__).name == "ann-4.mp4"


def test_a_file_that_was_named_is_written_over_but_those_beside_it_are_not(tmp_path: Path) -> None:
    (tmp_path / "talk.mkv").write_bytes(b"old")
    (tmp_path / "talk-2.mkv").write_bytes(b"old")
    where = target(tmp_path / "talk.mkv", None, several=False)
    assert where.next_path(None, lambda _: False).name == "talk.mkv"
    assert where.next_path(None, {tmp_path / "talk.mkv"}.__contains__).name == "talk-3.mkv"


def test_a_pattern(tmp_path: Path) -> None:
    where = target(tmp_path / "call of {peer}.webm", None, several=True)
    assert where.next_path("ann", lambda _: False) == tmp_path / "call of ann.webm"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("clip.avi", "its name must end in .mp4, .webm, .mkv, .wav"),
        ("clip", "its name must end in .mp4, .webm, .mkv, .wav"),
        ("nowhere/clip.mp4", "there is no such directory"),
    ],
)
def test_what_cannot_be_recorded_to(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(RecordingError) as caught:
        record(ToneTrack(440), tmp_path / path)
    assert caught.value.reason == reason
    assert caught.value.path == str(tmp_path / path)


def test_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(RecordingError):
        record(ToneTrack(440), tmp_path / "clip.mp4")


def room() -> MeteredPeer:
    return MeteredPeer(api_key="pk_live_x", url="ws://127.0.0.1:1")


def test_a_room_needs_a_place_for_several(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="several people"):
        record(room(), tmp_path / "talk.mp4")
    with pytest.raises(RecordingError, match="no directory to make it in"):
        record(room(), tmp_path / "nowhere" / "calls")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecordingError):
        record(room(), tmp_path / "file")
    record(room(), tmp_path / "calls")
    assert (tmp_path / "calls").is_dir()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"audio": 1}, TypeError),
        ({"audio": False, "video": False}, ValueError),
        ({"video_codec": "H265"}, ValueError),
        ({"video_codec": "VP8"}, ValueError),  # not in mp4
        ({"video_bitrate": 1.5}, TypeError),
        ({"video_bitrate": 1}, ValueError),
        ({"audio_bitrate": True}, TypeError),
        ({"size": (0, 0)}, ValueError),
        ({"size": "640x480"}, TypeError),
        ({"sample_rate": 44_100}, ValueError),
        ({"layout": "5.1"}, ValueError),
        ({"max_files": 0}, ValueError),
        ({"format": "avi"}, ValueError),
        ({"format": "webm"}, ValueError),  # which the name says otherwise
        ({"video": False}, ValueError),  # of a track of pictures nothing is left
    ],
)
def test_what_makes_no_sense(tmp_path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        record(ColourTrack(RED), tmp_path / "clip.mp4", **options)


def test_other_things_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would hold nothing"):
        record(ColourTrack(RED), tmp_path / "clip.wav")
    with pytest.raises(TypeError):
        record("track", tmp_path / "clip.wav")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        record(ToneTrack(440), 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not in its directory"):
        record(ToneTrack(440), tmp_path / "{peer}" / "clip.wav")
