"""The demo's processes: a relay that can be killed, and devices. None outlives its `async with`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
from anyio.abc import Process, TaskStatus
from anyio.streams.text import TextReceiveStream

ROOT = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@asynccontextmanager
async def running(module: str, *args: str) -> AsyncIterator[Process]:
    """A Python module as a process of its own, killed at the end if it still runs then."""
    process = await anyio.open_process(
        [sys.executable, "-m", module, *args],
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is for us alone: we end the others
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


class RelayProcess:
    """`metered serve`, each time on the same port."""

    def __init__(self, key: str) -> None:
        self.port = 0
        self._key = key
        self._stop = anyio.Event()
        self._stopped = anyio.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self.port}"

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Run it until it is killed. To be started with `TaskGroup.start`, which returns once it listens."""
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        # All devices share one address here, and all of them come back at once.
        options = ["--port", str(self.port), "--key", self._key, "--connect-rate", "off"]
        async with running("metered_anyio.cli", "serve", *options) as process:
            self.port = await _port_it_listens_on(process)
            task_status.started()
            await self._stop.wait()
            process.kill()
            await process.wait()
        self._stopped.set()

    async def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        self._stop.set()
        await self._stopped.wait()


class DeviceProcess:
    """One device, over all its lives. Its `report` is there once it has ended by itself; None means that it died."""

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self.options = list(options)
        self.lives = 0
        self.taken: set[int] = set()
        """The times of the readings that it said were safe in its outbox."""
        self.report: dict[str, Any] | None = None
        self.ended = anyio.Event()
        self._process: Process | None = None

    async def run(
        self, url: str, key: str, outbox: Path, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Run it until it ends. The file of its outbox is what one life leaves to the next."""
        self.lives += 1
        options = ["--outbox", str(outbox), *self.options]
        async with running("examples.demo.device", self.name, url, key, *options) as process:
            self._process = process
            task_status.started()
            async for line in _lines(process):
                match json.loads(line):
                    case {"taken": int(at)}:
                        self.taken.add(at)
                    case {"report": report}:
                        self.report = report
            await process.wait()
        self.ended.set()

    async def stop(self) -> None:
        """Ask it to finish: no more readings, hand over the rest, report."""
        if self._process is not None and self._process.stdin is not None:
            await self._process.stdin.aclose()

    async def kill(self) -> None:
        """SIGKILL, as if the power had gone. `run` can be called again after it."""
        assert self._process is not None
        self._process.kill()
        await self.ended.wait()
        self.ended = anyio.Event()


async def _lines(process: Process) -> AsyncIterator[str]:
    assert process.stdout is not None
    rest = ""
    async for text in TextReceiveStream(process.stdout):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line


async def _port_it_listens_on(process: Process) -> int:
    assert process.stdout is not None
    printed = ""
    with anyio.move_on_after(20):
        async for text in TextReceiveStream(process.stdout):
            printed += text
            if found := re.search(r"^listening on \S+:(\d+)$", printed, re.MULTILINE):
                return int(found[1])
    raise DemoError("the relay did not start")
