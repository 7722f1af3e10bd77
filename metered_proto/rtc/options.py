"""How an `RtcPeer` behaves in time. Frozen, and validated when made."""

from __future__ import annotations

import msgspec

from metered_proto.settings import check_duration


class RtcOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Durations are float seconds.

    `relay_only`: no other candidates than those of the TURN server.
    `impolite_wait`, `polite_wait`: how long either side waits for the remote's first offer on a connection before it
    makes one. Browsers offer at once. A polite one may not recover from an offer that meets its own when that has only
    just been made: Chromium rolls back, and sometimes never gathers a candidate again. So it is our impolite side that
    waits. An impolite browser ignores our offer, and we answer its.
    `promise_wait`: how long the impolite side waits for the offer of a remote that has said what its tracks are for.
    Then it offers to receive them: the published SDK, when polite, takes two seconds for its offer.
    `ask_delay`: how long a side that has nothing to send waits for a lost call to come back before it asks for it.
    `answer_timeout`: an offer that is not answered is said again after this, then after twice as long, and so on.
    `attempt_timeout`: how long a connection may take to come up, and an engine to describe one.
    `offer_retries`: before each new try of an offer that the engine could not make on a connection that is up.
    `rebuild_delays`: before each rebuild of a lost connection; when they are used up, it is over.
    `disconnected_timeout`: how long a connection may be `disconnected` before it counts as failed.
    `follow_interval`: what the remote rebuilds, ours follows at most so often.
    `stream_timeout`: streams that a rebuilt connection does not bring back within this time are gone.
    """

    relay_only: bool = False
    impolite_wait: float = 0.15
    polite_wait: float = 0.05
    promise_wait: float = 0.3
    ask_delay: float = 1.0
    answer_timeout: float = 3.0
    attempt_timeout: float = 15.0
    offer_retries: tuple[float, ...] = (0.5, 1, 2)
    rebuild_delays: tuple[float, ...] = (0, 1, 2, 4, 8, 16, 30, 30, 30)
    disconnected_timeout: float = 5.0
    follow_interval: float = 2.0
    stream_timeout: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.relay_only, bool):
            raise TypeError("relay_only must be True or False")
        check_duration("promise_wait", self.promise_wait)
        for name in ("ask_delay", "answer_timeout", "attempt_timeout", "disconnected_timeout", "follow_interval"):
            check_duration(name, getattr(self, name))
        check_duration("stream_timeout", self.stream_timeout)
        for name in ("impolite_wait", "polite_wait"):
            _check_pause(name, getattr(self, name))
        if not self.rebuild_delays:
            raise ValueError("rebuild_delays must hold at least one delay")
        for delay in self.rebuild_delays:
            _check_pause("rebuild_delays", delay)
        for delay in self.offer_retries:
            _check_pause("offer_retries", delay)


def _check_pause(name: str, value: object) -> None:
    """As `check_duration`, but it may be nothing."""
    if value != 0 or isinstance(value, bool):
        check_duration(name, value)
