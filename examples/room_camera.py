"""A camera in a room, as far as everybody else can tell: a moving test picture, for as long as this runs.

    python -m examples.room_camera lobby --url ws://127.0.0.1:8787 --key pk_live_demo

A real one needs another track in the place of `TestPicture`: anything with aiortc's `recv()` will do.
`examples.room_viewer` is its counterpart; so is a browser.
"""

from __future__ import annotations

import argparse
import asyncio
import fractions
import math
import os
import time
from contextlib import suppress

import anyio
import av
from aiortc import MediaStreamTrack

from metered_anyio import (
    DataChannel,
    DataChannelOpened,
    DCMessage,
    FatalError,
    MediaStream,
    MeteredPeer,
    PeerJoined,
    PeerLeft,
    ReconnectOptions,
    StateChange,
)

WIDTH, HEIGHT, RATE, CLOCK = 320, 240, 30, 90_000
BARS = ((235, 128, 128), (210, 16, 146), (170, 166, 16), (145, 54, 34), (106, 202, 222), (81, 90, 240), (41, 240, 110))


class TestPicture(MediaStreamTrack):
    """Colour bars that wander to the left."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._began: float | None = None

    async def recv(self) -> av.VideoFrame:
        """The next picture, when it is due. It is only asked for while somebody watches."""
        now = time.monotonic()
        if self._began is None or now - self._began - self._number / RATE > 1:
            self._began = now - self._number / RATE
        await asyncio.sleep(max(0.0, self._began + self._number / RATE - now))
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for which, plane in enumerate(frame.planes):
            row = bytes(
                BARS[(column * WIDTH // plane.width + self._number * 2) * len(BARS) // WIDTH % len(BARS)][which]
                for column in range(plane.width)
            )
            plane.update((row + bytes(plane.line_size - plane.width)) * plane.height)
        frame.pts, frame.time_base = self._number * CLOCK // RATE, fractions.Fraction(1, CLOCK)
        self._number += 1
        return frame


async def run(room: str, url: str, key: str) -> None:
    """Show the picture to everybody in the room."""
    over = anyio.Event()
    camera = MeteredPeer(api_key=key, url=url, reconnect=ReconnectOptions(max_attempts=math.inf))
    # Before joining: then it is part of the first offer to everybody.
    camera.add_stream(MediaStream([TestPicture()], id="camera"), {"role": "camera", "label": "test picture"})

    @camera.on(PeerJoined)
    def joined(event: PeerJoined) -> None:
        viewer = event.peer
        print(f"{viewer.id} came", flush=True)

        @viewer.on(StateChange)
        def state(change: StateChange) -> None:
            print(f"{viewer.id}: {change.to}", flush=True)

        @viewer.on(DataChannelOpened)
        def control(opened: DataChannelOpened) -> None:
            channel = DataChannel(opened.channel)
            channel.on(DCMessage, lambda message: print(f"{viewer.id} says {message.data!r:.80}", flush=True))

    @camera.on(PeerLeft)
    def left(event: PeerLeft) -> None:
        print(f"{event.peer.id} left", flush=True)

    @camera.on(FatalError)
    def fatal(event: FatalError) -> None:
        print(f"for good: {event.err}", flush=True)
        over.set()

    async with camera.joined(room):
        print(f"on air as {camera.peer_id}", flush=True)
        await over.wait()


def main() -> None:
    """Run a camera as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    with suppress(KeyboardInterrupt):
        anyio.run(run, args.room, args.url, args.key)


if __name__ == "__main__":
    main()
