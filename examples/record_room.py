"""A recorder: everybody in a room into a directory, a file for each person, and a picture of each as he comes.

    python -m examples.record_room lobby calls --url ws://127.0.0.1:8787 --key pk_live_demo

`metered record` does the same without the pictures. On asyncio or trio: `--backend trio`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import anyio

from metered_anyio import FatalError, MeteredPeer, PeerJoined, Track
from metered_media import RecordingFinished, SnapshotError, record, snapshot


async def run(room: str, directory: str, format: str, url: str, key: str) -> None:
    """Record a room."""
    peer = MeteredPeer(api_key=key, url=url)
    over = anyio.Event()
    peer.on(FatalError, lambda event: over.set())

    @peer.on(PeerJoined)
    def joined(event: PeerJoined) -> None:
        person = event.peer

        @person.on(Track)
        async def picture(seen: Track) -> None:
            if seen.track.kind == "video":
                try:
                    taken = await snapshot(seen.track, timeout=10)  # which takes nothing from the recording
                except SnapshotError as error:
                    print(f"no picture of {person.id}: {error.reason}", flush=True)
                    return
                # A peer id is whatever somebody calls himself: it is no file name.
                path = Path(directory) / f"picture-{person.id.encode().hex()[:60]}.jpg"
                taken.save(path)
                print(f"{path}: {taken.width} x {taken.height}", flush=True)

    async with record(peer, directory, format=format) as recording:  # type: ignore[arg-type]  # record looks at it
        recording.on(RecordingFinished, lambda event: print(f"{event.path}: {event.seconds:.1f} s", flush=True))
        async with peer.joined(room):
            print(f"recording as {peer.peer_id}", flush=True)
            await over.wait()


def main() -> None:
    """Run a recorder as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room")
    parser.add_argument("directory")
    parser.add_argument("--format", choices=("mp4", "webm", "mkv", "wav"), default="mp4")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    try:
        anyio.run(run, args.room, args.directory, args.format, args.url, args.key, backend=args.backend)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
