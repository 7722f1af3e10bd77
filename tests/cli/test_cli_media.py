"""`metered bridge`, `play`, `record` and `devices` as processes, and what they make of what is typed."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metered_anyio.cli import app, main
from metered_media.cli.sources import Source, parse_source

KEY = "pk_live_demo"

pytest.importorskip("av", reason="av is not installed")

from testbed.clips import Pictures, Tone, clip, write  # noqa: E402
from testbed.clock_camera import ClockCamera  # noqa: E402


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of four seconds, with sound and pictures."""
    return write(tmp_path_factory.mktemp("clips") / "talk.mp4", video=Pictures(), audio=Tone(), seconds=4)


def lengths(path: Path) -> dict[str, float]:
    """The seconds of sound and of pictures in a file, and how many pictures there are."""
    import av

    found = {"sound": 0.0, "pictures": 0.0, "count": 0.0}
    with av.open(str(path)) as container:
        for frame in container.decode():
            if isinstance(frame, av.AudioFrame):
                found["sound"] += frame.samples / frame.sample_rate
            else:
                found["pictures"], found["count"] = frame.time or 0.0, found["count"] + 1
    return found


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_played_is_recorded(start, url, talk, tmp_path, backend):
    shared = {"METERED_URL": url, "METERED_KEY": KEY}
    options = ["--backend", backend]
    recorder = start("record", f"room-{backend}", str(tmp_path / "calls"), "--format", "mkv", *options, **shared)
    recorder.err.find(f"in room-{backend} as ")
    player = start("play", str(talk), "--room", f"room-{backend}", "--label", "a talk", *options, **shared)
    player.err.find(f"sending {talk}")
    assert player.wait() == 0, player.err.rest()
    shown = player.out.rest()
    assert any("1 viewers" in line and "bit/s" in line for line in shown), shown
    recorder.err.find("- ")
    finished = recorder.err.find("finished ")
    assert recorder.stop(signal.SIGINT) == 0, recorder.err.rest()
    (path,) = (tmp_path / "calls").iterdir()
    assert str(path) in finished
    assert path.suffix == ".mkv"
    found = lengths(path)
    # The first pictures come with the connection, and the last sound may be cut where the sender left.
    assert 2.5 < found["pictures"] < 5.5
    assert abs(found["sound"] - found["pictures"]) < 0.7
    assert found["count"] > 60


def test_a_bridge_with_json(start, url, talk):
    import msgspec

    bridge = start(
        "bridge", str(talk), "--room", "json", "--passthrough", "--loop", "--json", METERED_URL=url, METERED_KEY=KEY
    )
    lines = [msgspec.json.decode(bridge.out.next()) for _ in range(3)]
    assert lines[0]["room"] == "json"
    assert lines[1] == {"sending": str(talk)}
    assert lines[2] == {"state": "joined", "viewers": [], "bitrate": 0}
    assert bridge.stop() == 0
    assert bridge.err.rest() == []


def test_a_camera_that_goes_and_comes_back(start, url, tmp_path):
    shared = {"METERED_URL": url, "METERED_KEY": KEY}
    with ClockCamera() as camera:
        recorder = start("record", "door", str(tmp_path / "calls"), "--format", "webm", **shared)
        recorder.err.find("in door as ")
        bridge = start("bridge", camera.url, "--room", "door", "--passthrough", **shared)
        bridge.err.find(f"sending {camera.url}")
        bridge.out.find("video H264")
        camera.kill()
        bridge.err.find("the source is lost: ")
        bridge.out.find("camera lost: 1 viewers")
        camera.start()
        bridge.err.find("the source is back after ")
        assert bridge.stop() == 0, bridge.err.rest()
        recorder.err.find("finished ")
        assert recorder.stop() == 0
    (path,) = (tmp_path / "calls").iterdir()
    assert lengths(path)["count"] > 30


def test_a_file_on_a_web_server(start, url, tmp_path):
    clip(tmp_path, "vp8_opus")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/vp8_opus.webm"
            bridge = start("bridge", address, "--room", "web", METERED_URL=url, METERED_KEY=KEY)
            bridge.err.find(f"sending {address}")
            assert bridge.stop() == 0
        finally:
            server.shutdown()
            serving.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_on_a_terminal_it_is_painted(start, url, talk):
    ours, theirs = pty.openpty()
    player = start(
        "bridge", str(talk), "--room", "painted", stdout=theirs, METERED_URL=url, METERED_KEY=KEY, TERM="xterm"
    )
    os.close(theirs)
    seen = b""
    try:
        while b"joined: 0 viewers" not in seen:
            seen += os.read(ours, 4096)
        player.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # which is how a terminal ends
            while more := os.read(ours, 4096):
                seen += more
        assert player.wait() == 0
        assert b"\x1b[?25h" in seen  # the cursor is back
    finally:
        os.close(ours)


