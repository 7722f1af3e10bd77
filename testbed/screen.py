"""A screen without a screen: Xvfb, as the display that X11 programs of this process see."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final, Self

from testbed import MissingError

SIZE: Final = (640, 480)


class Screen:
    """Runs from the `with` on. `display` is its name, for example `:3`."""

    display: str

    def __enter__(self) -> Self:
        path = shutil.which("Xvfb")
        if path is None:
            raise MissingError("no Xvfb is installed (Debian: apt-get install xvfb)")
        told, tell = os.pipe()
        self._process = subprocess.Popen(
            [path, "-displayfd", str(tell), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-nolisten", "tcp"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(tell,),
        )
        os.close(tell)
        # It writes its number once it is ready, or ends.
        with os.fdopen(told) as pipe:
            number = pipe.readline().strip()
        if not number:
            self.__exit__()
            raise MissingError(f"{path} does not start")
        self.display = f":{number}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
