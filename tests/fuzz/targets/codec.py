"""Whatever arrives as a frame is read as one, or as `Malformed`, the same whether it comes alone or with others.

What was read as a client's frame can be written, and is the same when it is read again.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from metered_proto.wire.codec import Malformed, decode_client_frame, decode_server_frame, decode_server_frames

WORDS = (
    b'"type":"',
    b'"welcome"',
    b'"ack"',
    b'"error"',
    b'"message"',
    b'"direct"',
    b'"presence"',
    b'"pong"',
    b'"going_away"',
    b'"subscribe"',
    b'"publish"',
    b'"send"',
    b'"requestId":',
    b'"channel":',
    b'"data":',
    b'"peerId":',
    b'"from":',
    b'"meta":',
    b'"peers":',
    b'"iceServers":',
    b'"code":',
    b'"retryAfterMs":',
    b'"maxMessageSize":',
    b'"to":',
    b"true",
    b"[]",
    b'""',
)


def check(data: bytes) -> Hashable:
    text = data.decode(errors="surrogateescape")
    outcome: list[Hashable] = []
    for decode in (decode_server_frame, decode_client_frame):
        assert isinstance(decode(data), Malformed), "a binary message is none"
        frame = decode(text)
        if isinstance(frame, Malformed):
            outcome.append((frame.code, frame.reason))
            continue
        outcome.append((type(frame).__name__, tuple(type(getattr(frame, name)) for name in frame.__struct_fields__)))
        if decode is decode_client_frame:
            assert type(decode(msgspec.json.encode(frame).decode())) is type(frame)
    (alone,) = decode_server_frames([text])
    assert alone == decode_server_frame(text)
    return tuple(outcome)
