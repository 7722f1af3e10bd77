"""`metered pub` and `metered sub` against a served relay."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from urllib.request import Request, urlopen

import anyio
import anyio.lowlevel
import msgspec
import pytest

from metered_anyio import Disconnected, Message, SignallingClient, SubscribeOptions
from metered_anyio.cli import main
from metered_anyio.cli.common import Misuse
from metered_anyio.cli.data import read_data
from metered_anyio.cli.sub import Listener
from metered_anyio.relay import RelayServer
from metered_proto.wire.tokens import mint

KEY = "pk_live_demo"
SECRET = "sk_id_demo:sk_secret_0123456789abcdef"


def token(peer_id: str, **options: object) -> str:
    key_id, _, secret = SECRET.partition(":")
    return mint(key_id=key_id, secret=secret, peer_id=peer_id, now=int(time.time()), **options)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_published_is_printed(start, url, backend, capsys):
    bob = token("bob", peer_metadata={"name": "Bob"})
    shared = {"METERED_URL": url, "METERED_KEY": KEY}
    everything = ("--presence", "--directs", "--metadata")
    data = start(
        "sub", "room", "fleet/*/t", "--json", *everything, "--backend", backend, METERED_TOKEN=bob, METERED_URL=url
    )
    assert data.err.next() == "listening as bob to room fleet/*/t"
    text = start("sub", "room", "fleet/*/t", "--backend", backend, **shared)
    assert text.err.next().startswith("listening as peer_")

    assert start("pub", "fleet/7 a/t", '{"celsius": 21.50}', "--backend", backend, **shared).wait() == 0
    options = ["--url", url, "--token", bob, "--backend", backend]
    assert main(["pub", "room", "--string", "17", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out) == {"channel": "room", "from": "bob", "acknowledged": True}

    async def direct() -> None:
        async with SignallingClient(api_key=KEY, url=url) as client:
            await client.send("bob", ["psst", None])

    anyio.run(direct, backend=backend)

    assert re.fullmatch(r'"fleet/7 a/t" peer_\w+ \{"celsius":21\.5\}', text.out.next())
    assert text.out.next() == 'room bob "17"'

    lines = [json.loads(data.out.next()) for _ in range(5)]
    presence = [line for line in lines if "joined" in line]
    assert presence[0] == {"channel": "room", "joined": [], "left": []}
    assert [len(line["joined"]) for line in presence] == [0, 1]  # the other `sub`; bob as a publisher is bob once more
    published, own, sent = (line for line in lines if "data" in line)
    assert (published["channel"], published["data"]) == ("fleet/7 a/t", {"celsius": 21.5})
    assert "metadata" not in published
    assert own == {"channel": "room", "from": "bob", "data": "17", "metadata": {"name": "Bob"}}
    assert (sent["data"], "channel" in sent) == (["psst", None], False)

    assert text.stop(signal.SIGINT) == 0
    assert data.stop(signal.SIGTERM) == 0
    assert text.err.rest() == data.err.rest() == []


def test_presence_and_directs_as_text(start, url):
    listener = start("sub", "hall", "--presence", "--directs", "--url", url, METERED_TOKEN=token("ann"))
    listener.err.find("listening")

    async def visit() -> None:
        provider_token = token("bob", peer_metadata={"name": "Bob"})

        async def provider() -> str:
            return provider_token

        async with SignallingClient(token_provider=provider, url=url) as client:
            await client.subscribe("hall")
            await client.send("ann", "hello")

    anyio.run(visit)
    assert [listener.out.next() for _ in range(3)] == [
        '+ hall bob {"name":"Bob"}',
        '> bob "hello" {"name":"Bob"}',
        '- hall bob {"name":"Bob"}',
    ]
    assert listener.stop() == 0


HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "c1": "\x9b2J",
    "bidi": "\u202etxt.exe",
    "markup": "[red]a[/red] [link=x]b",
    "\n": "\r",
}


def test_hostile_data_only_stands_there(start, url):
    coloured = start("sub", "street", "--url", url, "--key", KEY, FORCE_COLOR="1", TERM="xterm", NO_COLOR="")
    machine = start("sub", "street", "--json", "--url", url, "--key", KEY)
    coloured.err.find("listening")
    machine.err.find("listening")

    async def publish() -> None:
        deep: object = 0
        for _ in range(900):
            deep = [deep]
        async with SignallingClient(api_key=KEY, url=url) as client:
            await client.publish("street", HOSTILE)
            await client.publish("street", deep)
            await client.publish("street", 10**400)

    anyio.run(publish)
    line = coloured.out.next()
    assert "\x1b[36mstreet\x1b[0m" in line
    shown = re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert shown.isprintable()
    channel, sender, data = shown.split(" ", 2)
    assert channel == "street"
    assert sender.startswith("peer_")
    assert json.loads(data) == HOSTILE
    assert "[red]a[/red] [link=x]b" in data
    raw = machine.out.next()
    assert raw.isprintable()
    assert json.loads(raw)["data"] == HOSTILE
    for listener in (coloured, machine):
        assert "[[[[" in listener.out.next()
        assert "1" + "0" * 400 in listener.out.next()
        assert listener.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_relay_that_restarts(start, backend):
    relay = start("serve", "--port", "0", "--key", KEY, "--backend", backend)
    url = relay.out.next().removeprefix("listening on ")
    options = ("--url", url, "--key", KEY)
    listener = start("sub", "room", "--json", "--presence", *options, "--backend", backend)
    listener.err.find("listening as")
    listener.out.next()
    assert relay.stop() == 0
    assert listener.err.next() == "the server is going away"
    assert listener.err.next() == "connection lost: 1001 going_away"
    again = start("serve", "--port", url.rpartition(":")[2], "--key", KEY, "--backend", backend)
    assert again.out.next() == f"listening on {url}"
    assert listener.err.next().startswith("connected again as peer_")
    assert json.loads(listener.out.next()) == {"channel": "room", "joined": [], "left": []}  # it has subscribed again
    assert main(["pub", "room", "back", *options]) == 0
    assert json.loads(listener.out.next())["data"] == "back"
    assert listener.stop() == 0
    assert again.stop() == 0


def test_a_token_that_ends_is_the_end(start, url):
    listener = start("sub", "room", "--url", url, "--token", token("cid", expires_in=2))
    listener.err.find("listening as cid")
    assert listener.err.next() == "connection lost: 4002 token_expired"
    assert listener.wait() == 1
    assert listener.err.rest() == ["metered: the token has expired"]


def test_kicked_out_is_the_end(start, url):
    options = ("--quiet", "--json", "--presence", "--backend", "trio", "--url", url)
    listener = start("sub", "room", *options, METERED_TOKEN=token("dan"))
    listener.out.next()  # the snapshot: it is in
    request = Request(f"http{url[2:]}/v1/peers/dan", method="DELETE", headers={"Authorization": f"Bearer {SECRET}"})
    with urlopen(request, timeout=10) as response:
        assert response.status == 200
    assert listener.wait() == 1
    assert listener.err.rest() == ["metered: disconnected for good: 4020 admin_disconnect"]


def test_when_nobody_reads_any_more_it_goes_quietly(start, url):
    reader, writer = os.pipe()
    listener = start("sub", "room", "--url", url, "--key", KEY, stdout=writer)
    os.close(writer)
    listener.err.find("listening")
    os.close(reader)
    assert main(["pub", "room", "1", "--url", url, "--key", KEY]) == 0
    assert listener.wait() == 1
    assert listener.err.rest() == []


def test_a_full_disk_is_a_failure(start, url):
    full = os.open("/dev/full", os.O_WRONLY)
    commands = [start("sub", "room", "--url", url, "--key", KEY, stdout=full), start("--version", stdout=full)]
    os.close(full)
    commands[0].err.find("listening")
    assert main(["pub", "room", "1", "--url", url, "--key", KEY]) == 0
    for command in commands:
        assert command.wait() == 1
        assert command.err.rest() == ["metered: cannot write: No space left on device"]


@pytest.mark.parametrize(
    ("backend", "command", "number", "code"),
    [
        ("asyncio", ("sub", "room"), signal.SIGINT, 0),
        ("asyncio", ("pub", "room", "1"), signal.SIGTERM, 143),
        ("trio", ("pub", "room", "1"), signal.SIGINT, 130),
    ],
    ids=["sub", "pub", "pub-trio"],
)
def test_a_signal_while_connecting(start, backend, command, number, code):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        process = start(*command, "--url", url, "--key", KEY, "--backend", backend)
        with silent.accept()[0]:
            assert process.stop(number) == code
        assert process.err.rest() == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_connection_lost_between_two_subscribes(backend, capsys):
    async def scenario() -> None:
        relay = RelayServer(keys=[KEY])
        await relay.start()
        successor = RelayServer(keys=[KEY], port=relay.port)
        attempts: list[str] = []
        subscribed = anyio.Event()

        class Unlucky(SignallingClient):
            async def subscribe(self, channel: str, options: SubscribeOptions | None = None) -> None:
                attempts.append(channel)
                if attempts == ["first", "second"]:
                    async with self.events(Disconnected) as ends:
                        await relay.drain()
                        await anext(ends)
                    await successor.start()
                await super().subscribe(channel, options)
                if channel == "second":
                    subscribed.set()

        client = Unlucky(api_key=KEY, url=relay.url)
        heard = client.events(Message)
        listener = Listener(["first", "second"], [Message], as_json=True, metadata=False, quiet=False)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(listener.listen, client)
                await subscribed.wait()
                for channel in ("first", "second"):
                    await successor.publish(channel, "hello")
                    await anext(heard)
                group.cancel_scope.cancel()
        await successor.close()
        assert attempts == ["first", "second", "second"]

    anyio.run(scenario, backend=backend)
    out, err = capsys.readouterr()
    assert [(line["channel"], line["data"]) for line in map(json.loads, out.splitlines())] == [
        ("first", "hello"),
        ("second", "hello"),
    ]
    lost, again, listening = err.splitlines()[-3:]
    assert lost == "connection lost: 1001 going_away"
    assert again.startswith("connected again as")
    assert listening.endswith("to first second")


def test_refusals_of_the_server(start, url, capsys):
    narrow = token("eve", channels=["fleet/*"], permissions=["publish", "subscribe"])
    options = ["--url", url, "--token", narrow]
    assert main(["pub", "room", "1", *options]) == 1
    assert main(["sub", "room", *options]) == 1
    assert main(["pub", "room", "1", "--url", url, "--key", "pk_live_hunter2"]) == 1
    assert main(["sub", "room", "--url", url, "--key", "pk_live_hunter2"]) == 1
    assert main(["pub", "fleet/1", json.dumps("x" * 70_000), *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("metered: channel_not_authorized")
    assert lines[1].startswith("metered: channel_not_authorized")
    assert lines[2] == lines[3] == "metered: could not connect: 4001 invalid_token"
    assert lines[4] == "metered: the payload has 70002 bytes, the server takes at most 65536"
    assert len(lines) == 5


def test_nobody_there(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for command in (["pub", "room", "1"], ["sub", "room"]):
        assert main([*command, "--url", f"ws://127.0.0.1:{port}", "--key", KEY]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.startswith("metered: could not connect: 1006") for line in err.splitlines()] == [True, True]


CREDENTIALS = ["--url", "ws://127.0.0.1:1", "--key", "pk_live_hunter2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pub", "room"], "give DATA, or - for the lines of stdin"),
        (["pub", "room", "1", "--stdin"], "DATA and --stdin: give one of them"),
        (["pub", "room", "1", "--count", "2"], "--count and --outbox are for the lines of stdin"),
        (["pub", "room", "1", "--outbox", "f"], "--count and --outbox are for the lines of stdin"),
        (["pub", "room", "-", "--rate", "0"], "--rate must be RATE/BURST"),
        (["pub", "room", "-", "--count", "0"], "Invalid value for '--count'"),
        (["sub", "room", "--timeout", "0"], "--timeout must be a number of seconds above 0"),
        (["sub", "room", "--count", "0"], "Invalid value for '--count'"),
        (["sub"], "Missing argument 'CHANNEL"),
        (["pub", "room", "1"], "a key or a token is needed"),
        (["pub", "room", "1", "--key", "pk_live_hunter2", "--token", "hunter2"], "--key and --token: give one of them"),
        (["pub", "room", "1", "--key", "pk_live_x", "--url", "https://hunter2.example"], "url must be wss://HOST"),
        (["sub", "room", "--key", "pk_live_x", "--url", "ws://hunter2.example"], "url must be wss://HOST"),
        (["pub", "", "1", *CREDENTIALS], "a channel must not be empty"),
        (["sub", "room", "a\nb", *CREDENTIALS], "a channel must not hold control characters"),
        (["pub", "room", "[" * 100_000, *CREDENTIALS], "DATA is nested too deeply"),
        (["pub", "room", "\udcff", *CREDENTIALS], "data holds a lone surrogate"),
        (["pub", "room", "-5", *CREDENTIALS], "No such option"),
    ],
)
def test_wrong_use(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"metered: {message}")
    assert err.count("\n") == 1
    assert "hunter2" not in err


def test_two_credentials_of_the_environment(capsys, monkeypatch, url):
    monkeypatch.setenv("METERED_URL", url)
    monkeypatch.setenv("METERED_KEY", KEY)
    monkeypatch.setenv("METERED_TOKEN", token("fay"))
    assert main(["pub", "room", "1"]) == 2
    assert capsys.readouterr().err.startswith("metered: METERED_KEY and METERED_TOKEN: give one of them")
    # What is typed counts before what is set.
    assert main(["pub", "room", "1", "--json", "--token", token("gus")]) == 0
    assert json.loads(capsys.readouterr().out)["from"] == "gus"
    monkeypatch.setenv("METERED_TOKEN", "")
    assert main(["pub", "room", "--", "-5"]) == 0


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("17", msgspec.Raw(b"17")),
        (' {"a": 1.10} ', msgspec.Raw(b'{"a": 1.10}')),
        ("null", msgspec.Raw(b"null")),
        ('"x"', msgspec.Raw(b'"x"')),
        ("hello", "hello"),
        ("{a: 1}", "{a: 1}"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("", ""),
    ],
)
def test_data_is_json_if_it_can_be(text, data):
    found = read_data(text, string=False)
    assert type(found) is type(data)
    assert bytes(found) == bytes(data) if isinstance(data, msgspec.Raw) else found == data
    assert read_data(text, string=True) == text


def test_data_that_is_too_deep():
    with pytest.raises(Misuse, match="nested too deeply"):
        read_data("[" * 100_000 + "]" * 100_000, string=False)
