"""The published Python SDK in a room, or ours in the same words, with all it is told."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from typing import Any

from testbed import MissingError

PATIENCE = 10.0
"""Seconds to wait for something that should happen soon."""

PEER_EVENTS = ("Joined", "Left", "StateChange", "PeerJoined", "PeerLeft", "Data", "FatalError")
REMOTE_EVENTS = (
    *("StateChange", "Track", "StreamAdded", "StreamRemoved", "DataChannelOpened"),
    *("NegotiationError", "IceCandidateError", "ConnectionReset"),
)
"""The published SDK has no `ConnectionReset`."""


def library() -> Any:
    """The package. Raises `MissingError`."""
    try:
        return importlib.import_module("metered_realtime")
    except ImportError:
        raise MissingError("the published Python SDK is not installed (pip install metered-realtime==1.0.2)") from None


class Seen:
    """A track that was received: how many frames, when, and the newest one."""

    def __init__(self, remote: str, track: Any, metadata: Any, streams: list[str]) -> None:
        self.remote, self.track, self.metadata, self.streams = remote, track, metadata, streams
        self.frames = 0
        self.newest: Any = None
        self.recent: list[Any] = []
        """The last 0.4 s of a sound."""
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.gap = 0.0
        self.over = False

    async def read(self) -> None:
        """Take frame after frame, to the end."""
        try:
            while True:
                self.newest = await self.track.recv()
                now = time.time()
                self.first_at = self.first_at or now
                if self.last_at is not None:
                    self.gap = max(self.gap, now - self.last_at)
                self.last_at = now
                self.frames += 1
                if self.track.kind == "audio":
                    self.recent = [*self.recent[-19:], self.newest]
        except Exception as error:
            if type(error).__name__ != "MediaStreamError":
                raise
            self.over = True


class Guest:
    """A `MeteredPeer` of the published SDK (or of any library with the same names), and what it was told, in order."""

    def __init__(self, library: Any, **options: Any) -> None:
        self.library = library
        self.peer = library.MeteredPeer(**options)
        self.told: list[tuple[float, str | None, Any]] = []
        self.tracks: list[Seen] = []
        self._readers: list[asyncio.Task[None]] = []
        self.sources: list[Any] = []
        """Tracks that are stopped by `close`."""
        self._told = asyncio.Event()
        for name in PEER_EVENTS:
            self.peer.on(getattr(library, name), self._on_event)

    def __repr__(self) -> str:
        return f"<Guest {self.peer_id} of {self.library.__name__}>"

    @property
    def peer_id(self) -> str:
        return str(self.peer.peer_id)

    def _on_event(self, event: Any) -> None:
        self._note(None, event)
        if type(event).__name__ == "PeerJoined":
            remote = event.peer
            for name in REMOTE_EVENTS:
                kind = getattr(self.library, name, None)
                if kind is not None:
                    remote.on(kind, lambda event, remote=remote: self._on_remote_event(remote.id, event))

    def _on_remote_event(self, remote: str, event: Any) -> None:
        self._note(remote, event)
        if type(event).__name__ == "Track":
            seen = Seen(remote, event.track, event.metadata, [stream.id for stream in event.streams])
            self.tracks.append(seen)
            self._readers.append(asyncio.create_task(seen.read()))

    def _note(self, remote: str | None, event: Any) -> None:
        self.told.append((time.time(), remote, event))
        self._told.set()

    async def join(self, channel: str = "room") -> float:
        """Join; returns when that was done, in Unix seconds."""
        await self.peer.join(channel)
        return time.time()

    def share(self, name: str, *tracks: Any, **metadata: Any) -> Any:
        """Send a stream with this id; returns it. Its tracks are stopped by `close`."""
        self.sources += tracks
        stream = self.library.MediaStream(tracks, id=name)
        self.peer.add_stream(stream, metadata or None)
        return stream

    def send(self, name: str, track: Any, **options: Any) -> Any:
        """Send one track in a stream with this id, with options of `add_track`; returns it. `close` stops it."""
        self.sources.append(track)
        self.peer.add_track(track, self.library.MediaStream(id=name), **options)
        return track

    def source(self, track: Any) -> Any:
        """A track that is stopped by `close`."""
        self.sources.append(track)
        return track

    def seen(self, kind: str, *, live: bool = True) -> list[Seen]:
        """The tracks of a kind that came, without those that are over unless they are asked for."""
        return [seen for seen in self.tracks if seen.track.kind == kind and not (live and seen.over)]

    def all(self, kind: str, remote: str | None = None) -> list[Any]:
        """All events of a kind, of one remote if it is named."""
        return [one for _, whose, one in self.told if type(one).__name__ == kind and remote in (None, whose)]

    def remote(self, peer_id: str) -> Any:
        """The `RemotePeer` of somebody in the room."""
        return next(one for one in self.peer.remote_peers if one.id == peer_id)

    async def heard(self, kind: str, count: int = 1, patience: float = PATIENCE) -> Any:
        """Wait for the `count`th event of a kind, and return it."""
        await self.until(lambda: len(self.all(kind)) >= count, f"{count} {kind}", patience)
        return self.all(kind)[count - 1]

    async def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
        """Wait for something to become true. Raises `TimeoutError` with what came instead."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._told.clear()
                    try:
                        async with asyncio.timeout(0.02):  # frames come without an event
                            await self._told.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise TimeoutError(f"waited {patience} s for {what}; {self.summary()}") from None

    def summary(self) -> str:
        """What happened, for somebody who has to find out why."""
        started = self.told[0][0] if self.told else 0.0
        return "\n".join(
            f"{at - started:8.3f} {remote or ''} {str(event)[:200]}" for at, remote, event in self.told[-60:]
        )

    async def close(self) -> None:
        """Leave, and stop reading."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.peer.close()
        finally:
            for reader in self._readers:
                reader.cancel()
            await asyncio.gather(*self._readers, return_exceptions=True)
            for source in self.sources:
                source.stop()
