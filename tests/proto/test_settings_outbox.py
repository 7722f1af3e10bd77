"""The options of an outbox: good ones are kept, bad ones are errors where they are made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from table_kit import each_row

from metered_proto.settings import OVERFLOWS, BatchOptions, Outbox


def test_the_defaults() -> None:
    outbox = Outbox()
    assert (outbox.max_messages, outbox.max_bytes, outbox.max_age) == (10_000, 16 * 1024 * 1024, None)
    assert (outbox.overflow, outbox.path, outbox.batch) == ("drop_oldest", None, None)
    assert (outbox.rate, outbox.burst, outbox.window) == (90.0, 100, 256)
    batch = BatchOptions()
    assert (batch.max_messages, batch.max_delay, batch.max_bytes) == (100, 1.0, 32_768)


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_every_way_to_overflow(overflow: Any) -> None:
    assert Outbox(overflow=overflow).overflow == overflow


@pytest.mark.parametrize(
    "good",
    [
        {"rate": None},
        {"max_age": 0.5},
        {"path": "a.db"},
        {"path": Path("a.db")},
        {"batch": BatchOptions(max_messages=1)},
        {"max_messages": 1, "max_bytes": 1, "burst": 1, "window": 1},
    ],
)
def test_good_ones(good: dict[str, Any]) -> None:
    outbox = Outbox(**good)
    assert {name: getattr(outbox, name) for name in good} == good


@each_row("name", ["max_messages", "max_bytes", "burst", "window"])
@each_row(("value", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)])
def test_counts(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Outbox(**{name: value})


@each_row("name", ["max_age", "rate"])
@each_row(
    ("value", "error"),
    [(0, ValueError), (-1.0, ValueError), (math.inf, ValueError), (math.nan, ValueError), ("1", TypeError)],
)
def test_durations_and_rates(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Outbox(**{name: value})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"overflow": "drop_all"}, ValueError),
        ({"overflow": None}, ValueError),
        ({"path": b"a.db"}, TypeError),
        ({"path": 3}, TypeError),
        ({"batch": True}, TypeError),
        ({"batch": {"max_messages": 3}}, TypeError),
    ],
)
def test_the_others(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Outbox(**options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_messages": 0}, ValueError),
        ({"max_bytes": 0.5}, TypeError),
        ({"max_delay": 0}, ValueError),
        ({"max_delay": math.inf}, ValueError),
    ],
)
def test_batches(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        BatchOptions(**options)
