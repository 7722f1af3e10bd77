"""Tokens: what is minted is accepted, and nothing else is, whoever signed it and however odd it looks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
from types import MappingProxyType
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.wire.tokens import (
    CLOCK_SKEW,
    MAX_TOKEN_CHARS,
    PERMISSIONS,
    Claims,
    TokenRejected,
    check_secret_key,
    mint,
    read_expiry,
    verify,
)

NOW = 1_790_000_000
KEY_ID = "sk_id_test"
SECRET = "sk_secret_0123456789abcdefghij"
SECRETS = MappingProxyType({KEY_ID: SECRET})


def minted(**claims: Any) -> str:
    return mint(**{"key_id": KEY_ID, "secret": SECRET, "peer_id": "device-1", "now": NOW, **claims})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(payload: Any, header: Any = None, *, secret: str = SECRET) -> str:
    """A token with any header and payload, signed by hand: HMAC needs no library's consent."""
    header = {"alg": "HS256", "typ": "JWT", "kid": KEY_ID} if header is None else header
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    body = ".".join(map(b64, parts))
    return f"{body}.{b64(hmac.digest(secret.encode(), body.encode(), hashlib.sha256))}"


def rejection(token: str, now: float = NOW) -> TokenRejected:
    with pytest.raises(TokenRejected) as caught:
        verify(token, SECRETS, now)
    shown = f"{caught.value} {caught.value!r}"
    assert SECRET not in shown
    assert len(token) < 30 or token not in shown  # shorter ones may be in the wording by chance
    return caught.value


