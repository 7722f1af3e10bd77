"""`metered ping`."""

from __future__ import annotations

import json
import re
import signal
import time

import anyio
import pytest

from metered_anyio import AckTimeoutError, SignallingClient
from metered_anyio.cli import main
from metered_anyio.cli.ping import Trips
from metered_anyio.cli.timings import Timings
from metered_anyio.relay import RelayServer
from metered_proto.wire.tokens import mint

KEY = "pk_live_demo"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_there_and_back(url, backend, capsys):
    options = ["--url", url, "--key", KEY, "--backend", backend]
    assert main(["ping", "--count", "3", "--interval", "0.01", *options]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"connected as peer_\w+ in [0-9.]+ ms\n", err)
    *trips, summary = out.splitlines()
    assert [re.sub(r" [0-9]+\.[0-9]{2} ms", " some ms", trip) for trip in trips] == [f"{n}: some ms" for n in (1, 2, 3)]
    found = re.fullmatch(r"3 of 3 acknowledged, min/avg/max/p99 ([0-9.]+)/([0-9.]+)/([0-9.]+)/([0-9.]+) ms", summary)
    assert found is not None
    least, mean, most, p99 = map(float, found.groups())
    assert 0 < least <= mean <= most
    assert p99 == most


def test_as_json(url, capsys):
    assert main(["ping", "-n", "2", "--interval", "0", "--json", "--url", url, "--key", KEY]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert (report["sent"], report["acknowledged"]) == (2, 2)
    assert set(report["ms"]) == {"min", "avg", "max", "p99"}


def test_a_channel_of_ones_own(url, capsys):
    narrow = mint(
        key_id="sk_id_demo",
        secret="sk_secret_0123456789abcdef",
        peer_id="eve",
        now=int(time.time()),
        channels=["fleet/*"],
    )
    options = ["ping", "-n", "1", "--json", "--url", url, "--token", narrow]
    assert main(options) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["acknowledged"] == 0
    assert err.startswith("metered: channel_not_authorized")
    assert main([*options, "--channel", "fleet/1"]) == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_trip_without_an_acknowledgement(backend, capsys):
    class Forgetful(SignallingClient):
        asked = 0

        async def publish(self, *arguments: object, **options: object) -> None:
            Forgetful.asked += 1
            if Forgetful.asked == 2:
                raise AckTimeoutError(15.0)

    async def scenario():
        async with RelayServer(keys=[KEY]) as relay:
            trips = Trips(Forgetful(api_key=KEY, url=relay.url), "ping", quiet=False)
            await trips.run(3, 0.0)
        trips.report(as_json=False)
        return trips.sent, trips.lost

    assert anyio.run(scenario, backend=backend) == (3, 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "2: no acknowledgement within 15 s"
    assert lines[3].startswith("2 of 3 acknowledged, ")


def test_nothing_comes_back(capsys, monkeypatch, url):
    async def publish(*_: object, **__: object) -> None:
        raise AckTimeoutError(15.0)

    monkeypatch.setattr(SignallingClient, "publish", publish)
    assert main(["ping", "-n", "1", "--url", url, "--key", KEY]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "0 of 1 acknowledged, min/avg/max/p99 -/-/-/- ms"
    assert err.splitlines()[-1] == "metered: 1 of 1 were not acknowledged"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_ends_it_with_what_there_is(start, url, backend):
    pinging = start("ping", "--count", "100000", "--url", url, "--key", KEY, "--backend", backend)
    pinging.out.next()
    assert pinging.stop(signal.SIGINT) == 130
    assert "acknowledged, min/avg/max/p99" in pinging.out.rest()[-1]


def test_a_connection_that_is_lost(start):
    relay = start("serve", "--port", "0", "--key", KEY)
    url = relay.out.next().removeprefix("listening on ")
    pinging = start("ping", "--count", "100000", "--interval", "0.01", "--url", url, "--key", KEY)
    pinging.out.next()
    relay.stop()
    assert pinging.wait() == 1
    assert "acknowledged, min/avg/max/p99" in pinging.out.rest()[-1]


def test_nobody_there(capsys):
    assert main(["ping", "--url", "ws://127.0.0.1:1", "--key", KEY]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metered: could not connect: 1006")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "Invalid value for '--count'"),
        (["--interval", "-1"], "--interval must be a number of seconds"),
        (["--channel", "fleet/\n"], "a channel must not hold control characters"),
    ],
)
def test_wrong_use(capsys, options, message):
    assert main(["ping", "--url", "ws://127.0.0.1:1", "--key", KEY, *options]) == 2
    assert capsys.readouterr().err.startswith(f"metered: {message}")


def test_timings():
    timings = Timings()
    assert timings.in_ms("min", "p99") == {"min": None, "p99": None}
    for thousandths in range(1, 101):
        timings.add(thousandths / 1000)
    found = timings.in_ms("min", "avg", "max", "p50", "p90", "p99")
    assert (found["min"], found["avg"], found["max"]) == (1, 50.5, 100)
    assert 50 <= found["p50"] <= 56.25
    assert 90 <= found["p90"] <= 100
    assert 99 <= found["p99"] <= 100
    assert len(timings) == 100
