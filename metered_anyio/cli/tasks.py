"""Several things at the same time, whose first failure is raised as it is and not inside of a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def all_of(tasks: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run all to their end. The first failure cancels the others and is raised."""
    failures: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def guarded(task: Callable[[], Awaitable[object]]) -> None:
            try:
                await task()
            except Exception as failure:
                failures.append(failure)
                group.cancel_scope.cancel()

        for task in tasks:
            group.start_soon(guarded, task)
    if failures:
        raise failures[0]


async def for_each(items: Iterable[T], action: Callable[[T], Awaitable[object]], *, at_once: int) -> None:
    """Do the same to all items, to `at_once` of them at a time."""
    waiting = iter(list(items))

    async def work() -> None:
        for item in waiting:
            await action(item)

    await all_of([work] * at_once)
