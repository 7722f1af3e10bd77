"""A camera bridge: an IP camera (or a file, or the machine's own camera) for everybody in a room, and its telemetry.

    python -m examples.camera_bridge front-door rtsp://camera.local:554/stream --url ws://127.0.0.1:8787 --key pk_live_x

What the camera encodes is sent as it is, where that is possible; else it is encoded once for all viewers. A camera that
goes away comes back by itself. `metered bridge` does the same without the telemetry.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from contextlib import suppress

import anyio

from metered_anyio import MediaStream, MeteredPeer, PeerJoined, PeerLeft, ReconnectOptions
from metered_media import Player, SourceEnded, SourceLost, SourceRestored, open_camera, open_file, open_rtsp

TELEMETRY = 1.0
"""Seconds between two readings."""


async def open_source(source: str) -> Player:
    """The camera. Raises `SourceOpenError`, which says why it does not open and shows no password."""
    if source == "camera":
        return await open_camera(width=640, height=480, fps=15)
    if source.startswith(("rtsp://", "rtsps://")):
        return await open_rtsp(source, transport="tcp", reconnect=True, passthrough=True)
    return await open_file(source, loop=True, passthrough=True)


async def run(room: str, source: str, url: str, key: str) -> None:
    """Send the camera to everybody in the room."""
    # A device in the field has to come back however long the network was away.
    peer = MeteredPeer(api_key=key, url=url, reconnect=ReconnectOptions(max_attempts=math.inf, max_delay=60.0))
    over = anyio.Event()
    viewers: set[str] = set()

    @peer.on(PeerJoined)
    def joined(event: PeerJoined) -> None:
        viewers.add(event.peer.id)
        print(f"{len(viewers)} watching", flush=True)

    @peer.on(PeerLeft)
    def left(event: PeerLeft) -> None:
        viewers.discard(event.peer.id)
        print(f"{len(viewers)} watching", flush=True)

    async with await open_source(source) as camera:  # which lets go of it at the end
        camera.on(SourceLost, lambda event: print(f"camera lost: {event.reason}", flush=True))
        camera.on(SourceRestored, lambda event: print(f"camera back after {event.away:.1f} s", flush=True))
        camera.on(SourceEnded, lambda _: over.set())
        stream = MediaStream(id=room)
        if camera.video is not None:
            peer.add_track(camera.video, stream, {"role": "camera", "label": "Front Door"}, max_height=720)
        if camera.audio is not None:
            peer.add_track(camera.audio, stream)
        async with peer.joined(room):
            print(f"on air as {peer.peer_id}", flush=True)
            while not over.is_set():
                if peer.state == "joined":
                    with suppress(Exception):  # lost just now; the next reading will do
                        await peer.send({"type": "status", "ts": int(time.time() * 1000), "watching": len(viewers)})
                with anyio.move_on_after(TELEMETRY):
                    await over.wait()


def main() -> None:
    """Run a bridge as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room")
    parser.add_argument("source", help="rtsp://…, a file, or: camera")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    with suppress(KeyboardInterrupt):
        anyio.run(run, args.room, args.source, args.url, args.key)


if __name__ == "__main__":
    main()
