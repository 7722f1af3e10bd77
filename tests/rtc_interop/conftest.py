"""The published Python SDK in the other chair of a room, and a TURN server between two of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testbed import MissingError
from testbed.guest import library
from testbed.stage import Stage
from testbed.turn_server import TurnServer


@pytest.fixture
def anyio_backend() -> str:
    """The published SDK runs on asyncio alone."""
    return "asyncio"


@pytest.fixture
async def stage(anyio_backend: str) -> AsyncIterator[Stage]:
    """A room with nobody in it."""
    pytest.importorskip("aiortc", reason="aiortc is not installed, so there are no calls to try")
    async with Stage() as stage:
        yield stage


@pytest.fixture
async def meeting(stage: Stage) -> Stage:
    """A room that the published SDK can come to."""
    try:
        library()
    except MissingError as missing:
        pytest.skip(str(missing))
    return stage


@pytest.fixture
async def turn(anyio_backend: str) -> AsyncIterator[TurnServer]:
    """A TURN server."""
    server = TurnServer()
    try:
        await server.__aenter__()
    except MissingError as missing:
        pytest.skip(str(missing))
    try:
        yield server
    finally:
        await server.__aexit__(None, None, None)


@pytest.fixture(params=["we are polite", "it is polite"])
def me(request: pytest.FixtureRequest) -> str:
    """Our name. The other is called `middle`, and whose name sorts lower is polite."""
    return "alice" if request.param == "we are polite" else "zoe"
