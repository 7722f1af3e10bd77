"""A cassette: an application's own handlers, run against recorded traffic.

    async def test_the_thermostat(cassette):
        async with cassette.client() as client:      # a SignallingClient without a network
            install_handlers(client)                 # the application's own code
            await cassette.play()                    # plays the recording; fails if what was sent differs

The recording is one that `SignallingClient(record=…)` made. What the server said in it is said again, at once, in its
order; what the client said in it is waited for, and compared with what it says now. Timers of the application's own run
as ever, so use virtual time for those (`metered_anyio.testing.virtual_backend`).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from metered_anyio.pump import Pump
from metered_anyio.recording import open_recording
from metered_anyio.signalling_client import SignallingClient
from metered_anyio.testing.script import Comparison, Down, Hear, Open, Say, Up, script_of
from metered_proto.errors import RecordingFileError
from metered_proto.facts import LinkDown, LinkUp, Received
from metered_proto.replay import ClientPlan
from metered_proto.settings import ReconnectOptions

AT_ONCE = ReconnectOptions(initial_delay=0.001, max_delay=0.001, jitter_ratio=0)


class Cassette:
    """One recording, for one client.

    `patience` is how long, in seconds, the application is given for something that it is to send. With `rewrite`
    nothing is compared: what is sent now is recorded in place of the file.

    Raises `OSError` or `RecordingFileError` for a file that is no recording of a `SignallingClient`.
    """

    def __init__(self, path: str | os.PathLike[str], *, rewrite: bool = False, patience: float = 2.0) -> None:
        self.path = Path(path)
        self.rewrite = rewrite
        self.patience = patience
        recording = open_recording(self.path)
        if not isinstance(recording.header.plan, ClientPlan):
            raise RecordingFileError(1, "a cassette takes the recording of a SignallingClient")
        self._plan = recording.header.plan
        self._script = script_of(recording.steps())
        self._compared = Comparison()
        self._client: SignallingClient | None = None
        self._pump: Pump | None = None
        self._link: _Link | None = None
        self._up = False
        self._changed: anyio.Event | None = None
        self._over = False
        self._playing = False
        self._failed = False  # it has been said once
        self._rewritten = ""

    def client(self, **options: Any) -> SignallingClient:
        """The client, made as the recorded one was; `options` of `SignallingClient` go ahead of that.

        It has no network, comes back at once after a drop, and does not look for silence.
        """
        if self._client is not None:
            raise RuntimeError("a cassette is for one client")
        options.setdefault("deduplicate", self._plan.deduplicator is not None)
        options.setdefault("outbox", self._plan.outbox)
        options.setdefault("auto_resubscribe", self._plan.settings.auto_resubscribe)
        options.setdefault("reconnect", AT_ONCE if self._plan.settings.reconnect is not None else False)
        if self.rewrite:
            descriptor, self._rewritten = tempfile.mkstemp(".jsonl", ".cassette-", self.path.parent)
            os.close(descriptor)
            os.unlink(self._rewritten)
            options["record"] = self._rewritten
        self._client = SignallingClient(
            api_key="pk_live_cassette", url="wss://cassette.invalid", inactivity_timeout=0, **options
        )
        around = self._client._around
        around.open_link = self._opened  # type: ignore[method-assign]
        return self._client

    async def play(self) -> None:
        """Wait until all of it was played. Raises `AssertionError` if what was sent differs."""
        while not self._over:
            await self._change()
        if not self.rewrite:
            await anyio.sleep(0.02)  # handlers that send more than they should
        self.check()

    def check(self) -> None:
        """Raises `AssertionError` if what was sent so far differs from the recording."""
        if self.rewrite or self._client is None:
            return
        difference = self._compared.difference()
        if difference is not None:
            self._failed = True
            raise AssertionError(f"{self.path.name}: {difference}")

    def finish(self) -> None:
        """At the end of a test: check, or put what was recorded in the place of the file."""
        if not self._failed:
            self.check()
        if self._rewritten and os.path.exists(self._rewritten):
            os.replace(self._rewritten, self.path)

    # --- as the network ---

    def _opened(self, number: int, target: str) -> None:
        assert self._client is not None
        pump = self._pump = self._client._around.pump
        assert pump is not None
        self._up = False
        self._link = _Link(number, self)
        pump.links[number] = self._link  # type: ignore[assignment]
        self._tell()
        if not self._playing:
            self._playing = True
            pump.spawn(self._play)

    def heard(self, payload: bytes) -> None:
        """The client says something."""
        self._compared.hear(payload)
        self._tell()

    def closed(self, link: _Link) -> None:
        """The client closes a connection."""
        assert self._pump is not None
        self._pump.links.pop(link.number, None)
        if self._link is link:
            self._link = None
        self._pump.gone(link)  # type: ignore[arg-type]
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    async def _play(self) -> None:
        try:
            for action in self._script:
                match action:
                    case Open():
                        await self._until(lambda: self._link is not None and not self._up)
                    case Up() if self._link is not None:
                        self._up = True
                        self._feed(LinkUp(self._link.number))
                    case Say(payloads) if self._link is not None:
                        said = self._compared.renamed(payloads)
                        if said:
                            self._feed(Received(self._link.number, said))
                        # Handlers have their turn before anything else comes.
                        await anyio.lowlevel.checkpoint()
                    case Down(code, reason) if self._link is not None:
                        link, self._link = self._link, None
                        assert self._pump is not None
                        self._pump.links.pop(link.number, None)
                        self._feed(LinkDown(link.number, code, reason))
                    case Hear(frame):
                        await self._until(lambda: self._compared.has(frame))
                        self._compared.take(frame)
                    case _:
                        pass
                if self.rewrite and self._link is not None and self._up and (more := self._compared.unasked()):
                    self._feed(Received(self._link.number, list(more)))
        finally:
            self._over = True
            self._tell()

    async def _until(self, condition: Any) -> None:
        with anyio.move_on_after(0.2 if self.rewrite else self.patience):
            while not condition() and self._client is not None and self._client.state != "closed":
                await self._change()

    def _feed(self, fact: Any) -> None:
        assert self._pump is not None
        self._pump.feed(fact)


class _Link:
    """What a pump has for a connection (`metered_anyio.sockets.Link`), without one."""

    def __init__(self, number: int, cassette: Cassette) -> None:
        self.number = number
        self._cassette = cassette

    def send(self, payload: bytes) -> None:
        """Write a message."""
        self._cassette.heard(payload)

    def ping(self) -> None:
        """Nobody is there to answer."""

    def close(self, code: int, reason: str, *, abort: bool = False) -> None:
        """Close."""
        self._cassette.closed(self)
