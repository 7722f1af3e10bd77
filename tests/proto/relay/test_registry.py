"""The registry: by example, and against a model that works everything out from the bare list of subscriptions."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from model_kit import modest

from metered_proto.events import PresencePeer
from metered_proto.relay import registry as registry_file
from metered_proto.relay.registry import Registry
from metered_proto.wire.channels import Pattern, is_pattern


def populated(*links: tuple[int, str]) -> Registry:
    registry = Registry()
    for link, peer_id in links:
        registry.enter(link, PresencePeer(peer_id), sees_presence=True)
    return registry


def test_a_route_has_the_literal_subscribers_and_the_patterns_that_match() -> None:
    registry = populated((1, "a"), (2, "b"), (3, "c"))
    registry.subscribe(1, "fleet/7/telemetry", stamped=False)
    registry.subscribe(2, "fleet/*/telemetry", stamped=True)
    registry.subscribe(3, "fleet/*/commands", stamped=False)
    route = registry.route("fleet/7/telemetry")
    assert (route.everyone, route.plain, route.stamped) == ((1, 2), (1,), (2,))


def test_a_link_that_matches_in_several_ways_is_in_a_route_once_with_metadata_if_any_asked() -> None:
    registry = populated((1, "a"), (2, "b"))
    for name, stamped in (("x/y", False), ("x/*", True), ("**", False)):
        registry.subscribe(1, name, stamped=stamped)
    for name in ("**", "x/y"):
        registry.subscribe(2, name, stamped=False)
    route = registry.route("x/y")
    assert (route.everyone, route.plain, route.stamped) == ((1, 2), (2,), (1,))
    assert registry.wish(1, "x/y") is True
    assert registry.wish(2, "x/y") is False
    assert registry.wish(2, "elsewhere") is False
    registry.unsubscribe(2, "**")
    assert registry.wish(2, "elsewhere") is None


def test_a_route_that_is_known_follows_who_comes_and_who_goes() -> None:
    registry = populated((1, "a"), (2, "b"), (3, "c"))
    for link in (1, 2):
        registry.subscribe(link, "room/1", stamped=False)
    assert registry.route("room/1").everyone == (1, 2)
    registry.unsubscribe(1, "room/1")
    assert registry.route("room/1").everyone == (2,)
    registry.subscribe(3, "room/*", stamped=False)
    assert registry.route("room/1").everyone == (2, 3)
    registry.subscribe(2, "room/1", stamped=True)
    assert registry.route("room/1").stamped == (2,)
    registry.leave(2)
    assert registry.route("room/1").everyone == (3,)
    registry.unsubscribe(3, "room/*")
    assert registry.route("room/1").everyone == ()


def test_whoever_left_is_not_among_those_who_stay_and_may_come_back() -> None:
    registry = populated((1, "a"), (2, "b"))
    for link in (1, 2):
        registry.subscribe(link, "room", stamped=False)
    assert registry.unsubscribe(1, "room") is True
    assert [peer.peer_id for peer in registry.peers("room")] == ["b"]
    assert registry.subscribe(1, "room", stamped=False) is True
    assert [peer.peer_id for peer in registry.peers("room")] == ["b", "a"]


def test_a_peer_joins_with_its_first_link_and_leaves_with_its_last() -> None:
    registry = populated((1, "a"), (2, "a"), (3, "b"))
    assert registry.subscribe(1, "room", stamped=False) is True
    assert registry.subscribe(2, "room", stamped=False) is False
    assert registry.subscribe(2, "room", stamped=True) is False
    assert registry.subscribe(3, "room", stamped=False) is True
    assert [peer.peer_id for peer in registry.peers("room")] == ["a", "b"]
    assert [peer.peer_id for peer in registry.peers("room", but="a")] == ["b"]
    assert registry.leave(1) == []
    assert registry.leave(2) == ["room"]
    assert registry.unsubscribe(3, "room") is True
    assert registry.unsubscribe(3, "room") is False
    assert registry.peers("room") == ()
    assert (registry.channel_count, registry.link_count, registry.peer_count) == (0, 1, 1)


def test_a_pattern_has_no_presence() -> None:
    registry = populated((1, "a"))
    assert registry.subscribe(1, "room/*", stamped=False) is False
    assert registry.peers("room/*") == registry.peers("room/1") == ()
    assert registry.audience("room/*") == ()
    assert registry.leave(1) == []


def test_the_newest_link_of_a_peer_says_how_it_is_seen() -> None:
    registry = Registry()
    old, new = PresencePeer("a", {"name": "old"}), PresencePeer("a", {"name": "new"})
    registry.enter(1, old, sees_presence=True)
    registry.enter(2, new, sees_presence=True)
    registry.subscribe(1, "room", stamped=False)
    registry.subscribe(2, "room", stamped=False)
    assert registry.peers("room") == (new,)


def test_only_those_who_may_see_presence_are_the_audience() -> None:
    registry = populated((1, "a"))
    registry.enter(2, PresencePeer("b"), sees_presence=False)
    registry.subscribe(1, "room", stamped=False)
    registry.subscribe(2, "room", stamped=False)
    assert registry.audience("room") == (1,)
    assert registry.route("room").everyone == (1, 2)
    assert len(registry.peers("room")) == 2
    assert registry.leave(2) == ["room"]


def test_routes_are_kept_until_something_that_bears_on_them_changes() -> None:
    registry = populated((1, "a"), (2, "b"))
    registry.subscribe(1, "x/1", stamped=False)
    registry.subscribe(1, "x/*", stamped=False)
    kept, other = registry.route("x/1"), registry.route("y")
    registry.subscribe(2, "x/2", stamped=False)
    registry.subscribe(1, "x/*", stamped=False)
    registry.subscribe(2, "z/*", stamped=False)
    registry.unsubscribe(2, "z/*")
    assert registry.route("x/1") is kept
    registry.subscribe(2, "x/*", stamped=False)
    assert registry.route("x/1").everyone == (1, 2)
    registry.unsubscribe(2, "x/*")
    assert registry.route("x/1").everyone == (1,)
    assert registry.route("y") is other


def test_without_anybody_who_wants_metadata_a_route_is_one_tuple() -> None:
    registry = populated((1, "a"))
    registry.subscribe(1, "x", stamped=False)
    route = registry.route("x")
    assert route.plain is route.everyone


def test_routes_of_names_that_nobody_uses_twice_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_file, "MAX_ROUTES", 10)
    registry = populated((1, "a"))
    registry.subscribe(1, "**", stamped=False)
    for turn in range(1000):
        assert registry.route(f"c/{turn}").everyone == (1,)
    listeners = registry._files[""]["**"]
    assert list(registry._routes) == list(listeners.routes) == [f"c/{turn}" for turn in range(990, 1000)]


def test_patterns_are_filed_where_channels_look() -> None:
    patterns = ["a/b/*", "a/*/c", "*", "**", "a/b*", "a/b/\\*/*", "a/\\\\/*", "\\*x/**", "/*", "a//*"]
    names = ["a/b/c", "a/bc", "a", "", "a/b/*/x", "a/\\/x", "*x/y", "/", "//", "a//", "a//b", "a/b/"]
    registry = populated(*((link, str(link)) for link in range(len(patterns))))
    for link, pattern in enumerate(patterns):
        registry.subscribe(link, pattern, stamped=False)
    for name in names:
        expected = {link for link, pattern in enumerate(patterns) if Pattern(pattern).matches(name)}
        assert set(registry.route(name).everyone) == expected


def test_nothing_is_left_when_everybody_left() -> None:
    registry = populated(*((link, f"p{link % 7}") for link in range(50)))
    for link in range(50):
        for name in (f"c/{link % 5}", f"c/{link % 3}/*", "all", "**"):
            registry.subscribe(link, name, stamped=bool(link % 2))
    for name in ("c/1", "all"):
        registry.route(name)
    for link in range(50):
        registry.leave(link)
    assert registry._entries == registry._links_of == registry._channels == registry._files == {}
    assert all(not route.everyone for route in registry._routes.values())


NAMES = ("a", "a/b", "a/b/c", "b", "a/*", "a/**", "**", "*/b", "a/b/*", "\\*")
CHANNELS = ("a", "a/b", "a/b/c", "b", "a/", "c/b", "*")


class RegistryModel(RuleBasedStateMachine):
    """Any sequence of subscriptions gives what the list of subscriptions says it should."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.peer_of: dict[int, tuple[str, bool]] = {}
        self.subscribed: dict[tuple[int, str], bool] = {}
        self.next_link = 0

    def present(self, channel: str) -> set[str]:
        return {self.peer_of[link][0] for link, name in self.subscribed if name == channel}

    @rule(peer=st.sampled_from("pqr"), sees=st.booleans())
    def enter(self, peer: str, sees: bool) -> None:
        self.next_link += 1
        self.peer_of[self.next_link] = peer, sees
        self.registry.enter(self.next_link, PresencePeer(peer), sees_presence=sees)

    @precondition(lambda self: self.peer_of)
    @rule(data=st.data(), name=st.sampled_from(NAMES), stamped=st.booleans())
    def subscribe(self, data: st.DataObject, name: str, stamped: bool) -> None:
        link = data.draw(st.sampled_from(sorted(self.peer_of)))
        joins = not is_pattern(name) and self.peer_of[link][0] not in self.present(name)
        assert self.registry.subscribe(link, name, stamped=stamped) is joins
        self.subscribed[link, name] = stamped

    @precondition(lambda self: self.peer_of)
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def unsubscribe(self, data: st.DataObject, name: str) -> None:
        link = data.draw(st.sampled_from(sorted(self.peer_of)))
        before = self.present(name)
        self.subscribed.pop((link, name), None)
        left = not is_pattern(name) and self.present(name) != before
        assert self.registry.unsubscribe(link, name) is left

    @precondition(lambda self: self.peer_of)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(sorted(self.peer_of)))
        names = [name for name in NAMES if not is_pattern(name)]
        before = {name: self.present(name) for name in names}
        for key in [key for key in self.subscribed if key[0] == link]:
            del self.subscribed[key]
        expected = {name for name in names if self.present(name) != before[name]}
        assert set(self.registry.leave(link)) == expected
        del self.peer_of[link]

    @rule(channel=st.sampled_from(CHANNELS))
    def look_at_a_route(self, channel: str) -> None:
        self.registry.route(channel)

    @invariant()
    def everything_agrees_with_the_list(self) -> None:
        registry = self.registry
        assert registry.link_count == len(self.peer_of)
        assert registry.peer_count == len({peer for peer, _ in self.peer_of.values()})
        for peer in "pqr":
            assert set(registry.links_of(peer)) == {link for link, (who, _) in self.peer_of.items() if who == peer}
            assert (peer in registry) == bool(registry.links_of(peer))
        for channel in CHANNELS:
            wants: dict[int, bool] = {}
            for (link, name), stamped in self.subscribed.items():
                if Pattern(name).matches(channel) if is_pattern(name) else name == channel:
                    wants[link] = wants.get(link, False) or stamped
            # Working a route out afresh keeps nothing from being forgotten that a kept one should have forgotten.
            route = registry._routes.get(channel)
            if route is not None:
                assert sorted(route.everyone) == sorted(wants)
                assert sorted(route.stamped) == sorted(link for link in wants if wants[link])
                assert sorted(route.plain) == sorted(link for link in wants if not wants[link])
            for link in self.peer_of:
                assert registry.wish(link, channel) is wants.get(link)
            if not is_pattern(channel):
                here = [link for link, name in self.subscribed if name == channel]
                assert {peer.peer_id for peer in registry.peers(channel)} == self.present(channel)
                assert set(registry.audience(channel)) == {link for link in here if self.peer_of[link][1]}
        for link in self.peer_of:
            mine = {name: stamped for (who, name), stamped in self.subscribed.items() if who == link}
            assert registry.subscriptions(link) == mine


TestRegistryModel = RegistryModel.TestCase
TestRegistryModel.settings = modest(20, 30)
