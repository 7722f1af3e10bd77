"""What it costs to send pictures and sound to several viewers, and to open and to make them.

A file is sent by a process of its own to viewers in another one, who count frames and decode none. Theirs is the
published SDK, which encodes for each viewer. It has its turn right before ours, for each size and number of viewers,
and at the same bitrate: ours is told what makes it send to a viewer what theirs really sends.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from benchmarks.busy import busy_clip
from benchmarks.children import Child, ChildError, Crew
from benchmarks.figures import PUBLISHED, Figure, Target, compared
from benchmarks.plan import Plan
from benchmarks.roles.camera import NAME
from benchmarks.turns import Samples
from testbed.clock_camera import ClockCamera
from testbed.silent_camera import SilentCamera
from testbed.stage import Stage

GROUP = "media"

FPS = 30
OFF = 0.5
"""Frames a second that any viewer may be off."""

ESTIMATE = {"H264": 1_400_000}
"""The most, in bit/s, that viewers of theirs say they can take. The published SDK goes by nothing else, and would send
3 Mbit/s of H.264 if they said nothing; VP8 it never has make more than 1.5, whatever comes out."""

MEMORY = 100
LATE = 15
FIRST_PICTURE = {"once": 120, "as it is": 60}
STALL = 20
SPEECH = 3.5

LEAST: Final = {
    ("VP8", 4): 3.5,
    ("VP8", 8): 4.5,
    ("H264", 4): 6.0,
    ("H264", 8): 7.0,
    ("as it is", 4): 11.0,
    ("as it is", 8): 13.0,
}
"""How many times less CPU, at the first of the sizes, by codec (or way) and number of viewers."""

PATIENCE = 60.0
ATTEMPTS = 2
_SIDES: Final = ("published", "ours")

Found: TypeAlias = dict[str, Any]


class Way(msgspec.Struct, frozen=True):
    """A way to send a file: whose, the viewers' codec, and the words for `from_file` and `add_track`."""

    name: str
    side: str
    codec: str
    source: dict[str, Any] = {}
    track: dict[str, Any] = {}


def theirs(codec: str) -> Way:
    """What the published SDK does."""
    return Way(f"each {codec}", "published", codec)


def once(codec: str, bitrate: float | None = None) -> Way:
    """Ours, encoded once. `bitrate` is the most for a viewer, in bit/s."""
    return Way(f"once {codec}", "ours", codec, track=_at_most(codec, bitrate))


def each(codec: str, bitrate: float | None = None) -> Way:
    """Ours, encoded for each viewer."""
    return Way(f"each {codec}", "ours", codec, track={**_at_most(codec, bitrate), "encode_once": False})


def as_it_is() -> Way:
    """Ours, not encoded at all."""
    return Way("as it is", "ours", "H264", source={"passthrough": True})


def sending(plan: Plan) -> Iterator[Figure]:
    """A file to 1, 2, 4 and 8 viewers: CPU and memory of the sender, frames and bits at each viewer."""
    with tempfile.TemporaryDirectory() as folder:
        for number, size in enumerate(plan.sizes):
            path = busy_clip(Path(folder), size, plan.clip_seconds)
            match = _Match()
            for viewers in plan.viewers:
                yield from _sending(path, size, viewers, plan, match, is_first=number == 0)


def lag(plan: Plan) -> Iterator[Figure]:
    """How late the sender's loop is with viewers of a large picture."""
    size, viewers = plan.sizes[-1], min(4, plan.viewers[-1])
    with tempfile.TemporaryDirectory() as folder:
        path = busy_clip(Path(folder), size, plan.clip_seconds)
        peers = {codec: _measured(path, theirs(codec), viewers, plan, "lag") for codec in ("VP8", "H264")}
        for way in (*(once(codec, peer["bitrate"]) for codec, peer in peers.items()), as_it_is()):
            peer = peers["VP8" if way == as_it_is() else way.codec]
            found = _measured(path, way, viewers, plan, "lag")
            for which in ("p50", "p99", "max"):
                target = LATE if which == "p99" and viewers == 4 else None
                name = f"sender's loop lag {which}, {_shown(size)} to {viewers}, {way.name}"
                yield _against(name, "ms", found[which], peer[which], at_most=target)


