"""Tokens: the signed word of a backend about who a peer is and what it may do.

A token is a JWT (RFC 7519) signed by HS256. Its header's `kid` names the secret key (`sk_id_…`) whose secret
(`sk_secret_…`) signed it; the claims are those of the wire protocol. No other algorithm is ever looked at, and
time is an argument everywhere.

A claim that is there has the right type: `null` is a wrong one, not an absent claim. No error shows a token, a
secret or what a claim held.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from metered_proto.wire.channels import check_channel, check_peer_id
from metered_proto.wire.codec import encode_data

Permission: TypeAlias = Literal["publish", "subscribe", "presence", "send"]

PERMISSIONS: Final[tuple[Permission, ...]] = ("publish", "subscribe", "presence", "send")
"""Everything that can be permitted."""

MAX_TOKEN_CHANNELS: Final = 100
MAX_TOKEN_PERMISSIONS: Final = 16
MAX_METADATA_BYTES: Final = 8 * 1024
MAX_PEER_METADATA_BYTES: Final = 4 * 1024
MAX_TOKEN_CHARS: Final = 64 * 1024
"""The longest token that is made or read: room for every claim at its limit."""

DEFAULT_LIFETIME: Final = 3600
MAX_LIFETIME: Final = 86_400
"""Seconds that a token minted here may live."""

CLOCK_SKEW: Final = 60
"""Seconds by which the clock of whoever signed may be ahead of ours where a token says `nbf`."""


class TokenRejected(ValueError):  # noqa: N818 - says what happened, as the close does that follows it
    """A token is not accepted. `code` is the close code: 4001 for a bad token, 4002 for one that is over."""

    def __init__(self, code: Literal[4001, 4002], reason: str) -> None:
        super().__init__(code, reason)
        self.code: Literal[4001, 4002] = code
        self.reason = reason

    def __str__(self) -> str:
        return f"token rejected ({self.code}): {self.reason}"


class Claims(msgspec.Struct, frozen=True):
    """What a token says, checked. `None` means that the token is silent and the key's own setting counts."""

    key_id: str
    peer_id: str
    expires_at: int
    """Unix seconds."""
    channels: tuple[str, ...] | None = None
    """Patterns. Whether the key covers them is for the server to see."""
    permissions: tuple[Permission, ...] | None = None
    """Each once, in the order of `PERMISSIONS`."""
    metadata: dict[str, Any] | None = None
    """For the connection alone; it may hold credentials of TURN servers."""
    peer_metadata: dict[str, Any] | None = None
    """For everybody to see."""

    def __repr__(self) -> str:
        return f"Claims(peer_id={self.peer_id!r}, expires_at={self.expires_at})"


def mint(
    *,
    key_id: str,
    secret: str,
    peer_id: str,
    now: int,
    expires_in: int = DEFAULT_LIFETIME,
    channels: Iterable[str] | None = None,
    permissions: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    peer_metadata: Mapping[str, Any] | None = None,
) -> str:
    """Sign a token for `peer_id` that lives from `now` (unix seconds) for `expires_in` seconds (1 to 86400).

    `channels` are at most 100 patterns, `permissions` any of `PERMISSIONS`; without them the key's own count.
    `metadata` (at most 8 KB serialized) comes back once in the connection's welcome, `peer_metadata` (at most
    4 KB) is shown to others. Raises `TypeError` or `ValueError` for whatever a server would not accept.
    """
    check_secret_key(key_id, secret)
    check_peer_id(peer_id)
    _check_int("now", now, 0, _LAST_SECOND - MAX_LIFETIME)
    _check_int("expires_in", expires_in, 1, MAX_LIFETIME)
    claims: dict[str, Any] = {"sub": peer_id, "iat": now, "exp": now + expires_in}
    if channels is not None:
        claims["channels"] = _check_channels(_listed("channels", channels))
    if permissions is not None:
        claims["permissions"] = _check_permissions(_listed("permissions", permissions))
    for name, bag, cap in (
        ("metadata", metadata, MAX_METADATA_BYTES),
        ("peerMetadata", peer_metadata, MAX_PEER_METADATA_BYTES),
    ):
        if bag is not None:
            if not isinstance(bag, Mapping):
                raise TypeError(f"{name} must be a mapping, not {type(bag).__name__}")
            claims[name] = msgspec.Raw(_check_bag(name, dict(bag), cap))
    payload = msgspec.json.encode(claims)
    token = _JWS.encode(payload, _hmac_key(secret), algorithm=_ALGORITHM, headers={"kid": key_id})
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"the token would be longer than {MAX_TOKEN_CHARS} characters")
    return token


def verify(token: str, secrets: Mapping[str, str], now: float) -> Claims:
    """Check a token against `secrets` (secret by key id) at `now` (unix seconds), and return what it says.

    Raises `TokenRejected`. That a token is over is only said of one that is otherwise good.
    """
    key_id, payload = _signed_by(token, secrets)
    try:
        claims = _decode_claims(payload)
    except msgspec.ValidationError as error:
        raise TokenRejected(4001, f"a claim is missing or of the wrong type: {error}") from None
    except _BAD_JSON:
        raise TokenRejected(4001, "the claims are not a JSON object") from None
    try:
        check_peer_id(claims.sub)
        _check_int("exp", claims.exp, 1, _LAST_SECOND)
        channels = None if claims.channels is msgspec.UNSET else tuple(_check_channels(claims.channels))
        permissions = None if claims.permissions is msgspec.UNSET else tuple(_check_permissions(claims.permissions))
        metadata = None if claims.metadata is msgspec.UNSET else claims.metadata
        peer_metadata = None if claims.peer_metadata is msgspec.UNSET else claims.peer_metadata
        _check_bag("metadata", metadata or {}, MAX_METADATA_BYTES)
        _check_bag("peerMetadata", peer_metadata or {}, MAX_PEER_METADATA_BYTES)
    except _BAD_JSON as error:
        raise TokenRejected(4001, str(error)) from None
    if claims.nbf is not msgspec.UNSET and claims.nbf > now + CLOCK_SKEW:
        raise TokenRejected(4001, "the token is not valid yet")
    if claims.exp <= now:
        raise TokenRejected(4002, "the token has expired")
    return Claims(key_id, claims.sub, claims.exp, channels, permissions, metadata, peer_metadata)


