"""What must not happen in calls, counted: joins that fail, pictures that freeze, viewers that starve, what is left.

The other chair is taken by browsers with the published JavaScript SDK and by the published Python SDK.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil

from benchmarks.children import Crew
from benchmarks.figures import Figure, Target
from benchmarks.plan import Plan
from benchmarks.rooms import frame, p95, with_browser
from testbed.browser import Browser, Studio
from testbed.guest import Guest
from testbed.stage import Stage
from testbed.tracks import BLUE, COLOURS, GREEN, RED, Colour, ColourTrack, ToneTrack, colour_of, is_colour
from testbed.waiting import reached

GROUP = "calls"
UP = 1.5
NEW_PICTURE = 0.5
BACK = 3.0
LOST = 8.0
ROOM_OF = 8

IT = "middle"
NAMES = ("alice", "zoe")
"""Ours: polite, and impolite."""

WAYS = {"we send": (True, False), "it sends": (False, True), "both send": (True, True)}
DROPS = ("the relay", "the relay, keys", "our socket", "its socket")


def joins(plan: Plan) -> Iterator[Figure]:
    """Joins with a browser, cameras and microphones both ways, in both roles by turns."""
    found = with_browser(_joins, plan.browser_joins)
    if found is not None:
        times, errors = found
        late = sum(took > UP for took in times)
        yield _count(f"{len(times)} joins with a browser: not up within {UP:g} s", late)
        yield _count(f"{len(times)} joins with a browser: negotiation errors", errors)
        yield Figure(group=GROUP, name="joins with a browser: pictures both ways, p95", unit="s", ours=p95(times))


def replace(plan: Plan) -> Iterator[Figure]:
    """`replace_track` towards a browser."""
    found = with_browser(_replace, plan.replacements)
    if found is not None:
        times, held = found
        late = sum(took > NEW_PICTURE for took in times)
        yield _count(f"{len(times)} × replace_track: new picture not within {NEW_PICTURE:g} s", late)
        yield _count(f"{len(times)} × replace_track: old source still read", held)
        yield Figure(group=GROUP, name="replace_track → new picture at a browser, p95", unit="s", ours=p95(times))


def viewers(plan: Plan) -> Iterator[Figure]:
    """One RGB track to 4 browsers."""
    rates = with_browser(_viewers, 4, plan.viewing_seconds)
    if rates is not None:
        yield Figure(
            group=GROUP,
            name=f"one RGB track to 4 viewers for {plan.viewing_seconds:g} s: frames a second too few, worst",
            unit="fps of 30",
            ours=max(0.0, 30 - min(rates)),
            target=Target(at_most=0.6),
        )


def churn(plan: Plan) -> Iterator[Figure]:
    """Joins and leaves in a room of 8, in random order."""
    differ, tasks, grown = asyncio.run(_churn(plan.churns))
    yield _count(f"{plan.churns} joins and leaves in a room of {ROOM_OF}: rosters that differ", differ)
    yield _count(f"{plan.churns} joins and leaves in a room of {ROOM_OF}: tasks left", tasks)
    yield Figure(
        group=GROUP,
        name=f"{plan.churns} joins and leaves in a room of {ROOM_OF}: memory gained in the second half",
        unit="MB",
        ours=grown,
        target=Target(at_most=10),
    )


def returns(plan: Plan) -> Iterator[Figure]:
    """Lost relays and sockets under a live call, every way and role by turns."""
    others: dict[str, Any] = {
        "the published SDK": lambda: asyncio.run(_returns(None, plan)),
        "a browser": lambda: with_browser(_returns, plan),
    }
    for other, measure in others.items():
        times = measure()
        if times is None:
            continue
        late = sum(took > BACK for took in times)
        yield _count(f"{len(times)} returns, {other}: no pictures within {BACK:g} s", late)
        yield Figure(group=GROUP, name=f"return → pictures again, {other}: the slowest", unit="s", ours=max(times))


# --- how it is measured ---


async def _joins(studio: Studio, count: int) -> tuple[list[float], int]:
    times, errors = [], 0
    for number in range(count):
        async with Stage(studio) as stage:
            guest = stage.ours(NAMES[number % 2])
            guest.share("ours", ColourTrack(GREEN, size=(640, 480)), ToneTrack(440), role="camera")
            page = await stage.page()
            share = {"camera": {"camera": True, "microphone": True, "metadata": {"role": "camera"}}}
            we_are_first = number % 4 < 2
            if we_are_first:
                await guest.join()
            await stage.bring(page, IT, share=share)
            began = time.time()
            if not we_are_first:
                await guest.join()
            try:
                shown = (await page.heard("first-frame", patience=LOST))["at"]
            except TimeoutError:
                shown = began + LOST
            times.append(max(shown, await frame(guest, patience=LOST)) - began)
            failed = [error for error in page.errors if error.startswith("negotiation-error")]
            told = guest.all("NegotiationError")
            errors += len(failed) + len(told)
            if times[-1] > UP or failed or told:
                _say(f"join {number} as {guest.peer_id}: {times[-1]:.2f} s, {failed}, {told}")
            await page.leave()
            await page.close()
    return times, errors


async def _replace(studio: Studio, count: int) -> tuple[list[float], int]:
    times, held = [], 0
    async with Stage(studio) as stage:
        guest = stage.ours("alice")
        old = guest.source(ColourTrack(RED, size=(640, 480)))
        guest.share("ours", old)
        await guest.join()
        browser = await stage.browser(IT)
        await browser.heard("first-frame")
        for number in range(1, count + 1):
            colour = COLOURS[number % len(COLOURS)]
            new = guest.source(ColourTrack(colour, size=(640, 480)))
            began = time.time()
            await guest.peer.replace_track(old, new)
            times.append(await _shown(browser, colour, LOST) - began)
            made = old.made
            await asyncio.sleep(0.1)
            held += old.made != made
            old.stop()
            old = new
    return times, held


async def _shown(browser: Browser, colour: Colour, patience: float, skip: int = 0, since: float = 0.0) -> float:
    """When a browser showed a colour, in Unix seconds; `patience` seconds later if it did not."""
    until = time.time() + patience
    while time.time() < until:
        for one in (await browser.tracks())[skip:]:
            if (one.lastAt or 0.0) > since and is_colour(one.colour, colour):
                return max(since, min(time.time(), one.lastAt or 0.0))
        await asyncio.sleep(0.01)
    return until


async def _viewers(studio: Studio, count: int, seconds: float) -> list[float]:
    with Crew() as crew:
        async with Stage(studio) as stage:
            source = crew.hire("source", "ours", stage.relay.url)
            await asyncio.to_thread(lambda: source.greeting)
            await asyncio.to_thread(source.ask, "share", 640, 480, 30, "rgb24")
            browsers = [await stage.browser(f"viewer-{number}") for number in range(count)]
            for browser in browsers:
                await browser.heard("first-frame", patience=LOST)
            await asyncio.sleep(min(1.0, seconds))
            before = [(await browser.tracks())[0].frames for browser in browsers]
            began = time.time()
            await asyncio.to_thread(source.ask, "lag", seconds)
            after = [(await browser.tracks())[0].frames for browser in browsers]
            took = time.time() - began
            return [(now - then) / took for now, then in zip(after, before, strict=True)]


async def _churn(count: int) -> tuple[int, int, float]:
    dice = random.Random(8)
    async with Stage() as stage:
        # The first one there warms everything up, and the relay's own tasks are none of ours.
        before = len(asyncio.all_tasks())
        present: dict[str, Guest] = {}
        halfway = 0
        for number in range(count):
            if len(present) == ROOM_OF or (len(present) > 1 and dice.random() < 0.4):
                await present.pop(dice.choice(sorted(present))).close()
            else:
                name = f"guest-{number}"
                guest = stage.ours(name)
                if dice.random() < 0.5:
                    guest.share(f"stream-{number}", ToneTrack(440))
                await guest.join()
                present[name] = guest
            if number == count // 2:
                halfway = _rss()

        def differing() -> int:
            return sum(
                {remote.id for remote in guest.peer.remote_peers} != set(present) - {name}
                for name, guest in present.items()
            )

        await reached(lambda: not differing(), LOST)
        differ = differing()
        grown = (_rss() - halfway) / 1e6
        for guest in present.values():
            await guest.close()
        await reached(lambda: len(asyncio.all_tasks()) <= before, 2.0)
        left = len(asyncio.all_tasks()) - before
        return differ, max(0, left), grown


async def _returns(studio: Studio | None, plan: Plan) -> list[float]:
    times = []
    every = [(way, drop, name) for way, drop, name in itertools.product(WAYS, DROPS, NAMES)]
    # With keys, the relay makes the names, so one of the two is enough.
    every = [each for each in every if each[1:] != ("the relay, keys", "zoe")]
    for number in range(min(plan.returns, len(every))):
        way, drop, name = every[number]
        took = await _return(studio, way, drop, name, plan.outage)
        times.append(took)
        if took > BACK:
            _say(f"{'a browser' if studio else 'the published SDK'}, {way}, {drop}, we are {name}: {took:.2f} s")
    return times


async def _return(studio: Studio | None, way: str, drop: str, name: str, outage: float) -> float:
    """How long after the return of what was lost there are pictures again, wherever there are to be some."""
    we_send, it_sends = WAYS[way]
    named = drop != "the relay, keys"
    async with Stage(studio) as stage:
        our_cable, its_cable = await stage.cable(), await stage.cable()
        us = stage.ours(name if named else None, url=our_cable.url)
        if we_send:
            us.share("ours", ColourTrack(GREEN))
        await us.join()
        browser, it = None, None
        if studio is not None:
            share = {"its": {"colour": BLUE}} if it_sends else {}
            browser = await stage.browser(IT if named else None, url=its_cable.url, share=share)
        else:
            it = stage.published(IT if named else None, url=its_cable.url)
            if it_sends:
                it.share("its", ColourTrack(BLUE))
            await it.join()

        async def pictures(since: float, ours_from: int, its_from: int) -> float:
            came = [since]
            if it_sends:
                came.append(await _pictured(us, BLUE, since, ours_from))
            if we_send and browser is not None:
                came.append(await _shown(browser, GREEN, LOST, its_from, since))
            if we_send and it is not None:
                came.append(await _pictured(it, GREEN, since, its_from))
            return max(came)

        await pictures(0.0, 0, 0)
        # The other side makes a new connection each time, so what comes after that comes on new tracks.
        seen = len(us.tracks), len(await browser.tracks()) if browser is not None else len(it.tracks) if it else 0
        if drop == "our socket":
            await our_cable.out(outage)
            back = time.time()
        elif drop == "its socket":
            await its_cable.out(outage)
            back = time.time()
        else:
            back = await stage.restart_relay(outage)
        took = await pictures(back, *seen) - back
        if browser is not None:
            await browser.leave()
            await browser.close()
        return took


async def _pictured(guest: Guest, colour: Colour, since: float, skip: int) -> float:
    until = time.time() + LOST
    while time.time() < until:
        for seen in guest.tracks[skip:]:
            new = seen.track.kind == "video" and seen.newest is not None and (seen.last_at or 0.0) > since
            if new and is_colour(colour_of(seen.newest), colour):
                return seen.last_at or 0.0
        await asyncio.sleep(0.01)
    return until


def _rss() -> int:
    gc.collect()
    rss: int = psutil.Process().memory_info().rss
    return rss


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _count(name: str, count: int) -> Figure:
    return Figure(group=GROUP, name=name, unit="times", ours=count, target=Target(at_most=0))
