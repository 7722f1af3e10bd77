"""What we rely on in aiortc and aioice without being asked to is still there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metered_anyio.rtc import private

pytestmark = pytest.mark.anyio


async def test_every_private_name_is_there() -> None:
    assert not await private.missing(), "aiortc or aioice has changed: see metered_anyio/rtc/private.py"


def test_nothing_of_it_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, metered_anyio, metered_anyio.rtc.engine; print([m for m in ('aiortc', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
