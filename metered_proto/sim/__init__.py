"""Whole worlds in virtual time: relays, clients and rooms, bad links between them, and what must hold all the same.

The machines are those of production, unmodified. A `Plan` says who is there, what they want and what goes wrong;
`simulate` lets it happen and looks whether every promise was kept (`metered_proto.sim.checks`); `shrink` makes a plan
that fails as small as it can be. One seed, one run: the same to the last order, on every Python.
"""

from metered_proto.sim.plan import Act, Client, Peer, Plan, dump, load
from metered_proto.sim.recordings import recordings
from metered_proto.sim.runs import Summary, simulate
from metered_proto.sim.scenarios import SCENARIOS, Draw
from metered_proto.sim.shrink import shrink
from metered_proto.sim.steps import Step, Violation, digest
from metered_proto.sim.world import World

__all__ = [
    "SCENARIOS",
    "Act",
    "Client",
    "Draw",
    "Peer",
    "Plan",
    "Step",
    "Summary",
    "Violation",
    "World",
    "digest",
    "dump",
    "load",
    "recordings",
    "shrink",
    "simulate",
]
