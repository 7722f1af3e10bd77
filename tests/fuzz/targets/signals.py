"""Any JSON value is a signal, `Malformed`, or none. A signal can be written, and is the same when it is read again."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from metered_proto.wire.ice_servers import parse_ice_servers
from metered_proto.wire.signals import Malformed, TrackMeta, TrackMetaCache, looks_like_signal, read_signal, to_data

WORDS = (
    b'"__rtc_sdp":',
    b'"__rtc_ice":',
    b'"__rtc_track_meta":',
    b'"type":"offer"',
    b'"sdp":"v=0"',
    b'"candidate":',
    b'"sdpMid":',
    b'"sdpMLineIndex":',
    b'"usernameFragment":',
    b'"trackId":',
    b'"streamId":',
    b'"metadata":',
    b'"urls":',
    b'"username":',
    b'"credential":',
    b'"turn:x"',
    b'"stun:x"',
    b"null",
)


def check(data: bytes) -> Hashable:
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return "not JSON"
    servers = parse_ice_servers(value)
    signal = read_signal(value)
    if signal is None or isinstance(signal, Malformed):
        return (type(signal).__name__, getattr(signal, "reason", ""), len(servers))
    assert looks_like_signal(value)
    assert read_signal(to_data(signal)) == signal
    if isinstance(signal, TrackMeta):
        cache = TrackMetaCache(limit=2)
        cache.apply(signal, 65_536)
        assert len(cache) <= 2
    return (type(signal).__name__, repr(signal)[:60], len(servers))