def read_expiry(token: object) -> int | None:
    """When a token says that it ends (unix seconds), its signature unchecked; None where that cannot be read.

    For a client, which has no secret and wants to know when to ask for the next token. Never raises.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not _COMPACT.fullmatch(token):
        return None
    part = token.split(".")[1]
    try:
        expiry = _decode_expiry(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))).exp
    except _BAD_JSON:
        return None
    return expiry if 1 <= expiry <= _LAST_SECOND else None


def check_secret_key(key_id: object, secret: object) -> None:
    """Hold a secret key to what signing needs. Raises `TypeError` or `ValueError`, and shows neither part.

    The id is `sk_id_` and up to 128 letters, digits, `_` or `-`; the secret 16 to 512 printable ASCII characters
    without a space.
    """
    if not isinstance(key_id, str) or not isinstance(secret, str):
        raise TypeError("the id and the secret of a key must be str")
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("the id of a secret key must be sk_id_ and then letters, digits, _ or -")
    if not _SECRET.fullmatch(secret):
        raise ValueError("the secret of a key must be 16 to 512 printable ASCII characters without a space")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ValueError("the secret of a key must not be the text of a public key") from None


class _ClaimsOnTheWire(msgspec.Struct, frozen=True):
    sub: str
    exp: int
    iat: float | msgspec.UnsetType = msgspec.UNSET  # of no consequence, but a number if it is there
    nbf: float | msgspec.UnsetType = msgspec.UNSET
    channels: list[str] | msgspec.UnsetType = msgspec.UNSET
    permissions: list[str] | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    peer_metadata: dict[str, Any] | msgspec.UnsetType = msgspec.field(name="peerMetadata", default=msgspec.UNSET)


class _ExpiryOnTheWire(msgspec.Struct, frozen=True):
    exp: int


_ALGORITHM: Final = "HS256"
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KEY_ID: Final = re.compile(r"sk_id_[A-Za-z0-9_-]{1,128}")
_SECRET: Final = re.compile(r"[!-~]{16,512}")
_BAD_JSON: Final = (ValueError, RecursionError)
_JWS: Final = jwt.PyJWS()
_decode_claims = msgspec.json.Decoder(_ClaimsOnTheWire).decode
_decode_expiry = msgspec.json.Decoder(_ExpiryOnTheWire).decode


def _hmac_key(secret: str) -> bytes:
    # HMAC fills a short key up with zeros itself (RFC 2104 section 2), so doing it first changes no signature. It
    # spares everybody a warning about keys of fewer than 32 bytes; how short is too short is said above.
    return secret.encode().ljust(32, b"\0")


def _signed_by(token: str, secrets: Mapping[str, str]) -> tuple[str, bytes]:
    """The id of the key that signed a token, and the bytes that it signed."""
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRejected(4001, f"the token is longer than {MAX_TOKEN_CHARS} characters")
    if not _COMPACT.fullmatch(token):
        raise TokenRejected(4001, "the token is not three base64url parts")
    try:
        header = _JWS.get_unverified_header(token)
    except (jwt.PyJWTError, *_BAD_JSON):
        raise TokenRejected(4001, "the header cannot be read") from None
    # RFC 8725 section 3.1: the algorithm is ours to choose, never the token's.
    if header.get("alg") != _ALGORITHM:
        raise TokenRejected(4001, f"the algorithm is not {_ALGORITHM}")
    # RFC 7515 section 4.1.11: an extension that must be understood, and is not, is a reason to refuse.
    if "crit" in header or "b64" in header:
        raise TokenRejected(4001, "the header asks for an extension")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or key_id not in secrets:
        raise TokenRejected(4001, "the header names no key that is known")
    try:
        payload = _JWS.decode(token, _hmac_key(secrets[key_id]), algorithms=[_ALGORITHM])
    except jwt.PyJWTError:
        raise TokenRejected(4001, "the signature does not match") from None
    return key_id, payload


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}")


def _listed(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{name} must be several str, not one")
    return list(values)


def _check_channels(channels: list[str]) -> list[str]:
    if len(channels) > MAX_TOKEN_CHANNELS:
        raise ValueError(f"channels must be at most {MAX_TOKEN_CHANNELS}")
    return [check_channel(channel) for channel in channels]


def _check_permissions(permissions: list[str]) -> list[Permission]:
    if len(permissions) > MAX_TOKEN_PERMISSIONS:
        raise ValueError(f"permissions must be at most {MAX_TOKEN_PERMISSIONS}")
    if any(permission not in PERMISSIONS for permission in permissions):
        raise ValueError(f"permissions must be among {', '.join(PERMISSIONS)}")
    return [permission for permission in PERMISSIONS if permission in permissions]


def _check_bag(name: str, bag: dict[str, Any], cap: int) -> bytes:
    try:
        encoded = encode_data(bag)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if len(encoded) > cap:
        raise ValueError(f"{name} must be at most {cap} bytes serialized")
    return encoded
