"""`metered record`: everybody in a room into files."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import typer

from metered_anyio.cli.common import (
    BackendName,
    BackendOption,
    Interrupted,
    KeyOption,
    Misuse,
    Server,
    TokenOption,
    UrlOption,
    VerboseOption,
    client_logger,
    until_signal,
)
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.grants import check_wait
from metered_media.cli.in_room import (
    InRoom,
    QuietOption,
    StatisticsJsonOption,
    failure_of,
    make_peer,
    need_media,
    span,
)
from metered_media.events import RecordingFinished, RecordingProgress
from metered_proto.wire.channels import check_channel


def record(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="The room to record.")],
    directory: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Where the files go, one for each person; or a name with {peer} in it."),
    ],
    format: Annotated[
        str | None, typer.Option("--format", metavar="mp4|webm|mkv|wav", help="The kind of files. Default: mp4.")
    ] = None,
    sound_only: Annotated[bool, typer.Option("--sound-only", help="Leave pictures out.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="End after so long, with exit code 0.")
    ] = None,
    quiet: QuietOption = False,
    json: StatisticsJsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Record everybody in a room, a file for each person, until told to stop.

    Nothing is written over: whoever comes again gets another file. Ctrl-C and
    SIGTERM close all files and end with exit code 0. A file that cannot be
    written whole is exit code 1; the others go on. What was written can be
    played whatever happens to the process.
    """
    need_media()
    import metered_media

    try:
        check_channel(room)
    except ValueError as error:
        raise Misuse(str(error)) from None
    limit = None if timeout is None else check_wait(timeout, "--timeout")
    server = Server.choose(url, key, token)

    async def main() -> None:
        run = Recorder(server, room, quiet=quiet, as_json=json, verbose=verbose)
        try:
            recording = metered_media.record(
                run.peer,
                directory,
                format=format,  # type: ignore[arg-type]  # checked there
                video=not sound_only,
            )
        except ValueError as error:
            raise Misuse(str(error)) from None
        try:
            with anyio.move_on_after(limit):
                await until_signal(lambda: run.run(recording))
        except Interrupted:
            pass  # as one ends it
        if recording.error is not None:
            raise recording.error

    run_on(main, backend)


class Recorder:
    """One run of the command."""

    def __init__(self, server: Server, room: str, *, quiet: bool, as_json: bool, verbose: bool) -> None:
        self.peer = make_peer(server, client_logger(verbose=verbose), self._expired)
        self._stay = InRoom(self.peer, room, quiet=quiet, as_json=as_json)
        self._files: dict[str, RecordingProgress] = {}

    async def run(self, recording: Any) -> None:
        """Join, and record until told to stop."""
        recording.on(RecordingProgress, self._on_progress)
        recording.on(RecordingFinished, self._on_finished)

        async def nothing() -> None:
            return

        async with recording:
            self._recording = recording
            await self._stay.stay(nothing, self._report)

    async def _report(self) -> tuple[list[str], dict[str, Any]]:
        files = list(self._files.values())
        lines = [f"recording {len(files)} of {len(self.peer.remote_peers)} people"]
        lines += [f"{each.path}: {span(each.seconds)}, {each.bytes / 1e6:.1f} MB" for each in files]
        facts = [
            {"path": each.path, "peer": each.peer_id, "seconds": each.seconds, "bytes": each.bytes} for each in files
        ]
        return lines, {"people": len(self.peer.remote_peers), "files": facts, "dropped": self._recording.dropped}

    def _on_progress(self, event: RecordingProgress) -> None:
        self._files[event.path] = event

    def _on_finished(self, event: RecordingFinished) -> None:
        self._files.pop(event.path, None)
        trouble = "" if event.error is None else f" ({event.error})"
        self._stay.say(
            f"finished {event.path}: {span(event.seconds)}, {event.bytes / 1e6:.1f} MB{trouble}",
            finished=event.path,
            peer=event.peer_id,
            seconds=event.seconds,
            bytes=event.bytes,
            error=event.error,
        )

    def _expired(self) -> None:
        self._stay.end(failure_of(Exception("the token has expired")))
