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


ROLES = ("the sender is polite", "the viewer is polite")
STARTS = ("join → first frame", "browser joins → its first frame", "we join → first frame of a browser")
ROOMS = [
    *(f"{start}, {role}: {figure}" for role in ROLES for start in STARTS[:1] for figure in ("median", "p95")),
    *(f"{start}, {role}: {figure}" for role in ROLES for start in STARTS[1:] for figure in ("median", "p95")),
    "longest time between frames, nothing happens",
    "longest time between frames, relay away for 0.3 s, tokens",
    "frames again after the relay's return, keys",
    *(f"data channel opened alone → open, {role}" for role in ("the opener is polite", "the other is polite")),
    "data channel, there and back, 100 B",
    "data channel, one way, 16 KB messages",
    *(f"sender's {what}, 1 viewers" for what in ("loop lag p50", "loop lag p99", "loop lag max", "CPU", "memory")),
    "frames a second at the worst of 1 viewers",
]
CALLS = [
    "2 joins with a browser: not up within 1.5 s",
    "2 joins with a browser: negotiation errors",
    "joins with a browser: pictures both ways, p95",
    "2 × replace_track: new picture not within 0.5 s",
    "2 × replace_track: old source still read",
    "replace_track → new picture at a browser, p95",
    "one RGB track to 4 viewers for 0.5 s: frames a second too few, worst",
    *(f"4 joins and leaves in a room of 8: {what}" for what in ("rosters that differ", "tasks left")),
    "4 joins and leaves in a room of 8: memory gained in the second half",
    "2 returns, the published SDK: no pictures within 3 s",
    "return → pictures again, the published SDK: the slowest",
    "2 returns, a browser: no pictures within 3 s",
    "return → pictures again, a browser: the slowest",
]


SENT = ("CPU", "bitrate", "frames at the worst viewer", "off 30 fps", "memory")
OPENED = ("opened → first frame, median", "the loop's longest stall meanwhile")
MEDIA = [
    *(
        f"320×240 to 1, {way}: {what}"
        for way in ("once VP8", "each VP8", "once H264", "each H264", "as it is")
        for what in SENT
    ),
    *(
        f"sender's loop lag {which}, 320×240 to 1, {way}"
        for way in ("once VP8", "once H264", "as it is")
        for which in ("p50", "p99", "max")
    ),
    *(
        f"{since} → first decoded frame, viewer 1, {way}: median"
        for way in ("once VP8", "once H264", "as it is")
        for since in ("connected", "join")
    ),
    *(
        f"{count} AudioSource: {what}"
        for count in (1, 2)
        for what in ("frames off their time, p50", "frames off their time, p99", "CPU")
    ),
    *(f"one AudioSource to 1: {what}" for what in ("CPU", "frames a second at the worst viewer", "bitrate")),
    *(f"a file: {what}" for what in OPENED),
    *(f"a camera: {what}" for what in OPENED),
    "a camera silent for 0.5 s: until there is an error",
    "a camera silent for 0.5 s: the loop's longest stall meanwhile",
    "a camera silent for 0.5 s: no SourceOpenError",
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "names"), [("rooms", ROOMS), ("calls", CALLS), ("media", MEDIA)], ids=["rooms", "calls", "media"]
)
def test_every_figure_of_calls_is_there(name: str, names: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("aiortc", reason="aiortc is not installed, so there are no calls to measure")
    assert main([name, "--quick", "--json"]) == 0
    printed = capfd.readouterr()
    figures = [figure["name"] for figure in json.loads(printed.out)["figures"]]
    if "not measured:" in printed.err:  # no browser, or no camera
        assert figures
        assert set(figures) < set(names)
    else:
        assert figures == names


def test_what_is_measured_if_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []
    for name in ("core", "publish", "receive", "deliver", "fan-out", "memory", "storm", "soak", "gap"):

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
