"""A bot in a room: greets whoever comes, says who is there, repeats what it is told in private.

    python -m examples.room_chat_bot lobby --url ws://127.0.0.1:8787 --key pk_live_demo

It needs no media library. Messages look like {"type": "chat", "text": "…"}; it answers to /who and /quit.
"""

from __future__ import annotations

import argparse
import math
import os
from contextlib import suppress
from typing import Any

import anyio

from metered_anyio import Data, FatalError, MeteredPeer, MeteredRealtimeError, PeerJoined, ReconnectOptions, StateChange


def chat(text: str) -> dict[str, Any]:
    """A message as everybody in the room writes them."""
    return {"type": "chat", "text": text}


async def run(room: str, url: str, key: str) -> None:
    """Be in the room until somebody says /quit, or nothing will bring us back."""
    over = anyio.Event()
    bot = MeteredPeer(api_key=key, url=url, reconnect=ReconnectOptions(max_attempts=math.inf))

    @bot.on(PeerJoined)
    async def greet(event: PeerJoined) -> None:
        print(f"{event.peer.id} is here", flush=True)
        name = (event.peer.metadata or {}).get("name", event.peer.id)
        with suppress(MeteredRealtimeError):  # it may have left again, or we be on our way back
            await event.peer.send(chat(f"hello {name}"))

    @bot.on(Data)
    async def heard(event: Data) -> None:
        # Who it is from is the relay's word. What it says is anybody's.
        match event.data:
            case {"type": "chat", "text": "/quit"}:
                over.set()
            case {"type": "chat", "text": "/who"}:
                answer = ", ".join(sorted(peer.id for peer in bot.remote_peers))
            case {"type": "chat", "text": str(text)} if event.kind == "direct":
                answer = f"you said: {text}"
            case _:
                return
        if not over.is_set():
            with suppress(MeteredRealtimeError):
                await bot.send_to(event.sender_peer_id, chat(answer))

    @bot.on(StateChange)
    def state(event: StateChange) -> None:
        print(event.to, flush=True)

    @bot.on(FatalError)
    def fatal(event: FatalError) -> None:
        print(f"for good: {event.err}", flush=True)
        over.set()

    async with bot.joined(room):
        await over.wait()


def main() -> None:
    """Run a bot as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room")
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    with suppress(KeyboardInterrupt):
        anyio.run(run, args.room, args.url, args.key)


if __name__ == "__main__":
    main()
