"""`enqueue`, `flush`, receipts and files: the outbox in a real client, at a relay that goes away and comes back."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from adapter_kit import KEY, QUICK, Cable, FakeServer, Guest, make_client, make_relay, nothing_left, told, until

from metered_anyio import (
    BatchOptions,
    Deduplicator,
    Delivered,
    Disconnected,
    Dropped,
    Event,
    Gap,
    Kept,
    Message,
    NotConnectedError,
    Outbox,
    OutboxFullError,
    OutboxStoreError,
    Outcome,
    OversizedPayloadError,
    Receipt,
    ReconnectOptions,
    Refused,
    SignallingClient,
    SignallingClientOptions,
    SignallingConnectError,
    StateChange,
)
from metered_anyio.outbox_store import SqliteStore
from metered_anyio.relay import Limits, PublishableKey, RelayServer
from metered_proto.client.envelope import KEY as ENVELOPE
from metered_proto.client.envelope import unseal

pytestmark = pytest.mark.anyio

FAST = Outbox(rate=None)
SLOWER = ReconnectOptions(initial_delay=0.25, max_delay=0.25, jitter_ratio=0)
"""So that those with `QUICK` are back first."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def device(url: str, outbox: Outbox = FAST, **options: Any) -> SignallingClient:
    return make_client(url, outbox=outbox, **options)


def held_open(path: Path) -> list[str]:
    """The descriptors of this process that have a file of an outbox."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


def data(events: list[Any]) -> list[Any]:
    return [event.data for event in events if isinstance(event, Message)]


class Tap:
    """A server that keeps what was published, out of its envelopes, and acknowledges it as long as it is open."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.publishes = 0
        self.redelivered: list[bool] = []
        self.waiting = 0
        self.open = True

    async def script(self, guest: Guest) -> None:
        await guest.enter()
        while True:
            frame = await guest.receive()
            if frame["type"] == "publish":
                self.publishes += 1
                for one in unseal(frame["data"]) or []:
                    self.published.append(one.data)
                    self.redelivered.append(one.redelivered)
            if self.open:
                await guest.send({"type": "ack", "requestId": frame["requestId"]})
            else:
                self.waiting += 1


class TestStates:
    async def test_idle_connected_and_closed(self) -> None:
        async with make_relay() as relay, make_client(relay.url, deduplicate=True) as listener:
            messages = told(listener, Message, Gap)
            await listener.subscribe("fleet")
            client = device(relay.url)
            early = [client.enqueue("fleet", number) for number in range(3)]
            assert client.state == "idle"
            assert not any(receipt.done() for receipt in early)
            async with client:
                late = client.enqueue("fleet", 3)
                assert [await receipt for receipt in (*early, late)] == [Delivered()] * 4
                await until(lambda: len(messages) == 4)
                assert data(messages) == [0, 1, 2, 3]
            with pytest.raises(NotConnectedError) as caught:
                client.enqueue("fleet", 4)
            assert caught.value.state == "closed"

    async def test_connecting(self) -> None:
        tap, gate = Tap(), anyio.Event()

        async def script(guest: Guest) -> None:
            await guest.asked()
            await gate.wait()
            answer, _ = guest.ws.accept()
            await guest.raw(answer)
            await guest.send({"type": "welcome", "peerId": "me", "expiresAt": None, "serverTime": 0})
            tap_guest = guest
            while True:
                frame = await tap_guest.receive()
                tap.published += [one.data for one in unseal(frame["data"]) or []]
                await guest.send({"type": "ack", "requestId": frame["requestId"]})

        async with FakeServer(script) as server, anyio.create_task_group() as group:
            client = device(server.url)
            group.start_soon(client.connect)
            await until(lambda: server.guests)
            assert client.state == "connecting"
            receipts = [client.enqueue("fleet", number) for number in range(3)]
            gate.set()
            assert [await receipt for receipt in receipts] == [Delivered()] * 3
            assert tap.published == [0, 1, 2]
            await client.close()

    async def test_reconnecting(self) -> None:
        async with make_relay() as relay:
            port = relay.port
            client = device(relay.url, reconnect=SLOWER)
            await client.connect()
            await relay.close()
            await until(lambda: client.state == "reconnecting")
            receipts = [client.enqueue("fleet", number) for number in range(3)]
        async with make_relay(port=port) as relay, make_client(relay.url, deduplicate=True) as listener:
            messages = told(listener, Message)
            await listener.subscribe("fleet")
            assert [await receipt for receipt in receipts] == [Delivered()] * 3
            await until(lambda: len(messages) == 3)
            assert data(messages) == [0, 1, 2]
            await client.close()

    async def test_without_an_outbox(self) -> None:
        async with make_relay() as relay, make_client(relay.url) as client:
            with pytest.raises(RuntimeError, match="without an outbox"):
                client.enqueue("fleet", 1)
            with pytest.raises(RuntimeError, match="without an outbox"):
                await client.flush()
            assert client.stats().outbox is None


