"""Giving things out: once encoded, once ordered, and counted for those who do not read."""

from __future__ import annotations

import msgspec

from metered_proto.events import PresencePeer
from metered_proto.orders import Broadcast, Order, Send
from metered_proto.relay import Stats
from metered_proto.relay.frames import NO_STAMP
from metered_proto.relay.post import Post
from metered_proto.relay.registry import Registry

DATA = msgspec.Raw(b"1")
STAMP = msgspec.Raw(b"{}")


def office(max_queue: int = 100) -> tuple[Post, Stats]:
    registry, stats = Registry(), Stats()
    for link, stamped in ((1, False), (2, True), (3, False)):
        registry.enter(link, PresencePeer(f"p{link}"), sees_presence=True)
        registry.subscribe(link, "c", stamped=stamped)
    registry.enter(4, PresencePeer("p4"), sees_presence=True)
    registry.subscribe(4, "only", stamped=True)
    registry.enter(5, PresencePeer("p5"), sees_presence=True)
    registry.subscribe(5, "plain", stamped=False)
    registry.subscribe(4, "both", stamped=True)
    registry.subscribe(5, "both", stamped=False)
    return Post(registry, stats, max_queue), stats


def publish(post: Post, channel: str, stamp: object, publisher: int | None) -> tuple[int, list[Order]]:
    orders: list[Order] = []
    return post.publish(channel, "s", DATA, stamp, orders, publisher), orders


def test_without_metadata_one_broadcast_reaches_everybody() -> None:
    post, stats = office()
    reached, orders = publish(post, "c", NO_STAMP, None)
    assert reached == 3
    assert [(order.links, order.skip) for order in orders if isinstance(order, Broadcast)] == [((1, 2, 3), None)]
    assert stats.messages_out == 3
    assert stats.bytes_out == 3 * len(orders[0].payload)


def test_metadata_goes_to_those_who_asked_in_a_broadcast_of_their_own() -> None:
    post, stats = office()
    reached, orders = publish(post, "c", STAMP, 1)
    assert reached == 2
    assert [(order.links, order.skip, b"fromMetadata" in order.payload) for order in orders] == [
        ((1, 3), 1, False),
        ((2,), 1, True),
    ]
    assert stats.messages_out == 2


def test_nothing_is_encoded_for_the_publisher_alone() -> None:
    post, stats = office()
    for channel, publisher in (("only", 4), ("plain", 5), ("nobody", 4)):
        for stamp in (STAMP, NO_STAMP):
            assert publish(post, channel, stamp, publisher) == (0, [])
    assert len(publish(post, "both", STAMP, 4)[1]) == 1
    assert len(publish(post, "both", STAMP, 5)[1]) == 1
    assert stats.messages_out == 2


def test_a_frame_for_nobody_is_no_order() -> None:
    post, _ = office()
    orders: list[Order] = []
    post.to_all((), b"x", orders)
    assert orders == []


def test_a_blocked_link_is_charged_for_what_it_is_given_up_to_the_limit() -> None:
    post, _ = office(max_queue=100)
    orders: list[Order] = []
    post.block(2, 60)
    post.to(2, b"x" * 20, orders)
    post.to_all((1, 2, 3), b"x" * 20, orders)
    assert post.overfull == []
    post.to_all((1, 2, 3), b"x" * 50, orders, skip=2)
    assert post.overfull == []
    post.to(1, b"x" * 1000, orders)
    assert post.overfull == []
    assert (post.blocked, post.queued_bytes) == (1, 100)
    post.to(2, b"x", orders)
    post.to(2, b"x", orders)
    assert post.overfull == [2]
    assert (post.blocked, post.queued_bytes) == (1, 102)
    assert sum(isinstance(order, Send) for order in orders) == 4


def test_a_link_may_be_over_the_limit_from_the_start() -> None:
    post, _ = office(max_queue=100)
    post.block(2, 101)
    assert post.overfull == [2]


def test_a_link_that_drained_starts_afresh() -> None:
    post, _ = office(max_queue=100)
    orders: list[Order] = []
    post.block(2, 90)
    post.unblock(2)
    assert (post.blocked, post.queued_bytes) == (0, 0)
    post.to(2, b"x" * 1000, orders)
    post.block(2, 90)
    post.to(2, b"x" * 10, orders)
    assert post.overfull == []
    post.unblock(99)
