"""Facts from session descriptions: the dialects that meet in a room, and text that is no description at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.wire.caps import ID_CHARS, MEDIA_SECTIONS, SDP_BYTES
from metered_proto.wire.sdp import (
    Codec,
    MediaSection,
    Msid,
    SdpFacts,
    read_sdp,
    same_ice_generation,
    track_for_mid,
    track_ids,
    ufrags,
)

PASSWORD = "pwdpwdpwdpwdpwdpwdpwdpwd"

# Camera and microphone in one stream, a screen in a second one that `a=msid-semantic` does not list.
CHROMIUM = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2 3
a=extmap-allow-mixed
a=msid-semantic: WMS desk
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:cHr0
a=ice-pwd:{PASSWORD}
a=ice-options:trickle
a=fingerprint:sha-256 0A:1B:2C:3D
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=sendrecv
a=msid:desk mic-1
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=rtpmap:0 PCMU/8000
a=ssrc:1001 cname:desk-cname
a=ssrc:1001 msid:desk mic-1
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102
c=IN IP4 0.0.0.0
a=ice-ufrag:cHr0
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 0A:1B:2C:3D
a=setup:actpass
a=mid:1
a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
a=sendonly
a=msid:desk cam-1
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=ssrc-group:FID 2001 2002
a=ssrc:2001 msid:desk cam-1
a=ssrc:2002 msid:desk cam-1
m=video 9 UDP/TLS/RTP/SAVPF 96
a=ice-ufrag:cHr0
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 0A:1B:2C:3D
a=setup:actpass
a=mid:2
a=sendonly
a=msid:share screen-1
a=rtpmap:96 VP8/90000
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=ice-ufrag:cHr0
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 0A:1B:2C:3D
a=setup:actpass
a=mid:3
a=sctp-port:5000
a=max-message-size:262144
"""

# Session-level fingerprint and options, direction and bundle-only sections, track ids in braces.
FIREFOX = f"""v=0
o=mozilla...THIS_IS_SDPARTA-99.0 8411 0 IN IP4 0.0.0.0
s=-
t=0 0
a=fingerprint:sha-256 99:88:77:66
a=group:BUNDLE 0 1
a=ice-options:trickle
a=msid-semantic:WMS *
m=audio 9 UDP/TLS/RTP/SAVPF 109 9
c=IN IP4 0.0.0.0
a=sendrecv
a=extmap:1/sendonly urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level
a=ice-pwd:{PASSWORD}
a=ice-ufrag:f1re0
a=mid:0
a=msid:{{stream}} {{minted-audio}}
a=rtpmap:109 opus/48000/2
a=rtpmap:9 G722/8000/1
a=setup:actpass
m=video 0 UDP/TLS/RTP/SAVPF 120
c=IN IP4 0.0.0.0
a=bundle-only
a=recvonly
a=ice-pwd:{PASSWORD}
a=ice-ufrag:f1re1
a=mid:1
a=rtpmap:120 VP8/90000
a=setup:actpass
"""

# An answer: one section taken without a stream, one refused.
SAFARI = f"""v=0
o=- 77 3 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE audio-0
a=msid-semantic: WMS
m=audio 61665 UDP/TLS/RTP/SAVPF 111
c=IN IP4 192.0.2.7
a=candidate:842163049 1 udp 1677729535 192.0.2.7 61665 typ srflx raddr 10.0.0.4 rport 61665 generation 0
a=candidate:1 1 udp 2113937151 10.0.0.4 61665 typ host generation 0
a=ice-ufrag:sAfA
a=ice-pwd:{PASSWORD}
a=ice-options:trickle renomination
a=fingerprint:sha-256 12:34
a=setup:active
a=mid:audio-0
a=msid:- 0b7c
a=rtpmap:111 opus/48000/2
m=video 0 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=inactive
a=mid:video-1
a=ice-ufrag:dead
a=rtpmap:96 VP8/90000
"""

# Everything gathered first; candidates and their end in the text.
AIORTC = f"""v=0
o=- 3914000000 3914000000 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0 1
a=msid-semantic:WMS *
m=video 50001 UDP/TLS/RTP/SAVPF 97 98
c=IN IP4 10.1.2.3
a=sendonly
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
a=mid:0
a=msid:6c1d 9e2f
a=rtcp:9 IN IP4 0.0.0.0
a=rtcp-mux
a=ssrc:3735928559 cname:7d1f
a=rtpmap:97 VP8/90000
a=rtpmap:98 rtx/90000
a=candidate:f00d 1 udp 2130706431 10.1.2.3 50001 typ host
a=candidate:beef 1 udp 1694498815 198.51.100.9 50001 typ srflx raddr 10.1.2.3 rport 50001
a=end-of-candidates
a=ice-ufrag:aiOR
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 AB:CD
a=fingerprint:sha-512 AB:CD:EF
a=setup:actpass
m=application 50001 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 10.1.2.3
a=mid:1
a=sctp-port:5000
a=end-of-candidates
a=ice-ufrag:aiOR
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 AB:CD
a=setup:actpass
"""

