"""The demo, as the process that `make demo` starts; and that it notices what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from examples.demo.backend import Backend
from examples.demo.fleet import Fleet, Plan
from examples.demo.processes import DemoError

DEMO = "examples.demo"


def outcome_of(program: Any) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads(program.lines[-1])
    return outcome


def children_of(program: Any, part: str) -> list[psutil.Process]:
    """The processes that a running demo has started, by a part of their command line."""
    everything = psutil.Process(program.pid).children(recursive=True)
    return [process for process in everything if part in " ".join(process.cmdline())]


def test_no_reading_is_lost_over_an_outage(run: Any) -> None:
    demo = run(DEMO, "--seconds", "8", "--devices", "3", "--outage", "2", "--json")
    demo.wait_for("the relay was killed")
    demo.wait_for("the relay is back")
    assert demo.wait() == 0, demo.lines
    outcome = outcome_of(demo)
    assert [account["device"] for account in outcome["accounts"]] == ["sensor-1", "sensor-2", "sensor-3"]
    for account in outcome["accounts"]:
        assert account["taken"] >= 10
        assert account["delivered"] == account["taken"]
        assert account["lost"] == 0
        assert account["reconnects"] >= 1
        assert account["longest_gap"] >= 2
        assert account["buffered"] >= 4
    assert len(outcome["commands"]) == 2
    assert all(seconds is not None for seconds in outcome["commands"])
    assert outcome["problems"] == []
    assert any("sensor-1 answered a command" in line for line in demo.lines)


def test_a_lost_reading_fails_it(run: Any) -> None:
    demo = run(DEMO, "--seconds", "3", "--devices", "2", "--outage", "0", "--sabotage", "--json")
    assert demo.wait() == 1, demo.lines
    outcome = outcome_of(demo)
    assert [account["lost"] for account in outcome["accounts"]] == [1, 0]
    assert len(outcome["problems"]) == 1
    assert outcome["problems"][0].startswith("sensor-1 lost 1 of ")


def test_a_device_that_dies_fails_it(run: Any) -> None:
    demo = run(DEMO, "--seconds", "4", "--devices", "2", "--outage", "0", "--json")
    demo.wait_for("2 devices are there")
    (victim,) = children_of(demo, "examples.demo.device sensor-2 ")
    victim.kill()
    assert demo.wait() == 1, demo.lines
    outcome = outcome_of(demo)
    assert outcome["problems"] == ["sensor-2 died"]
    assert outcome["accounts"][1]["taken"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nobody_behind(run: Any, number: int) -> None:
    demo = run(DEMO, "--seconds", "30", "--devices", "2", "--outage", "1")
    demo.wait_for("2 devices are there")
    started = children_of(demo, "python")
    assert len(started) == 3
    demo.signal(number)
    assert demo.wait() == 128 + number
    assert not any(process.is_running() for process in started)


def test_a_device_ends_with_whoever_started_it_even_if_nobody_confirms(relay: Any, run: Any) -> None:
    device = run("examples.demo.device", "sensor-1", relay.url, "pk_live_example", "--patience", "0.5")
    relay.wait_for_guests(1)
    device.close_input()
    assert device.wait() == 0
    report = outcome_of(device)
    assert report["taken"] >= 1
    assert report["unconfirmed"] == report["taken"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_device_that_cannot_start_ends_it_at_once(backend: str) -> None:
    class Nobody:
        def say(self, text: str) -> None: ...
        def watch(self, backend: Backend) -> None: ...

    fleet = Fleet(Plan(devices=2), Nobody())
    fleet.devices[1].options.append("--no-such-option")
    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(fleet.play, backend=backend)
    failure: BaseException = caught.value
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, DemoError)
    assert str(failure) == "sensor-2 died"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--devices", "0"], "--devices must be"),
        (["--devices", "101"], "--devices must be"),
        (["--seconds", "5", "--outage", "4"], "--outage must not"),
        (["--outage", "-1"], "--outage must not"),
        (["--interval", "0"], "--interval must be"),
    ],
)
def test_a_plan_that_cannot_be_played_is_refused(run: Any, arguments: list[str], complaint: str) -> None:
    demo = run(DEMO, *arguments)
    demo.wait_for(complaint)
    assert demo.wait() == 2


def test_it_can_be_watched_on_a_terminal() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-m", DEMO, "--seconds", "3", "--devices", "2", "--outage", "0"],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as demo:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # what Linux says at the end of a terminal
        os.close(ours)
        assert demo.wait(30) == 0
    text = shown.decode()
    assert "fleet/*/telemetry: connected" in text
    assert "memory" in text
    assert "0 lost" in text