def test_outside_of_an_event_loop_nothing_is_taken_in(path: Path) -> None:
    client = device("ws://127.0.0.1:1", Outbox(path=path))
    with pytest.raises(RuntimeError):
        client.enqueue("fleet", 1)
    stats = client.stats().outbox
    assert stats is not None
    assert stats.messages == 0

    async def close() -> None:
        await client.close()

    anyio.run(close)
    assert held_open(path) == []


@pytest.mark.parametrize("options", [{"outbox": {}}, {"outbox": Path("x")}, {"deduplicate": None}, {"deduplicate": 1}])
def test_bad_options(options: Any) -> None:
    with pytest.raises(TypeError, match=r"outbox|deduplicate"):
        SignallingClient(api_key=KEY, **options)
    with pytest.raises(TypeError, match=r"outbox|deduplicate"):
        SignallingClient(SignallingClientOptions(api_key=KEY, **options))


class TestReceipts:
    async def test_awaited_by_several_and_again(self) -> None:
        async with make_relay() as relay:
            client = device(relay.url)
            receipt = client.enqueue("fleet", 1)
            assert receipt.message_id
            assert repr(receipt) == f"<Receipt {receipt.message_id} pending>"
            outcomes: list[Outcome] = []

            async def wait() -> None:
                outcomes.append(await receipt)

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(wait)
                await client.connect()
            assert outcomes == [Delivered()] * 5
            assert await receipt == receipt.outcome == Delivered()
            assert receipt.done()
            assert "Delivered" in repr(receipt)
            await client.close()

    async def test_cancelled_it_goes_its_way_and_nothing_piles_up(self) -> None:
        async with make_relay() as relay:
            client = device(relay.url)
            receipt = client.enqueue("fleet", 1)
            for _ in range(20):
                with anyio.move_on_after(0.001):
                    await receipt
            assert receipt._waiters == []
            async with client, anyio.create_task_group() as group:
                group.start_soon(_wait_for, receipt)
                group.cancel_scope.cancel()
            assert await receipt == Delivered()

    async def test_nobody_has_to_keep_them(self) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server, device(server.url) as client:
            for number in range(50):
                client.enqueue("fleet", number)
            assert await client.flush(5)
            assert tap.published == list(range(50))

    async def test_refused(self) -> None:
        key = PublishableKey(KEY, patterns=("mine/*",))
        async with RelayServer(keys=[key], limits=Limits(connects_per_minute=None)) as relay, device(relay.url) as one:
            good, bad = one.enqueue("mine/1", 1), one.enqueue("yours/1", 1)
            assert await good == Delivered()
            outcome = await bad
            assert isinstance(outcome, Refused)
            assert outcome.code == "channel_not_authorized"


async def _wait_for(receipt: Receipt) -> None:
    await receipt


class TestFlush:
    async def test_nothing_to_wait_for(self) -> None:
        client = device("ws://127.0.0.1:1")
        for timeout in (None, 5, 0):
            assert await client.flush(timeout) is True
        await client.close()
        with pytest.raises(NotConnectedError):
            await client.flush()

    async def test_in_time_or_not(self) -> None:
        tap = Tap()
        tap.open = False
        async with FakeServer(tap.script) as server, device(server.url) as client:
            client.enqueue("fleet", 1)
            with anyio.fail_after(3):
                assert await client.flush(0.02) is False
                assert await client.flush(0) is False
            client.enqueue("fleet", 2)
            await until(lambda: tap.waiting == 2)
            tap.open = True
            await server.guests[0].send({"type": "ack", "requestId": "o1"})
            await server.guests[0].send({"type": "ack", "requestId": "o2"})
            assert await client.flush(5) is True

    async def test_closed_meanwhile(self) -> None:
        client = device("ws://127.0.0.1:1")
        client.enqueue("fleet", 1)
        ended: list[str] = []

        async def flush() -> None:
            with pytest.raises(NotConnectedError):
                await client.flush()
            ended.append("closed")

        async with anyio.create_task_group() as group:
            group.start_soon(flush)
            await anyio.sleep(0.01)
            await client.close()
        assert ended == ["closed"]

    async def test_waits_for_no_batch(self) -> None:
        tap = Tap()
        batch = BatchOptions(max_messages=100, max_delay=60)
        async with FakeServer(tap.script) as server, device(server.url, Outbox(rate=None, batch=batch)) as client:
            for number in range(10):
                client.enqueue("fleet", number)
            assert tap.publishes == 0
            assert await client.flush(5)
            assert tap.published == list(range(10))
            assert tap.publishes == 1


