"""A camera that takes connections and says nothing, as broken ones do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self


class SilentCamera:
    """Listens on a port of its own, in threads of its own. It hangs up after `patience` seconds, or when it is left."""

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.visits = 0
        """How often somebody connected."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for visitors
        self._socket.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/live"

    def _accept(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            self._start(self._keep, visitor)

    def _keep(self, visitor: socket.socket) -> None:
        with visitor:
            self._over.wait(self._patience)

    def _start(self, work: Callable[..., None], *words: object) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()
