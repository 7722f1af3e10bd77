"""What the tests of the peer machine share. The kits beside this file have to be findable: tests are loaded by path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from talk_kit import Talk


@pytest.fixture
def polite() -> Talk:
    """A conversation in which we are polite."""
    return Talk(polite=True)


@pytest.fixture
def impolite() -> Talk:
    """A conversation in which we are not."""
    return Talk(polite=False)


@pytest.fixture(params=["polite", "impolite"])
def talk(request: pytest.FixtureRequest) -> Talk:
    """Either of them."""
    return Talk(polite=request.param == "polite")
