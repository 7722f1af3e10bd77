"""What client and relay count, and what they log: every field, every change of state, and silence unless asked."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import msgspec
import pytest
from adapter_kit import KEY, SECRET, FakeServer, Guest, Stranger, make_client, make_relay, told, until

from metered_anyio import (
    ClientStats,
    Message,
    Outbox,
    OutboxStats,
    ReconnectOptions,
    ServerRequestError,
    SignallingClient,
    StateChange,
    StdlibLogger,
)
from metered_anyio.relay import Limits, RelayServer
from metered_proto.client.outbox import OutboxCounters
from metered_proto.relay import Stats

pytestmark = pytest.mark.anyio


def fields(struct: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


class TestTheClient:
    async def test_before_anything_happened(self) -> None:
        client = SignallingClient(api_key=KEY, url="ws://127.0.0.1:1")
        assert client.stats() == ClientStats(
            state="idle",
            connects=0,
            reconnects=0,
            requests=0,
            in_flight=0,
            ack_p50=None,
            ack_p99=None,
            frames_in=0,
            bytes_in=0,
            bytes_out=0,
            queued_bytes=0,
            malformed_frames=0,
            server_errors=0,
            dropped_events=0,
            outbox=None,
        )
        await client.close()
        assert client.stats().state == "closed"

    async def test_every_field(self) -> None:
        checked: set[str] = set()

        def check(stats: Any, **expected: Any) -> None:
            for name, value in expected.items():
                assert getattr(stats, name) == value, name
                checked.add(name)

        gate = anyio.Event()

        async def script(guest: Guest) -> None:
            await guest.enter()
            while True:
                frame = await guest.receive()
                if frame["data"] == "stall":
                    await gate.wait()
                elif frame["data"] == "wait":
                    pass
                elif frame["data"] == "go":
                    await guest.stream.aclose()
                    return
                elif frame["data"] == "talk":
                    await guest.raw(guest.ws.frame(b"nonsense"))
                    await guest.send({"type": "error", "code": "internal_error"})
                    await guest.send({"type": "message", "channel": "room", "from": "x", "data": 1})
                    await guest.send({"type": "message", "channel": "room", "from": "x", "data": 2})
                if "requestId" in frame and frame["data"] != "wait":
                    await guest.send({"type": "ack", "requestId": frame["requestId"]})

        async with FakeServer(script) as server, make_client(server.url) as client:
            stream = client.events(Message, maxsize=1)
            check(client.stats(), state="connected", connects=1, reconnects=0, requests=1, frames_in=1)
            await client.publish("room", "talk")
            await until(lambda: client.stats().frames_in == 6)
            check(client.stats(), requests=2, malformed_frames=1, server_errors=1, dropped_events=1, in_flight=0)
            stats = client.stats()
            assert stats.ack_p50 is not None
            assert stats.ack_p99 is not None
            assert 0 < stats.ack_p50 <= stats.ack_p99 < 2
            assert stats.bytes_in > 400
            assert stats.bytes_out > 200
            checked |= {"ack_p50", "ack_p99", "bytes_in", "bytes_out"}
            await stream.aclose()
            async with anyio.create_task_group() as group:
                group.start_soon(client.publish, "room", "wait")
                await until(lambda: client.stats().in_flight == 1)
                check(client.stats(), in_flight=1)
                group.cancel_scope.cancel()
            async with anyio.create_task_group() as group:
                group.start_soon(client.publish, "room", "stall")
                await anyio.sleep(0.01)
                for _ in range(200):
                    with anyio.move_on_after(0.05) as scope:
                        await client.publish("room", "x" * 60_000, ack=False)
                    if scope.cancelled_caught:
                        break
                assert client.stats().queued_bytes > 0
                gate.set()
            await until(lambda: client.stats().queued_bytes == 0)
            checked.add("queued_bytes")
            await client.publish("room", "go", ack=False)
            await until(lambda: client.stats().reconnects)
            check(client.stats(), connects=2, reconnects=1, state="connected", outbox=None)
            assert checked == fields(ClientStats)

    async def test_every_field_of_the_outbox(self) -> None:
        refusals = iter(["internal_error", "invalid_channel"])

        async def script(guest: Guest) -> None:
            await guest.enter()
            while True:
                frame = await guest.receive()
                if frame["channel"] == "bad" and (code := next(refusals, None)):
                    await guest.send({"type": "error", "code": code, "requestId": frame["requestId"]})
                elif frame["channel"] != "never":
                    await guest.send({"type": "ack", "requestId": frame["requestId"]})

        async with FakeServer(script) as server:
            client = make_client(server.url, outbox=Outbox(max_messages=2, rate=None))
            for number in range(3):
                client.enqueue("good", number)
            stats = client.stats().outbox
            assert stats is not None
            assert (stats.messages, stats.in_flight) == (2, 0)
            assert stats.bytes > 100
            assert stats.counters == OutboxCounters(dropped=1)
            async with client:
                assert await client.flush(5)
                stats = client.stats().outbox
                assert stats == OutboxStats(0, 0, 0, OutboxCounters(delivered=2, dropped=1, publishes=2))
                client.enqueue("bad", 1)
                assert await client.flush(5)
                stats = client.stats().outbox
                assert stats is not None
                expected = OutboxCounters(delivered=2, dropped=1, refused=1, redelivered=1, publishes=4, pauses=1)
                assert stats.counters == expected
                client.enqueue("never", 1)
                await until(lambda: client._queue is not None and client._queue.in_flight)
                stats = client.stats().outbox
                assert stats is not None
                assert (stats.messages, stats.in_flight) == (1, 1)
                assert stats.counters is not client._queue.counters, "a copy"  # type: ignore[union-attr]
                assert client.stats().ack_p50 is not None, "the outbox's acknowledgements are counted too"
        assert fields(OutboxStats) == {"messages", "bytes", "in_flight", "counters"}
        assert fields(OutboxCounters) == {"delivered", "dropped", "refused", "redelivered", "publishes", "pauses"}

    async def test_it_can_be_written_down(self) -> None:
        async with make_relay() as relay, make_client(relay.url, outbox=Outbox()) as client:
            await client.publish("room", 1)
            document = msgspec.json.decode(msgspec.json.encode(client.stats()))
            assert document["state"] == "connected"
            assert document["outbox"]["counters"]["delivered"] == 0
            assert msgspec.json.encode(relay.stats())


class TestTheRelay:
    def test_not_before_it_was_started(self) -> None:
        with pytest.raises(RuntimeError, match="not been started"):
            make_relay().stats()

    async def test_every_field(self) -> None:
        limits = Limits(
            connects_per_minute=None, message_rate=None, ping_interval=1, pong_timeout=1, max_queue=10_000_000
        )
        checked: set[str] = set()

        def check(stats: Stats, **expected: Any) -> None:
            for name, value in expected.items():
                assert getattr(stats, name) == value, name
                checked.add(name)

        async with make_relay(limits=limits) as relay:
            check(relay.stats(), connections=0, peers=0, channels=0, welcomed=0, wire_bytes_in=0, wire_bytes_out=0)
            check(relay.stats(), ping_p50=None, ping_p99=None, blocked=0, queued_bytes=0)
            async with make_client(relay.url) as listener, make_client(relay.url) as client:
                heard = told(listener, Message)
                await listener.subscribe("room")
                await client.publish("room", "1234")
                with pytest.raises(ServerRequestError):
                    await client.send("nobody", 1)
                await until(lambda: heard)
                check(relay.stats(), connections=2, peers=2, channels=1, welcomed=2, frames_in=3)
                check(relay.stats(), messages_in=1, bytes_in=6, messages_out=1, errors={"peer_not_found": 1})
                assert relay.stats().bytes_out > 50
                assert relay.stats().wire_bytes_in > 500
                assert relay.stats().wire_bytes_out > 600
                await until(lambda: relay.stats().ping_p50)
                stats = relay.stats()
                assert stats.ping_p50 is not None
                assert stats.ping_p99 is not None
                assert 0 < stats.ping_p50 <= stats.ping_p99 < 2

                stranger = await Stranger.connect(relay.url, "/nowhere")
                check(relay.stats(), refused={404: 1})
                await stranger.aclose()
                stranger = await Stranger.connect(relay.url, "/v1?key=pk_live_bad")
                await stranger.drained()
                check(relay.stats(), closed={4001: 1})
                await stranger.aclose()
                stranger = await Stranger.connect(relay.url)
                await stranger.raw(stranger.ws.frame(b"nonsense"))
                await until(lambda: relay.stats().malformed)
                check(relay.stats(), malformed=1)
                await stranger.send({"type": "subscribe", "channel": "flood", "requestId": "1"})
                await until(lambda: relay.stats().channels == 2)
                blocked = 0
                for _ in range(2000):
                    await client.publish("flood", "x" * 60_000, ack=False)
                    stats = relay.stats()
                    blocked += stats.blocked == 1 and 0 < stats.queued_bytes <= 11_000_000
                    if stats.slow_consumers:
                        break
                assert blocked > 0
                check(relay.stats(), slow_consumers=1, blocked=0, queued_bytes=0)
                await stranger.aclose()
            checked.add("bytes_out")
            assert checked == fields(Stats)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def _line(self, level: str) -> Any:
        return lambda msg, ctx=None: self.lines.append((level, msg, dict(ctx or {})))

    def __getattr__(self, level: str) -> Any:
        return self._line(level)


class TestLogs:
    async def test_every_change_of_state_at_info(self) -> None:
        log = Log()
        async with make_relay() as relay:
            client = make_client(relay.url, logger=log)
            changes = told(client, StateChange)
            await client.connect()
            port = relay.port
            await relay.close()
            await until(lambda: client.state == "reconnecting")
            async with make_relay(port=port):
                await until(lambda: client.state == "connected")
                await client.close()
        states = [ctx for level, msg, ctx in log.lines if (level, msg) == ("info", "state")]
        assert states == [{"from": change.from_, "to": change.to} for change in changes]
        assert [state["to"] for state in states] == ["connecting", "connected", "reconnecting", "connected", "closed"]

    async def test_quiet_by_default(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        caplog.set_level(logging.DEBUG)
        async with RelayServer(keys=[KEY], secrets=[SECRET]) as relay, make_client(relay.url) as client:
            await client.publish("room", 1)
        records = [record for record in caplog.records if record.name.startswith("metered")]
        assert records == []
        assert capfd.readouterr() == ("", "")

    async def test_who_speaks_can_be_told_by_the_logger(self, caplog: pytest.LogCaptureFixture) -> None:
        """What machines note goes to `metered_proto`, what the adapter has to say to `metered_anyio`."""
        caplog.set_level(logging.DEBUG)
        async with make_relay(logger=StdlibLogger()) as relay, make_client(relay.url, logger=StdlibLogger()) as client:

            @client.on(Message)
            def fail(_: Message) -> None:
                raise ValueError("oh")

            await client.subscribe("room")
            await relay.publish("room", 1)
            await until(lambda: "a handler raised" in caplog.text)
        said = {(record.name, record.levelname, record.getMessage().split(" ")[0]) for record in caplog.records}
        assert ("metered_proto", "INFO", "state") in said
        assert ("metered_proto", "DEBUG", "welcome") in said
        assert ("metered_proto", "INFO", "draining") in said
        assert ("metered_anyio", "INFO", "listening") in said
        assert ("metered_anyio", "INFO", "no") in said
        assert ("metered_anyio", "ERROR", "a") in said
        assert {name for name, _, _ in said if name.startswith("metered")} == {"metered_proto", "metered_anyio"}

    async def test_a_logger_of_ones_own_gets_all_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with make_relay(logger=StdlibLogger("mine.relay")) as relay:
            async with make_client(relay.url, logger=StdlibLogger(logging.getLogger("mine.client"))):
                pass
        names = {record.name for record in caplog.records}
        assert {"mine.relay", "mine.client"} <= names
        assert not [name for name in names if name.startswith("metered")]

    async def test_with_nothing_configured_the_standard_library_shows_warnings_only(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As with any library: its state changes are there once somebody asks for INFO."""
        caplog.set_level(logging.WARNING)
        reconnect = ReconnectOptions(initial_delay=0.02, jitter_ratio=0)
        async with make_relay() as relay:
            client = make_client(relay.url, logger=StdlibLogger(), reconnect=reconnect)
            await client.connect()
            await relay.kick(str(client.peer_id))
            await until(lambda: client.state == "closed")
        levels = {record.levelname for record in caplog.records if record.name.startswith("metered")}
        assert levels == {"ERROR"}
        caplog.clear()  # it was expected
