"""A browser in a room: a page of a real Chromium with the published JavaScript SDK, as an object."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import msgspec

from testbed.bundle import bundle
from testbed.chromium import Chromium, Page
from testbed.web_server import WebServer

PATIENCE = 10.0
"""Seconds to wait for something that should happen soon."""


class Received(msgspec.Struct, frozen=True):
    """A track that a browser gets. `colour` is of the middle of its newest frame, `hz` the loudest pitch."""

    number: int
    id: str
    """Whose it is."""
    kind: str
    track: str
    streams: list[str]
    metadata: Any
    live: bool
    muted: bool
    frames: int
    firstAt: float | None  # noqa: N815 - as the page spells it
    """When the first and the newest frame came, in Unix seconds, and the longest time between two."""
    lastAt: float | None  # noqa: N815
    gap: float
    colour: list[int] | None
    size: list[int] | None
    hz: int | None
    loudness: float | None


class Studio:
    """A browser and its web server, for as many pages as are wanted. An async context manager."""

    def __init__(self) -> None:
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        script = await bundle()
        page = Path(__file__).parent / "page"
        files = {"/": page / "room.html", "/room.js": page / "room.js", "/metered.js": script}
        self._server = self._exits.enter_context(WebServer(files))
        self.chromium = await self._exits.enter_async_context(Chromium())
        return self

    async def __aexit__(self, *details: Any) -> None:
        await self._exits.aclose()

    async def browser(self) -> Browser:
        """A new page that is in no room yet."""
        browser = Browser()
        browser.page = await self.chromium.open(f"{self._server.url}/", browser.on_report)
        return browser


class Browser:
    """One page, and all it reported, in order. Most methods are those of `room.js`."""

    page: Page

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.peer_id = ""
        self._told = asyncio.Event()

    def on_report(self, report: dict[str, Any]) -> None:
        """The page has something to say."""
        self.told.append(report)
        self._told.set()

    def all(self, what: str, **wanted: Any) -> list[dict[str, Any]]:
        """The reports of a kind that have these values."""
        return [
            report
            for report in self.told
            if report["what"] == what and all(report.get(name) == value for name, value in wanted.items())
        ]

    async def heard(self, what: str, *, count: int = 1, patience: float = PATIENCE, **wanted: Any) -> dict[str, Any]:
        """Wait for the `count`th report of a kind, and return it. Raises `TimeoutError` with what came instead."""
        await self.until(lambda: len(self.all(what, **wanted)) >= count, f"{what} {wanted}", patience)
        return self.all(what, **wanted)[count - 1]

    async def until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition that can become true only with a report."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {patience} s for {what}; {self.summary()}") from None

    async def sees(
        self, condition: Callable[[list[Received]], Any], what: str = "tracks", patience: float = PATIENCE
    ) -> list[Received]:
        """Wait until the received tracks are as wanted, and return them."""
        tracks: list[Received] = []
        try:
            async with asyncio.timeout(patience):
                while not condition(tracks := await self.tracks()):  # noqa: ASYNC110 - the page is asked
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise TimeoutError(f"waited {patience} s for {what}, sees {tracks}; {self.summary()}") from None
        return tracks

    def summary(self) -> str:
        """What happened, for somebody who has to find out why."""
        dull = ("sent", "got", "pc-candidate", "log")
        return json.dumps([report for report in self.told if report["what"] not in dull][-60:])

    @property
    def errors(self) -> list[str]:
        """All that went wrong in the page, whoever was told."""
        told = [f"{one['what']}: {one['error']}" for one in self.told if "error" in one]
        return [*told, *self.page.failures, *(line for line in self.page.console if line.startswith("error"))]

    # --- what it can be asked to do ---

    async def join(
        self, url: str, channel: str, *, key: str | None = None, token: str | None = None, **options: Any
    ) -> str:
        """Join; returns its id. `share={name: plan}` goes along in its first offer; `wire=True` reports every frame."""
        access = {"key": key} if key is not None else {"token": token}
        self.peer_id = str(await self._call("join", url, channel, access, options))
        return self.peer_id

    async def leave(self) -> None:
        """Leave the room, for good."""
        await self._call("leave")

    async def close(self) -> None:
        """Close the page without a word, as by a click."""
        await self.page.close()

    async def share(self, name: str, **plan: Any) -> dict[str, Any]:
        """Send a stream. See `make` in `room.js` for plans, such as `colour=[255, 0, 0]`, `hz=440`, `camera=True`."""
        found: dict[str, Any] = await self._call("share", name, plan)
        return found

    async def unshare(self, name: str) -> None:
        """Send a stream no longer."""
        await self._call("unshare", name)

    async def add_track(self, name: str, **plan: Any) -> None:
        """Send one more track in a stream."""
        await self._call("addTrack", name, plan)

    async def remove_track(self, name: str, kind: str) -> None:
        """Send a track of a stream no longer."""
        await self._call("removeTrack", name, kind)

    async def replace(self, name: str, kind: str, plan: dict[str, Any] | None) -> None:
        """Send another track in the place of one, or nothing."""
        await self._call("replace", name, kind, plan)

    async def send(self, data: Any) -> None:
        """To everybody."""
        await self._call("send", data)

    async def send_to(self, peer_id: str, data: Any) -> None:
        """To one."""
        await self._call("sendTo", peer_id, data)

    async def open_channel(self, peer_id: str, label: str, **plan: Any) -> int:
        """Open a data channel; returns its number."""
        return int(await self._call("openChannel", peer_id, label, plan))

    async def channel_send(self, number: int, data: str | bytes) -> None:
        """Send on a data channel, once it is open."""
        await self.heard("dc-open", channel=number)
        await self._call("channelSend", number, {"text": data} if isinstance(data, str) else {"bytes": list(data)})

    async def channel_close(self, number: int) -> None:
        """Close a data channel."""
        await self._call("channelClose", number)

    async def channel_state(self, number: int) -> dict[str, Any]:
        """Its options, state, and what came in so far."""
        found: dict[str, Any] = await self._call("channelState", number)
        return found

    async def channel_flood(self, number: int, count: int, size: int) -> None:
        """Send so many messages of so many bytes as fast as they go."""
        await self._call("channelFlood", number, count, size, patience=60.0)

    # --- what it can be asked ---

    async def tracks(self, peer_id: str | None = None) -> list[Received]:
        """All tracks it got so far, of one peer or of all."""
        return msgspec.convert(await self._call("tracks", peer_id), list[Received])

    async def forget_gaps(self) -> None:
        """Begin anew to look for the longest gap between frames."""
        await self._call("forgetGaps")

    async def stats(self, peer_id: str) -> list[dict[str, Any]]:
        """The entries of `getStats()` for one remote; none as long as it is not there."""
        found: list[dict[str, Any]] = await self._call("stats", peer_id)
        return found

    async def inbound(self, peer_id: str, kind: str = "video") -> list[dict[str, Any]]:
        """The `inbound-rtp` entries of a kind, each with the name of its codec added as `codec`."""
        entries = await self.stats(peer_id)
        names = {entry["id"]: entry["mimeType"].partition("/")[2] for entry in entries if entry["type"] == "codec"}
        found = [entry for entry in entries if entry["type"] == "inbound-rtp" and entry["kind"] == kind]
        return [{**entry, "codec": names.get(entry.get("codecId"))} for entry in found]

    async def bandwidth(self, peer_id: str) -> float:
        """What it believes it can send to a remote, in bit/s; 0 as long as it does not know."""
        entries = await self.stats(peer_id)
        selected = {entry.get("selectedCandidatePairId") for entry in entries if entry["type"] == "transport"}
        found = [entry.get("availableOutgoingBitrate", 0.0) for entry in entries if entry["id"] in selected]
        return float(max(found, default=0.0))

    async def _call(self, name: str, *arguments: Any, patience: float = 30.0) -> Any:
        return await self.page.call(f"room.{name}", *arguments, patience=patience)
