"""`MediaStream`, and what the package imports for it: nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from metered_anyio import MediaStream, StreamMetadata


@dataclass(eq=False)
class Source:
    kind: str
    id: str = "source"


def test_groups_tracks_under_an_id() -> None:
    voice, camera = Source("audio"), Source("video")
    stream = MediaStream([voice], id="front-door")
    stream.add_track(camera)
    stream.add_track(camera)
    assert stream.id == "front-door"
    assert stream.tracks == (voice, camera)
    assert stream.get_tracks() == [voice, camera]
    assert stream.get_audio_tracks() == [voice]
    assert stream.get_video_tracks() == [camera]
    stream.remove_track(voice)
    stream.remove_track(voice)
    assert stream.get_tracks() == [camera]
    assert repr(stream) == "<MediaStream front-door of 1 tracks>"


def test_lists_are_snapshots() -> None:
    stream = MediaStream([Source("audio")])
    stream.get_tracks().clear()
    assert len(stream.tracks) == 1


def test_ids_are_made_up_where_none_is_given() -> None:
    ids = {MediaStream().id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(id) == 32 for id in ids)


@pytest.mark.parametrize("id", ["", "-", "two words", "line\nbreak", "x" * 257, "\ud800"])
def test_an_id_that_no_description_can_carry(id: str) -> None:
    with pytest.raises(ValueError, match="a stream's id must be"):
        MediaStream(id=id)


def test_what_is_neither_an_id_nor_a_track() -> None:
    with pytest.raises(TypeError, match="a stream's id must be a str, not int"):
        MediaStream(id=5)  # type: ignore[arg-type]
    for bad in (None, "camera", Source("data"), object()):
        with pytest.raises(TypeError, match="track must be an audio or video track"):
            MediaStream([bad])  # type: ignore[list-item]


def test_a_remotes_id_may_be_anything() -> None:
    assert MediaStream.received("two words").id == "two words"


def test_metadata_is_a_plain_dict() -> None:
    metadata: StreamMetadata = {"role": "camera"}
    assert StreamMetadata == dict[str, object] or metadata == {"role": "camera"}


def test_importing_the_package_imports_no_media_library() -> None:
    code = "import sys, metered_anyio; print([name for name in ('aiortc', 'av', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done
