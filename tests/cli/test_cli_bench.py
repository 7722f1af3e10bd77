"""`metered bench`."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import anyio
import msgspec
import pytest

from metered_anyio import SignallingClient, SignallingConnectError
from metered_anyio.cli import main, scenarios
from metered_anyio.cli.common import Failure
from metered_anyio.cli.pacing import Pacer
from metered_anyio.cli.scenarios import Plan, Storm, Traffic
from metered_anyio.cli.tasks import all_of, for_each
from metered_anyio.relay import Limits, RelayServer

KEY = "pk_live_demo"
BACKENDS = ["asyncio", "trio"]


@pytest.fixture(scope="module")
def unlimited(start_for_module):
    """A relay that takes what it gets."""
    relay = start_for_module("serve", "--port", "0", "--connect-rate", "off", "--rate", "off", "--key", KEY)
    return relay.out.next().removeprefix("listening on ")


def bench(url, *arguments):
    return main(["bench", *arguments, "--url", url, "--key", KEY])


def is_ascending(quantiles):
    values = list(quantiles.values())
    return list(quantiles) == ["p50", "p90", "p99", "max"] and values[0] > 0 and values == sorted(values)


@pytest.mark.parametrize("backend", BACKENDS)
def test_messages_from_publishers_to_a_subscriber(unlimited, backend, capsys):
    options = ("--clients", "3", "--count", "500", "--rate", "off", "--size", "4096", "--in-flight", "7")
    assert bench(unlimited, "--json", "--backend", backend, *options) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert is_ascending(report.pop("ackMs"))
    assert is_ascending(report.pop("deliveryMs"))
    for name in ("seconds", "acknowledgedPerSecond", "deliveredPerSecond"):
        assert report.pop(name) > 0
    assert report == {
        "scenario": "pubsub",
        "backend": backend,
        "publishers": 3,
        "subscribers": 1,
        "inFlight": 7,
        "size": 4096,
        "rate": None,
        "published": 500,
        "acknowledged": 500,
        "delivered": 500,
        "expected": 500,
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_messages_from_a_publisher_to_subscribers(unlimited, backend, capsys):
    assert bench(unlimited, "fanout", "--clients", "5", "--seconds", "0.3", "--backend", backend) == 0
    report = {name: value for name, _, value in (line.partition(" ") for line in capsys.readouterr().out.splitlines())}
    report = {name: value.strip() for name, value in report.items()}
    assert (report["scenario"], report["subscribers"], report["rate"]) == ("fanout", "5", "90.0")
    published = int(report["published"])
    assert 1 <= published <= 100 + 0.4 * 90  # the burst, and what the rate allows
    assert int(report["delivered"]) == int(report["expected"]) == 5 * published
    assert re.fullmatch(r"p50 [\d.]+  p90 [\d.]+  p99 [\d.]+  max [\d.]+", report["deliveryMs"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_connections_at_once(unlimited, backend, capsys):
    assert bench(unlimited, "storm", "--clients", "70", "--json", "--backend", backend) == 0
    report = json.loads(capsys.readouterr().out)
    assert is_ascending(report["connectMs"])
    assert [report[name] for name in ("clients", "connected", "held", "failed")] == [70, 70, 70, 0]


def test_a_relay_that_takes_fewer_connections(start, capsys):
    relay = start("serve", "--port", "0", "--connect-rate", "3", "--key", KEY)
    url = relay.out.next().removeprefix("listening on ")
    assert bench(url, "storm", "--clients", "5", "--json") == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["connected"], report["held"], report["failed"]) == (3, 3, 2)
    assert err.startswith("metered: 3 of 5 connections stood at the end: 2 times 429")
    assert "--connect-rate off" in err
    assert bench(url) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metered: could not connect: 429")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_relay_that_takes_fewer_messages(url, backend, capsys):
    assert bench(url, "--count", "1000", "--rate", "off", "--json", "--backend", backend) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["acknowledged"] < 1000
    assert err.startswith("metered: 4011 message_rate (it takes fewer messages a second: lower --rate)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "wss://relay.example"], "relay.example is not this machine: bench would put load on it."),
        (["--url", "wss://hunter2@relay.example"], "url must be wss://HOST"),
        (["--clients", "0"], "Invalid value for '--clients'"),
        (["--in-flight", "0"], "Invalid value for '--in-flight'"),
        (["--size", "10"], "Invalid value for '--size'"),
        (["--count", "0"], "Invalid value for '--count'"),
        (["--seconds", "0"], "--seconds must be a number of seconds above 0"),
        (["--seconds", "inf"], "--seconds must be a number of seconds above 0"),
        (["--rate", "fast"], "--rate must be RATE/BURST"),
        (["--channel", ""], "a channel must not be empty"),
        (["--channel", "a\n"], "a channel must not hold control characters"),
        (["tsunami"], "Invalid value for"),
    ],
)
def test_wrong_use(capsys, arguments, message):
    assert main(["bench", "--key", "pk_live_hunter2", "--url", "ws://127.0.0.1:1", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"metered: {message}")
    assert "hunter2" not in err


def test_another_machine_is_loaded_if_one_may(capsys):
    # 127.0.0.2 is this machine too, but not by any of the names for it.
    options = ["bench", "--url", "wss://127.0.0.2:1", "--key", KEY]
    assert main(options) == 2
    assert main([*options, "--yes"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("metered: could not connect: 1006")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_terminal_shows_how_far_it_is(start, unlimited, backend):
    ours, theirs = os.openpty()
    running = start(
        *("bench", "--seconds", "1000", "--rate", "0.01/1", "--url", unlimited, "--key", KEY, "--backend", backend),
        stderr=theirs,
        TERM="xterm",
    )
    os.close(theirs)
    shown = b""
    while not re.search(rb"publishing, [0-9.]+ s: 1 acknowledged, 1 delivered, [0-9]+/s", shown):
        shown += os.read(ours, 4096)
    assert running.stop(signal.SIGINT) == 130
    os.close(ours)
    assert running.out.find("ackMs")


# --- scenarios, in one process with their relay ---


def run_scenario(make, backend="asyncio"):
    """Run what `make` makes of a function that makes clients. Returns the results, and the failure or None."""

    async def scenario() -> tuple[dict[str, Any], str | None]:
        async with RelayServer(keys=[KEY], limits=Limits(message_rate=None, connects_per_minute=None)) as relay:
            made = make(relay.url)
            try:
                with anyio.fail_after(20):
                    await made.run()
            except Failure as failure:
                return made.results(), str(failure)
            return made.results(), None

    return anyio.run(scenario, backend=backend)


def traffic(url, client=SignallingClient, **plan):
    plan = Plan(clients=1, in_flight=8, count=50, **plan)
    return Traffic(lambda: client(api_key=KEY, url=url, reconnect=False), plan, publishers=1, subscribers=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_deliveries_that_do_not_come(monkeypatch, backend):
    class Deaf(SignallingClient):
        async def subscribe(self, *_: object) -> None:
            pass

    monkeypatch.setattr(scenarios, "STRAGGLERS", 0.05)
    results, failure = run_scenario(lambda url: traffic(url, Deaf), backend)
    assert failure == "50 of 50 deliveries did not come"
    assert (results["acknowledged"], results["delivered"], results["expected"]) == (50, 0, 50)
    assert results["deliveryMs"]["max"] is None


GARBAGE = [None, "x", [], [0], [1, 0, 0, ""], [-1, 0, 0, ""], [0, -1, 0, ""], [0, 0, -1, ""], [0, 0, 10**400, ""]]
GARBAGE += [[0, 0, 10**14, ""], [0.5, 0, 0, ""], [0, 0, 0, 7]]


def test_what_others_publish_there_does_not_count():
    class Noisy(SignallingClient):
        async def publish(self, channel: str, data: Any, *, ack: bool = True) -> None:
            for garbage in GARBAGE:
                await super().publish(channel, garbage, ack=False)
            await super().publish(channel, data)
            await super().publish(channel, data, ack=False)  # a repeat

    results, failure = run_scenario(lambda url: traffic(url, Noisy))
    assert failure is None
    assert results["delivered"] == results["expected"] == 50


def test_the_size_is_what_the_server_counts():
    sizes = set()

    class Weighing(SignallingClient):
        async def publish(self, channel: str, data: Any, *, ack: bool = True) -> None:
            sizes.add(len(bytes(data)))
            await super().publish(channel, data)

    assert run_scenario(lambda url: traffic(url, Weighing, size=48))[1] is None
    assert sizes == {48}
    longest = scenarios._payload(99_999, 10**9, 999_999_999.0, scenarios.MIN_SIZE)
    assert len(bytes(longest)) == scenarios.MIN_SIZE
    assert msgspec.json.decode(longest)[:3] == [99_999, 10**9, 999_999_999_000_000]


def test_a_storm_that_loses_some_and_has_too_little_time():
    class Fickle(SignallingClient):
        made = 0

        async def connect(self) -> None:
            Fickle.made += 1
            number = Fickle.made
            if number == 3:
                await anyio.sleep_forever()
            await super().connect()
            if number == 2:
                await self.close()

    plan = Plan(clients=5, in_flight=5, seconds=0.5)
    results, failure = run_scenario(lambda url: Storm(lambda: Fickle(api_key=KEY, url=url, reconnect=False), plan))
    assert (results["connected"], results["held"], results["failed"]) == (4, 3, 0)
    assert failure == "3 of 5 connections stood at the end: 1 lost again; 1 not within 0.5 s"


def test_more_ways_to_fail_than_can_be_told_apart(monkeypatch):
    class Broken(SignallingClient):
        made = 0

        async def connect(self) -> None:
            Broken.made += 1
            raise SignallingConnectError(1006, f"way {Broken.made}")

    monkeypatch.setattr(scenarios, "REASONS", 2)
    plan = Plan(clients=4, in_flight=1)
    made = []

    def storm(url):
        made.append(Storm(lambda: Broken(api_key=KEY, url=url), plan))
        return made[0]

    results, failure = run_scenario(storm)
    assert failure.endswith("1 times 1006 way 1; 1 times 1006 way 2; 2 times something else")
    assert results["connectMs"]["p99"] is None
    assert made[0].progress() == "connecting: 0 of 4, 4 failed"


# --- the parts ---


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_failure_cancels_the_others_and_comes_bare(backend):
    done = []

    async def fail() -> None:
        raise Failure("first")

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            done.append("cancelled")

    async def scenario() -> None:
        await all_of([wait, fail, wait])

    with pytest.raises(Failure, match="first"):
        anyio.run(scenario, backend=backend)
    assert done == ["cancelled"] * len(done)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_item_once_and_so_many_at_a_time(backend):
    running, most, seen = 0, 0, []

    async def act(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        seen.append(item)
        running -= 1

    anyio.run(lambda: for_each(range(20), act, at_once=3), backend=backend)
    assert sorted(seen) == list(range(20))
    assert most == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_pacing(backend):
    async def scenario() -> tuple[list[bool], float, bool]:
        pacer, began = Pacer(100.0, 2), anyio.current_time()
        turns = [await pacer.turn() for _ in range(4)]
        took = anyio.current_time() - began
        return turns, took, await pacer.turn(anyio.current_time())

    turns, took, late = anyio.run(scenario, backend=backend)
    assert turns == [True] * 4
    assert took >= 0.014  # two of a burst, and two that wait 10 ms each, but for half a turn of rounding
    assert late is False


def test_no_pace_is_no_wait():
    async def scenario() -> tuple[bool, bool]:
        pacer = Pacer(None, 1)
        return await pacer.turn(), await pacer.turn(anyio.current_time() - 1)

    assert anyio.run(scenario) == (True, False)
