"""Tables of small cases, a test each.

`pytest.mark.parametrize` makes a test of every row. Where rows take microseconds that costs more than all they check,
some thousand times over. `each_row` is called the same way and makes one test of the table. It goes through all rows
whatever becomes of them, and names each that fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

Test = Callable[..., None]


def each_row(
    names: str | tuple[str, ...], rows: Iterable[Any], *, ids: Iterable[str] | Callable[[Any], str] | None = None
) -> Callable[[Test], Test]:
    """Run a test for every row of a table, as one test.

    Stacked, they make one table of every combination, as with `parametrize`. Rows share whatever else the test asks
    for, so what can be changed is better made in the test than by a fixture of each test.
    """
    columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    table = [_values(row, alone=names == columns[0]) for row in rows]
    if not table:
        raise ValueError("a table without rows checks nothing")
    labels = ids if callable(ids) or ids is None else list(ids)

    def name(index: int) -> str:
        label, values = table[index]
        if callable(labels):
            return labels(*values)
        return label or (labels[index] if labels else ", ".join(f"{value!r:.200}" for value in values))

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)
        missing = set(columns) - set(signature.parameters)
        if missing:
            raise TypeError(f"{test.__qualname__} does not take {', '.join(sorted(missing))}")

        def every_row(*args: Any, **kwargs: Any) -> None:
            failed: list[BaseException] = []
            for index, (_, values) in enumerate(table):
                try:
                    test(*args, **kwargs, **dict(zip(columns, values, strict=True)))
                except (Exception, pytest.fail.Exception) as error:
                    error.add_note(f"the row: {name(index)}")
                    failed.append(error)
            if failed:
                raise BaseExceptionGroup(f"{len(failed)} of {len(table)} rows of {test.__qualname__}", failed)

        every_row.__name__, every_row.__qualname__ = test.__name__, test.__qualname__
        every_row.__module__, every_row.__doc__ = test.__module__, test.__doc__
        others = [parameter for column, parameter in signature.parameters.items() if column not in columns]
        every_row.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        every_row.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]
        return every_row

    return decorate


def _values(row: Any, *, alone: bool) -> tuple[str | None, tuple[Any, ...]]:
    """The name of a row, where it has one, and what it holds."""
    if isinstance(row, type(pytest.param())):
        return row.id, row.values
    return None, (row,) if alone else tuple(row)
