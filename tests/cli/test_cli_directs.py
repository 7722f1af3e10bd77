"""`metered send`, `metered request` and `metered respond`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import anyio
import pytest

from metered_anyio import RequestFailedError, RequestReceived, SignallingClient
from metered_anyio.cli import main, respond
from metered_proto.wire.tokens import mint

KEY = "pk_live_demo"
SECRET = "sk_id_demo:sk_secret_0123456789abcdef"


def token(peer_id: str, **options: object) -> str:
    key_id, _, secret = SECRET.partition(":")
    return mint(key_id=key_id, secret=secret, peer_id=peer_id, now=int(time.time()), **options)


def test_sent(start, url, capsys):
    listener = start("sub", "room", "--directs", "--count", "2", "--url", url, METERED_TOKEN=token("ann"))
    listener.err.find("listening")
    options = ["--url", url, "--token", token("bob")]
    assert main(["send", "ann", '{"a": 1.50}', *options]) == 0
    assert main(["send", "ann", "17", "--string", "--json", "--backend", "trio", *options]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "acknowledged"
    assert json.loads(second) == {"to": "ann", "from": "bob", "acknowledged": True}
    assert listener.wait() == 0
    assert listener.out.rest() == ['> bob {"a":1.5}', '> bob "17"']


@pytest.mark.parametrize("command", ["send", "request"])
def test_a_peer_that_is_not_there(url, command, capsys):
    assert main([command, "nobody", "1", "--url", url, "--key", KEY]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metered: peer_not_found")


def test_asked_and_answered(start, url, capsys):
    echo = start("respond", "--url", url, METERED_TOKEN=token("ann"))
    fixed = start("respond", "17", "--string", "--json", "--url", url, "--backend", "trio", METERED_TOKEN=token("cid"))
    assert echo.err.next() == "answering as ann"
    assert fixed.err.next() == "answering as cid"
    bob = ["--url", url, "--token", token("bob")]
    assert main(["request", "ann", '{"a": [1, null]}', "--backend", "trio", *bob]) == 0
    assert main(["request", "cid", "what?", "--json", *bob]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == '{"a":[1,null]}'
    assert json.loads(second) == {"to": "cid", "from": "bob", "data": "17"}
    assert echo.out.next() == '? bob {"a":[1,null]}'
    assert json.loads(fixed.out.next()) == {"from": "bob", "data": "what?"}
    assert echo.stop(signal.SIGINT) == fixed.stop() == 0
    assert echo.err.rest() == fixed.err.rest() == []


def test_nobody_reads_the_questions_any_more(start, url, capsys):
    reader, writer = os.pipe()
    responder = start("respond", "--url", url, METERED_TOKEN=token("ann"), stdout=writer)
    os.close(writer)
    responder.err.find("answering")
    os.close(reader)
    assert main(["request", "ann", "1", "--url", url, "--key", KEY]) in (0, 1)  # it may go before or after
    assert responder.wait() == 1
    assert responder.err.rest() == []


def nested(depth):
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


def test_a_question_too_deep_to_be_shown(capsys):
    respond._show(RequestReceived("bob", "1", nested(100_000), None), json=False)
    respond._show(RequestReceived("bob", "1", nested(100_000), None), json=True)
    assert capsys.readouterr() == ("", "metered: a question is nested too deeply to be shown\n" * 2)


def asked_of(answer, url):
    """Run `metered request` while a peer named ann answers as `answer` says, if at all. Gives the ended process."""

    async def scenario() -> Any:
        ann = token("ann")

        async def provider() -> str:
            return ann

        async with SignallingClient(token_provider=provider, url=url) as client:
            if answer is not None:
                client.respond(answer)
            command = ["request", "ann", "1", "--timeout", "0.3", "--url", url, "--key", KEY]
            with anyio.fail_after(20):
                return await anyio.run_process([sys.executable, "-m", "metered_anyio.cli", *command], check=False)

    return anyio.run(scenario)


def test_a_peer_that_says_no(url):
    def refuse(question):
        raise RequestFailedError("busy", "not\nnow \x1b[31m")

    process = asked_of(refuse, url)
    assert process.returncode == 1
    assert process.stdout == b""
    assert process.stderr == b"metered: busy: not now \\u001b[31m\n"


def test_a_peer_that_does_not_answer(url):
    process = asked_of(None, url)
    assert process.returncode == 1
    assert process.stderr == b"metered: no answer within 0.3 s\n"


def test_an_answer_too_deep_to_be_shown(url, capsys, monkeypatch):
    async def request(*_: object, **__: object) -> object:
        return nested(100_000)

    monkeypatch.setattr(SignallingClient, "request", request)
    assert main(["request", "ann", "1", "--url", url, "--key", KEY]) == 1
    assert capsys.readouterr() == ("", "metered: the answer is nested too deeply to be shown\n")


CREDENTIALS = ["--url", "ws://127.0.0.1:1", "--key", "pk_live_hunter2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["send", "ann"], "Missing argument 'DATA'"),
        (["send", "", "1", *CREDENTIALS], "a peer id must be 1 to 128"),
        (["send", "ann", "1"], "a key or a token is needed"),
        (["request", "ä", "1", *CREDENTIALS], "a peer id must be 1 to 128"),
        (["request", "ann", "1", "--timeout", "0", *CREDENTIALS], "--timeout must be a number of seconds above 0"),
        (["request", "ann", "1", "--timeout", "nan", *CREDENTIALS], "--timeout must be a number of seconds above 0"),
        (["request", "ann", "[" * 100_000, *CREDENTIALS], "DATA is nested too deeply"),
        (["respond", "[" * 100_000, *CREDENTIALS], "DATA is nested too deeply"),
    ],
)
def test_wrong_use(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"metered: {message}")
    assert err.count("\n") == 1
    assert "hunter2" not in err
