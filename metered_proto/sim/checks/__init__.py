"""The promises of the machines, each with the function that sees when it is broken (`docs/promises.md`).

Those of a trace take steps, and so can be used on any run of any machines; those of a world take a
`metered_proto.sim.World` that has come to rest.
"""

from metered_proto.sim.checks.chunks import cutting_changes_nothing
from metered_proto.sim.checks.memory import bound_of_client, bound_of_relay, bound_of_room, held
from metered_proto.sim.checks.traces import (
    delays_are_the_ladders,
    each_asked_is_answered_once,
    every_timer_fires,
    losses_are_told_at_once,
    no_secret_is_shown,
    nothing_is_told_twice,
    order_is_kept,
    repeats_are_marked,
)
from metered_proto.sim.checks.worlds import (
    agreement,
    answers_fit_the_questions,
    calls_are_up,
    closing_leaves_nothing,
    come_to_rest,
    everybody_is_back,
    everything_is_answered,
    machines_make_sense,
    memory_is_bounded,
    outboxes_lose_nothing,
    presence_is_the_relays,
    rosters_are_the_relays,
    subscriptions_are_there,
)

__all__ = [
    "agreement",
    "answers_fit_the_questions",
    "bound_of_client",
    "bound_of_relay",
    "bound_of_room",
    "calls_are_up",
    "closing_leaves_nothing",
    "come_to_rest",
    "cutting_changes_nothing",
    "delays_are_the_ladders",
    "each_asked_is_answered_once",
    "every_timer_fires",
    "everybody_is_back",
    "everything_is_answered",
    "held",
    "losses_are_told_at_once",
    "machines_make_sense",
    "memory_is_bounded",
    "no_secret_is_shown",
    "nothing_is_told_twice",
    "order_is_kept",
    "outboxes_lose_nothing",
    "presence_is_the_relays",
    "repeats_are_marked",
    "rosters_are_the_relays",
    "subscriptions_are_there",
]
