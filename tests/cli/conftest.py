"""The `metered` command as real processes, whose lines can be waited for."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest

TIMEOUT = 20.0
"""Seconds after which something that should have happened never will. No test waits for it to pass."""

KEY = "pk_live_demo"
SECRET = "sk_id_demo:sk_secret_0123456789abcdef"


class Process:
    """A running `metered`, its output read line by line, unless `stdout` or `stderr` go elsewhere.

    `stdin` is nothing, or what a descriptor has, or, as PIPE, what `write` is given.
    """

    def __init__(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        **environment: str,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("METERED_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "metered_anyio.cli", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=inherited | environment,
            text=True,
            encoding="utf-8",
        )
        self.out = Lines(self._process.stdout)
        self.err = Lines(self._process.stderr)

    def write(self, given: str | bytes) -> None:
        """Give it something on its stdin, at once."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), given.encode() if isinstance(given, str) else given)

    def end_input(self) -> None:
        """There is no more on its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        return self._process.wait(TIMEOUT)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send_signal(number)
        return self.wait()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.out.close()
        self.err.close()


class Lines:
    """What comes from a pipe."""

    def __init__(self, pipe: IO[str] | None) -> None:
        self._pipe = io.StringIO() if pipe is None else pipe
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            self._waiting.put(line.removesuffix("\n"))
        self._waiting.put(None)

    def next(self) -> str:
        """The next line. Fails at the end."""
        line = self._waiting.get(timeout=TIMEOUT)
        assert line is not None, f"there is no further line after {self.seen}"
        self.seen.append(line)
        return line

    def find(self, text: str) -> str:
        """The next line that contains `text`."""
        while text not in (line := self.next()):
            pass
        return line

    def rest(self) -> list[str]:
        """All that comes until the end."""
        lines = []
        while (line := self._waiting.get(timeout=TIMEOUT)) is not None:
            lines.append(line)
        return lines

    def close(self) -> None:
        self._thread.join(TIMEOUT)
        self._pipe.close()


Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `metered`; it does not outlive the test."""
    with _starter() as starter:
        yield starter


@pytest.fixture(scope="module")
def start_for_module() -> Iterator[Start]:
    """The same for a process that several tests use."""
    with _starter() as starter:
        yield starter


@pytest.fixture(scope="module")
def url(start_for_module: Start) -> str:
    """A relay with one key and one secret."""
    relay = start_for_module("serve", "--port", "0", "--connect-rate", "off", METERED_KEY=KEY, METERED_SECRET=SECRET)
    return str(relay.out.next()).removeprefix("listening on ")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METERED_URL", "METERED_KEY", "METERED_TOKEN", "METERED_SECRET"):
        monkeypatch.delenv(name, raising=False)


class _starter:
    def __init__(self) -> None:
        self._processes: list[Process] = []

    def __enter__(self) -> Start:
        def start(*arguments: str, **options: Any) -> Process:
            process = Process(*arguments, **options)
            self._processes.append(process)
            return process

        return start

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.close()
