"""The half of an engine that lives in the application's loop: `Front`. It has what the application gets to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger, Logger
from metered_anyio.rtc.channels import EngineChannel
from metered_anyio.rtc.crossing import Crossing
from metered_anyio.rtc.engine import ConnectionStats, LocalSource
from metered_anyio.rtc.remote_track import RemoteTrack
from metered_anyio.rtc.workshop import Workshop
from metered_proto.facts import Fact
from metered_proto.orders import Order
from metered_proto.rtc.words import (
    AddCandidate,
    ChannelArrived,
    ChannelOptions,
    CloseConnection,
    EndTrack,
    OpenChannel,
    OpenConnection,
    TakeTrack,
    Work,
)


class Front:
    """See `metered_anyio.rtc.engine.Engine`. `feed` takes the facts."""

    def __init__(self, feed: Callable[[Fact], None], logger: Logger, crossing: Crossing) -> None:
        self._feed = feed
        self._crossing = crossing
        self._workshop = Workshop(
            crossing,
            lambda fact: crossing.to_app(self._report, fact),
            lambda pc, channel: crossing.to_app(self._channel_arrived, pc, channel),
            lambda key: crossing.to_app(self._track_ended, key),
            ContainedLogger(logger),
        )
        crossing.at_end(self._workshop.aclose)
        self._tracks: dict[int, tuple[int, RemoteTrack]] = {}  # with the number of the connection
        self._channels: dict[int, EngineChannel] = {}
        self._ended: set[int] = set()
        self._closed = False
        self.on_track_ended: Callable[[int], object] | None = None

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        to_engine, workshop = self._crossing.to_engine, self._workshop
        return {
            OpenConnection: lambda order: to_engine(workshop.open, order),
            CloseConnection: self._close_connection,
            AddCandidate: lambda order: to_engine(workshop.add_candidate, order),
            OpenChannel: self._open_channel,
            TakeTrack: self._take_track,
            EndTrack: self._end_track,
        }

    async def work(self, work: Work) -> Any:
        return await self._crossing.call(lambda: self._workshop.work(work))

    def offer_track(self, key: int, track: LocalSource, encoding: Encoding) -> None:
        self._ended.discard(key)
        self._crossing.to_engine(self._workshop.offer, key, track, encoding)

    def withdraw_track(self, key: int) -> None:
        self._ended.discard(key)
        self._crossing.to_engine(self._workshop.withdraw, key)

    def track(self, number: int) -> RemoteTrack:
        return self._tracks[number][1]

    def channel(self, number: int) -> EngineChannel:
        return self._channels[number]

    def create_channel(self, number: int, options: ChannelOptions) -> EngineChannel:
        channel = self._channels.get(number)
        if channel is None:
            channel = EngineChannel(number, options, self._crossing, self._report, own=True)
            self._keep(channel)
        return channel

    def connection(self, pc: int) -> Any:
        return self._workshop.connection(pc)

    async def stats(self, pc: int) -> ConnectionStats:
        stats: ConnectionStats = await self._crossing.call(lambda: self._workshop.stats(pc))
        return stats

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        for _, track in self._tracks.values():
            track.end()
        for channel in list(self._channels.values()):
            channel.finish()
        self._tracks.clear()
        self._channels.clear()
        with anyio.CancelScope(shield=True):  # which takes a second at most
            await self._crossing.aclose()

    # --- orders ---

    def _close_connection(self, order: CloseConnection) -> None:
        for number, (pc, track) in list(self._tracks.items()):
            if pc == order.pc:
                track.end()
                del self._tracks[number]
        self._crossing.to_engine(self._workshop.close, order)

    def _open_channel(self, order: OpenChannel) -> None:
        channel = self.create_channel(order.channel, order.options)
        self._crossing.to_engine(self._workshop.open_channel, order, channel)

    def _keep(self, channel: EngineChannel) -> None:
        self._channels[channel.number] = channel
        channel.on_end = lambda: self._channels.pop(channel.number, None)

    def _take_track(self, order: TakeTrack) -> None:
        track = RemoteTrack(order.kind, order.track_id)
        self._tracks[order.track] = (order.pc, track)
        self._crossing.to_engine(self._workshop.take, order, track)

    def _end_track(self, order: EndTrack) -> None:
        known = self._tracks.pop(order.track, None)
        if known is not None:
            known[1].end()
            self._crossing.to_engine(self._workshop.let_go, *known)

    # --- what happens ---

    def _report(self, fact: Fact) -> None:
        if not self._closed:
            self._feed(fact)

    def _channel_arrived(self, pc: int, channel: EngineChannel) -> None:
        if self._closed:
            channel.finish()
            return
        self._keep(channel)
        self._report(ChannelArrived(pc, channel.number))

    def _track_ended(self, key: int) -> None:
        if self.on_track_ended is not None and not self._closed and key not in self._ended:
            self._ended.add(key)
            self.on_track_ended(key)
