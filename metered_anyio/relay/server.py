"""The relay as a server: sockets and HTTP around `metered_proto.relay.Relay`.

    async with RelayServer(keys=[PublishableKey("pk_live_demo")], port=0) as relay:
        print(relay.url)

It listens from the moment it is entered, on asyncio and on trio alike, and drains when it is left.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import anyio
import msgspec

from metered_anyio.backend import Alarm, Backend, Watch, Watchable, Wire, current_backend
from metered_anyio.logger import ContainedLogger, Logger, NoopLogger
from metered_anyio.masker import quickest_masker
from metered_anyio.options import Record, where_to_record
from metered_anyio.pump import Pump
from metered_anyio.sockets import Link
from metered_anyio.tls import TlsPipe
from metered_proto.entropy import Entropy
from metered_proto.events import PresencePeer
from metered_proto.machine import Machine
from metered_proto.orders import Note
from metered_proto.relay import (
    Drain,
    HttpCall,
    HttpReply,
    Kick,
    Limits,
    Peers,
    PublishableKey,
    PublishAs,
    Relay,
    RelaySettings,
    SecretKey,
    Stats,
    Usage,
    UsageReport,
)
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import PlainRequest
from metered_proto.wire.codec import encode_data

if TYPE_CHECKING:
    from metered_anyio.recording import MachineRecording

BACKLOG = 4096
ACCEPTS_A_PASS = 64
"""Connections taken from the backlog before everybody else has a turn again."""

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a connection may take to come out with its request."""

BREATHER = 0.1
"""Seconds without accepting when the process has run out of file descriptors."""


class Listener(Watchable, Protocol):
    """What stands in for a listening socket."""

    def accept(self) -> tuple[Wire, tuple[str, int]]:
        """The next connection, and where it comes from. Raises `BlockingIOError` if there is none."""
        ...

    def getsockname(self) -> tuple[str, int]:
        """Where it listens."""
        ...