DIALECTS = {"chromium": CHROMIUM, "firefox": FIREFOX, "safari": SAFARI, "aiortc": AIORTC}


def section(*lines: str, head: str = "audio 9 UDP/TLS/RTP/SAVPF 111") -> MediaSection:
    """The one section of a description that has only these attributes."""
    return read_sdp("\n".join(["v=0", f"m={head}", *(f"a={line}" for line in lines)])).media[0]


def session(*lines: str) -> SdpFacts:
    """A description with these attributes ahead of its only section."""
    return read_sdp("\r\n".join(["v=0", *(f"a={line}" for line in lines), "m=audio 9 X 0", "a=mid:0", ""]))


class TestDialects:
    def test_chromium_offer(self) -> None:
        facts = read_sdp(CHROMIUM)
        assert [s.kind for s in facts.media] == ["audio", "video", "video", "application"]
        assert [s.index for s in facts.media] == [0, 1, 2, 3]
        assert [s.mid for s in facts.media] == ["0", "1", "2", "3"]
        assert [s.direction for s in facts.media] == ["sendrecv", "sendonly", "sendonly", "sendrecv"]
        assert facts.bundles == (("0", "1", "2", "3"),)
        assert facts.trickle
        assert not facts.truncated
        assert ufrags(facts) == ("cHr0",)
        audio, video, screen, application = facts.media
        assert audio.codecs == {111: Codec("opus", 48000, 2), 63: Codec("red", 48000, 2), 0: Codec("PCMU", 8000)}
        assert list(video.codecs) == [96, 97, 102]
        assert audio.extensions[1] == "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
        assert video.extensions == {14: "urn:ietf:params:rtp-hdrext:toffset"}
        assert application.codecs == {}
        assert all(s.setup == "actpass" and s.has_fingerprint and not s.rejected for s in facts.media)
        assert screen.msids == (Msid("share", "screen-1"),)

    def test_a_second_stream_is_found_though_the_session_does_not_list_it(self) -> None:
        facts = read_sdp(CHROMIUM)
        assert track_for_mid(facts, "1") == ("desk", "cam-1")
        assert track_for_mid(facts, "2") == ("share", "screen-1")
        assert track_for_mid(facts, "3") is None
        assert track_for_mid(facts, "9") is None
        assert track_ids(facts) == {"mic-1", "cam-1", "screen-1"}

    def test_firefox_offer(self) -> None:
        facts = read_sdp(FIREFOX)
        audio, video = facts.media
        assert facts.trickle
        assert audio.has_fingerprint
        assert video.has_fingerprint
        assert audio.extensions == {
            1: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            2: "urn:ietf:params:rtp-hdrext:csrc-audio-level",
        }
        assert audio.codecs[9] == Codec("G722", 8000, 1)
        assert track_for_mid(facts, "0") == ("{stream}", "{minted-audio}")
        assert video.bundle_only
        assert not video.rejected
        assert video.direction == "recvonly"
        assert video.msids == ()
        assert ufrags(facts) == ("f1re0", "f1re1")

    def test_safari_answer(self) -> None:
        facts = read_sdp(SAFARI)
        audio, video = facts.media
        assert facts.bundles == (("audio-0",),)
        assert (audio.candidates, audio.end_of_candidates) == (2, False)
        assert audio.setup == "active"
        assert audio.msids == ((None, "0b7c"),)
        assert video.rejected
        assert video.direction == "inactive"
        assert video.setup is None
        assert not video.has_fingerprint
        assert ufrags(facts) == ("sAfA",), "a rejected section has no transport"

    def test_aiortc_offer(self) -> None:
        facts = read_sdp(AIORTC)
        video, application = facts.media
        assert not facts.trickle
        assert (video.candidates, video.end_of_candidates) == (2, True)
        assert (application.candidates, application.end_of_candidates) == (0, True)
        assert track_for_mid(facts, "0") == ("6c1d", "9e2f")

    @pytest.mark.parametrize("name", DIALECTS)
    def test_crlf_and_lf_are_the_same(self, name: str) -> None:
        text = DIALECTS[name]
        assert read_sdp(text.replace("\n", "\r\n")) == read_sdp(text)

    @pytest.mark.parametrize("name", DIALECTS)
    def test_the_password_is_not_kept(self, name: str) -> None:
        assert PASSWORD in DIALECTS[name]
        assert PASSWORD not in repr(read_sdp(DIALECTS[name]))


