"""A server that means ill, or is merely broken: nothing raises, nothing grows, nothing leaks, and work goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.calls import Connect
from metered_proto.errors import ServerRequestError, SignallingConnectError
from metered_proto.events import Disconnected, ServerError
from metered_proto.facts import Received
from metered_proto.orders import Answer, Note, Tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]

KEY = "pk_live_q7Wd0aZtNw5xKfB3"
TOKEN = "fresh-token/91f2c0de4b"

GOOD: list[dict[str, Any]] = [
    {"type": "welcome", "peerId": "me", "expiresAt": 1, "serverTime": 2, "maxMessageSize": 3, "metadata": {}},
    {"type": "ack", "requestId": "1"},
    {"type": "error", "code": "internal_error", "requestId": "1", "message": "m"},
    {"type": "message", "channel": "c", "from": "p", "data": 1, "fromMetadata": {}},
    {"type": "direct", "from": "p", "data": 1, "fromMetadata": {}},
    {"type": "presence", "channel": "c", "joined": [{"peerId": "p", "metadata": {}}], "left": []},
    {"type": "going_away", "retryAfterMs": 1},
    {"type": "pong"},
]
ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 10**300, 1.5, 1e308, -1e308, "", "x" * 300, "\ud800", "\x00", "__proto__",
    [], [[]], ["p"], {}, {"a": {}}, {"peerId": 5},
]  # fmt: skip
ODDITIES: list[str | bytes] = [
    "", " ", "\n", "\ufeff{}", "{", "}", "{}", "[]", "null", "true", "0", "-", "1e999", "NaN",
    "-Infinity", '"', '"text"',
    "[" * 10_000, '{"a":' * 10_000, "[" * 900 + "]" * 900, "9" * 5_000, "\x00" * 100, "%s%n{0}", "\udfff\ud800",
    '{"type":"message","channel":"c","from":"p","data":' + "[" * 5_000, "a" * 100_000,
    '{"type":"' + "a" * 100_000 + '"}',
    '{"type":"going_away","retryAfterMs":' + "9" * 400 + "}", '{"type":"going_away","retryAfterMs":-1e308}',
    '{"type":"\\ud800"}', '{"type":"ack","requestId":"\\ud800"}', '{"type":"ack","requestId":"\ud800"}',
    '{"type":"pong","type":"welcome","peerId":"twice"}', '{"type":"pong"} trailing', '{"type":"pong"}{"type":"pong"}',
    '{"type":["ack"]}', '{"type":{"type":"ack"}}', '{"type":null}', '{"type":5}', '{"type":"PONG"}', '{"type":"ack "}',
    '{"type":"subscribe","channel":"c"}', '{"type":"ping"}', "{'type':'pong'}", '{"type":"pong",}',
    b"", b"\x00", b'{"type":"pong"}', b"\xff" * 1000,
]  # fmt: skip


def hostile_frames(count: int, seed: int = 7) -> Iterator[str | bytes]:
    """Good frames with something wrong in them, good frames that nobody asked for, and things that are no frames."""
    dice = random.Random(seed)
    for number in range(count):
        good = dict(dice.choice(GOOD))
        field = dice.choice(list(good))
        match number % 8:
            case 0:
                yield dice.choice(ODDITIES)
            case 1:
                yield json.dumps({**good, field: dice.choice(ODD)})
            case 2:
                yield json.dumps({name: dice.choice(ODD) for name in good} | {"type": good["type"]})
            case 3:
                yield json.dumps({name: value for name, value in good.items() if name != field})
            case 4:
                text = json.dumps(good)
                yield text[: dice.randrange(len(text))]
            case 5:
                text = json.dumps(good)
                cut = dice.randrange(len(text))
                yield text[:cut] + chr(dice.randrange(0x110000)) + text[cut + 1 :]
            case 6:
                yield json.dumps(
                    {**good, "requestId": dice.choice(["0", "s1", "s9", "-1", "é" * 99]), "code": "made up"}
                )
            case _:
                yield dice.randbytes(dice.randrange(50)).decode("latin-1")


def size_of_state(thing: Any, depth: int = 6) -> int:
    """How many things a session holds on to, wherever they are."""
    if isinstance(thing, dict):
        return sum(1 + size_of_state(value, depth - 1) for value in thing.values())
    if isinstance(thing, list | tuple | set):
        return sum(1 + size_of_state(value, depth - 1) for value in thing)
    if isinstance(thing, str | bytes):
        return len(thing)
    if depth > 0 and type(thing).__module__.startswith("metered_proto.client") and hasattr(thing, "__dict__"):
        return size_of_state(vars(thing), depth - 1)
    return 0


class TestFiveThousandHostileFrames:
    def test_into_a_connected_session(self, online: Conversation) -> None:
        online.subscribed("kept")
        waiting = online.publishes()
        del online.session.__dict__["_enter"]  # the watch on the phase is no part of the session
        before = size_of_state(online.session)
        ids = {str(waiting), "1"}
        online.forget()

        frames = [
            frame for frame in hostile_frames(5_000) if not any(f'"requestId": "{each}"' in str(frame) for each in ids)
        ]
        assert len(frames) > 4_000
        for low in range(0, len(frames), 50):
            online.give(Received(1, frames[low : low + 50]))

        assert {type(order) for order in online.orders} == {Tell, Note}
        assert size_of_state(online.session) == before
        assert online.state == "connected"
        assert online.session.peer_id == "me"
        assert online.session.channels == ("kept",)
        assert online.session.counters.malformed_frames > 2_000
        assert len(online.notes) <= 2 * len(frames).bit_length()
        assert all(len(repr(note)) < 2_000 for note in online.notes)

        assert online.waits(waiting)
        online.ack(waiting)
        assert online.error(waiting) is None
        after = online.publishes()
        online.ack(after)
        assert online.error(after) is None

    def test_ahead_of_the_welcome(self, talk: Conversation) -> None:
        op = talk.asks(Connect())
        talk.link_comes_up()
        talk.forget()
        frames = [frame for frame in hostile_frames(2_000, seed=8) if "peerId" not in str(frame)]
        talk.give(Received(1, frames))
        assert {type(order) for order in talk.orders} == {Note}
        assert len(talk.notes) <= len(frames).bit_length()
        talk.welcome()
        assert talk.error(op) is None

    @given(payloads=st.lists(st.text(max_size=60) | st.binary(max_size=60), max_size=10))
    def test_anything_at_all(self, converse: Converse, payloads: list[str | bytes]) -> None:
        talk = converse()
        talk.connects()
        talk.give(Received(1, payloads))
        assert talk.state == "connected"


class TestSecrets:
    """The conversation looks for the key and the token in every order but `OpenLink`; here they are offered."""

    @pytest.mark.parametrize("secret", [TOKEN, quote(TOKEN, safe="")])
    @pytest.mark.parametrize("field", ["code", "message", "requestId"])
    def test_a_server_that_repeats_the_token_in_an_error(self, converse: Converse, secret: str, field: str) -> None:
        talk = converse(api_key=None)
        talk.connects()
        op = talk.publishes()
        frame = {"type": "error", "code": "internal_error", "requestId": str(op)}
        talk.server({**frame, field: f"<{secret}> is no good"})
        if field != "requestId":
            error = talk.error(op)
            assert isinstance(error, ServerRequestError)
            assert getattr(error, field) == "<***> is no good"
        talk.server({"type": "error", "code": "internal_error", field: f"<{secret}> is no good"})
        told = talk.told[-1]
        assert isinstance(told, ServerError)
        assert "<***> is no good" in (told.code, told.message, told.request_id)

    @pytest.mark.parametrize("api_key", [KEY, None], ids=["key", "token"])
    @pytest.mark.parametrize("code", [1006, 4001])
    def test_a_close_reason_that_repeats_the_credential(
        self, converse: Converse, api_key: str | None, code: int
    ) -> None:
        secret = api_key or TOKEN
        talk = converse(api_key=api_key)
        op = talk.asks_to_connect()
        talk.link_goes_down(code, f"bad {secret}")
        assert talk.error(op) == SignallingConnectError(code, "bad ***")
        talk.connects()
        talk.publishes()
        talk.link_goes_down(code, f"bad {secret}")
        told = talk.told[-1]
        assert isinstance(told, Disconnected)
        assert told.reason == "bad ***"

    def test_a_driver_that_repeats_the_whole_address(self, talk: Conversation) -> None:
        op = talk.asks(Connect())
        talk.link_goes_down(1006, f"cannot connect to {talk.opened[0].target}")
        assert talk.error(op) == SignallingConnectError(1006, "cannot connect to wss://rms.metered.ca/v1?key=***")

    def test_somebody_elses_token(self, online: Conversation) -> None:
        online.refuse(None, "internal_error", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl was refused")
        assert online.told[-1].message == "*** was refused"

    def test_a_replay_that_is_refused_with_it(self, online: Conversation) -> None:
        online.subscribed()
        online.link_goes_down()
        online.comes_back()
        for _ in range(4):
            online.refuse(online.sent[-1]["requestId"], f"no {KEY}", KEY)
            online.advance(2)
        assert online.told[-1].code == "no ***"

    def test_a_credential_as_short_as_a_word_does_not_garble_the_rest(self, converse: Converse) -> None:
        talk = converse(api_key="key")
        talk.connects()
        talk.refuse(None, "internal_error", "a monkey")
        assert talk.told[-1].message == "a monkey"

    def test_no_repr_shows_one(self, converse: Converse) -> None:
        talk = converse()
        talk.connects()
        shown = " ".join(repr(thing) for thing in (talk.settings, talk.session, talk.session._phase, *talk.orders))
        assert KEY not in shown
        assert KEY in talk.opened[0].target

    def test_nor_does_the_rich_librarys(self, converse: Converse) -> None:
        talk = converse()
        talk.connects()
        assert KEY not in repr(talk.settings.__rich_repr__())
        assert KEY not in repr(talk.opened[0].__rich_repr__())

    def test_long_texts_are_cut(self, online: Conversation) -> None:
        op = online.publishes()
        online.refuse(op, "c" * 100_000, "m" * 100_000)
        error = online.error(op)
        assert isinstance(error, ServerRequestError)
        assert (len(error.code), len(error.message)) == (2000, 2000)


def test_answers_to_a_hostile_server_are_still_answers(online: Conversation) -> None:
    """Whatever comes in between, in whatever order, each request gets its own answer."""
    ops = [online.publishes("room", number) for number in range(20)]
    noise = hostile_frames(400, seed=9)
    for op in reversed(ops):
        if op not in online.answers:
            online.server(*[frame for frame in (next(noise) for _ in range(10)) if "requestId" not in str(frame)])
            online.ack(op)
    assert all(online.answers[op] == Answer(op) for op in ops)
