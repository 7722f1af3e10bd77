"""The drafts of an outbox whose client is recorded: they are made past the session, and are steps all the same."""

from __future__ import annotations

from metered_proto.client.outbox import Dropped, Entry, OutboxQueue
from metered_proto.machine import Micros
from metered_proto.replay import Discarded, Drafted, Recorder
from metered_proto.replay.machines import drafted


class RecordedDrafts:
    """Drafts as `queue` does, and has it written down."""

    def __init__(self, queue: OutboxQueue, recorder: Recorder) -> None:
        self._queue = queue
        self._recorder = recorder
        self._now: Micros = 0

    def draft(self, now: Micros, channel: str, data: bytes, message_id: str | None = None) -> Entry | Dropped:
        """As `OutboxQueue.draft`."""
        self._now = now
        fact = Drafted(channel, data, message_id)
        answer, error = drafted(self._queue, now, fact)
        self._recorder.beside(now, fact, [answer])
        if error is not None:
            raise error
        entry: Entry | Dropped = answer.value
        return entry

    def discard(self, entry: Entry) -> None:
        """As `OutboxQueue.discard`."""
        self._queue.discard(entry)
        self._recorder.beside(self._now, Discarded(entry), [])