class TestSection:
    def test_nothing_said(self) -> None:
        assert section() == MediaSection(index=0, kind="audio")

    @each_row(
        ("head", "kind", "rejected"),
        [
            ("audio 9 UDP/TLS/RTP/SAVPF 0", "audio", False),
            ("audio 0 UDP/TLS/RTP/SAVPF 0", "audio", True),
            ("audio 9/2 RTP/AVP 0", "audio", False),
            ("audio 65535 RTP/AVP 0", "audio", False),
            ("audio 65536 RTP/AVP 0", "audio", True),
            ("audio -1 RTP/AVP 0", "audio", True),
            ("audio ² RTP/AVP 0", "audio", True),
            ("audio " + "9" * 5000, "audio", True),
            ("haptics 9 X y", "haptics", False),
            ("", "", True),
            ("x" * 1000, "x" * 64, True),
        ],
    )
    def test_the_m_line(self, head: str, kind: str, rejected: bool) -> None:
        found = section(head=head)
        assert (found.kind, found.rejected) == (kind, rejected)

    @pytest.mark.parametrize("direction", ["sendrecv", "sendonly", "recvonly", "inactive"])
    def test_direction(self, direction: str) -> None:
        assert section(direction).direction == direction
        assert session(direction).media[0].direction == direction

    def test_the_sections_own_word_goes_before_the_sessions(self) -> None:
        facts = read_sdp(
            "a=inactive\na=ice-ufrag:sess\na=setup:passive\na=extmap:1 urn:one\na=extmap:2 urn:two\n"
            "m=audio 9 X 0\na=sendonly\na=ice-ufrag:sect\na=setup:active\na=extmap:2 urn:own\n"
            "m=video 9 X 0\n"
        )
        own, inherited = facts.media
        assert (own.direction, own.ice_ufrag, own.setup) == ("sendonly", "sect", "active")
        assert own.extensions == {1: "urn:one", 2: "urn:own"}
        assert (inherited.direction, inherited.ice_ufrag, inherited.setup) == ("inactive", "sess", "passive")
        assert inherited.extensions == {1: "urn:one", 2: "urn:two"}

    def test_the_end_of_candidates_may_be_the_sessions(self) -> None:
        assert session("end-of-candidates").media[0].end_of_candidates

    @pytest.mark.parametrize("setup", ["active", "passive", "actpass", "holdconn"])
    def test_setup(self, setup: str) -> None:
        assert section(f"setup:{setup}").setup == setup

    def test_an_unknown_setup_reads_as_absent(self) -> None:
        assert section("setup:whatever").setup is None

    def test_the_first_of_a_repeated_attribute_counts(self) -> None:
        found = section(
            "mid:a", "mid:b", "ice-ufrag:one1", "ice-ufrag:two2", "setup:active", "setup:passive", "sendonly",
            "inactive",
            "rtpmap:111 opus/48000/2", "rtpmap:111 PCMU/8000", "extmap:1 urn:one", "extmap:1 urn:two",
        )  # fmt: skip
        assert (found.mid, found.ice_ufrag, found.setup, found.direction) == ("a", "one1", "active", "sendonly")
        assert found.codecs == {111: Codec("opus", 48000, 2)}
        assert found.extensions == {1: "urn:one"}

    @each_row("name", ["mid", "ice-ufrag"])
    @each_row(
        ("value", "kept"),
        [
            ("x" * ID_CHARS, True),
            ("x" * (ID_CHARS + 1), False),
            ("", False),
            ("   ", False),
            ("two words", False),
            (" padded ", True),
        ],
    )
    def test_names_are_single_words_of_bounded_length(self, name: str, value: str, kept: bool) -> None:
        found = section(f"{name}:{value}")
        assert (found.mid or found.ice_ufrag) == (value.strip() if kept else None)

    @each_row(
        ("lines", "msids"),
        [
            (["msid:s t"], [("s", "t")]),
            (["msid:- t"], [(None, "t")]),
            (["msid:s"], [("s", None)]),
            (["msid:-"], [(None, None)]),
            (["msid:s t", "msid:u t"], [("s", "t"), ("u", "t")]),
            (["msid:s t", "msid:s t"], [("s", "t")]),
            (["msid:s t and more"], [("s", "t")]),
            (["msid:"], []),
            (["msid"], []),
            ([f"msid:{'s' * 256} {'t' * 256}"], [("s" * 256, "t" * 256)]),
            ([f"msid:{'s' * 257} t"], []),
            ([f"msid:s {'t' * 257}"], []),
            ([f"msid:s {'t' * 257}", "msid:s t"], [("s", "t")]),
            (["ssrc:1 msid:s t", "ssrc:2 msid:s t", "ssrc:2 cname:c"], [("s", "t")]),
            (["ssrc:1 msid:s t", "ssrc:2 msid:s u"], [("s", "t"), ("s", "u")]),
            (["ssrc:1 msid:old old", "msid:s t"], [("s", "t")]),
            (["ssrc:1", "ssrc", "ssrc:1 msid"], []),
        ],
    )
    def test_msids(self, lines: list[str], msids: list[tuple[str | None, str | None]]) -> None:
        assert section(*lines).msids == tuple(msids)

    def test_a_track_is_in_so_many_streams_and_no_more(self) -> None:
        assert len(section(*(f"msid:s{n} t" for n in range(1000))).msids) == 64

    @each_row(
        "line",
        [
            "rtpmap:111",
            "rtpmap:111 opus",
            "rtpmap:111 opus/fast",
            "rtpmap:111 /48000",
            "rtpmap:128 opus/48000",
            "rtpmap:-1 opus/48000",
            "rtpmap:x opus/48000",
            "rtpmap:111 opus/99999999999",
            "rtpmap:111 opus/9999999999",
            f"rtpmap:111 {'x' * 65}/48000",
            "rtpmap:112 opus/48000",
        ],
    )
    def test_a_codec_that_makes_no_sense_or_is_not_on_offer(self, line: str) -> None:
        assert section(line).codecs == {}

    def test_channels_that_make_no_sense_are_one(self) -> None:
        assert section("rtpmap:111 opus/48000/many").codecs == {111: Codec("opus", 48000, 1)}

    def test_codecs_come_in_the_order_of_the_m_line(self) -> None:
        found = section("rtpmap:96 VP8/90000", "rtpmap:97 H264/90000", head="video 9 UDP/TLS/RTP/SAVPF 97 x 200 96 96")
        assert list(found.codecs.items()) == [(97, Codec("H264", 90000)), (96, Codec("VP8", 90000))]

    @pytest.mark.parametrize("line", ["extmap:0 urn:a", "extmap:256 urn:a", "extmap:x urn:a", "extmap:1", "extmap:1 "])
    def test_an_extension_that_makes_no_sense(self, line: str) -> None:
        assert section(line).extensions == {}

    def test_an_extension_with_attributes_or_an_endless_uri(self) -> None:
        assert section("extmap:1 urn:a with attributes").extensions == {1: "urn:a"}
        assert section(f"extmap:1 urn:{'x' * 300}").extensions == {}


