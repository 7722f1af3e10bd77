"""Engines on real sockets of this machine; nothing of a call is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The helpers of these tests are a module beside them; test files are loaded by path, so it has to be findable.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception that only a log knows of; no thread and no socket that outlives the test."""
    caplog.set_level(logging.WARNING)
    threads, sockets = set(threading.enumerate()), _sockets()
    yield
    escaped = [record.getMessage() for record in caplog.get_records("call") if record.exc_info]
    assert not escaped, escaped
    deadline = time.monotonic() + 1
    while (left := (_sockets() - sockets) | _threads(threads)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not left, left


@pytest.fixture
def tasks() -> Any:
    """Call it within the loop: no task but the test's own may be left."""

    async def check() -> None:
        for _ in range(20):
            left = asyncio.all_tasks() - {asyncio.current_task()}
            left = {
                task for task in left if "_call_in_runner_task" not in repr(task) and "_run_tests_and" not in repr(task)
            }
            if not left:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(left)

    return check


def _threads(before: set[threading.Thread]) -> set[Any]:
    # Those of default executors are the loops' own.
    new = {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
    return {thread for thread in new if not thread.name.startswith(("asyncio_", "Trio thread"))}


def _sockets() -> set[Any]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if what.startswith("socket:") or "eventpoll" in what:
            found.add((name, what))
    return found