class TestMint:
    def test_every_claim_arrives(self) -> None:
        token = minted(
            expires_in=60,
            channels=["fleet/*/telemetry", "_system/x"],
            permissions={"send", "publish"},
            metadata={"iceServers": [], "nothing": None},
            peer_metadata=MappingProxyType({"name": "Ünï"}),
        )
        claims = verify(token, SECRETS, NOW)
        assert claims == Claims(
            key_id=KEY_ID,
            peer_id="device-1",
            expires_at=NOW + 60,
            channels=("fleet/*/telemetry", "_system/x"),
            permissions=("publish", "send"),
            metadata={"iceServers": [], "nothing": None},
            peer_metadata={"name": "Ünï"},
        )

    def test_what_is_not_said_is_none(self) -> None:
        claims = verify(minted(), SECRETS, NOW)
        assert (claims.expires_at, claims.channels, claims.permissions) == (NOW + 3600, None, None)
        assert (claims.metadata, claims.peer_metadata) == (None, None)

    def test_nothing_is_not_the_same_as_unsaid(self) -> None:
        claims = verify(minted(channels=[], permissions=[], metadata={}, peer_metadata={}), SECRETS, NOW)
        assert (claims.channels, claims.permissions) == ((), ())
        assert (claims.metadata, claims.peer_metadata) == ({}, {})

    def test_what_it_looks_like_to_another_library_user(self) -> None:
        secret = "s" * 32
        token = minted(secret=secret, channels=["a"], permissions=["send"], metadata={"a": 1}, peer_metadata={"b": 2})
        payload = jwt.decode(token, secret, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": KEY_ID}
        assert payload == {
            "sub": "device-1",
            "iat": NOW,
            "exp": NOW + 3600,
            "channels": ["a"],
            "permissions": ["send"],
            "metadata": {"a": 1},
            "peerMetadata": {"b": 2},
        }

    @each_row(
        "claims",
        [
            {"expires_in": 1},
            {"expires_in": 86_400},
            {"peer_id": "x" * 128},
            {"now": 0},
            {"channels": ["x" * 256] * 100},
            {"permissions": ["send"] * 16},
            {"metadata": {"a": "x" * (8192 - len('{"a":""}'))}},
            {"peer_metadata": {"a": "x" * (4096 - len('{"a":""}'))}},
            {"secret": "0123456789abcdef"},
            {"secret": "~" * 512},
            {"key_id": "sk_id_" + "x" * 128},
        ],
    )
    def test_at_the_limit(self, claims: dict[str, Any]) -> None:
        secrets = {claims.get("key_id", KEY_ID): claims.get("secret", SECRET)}
        assert verify(minted(**claims), secrets, claims.get("now", NOW)).peer_id

    @each_row(
        ("claims", "why"),
        [
            ({"peer_id": ""}, "peer id"),
            ({"peer_id": "é"}, "peer id"),
            ({"peer_id": "x" * 129}, "peer id"),
            ({"expires_in": 0}, "expires_in"),
            ({"expires_in": 86_401}, "expires_in"),
            ({"now": -1}, "now"),
            ({"now": 253_402_300_799}, "now"),
            ({"channels": ["a"] * 101}, "channels"),
            ({"channels": [""]}, "channel"),
            ({"channels": ["x" * 257]}, "channel"),
            ({"permissions": ["send"] * 17}, "permissions"),
            ({"permissions": ["fly"]}, "permissions"),
            ({"metadata": {"a": "x" * (8193 - len('{"a":""}'))}}, "metadata must be at most 8192"),
            ({"peer_metadata": {"a": "é" * 2048}}, "peerMetadata must be at most 4096"),
            ({"metadata": {"a": float("nan")}}, "metadata: .*NaN"),
            ({"channels": ['"' * 256] * 100, "metadata": {"a": "x" * 8000}}, "longer than 65536"),
            ({"secret": "short"}, "secret"),
            ({"secret": "0123456789 abcdef"}, "secret"),
            ({"secret": "0123456789abcdefé"}, "secret"),
            ({"secret": "ssh-ed25519AAAAC3Nz"}, "public key"),
            ({"secret": "x" * 513}, "secret"),
            ({"key_id": "pk_live_abc"}, "sk_id_"),
            ({"key_id": "sk_id_"}, "sk_id_"),
            ({"key_id": "sk_id_a b"}, "sk_id_"),
        ],
    )
    def test_a_value_error_over_it(self, claims: dict[str, Any], why: str) -> None:
        with pytest.raises(ValueError, match=why) as caught:
            minted(**claims)
        assert str(claims.get("secret", SECRET)) not in str(caught.value)

    @each_row(
        "claims",
        [
            {"peer_id": 7},
            {"expires_in": 60.0},
            {"expires_in": True},
            {"now": 1.5},
            {"channels": "a"},
            {"channels": [1]},
            {"channels": 7},
            {"permissions": "send"},
            {"metadata": []},
            {"metadata": "a"},
            {"metadata": {"a": object()}},
            {"peer_metadata": [("a", 1)]},
            {"secret": b"0123456789abcdef"},
            {"key_id": None},
        ],
    )
    def test_a_type_error_for_another_type(self, claims: dict[str, Any]) -> None:
        with pytest.raises(TypeError):
            minted(**claims)

    @pytest.mark.parametrize("size", [16, 31, 32, 64, 65])
    def test_the_signature_is_plain_hmac_whatever_the_size_of_the_secret(self, size: int) -> None:
        token = minted(secret="s" * size)
        body, _, signature = token.rpartition(".")
        assert signature == b64(hmac.digest(b"s" * size, body.encode(), hashlib.sha256))


class TestVerify:
    def test_it_is_over_from_the_second_it_says(self) -> None:
        token = minted(expires_in=60)
        assert verify(token, SECRETS, NOW + 59.999).peer_id == "device-1"
        for late in (NOW + 60, NOW + 60.001, NOW + 10**9):
            rejected = rejection(token, late)
            assert (rejected.code, rejected.reason) == (4002, "the token has expired")

    def test_a_bad_token_is_bad_even_when_it_is_over(self) -> None:
        assert rejection(signed({"sub": "a", "exp": 1}, secret="another-secret-0123")).code == 4001
        assert rejection(signed({"sub": "", "exp": 1})).code == 4001
        assert rejection(signed({"sub": "a", "exp": 1})).code == 4002

    def test_unknown_claims_are_ignored(self) -> None:
        assert verify(signed({"sub": "a", "exp": NOW + 1, "aud": "x", "deep": [[{}]]}), SECRETS, NOW).peer_id == "a"

    def test_whoever_signs_may_have_a_fast_clock(self) -> None:
        payload = {"sub": "a", "exp": NOW + 1000, "iat": NOW + 500.5, "nbf": NOW + CLOCK_SKEW}
        assert verify(signed(payload), SECRETS, NOW).peer_id == "a"
        assert rejection(signed({**payload, "nbf": NOW + CLOCK_SKEW + 1})).reason == "the token is not valid yet"

    @each_row("algorithm", ["none", "None", "HS384", "HS512", "RS256", "ES256", "hs256", "", None, 1, []])
    def test_another_algorithm(self, algorithm: Any) -> None:
        token = signed({"sub": "a", "exp": NOW + 1}, {"alg": algorithm, "kid": KEY_ID})
        assert (rejection(token).code, rejection(token).reason) == (4001, "the algorithm is not HS256")

    def test_an_unsigned_token(self) -> None:
        token = jwt.encode({"sub": "a", "exp": NOW + 1}, None, algorithm="none", headers={"kid": KEY_ID})
        assert token.endswith(".")
        assert rejection(token).reason == "the token is not three base64url parts"

    def test_a_longer_hash_with_the_right_secret(self) -> None:
        secret = SECRET.ljust(64, "x")
        token = jwt.encode({"sub": "a", "exp": NOW + 1}, secret, algorithm="HS512", headers={"kid": KEY_ID})
        with pytest.raises(TokenRejected, match="algorithm"):
            verify(token, {KEY_ID: secret}, NOW)

    @each_row(
        ("header", "why"),
        [
            ({"alg": "HS256"}, "names no key"),
            ({"alg": "HS256", "kid": "sk_id_other"}, "names no key"),
            ({"alg": "HS256", "kid": "pk_live_abc"}, "names no key"),
            ({"alg": "HS256", "kid": ""}, "names no key"),
            ({"alg": "HS256", "kid": None}, "cannot be read"),
            ({"alg": "HS256", "kid": 7}, "cannot be read"),
            ({"alg": "HS256", "kid": [KEY_ID]}, "cannot be read"),
            ({"alg": "HS256", "kid": KEY_ID, "crit": ["b64"], "b64": True}, "extension"),
            ({"alg": "HS256", "kid": KEY_ID, "b64": True}, "extension"),
            ({"alg": "HS256", "kid": KEY_ID, "crit": ["x"], "x": 1}, "the header"),
            ({"kid": KEY_ID}, "algorithm"),
            ([], "cannot be read"),
            (b"{", "cannot be read"),
            (b"\xff\xff", "cannot be read"),
            (b"[" * 20_000, "cannot be read"),
            (b'{"alg":' + b"9" * 5000 + b"}", "cannot be read"),
        ],
    )
    def test_an_odd_header(self, header: Any, why: str) -> None:
        rejected = rejection(signed({"sub": "a", "exp": NOW + 1}, header))
        assert rejected.code == 4001
        assert why in rejected.reason

    @each_row(
        "change",
        [
            {"sub": None},
            {"sub": 7},
            {"sub": ""},
            {"sub": "é"},
            {"sub": "a\n"},
            {"sub": "x" * 129},
            {"exp": None},
            {"exp": "1890000000"},
            {"exp": True},
            {"exp": NOW + 0.5},
            {"exp": 0},
            {"exp": -1},
            {"exp": 253_402_300_800},
            {"exp": 10**30},
            {"exp": [NOW]},
            {"nbf": "soon"},
            {"nbf": True},
            {"iat": {}},
            {"channels": None},
            {"channels": "a"},
            {"channels": [7]},
            {"channels": [""]},
            {"channels": ["x" * 257]},
            {"channels": ["a"] * 101},
            {"channels": {"a": 1}},
            {"permissions": None},
            {"permissions": "send"},
            {"permissions": ["fly"]},
            {"permissions": [None]},
            {"permissions": ["send"] * 17},
            {"metadata": None},
            {"metadata": []},
            {"metadata": "x"},
            {"metadata": {"a": "x" * 8192}},
            {"peerMetadata": None},
            {"peerMetadata": 1},
            {"peerMetadata": {"a": "x" * 4096}},
        ],
    )
    def test_a_claim_of_the_wrong_type_or_size(self, change: dict[str, Any]) -> None:
        good = {"sub": "a", "exp": NOW + 1}
        assert verify(signed(good), SECRETS, NOW).peer_id == "a"
        assert rejection(signed({**good, **change})).code == 4001

    @pytest.mark.parametrize("missing", ["sub", "exp"])
    def test_a_claim_that_must_be_there(self, missing: str) -> None:
        payload = {"sub": "a", "exp": NOW + 1}
        del payload[missing]
        assert f"`{missing}`" in rejection(signed(payload)).reason

    @each_row(
        "payload",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff",
            b'{"sub":"\xff","exp":1890000000}',
            b'{"sub":"\\ud800","exp":1890000000}',
            b'{"sub":"a","exp":' + b"9" * 6000 + b"}",
            b'{"sub":"a","exp":1890000000,"x":' + b"[" * 20_000,
            b'{"sub":"a","exp":1890000000,"metadata":' + b'{"a":' * 8000 + b"1" + b"}" * 8001,
            b'{"sub":"a","exp":NaN}',
        ],
    )
    def test_claims_that_cannot_be_read(self, payload: bytes) -> None:
        assert rejection(signed(payload)).code == 4001

    def test_however_deep_the_metadata_is(self) -> None:
        for depth in range(800, 1100, 2):
            payload = b'{"sub":"a","exp":1,"metadata":{"a":' + b"[" * depth + b"null" + b"]" * depth + b"}}"
            assert rejection(signed(payload)).code in (4001, 4002)  # too deep to read, or else over

    @each_row(
        "token",
        ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "a=.b.c", "ä.b.c", "\ud800.b.c", "a.b.c\n", " a.b.c", "€" * 9],
    )
    def test_text_that_is_no_token(self, token: str) -> None:
        assert rejection(token).code == 4001

    def test_a_token_that_is_too_long(self) -> None:
        assert "longer" in rejection("a" * (MAX_TOKEN_CHARS + 1)).reason

    @given(st.integers(0), st.integers(0, 63))
    def test_no_character_can_be_changed(self, at: int, to: int) -> None:
        token = minted(channels=["a"])
        at %= len(token)
        character = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[to]
        changed = token[:at] + character + token[at + 1 :]
        if changed != token:
            assert rejection(changed).code == 4001

    @given(st.text() | st.from_regex(r"[\w-]{0,20}(\.[\w-]{0,20}){0,3}", fullmatch=True))
    def test_any_text_is_just_rejected(self, token: str) -> None:
        assert rejection(token).code == 4001
        assert read_expiry(token) is None

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
        st.sampled_from(["sub", "exp", "iat", "nbf", "channels", "permissions", "metadata", "peerMetadata"]),
    )
    def test_any_value_of_any_claim_is_read_or_rejected(self, value: Any, claim: str) -> None:
        token = signed({"sub": "a", "exp": NOW + 1, claim: value})
        try:
            claims = verify(token, SECRETS, NOW)
        except TokenRejected:
            assert rejection(token).code in (4001, 4002)
            return
        assert isinstance(claims.peer_id, str)
        assert claims.permissions is None or set(claims.permissions) <= set(PERMISSIONS)

    def test_a_secret_that_cannot_sign_verifies_nothing(self) -> None:
        assert not isinstance(rejection(signed({"sub": "a", "exp": NOW + 1}, secret="x" * 20)), jwt.PyJWTError)
        with pytest.raises(TokenRejected, match="signature"):
            verify(signed({"sub": "a", "exp": NOW + 1}), {KEY_ID: "ssh-ed25519AAAAC3Nz"}, NOW)

    def test_a_rejection_can_be_pickled(self) -> None:
        rejected = rejection("x")
        copy = pickle.loads(pickle.dumps(rejected))
        assert (str(copy), copy.code) == (str(rejected), 4001)
        assert str(rejected) == "token rejected (4001): the token is not three base64url parts"


