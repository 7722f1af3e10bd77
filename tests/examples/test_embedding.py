"""Both ways of embedding the client, each as the process that the reader would start."""

from __future__ import annotations

from typing import Any

import pytest

KEY = "pk_live_example"


@pytest.mark.parametrize("example", ["examples.embed_bytes", "examples.embed_messages"])
def test_it_talks_survives_the_relays_restart_and_ends(relay: Any, run: Any, example: str) -> None:
    program = run(example, relay.url, KEY, "5")
    other = run(example, relay.url, KEY, "7")
    program.wait_for("Connected(")
    program.wait_for("publish 1: ok")
    heard = program.wait_for("Message(channel='room/lobby'")
    other.wait_for("Message(channel='room/lobby'")

    relay.stop()
    lost = program.wait_for("Disconnected(code=1006", after=heard)
    other.wait_for("Disconnected(code=1006")
    relay.start()
    back = program.wait_for("is_reconnect=True", after=lost)
    other.wait_for("is_reconnect=True")
    # It hears the other again, so it listens again.
    program.wait_for("Message(channel='room/lobby'", after=back)
    program.wait_for(": ok", after=back)

    program.wait_for("Disconnected(code=1000")
    assert program.wait() == 0
    other.wait_for("Presence(")
    assert other.wait() == 0
    assert KEY not in "\n".join(program.lines + other.lines)


@pytest.mark.parametrize("example", ["examples.embed_bytes", "examples.embed_messages"])
def test_a_key_that_is_not_known_ends_it(relay: Any, run: Any, example: str) -> None:
    program = run(example, relay.url, "pk_live_unknown")
    program.wait_for("could not connect: 4001")
    assert program.wait() == 1
    assert "pk_live_unknown" not in "\n".join(program.lines)


@pytest.mark.parametrize("example", ["examples.embed_bytes", "examples.embed_messages"])
def test_nobody_there_ends_it(relay: Any, run: Any, example: str) -> None:
    relay.stop()
    program = run(example, relay.url, KEY)
    program.wait_for("could not connect: 1006")
    assert program.wait() == 1
