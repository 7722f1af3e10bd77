"""A relay for the programs in the documentation, and those programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from anyio.from_thread import start_blocking_portal

from metered_anyio.relay import Limits, RelayServer, SecretKey

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
KEY = "pk_live_demo"
SECRET = SecretKey("sk_id_demo", "sk_secret_demo0123456789demo0123456789")


class Block(NamedTuple):
    """A block of code in a page, and what the page says that it prints; None if it says nothing."""

    where: str
    code: str
    output: str | None


_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def blocks(language: str, *pages: Path) -> list[Block]:
    """Every block in a language, with the block of text right after it for its output."""
    return [
        Block(f"{page.name}:{number}", found[2], found[3])
        for page in pages or PAGES
        for number, found in enumerate((one for one in _BLOCK.finditer(page.read_text()) if one[1] == language), 1)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `program`, `script` or `example` runs once for each block of Python, JavaScript or JSON."""
    for name, language in (("program", "python"), ("script", "js"), ("example", "json")):
        if name in metafunc.fixturenames:
            found = blocks(language)
            metafunc.parametrize(name, found, ids=[block.where for block in found])


@pytest.fixture(scope="session")
def relay_url() -> Iterator[str]:
    """A relay in a thread, as the pages tell the reader to start one."""
    with (
        start_blocking_portal() as portal,
        # A reader runs one program after the other. Here they are many, and all come from one address.
        portal.wrap_async_context_manager(
            RelayServer(keys=[KEY], secrets=[SECRET], limits=Limits(connects_per_minute=None))
        ) as relay,
    ):
        yield relay.url


@pytest.fixture
def environment(relay_url: str) -> dict[str, str]:
    """An environment with the variables that the pages tell the reader to set."""
    secret = f"{SECRET.id}:{SECRET.secret}"
    return {**os.environ, "METERED_URL": relay_url, "METERED_KEY": KEY, "METERED_SECRET": secret}
