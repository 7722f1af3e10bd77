"""Any text is read as facts of a description, bounded in number, and the same each time. Nothing of it raises."""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.wire.sdp import read_sdp, same_ice_generation, track_for_mid, track_ids, ufrags

WORDS = (
    b"a=mid:",
    b"a=msid:",
    b"a=ice-ufrag:",
    b"a=ice-pwd:",
    b"a=ssrc:1 msid:a b",
    b"a=group:BUNDLE 0 1",
    b"a=rtpmap:96 VP8/90000",
    b"a=extmap:1 urn:x",
    b"m=video 9 UDP/TLS/RTP/SAVPF 96",
    b"m=audio 0 X 0",
    b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    b"a=sendonly",
    b"a=inactive",
    b"a=bundle-only",
    b"a=fingerprint:sha-256 ",
    b"\r\n",
    b"a=setup:active",
)


def check(data: bytes) -> Hashable:
    text = data.decode(errors="surrogateescape")
    facts = read_sdp(text)
    assert read_sdp(text) == facts
    assert len(facts.media) <= 512
    assert same_ice_generation(facts, facts) or not ufrags(facts)
    names = track_ids(facts)
    for section in facts.media:
        if section.mid is not None:
            track_for_mid(facts, section.mid)
    assert len(repr(facts)) < 200 * (len(data) + 100)
    return (len(facts.media), len(names), len(ufrags(facts)), tuple((s.kind, s.direction) for s in facts.media[:3]))
