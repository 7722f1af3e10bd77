"""A device and a dashboard as two processes, and what each does on its own."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from examples.buffering import Buffer
from examples.device import DAEMON, Device
from metered_anyio import Message, SignallingClient
from metered_anyio.relay import RelayServer

KEY = "pk_live_example"


def test_readings_commands_replies_and_an_outage(relay: Any, run: Any) -> None:
    where = ["--url", relay.url, "--key", KEY]
    dashboard = run("examples.dashboard", *where)
    dashboard.wait_for("listening as ")
    device = run("examples.device", "sensor-42", *where, "--interval", "0.1", "--batch", "2")
    device.wait_for("sensor-42 is ")

    # Readings reach the dashboard, and it replies to the device alone.
    first = dashboard.wait_for("sensor-42: ")
    reading = json.loads(dashboard.lines[first - 1].split(" ", 1)[1].replace("'", '"'))
    assert set(reading) == {"at", "load", "free"}
    device.wait_for("'type': 'ack', 'for': ")

    # Somebody else commands it.
    other = run("examples.dashboard", *where, "--command", "sensor-42", '{"type": "interval", "seconds": 0.05}')
    device.wait_for("a reading every 0.05 s from now on")
    other.wait_for("sensor-42: ")

    # Readings wait while the relay is away, and go out in order once it is back.
    relay.stop()
    relay.start()
    back = device.wait_for("connected again, ")
    waited = re.search(r"connected again, (\d+) readings", device.lines[back - 1])
    assert waited is not None
    assert int(waited[1]) >= 1
    device.wait_for("'type': 'ack'", after=back)
    for program in (dashboard, other):
        times = [
            int(found[1]) for line in list(program.lines) if (found := re.match(r"sensor-42: {'at': (\d+),", line))
        ]
        assert len(times) >= 2
        assert times == sorted(set(times))

    run("examples.dashboard", *where, "--command", "sensor-42", '{"type": "reboot"}')
    device.wait_for("rebooting")
    assert device.wait() == 0
    dashboard.signal(signal.SIGINT)
    assert dashboard.wait() == 0


def test_a_device_boots_before_its_relay(relay: Any, run: Any) -> None:
    relay.stop()
    device = run("examples.device", "sensor-1", "--url", relay.url, "--key", KEY, "--interval", "0.1")
    relay.start()
    device.wait_for("sensor-1 is ")


def test_the_examples_ask_for_a_key(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METERED_KEY", raising=False)
    programs = ["examples.device", "sensor-1"], ["examples.buffering", "sensor-1"], ["examples.dashboard"]
    for program in [run(*command) for command in programs]:
        program.wait_for("a key is needed")
        assert program.wait() == 2


def test_a_device_with_a_file_takes_its_readings_into_its_next_life(
    relay: Any, run: Any, eventually: Any, tmp_path: Path
) -> None:
    where = ["--url", relay.url, "--key", KEY, "--interval", "0.05"]
    device = run("examples.device", "sensor-7", *where, "--outbox", str(tmp_path / "outbox"))
    device.wait_for("sensor-7 is ")
    relay.stop()
    log = tmp_path / "outbox-wal"
    before = log.stat().st_size
    eventually(lambda: log.stat().st_size > before + 50_000, "the device keeps nothing")
    device.signal(signal.SIGKILL)
    device.wait()
    relay.start()
    dashboard = run("examples.dashboard", *where[:4])
    dashboard.wait_for("listening as ")
    begun = time.time_ns() // 1_000_000
    run("examples.device", "sensor-7", *where, "--outbox", str(tmp_path / "outbox"))
    first = dashboard.wait_for("sensor-7: {")
    assert int(dashboard.lines[first - 1].split()[2].rstrip(",")) < begun


def test_buffering_by_hand(relay: Any, run: Any) -> None:
    where = ["--url", relay.url, "--key", KEY, "--interval", "0.05"]
    program = run("examples.buffering", "sensor-1", *where)
    program.wait_for("sensor-1 is ")
    relay.stop()
    relay.start()
    program.wait_for("connected again, ")
    program.signal(signal.SIGINT)
    assert program.wait() == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_buffer_keeps_order_bounds_itself_and_lets_go_of_what_nobody_takes(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> list[int]:
        async with RelayServer(keys=[KEY]) as relay:
            listener = SignallingClient(api_key=KEY, url=relay.url)
            publisher = SignallingClient(api_key=KEY, url=relay.url)
            channel = "fleet/sensor-1/telemetry"
            got: list[int] = []
            ids: set[str] = set()
            there = {3: anyio.Event(), 6: anyio.Event()}

            @listener.on(Message)
            def _(event: Message) -> None:
                got.append(event.data["n"])
                ids.add(event.data["messageId"])
                if got[-1] in there:
                    there[got[-1]].set()

            buffer = Buffer(publisher, limit=3)
            for n in range(4):
                await buffer.publish(channel, {"n": n})
            assert len(buffer) == 3
            async with listener:
                await listener.subscribe("fleet/sensor-*/telemetry")
                async with publisher:
                    with anyio.fail_after(10):
                        await there[3].wait()
                    await buffer.publish(channel, {"n": 4})
                    await buffer.publish(channel, {"n": 5, "text": "x" * publisher.max_message_size})
                    await buffer.publish(channel, {"n": 6})
                    with anyio.fail_after(10):
                        await there[6].wait()
            assert len(buffer) == 0
            assert len(ids) == len(got)
            return got

    assert anyio.run(main, backend=backend) == [1, 2, 3, 4, 6]
    assert "nobody will take this" in capsys.readouterr().out


def test_a_command_is_not_taken_on_trust(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        device = Device(5.0)
        for command in (None, 1, "reboot", {}, {"type": "interval"}, {"type": "interval", "seconds": -1}):
            device.obey(command)
        assert device.interval == 5.0
        assert not device.rebooting.is_set()
        device.obey({"type": "interval", "seconds": 2})
        assert device.interval == 2

    anyio.run(main)
    assert capsys.readouterr().out.count("do not know") == 6


def test_a_device_never_gives_up() -> None:
    assert DAEMON.max_attempts == float("inf")
    assert DAEMON.max_delay == 60.0
