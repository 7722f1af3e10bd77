"""Viewers that count what they get and decode none of it, so that they leave the processors to the sender.

    python -m benchmarks.roles.audience NAME URL CODEC [BITRATE | decoded]

Everything else is as it always is: jitter buffer, retransmissions, reports, estimates of the bandwidth. `CODEC` is the
only codec of video that they know, `BITRATE` the most, in bit/s, that they say they can take. With `decoded` they do
decode.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import time
from typing import Any

import msgspec
from aiortc import codecs, rtcrtpreceiver
from aiortc.rtp import pack_remb_fci

import metered_anyio
from benchmarks.children import obey
from testbed.access import ROOM, token
from testbed.guest import Guest
from testbed.waiting import reached

PATIENCE = 20.0
"""Seconds for everybody to see something."""


class Tally:
    """What one viewer got in one track."""

    def __init__(self) -> None:
        self.kind = ""
        self.codec = ""
        self.frames = 0
        self.keys = 0
        self.bytes = 0

    def count(self, codec: Any, data: bytes) -> None:
        """A whole frame has come."""
        self.kind, self.codec = codec.mimeType.partition("/")[0], codec.name
        self.frames += 1
        self.bytes += len(data)
        self.keys += self.kind == "video" and is_key_frame(codec.name, data)


class Audience:
    """The commands."""

    def __init__(self, name: str, url: str) -> None:
        self._name, self._url = name, url
        self._guests: list[Guest] = []
        self.tallies: list[Tally] = []

    async def run(self) -> None:
        await obey({"come": self.come, "watch": self.watch, "counts": self.counts, "visit": self.visit})
        await asyncio.gather(*(guest.close() for guest in self._guests))

    def count(self, _: object, frames: queue.Queue[Any], *__: object) -> None:
        """In the place of the thread that decodes."""
        tally = Tally()
        self.tallies.append(tally)
        while (task := frames.get()) is not None:
            codec, frame = task
            tally.count(codec, frame.data)

    async def come(self, count: int) -> None:
        """So many more viewers join."""
        for _ in range(count):
            guest = self._guest(f"{self._name}-{len(self._guests)}")
            await guest.join(ROOM)
            self._guests.append(guest)

    async def watch(self, kind: str, frames: int) -> None:
        """Wait until everybody has so many frames. Raises `TimeoutError`."""

        def everybody() -> bool:
            seen = [tally.frames for tally in self.tallies if tally.kind == kind]
            return len(seen) >= len(self._guests) and min(seen) >= frames

        if not await reached(everybody, PATIENCE, 0.02):
            raise TimeoutError(f"{len(self._guests)} viewers have {self._shown()}")

    async def counts(self, kind: str) -> dict[str, Any]:
        """Frames, key frames and bytes so far, viewer by viewer, and when that was."""
        of = [tally for tally in self.tallies if tally.kind == kind]
        return {
            "at": time.monotonic(),
            "frames": [tally.frames for tally in of],
            "keys": [tally.keys for tally in of],
            "bytes": [tally.bytes for tally in of],
            "codecs": sorted({tally.codec for tally in of}),
        }

    async def visit(self, sender: str, number: int) -> dict[str, float]:
        """Join, and leave once there is a picture: seconds from the call of `join`, and from being connected."""
        guest = self._guest(f"{self._name}-{number}")
        began = time.time()
        try:
            await guest.join(ROOM)
            if not await reached(lambda: any(seen.frames for seen in guest.tracks), PATIENCE, 0.01):
                raise TimeoutError(f"no picture: {guest.summary()}")
            states = [(at, event) for at, remote, event in guest.told if remote == sender]
            connected = next(at for at, event in states if getattr(event, "to", "") == "connected")
            first = min(seen.first_at for seen in guest.tracks if seen.first_at is not None)
            return {"join": first - began, "connected": first - connected}
        finally:
            await guest.close()

    def _guest(self, name: str) -> Guest:
        async def provide() -> str:
            return token(name)

        return Guest(metered_anyio, url=self._url, token_provider=provide)

    def _shown(self) -> str:
        return msgspec.json.encode([[tally.kind, tally.codec, tally.frames] for tally in self.tallies]).decode()


def is_key_frame(codec: str, data: bytes) -> bool:
    """Whether a frame can be decoded without any before it: RFC 7741, section 4.3, and RFC 6184, section 1.3."""
    if codec == "VP8":
        return bool(data) and not data[0] & 1
    return any(part[:1] and part[0] & 0x1F == 5 for part in data.split(b"\0\0\1"))


def know_only(codec: str) -> None:
    """Have aiortc know one codec of video, and what it is sent again with."""
    of = [each for each in codecs.CODECS["video"] if each.name.lower() == codec.lower()]
    numbers = [each.payloadType for each in of]
    again = [each for each in codecs.CODECS["video"] if each.parameters.get("apt") in numbers]
    codecs.CODECS["video"] = of + again


def estimate_at_most(bitrate: int) -> None:
    """Have aiortc tell senders of no more bandwidth than this."""

    def limited(estimate: int, ssrcs: list[int]) -> bytes:
        return pack_remb_fci(min(estimate, bitrate), ssrcs)

    setattr(rtcrtpreceiver, "pack_remb_fci", limited)  # noqa: B010 - aiortc does not export it


async def main() -> None:
    """Be that child."""
    _, name, url, codec, *more = sys.argv
    audience = Audience(name, url)
    know_only(codec)
    for bitrate in filter(str.isdigit, more):
        estimate_at_most(int(bitrate))
    if "decoded" not in more:
        rtcrtpreceiver.decoder_worker = audience.count  # type: ignore[assignment]
    await audience.run()


if __name__ == "__main__":
    asyncio.run(main())
