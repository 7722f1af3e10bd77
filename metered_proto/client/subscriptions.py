"""What the application listens to, and restoring it after a reconnect.

A wish is made when a subscribe is sent and lives until an unsubscribe, or until the server refuses the very
first subscribe. It outlives the connection: after a welcome all wishes are replayed. A replay that fails, or is
not answered, is tried again up to three more times, two seconds apart, on the same connection; a new subscribe or
an unsubscribe of the channel in between takes its place.
"""

from __future__ import annotations

import msgspec

from metered_proto.client.calls import Subscribe
from metered_proto.errors import ServerRequestError
from metered_proto.events import ServerError
from metered_proto.facts import Fact, LinkDown, Woken
from metered_proto.machine import SECOND, Deadline, Micros, micros, soonest
from metered_proto.orders import Note, Order, Send, Tell
from metered_proto.wire.codec import encode_frame
from metered_proto.wire.messages import SubscribeFrame

RETRIES = 3
RETRY_AFTER: Micros = 2 * SECOND


class Wish(msgspec.Struct, gc=False):
    """One channel or pattern to listen to."""

    include_sender_metadata: bool
    """As in the latest subscribe."""

    first: int
    """The serial number of its first subscribe: what came before was unsubscribed, and decides nothing any more."""

    latest: int
    """The serial number of its latest subscribe: a refusal of an older one decides nothing any more."""

    established: bool | None = None
    """As in the latest subscribe that the server took, None where it took none yet: what a refusal falls back to."""


class Replay(msgspec.Struct, frozen=True, gc=False):
    """A subscribe of our own accord: in flight until `due`, or to be sent at `due`."""

    channel: str
    attempt: int
    due: Micros
    serial: int = 0
    include_sender_metadata: bool = False


class Subscriptions:
    """The wishes of one client, by channel, in the order in which they were first made."""

    def __init__(self, *, keep: bool, ack_timeout: float) -> None:
        self._keep = keep
        self._timeout = micros(ack_timeout)
        self._wishes: dict[str, Wish] = {}
        self._link: int | None = None
        self._serial = 0  # numbers every subscribe, the application's and our own
        # Everything in one of these waits equally long, so the first in is the first due.
        self._in_flight: dict[str, Replay] = {}  # by request id
        self._again: dict[str, Replay] = {}  # by channel

    @property
    def channels(self) -> tuple[str, ...]:
        """All wishes."""
        return tuple(self._wishes)

    @property
    def deadline(self) -> Deadline | None:
        """The next replay to be given up waiting for, or to be tried again."""
        if not self._in_flight and not self._again:
            return None
        return soonest(
            (
                *(Deadline(replay.due, "replay ack") for replay in _first(self._in_flight)),
                *(Deadline(replay.due, "replay again") for replay in _first(self._again)),
            )
        )

    # --- what the application does ---

    def wish(self, call: Subscribe) -> int:
        """A subscribe goes out; returns its serial number. It takes the place of any replay of the same channel."""
        self._again.pop(call.channel, None)
        self._serial += 1
        wish = self._wishes.get(call.channel)
        if wish is None:
            self._wishes[call.channel] = Wish(call.include_sender_metadata, self._serial, self._serial)
        else:
            wish.include_sender_metadata = call.include_sender_metadata
            wish.latest = self._serial
        return self._serial

    def drop(self, channel: str) -> None:
        """An unsubscribe goes out, or would if there were a connection."""
        self._wishes.pop(channel, None)
        self._again.pop(channel, None)

    def settled(self, call: Subscribe, serial: int, *, refused: bool) -> None:
        """The server answered a subscribe of the application's."""
        wish = self._wishes.get(call.channel)
        if wish is None or serial < wish.first:
            return
        if not refused:
            wish.established = call.include_sender_metadata
        elif wish.latest == serial:
            if wish.established is None:
                del self._wishes[call.channel]
            else:
                wish.include_sender_metadata = wish.established

    # --- what the connection does ---

    def replay(self, now: Micros, link: int) -> list[Order]:
        """The server welcomed us: ask again for everything."""
        self._link = link
        return [self._ask(now, channel, 1) for channel in self._wishes]

    def replayed(self, now: Micros, request_id: str, error: ServerRequestError | None) -> list[Order]:
        """The server answered a request that is not in the ledger; if it is a replay of ours, take note."""
        replay = self._in_flight.pop(request_id, None)
        return [] if replay is None else self._outcome(now, request_id, replay, error)

    def __contains__(self, request_id: object) -> bool:
        """Whether `request_id` is a replay in flight."""
        return request_id in self._in_flight

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Send what is due again, give up what was not answered, forget what belongs to a connection that is lost."""
        match fact:
            case Woken():
                return self._look(now)
            case LinkDown():
                self._link = None
                self._in_flight.clear()
                self._again.clear()
                if not self._keep:
                    self._wishes.clear()
            case _:
                pass
        return []

    def _look(self, now: Micros) -> list[Order]:
        orders: list[Order] = []
        while (request_id := next(iter(self._in_flight), None)) and self._in_flight[request_id].due <= now:
            replay = self._in_flight.pop(request_id)
            orders += self._outcome(now, request_id, replay, ServerRequestError("timeout", "no acknowledgement"))
        while (channel := next(iter(self._again), None)) and self._again[channel].due <= now:
            replay = self._again.pop(channel)
            orders.append(self._ask(now, channel, replay.attempt))
        return orders

    def _ask(self, now: Micros, channel: str, attempt: int) -> Order:
        assert self._link is not None  # replays live and die with a link
        self._serial += 1
        request_id = f"s{self._serial}"
        wish = self._wishes[channel]
        wish.latest = self._serial
        include = wish.include_sender_metadata
        self._in_flight[request_id] = Replay(channel, attempt, now + self._timeout, self._serial, include)
        return Send(self._link, encode_frame(SubscribeFrame(channel, include, request_id)))

    def _outcome(self, now: Micros, request_id: str, replay: Replay, error: ServerRequestError | None) -> list[Order]:
        wish = self._wishes.get(replay.channel)
        if wish is None or replay.serial < wish.first:
            return []  # unsubscribed in the meantime
        if error is None:
            wish.established = replay.include_sender_metadata
            return []
        if replay.serial != wish.latest:
            return []  # subscribed anew in the meantime
        context = {"channel": replay.channel, "code": error.code, "attempt": replay.attempt}
        if replay.attempt <= RETRIES:
            self._again[replay.channel] = Replay(replay.channel, replay.attempt + 1, now + RETRY_AFTER)
            return [Note("warning", "could not restore a subscription, trying again", context)]
        return [
            Note("error", "could not restore a subscription on this connection", context),
            Tell(ServerError(error.code, f"could not restore the subscription to {replay.channel}", request_id)),
        ]


def _first(replays: dict[str, Replay]) -> tuple[Replay, ...]:
    for replay in replays.values():
        return (replay,)
    return ()
