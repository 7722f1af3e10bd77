"""Cameras, microphones and screens of this machine as sources, and which there are.

What they are read with is FFmpeg's, one input for each system and kind. The FFmpeg that comes with `av` on Linux has
V4L2, ALSA and X11; it has no PulseAudio and no Wayland, so sound servers are reached through ALSA's own plugins.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from metered_anyio.logger import Logger
from metered_media.checking import check_number, check_options, check_text, knows_format
from metered_media.errors import SourceOpenError
from metered_media.opening import Origin
from metered_media.player import Player, open_player
from metered_media.reading import Plan

DeviceKind: TypeAlias = Literal["camera", "microphone", "screen"]

NEWS: Final = 10.0
"""Seconds that a device may give nothing before it counts as lost."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something of this machine that can be opened. `path` is what `from_camera` and the others take, `name` is for
    people."""

    kind: DeviceKind
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Input:
    """What FFmpeg reads a kind of device with: its input format, the device if none is named, and how it wants to be
    told a size (`size`) and a rate (`rate`)."""

    format: str
    default: str
    prefix: str = ""
    size: str | None = "video_size"
    rate: str | None = "framerate"


INPUTS: Final[dict[tuple[str, DeviceKind], Input]] = {
    ("linux", "camera"): Input("video4linux2", "/dev/video0"),
    ("linux", "microphone"): Input("alsa", "default"),
    ("linux", "screen"): Input("x11grab", ":0"),
    ("darwin", "camera"): Input("avfoundation", "default:none"),
    ("darwin", "microphone"): Input("avfoundation", "none:default", ":"),
    ("darwin", "screen"): Input("avfoundation", "Capture screen 0:none", size=None),
    ("win32", "camera"): Input("dshow", "", "video="),
    ("win32", "microphone"): Input("dshow", "", "audio="),
    ("win32", "screen"): Input("gdigrab", "desktop"),
}
"""By `sys.platform` and kind."""


def from_camera(
    device: str | None = None,
    *,
    width: int = 640,
    height: int = 480,
    fps: float = 30,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    open_timeout: float = 10.0,
    logger: Logger | None = None,
) -> Player:
    """A camera of this machine, the first if no `device` is named. Its tracks give what is now.

    `input_format` is another of FFmpeg's inputs (`lavfi` makes a test picture of `testsrc2`), which then gets nothing
    but `options`. Raises `SourceOpenError` (`no_device`) if this system has nothing to read cameras with; whatever
    goes wrong later is in `error`. Raises `TypeError` and `ValueError` for what cannot be.
    """
    _check_picture(width, height, fps, least=16)
    return _player("camera", device, (width, height), fps, input_format, options, open_timeout, logger)


def from_microphone(
    device: str | None = None,
    *,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    open_timeout: float = 10.0,
    logger: Logger | None = None,
) -> Player:
    """A microphone of this machine, the system's default if no `device` is named. Otherwise as `from_camera`."""
    return _player("microphone", device, None, None, input_format, options, open_timeout, logger)


def screen_share(
    device: str | None = None,
    *,
    width: int = 0,
    height: int = 0,
    fps: float = 30,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    open_timeout: float = 10.0,
    logger: Logger | None = None,
) -> Player:
    """The screen, the primary one if no `device` is named, for example `:0.0` with X11. With `width` and `height` 0 it
    has its own size; else it is that much of its upper left. Otherwise as `from_camera`."""
    _check_picture(width, height, fps, least=0)
    return _player("screen", device, (width, height), fps, input_format, options, open_timeout, logger)


async def open_camera(
    device: str | None = None,
    *,
    timeout: float = 10.0,
    width: int = 640,
    height: int = 480,
    fps: float = 30,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    logger: Logger | None = None,
) -> Player:
    """`from_camera`, once it is open. Raises `SourceOpenError`, after `timeout` seconds at the latest."""

    def make() -> Player:
        return from_camera(
            device,
            width=width,
            height=height,
            fps=fps,
            input_format=input_format,
            options=options,
            open_timeout=timeout,
            logger=logger,
        )

    return await open_player(make, timeout)


async def open_microphone(
    device: str | None = None,
    *,
    timeout: float = 10.0,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    logger: Logger | None = None,
) -> Player:
    """`from_microphone`, once it is open. Raises `SourceOpenError`, after `timeout` seconds at the latest."""

    def make() -> Player:
        return from_microphone(device, input_format=input_format, options=options, open_timeout=timeout, logger=logger)

    return await open_player(make, timeout)


