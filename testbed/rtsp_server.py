"""GStreamer's RTSP server with a test picture and a tone, in a process of its own that can be killed and come back."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Final, Self

from testbed import MissingError

PYTHON: Final = "/usr/bin/python3"
"""The system's own, for which Debian has GStreamer."""

PACKAGES: Final = " ".join(
    ("python3-gi", "gir1.2-gst-rtsp-server-1.0", *(f"gstreamer1.0-plugins-{kind}" for kind in ("base", "good", "ugly")))
)

USER, PASSWORD = "viewer", "camera-secret-of-the-tests"

PICTURE: Final = (
    "videotestsrc is-live=true pattern={pattern} ! video/x-raw,width={width},height={height},framerate=30/1"
)
TONE: Final = "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay name=pay1 pt=97"
H264: Final = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=500 ! rtph264pay name=pay0 pt=96"
H264_B: Final = (
    "x264enc b-adapt=false bframes=2 key-int-max=30 ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96"
)
CODECS: Final = {"h264": H264, "h264_b": H264_B}

_PROGRAM: Final = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
port, launch, user, password = sys.argv[1:]
wanted = [word for word in launch.split() if word.endswith(("enc", "pay", "src"))]
missing = [name for name in wanted if Gst.ElementFactory.find(name) is None]
if missing:
    sys.exit(print("missing", *missing))
server = GstRtspServer.RTSPServer(service=port, address="127.0.0.1")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(launch)
factory.set_shared(True)
if user:
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


class RtspServer:
    """Serves from the `with` on, at `url`. `codec` is `h264` or, with B-frames, `h264_b`. It can be changed before the
    server comes back, as can `size`. With `guarded` it wants `USER` and `PASSWORD`."""

    def __init__(
        self, codec: str = "h264", *, size: tuple[int, int] = (320, 240), sound: bool = False, guarded: bool = False
    ) -> None:
        self.codec, self.size, self.sound, self.guarded = codec, size, sound, guarded
        self._process: subprocess.Popen[str] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it is, with what it asks for."""
        user = f"{USER}:{PASSWORD}@" if self.guarded else ""
        return f"rtsp://{user}127.0.0.1:{self.port}/live"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Be there (again). Raises `MissingError` if what it needs is not on this machine."""
        if not Path(PYTHON).exists():
            raise MissingError(f"there is no {PYTHON} to run GStreamer's RTSP server with")
        width, height = self.size
        parts = [PICTURE.format(pattern="ball", width=width, height=height), "!", CODECS[self.codec]]
        launch = " ".join(["(", *parts, *([TONE] if self.sound else []), ")"])
        who = (USER, PASSWORD) if self.guarded else ("", "")
        self._process = subprocess.Popen(
            [PYTHON, "-c", _PROGRAM, str(self.port), launch, *who],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != "ready":
            self.kill()
            lacks = f"has no {said.removeprefix('missing ')}" if said else "is not installed"
            raise MissingError(f"GStreamer's RTSP server {lacks} (Debian: apt-get install {PACKAGES})")

    def kill(self) -> None:
        """Be gone at once, without a word."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
