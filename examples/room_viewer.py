"""A viewer in a room: takes in every track that anybody sends, and says each second how much came.

    python -m examples.room_viewer lobby --url ws://127.0.0.1:8787 --key pk_live_demo

A recorder is the same with a file behind it. On asyncio or trio: `--backend trio`.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from contextlib import suppress

import anyio
import anyio.abc

from metered_anyio import DataChannel, FatalError, MeteredPeer, PeerJoined, StateChange, StreamAdded, Track


class Viewer:
    """Counts the frames of everybody."""

    def __init__(self, peer: MeteredPeer, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._frames: Counter[str] = Counter()
        self.over = anyio.Event()
        peer.on(PeerJoined, self._joined)
        peer.on(FatalError, self._fatal)

    def _joined(self, event: PeerJoined) -> None:
        sender = event.peer
        # Here, in the handler itself, nothing of this peer has been told yet, so nothing is missed.
        sender.on(
            StreamAdded, lambda added: print(f"{sender.id} shows {added.stream.id}: {added.metadata}", flush=True)
        )
        # Over a reconnect by which a connection was replaced, tracks come anew, and the old ones end.
        sender.on(Track, lambda track: self._tasks.start_soon(self._count, sender.id, track))

        @sender.once(StateChange)
        async def greet(change: StateChange) -> None:
            await DataChannel(sender.create_data_channel("control")).send("watching")

    def _shows(self, sender: str, added: StreamAdded) -> None:
        print(f"{sender} shows {added.stream.id}: {added.metadata}", flush=True)

    async def _count(self, sender: str, seen: Track) -> None:
        # `recv` raises aiortc's error at the track's end, the same on asyncio and on trio.
        from aiortc.mediastreams import MediaStreamError

        name = f"{sender}/{seen.streams[0].id if seen.streams else '-'}/{seen.track.kind}"
        with suppress(MediaStreamError):
            while True:
                await seen.track.recv()
                self._frames[name] += 1
        print(f"{name} has ended", flush=True)

    def _fatal(self, event: FatalError) -> None:
        print(f"for good: {event.err}", flush=True)
        self.over.set()

    async def report(self) -> None:
        """Say each second what came in it."""
        while True:
            await anyio.sleep(1)
            for name, count in sorted(self._frames.items()):
                print(f"{name}: {count} frames", flush=True)
            self._frames.clear()


async def run(room: str, url: str, key: str) -> None:
    """Watch a room."""
    peer = MeteredPeer(api_key=key, url=url)
    async with anyio.create_task_group() as tasks:
        viewer = Viewer(peer, tasks)
        async with peer.joined(room):
            print(f"watching as {peer.peer_id}", flush=True)
            tasks.start_soon(viewer.report)
            await viewer.over.wait()
        tasks.cancel_scope.cancel()


def main() -> None:
    """Run a viewer as the command line says."""
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
