"""Where the service lives: what a server URL may be, and what an attempt makes of it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.wire.urls import LOCAL_HOSTS, attempt_url, check_credential, check_url


class TestGoodUrls:
    @each_row(
        "url",
        [
            "wss://rms.metered.ca",
            "wss://relay.example:8443",
            "wss://192.0.2.7",
            "wss://[2001:db8::1]:443",
            "wss://xn--bcher-kva.example",
            "WSS://relay.example",
            "wss://localhost",
            "ws://localhost",
            "ws://localhost:8080",
            "ws://LOCALHOST:8080",
            "ws://127.0.0.1:1",
            "ws://[::1]:65535",
        ],
    )
    def test_as_it_is(self, url: str) -> None:
        assert check_url(url) == url

    def test_without_its_slash(self) -> None:
        assert check_url("wss://relay.example/") == "wss://relay.example"

    def test_the_hosts_without_tls(self) -> None:
        assert {"localhost", "127.0.0.1", "::1"} == LOCAL_HOSTS


class TestBadUrls:
    @each_row(
        ("url", "why"),
        [
            ("", "scheme"),
            ("rms.metered.ca", "scheme"),
            ("//rms.metered.ca", "scheme"),
            ("http://rms.metered.ca", "scheme"),
            ("https://rms.metered.ca", "scheme"),
            ("wsss://rms.metered.ca", "scheme"),
            ("wss://", "no host"),
            ("wss://:443", "no host"),
            ("wss:rms.metered.ca", "no host"),
            ("wss:///v1", "no host"),
            ("wss://user@rms.metered.ca", "user name"),
            ("wss://user:password@rms.metered.ca", "user name"),
            ("wss://@rms.metered.ca", "user name"),
            ("ws://localhost@rms.metered.ca", "user name"),
            ("wss://rms.metered.ca/v1", "path"),
            ("wss://rms.metered.ca//", "path"),
            ("wss://rms.metered.ca?", "query"),
            ("wss://rms.metered.ca?key=pk_live_secret", "query"),
            ("wss://rms.metered.ca/?token=secret", "query"),
            ("wss://rms.metered.ca#", "fragment"),
            ("wss://rms.metered.ca#secret", "fragment"),
            ("wss://rms.metered.ca:port", "host or port"),
            ("wss://rms.metered.ca:65536", "host or port"),
            ("wss://rms.metered.ca:-1", "host or port"),
            ("wss://rms.metered.ca:0", "port 0"),
            ("wss://[::1", "host or port"),
            ("ws://rms.metered.ca", "without TLS"),
            ("ws://127.0.0.2", "without TLS"),
            ("ws://localhost.example", "without TLS"),
            ("ws://[::2]", "without TLS"),
            ("ws://localhost\\@rms.metered.ca", "character"),
            (" wss://rms.metered.ca", "character"),
            ("wss://rms.metered.ca\n", "character"),
            ("wss://rms.\tmetered.ca", "character"),
            ("wss://rms.metered.ca\x00", "character"),
            ("wss://rms.metered.ca\x7f", "character"),
            ("wss://<rms.metered.ca>", "character"),
            ('wss://"rms.metered.ca"', "character"),
            ("wss://bücher.example", "character"),
            ("wss://rms\ud800.example", "character"),
            ("wss://rms.metered.ca\uff0fevil", "character"),
        ],
    )
    def test_refused_with_its_reason(self, url: str, why: str) -> None:
        with pytest.raises(ValueError, match=why) as caught:
            check_url(url)
        shown = str(caught.value)
        assert shown.startswith("url must be wss://HOST[:PORT]: ")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        for secret in ("secret", "password", "pk_live"):
            assert secret not in shown.replace("user name or a password", "")

    @pytest.mark.parametrize("url", [None, 5, b"wss://rms.metered.ca", ["wss://rms.metered.ca"]])
    def test_a_url_is_a_str(self, url: object) -> None:
        with pytest.raises(TypeError, match=f"not {type(url).__name__}"):
            check_url(url)  # type: ignore[arg-type]

    @given(st.text(max_size=20) | st.text(alphabet="ws:/@[].?#0a%", max_size=20).map("wss://".__add__))
    def test_any_text_is_good_or_a_value_error(self, url: str) -> None:
        try:
            checked = check_url(url)
        except ValueError:
            return
        parts = urlsplit(checked)
        assert parts.hostname
        assert (parts.path, parts.query, parts.fragment, parts.username) == ("", "", "", None)
        assert attempt_url(checked, "key", "k").endswith("/v1?key=k")


class TestCredentials:
    @pytest.mark.parametrize("credential", ["pk_live_x", "a", "é & ?", "a\nb"])
    def test_good(self, credential: str) -> None:
        assert check_credential("api_key", credential) == credential

    def test_empty(self) -> None:
        with pytest.raises(ValueError, match="api_key must not be empty"):
            check_credential("api_key", "")

    @pytest.mark.parametrize("credential", ["secret\ud800", "\udfffsecret"])
    def test_what_a_url_cannot_carry(self, credential: str) -> None:
        with pytest.raises(ValueError, match="lone surrogate") as caught:
            check_credential("api_key", credential)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("credential", [None, 5, b"secret"])
    def test_no_str(self, credential: object) -> None:
        with pytest.raises(TypeError, match="api_key must be a str") as caught:
            check_credential("api_key", credential)
        assert "secret" not in str(caught.value)


class TestAttempts:
    def test_a_key(self) -> None:
        assert attempt_url("wss://rms.metered.ca", "key", "pk_live_x") == "wss://rms.metered.ca/v1?key=pk_live_x"

    def test_a_token(self) -> None:
        assert attempt_url("ws://[::1]:80/", "token", "a.b-c_d~") == "ws://[::1]:80/v1?token=a.b-c_d~"

    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(["key", "token"]))
    def test_whatever_the_credential_it_comes_out_as_it_went_in(self, credential: str, kind: str) -> None:
        url = attempt_url("wss://rms.metered.ca", kind, credential)  # type: ignore[arg-type]
        parts = urlsplit(url)
        assert (parts.netloc, parts.path, parts.fragment) == ("rms.metered.ca", "/v1", "")
        assert parse_qs(parts.query, keep_blank_values=True) == {kind: [credential]}
        assert url.isascii()
        assert all(character > " " for character in url)
