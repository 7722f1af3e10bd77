"""Secrets out of a recording, in such a way that it can still be replayed.

Each secret is replaced by a pseudonym: of the same length, made of the same kinds of characters, and always the same
one for the same secret in one recording. A machine that is told the pseudonym does with it what it did with the
secret, so a recording is replayed with the pseudonyms in the settings, in the facts and in the orders alike.

What counts as a secret: publishable and secret keys, tokens, what stands under a name like credential, password or
token in JSON, the user name beside a TURN credential, the password in a URL, the ICE password and the keys of an SDP;
and whatever a recorder was told to keep secret (`learn`).

A pseudonym is drawn from a hash of the secret with a key that is not in the recording, so nobody can try passwords
against it. Of a JWT the signature alone is replaced; where the key that signed it is known, by the signature that
the pseudonym of that key makes, so that a relay verifies it in the replay as it did in the run.

This works on the text of a line, which may hold JSON in JSON in JSON: so escapes are left alone, and a rule takes
quotes with any number of backslashes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from metered_proto.facts import LinkAsked

MAX_LEARNT: Final = 32
"""Secrets that are remembered by themselves; the oldest is forgotten first."""

SHORTEST: Final = 4
"""A secret that is shorter cannot be told from ordinary text: it is replaced where it stands, and nowhere else."""

_PREFIXES: Final = ("pk_live_", "sk_secret_")
_NAMES: Final = r"[a-z_-]*(?:credential|password|passwd|secret|token|authorization)"
# One character that is replaced, or something that is left as it is: an escape of JSON, a percent-encoded byte.
_PIECES: Final = re.compile(r"\\+(?:u[0-9a-fA-F]{4}|.)|%[0-9a-fA-F]{2}|[a-z]|[A-Z]|[0-9]|[^\x00-\x7f]", re.DOTALL)
_VALUE: Final = r"(?:(?!(?<!\\)(?P={0})\").){{1,8192}}"
# A rule begins where no other beginning of it can have been in the same run of characters, and values are bounded: so
# the time is linear in the text, whoever wrote it.
_RULES: Final = (
    # the keys and tokens by their look
    r"(?:pk_live_|sk_secret_)[A-Za-z0-9_.~+/-]+",
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*",
    r"(?<![A-Za-z])(?i:bearer|basic)\ (?P<bearer>[A-Za-z0-9._~+/:=-]{8,})",
    # the user name beside a credential, which stands before or behind it
    r'(?P<a>(?<!\\)\\*)"username(?P=a)"\s*:\s*(?P=a)"(?P<user>'
    + _VALUE.format("a")
    + r')(?=(?P=a)"\s*,\s*(?P=a)"cred)',
    r'(?P<b>(?<!\\)\\*)"credential(?P=b)"\s*:\s*(?P=b)"(?P<first>' + _VALUE.format("b") + r')(?P=b)"\s*,\s*(?P=b)"'
    r'username(?P=b)"\s*:\s*(?P=b)"(?P<second>' + _VALUE.format("b") + r")",
    # "credential": "…", with as many backslashes before each quote
    rf'(?P<c>(?<!\\)\\*)"(?i:{_NAMES})(?P=c)"\s*:\s*(?P=c)"(?P<value>' + _VALUE.format("c") + r")",
    # RFC 8839 section 5.4, RFC 4568
    r"a=ice-pwd:(?P<ice>[^\s\"\\]+)",
    r"a=crypto:(?P<crypto>[^\r\n\"\\]+)",
    # scheme://user:password@host, up to the last @ of the authority
    r"//(?P<login>[^\s/?#\"<>\\]*)@",
    # …?key=… and …?token=…
    r"[?&](?:key|token)=(?P<query>[^&\"\s\\#]+)",
)
_BY_PLACE: Final = ("bearer", "user", "first", "second", "value", "ice", "crypto", "login", "query")
_BY_LOOK: Final = re.compile("|".join(_RULES[:2]))
# What has to stand in a line for any of these rules to find something: any of these, ...
_TRIGGERS: Final = (b"_live_", b"redential", b"ecret")
# ... any of those behind something that is looked for once for both, ...
_SHARED: Final = b"oken"
_SHARED_TRIGGERS: Final = (b'oken":', b"oken\\")
# ... or any of those behind a character that is rare, and which is looked for in no time.
_RARE_TRIGGERS: Final = (
    (b"=", (b"ice-pwd", b"=crypto", b"?key=", b"&key=", b"?token=", b"&token=")),
    (b"J", (b".eyJ",)),
    (b"@", (b"//",)),
    (b"w", (b"assw",)),
    (b"z", (b"uthorization",)),
    (b" ", (b"earer ", b"asic ")),
)


class Pseudonyms:
    """The pseudonyms of one recording. `key` is a secret of whoever records: 16 random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.sha256(key).digest()
        self._learnt: dict[str, str] = {}  # what to find, and what to put in its place
        self._signers: dict[str, str] = {}  # secret by its id
        self._triggers: tuple[bytes, ...] = _TRIGGERS
        self._rules = self._compiled()

    def learn(self, secret: str) -> None:
        """From now on this text is replaced wherever it stands, also percent-encoded."""
        if len(secret) < SHORTEST or secret in self._learnt or _BY_LOOK.fullmatch(secret):
            return
        pseudonym = self.of(secret)
        for found, put in ((secret, pseudonym), (quote(secret, safe=""), quote(pseudonym, safe=""))):
            for escape in (_as_it_is, _escaped, lambda text: _escaped(_escaped(text))):
                self._learnt[escape(found)] = escape(put)
        while len(self._learnt) > 6 * MAX_LEARNT:
            del self._learnt[next(iter(self._learnt))]
        self._triggers = (*_TRIGGERS, *(found.encode(errors="surrogatepass") for found in self._learnt))
        self._rules = self._compiled()

    def sign_with(self, signers: Iterable[tuple[str, str]]) -> None:
        """The keys that tokens are signed with here: the id and the secret of each."""
        for key_id, secret in signers:
            self._signers[key_id] = secret
            self.learn(secret)

    def of(self, secret: str) -> str:
        """The pseudonym of a secret."""
        if secret.startswith("eyJ") and secret.count(".") == 2:
            return self._token(secret)
        prefix = next((prefix for prefix in _PREFIXES if secret.startswith(prefix)), "")
        return prefix + self._scrambled(secret[len(prefix) :])

    # --- in text ---

    def suspects(self, text: bytes) -> bool:
        """Whether there may be anything to replace. Quick, and never wrong when it says no."""
        for trigger in self._triggers:
            if text.rfind(trigger) >= 0:  # backwards: CPython is quicker so
                return True
        if text.rfind(_SHARED) >= 0 and any(trigger in text for trigger in _SHARED_TRIGGERS):
            return True
        return any(rare in text and any(trigger in text for trigger in triggers) for rare, triggers in _RARE_TRIGGERS)

    def replace(self, text: str) -> str:
        """The text, each secret in it replaced once."""
        return self._rules.sub(self._replaced, text)

    def _compiled(self) -> re.Pattern[str]:
        known = sorted(self._learnt, key=len, reverse=True)
        return re.compile("|".join((*map(re.escape, known), *_RULES)), re.DOTALL)

    def _replaced(self, found: re.Match[str]) -> str:
        whole = found[0]
        if (known := self._learnt.get(whole)) is not None:
            return known
        pieces: list[str] = []
        at = found.start()
        for name in _BY_PLACE:
            if found[name] is not None:
                pieces += (found.string[at : found.start(name)], self._at_its_place(name, found[name]))
                at = found.end(name)
        return "".join((*pieces, found.string[at : found.end()])) if pieces else self.of(whole)

    def _at_its_place(self, name: str, text: str) -> str:
        """Something that was found by where it stands: perhaps with a word ahead of it that is not secret."""
        if name in ("bearer", "login"):
            public, colon, secret = text.partition(":")
            if colon:
                return public + colon + self._at_its_place("", secret)
            return text if name == "login" else self._at_its_place("", text)
        scheme, space, rest = text.partition(" ")
        if space and scheme.lower() in ("bearer", "basic"):
            return scheme + space + self._at_its_place("bearer", rest)
        return self._learnt.get(text) or self.of(text)

    # --- making them ---

    def _scrambled(self, secret: str) -> str:
        pieces = [found[0] for found in _PIECES.finditer(secret)]
        known = "".join(piece for piece in pieces if len(piece) == 1 and piece.isascii())
        draw = _Draw(self._key, known)
        return _PIECES.sub(lambda found: draw.like(found[0]), secret)

    def _token(self, token: str) -> str:
        head, payload, signature = token.split(".")
        claims = _decoded(payload)
        if claims is not None and self.suspects(claims.encode()):
            changed = self.replace(claims)
            payload_now = _encoded(changed.encode()) if changed != claims else payload
        else:
            payload_now = payload
        secret = self._signers.get(_key_id(head))
        if secret is not None and hmac.compare_digest(_signature(secret, f"{head}.{payload}"), signature):
            return f"{head}.{payload_now}.{_signature(self.of(secret), f'{head}.{payload_now}')}"
        # Whether it is good base64url depends on its last character, so that one stays.
        return f"{head}.{payload_now}.{self._scrambled(signature[:-1])}{signature[-1:]}"


