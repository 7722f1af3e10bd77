"""Five hundred subscribed clients and a relay that restarts: every one comes back, and not all in the same instant."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator

import anyio
import pytest
from adapter_kit import make_client, make_relay, nothing_left, until

from metered_anyio import Connected, Message, ReconnectOptions
from metered_anyio.relay import Limits

pytestmark = pytest.mark.anyio

SIZE = 500
LIMITS = Limits(connects_per_minute=None)


@pytest.fixture(autouse=True)
def room_for_sockets() -> Iterator[None]:
    """Both ends of every connection are in this process, and a plain user may have 1024 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("how", ["killed", "drained"])
async def test_a_fleet_survives_the_restart_of_its_relay(how: str) -> None:
    relay = make_relay(limits=LIMITS)
    await relay.start()
    port = relay.port
    # The defaults, so that what is measured is what one gets.
    clients = [make_client(relay.url, reconnect=ReconnectOptions()) for _ in range(SIZE)]
    came_back: list[float] = []
    heard: Counter[int] = Counter()

    def watch(number: int) -> None:
        clients[number].on(
            Connected, lambda event: came_back.append(anyio.current_time()) if event.is_reconnect else None
        )
        clients[number].on(Message, lambda event: heard.update([number]))

    async def board(number: int) -> None:
        watch(number)
        await clients[number].connect()
        await clients[number].subscribe(f"fleet/{number}/commands")
        await clients[number].subscribe("fleet/all")

    async with nothing_left(within=1):
        with anyio.fail_after(15):
            async with anyio.create_task_group() as group:
                for number in range(SIZE):
                    group.start_soon(board, number)
        gone = anyio.current_time()  # the first are told to go long before the last are gone
        if how == "killed":
            await relay.close()
        else:
            assert await relay.drain(retry_after_ms=500) == SIZE
        relay = make_relay(port=port, limits=LIMITS)
        await relay.start()

        await until(lambda: len(came_back) == SIZE, timeout=10)
        await until(lambda: relay.stats().channels == SIZE + 1, timeout=5)
        assert all(client.state == "connected" for client in clients)
        # 0.5 s give or take a fifth when it was killed; 0.5 s and up to a fifth more when it asked for that.
        waits = sorted(at - gone for at in came_back)
        assert waits[0] > 0.3
        spread = waits[SIZE * 9 // 10] - waits[SIZE // 10]
        assert spread > 0.05, spread
        crowd = max(Counter(int(wait / 0.05) for wait in waits).values())
        assert crowd < SIZE * 0.8, crowd

        for number in range(SIZE):
            assert await relay.publish(f"fleet/{number}/commands", "one") == 1
        assert await relay.publish("fleet/all", "two") == SIZE
        await until(lambda: heard.total() == 2 * SIZE, timeout=5)
        assert set(heard.values()) == {2}

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for client in clients:
                    group.start_soon(client.close)
        await relay.close()
