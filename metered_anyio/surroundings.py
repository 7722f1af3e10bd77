"""What surrounds the machine of a client: sockets to the server, the token provider, handlers, and the end of it all.

`SignallingClient` and `MeteredPeer` share it; only what they ask of their machines, and what these tell, differs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel

from metered_anyio.backend import Backend, Waiter, Wire, current_backend
from metered_anyio.dial import DialError, dial, proxy_from_environment
from metered_anyio.emitter import Emitter
from metered_anyio.logger import ContainedLogger, NoopLogger
from metered_anyio.masker import quickest_masker
from metered_anyio.options import SignallingClientOptions, where_to_record
from metered_anyio.pump import Pump
from metered_anyio.sockets import Link
from metered_anyio.stand_in import stand_in_for
from metered_anyio.tls import TlsPipe, default_context
from metered_proto.client import FetchToken
from metered_proto.entropy import Entropy
from metered_proto.facts import LinkDown
from metered_proto.machine import Machine
from metered_proto.masking import MaskKeys
from metered_proto.orders import Note, Order
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import PlainRequest

if TYPE_CHECKING:
    from metered_anyio.recording import MachineRecording
    from metered_proto.replay import Plan, Recorder

PATIENCE = 1.8
"""Seconds after which winding down is given up, even if a handler or a provider refuses to be cancelled."""

_mask_keys = MaskKeys(os.urandom)


class ClientMachine(Machine, Protocol):
    """A machine that is `idle` before it has connected, and `closed` for good at its end."""

    @property
    def state(self) -> str:
        """The state that the application sees."""
        ...


class Surroundings:
    """A `pump.Host` for one client, and its pump, which is bound to the event loop that is running at the first call.

    What differs is for those who derive from it: `tell`, and the methods under "for whoever has more".
    """

    tell: Callable[[Any], None]

    def __init__(self, options: SignallingClientOptions) -> None:
        self.logger = ContainedLogger(NoopLogger() if options.logger is None else options.logger)
        self.emitter = Emitter(self.logger)
        self.tell = self.emitter.emit  # what the machine tells goes straight to the handlers
        self.machine: ClientMachine
        self._record = where_to_record(options.record)
        self._recording: MachineRecording | None = None
        self.pump: Pump | None = None
        self._loop: object = None
        self._notes = self.logger.of("metered_proto")
        self._token_provider = options.token_provider
        self._ssl_context = options.ssl_context
        self._stand_in = stand_in_for(options.url)
        self._dials: dict[int, anyio.CancelScope] = {}
        self._masker = quickest_masker()
        self._winding_down: list[Waiter[Any]] | None = None  # who waits for it; empty once it is over
        self._wound_down = False

    def entropy(self) -> Entropy:
        """A source of random numbers that nobody can guess, but in a test."""
        return Entropy(os.urandom(16) if self._stand_in is None else self._stand_in.seed())

    def start(self) -> Pump:
        """Make the pump, on the loop that is running now."""
        backend: Backend = current_backend()
        self._loop = anyio.lowlevel.current_token().native_token
        self.emitter.bind(backend)
        driven: Machine = self.machine
        if self._recording is not None:
            self._recording.start(backend)
            driven = self._recording.recorder
        self.pump = Pump(driven, self, backend, eager=True, perform=self.perform())
        return self.pump

    @property
    def records(self) -> bool:
        """Whether the machine is to be recorded."""
        return self._record is not None

    def record(self, kind: str, plan: Plan) -> Recorder:
        """Have the machine recorded: it was made of this plan, and has not been used yet."""
        from metered_anyio.recording import MachineRecording

        assert self._record is not None
        self._recording = MachineRecording(self._record, kind, self.machine, plan, self.logger)
        return self._recording.recorder

    def check_loop(self) -> None:
        """Raises `RuntimeError` on another event loop than the one on which it was started."""
        if self.pump is not None and anyio.lowlevel.current_token().native_token != self._loop:
            raise RuntimeError("in use on another event loop, where it began: make another one for this loop")

    async def gone(self) -> None:
        """Wait until winding down is over, if it has begun; but not from within a handler, for which it waits."""
        if self._winding_down is not None and not self._wound_down and not self.emitter.in_handler():
            assert self.pump is not None
            waiter = self.pump.backend.waiter()
            self._winding_down.append(waiter)
            await waiter

    # --- for whoever has more ---

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        """What to do for orders that this one machine gives."""
        return {}

    def end_streams(self) -> None:
        """The machine has come to its end: no more events will come."""
        self.emitter.end_streams()

    async def finish(self) -> None:
        """Let go of what takes time. Cancelled after `PATIENCE`."""
        await self.emitter.finish()

    def finished(self) -> None:
        """Let go of the rest, at the very end."""

    # --- as pump.Host has it ---

    def settle(self) -> None:
        """See to it that everything ends once the machine has."""
        state = self.machine.state
        if state == "idle" and self.pump is not None:
            # A connect failed or was called off. What is left of it does not get the time to close in good order.
            for link in list(self.pump.links.values()):
                link.close(1000, "", abort=True)
        elif state == "closed" and self._winding_down is None and self.pump is not None:
            self._winding_down = []
            self.end_streams()
            self.pump.backend.spawn(self._wind_down)

    async def _wind_down(self) -> None:
        assert self.pump is not None
        try:
            with anyio.move_on_after(PATIENCE):
                await self.finish()
                await self.pump.quiet()
        finally:
            self.finished()
            if self._recording is not None:
                self._recording.close()
            self._wound_down = True
            for waiter in self._winding_down or ():
                if not waiter.done():
                    waiter.set_result(None)

    def note(self, note: Note) -> None:
        """Log."""
        getattr(self._notes, note.level)(note.message, note.context)

    async def work(self, work: Any) -> Any:
        """Ask the token provider."""
        assert isinstance(work, FetchToken) and self._token_provider is not None  # noqa: PT018
        return await self._token_provider()

    def open_link(self, number: int, target: str) -> None:
        """Dial in the background."""
        pump = self.pump
        assert pump is not None
        scope = self._dials[number] = pump.backend.cancel_scope()

        async def run() -> None:
            failure: LinkDown | None = None
            with scope:
                try:
                    await self._open(pump, number, target)
                except DialError as error:
                    failure = LinkDown(number, error.code, error.reason)
                except Exception as error:
                    failure = LinkDown(number, 1006, type(error).__name__)
            self._dials.pop(number, None)
            if failure is not None:
                pump.feed(failure)

        pump.spawn(run)

    def close_unopened(self, number: int) -> None:
        """Stop dialling."""
        if (scope := self._dials.pop(number, None)) is not None:
            scope.cancel()

    async def _open(self, pump: Pump, number: int, target: str) -> None:
        parts = urlsplit(target)
        secure, host = parts.scheme == "wss", parts.hostname or ""
        port = parts.port or (443 if secure else 80)
        ws = WebSocket.client(parts.netloc, f"{parts.path}?{parts.query}", random=_mask_keys, mask=self._masker)
        tls, early = None, b""
        sock: socket.socket | Wire
        if self._stand_in is not None:
            sock = await self._stand_in.dial()
        else:
            if secure:
                context = self._ssl_context or await default_context()
                tls = TlsPipe(context, server_side=False, hostname=host)
            sock, early = await dial(host, port, proxy_from_environment(host, secure=secure))
        try:
            if number not in self._dials:  # called off in the very moment in which it succeeded
                raise DialError("called off")
            link = pump.links[number] = Link(number, pump, sock, ws, tls)
        except BaseException:
            sock.close()
            raise
        link.open(early)

    def http(self, link: Link, request: PlainRequest) -> None:
        """Never happens."""
        raise AssertionError("a client is never asked")