class TestSession:
    def test_bundles(self) -> None:
        facts = session("group:BUNDLE 0 1", "group:LS 0 1", "group:BUNDLE 2", "group:BUNDLE", "group:", "group")
        assert facts.bundles == (("0", "1"), ("2",), ())

    def test_bundles_are_bounded(self) -> None:
        facts = session(*["group:BUNDLE " + "m " * 1000] * 1000)
        assert len(facts.bundles) == MEDIA_SECTIONS
        assert all(len(mids) == MEDIA_SECTIONS for mids in facts.bundles)
        assert session(f"group:BUNDLE a {'x' * 257} b").bundles == (("a", "b"),)

    def test_a_group_inside_a_section_is_none(self) -> None:
        assert read_sdp("m=audio 9 X 0\na=group:BUNDLE 0").bundles == ()

    @pytest.mark.parametrize(
        ("options", "trickle"),
        [("trickle", True), ("ice2 trickle", True), ("ice2", False), ("trickled", False), ("", False)],
    )
    def test_trickle(self, options: str, trickle: bool) -> None:
        assert session(f"ice-options:{options}").trickle is trickle
        assert read_sdp(f"m=audio 9 X 0\na=ice-options:{options}").trickle is trickle

    def test_sections_over_the_cap_are_left_out(self) -> None:
        whole = read_sdp("m=audio 9 X 0\n" * MEDIA_SECTIONS)
        assert len(whole.media) == MEDIA_SECTIONS
        assert not whole.truncated
        cut = read_sdp("m=audio 9 X 0\n" * (MEDIA_SECTIONS + 1) + "a=mid:late")
        assert len(cut.media) == MEDIA_SECTIONS
        assert cut.media[-1].mid is None
        assert cut.truncated

    def test_text_over_the_cap_is_left_out(self) -> None:
        facts = read_sdp("v=0\n" + " " * SDP_BYTES + "\nm=audio 9 X 0")
        assert facts == SdpFacts(truncated=True)

    @each_row("text", ["", "\n", "\r\n\r\n", "a", "a=", "a=:", "v=0", "hello", "\x00", "\ud800", "A=mid:0"])
    def test_text_without_a_section(self, text: str) -> None:
        assert read_sdp(text) == SdpFacts()

    def test_only_line_feeds_end_a_line(self) -> None:
        for separator in "\r\x0b\x0c\x1c\x85\u2028":
            assert read_sdp(f"m=audio 9 X 0\na=foo:{separator}a=mid:0").media[0].mid is None