async def open_screen(
    device: str | None = None,
    *,
    timeout: float = 10.0,
    width: int = 0,
    height: int = 0,
    fps: float = 30,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    logger: Logger | None = None,
) -> Player:
    """`screen_share`, once it is open. Raises `SourceOpenError`, after `timeout` seconds at the latest."""

    def make() -> Player:
        return screen_share(
            device,
            width=width,
            height=height,
            fps=fps,
            input_format=input_format,
            options=options,
            open_timeout=timeout,
            logger=logger,
        )

    return await open_player(make, timeout)


def devices(*, platform: str | None = None, root: Path = Path("/"), display: str | None = None) -> list[Device]:
    """The devices that can be found without opening any. It is a glance at the system and takes no time.

    On systems other than Linux only FFmpeg itself could tell, and has no way to tell a program: there it is the
    defaults. `platform`, `root` and `display` are those of this machine unless given.
    """
    system = sys.platform if platform is None else platform
    if system == "linux":
        display = os.environ.get("DISPLAY") if display is None else display
        screens = [Device("screen", f"X11 display {display}", display)] if display else []
        return [*_cameras(root), *_microphones(root), *screens]
    found = [(kind, entry.prefix, entry.default) for (name, kind), entry in INPUTS.items() if name == system]
    return [Device(kind, f"the system's default {kind}", default) for kind, _, default in found if default]


def _cameras(root: Path) -> list[Device]:
    found = []
    for node in sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name)):
        about = root / "sys/class/video4linux" / node.name
        # One camera has several nodes, and only the first of them gives pictures.
        if _line(about / "index") not in (None, "0"):
            continue
        found.append(Device("camera", _line(about / "name") or node.name, f"/dev/{node.name}"))
    return found


_PCM: Final = re.compile(r"(\d+)-(\d+): ([^:]*):.*\bcapture\b")


def _microphones(root: Path) -> list[Device]:
    try:
        lines = (root / "proc/asound/pcm").read_text(errors="replace").splitlines()
    except OSError:
        return []
    matches = [found for line in lines if (found := _PCM.match(line))]
    named = [Device("microphone", m[3].strip() or "ALSA", f"hw:{int(m[1])},{int(m[2])}") for m in matches]
    return [Device("microphone", "the default of ALSA", "default"), *named] if named else []


def _line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def target_of(
    kind: DeviceKind, device: str | None, size: tuple[int, int] | None, fps: float | None, platform: str
) -> tuple[str, str, dict[str, str]]:
    """What FFmpeg is to open: the input format, the device in its words, and its options.

    Raises `SourceOpenError` if there is nothing for this system.
    """
    entry = INPUTS.get((platform, kind))
    shown = device or f"the default {kind}"
    if entry is None:
        raise SourceOpenError(shown, "no_device", f"there is no way to read a {kind} on {platform}")
    target = entry.default if device is None else entry.prefix + device
    if not target:
        raise SourceOpenError(shown, "no_device", f"on {platform} a {kind} has to be named")
    options = {}
    if size is not None and all(size) and entry.size is not None:
        options[entry.size] = f"{size[0]}x{size[1]}"
    if fps is not None and entry.rate is not None:
        options[entry.rate] = f"{fps:g}"
    return entry.format, target, options


def _player(
    kind: DeviceKind,
    device: str | None,
    size: tuple[int, int] | None,
    fps: float | None,
    input_format: str | None,
    options: Mapping[str, str] | None,
    open_timeout: float,
    logger: Logger | None,
) -> Player:
    check_text("device", device)
    check_text("input_format", input_format)
    check_number("open_timeout", open_timeout, 0.05, 3600)
    given = check_options(options)
    if input_format is None:
        if kind == "screen" and device is None and sys.platform == "linux":
            device = os.environ.get("DISPLAY") or None
        name, target, own = target_of(kind, device, size, fps, sys.platform)
        given = own | given
    else:
        name, target = input_format, device or ""
    shown = device or f"the default {kind}"
    if not knows_format(name):
        raise SourceOpenError(shown, "no_device", f"the FFmpeg that comes with av has no input {name}")
    if name == "alsa":
        _find_alsa()
    # A generator has no time of its own; everything else here gives what is now.
    plan = Plan(live=name != "lavfi", open_timeout=open_timeout, stall_timeout=NEWS)
    return Player(Origin(target, shown, "device", name, given), plan, logger)


def _find_alsa() -> None:
    """The ALSA that comes with `av` looks for its configuration where it was built. Show it the system's."""
    if "ALSA_CONFIG_PATH" not in os.environ:
        usual = Path("/usr/share/alsa/alsa.conf")
        if usual.exists():
            os.environ["ALSA_CONFIG_PATH"] = str(usual)


def _check_picture(width: Any, height: Any, fps: Any, *, least: int) -> None:
    for name, value in (("width", width), ("height", height)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {type(value).__name__}")
        check_number(name, value, least, 16_384)
    check_number("fps", fps, 0.1, 1000)
