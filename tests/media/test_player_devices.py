"""Cameras, microphones and screens: chosen by system, and read where there is anything that acts as one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import av
import pytest
from player_kit import Seen

from metered_media import (
    Device,
    SourceOpenError,
    devices,
    from_camera,
    from_microphone,
    open_camera,
    open_microphone,
    open_screen,
    screen_share,
)
from metered_media.capture import INPUTS, target_of
from testbed import MissingError
from testbed.screen import SIZE, Screen

pytestmark = pytest.mark.anyio


def test_each_system_has_inputs_of_its_own() -> None:
    size = {"video_size": "640x480", "framerate": "30"}
    assert target_of("camera", None, (640, 480), 30, "linux") == ("video4linux2", "/dev/video0", size)
    assert target_of("camera", "Front", (640, 480), 30, "win32") == ("dshow", "video=Front", size)
    assert target_of("microphone", None, None, None, "linux") == ("alsa", "default", {})
    assert target_of("microphone", "1", None, None, "darwin") == ("avfoundation", ":1", {})
    assert target_of("screen", None, (0, 0), 30, "linux") == ("x11grab", ":0", {"framerate": "30"})
    assert target_of("screen", None, (0, 0), 12.5, "win32") == ("gdigrab", "desktop", {"framerate": "12.5"})
    assert len(INPUTS) == 9


@pytest.mark.parametrize(("kind", "system"), [("camera", "plan9"), ("microphone", "win32")])
def test_a_system_without_such_a_thing_says_so(kind: Any, system: str) -> None:
    with pytest.raises(SourceOpenError) as caught:
        target_of(kind, None, None, None, system)
    assert caught.value.code == "no_device"


def test_devices_are_found_without_opening_any(tmp_path: Path) -> None:
    for node, name, index in (("video0", "Webcam", "0"), ("video1", "Webcam", "1"), ("video10", "Grabber", "0")):
        about = tmp_path / "sys/class/video4linux" / node
        about.mkdir(parents=True)
        (about / "name").write_text(name + "\n")
        (about / "index").write_text(index + "\n")
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / node).touch()
    (tmp_path / "proc/asound").mkdir(parents=True)
    (tmp_path / "proc/asound/pcm").write_text(
        "00-00: ALC Analog : ALC Analog : playback 1 : capture 1\n00-03: HDMI 0 : HDMI 0 : playback 1\n"
    )
    assert devices(platform="linux", root=tmp_path, display=":5") == [
        Device("camera", "Webcam", "/dev/video0"),
        Device("camera", "Grabber", "/dev/video10"),
        Device("microphone", "the default of ALSA", "default"),
        Device("microphone", "ALC Analog", "hw:0,0"),
        Device("screen", "X11 display :5", ":5"),
    ]
    assert devices(platform="linux", root=tmp_path / "nowhere", display="") == []
    assert {device.kind for device in devices(platform="darwin")} == {"camera", "microphone", "screen"}


async def test_what_is_not_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for opening in (open_camera("/dev/video-none"), open_microphone("no-such-pcm"), open_screen(":4711")):
        with pytest.raises(SourceOpenError) as caught:
            await opening
        assert caught.value.code == "no_device"
    with pytest.raises(SourceOpenError) as caught:
        from_camera("0", input_format="no-such-input")
    assert caught.value.code == "no_device"
    assert "no-such-input" in caught.value.reason


async def test_a_screen_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        screen = Screen().__enter__()
    except MissingError as error:
        pytest.skip(str(error))
    try:
        monkeypatch.setenv("DISPLAY", screen.display)
        assert Device("screen", f"X11 display {screen.display}", screen.display) in devices()
        async with await open_screen(fps=10) as player:
            assert player.audio is None
            seen = await Seen().read(player.video, 10)
        assert (seen.things[-1].width, seen.things[-1].height) == SIZE
        # What was looked at while it was opened comes at once.
        assert 0.2 < seen.at[-1] - seen.at[0] < 8
        async with await open_screen(screen.display, width=320, height=200) as player:
            assert player.video is not None
            frame = await player.video.recv()
        assert (frame.width, frame.height) == (320, 200)
    finally:
        screen.__exit__()


async def test_a_generator_stands_in_for_a_camera_and_a_microphone() -> None:
    async with await open_camera("testsrc2=size=160x120:rate=20", input_format="lavfi") as player:
        began = time.monotonic()
        seen = await Seen().read(player.video, 20)
        assert 0.8 < time.monotonic() - began < 4
        assert seen.things[0].width == 160
    async with await open_microphone("sine=frequency=440:sample_rate=44100", input_format="lavfi") as player:
        assert player.video is None
        heard = await Seen().read(player.audio, 20)
    assert {frame.sample_rate for frame in heard.things} == {44_100}


async def test_a_microphone_of_alsa_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "alsa" not in av.formats_available:
        pytest.skip("the FFmpeg of av has no alsa")
    raw = tmp_path / "tone.raw"
    raw.write_bytes(bytes(range(256)) * 4000)
    config = tmp_path / "asound.conf"
    config.write_text(
        "pcm.null { type null }\n"
        f'pcm.tape {{ type file slave.pcm "null" file "/dev/null" infile "{raw}" format "raw" }}\n'
    )
    monkeypatch.setitem(os.environ, "ALSA_CONFIG_PATH", str(config))
    async with await open_microphone("tape") as player:
        heard = await Seen().read(player.audio, 20)
    assert all(frame.sample_rate == 48_000 for frame in heard.things)
    assert any(bytes(frame.planes[0])[: frame.samples * 4].strip(b"\0") for frame in heard.things)


@pytest.mark.parametrize(
    ("make", "arguments", "error"),
    [
        (from_camera, {"width": "640"}, TypeError),
        (from_camera, {"width": 1}, ValueError),
        (from_camera, {"fps": 0}, ValueError),
        (from_camera, {"device": 0}, TypeError),
        (from_microphone, {"device": b"x"}, TypeError),
        (screen_share, {"height": -1}, ValueError),
        (screen_share, {"options": {"a": 1}}, TypeError),
    ],
)
def test_what_no_device_has_is_refused_at_the_call(
    make: Any, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(**arguments)
