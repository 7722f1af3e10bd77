"""The Chrome DevTools Protocol over a pair of pipes: commands, their answers, and events.

Chromium speaks it on file descriptors 3 and 4 when started with `--remote-debugging-pipe`: JSON objects, a zero byte
after each. That needs no port, no limit on the size of a message and no library; a browser driver such as Playwright
would bring 50 MB and a second runtime for the five commands that are used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

PATIENCE = 30.0
"""Seconds that a command may take, unless it is said otherwise."""

CHUNK = 1 << 16


class DevToolsError(Exception):
    """The browser refused a command, or is gone."""


class DevTools:
    """One connection to a browser. `on_event` gets `(session, method, params)` of every event."""

    def __init__(self, on_event: Callable[[str | None, str, dict[str, Any]], None]) -> None:
        self._on_event = on_event
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last = 0
        self._reading = bytearray()
        self._writing = bytearray()
        # The browser's ends: it reads commands from 3 and writes to 4.
        self.their_input, self._output = os.pipe()
        self._input, self.their_output = os.pipe()
        self._loop = asyncio.get_running_loop()
        for descriptor in (self._input, self._output):
            os.set_blocking(descriptor, False)
        self._loop.add_reader(self._input, self._readable)

    def started(self) -> None:
        """The browser has its ends now, so ours are the last of this process."""
        os.close(self.their_input)
        os.close(self.their_output)

    async def command(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        session: str | None = None,
        patience: float = PATIENCE,
    ) -> dict[str, Any]:
        """Send a command, return its result. Raises `DevToolsError`, or `TimeoutError` after `patience` seconds."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers[number] = answer
        self._write(json.dumps(message).encode() + b"\0")
        try:
            async with asyncio.timeout(patience):
                return await answer
        finally:
            self._answers.pop(number, None)

    def close(self) -> None:
        """Let go of the pipes, which ends a browser that still runs."""
        if self._input < 0:
            return
        self._loop.remove_reader(self._input)
        self._loop.remove_writer(self._output)
        os.close(self._input)
        os.close(self._output)
        self._input = self._output = -1
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DevToolsError("the browser is gone"))

    # --- the pipes ---

    def _write(self, data: bytes) -> None:
        if self._output < 0:
            raise DevToolsError("the browser is gone")
        self._writing += data
        self._writable()

    def _writable(self) -> None:
        try:
            while self._writing:
                del self._writing[: os.write(self._output, self._writing[:CHUNK])]
        except BlockingIOError:
            self._loop.add_writer(self._output, self._writable)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._output)

    def _readable(self) -> None:
        try:
            data = os.read(self._input, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._reading += data
        if b"\0" not in data:
            return
        *messages, rest = bytes(self._reading).split(b"\0")
        self._reading = bytearray(rest)
        for message in messages:
            self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            self._on_event(message.get("sessionId"), message["method"], message.get("params", {}))
            return
        answer = self._answers.get(message["id"])
        if answer is None or answer.done():
            return
        with contextlib.suppress(asyncio.InvalidStateError):
            if "error" in message:
                answer.set_exception(DevToolsError(message["error"].get("message", "refused")))
            else:
                answer.set_result(message.get("result", {}))