class TestLimits:
    async def test_drop_oldest(self) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server:
            client = device(server.url, Outbox(max_messages=3, rate=None))
            receipts = [client.enqueue("fleet", number) for number in range(5)]
            assert [receipt.outcome for receipt in receipts[:2]] == [Dropped("overflow")] * 2
            async with client:
                assert await client.flush(5)
            assert tap.published == [2, 3, 4]

    async def test_drop_newest(self) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server:
            client = device(server.url, Outbox(max_messages=3, overflow="drop_newest", rate=None))
            receipts = [client.enqueue("fleet", number) for number in range(5)]
            assert [receipt.outcome for receipt in receipts[3:]] == [Dropped("overflow")] * 2
            assert receipts[4].message_id is None
            assert await receipts[4] == Dropped("overflow")
            async with client:
                assert await client.flush(5)
            assert tap.published == [0, 1, 2]

    async def test_reject(self) -> None:
        client = device("ws://127.0.0.1:1", Outbox(max_messages=1, overflow="reject"))
        client.enqueue("fleet", 1)
        with pytest.raises(OutboxFullError) as caught:
            client.enqueue("fleet", 2)
        assert caught.value.messages == 1
        await client.close()

    async def test_by_bytes_and_over_the_whole(self) -> None:
        client = device("ws://127.0.0.1:1", Outbox(max_bytes=1000, overflow="reject"))
        client.enqueue("fleet", "x" * 500)
        with pytest.raises(OutboxFullError):
            client.enqueue("fleet", "x" * 500)
        with pytest.raises(OversizedPayloadError):
            client.enqueue("fleet", "x" * 1001)
        await client.close()

    async def test_max_age(self) -> None:
        client = device("ws://127.0.0.1:1", Outbox(max_age=0.05))
        receipt = client.enqueue("fleet", 1)
        with anyio.fail_after(3):
            assert await receipt == Dropped("expired")
        await client.close()

    async def test_over_the_servers_cap(self) -> None:
        relay_limits = Limits(connects_per_minute=None, message_rate=None, max_message_size=1000)
        async with make_relay(limits=relay_limits) as relay:
            client = device(relay.url)
            early = client.enqueue("fleet", "x" * 2000)
            async with client:
                outcome = await early
                assert isinstance(outcome, Refused)
                assert outcome.code == "oversized"
                with pytest.raises(OversizedPayloadError):
                    client.enqueue("fleet", "x" * 2000)
                assert await client.enqueue("fleet", "x" * 500) == Delivered()

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ((7, 1), TypeError),
            (("", 1), ValueError),
            (("a\x00", 1), ValueError),
            (("a", float("nan")), ValueError),
            (("a", object()), TypeError),
            (("a", {ENVELOPE: 1}), ValueError),
        ],
    )
    async def test_bad_arguments_take_up_nothing(self, arguments: Any, error: type[Exception]) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server, device(server.url) as client:
            with pytest.raises(error):
                client.enqueue(*arguments)
            with pytest.raises(error):
                client.enqueue("fleet", 1, message_id=7 if error is TypeError else "x" * 129)  # type: ignore[arg-type]
            assert await client.enqueue("fleet", 1) == Delivered()
            assert tap.published == [1]

    async def test_a_batch_is_one_message_to_the_relay(self) -> None:
        async with make_relay() as relay, make_client(relay.url, deduplicate=True) as listener:
            messages = told(listener, Message, Gap)
            await listener.subscribe("*")
            batch = BatchOptions(max_messages=25, max_delay=0.05)
            async with device(relay.url, Outbox(rate=None, batch=batch)) as client:
                for number in range(110):
                    client.enqueue("a" if number < 60 else "b", number)
                assert await client.flush(5)
                await until(lambda: len(messages) == 110)
                assert data(messages) == list(range(110))
                assert relay.stats().messages_in == 5
                stats = client.stats().outbox
                assert stats is not None
                assert stats.counters.publishes == 5
                assert stats.counters.delivered == 110

    async def test_a_message_id_of_ones_own(self) -> None:
        async with make_relay() as relay:
            plain, wise = make_client(relay.url), make_client(relay.url, deduplicate=True)
            async with plain, wise, device(relay.url) as client:
                raw, messages = told(plain, Message), told(wise, Message, Gap)
                await plain.subscribe("fleet")
                await wise.subscribe("fleet")
                receipts = [client.enqueue("fleet", {"n": number}, message_id="order-77") for number in range(2)]
                assert [receipt.message_id for receipt in receipts] == ["order-77"] * 2
                client.enqueue("fleet", {"n": 2})
                assert await client.flush(5)
                await until(lambda: len(raw) == 3 and len(messages) == 2)
                assert [event.data[ENVELOPE]["id"] for event in raw][:2] == ["order-77"] * 2
                assert data(messages) == [{"n": 0}, {"n": 2}], "enqueued twice under one id, it is one message"


