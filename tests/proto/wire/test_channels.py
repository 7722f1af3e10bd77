"""Names and patterns: their limits, and what matches what, held against slow and obvious references."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.wire.channels import (
    MAX_CHANNEL_BYTES,
    MAX_COVER_STEPS,
    MAX_PEER_ID,
    MAX_REQUEST_ID,
    Pattern,
    channel_problem,
    check_channel,
    check_peer_id,
    check_request_id,
    covered_by_any,
    is_pattern,
    is_reserved,
    peer_id_problem,
)


class TestChannelNames:
    @each_row(
        "name",
        [
            "a",
            "fleet/device 1/telemetry",
            "x" * 256,
            "é" * 128,
            "😀" * 64,
            "fleet/*/telemetry",
            "back\\slash",
            "\u00a0",
            "_metered/rooms",
        ],
    )
    def test_a_good_name_is_handed_back(self, name: str) -> None:
        assert check_channel(name) is name

    @each_row(
        ("name", "why"),
        [
            ("", "empty"),
            ("x" * 257, "256 bytes"),
            ("é" * 128 + "x", "256 bytes"),
            ("😀" * 65, "256 bytes"),
            ("a\x00", "control"),
            ("\x1f", "control"),
            ("a\n", "control"),
            ("\x7f", "control"),
            ("\x9f", "control"),
            ("\ud800", "surrogate"),
            ("a\udfffb", "surrogate"),
        ],
    )
    def test_a_bad_name_is_refused_at_the_call_and_at_the_server(self, name: str, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            check_channel(name)
        assert channel_problem(name) == "invalid_channel"

    @pytest.mark.parametrize("name", [None, 1, b"room", ["room"]])
    def test_what_is_no_text_is_a_type_error(self, name: Any) -> None:
        with pytest.raises(TypeError, match="must be a str"):
            check_channel(name)

    @pytest.mark.parametrize("name", ["_metered/x", "_METERED/x", "_Internal/", "_sYsTeM/a/b", "_system/*"])
    def test_reserved_in_any_case(self, name: str) -> None:
        assert is_reserved(name)
        assert channel_problem(name) == "channel_reserved"

    @pytest.mark.parametrize("name", ["_metered", "metered/x", "a_metered/x", "_meteredx/", " _system/", "*/_system/"])
    def test_not_reserved(self, name: str) -> None:
        assert not is_reserved(name)
        assert channel_problem(name) is None

    def test_a_name_is_a_pattern_when_it_holds_a_star_escaped_or_not(self) -> None:
        assert is_pattern("a*")
        assert is_pattern("a\\*")
        assert not is_pattern("a\\\\b")

    @given(st.text(max_size=300))
    @example("\x80")
    def test_both_forms_of_the_check_agree(self, name: str) -> None:
        try:
            check_channel(name)
        except ValueError:
            assert channel_problem(name) == "invalid_channel"
        else:
            assert channel_problem(name) in (None, "channel_reserved")
            assert 1 <= len(name.encode()) <= MAX_CHANNEL_BYTES


class TestPeerAndRequestIds:
    @pytest.mark.parametrize("peer_id", ["a", "~", "device 1", "x" * MAX_PEER_ID])
    def test_a_good_peer_id(self, peer_id: str) -> None:
        assert check_peer_id(peer_id) is peer_id
        assert peer_id_problem(peer_id) is None

    @each_row("peer_id", ["", "x" * (MAX_PEER_ID + 1), "é", "a\n", "\x7f", "tab\t", "\ud800"])
    def test_a_bad_peer_id(self, peer_id: str) -> None:
        with pytest.raises(ValueError, match="printable ASCII"):
            check_peer_id(peer_id)
        assert peer_id_problem(peer_id) == "invalid_peer_id"

    @pytest.mark.parametrize("request_id", ["1", "é" * MAX_REQUEST_ID])
    def test_a_good_request_id(self, request_id: str) -> None:
        assert check_request_id(request_id) is request_id

    @pytest.mark.parametrize("request_id", ["", "1" * (MAX_REQUEST_ID + 1), "\udc00"])
    def test_a_bad_request_id(self, request_id: str) -> None:
        with pytest.raises(ValueError, match="1 to 128"):
            check_request_id(request_id)

    @pytest.mark.parametrize("check", [check_peer_id, check_request_id])
    def test_what_is_no_text_is_a_type_error(self, check: Any) -> None:
        for value in (None, 7, b"id"):
            with pytest.raises(TypeError, match="must be a str"):
                check(value)


class TestMatching:
    @each_row(
        ("pattern", "yes", "no"),
        [
            ("room", ["room"], ["Room", "room ", "", "rooms"]),
            ("a\\b", ["a\\b"], ["ab"]),
            ("a\\\\b", ["a\\\\b"], ["a\\b"]),  # no star, so no pattern: both backslashes count
            ("*", ["", "a", "a b", "*"], ["/", "a/b"]),
            ("**", ["", "a", "a/b/c", "/"], []),
            ("***", ["", "a/b"], []),
            ("fleet/*/telemetry", ["fleet/7/telemetry", "fleet//telemetry"], ["fleet/7/8/telemetry", "fleet/7"]),
            ("fleet/sensor-*/t", ["fleet/sensor-/t", "fleet/sensor-12/t"], ["fleet/sensor-1/2/t", "xfleet/sensor-1/t"]),
            ("fleet/**", ["fleet/", "fleet/a/b"], ["fleet", "a/fleet/"]),
            ("**/log", ["/log", "a/b/log"], ["log", "a/logs"]),
            ("a*a", ["aa", "aba", "aaa"], ["a", "a/a"]),
            ("**a*b", ["ab", "a/axb", "a/ab"], ["a/b", "ab/"]),
            ("a\\*b", ["a*b"], ["a\\*b", "axb"]),
            ("a\\\\*", ["a\\", "a\\x"], ["a*", "a"]),
            ("a\\x*", ["a\\x", "a\\xy"], ["ax"]),
            ("*\\", ["\\", "a\\"], ["a"]),
            ("\\**", ["*", "*x"], ["x", "*/"]),
            ("*é*", ["é", "aéb"], ["e"]),
        ],
    )
    def test_what_matches(self, pattern: str, yes: list[str], no: list[str]) -> None:
        compiled = Pattern(pattern)
        assert [name for name in yes if not compiled.matches(name)] == []
        assert [name for name in no if compiled.matches(name)] == []

    @settings(max_examples=100)
    @given(st.text("ab/*\\", max_size=9), st.text("ab/*\\", max_size=9))
    def test_against_the_reference(self, pattern: str, name: str) -> None:
        assert Pattern(pattern).matches(name) == reference(pattern, name)

    @each_row("pattern", ["*a" * 128, "**a" * 85, "*a**a" * 51, "**" + "a" * 254, "a*" * 127 + "b"])
    @each_row("name", ["a" * 256, "a" * 255 + "/", "ab" * 128, "a/" * 128, "a" * 255 + "b"])
    def test_a_hostile_pattern_costs_one_step_a_character(self, pattern: str, name: str) -> None:
        compiled, lookups = counting(pattern)
        compiled.matches(name)
        assert lookups.count <= len(name)

    def test_equal_texts_are_equal_patterns(self) -> None:
        assert Pattern("a*") == Pattern("a*") != Pattern("a**")
        assert len({Pattern("a*"), Pattern("a*"), Pattern("b")}) == 2
        assert Pattern("a*") != "a*"
        assert repr(Pattern("a*")) == "Pattern('a*')"


class TestCovering:
    @each_row(
        ("outer", "inner"),
        [
            ("**", "**"),
            ("**", "*"),
            ("**", "anything/at/all"),
            ("*", "*"),
            ("*", "a*b*"),
            ("fleet/**", "fleet/*/telemetry"),
            ("fleet/*/telemetry", "fleet/sensor-*/telemetry"),
            ("fleet/*/telemetry", "fleet/*/telemetry"),
            ("room", "room"),
            ("*", "roo\\*"),
            ("**a**", "*ba*"),
            ("*a*", "*aa*"),
            ("**/**", "a/*"),
            ("*\\**", "x\\**"),
        ],
    )
    def test_covers(self, outer: str, inner: str) -> None:
        assert Pattern(outer).covers(inner)
        assert Pattern(outer).covers(Pattern(inner))

    @each_row(
        ("outer", "inner"),
        [
            ("*", "**"),
            ("*", "a/b"),
            ("*", "a/*"),
            ("fleet/*", "fleet/**"),
            ("fleet/a*", "fleet/*"),
            ("fleet/*", "fleet*"),
            ("room", "room*"),
            ("room", "roo*"),
            ("*a*", "*"),
            ("**a**", "*b*"),
            ("*/*", "*/*/*"),
            ("a*b", "a*"),
            ("a\\*", "a*"),
        ],
    )
    def test_does_not_cover(self, outer: str, inner: str) -> None:
        assert not Pattern(outer).covers(inner)

    @settings(max_examples=66)
    @given(st.text("aa**/", max_size=6), st.text("aab**/", max_size=5))
    def test_against_every_short_name(self, outer: str, inner: str) -> None:
        # "c" is a character that neither pattern names. A shortest counterexample has at most one character for
        # each pair of states; for patterns this short every one that ever occurs fits into six.
        wide, narrow = Pattern(outer), Pattern(inner)
        counterexample = next((name for name in names() if narrow.matches(name) and not wide.matches(name)), None)
        assert wide.covers(inner) == (counterexample is None), counterexample

    @given(st.text("ab/*\\", max_size=12), st.text("ab/*\\", max_size=12), st.text("ab/*\\", max_size=12))
    def test_covering_is_transitive_and_reflexive(self, a: str, b: str, c: str) -> None:
        assert Pattern(a).covers(a)
        if Pattern(a).covers(b) and Pattern(b).covers(c):
            assert Pattern(a).covers(c)

    @pytest.mark.parametrize(
        ("outer", "inner"),
        [
            ("*" + "".join(map(chr, range(0x100, 0x100 + 120))) + "*", "**" + "a*" * 100),
            ("*a" * 120, "**b" * 80),
            ("*" + "ab" * 60 + "*", "*" + "aab" * 80),
            ("**abcde*" * 30, "*edcba**" * 31),
            ("*" + "abcdefghijklmnopqrstuvwxyz" * 9, "**"),
        ],
    )
    def test_the_search_is_bounded(self, outer: str, inner: str) -> None:
        wide, lookups = counting(outer)
        wide.covers(inner)
        assert lookups.count <= MAX_COVER_STEPS

    def test_a_search_that_grows_too_large_answers_no(self) -> None:
        body = "".join(chr(0x100 + n) for n in range(110))
        wide, lookups = counting(f"*{body}*")
        assert not wide.covers(f"*x*{body}*")  # it would cover it
        assert lookups.count == MAX_COVER_STEPS

    def test_covered_by_any(self) -> None:
        allowed = [Pattern("fleet/*/telemetry"), Pattern("rooms/**")]
        assert covered_by_any("fleet/7/telemetry", allowed)
        assert covered_by_any(Pattern("rooms/*"), allowed)
        assert not covered_by_any("fleet/**", allowed)
        assert not covered_by_any("room", [])


class Counting(dict[str, int]):
    """A dictionary that counts the times somebody looks something up."""

    count = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.count += 1
        return super().get(key, default)


def counting(text: str) -> tuple[Pattern, Counting]:
    """A pattern, and its count of steps: each step looks up which states wait for the character."""
    pattern = Pattern(text)
    pattern._waits = Counting(pattern._waits)
    return pattern, pattern._waits


@cache
def names() -> list[str]:
    return ["".join(characters) for size in range(7) for characters in product("abc/", repeat=size)]


def reference(pattern: str, name: str) -> bool:
    """The definition, spelled out: try every length of every run."""
    if "*" not in pattern:
        return pattern == name

    @cache
    def rest(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(name)
        if pattern.startswith(("\\\\", "\\*"), i):
            return name[j : j + 1] == pattern[i + 1] and rest(i + 2, j + 1)
        if pattern.startswith("**", i):
            return any(rest(i + 2, k) for k in range(j, len(name) + 1))
        if pattern[i] == "*":
            return any(rest(i + 1, k) for k in range(j, len(name) + 1) if "/" not in name[j:k])
        return name[j : j + 1] == pattern[i] and rest(i + 1, j + 1)

    return rest(0, 0)