def test_a_recording_of_a_time(start, url, tmp_path):
    recorder = start("record", "empty", str(tmp_path), "--timeout", "1.5", METERED_URL=url, METERED_KEY=KEY)
    assert recorder.wait() == 0
    assert recorder.out.rest()[0] == "recording 0 of 0 people"


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["bridge", "nowhere.mp4", "--room", "r"], 1, "nowhere.mp4 cannot be opened"),
        (["play", "nowhere.mp4", "--room", "r"], 1, "(not_found)"),
        (["bridge", "", "--room", "r"], 2, "SOURCE must be"),
        (["bridge", "a.mp4"], 2, "--room"),
        (["bridge", "a.mp4", "--room", "r", "--codec", "H265"], 2, "--codec must be VP8 or H264"),
        (["bridge", "a.mp4", "--room", "r", "--max-bitrate", "1"], 2, "--max-bitrate must be from"),
        (["bridge", "a.mp4", "--room", "r", "--max-height", "1"], 2, "--max-height must be from"),
        (["bridge", "a.mp4", "--room", "\n"], 2, "channel"),
        (["bridge", "rtsp://x", "--room", "r", "--transport", "smoke"], 2, "transport"),
        (["bridge", "a.mp4", "--room", "r", "--timeout", "-1"], 2, "--timeout"),
        (["record", "r", "nowhere/at/all"], 1, "there is no directory to make it in"),
        (["record", "r", ".", "--format", "avi"], 2, "format must be one of"),
        (["record", "r", "talk.mp4"], 1, "several people"),
    ],
)
def test_what_cannot_be_done(capsys, monkeypatch, tmp_path, arguments, code, err):
    monkeypatch.chdir(tmp_path)
    options = [] if arguments == ["bridge", "a.mp4"] else ["--key", KEY, "--url", "ws://127.0.0.1:9"]
    assert main([*arguments, *options]) == code
    said = capsys.readouterr().err
    assert said.startswith("metered: ")
    assert err in said
    assert said.count("\n") == 1


def test_what_a_camera_wants_to_know_is_not_shown(capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = f"rtsp://admin:hunter2@127.0.0.1:{port}/stream"
    assert main(["bridge", source, "--room", "r", "--key", KEY, "--url", "ws://127.0.0.1:9", "--timeout", "5"]) == 1
    said = capsys.readouterr().err
    assert "hunter2" not in said
    assert f"127.0.0.1:{port}" in said


def test_devices(capsys):
    assert main(["devices", "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert set(json.loads(line)) == {"kind", "name", "path"}
    assert main(["devices"]) == 0


@pytest.mark.parametrize("arguments", [["devices"], ["play", "a.mp4", "--room", "r", "--key", KEY]])
def test_without_the_extra_it_says_how_to_get_it(capsys, monkeypatch, arguments):
    monkeypatch.setattr("metered_media.cli.in_room.MEDIA", ("no_such_package",))
    assert main(arguments) == 1
    assert "pip install 'metered-sansio[webrtc]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "kind", "what", "shown"),
    [
        ("rtsp://u:p@cam/1", "rtsp", "rtsp://u:p@cam/1", "rtsp://cam/1"),
        ("RTSPS://cam", "rtsp", "RTSPS://cam", "RTSPS://cam"),
        ("https://example.com/a.mp4", "http", "https://example.com/a.mp4", "https://example.com/a.mp4"),
        ("camera", "camera", None, "camera"),
        ("camera:/dev/video2", "camera", "/dev/video2", "/dev/video2"),
        ("microphone:hw:1,0", "microphone", "hw:1,0", "hw:1,0"),
        ("screen", "screen", None, "screen"),
        ("camera.mp4", "file", "camera.mp4", "camera.mp4"),
        ("concat:a|b", "file", "concat:a|b", "concat:a|b"),
        ("a\x1b[2J.mp4", "file", "a\x1b[2J.mp4", "a·[2J.mp4"),
    ],
)
def test_sources(text, kind, what, shown):
    source = parse_source(text)
    assert source == Source(kind, what)
    assert source.shown == shown


def test_by_the_other_door():
    done = subprocess.run(
        [sys.executable, "-m", "metered_media", "bridge", "--help"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--passthrough" in done.stdout


def test_nothing_of_media_is_loaded_before_it_is_needed():
    code = (
        "import sys; from metered_anyio.cli import main; main(['--version']); "
        "print(sorted({'av', 'aiortc', 'numpy'} & set(sys.modules)), 'metered_media.cli.bridge' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[1:] == ["[] True"], done.stderr


def test_a_command_that_cannot_be_loaded_takes_no_other_with_it(capsys, monkeypatch):
    class Broken:
        name = "broken"

        def load(self) -> None:
            raise ImportError("no")

    monkeypatch.setattr(app, "entry_points", lambda group: [Broken()] if group == "metered.commands" else [])
    app._add_more()
    assert capsys.readouterr().err == "metered: broken cannot be loaded: ImportError: no\n"


def test_a_clip_of_sound_alone(start, url, tmp_path):
    player = start("play", str(clip(tmp_path, "aac")), "--room", "sound", METERED_URL=url, METERED_KEY=KEY)
    player.err.find("sending ")
    player.out.find("0 viewers")  # it waits for somebody
    assert player.stop(signal.SIGINT) == 0
