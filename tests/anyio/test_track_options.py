"""How a track is to be encoded: what `add_track` and `add_stream` take, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_kit import KEY, make_relay
from room_kit import ScriptedTrack, meeting

from metered_anyio import MediaStream, MeteredPeer
from metered_anyio.encoding import Encoding, encoding_for
from metered_anyio.rtc.engine import TrackStats


def make_peer() -> MeteredPeer:
    return MeteredPeer(api_key=KEY, url="ws://127.0.0.1:9")


def encodings(peer: MeteredPeer) -> list[Encoding]:
    """Of everything that is sent, in the order in which it was added."""
    return [encoding for _, encoding in peer._around.engine._sources.values()]


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("kind", "options", "error", "text"),
        [
            ("video", {"codec": "H265"}, ValueError, "codec must be one of"),
            ("video", {"codec": 7}, ValueError, "codec must be one of"),
            ("video", {"codec": "opus"}, ValueError, "opus is not for video"),
            ("audio", {"codec": "VP8"}, ValueError, "VP8 is not for audio"),
            ("video", {"max_bitrate": "much"}, TypeError, "max_bitrate must be an int"),
            ("video", {"max_bitrate": 5}, ValueError, "max_bitrate must be from"),
            ("video", {"max_bitrate": True}, TypeError, "max_bitrate must be an int"),
            ("video", {"max_fps": float("nan")}, ValueError, "max_fps must be from"),
            ("video", {"max_height": 4}, ValueError, "max_height must be from"),
            ("audio", {"max_height": 480}, ValueError, "max_height is for video"),
            ("audio", {"max_fps": 10}, ValueError, "max_fps is for video"),
            ("audio", {"encoder": "libx264"}, ValueError, "encoder is for video"),
            ("video", {"encoder": "nobody's"}, ValueError, "is none of this FFmpeg"),
            ("video", {"encoder": 1}, TypeError, "encoder must be a str"),
            ("video", {"encoder": "libopus"}, ValueError, "cannot be sent"),
            ("video", {"encoder": "libx264", "codec": "VP8"}, ValueError, "makes H264, not VP8"),
            ("video", {"encode_once": 1}, TypeError, "encode_once must be a bool"),
        ],
    )
    def test_is_said_at_the_call(self, kind: str, options: dict[str, Any], error: type[Exception], text: str) -> None:
        peer, track = make_peer(), ScriptedTrack(kind)
        with pytest.raises(error, match=text):
            peer.add_track(track, **options)
        assert encodings(peer) == []


def test_an_encoder_stands_for_its_codec() -> None:
    assert encoding_for("video", encoder="libx264").codec == "H264"
    assert encoding_for("video", encoder="libvpx", codec="VP8").codec == "VP8"


def test_a_track_has_its_own() -> None:
    peer = make_peer()
    plain, wanted = ScriptedTrack(id="plain"), ScriptedTrack(id="wanted")
    peer.add_track(plain)
    peer.add_track(wanted, codec="H264", max_bitrate=500_000, max_fps=12.5, max_height=360, encode_once=False)
    expected = Encoding(codec="H264", max_bitrate=500_000, max_fps=12.5, max_height=360, shared=False)
    assert encodings(peer) == [Encoding(), expected]
    peer.add_track(wanted, codec="VP8")  # it is sent already
    assert encodings(peer) == [Encoding(), expected]


@pytest.mark.parametrize(
    ("options", "video", "audio"),
    [
        ({}, {}, {}),
        ({"max_bitrate": 500_000, "max_fps": 15}, {"max_bitrate": 500_000, "max_fps": 15}, {}),
        ({"codec": "H264", "max_height": 480}, {"codec": "H264", "max_height": 480}, {}),
        ({"codec": "opus", "max_bitrate": 24_000}, {}, {"codec": "opus", "max_bitrate": 24_000}),
        ({"encode_once": False}, {"shared": False}, {"shared": False}),
    ],
)
def test_of_a_stream_each_track_gets_what_fits(
    options: dict[str, Any], video: dict[str, Any], audio: dict[str, Any]
) -> None:
    peer = make_peer()
    stream = MediaStream([ScriptedTrack("video", "v"), ScriptedTrack("audio", "a")])
    peer.add_stream(stream, **options)
    assert encodings(peer) == [Encoding(**video), Encoding(**audio)]


@pytest.mark.anyio
async def test_a_track_in_the_place_of_another_has_its_options() -> None:
    async with make_relay() as relay, meeting(relay, "ada") as (ada,):
        first, second = ScriptedTrack(id="first"), ScriptedTrack(id="second")
        ada.add_track(first, max_height=360)
        await ada.replace_track(first, second)
        assert encodings(ada) == [Encoding(max_height=360)]


def test_what_is_known_of_a_sender_needs_not_be_said() -> None:
    stats = TrackStats("video", "receive", "0", 1, "VP8", 1, 0, 1, 1, None, None, None, None)
    assert (stats.key_frames, stats.encoder, stats.target_bitrate, stats.shared, stats.passthrough) == (
        *(0, None, None),
        *(False, False),
    )