class TestPace:
    async def pour(self, count: int, outbox: Outbox, rate: float, burst: int) -> float:
        """Enqueue everything at once; returns how many seconds it took to be delivered."""
        limits = Limits(connects_per_minute=None, message_rate=rate, message_burst=burst)
        async with make_relay(limits=limits) as relay:
            listener, client = make_client(relay.url, deduplicate=True), device(relay.url, outbox)
            async with listener, client:
                messages = told(listener, Message, Gap)
                lost = told(client, Disconnected)
                await listener.subscribe("fleet")
                began = anyio.current_time()
                for number in range(count):
                    client.enqueue("fleet", number)
                assert await client.flush(30)
                took = anyio.current_time() - began
                await until(lambda: len(messages) == count)
                assert data(messages) == list(range(count))
                assert lost == []
                assert relay.stats().closed == {}
                return took

    async def test_a_thousand_at_once_at_ten_times_the_rate(self) -> None:
        took = await self.pour(1000, Outbox(rate=900, burst=100), 1000, 200)
        assert took >= 0.95

    @pytest.mark.slow
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_a_thousand_at_once_under_the_limits_of_the_service(self) -> None:
        took = await self.pour(1000, Outbox(), 100, 200)
        assert 9.5 < took < 15


class TestComingBack:
    async def test_a_connection_that_is_cut_again_and_again(self) -> None:
        """Nothing is lost, repeats are marked, and whoever wants to hears each message once."""
        async with make_relay() as relay, Cable(relay.port) as cable:
            wise, plain = make_client(relay.url, deduplicate=True), make_client(relay.url)
            client = device(cable.url, Outbox(rate=None, window=8))
            async with wise, plain, client:
                messages, raw = told(wise, Message, Gap), told(plain, Message)
                for listener in (wise, plain):
                    await listener.subscribe("fleet")
                for number in range(400):
                    client.enqueue("fleet", number)
                    if number % 100 == 50:
                        await anyio.sleep(0.005)
                        await cable.cut()
                    await anyio.lowlevel.checkpoint()
                assert await client.flush(10)
                await until(lambda: len(messages) >= 400)
                assert data(messages) == list(range(400))
                seen: set[str] = set()
                for event in raw:
                    stamp = event.data[ENVELOPE]
                    assert stamp["id"] not in seen or stamp.get("redelivered"), "an unmarked repeat"
                    seen.add(stamp["id"])
                stats = client.stats()
                assert stats.reconnects >= 1
                assert stats.outbox is not None
                assert stats.outbox.counters.delivered == 400

    async def test_a_relay_that_is_restarted_in_the_middle(self) -> None:
        relay = make_relay()
        await relay.start()
        port = relay.port
        wise = make_client(relay.url, deduplicate=True)
        client = device(relay.url, Outbox(rate=None, window=4), reconnect=SLOWER)
        async with wise, client:
            messages = told(wise, Message, Gap)
            await wise.subscribe("fleet")
            receipts = []
            for number in range(300):
                receipts.append(client.enqueue("fleet", number))
                if number == 150:
                    await relay.close()
                if number == 250:
                    relay = make_relay(port=port)
                    await relay.start()
                await anyio.sleep(0.0005)
            assert await client.flush(10)
            assert [receipt.outcome for receipt in receipts] == [Delivered()] * 300
            await until(lambda: len(messages) >= 300)
            assert data(messages) == list(range(300))
        await relay.close()

    async def test_what_came_while_nobody_listened_is_told_as_a_gap(self) -> None:
        async with make_relay() as relay, device(relay.url) as client:
            async with make_client(relay.url, deduplicate=True) as listener:
                messages = told(listener, Message, Gap)
                await listener.subscribe("fleet")
                await client.enqueue("fleet", 1)
                await until(lambda: messages)
                await listener.unsubscribe("fleet")
                for number in (2, 3):
                    await client.enqueue("fleet", number)
                await listener.subscribe("fleet")
                await client.enqueue("fleet", 4)
                await until(lambda: len(messages) == 3)
                assert messages[1] == Gap("fleet", str(client.peer_id), 2)
                assert data(messages) == [1, 4]

    async def test_a_deduplicator_may_outlive_a_client(self) -> None:
        memory = Deduplicator()
        tap: list[Any] = []
        async with make_relay() as relay, device(relay.url) as client:
            for _ in range(2):
                async with make_client(relay.url, deduplicate=memory) as listener:
                    listener.on(Event, tap.append)
                    await listener.subscribe("fleet")
                    await client.enqueue("fleet", 1)
                    await until(lambda: data(tap))
            assert memory.repeats == 0
            assert not [event for event in tap if isinstance(event, Gap)]


