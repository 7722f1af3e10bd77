"""A relay for the programs in the documentation, and those programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from anyio.from_thread import start_blocking_portal

from metered_anyio.relay import RelayServer, SecretKey

ROOT = Path(__file__).parents[2]
KEY = "pk_live_demo"
SECRET = SecretKey("sk_id_demo", "sk_secret_demo0123456789demo0123456789")


class Program(NamedTuple):
    """A block of Python in a page, and what the page says that it prints; None if it says nothing."""

    where: str
    code: str
    output: str | None


_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def programs(page: Path) -> list[Program]:
    """Every block of Python in a page, with the block of text right after it for its output."""
    return [
        Program(f"{page.name}:{number}", found[1], found[2])
        for number, found in enumerate(_BLOCK.finditer(page.read_text()), 1)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `program` runs once for each program in the pages."""
    if "program" in metafunc.fixturenames:
        found = [program for page in sorted((ROOT / "docs").glob("*.md")) for program in programs(page)]
        metafunc.parametrize("program", found, ids=[program.where for program in found])


@pytest.fixture(scope="session")
def relay_url() -> Iterator[str]:
    """A relay in a thread, as the pages tell the reader to start one."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(RelayServer(keys=[KEY], secrets=[SECRET])) as relay,
    ):
        yield relay.url


@pytest.fixture
def environment(relay_url: str) -> dict[str, str]:
    """An environment with the variables that the pages tell the reader to set."""
    secret = f"{SECRET.id}:{SECRET.secret}"
    return {**os.environ, "METERED_URL": relay_url, "METERED_KEY": KEY, "METERED_SECRET": secret}
