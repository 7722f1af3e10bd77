"""A token is accepted only if it says what one of ours said: whatever is changed in it, no other claims are believed.

Everything else is `TokenRejected` with 4001 or 4002, and shows nothing of the secret.
"""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.wire.tokens import Claims, TokenRejected, mint, read_expiry, verify

NOW = 1_700_000_000
SECRETS = {"sk_id_fuzz": "the-secret-of-the-fuzzer", "sk_id_other": "another-secret-of-the-fuzzer"}
TOKENS = tuple(
    mint(key_id=key_id, secret=secret, peer_id=peer_id, now=NOW, expires_in=600, **more)
    for key_id, secret in SECRETS.items()
    for peer_id, more in (("a", {}), ("b", {"channels": ["x/*"], "permissions": ["publish"], "metadata": {"k": [1]}}))
)
OURS = {repr(verify(token, SECRETS, NOW)) for token in TOKENS}
WORDS = (b".", b"..", b"eyJhbGciOiJub25lIn0", b"=", b"-_", *(part.encode() for part in TOKENS[0].split(".")))


def judge(text: str) -> Claims | TokenRejected:
    try:
        return verify(text, SECRETS, NOW)
    except TokenRejected as refusal:
        return refusal


def check(data: bytes) -> Hashable:
    text = data.decode(errors="surrogateescape")
    expiry = read_expiry(text)
    assert expiry is None or isinstance(expiry, int)
    judged = judge(text)
    if isinstance(judged, TokenRejected):
        assert judged.code in (4001, 4002)
        assert not any(secret in str(judged) for secret in SECRETS.values())
        return (judged.code, str(judged)[:50], expiry is None)
    assert repr(judged) in OURS
    return repr(judged)
