"""The ledger: each request has one outcome, by answer, by time or by the loss of the link."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from model_kit import modest

from metered_proto.client.calls import Subscribe
from metered_proto.client.ledger import Ledger, PendingSubscribe
from metered_proto.errors import AckTimeoutError, DisconnectedError
from metered_proto.facts import LinkDown, LinkUp, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Answer

LOST = LinkDown(1, 1006, "reset")


class TestEntering:
    def test_the_request_id_is_the_number_of_the_call(self) -> None:
        ledger = Ledger(15)
        assert ledger.enter(0, 7) == "7"
        assert "7" in ledger
        assert "8" not in ledger
        assert len(ledger) == 1

    def test_what_an_answer_came_for_is_taken_out(self) -> None:
        ledger = Ledger(15)
        call = Subscribe("room")
        ledger.enter_subscribe(SECOND, 7, call, 3)
        assert ledger.settle("7") == PendingSubscribe(7, 16 * SECOND, call, 3)
        assert ledger.settle("7") is None
        assert len(ledger) == 0

    def test_an_answer_to_nothing(self) -> None:
        assert Ledger(15).settle("7") is None


class TestTime:
    def test_the_oldest_is_the_first_to_run_out(self) -> None:
        ledger = Ledger(15)
        assert ledger.deadline is None
        ledger.enter(0, 1)
        ledger.enter(5 * SECOND, 2)
        assert ledger.deadline == Deadline(15 * SECOND, "ack")
        ledger.settle("1")
        assert ledger.deadline == Deadline(20 * SECOND, "ack")

    def test_not_a_microsecond_early(self) -> None:
        ledger = Ledger(15)
        ledger.enter(0, 1)
        assert ledger.handle(15 * SECOND - 1, Woken()) == []
        assert ledger.handle(15 * SECOND, Woken()) == [Answer(1, error=AckTimeoutError(15))]
        assert ledger.deadline is None

    def test_woken_late_all_that_are_due_run_out_in_order(self) -> None:
        ledger = Ledger(15)
        for op in (1, 2, 3):
            ledger.enter(op * SECOND, op)
        orders = ledger.handle(17 * SECOND, Woken())
        assert orders == [Answer(1, error=AckTimeoutError(15)), Answer(2, error=AckTimeoutError(15))]
        assert len(ledger) == 1


class TestLoss:
    def test_everybody_is_told_in_order(self) -> None:
        ledger = Ledger(15)
        ledger.enter(0, 2)
        ledger.enter(0, 1)
        error = DisconnectedError(1006, "reset")
        assert ledger.handle(1, LOST) == [Answer(2, error=error), Answer(1, error=error)]
        assert len(ledger) == 0
        assert ledger.deadline is None

    def test_nobody_there(self) -> None:
        assert Ledger(15).handle(1, LOST) == []


class TestWithdrawn:
    def test_no_answer_but_the_entry_stays(self) -> None:
        ledger = Ledger(15)
        ledger.enter(0, 1)
        assert ledger.handle(1, Withdrawn(1)) == []
        assert "1" in ledger
        request = ledger.settle("1")
        assert request is not None
        assert request.op is None

    def test_not_when_time_runs_out(self) -> None:
        ledger = Ledger(15)
        ledger.enter(0, 1)
        ledger.handle(1, Withdrawn(1))
        assert ledger.handle(15 * SECOND, Woken()) == []
        assert len(ledger) == 0

    def test_not_when_the_link_is_lost(self) -> None:
        ledger = Ledger(15)
        ledger.enter(0, 1)
        ledger.handle(1, Withdrawn(1))
        assert ledger.handle(2, LOST) == []

    def test_what_is_not_there(self) -> None:
        assert Ledger(15).handle(1, Withdrawn(1)) == []


def test_other_facts_mean_nothing() -> None:
    ledger = Ledger(15)
    ledger.enter(0, 1)
    assert ledger.handle(1, LinkUp(1)) == []
    assert len(ledger) == 1


class LedgerAgainstAList(RuleBasedStateMachine):
    """The same, kept as a plain list of (op, due, still wanted)."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(15)
        self.model: list[tuple[int, int, bool]] = []
        self.now = 0
        self.ops = 0

    @rule(wait=st.integers(0, 10 * SECOND))
    def time_passes(self, wait: int) -> None:
        self.now += wait

    @rule()
    def enter(self) -> None:
        self.ops += 1
        assert self.ledger.enter(self.now, self.ops) == str(self.ops)
        self.model.append((self.ops, self.now + 15 * SECOND, True))

    @rule(op=st.integers(0, 40))
    def settle(self, op: int) -> None:
        request = self.ledger.settle(str(op))
        known = [entry for entry in self.model if entry[0] == op]
        if not known:
            assert request is None
            return
        assert request is not None
        _, due, wanted = known[0]
        assert (request.op, request.due) == (op if wanted else None, due)
        self.model.remove(known[0])

    @rule(op=st.integers(0, 40))
    def withdraw(self, op: int) -> None:
        assert self.ledger.handle(self.now, Withdrawn(op)) == []
        self.model = [(number, due, wanted and number != op) for number, due, wanted in self.model]

    @rule()
    def wake(self) -> None:
        due = [op for op, at, wanted in self.model if at <= self.now and wanted]
        self.model = [entry for entry in self.model if entry[1] > self.now]
        orders = self.ledger.handle(self.now, Woken())
        assert orders == [Answer(op, error=AckTimeoutError(15)) for op in due]

    @rule()
    def lose(self) -> None:
        orders = self.ledger.handle(self.now, LOST)
        assert orders == [Answer(op, error=DisconnectedError(1006, "reset")) for op, _, wanted in self.model if wanted]
        self.model.clear()

    @invariant()
    def they_agree(self) -> None:
        assert len(self.ledger) == len(self.model)
        assert all(str(op) in self.ledger for op, _, _ in self.model)
        assert self.ledger.deadline == (Deadline(min(at for _, at, _ in self.model), "ack") if self.model else None)


TestLedgerAgainstAList = LedgerAgainstAList.TestCase
TestLedgerAgainstAList.settings = modest(20, 30)
