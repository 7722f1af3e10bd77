"""Being in a room: under which name, and whether somebody still has to say who else is there.

The first presence after a subscribe is a snapshot. After a reconnect it is waited for: if it does not come in time, it
is asked for again, and after `RESUBSCRIBES` times in vain no more.
"""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.events import Presence
from metered_proto.machine import Deadline, Micros

RESUBSCRIBES: Final = 2
"""How often a snapshot that does not come is asked for again."""


class Membership(msgspec.Struct):
    """What there is to know from the subscribe on. `known_as` is the id by which those who stayed know us."""

    channel: str
    include_sender_metadata: bool
    known_as: str
    joined: bool = False
    snapshot_due: bool = True
    """The next presence is a snapshot."""
    timer: Deadline | None = None
    """When it ought to have come, where it is waited for."""
    resubscribes: int = 0
    resubscribe: int | None = None
    """The op of the latest of them."""

    def lost(self) -> None:
        """The connection is gone: whatever comes on the next one begins with a snapshot."""
        self.timer = None
        self.snapshot_due = True

    def awaits(self, until: Micros) -> None:
        """There is another connection, on which the session has subscribed again."""
        self.resubscribes = 0
        self.timer = Deadline(until, "snapshot")

    def asks_again(self, until: Micros) -> bool:
        """No snapshot came in time. Returns whether it is to be asked for again, and then waits for it."""
        if self.resubscribes == RESUBSCRIBES:
            return False
        self.resubscribes += 1
        self.timer = Deadline(until, "snapshot")
        return True

    def takes_as_snapshot(self, presence: Presence) -> bool:
        """Whether this is the snapshot, which then is not waited for any more."""
        # A presence that only names who left is none, whatever was expected.
        if not self.snapshot_due or not (presence.joined or not presence.left):
            return False
        self.snapshot_due = False
        self.timer = None
        return True
