"""What calls are like: how soon there is a picture, what a lost relay costs, data channels, the sender's event loop.

Ours and the published Python SDK take turns, each with its own kind in the other chair, and then each with a browser
that runs the published JavaScript SDK. All are real connections on this machine. Where the browser is missing, its
figures are.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from benchmarks.children import Crew
from benchmarks.figures import PUBLISHED, Figure, Target
from benchmarks.plan import Plan
from testbed import MissingError
from testbed.browser import Studio
from testbed.guest import Guest, Seen
from testbed.stage import Stage
from testbed.tracks import GREEN, RED, ColourTrack, ToneTrack
from testbed.waiting import reached

GROUP = "rooms"
SIDES = ("ours", "published")
ROLES = {"the sender is polite": ("alice", "zoe"), "the viewer is polite": ("zoe", "alice")}
"""The names of the sender and of the viewer. Whose sorts lower is polite."""

FIRST_FRAME = 0.4
GAP = 0.1
RETURN = 1.5
CHANNEL_OPENS = 0.6

LOST = 10.0
"""Seconds after which what has not come counts as lost, and as having taken so long."""

ATTEMPTS = 3
"""Of having everybody see a sender whose event loop is to be measured."""

OUTAGE_WARM_UP = 1.0
MESSAGE = 16_384
"""Bytes of a message on a data channel where throughput is measured."""

P = ParamSpec("P")
T = TypeVar("T")


def first_frame(plan: Plan) -> Iterator[Figure]:
    """From the call of `join` to the first decoded frame."""
    for role, names in ROLES.items():
        found = {side: asyncio.run(_first_frames(side, names, plan.joins)) for side in SIDES}
        yield from _first_frame_figures(f"join → first frame, {role}", found)
    for role, names in ROLES.items():
        shown = {side: with_browser(_frames_in_browser, side, names, plan) for side in SIDES}
        if shown["ours"] is not None:
            yield from _first_frame_figures(f"browser joins → its first frame, {role}", shown)
        seen = {side: with_browser(_frames_of_browser, side, names, plan) for side in SIDES}
        if seen["ours"] is not None:
            yield from _first_frame_figures(f"we join → first frame of a browser, {role}", seen)


def gap(plan: Plan) -> Iterator[Figure]:
    """How long there is no new frame when the relay is away for a while, and comes back."""
    steady = asyncio.run(_longest_gap("ours", plan.outage, kill=False))
    yield Figure(group=GROUP, name="longest time between frames, nothing happens", unit="s", ours=steady)
    gaps = {side: asyncio.run(_longest_gap(side, plan.outage, kill=True)) for side in SIDES}
    yield _against(
        f"longest time between frames, relay away for {plan.outage:g} s, tokens", "s", gaps, at_most=max(GAP, steady)
    )
    back = {side: asyncio.run(_media_again(side, plan.outage)) for side in SIDES}
    yield _against("frames again after the relay's return, keys", "s", back, at_most=RETURN)


def channel(plan: Plan) -> Iterator[Figure]:
    """Data channels: how soon one is open, how quick it is, how much goes through. Both ends are in one process."""
    for role, (opener, other) in ROLES.items():
        opened = {side: asyncio.run(_channel_opens(side, opener, other, plan.rounds)) for side in SIDES}
        name = role.replace("sender", "opener").replace("viewer", "other")
        yield _against(f"data channel opened alone → open, {name}", "s", opened, at_most=CHANNEL_OPENS)
    found = {side: asyncio.run(_channel_traffic(side, plan)) for side in SIDES}
    trips = {side: trip for side, (trip, _) in found.items()}
    rates = {side: rate for side, (_, rate) in found.items()}
    yield _against("data channel, there and back, 100 B", "ms", trips)
    yield _against(f"data channel, one way, {MESSAGE // 1024} KB messages", "MB/s", rates, more_is_better=True)


def lag(plan: Plan) -> Iterator[Figure]:
    """How late the sender's event loop is, with so many browsers as viewers of one 640×480 picture at 30 fps."""
    for remotes in plan.remotes:
        found = {side: with_browser(_lag, side, remotes, plan.lag_seconds) for side in SIDES}
        ours, theirs = found["ours"], found["published"]
        if ours is None or theirs is None:
            return
        for name, unit in (("p50", "ms"), ("p99", "ms"), ("max", "ms"), ("cores", "cores"), ("rss", "MB")):
            what = f"loop lag {name}" if unit == "ms" else {"cores": "CPU", "rss": "memory"}[name]
            yield _against(f"sender's {what}, {remotes} viewers", unit, {"ours": ours[name], "published": theirs[name]})
        yield _against(
            f"frames a second at the worst of {remotes} viewers",
            "fps",
            {"ours": ours["fps"], "published": theirs["fps"]},
            more_is_better=True,
        )


# --- how it is measured ---


