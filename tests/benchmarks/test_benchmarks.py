"""The benchmarks run, and what they print is what they measured."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from benchmarks.__main__ import main
from benchmarks.core import cases
from benchmarks.measure import Case, measure


def test_every_case_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1", "--sample", "0.001", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in document["results"]] == [case.name for case in cases()]
    for result in document["results"]:
        assert result["ours"] > 0
        assert result["ratio"] == pytest.approx(result["ours"] / result["theirs"])
    assert {"python", "metered-sansio", "msgspec", "wsproto"} <= document["run"].keys()


def test_text_has_a_line_for_each_chosen_case(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1", "--sample", "0.001", "--only", "WebSocket"])
    out = capsys.readouterr().out
    assert sum("× wsproto" in line for line in out.splitlines()) == 2
    assert "relay" not in out


def test_an_unknown_case_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing of the kind"])
    assert "no case has 'nothing of the kind' in its name" in capsys.readouterr().err


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


def test_results_are_microseconds_a_unit_and_their_ratio(clock: Clock) -> None:
    case = Case(name="n", unit="item", units=10, ours=clock.work(3e-5), against="half", theirs=clock.work(6e-5))
    result = measure(case, rounds=3, sample=0.001)
    assert (result.name, result.unit, result.against) == ("n", "item", "half")
    assert result.ours == pytest.approx(3.0)
    assert result.theirs == pytest.approx(6.0)
    assert result.ratio == pytest.approx(0.5)


def test_the_median_round_counts(clock: Clock) -> None:
    calls = 0

    def slow_now_and_then() -> None:
        nonlocal calls
        calls += 1
        clock.now += 1.0 if calls == 5 else 0.5

    case = Case(name="n", unit="call", units=1, ours=slow_now_and_then, against="n", theirs=clock.work(0.5))
    result = measure(case, rounds=3, sample=0.5)
    assert calls >= 5
    assert result.ours == pytest.approx(0.5e6)
    assert result.ratio == pytest.approx(1.0)


def test_a_sample_is_as_long_as_asked_for(clock: Clock) -> None:
    case = Case(name="n", unit="call", units=1, ours=clock.work(1e-3), against="n", theirs=clock.work(1e-3))
    measure(case, rounds=1, sample=0.1)
    # Two sides, each with a warm-up and a calibration that stops at a quarter of the sample, then the sample.
    assert clock.now == pytest.approx(2 * (0.001 + 0.063 + 0.1), rel=0.01)
