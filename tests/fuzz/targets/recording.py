"""Whatever is in a file, reading it as a recording ends in steps or in a `RecordingFileError`; and what can be read can
be replayed: it agrees, or it differs, or it cannot be replayed, which is a `RecordingFileError` too."""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.errors import RecordingFileError
from metered_proto.replay import Recording, replay

WORDS = (
    b'"fact":',
    b'"orders":',
    b'"deadline":',
    b'"at":',
    b'"raised":',
    b'"plan":',
    b'"machine":',
    b'"state":',
    b"\n",
    b'"type":"Woken"',
    b'["Received"',
    b'"LinkUp"',
    b"null",
    b'"version":1',
    b'"steps":3',
)


def check(data: bytes) -> Hashable:
    try:
        recording = Recording.of(data)
        steps = list(recording.steps())
        divergence = replay(recording)
    except RecordingFileError as error:
        return str(error)[:40]
    return (recording.header.machine, len(steps), recording.cut_off, divergence is None)
