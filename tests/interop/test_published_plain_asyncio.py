"""Under `asyncio.run`, as the published SDK's users have it: nothing of anyio or trio has set up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from types import ModuleType
from typing import Any


def test_a_client_comes_back_and_its_handlers_run(libraries: dict[str, ModuleType], library: str, scene: Any) -> None:
    heard: list[Any] = []

    async def main() -> None:
        async with contextlib.AsyncExitStack() as exits:
            stage = scene(libraries, exits)
            await stage.open()
            visitor = await stage.known_as(library, "alice")

            async def on_message(event: Any) -> None:
                await asyncio.sleep(0)
                heard.append(event.data)

            visitor.client.on(visitor.library.Message, on_message)
            await visitor.client.subscribe("room")
            await stage.restart()
            await visitor.heard("Connected", 2)
            await visitor.heard("Presence", 2)
            await stage.relay.publish("room", "still here?")
            await visitor.heard("Message")
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert heard == ["still here?"]
