"""`virtual_room`: applications as they are, in a box, in virtual time, on both event loops."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from metered_anyio import (
    DataChannel,
    DataChannelOpened,
    DCClose,
    DCMessage,
    Delivered,
    Disconnected,
    Joined,
    MediaStream,
    Message,
    MeteredPeer,
    Outbox,
    PeerJoined,
    PeerLeft,
    ReconnectOptions,
    SignallingClient,
    SignallingConnectError,
    StateChange,
    StreamRemoved,
    Track,
)
from metered_anyio.stand_in import stand_in_for
from metered_anyio.testing import VirtualRoom, run_virtual, virtual_backend, virtual_room

pytestmark = pytest.mark.anyio
HOUR = 3600.0
FOR_EVER = ReconnectOptions(max_attempts=math.inf)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual_backend(request.param)


@pytest.fixture
async def box() -> AsyncIterator[VirtualRoom]:
    async with virtual_room(latency=0.02) as box:
        yield box


def client(box: VirtualRoom, **options: Any) -> SignallingClient:
    options.setdefault("url", box.url)
    return SignallingClient(api_key=box.api_key, reconnect=FOR_EVER, **options)


def peer(box: VirtualRoom, name: str, **options: Any) -> MeteredPeer:
    options.setdefault("url", box.url)
    return MeteredPeer(token_provider=box.token_provider(name), reconnect=FOR_EVER, **options)


def told(teller: Any, kind: type[Any]) -> list[Any]:
    events: list[Any] = []
    teller.on(kind, events.append)
    return events


async def until(condition: Any, seconds: float = 60.0) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - it is the clock that is waited for
            await anyio.sleep(0.05)


# --- clients ---


async def test_an_outage_of_ten_hours(box: VirtualRoom) -> None:
    started = time.monotonic()
    async with client(box, outbox=Outbox()) as device, client(box, deduplicate=True) as backend:
        readings = told(backend, Message)
        states = told(device, StateChange)
        await backend.subscribe("fleet/*/telemetry")
        async with anyio.create_task_group() as group:
            group.start_soon(box.outage, 10 * HOUR)
            await anyio.sleep(HOUR)
            receipt = device.enqueue("fleet/sensor-42/telemetry", {"temp": 21.5})
            assert await receipt == Delivered()
            # The longest pause of the ladder is 30 s, give or take a fifth.
            assert 10 * HOUR < box.now < 10 * HOUR + 40
        await until(lambda: readings)
    assert [reading.data for reading in readings] == [{"temp": 21.5}]
    assert [change.to for change in states] == ["reconnecting", "connected", "closed"]
    assert box.traffic()["room.invalid"].refused > 2 * 10 * HOUR / 36
    assert time.monotonic() - started < 20, "it is well under a second, but for a loaded machine"


async def test_a_connection_that_is_dead_and_does_not_say_so_is_found_out(box: VirtualRoom) -> None:
    async with client(box) as device:
        ends = told(device, Disconnected)
        cut_at = box.now
        await box.cut(silently=True)
        await until(lambda: ends, 200)
        assert 30 <= box.now - cut_at <= 100, "the heartbeat found out, and not the network"
        await anyio.sleep(HOUR)
        assert device.state == "reconnecting"
        await box.heal()
        await until(lambda: device.state == "connected")


async def test_a_short_silence_loses_nothing(box: VirtualRoom) -> None:
    async with client(box) as device, client(box) as backend:
        messages = told(backend, Message)
        await backend.subscribe("room")
        await box.cut(silently=True)
        async with anyio.create_task_group() as group:
            group.start_soon(device.publish, "room", 1)
            await anyio.sleep(4)
            assert not messages
            await box.heal()
        await until(lambda: messages)
        assert device.state == backend.state == "connected"


@pytest.mark.parametrize("drain", [False, True])
async def test_the_relay_starts_again(box: VirtualRoom, drain: bool) -> None:
    async with client(box) as device, client(box) as backend:
        ends = told(device, Disconnected)
        messages = told(backend, Message)
        await backend.subscribe("room")
        await box.restart_relay(3.0, drain=drain)
        await until(lambda: device.state == backend.state == "connected")
        assert ends[0].code == (4503 if drain else 1006) or drain
        await anyio.sleep(1)
        await device.publish("room", 1)
        await until(lambda: messages)
        assert box.stats().connections == 2


async def test_one_path_is_cut_and_the_other_is_not(box: VirtualRoom) -> None:
    train = box.path("train", latency=0.4)
    assert box.path("train") is train
    async with client(box, url=train.url) as device, client(box) as backend:
        assert train.traffic.connections == 1
        began = box.now
        await device.publish("room", 1)
        assert box.now - began == pytest.approx(0.8, abs=0.01)
        await train.cut()
        await anyio.sleep(60)
        assert (device.state, backend.state) == ("reconnecting", "connected")
        await train.heal()
        await until(lambda: device.state == "connected")
        ends = told(backend, Disconnected)
        await box.drop()
        await until(lambda: ends and device.state == backend.state == "connected")
    with pytest.raises(ValueError, match="letters"):
        box.path("a.b")


async def test_a_tunnel_without_a_relay_refuses(box: VirtualRoom) -> None:
    await box.cut()
    with pytest.raises(SignallingConnectError, match="refused"):
        async with client(box):
            pass


async def test_tokens_are_judged_by_the_clock_of_the_box(box: VirtualRoom) -> None:
    provider = box.token_provider("sensor-42", expires_in=60)
    async with SignallingClient(token_provider=provider, url=box.url, reconnect=FOR_EVER) as device:
        ends = told(device, Disconnected)
        await anyio.sleep(5 * HOUR)
        await until(lambda: device.state == "connected")
        assert device.peer_id == "sensor-42"
        assert {end.code for end in ends} == {4002}
        assert 280 < len(ends) < 320


async def test_more_than_the_path_holds_waits_until_it_is_read(box: VirtualRoom) -> None:
    async with client(box) as device, client(box) as backend:
        messages = told(backend, Message)
        await backend.subscribe("room")
        await box.cut(silently=True)
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(device.publish, "room", [number, "x" * 30_000])
            await anyio.sleep(2)
            await box.heal()
        await until(lambda: len(messages) == 40)
        assert sorted(message.data[0] for message in messages) == list(range(40))


async def test_what_a_thread_does_is_waited_for(anyio_backend: Any) -> None:
    if anyio_backend[0] == "trio":
        pytest.skip("trio's clock goes on while a thread works")
    async with virtual_room() as box:
        with anyio.fail_after(0.01):
            await anyio.to_thread.run_sync(time.sleep, 0.1)
        assert box.now < 0.01


async def test_the_url_that_is_built_in() -> None:
    async with virtual_room(url="wss://rms.metered.ca") as box:
        async with SignallingClient(api_key=box.api_key) as device:
            assert device.peer_id
        with pytest.raises(ValueError, match="already"):
            async with virtual_room(url="wss://rms.metered.ca"):
                pass
    assert stand_in_for("wss://rms.metered.ca") is None


async def test_another_kind_of_url() -> None:
    for url in ("ws://room.invalid", "wss://room.invalid/v1", "wss://", "room"):
        with pytest.raises(ValueError, match="wss://HOST"):
            async with virtual_room(url=url):
                pass
    assert stand_in_for("wss://room.invalid") is None


async def _course(seed: int) -> list[tuple[float, str]]:
    async with virtual_room(seed=seed, latency=0.01, jitter=0.2) as box, client(box) as device:
        changes: list[tuple[float, str]] = []
        device.on(StateChange, lambda change: changes.append((round(box.now, 6), change.to)))
        for _ in range(5):
            await box.outage(100)
            await anyio.sleep(100)
        return changes


def test_the_same_seed_is_the_same_course_on_both_loops() -> None:
    first = run_virtual(_course, 1)
    assert [to for _, to in first] == ["reconnecting", "connected"] * 5 + ["closed"]
    assert first == run_virtual(_course, 1) == run_virtual(_course, 1, backend="trio")
    assert first != run_virtual(_course, 2)


def test_another_backend() -> None:
    with pytest.raises(ValueError, match="asyncio or trio"):
        virtual_backend("curio")  # type: ignore[arg-type]


# --- rooms ---


async def test_a_room_with_a_data_channel(box: VirtualRoom) -> None:
    async with peer(box, "ada") as ada, peer(box, "bob") as bob:
        joined = told(ada, Joined)
        came = told(ada, PeerJoined)
        await ada.join("room-42")
        await bob.join("room-42")
        await until(lambda: came)
        assert joined[0].peer_id == "ada"
        texts: list[str | bytes] = []

        @came[0].peer.on(DataChannelOpened)
        def on_channel(event: DataChannelOpened) -> None:
            DataChannel(event.channel).on(DCMessage, lambda message: texts.append(message.data))

        (remote,) = bob.remote_peers
        channel = DataChannel(remote.create_data_channel("chat"))
        await channel.send("hello")
        await channel.send(b"bytes")
        await until(lambda: len(texts) == 2)
        assert texts == ["hello", b"bytes"]
        assert remote.state == "connected"
        left = told(ada, PeerLeft)
    assert left or ada.state == "closed"


async def in_one_room(box: VirtualRoom, *peers: MeteredPeer) -> None:
    for each in peers:
        await each.join("room-42")
    await until(lambda: all(len(each.remote_peers) == len(peers) - 1 for each in peers))


async def connected(box: VirtualRoom, one: MeteredPeer, other: MeteredPeer) -> tuple[DataChannel, list[str | bytes]]:
    """A data channel from one to the other, and what comes there."""
    texts: list[str | bytes] = []
    (theirs,) = (remote for remote in other.remote_peers if remote.id == one.peer_id)

    @theirs.on(DataChannelOpened)
    def on_channel(event: DataChannelOpened) -> None:
        DataChannel(event.channel).on(DCMessage, lambda message: texts.append(message.data))

    (remote,) = (remote for remote in one.remote_peers if remote.id == other.peer_id)
    channel = DataChannel(remote.create_data_channel("chat"))
    await channel.send("first")
    await until(lambda: texts == ["first"])
    return channel, texts


async def test_a_call_outlives_the_relay(box: VirtualRoom) -> None:
    async with peer(box, "ada") as ada, peer(box, "bob") as bob:
        await in_one_room(box, ada, bob)
        channel, texts = await connected(box, ada, bob)
        async with anyio.create_task_group() as group:
            group.start_soon(box.outage, 10 * HOUR)
            await anyio.sleep(9 * HOUR)
            assert ada.state == bob.state == "reconnecting"
            await channel.send("still there")
            await until(lambda: texts == ["first", "still there"])
        # They may come back so far apart that the first one has given the other up; but not for long.
        await until(lambda: ada.state == bob.state == "joined" and ada.remote_peers and bob.remote_peers)


async def test_a_call_does_not_notice_a_short_outage(box: VirtualRoom) -> None:
    async with peer(box, "ada") as ada, peer(box, "bob") as bob:
        await in_one_room(box, ada, bob)
        channel, texts = await connected(box, ada, bob)
        gone = told(ada, PeerLeft)
        for _ in range(50):
            await box.outage(1)
            await until(lambda: ada.state == bob.state == "joined")
            await anyio.sleep(60)
        await channel.send("the same channel")
        await until(lambda: texts == ["first", "the same channel"])
        assert not gone


async def test_peers_that_cannot_reach_each_other_come_together_again(box: VirtualRoom) -> None:
    async with peer(box, "ada") as ada, peer(box, "bob") as bob:
        await in_one_room(box, ada, bob)
        channel, texts = await connected(box, ada, bob)
        (remote,) = ada.remote_peers
        states = told(remote, StateChange)
        await box.cut(peers=True)
        await channel.send("late")
        assert channel.buffered_amount == 4
        await anyio.sleep(5)
        await box.heal()
        await until(lambda: texts == ["first", "late"])
        assert (channel.buffered_amount, states) == (0, []), "what is over so soon is not noticed"
        await box.outage(120, peers=True)
        await until(lambda: ada.remote_peers and ada.remote_peers[0].state == "connected", 200)
        assert (await ada.remote_peers[0].stats()).state == "connected"


async def test_a_channel_is_closed_at_both_ends(box: VirtualRoom) -> None:
    async with peer(box, "ada") as ada, peer(box, "bob") as bob:
        await in_one_room(box, ada, bob)
        channel, _ = await connected(box, ada, bob)
        closed = told(channel, DCClose)
        channel.close()
        await until(lambda: closed)
        assert channel.ready_state == "closed"
        # One that promises nothing loses what is sent while the path is cut.
        (remote,) = bob.remote_peers
        hasty = DataChannel(remote.create_data_channel("hasty", ordered=False, max_retransmits=0))
        await hasty.send("one")
        await box.cut(peers=True)
        await hasty.send("two")
        assert hasty.buffered_amount == 0


class Ticks:
    """A track of the application's own, with anything at all for frames."""

    kind = "video"
    id = "ticks"
    readyState = "live"

    def __init__(self, count: int) -> None:
        self.count = count
        self.given = 0

    async def recv(self) -> Any:
        if self.given == self.count:
            raise EOFError
        await anyio.sleep(0.04)
        self.given += 1
        return f"frame {self.given}"


