"""Both event loops under every test, and a watch over what a test leaves behind or lets escape."""

from __future__ import annotations

import gc
import logging
import os
import sys
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
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception that only a log knows of, and no file descriptor that outlives the test."""
    caplog.set_level(logging.WARNING)
    before = _descriptors()
    yield
    escaped = [record.getMessage() for record in caplog.get_records("call") if record.exc_info]
    assert not escaped, escaped
    deadline = time.monotonic() + 1
    while (left := _descriptors() - before) and time.monotonic() < deadline:
        gc.collect()  # what is only held by a cycle is not leaked
        time.sleep(0.01)
    assert not left, left


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter patience at the end of a connection, for tests in which it runs out and is not the point."""
    monkeypatch.setattr("metered_anyio.sockets.LINGER", 0.2)
    monkeypatch.setattr("metered_anyio.emitter.DRAIN", 0.2)
    monkeypatch.setattr("metered_anyio.surroundings.PATIENCE", 0.4)


def _descriptors() -> set[tuple[str, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if what.startswith("socket:") or "eventpoll" in what:
            found.add((name, what))
    return found