class TestFiles:
    async def test_the_next_client_sends_what_is_left_in_order(self, path: Path) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server:
            first = device(server.url, Outbox(path=path, rate=None, window=2))
            tap.open = False
            async with first:
                receipts = [first.enqueue("fleet", number) for number in range(5)]
                await until(lambda: tap.waiting == 2)
            assert [receipt.outcome for receipt in receipts] == [Kept()] * 5
            tap.open = True
            tap.published.clear()
            tap.redelivered.clear()
            second = device(server.url, Outbox(path=path, rate=None))
            stats = second.stats().outbox
            assert stats is not None
            assert stats.messages == 5
            second.enqueue("fleet", 5)
            async with second:
                assert await second.flush(5)
            assert tap.published == [0, 1, 2, 3, 4, 5]
            assert tap.redelivered == [True] * 5 + [False]
            third = device(server.url, Outbox(path=path))
            stats = third.stats().outbox
            assert stats is not None
            assert stats.messages == 0
            await third.close()

    async def test_one_client_at_a_time(self, path: Path) -> None:
        first = device("ws://127.0.0.1:1", Outbox(path=path))
        with pytest.raises(OutboxStoreError) as caught:
            device("ws://127.0.0.1:1", Outbox(path=str(path)))
        assert caught.value.code == "in_use"
        await first.close()
        assert held_open(path) == []
        second = device("ws://127.0.0.1:1", Outbox(path=path))
        await second.close()

    async def test_a_client_that_nobody_closed_does_not_hold_the_file_for_ever(self, path: Path) -> None:
        def abandon() -> None:
            SqliteStore(path).load()
            gc.collect()

        with pytest.warns(ResourceWarning, match="nobody closed the outbox .*outbox.db"):
            abandon()
        again = SqliteStore(path)
        again.load()
        again.close()

    async def test_a_client_that_cannot_be_entered_lets_go_of_the_file(self, path: Path) -> None:
        """Trying again with a new client, as a device does."""
        for attempt in range(3):
            client = device("ws://127.0.0.1:1", Outbox(path=path))
            receipt = client.enqueue("fleet", attempt)
            with pytest.raises(SignallingConnectError):
                async with client:
                    pass
            assert receipt.outcome == Kept()
            assert client.state == "closed"
        tap = Tap()
        async with FakeServer(tap.script) as server, device(server.url, Outbox(path=path)) as client:
            assert await client.flush(5)
        assert tap.published == [0, 1, 2]

    async def test_a_connect_that_fails_keeps_it(self, path: Path) -> None:
        client = device("ws://127.0.0.1:1", Outbox(path=path))
        with pytest.raises(SignallingConnectError):
            await client.connect()
        assert client.state == "idle"
        client.enqueue("fleet", 1)
        await client.close()

    @pytest.mark.parametrize("how", ["close", "final code", "in a handler", "cancelled", "never connected"])
    async def test_every_end_closes_the_file(self, path: Path, how: str) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server, nothing_left(within=2):
            client = device(server.url, Outbox(path=path, rate=None))
            states = told(client, StateChange)
            client.enqueue("fleet", 1)
            if how != "never connected":
                await client.connect()
                assert await client.flush(5)
            assert held_open(path)
            match how:
                case "final code":
                    await server.guests[0].raw(server.guests[0].ws.close(4020))
                case "in a handler":

                    @client.on(Disconnected)
                    async def handler(_: Disconnected) -> None:
                        await client.close()

                    await client.close()
                case "cancelled":
                    with anyio.CancelScope() as scope:
                        scope.cancel()
                        await client.close()
                case _:
                    await client.close()
            await until(lambda: states and states[-1].to == "closed")
            await until(lambda: not held_open(path))

    async def test_what_a_handler_enqueues_at_the_very_end_is_kept_or_refused(self, path: Path) -> None:
        client = device("ws://127.0.0.1:1", Outbox(path=path))
        outcomes: list[object] = []

        @client.on(StateChange)
        def handler(change: StateChange) -> None:
            try:
                outcomes.append(client.enqueue("fleet", change.to))
            except NotConnectedError as error:
                outcomes.append(error.state)

        await client.close()
        assert outcomes == ["closed"]
        assert held_open(path) == []

    async def test_a_file_that_takes_no_more(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server, device(server.url, Outbox(path=path, rate=None)) as client:

            def full(*_: object) -> None:
                raise OutboxStoreError("full", str(path), "no space left")

            with monkeypatch.context() as patch:
                patch.setattr(SqliteStore, "keep_many", full)
                with pytest.raises(OutboxStoreError):
                    client.enqueue("fleet", 1)
            assert await client.enqueue("fleet", 2) == Delivered()
            assert await client.flush(5)
            assert tap.published == [2]
            stats = client.stats().outbox
            assert stats is not None
            assert (stats.messages, stats.bytes) == (0, 0)

    async def test_acknowledged_messages_leave_the_file_without_being_asked(self, path: Path) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server, device(server.url, Outbox(path=path, rate=None)) as client:
            for number in range(20):
                client.enqueue("fleet", number)
            assert await client.flush(5)
            assert isinstance(client._store, SqliteStore)
            connection = client._store._connection
            assert connection is not None
            await until(lambda: connection.execute("SELECT count(*) FROM entries").fetchall() == [(0,)])


class TestFromWithin:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_a_handler_may_enqueue(self, kind: str) -> None:
        async with make_relay() as relay, make_client(relay.url, deduplicate=True) as listener:
            messages = told(listener, Message, Gap)
            await listener.subscribe("out")
            async with device(relay.url) as client:
                receipts: list[Receipt] = []

                def forward(event: Message) -> None:
                    receipts.append(client.enqueue("out", event.data))

                async def forward_slowly(event: Message) -> None:
                    forward(event)
                    await receipts[-1]

                if kind == "sync":
                    client.on(Message, forward)
                else:
                    client.on(Message, forward_slowly)
                await client.subscribe("in")
                for number in range(50):
                    await listener.publish("in", number)
                await until(lambda: len(messages) == 50)
                assert data(messages) == list(range(50))
                assert await client.flush(5)

    async def test_a_handler_of_the_state_may_enqueue(self) -> None:
        tap = Tap()
        async with FakeServer(tap.script) as server:
            client = device(server.url, Outbox(rate=None))
            client.on(StateChange, lambda change: change.to == "closed" or client.enqueue("fleet", change.to))
            async with client:
                assert await client.flush(5)
                assert tap.published == ["connecting", "connected"]


async def test_five_thousand_in_order_over_a_real_relay() -> None:
    """The window closes and opens many times over."""
    async with make_relay() as relay, make_client(relay.url, deduplicate=True) as listener:
        messages = told(listener, Message, Gap)
        await listener.subscribe("fleet")
        async with device(relay.url, Outbox(rate=None)) as client:
            for number in range(5000):
                client.enqueue("fleet", number)
            assert await client.flush(20)
            await until(lambda: len(messages) == 5000)
            assert data(messages) == list(range(5000))
            stats = client.stats().outbox
            assert stats is not None
            assert (stats.messages, stats.bytes, stats.in_flight) == (0, 0, 0)


async def test_cancelling_a_flush_at_any_moment_leaves_the_client_whole() -> None:
    tap = Tap()
    async with FakeServer(tap.script) as server, nothing_left(), device(server.url) as client:
        for passes in range(15):
            client.enqueue("fleet", passes)
            await _cancelled_after(passes, client.flush)
            with anyio.fail_after(2):
                assert await client.flush() is True
        assert tap.published == list(range(15))


async def _cancelled_after(passes: int, call: Callable[[], Awaitable[object]]) -> None:
    async def run() -> None:
        await call()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(passes):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


def test_quick_is_quicker() -> None:
    """What the restarts above rely on."""
    assert QUICK.max_delay < SLOWER.initial_delay
