"""Events of sources and recordings, told from any thread."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from metered_media.events import SourceEnded, SourceLost
from metered_media.notices import Notices
from metered_proto.events import Event

LOST, ENDED = SourceLost(reason="gone"), SourceEnded(reason=None)


def tell_in_a_thread(notices: Notices, *events: Event) -> None:
    thread = threading.Thread(target=lambda: [notices.tell(event) for event in events])
    thread.start()
    thread.join()


@pytest.mark.anyio
async def test_handlers_and_streams_are_told_in_order_in_their_own_loop() -> None:
    notices = Notices()
    here = threading.get_ident()
    told: list[Any] = []

    @notices.on(Event)
    def _(event: Event) -> None:
        assert threading.get_ident() == here
        told.append(event)

    @notices.on(SourceLost)
    async def _(event: SourceLost) -> None:
        await anyio.lowlevel.checkpoint()
        told.append("async")

    stream = notices.events(SourceLost)
    tell_in_a_thread(notices, LOST, ENDED, LOST)
    with anyio.fail_after(10):
        assert [await anext(stream), await anext(stream)] == [LOST, LOST]
        notices.end()
        notices.tell(LOST)
        assert [event async for event in stream] == []
        await notices.finish()
    assert [event for event in told if event != "async"] == [LOST, ENDED, LOST]
    assert told.count("async") == 2


@pytest.mark.anyio
async def test_nobody_listens() -> None:
    notices = Notices()
    notices.tell(LOST)
    notices.end()
    await notices.finish()
    assert [event async for event in notices.events(SourceLost)] == []


def test_a_listener_from_before_there_was_a_loop_is_told_in_the_first_one(anyio_backend: str) -> None:
    notices = Notices()
    told: list[Event] = []
    notices.on(SourceLost, told.append)
    tell_in_a_thread(notices, LOST)
    assert told == []

    async def main() -> None:
        notices.bind()
        notices.tell(LOST)
        await notices.finish()

    anyio.run(main, backend=anyio_backend)
    assert told == [LOST, LOST]


def test_a_loop_that_has_ended_is_told_nothing(anyio_backend: str) -> None:
    notices = Notices()
    told: list[Event] = []

    async def main() -> None:
        notices.on(SourceLost, told.append)

    anyio.run(main, backend=anyio_backend)
    tell_in_a_thread(notices, LOST)
    notices.end()
    assert told == []
