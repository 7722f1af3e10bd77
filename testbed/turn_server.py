"""A real coturn on a port of this machine, with one user."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Self

from testbed import MissingError

USER, PASSWORD, REALM = "tester", "turn-secret-of-the-tests", "rooms.test"

START = 10.0
"""Seconds that it may take to answer."""

NAMES = ("turnserver", "/usr/bin/turnserver", "/usr/sbin/turnserver")


class TurnServer:
    """Runs as long as it is entered. `ice_servers` is what `welcome.metadata.iceServers` would say."""

    async def __aenter__(self) -> Self:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        if path is None:
            raise MissingError("no coturn is installed (Debian: apt-get install coturn)")
        self.port = _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="coturn-")
        folder = Path(self._folder.name)
        self._log = folder / "log"
        self._process = await asyncio.create_subprocess_exec(
            *(path, "-n", "--no-cli", "--no-tls", "--no-dtls", "--fingerprint", "--lt-cred-mech"),
            *("--listening-ip=127.0.0.1", f"--listening-port={self.port}", "--relay-ip=127.0.0.1"),
            *("--allow-loopback-peers", f"--realm={REALM}", f"--user={USER}:{PASSWORD}"),
            *(f"--log-file={self._log}", "--simple-log", "--verbose"),
            *(f"--pidfile={folder / 'pid'}", f"--userdb={folder / 'users'}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(START):
                await self._answers()
        except (TimeoutError, ProcessLookupError):
            said = self.log()[-500:]
            await self.__aexit__()
            raise MissingError(f"{path} does not start: {said}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(3):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.to_thread(self._folder.cleanup)

    @property
    def ice_servers(self) -> list[dict[str, str]]:
        """For a token's metadata."""
        return [{"urls": f"turn:127.0.0.1:{self.port}?transport=udp", "username": USER, "credential": PASSWORD}]

    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def allocations(self) -> int:
        """How many relayed addresses it has given out so far."""
        return self.log().count("ALLOCATE processed, success")

    async def _answers(self) -> None:
        request = b"\x00\x01\x00\x00\x21\x12\xa4\x42testbed-ping"  # a binding request (RFC 8489, 5)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", self.port))
            while True:
                if self._process.returncode is not None:
                    raise ProcessLookupError
                with contextlib.suppress(OSError):
                    sock.send(request)
                try:
                    async with asyncio.timeout(0.1):
                        await loop.sock_recv(sock, 1500)
                    return
                except (TimeoutError, OSError):
                    await asyncio.sleep(0.02)


def _free_port() -> int:
    """One that is free for UDP and for TCP, since coturn listens on both, and ends if it cannot."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as streams,
        ):
            datagrams.bind(("127.0.0.1", 0))
            port: int = datagrams.getsockname()[1]
            with contextlib.suppress(OSError):
                streams.bind(("127.0.0.1", port))
                return port
