"""`metered bridge` and `metered play`: a camera, a device or a file for everybody in a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

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
from metered_anyio.encoding import Encoding
from metered_anyio.media_stream import MediaStream
from metered_media.cli.in_room import (
    InRoom,
    QuietOption,
    StatisticsJsonOption,
    failure_of,
    make_peer,
    need_media,
    rate,
)
from metered_media.cli.sources import Source, Transport, open_source, parse_source
from metered_media.errors import PassthroughError, SourceOpenError
from metered_media.events import SourceEnded, SourceLost, SourceRestored
from metered_proto.wire.channels import check_channel

if TYPE_CHECKING:
    from metered_media.player import Player

LINGER: Final = 0.5
"""Seconds for the last frames to reach everybody before the room is left."""

RoomOption: TypeAlias = Annotated[str, typer.Option("--room", metavar="NAME", help="The room to send to.")]
LabelOption: TypeAlias = Annotated[
    str | None, typer.Option("--label", metavar="TEXT", help="What viewers are told that it is.")
]
PassthroughOption: TypeAlias = Annotated[
    bool, typer.Option("--passthrough", help="Send H.264, VP8 and Opus as they are, without encoding, where possible.")
]
LoopOption: TypeAlias = Annotated[bool, typer.Option("--loop", help="Play a file again and again.")]
CodecOption: TypeAlias = Annotated[
    str | None, typer.Option("--codec", metavar="VP8|H264", help="The video codec to prefer.")
]
MaxBitrateOption: TypeAlias = Annotated[
    int | None, typer.Option("--max-bitrate", metavar="BIT/S", help="The most for one viewer's video.")
]
MaxFpsOption: TypeAlias = Annotated[float | None, typer.Option("--max-fps", metavar="N", help="Pictures a second.")]
MaxHeightOption: TypeAlias = Annotated[
    int | None, typer.Option("--max-height", metavar="PIXELS", help="Larger pictures are made smaller.")
]
EncoderOption: TypeAlias = Annotated[
    str | None, typer.Option("--encoder", metavar="NAME", help="FFmpeg's encoder to use, for example h264_v4l2m2m.")
]
TransportOption: TypeAlias = Annotated[Transport, typer.Option("--transport", help="How RTSP carries media.")]
TimeoutOption: TypeAlias = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long opening the source may take.")
]


def bridge(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="rtsp://…, http(s)://…, a file, or camera, microphone or screen, perhaps with :DEVICE behind it.",
        ),
    ],
    room: RoomOption,
    passthrough: PassthroughOption = False,
    label: LabelOption = None,
    codec: CodecOption = None,
    max_bitrate: MaxBitrateOption = None,
    max_fps: MaxFpsOption = None,
    max_height: MaxHeightOption = None,
    encoder: EncoderOption = None,
    loop: LoopOption = False,
    transport: TransportOption = Transport.tcp,
    timeout: TimeoutOption = 10.0,
    quiet: QuietOption = False,
    json: StatisticsJsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Send a camera, a device or a file to everybody in a room.

    An RTSP camera that goes away comes back by itself, as the connection to
    the room does. What is sent is told once a second, and who comes and goes
    on stderr. Ctrl-C and SIGTERM end it with exit code 0, and so does the end
    of a file; a source that cannot be opened, or fails, is exit code 1.
    """
    _run(
        Plan(
            source=parse_source(source),
            room=room,
            label=label,
            passthrough=passthrough,
            loop=loop,
            transport=transport,
            timeout=check_wait(timeout, "--timeout"),
            encoding=_encoding(codec, max_bitrate, max_fps, max_height, encoder),
        ),
        Server.choose(url, key, token),
        backend,
        quiet=quiet,
        as_json=json,
        verbose=verbose,
    )


