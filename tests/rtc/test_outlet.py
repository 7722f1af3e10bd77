"""What one sender gets, what it leaves out, and what it sends once more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from rtc_kit import PATIENCE, Picture, negotiate, shade_of, two_sides

from metered_anyio.encoding import Encoding
from metered_anyio.rtc import private_sending
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.outlet import AUDIO_QUEUE, Feed, Outlet

pytestmark = pytest.mark.anyio


class Source:
    """Nothing but what an outlet asks of it."""

    codec = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def listen(self, outlet: Outlet) -> None:
        outlet.choose()

    def leave(self, outlet: Outlet) -> None:
        self.calls.append("leave")

    def restart(self, outlet: Outlet) -> None:
        self.calls.append("restart")

    def ask_key_frame(self, outlet: Outlet) -> None:
        self.calls.append("key frame")

    def estimated(self, outlet: Outlet, bitrate: float) -> None:
        self.calls.append(f"{bitrate}")

    def manner(self, outlet: Outlet) -> None:
        return None


def picture(number: int, *, key: bool = False, origin: object = "encoder", size: int = 1000) -> Encoded:
    return Encoded([bytes(size)], number * 3000, key=key, origin=origin)


def make(kind: str = "video") -> tuple[Outlet, Source]:
    outlet, source = Outlet(kind), Source()
    outlet.feed_from(Feed(source, Encoding()))
    outlet.open(["VP8" if kind == "video" else "opus"])
    return outlet, source


async def test_begins_with_a_key_frame() -> None:
    outlet, _ = make()
    outlet.take(picture(0))
    key = picture(1, key=True)
    outlet.take(key)
    assert (await outlet.next())[0] is key
    assert outlet.frames_dropped == 1


async def test_what_another_encoder_made_needs_one_of_its_own() -> None:
    outlet, _ = make()
    frames = [picture(0, key=True), picture(1, origin="another"), picture(2, key=True, origin="another")]
    for frame in frames:
        outlet.take(frame)
    assert [(await outlet.next())[0] for _ in range(2)] == [frames[0], frames[2]]


async def test_of_sound_the_oldest_goes() -> None:
    outlet, _ = make("audio")
    for number in range(AUDIO_QUEUE + 3):
        outlet.take(Encoded([b"sound"], number * 960, key=True, origin=None))
    assert outlet.frames_dropped == 3
    assert (await outlet.next())[0].pts == 3 * 960


async def test_on_a_ration_it_sends_what_fits_and_then_waits_for_a_key_frame() -> None:
    outlet, source = make()
    outlet.ration(8_000)  # 1000 bytes a second, two seconds saved up
    outlet.take(picture(0, key=True, size=2900))
    for number in range(1, 10):
        outlet.take(picture(number))
    assert outlet.frames_dropped == 9
    assert (await outlet.next())[0].key
    assert source.calls == []  # nothing is saved up for one yet
    outlet.ration(None)
    outlet.take(picture(10, key=True))
    outlet.take(picture(11))
    assert [(await outlet.next())[0].pts // 3000 for _ in range(2)] == [10, 11]


async def test_whoever_waits_gets_it_directly() -> None:
    outlet, _ = make()
    sent: list[Encoded] = []

    def direct(frame: Encoded, at: int) -> bool:
        sent.append(frame)
        return len(sent) != 2  # the second one has to wait

    outlet.direct = direct
    got: list[tuple[Encoded, int]] = []

    async def read() -> None:
        got.append(await outlet.next())

    frames = [picture(0, key=True), picture(1), picture(2)]
    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(0.01)
        outlet.take(frames[0])
        outlet.take(frames[1])
        outlet.take(frames[2])  # behind one that waits
    assert sent == frames[:2]
    assert [frame for frame, _ in got] == [frames[1]]
    assert (await outlet.next())[0] is frames[2]
    assert outlet.frames == 3


async def test_packets_that_are_lost_are_sent_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    send, repair = private_sending.send, private_sending._Sending.repair
    packets = 0
    repaired: list[int] = []

    def arrives(_: bytes) -> bool:
        nonlocal packets
        packets += 1
        return packets % 20 != 0

    def lossy(dtls: Any, packets: Iterable[bytes]) -> bool:
        return send(dtls, filter(arrives, packets))

    async def count(sending: Any, sequence: int) -> None:
        repaired.append(sequence)
        await repair(sending, sequence)

    monkeypatch.setattr(private_sending, "send", lossy)
    monkeypatch.setattr(private_sending._Sending, "repair", count)
    async with two_sides() as (a, b):
        a.add(Picture(90, fps=60))
        await negotiate(a, b)
        with anyio.fail_after(PATIENCE):
            for _ in range(100):
                assert shade_of(await b.received("0").recv()) == pytest.approx(90, abs=6)
        (stats,) = (await a.engine.stats(a.pc)).tracks
    assert len(set(repaired)) >= 3
    assert stats.key_frames <= 4  # nothing had to begin anew for each
