"""What the tests of the adapter have in common: clients, a server that follows a script, a cable that can be cut."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
import anyio.abc
import sniffio
import trio
from anyio.streams.tls import TLSStream

from metered_anyio import Event, ReconnectOptions, SignallingClient
from metered_anyio.relay import Limits, RelayServer, SecretKey
from metered_proto.websocket import State, WebSocket
from metered_proto.websocket_events import Closed, Messages, Opened, PlainRequest, Refused, Reply, Requested

KEY = "pk_live_kept_to_ourselves"
SECRET = SecretKey("sk_id_tests", "sk_secret_kept_to_ourselves")

QUICK = ReconnectOptions(initial_delay=0.02, max_delay=0.05, jitter_ratio=0)
"""Reconnecting without making a test wait."""

BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError)

Script = Callable[["Guest"], Awaitable[None]]


def make_client(url: str, **options: Any) -> SignallingClient:
    if "token_provider" not in options:
        options.setdefault("api_key", KEY)
    options.setdefault("reconnect", QUICK)
    return SignallingClient(url=url, **options)


def make_relay(**options: Any) -> RelayServer:
    options.setdefault("limits", Limits(connects_per_minute=None, message_rate=None))
    return RelayServer(keys=[KEY], secrets=[SECRET], **options)


@asynccontextmanager
async def warm_relay(**options: Any) -> AsyncIterator[RelayServer]:
    """A relay that has had its first visitor, so that the alarms which that sets are no news to `nothing_left`."""
    async with make_relay(**options) as relay:
        await (await anyio.connect_tcp("127.0.0.1", relay.port)).aclose()
        await until(lambda: relay._links)
        yield relay


def told(client: SignallingClient, *kinds: type[Event]) -> list[Any]:
    """A list that fills with what the client tells."""
    events: list[Any] = []
    for kind in kinds or (Event,):
        client.on(kind, events.append)
    return events


async def until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait for something to become true."""
    with anyio.fail_after(timeout):
        while not condition():  # noqa: ASYNC110 - anything can be waited for
            await anyio.sleep(0.002)


# --- watching for what is left behind ---


def tasks() -> set[str]:
    """The tasks that are alive, without those of the scenery."""
    if sniffio.current_async_library() == "asyncio":
        names = [f"{task.get_name()}-{id(task)}" for task in asyncio.all_tasks()]
    else:
        names = [f"{task.name}-{id(task)}" for task in _trio_tasks(trio.lowlevel.current_root_task())]
    return {name for name in names if not name.startswith(("adapter_kit.", "anyio.abc._sockets.SocketListener.serve"))}


