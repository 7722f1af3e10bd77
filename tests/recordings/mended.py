"""Machines as they do since a fault was mended, and at rules that are easily broken: recordings of conversations in the
core's own tests, and of simulated runs.

README.md beside this says what each is the regression of.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metered_proto.machine import SECOND
from metered_proto.replay import ClientPlan, PeerPlan, Plan, Recorder
from metered_proto.settings import Outbox
from metered_proto.sim import Act, recordings, simulate
from metered_proto.sim import Plan as WorldPlan
from metered_proto.sim.plan import Client, Cut, Host, Joins, Peer, Publishes, RelayDies, SendsTrack
from metered_proto.wire.close_codes import WsCloseCode

PROTO = Path(__file__).parents[1] / "proto"
sys.path[:0] = [str(PROTO), str(PROTO / "rtc")]


def made() -> dict[str, bytes]:
    """Each recording by the name of its file, without the suffix."""
    mended = {f"mended-{name}": make() for name, make in MENDED.items()}
    return mended | {f"rule-{name}": make() for name, make in RULES.items()}


class _Recorded(Recorder):
    """A recorder that a test can look through, at the machine."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)


def _peer(file: str, group: str, test: str, *, polite: bool) -> bytes:
    from talk_kit import Talk

    talk = Talk(polite=polite)
    plan = PeerPlan(talk.options, "1", polite)
    return _conversation(talk, "peer", plan, lambda: getattr(getattr(_load("rtc", file), group)(), test)(talk))


def _taken_over() -> bytes:
    from talk_kit import Talk

    talk = Talk(polite=False)

    def converse() -> None:
        talk.is_called()
        talk.remote_offers(ufrag="they2")
        talk.describes()
        talk.changes("connected")

    return _conversation(talk, "peer", PeerPlan(talk.options, "1", False), converse)


def _client(group: str, test: str, **settings: Any) -> bytes:
    talk = _load("client", "conftest").Conversation(**settings)
    plan = ClientPlan(talk.settings, "1")
    run = getattr(getattr(_load("client", "test_session_reconnecting"), group)(), test)

    def converse() -> None:
        talk.connects()
        talk.forget()
        run(talk)

    return _conversation(talk, "session", plan, converse)


def _key_refused() -> bytes:
    talk = _load("client", "conftest").Conversation()

    def converse() -> None:
        talk.connects()
        talk.link_goes_down(WsCloseCode.TOKEN_EXPIRED, "why")
        assert talk.state == "closed"

    return _conversation(talk, "session", ClientPlan(talk.settings, "1"), converse)


def _conversation(talk: Any, machine: str, plan: Plan, converse: Callable[[], object]) -> bytes:
    chunks: list[bytes] = []
    recorder = _Recorded(getattr(talk, machine), chunks.append, plan=plan, key=b"a key of this test")
    setattr(talk, machine, recorder)
    converse()
    recorder.flush()
    return b"".join(chunks)


def _load(folder: str, file: str) -> Any:
    """A file of tests, whose name may not be that of one module alone."""
    name = f"mended_{folder}_{file}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PROTO / folder / f"{file}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _simulated(host: str, hosts: tuple[Host, ...], *script: Act) -> bytes:
    world, run = simulate(WorldPlan(scenario="mended", seed=1, hosts=hosts, script=script))
    assert not run.violations, run.violations
    return recordings(world)[host]


def _survivor(*, tokens: bool) -> bytes:
    return _simulated(
        "ada",
        (Peer(name="ada", tokens=tokens), Peer(name="bob", tokens=tokens)),
        *(Act(SECOND, name, Joins()) for name in ("ada", "bob")),
        Act(2 * SECOND, "ada", SendsTrack(1)),
        Act(20 * SECOND, "", RelayDies(span=5 * SECOND)),
    )


def _outbox() -> bytes:
    return _simulated(
        "device",
        (Client(name="device", outbox=Outbox()), Client(name="backend", subscribes=("a",), deduplicates=True)),
        Act(SECOND, "device", Publishes("a", count=40, every=SECOND // 100, through="outbox")),
        Act(SECOND + SECOND // 8, "device", Cut()),
    )


NEGOTIATION = "test_rtc_negotiation"

MENDED: dict[str, Callable[[], bytes]] = {
    "late-answer": lambda: _peer(
        NEGOTIATION, "TestWhatIsLost", "test_an_answer_that_names_another_offer_is_not_taken", polite=False
    ),
    "offer-said-again": lambda: _peer(
        NEGOTIATION, "TestWhatIsLost", "test_even_while_an_offer_of_ours_is_out", polite=True
    ),
    "answer-not-said-again": lambda: _peer(NEGOTIATION, "TestWhatIsLost", "test_an_answer_is_not", polite=False),
    "promise": lambda: _peer(NEGOTIATION, "TestAPromise", "test_is_asked_for_by_the_impolite_side", polite=False),
    "goodbye-after-answer": _taken_over,
    "offer-retried": lambda: _peer(NEGOTIATION, "TestTheEngineCannot", "test_describe_a_change_of_ours", polite=False),
    "flapping-server": lambda: _client(
        "TestLostAndBack", "test_a_server_that_lets_everybody_in_to_fall_down_again_is_not_run_against"
    ),
}

RULES: dict[str, Callable[[], bytes]] = {
    "glare": lambda: _peer(
        NEGOTIATION,
        "TestTwoOffersThatCross",
        "test_or_answers_from_another_connection_where_there_is_no_way_back",
        polite=True,
    ),
    "going-away": lambda: _client("TestGoingAway", "test_it_holds_for_every_attempt_until_then"),
    "restore-refused": lambda: _client(
        "TestRestoring", "test_a_failed_replay_is_tried_three_more_times_two_seconds_apart"
    ),
    "key-expired": _key_refused,
    "survivor": lambda: _survivor(tokens=True),
    "new-ids": lambda: _survivor(tokens=False),
    "outbox-in-order": _outbox,
}
