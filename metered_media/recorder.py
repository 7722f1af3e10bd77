"""`record`: what a track, a person or a whole room sends, into files.

Here is who is recorded and into which file; `recorder_file.py` writes one, `recorder_timeline.py` says what is when.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import anyio

from metered_anyio.backend import Backend, Waiter, current_backend
from metered_anyio.logger import ContainedLogger, Logger, NoopLogger
from metered_anyio.media_stream import MediaTrack, check_track
from metered_anyio.metered_peer import MeteredPeer
from metered_anyio.remote_peer import RemotePeer
from metered_anyio.room_events import PeerJoined
from metered_media.decoding import own_branch
from metered_media.errors import RecordingError
from metered_media.events import RecordingFinished, RecordingProgress
from metered_media.notices import Notices
from metered_media.recorder_file import FileWriter, Length
from metered_media.recorder_format import Kind, RecordingOptions
from metered_media.recorder_paths import Target, target
from metered_proto.events import Left

if TYPE_CHECKING:
    from metered_media.recorder_format import Suffix

Recordable: TypeAlias = MeteredPeer | RemotePeer | MediaTrack
"""What can be recorded."""

AT_ONCE: Final = 4
"""Files at once for one person: the first, and one for each track that is sent beside another of its kind."""

_CLOSING: Final = 30.0  # seconds for the last files to be written, before they are left to their threads


def record(
    source: Recordable,
    path: str | os.PathLike[str],
    *,
    format: Suffix | None = None,
    audio: bool = True,
    video: bool = True,
    video_codec: str | None = None,
    video_bitrate: int | None = None,
    audio_bitrate: int | None = None,
    size: tuple[int, int] | None = None,
    sample_rate: int = 48_000,
    layout: str = "stereo",
    max_files: int = 1000,
    logger: Logger | None = None,
) -> Recording:
    """Record what somebody sends, for as long as the block runs: `async with record(remote, "talk.mp4") as recording:`.

    A track goes into one file, and so does a person, a `RemotePeer`: sound and picture side by side, over all
    reconnects. A room, a `MeteredPeer`, gives a file for each person who is in it or comes later; then `path` is a
    directory, which is made, or has `{peer}` in its name. In a directory nothing is ever written over: whoever comes
    again gets `name-2.mp4`. A track beside another one of its kind, a screen beside a camera, gets such a file, too.

    The name's suffix is the format: `.mp4` (H.264, AAC), `.webm` (VP8, Opus), `.mkv` (H.264 or VP8, Opus) or `.wav`
    (sound only); in a directory `format` is, and `mp4` by default. `audio` and `video` say what is wanted of people,
    `video_codec` is `H264` or `VP8`, bit rates are in bit/s. Pictures have the `size` (width, height) that is given,
    or that of the first one, and others are scaled into it. `sample_rate` and `layout` (`mono` or `stereo`) are those
    of the sound. A recording makes no more than `max_files`.

    A file begins with the first frame. Silence and pauses take the time that they took. A file can be played up to its
    last second or two whatever happens to the process. With wav, the limit is 4 GiB.

    Encoding has a thread of its own for each file; if that does not keep up, frames are dropped and counted. Others
    who read the same received track lose nothing. A source of one's own has this as its only reader; what is sent,
    too, is recorded from a `branch()` of it. What gives packets is decoded.

    Raises `RecordingError` for a path that cannot be written to, `TypeError` or `ValueError` for bad arguments.
    """
    options = RecordingOptions(
        audio=audio,
        video=video,
        video_codec=video_codec,
        video_bitrate=video_bitrate,
        audio_bitrate=audio_bitrate,
        size=size,
        sample_rate=sample_rate,
        layout=layout,
        max_files=max_files,
    )
    if not isinstance(source, (MeteredPeer, RemotePeer)):
        check_track("source", source)
    where = target(path, format, several=isinstance(source, MeteredPeer))
    kinds = options.of(where.format)
    if not isinstance(source, (MeteredPeer, RemotePeer)):
        kinds &= {source.kind}
    if not kinds:
        raise ValueError(f"a {where.format.suffix} file would hold nothing of that")
    if "video" in kinds:
        options.encoder(where.format)
    return Recording(source, where, kinds, options, logger)


class Recording(Notices):
    """What `record` returns, to be used with `async with`. It tells `RecordingProgress` and `RecordingFinished`.

    Leaving the block closes all files. If one could not be written whole, `RecordingError` is raised there, unless
    something else was.
    """

    def __init__(
        self,
        source: Recordable,
        where: Target,
        kinds: frozenset[Kind],
        options: RecordingOptions,
        logger: Logger | None,
    ) -> None:
        super().__init__(logger)
        self._logger = ContainedLogger(NoopLogger() if logger is None else logger)
        self._source, self._where, self._kinds, self._options = source, where, kinds, options
        self._loop: Backend | None = None
        self._people: dict[int, _Person] = {}
        self._files: list[_File] = []
        self._paths: list[Path] = []
        self._done_dropped = 0
        self._undo: list[Callable[[], object]] = []
        self._waiting: list[Waiter[None]] = []
        self._more = False  # somebody may still come
        self._stopped = False
        self.error: RecordingError | None = None
        """What went wrong first; None as long as nothing did."""
        self.tracks_ignored = 0
        """Tracks that were too many."""

    def __repr__(self) -> str:
        return f"<Recording of {len(self._paths)} files, {len(self._files)} open>"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files so far, in the order in which they were begun."""
        return tuple(self._paths)

    @property
    def dropped(self) -> int:
        """Frames that were lost, since encoding or the disk did not keep up."""
        return self._done_dropped + sum(file.dropped for file in self._files)

    @property
    def over(self) -> bool:
        """Whether it is over: stopped, or there is nobody left to be recorded, and all files are closed."""
        return self._loop is not None and not (self._more or self._people or self._files)

    async def wait(self) -> None:
        """Wait until it is over by itself: the track has ended, the person is gone, the room was left."""
        if self._loop is None:
            raise RuntimeError("a recording has to be entered first: async with record(…) as recording")
        if not self.over:
            waiter = self._loop.waiter()
            self._waiting.append(waiter)
            await waiter

    async def stop(self) -> None:
        """Close all files now, and return when they are closed. Idempotent."""
        self._stopped, self._more = True, False
        undo, self._undo = self._undo, []
        for each in undo:
            each()
        for person in list(self._people.values()):
            person.peer_gone()
        with anyio.move_on_after(_CLOSING, shield=True) as late:
            await self.wait()
        if late.cancelled_caught:
            self._fail(RecordingError(str(self._paths[-1]), "the disk does not answer"))

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a recording can be entered once")
        self._loop = current_backend()
        self.bind()
        match self._source:
            case MeteredPeer() as room:
                self._more = True
                room.on(PeerJoined, self._joined)
                room.on(Left, self._left)
                self._undo += [lambda: room.off(PeerJoined, self._joined), lambda: room.off(Left, self._left)]
                for remote in room.remote_peers:
                    self._follow(remote)
            case RemotePeer() as remote:
                self._follow(remote)
            case track:
                person = _Person(self, None)
                person.track_seen(track)
                person.ends_with_tracks = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()
            await self.finish()
        if error is None and self.error is not None:
            raise self.error

    # --- who is there ---

    def _joined(self, event: PeerJoined) -> None:
        self._follow(event.peer)

    def _left(self, event: Left) -> None:
        self._more = False
        self._look()

    def _follow(self, remote: RemotePeer) -> None:
        person = _Person(self, remote.id)
        if remote.state == "closed":
            person.peer_gone()
        else:
            self._undo.append(unwatch := remote.watch(person))
            person.forget = lambda: self._undo.remove(unwatch) if unwatch in self._undo else None

    # --- for people and files ---

    def add_person(self, person: _Person) -> None:
        """Somebody may send something."""
        self._people[id(person)] = person

    def remove_person(self, person: _Person) -> None:
        """Somebody will send nothing more."""
        self._people.pop(id(person), None)
        self._look()

    @property
    def kinds(self) -> frozenset[Kind]:
        """What is recorded."""
        return self._kinds

    def run(self, task: Callable[[], Any]) -> None:
        """Run something in the background."""
        assert self._loop is not None
        self._loop.spawn(task)

    def scope(self) -> anyio.CancelScope:
        """A cancel scope for it."""
        assert self._loop is not None
        return self._loop.cancel_scope()

    def open_file(self, peer_id: str | None, kinds: frozenset[Kind]) -> _File | None:
        """A new file; None if there are too many."""
        if self._stopped or len(self._paths) >= self._options.max_files:
            return None
        path = self._where.next_path(peer_id, self._paths.__contains__)
        self._paths.append(path)
        file = _File(peer_id)
        file.writer = FileWriter(
            path,
            self._where.format,
            kinds,
            self._options,
            on_progress=lambda length: self._progress(path, peer_id, length),
            on_over=lambda: self._over_in_thread(file),
        )
        self._files.append(file)
        return file

    def ignore(self, why: str) -> None:
        """A track is not recorded."""
        self.tracks_ignored += 1
        if self.tracks_ignored == 1:
            self._logger.warning("a track is not recorded", {"reason": why})

    def _progress(self, path: Path, peer_id: str | None, length: Length) -> None:
        self.tell(RecordingProgress(str(path), peer_id, length.seconds, length.bytes))

    def _over_in_thread(self, file: _File) -> None:
        assert self._loop is not None
        try:
            self._loop.call_from_thread(lambda: self._file_over(file))
        except RuntimeError:
            pass  # the loop has ended without leaving the block

    def _file_over(self, file: _File) -> None:
        writer = file.writer
        writer.join()  # it has nothing left to do
        self._files.remove(file)
        self._done_dropped += file.dropped
        file.over = True
        error = writer.error
        if error is not None:
            self._fail(RecordingError(str(writer.path), error))
        elif file.dropped:
            error = f"{file.dropped} frames were lost"
        length = writer.length
        self.tell(RecordingFinished(str(writer.path), file.peer_id, length.seconds, length.bytes, error))
        self._look()

    def _fail(self, error: RecordingError) -> None:
        self._logger.error("a recording failed", {"path": error.path, "reason": error.reason})
        self.error = self.error or error

    def _look(self) -> None:
        if self.over:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)


