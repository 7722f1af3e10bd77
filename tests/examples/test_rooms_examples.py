"""A camera, viewers on both event loops, and a bot, as processes in rooms of one relay."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import pytest

from metered_anyio import Data, MeteredPeer

KEY = "pk_live_example"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_camera_and_a_viewer(relay: Any, run: Any, backend: str) -> None:
    where = ["room", "--url", relay.url, "--key", KEY]
    camera = run("examples.room_camera", *where)
    camera.wait_for("on air as ")
    viewer = run("examples.room_viewer", *where, "--backend", backend)
    viewer.wait_for("watching as ")
    viewer.wait_for(r"shows camera: {'role': 'camera', 'label': 'test picture'}")
    viewer.wait_for("frames")
    camera.wait_for("says 'watching'")

    # The relay goes and comes back; the picture does not mind.
    relay.stop()
    before = len(viewer.lines)
    viewer.wait_for("frames", after=before)
    relay.start()

    viewer.signal(signal.SIGINT)
    assert viewer.wait() == 0, viewer.lines
    camera.wait_for(" left")
    camera.signal(signal.SIGINT)
    assert camera.wait() == 0, camera.lines


def test_a_bot(relay: Any, run: Any) -> None:
    bot = run("examples.room_chat_bot", "lobby", "--url", relay.url, "--key", KEY)
    bot.wait_for("joined")

    async def talk() -> list[Any]:
        async with (
            MeteredPeer(api_key=KEY, url=relay.url) as guest,
            guest.events(Data) as answers,
        ):
            await guest.join("lobby")
            said = [(await anext(answers)).data]
            for text in ("/who", "nobody answers this to all", "/quit"):
                await guest.send({"type": "chat", "text": text})
                if text == "/who":
                    said.append((await anext(answers)).data)
                    await guest.send_to(guest.remote_peers[0].id, {"type": "chat", "text": "psst"})
                    said.append((await anext(answers)).data)
            assert guest.peer_id is not None
            return [(each["text"].replace(guest.peer_id, "me")) for each in said]

    async def in_time() -> list[Any]:
        with anyio.fail_after(10):
            return await talk()

    assert anyio.run(in_time) == ["hello me", "me", "you said: psst"]
    assert bot.wait() == 0
