"""A TCP cable to a relay: it can be cut, and stay out for a while, for one visitor alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

CHUNK = 1 << 16


class Cable:
    """Forwards from a port of its own to another one of this machine. For asyncio."""

    def __init__(self, port: int) -> None:
        self._far = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_out = False
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """What a client takes as its `url`."""
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection that runs through. Those who come again get through."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def out(self, seconds: float) -> None:
        """Cut, and let nobody through for so long."""
        self._is_out = True
        self.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._is_out = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if self._is_out:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far)
            self._writers.add(far_writer)
            try:
                await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
            finally:
                self._drop(far_writer)
        except OSError:
            pass  # nobody listens there: to the visitor it looks the same
        finally:
            self._drop(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        self._writers.discard(writer)
