"""A snapshot that does not come is asked for again, so often on each connection."""

from __future__ import annotations

from metered_proto.machine import SECOND, Deadline
from metered_proto.room.membership import Membership


def test_twice_on_each_connection() -> None:
    membership = Membership("room", False, "me")
    for connection in range(3):
        membership.lost()
        assert membership.timer is None
        membership.awaits(connection * SECOND)
        assert membership.timer == Deadline(connection * SECOND, "snapshot")
        asked = [membership.asks_again((connection + more) * SECOND) for more in (1, 2, 3)]
        assert asked == [True, True, False]
        assert membership.timer == Deadline((connection + 2) * SECOND, "snapshot")
