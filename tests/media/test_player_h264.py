"""H.264 as far as it must be read, from real encoders and from strangers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media import h264
from metered_media.errors import PassthroughError
from metered_media.passthrough import straight
from testbed.clips import clip

VERDICTS = {
    "h264": None,
    "h264_high": None,
    "h264_ts": None,
    "h264_b": "b_frames",
    "h264_422": "profile",
    "h264_444": "profile",
    "h264_interlaced": "interlaced",
    "mpeg4": "codec",
    "vp8": None,
}


@pytest.mark.parametrize("name", VERDICTS)
def test_what_can_be_passed_on_is_seen_at_once(tmp_path: Path, name: str) -> None:
    with av.open(str(clip(tmp_path, name))) as file:
        code = None
        try:
            straight(file.streams.video[0])
        except PassthroughError as error:
            code = error.code
        assert code == VERDICTS[name]


@pytest.mark.parametrize("name", ["h264", "h264_high", "h264_ts", "h264_opus"])
def test_key_frames_have_their_parameter_sets_and_all_is_annex_b(tmp_path: Path, name: str) -> None:
    with av.open(str(clip(tmp_path, name))) as file:
        stream = file.streams.video[0]
        way, keys = straight(stream), 0
        for packet in file.demux(stream):
            if not packet.size:
                continue
            made: Any = way.take(packet)
            kinds = [h264.unit_type(unit) for unit in h264.units(bytes(made))]
            if made.is_keyframe:
                keys += 1
                assert kinds.index(h264.SPS) < kinds.index(h264.PPS) < kinds.index(h264.IDR)
            else:
                assert h264.IDR not in kinds
                assert h264.SLICE in kinds
        assert keys == 2


def test_what_was_passed_on_can_be_decoded_from_a_key_frame_without_anything_else(tmp_path: Path) -> None:
    with av.open(str(clip(tmp_path, "h264"))) as file:
        stream = file.streams.video[0]
        way = straight(stream)
        decoder: Any = av.CodecContext.create("h264", "r")
        made = [way.take(packet) for packet in file.demux(stream) if packet.size]
        pictures = [frame for packet in made[30:] for frame in decoder.decode(packet)] + decoder.decode(None)
        assert len(pictures) == 30


def test_slices_of_type_b_are_seen(tmp_path: Path) -> None:
    with av.open(str(clip(tmp_path, "h264_b"))) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    assert sum(any(map(h264.has_b_slice, h264.split(packet, 4))) for packet in packets) == 38


def test_pictures_out_of_order_are_noticed_on_the_way() -> None:
    context = SimpleNamespace(name="h264", extradata=None, has_b_frames=False)
    way = straight(SimpleNamespace(codec_context=context))
    for pts, misfit in ((0, False), (3, False), (1, True)):
        packet: Any = av.Packet(h264.annex_b([b"\x41\x9a\x00"]))
        packet.pts = pts
        if misfit:
            with pytest.raises(PassthroughError, match="out of order"):
                way.take(packet)
        else:
            way.take(packet)


def test_a_key_frame_without_parameter_sets_cannot_be_passed_on() -> None:
    context = SimpleNamespace(name="h264", extradata=None, has_b_frames=False)
    packet: Any = av.Packet(h264.annex_b([b"\x65\x88\x80"]))
    packet.is_keyframe = True
    with pytest.raises(PassthroughError) as caught:
        straight(SimpleNamespace(codec_context=context)).take(packet)
    assert caught.value.code == "parameter_sets"


@given(st.binary(max_size=60), st.integers(1, 4))
@settings(max_examples=150)
def test_bytes_of_strangers_raise_nothing(data: bytes, size: int) -> None:
    h264.read_sps(b"\x67" + data)
    h264.from_avcc(b"\x01" + data)
    for unit in [*h264.units(data), *h264.split(data, size), b"\x41" + data]:
        h264.has_b_slice(unit)


@given(st.lists(st.binary(min_size=1, max_size=9).map(lambda body: b"\x41" + body.replace(b"\0", b"\1")), max_size=5))
@settings(max_examples=60)
def test_units_are_what_was_put_together(parts: list[bytes]) -> None:
    assert h264.units(h264.annex_b(parts)) == parts
    assert h264.split(b"".join(len(part).to_bytes(2, "big") + part for part in parts), 2) == parts
