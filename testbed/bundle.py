"""The published JavaScript SDK: one pinned version, fetched by npm once, and checked before anything runs it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from testbed import MissingError

PACKAGE, VERSION = "@metered-ca/realtime", "1.2.0"
SHA512 = "xY5bmiUCB5gkyD0bb4o9YSmJtIQjbaoahyktnjD3d207Qose8Qk6ovBpPcG2KqCaKGO/e9tesGqJjy/ZGu4AVg=="
"""What the archive's SHA-512 is, in base64."""

MEMBER = "package/dist/index.umd.js"
SHELF = Path(__file__).parents[1] / "build" / "testbed"
"""Ignored by git; `make clean` empties it."""

PATIENCE = 60.0
"""Seconds that npm may take."""


async def bundle() -> Path:
    """The file to load as a script; it defines the global `MeteredPeer`. Raises `MissingError` if it cannot be had."""
    script = SHELF / f"metered-realtime-{VERSION}.umd.js"
    if not script.exists():
        SHELF.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SHELF) as room:
            archive = await _fetch(Path(room))
            _check(archive)
            unpacked = Path(room) / "script"
            with tarfile.open(archive) as tar:
                member = tar.extractfile(MEMBER)
                assert member is not None
                unpacked.write_bytes(member.read())
            unpacked.replace(script)  # whole or not at all, whoever else does the same just now
    return script


async def _fetch(room: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError(
            "npm is not installed, so the published JavaScript SDK cannot be fetched (Debian: apt-get install npm)"
        )
    process = await asyncio.create_subprocess_exec(
        *(npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"),
        cwd=room,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            _, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise MissingError(f"npm did not fetch {PACKAGE} {VERSION} within {PATIENCE:.0f} s") from None
    archives = [room / name for name in os.listdir(room) if name.endswith(".tgz")]
    if process.returncode or len(archives) != 1:
        raise MissingError(
            f"npm could not fetch {PACKAGE} {VERSION}: {complaint.decode(errors='replace').strip()[-300:]}"
        )
    return archives[0]


def _check(archive: Path) -> None:
    if hashlib.sha512(archive.read_bytes()).digest() != base64.b64decode(SHA512):
        raise MissingError(f"what npm fetched is not {PACKAGE} {VERSION}: its checksum is another one")
