"""`request` and `respond` between real clients, and with peers that only know the documented shape."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from adapter_kit import (
    SECRET,
    FakeServer,
    Guest,
    Stranger,
    make_client,
    make_relay,
    nothing_left,
    told,
    until,
    warm_relay,
)

from metered_anyio import (
    Direct,
    DisconnectedError,
    NotConnectedError,
    OversizedPayloadError,
    RequestFailedError,
    RequestReceived,
    RequestTimeoutError,
    ServerRequestError,
    SignallingClient,
)
from metered_anyio.relay import RelayServer
from metered_anyio.signalling_client import MAX_RESPONDING
from metered_proto.client.requests import REPLY_KEY, REQUEST_KEY
from metered_proto.wire.tokens import mint

pytestmark = pytest.mark.anyio


def token(peer_id: str, **more: Any) -> str:
    return mint(key_id=SECRET.id, secret=SECRET.secret, peer_id=peer_id, now=int(time.time()), **more)


def known_as(url: str, peer_id: str, **options: Any) -> SignallingClient:
    """A client whose peer id is ours to choose."""

    async def provide() -> str:
        return token(peer_id)

    return make_client(url, token_provider=provide, **options)


class Log:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, msg: str, ctx: Any = None, /) -> None:
        self.lines.append(f"{msg} {ctx}")

    debug = info = warning = error


@asynccontextmanager
async def two(relay: RelayServer, **options: Any) -> AsyncIterator[tuple[SignallingClient, SignallingClient]]:
    """Ann, who asks, and Bob, who answers."""
    async with known_as(relay.url, "ann", **options) as ann, known_as(relay.url, "bob", **options) as bob:
        yield ann, bob


class TestAnswers:
    @pytest.mark.parametrize("kind", ["sync", "async", "callable", "lambda"])
    async def test_handlers_of_every_kind(self, kind: str) -> None:
        class Handler:
            async def __call__(self, question: RequestReceived) -> Any:
                return await answer(question)

        async def answer(question: RequestReceived) -> Any:
            await anyio.sleep(0.001)
            return plain(question)

        def plain(question: RequestReceived) -> Any:
            return {"you": question.sender_peer_id, "said": question.data}

        async with warm_relay() as relay, nothing_left(), two(relay) as (ann, bob):
            handlers: dict[str, Any] = {
                "sync": plain,
                "async": answer,
                "callable": Handler(),
                "lambda": lambda question: answer(question),
            }
            assert bob.respond(handlers[kind]) is handlers[kind]
            for value in (None, 0, "é", [1, {"a": None}], {"deep": {"deeper": []}}):
                assert await ann.request("bob", value) == {"you": "ann", "said": value}

    async def test_as_a_decorator_ahead_of_the_connection(self) -> None:
        async with make_relay() as relay:
            bob = known_as(relay.url, "bob")

            @bob.respond
            async def answer(question: RequestReceived) -> int:
                return int(question.data) * 2

            async with bob, known_as(relay.url, "ann") as ann:
                assert await ann.request("bob", 21) == 42

    async def test_the_latest_one_answers(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            bob.respond(lambda question: 1)
            assert await ann.request("bob", None) == 1
            bob.respond(lambda question: 2)
            assert await ann.request("bob", None) == 2

    async def test_hundreds_at_a_time_find_their_askers(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):

            @bob.respond
            async def answer(question: RequestReceived) -> int:
                for _ in range(question.data % 7):
                    await anyio.lowlevel.checkpoint()
                return int(question.data) + 1000

            answers: dict[int, int] = {}
            limiter = anyio.CapacityLimiter(MAX_RESPONDING)

            async def ask(number: int) -> None:
                async with limiter:
                    answers[number] = await ann.request("bob", number)

            async with anyio.create_task_group() as group:
                for number in range(300):
                    group.start_soon(ask, number)
            assert answers == {number: number + 1000 for number in range(300)}

    async def test_two_that_ask_each_other_at_once(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            ann.respond(lambda question: f"ann heard {question.data}")

            @bob.respond
            async def answer(question: RequestReceived) -> str:
                back = await bob.request("ann", question.data)
                return f"bob heard that {back}"

            answers: list[Any] = []

            async def ask(asker: SignallingClient, whom: str) -> None:
                for number in range(20):
                    answers.append(await asker.request(whom, number))

            async with anyio.create_task_group() as group:
                group.start_soon(ask, ann, "bob")
                group.start_soon(ask, bob, "ann")
            assert len(answers) == 40
            assert "bob heard that ann heard 19" in answers
            assert "ann heard 19" in answers

    async def test_asking_oneself(self) -> None:
        async with make_relay() as relay, known_as(relay.url, "ann") as ann:
            ann.respond(lambda question: question.data + 1)
            assert await ann.request("ann", 1) == 2

    async def test_directs_of_the_application_are_left_alone(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            directs = told(bob, Direct)
            bob.respond(lambda question: 1)
            await ann.send("bob", {"mine": 1})
            assert await ann.request("bob", None) == 1
            await until(lambda: directs)
            assert [direct.data for direct in directs] == [{"mine": 1}]

    async def test_after_a_reconnect_it_still_answers(self) -> None:
        relay = make_relay()
        await relay.start()
        port = relay.port
        async with two(relay) as (ann, bob):
            bob.respond(lambda question: question.data)
            assert await ann.request("bob", 1) == 1
            await relay.close()
            async with make_relay(port=port):
                for client in (ann, bob):
                    await until(lambda client=client: client.state != "connected" or client.stats().reconnects)
                    await client.connect()
                assert await ann.request("bob", 2) == 2
                await ann.close()
                await bob.close()


class TestNoAnswer:
    async def test_the_peer_says_no(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):

            @bob.respond
            def answer(question: RequestReceived) -> None:
                raise RequestFailedError("out_of_paper", "tray 2")

            with pytest.raises(RequestFailedError) as caught:
                await ann.request("bob", "print")
            assert caught.value == RequestFailedError("out_of_paper", "tray 2")

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_the_handler_fails_and_its_words_stay_at_home(self, kind: str) -> None:
        log = Log()
        async with (
            make_relay() as relay,
            known_as(relay.url, "ann") as ann,
            known_as(relay.url, "bob", logger=log) as bob,
        ):

            def fail(question: RequestReceived) -> None:
                raise KeyError("inner life, token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl")

            async def fail_later(question: RequestReceived) -> None:
                fail(question)

            bob.respond(fail if kind == "sync" else fail_later)
            with pytest.raises(RequestFailedError) as caught:
                await ann.request("bob", 1)
            assert caught.value == RequestFailedError("handler_failed")
            assert [line for line in log.lines if "a request handler raised" in line and "inner life" in line]
            assert "eyJhbGci" not in "".join(log.lines)

    async def test_the_handler_meets_a_cancellation_that_is_not_its_own(self, anyio_backend: str) -> None:
        if anyio_backend == "trio":
            pytest.skip("trio has no futures to cancel")
        async with make_relay() as relay, two(relay) as (ann, bob):

            @bob.respond
            async def answer(question: RequestReceived) -> None:
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future

            with pytest.raises(RequestFailedError) as caught:
                await ann.request("bob", 1)
            assert caught.value.code == "handler_failed"

    async def test_askers_that_leave_do_not_fill_the_log(self) -> None:
        log = Log()
        async with make_relay() as relay, known_as(relay.url, "bob", logger=log) as bob:
            gate = anyio.Event()

            @bob.respond
            async def answer(question: RequestReceived) -> int:
                await gate.wait()
                return 1

            mallory = await Stranger.connect(relay.url, f"/v1?token={token('mallory')}")
            for number in range(20):
                await mallory.send({"type": "send", "to": "bob", "data": {REQUEST_KEY: str(number), "data": 1}})
            await until(lambda: bob._responding == 20)
            await mallory.aclose()
            await until(lambda: relay.stats().connections == 1)
            gate.set()
            await until(lambda: bob._responding == 0)
            unsent = [line for line in log.lines if line.startswith("an answer could not be sent")]
            assert len(unsent) == 5

    @pytest.mark.parametrize("answer", [object(), float("nan"), {1, 2, object()}, "\ud800"])
    async def test_an_answer_that_is_not_json(self, answer: object) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            bob.respond(lambda question: answer)
            with pytest.raises(RequestFailedError) as caught:
                await ann.request("bob", 1)
            assert caught.value.code == "handler_failed"

    async def test_an_answer_that_is_too_large(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            bob.respond(lambda question: "x" * 70_000)
            with pytest.raises(RequestFailedError) as caught:
                await ann.request("bob", 1)
            assert caught.value.code == "oversized"

    async def test_not_in_time(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            gate = anyio.Event()

            @bob.respond
            async def answer(question: RequestReceived) -> int:
                await gate.wait()
                return 1

            directs = told(ann, Direct)
            with anyio.fail_after(3), pytest.raises(RequestTimeoutError) as caught:
                await ann.request("bob", 1, timeout=0.05)
            assert caught.value.timeout == 0.05
            gate.set()
            assert await ann.request("bob", 2) == 1
            assert directs == [], "the late answer is no news"

    async def test_nobody_answers_there(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            directs = told(bob, Direct)
            with pytest.raises(RequestTimeoutError):
                await ann.request("bob", 1, timeout=0.05)
            assert [list(direct.data) for direct in directs] == [[REQUEST_KEY, "data"]]

    async def test_the_peer_is_not_there(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            bob.respond(lambda question: 1)
            await bob.close()
            await until(lambda: relay.stats().connections == 1)
            with pytest.raises(ServerRequestError) as caught:
                await ann.request("bob", 1)
            assert caught.value.code == "peer_not_found"

    @pytest.mark.usefixtures("hurry")
    async def test_the_peer_goes_while_it_thinks(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            asked = anyio.Event()

            @bob.respond
            async def answer(question: RequestReceived) -> None:
                asked.set()
                await anyio.sleep_forever()

            async def leave() -> None:
                await asked.wait()
                await relay.kick("bob")

            async with anyio.create_task_group() as group:
                group.start_soon(leave)
                with pytest.raises(RequestTimeoutError):
                    await ann.request("bob", 1, timeout=0.3)

    async def test_we_lose_the_connection(self) -> None:
        async def script(guest: Guest) -> None:
            await guest.enter()
            await guest.receive()

        async with FakeServer(script) as server, make_client(server.url) as client:
            with pytest.raises(DisconnectedError):
                await client.request("bob", 1)

    async def test_we_have_none_or_ask_too_much(self) -> None:
        client = make_client("ws://127.0.0.1:1")
        with pytest.raises(NotConnectedError):
            await client.request("bob", 1)
        await client.close()
        with pytest.raises(NotConnectedError):
            await client.request("bob", 1)
        async with make_relay() as relay, two(relay) as (ann, _):
            with pytest.raises(OversizedPayloadError):
                await ann.request("bob", "x" * 65_530)
            for arguments, error in (
                ((7, 1), TypeError),
                (("", 1), ValueError),
                (("bob", object()), TypeError),
            ):
                with pytest.raises(error):
                    await ann.request(*arguments)  # type: ignore[arg-type]
            for timeout in (0, -1, float("nan"), float("inf")):
                with pytest.raises(ValueError, match="timeout"):
                    await ann.request("bob", 1, timeout=timeout)
            with pytest.raises(TypeError, match="callable"):
                ann.respond(7)  # type: ignore[type-var]

    async def test_cancelled_at_any_moment(self) -> None:
        async with warm_relay() as relay, nothing_left(), two(relay) as (ann, bob):
            bob.respond(lambda question: question.data)
            directs = told(ann, Direct)
            cancelled = 0
            for passes in range(20):
                returned = False

                async def ask(passes: int = passes) -> None:
                    nonlocal returned
                    await ann.request("bob", passes)
                    returned = True

                async with anyio.create_task_group() as group:
                    group.start_soon(ask)
                    for _ in range(passes):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                cancelled += not returned
                with anyio.fail_after(2):
                    assert await ann.request("bob", "whole") == "whole"
                assert len(ann._session._requests) == 0
            assert cancelled > 1
            assert directs == []

    @pytest.mark.usefixtures("hurry")
    async def test_closing_ends_what_is_being_answered(self) -> None:
        async with warm_relay() as relay, nothing_left(within=2):
            async with two(relay) as (ann, bob):
                begun, ended = anyio.Event(), []

                @bob.respond
                async def answer(question: RequestReceived) -> None:
                    begun.set()
                    try:
                        await anyio.sleep_forever()
                    finally:
                        ended.append("cancelled")

                async with anyio.create_task_group() as group:

                    async def ask() -> None:
                        with pytest.raises(DisconnectedError):
                            await ann.request("bob", 1)

                    group.start_soon(ask)
                    await begun.wait()
                    await bob.close()
                    await ann.close()
            assert ended == ["cancelled"]


class TestFloods:
    async def test_more_than_can_be_answered_at_a_time_are_busy(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, bob):
            gate = anyio.Event()
            answering = most = 0

            @bob.respond
            async def answer(question: RequestReceived) -> str:
                nonlocal answering, most
                answering += 1
                most = max(most, answering)
                await gate.wait()
                answering -= 1
                return "done"

            outcomes: list[str] = []

            async def ask(number: int) -> None:
                try:
                    outcomes.append(await ann.request("bob", number, timeout=5))
                except RequestFailedError as error:
                    outcomes.append(error.code)

            async with anyio.create_task_group() as group:
                for number in range(MAX_RESPONDING + 40):
                    group.start_soon(ask, number)
                await until(lambda: len(outcomes) == 40)
                assert outcomes == ["busy"] * 40
                gate.set()
            assert outcomes[40:] == ["done"] * MAX_RESPONDING
            assert most == MAX_RESPONDING
            assert bob._responding == 0
            assert await ann.request("bob", "and then") == "done"

    async def test_a_flood_of_questions_makes_no_heap_of_tasks(self) -> None:
        """From one who asks and asks, and never listens."""
        async with warm_relay() as relay, nothing_left(within=2), known_as(relay.url, "bob") as bob:
            most = answered = 0

            @bob.respond
            async def answer(question: RequestReceived) -> None:
                nonlocal most, answered
                answered += 1
                most = max(most, len(bob._emitter._scopes))
                await anyio.sleep(0.01)

            mallory = await Stranger.connect(relay.url, f"/v1?token={token('mallory')}")
            question = {"type": "send", "to": "bob", "data": {REQUEST_KEY: "r", "data": "x" * 100}}
            for _ in range(100):
                await mallory.raw(mallory.ws.frame(json.dumps(question).encode()) * 50)
                await anyio.lowlevel.checkpoint()
            await until(lambda: bob.stats().frames_in >= 5000)
            await until(lambda: bob._responding == 0)
            await mallory.aclose()
            assert MAX_RESPONDING <= answered < 5000
            assert most < 3000, "one read of questions at a time"


class TestByHand:
    """Whoever speaks the documented shape over plain directs is a full peer."""

    async def test_a_plain_client_answers(self) -> None:
        async with make_relay() as relay, two(relay) as (ann, plain):

            @plain.on(Direct)
            async def by_hand(direct: Direct) -> None:
                question = direct.data
                if question["data"] == "no":
                    reply: dict[str, Any] = {"error": {"code": "refused", "message": "by hand"}}
                else:
                    reply = {"data": {"echo": question["data"]}}
                await plain.send(direct.sender_peer_id, {REPLY_KEY: question[REQUEST_KEY], **reply})

            assert await ann.request("bob", [1]) == {"echo": [1]}
            with pytest.raises(RequestFailedError) as caught:
                await ann.request("bob", "no")
            assert caught.value == RequestFailedError("refused", "by hand")

    async def test_a_plain_client_asks(self) -> None:
        async with make_relay() as relay, known_as(relay.url, "bob") as bob:

            @bob.respond
            def answer(question: RequestReceived) -> Any:
                if question.data == "no":
                    raise RequestFailedError("refused", "politely")
                return {"echo": question.data}

            plain = await Stranger.connect(relay.url, f"/v1?token={token('plain')}")
            assert (await plain.receive())["type"] == "welcome"
            for data, reply in (
                (None, {"data": {"echo": None}}),
                ("no", {"error": {"code": "refused", "message": "politely"}}),
            ):
                await plain.send({"type": "send", "to": "bob", "data": {REQUEST_KEY: "mine", "data": data}})
                assert await plain.receive() == {
                    "type": "direct",
                    "from": "bob",
                    "data": {REPLY_KEY: "mine", **reply},
                }
            await plain.aclose()

    async def test_metadata_of_the_asker_reaches_the_handler(self) -> None:
        async def provide() -> str:
            return token("ann", peer_metadata={"name": "Ann"})

        async with make_relay() as relay, known_as(relay.url, "bob") as bob:
            bob.respond(lambda question: question.sender_metadata)
            async with make_client(relay.url, token_provider=provide) as ann:
                assert await ann.request("bob", 1) == {"name": "Ann"}
