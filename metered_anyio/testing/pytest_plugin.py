"""Fixtures for tests of applications, for every pytest that runs where this package is installed.

`cassette` runs an application's handlers against recorded traffic, `relay` is a relay on a free port, `world` runs
simulated worlds, and `virtual_room` an application in virtual time. This module is loaded at every start of pytest, so
it imports nothing of the package; a fixture does when it is used.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option."""
    group = parser.getgroup("metered")
    group.addoption(
        "--cassette-rewrite", action="store_true", help="Record cassettes anew, with what the application sends now."
    )


def pytest_configure(config: pytest.Config) -> None:
    """The one marker."""
    config.addinivalue_line("markers", "cassette(path): the recording for the fixture cassette, beside the test's file")


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A recording, for a client without a network: see `metered_anyio.testing.Cassette`.

    It is the file that the marker `cassette` names, or `cassettes/TEST.jsonl`, beside the file of the test.
    """
    marker = request.node.get_closest_marker("cassette")
    named = re.sub(r"[^a-zA-Z0-9_.-]+", "-", request.node.name)
    name = f"cassettes/{named}.jsonl" if marker is None else marker.args[0]
    made = _of("cassette", "Cassette")(
        Path(request.path).parent / name, rewrite=request.config.getoption("--cassette-rewrite")
    )
    yield made
    made.finish()


@pytest.fixture
async def relay(anyio_backend: Any) -> AsyncIterator[Any]:
    """A relay on a free port of this machine: see `metered_anyio.testing.EmbeddedRelay`."""
    async with _of("embedded_relay", "EmbeddedRelay")() as server:
        yield server


@pytest.fixture
def world() -> Any:
    """Runs simulated worlds: `world("device", seed=3)`. Fails where a promise is broken."""
    return importlib.import_module("metered_proto.sim.fixture").world()


@pytest.fixture
async def virtual_room(anyio_backend: Any) -> AsyncIterator[Any]:
    """A virtual room: see `metered_anyio.testing.virtual_room`."""
    async with _of("virtual_box", "virtual_room")() as box:
        yield box


def _of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"metered_anyio.testing.{module}"), name)
