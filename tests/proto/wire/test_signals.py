"""Signals between peers: their exact shapes, what happens to broken ones, and the memory of track metadata."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.wire.caps import CANDIDATE_CHARS, ID_CHARS, SDP_BYTES, TRACK_METADATA_ENTRIES
from metered_proto.wire.signals import (
    TRACK_META_KEY,
    Candidate,
    Malformed,
    RtcDescription,
    RtcIce,
    Signal,
    TrackMeta,
    TrackMetaCache,
    is_polite,
    looks_like_signal,
    read_signal,
    to_data,
)

HOST = "candidate:1 1 udp 2113937151 10.0.0.4 61665 typ host generation 0 ufrag aBcD network-id 1"


def ice(**fields: Any) -> dict[str, Any]:
    """An `rtc-ice` with a good candidate, but for these fields."""
    return {"type": "rtc-ice", "candidate": {"candidate": HOST, "sdpMid": "0", "sdpMLineIndex": 0} | fields}


def meta(**fields: Any) -> dict[str, Any]:
    """Track metadata that is good, but for these fields."""
    body = {"trackId": "t", "metadata": {"role": "camera"}, "streamId": "s", "kind": "video"}
    return {TRACK_META_KEY: body | fields}


class TestExactShapes:
    @each_row(
        ("data", "signal"),
        [
            (
                {"type": "rtc-description", "description": {"type": "offer", "sdp": "v=0\r\n"}},
                RtcDescription("offer", "v=0\r\n"),
            ),
            (
                {"type": "rtc-description", "description": {"type": "answer", "sdp": ""}},
                RtcDescription("answer", ""),
            ),
            (
                {"type": "rtc-ice", "candidate": {"candidate": HOST, "sdpMid": "0", "sdpMLineIndex": 0}},
                RtcIce(Candidate(HOST, "0", 0, "aBcD")),
            ),
            (
                {"type": "rtc-ice", "candidate": {"candidate": "candidate:1", "sdpMid": None, "sdpMLineIndex": 3}},
                RtcIce(Candidate("candidate:1", None, 3)),
            ),
            (
                {"type": "rtc-ice", "candidate": {"candidate": "candidate:1", "sdpMid": "a", "sdpMLineIndex": None}},
                RtcIce(Candidate("candidate:1", "a")),
            ),
            ({"type": "rtc-ice", "candidate": None}, RtcIce(None)),
            (
                {TRACK_META_KEY: {"trackId": "t", "metadata": {"a": 1}, "streamId": "s", "kind": "audio"}},
                TrackMeta("t", {"a": 1}, "s", "audio"),
            ),
            ({TRACK_META_KEY: {"trackId": "t", "metadata": {}}}, TrackMeta("t", {})),
            ({TRACK_META_KEY: {"trackId": "t"}}, TrackMeta("t")),
        ],
    )
    def test_read_and_written_back(self, data: dict[str, Any], signal: Signal) -> None:
        assert read_signal(data) == signal
        assert to_data(signal) == data
        assert looks_like_signal(data)

    def test_the_repr_of_a_description_holds_no_sdp(self) -> None:
        assert repr(RtcDescription("offer", "a=ice-pwd:secret")) == "RtcDescription(type='offer', sdp=<16 characters>)"
        assert "secret" not in repr([RtcDescription("answer", "a=ice-pwd:secret")])


class TestLenience:
    @pytest.mark.parametrize("text", ["", " ", "\r\n"])
    def test_an_empty_candidate_is_the_end_of_candidates(self, text: str) -> None:
        assert read_signal(ice(candidate=text)) == RtcIce(None)
        assert read_signal({"type": "rtc-ice", "candidate": {"candidate": text}}) == RtcIce(None)

    def test_a_line_end_after_a_candidate_is_taken_off(self) -> None:
        assert read_signal(ice(candidate=HOST + "\r\n")) == read_signal(ice())

    def test_fields_that_are_not_known_are_ignored(self) -> None:
        assert read_signal(ice(relayProtocol="udp") | {"v": 2}) == read_signal(ice())
        assert read_signal(meta(codec="vp8") | {"v": 2}) == read_signal(meta())
        description = {"type": "rtc-description", "description": {"type": "offer", "sdp": "v=0", "toJSON": {}}, "v": 2}
        assert read_signal(description) == RtcDescription("offer", "v=0")

    @each_row(
        ("fields", "ufrag"),
        [
            ({"usernameFragment": "beside"}, "beside"),
            ({"usernameFragment": None}, "aBcD"),
            ({"usernameFragment": ""}, "aBcD"),
            ({"usernameFragment": 7}, "aBcD"),
            ({"usernameFragment": "x" * 257}, "aBcD"),
            ({"usernameFragment": "x" * 256}, "x" * 256),
            ({"candidate": "candidate:1 1 udp 1 10.0.0.4 9 typ host"}, None),
            ({"candidate": "candidate:1 1 udp 1 10.0.0.4 9 typ host ufrag"}, None),
            ({"candidate": "candidate:1 1 udp 1 10.0.0.4 9 typ ufrag raddr x"}, None),
            ({"candidate": f"candidate:1 1 udp 1 10.0.0.4 9 typ host ufrag {'x' * 257}"}, None),
            ({"candidate": "ufrag aBcD"}, None),
        ],
    )
    def test_the_generation_of_a_candidate(self, fields: dict[str, Any], ufrag: str | None) -> None:
        signal = read_signal(ice(**fields))
        assert isinstance(signal, RtcIce)
        assert signal.candidate is not None
        assert signal.candidate.ufrag == ufrag

    def test_track_metadata_that_says_null_says_nothing(self) -> None:
        assert read_signal(meta(metadata=None, streamId=None, kind=None)) == TrackMeta("t")

    def test_a_dash_is_no_stream(self) -> None:
        assert read_signal(meta(streamId="-")) == TrackMeta("t", {"role": "camera"}, None, "video")


class TestBounds:
    @pytest.mark.parametrize(
        ("largest", "too_large"),
        [
            (ice(candidate="x" * CANDIDATE_CHARS), ice(candidate="x" * (CANDIDATE_CHARS + 1))),
            (ice(sdpMid="x" * ID_CHARS), ice(sdpMid="x" * (ID_CHARS + 1))),
            (ice(sdpMLineIndex=65535), ice(sdpMLineIndex=65536)),
            (meta(trackId="x" * ID_CHARS), meta(trackId="x" * (ID_CHARS + 1))),
            (meta(streamId="x" * ID_CHARS), meta(streamId="x" * (ID_CHARS + 1))),
        ],
    )
    def test_the_largest_that_passes(self, largest: object, too_large: object) -> None:
        assert isinstance(read_signal(largest), RtcIce | TrackMeta)
        assert isinstance(read_signal(too_large), Malformed)

    @pytest.mark.parametrize(("character", "count"), [("x", SDP_BYTES), ("é", SDP_BYTES // 2)])
    def test_the_longest_sdp_is_counted_in_bytes(self, character: str, count: int) -> None:
        def description(sdp: str) -> object:
            return {"type": "rtc-description", "description": {"type": "offer", "sdp": sdp}}

        assert isinstance(read_signal(description(character * count)), RtcDescription)
        assert read_signal(description(character * (count + 1))) == Malformed("description.sdp is too long")


BROKEN: list[object] = [
    {"type": "rtc-description"},
    {"type": "rtc-description", "description": None},
    {"type": "rtc-description", "description": "v=0"},
    {"type": "rtc-description", "description": []},
    {"type": "rtc-description", "description": {}},
    {"type": "rtc-description", "description": {"type": "offer"}},
    {"type": "rtc-description", "description": {"sdp": "v=0"}},
    {"type": "rtc-description", "description": {"type": "pranswer", "sdp": "v=0"}},
    {"type": "rtc-description", "description": {"type": "rollback", "sdp": ""}},
    {"type": "rtc-description", "description": {"type": ["offer"], "sdp": "v=0"}},
    {"type": "rtc-description", "description": {"type": "offer", "sdp": 1}},
    {"type": "rtc-ice"},
    {"type": "rtc-ice", "candidate": HOST},
    {"type": "rtc-ice", "candidate": [HOST]},
    {"type": "rtc-ice", "candidate": False},
    {"type": "rtc-ice", "candidate": {}},
    {"type": "rtc-ice", "candidate": {"candidate": HOST}},
    ice(candidate=None),
    ice(candidate=7),
    ice(candidate=HOST + "\r\na=ice-ufrag:mine\r\na=x"),
    ice(candidate="x\x00y"),
    ice(sdpMid=0),
    ice(sdpMid=["0"]),
    ice(sdpMLineIndex=True),
    ice(sdpMLineIndex=False),
    ice(sdpMLineIndex=-1),
    ice(sdpMLineIndex=0.0),
    ice(sdpMLineIndex="0"),
    ice(sdpMLineIndex=10**30),
    ice(sdpMid=None, sdpMLineIndex=None),
    {TRACK_META_KEY: None},
    {TRACK_META_KEY: "t"},
    {TRACK_META_KEY: []},
    {TRACK_META_KEY: {}},
    {TRACK_META_KEY: {"metadata": {}}},
    meta(trackId=""),
    meta(trackId=1),
    meta(trackId=None),
    meta(streamId=""),
    meta(streamId={}),
    meta(kind="application"),
    meta(kind=1),
    meta(kind=["audio"]),
    meta(metadata=[]),
    meta(metadata="camera"),
    meta(metadata=0),
    meta(metadata=False),
]


class TestBroken:
    @each_row("data", BROKEN, ids=lambda data: msgspec.json.encode(data).decode()[:60])
    def test_it_is_dropped_and_is_not_data(self, data: object) -> None:
        assert isinstance(read_signal(data), Malformed)
        assert looks_like_signal(data)

    def test_the_reason_quotes_nothing_of_it(self) -> None:
        for data in BROKEN:
            result = read_signal(data)
            assert isinstance(result, Malformed)
            assert result.reason
            assert "pranswer" not in result.reason
            assert "mine" not in result.reason


class TestApplicationData:
    @each_row(
        "data",
        [
            None,
            True,
            7,
            "rtc-ice",
            ["rtc-ice"],
            [{"type": "rtc-ice"}],
            {},
            {"type": None},
            {"type": "rtc-stats"},
            {"type": "RTC-ICE"},
            {"type": ["rtc-ice"]},
            {"type": {"rtc-ice": 1}},
            {"candidate": None},
            {"data": {TRACK_META_KEY: {}}},
            {TRACK_META_KEY.lower(): {"trackId": "t"}},
        ],
    )
    def test_what_is_no_signal_is_left_alone(self, data: object) -> None:
        assert read_signal(data) is None
        assert not looks_like_signal(data)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
SHORT = st.text(min_size=1, max_size=ID_CHARS)
SIGNALS: st.SearchStrategy[Signal] = st.one_of(
    st.builds(RtcDescription, st.sampled_from(["offer", "answer"]), st.text()),
    st.just(RtcIce(None)),
    st.builds(
        RtcIce, st.builds(Candidate, st.just("candidate:1 1 udp 1 10.0.0.4 9 typ host"), SHORT, st.integers(0, 9))
    ),
    st.builds(
        TrackMeta,
        SHORT,
        st.none() | st.dictionaries(st.text(), JSON, max_size=3),
        st.none() | SHORT.filter(lambda id: id != "-"),
        st.sampled_from([None, "audio", "video"]),
    ),
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["rtc-description", "rtc-ice", "rtc-"]) | JSON,
        "description": st.fixed_dictionaries({}, optional={"type": st.just("offer") | JSON, "sdp": JSON}) | JSON,
        "candidate": st.fixed_dictionaries({}, optional=dict.fromkeys(("candidate", "sdpMid", "sdpMLineIndex"), JSON)),
        TRACK_META_KEY: st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("trackId", "metadata", "streamId", "kind"), JSON)
        ),
    },
)


class TestAnything:
    @given(SIGNALS)
    def test_a_signal_comes_through(self, signal: Signal) -> None:
        assert read_signal(to_data(signal)) == signal

    @given(st.one_of(NEARLY, JSON))
    def test_nothing_raises_and_only_signals_are_taken(self, data: object) -> None:
        assert (read_signal(data) is not None) is looks_like_signal(data)


class TestPoliteness:
    @each_row(
        ("own", "other", "polite"),
        [
            ("a", "b", True),
            ("b", "a", False),
            ("B", "a", True),
            ("a", "a", False),
            ("a", "aa", True),
            ("10", "9", True),
            ("", "a", True),
            # A character above U+FFFF is two code units from U+D800 on, and sorts before U+E000.
            ("\U0001f600", "\uff5e", True),
            ("\uff5e", "\U0001f600", False),
        ],
    )
    def test_the_lower_id_is_polite(self, own: str, other: str, polite: bool) -> None:
        assert is_polite(own, other) is polite

    @given(st.text(st.characters()), st.text(st.characters()))
    def test_both_ends_agree(self, one: str, two: str) -> None:
        assert (is_polite(one, two) != is_polite(two, one)) is (one != two)


CAP = 65536


def told(*metas: TrackMeta) -> TrackMetaCache:
    """A cache that has taken these in."""
    cache = TrackMetaCache()
    for meta in metas:
        assert cache.apply(meta, CAP)
    return cache


def camera(
    track: str, stream: str | None = "s", kind: Literal["audio", "video"] | None = "video", **bag: Any
) -> TrackMeta:
    return TrackMeta(track, bag or {"track": track}, stream, kind)


class TestTrackMetaCache:
    def test_the_signalled_id_goes_before_the_tracks_own(self) -> None:
        cache = told(camera("signalled"), camera("own"))
        assert cache.lookup("signalled", "own", "s", "video") == {"track": "signalled"}
        assert cache.lookup("unknown", "own", "s", "video") == {"track": "own"}
        assert cache.lookup(None, "own", None, "video") == {"track": "own"}

    def test_an_id_needs_neither_stream_nor_kind(self) -> None:
        assert told(camera("t", stream=None, kind=None)).lookup("t", None, "s", "audio") == {"track": "t"}

    def test_stream_and_kind_find_the_one_that_fits(self) -> None:
        cache = told(camera("v"), camera("a", kind="audio"), camera("w", stream="other"))
        assert cache.lookup("minted", "minted", "s", "video") == {"track": "v"}
        assert cache.lookup("minted", "minted", "s", "audio") == {"track": "a"}
        assert cache.lookup(None, None, "other", "video") == {"track": "w"}
        assert cache.lookup(None, None, "other", "audio") is None
        assert cache.lookup(None, None, "third", "video") is None

    def test_two_that_fit_are_no_answer(self) -> None:
        cache = told(camera("v"), camera("w"))
        assert cache.lookup("minted", None, "s", "video") is None

    def test_an_entry_of_a_track_that_is_signalled_fits_no_other(self) -> None:
        cache = told(camera("v"), camera("w"))
        assert cache.lookup("minted", None, "s", "video", signalled={"v", "minted"}) == {"track": "w"}
        assert cache.lookup("minted", None, "s", "video", signalled={"v", "w", "minted"}) is None

    def test_without_a_stream_only_ids_count(self) -> None:
        cache = told(camera("v", stream=None))
        assert cache.lookup("minted", "minted", None, "video") is None

    def test_an_entry_that_says_no_kind_fits_none(self) -> None:
        assert told(camera("v", kind=None)).lookup(None, None, "s", "video") is None

    def test_new_words_replace_the_old(self) -> None:
        cache = told(camera("t", label="old"), camera("t", stream="s2", label="new"))
        assert len(cache) == 1
        assert cache.lookup("t", None, None, "video") == {"label": "new"}
        assert cache.lookup(None, None, "s", "video") is None

    def test_without_metadata_the_entry_goes(self) -> None:
        cache = told(camera("t"), camera("u"), TrackMeta("t"), TrackMeta("never told"))
        assert len(cache) == 1
        assert cache.lookup("t", None, None, "video") is None

    def test_empty_metadata_is_metadata(self) -> None:
        assert told(TrackMeta("t", {})).lookup("t", None, None, "video") == {}

    def test_the_oldest_goes_first(self) -> None:
        cache = told(*(camera(f"t{n}") for n in range(TRACK_METADATA_ENTRIES)))
        assert cache.apply(camera("t0", label="renewed"), CAP), "a known track takes no new place"
        assert len(cache) == TRACK_METADATA_ENTRIES
        assert cache.apply(camera("one more"), CAP)
        assert len(cache) == TRACK_METADATA_ENTRIES
        assert cache.lookup("t0", None, None, "video") is None
        assert cache.lookup("t1", None, None, "video") == {"track": "t1"}
        assert cache.lookup("one more", None, None, "video") == {"track": "one more"}

    def test_a_place_that_was_cleared_is_free_again(self) -> None:
        cache = TrackMetaCache(limit=2)
        for meta in (camera("a"), camera("b"), TrackMeta("b"), camera("c")):
            assert cache.apply(meta, CAP)
        assert cache.lookup("a", None, None, "video") == {"track": "a"}

    def test_metadata_over_the_cap_is_dropped_and_changes_nothing(self) -> None:
        cache = told(camera("t"))
        bag = {"x": "é" * 10}
        size = len('{"x":""}') + 20
        assert cache.apply(TrackMeta("t", bag), size)
        assert not cache.apply(TrackMeta("t", {"x": "é" * 11}), size)
        assert cache.lookup("t", None, None, "video") == bag

    @pytest.mark.parametrize("bag", [[], "text", 7, {"deep": object()}, {"bad": "\ud800"}])
    def test_metadata_that_is_no_json_object_is_dropped(self, bag: Any) -> None:
        cache = TrackMetaCache()
        assert not cache.apply(TrackMeta("t", bag), CAP)
        assert len(cache) == 0

    def test_metadata_too_deep_to_be_written_is_dropped(self) -> None:
        bag: dict[str, Any] = {}
        for _ in range(100_000):
            bag = {"": bag}
        cache = TrackMetaCache()
        assert not cache.apply(TrackMeta("t", bag), 10**9)
        while bag:  # taken apart by hand, so that dropping it needs no deep stack
            bag = bag[""]

    def test_forgetting_everything(self) -> None:
        cache = told(camera("t"))
        cache.clear()
        assert len(cache) == 0
        assert cache.lookup("t", None, None, "video") is None

    def test_room_for_nothing_is_no_cache(self) -> None:
        with pytest.raises(ValueError, match="limit"):
            TrackMetaCache(limit=0)

    @given(
        st.integers(1, 4),
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.none() | st.dictionaries(st.just("k"), st.integers())), max_size=30
        ),
    )
    def test_it_remembers_what_a_plain_list_does(
        self, limit: int, words: list[tuple[str, dict[str, Any] | None]]
    ) -> None:
        cache = TrackMetaCache(limit)
        model: list[tuple[str, dict[str, Any]]] = []
        for track, bag in words:
            cache.apply(TrackMeta(track, bag), CAP)
            known = [index for index, (name, _) in enumerate(model) if name == track]
            if bag is None:
                model = [entry for entry in model if entry[0] != track]
            elif known:
                model[known[0]] = (track, bag)
            else:
                model = [*model, (track, bag)][-limit:]
            assert len(cache) == len(model)
            assert all(cache.lookup(name, None, None, "video") == dict(model).get(name) for name in "abcdef")


def test_the_reserved_key_is_the_protocols() -> None:
    assert list(to_data(TrackMeta("t", {"role": "camera"}))) == ["__meteredTrackMeta"]
