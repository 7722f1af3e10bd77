"""A relay that can go away and come back, and the examples as processes beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from metered_anyio.relay import RelayServer

ROOT = Path(__file__).resolve().parents[2]
KEY = "pk_live_example"
PATIENCE = 30.0


class RelayInAThread:
    """One address, and a relay there now and then."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._server: RelayServer | None = None
        self._port = 0

    def start(self) -> None:
        """Listen, each time on the same port."""

        async def listen() -> RelayServer:
            server = RelayServer(keys=[KEY], port=self._port)
            await server.start()
            return server

        self._server = self._portal.call(listen)
        self._port = self._server.port

    def stop(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._portal.call(self._server.close)
            self._server = None

    def wait_for_guests(self, count: int) -> None:
        """Wait until so many clients are connected."""
        server = self._server
        assert server is not None
        until(lambda: self._portal.call(server.stats).connections >= count, f"fewer than {count} guests")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"


class Program:
    """One example as a process. What it prints can be waited for."""

    def __init__(self, *args: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, text: str, *, after: int = 0) -> int:
        """Wait for a line that holds `text`, from the line numbered `after` on; return the number behind it."""

        def found() -> int | None:
            return next((number + 1 for number, line in enumerate(self.lines[after:], after) if text in line), None)

        with self._changed:
            number = self._changed.wait_for(found, PATIENCE)
        assert number is not None, f"no {text!r} from line {after} on in:\n" + "\n".join(self.lines)
        return number

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        status = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    @property
    def pid(self) -> int:
        return self._process.pid

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something has come true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture
def eventually() -> Callable[[Callable[[], object], str], None]:
    """To wait until something has come true; the text says what is wrong if it never does."""
    return until


@pytest.fixture
def relay() -> Iterator[RelayInAThread]:
    with start_blocking_portal() as portal:
        relay = RelayInAThread(portal)
        relay.start()
        yield relay
        relay.stop()


@pytest.fixture
def run() -> Iterator[Callable[..., Program]]:
    with ExitStack() as stack:

        def start(*args: str) -> Program:
            program = Program(*args)
            stack.callback(program.close)
            return program

        yield start