def with_browser(
    measure: Callable[Concatenate[Studio, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Measure something with a browser; None, and a line about it, where there is none."""

    async def run() -> T:
        async with Studio() as studio:
            return await measure(studio, *args, **kwargs)

    try:
        return asyncio.run(run())
    except MissingError as missing:
        print(f"not measured: {missing}", file=sys.stderr)
        return None


async def frame(guest: Guest, since: float = 0.0, patience: float = LOST) -> float:
    """When the first frame came after a moment, in Unix seconds; `patience` seconds later if none did."""
    late = time.time() + patience

    def newest() -> list[float]:
        videos = (seen for seen in guest.tracks if seen.track.kind == "video")
        return [seen.first_at or 0.0 for seen in videos if seen.last_at is not None and seen.last_at > since]

    return newest()[0] if await reached(newest, patience) else late


def p95(values: list[float]) -> float:
    """The 95th percentile, of few values the largest."""
    return sorted(values)[max(0, round(len(values) * 0.95) - 1)]


async def _first_frames(side: str, names: tuple[str, str], joins: int) -> list[float]:
    found = []
    async with Stage() as stage:
        sender = stage.guest(side, names[0])
        sender.share("stream", ColourTrack(GREEN, size=(640, 480)))
        await sender.join()
        for _ in range(joins):
            viewer = stage.guest(side, names[1])
            began = time.time()
            await viewer.join()
            found.append(await frame(viewer) - began)
            await viewer.close()
    return found


async def _frames_in_browser(studio: Studio, side: str, names: tuple[str, str], plan: Plan) -> list[float]:
    found = []
    async with Stage(studio) as stage:
        sender = stage.guest(side, names[0])
        sender.share("stream", ColourTrack(GREEN, size=(640, 480)))
        await sender.join()
        for _ in range(plan.joins):
            browser = await stage.page()
            began = time.time()
            await stage.bring(browser, names[1])
            try:
                came = (await browser.heard("first-frame", patience=LOST))["at"] - began
            except TimeoutError:
                came = LOST
            found.append(came)
            await browser.leave()
            await browser.close()
    return found


async def _frames_of_browser(studio: Studio, side: str, names: tuple[str, str], plan: Plan) -> list[float]:
    found = []
    async with Stage(studio) as stage:
        await stage.browser(names[0], share={"camera": {"camera": True, "microphone": True}})
        for _ in range(plan.joins):
            viewer = stage.guest(side, names[1])
            began = time.time()
            await viewer.join()
            found.append(await frame(viewer) - began)
            await viewer.close()
    return found


@asynccontextmanager
async def _pair(side: str, names: tuple[str | None, str | None]) -> AsyncIterator[tuple[Stage, Guest, Guest]]:
    """Two who see each other."""
    async with Stage() as stage:
        one, other = stage.guest(side, names[0]), stage.guest(side, names[1])
        one.share("one", ColourTrack(GREEN, size=(640, 480)), ToneTrack(440))
        other.share("other", ColourTrack(RED, size=(640, 480)), ToneTrack(880))
        await one.join()
        await other.join()
        await frame(one)
        await frame(other)
        await asyncio.sleep(OUTAGE_WARM_UP)
        yield stage, one, other


async def _longest_gap(side: str, outage: float, *, kill: bool) -> float:
    """The longest time without a frame at either of two, from before the outage to 3 s after it."""
    async with _pair(side, ("alice", "zoe")) as (stage, one, other):
        clocks = [_Clock(guest) for guest in (one, other)]
        if kill:
            await stage.restart_relay(outage)
        else:
            await asyncio.sleep(outage)
        await asyncio.sleep(3)
        return max(clock.stop() for clock in clocks)


class _Clock:
    """Watches a viewer for the longest time between two frames, over all of its tracks."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._longest = 0.0
        self._last = time.time()
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> float:
        self._task.cancel()
        return max(self._longest, time.time() - self._newest())

    def _newest(self) -> float:
        videos: list[Seen] = [seen for seen in self._guest.tracks if seen.track.kind == "video"]
        return max((seen.last_at or 0.0 for seen in videos), default=0.0)

    async def _watch(self) -> None:
        while True:
            newest = self._newest()
            if newest > self._last:
                self._longest = max(self._longest, newest - self._last)
                self._last = newest
            await asyncio.sleep(0.002)


async def _media_again(side: str, outage: float) -> float:
    """Two with ids that change: how long after the relay's return both see each other again."""
    async with _pair(side, (None, None)) as (stage, one, other):
        before = [len(guest.tracks) for guest in (one, other)]
        back = await stage.restart_relay(outage)
        came = []
        for guest, count in zip((one, other), before, strict=True):

            def seen_again(guest: Guest = guest, count: int = count) -> bool:
                return any(seen.frames for seen in guest.tracks[count:] if seen.track.kind == "video")

            await reached(seen_again, LOST)
            came.append(time.time() - back)
        return max(came)


async def _channel_opens(side: str, opener: str, other: str, rounds: int) -> float:
    """The median time from `create_data_channel` to its being open at the one who called it."""
    found = []
    for _ in range(rounds):
        async with Stage() as stage:
            one, two = stage.guest(side, opener), stage.guest(side, other)
            await one.join()
            await two.join()
            await one.heard("PeerJoined")
            await two.heard("PeerJoined")
            began = time.time()
            made = one.library.DataChannel(one.remote(other).create_data_channel("x"))
            await reached(partial(_is_open, made), LOST)
            found.append(time.time() - began)
    return statistics.median(found)


def _is_open(channel: Any) -> bool:
    return bool(channel.ready_state == "open")


async def _channel_traffic(side: str, plan: Plan) -> tuple[float, float]:
    """The median of trips there and back in ms, and MB/s one way."""
    async with Stage() as stage:
        one, two = stage.guest(side, "alice"), stage.guest(side, "zoe")
        await one.join()
        await two.join()
        await one.heard("PeerJoined")
        await two.heard("PeerJoined")
        made = one.library.DataChannel(one.remote("zoe").create_data_channel("x"))
        taken = two.library.DataChannel((await two.heard("DataChannelOpened")).channel)
        await one.until(lambda: made.ready_state == "open", "the channel")
        arrived = 0
        event = asyncio.Event()

        def at_two(message: Any) -> None:
            nonlocal arrived
            arrived += len(message.data)
            event.set()
            if len(message.data) == 100:
                sends.append(asyncio.ensure_future(taken.send(message.data)))

        sends: list[asyncio.Future[None]] = []
        answered = asyncio.Event()
        taken.on(two.library.DCMessage, at_two)
        made.on(one.library.DCMessage, lambda _: answered.set())
        trips = []
        for _ in range(plan.trips):
            began = time.perf_counter()
            answered.clear()
            await made.send(b"x" * 100)
            await asyncio.wait_for(answered.wait(), LOST)
            trips.append((time.perf_counter() - began) * 1e3)
        arrived = 0
        total = plan.channel_megabytes * 1_000_000 // MESSAGE * MESSAGE
        began = time.perf_counter()
        for _ in range(total // MESSAGE):
            await made.send(b"x" * MESSAGE)
        while arrived < total:
            event.clear()
            await asyncio.wait_for(event.wait(), LOST)
        return statistics.median(trips), total / (time.perf_counter() - began) / 1e6


async def _lag(studio: Studio, side: str, remotes: int, seconds: float) -> dict[str, float]:
    for _ in range(ATTEMPTS - 1):
        try:
            return await _lag_once(studio, side, remotes, seconds)
        except TimeoutError as error:  # it is not what is measured here
            print(f"{side}, {remotes} viewers, once more: {str(error)[:300]}", file=sys.stderr)
    return await _lag_once(studio, side, remotes, seconds)


async def _lag_once(studio: Studio, side: str, remotes: int, seconds: float) -> dict[str, float]:
    with Crew() as crew:
        async with Stage(studio) as stage:
            source = crew.hire("source", side, stage.relay.url)
            await asyncio.to_thread(lambda: source.greeting)
            await asyncio.to_thread(source.ask, "share", 640, 480, 30, "yuv420p")
            browsers = [await stage.browser(f"viewer-{number}") for number in range(remotes)]
            for browser in browsers:
                await browser.heard("first-frame", patience=2 * LOST)
            await asyncio.sleep(1)
            before = [(await browser.tracks())[0].frames for browser in browsers]
            began = time.time()
            measured: dict[str, float] = await asyncio.to_thread(source.ask, "lag", seconds)
            after = [(await browser.tracks())[0].frames for browser in browsers]
            fps = min(now - then for now, then in zip(after, before, strict=True)) / (time.time() - began)
            return {**measured, "fps": fps}


def _first_frame_figures(name: str, found: Mapping[str, list[float] | None]) -> Iterator[Figure]:
    values = {side: times for side, times in found.items() if times is not None}
    yield _against(f"{name}: median", "s", {side: statistics.median(times) for side, times in values.items()})
    yield _against(f"{name}: p95", "s", {side: p95(times) for side, times in values.items()}, at_most=FIRST_FRAME)


def _against(
    name: str, unit: str, found: dict[str, float], *, at_most: float | None = None, more_is_better: bool = False
) -> Figure:
    ours, theirs = found["ours"], found.get("published")
    ratio = None
    if theirs is not None and ours > 0 and theirs > 0:
        ratio = ours / theirs if more_is_better else theirs / ours
    return Figure(
        group=GROUP,
        name=name,
        unit=unit,
        ours=ours,
        peer=None if theirs is None else PUBLISHED,
        theirs=theirs,
        ratio=ratio,
        target=None if at_most is None else Target(at_most=at_most),
    )
