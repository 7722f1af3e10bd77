"""The outbox in its session: over connections that come and go, next to everything else that a client does.

The conversation itself holds what the outbox publishes to its promises at all times: first times are in order, what
went out before is marked and nothing else is, the store knows ahead of it, and what has ended never goes out again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto.client.calls import Close, Connect
from metered_proto.client.deduplicator import Deduplicator
from metered_proto.client.envelope import KEY, BatchStamp, seal, seal_batch, unseal
from metered_proto.client.outbox import (
    OF_THE_CHANNEL,
    PASSING,
    Delivered,
    Dropped,
    Enqueue,
    Entry,
    Flush,
    Kept,
    Loaded,
    Refused,
)
from metered_proto.errors import (
    DisconnectedError,
    LocalProtocolError,
    NotConnectedError,
    OversizedPayloadError,
    SignallingConnectError,
)
from metered_proto.events import Connected, Disconnected, Gap, Message, ServerError
from metered_proto.facts import Asked, LinkDown, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Answer, CloseLink, Send
from metered_proto.settings import BatchOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]

DURABLE = Loaded(durable=True)
FINAL = (4001, 4003, 4012, 4020)

each_store = pytest.mark.parametrize("loaded", [None, DURABLE], ids=["in memory", "in a file"])
each_phase = each_row("phase", ["idle", "fetching", "opening", "greeting", "online", "waiting"])


def values(talk: Conversation) -> list[Any]:
    """What the outbox published, in order, out of its envelopes."""
    return [one.data for frame in talk.carried for one in unseal(frame["data"]) or []]


def marks(talk: Conversation) -> list[bool]:
    """Which of it was marked as sent before."""
    return [one.redelivered for frame in talk.carried for one in unseal(frame["data"]) or []]


def bring_to(talk: Conversation, phase: str) -> None:
    """From idle to a phase."""
    if phase == "idle":
        return
    talk.asks(Connect())
    if phase == "fetching":
        return
    talk.token_comes()
    if phase == "opening":
        return
    talk.link_comes_up()
    if phase == "greeting":
        return
    talk.welcome()
    if phase == "waiting":
        talk.link_goes_down()


@pytest.fixture
def sender(converse: Converse) -> Conversation:
    """Connected, with an outbox in memory that knows no limits."""
    talk = converse(outbox={})
    talk.connects()
    talk.forget()
    return talk


class TestConnecting:
    @each_phase
    @each_store
    def test_it_takes_messages_in_every_phase(self, converse: Converse, phase: str, loaded: Loaded | None) -> None:
        talk = converse(api_key=None, outbox={}, loaded=loaded)
        bring_to(talk, phase)
        assert talk.session._phase.name == phase
        ops = [talk.enqueues(number) for number in range(3)]
        if phase != "online":
            assert talk.carried == []
            assert all(talk.waits(op) for op in ops)
        if phase == "idle":
            assert talk.session.deadline is None, "nothing is due as long as nobody wants a connection"
            talk.asks(Connect())
        if phase == "waiting":
            talk.until_woken()
        if talk.state != "connected":
            if talk.session._phase.name in ("fetching", "opening"):
                talk.token_comes()
                talk.link_comes_up()
            talk.welcome()
        assert values(talk) == [0, 1, 2]
        assert marks(talk) == [False] * 3
        talk.ack_carried()
        assert [talk.outcome(op) for op in ops] == [Delivered()] * 3
        assert talk.session.deadline is not None
        assert talk.session.deadline.why == "ping"

    def test_subscriptions_come_first_and_connect_is_answered_all_the_same(self, converse: Converse) -> None:
        talk = converse(outbox={})
        talk.connects()
        talk.subscribed("room")
        talk.link_goes_down()
        talk.enqueues("later")
        op = talk.asks(Connect())
        talk.forget()
        talk.comes_back()
        assert [frame["type"] for frame in talk.sent] == ["subscribe", "publish"]
        assert talk.error(op) is None
        assert isinstance(talk.told[1], Connected)

    def test_a_first_connect_that_fails_leaves_everything_in_place(self, converse: Converse) -> None:
        talk = converse(outbox={})
        op = talk.enqueues("patient")
        failed = talk.asks_to_connect()
        talk.link_goes_down(4001)
        assert isinstance(talk.error(failed), SignallingConnectError)
        assert talk.state == "idle"
        assert talk.waits(op)
        talk.connects()
        talk.ack_carried()
        assert talk.outcome(op) == Delivered()

    def test_so_does_one_that_is_called_off(self, converse: Converse) -> None:
        talk = converse(outbox={})
        op = talk.enqueues("patient")
        talk.withdraws(talk.asks_to_connect())
        assert talk.state == "idle"
        talk.connects()
        assert values(talk) == ["patient"]
        assert talk.waits(op)

    def test_the_cap_of_the_welcome_counts(self, converse: Converse) -> None:
        talk = converse(outbox={})
        small, large = talk.enqueues("x"), talk.enqueues("x" * 500)
        talk.connects(maxMessageSize=300)
        assert isinstance(talk.outcome(large), Refused)
        assert talk.outcome(large).code == "oversized"
        assert talk.waits(small)
        with pytest.raises(OversizedPayloadError):
            talk.drafts("x" * 500)
        talk.link_goes_down()
        talk.comes_back(maxMessageSize=65_536)
        talk.enqueues("x" * 500)
        assert values(talk)[-1] == "x" * 500

    def test_what_an_earlier_life_left_goes_first(self, converse: Converse) -> None:
        entries = tuple(Entry.of(key, "box", key, "fleet", f"box-{key}", b"%d" % key, -SECOND) for key in (1, 2, 3))
        loaded = Loaded(entries, 4, "box", {"fleet": 3}, attempted_through=2, durable=True)
        talk = converse(outbox={}, loaded=loaded)
        talk.enqueues(4)
        talk.connects()
        assert values(talk) == [1, 2, 3, 4]
        assert marks(talk) == [True, True, False, False]
        talk.ack_carried()
        assert talk.forgotten == [1, 2, 3, 4]

    def test_without_an_outbox_nothing_can_be_enqueued(self, online: Conversation) -> None:
        entry = Entry.of(1, "box", 1, "fleet", "box-1", b"1", 0)
        for call in (Enqueue(entry), Flush()):
            with pytest.raises(LocalProtocolError, match="no outbox"):
                online.give(Asked(99, call))


class TestComingBack:
    @each_store
    def test_what_was_in_flight_goes_out_again_first_and_marked(
        self, converse: Converse, loaded: Loaded | None
    ) -> None:
        talk = converse(outbox={"window": 2}, loaded=loaded)
        talk.connects()
        ops = [talk.enqueues(number) for number in range(3)]
        talk.link_goes_down()
        ops.append(talk.enqueues(3))
        assert all(talk.waits(op) for op in ops), "a lost connection ends no message"
        talk.forget()
        talk.comes_back()
        assert (values(talk), marks(talk)) == ([0, 1], [True, True])
        talk.ack_carried()
        assert (values(talk), marks(talk)) == ([0, 1, 2, 3], [True, True, False, False])
        talk.server(*[{"type": "ack", "requestId": frame["requestId"]} for frame in talk.carried[2:]])
        assert [talk.outcome(op) for op in ops] == [Delivered()] * 4
        assert talk.outbox is not None
        assert (len(talk.outbox), talk.outbox.counters.redelivered) == (0, 2)

    def test_an_acknowledgement_of_the_old_connection_does_not_count(self, sender: Conversation) -> None:
        op = sender.enqueues()
        old_link, request_id = sender.link, sender.carried[0]["requestId"]
        sender.link_goes_down()
        sender.comes_back()
        assert sender.carried[-1]["requestId"] != request_id
        sender.link = old_link
        sender.ack(request_id)
        assert sender.waits(op)
        sender.link += 1
        sender.ack(request_id)
        assert sender.waits(op), "no number is used twice"
        sender.ack(sender.carried[-1]["requestId"])
        assert sender.outcome(op) == Delivered()

    def test_publishes_fail_where_the_outbox_carries_on(self, sender: Conversation) -> None:
        kept, published = sender.enqueues(), sender.publishes()
        sender.link_goes_down(1001)
        assert sender.error(published) == DisconnectedError(1001)
        assert sender.waits(kept)

    def test_an_attempt_that_fails_changes_nothing(self, sender: Conversation) -> None:
        sender.enqueues()
        sender.link_goes_down()
        sender.forget()
        for _ in range(3):
            sender.until_woken()
            sender.link_goes_down(503)
        assert sender.carried == []
        sender.comes_back()
        assert (values(sender), marks(sender)) == ([1], [True])

    def test_a_silent_link_is_not_written_to_after_it_was_closed(self, converse: Converse) -> None:
        """Asleep for so long that the acknowledgement, the heartbeat and all else are overdue at once."""
        talk = converse(outbox={}, inactivity_timeout=30)
        talk.connects()
        op = talk.enqueues()
        talk.sleeps(100)
        assert talk.state == "reconnecting"
        kinds = [type(order) for order in talk.orders if isinstance(order, Send | CloseLink)]
        assert kinds.index(CloseLink) == len(kinds) - 1
        talk.comes_back()
        talk.ack_carried()
        assert talk.outcome(op) == Delivered()

    def test_a_key_that_is_refused_after_all(self, converse: Converse) -> None:
        talk = converse(outbox={}, loaded=DURABLE)
        talk.connects()
        op = talk.enqueues()
        talk.link_goes_down()
        talk.until_woken()
        talk.link_goes_down(4001)
        assert talk.state == "closed"
        assert talk.outcome(op) == Kept()

    def test_too_fast_for_the_server_it_goes_on_at_its_pace(self, converse: Converse) -> None:
        talk = converse(outbox={"rate": 10.0, "burst": 5})
        talk.connects()
        for number in range(20):
            talk.enqueues(number)
        talk.ack_carried()
        assert len(talk.carried) == 5
        talk.link_goes_down(4011, "message_rate")
        talk.forget()
        talk.comes_back()
        began, sent_at = talk.now, []
        while len(sent_at) < 15:
            sent_at += [talk.now - began] * (len(talk.carried) - len(sent_at))
            talk.server(*[{"type": "ack", "requestId": frame["requestId"]} for frame in talk.carried])
            talk.until_woken()
        assert len([at for at in sent_at if at <= SECOND]) <= 5 + 10, "a new connection is no new burst"
        assert sent_at[-1] >= 0.8 * SECOND


class TestTheEnd:
    @each_phase
    @each_store
    def test_closing(self, converse: Converse, phase: str, loaded: Loaded | None) -> None:
        talk = converse(api_key=None, outbox={}, loaded=loaded)
        bring_to(talk, phase)
        op, flush = talk.enqueues(), talk.flushes()
        nobody = talk.enqueues()
        talk.withdraws(nobody)
        assert talk.waits(flush)
        talk.asks(Close())
        assert talk.outcome(op) == (Dropped("closed") if loaded is None else Kept())
        assert talk.error(flush) == NotConnectedError("closed")
        assert talk.forgotten == []
        assert talk.outbox is not None
        assert talk.outbox.counters.dropped == (2 if loaded is None else 0)
        with pytest.raises(NotConnectedError):
            talk.drafts()
        assert talk.error(talk.flushes()) == NotConnectedError("closed")

    @each_store
    def test_a_draft_that_comes_to_a_closed_client(self, converse: Converse, loaded: Loaded | None) -> None:
        talk = converse(outbox={}, loaded=loaded)
        talk.connects()
        entry = talk.drafts()
        talk.asks(Close())
        assert talk.outcome(talk.enters(entry)) == (Dropped("closed") if loaded is None else Kept())

    @pytest.mark.parametrize("code", FINAL)
    @each_store
    def test_the_server_says_that_it_is_over(self, converse: Converse, code: int, loaded: Loaded | None) -> None:
        talk = converse(outbox={}, loaded=loaded)
        talk.connects()
        op, flush = talk.enqueues(), talk.flushes()
        talk.link_goes_down(code, "for good")
        assert talk.told[-1] == Disconnected(code, "for good", will_reconnect=False)
        assert talk.outcome(op) == (Dropped("closed") if loaded is None else Kept())
        assert talk.error(flush) == NotConnectedError("closed")

    def test_no_reconnecting(self, converse: Converse) -> None:
        talk = converse(outbox={}, no_reconnect=True, loaded=DURABLE)
        talk.connects()
        op = talk.enqueues()
        talk.link_goes_down()
        assert talk.outcome(op) == Kept()

    def test_the_last_attempt(self, converse: Converse) -> None:
        talk = converse(outbox={}, reconnect={"max_attempts": 2})
        talk.connects()
        op = talk.enqueues()
        talk.link_goes_down()
        while talk.state != "closed":
            talk.until_woken()
            if talk.state != "closed":
                talk.link_goes_down()
        assert talk.outcome(op) == Dropped("closed")

    @each_store
    def test_what_was_delivered_before_it_stays_delivered(self, converse: Converse, loaded: Loaded | None) -> None:
        talk = converse(outbox={}, loaded=loaded)
        talk.connects()
        done, open_ = talk.enqueues(), talk.enqueues()
        talk.ack(talk.carried[0]["requestId"])
        talk.asks(Close())
        assert talk.outcome(done) == Delivered()
        assert talk.outcome(open_) != Delivered()


class TestAnswers:
    def test_beside_requests_of_other_kinds(self, sender: Conversation) -> None:
        published, kept, sent = sender.publishes(), sender.enqueues(), sender.sends()
        assert sender.session.in_flight == 2
        sender.ack(sender.carried[0]["requestId"])
        assert sender.outcome(kept) == Delivered()
        assert sender.waits(published)
        assert sender.waits(sent)
        sender.ack(published)
        sender.ack(sent)
        assert sender.error(published) is sender.error(sent) is None

    def test_its_acknowledgements_count_among_the_latencies(self, sender: Conversation) -> None:
        before = sender.session.ack_latencies.count
        sender.enqueues()
        sender.now += SECOND
        sender.ack_carried()
        assert sender.session.ack_latencies.count == before + 1
        assert sender.session.ack_latencies.quantile(1) == pytest.approx(1, rel=0.125)

    @pytest.mark.parametrize("code", sorted({*OF_THE_CHANNEL, "missing_data", "malformed_message"}))
    def test_refused_for_good(self, sender: Conversation, code: str) -> None:
        op, after = sender.enqueues(), sender.enqueues()
        sender.refuse(sender.carried[0]["requestId"], code, "because")
        assert sender.outcome(op) == Refused(code, "because")
        assert not [event for event in sender.told if isinstance(event, ServerError)]
        assert sender.waits(after)

    @pytest.mark.parametrize("code", sorted(PASSING))
    def test_refused_for_now(self, sender: Conversation, code: str) -> None:
        op = sender.enqueues()
        sender.refuse(sender.carried[0]["requestId"], code)
        assert sender.waits(op)
        assert sender.session.deadline == Deadline(sender.now + SECOND, "outbox pause")
        sender.forget()
        sender.advance(1)
        assert (values(sender), marks(sender)) == ([1], [True])
        sender.ack_carried()
        assert sender.outcome(op) == Delivered()

    def test_not_answered_at_all(self, sender: Conversation) -> None:
        op = sender.enqueues()
        late = sender.carried[0]["requestId"]
        sender.forget()
        sender.advance(14.999_999)
        assert sender.carried == []
        sender.advance(0.000_001)
        assert marks(sender) == [True]
        sender.ack(late)
        assert sender.waits(op), "it was given up"
        sender.ack_carried()
        assert sender.outcome(op) == Delivered()

    def test_a_secret_in_a_refusal_is_masked(self, sender: Conversation) -> None:
        op = sender.enqueues()
        sender.refuse(sender.carried[0]["requestId"], "invalid_channel", f"key={sender.settings.api_key} is bad")
        assert str(sender.settings.api_key) not in repr(sender.outcome(op))


class TestFlush:
    def test_without_a_connection_it_waits_for_one(self, converse: Converse) -> None:
        talk = converse(outbox={})
        op, flush = talk.enqueues(), talk.flushes()
        talk.connects()
        assert talk.waits(flush)
        talk.ack_carried()
        assert talk.outcome(op) == Delivered()
        assert talk.error(flush) is None

    def test_a_message_that_is_drafted_and_not_enqueued_is_none_of_it(self, sender: Conversation) -> None:
        first, second = sender.enqueues("first"), sender.enqueues("second")
        entry = sender.drafts("third")
        flush = sender.flushes()
        third = sender.enters(entry)
        sender.ack(sender.carried[2]["requestId"])
        sender.ack(sender.carried[0]["requestId"])
        assert sender.outcome(third) == sender.outcome(first) == Delivered()
        assert sender.waits(flush), "the second is still open"
        sender.ack(sender.carried[1]["requestId"])
        assert sender.outcome(second) == Delivered()
        assert sender.error(flush) is None

    def test_withdrawn_it_leaves_batches_to_themselves(self, converse: Converse) -> None:
        talk = converse(outbox={"batch": BatchOptions(max_messages=10, max_delay=5)})
        talk.connects()
        talk.enqueues(1)
        flush = talk.flushes()
        assert values(talk) == [1], "a batch does not wait while somebody flushes"
        talk.withdraws(flush)
        talk.enqueues(2)
        assert values(talk) == [1]
        talk.advance(5)
        assert values(talk) == [1, 2]


class TestTime:
    @each_phase
    def test_an_hour_without_a_busy_moment(self, converse: Converse, phase: str) -> None:
        """`advance` fails where the session wants to be woken again and again."""
        talk = converse(
            api_key=None,
            outbox={"max_age": 600.0, "rate": 5.0, "burst": 2, "batch": BatchOptions(max_messages=3)},
            reconnect={"max_attempts": 10_000},
        )
        bring_to(talk, phase)
        ops = [talk.enqueues(number) for number in range(10)]
        talk.advance(3600)
        assert talk.session.deadline is None or talk.session.deadline.at > talk.now
        if phase in ("idle", "waiting"):
            assert [talk.outcome(op) for op in ops] == [Dropped("expired")] * 10

    def test_expiry_in_idle(self, converse: Converse) -> None:
        talk = converse(outbox={"max_age": 2.0})
        op = talk.enqueues()
        assert talk.session.deadline == Deadline(2 * SECOND, "outbox expiry")
        talk.until_woken()
        assert talk.outcome(op) == Dropped("expired")
        assert talk.session.deadline is None

    def test_the_soonest_of_all_timers(self, converse: Converse) -> None:
        talk = converse(outbox={"rate": 1.0, "burst": 1}, inactivity_timeout=60)
        talk.connects()
        talk.enqueues(1)
        talk.ack_carried()
        talk.enqueues(2)
        assert talk.session.deadline == Deadline(SECOND // 2, "outbox pace")
        talk.until_woken()
        assert talk.session.deadline == Deadline(talk.now + 15 * SECOND, "outbox ack")
        talk.ack(talk.carried[-1]["requestId"])
        assert talk.session.deadline is not None
        assert talk.session.deadline.why == "ping"

    def test_waking_for_nothing_is_harmless(self, sender: Conversation) -> None:
        sender.enqueues()
        sender.forget()
        for _ in range(3):
            sender.give(Woken())
        assert sender.orders == []


def message(data: object, channel: str = "fleet", sender: str = "dev") -> dict[str, Any]:
    return {"type": "message", "channel": channel, "from": sender, "data": data}


def sealed(number: int, *, redelivered: bool = False, **more: Any) -> Any:
    data = msgspec.json.encode({"n": number})
    return msgspec.json.decode(seal(data, id=f"b-{number}", outbox="b", seq=number, redelivered=redelivered, **more))


class TestReceiving:
    @pytest.fixture
    def listener(self, converse: Converse) -> Conversation:
        talk = converse(deduplicator=Deduplicator())
        talk.connects()
        talk.forget()
        return talk

    def test_messages_are_told_as_they_were_enqueued(self, listener: Conversation) -> None:
        listener.server({**message(sealed(1)), "fromMetadata": {"name": "Ann"}}, message({"plain": True}))
        assert listener.told == [
            Message("fleet", "dev", {"n": 1}, {"name": "Ann"}),
            Message("fleet", "dev", {"plain": True}),
        ]

    def test_repeats_are_not_told(self, listener: Conversation) -> None:
        listener.server(message(sealed(1)), message(sealed(1, redelivered=True)), message(sealed(2)))
        assert [event.data["n"] for event in listener.told] == [1, 2]

    def test_over_a_reconnect_as_well(self, listener: Conversation) -> None:
        listener.server(message(sealed(1)))
        listener.link_goes_down()
        listener.comes_back()
        listener.forget()
        listener.server(message(sealed(1, redelivered=True)), message(sealed(2)))
        assert listener.told == [Message("fleet", "dev", {"n": 2})]

    def test_gaps_are_told_ahead_of_what_shows_them(self, listener: Conversation) -> None:
        listener.server(message(sealed(1)), message(sealed(4)))
        assert listener.told[1:] == [Gap("fleet", "dev", 2), Message("fleet", "dev", {"n": 4})]

    def test_a_batch_is_told_message_by_message(self, listener: Conversation) -> None:
        stamps = [BatchStamp("b-1", 1), BatchStamp("b-2", 2)]
        listener.server(message(msgspec.json.decode(seal_batch("b", stamps, [b"1", b'{"n":2}']))))
        assert [event.data for event in listener.told] == [1, {"n": 2}]

    @pytest.mark.parametrize("under", [None, 1, [], {}, {"id": "x"}, {"id": "", "outbox": "b", "seq": 1}])
    def test_what_only_looks_like_an_envelope_is_told_as_it_came(self, listener: Conversation, under: object) -> None:
        listener.server(message({KEY: under, "n": 1}))
        assert listener.told == [Message("fleet", "dev", {KEY: under, "n": 1})]

    def test_without_it_messages_are_told_as_they_came(self, online: Conversation) -> None:
        online.server(message(sealed(1)), message(sealed(1)))
        assert [event.data for event in online.told] == [sealed(1)] * 2

    def test_one_client_may_do_both(self, converse: Converse) -> None:
        one = converse(outbox={"batch": BatchOptions(max_messages=2)})
        other = converse(deduplicator=Deduplicator(), outbox={})
        for talk in (one, other):
            talk.connects()
        for number in range(4):
            one.enqueues(number)
        one.link_goes_down()
        one.comes_back()
        assert values(one) == [0, 1, 2, 3, 0, 1, 2, 3]
        other.server(*[message(frame["data"]) for frame in one.carried])
        assert [event.data for event in other.told if isinstance(event, Message)] == [0, 1, 2, 3]


class Store:
    """What a store with a file would hold, over several lives of one device."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.next_key = 1
        self.outbox: str | None = None
        self.sequences: dict[str, int] = {}
        self.attempted_through = 0

    def loaded(self, now: int) -> Loaded:
        entries = tuple(
            msgspec.structs.replace(entry, born=min(0, entry.born - now)) for entry in self.entries.values()
        )
        return Loaded(entries, self.next_key, self.outbox, dict(self.sequences), self.attempted_through, True)

    def keep(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        self.next_key, self.outbox = entry.key + 1, entry.outbox
        self.sequences[entry.channel] = entry.seq

    def catch_up(self, talk: Conversation) -> None:
        for key in talk.forgotten:
            self.entries.pop(key, None)
        self.attempted_through = talk.attempted_through


@each_row("seed", range(20))
def test_lives_of_a_device(converse: Converse, seed: int) -> None:
    """Whatever happens to a device and its connections, the server gets every reading, in order but for repeats."""
    dice = random.Random(seed)
    store = Store()
    options: dict[str, Any] = {
        "window": dice.choice([1, 3, 256]),
        "rate": dice.choice([None, 50.0]),
        "batch": dice.choice([None, BatchOptions(max_messages=3, max_delay=0.5)]),
    }
    reader = Deduplicator()
    accepted: list[int] = []
    arrived: list[int] = []

    def serve(talk: Conversation, taken: int) -> int:
        """The server takes in what was sent since; returns how much that is."""
        for frame in talk.carried[taken:]:
            for found in reader.read(Message(frame["channel"], "dev", frame["data"])):
                assert not isinstance(found, Gap)
                arrived.append(found.data["n"])
        return len(talk.carried)

    for life in range(6):
        talk = converse(seed=seed + life, outbox=options, loaded=store.loaded(0))
        talk.asks(Connect())
        taken = acked = 0
        for _ in range(60):
            match dice.randrange(10):
                case 0 | 1 | 2:
                    entry = talk.drafts({"n": len(accepted)})
                    store.keep(entry)
                    accepted.append(len(accepted))
                    talk.enters(entry)
                case 3 | 4 | 5 if talk.state == "connected" and acked < len(talk.carried):
                    frame = talk.carried[acked]
                    acked += 1
                    if dice.random() < 0.1:
                        talk.refuse(frame["requestId"], "backend_error")
                    elif dice.random() < 0.9:  # else it gets lost
                        talk.ack(frame["requestId"])
                case 6 if talk.state == "connected" and dice.random() < 0.3:
                    talk.link_goes_down(dice.choice([1001, 1006, 4011]))
                    acked = len(talk.carried)
                case 7:
                    talk.advance(dice.uniform(0, 3))
                case _ if talk.session._phase.name == "opening":
                    talk.link_comes_up()
                case _ if talk.session._phase.name == "greeting":
                    talk.welcome()
                case _ if talk.session._phase.name == "idle":
                    talk.asks(Connect())
                case _:
                    pass
            store.catch_up(talk)
            taken = serve(talk, taken)
        if dice.random() < 0.3:
            talk.asks(Close())
            store.catch_up(talk)
    last = converse(outbox=options, loaded=store.loaded(0))
    last.connects()
    taken = acked = 0
    while last.outbox is not None and len(last.outbox):
        taken = serve(last, taken)
        while acked < len(last.carried):
            acked += 1
            last.ack(last.carried[acked - 1]["requestId"])
        last.advance(1)
    serve(last, taken)
    assert sorted(arrived) == accepted
    assert len(accepted) > 50


def test_facts_that_concern_no_message_change_nothing(sender: Conversation) -> None:
    sender.enqueues()
    sender.forget()
    sender.give(Withdrawn(999))
    sender.give(LinkDown(sender.link + 7, 1006))
    assert sender.orders == []
    assert not [answer for answer in sender.answers.values() if answer == Answer(2)]
