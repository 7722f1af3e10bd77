"""Sources and sinks on either event loop; no thread and no socket is left behind."""

from __future__ import annotations

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


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


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
