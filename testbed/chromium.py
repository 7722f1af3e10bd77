"""A headless Chromium of this machine, and its pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from typing import Any, Self

from testbed import MissingError
from testbed.devtools import PATIENCE, DevTools, DevToolsError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # it may well be run by root, and it only sees our own page
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # Candidates with addresses instead of names that only multicast DNS could resolve.
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,Translate",
    # A page in the background is as quick as one in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # It calls nobody but us.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)

START, STOP = 30.0, 5.0
"""Seconds that it may take to start and to end."""


def find() -> str:
    """Where the browser is. Raises `MissingError`."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise MissingError("no Chromium is installed (Debian: apt-get install chromium)")


class Chromium:
    """One browser process, for as many pages as are wanted. An async context manager."""

    def __init__(self) -> None:
        self._sessions: dict[str, Page] = {}
        self.version = ""

    async def __aenter__(self) -> Self:
        path = find()
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._tools = DevTools(self._on_event)
        # The browser wants its pipes as 3 and 4, whatever numbers they have here.
        wiring = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        ends = (self._tools.their_input, self._tools.their_output)
        self._process = await asyncio.create_subprocess_exec(
            *("bash", "-c", wiring, "bash", *map(str, ends)),
            *(path, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"),
            pass_fds=ends,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile.name},
            start_new_session=True,
        )
        self._tools.started()
        try:
            found = await self._tools.command("Browser.getVersion", patience=START)
        except (DevToolsError, TimeoutError) as error:
            await self.__aexit__()
            raise MissingError(f"{path} does not start: {error!r}") from None
        self.version = found["product"]
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(DevToolsError, TimeoutError):
            await self._tools.command("Browser.close", patience=STOP)
        self._tools.close()
        try:
            async with asyncio.timeout(STOP):
                await self._process.wait()
        except TimeoutError:
            pass
        # What it started is in its process group, and ends with it even if it does not end by itself.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await asyncio.to_thread(self._profile.cleanup)

    async def open(self, url: str, on_report: Callable[[dict[str, Any]], None] | None = None) -> Page:
        """Open a page, wait until it has loaded. What it gives to `report(json)` comes to `on_report`."""
        target = await self._tools.command("Target.createTarget", {"url": "about:blank", "newWindow": True})
        attached = await self._tools.command("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        page = Page(self._tools, target["targetId"], attached["sessionId"], on_report)
        self._sessions[attached["sessionId"]] = page
        await page.load(url)
        return page

    def _on_event(self, session: str | None, method: str, params: dict[str, Any]) -> None:
        page = None if session is None else self._sessions.get(session)
        if page is not None:
            page.on_event(method, params)


class Page:
    """One page. `console` has what it logged and what it failed with, the newest last."""

    def __init__(
        self, tools: DevTools, target: str, session: str, on_report: Callable[[dict[str, Any]], None] | None
    ) -> None:
        self._tools = tools
        self._target = target
        self._session = session
        self._on_report = on_report
        self._loaded = asyncio.Event()
        self.console: list[str] = []
        self.failures: list[str] = []
        """Exceptions and rejections that nobody caught."""

    async def load(self, url: str) -> None:
        """Go to an address."""
        for domain in ("Page", "Runtime"):
            await self._command(f"{domain}.enable")
        await self._command("Runtime.addBinding", {"name": "report"})
        self._loaded.clear()
        await self._command("Page.navigate", {"url": url})
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()

    async def run(self, expression: str, *, patience: float = PATIENCE) -> Any:
        """Evaluate JavaScript, wait for its promise, return the value. Raises `DevToolsError` if it throws."""
        words = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = await self._command("Runtime.evaluate", words, patience)
        details = found.get("exceptionDetails")
        if details is not None:
            raise DevToolsError(_describe(details))
        return found["result"].get("value")

    async def call(self, function: str, *arguments: Any, patience: float = PATIENCE) -> Any:
        """Call a function of the page with JSON values."""
        return await self.run(f"{function}({', '.join(map(json.dumps, arguments))})", patience=patience)

    async def close(self) -> None:
        """Close it, as by a click."""
        with contextlib.suppress(DevToolsError, TimeoutError):
            await self._tools.command("Target.closeTarget", {"targetId": self._target})

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        """The browser has news of this page."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.bindingCalled" if self._on_report is not None:
                self._on_report(json.loads(params["payload"]))
            case "Runtime.consoleAPICalled":
                words = (str(word.get("value", word.get("description", ""))) for word in params["args"])
                self.console.append(f"{params['type']}: {' '.join(words)}")
            case "Runtime.exceptionThrown":
                self.failures.append(_describe(params["exceptionDetails"]))

    async def _command(
        self, method: str, params: dict[str, Any] | None = None, patience: float = PATIENCE
    ) -> dict[str, Any]:
        return await self._tools.command(method, params, session=self._session, patience=patience)


def _describe(details: dict[str, Any]) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description") or exception.get("value") or details.get("text"))
