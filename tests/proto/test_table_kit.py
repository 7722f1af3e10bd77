"""A table that is one test goes through all its rows, and says which of them failed."""

from __future__ import annotations

import inspect

import pytest
from table_kit import each_row


def test_every_row_is_run_whatever_becomes_of_the_others() -> None:
    seen: list[int] = []

    @each_row("number", [1, 2, 3, 4])
    def is_odd(number: int) -> None:
        seen.append(number)
        assert number % 2

    with pytest.RaisesGroup(AssertionError, AssertionError) as caught:
        is_odd()
    assert seen == [1, 2, 3, 4]
    assert [error.__notes__ for error in caught.value.exceptions] == [["the row: 2"], ["the row: 4"]]
    assert "2 of 4 rows" in str(caught.value)


def test_nothing_raised_where_something_should_be_is_a_failure_of_the_row() -> None:
    @each_row(("text", "error"), [("x", ValueError), ("1", ValueError)], ids=["a word", "a number"])
    def is_no_number(text: str, error: type[Exception]) -> None:
        with pytest.raises(error):
            int(text)

    with pytest.RaisesGroup(pytest.fail.Exception) as caught:
        is_no_number()
    assert caught.value.exceptions[0].__notes__ == ["the row: a number"]


def test_tables_may_be_stacked_and_leave_the_fixtures_to_pytest() -> None:
    seen: list[tuple[int, str, object]] = []

    @each_row("letter", "ab")
    @each_row(("number",), [(1,), pytest.param(2, id="two")])
    def note(number: int, letter: str, tmp_path: object) -> None:
        seen.append((number, letter, tmp_path))

    assert list(inspect.signature(note).parameters) == ["tmp_path"]
    note(tmp_path=None)
    assert seen == [(1, "a", None), (2, "a", None), (1, "b", None), (2, "b", None)]


def test_a_table_that_would_check_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="without rows"):
        each_row("number", [])
    with pytest.raises(TypeError, match="does not take number"):
        each_row("number", [1])(lambda: None)
