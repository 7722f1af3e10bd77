"""What the relay sends reads back as what a client is told."""

from __future__ import annotations

import json

import msgspec
import pytest

from metered_proto.events import Direct, Message, Presence, PresencePeer
from metered_proto.relay import frames
from metered_proto.relay.frames import PONG, DirectOut, MessageOut, presence_joined, presence_left
from metered_proto.wire.codec import decode_server_frame, encode_frame
from metered_proto.wire.messages import MAX_INBOUND_BYTES, Pong

DATA = msgspec.Raw(b'{"deep": [1, null]}')
STAMP = msgspec.Raw(b'{"name":"A"}')


def test_a_message_reads_back() -> None:
    text = encode_frame(MessageOut("c", "a", DATA)).decode()
    assert text == '{"type":"message","channel":"c","from":"a","data":{"deep": [1, null]}}'
    assert decode_server_frame(text) == Message("c", "a", {"deep": [1, None]})
    stamped = encode_frame(MessageOut("c", "a", DATA, STAMP)).decode()
    assert decode_server_frame(stamped) == Message("c", "a", {"deep": [1, None]}, {"name": "A"})


def test_a_direct_reads_back() -> None:
    text = encode_frame(DirectOut("a", DATA)).decode()
    assert text == '{"type":"direct","from":"a","data":{"deep": [1, null]}}'
    assert decode_server_frame(text) == Direct("a", {"deep": [1, None]})
    assert decode_server_frame(encode_frame(DirectOut("a", DATA, STAMP)).decode()) == Direct(
        "a", {"deep": [1, None]}, {"name": "A"}
    )


def test_a_pong_reads_back() -> None:
    assert decode_server_frame(PONG.decode()) == Pong()


def test_presence_reads_back_and_an_empty_snapshot_is_one() -> None:
    ann, bob = PresencePeer("ann", {"name": "Ann"}), PresencePeer("bob")
    (payload,) = presence_joined("c", (ann, bob))
    assert decode_server_frame(payload.decode()) == Presence("c", joined=(ann, bob))
    assert json.loads(payload)["joined"] == [{"peerId": "ann", "metadata": {"name": "Ann"}}, {"peerId": "bob"}]
    assert [json.loads(payload) for payload in presence_joined("c", ())] == [
        {"type": "presence", "channel": "c", "joined": [], "left": []}
    ]
    assert decode_server_frame(presence_left("c", ann).decode()) == Presence("c", left=(ann,))


def test_a_snapshot_too_long_for_a_client_comes_in_pieces() -> None:
    peers = tuple(PresencePeer(f"p{number}", {"x": "y" * 4000}) for number in range(600))
    payloads = presence_joined("c", peers)
    assert len(payloads) > 1
    assert all(len(payload) <= MAX_INBOUND_BYTES for payload in payloads)
    read = [decode_server_frame(payload.decode()) for payload in payloads]
    assert sum((frame.joined for frame in read if isinstance(frame, Presence)), ()) == peers


def test_one_peer_is_never_cut_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_INBOUND_BYTES", 10)
    assert len(presence_joined("c", (PresencePeer("a"), PresencePeer("b")))) == 2
    assert len(presence_joined("c", ())) == 1
