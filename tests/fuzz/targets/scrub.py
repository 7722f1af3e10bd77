"""Any text can be scrubbed, in time that grows with its length, and the secrets of known kinds are gone afterwards."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from metered_proto.wire.scrub import scrub, scrub_url, scrub_value

KEY = "pk_live_0123456789abcdefSECRET"
URL = f"wss://host/v1?key={KEY}"
WORDS = (
    b"key=",
    b"token=",
    KEY.encode(),
    b"Bearer ",
    b"password",
    b'"credential":"',
    b"rtsp://user:",
    b"@",
    b"sk_id_x:",
    b"a=ice-pwd:",
)


def check(data: bytes) -> Hashable:
    text = data.decode(errors="surrogateescape")
    once = scrub(text)
    assert len(once) <= 40 * len(text) + 100
    scrub_url(text)
    assert KEY not in scrub(f"{text}\n{URL}\n")
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return once == text
    scrub_value(value)
    return (once == text, type(value).__name__)
