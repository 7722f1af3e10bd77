"""Cameras on the network: opened without holding up the loop, healed, passed on as they are."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import anyio
import av
import pytest
from aiortc.mediastreams import MediaStreamError
from player_kit import Seen, stalls, until

from metered_media import SourceLost, SourceOpenError, SourceRestored, from_rtsp, open_rtsp
from testbed import MissingError
from testbed.clock_camera import ClockCamera, age
from testbed.rtsp_server import PASSWORD, RtspServer
from testbed.silent_camera import SilentCamera

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def anyio_backend() -> str:
    """asyncio, unless a test says `BOTH`: what differs is how a track is read, and healing takes its time."""
    return "asyncio"


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RtspServer]:
    server = RtspServer(**getattr(request, "param", {}))
    try:
        server.start()
    except MissingError as error:
        pytest.skip(str(error))
    yield server
    server.kill()


@BOTH
async def test_a_silent_camera_times_out_and_the_loop_feels_nothing() -> None:
    with SilentCamera() as silent:
        async with stalls() as found:
            began = time.monotonic()
            with pytest.raises(SourceOpenError) as caught:
                await open_rtsp(silent.url, timeout=1)
            took = time.monotonic() - began
            player = from_rtsp(silent.url, open_timeout=0.5)
            assert player.video is not None
            assert not player.opened
            with pytest.raises(MediaStreamError):
                await player.video.recv()
            with anyio.fail_after(10):
                await player.wait_closed()
        assert caught.value.code == "timed_out"
        assert 0.9 < took < 5
        assert isinstance(player.error, SourceOpenError)
        assert player.error.code == "timed_out"
        # One hiccup of the machine is nobody's fault.
        assert sorted(found)[-2] < 0.02


@BOTH
async def test_a_real_server_gives_sound_and_pictures(server: RtspServer) -> None:
    server.kill()
    server.sound = True
    server.start()
    for transport in ("tcp", "udp"):
        async with await open_rtsp(server.url, transport=transport) as player:  # type: ignore[arg-type]
            seen, heard = Seen(), Seen()
            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    group.start_soon(seen.read, player.video, 30)
                    group.start_soon(heard.read, player.audio, 30)
        assert (seen.things[0].width, seen.things[0].height) == (320, 240)
        for each in (seen, heard):
            assert all(one < other for one, other in itertools.pairwise(each.times))


@pytest.mark.parametrize("server", [{"guarded": True}], indirect=True)
async def test_credentials_are_used_and_never_shown(server: RtspServer, capfd: pytest.CaptureFixture[str]) -> None:
    async with await open_rtsp(server.url) as player:
        assert player.video is not None
        await player.video.recv()
        assert PASSWORD not in repr(player)
    wrong = server.url.replace(PASSWORD, f"not-{PASSWORD}")
    with pytest.raises(SourceOpenError) as caught:
        await open_rtsp(wrong)
    assert caught.value.code == "unauthorized"
    server.kill()
    with pytest.raises(SourceOpenError) as refused:
        await open_rtsp(server.url)
    assert refused.value.code == "refused"
    for error in (caught.value, refused.value):
        assert PASSWORD not in f"{error} {error!r} {error.args} {error.__cause__!r} {vars(error)}"
        assert error.__suppress_context__ or error.__context__ is None
    assert PASSWORD not in "".join(capfd.readouterr())


async def test_a_stream_that_is_not_there(server: RtspServer) -> None:
    with pytest.raises(SourceOpenError) as caught:
        await open_rtsp(server.url + "-not")
    assert caught.value.code == "not_found"
    with pytest.raises(SourceOpenError) as caught:
        await open_rtsp("rtsp://no-such-host.invalid/live")
    assert caught.value.code == "unreachable"


async def test_h264_is_passed_on_and_can_be_decoded(server: RtspServer) -> None:
    async with await open_rtsp(server.url, passthrough=True) as player:
        assert player.video is not None
        assert (player.video.codec, player.passthrough_error) == ("H264", None)
        seen = await Seen().read(player.video, 45)
    decoder: Any = av.CodecContext.create("h264", "r")
    assert seen.things[0].is_keyframe
    assert sum(len(decoder.decode(packet)) for packet in seen.things) >= 44
    assert all(one < other for one, other in itertools.pairwise(seen.times))


@pytest.mark.parametrize("server", [{"codec": "h264_b"}], indirect=True)
async def test_a_camera_with_b_frames_is_decoded(server: RtspServer) -> None:
    async with await open_rtsp(server.url, passthrough=True) as player:
        assert player.video is not None
        assert player.passthrough_error is not None
        assert player.passthrough_error.code == "b_frames"
        assert isinstance(await player.video.recv(), av.VideoFrame)


class Watch:
    """Reads a camera for as long as it is entered, and notes how old each picture is."""

    def __init__(self, player: Any) -> None:
        self.player = player
        self.ages: list[float] = []
        self.pts: list[int] = []
        self.sizes: list[tuple[int, int]] = []

    async def run(self) -> None:
        while True:
            frame = await self.player.video.recv()
            self.ages.append(age(frame, time.time()))
            self.pts.append(frame.pts)
            self.sizes.append((frame.width, frame.height))


@BOTH
async def test_a_camera_heals_in_the_same_track_without_growing_delay() -> None:
    with ClockCamera() as camera:
        async with await open_rtsp(camera.url, reconnect=True) as player:
            track, lost = player.video, player.events(SourceLost)
            restored = player.events(SourceRestored)
            watch = Watch(player)
            async with anyio.create_task_group() as group:
                group.start_soon(watch.run)
                await anyio.sleep(1.5)
                before = sorted(watch.ages[-20:])[10]
                camera.kill()
                with anyio.fail_after(20):
                    await anext(lost)
                    count = len(watch.ages)
                    await anyio.sleep(4)
                    meanwhile = len(watch.ages) - count
                    camera.start()
                    back = time.monotonic()
                    event = await anext(restored)
                    await until(lambda: watch.ages[-1] < 2)
                    took = time.monotonic() - back
                await anyio.sleep(1)
                after = sorted(watch.ages[-20:])[10]
                group.cancel_scope.cancel()
            assert player.video is track
            assert event.attempts >= 2
            assert event.away > 3.5
            assert 8 <= meanwhile <= 25  # the last picture, about five times a second
            assert took < 3
            assert before < 0.4
            assert after < before + 0.15
            assert all(one < other for one, other in itertools.pairwise(watch.pts))
            assert player.stats.losses == 1


async def test_a_server_that_comes_back_with_another_size(server: RtspServer) -> None:
    async with await open_rtsp(server.url, reconnect=True, placeholder="black") as player:
        seen = Seen()
        async with anyio.create_task_group() as group:
            group.start_soon(seen.read, player.video)
            await anyio.sleep(1)
            server.kill()
            await anyio.sleep(1)
            black = seen.things[-1]
            assert (black.width, black.height) == (320, 240)
            assert black.to_ndarray(format="gray").max() < 20
            server.size = (480, 360)
            server.start()
            await until(lambda: seen.things[-1].width == 480)
            group.cancel_scope.cancel()
    assert all(one < other for one, other in itertools.pairwise(seen.times))


async def test_a_camera_that_falls_silent_is_lost_too() -> None:
    with ClockCamera() as camera:
        relay = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = relay.extra(anyio.abc.SocketAttribute.local_port)
        quiet = anyio.Event()

        async def pump(source: Any, target: Any) -> None:
            try:
                async for data in source:
                    if quiet.is_set():
                        await anyio.sleep_forever()
                    await target.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

        async def through(client: Any) -> None:
            camera_port = int(camera.url.split(":")[2].split("/")[0])
            async with client, await anyio.connect_tcp("127.0.0.1", camera_port) as other:
                async with anyio.create_task_group() as both:
                    both.start_soon(pump, client, other)
                    both.start_soon(pump, other, client)

        async with anyio.create_task_group() as group:
            group.start_soon(relay.serve, through)
            url = f"rtsp://127.0.0.1:{port}/{camera.url.rsplit('/', 1)[1]}"
            async with await open_rtsp(url, reconnect=True, stall_timeout=0.7) as player:
                lost = player.events(SourceLost)
                assert player.video is not None
                await player.video.recv()
                quiet.set()
                with anyio.fail_after(20):
                    await anext(lost)
            group.cancel_scope.cancel()
        await relay.aclose()


@BOTH
async def test_one_that_is_not_there_yet_is_waited_for_if_wanted() -> None:
    with ClockCamera() as camera:
        camera.kill()
        player = from_rtsp(camera.url, reconnect=True)
        assert player.video is not None
        with anyio.move_on_after(0.7):
            await player.video.recv()
        assert player.video.readyState == "live"
        camera.start()
        with anyio.fail_after(15):
            assert isinstance(await player.video.recv(), av.VideoFrame)
        await player.aclose()
        camera.kill()
        with pytest.raises(SourceOpenError):
            await open_rtsp(camera.url, reconnect=True, timeout=0.6)


async def test_without_reconnect_it_ends() -> None:
    with ClockCamera() as camera:
        async with await open_rtsp(camera.url) as player:
            seen = Seen()
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(seen.read, player.video)
                    await anyio.sleep(0.5)
                    camera.kill()
            assert seen.over
            assert player.stats.losses == 0


@pytest.mark.parametrize("reader", ["first", "later"])
async def test_whoever_begins_to_look_sees_what_is_now(reader: str) -> None:
    with ClockCamera() as camera:
        async with await open_rtsp(camera.url) as player:
            assert player.video is not None
            if reader == "later":
                await player.video.recv()
            await anyio.sleep(2.5)
            await player.video.recv()
            found = [age(await player.video.recv(), time.time()) for _ in range(10)]
            assert found[-1] < 0.5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"transport": "sctp"}, ValueError),
        ({"placeholder": "blue"}, ValueError),
        ({"placeholder": 3}, TypeError),
        ({"reconnect": "yes"}, TypeError),
        ({"stall_timeout": 0}, ValueError),
        ({"url": 5}, TypeError),
    ],
)
async def test_what_no_camera_has_is_refused_at_the_call(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        from_rtsp(**{"url": "rtsp://127.0.0.1:9/live", **arguments})
