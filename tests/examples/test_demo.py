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
from examples.demo.deliveries import Deliveries
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
    demo.wait_for("sensor-3 was killed, too")
    demo.wait_for("the relay is back")
    assert demo.wait() == 0, demo.lines
    outcome = outcome_of(demo)
    assert [account["device"] for account in outcome["accounts"]] == ["sensor-1", "sensor-2", "sensor-3"]
    for account in outcome["accounts"]:
        assert account["taken"] >= 10
        assert account["delivered"] == account["taken"]
        assert account["lost"] == 0
        assert account["longest_gap"] >= 2
    for account in outcome["accounts"][:2]:
        assert account["reconnects"] >= 1
        assert account["buffered"] >= 4
        assert account["lives"] == 1
        assert account["restored"] == 0
    # One was killed while the relay was away, and found its readings again.
    assert outcome["accounts"][2]["lives"] == 2
    assert outcome["accounts"][2]["restored"] >= 1
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
    assert outcome["accounts"][1]["lost"] is None


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
    *taken, last = [json.loads(line) for line in device.lines]
    assert len(taken) >= 1
    assert last["report"]["unconfirmed"] == len(taken)


def test_a_device_without_a_relay_leaves_its_readings_to_the_next_one(relay: Any, run: Any, tmp_path: Path) -> None:
    command = ["examples.demo.device", "sensor-1", relay.url, "pk_live_example", "--outbox", str(tmp_path / "outbox")]
    relay.stop()
    killed = run(*command, "--interval", "0.05")
    killed.wait_for("taken", after=9)
    killed.signal(signal.SIGKILL)
    killed.wait()
    ended = run(*command, "--patience", "0.1")
    ended.wait_for("taken")
    ended.close_input()
    assert ended.wait() == 0
    assert outcome_of(ended)["report"]["restored"] >= 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_nobody_heard_comes_again(backend: str, relay: Any, run: Any) -> None:
    device = run("examples.demo.device", "sensor-1", relay.url, "pk_live_example", "--interval", "0.05")
    relay.wait_for_guests(1)
    device.wait_for("taken", after=9)

    async def listen() -> Deliveries:
        with anyio.fail_after(20):
            async with Backend(relay.url, "pk_live_example") as late, anyio.create_task_group() as tasks:
                tasks.start_soon(late.say_hello)
                await late.heard_of(1)
                assert await late.command("sensor-1", "describe") < 20
                device.close_input()
                await anyio.to_thread.run_sync(device.wait)
                tasks.cancel_scope.cancel()
                return late.devices["sensor-1"]

    deliveries = anyio.run(listen, backend=backend)
    *taken, last = [json.loads(line) for line in device.lines]
    assert last["report"]["sent_again"] >= 1
    assert last["report"]["unconfirmed"] == 0
    assert deliveries.readings == {line["taken"] for line in taken}


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
