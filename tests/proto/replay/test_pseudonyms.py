"""Secrets go out of a text, and what is left says the same to a machine."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_kit import KEY, SIGNING_SECRET
from table_kit import each_row

from metered_proto.facts import LinkAsked
from metered_proto.replay.pseudonyms import MAX_LEARNT, Pseudonyms, plainly_asked
from metered_proto.wire.scrub import scrub
from metered_proto.wire.tokens import TokenRejected, mint, verify

TOKEN = mint(
    key_id="sk_id_one", secret=SIGNING_SECRET, peer_id="me", now=1_767_225_600, metadata={"credential": "turnPass9"}
)


def made() -> Pseudonyms:
    return Pseudonyms(b"a key")


class TestOf:
    @each_row("secret", [KEY, SIGNING_SECRET, "aB3", "word with spaces", "p%2Fq", 'q\\"uote', "ü", TOKEN])
    def test_as_long_and_of_the_same_kind_and_always_the_same(self, secret: str) -> None:
        pseudonym = made().of(secret)
        assert pseudonym != secret
        assert len(pseudonym) == len(secret)
        assert pseudonym == made().of(secret)
        assert scrub(f"see {pseudonym} here") == scrub(f"see {secret} here") or secret not in (KEY, SIGNING_SECRET)

    def test_another_key_makes_another_one(self) -> None:
        assert Pseudonyms(b"another").of(KEY) != made().of(KEY)

    def test_prefixes_and_escapes_stay(self) -> None:
        assert made().of(KEY).startswith("pk_live_")
        assert made().of("a%2Fb")[1:4] == "%2F"
        assert made().of("a\\nb")[1:3] == "\\n"
        assert made().of("\\u00fcx").startswith("x") or made().of("\\u00fcx").startswith("\\")

    def test_a_token_is_signed_by_the_pseudonym_of_its_key(self) -> None:
        pseudonyms = made()
        pseudonyms.sign_with([("sk_id_one", SIGNING_SECRET)])
        token = pseudonyms.of(TOKEN)
        claims = verify(token, {"sk_id_one": pseudonyms.of(SIGNING_SECRET)}, 1_767_225_601)
        assert claims.peer_id == "me"
        assert claims.metadata == {"credential": pseudonyms.of("turnPass9")}
        forged = pseudonyms.of(TOKEN[:-3] + "AAA")
        with pytest.raises(TokenRejected, match="signature"):
            verify(forged, {"sk_id_one": pseudonyms.of(SIGNING_SECRET)}, 1_767_225_601)

    def test_tokens_that_are_none(self) -> None:
        for text in ("eyJ.x.y", "eyJhbGciOiJIUzI1NiJ9.bm8.", "eyJ..", "eyJ\u00fc.a.b"):
            assert len(made().of(text)) == len(text)


class TestReplace:
    @each_row(
        ("text", "secret"),
        [
            (f"see {KEY}!", KEY),
            (f'{{"key":"{SIGNING_SECRET}"}}', SIGNING_SECRET),
            (TOKEN, TOKEN),
            ('{"credential":"hunter2"}', "hunter2"),
            (r"{\"username\":\"1700:joe\",\"credential\":\"hunter2\"}", "1700:joe"),
            (r"{\"credential\":\"hunter2\",\"username\":\"1700:joe\"}", "1700:joe"),
            (r"{\\\"password\\\":\\\"hunter2\\\"}", "hunter2"),
            (r'{"credential":"hun\"ter2"}', "ter2"),
            ('"accessToken": "hunter2"', "hunter2"),
            ('"my_secret":"hunter2"', "hunter2"),
            (r"a=ice-pwd:abcDEF123456\r\na=x", "abcDEF123456"),
            (r"a=crypto:1 AES inline:abcDEF\r\n", "abcDEF"),
            ("rtsp://user:hunter2@10.0.0.1/", "hunter2"),
            ("rtsp://user:hun@ter2@10.0.0.1/", "ter2"),
            ("wss://x/v1?key=hunter2&a=b", "hunter2"),
            ("wss://x/v1?a=b&token=hunter2", "hunter2"),
            ('["authorization","Bearer sk_id_x:hunter2hunter2"]', "hunter2hunter2"),
            ('"authorization":"Basic aHVudGVyMg=="', "aHVudGVyMg=="),
        ],
    )
    def test_a_secret_where_it_stands(self, text: str, secret: str) -> None:
        pseudonyms = made()
        assert pseudonyms.suspects(text.encode())
        replaced = pseudonyms.replace(text)
        assert secret not in replaced
        assert len(replaced) == len(text)
        assert made().replace(text) == replaced

    @each_row(
        "text",
        [
            '{"at":1,"fact":{"type":"Woken"},"deadline":{"at":5,"why":"token"}}',
            '{"type":"message","data":{"temp":21.5}}',
            "wss://host/path?x=y",
            '"token":5',
            "user@host",
        ],
    )
    def test_ordinary_text_stays(self, text: str) -> None:
        assert made().replace(text) == text

    def test_what_was_learnt_goes_wherever_it_is(self) -> None:
        pseudonyms = made()
        pseudonyms.learn('odd/"token"')
        odd = pseudonyms.of('odd/"token"')
        assert pseudonyms.suspects(b"odd%2F%22token%22")
        assert pseudonyms.replace('x odd/"token" y') == f"x {odd} y"
        assert "odd" not in pseudonyms.replace("x odd%2F%22token%22 y")
        inner = msgspec.json.encode(msgspec.json.encode('odd/"token"').decode()).decode()
        assert "odd" not in pseudonyms.replace(inner)
        pseudonyms.learn("abc")
        assert pseudonyms.replace("abc") == "abc"  # too short to be told from words

    def test_no_more_than_so_many_are_remembered(self) -> None:
        pseudonyms = made()
        for number in range(3 * MAX_LEARNT):
            pseudonyms.learn(f"a secret of many, number {number}")
        assert len(pseudonyms._learnt) <= 6 * MAX_LEARNT

    def test_one_pass_is_enough(self) -> None:
        """What was put in is not replaced once more, though it looks like a secret as well."""
        pseudonyms = made()
        once = pseudonyms.replace(f'"api":"{KEY}" {KEY}')
        assert once.count(pseudonyms.of(KEY)) == 2

    @each_row(
        "text",
        [
            "\\" * 50_000,
            '\\"token\\":\\"' * 3000,
            "eyJ" * 20_000,
            "//a:" * 20_000,
            '"' * 50_000,
            "pk_live_" * 8000,
            "[?&key=" * 5000,
        ],
    )
    def test_hostile_text_takes_no_time(self, text: str) -> None:
        made().replace(text)

    @given(st.text(alphabet='abc"\\:{}@/=?&. \u00fc', max_size=60).map(lambda text: f'"token":"{text}'))
    def test_never_fails(self, text: str) -> None:
        made().replace(text)


class TestWhoAsks:
    def test_a_credential_is_encoded_no_more_than_it_must_be(self) -> None:
        fact = LinkAsked(1, "/v1?key=%70k_live_x&x=%70&token=a%2fb", "::1")
        assert plainly_asked(fact).target == "/v1?key=pk_live_x&x=%70&token=a%2Fb"
        assert plainly_asked(LinkAsked(1, "/v1", "::1")).target == "/v1"
