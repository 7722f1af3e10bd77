"""A voice agent in a room: it listens to everybody, waits until somebody has said something, and answers aloud.

    python -m examples.voice_agent lobby --url ws://127.0.0.1:8787 --key pk_live_demo

Whoever speaks while it does is not talked over: it stops within a frame (barge-in), and knows what of its answer was
heard. `Ears` and `Mouth` stand where a speech-to-text and a text-to-speech service go; the rest stays as it is. On
asyncio or trio: `--backend trio`.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.abc
import numpy
import numpy.typing

from metered_anyio import FatalError, MediaStream, MeteredPeer, PeerJoined, Track
from metered_media import AudioSource, Cleared, Played, iter_audio

RATE = 16_000
CHUNK = 0.1
LOUD = 1_000
"""The level, of 32767, above which a chunk is speech."""
SILENCE = 0.6
"""Seconds of silence after which somebody has said what he wanted to say."""

Samples = numpy.typing.NDArray[numpy.int16]


class Ears:
    """In place of speech-to-text: says when somebody speaks, and for how long he did, but not what."""

    def __init__(self) -> None:
        self.spoken = 0.0
        self._silent = 0.0

    @property
    def speaking(self) -> bool:
        """Whether somebody is in the middle of something, and has been for more than a cough."""
        return self.spoken >= 2 * CHUNK

    def hear(self, chunk: Samples) -> float | None:
        """Take in the next chunk. Returns how many seconds somebody spoke when he has ended."""
        if math.sqrt(float(numpy.mean(chunk.astype(numpy.float64) ** 2))) > LOUD:
            self.spoken, self._silent = self.spoken + CHUNK, 0.0
        elif self.spoken:
            self._silent += CHUNK
            if self._silent >= SILENCE:
                spoken, self.spoken = self.spoken, 0.0
                return spoken if spoken >= 2 * CHUNK else None
        return None


class Mouth:
    """In place of text-to-speech: a tone for each word."""

    def say(self, text: str) -> Iterator[tuple[str, bytes]]:
        """The words and their sound, as a service streams it: s16, mono, 16 kHz."""
        for number, word in enumerate(text.split()):
            turns = numpy.arange(int(RATE * 0.3)) * (300 + 40 * (number % 5)) / RATE
            tone = 8_000 * numpy.sin(2 * numpy.pi * turns)
            yield word, tone.astype(numpy.int16).tobytes() + bytes(int(RATE * 0.1) * 2)


class Agent:
    """Answers one person at a time."""

    def __init__(self, peer: MeteredPeer, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._mouth = Mouth()
        self._answering: anyio.CancelScope | None = None
        self._heard: list[str] = []
        self.over = anyio.Event()
        self.voice = AudioSource(input_rate=RATE, max_buffered_seconds=2.0)
        self.voice.on(Played, lambda event: self._heard.append(event.marker))
        self.voice.on(Cleared, lambda event: print(f"not said: {event.marker}", flush=True))
        peer.add_track(self.voice, MediaStream(id="agent-voice"), {"role": "agent", "label": "agent"})
        peer.on(PeerJoined, self._joined)
        peer.on(FatalError, self._fatal)

    def _joined(self, event: PeerJoined) -> None:
        person = event.peer
        print(f"{person.id} came", flush=True)
        person.on(Track, lambda seen: self._tasks.start_soon(self._listen, person.id, seen.track))

    async def _listen(self, who: str, track: Any) -> None:
        if track.kind != "audio":
            return
        ears = Ears()
        async with iter_audio(track, rate=RATE, frame_ms=CHUNK * 1000) as chunks:
            async for chunk in chunks:
                spoken = ears.hear(chunk)
                if ears.speaking and self._answering is not None:
                    self._interrupt(who)
                if spoken is not None:
                    print(f"{who} spoke for {spoken:.1f} s", flush=True)
                    self._tasks.start_soon(self._answer, f"I have heard you for {spoken:.1f} seconds and that is all")

    async def _answer(self, text: str) -> None:
        if self._answering is not None:
            return
        with anyio.CancelScope() as self._answering:
            self._heard.clear()
            print(f"saying: {text}", flush=True)
            for word, sound in self._mouth.say(text):
                await self.voice.push(sound, marker=word)
            await self.voice.wait_for_playout()
            print("said all of it", flush=True)
        self._answering = None

    def _interrupt(self, who: str) -> None:
        assert self._answering is not None
        self._answering.cancel()
        self._answering = None
        dropped = self.voice.clear()
        print(f"{who} interrupts: heard was {' '.join(self._heard)!r}, {dropped:.1f} s dropped", flush=True)

    def _fatal(self, event: FatalError) -> None:
        print(f"for good: {event.err}", flush=True)
        self.over.set()


async def run(room: str, url: str, key: str) -> None:
    """Be in a room and answer."""
    peer = MeteredPeer(api_key=key, url=url)
    async with anyio.create_task_group() as tasks:
        agent = Agent(peer, tasks)
        async with peer.joined(room):
            print(f"listening as {peer.peer_id}", flush=True)
            await agent.over.wait()
        tasks.cancel_scope.cancel()


def main() -> None:
    """Run an agent as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    try:
        anyio.run(run, args.room, args.url, args.key, backend=args.backend)
    except* KeyboardInterrupt:  # which trio puts into a group
        pass


if __name__ == "__main__":
    main()
