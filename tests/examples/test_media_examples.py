"""A camera bridge, a recorder and a voice agent, as processes in rooms of one relay."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import anyio
import av
import numpy
import pytest

from metered_anyio import Data, MeteredPeer, PeerJoined, Track
from metered_media import AudioSource, iter_audio
from testbed.clips import Pictures, Tone, write

KEY = "pk_live_example"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_bridge_is_recorded(relay: Any, run: Any, tmp_path: Path, backend: str) -> None:
    clip = write(tmp_path / "camera.mp4", video=Pictures(), audio=Tone(), seconds=2)
    where = ["--url", relay.url, "--key", KEY]
    calls = tmp_path / "calls"
    recorder = run("examples.record_room", "door", str(calls), *where, "--backend", backend)
    recorder.wait_for("recording as ")
    bridge = run("examples.camera_bridge", "door", str(clip), *where)
    bridge.wait_for("1 watching")
    recorder.wait_for(".jpg: 320 x 240")

    async def watch() -> Any:
        async with MeteredPeer(api_key=KEY, url=relay.url) as viewer, viewer.events(Data) as told:
            await viewer.join("door")
            with anyio.fail_after(20):
                return (await anext(told)).data

    status = anyio.run(watch)
    assert (status["type"], status["watching"] >= 1) == ("status", True)

    bridge.signal(signal.SIGINT)
    assert bridge.wait() == 0, bridge.lines
    recorder.wait_for(".mp4: ")
    recorder.signal(signal.SIGINT)
    assert recorder.wait() == 0, recorder.lines
    (path,) = calls.glob("*.mp4")
    with av.open(str(path)) as container:
        frames = list(container.decode())
    assert {type(frame) for frame in frames} == {av.VideoFrame, av.AudioFrame}
    with av.open(str(next(calls.glob("*.jpg")))) as container:
        assert next(container.decode(video=0)).width == 320


def speech(seconds: float) -> bytes:
    turns = numpy.arange(int(seconds * 16_000)) * 300 / 16_000
    return (10_000 * numpy.sin(2 * numpy.pi * turns)).astype(numpy.int16).tobytes()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_talk_with_an_agent(relay: Any, run: Any, backend: str) -> None:
    agent = run("examples.voice_agent", "talk", "--url", relay.url, "--key", KEY, "--backend", backend)
    agent.wait_for("listening as ")

    async def wait_for(text: str, after: int = 0) -> int:
        return await anyio.to_thread.run_sync(lambda: agent.wait_for(text, after=after))

    async def talk() -> None:
        async with MeteredPeer(api_key=KEY, url=relay.url) as human:
            mouth = AudioSource()
            human.add_track(mouth)
            loud = anyio.Event()

            @human.on(PeerJoined)
            def met(event: PeerJoined) -> None:
                @event.peer.on(Track)
                async def track(seen: Track) -> None:
                    async for chunk in iter_audio(seen.track):
                        if abs(chunk.astype(int)).max() > 3000:
                            loud.set()

            await human.join("talk")
            await mouth.push(speech(1.0))
            await wait_for("spoke for ")
            with anyio.fail_after(20):
                await loud.wait()  # it answers
            await mouth.push(speech(1.0))
            line = await wait_for("interrupts: heard was ")
            assert re.search(r"[\d.]+ s dropped", agent.lines[line - 1])
            await wait_for("not said: ")
            await wait_for("saying: ", after=line)  # and answers anew
            await wait_for("said all of it", after=line)

    anyio.run(talk)
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0, agent.lines
