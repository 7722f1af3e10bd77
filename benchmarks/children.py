"""Processes of their own, for whoever is measured and for whoever keeps it busy.

A child plays one of the roles in `benchmarks.roles`. It says once, in a line of JSON on stdout, that it is ready;
then it is told what to do, one line of JSON at a time, and answers each with one line. It ends when its stdin does,
so none outlives its parent.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self, TypeAlias

import anyio.to_thread
import msgspec
import psutil

ROOT = Path(__file__).parents[1]


class ChildError(Exception):
    """A child could not do what it was told, or is gone. The message has its traceback."""


class Child:
    """A process in a role. Leaving it as a context manager ends it."""

    def __init__(self, role: str, *words: object) -> None:
        command = [sys.executable, "-m", f"benchmarks.roles.{role}", *map(str, words)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self._role = role

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @cached_property
    def greeting(self) -> Any:
        """What it says once it is ready."""
        return self._answer()

    @property
    def rss(self) -> int:
        """Bytes of memory it holds."""
        rss: int = psutil.Process(self._process.pid).memory_info().rss
        return rss

    def kill(self) -> None:
        """End it at once: whoever waits for its answer gets a `ChildError`."""
        self._process.kill()

    def start(self, command: str, *arguments: object) -> None:
        """Tell it to do something; `result` is to follow."""
        assert self.greeting is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode([command, *arguments]) + b"\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """Wait for its answer."""
        return self._answer()

    def ask(self, command: str, *arguments: object) -> Any:
        """Tell it to do something, and wait until it has."""
        self.start(command, *arguments)
        return self.result()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(f"the {self._role} has ended with {self._process.wait()}")
        kind, value = msgspec.json.decode(line)
        if kind != "done":
            raise ChildError(f"the {self._role} failed:\n{value}")
        return value


class Crew(ExitStack):
    """All the children of one measurement. They are started together and end with it."""

    def hire(self, role: str, *words: object) -> Child:
        """Start a child."""
        return self.enter_context(Child(role, *words))

    def hire_all(self, role: str, names: Iterable[str], *words: object) -> dict[str, Child]:
        """Start a child for each name, which is the first word it is told."""
        children = {name: self.hire(role, name, *words) for name in names}
        for child in children.values():
            assert child.greeting is not None
        return children


# --- inside of a child --------------------------------------------------------------------------------------

Commands: TypeAlias = dict[str, Callable[..., Awaitable[Any]]]


async def obey(commands: Commands, greeting: Any = "ready") -> None:
    """Be a child that runs an event loop."""
    _say("done", greeting)
    while line := await anyio.to_thread.run_sync(sys.stdin.buffer.readline):
        name, *arguments = msgspec.json.decode(line)
        try:
            _say("done", await commands[name](*arguments))
        except Exception:
            _fail()


def obey_blocking(commands: dict[str, Callable[..., Any]], greeting: Any = "ready") -> None:
    """Be a child without an event loop."""
    _say("done", greeting)
    for line in sys.stdin.buffer:
        name, *arguments = msgspec.json.decode(line)
        try:
            _say("done", commands[name](*arguments))
        except Exception:
            _fail()


def _say(kind: str, value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode([kind, value]) + b"\n")
    sys.stdout.buffer.flush()


def _fail() -> NoReturn:
    _say("failed", traceback.format_exc())
    raise SystemExit(1)
