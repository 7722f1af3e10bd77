"""Messages, directs, presence and refusals between the published SDK and our client, over our relay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

ANYTHING = [
    None,
    True,
    0,
    -1.5,
    1e300,
    2**53,
    "",
    "héllo, wörld: 你好 🦊 \u2028 \x00 \\ \" '",
    [],
    {},
    {"": None, "🔑": [1, [2, [3, {"deep": {"er": "yes"}}]]]},
    {"type": "ack", "requestId": "1"},  # looks like a frame, and is not
]


async def test_a_message_goes_to_all_others(stage: Any, pair: tuple[str, str]) -> None:
    alice, bob = [await stage.visit(name) for name in pair]
    carol = await stage.visit(pair[1])
    for visitor in (alice, bob, carol):
        await visitor.client.subscribe("room")
    await alice.client.publish("room", {"text": "hi"})
    for visitor in (bob, carol):
        await visitor.heard("Message")
        assert visitor.messages == [("room", alice.peer_id, {"text": "hi"})]
        assert visitor.all("Message")[0].sender_metadata is None
    await alice.caught_up(stage.relay)
    assert alice.messages == []


async def test_any_value_arrives_as_it_was(stage: Any, pair: tuple[str, str]) -> None:
    speaker, listener = [await stage.visit(name) for name in pair]
    await listener.client.subscribe("küche/🔥 #1")
    for value in ANYTHING:
        await speaker.client.publish("küche/🔥 #1", value)
        await speaker.client.send(listener.peer_id, value)
    await listener.heard("Message", len(ANYTHING))
    await listener.heard("Direct", len(ANYTHING))
    assert [data for _, _, data in listener.messages] == ANYTHING
    assert [repr(data) for _, _, data in listener.messages] == [repr(value) for value in ANYTHING]  # 1 is not True
    assert listener.directs == [(speaker.peer_id, value) for value in ANYTHING]
    assert {channel for channel, _, _ in listener.messages} == {"küche/🔥 #1"}


async def test_many_at_once_arrive_in_order(stage: Any, pair: tuple[str, str]) -> None:
    await stage.open(message_rate=None)
    speaker, listener = [await stage.visit(name) for name in pair]
    await listener.client.subscribe("numbers")
    await asyncio.gather(*(speaker.client.publish("numbers", number) for number in range(500)))
    await listener.heard("Message", 500)
    assert [data for _, _, data in listener.messages] == list(range(500))


async def test_large_messages_pass(stage: Any, pair: tuple[str, str]) -> None:
    speaker, listener = [await stage.visit(name) for name in pair]
    await listener.client.subscribe("big")
    text = "ü" * 32_767  # with its quotes exactly 64 KiB, where nobody escapes; the published SDK does
    await speaker.client.publish("big", text if pair[0] == "ours" else "u" * 65_534)
    (message,) = await listener.heard("Message")
    assert len(message.data.encode()) == 65_534


async def test_a_direct_goes_to_one_peer_and_can_be_answered(stage: Any, pair: tuple[str, str]) -> None:
    alice, bob = [await stage.visit(name) for name in pair]
    carol = await stage.visit(pair[1])
    await alice.client.send(bob.peer_id, {"question": 42})
    await bob.heard("Direct")
    assert bob.directs == [(alice.peer_id, {"question": 42})]
    await bob.client.send(bob.directs[0][0], {"answer": "yes"})
    await alice.heard("Direct")
    assert alice.directs == [(bob.peer_id, {"answer": "yes"})]
    await carol.caught_up(stage.relay)
    assert carol.directs == []


async def test_a_direct_reaches_all_sockets_of_a_peer(stage: Any, pair: tuple[str, str]) -> None:
    phone, laptop = [await stage.known_as(name, "alice") for name in pair]
    bob = await stage.known_as(pair[0], "bob")
    await bob.client.send("alice", "ring")
    for socket in (phone, laptop):
        await socket.heard("Direct")
        assert socket.directs == [("bob", "ring")]


# --- patterns -----------------------------------------------------------------------------------------------


async def test_a_pattern_hears_every_channel_it_matches(stage: Any, pair: tuple[str, str]) -> None:
    speaker, listener = [await stage.visit(name) for name in pair]
    await listener.client.subscribe("fleet/sensor-*/telemetry")
    await listener.client.subscribe("logs/**")
    await listener.client.subscribe(r"stars/\*")
    for channel in (
        "fleet/sensor-7/telemetry",
        "fleet/sensor-7/8/telemetry",
        "fleet/pump-7/telemetry",
        "logs/a/b/c",
        "stars/x",
    ):
        await speaker.client.publish(channel, channel)
    await listener.caught_up(stage.relay)
    assert [channel for channel, _, _ in listener.messages] == ["fleet/sensor-7/telemetry", "logs/a/b/c"]
    assert listener.presence == []  # patterns have none


async def test_a_message_that_matches_twice_comes_once(stage: Any, pair: tuple[str, str]) -> None:
    speaker, listener = [await stage.visit(name) for name in pair]
    for channel in ("fleet/1", "fleet/*", "**"):
        await listener.client.subscribe(channel)
    await speaker.client.publish("fleet/1", "once")
    await speaker.client.publish("fleet/2", "also once")
    await listener.caught_up(stage.relay)
    assert [data for _, _, data in listener.messages] == ["once", "also once"]

    await listener.client.unsubscribe("**")
    await listener.client.unsubscribe("fleet/*")
    listener.forget()
    await speaker.client.publish("fleet/1", "the literal is left")
    await speaker.client.publish("fleet/2", "nothing is")
    await listener.caught_up(stage.relay)
    assert [data for _, _, data in listener.messages] == ["the literal is left"]


# --- presence and metadata ----------------------------------------------------------------------------------


async def test_presence_tells_who_is_there_and_who_comes_and_goes(stage: Any, pair: tuple[str, str]) -> None:
    alice = await stage.known_as(pair[0], "alice", claims={"peer_metadata": {"name": "Alice"}})
    bob = await stage.known_as(pair[1], "bob", claims={"peer_metadata": {"name": "Bob"}})
    await alice.client.subscribe("room")
    await alice.heard("Presence")
    await bob.client.subscribe("room")
    await bob.heard("Presence")
    await alice.heard("Presence", 2)
    await bob.client.unsubscribe("room")
    await alice.heard("Presence", 3)
    await alice.caught_up(stage.relay)

    assert alice.presence == [("room", [], []), ("room", ["bob"], []), ("room", [], ["bob"])]
    assert bob.presence == [("room", ["alice"], [])]
    assert alice.all("Presence")[1].joined[0].metadata == {"name": "Bob"}
    assert bob.all("Presence")[0].joined[0].metadata == {"name": "Alice"}


async def test_a_peer_with_two_sockets_joins_and_leaves_once(stage: Any, pair: tuple[str, str]) -> None:
    watcher = await stage.known_as(pair[0], "watcher")
    await watcher.client.subscribe("room")
    phone, laptop = [await stage.known_as(name, "alice") for name in pair]
    await phone.client.subscribe("room")
    await laptop.client.subscribe("room")
    await phone.client.close()
    await watcher.caught_up(stage.relay)
    assert watcher.presence == [("room", [], []), ("room", ["alice"], [])]
    await laptop.client.close()
    await watcher.heard("Presence", 3)
    assert watcher.presence[2] == ("room", [], ["alice"])


async def test_subscribing_again_gives_a_fresh_snapshot_and_new_options(stage: Any, pair: tuple[str, str]) -> None:
    alice = await stage.known_as(pair[0], "alice", claims={"peer_metadata": {"name": "Alice"}})
    bob = await stage.known_as(pair[1], "bob")
    await alice.client.subscribe("room")
    await bob.client.subscribe("room")
    await alice.client.publish("room", 1)
    await bob.client.subscribe("room", bob.library.SubscribeOptions(include_sender_metadata=True))
    await alice.client.publish("room", 2)
    await bob.caught_up(stage.relay)
    assert bob.presence == [("room", ["alice"], []), ("room", ["alice"], [])]
    assert [(event.data, event.sender_metadata) for event in bob.all("Message")] == [(1, None), (2, {"name": "Alice"})]
    await alice.caught_up(stage.relay)
    assert alice.presence == [("room", [], []), ("room", ["bob"], [])]  # nobody else is told of it


async def test_sender_metadata_comes_to_those_who_asked_and_with_directs(stage: Any, pair: tuple[str, str]) -> None:
    identity = {"name": "Älice", "roles": ["admin"], "n": 1}
    alice = await stage.known_as(pair[0], "alice", claims={"peer_metadata": identity})
    asked, did_not = [await stage.known_as(pair[1], name) for name in ("asked", "did-not")]
    await asked.client.subscribe("room", asked.library.SubscribeOptions(include_sender_metadata=True))
    await did_not.client.subscribe("room")
    await alice.client.publish("room", "hi")
    await alice.client.send("did-not", "psst")
    await asked.heard("Message")
    await did_not.heard("Direct")
    assert asked.all("Message")[0].sender_metadata == identity
    assert did_not.all("Message")[0].sender_metadata is None
    assert did_not.all("Direct")[0].sender_metadata == identity


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "method", "arguments", "code"),
    [
        ("pk_live_room", "subscribe", ("lobby",), "channel_not_authorized"),
        ("pk_live_room", "subscribe", ("**",), "channel_not_authorized"),
        ("pk_live_room", "publish", ("lobby", 1), "channel_not_authorized"),
        ("pk_live_listener", "publish", ("room", 1), "action_not_permitted"),
        ("pk_live_listener", "send", ("somebody", 1), "action_not_permitted"),
        ("pk_live_interop", "send", ("nobody", 1), "peer_not_found"),
        ("pk_live_interop", "publish", ("fleet/*", 1), "invalid_channel"),
        ("pk_live_interop", "subscribe", ("_system/alerts",), "channel_reserved"),
        ("pk_live_interop", "publish", ("_Metered/alerts", 1), "channel_reserved"),
    ],
)
async def test_what_is_refused_says_why_and_hurts_nothing_else(
    stage: Any, library: str, key: str, method: str, arguments: tuple[Any, ...], code: str
) -> None:
    visitor = await stage.visit(library, api_key=key)
    with pytest.raises(visitor.library.ServerRequestError) as caught:
        await getattr(visitor.client, method)(*arguments)
    assert caught.value.code == code
    assert caught.value.request_id
    assert visitor.client.state == "connected"
    assert visitor.all("ServerError") == []  # it has been said where it was asked
    await visitor.client.subscribe("room/1")


async def test_a_peer_id_that_cannot_be_is_refused(stage: Any, library: str) -> None:
    visitor = await stage.visit(library)
    if library == "ours":
        with pytest.raises(ValueError, match="printable ASCII"):
            await visitor.client.send("jürgen", 1)
    else:
        with pytest.raises(visitor.library.ServerRequestError) as caught:
            await visitor.client.send("jürgen", 1)
        assert caught.value.code == "invalid_peer_id"


async def test_a_channel_that_is_too_long_is_refused(stage: Any, library: str) -> None:
    """It is counted in bytes; the published SDK counts characters, and leaves the rest to the relay."""
    visitor = await stage.visit(library)
    await visitor.client.subscribe("ü" * 128)
    if library == "ours":
        with pytest.raises(ValueError, match="256 bytes"):
            await visitor.client.subscribe("ü" * 129)
    else:
        with pytest.raises(visitor.library.ServerRequestError) as caught:
            await visitor.client.subscribe("ü" * 129)
        assert caught.value.code == "invalid_channel"


async def test_a_connection_may_have_only_so_many_channels(stage: Any, library: str) -> None:
    await stage.open(channels=2)
    visitor = await stage.visit(library)
    await visitor.client.subscribe("a")
    await visitor.client.subscribe("b/*")
    with pytest.raises(visitor.library.ServerRequestError) as caught:
        await visitor.client.subscribe("c")
    assert caught.value.code == "channel_limit_exceeded"
    await visitor.client.unsubscribe("a")
    await visitor.client.subscribe("c")


async def test_messages_may_run_out(stage: Any, library: str) -> None:
    await stage.open(message_quota=2)
    visitor = await stage.visit(library)
    await visitor.client.publish("room", 1)
    await visitor.client.send(visitor.peer_id, 2)
    with pytest.raises(visitor.library.ServerRequestError) as caught:
        await visitor.client.publish("room", 3)
    assert caught.value.code == "over_message_quota"
    await visitor.client.subscribe("room")


async def test_a_subscription_that_was_refused_does_not_get_in_the_way(stage: Any, library: str) -> None:
    visitor = await stage.visit(library, api_key="pk_live_room")
    await visitor.client.subscribe("room/1")
    with pytest.raises(visitor.library.ServerRequestError):
        await visitor.client.subscribe("lobby")
    await stage.restart()
    await visitor.heard("Connected", 2)
    await visitor.heard("Presence", 2)
    # The published SDK asks for it again and is refused again; ours has understood.
    assert stage.relay.stats().errors == ({} if library == "ours" else {"channel_not_authorized": 1})
    assert await stage.relay.publish("room/1", 1) == 1


# --- streams ------------------------------------------------------------------------------------------------


async def test_events_can_be_iterated_until_the_client_closes(stage: Any, library: str) -> None:
    visitor = await stage.visit(library)
    await visitor.client.subscribe("room")
    stream = visitor.client.events(visitor.library.Message)
    for number in range(3):
        await stage.relay.publish("room", number)
    await visitor.heard("Message", 3)

    async def read() -> list[Any]:
        return [event.data async for event in stream]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    await visitor.client.close()
    assert await asyncio.wait_for(reader, 2) == [0, 1, 2]
