"""An engine that is made when something needs it: aiortc takes a while to import, and a room may never need it.

It is imported in a thread. Orders and work that come meanwhile wait, and then are done in order.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from metered_anyio.backend import Backend, Waiter
from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger
from metered_anyio.pump import Pump
from metered_proto.errors import PeerConnectionError, WebRtcMissingError
from metered_proto.facts import Fact
from metered_proto.orders import Order
from metered_proto.rtc.absent import HOW_TO_INSTALL
from metered_proto.rtc.words import (
    AddCandidate,
    ChannelOptions,
    CloseConnection,
    EndTrack,
    OpenChannel,
    OpenConnection,
    TakeTrack,
    Work,
)

if TYPE_CHECKING:
    from metered_anyio.rtc.engine import ChannelHandle, ConnectionStats, Engine, LocalSource

LIBRARIES: Final = ("aiortc", "av")

MODULES: Final = (*LIBRARIES, "metered_anyio.rtc.front")
"""What takes so long to import."""

ORDERS: Final = (OpenConnection, CloseConnection, AddCandidate, OpenChannel, TakeTrack, EndTrack)


def has_webrtc() -> bool:
    """Whether what peer connections need is installed."""
    return all(importlib.util.find_spec(name) is not None for name in LIBRARIES)


def make_engine(feed: Callable[[Fact], None], logger: ContainedLogger, backend: Backend) -> Engine:
    """The engine for an event loop: in the loop itself if it is asyncio's, else in a thread."""
    if backend.name == "asyncio":
        from metered_anyio.rtc.aio_engine import AioEngine

        return AioEngine(feed, logger)
    from metered_anyio.rtc.thread_engine import ThreadEngine

    return ThreadEngine(feed, logger, backend)


class LazyEngine:
    """See `metered_anyio.rtc.engine.Engine`, of which this has what a room uses."""

    def __init__(self, logger: ContainedLogger, *, needs_import: bool = True) -> None:
        """`needs_import` False: what makes the engine has all that it needs."""
        self._logger = logger
        self._needs_import = needs_import
        self._make: Callable[[], Engine] | None = None
        self._pump: Pump | None = None
        self._engine: Engine | None = None
        self._perform: Mapping[type[Order], Callable[[Any], None]] = {}
        self._loading = self._broken = self._closed = False
        self._orders: list[Order] = []
        self._waiting: list[Waiter[Any]] = []
        self._sources: dict[int, tuple[LocalSource, Encoding]] = {}
        self.on_track_ended: Callable[[int], object] | None = None

    def bind(self, make: Callable[[], Engine], pump: Pump) -> None:
        """Say how to make the engine, now that there is a loop for it."""
        self._make = make
        self._pump = pump

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        """What to do for each order."""
        return dict.fromkeys(ORDERS, self._carry_out)

    def _carry_out(self, order: Order) -> None:
        if self._engine is None and not self._closed:
            self._orders.append(order)
            self._wanted()
        elif self._engine is not None:
            self._perform[type(order)](order)

    async def work(self, work: Work) -> Any:
        """Do what a `Begin` carries, behind all that was ordered before. Raises `PeerConnectionError`."""
        if self._engine is None:
            assert self._pump is not None
            waiter = self._pump.backend.waiter()
            self._waiting.append(waiter)
            self._wanted()
            await waiter
        return await self.need().work(work)

    # --- making it ---

    def load(self) -> None:
        """Set about importing what an engine is made of, if it is installed, since one is likely to be needed."""
        if not self._loading and not self._is_loaded() and has_webrtc() and self._pump is not None:
            self._loading = True
            self._pump.spawn(self._load)

    async def _load(self) -> None:
        try:
            for name in MODULES:
                await anyio.to_thread.run_sync(importlib.import_module, name)
            if self._orders or self._waiting:
                self._wanted()
        except Exception as error:
            self._broken = True
            self._logger.error("aiortc cannot be used", {"error": repr(error)})
            self._wake()
        finally:
            self._loading = False

    def _is_loaded(self) -> bool:
        return not self._needs_import or all(name in sys.modules for name in MODULES)

    def _wanted(self) -> None:
        if self._closed:
            self._wake()
        elif self._is_loaded():
            self.need()
        else:
            self.load()

    def need(self) -> Engine:
        """The engine, made here and now if need be. Raises `WebRtcMissingError`."""
        if self._engine is None:
            if self._closed or self._broken or (self._needs_import and not has_webrtc()):
                raise WebRtcMissingError(HOW_TO_INSTALL)
            assert self._make is not None
            engine = self._engine = self._make()
            engine.on_track_ended = self._on_track_ended
            self._perform = engine.perform()
            for key, (source, encoding) in self._sources.items():
                engine.offer_track(key, source, encoding)
            orders, self._orders = self._orders, []
            for order in orders:
                self._perform[type(order)](order)
            self._wake()
        return self._engine

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _on_track_ended(self, key: int) -> None:
        if self.on_track_ended is not None:
            self.on_track_ended(key)

    # --- what it has ---

    def offer_track(self, key: int, track: LocalSource, encoding: Encoding) -> None:
        """Make a track of the application known, and how it is to be encoded."""
        self._sources[key] = (track, encoding)
        if self._engine is not None:
            self._engine.offer_track(key, track, encoding)

    def withdraw_track(self, key: int) -> None:
        """Nobody wants that track any more."""
        if self._sources.pop(key, None) is not None and self._engine is not None:
            self._engine.withdraw_track(key)

    def track(self, number: int) -> Any:
        """A received track."""
        return self.need().track(number)

    def channel(self, number: int) -> ChannelHandle:
        """A data channel."""
        return self.need().channel(number)

    def create_channel(self, number: int, options: ChannelOptions) -> ChannelHandle:
        """A data channel that is to be opened."""
        return self.need().create_channel(number, options)

    def connection(self, pc: int) -> Any:
        """A connection of aiortc's, or None."""
        return None if self._engine is None else self._engine.connection(pc)

    async def stats(self, pc: int) -> ConnectionStats | None:
        """Measure a connection; None if it is not there."""

        try:
            return await self.need().stats(pc)
        except PeerConnectionError:
            return None  # it has just been closed

    async def aclose(self) -> None:
        """Close everything there is."""
        self._closed = True
        if self._engine is not None:
            await self._engine.aclose()
