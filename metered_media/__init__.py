"""Media sources and sinks on top of `metered_anyio`.

Nothing here is imported before it is used: what a name needs (aiortc, av) is loaded with the name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from metered_proto.errors import WebRtcMissingError
from metered_proto.rtc.absent import HOW_TO_INSTALL

if TYPE_CHECKING:
    from metered_media.audio_source import AudioSource as AudioSource
    from metered_media.capture import Device as Device
    from metered_media.capture import devices as devices
    from metered_media.capture import from_camera as from_camera
    from metered_media.capture import from_microphone as from_microphone
    from metered_media.capture import open_camera as open_camera
    from metered_media.capture import open_microphone as open_microphone
    from metered_media.capture import open_screen as open_screen
    from metered_media.capture import screen_share as screen_share
    from metered_media.errors import PassthroughError as PassthroughError
    from metered_media.errors import RecordingError as RecordingError
    from metered_media.errors import SnapshotError as SnapshotError
    from metered_media.errors import SourceOpenError as SourceOpenError
    from metered_media.events import Cleared as Cleared
    from metered_media.events import Played as Played
    from metered_media.events import RecordingFinished as RecordingFinished
    from metered_media.events import RecordingProgress as RecordingProgress
    from metered_media.events import SourceEnded as SourceEnded
    from metered_media.events import SourceLost as SourceLost
    from metered_media.events import SourceRestored as SourceRestored
    from metered_media.files import from_file as from_file
    from metered_media.files import open_file as open_file
    from metered_media.iterating import iter_audio as iter_audio
    from metered_media.iterating import iter_frames as iter_frames
    from metered_media.iterating import iter_video as iter_video
    from metered_media.player import Player as Player
    from metered_media.player import PlayerStats as PlayerStats
    from metered_media.player_track import PlayerTrack as PlayerTrack
    from metered_media.recorder import Recording as Recording
    from metered_media.recorder import record as record
    from metered_media.rtsp import from_rtsp as from_rtsp
    from metered_media.rtsp import open_rtsp as open_rtsp
    from metered_media.snapshots import Snapshot as Snapshot
    from metered_media.snapshots import snapshot as snapshot
    from metered_media.video_source import VideoSource as VideoSource

_HOME: Final = {
    "AudioSource": "audio_source",
    "Cleared": "events",
    "Device": "capture",
    "PassthroughError": "errors",
    "Played": "events",
    "Player": "player",
    "PlayerStats": "player",
    "PlayerTrack": "player_track",
    "Recording": "recorder",
    "RecordingError": "errors",
    "RecordingFinished": "events",
    "RecordingProgress": "events",
    "Snapshot": "snapshots",
    "SnapshotError": "errors",
    "SourceEnded": "events",
    "SourceLost": "events",
    "SourceOpenError": "errors",
    "SourceRestored": "events",
    "VideoSource": "video_source",
    "devices": "capture",
    "from_camera": "capture",
    "from_file": "files",
    "from_microphone": "capture",
    "from_rtsp": "rtsp",
    "iter_audio": "iterating",
    "iter_frames": "iterating",
    "iter_video": "iterating",
    "open_camera": "capture",
    "open_file": "files",
    "open_microphone": "capture",
    "open_rtsp": "rtsp",
    "open_screen": "capture",
    "record": "recorder",
    "screen_share": "capture",
    "snapshot": "snapshots",
}
"""The module of each public name."""

__all__ = sorted(_HOME)  # noqa: PLE0605 - one list is enough


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("aiortc", "av"):
            raise
        raise WebRtcMissingError(HOW_TO_INSTALL) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