def picture(plan: Plan) -> Iterator[Figure]:
    """From being connected to the first decoded frame, for the last of several viewers."""
    others = plan.viewers[-1] - 1
    with tempfile.TemporaryDirectory() as folder:
        path = busy_clip(Path(folder), plan.sizes[0], plan.clip_seconds)
        peer = _run(_first_pictures(path, theirs("VP8"), others, plan))
        for way in (once("VP8"), once("H264"), as_it_is()):
            found = _run(_first_pictures(path, way, others, plan))
            target = FIRST_PICTURE["as it is" if way.name == "as it is" else "once"]
            for which in ("connected", "join"):
                yield _against(
                    f"{which} → first decoded frame, viewer {others + 1}, {way.name}: median",
                    "ms",
                    statistics.median(visit[which] for visit in found) * 1e3,
                    statistics.median(visit[which] for visit in peer) * 1e3,
                    at_most=target if which == "connected" and others == 7 else None,
                )


def speech(plan: Plan) -> Iterator[Figure]:
    """`AudioSource`: its pace, what it costs by itself, and what it costs to send it."""
    for count in plan.speakers:
        found = _paced(count, plan)
        for which, unit in (("p50", "ms"), ("p99", "ms"), ("cores", "cores")):
            what = "CPU" if which == "cores" else f"frames off their time, {which}"
            ours, theirs = (statistics.median(one[which] for one in found[side]) for side in ("ours", "published"))
            yield _against(f"{count} AudioSource: {what}", unit, ours, theirs)
    spoken = [{side: _run(_spoken(side, plan)) for side in _SIDES} for _ in range(plan.rounds_of_speech)]
    viewers = plan.speech_viewers
    for which, what, unit, least in (
        ("cores", "CPU", "cores", SPEECH if viewers == 8 else None),
        ("fps", "frames a second at the worst viewer", "fps", None),
        ("bitrate", "bitrate", "kbit/s a viewer", None),
    ):
        samples = Samples([{side: found[side][which] for side in _SIDES} for found in spoken])
        yield compared(
            GROUP,
            f"one AudioSource to {viewers}: {what}",
            unit,
            samples,
            ours="ours",
            theirs="published",
            peer=PUBLISHED,
            more_is_better=which == "fps",
            at_least=least,
        )


