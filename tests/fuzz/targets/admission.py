"""Whatever is asked for ends in an identity, a close code, or a refusal. Nobody comes in without a key or token of
ours."""

from __future__ import annotations

from collections.abc import Hashable
from urllib.parse import unquote

from metered_proto.relay import PublishableKey, RelaySettings, SecretKey
from metered_proto.relay.admission import Admission, Identity, Refused, TurnedAway
from metered_proto.wire.tokens import mint

NOW = 1_700_000_000
SECRET = SecretKey("sk_id_fuzz", "the-secret-of-the-fuzzer", patterns=("room/*",))
KEYS = (PublishableKey("pk_live_open"), PublishableKey("pk_live_web", origins=("https://app.example",)))
TOKEN = mint(key_id=SECRET.id, secret=SECRET.secret, peer_id="device", now=NOW, channels=["room/1"])
ADMISSION = Admission(RelaySettings(born_at=NOW, keys=KEYS, secrets=(SECRET,)))
WORDS = (
    b"/v1",
    b"?key=",
    b"&token=",
    b"pk_live_open",
    b"pk_live_web",
    b"%70",
    b"%00",
    b"&&",
    b"#",
    b"%",
    TOKEN.encode(),
    b"\n",
)


def check(data: bytes) -> Hashable:
    target, _, origin = data.decode(errors="surrogateescape").partition("\n")
    verdict = ADMISSION.judge(target, origin or None, NOW)
    match verdict:
        case Identity():
            sent = unquote(target)
            assert "pk_live_open" in sent or ("pk_live_web" in sent and origin) or TOKEN.rpartition(".")[0] in sent
            return ("in", verdict.peer_id)
        case TurnedAway():
            return ("away", int(verdict.code), verdict.reason[:40])
        case Refused():
            return ("refused", verdict.status)
        case _:
            raise AssertionError(f"what is {verdict!r}?")
