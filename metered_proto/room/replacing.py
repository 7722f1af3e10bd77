"""Tracks that are being replaced, at every member at once, and what became of it.

A member answers when its engine has done it. Whoever leaves meanwhile has neither done it nor failed.
"""

from __future__ import annotations

import msgspec

from metered_proto.errors import MeteredPeerReplaceTrackError, MeteredRealtimeError, ReplaceTrackFailure
from metered_proto.room.local_tracks import Swap
from metered_proto.wire.scrub import scrub


class Replacing(msgspec.Struct, eq=False):
    """One track that is being replaced. `op` is None once nobody waits for it, `waiting` has members by op.

    `outcomes` has them in the order in which they were asked, None for those who have not answered, too.
    """

    op: int | None
    swap: Swap
    waiting: dict[int, str]
    outcomes: dict[str, Exception | None]

    @property
    def failed_everywhere(self) -> bool:
        """Whether nobody gets the new track."""
        return bool(self.outcomes) and None not in self.outcomes.values()

    @property
    def error(self) -> MeteredPeerReplaceTrackError | None:
        """What its caller is to be told."""
        failed = tuple(ReplaceTrackFailure(peer, error) for peer, error in self.outcomes.items() if error is not None)
        succeeded = tuple(peer for peer, error in self.outcomes.items() if error is None)
        return MeteredPeerReplaceTrackError(succeeded, failed) if failed else None


class Replacements:
    """All that are under way. What a method returns is over, and not kept any more."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[Replacing] = []

    def begin(self, op: int, swap: Swap, asked: dict[int, str]) -> list[Replacing]:
        """A track is being replaced at the members in `asked`, by the op that each was asked with."""
        self._open.append(Replacing(op, swap, asked, dict.fromkeys(asked.values())))
        return self._take_finished()

    def answered(self, op: int, error: Exception | None) -> list[Replacing]:
        """A member answered, if it is for one of these."""
        for replacing in self._open:
            peer_id = replacing.waiting.pop(op, None)
            if peer_id is not None:
                replacing.outcomes[peer_id] = None if error is None else _scrubbed(error)
                return self._take_finished()
        return []

    def gone(self, peer_id: str) -> list[Replacing]:
        """A member will not answer any more."""
        for replacing in self._open:
            if peer_id in replacing.waiting.values():
                replacing.waiting = {op: member for op, member in replacing.waiting.items() if member != peer_id}
                del replacing.outcomes[peer_id]
        return self._take_finished()

    def withdrawn(self, op: int) -> bool:
        """Nobody waits for it any more; returns whether it was one of these."""
        for replacing in self._open:
            if replacing.op == op:
                replacing.op = None
                return True
        return False

    def abandon(self) -> list[int]:
        """No answer is wanted any more; returns the ops of those who wait."""
        waiting, self._open = [replacing.op for replacing in self._open], []
        return [op for op in waiting if op is not None]

    def _take_finished(self) -> list[Replacing]:
        finished = [replacing for replacing in self._open if not replacing.waiting]
        if finished:
            self._open = [replacing for replacing in self._open if replacing.waiting]
        return finished


def _scrubbed(error: Exception) -> Exception:
    """An error that can be logged: itself, unless its text holds a secret."""
    text = str(error)
    clean = scrub(text)
    return error if clean == text else MeteredRealtimeError(f"{type(error).__name__}: {clean}")