class TestClaims:
    def test_the_repr_shows_who_and_until_when(self) -> None:
        claims = verify(minted(channels=["hidden"], metadata={"credential": "hidden"}), SECRETS, NOW)
        assert repr(claims) == f"Claims(peer_id='device-1', expires_at={NOW + 3600})"


class TestReadExpiry:
    def test_it_needs_no_secret(self) -> None:
        assert read_expiry(minted(expires_in=60)) == NOW + 60
        assert read_expiry(signed({"exp": 5}, secret="whoever")) == 5

    @each_row(
        "payload",
        [
            {},
            [],
            {"exp": None},
            {"exp": True},
            {"exp": "5"},
            {"exp": 0},
            {"exp": 10**30},
            b"\xff",
            b"{",
            b'{"x":' + b"[" * 20_000,
        ],
    )
    def test_none_where_there_is_none(self, payload: Any) -> None:
        assert read_expiry(signed(payload)) is None

    @each_row("token", [None, 7, b"a.b.c", "", "a.b", "a.a.a", "pk_live_abc", "\ud800.a.a", "a." * 40_000])
    def test_none_for_what_is_no_token(self, token: Any) -> None:
        assert read_expiry(token) is None


def test_a_secret_key_is_checked_without_being_shown() -> None:
    check_secret_key(KEY_ID, SECRET)
    with pytest.raises(ValueError, match="secret of a key") as caught:
        check_secret_key(KEY_ID, "sk_secret_tiny")
    assert "tiny" not in str(caught.value)
