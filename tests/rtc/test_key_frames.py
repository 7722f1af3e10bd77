"""When key frames are made, and what is kept from the last one on."""

from __future__ import annotations

from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.key_frames import Group, KeyFrames


class TestKeyFrames:
    def test_are_made_when_somebody_asks(self) -> None:
        keys = KeyFrames()
        assert not keys.is_due(0)
        keys.ask()
        assert keys.is_due(0)
        assert keys.is_due(0.01)  # until it was made
        keys.made(0.01)
        assert not keys.is_due(10)

    def test_what_is_asked_for_too_soon_is_made_later(self) -> None:
        keys = KeyFrames(0.5)
        keys.ask()
        keys.made(1.0)
        for _ in range(100):
            keys.ask()
        assert not keys.is_due(1.4)
        assert keys.is_due(1.5)

    def test_one_that_came_by_itself_serves_everybody(self) -> None:
        keys = KeyFrames(0.5)
        keys.made(0)
        keys.ask()
        keys.made(0.2)
        assert not keys.is_due(5)


def frame(pts: float, *, key: bool = False, size: int = 10) -> Encoded:
    return Encoded([bytes(size)], round(pts * 1000), key=key, origin=None)


class TestAGroup:
    def group(self) -> Group:
        return Group(1000, seconds=2, size=1000, count=5)

    def test_begins_with_a_key_frame(self) -> None:
        group = self.group()
        group.add(frame(0))
        assert not group.frames
        first, second, third = frame(1, key=True), frame(1.1), frame(1.2, key=True)
        group.add(first)
        group.add(second)
        kept = group.frames
        assert kept == [first, second]
        group.add(third)
        assert group.frames == [third]
        assert kept == [first, second]  # whoever was given it still has it

    def test_that_grows_too_long_is_forgotten(self) -> None:
        for more in ([frame(3.5)], [frame(1.1, size=1000)], [frame(1 + n / 100) for n in range(5)]):
            group = self.group()
            group.add(frame(1, key=True))
            for each in more:
                group.add(each)
            group.add(frame(4))
            assert not group.frames
            group.add(frame(5, key=True))
            assert len(group.frames) == 1
