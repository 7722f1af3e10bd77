"""Every benchmark runs, and every figure is in what is printed. How large a figure is says nothing here."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.client import LOOPS

CORE = [
    "bytes to event, 60 B",
    "bytes to event, 60 B",
    "bytes to handler, 60 B",
    "WebSocket stream to handler, 60 B",
    "publish() to bytes, and its ack",
    "WebSocket, client: read a text frame",
    "WebSocket, server: read a masked text frame",
    "relay's machine, a publish 1 → 1",
    "relay's machine, a publish 1 → 1000",
]
PUBLISH = [f"acked publish, {flying} in flight, {size}" for flying in (256, 1) for size in ("60 B", "4 KB")]
RECEIVE = [f"receive, {how}, {size}" for how in ("saturated", "one a wake") for size in ("60 B", "4 KB")]
CLIENT = [
    *(f"{name}, {how}" for name in PUBLISH for how in (*LOOPS, "asyncio, no speedups")),
    *(f"{name}, {loop}" for name in [*RECEIVE, "delivered, 256 in flight, 60 B"] for loop in LOOPS),
]
RELAY = [
    *(f"fan-out 1 → {many}, {how}" for many in (10, 50) for how in ("8 in flight", *["single message"] * 2)),
    "memory of an idle connection, 120 held",
    "connect storm, 20 clients",
    "connect storm, 20 clients: failures",
]
SOAK = [
    f"{way}: {what}"
    for way in ("fan-out 1 → 40, 2,000 deliveries/s", "fan-in 40 → 1, 160 messages/s")
    for what in ("lost", "queues over 64 KiB", "memory gained")
]


@pytest.mark.parametrize(
    ("name", "names"),
    [("core", CORE), ("client", CLIENT), ("relay", RELAY), ("soak", SOAK)],
    ids=lambda value: str(value)[:6],
)
def test_every_figure_is_there(name: str, names: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--quick", "--json"]) == 0
    printed = capfd.readouterr()
    document = json.loads(printed.out)
    assert document["run"]["quick"] is True
    figures = document["figures"]
    assert [figure["name"] for figure in figures] == names
    assert {figure["group"] for figure in figures} == {name}
    for figure in figures:
        assert figure["ours"] is not None
        assert (figure["verdict"] is None) == (figure["target"] is None)
        if figure["ratio"] is not None:
            assert figure["ours"] > 0
            assert figure["peer"]
            assert figure["ratio"] in (
                pytest.approx(figure["theirs"] / figure["ours"]),
                pytest.approx(figure["ours"] / figure["theirs"]),
            )
    assert "Traceback" not in printed.err


def test_what_is_measured_if_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []
    for name in ("core", "publish", "receive", "deliver", "fan-out", "memory", "storm", "soak"):

        def measure(_: object, name: str = name) -> list[object]:
            measured.append(name)
            return []

        monkeypatch.setitem(main.__globals__["MEASUREMENTS"], name, measure)
    main([])
    assert measured == ["core", "publish", "receive", "deliver", "fan-out", "memory", "storm"]
    measured.clear()
    main(["soak", "memory", "relay"])
    assert measured == ["fan-out", "memory", "storm", "soak"]
    capsys.readouterr()
