"""A real Chromium with the published JavaScript SDK in the other chair. One browser for all tests, a page for each."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from testbed import MissingError
from testbed.browser import Studio
from testbed.stage import Stage


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The browser is driven from one asyncio loop, which ends with these tests: others start loops of their own."""
    return "asyncio"


@pytest.fixture(scope="module")
async def studio(anyio_backend: str) -> AsyncIterator[Studio]:
    """The browser."""
    pytest.importorskip("aiortc", reason="aiortc is not installed, so there are no calls to try")
    studio = Studio()
    try:
        await studio.__aenter__()
    except MissingError as missing:
        print(f"\nnot tested with a browser: {missing}", file=sys.__stderr__)
        pytest.skip(str(missing))
    try:
        yield studio
    finally:
        await studio.__aexit__(None, None, None)


@pytest.fixture
async def stage(studio: Studio) -> AsyncIterator[Stage]:
    """A room with nobody in it."""
    async with Stage(studio) as stage:
        yield stage


@pytest.fixture(params=["we are polite", "it is polite"])
def me(request: pytest.FixtureRequest) -> str:
    """Our name. The browser is called `middle`, and whose name sorts lower is polite."""
    return "alice" if request.param == "we are polite" else "zoe"
