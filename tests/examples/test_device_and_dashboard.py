"""A device and a dashboard as two processes, and what each does on its own."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import anyio
import pytest

from examples.dashboard import Seen
from examples.device import DAEMON, Device, Outbox
from metered_anyio import Message, SignallingClient
from metered_anyio.relay import RelayServer

KEY = "pk_live_example"


def test_readings_commands_replies_and_an_outage(relay: Any, run: Any) -> None:
    where = ["--url", relay.url, "--key", KEY]
    dashboard = run("examples.dashboard", *where)
    dashboard.wait_for("listening as ")
    device = run("examples.device", "sensor-42", *where, "--interval", "0.1", "--batch", "2")
    device.wait_for("sensor-42 is ")

    # Readings reach the dashboard in batches, and it replies to the device alone.
    first = dashboard.wait_for("sensor-42: ")
    readings = json.loads(dashboard.lines[first - 1].split(" ", 2)[2].replace("'", '"'))
    assert len(readings) == 2
    assert all(set(reading) == {"at", "load", "free"} for reading in readings)
    device.wait_for("'type': 'ack', 'for': ")

    # Somebody else commands it.
    other = run("examples.dashboard", *where, "--command", "sensor-42", '{"type": "interval", "seconds": 0.05}')
    device.wait_for("a reading every 0.05 s from now on")
    other.wait_for("sensor-42: ")

    # Batches wait while the relay is away, and go out in order once it is back.
    relay.stop()
    relay.start()
    back = device.wait_for("connected again, ")
    waited = re.search(r"connected again, (\d+) batches", device.lines[back - 1])
    assert waited is not None
    assert int(waited[1]) >= 1
    device.wait_for("'type': 'ack'", after=back)
    for program in (dashboard, other):
        ids = [int(line.split("-")[2].split()[0]) for line in list(program.lines) if line.startswith("sensor-42: ")]
        assert ids == sorted(set(ids))

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
    for program in (run("examples.device", "sensor-1"), run("examples.dashboard")):
        program.wait_for("a key is needed")
        assert program.wait() == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_outbox_keeps_order_bounds_itself_and_splits_what_is_too_big(backend: str) -> None:
    async def main() -> list[list[int]]:
        async with RelayServer(keys=[KEY]) as relay:
            listener = SignallingClient(api_key=KEY, url=relay.url)
            publisher = SignallingClient(api_key=KEY, url=relay.url)
            got: list[list[int]] = []
            ids: set[str] = set()
            all_there = anyio.Event()

            @listener.on(Message)
            def _(event: Message) -> None:
                got.append([reading["n"] for reading in event.data["readings"]])
                ids.add(event.data["id"])
                if got[-1] == [8]:
                    all_there.set()

            outbox = Outbox(publisher, "fleet/sensor-1/telemetry", limit=3)
            for n in range(4):
                await outbox.publish([{"n": n}])
            assert len(outbox) == 3
            async with listener, publisher:
                await listener.subscribe("fleet/sensor-*/telemetry")
                await outbox.flush()
                assert len(outbox) == 0
                half = "x" * (publisher.max_message_size // 2)
                await outbox.publish([{"n": 4, "text": half}, {"n": 5, "text": half}, {"n": 6}])
                await outbox.publish([{"n": 7, "text": half * 3}])
                await outbox.publish([{"n": 8}])
                with anyio.fail_after(10):
                    await all_there.wait()
            assert len(ids) == len(got)
            return got

    assert anyio.run(main, backend=backend) == [[1], [2], [3], [4], [5, 6], [8]]


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


def test_a_batch_counts_once() -> None:
    seen = Seen(limit=2)
    assert [seen.is_new("a", "1"), seen.is_new("b", "1"), seen.is_new("a", "1")] == [True, True, False]
    assert seen.is_new("a", "2")
    assert seen.is_new("a", "1")  # forgotten: only the latest two are known
