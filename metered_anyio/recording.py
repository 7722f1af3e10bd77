"""Recordings in files: what `record=…`, `metered serve --record` and METERED_RECORD switch on.

    async with SignallingClient(api_key=key, record="client.jsonl") as client:
        …

A thread writes, so that a slow disk holds up no event loop. What a machine did is in the file a second later, and all
of it once its client, peer or relay is closed. `metered_proto.replay` says what is in there.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from metered_anyio.backend import Alarm, Backend
from metered_anyio.logger import Logger
from metered_anyio.options import RecordOptions
from metered_anyio.recorded_drafts import RecordedDrafts
from metered_anyio.surroundings import Surroundings
from metered_proto.client.deduplicator import Deduplicator
from metered_proto.client.outbox import Loaded, OutboxQueue
from metered_proto.machine import Machine
from metered_proto.replay import ClientPlan, DeduplicatorPlan, Plan, Recorder, Recording
from metered_proto.replay.reading import MAX_LINE
from metered_proto.settings import ClientSettings, Outbox

EVERY: Final = 1.0
"""Seconds after which what was held back is handed to the file."""

BACKLOG: Final = 64 << 20
"""Bytes that may wait for the disk. A recording that falls behind by more is ended: one with a gap is of no use."""

PATIENCE: Final = 5.0
"""Seconds that closing waits for the disk."""

_numbers = count(1)


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """The recording in a file. Raises `OSError`, or `RecordingFileError` if it is none."""
    return Recording(lambda: _lines(Path(path)))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 1):  # one byte more than a line may have: then it is refused
            yield line


class MachineRecording:
    """One machine that is being recorded: drive `recorder` in its place."""

    def __init__(self, options: RecordOptions, kind: str, machine: Machine, plan: Plan, logger: Logger) -> None:
        self.file = RecordingFile(_path_for(options, kind), logger, keeps_old=options.max_bytes is not None)
        self.recorder = Recorder(
            machine,
            self.file.write,
            plan=plan,
            key=os.urandom(16),
            library=version("metered-sansio"),
            started=time.time(),
            segment=None if options.max_bytes is None else (options.max_bytes // 2, self.file.turn_over),
        )
        self._backend: Backend | None = None
        self._alarm: Alarm | None = None

    def start(self, backend: Backend) -> None:
        """Open the file, now that there is an event loop. Raises `OSError`."""
        self.file.open()
        self._backend = backend
        self._alarm = backend.alarm(self._tick)
        self._tick()

    def _tick(self) -> None:
        assert self._backend is not None and self._alarm is not None  # noqa: PT018
        self.recorder.flush()
        self._alarm.set(self._backend.time() + EVERY)

    def close(self) -> None:
        """Write all that there is, and close the file. Idempotent."""
        if self._alarm is not None:
            self._alarm.set(None)
        self.recorder.flush()
        self.file.close()


def record_client(
    around: Surroundings,
    made_of: tuple[ClientSettings, str, Outbox | None, Loaded | None, Deduplicator | None],
    queue: OutboxQueue | None,
) -> RecordedDrafts | None:
    """Have the machine of a `SignallingClient` recorded. Returns what makes the drafts of its outbox, if it has one."""
    settings, seed, outbox, loaded, deduplicator = made_of
    remembers = None if deduplicator is None else DeduplicatorPlan(**deduplicator.limits)
    if deduplicator is not None and not deduplicator.is_new:
        around.logger.warning("a deduplicator that was in use before: the recording cannot be replayed exactly")
    if outbox is not None:
        outbox = msgspec.structs.replace(outbox, path=None)
    recorder = around.record("client", ClientPlan(settings, seed, outbox, loaded, remembers))
    return None if queue is None else RecordedDrafts(queue, recorder)


class RecordingFile:
    """A file that a thread writes. What is given to it before it is opened waits."""

    def __init__(self, path: Path, logger: Logger, *, keeps_old: bool = False) -> None:
        self.path = path
        self._logger = logger
        self._keeps_old = keeps_old
        self._work: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self._told = False

    def open(self) -> None:
        """Make the file, and begin to write. One that is there already is kept as `NAME.1`. Raises `OSError`."""
        if self._thread is None:
            file = self._fresh()
            self._thread = threading.Thread(target=self._write_all, args=(file,), name="recording", daemon=True)
            self._thread.start()

    def write(self, lines: bytes) -> None:
        """Take lines to be written. Never waits and never raises."""
        with self._lock:
            if self._failure is None and self._waiting + len(lines) > BACKLOG:
                self._failure = "the disk is too slow"
            if self._failure is None:
                self._waiting += len(lines)
                self._work.put(lines)
        if self._failure is not None and not self._told:
            self._told = True
            self._logger.error("a recording has ended", {"path": str(self.path), "reason": self._failure})

    def turn_over(self) -> None:
        """From here on a new file: the one so far becomes `NAME.1`, and what was there by that name is gone."""
        self._work.put(_TURN_OVER)

    def close(self) -> None:
        """Have everything written. Waits for the disk, but not for ever."""
        if self._thread is not None and self._thread.is_alive():
            self._work.put(None)
            self._thread.join(PATIENCE)

    # --- in the thread, but for the first file ---

    def _fresh(self) -> BinaryIO:
        with suppress(FileNotFoundError):
            os.replace(self.path, self.path.with_name(self.path.name + ".1"))
        # Nobody else's business, even though secrets have been replaced.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "wb", buffering=0)

    def _write_all(self, file: BinaryIO) -> None:
        try:
            while (lines := self._work.get()) is not None:
                if lines is _TURN_OVER:
                    file.close()
                    file = self._fresh()
                    continue
                view = memoryview(lines)
                while view:
                    view = view[file.write(view) :]
                with self._lock:
                    self._waiting -= len(lines)
        except OSError as error:
            with self._lock:
                self._failure = error.strerror or type(error).__name__
        finally:
            with suppress(OSError):
                file.close()


_TURN_OVER: Final = b""
"""Told from other work by what it is; no lines are ever empty."""


def _path_for(options: RecordOptions, kind: str) -> Path:
    """The file to write: the one that was asked for, or in a directory one of its own."""
    path = Path(options.path)
    if not path.is_dir():
        return path
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return path / f"{kind}-{moment}-{os.getpid()}-{next(_numbers)}.jsonl"