async def test_frames_are_handed_over_as_they_are(box: VirtualRoom) -> None:
    pytest.importorskip("aiortc", reason="aiortc is not installed")
    camera = Ticks(500)
    async with peer(box, "ada") as ada, peer(box, "bob") as bob:
        ada.add_stream(MediaStream([camera], id="front-door"), {"label": "Front Door"})
        await in_one_room(box, ada, bob)
        tracks = told(bob.remote_peers[0], Track)
        await until(lambda: tracks)
        assert tracks[0].metadata == {"label": "Front Door"}
        frames = [await tracks[0].track.recv() for _ in range(100)]
        number = int(frames[0].removeprefix("frame "))
        assert frames == [f"frame {number + more}" for more in range(100)]
        # A source that ends is taken back by itself.
        gone = told(bob.remote_peers[0], StreamRemoved)
        await until(lambda: gone)
        assert camera.given == 500


async def test_a_room_over_a_working_day_of_bad_network(box: VirtualRoom) -> None:
    slow = box.path("slow", latency=0.3, jitter=0.1)
    async with peer(box, "ada") as ada, peer(box, "bob") as bob, peer(box, "eve", url=slow.url) as eve:
        await in_one_room(box, ada, bob, eve)
        for hour in range(8):
            match hour % 4:
                case 0:
                    await box.outage(90)
                case 1:
                    await box.outage(40, silently=True, peers=True)
                case 2:
                    await slow.outage(300, peers=True)
                case _:
                    await box.restart_relay(20, drain=hour % 8 == 3)
            await anyio.sleep(HOUR)
            # Their tokens end every hour, so one of them may just be on its way back.
            await until(lambda: all(each.state == "joined" and len(each.remote_peers) == 2 for each in (ada, bob, eve)))


WITHOUT_WEBRTC = """
import sys
for name in ("aiortc", "av", "numpy"):
    sys.modules[name] = None  # an import of it fails
import anyio
from metered_anyio import DataChannel, DataChannelOpened, DCMessage, MeteredPeer
from metered_anyio.testing import run_virtual, virtual_room

async def main():
    async with virtual_room() as box:
        ada, bob = (MeteredPeer(url=box.url, token_provider=box.token_provider(name)) for name in ("ada", "bob"))
        async with ada, bob:
            for peer in (ada, bob):
                await peer.join("room")
            with anyio.fail_after(60):
                while not (ada.remote_peers and bob.remote_peers):
                    await anyio.sleep(0.1)
                texts = []
                bob.remote_peers[0].on(
                    DataChannelOpened, lambda event: DataChannel(event.channel).on(DCMessage, texts.append)
                )
                await DataChannel(ada.remote_peers[0].create_data_channel("chat")).send("hello")
                while not texts:
                    await anyio.sleep(0.1)
    print(texts[0].data)

run_virtual(main)
"""


def test_data_channels_need_no_aiortc() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_WEBRTC], capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == ("hello\n", 0), run.stderr