class RelayServer:
    """A relay that listens on one address.

    `keys` and `secrets` say who may come in and what for, `limits` how much. `port=0` takes any free one; `port`
    and `url` tell which. `ssl_context` makes it `wss`. `record` is where what the relay does is recorded: a file, a
    directory or `RecordOptions`. Settings are checked as in `metered_proto.relay.settings`.
    """

    def __init__(
        self,
        *,
        keys: Iterable[PublishableKey | str] = (),
        secrets: Iterable[SecretKey] = (),
        limits: Limits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        logger: Logger | None = None,
        record: Record = None,
    ) -> None:
        self._settings = RelaySettings(
            born_at=time.time(),
            keys=tuple(PublishableKey(key) if isinstance(key, str) else key for key in keys),
            secrets=tuple(secrets),
            limits=limits or Limits(),
        )
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._logger = ContainedLogger(NoopLogger() if logger is None else logger)
        self._notes = self._logger.of("metered_proto")
        self._masker = quickest_masker()
        self._record = where_to_record(record)
        self._recording: MachineRecording | None = None
        self._machine: Relay | None = None
        self._pump: Pump | None = None
        self._listener: socket.socket | Listener | None = None
        self._accepting: Watch | None = None
        self._breather: Alarm | None = None
        self._links = 0
        self._silent: deque[tuple[float, Link]] = deque()  # connections that have not come out with a request
        self._impatience: Alarm | None = None

    def __repr__(self) -> str:
        return f"<RelayServer {self.url if self._listener else 'not listening'}>"

    # --- its life ---

    async def start(self) -> None:
        """Listen. Raises `OSError` where the address cannot be had, `RuntimeError` if it was started before."""
        if self._machine is not None:
            raise RuntimeError("a relay can be started once")
        backend = current_backend()
        listener = self._listen()
        # The machine's time begins now, and so does the wall clock it is told.
        settings = msgspec.structs.replace(self._settings, born_at=self._wall())
        entropy = Entropy(self._seed())
        self._machine = Relay(settings, entropy)
        try:
            driven = (
                self._machine if self._record is None else self._recorded(self._machine, entropy, settings, backend)
            )
        except BaseException:
            listener.close()
            raise
        self._pump = Pump(driven, self, backend, eager=False)
        self._listener = listener
        self._breather = backend.alarm(self._accept_again)
        self._impatience = backend.alarm(self._drop_silent)
        self._accepting = backend.watch_readable(listener, self._on_connections)
        self._logger.info("listening", {"url": self.url})

    def _recorded(self, machine: Relay, entropy: Entropy, settings: RelaySettings, backend: Backend) -> Machine:
        from metered_anyio.recording import MachineRecording
        from metered_proto.replay import RelayPlan

        assert self._record is not None
        plan = RelayPlan(settings, entropy.seed)
        recording = MachineRecording(self._record, "relay", machine, plan, self._logger)
        recording.start(backend)
        self._recording = recording
        return recording.recorder

    async def drain(self, retry_after_ms: int = 0, grace: float = 0.0) -> int:
        """Shut down gracefully: nobody new comes in, all are told to come back after `retry_after_ms`, then closed.

        Returns how many were told, once all are gone. `grace` is how long, in seconds, they are served meanwhile.
        """
        pump = self._running()
        told = await pump.ask(Drain(retry_after_ms, grace))
        self._stop_listening()
        for _, link in self._silent:  # nobody waits for a question that may never come
            if not link.has_knocked:
                link.close(1001, "", abort=True)
        await pump.quiet()
        assert isinstance(told, int)
        return told

    async def close(self) -> None:
        """Stop at once: every socket is closed, nobody is told. Idempotent."""
        self._stop_listening()
        if self._pump is not None:
            for link in list(self._pump.links.values()):
                link.close(1001, "", abort=True)
            self._pump.stop()
        if self._recording is not None:
            self._recording.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            if error is None and self._listener is not None:
                await self.drain()
            await self.close()

    # --- what an operator can do ---

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._listener is None:
            raise RuntimeError("the relay is not listening")
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """What a client takes as its `url`."""
        host = "[::1]" if self._host == "::" else f"[{self._host}]" if ":" in self._host else self._host
        host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - what one connects to for "any address"
        return f"{'wss' if self._ssl_context else 'ws'}://{host}:{self.port}"

    async def kick(self, peer_id: str) -> int:
        """Close all sockets of a peer with 4020; returns how many."""
        count = await self._running().ask(Kick(peer_id))
        assert isinstance(count, int)
        return count

    async def publish(self, channel: str, data: Any, *, sender: str | None = None) -> int:
        """Publish to everybody who listens to a channel; returns how many sockets it went to."""
        count = await self._running().ask(PublishAs(channel, msgspec.Raw(encode_data(data)), sender))
        assert isinstance(count, int)
        return count

    async def peers(self, channel: str) -> tuple[PresencePeer, ...]:
        """Who is in a channel."""
        return tuple(await self._running().ask(Peers(channel)))

    async def usage(self) -> UsageReport:
        """Live connections, messages of this period, limits."""
        report = await self._running().ask(Usage())
        assert isinstance(report, UsageReport)
        return report

    def stats(self) -> Stats:
        """What was counted so far, and how things stand. Cheap."""
        if self._machine is None:
            raise RuntimeError("the relay has not been started")
        pump = self._running()
        stats = self._machine.stats()
        stats.wire_bytes_in, stats.wire_bytes_out = pump.bytes_in, pump.bytes_out
        return stats

    # --- connections ---

    def _running(self) -> Pump:
        if self._pump is None:
            raise RuntimeError("the relay has not been started")
        return self._pump

    # For whoever runs it in surroundings of their own: where it listens, its wall clock, its randomness.

    def _listen(self) -> socket.socket | Listener:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        listener.setblocking(False)
        return listener

    def _wall(self) -> float:
        return time.time()

    def _seed(self) -> bytes:
        return os.urandom(16)

    def _stop_listening(self) -> None:
        for alarm in (self._breather, self._impatience):
            if alarm is not None:
                alarm.set(None)
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._logger.info("no longer listening")

    def _on_connections(self) -> None:
        for _ in range(ACCEPTS_A_PASS):
            if self._listener is None:
                return
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # the other end was gone before we came to it
            except OSError as error:
                self._logger.error("cannot accept connections", {"error": error.strerror})
                self._take_a_breath()
                return
            self._let_in(sock, address[0])

    def _take_a_breath(self) -> None:
        # Out of descriptors: the listener stays readable, so watching it would be a busy loop.
        if self._accepting is not None and self._breather is not None:
            self._accepting.cancel()
            self._accepting = None
            self._breather.set(self._running().backend.time() + BREATHER)

    def _accept_again(self) -> None:
        if self._listener is not None and self._accepting is None:
            self._accepting = self._running().backend.watch_readable(self._listener, self._on_connections)

    def _let_in(self, sock: socket.socket | Wire, address: str) -> None:
        pump = self._running()
        if isinstance(sock, socket.socket):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links += 1
        tls = None if self._ssl_context is None else TlsPipe(self._ssl_context, server_side=True)
        ws = WebSocket.server(max_message_size=self._settings.limits.max_frame, mask=self._masker)
        link = pump.links[self._links] = Link(self._links, pump, sock, ws, tls, guest=address)
        self._silent.append((pump.backend.time() + HANDSHAKE_TIMEOUT, link))
        if len(self._silent) == 1 and self._impatience is not None:
            self._impatience.set(self._silent[0][0])

    def _drop_silent(self) -> None:
        now = self._running().backend.time()
        while self._silent and (self._silent[0][0] <= now or self._silent[0][1].has_knocked):
            _, link = self._silent.popleft()
            if not link.has_knocked:
                link.close(1001, "", abort=True)
        if self._impatience is not None:
            self._impatience.set(self._silent[0][0] if self._silent else None)

    # --- the machine's surroundings (see pump.Host) ---

    def http(self, link: Link, request: PlainRequest) -> None:
        def answer(reply: object, error: Exception | None) -> None:
            assert isinstance(reply, HttpReply)
            link.respond(reply.status, "", reply.headers, reply.body)

        # Answered before this returns: a client that has closed its half of the connection waits for it, too.
        call = HttpCall(request.method, request.target, tuple(request.headers.items()), request.body)
        self._running().ask_later(call, answer)

    def note(self, note: Note) -> None:
        getattr(self._notes, note.level)(note.message, note.context)

    def settle(self) -> None:
        """A relay's machine has no end of its own."""

    def tell(self, event: Any) -> None:
        raise AssertionError("a relay has no application to tell")

    def open_link(self, number: int, target: str) -> None:
        raise AssertionError("a relay opens no links")

    def close_unopened(self, number: int) -> None:
        """The link is gone already."""

    async def work(self, work: Any) -> Any:
        raise AssertionError("a relay orders no work")
