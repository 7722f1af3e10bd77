"""The roster against a simpler one: whatever presence says, both have the same members, and the changes add up."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from model_kit import modest

from metered_proto.events import Presence, PresencePeer
from metered_proto.room.roster import Changes, Roster

LIMIT = 4
names = st.sampled_from(["a", "b", "c", "d", "e", "f", "me", ""])
peers = st.lists(st.tuples(names, st.sampled_from([None, {"n": 1}])), max_size=5)
kept = st.sets(names, max_size=4)


class RosterModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster(LIMIT)
        self.roster.is_now("me")
        self.members: dict[str, Any] = {}
        self.away: set[str] = set()

    @rule(joined=peers, kept=kept)
    def snapshot(self, joined: Any, kept: set[str]) -> None:
        changes = self.roster.snapshot(self.presence(joined, []), kept.__contains__)
        named = self.named(joined)
        self.apply([name for name in self.members if name not in named], named, kept, changes)

    @rule(joined=peers, left=peers, kept=kept)
    def delta(self, joined: Any, left: Any, kept: set[str]) -> None:
        changes = self.roster.delta(self.presence(joined, left), kept.__contains__)
        self.apply([name for name, _ in left if name in self.members], self.named(joined), kept, changes)

    @rule()
    def recall(self) -> None:
        self.roster.recall()
        self.away.clear()

    @rule()
    def give_up(self) -> None:
        for name in sorted(self.away)[:1]:
            self.roster.remove(name)
            self.away.remove(name)
            del self.members[name]

    @staticmethod
    def presence(joined: Any, left: Any) -> Presence:
        return Presence(
            "room", tuple(PresencePeer(*peer) for peer in joined), tuple(PresencePeer(name) for name, _ in left)
        )

    @staticmethod
    def named(joined: Any) -> dict[str, Any]:
        return {name: metadata for name, metadata in joined if name not in ("me", "")}

    def apply(self, missing: list[str], named: dict[str, Any], kept: set[str], changes: Changes) -> None:
        before, away = dict(self.members), set(self.away)
        for name in missing:
            if name in kept:
                self.away.add(name)
            elif self.members.pop(name, self) is not self:
                self.away.discard(name)
        refused = 0
        for name, metadata in named.items():
            if name in self.members or len(self.members) < LIMIT:
                self.members[name] = metadata
                self.away.discard(name)
            else:
                refused += 1
        assert changes.refused == refused
        assert set(before) - set(self.members) <= set(changes.left) <= set(before)
        assert set(self.members) - set(before) <= set(changes.joined) <= set(self.members)
        assert set(changes.away) == self.away - away
        assert set(changes.updated) <= set(changes.stayed + changes.returned)
        told = [*changes.away, *changes.returned, *changes.stayed, *changes.joined]
        assert len(set(told)) == len(told)
        assert not set(changes.left) & set(changes.away + changes.returned + changes.stayed)
        survivors = set(before) - set(changes.left)
        changed = {name for name in survivors & set(named) if before[name] != named[name]}
        assert changed == set(changes.updated)

    @invariant()
    def the_same(self) -> None:
        assert {name: self.roster.metadata(name) for name in self.roster} == self.members
        assert {name for name in self.roster if self.roster.is_away(name)} == self.away
        assert len(self.roster) <= LIMIT


TestRosterModel = RosterModel.TestCase
TestRosterModel.settings = modest(25, 15)
