"""What frames and packets of a source go through on their way to its viewers: `Desk`, with the lanes of a source."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from metered_anyio.encoding import Encoding
from metered_anyio.rtc.lanes import AudioLane, VideoLane, lane_key
from metered_anyio.rtc.outlet import Manner, Outlet

AnyLane = TypeVar("AnyLane", VideoLane, AudioLane)


class Desk(abc.ABC, Generic[AnyLane]):
    """The part that is the same for pictures and sound. `skipped` is told of what no encoder could take."""

    def __init__(self, skipped: Callable[[BaseException], None]) -> None:
        self._skipped = skipped
        self._lanes: dict[Any, AnyLane] = {}
        self._lane_of: dict[Outlet, AnyLane] = {}
        self._passed: str | None = None  # the codec of the packets that come; None: frames do
        self._now = asyncio.get_running_loop().time

    # --- viewers ---

    def join(self, outlet: Outlet) -> None:
        """Have what comes from now on go to `outlet`, in the codec that is best for it now."""
        codec = outlet.choose()
        if codec is None:
            return
        key = lane_key(outlet, codec)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._make(codec, outlet.encoding)
        before = self._lane_of.get(outlet)
        if lane is not before:
            self.leave(outlet)
            self._lane_of[outlet] = lane
            self._joined(lane, outlet)

    def leave(self, outlet: Outlet) -> None:
        """No more for `outlet`. A lane that nobody is in is gone, and its encoder with it."""
        lane = self._lane_of.pop(outlet, None)
        if lane is None:
            return
        self._left(lane, outlet)
        if not lane.viewers:
            self._lanes = {key: each for key, each in self._lanes.items() if each is not lane}

    def restart(self, outlet: Outlet) -> None:
        """`outlet` starts anew, as if it had just come."""
        lane = self._lane_of.get(outlet)
        if lane is not None:
            self._joined(lane, outlet)

    def choose_again(self) -> None:
        """The source gives another codec: viewers who take it are to have it as it is."""
        for outlet in list(self._lane_of):
            self.join(outlet)

    def manner(self, outlet: Outlet) -> Manner | None:
        """How what goes to `outlet` is made."""
        lane = self._lane_of.get(outlet)
        if lane is None:
            return None
        if self._passed == lane.codec:
            return Manner(None, None, lane.encoding.shared, passthrough=True)
        return lane.manner()

    def ask_key_frame(self, outlet: Outlet) -> None:
        """`outlet` cannot go on without one."""

    def estimated(self, outlet: Outlet, bitrate: float) -> None:
        """What the way to `outlet` can carry."""

    def close(self) -> None:
        """Nobody is there any more."""
        for outlet in list(self._lane_of):
            self.leave(outlet)

    def rest(self) -> None:
        """The source is not read for a while: what comes then does not go on where this ends."""

    @abc.abstractmethod
    def _make(self, codec: str, encoding: Encoding) -> AnyLane: ...

    def _joined(self, lane: AnyLane, outlet: Outlet) -> None:
        lane.viewers[outlet] = None

    def _left(self, lane: AnyLane, outlet: Outlet) -> None:
        lane.viewers.pop(outlet, None)

    # --- what comes ---

    @abc.abstractmethod
    async def take(self, item: Any, codec: str | None) -> None:
        """A frame, or a packet of this codec. Raises `TypeError` for what is neither."""

    def _passing(self) -> Iterator[AnyLane]:
        """Lanes whose viewers get packets as they are."""
        return (lane for lane in self._lanes.values() if lane.codec == self._passed)

    def _encoding(self) -> list[AnyLane]:
        """Lanes in which something is to be encoded."""
        return [lane for lane in self._lanes.values() if lane.codec != self._passed]

    def _now_passing(self, codec: str | None) -> bool:
        """Take note of what comes. True if it is not what came before."""
        if codec == self._passed:
            return False
        self._passed = codec
        for lane in self._passing():
            lane.rest()
        return True
