"""Recording what a machine is told and what it orders, and running that through today's code.

recorder = Recorder(ClientSession(settings, Entropy("seed")), file.write, plan=ClientPlan(settings, "seed"), key=key)
…                                        # drive the recorder in place of the machine
recorder.flush()
divergence = replay(Recording.of(data))  # None: it does the same today
"""

from metered_proto.replay.machines import (
    ClientPlan,
    DeduplicatorPlan,
    Discarded,
    Drafted,
    PeerPlan,
    PlainPlan,
    Plan,
    RelayPlan,
    RoomPlan,
)
from metered_proto.replay.page import page
from metered_proto.replay.reading import Header, Recording, Step
from metered_proto.replay.recorder import Recorder, Sink
from metered_proto.replay.replaying import Divergence, Outcome, Player, rebuild, replay, run
from metered_proto.replay.story import Cause, explain
from metered_proto.replay.transcript import Entry, transcript

__all__ = [
    "Cause",
    "ClientPlan",
    "DeduplicatorPlan",
    "Discarded",
    "Divergence",
    "Drafted",
    "Entry",
    "Header",
    "Outcome",
    "PeerPlan",
    "PlainPlan",
    "Plan",
    "Player",
    "Recorder",
    "Recording",
    "RelayPlan",
    "RoomPlan",
    "Sink",
    "Step",
    "explain",
    "page",
    "rebuild",
    "replay",
    "run",
    "transcript",
]
