"""Words between us and a browser: chat by way of the relay, and data channels, whoever opens them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from metered_anyio import DataChannel, DCClose, DCMessage, DCOpen
from testbed.guest import Guest
from testbed.stage import Stage

pytestmark = pytest.mark.anyio

IT = "middle"

TEXTS = ["plain", "naïve ☃ 日本語 👩‍🚀", '\u2028 "quoted" \\ \n', "x" * 20_000]


class Heard:
    """A data channel, and what came over it."""

    def __init__(self, raw: Any) -> None:
        self.channel = DataChannel(raw)
        self.messages: list[str | bytes] = []
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        self.channel.on(DCMessage, lambda event: self.messages.append(event.data))
        self.channel.on(DCOpen, lambda _: self.opened.set())
        self.channel.on(DCClose, lambda _: self.closed.set())
        if self.channel.ready_state == "open":
            self.opened.set()


async def met(stage: Stage, me: str, **options: Any) -> tuple[Guest, Any]:
    guest = stage.ours(me)
    await guest.join()
    browser = await stage.browser(IT, **options)
    await guest.heard("PeerJoined")
    await browser.heard("peer-joined")
    return guest, browser


async def test_chat_both_ways(stage: Stage, me: str) -> None:
    guest, browser = await met(stage, me)
    for text in TEXTS:
        await guest.peer.send({"text": text})
        await guest.peer.send_to(IT, [text])
        await browser.send({"text": text})
        await browser.send_to(me, [text])
    await browser.until(lambda: len(browser.all("data")) == 2 * len(TEXTS), "all of it")
    await guest.until(lambda: len(guest.all("Data")) == 2 * len(TEXTS), "all of it")
    wanted = [one for text in TEXTS for one in (("broadcast", {"text": text}), ("direct", [text]))]
    assert [(one["kind"], one["data"]) for one in browser.all("data", **{"from": me})] == wanted
    assert [(one.kind, one.data) for one in guest.all("Data")] == wanted
    assert {one.sender_peer_id for one in guest.all("Data")} == {IT}
    assert browser.errors == []


async def test_a_data_channel_that_we_open_alone(stage: Stage, me: str) -> None:
    guest, browser = await met(stage, me)
    ours = Heard(guest.remote(IT).create_data_channel("ours ☃", protocol="chat"))
    await asyncio.wait_for(ours.opened.wait(), 3)
    theirs = (await browser.heard("data-channel"))["channel"]
    state = await browser.channel_state(theirs)
    assert (state["label"], state["protocol"], state["ordered"]) == ("ours ☃", "chat", True)
    for text in TEXTS:
        await ours.channel.send(text)
        await browser.channel_send(theirs, text)
    await ours.channel.send(b"\x00\xff")
    await browser.channel_send(theirs, b"\xff\x00")
    await browser.heard("dc-message", channel=theirs, bytes=[0, 255])
    assert [one["text"] for one in browser.all("dc-message", channel=theirs) if "text" in one] == TEXTS[:-1]
    assert (await browser.channel_state(theirs))["messages"] == len(TEXTS) + 1
    await guest.until(lambda: ours.messages == [*TEXTS, b"\xff\x00"], "all of it")
    await browser.channel_close(theirs)
    await asyncio.wait_for(ours.closed.wait(), 3)
    assert browser.errors == []


async def test_a_data_channel_that_it_opens_alone(stage: Stage, me: str) -> None:
    guest, browser = await met(stage, me)
    theirs = await browser.open_channel(me, "theirs", ordered=False, maxRetransmits=2)
    ours = Heard((await guest.heard("DataChannelOpened")).channel)
    assert ours.channel.label == "theirs"
    await browser.channel_send(theirs, "first ☃")
    await ours.channel.send("answer")
    await browser.heard("dc-message", channel=theirs, text="answer")
    await guest.until(lambda: ours.messages == ["first ☃"], "what it said")
    ours.channel.close()
    await browser.heard("dc-close", channel=theirs)
    assert [error for error in browser.errors if not error.startswith("dc-error")] == []


async def test_data_channels_from_both_sides_at_once(stage: Stage, me: str) -> None:
    guest, browser = await met(stage, me, channels={"theirs": {}})
    ours = Heard(guest.remote(IT).create_data_channel("ours"))
    await browser.heard("data-channel", label="ours")
    channel = Heard((await guest.heard("DataChannelOpened")).channel)
    assert channel.channel.label == "theirs"
    await ours.channel.send("over ours")
    await channel.channel.send("over theirs")
    await browser.heard("dc-message", text="over ours", label="ours")
    await browser.heard("dc-message", text="over theirs", label="theirs")
    assert browser.errors == []


async def test_a_lot_of_data_both_ways(stage: Stage, me: str) -> None:
    guest, browser = await met(stage, me)
    ours = Heard(guest.remote(IT).create_data_channel("bulk"))
    theirs = (await browser.heard("data-channel"))["channel"]
    await browser.heard("dc-open", channel=theirs)
    await browser.channel_flood(theirs, 100, 16_384)
    for number in range(100):
        await ours.channel.send(bytes([number]) * 16_384)
    await guest.until(lambda: len(ours.messages) == 100, "all of it")
    assert {len(message) for message in ours.messages} == {16_384}
    async with asyncio.timeout(10):
        while (await browser.channel_state(theirs))["bytes"] < 100 * 16_384:  # noqa: ASYNC110 - the page is asked
            await asyncio.sleep(0.05)
    assert browser.errors == []