def description(*fragments: str | None, port: int = 9) -> SdpFacts:
    """A description whose sections have these user name fragments."""
    return read_sdp("".join(f"m=audio {port} X 0\n" + (f"a=ice-ufrag:{f}\n" if f else "") for f in fragments))


class TestGeneration:
    @each_row(
        ("before", "after", "same"),
        [
            (description("one1"), description("one1"), True),
            (description("one1"), description("two2"), False),
            (description("one1", "one1"), description("two2", "two2"), False),
            # A section more, on the same transport or on one of its own.
            (description("one1"), description("one1", "one1"), True),
            (description("one1"), description("one1", "new1"), True),
            # Bundled after the first answer: the second section takes over the fragment of the first.
            (description("one1", "two2"), description("one1", "one1"), True),
            # No fragment at all says nothing.
            (description("one1"), description(None), True),
            (description(None), description("one1"), True),
            (description("one1"), description("two2", port=0), True),
        ],
    )
    def test_same_generation(self, before: SdpFacts, after: SdpFacts, same: bool) -> None:
        assert same_ice_generation(before, after) is same
        assert same_ice_generation(after, before) is same

    def test_fragments_are_listed_once_in_order(self) -> None:
        assert ufrags(description("b", "a", None, "b")) == ("b", "a")


NAMES = [
    "mid", "msid", "ssrc:1 msid", "ice-ufrag", "ice-options", "setup", "fingerprint", "rtpmap", "extmap", "candidate",
    "group", "bundle-only", "end-of-candidates", "sendrecv",
]  # fmt: skip
WORDS = st.one_of(st.sampled_from(["BUNDLE", "-", "96", "0", "/", "opus/48000/2", "x" * 300]), st.text(max_size=20))
LINES = st.one_of(
    st.builds("a={}:{}".format, st.sampled_from(NAMES), st.lists(WORDS, max_size=4).map(" ".join)),
    st.lists(WORDS, max_size=5).map(lambda words: "m=" + " ".join(words)),
    st.text(max_size=40),
)


class TestHostileText:
    @given(st.lists(LINES, max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
    def test_anything_reads_within_bounds(self, lines: list[str], end: str) -> None:
        facts = read_sdp(end.join(lines))
        for index, found in enumerate(facts.media):
            assert found.index == index
            assert found.mid is None or 0 < len(found.mid) <= ID_CHARS
            assert found.ice_ufrag is None or 0 < len(found.ice_ufrag) <= ID_CHARS
            assert all(len(id or "") <= ID_CHARS for msid in found.msids for id in msid)
            assert all(0 <= payload_type < 128 for payload_type in found.codecs)
            assert all(0 < id < 256 for id in found.extensions)
        assert same_ice_generation(facts, facts)
        assert track_ids(facts) <= {msid.track_id for s in facts.media for msid in s.msids}

    @given(st.sampled_from(sorted(DIALECTS.values())), st.data())
    def test_a_description_cut_anywhere_has_the_sections_before_the_cut(self, text: str, data: st.DataObject) -> None:
        whole = read_sdp(text)
        cut = data.draw(st.integers(0, len(text)))
        facts = read_sdp(text[:cut])
        complete = max(len(facts.media) - 1, 0)
        assert facts.media[:complete] == whole.media[:complete]

    @given(
        st.sampled_from(sorted(DIALECTS.values())),
        st.integers(0, 60),
        LINES.filter(lambda x: x[:2] not in ("a=", "m=")),
    )
    def test_a_line_that_makes_no_sense_changes_nothing(self, text: str, at: int, line: str) -> None:
        lines = text.split("\n")
        mangled = "\n".join([*lines[:at], *(x for x in line.split("\n") if x[:2] not in ("a=", "m=")), *lines[at:]])
        assert read_sdp(mangled) == read_sdp(text)
