"""The ledger with batches, against plain lists: a call is answered once, and a batch when its last part has an end."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from model_kit import modest

from metered_proto.client.calls import Subscribe
from metered_proto.client.ledger import Ledger, PendingSubscribe
from metered_proto.errors import AckTimeoutError, DisconnectedError, PublishManyError, ServerRequestError
from metered_proto.facts import LinkDown, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Answer, Order

REFUSED = ServerRequestError("channel_not_permitted", "no")
LOST = DisconnectedError(1006, "reset")
LATE = AckTimeoutError(15)


class LedgerWithBatches(RuleBasedStateMachine):
    """The model has, for each call, the ids that are open and what failed; and the order in which ids were entered."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(15)
        self.now = 0
        self.calls: dict[int, tuple[set[str], list[tuple[int, Exception]], bool]] = {}  # True: a batch
        self.entered: dict[str, tuple[int, int, int]] = {}  # id: call, index, due
        self.withdrawn: set[int] = set()
        self.answered: set[int] = set()

    @property
    def next_op(self) -> int:
        return len(self.calls) + 1

    def enters(self, op: int, ids: list[str], *, batch: bool) -> None:
        self.calls[op] = (set(ids), [], batch)
        for index, request_id in enumerate(ids):
            self.entered[request_id] = (op, index, self.now + 15 * SECOND)

    def ends(self, request_id: str, error: Exception | None) -> list[Answer]:
        """What the model says of the end of one request."""
        op, index, _ = self.entered.pop(request_id)
        ids, failed, batch = self.calls[op]
        ids.discard(request_id)
        if error is not None:
            failed.append((index, error))
        if ids or op in self.withdrawn:
            return []
        assert op not in self.answered
        self.answered.add(op)
        if not batch:
            return [Answer(op, error=error)]
        return [Answer(op, error=PublishManyError(tuple(sorted(failed, key=lambda each: each[0]))) if failed else None)]

    @staticmethod
    def same(orders: list[Order], expected: list[Answer]) -> None:
        assert [(type(order), repr(order)) for order in orders] == [(Answer, repr(answer)) for answer in expected]

    @rule(wait=st.integers(0, 10 * SECOND))
    def time_passes(self, wait: int) -> None:
        self.now += wait

    @rule()
    def enter(self) -> None:
        op = self.next_op
        self.enters(op, [self.ledger.enter(self.now, op)], batch=False)

    @rule()
    def enter_subscribe(self) -> None:
        op = self.next_op
        request_id = self.ledger.enter_subscribe(self.now, op, Subscribe("room"), 3)
        self.enters(op, [request_id], batch=False)

    @rule(count=st.integers(1, 4))
    def enter_batch(self, count: int) -> None:
        op = self.next_op
        ids = self.ledger.enter_batch(self.now, op, count)
        assert len(set(ids)) == count
        self.enters(op, ids, batch=True)

    @rule(choice=st.integers(0, 50), refused=st.booleans())
    @precondition(lambda self: self.entered)
    def settle(self, choice: int, refused: bool) -> None:
        request_id = list(self.entered)[choice % len(self.entered)]
        request = self.ledger.settle(request_id)
        assert request is not None
        assert self.ledger.sent_at(request) == self.entered[request_id][2] - 15 * SECOND
        if isinstance(request, PendingSubscribe):
            assert (request.call.channel, request.serial) == ("room", 3)
        error = REFUSED if refused else None
        self.same(self.ledger.end(request, error), self.ends(request_id, error))
        assert self.ledger.settle(request_id) is None

    @rule(op=st.integers(0, 30))
    def withdraw(self, op: int) -> None:
        op = op % (len(self.calls) + 1)  # mostly one that was made
        assert self.ledger.handle(self.now, Withdrawn(op)) == []
        if op in self.calls and op not in self.answered:
            self.withdrawn.add(op)

    @rule()
    def wake(self) -> None:
        due = [request_id for request_id, (_, _, at) in self.entered.items() if at <= self.now]
        expected = [answer for request_id in due for answer in self.ends(request_id, LATE)]
        self.same(self.ledger.handle(self.now, Woken()), expected)

    @rule()
    def lose(self) -> None:
        expected = [answer for request_id in list(self.entered) for answer in self.ends(request_id, LOST)]
        self.same(self.ledger.handle(self.now, LinkDown(1, 1006, "reset")), expected)

    @invariant()
    def they_agree(self) -> None:
        assert len(self.ledger) == len(self.entered)
        assert all(request_id in self.ledger for request_id in self.entered)
        first = min((due for _, _, due in self.entered.values()), default=None)
        assert self.ledger.deadline == (None if first is None else Deadline(first, "ack"))
        # Nothing is kept of what is over.
        open_batches = {op for op, (ids, _, batch) in self.calls.items() if batch and ids and op not in self.withdrawn}
        assert set(self.ledger._batches) == open_batches


TestLedgerWithBatches = LedgerWithBatches.TestCase
TestLedgerWithBatches.settings = modest(20, 30)


def test_nobody_is_told_of_a_batch_that_nobody_waits_for() -> None:
    ledger = Ledger(15)
    ids = ledger.enter_batch(0, 1, 2)
    ledger.handle(1, Withdrawn(1))
    for request_id in ids:
        request = ledger.settle(request_id)
        assert request is not None
        assert ledger.end(request, None) == []
    assert len(ledger) == 0
