"""`metered pub CHANNEL -`: the lines of stdin, straight away and through an outbox."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from threading import Thread

import anyio
import pytest

from metered_anyio import Message, Outbox, SignallingClient
from metered_anyio.cli import main
from metered_anyio.cli.lines import LineReader
from metered_anyio.cli.pub_lines import OutboxRun, Source
from metered_anyio.outbox_store import SqliteStore
from metered_anyio.relay import Limits, RelayServer
from metered_proto.client.outbox import OutboxQueue
from metered_proto.entropy import Entropy
from metered_proto.wire.tokens import mint

KEY = "pk_live_demo"
SECRET = "sk_id_demo:sk_secret_0123456789abcdef"
PIPE = subprocess.PIPE


def token(peer_id: str, **options: object) -> str:
    key_id, _, secret = SECRET.partition(":")
    return mint(key_id=key_id, secret=secret, peer_id=peer_id, now=int(time.time()), **options)


def file_of(tmp_path, *lines):
    path = tmp_path / "lines"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path.open()


def counted(line):
    """A summary without its time, which is no use to a test."""
    return re.sub(r"in [0-9.]+ s", "in a while", line)


@pytest.fixture
def feed(monkeypatch):
    """Give this process lines on its stdin, which is a pipe; it ends there only if asked for."""
    with ExitStack() as opened:

        def give(content, *, end=True):
            reader, writer = map(opened.enter_context, map(open, os.pipe(), ("r", "wb"), (-1, 0)))
            writing = Thread(target=_write, args=(writer, content, end), daemon=True)  # a pipe does not hold much
            writing.start()
            opened.callback(writing.join)
            monkeypatch.setattr(sys, "stdin", reader)

        yield give


def _write(writer, content, end):
    writer.write(content if isinstance(content, bytes) else content.encode())
    if end:
        writer.close()


@pytest.fixture(scope="module")
def narrow(start_for_module):
    """A relay that soon closes who is too fast."""
    relay = start_for_module("serve", "--port", "0", "--connect-rate", "off", "--rate", "100/40", "--key", KEY)
    return relay.out.next().removeprefix("listening on ")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_lines_go_out_in_order_and_count_ends_it(start, url, backend, capsys, monkeypatch, tmp_path):
    options = ("--url", url, "--key", KEY, "--backend", backend)
    listener = start("sub", "room/*", "--json", "--count", "90", *options)
    listener.err.find("listening")
    with file_of(tmp_path, *range(1000)) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["pub", "room/1", "-", "--json", "--count", "90", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report.pop("seconds") >= 0
    sender = report.pop("from")
    assert report == {"channel": "room/1", "lines": 90, "acknowledged": 90, "earlier": 0}
    assert listener.wait() == 0
    assert [json.loads(line) for line in listener.out.rest()] == [
        {"channel": "room/1", "from": sender, "data": number} for number in range(90)
    ]
    assert listener.err.rest() == []


def test_each_line_goes_out_as_it_comes(start, url):
    listener = start("sub", "room", "--url", url, "--key", KEY)
    listener.err.find("listening")
    publisher = start("pub", "room", "--stdin", "--url", url, "--key", KEY, "--backend", "trio", stdin=PIPE)
    for line, shown in (
        ("21.50", "21.5"),
        ("hello", '"hello"'),
        ("\n  \r\n[1, 2]\r", "[1,2]"),
        ('"-"', '"-"'),
    ):
        publisher.write(f"{line}\n")
        assert listener.out.next().partition(" peer_")[2].partition(" ")[2] == shown
    publisher.write("no end")
    publisher.end_input()
    assert listener.out.next().endswith('"no end"')
    assert publisher.wait() == 0
    assert [counted(line) for line in publisher.out.rest()] == ["acknowledged 5 lines in a while"]
    assert listener.stop() == 0


def test_with_string_every_line_is_text(start, url, feed):
    options = ["--url", url, "--key", KEY]
    listener = start("sub", "room", "--count", "3", *options)
    listener.err.find("listening")
    feed("17\n\n{}")
    assert main(["pub", "room", "-", "--string", *options]) == 0
    assert listener.wait() == 0
    assert [line.split(" ", 2)[2] for line in listener.out.rest()] == ['"17"', '""', '"{}"']


def test_no_lines_are_no_failure(url, feed, capsys):
    feed("")
    assert main(["pub", "room", "-", "--url", url, "--key", KEY]) == 0
    assert counted(capsys.readouterr().out) == "acknowledged 0 lines in a while\n"


def test_the_rate_keeps_the_relay_from_closing(narrow, feed, capsys):
    lines = "1\n" * 80
    options = ["pub", "room", "-", "--url", narrow, "--key", KEY]
    feed(lines)
    assert main([*options, "--rate", "off"]) == 1
    out, err = capsys.readouterr()
    assert "4011 message_rate" in err
    assert re.fullmatch(r"acknowledged \d+ lines in a while, \d+ not\n", counted(out))
    feed(lines)
    assert main([*options, "--rate", "90/20"]) == 0
    assert counted(capsys.readouterr().out) == "acknowledged 80 lines in a while\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\xff", "line 3 is not UTF-8"),
        (b'"' + b"x" * 70_000 + b'"', "line 3: the payload has 70"),
        (b"[" * 100_000, "line 3: DATA is nested too deeply"),
    ],
    ids=["utf-8", "size", "depth"],
)
@pytest.mark.parametrize("outbox", [False, True], ids=["straight", "outbox"])
def test_a_line_that_cannot_go_ends_it(url, feed, capsys, tmp_path, line, message, outbox):
    feed(b"1\n2\n" + line + b"\n4\n", end=False)
    more = ["--outbox", str(tmp_path / "outbox")] if outbox else []
    assert main(["pub", "room", "-", "--url", url, "--key", KEY, *more]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"metered: {message}")
    assert err.count("\n") == 1
    # What came after an oversized line may have been on its way before that was known.
    assert re.match(r"acknowledged [23] lines in a while", counted(out))


@pytest.mark.parametrize("outbox", [False, True], ids=["straight", "outbox"])
def test_a_line_that_the_server_refuses_ends_it(url, feed, capsys, tmp_path, outbox):
    feed("1\n", end=False)
    more = ["--outbox", str(tmp_path / "outbox")] if outbox else []
    eve = token("eve", channels=["fleet/*"])
    assert main(["pub", "room", "-", "--url", url, "--json", "--token", eve, *more]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("metered: line 1: channel_not_authorized")
    report = json.loads(out)
    assert (report["from"], report["lines"], report["acknowledged"]) == ("eve", 1, 0)


def test_a_signal_ends_the_waiting_for_lines(start, url):
    publisher = start("pub", "room", "-", "--url", url, "--key", KEY, "--backend", "trio", stdin=PIPE)
    listener = start("sub", "room", "--url", url, "--key", KEY)
    listener.err.find("listening")
    publisher.write("1\n")
    listener.out.next()
    assert publisher.stop(signal.SIGINT) == 130
    assert len(publisher.out.rest()) == 1
    assert publisher.err.rest() == []


def test_a_lost_connection_is_told_at_once(start):
    relay = start("serve", "--port", "0", "--key", KEY)
    url = relay.out.next().removeprefix("listening on ")
    listener = start("sub", "room", "--url", url, "--key", KEY)
    listener.err.find("listening")
    publisher = start("pub", "room", "-", "--url", url, "--key", KEY, stdin=PIPE)
    publisher.write("1\n")
    listener.out.next()
    assert relay.stop() == 0
    assert publisher.wait() == 1
    assert publisher.err.rest() == ["metered: disconnected: 1001 going_away"]


def test_nobody_there_is_no_report(feed, capsys):
    feed("1\n")
    assert main(["pub", "room", "-", "--url", "ws://127.0.0.1:1", "--key", KEY]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metered: could not connect: 1006")


# --- through an outbox ---


def test_the_outbox_outlives_the_process_and_the_network(start, tmp_path):
    relay = start("serve", "--port", "0", "--key", KEY)
    url = relay.out.next().removeprefix("listening on ")
    assert relay.stop() == 0
    path = str(tmp_path / "outbox")
    options = ("--url", url, "--key", KEY, "--outbox", path)

    offline = start("pub", "room", "-", *options, "--verbose", stdin=PIPE)
    offline.write("1\n2\n3\n")
    offline.err.find("attempt failed")  # it does not give up
    assert offline.stop() == 143
    (line,) = offline.out.rest()
    assert counted(line) == f"acknowledged 0 lines in a while, 3 not, 3 wait in {path}"

    port = url.rpartition(":")[2]
    relay = start("serve", "--port", port, "--key", KEY)
    relay.out.next()
    listener = start("sub", "room", "--deduplicate", "--url", url, "--key", KEY)
    listener.err.find("listening")
    publisher = start("pub", "room", "-", *options, "--backend", "trio", stdin=PIPE)
    publisher.write('"4"\n')
    assert [listener.out.next().split(" ", 2)[2] for _ in range(4)] == ["1", "2", "3", '"4"']

    assert relay.stop() == 0
    listener.err.find("connection lost")
    publisher.write("5\n")
    relay = start("serve", "--port", port, "--key", KEY)
    relay.out.next()
    publisher.end_input()
    assert publisher.wait() == 0
    (line,) = publisher.out.rest()
    assert counted(line) == "acknowledged 2 lines and 3 of an earlier run in a while"
    assert listener.stop() == 0
    assert relay.stop() == 0


def test_the_envelope_is_there_for_who_does_not_deduplicate(start, url, feed, tmp_path):
    options = ["--url", url, "--key", KEY]
    listener = start("sub", "room", "--json", "--count", "1", *options)
    listener.err.find("listening")
    feed('{"temp": 21.5}\n')
    assert main(["pub", "room", "-", "--outbox", str(tmp_path / "outbox"), *options]) == 0
    data = json.loads(listener.out.next())["data"]
    assert data.pop("__meteredOutbox")["seq"] == 1
    assert data == {"temp": 21.5}
    assert listener.wait() == 0


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("refused", "could not connect: 4001 invalid_token"),
        ("expired", "the token has expired"),
        ("in use", "in_use: "),
    ],
)
def test_what_ends_an_outbox_for_good(url, feed, capsys, tmp_path, case, message):
    store = SqliteStore(tmp_path / "outbox")
    if case == "in use":
        store.load()
    credential = ["--token", token("eve", expires_in=1)] if case == "expired" else ["--key", "pk_live_other"]
    feed("1\n", end=False)
    assert main(["pub", "room", "-", "--url", url, "--outbox", str(tmp_path / "outbox"), *credential]) == 1
    assert capsys.readouterr().err.startswith(f"metered: {message}")
    store.close()


def test_lines_of_an_earlier_run_that_are_refused(url, feed, capsys, tmp_path):
    store = SqliteStore(tmp_path / "outbox")
    queue = OutboxQueue(Outbox(), Entropy(1), store.load())
    store.keep(queue.draft(0, "room", b"1", None))
    store.close()
    feed("1\n2\n")
    eve = token("eve", channels=["fleet/*"])
    arguments = ["pub", "fleet/1", "-", "--url", url, "--token", eve, "--outbox", str(tmp_path / "outbox")]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert counted(out) == "acknowledged 2 lines in a while\n"
    assert err == "metered: 1 of an earlier run were refused\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_full_outbox_takes_more_when_there_is_room(backend, tmp_path):
    file = file_of(tmp_path, *range(50))

    async def scenario():
        async with (
            RelayServer(keys=[KEY], limits=Limits(message_rate=None)) as relay,
            SignallingClient(api_key=KEY, url=relay.url) as listener,
        ):
            await listener.subscribe("room")
            heard = listener.events(Message)
            options = Outbox(path=tmp_path / "outbox", max_messages=3, overflow="reject", rate=None)
            client = SignallingClient(api_key=KEY, url=relay.url, outbox=options)
            run = OutboxRun(client, "room", Source(LineReader(file.fileno()), string=True, count=None))
            with anyio.fail_after(20):
                await run.run()
                found = [(await anext(heard)).data["value"] for _ in range(50)]
            return run.acknowledged, run.acknowledged_earlier, run.waiting, found

    assert anyio.run(scenario, backend=backend) == (50, 0, 0, [str(number) for number in range(50)])
    file.close()
