"""The half of an engine that lives where the peer connections do, in an asyncio loop: `Workshop`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc import private, private_sctp
from metered_anyio.rtc.channels import EngineChannel
from metered_anyio.rtc.connection import Connection
from metered_anyio.rtc.crossing import Crossing
from metered_anyio.rtc.engine import ConnectionStats, LocalSource
from metered_anyio.rtc.fanout import FanOut
from metered_anyio.rtc.outlet import Feed
from metered_anyio.rtc.remote_track import RemoteTrack
from metered_proto.errors import PeerConnectionError
from metered_proto.facts import Fact
from metered_proto.rtc.words import (
    AddCandidate,
    CloseConnection,
    CountReceived,
    MakeAnswer,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    SwapSender,
    TakeAnswer,
    TakeTrack,
    Work,
)

ENCODERS: Final = max(
    2, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2)
)
"""Threads that encode and convert, at most: with more of them than processors, the event loop comes late to its turn,
frames are lost, and memory is held for nothing. They are made as they are needed."""

PATIENCE: Final = 0.9
"""Seconds that closing everything may take."""

_REMEMBERED: Final = 256


class Workshop:
    """Has the connections and the sources.

    `report` takes facts, `arrived(pc, channel)` a data channel that the remote opened, `ended(key)` the news that a
    track of ours has come to its end. All three are called on this side of the crossing.
    """

    def __init__(
        self,
        crossing: Crossing,
        report: Callable[[Fact], None],
        arrived: Callable[[int, EngineChannel], None],
        ended: Callable[[int], None],
        logger: ContainedLogger,
    ) -> None:
        self._crossing = crossing
        self._report = report
        self._arrived = arrived
        self._ended = ended
        self._logger = logger
        self._connections: dict[int, Connection] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._executor = ThreadPoolExecutor(ENCODERS, "metered-encoder")
        self._sources: dict[int, FanOut] = {}
        self._feeds: dict[int, Feed] = {}
        self._channels = 0
        # Which track was sent in which section, by the remote's description of it: see `MakeOffer.like`.
        self._remembered: dict[str, dict[str, int]] = {}
        self._descriptions: dict[int, str] = {}  # the remote's latest, by connection

    # --- work ---

    async def work(self, work: Work) -> Any:
        """Do what a `Begin` carries."""
        match work:
            case MakeOffer(pc=pc, like=like):
                return await self._get(pc, "offer").make_offer(work, self._sent_in(like))
            case MakeAnswer(pc=pc, sdp=sdp, tracks=tracks):
                described = await self._get(pc, "answer").make_answer(sdp, tracks)
                self._descriptions[pc] = sdp
                return described
            case TakeAnswer(pc=pc, sdp=sdp):
                await self._get(pc, "take_answer").take_answer(sdp)
                self._descriptions[pc] = sdp
                return None
            case SwapSender(pc=pc, old=old, new=new):
                return self._get(pc, "track").swap(old, new)
            case CountReceived(pc=pc):
                return self._get(pc, "closed").count_received()
            case _:
                raise TypeError(f"{type(work).__name__} is no work of a peer connection")

    def _sent_in(self, like: str | None) -> dict[str, int]:
        """What was sent in each section of the connection whose remote described itself like this."""
        if like is None:
            return {}
        for number, description in self._descriptions.items():
            if description == like and (connection := self._connections.get(number)) is not None:
                return connection.sent_in()
        return self._remembered.get(like, {})

    async def stats(self, pc: int) -> ConnectionStats:
        """Measure a connection."""
        return await self._get(pc, "closed").measure()

    def connection(self, pc: int) -> Any:
        """aiortc's own object, or None."""
        connection = self._connections.get(pc)
        return None if connection is None else connection.pc

    # --- orders ---

    def open(self, order: OpenConnection) -> None:
        """Make a connection."""
        try:
            connection = Connection(order, self._feeds.get, self._report, self._channel_came, self._logger)
        except Exception as error:
            # Whoever orders something of it will hear that it is not there.
            self._logger.error("a connection could not be made", {"error": type(error).__name__})
        else:
            self._connections[order.pc] = connection

    def close(self, order: CloseConnection) -> None:
        """Close one, in the background."""
        connection = self._connections.pop(order.pc, None)
        if connection is None:
            return
        if (description := self._descriptions.pop(order.pc, None)) is not None:
            self._remembered[description] = connection.sent_in()
            if len(self._remembered) > _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        task = connection.close()
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def add_candidate(self, order: AddCandidate) -> None:
        """Use a candidate of the remote."""
        if (connection := self._connections.get(order.pc)) is not None:
            connection.add_candidate(order.candidate)

    def open_channel(self, order: OpenChannel, channel: EngineChannel) -> None:
        """Open a channel, or move it."""
        if (connection := self._connections.get(order.pc)) is not None:
            connection.open_channel(channel)

    def take(self, order: TakeTrack, track: RemoteTrack) -> None:
        """Have what comes in a section go to `track`."""
        if (connection := self._connections.get(order.pc)) is not None:
            connection.take(order.mid, order.track, track)

    def let_go(self, pc: int, track: RemoteTrack) -> None:
        """Nothing goes to `track` any more."""
        if (connection := self._connections.get(pc)) is not None:
            connection.let_go(track)

    # --- sources ---

    def offer(self, key: int, track: LocalSource, encoding: Encoding) -> None:
        """There is a source to send, and how."""
        self.withdraw(key)
        # A track that is sent twice is still read once.
        shared = next((source for source in self._sources.values() if source.source is track), None)
        source = shared or FanOut(track, self._executor, self._logger, lambda: self._source_ended(track))
        self._sources[key] = source
        self._feeds[key] = Feed(source, encoding)

    def withdraw(self, key: int) -> None:
        """There is no more."""
        source = self._sources.pop(key, None)
        if source is None:
            return
        del self._feeds[key]
        for connection in self._connections.values():
            connection.withdraw(key)
        if source not in self._sources.values():
            source.close()

    def _source_ended(self, track: LocalSource) -> None:
        for key, source in list(self._sources.items()):
            if source.source is track:
                self._ended(key)

    # --- what happens ---

    def _channel_came(self, connection: Connection, dc: Any) -> None:
        self._channels += 1
        channel = EngineChannel(self._channels, private_sctp.options_of(dc), self._crossing, self._report, own=False)
        connection.adopt_channel(channel, dc)
        self._arrived(connection.number, channel)

    # --- the end ---

    async def aclose(self) -> None:
        """Close everything."""
        for number in list(self._connections):
            self.close(CloseConnection(number))
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        self._feeds.clear()
        try:
            if self._closing:
                await asyncio.wait(self._closing, timeout=PATIENCE)
        finally:
            for task in self._closing:
                task.cancel()
            self._executor.shutdown(wait=False, cancel_futures=True)
        # Threads end, and tasks that were cancelled do, if they are given the time.
        for _ in range(20):
            await asyncio.sleep(0.002)
            if not private.alive(self._executor):
                break

    def _get(self, pc: int, operation: str) -> Connection:
        connection = self._connections.get(pc)
        if connection is None:
            raise PeerConnectionError(operation, "there is no such connection")
        return connection
