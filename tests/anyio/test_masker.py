"""Connections mask with what is quickest, and with what is always there where nothing else is."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from adapter_kit import make_client, make_relay, told, until

from metered_anyio import Message
from metered_anyio.masker import quickest_masker
from metered_proto.masking import mask


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Each test looks anew for what is installed."""
    quickest_masker.cache_clear()
    yield
    quickest_masker.cache_clear()


def test_a_compiled_masker_is_found(forgotten: None) -> None:
    masker = quickest_masker()
    assert masker is not mask
    assert masker(b"Hello", b"\x37\xfa\x21\x3d") == b"\x7f\x9f\x4d\x51\x58"


@pytest.mark.anyio
@pytest.mark.parametrize("installed", [True, False])
async def test_messages_arrive_either_way(forgotten: None, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "websockets.speedups", None)
        assert quickest_masker() is mask
    async with make_relay() as relay, make_client(relay.url) as one, make_client(relay.url) as other:
        messages = told(other, Message)
        await other.subscribe("room")
        sizes = (0, 100, 1000, 60_000)
        await one.publish_many([("room", "x" * size) for size in sizes])
        await until(lambda: len(messages) == len(sizes))
        assert [len(message.data) for message in messages] == list(sizes)
