"""A relay without rates: ours, or the least that does the same on `websockets`, with its `broadcast`.

    python -m benchmarks.roles.relay ours [bytes that may wait for a slow reader]
    python -m benchmarks.roles.relay websockets | bare

`bare` is the second with one write to each socket in place of `broadcast`, and nothing else: what the kernel takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any

import anyio

from benchmarks.children import obey
from benchmarks.workload import KEY
from metered_proto.websocket import server_text_frame

PING_INTERVAL = 600.0
"""Seconds. Both ping, so that both pay for being able to, but not during a measurement: the crowd would not answer."""


async def ours(max_queue: int = 1 << 20) -> None:
    """`RelayServer`."""
    from metered_anyio.relay import Limits, RelayServer

    limits = Limits(message_rate=None, connects_per_minute=None, ping_interval=PING_INTERVAL, max_queue=max_queue)
    async with RelayServer(keys=[KEY], limits=limits) as relay:

        async def stats() -> Any:
            return relay.stats()

        await obey({"cpu": _cpu, "stats": stats}, relay.url)
        await relay.close()


async def websockets(*, bare: bool = False) -> None:
    """Welcomes, takes subscriptions, and broadcasts what is published to one channel. No names, rights or limits."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve
    from websockets.exceptions import ConnectionClosed

    subscribers: dict[ServerConnection, int] = {}
    """Connections and their descriptors."""

    def hand_out(text: str) -> None:
        if not bare:
            broadcast(subscribers, text)
            return
        frame = server_text_frame(text.encode())
        for descriptor in subscribers.values():
            os.write(descriptor, frame)

    async def guest(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await serve_guest(connection)

    async def serve_guest(connection: ServerConnection) -> None:
        await connection.send('{"type":"welcome","peerId":"peer_1","serverTime":0,"maxMessageSize":65536}')
        async for text in connection:
            frame = json.loads(text)
            if frame["type"] == "publish":
                message = {"type": "message", "channel": frame["channel"], "from": "peer_1", "data": frame["data"]}
                hand_out(json.dumps(message))
            elif frame["type"] == "ping":  # a publisher that had no turn for a while
                await connection.send('{"type":"pong"}')
                continue
            else:
                subscribers[connection] = connection.transport.get_extra_info("socket").fileno()
            await connection.send(json.dumps({"type": "ack", "requestId": frame["requestId"]}))

    async with serve(guest, "127.0.0.1", 0, backlog=4096, ping_interval=PING_INTERVAL, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await obey({"cpu": _cpu}, f"ws://127.0.0.1:{port}")


async def _cpu() -> float:
    return time.process_time()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["websockets"]:
            anyio.run(websockets)
        case ["bare"]:
            anyio.run(partial(websockets, bare=True))
        case ["ours", *more]:
            anyio.run(partial(ours, *map(int, more)))
        case words:
            raise SystemExit(f"no such relay: {words}")