def play(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file with sound, pictures or both.")],
    room: RoomOption,
    loop: LoopOption = False,
    passthrough: PassthroughOption = False,
    label: LabelOption = None,
    codec: CodecOption = None,
    max_bitrate: MaxBitrateOption = None,
    max_fps: MaxFpsOption = None,
    max_height: MaxHeightOption = None,
    quiet: QuietOption = False,
    json: StatisticsJsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    token: TokenOption = None,
    backend: BackendOption = BackendName.asyncio,
    verbose: VerboseOption = False,
) -> None:
    """Play a file to everybody in a room, from its beginning once somebody is there, and end with it.

    Ctrl-C and SIGTERM end it with exit code 0, too.
    """
    _run(
        Plan(
            source=Source("file", file),
            room=room,
            label=label,
            passthrough=passthrough,
            loop=loop,
            transport=Transport.tcp,
            timeout=10.0,
            encoding=_encoding(codec, max_bitrate, max_fps, max_height, None),
        ),
        Server.choose(url, key, token),
        backend,
        quiet=quiet,
        as_json=json,
        verbose=verbose,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is sent where, and how."""

    source: Source
    room: str
    label: str | None
    passthrough: bool
    loop: bool
    transport: Transport
    timeout: float
    encoding: Encoding


def _encoding(
    codec: str | None, max_bitrate: int | None, max_fps: float | None, max_height: int | None, encoder: str | None
) -> Encoding:
    if codec is not None and codec.upper() not in ("VP8", "H264"):
        raise Misuse(f"--codec must be VP8 or H264, not {codec!r}")
    try:
        return Encoding(
            codec=None if codec is None else codec.upper(),  # type: ignore[arg-type]  # one of the two
            max_bitrate=max_bitrate,
            max_fps=max_fps,
            max_height=max_height,
            encoder=encoder,
        )
    except ValueError as error:
        raise Misuse(f"--{str(error).replace('_', '-', 1)}") from None


def _run(plan: Plan, server: Server, backend: BackendName, *, quiet: bool, as_json: bool, verbose: bool) -> None:
    need_media()
    try:
        check_channel(plan.room)
    except ValueError as error:
        raise Misuse(str(error)) from None

    async def main() -> None:
        sender = Sender(plan, server, quiet=quiet, as_json=as_json, verbose=verbose)
        try:
            await until_signal(sender.run)
        except Interrupted:
            return  # as one ends it

    run_on(main, backend)


class Sender:
    """One run of the command."""

    def __init__(self, plan: Plan, server: Server, *, quiet: bool, as_json: bool, verbose: bool) -> None:
        self._plan = plan
        self._peer = make_peer(server, client_logger(verbose=verbose), self._expired)
        self._stay = InRoom(self._peer, plan.room, quiet=quiet, as_json=as_json)
        self._lost = False

    async def run(self) -> None:
        """Open the source, join the room, and send until the source or the command ends."""
        plan = self._plan
        try:
            player = await open_source(
                plan.source,
                loop=plan.loop,
                passthrough=plan.passthrough,
                transport=plan.transport,
                timeout=plan.timeout,
            )
        except (SourceOpenError, PassthroughError) as error:
            raise failure_of(error) from None
        async with player:
            self._listen(player)
            self._add(player)
            await self._stay.stay(self._begin, self._report)

    def _listen(self, player: Player) -> None:
        player.on(SourceEnded, self._on_end)
        player.on(SourceLost, self._on_lost)
        player.on(SourceRestored, self._on_restored)

    def _add(self, player: Player) -> None:
        plan, encoding = self._plan, self._plan.encoding
        stream = MediaStream(id="bridge")
        role = {"screen": "screen", "file": "file", "http": "file"}.get(plan.source.kind, "camera")
        metadata = {"role": role, "label": plan.label or _usual_label(plan.source)}
        if player.video is not None:
            self._peer.add_track(
                player.video,
                stream,
                metadata,
                codec=encoding.codec,
                max_bitrate=encoding.max_bitrate,
                max_fps=encoding.max_fps,
                max_height=encoding.max_height,
                encoder=encoding.encoder,
            )
        if player.audio is not None:
            self._peer.add_track(player.audio, stream, metadata)

    async def _begin(self) -> None:
        self._stay.say(f"sending {self._plan.source.shown}", sending=self._plan.source.shown)

    async def _report(self) -> tuple[list[str], dict[str, Any]]:
        stats = await self._peer.stats()
        connections = {peer_id: one for peer_id, one in stats.remotes.items() if one is not None}
        tracks = {
            peer_id: [track for track in one.tracks if track.direction == "send"]
            for peer_id, one in connections.items()
        }
        viewers = [
            {
                "peer": peer_id,
                "state": connections[peer_id].state,
                "bitrate": round(sum(track.bitrate or 0 for track in sent)),
                "tracks": [
                    {"kind": track.kind, "codec": track.codec, "frames": track.frames, "bitrate": track.bitrate}
                    for track in sent
                ],
            }
            for peer_id, sent in tracks.items()
        ]
        total = sum(track.bitrate or 0 for sent in tracks.values() for track in sent)
        state = "camera lost" if self._lost else self._peer.state
        lines = [f"{state}: {len(viewers)} viewers, {rate(total)}"]
        for peer_id, sent in tracks.items():
            words = [f"{track.kind} {track.codec or '?'} {rate(track.bitrate)}" for track in sent]
            lines.append(f"{peer_id}: {connections[peer_id].state}, {', '.join(words) or 'nothing yet'}")
        return lines, {"state": state, "viewers": viewers, "bitrate": round(total)}

    async def _on_end(self, event: SourceEnded) -> None:
        await anyio.sleep(LINGER)
        if event.reason is not None or not self._plan.source.ends:
            self._stay.end(failure_of(Exception(f"the source has ended: {event.reason or 'no more came'}")))
        else:
            self._stay.end()

    def _on_lost(self, event: SourceLost) -> None:
        self._lost = True
        self._stay.say(f"the source is lost: {event.reason}", source="lost", reason=event.reason)

    def _on_restored(self, event: SourceRestored) -> None:
        self._lost = False
        self._stay.say(f"the source is back after {event.away:.1f} s", source="restored", away=event.away)

    def _expired(self) -> None:
        self._stay.end(failure_of(Exception("the token has expired")))


def _usual_label(source: Source) -> str:
    return source.kind if source.kind != "file" or source.what is None else source.what.rpartition("/")[2]