class _File:
    """A file, and which of its kinds some track is filling now."""

    writer: FileWriter

    def __init__(self, peer_id: str | None) -> None:
        self.peer_id = peer_id
        self.busy: set[Kind] = set()
        self.over = False
        self.missed = 0  # frames that the reader was too slow for

    @property
    def dropped(self) -> int:
        """Frames that were lost."""
        return self.missed + self.writer.dropped


class _Person:
    """Whoever sends tracks, over all of them, or a single track. A `remote_peer.Watcher`."""

    def __init__(self, recording: Recording, peer_id: str | None) -> None:
        self._recording = recording
        self._peer_id = peer_id
        self._files: list[_File] = []
        self._readers: dict[int, Callable[[], object]] = {}  # how to end each
        self._gone = False
        self.ends_with_tracks = False
        self.forget: Callable[[], object] = lambda: None
        recording.add_person(self)

    def track_seen(self, track: Any) -> None:
        """It sends this from now on."""
        if track.kind not in self._recording.kinds or self._gone:
            return
        own = own_branch(track)
        scope = self._recording.scope()
        # What a branch has is still read to its end. Any other track would go on and on.
        self._readers[id(scope)] = scope.cancel if own is None else own.end

        async def run() -> None:
            with scope:
                await self._read(track if own is None else own)
            del self._readers[id(scope)]
            if own is not None:
                own.stop()
            self._settle()

        self._recording.run(run)

    def peer_gone(self) -> None:
        """It is gone, or the recording is to end."""
        if not self._gone:
            self._gone = True
            self.forget()
            for end in list(self._readers.values()):
                end()
            self._settle()

    async def _read(self, track: Any) -> None:
        file: _File | None = None
        missed = 0
        try:
            while True:
                frame = await track.recv()
                if file is None:
                    file = self._file_for(track.kind)
                    if file is None:
                        return
                file.writer.put(track.kind, frame, getattr(track, "codec", None))
                if (lost := getattr(track, "frames_dropped", 0)) != missed:
                    file.missed, missed = file.missed + lost - missed, lost
        except Exception:  # noqa: S110 - whatever a track raises is its end
            pass
        finally:
            if file is not None:
                file.busy.discard(track.kind)

    def _file_for(self, kind: Kind) -> _File | None:
        self._files = [file for file in self._files if not file.over]
        for file in self._files:
            if kind in file.writer.kinds and kind not in file.busy:
                file.busy.add(kind)
                return file
        if len(self._files) >= AT_ONCE:
            self._recording.ignore("there are too many at once")
            return None
        found = self._recording.open_file(self._peer_id, frozenset({kind}) if self._files else self._recording.kinds)
        if found is None:
            self._recording.ignore("there are too many files")
            return None
        found.busy.add(kind)
        self._files.append(found)
        return found

    def _settle(self) -> None:
        if self.ends_with_tracks and not self._readers:
            self._gone = True
        for number, file in enumerate(self._files):
            # The first file waits for what may still come; one for a single track ends with it.
            if not file.busy and (number or (self._gone and not self._readers)):
                file.writer.finish()
        if self._gone and not self._readers:
            self._recording.remove_person(self)