def plainly_asked(fact: LinkAsked) -> LinkAsked:
    """A request to come in, its credential percent-encoded no more than it must be, so that it is found in the text."""
    path, mark, query = fact.target.partition("?")
    parameters = [_plain_parameter(parameter) for parameter in query.split("&")]
    return msgspec.structs.replace(fact, target=path + mark + "&".join(parameters))


def _plain_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return name + equals + quote(unquote(value), safe="") if name in ("key", "token") else parameter


class _Draw:
    """Characters out of a hash, as many as are asked for."""

    __slots__ = ("_block", "_count", "_key", "_secret")

    def __init__(self, key: bytes, secret: str) -> None:
        self._key = key
        self._secret = hashlib.sha256(secret.encode()).digest()
        self._count = 0
        self._block = b""

    def like(self, piece: str) -> str:
        """Another character of the same kind; an escape as it is."""
        if len(piece) > 1:
            return "x" if piece.lstrip("\\").startswith("u") and len(piece.lstrip("\\")) == 5 else piece
        if not piece.isascii():
            return "x"
        number = self._byte()
        if piece.isdigit():
            return chr(48 + number % 10)
        return chr((97 if piece.islower() else 65) + number % 26)

    def _byte(self) -> int:
        at = self._count % 32
        if not at:
            counter = (self._count // 32).to_bytes(8, "big")
            self._block = hashlib.blake2b(self._secret + counter, key=self._key, digest_size=32).digest()
        self._count += 1
        return self._block[at]


def _as_it_is(text: str) -> str:
    return text


def _escaped(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1] if text.isprintable() else text


def _decoded(part: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    except (ValueError, binascii.Error):
        return None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _key_id(head: str) -> str:
    try:
        header: Any = msgspec.json.decode((_decoded(head) or "").encode())
    except (ValueError, RecursionError):
        return ""
    key_id = header.get("kid") if isinstance(header, dict) else None
    return key_id if isinstance(key_id, str) else ""


def _signature(secret: str, signed: str) -> str:
    return _encoded(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())