def opening(plan: Plan) -> Iterator[Figure]:
    """How long it takes to open a source, and what the loop feels of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = busy_clip(Path(folder), plan.sizes[0], plan.clip_seconds)
        yield from _opened("a file", "file", str(path), PATIENCE / 4, plan.opens)
    with ClockCamera() as camera:
        yield from _opened("a camera", "rtsp", camera.url, PATIENCE / 4, plan.opens)
    yield from _silent(plan.silence)


# --- how it is measured ---


def _opened(what: str, kind: str, target: str, timeout: float, rounds: int) -> Iterator[Figure]:
    """A source that can be opened."""
    with Crew() as crew:
        children = {side: crew.hire("camera", side) for side in _SIDES}
        found = {
            side: [child.ask("open", kind, target, timeout) for _ in range(rounds)] for side, child in children.items()
        }
    for side in _SIDES:
        errors = [one["error"] for one in found[side] if one["error"]]
        if errors:
            raise ChildError(f"{what} does not open with {side}: {errors[0]}")
    took = {side: statistics.median(one["took"] for one in found[side]) * 1e3 for side in _SIDES}
    stall = {side: max(one["stall"] for one in found[side]) for side in _SIDES}
    yield _against(f"{what}: opened → first frame, median", "ms", took["ours"], took["published"])
    name = f"{what}: the loop's longest stall meanwhile"
    yield _against(name, "ms", stall["ours"], stall["published"], at_most=STALL)


def _silent(seconds: float) -> Iterator[Figure]:
    """A camera that says nothing, and hangs up after some time: ours is told to wait for half of it."""
    with SilentCamera(seconds) as camera, Crew() as crew:
        found = {side: crew.hire("camera", side).ask("open", "rtsp", camera.url, seconds / 2) for side in _SIDES}
    ours, theirs = found["ours"], found["published"]
    name = f"a camera silent for {seconds:g} s: "
    yield _against(f"{name}until there is an error", "ms", ours["took"] * 1e3, theirs["took"] * 1e3)
    yield _against(f"{name}the loop's longest stall meanwhile", "ms", ours["stall"], theirs["stall"], at_most=STALL)
    untyped = sum(one["error"] != "SourceOpenError timed_out" for one in (ours,))
    yield Figure(group=GROUP, name=f"{name}no SourceOpenError", unit="times", ours=untyped, target=Target(at_most=0))


class _Match:
    """What ours is told to send at most, for each codec, so that it sends what theirs does at the same size."""

    def __init__(self) -> None:
        self._theirs: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._is_sure: set[str] = set()

    def theirs(self, codec: str, bitrate: float) -> None:
        """What theirs sends to a viewer. The first one counts: with few viewers nothing holds it back."""
        self._theirs.setdefault(codec, bitrate)

    def told(self, codec: str) -> float:
        """What to tell ours, in bit/s."""
        return self._told.setdefault(codec, self._theirs[codec])

    def ours(self, codec: str, bitrate: float) -> None:
        """What came of it. Encoders keep below what they may make, each in its own way."""
        if codec not in self._is_sure and bitrate > 0:
            self._is_sure.add(codec)
            self._told[codec] *= min(1.5, max(0.67, self._theirs[codec] / bitrate))


def _sending(
    path: Path, size: tuple[int, int], viewers: int, plan: Plan, match: _Match, *, is_first: bool
) -> Iterator[Figure]:
    """All ways at one size and number of viewers."""
    peers: dict[str, Found] = {}
    for codec in ("VP8", "H264"):
        way = theirs(codec)
        peers[codec] = _measured(path, way, viewers, plan)
        match.theirs(codec, peers[codec]["bitrate"])
        ours = [once(codec, match.told(codec))]
        if is_first and viewers in plan.own_encoders:
            ours.append(each(codec, match.told(codec)))
        for way in ours:
            found = _measured(path, way, viewers, plan)
            match.ours(codec, found["bitrate"])
            least = LEAST.get((codec, viewers)) if is_first and way.name.startswith("once") else None
            yield from _sent(size, viewers, way, found, peers[codec], f"each {codec}", least)
    found = _measured(path, as_it_is(), viewers, plan)
    least = LEAST.get(("as it is", viewers)) if is_first else None
    yield from _sent(size, viewers, as_it_is(), found, peers["VP8"], "each VP8", least)


def _paced(count: int, plan: Plan) -> dict[str, list[Found]]:
    """So many sources, read at once in a process, in a few turns of each side."""
    found: dict[str, list[Found]] = {side: [] for side in _SIDES}
    with Crew() as crew:
        children = {side: crew.hire("camera", side) for side in _SIDES}
        for _ in range(plan.rounds_of_speech):
            for side, child in children.items():
                found[side].append(child.ask("pace", count, plan.sending_seconds / 2))
    return found


def _sent(
    size: tuple[int, int], viewers: int, way: Way, found: Found, peer: Found, other: str, least: float | None
) -> Iterator[Figure]:
    start = f"{_shown(size)} to {viewers}, {way.name}"
    yield _against(
        f"{start}: CPU", "cores", found["cores"], peer["cores"], at_least=least, peer=f"{PUBLISHED}, {other}"
    )
    yield _against(f"{start}: bitrate", "Mbit/s a viewer", found["bitrate"] / 1e6, peer["bitrate"] / 1e6, no_ratio=True)
    yield _against(f"{start}: frames at the worst viewer", "fps", found["fps"], peer["fps"], more_is_better=True)
    off = OFF if size[1] <= 480 or viewers <= 4 else None
    yield _against(f"{start}: off {FPS} fps", "fps", found["off"], peer["off"], at_most=off, no_ratio=True)
    memory = MEMORY if viewers == 8 and least is not None else None
    yield _against(f"{start}: memory", "MB", found["rss"], peer["rss"], at_most=memory)


def _measured(path: Path, way: Way, viewers: int, plan: Plan, measure: str = "cost") -> Found:
    for attempt in range(ATTEMPTS):
        try:
            found: Found = _run(_measured_once(path, way, viewers, plan, measure))
            return found
        except ChildError as error:
            if attempt == ATTEMPTS - 1:
                raise
            print(f"{way.name} of {way.side}, {viewers} viewers, once more: {error}", file=sys.stderr)
    raise AssertionError


async def _measured_once(path: Path, way: Way, viewers: int, plan: Plan, measure: str) -> Found:
    with Crew() as crew:
        async with Stage() as stage:
            camera, audience = await _hire(crew, stage, way)
            await _ask(camera, "file", str(path), way.source, way.track)
            await _ask(audience, "come", viewers)
            await _ask(audience, "watch", "video", 1)
            await asyncio.sleep(plan.sending_warm_up)
            return await _counted(camera, audience, "video", measure, plan.sending_seconds)


async def _spoken(side: str, plan: Plan) -> Found:
    with Crew() as crew:
        async with Stage() as stage:
            camera, audience = await _hire(crew, stage, Way("speech", side, "VP8"))
            await _ask(camera, "speech", {})
            await _ask(audience, "come", plan.speech_viewers)
            await _ask(audience, "watch", "audio", 1)
            await asyncio.sleep(plan.sending_warm_up / 5)
            found = await _counted(camera, audience, "audio", "cost", plan.sending_seconds)
            return {**found, "bitrate": found["bitrate"] / 1e3}


async def _first_pictures(path: Path, way: Way, others: int, plan: Plan) -> list[dict[str, float]]:
    """One viewer after the other comes and goes, while others stay."""
    with Crew() as crew:
        async with Stage() as stage:
            camera, audience = await _hire(crew, stage, way)
            visitor = crew.hire("audience", "visitor", stage.relay.url, way.codec, "decoded")
            await _ask(camera, "file", str(path), way.source, way.track)
            if others:
                await _ask(audience, "come", others)
                await _ask(audience, "watch", "video", 1)
            await asyncio.sleep(plan.sending_warm_up)
            return [await _ask(visitor, "visit", NAME, number) for number in range(plan.visits)]


async def _hire(crew: Crew, stage: Stage, way: Way) -> tuple[Child, Child]:
    camera = crew.hire("camera", way.side, stage.relay.url)
    most = [ESTIMATE[way.codec]] if way.side == "published" and way.codec in ESTIMATE else []
    audience = crew.hire("audience", "viewer", stage.relay.url, way.codec, *most)
    for child in (camera, audience):
        await asyncio.to_thread(getattr, child, "greeting")
    return camera, audience


async def _counted(camera: Child, audience: Child, kind: str, measure: str, seconds: float) -> Found:
    before = await _ask(audience, "counts", kind)
    found: Found = await _ask(camera, measure, seconds)
    after = await _ask(audience, "counts", kind)
    took = after["at"] - before["at"]

    def rates(of: str) -> list[float]:
        return [(now - then) / took for now, then in zip(after[of], before[of], strict=True)]

    frames = rates("frames")
    return {
        **found,
        "fps": min(frames),
        "off": max(abs(rate - FPS) for rate in frames),
        "bitrate": statistics.mean(rates("bytes")) * 8,
        "keys": sum(rates("keys")),
    }


async def _ask(child: Child, command: str, *arguments: object) -> Any:
    answer = asyncio.create_task(asyncio.to_thread(child.ask, command, *arguments))
    done, _ = await asyncio.wait([answer], timeout=PATIENCE)
    if not done:
        child.kill()  # then there is a `ChildError`
    return await answer


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def _at_most(codec: str, bitrate: float | None) -> dict[str, Any]:
    return {"codec": codec} if bitrate is None else {"codec": codec, "max_bitrate": round(bitrate)}


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _against(
    name: str,
    unit: str,
    ours: float,
    theirs: float,
    *,
    peer: str = PUBLISHED,
    more_is_better: bool = False,
    no_ratio: bool = False,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    ratio = None
    if ours > 0 and theirs > 0 and not no_ratio:
        ratio = ours / theirs if more_is_better else theirs / ours
    target = None if at_least is None and at_most is None else Target(at_least=at_least, at_most=at_most)
    return Figure(group=GROUP, name=name, unit=unit, ours=ours, peer=peer, theirs=theirs, ratio=ratio, target=target)
