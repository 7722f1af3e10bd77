"""`metered sub` that ends by itself: after so many messages, or after so long."""

from __future__ import annotations

import signal
import socket
from subprocess import PIPE

import pytest

from metered_anyio.cli import main

KEY = "pk_live_demo"


def test_the_count_is_reached(start, url):
    options = ("--url", url, "--key", KEY)
    listener = start("sub", "a/*", "b", "--presence", "--count", "2", "--timeout", "15", "--backend", "trio", *options)
    listener.err.find("listening")
    for channel in ("a/1", "c", "b", "a/2"):
        assert main(["pub", channel, "1", *options]) == 0
    assert listener.wait() == 0
    assert [line.split()[0] for line in listener.out.rest()] == ["a/1", "b"]


def test_the_count_is_exact_though_more_comes_at_once(start, url):
    listener = start("sub", "room", "--count", "3", "--url", url, "--key", KEY)
    listener.err.find("listening")
    publisher = start("pub", "room", "-", "--url", url, "--key", KEY, stdin=PIPE)
    publisher.write("1\n" * 60)
    publisher.end_input()
    assert publisher.wait() == 0
    assert listener.wait() == 0
    assert len(listener.out.rest()) == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_timeout_comes_first(url, backend, capsys):
    options = ["--url", url, "--key", KEY, "--backend", backend, "--quiet", "--timeout", "0.2"]
    assert main(["sub", "room", "--count", "1", *options]) == 1
    assert capsys.readouterr().err == "metered: 0 of 1 messages came within 0.2 s\n"
    assert main(["sub", "room", *options]) == 0  # so long, and no longer
    assert capsys.readouterr() == ("", "")


def test_the_timeout_while_connecting(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        assert main(["sub", "room", "--timeout", "0.1", "--url", url, "--key", KEY]) == 1
    assert capsys.readouterr().err == "metered: not connected within 0.1 s\n"


def test_a_signal_before_the_count(start, url):
    listener = start("sub", "room", "--count", "1", "--url", url, "--key", KEY)
    listener.err.find("listening")
    assert listener.stop(signal.SIGTERM) == 143


def test_gaps_between_messages_of_an_outbox_are_told(start, url):
    listener = start("sub", "room", "--deduplicate", "--count", "2", "--url", url, "--key", KEY)
    listener.err.find("listening")
    for number in (1, 1, 5):
        stamp = f'{{"id": "x-{number}", "outbox": "x", "seq": {number}}}'
        data = f'{{"__meteredOutbox": {stamp}, "temp": {number}}}'
        assert main(["pub", "room", data, "--url", url, "--key", KEY]) == 0
    assert listener.wait() == 0
    assert [line.split(" ", 2)[2] for line in listener.out.rest()] == ['{"temp":1}', '{"temp":5}']
    (gap,) = listener.err.rest()
    assert gap.startswith("missed 3 of peer_")
    assert gap.endswith(" in room")
