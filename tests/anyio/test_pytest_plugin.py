"""The fixtures of the pytest plugin, in use, and what they say when something is wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest
from adapter_kit import until

from metered_anyio import Direct, Message, SignallingClient
from metered_anyio.recording import open_recording
from metered_anyio.testing import Cassette, EmbeddedRelay
from metered_proto.errors import RecordingFileError
from metered_proto.replay import replay

pytestmark = pytest.mark.anyio

LIMIT = 20


def install_thermostat(client: SignallingClient, limit: int = LIMIT) -> None:
    """An application: switches the heating by what the sensors say, and tells who asks."""

    @client.on(Message)
    async def on_reading(message: Message) -> None:
        await client.publish("heating", {"on": message.data["celsius"] < limit})

    @client.on(Direct)
    async def on_question(direct: Direct) -> None:
        await client.send(direct.sender_peer_id, {"limit": limit})


async def record_thermostat(relay: EmbeddedRelay, path: Path) -> None:
    provider = relay.token_provider("thermostat")
    async with (
        SignallingClient(token_provider=provider, url=relay.url, record=path) as client,
        SignallingClient(api_key=relay.api_key, url=relay.url) as sensor,
    ):
        install_thermostat(client)
        heard: list[Any] = []
        sensor.on(Message, heard.append)
        sensor.on(Direct, heard.append)
        await client.subscribe("readings/*")
        await sensor.subscribe("heating")
        for number, celsius in enumerate((18, 19, 23), 1):
            await sensor.publish("readings/kitchen", {"celsius": celsius})
            await until(lambda: len(heard) == number)  # noqa: B023
        await sensor.send("thermostat", "?")
        await until(lambda: len(heard) == 4)
        # A drop in between, which the cassette plays as well.
        assert client.peer_id is not None
        await relay.kick("nobody")


@pytest.fixture
async def recorded(relay: EmbeddedRelay, tmp_path: Path) -> Path:
    path = tmp_path / "thermostat.jsonl"
    await record_thermostat(relay, path)
    assert replay(open_recording(path)) is None
    return path


async def run(cassette: Cassette, limit: int = LIMIT) -> None:
    async with cassette.client() as client:
        install_thermostat(client, limit)
        await client.subscribe("readings/*")
        await cassette.play()


class TestCassette:
    async def test_the_same_application_sends_the_same(self, recorded: Path) -> None:
        cassette = Cassette(recorded)
        await run(cassette)
        cassette.finish()

    async def test_another_one_is_found_out(self, recorded: Path) -> None:
        with pytest.raises(AssertionError) as caught:
            await run(Cassette(recorded), 19)
        text = str(caught.value)
        assert '"data":{"on":true}' in text
        assert '+ {"type":"publish","channel":"heating","data":{"on":false}}' in text
        assert '- {"type":"send"' in text
        assert len(text.splitlines()) < 15

    async def test_one_that_sends_nothing(self, recorded: Path) -> None:
        cassette = Cassette(recorded, patience=0.1)
        with pytest.raises(AssertionError) as caught:
            async with cassette.client():
                await cassette.play()
        assert str(caught.value).count("- {") == 5

    async def test_one_that_sends_more(self, recorded: Path) -> None:
        cassette = Cassette(recorded)
        async with cassette.client() as client:
            install_thermostat(client)
            await client.subscribe("readings/*")
            await client.publish("more", 1, ack=False)
            with pytest.raises(AssertionError, match='"channel":"more"'):
                await cassette.play()

    async def test_it_is_recorded_anew(self, recorded: Path) -> None:
        cassette = Cassette(recorded, rewrite=True)
        await run(cassette, 19)
        cassette.finish()
        assert sorted(path.name for path in recorded.parent.iterdir()) == [recorded.name]
        await run(Cassette(recorded), 19)
        with pytest.raises(AssertionError):
            await run(Cassette(recorded), LIMIT)

    async def test_what_is_no_cassette(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Cassette(tmp_path / "none.jsonl")
        async with EmbeddedRelay(record=tmp_path / "relay.jsonl"):
            pass
        with pytest.raises(RecordingFileError):
            Cassette(tmp_path / "relay.jsonl")

    async def test_one_client_each(self, recorded: Path) -> None:
        cassette = Cassette(recorded)
        client = cassette.client()
        with pytest.raises(RuntimeError):
            cassette.client()
        await client.close()


class TestRelay:
    async def test_it_lets_in_who_has_its_key_or_a_token(self, relay: EmbeddedRelay) -> None:
        async with SignallingClient(api_key=relay.api_key, url=relay.url) as client:
            await client.publish("a", 1)
        async with SignallingClient(token_provider=relay.token_provider("me"), url=relay.url) as client:
            assert client.peer_id == "me"


class TestAsAPlugin:
    """In a pytest of its own, as an application has it."""

    def run(self, where: Path, text: str, *arguments: str) -> str:
        (where / "test_app.py").write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(where)],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=where,
        )
        return done.stdout + done.stderr

    APP = """
        import pytest
        from metered_anyio import Message

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.cassette("thermostat.jsonl")
        async def test_thermostat(cassette):
            async with cassette.client() as client:
                @client.on(Message)
                async def on_reading(message):
                    await client.publish("heating", {"on": message.data["celsius"] < LIMIT})
                await client.subscribe("readings/*")
                await cassette.play()

        async def test_relay(relay):
            assert relay.url.startswith("ws://")

        def test_world(world):
            assert callable(world)
    """

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_it_is_there(self, recorded: Path) -> None:
        def both() -> tuple[str, str, str]:
            wrong = self.run(recorded.parent, self.APP.replace("LIMIT", "20"))
            anew = self.run(recorded.parent, self.APP.replace("LIMIT", "19"), "--cassette-rewrite")
            return wrong, anew, self.run(recorded.parent, self.APP.replace("LIMIT", "19"))

        wrong, anew, right = await anyio.to_thread.run_sync(both)
        assert "1 failed, 2 passed" in wrong, wrong
        assert '- {"type":"send","to":' in wrong
        assert "3 passed" in anew, anew
        assert "3 passed" in right, right
