"""Taking turns, judging a figure, printing it, and talking to children."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from benchmarks.__main__ import main
from benchmarks.children import Child, ChildError, Crew
from benchmarks.figures import Figure, Target, compared, document, markdown, table
from benchmarks.turns import Samples, in_process, take_turns
from benchmarks.workload import MARK, PAYLOADS


class Clock:
    """CPU time that passes only when work says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], object]:
        def spend() -> None:
            self.now += seconds

        return spend


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.process_time", clock)
    return clock


def test_a_side_returns_microseconds_a_unit(clock: Clock) -> None:
    side = in_process(clock.work(3e-5), 10, 0.001)
    assert side() == pytest.approx(3.0)


def test_a_sample_is_as_long_as_asked_for(clock: Clock) -> None:
    side = in_process(clock.work(1e-3), 1, 0.1)
    before = clock.now
    side()
    assert clock.now - before == pytest.approx(0.1, rel=0.05)


def test_sides_take_turns_and_each_is_first_in_its_turn() -> None:
    calls = ""

    def side(name: str) -> Callable[[], float]:
        def work() -> float:
            nonlocal calls
            calls += name
            return 1.0

        return work

    take_turns({name: side(name) for name in "abc"}, rounds=3)
    assert calls == "cab" + "abc" + "bca" + "cab"  # the first round is for warming up


def test_the_warm_up_does_not_count() -> None:
    cold = iter([99.0, 1.0, 2.0, 3.0])
    assert take_turns({"a": lambda: next(cold)}, rounds=3).median("a") == 2.0


SAMPLES = Samples([{"ours": 1.0, "theirs": 4.0}, {"ours": 10.0, "theirs": 20.0}, {"ours": 2.0, "theirs": 6.0}])


def test_medians_count_and_ratios_are_of_a_round() -> None:
    assert SAMPLES.median("ours") == 2.0
    assert SAMPLES.median("theirs") == 6.0
    assert SAMPLES.ratio("theirs", "ours") == 3.0


def _compared(**more: Any) -> Figure:
    return compared("group", "name", "µs", SAMPLES, ours="ours", theirs="theirs", peer="peer 1.0", **more)


def test_the_ratio_says_how_many_times_better_ours_is() -> None:
    assert _compared().ratio == 3.0
    assert _compared(more_is_better=True).ratio == pytest.approx(1 / 3)


@pytest.mark.parametrize(("at_least", "verdict"), [(None, None), (2.9, "ok"), (3.0, "ok"), (3.1, "short")])
def test_a_ratio_is_held_against_its_target(at_least: float | None, verdict: str | None) -> None:
    assert _compared(at_least=at_least).verdict == verdict


@pytest.mark.parametrize(("ours", "at_most", "verdict"), [(6.0, 6.0, "ok"), (6.1, 6.0, "short"), (0, 0, "ok")])
def test_a_value_is_held_against_its_target(ours: float, at_most: float, verdict: str) -> None:
    assert Figure(group="g", name="n", unit="KiB", ours=ours, target=Target(at_most=at_most)).verdict == verdict


def test_only_what_must_not_happen_at_all_is_a_loss() -> None:
    lost = Figure(group="g", name="n", unit="messages", ours=1, target=Target(at_most=0))
    assert lost.is_loss
    assert not msgspec.structs.replace(lost, ours=0).is_loss
    assert not msgspec.structs.replace(lost, target=Target(at_most=0.5)).is_loss
    assert not _compared(at_least=100).is_loss


def test_the_table_has_everything() -> None:
    text = table([_compared(at_least=5), Figure(group="g", name="n", unit="seconds", ours=12345.6)], quick=False)
    compared_line = next(line for line in text.splitlines() if line.startswith("name"))
    assert " ".join(compared_line.split()) == "name 2 6 3.00 × ≥ 5 × short µs, against peer 1.0"
    assert text.splitlines()[-1].split() == ["n", "12346", "seconds"]
    assert "quick" not in text


def test_a_page_gets_everything() -> None:
    lines = markdown([_compared(at_least=5), Figure(group="g", name="n", unit="s", ours=1.5)], quick=False).splitlines()
    assert lines[-2:] == ["| name | µs | 2 | 6 | 3.00 × | ≥ 5 × | short |", "| n | s | 1.5 |  |  |  |  |"]


def test_the_document_has_everything() -> None:
    read = json.loads(document([_compared(at_least=5)], quick=True))
    assert {"date", "python", "cpu", "system", "ours", "quick"} == read["run"].keys()
    assert read["run"]["quick"] is True
    (row,) = read["figures"]
    assert row == {
        "group": "group",
        "name": "name",
        "unit": "µs",
        "ours": 2.0,
        "peer": "peer 1.0",
        "theirs": 6.0,
        "ratio": 3.0,
        "target": {"at_least": 5.0},
        "verdict": "short",
    }


def test_payloads_are_as_large_as_they_say() -> None:
    sizes = {name: len(msgspec.json.encode(payload)) for name, payload in PAYLOADS.items()}
    assert sizes["60 B"] == 60
    assert sizes["4 KB"] == pytest.approx(4096, rel=0.02)


def test_a_mark_is_there_once() -> None:
    assert msgspec.json.encode(PAYLOADS["marked"]).count(MARK) == 1


def test_an_unknown_name_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing of the kind"])
    assert "no measurement is called 'nothing of the kind'" in capsys.readouterr().err


def test_what_a_child_fails_at_is_said() -> None:
    with Crew() as crew:
        relay = crew.hire("relay", "ours")
        assert relay.greeting.startswith("ws://127.0.0.1:")
        relay.start("sing")
        with pytest.raises(ChildError, match="KeyError: 'sing'"):
            relay.result()


def test_a_child_that_cannot_start_is_said() -> None:
    with Child("relay", "of somebody else's") as child:
        with pytest.raises(ChildError, match="ended with 1"):
            assert child.greeting


@pytest.mark.parametrize("who", ["ours", "websockets", "bare"])
def test_what_a_relay_did_not_deliver_is_seen(who: str) -> None:
    with Crew() as crew:
        relay = crew.hire("relay", who)
        crowd = crew.hire("crowd", relay.greeting)
        crowd.ask("connect", 3, "fleet/x")
        crowd.ask("expect", 1)
        crew.hire("client", "asyncio", relay.greeting).ask("publish", "fleet/x", "marked", 1, 1)
        assert crowd.ask("arrived") == {"total": 3, "least": 1, "most": 1, "connections_lost": 0}
        crowd.ask("expect", 2)
        assert crowd.ask("count") == {"total": 0, "least": 0, "most": 0, "connections_lost": 0}


def test_numbers_that_are_not_in_turn_are_seen() -> None:
    with Crew() as crew:
        relay = crew.hire("relay", "ours")
        subscriber, crowd = crew.hire("client", "asyncio", relay.greeting), crew.hire("crowd", relay.greeting)
        subscriber.ask("watch", "fleet/x")
        crowd.ask("connect", 2)
        crowd.ask("expect", 1)
        assert crowd.ask("publish", "fleet/x", 50, 0.1) >= 2
        crowd.ask("arrived")
        assert subscriber.ask("watched")["out_of_turn"] == 0
        crowd.ask("publish", "fleet/x", 50, 0.1, 1_000)
        crowd.ask("arrived")
        seen = subscriber.ask("watched")
        assert seen["senders"] == 2
        assert seen["out_of_turn"] == 2
