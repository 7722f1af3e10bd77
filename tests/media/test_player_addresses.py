"""What a source may be opened with, and what FFmpeg is told: no socket, no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media.protocols import CONTAINERS, format_whitelist, protocol_whitelist, take_apart, without_credentials

HOSTILE = (
    "concat:/etc/passwd|/etc/hosts",
    "data:text/plain;base64,AAAA",
    "subfile,,start,0,end,9,,:/etc/passwd",
    "http://127.0.0.1/x.mp4",
    "HTTPS://127.0.0.1/x.mp4",
    "rtsp://127.0.0.1/live",
    "pipe:0",
    "tcp://127.0.0.1:1",
    "lavfi:testsrc2",
    "crypto+file:/etc/passwd",
    "async:file:/etc/passwd",
    "cache:http://127.0.0.1/",
    "file:x\0.mp4",
    "x" * 5000,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_only_files_are_allowed_unless_more_was_asked_for(text: str) -> None:
    assert not take_apart(text, ("file",)).allowed


@pytest.mark.parametrize(
    "text", ["-i", "clip.mp4", "./a:b.mp4", "file:clip.mp4", r"C:\clips\a.mp4", "with space", "%d.png"]
)
def test_whatever_is_a_file_is_given_as_one(text: str) -> None:
    found = take_apart(text, ("file",))
    assert found.allowed
    assert found.path is not None
    assert found.url.startswith("file:/")


def test_a_path_is_a_file_whatever_it_is_called() -> None:
    found = take_apart(Path("http:/x"), ("file",))
    assert (found.allowed, found.scheme, found.url) == (True, "file", f"file:{Path.cwd()}/http:/x")


def test_a_protocol_has_to_be_named_to_be_used() -> None:
    assert take_apart("http://host/a", ("file", "http")).allowed
    assert not take_apart("file:/a", ("http",)).allowed
    assert not take_apart("rtsps://host/a", ("rtsp",)).allowed


def test_ffmpeg_uses_no_other_protocol_on_the_way() -> None:
    assert protocol_whitelist("file", ("file", "http")) == "file"
    assert protocol_whitelist("http", ("file", "http")) == "http,tcp"
    assert set(protocol_whitelist("http", ("http", "https")).split(",")) == {"http", "tcp", "https", "tls", "httpproxy"}
    assert "file" not in protocol_whitelist("rtsp", ("file",)).split(",")


def test_no_container_that_refers_to_others_is_read() -> None:
    refer = {"hls", "concat", "sdp", "dash", "rtsp", "rtp", "lavfi", "image2", "vobsub", "imf", "ffmetadata"}
    assert not refer & set(CONTAINERS)
    assert format_whitelist().startswith("mov,")


@given(
    user=st.text("abcXYZ019._~%!$&'()*+,;=-", min_size=4, max_size=12),
    password=st.text("abcXYZ019._~%!$&'()*+,;=:@-", min_size=6, max_size=20),
)
@settings(max_examples=60)
def test_no_credentials_are_shown(user: str, password: str) -> None:
    secret = f"S3CR{password}"
    shown = take_apart(f"rtsp://{user}:{secret}@camera.local:554/live?password={secret}", ("rtsp",)).shown
    assert shown == "rtsp://camera.local:554/live?…"
    assert "S3CR" not in without_credentials(f"http://{user}:{secret}@host")


def test_what_is_shown_is_short_and_printable() -> None:
    assert len(without_credentials("http://host/" + "a" * 9000)) == 200
    assert without_credentials("http://host/\x1b[2J\n") == "http://host/·[2J·"
