"""The thread of a player: opens, reads, decodes, opens again. All that blocks, blocks here.

A file is read ahead a little and then waits for its readers: it begins to play with the first, and stands still while
there is none. What is live goes through as it comes, the newest wins, and it is read on while nobody looks, so that
whoever does look sees what is now.

It holds neither the player nor its tracks: once the application has let go of all of them, the thread ends.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import av
from av.stream import Disposition

from metered_anyio.logger import ContainedLogger
from metered_media.continuous import Continuous, Playing
from metered_media.errors import PassthroughError, SourceOpenError
from metered_media.events import SourceEnded, SourceLost, SourceRestored
from metered_media.healing import Healing
from metered_media.lane import Item, Lane
from metered_media.opening import Origin, open_container
from metered_media.packets import Packets
from metered_media.passthrough import straight
from metered_media.player_track import Mark, PlayerTrack, Timed
from metered_proto.entropy import Entropy
from metered_proto.events import Event

KINDS: Final = ("audio", "video")

AHEAD: Final = {"video": 5, "audio": 25}
"""Frames of a file that are decoded before they are due."""

LIVE: Final = {"video": 3, "audio": 25}
LIVE_PACKETS: Final = {"video": 600, "audio": 50}
"""What of a live source is kept for a reader that is late. Pictures that were not decoded need each other, so there
are more of them."""

QUEUED_BYTES: Final = 16_000_000
"""Bytes of packets that wait while the other stream is looked for, in a file that has them far apart."""

_NAP: Final = 0.25  # seconds after which the thread looks whether somebody went away without a word


@dataclass(frozen=True, slots=True)
class Plan:
    """How a source is read. `live`: as it comes, and not paced. `fallback`: what cannot be passed on is decoded.

    `placeholder` is what is shown while a source is away: `last`, `black`, a frame, or None for nothing.
    """

    live: bool
    loop: bool = False
    reconnect: bool = False
    passthrough: bool = False
    fallback: bool = True
    placeholder: Any = None
    open_timeout: float = 10.0
    stall_timeout: float | None = None


@dataclass(slots=True)
class Counts:
    """What a reader has counted. The player shows them."""

    passes: int = 0
    losses: int = 0
    broken: int = 0
    skipped: int = 0
    open_seconds: float | None = None


class Reading:
    """One thread, and the tracks that it fills. `tell` and `logger` may be called in it."""

    def __init__(self, origin: Origin, plan: Plan, tell: Callable[[Event], None], logger: ContainedLogger) -> None:
        self.origin, self.plan, self.counts = origin, plan, Counts()
        self.opened = threading.Event()
        self.error: Exception | None = None
        self.misfit: PassthroughError | None = None
        self.on_opened: Callable[[], object] = lambda: None
        self.on_closed: Callable[[], object] = lambda: None
        self._tell, self._logger = tell, logger
        self._turn = threading.Condition()
        self._stopping = False
        self._began = time.monotonic()
        self._playing = Playing()
        self._times = Continuous(live=plan.live)
        self._first_read: float | None = None
        self._told_end = False
        self._reason: str | None = None
        self._tracks: dict[str, weakref.ref[PlayerTrack]] = {}
        self._handed_out: set[str] = set()
        self._lacking: set[str] = set()
        self._open_lanes: dict[str, Lane] = {}
        self._resting = False
        self.thread = threading.Thread(target=self._run, name="metered-media-source", daemon=True)

    # --- what the player and its tracks call ---

    def begin(self, player: object) -> dict[str, PlayerTrack]:
        """Make the tracks, which keep `player`, and start. Whoever has the one or the other keeps it going."""
        tracks = {}
        for kind in KINDS:
            live = (LIVE_PACKETS if self.plan.passthrough else LIVE)[kind]
            placeholder = self.plan.placeholder if kind == "video" else None
            capacity = live if self.plan.live else 64
            tracks[kind] = PlayerTrack(kind, self, capacity=capacity, placeholder=placeholder, keep=player)
        if self.plan.passthrough:
            tracks["video"].codec = "H264"  # what it most likely is
        self._tracks = {kind: weakref.ref(track) for kind, track in tracks.items()}
        self.thread.start()
        return tracks

    @property
    def tracks(self) -> dict[str, PlayerTrack]:
        """Those that the player has. Nothing may hold one for longer than a moment. Raises `AbandonedError`."""
        tracks = {kind: track for kind, found in self._tracks.items() if (track := found()) is not None}
        if len(tracks) < len(KINDS):
            raise AbandonedError
        return tracks

    def abandon(self) -> None:
        """Nobody has the player or one of its tracks any more. May be called by the garbage collector."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()

    @property
    def broken_now(self) -> int:
        """Packets of this pass that could not be decoded."""
        return sum(lane.broken for lane in self._open_lanes.values())

    def lacks(self, kind: str) -> bool:
        """Whether it is known that there is nothing of this kind."""
        return kind in self._lacking

    @property
    def anything_handed_out(self) -> bool:
        """Whether the application has one of the tracks."""
        return bool(self._handed_out)

    def hand_out(self, kind: str) -> PlayerTrack:
        """The application has this track, and may read it."""
        self._handed_out.add(kind)
        return self.tracks[kind]

    def stop(self) -> None:
        """End soon. A thread that waits for the network ends when that wait is over."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        for track in self.tracks.values():
            track.stop()

    def wanted(self) -> None:
        if self._first_read is None:
            with self._turn:
                self._first_read = time.monotonic()
                self._turn.notify_all()
        elif self._resting:
            with self._turn:
                self._turn.notify_all()

    def taken(self, track: PlayerTrack) -> None:
        if not self.plan.live and track.waiting <= AHEAD[track.kind] // 2:
            with self._turn:
                self._turn.notify_all()

    def when(self, at: float, may_skip: bool) -> float | None:
        if self.plan.live:
            return 0.0
        with self._turn:
            return self._playing.due(at, time.monotonic(), may_skip=may_skip)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def left(self, track: PlayerTrack) -> None:
        # A track that ended because there is no such media does not say that nothing else is wanted.
        asked_for = self._handed_out - self._lacking
        if asked_for and all(self.tracks[kind].readyState == "ended" for kind in asked_for):
            with self._turn:
                self._stopping = True
                told, self._told_end = self._told_end, True
                self._turn.notify_all()
            if not told:
                self._tell(SourceEnded(self._reason))

    # --- the thread ---

    def _run(self) -> None:
        container = None
        try:
            container = self._open_first()
            if container is not None:
                self._passes(container)
        except (SourceOpenError, PassthroughError) as error:
            self.error, self._reason = error, str(error)
        except AbandonedError:
            pass
        except Exception as error:
            # What nobody thought of ends the source, and not the program. Its words may hold an address.
            self.error = SourceOpenError(self.origin.shown, "failed", type(error).__name__)
            self._reason = str(self.error)
            self._logger.error("a source ended with an error", {"error": type(error).__name__})
        finally:
            self._finish()

    def _finish(self) -> None:
        # Readers get what is left, and then the end; of a file that stands still, whoever reads next. Nobody waits for
        # a track that is not read while the other one is.
        try:
            tracks = self.tracks
        except AbandonedError:
            tracks = {}
        read = {kind for kind, track in tracks.items() if self._reads(track)}
        if not read and self.error is None and not self.plan.live:
            read = set(self._handed_out)
        for kind, track in tracks.items():
            if kind in read and not self._stopping:
                track.put("last")
            else:
                track.end()
        self.opened.set()
        self.on_opened()
        with self._turn:
            told = self._told_end or any(track.readyState == "live" for track in tracks.values())
            self._told_end = self._told_end or not told
        if not told:
            self._tell(SourceEnded(self._reason))
        self.on_closed()

    def _reads(self, track: PlayerTrack) -> bool:
        return track.kind in self._handed_out and track.wanted_at(time.monotonic())

    def _open_first(self) -> Any:
        began = time.monotonic()
        healing = self._healing()
        container: Any = None
        while container is None and not self._stopping:
            try:
                container = self._open(self.plan.open_timeout)
                self.counts.open_seconds = time.monotonic() - began
            except SourceOpenError as error:
                if not self.plan.reconnect or error.code == "not_allowed":
                    raise
                self.error = error
                self._sleep(healing.next(denied=error.code == "unauthorized").after)
        if container is not None and not self._stopping:
            self.error = None
            for kind in KINDS:
                if _stream(container, kind) is None:
                    self._lacking.add(kind)
                    self.tracks[kind].end()
        return container

    def _healing(self) -> Healing:
        return Healing(Entropy(os.urandom(8)), self.plan.open_timeout)

    def _open(self, timeout: float) -> Any:
        return open_container(self.origin, timeout, self.plan.stall_timeout)

    def _passes(self, container: Any) -> None:
        while True:
            self.counts.passes += 1
            try:
                progress = self._times.end
                self._open_lanes = lanes = self._lanes(container)
                self.opened.set()
                self.on_opened()
                reason = self._live(container, lanes) if self.plan.live else self._paced(container, lanes)
            finally:
                self.counts.broken += self.broken_now
                self._open_lanes = {}
                container.close()
            if self._stopping:
                return
            if self.plan.reconnect:
                again = self._heal(reason or "it ended")
                if again is None:
                    return
                container = again
            elif self.plan.loop and self._times.end > progress:
                container = self._open(self.plan.open_timeout)
            else:
                self._reason = reason
                return

    def _heal(self, reason: str) -> Any:
        """Open again and again, until it is back or nobody wants it any more."""
        lost = time.monotonic()
        self.counts.losses += 1
        self._tell(SourceLost(reason))
        self._put_all("lost")
        healing = self._healing()
        denied = False
        while not self._stopping:
            attempt = healing.next(denied=denied)
            if not self._sleep(attempt.after):
                break
            try:
                container = self._open(attempt.timeout)
            except SourceOpenError as error:
                denied = error.code == "unauthorized"
                continue
            self._tell(SourceRestored(time.monotonic() - lost, healing.found()))
            return container
        return None

    def _put_all(self, mark: Mark) -> None:
        for track in self.tracks.values():
            track.put(mark)

    def _sleep(self, seconds: float) -> bool:
        """False if it is to end."""
        end = time.monotonic() + seconds
        with self._turn:
            while not self._stopping and (left := end - time.monotonic()) > 0:
                self._turn.wait(left)
            return not self._stopping

    def _lanes(self, container: Any) -> dict[str, Lane]:
        streams = {kind: stream for kind in KINDS if (stream := _stream(container, kind)) is not None}
        lanes = {}
        for kind, stream in streams.items():
            way = None
            if self.plan.passthrough:
                try:
                    way = straight(stream)
                except PassthroughError as error:
                    if kind == "video" or "video" not in streams:
                        self._on_misfit(error)
            self.tracks[kind].codec = None if way is None else way.codec

            def on_misfit(error: PassthroughError, kind: str = kind) -> None:
                self.tracks[kind].codec = None
                self._on_misfit(error)

            lanes[kind] = Lane(stream, way, on_misfit, live=self.plan.live)
        if "video" not in streams:
            self.tracks["video"].codec = None
        start = container.start_time
        base = None if self.plan.live or start is None else start / av.time_base
        self._times.begin(self.elapsed() if self.plan.live else None, base)
        return lanes

    def _on_misfit(self, error: PassthroughError) -> None:
        self.misfit = error
        if not self.plan.fallback:
            raise error
        self._logger.warning("a source is encoded anew", {"source": self.origin.shown, "reason": error.reason})

    # --- live: as it comes ---

    def _live(self, container: Any, lanes: dict[str, Lane]) -> str | None:
        packets = Packets(container, [_stream(container, kind) for kind in lanes])
        while not self._stopping:
            packet = packets.next()
            if packet is None or packet.size == 0:
                return packets.error
            self._feed(packet, lanes)
        return None

    def _feed(self, packet: Any, lanes: dict[str, Lane]) -> None:
        track = self.tracks[packet.stream.type]
        lane = lanes[track.kind]
        for item in lane.feed(packet, self._reads(track)):
            self._put(track, lane, item)

    def _put(self, track: PlayerTrack, lane: Lane, item: Item) -> None:
        if lane.straight is not None and track.waiting >= LIVE_PACKETS[track.kind] - 1:
            self.counts.skipped += track.forget()
        track.put(self._placed(track, item))

    def _placed(self, track: PlayerTrack, item: Item) -> Timed:
        return Timed(item.thing, self._times.place(track.kind, item.own, item.lasts))

    # --- files: ahead of time, and not too far ---

    def _paced(self, container: Any, lanes: dict[str, Lane]) -> str | None:
        queues: dict[str, deque[Any]] = {kind: deque() for kind in lanes}
        packets = Packets(container, [_stream(container, kind) for kind in lanes])
        over = False
        while not self._stopping:
            wanted = self._wanted(lanes)
            for kind in lanes.keys() - wanted if wanted else ():
                while queues[kind]:
                    lanes[kind].feed(queues[kind].popleft(), False)
            hungry = [kind for kind in wanted if self.tracks[kind].waiting < AHEAD[kind]]
            fed = [kind for kind in hungry if queues[kind]]
            if fed:
                for kind in fed:
                    for item in lanes[kind].feed(queues[kind].popleft(), True):
                        self.tracks[kind].put(self._placed(self.tracks[kind], item))
            elif hungry and not over:
                packet = packets.next()
                if packet is None:
                    over = True
                elif packet.size:
                    queues[packet.stream.type].append(packet)
                    self._bound(queues, lanes)
            elif over and not any(queues[kind] for kind in wanted) and wanted:
                break
            else:
                self._rest(wanted)
        for kind, lane in lanes.items():
            for item in lane.flush() if not self._stopping else ():
                self.tracks[kind].put(self._placed(self.tracks[kind], item))
        return packets.error

    def _wanted(self, lanes: dict[str, Lane]) -> list[str]:
        """The streams that somebody reads. At the start that is each that was handed out, until it shows."""
        first = self._first_read
        if first is None:
            return []
        now = time.monotonic()
        early = now - first < 1.0
        handed = [kind for kind in lanes if kind in self._handed_out and self.tracks[kind].readyState == "live"]
        read = [kind for kind in handed if self.tracks[kind].wanted_at(now)]
        return handed if early else read

    def _rest(self, wanted: list[str]) -> None:
        with self._turn:
            if self._stopping:
                return
            if not wanted:
                self._playing.rest()
            self._resting = not wanted
            # Whoever takes something wakes us. Nobody says when they stop reading, so look now and then.
            self._turn.wait(_NAP if self._first_read is not None else None)
            self._resting = False

    def _bound(self, queues: dict[str, deque[Any]], lanes: dict[str, Lane]) -> None:
        while sum(packet.size for queue in queues.values() for packet in queue) > QUEUED_BYTES:
            kind = max(queues, key=lambda each: sum(packet.size for packet in queues[each]))
            lanes[kind].feed(queues[kind].popleft(), False)
            self.counts.skipped += 1


class AbandonedError(Exception):
    """Nobody has the tracks any more."""


def _stream(container: Any, kind: str) -> Any:
    """The stream of a kind that FFmpeg thinks best, if it can be decoded. The cover of a record is no video."""
    best = container.streams.best(kind)
    if best is not None and best.disposition & Disposition.attached_pic:
        others = (each for each in getattr(container.streams, kind) if not each.disposition & Disposition.attached_pic)
        best = next(others, None)
    return best if best is not None and best.codec_context is not None else None
