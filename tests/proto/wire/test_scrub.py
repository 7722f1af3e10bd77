"""No secret survives, wherever it stands and whatever stands around it; and what is no secret mostly does."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.events import IceServer
from metered_proto.wire.scrub import MAX_DEPTH, scrub, scrub_url, scrub_value


@each_row(
    ("text", "clean"),
    [
        # the two forms of the service's own address
        ("wss://rms.metered.ca/v1?key=pk_live_abc&x=1", "wss://rms.metered.ca/v1?key=***&x=1"),
        ("wss://rms.metered.ca/v1?token=eyJh.eyJz.c2ln rest", "wss://rms.metered.ca/v1?token=*** rest"),
        ("to=wss%3A%2F%2Fh%2Fv1%3Ftoken%3Dabc%26x%3D1&y=2", "to=wss%3A%2F%2Fh%2Fv1%3Ftoken%3D***&y=2"),
        # keys and tokens on their own
        ("key pk_live_abc-1_2 refused", "key pk_live_*** refused"),
        ("sk_id_abc:sk_secret_abc", "sk_id_abc:sk_secret_***"),
        ("token (eyJhbGciOi.eyJzdWIi.c2ln) refused", "token (***) refused"),
        ("eyJhbGciOi.eyJzdWIi. unsigned", "*** unsigned"),
        # headers
        ("Authorization: Bearer abc def", "Authorization: *** def"),
        ("proxy-authorization: Basic dXNlcjpwYXNz\r\nHost: h", "proxy-authorization: ***\r\nHost: h"),
        ("{'Authorization': 'Bearer abc', 'a': 1}", "{'Authorization': '***', 'a': 1}"),
        ('{"authorization":["Basic abc"]}', '{"authorization":["***"]}'),
        ("(b'Authorization', b'Bearer abc')", "(b'Authorization', b'***')"),
        ("sent Bearer abcdefghijklmnop", "sent Bearer ***"),
        # user names and passwords in addresses
        ("http://user:pass@proxy:3128/x", "http://***@proxy:3128/x"),
        ("rtsp://user:p@ss@camera/live", "rtsp://***@camera/live"),
        ("u=http%3A%2F%2Fuser%3Apa%2540ss%40proxy%2Fx", "u=http%3A%2F%2F***%40proxy%2Fx"),
        # SDP
        ("a=ice-ufrag:uf\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=mid:0", "a=ice-ufrag:uf\r\na=ice-pwd:***\r\na=mid:0"),
        ("a=crypto:1 AES_CM_128 inline:d0Rm|2^20\na=mid:0", "a=crypto:***\na=mid:0"),
        (r'{"sdp":"a=ice-pwd:abc\r\na=mid:0"}', r'{"sdp":"a=ice-pwd:***\r\na=mid:0"}'),
        # JSON and what looks like it
        (
            '{"username":"u","credential":"c \\" d","urls":"turn:h"}',
            '{"username":"u","credential":"***","urls":"turn:h"}',
        ),
        ("{'password': 'it\\'s', 'a': 1}", "{'password': '***', 'a': 1}"),
        (r'{"m":"{\"credential\":\"a\\\"b\",\"a\":1}"}', r'{"m":"{\"credential\":\"***\",\"a\":1}"}'),
        ('{"token":12345,"key":{"a":1}}', '{"token":***,"key":{"a":1}}'),
        ("Options(api_key='a b', url='x')", "Options(api_key='***', url='x')"),
        ("password: hunter2 is wrong", "password: *** is wrong"),
        ('{"credential":"cut off', '{"credential":"***'),
    ],
)
def test_secrets_go(text: str, clean: str) -> None:
    assert scrub(text) == clean


@each_row(
    "text",
    [
        "",
        "sk_id_abc is the name of a key",
        "invalid token: expired",
        "wss://rms.metered.ca/v1?a=1#part",
        "see https://example.com/a, or write to a@b.example",
        "eyJhbGciOi.html",
        "basic knowledge",
        "a=ice-ufrag:abcd\r\na=fingerprint:sha-256 AB:CD\r\n",
        "published 3 messages to fleet/7/telemetry",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert scrub(text) == text


URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
MARK = "Zq9"  # where a mark shows, a part of a secret does


def marked(alphabet: str | None, least: int = 0) -> st.SearchStrategy[str]:
    body = st.text(min_size=least, max_size=30) if alphabet is None else st.text(alphabet, min_size=least, max_size=30)
    return body.map(lambda text: f"{MARK}{text}{MARK}")


ANY = marked(None).filter(lambda text: text.isprintable())
WORD = marked(URL_SAFE)
PLACES: list[tuple[st.SearchStrategy[str], Callable[[str], str]]] = [
    (ANY, lambda secret: f"?key={quote(secret, safe='')}"),
    (ANY, lambda secret: f"&access_token={quote(secret)}&"),
    (ANY, lambda secret: quote(f"wss://h/v1?token={quote(secret, safe='')}", safe="")),
    (ANY, lambda secret: quote(quote(f"?key={quote(secret, safe='')}", safe=""), safe="")),
    (ANY, lambda secret: f"wss://user:{quote(secret, safe='')}@host/"),
    (ANY, lambda secret: quote(f"wss://{quote(secret, safe='')}:x@host/", safe="")),
    (ANY, lambda secret: json.dumps({"credential": secret})),
    (ANY, lambda secret: json.dumps({"iceServers": [{"password": secret, "urls": []}]}, ensure_ascii=False)),
    (ANY, lambda secret: json.dumps(json.dumps({"token": secret}))),
    (ANY, lambda secret: repr({"secret": secret})),
    (ANY, lambda secret: repr([("password", secret)])),
    (ANY, lambda secret: f"Options(token={secret!r})"),
    (WORD, lambda secret: f"pk_live_{secret}"),
    (WORD, lambda secret: f"sk_secret_{secret}"),
    (WORD, lambda secret: f"eyJhbGci.eyJz{secret}.c2ln{secret}"),
    (WORD, lambda secret: f"Authorization: Bearer {secret}"),
    (WORD, lambda secret: f"authorization: {secret}"),
    (WORD, lambda secret: f"a=ice-pwd:{secret}\r\n"),
    (WORD, lambda secret: f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{secret}|2^20|1:32\r\n"),
    (marked(URL_SAFE, 10), lambda secret: f"Bearer {secret}"),
]
NOISE = st.text(max_size=30) | st.text(" \n\"'\\/:=&?@%{}[],.key", max_size=12).filter(lambda text: "key" not in text)
HIDDEN = st.sampled_from(PLACES).flatmap(lambda place: place[0].map(place[1]))


@given(st.text(max_size=30), HIDDEN, NOISE)
@example("x", "?key=%22Zq9Zq9", "")
def test_no_secret_survives_between_noise(before: str, hidden: str, after: str) -> None:
    assert MARK in hidden
    assert MARK not in scrub(before + hidden + after)


@given(st.lists(HIDDEN, min_size=2, max_size=5))
def test_no_secret_survives_beside_others(hidden: list[str]) -> None:
    assert MARK not in scrub("\n".join(hidden))


@given(st.text() | st.text("keytoken=:\"'\\ /@%253afd{}[],.eyJ"))
def test_any_text_can_be_scrubbed(text: str) -> None:
    scrub(text)
    scrub_url(text)


@pytest.mark.timeout(8)  # linear takes a few hundredths of a second for all of them; quadratic would take minutes
@each_row(
    "unit",
    [
        *("eyJ", "eyJ.", "//", "://a", "//a@", "%3a%2f%2f", "%25", "%253a", "key", "key=", 'key"', "key' ", "key  "),
        *('key="', "key=\\", '\\"', 'key=\\"', "authorization ", "authorization,", "bearer ", "basic a", "password:"),
        *("a=crypto:", "pk_live_", "'", "\\", " ", 'key=\\\\"\\'),
    ],
)
def test_hostile_text_takes_no_longer_than_any(unit: str) -> None:
    scrub(unit * (20_000 // len(unit)))


class TestUrls:
    @each_row(
        ("url", "clean"),
        [
            ("wss://h/v1?key=a&x=1&token=b", "wss://h/v1?key=***&x=1&token=***"),
            ("wss://h/v1?t%6Fken=abc", "wss://h/v1?t%6Fken=***"),
            ("wss://u:p@h/v1?x=pk_live_a#access_token=abc", "wss://***@h/v1?x=pk_live_***#access_token=***"),
            ("wss://h/v1?key=a/b?c=d@e", "wss://h/v1?key=***"),
            ("wss://h", "wss://h"),
            ("wss://h?", "wss://h?"),
            ("http://[broken?key=a", "http://[broken?key=***"),
            ("/v1?key=a;b", "/v1?key=***"),
            ("?key", "?key"),
        ],
    )
    def test_what_is_left(self, url: str, clean: str) -> None:
        assert scrub_url(url) == clean

    @given(ANY, st.sampled_from(["key", "token", "TOKEN", "api_key"]), st.integers(0, 2))
    def test_no_parameter_survives(self, secret: str, name: str, at: int) -> None:
        spelled = name[:at] + f"%{ord(name[at]):02x}" + name[at + 1 :]
        assert MARK not in scrub_url(f"wss://h/v1?a=b&{spelled}={quote(secret, safe='')}")


class TestValues:
    def test_what_is_called_a_secret_is_masked_whatever_it_is(self) -> None:
        value = {
            "iceServers": [{"urls": "turn:h", "username": "u", "credential": "c"}],
            "Authorization": ["a", "b"],
            "apiKey": 7,
            "access-token": {"a": "b"},
            "has_token": True,
            "token": None,
            "count": 3,
        }
        assert scrub_value(value) == {
            "iceServers": [{"urls": "turn:h", "username": "u", "credential": "***"}],
            "Authorization": "***",
            "apiKey": "***",
            "access-token": "***",
            "has_token": True,
            "token": None,
            "count": 3,
        }

    def test_text_is_scrubbed_wherever_it_is(self) -> None:
        assert scrub_value(("pk_live_a", ["?key=b"], 1.5, {"pk_live_c": 1, 2: "x", None: 0})) == [
            "pk_live_***",
            ["?key=***"],
            1.5,
            {"pk_live_***": 1, 2: "x", None: 0},
        ]

    def test_other_things_are_shown_by_a_scrubbed_repr(self) -> None:
        assert scrub_value(ValueError("no pk_live_a here")) == "ValueError('no pk_live_*** here')"
        assert scrub_value({b"pk_live_a": b"x"}) == {"b'pk_live_***'": "b'x'"}
        assert scrub_value(IceServer(("turn:h",), "u", "c")) == "IceServer(urls=('turn:h',))"

    def test_depth_is_bounded(self) -> None:
        ring: list[object] = []
        ring.append(ring)
        text = repr(scrub_value(ring))
        assert text == "[" * MAX_DEPTH + "'***'" + "]" * MAX_DEPTH

    @given(
        st.recursive(
            WORD.map(lambda secret: f"pk_live_{secret}") | st.integers() | st.none(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=10,
        )
    )
    def test_no_secret_survives(self, value: object) -> None:
        assert MARK not in repr(scrub_value(value))
