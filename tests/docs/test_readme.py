"""What the README says works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CODE, OUTPUT = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0]
CONSOLE = re.findall(r"^\$ (.*)$", README, re.MULTILINE)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_ten_lines_run(backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(anyio, "run", partial(anyio.run, backend=backend))
    exec(compile(CODE, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == OUTPUT


def test_the_command_lines_run(tmp_path: Path) -> None:
    export, serve, sub, pub, *media = [line.removesuffix(" &") for line in CONSOLE if "metered" in line.lower()]
    assert serve == "metered serve"  # its defaults are what METERED_URL names
    environment = os.environ | dict(word.split("=", 1) for word in shlex.split(export)[1:])
    assert environment["METERED_URL"] == "ws://127.0.0.1:8787"

    for line in media:  # a camera is not here, but its options are
        command = [sys.executable, "-m", "metered_anyio.cli", *shlex.split(line)[1:], "--help"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def start(line: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "metered_anyio.cli", *shlex.split(line)[1:], *more]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, cwd=tmp_path, text=True, **pipes)

    with start(serve, "--port", "0") as relay:  # the default port may be taken on the machine that runs this
        try:
            listening = _line(relay.stdout)
            assert listening.startswith("listening on ws://127.0.0.1:")
            environment["METERED_URL"] = listening.removeprefix("listening on ")
            with start(sub) as subscriber:
                try:
                    while "fleet/*/telemetry" not in _line(subscriber.stderr):
                        pass  # it says when it is subscribed
                    with start(pub) as publisher:
                        assert publisher.wait(30) == 0
                    assert "fleet/sensor-42/telemetry" in (said := _line(subscriber.stdout))
                    assert "21.5" in said
                finally:
                    subscriber.terminate()
        finally:
            relay.terminate()
        assert relay.wait(30) == 0


def _line(pipe: Any) -> str:
    line: str = pipe.readline()
    assert line, "the process has ended"
    return line.strip()


def test_the_make_targets_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)\b", README)) - {"it"}
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "docs"} <= named <= rules


def test_the_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).is_file()] == []