def _trio_tasks(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    found: list[trio.lowlevel.Task] = []
    if task is not None:
        found.append(task)
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                found += _trio_tasks(child)
    return found


@asynccontextmanager
async def nothing_left(within: float = 0.0) -> AsyncIterator[None]:
    """No task that was started inside lives on: at once, but for a few passes of the loop to end in."""
    before = tasks()
    yield
    with anyio.move_on_after(within):
        while tasks() - before:  # noqa: ASYNC110 - nobody says when a task has ended
            await anyio.sleep(0.005)
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    left = tasks() - before
    assert not left, left


# --- a server that follows a script ---


class Wire:
    """One end of a WebSocket over a stream: whole messages in and out, or any bytes at all."""

    def __init__(self, stream: anyio.abc.ByteStream, ws: WebSocket) -> None:
        self.stream = stream
        self.ws = ws
        self.inbox: list[str | bytes] = []
        self.ended: Closed | Refused | None = None

    async def read(self) -> list[Any]:
        """One read's worth of events; replies are sent, messages kept."""
        try:
            data = await self.stream.receive()
        except anyio.EndOfStream:
            data = b""
        events = self.ws.receive(data)
        for event in events:
            if isinstance(event, Reply):
                await self.raw(event.data)
            elif isinstance(event, Messages):
                self.inbox += event.payloads
            elif isinstance(event, Closed | Refused):
                self.ended = event
        if not data and self.ended is None:
            self.ended = Closed(1006, "the stream ended")
        return events

    async def receive(self) -> dict[str, Any]:
        """The next message, as JSON. Raises `anyio.EndOfStream` when none will come."""
        while not self.inbox:
            if self.ended is not None:
                raise anyio.EndOfStream
            await self.read()
        frame: dict[str, Any] = json.loads(self.inbox.pop(0))
        return frame

    async def send(self, frame: Any) -> None:
        """One JSON message."""
        await self.raw(self.ws.frame(json.dumps(frame).encode()))

    async def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        if data:
            await self.stream.send(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """A closing handshake from our side."""
        await self.raw(self.ws.close(code, reason))
        while self.ended is None:
            await self.read()
        await self.stream.aclose()


class Guest(Wire):
    """The server's end of one connection."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        super().__init__(stream, WebSocket.server(max_message_size=1 << 22))
        self.target = ""
        self.headers: dict[str, str] = {}
        self.peer_id = "me"

    async def asked(self) -> Requested | PlainRequest:
        """Wait for the request."""
        while self.ended is None:
            for event in await self.read():
                if isinstance(event, Requested | PlainRequest):
                    self.target, self.headers = event.target, event.headers
                    return event
        raise anyio.EndOfStream

    async def upgrade(self) -> None:
        """Agree to a WebSocket, and say nothing yet."""
        await self.asked()
        answer, _ = self.ws.accept()
        await self.raw(answer)

    async def enter(self, **fields: Any) -> None:
        """Agree, and send the welcome."""
        await self.upgrade()
        welcome = {"type": "welcome", "peerId": self.peer_id, "expiresAt": None, "serverTime": 1_700_000_000_000}
        await self.send({**welcome, **fields})

    async def obey(self) -> None:
        """Acknowledge whatever comes, until the end."""
        while True:
            frame = await self.receive()
            if frame["type"] == "ping":
                await self.send({"type": "pong"})
            if "requestId" in frame:
                await self.send({"type": "ack", "requestId": frame["requestId"]})


async def obedient(guest: Guest) -> None:
    """A script: a server that agrees to everything."""
    await guest.enter()
    await guest.obey()


async def mute(guest: Guest) -> None:
    """A script: a server that accepts connections and says nothing."""
    await anyio.sleep_forever()


class FakeServer:
    """Plays `script` to everybody who connects. The script can be exchanged at any time."""

    def __init__(self, script: Script = obedient, ssl_context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.guests: list[Guest] = []
        self._ssl_context = ssl_context

    async def __aenter__(self) -> Self:
        self._listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = self._listener.extra(anyio.abc.SocketAttribute.local_port)
        self.url = f"{'wss' if self._ssl_context else 'ws'}://127.0.0.1:{self.port}"
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._listener.serve, self._serve)
        return self

    async def __aexit__(self, *details: Any) -> None:
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(*details)
        finally:
            with anyio.CancelScope(shield=True):
                await self._listener.aclose()

    async def _serve(self, stream: anyio.abc.SocketStream) -> None:
        try:
            wrapped: anyio.abc.ByteStream = stream
            if self._ssl_context is not None:
                wrapped = await TLSStream.wrap(
                    stream, server_side=True, ssl_context=self._ssl_context, standard_compatible=False
                )
            guest = Guest(wrapped)
            self.guests.append(guest)
            await self.script(guest)
        except (*BROKEN, ssl.SSLError):
            pass
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)


# --- a raw client ---


class Stranger(Wire):
    """The client's end of a connection, without any of the manners of `SignallingClient`."""

    @classmethod
    async def connect(cls, url: str, target: str = f"/v1?key={KEY}") -> Stranger:
        """Connect and upgrade. `ended` says if that was refused."""
        host, port = url.removeprefix("ws://").split(":")
        stream = await anyio.connect_tcp(host, int(port))
        stranger = cls(stream, WebSocket.client(f"{host}:{port}", target, random=os.urandom))
        await stranger.raw(stranger.ws.open())
        while stranger.ended is None and not any(isinstance(event, Opened) for event in await stranger.read()):
            pass
        return stranger

    async def aclose(self) -> None:
        """Hang up."""
        await anyio.aclose_forcefully(self.stream)

    async def drained(self) -> Closed | Refused:
        """Read to the end; say how it ended."""
        try:
            while self.ended is None:
                await self.read()
                self.inbox.clear()
        except BROKEN:
            self.ended = self.ended or Closed(1006, "reset")
        assert self.ended is not None
        return self.ended

    @property
    def is_open(self) -> bool:
        return self.ws.state is State.OPEN and self.ended is None


# --- a cable ---


class Cable:
    """A TCP forwarder that can be cut, or go dead without a word."""

    def __init__(self, port: int) -> None:
        self._far = port
        self._pairs: list[tuple[anyio.abc.SocketStream, anyio.abc.SocketStream]] = []
        self.dead = False

    async def __aenter__(self) -> Self:
        self._listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.url = f"ws://127.0.0.1:{self._listener.extra(anyio.abc.SocketAttribute.local_port)}"
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._listener.serve, self._serve)
        return self

    async def __aexit__(self, *details: Any) -> None:
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(*details)
        finally:
            with anyio.CancelScope(shield=True):
                await self._listener.aclose()

    async def cut(self) -> None:
        """Reset every connection that runs through."""
        pairs, self._pairs = self._pairs, []
        streams = [stream for pair in pairs for stream in pair]
        for stream in streams:
            sock = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            if sock.fileno() >= 0:  # else it has ended by itself
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        for stream in streams:
            await anyio.aclose_forcefully(stream)

    async def _serve(self, near: anyio.abc.SocketStream) -> None:
        try:
            async with near, await anyio.connect_tcp("127.0.0.1", self._far) as far:
                self._pairs.append((near, far))
                async with anyio.create_task_group() as group:
                    group.start_soon(self._forward, near, far, group.cancel_scope)
                    group.start_soon(self._forward, far, near, group.cancel_scope)
        except BROKEN:
            pass

    async def _forward(
        self, source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream, scope: anyio.CancelScope
    ) -> None:
        try:
            while True:
                data = await source.receive()
                if self.dead:
                    await anyio.sleep_forever()
                await sink.send(data)
        except BROKEN:
            scope.cancel()
