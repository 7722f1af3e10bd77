"""What we rely on in aiortc and aioice without being asked to is still there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metered_anyio.rtc import private

pytestmark = pytest.mark.anyio


async def test_every_private_name_is_there() -> None:
    assert not await private.missing(), "aiortc or aioice has changed: see metered_anyio/rtc/private.py"


@pytest.mark.parametrize(
    ("data", "expected"), [(b"\x10\x02\x00\x9d\x01\x2a", True), (b"\x11\x02\x00", False), (b"", False)]
)
def test_key_frames_of_vp8_are_known(data: bytes, expected: bool) -> None:
    assert private._is_vp8_key_frame(data) is expected


@pytest.mark.parametrize(
    ("units", "expected"), [([0x67, 0x68, 0x65], True), ([0x65], True), ([0x41], False), ([0x67, 0x41], False)]
)
def test_key_frames_of_h264_are_known(units: list[int], expected: bool) -> None:
    data = b"".join(b"\0\0\0\1" + bytes([unit, 1, 2, 3]) for unit in units)
    assert private._is_h264_key_frame(data) is expected


def test_nothing_of_it_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, metered_anyio, metered_anyio.rtc.engine; print([m for m in ('aiortc', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
