"""Clients, peers and relays that write down what they do: real runs, replayed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest
from adapter_kit import KEY, SECRET, make_client, make_relay, nothing_left, until, warm_relay
from room_kit import ROOM, Log, ScriptedEngine, remote, token_peer, told

from metered_anyio import (
    Data,
    Deduplicator,
    MediaStream,
    Message,
    MeteredPeer,
    Outbox,
    OutboxFullError,
    SignallingClient,
    SignallingClientOptions,
    StateChange,
)
from metered_anyio.options import RecordOptions
from metered_anyio.recording import RecordingFile, open_recording
from metered_anyio.relay import RelayServer
from metered_proto.errors import RecordingFileError
from metered_proto.replay import ClientPlan, RelayPlan, RoomPlan, replay, run

pytestmark = pytest.mark.anyio


def check(path: Path) -> int:
    """Replay a file; returns its steps."""
    outcome = run(open_recording(path))
    assert outcome.divergence is None, str(outcome.divergence)
    assert not outcome.cut_off
    return outcome.steps


async def test_a_client_and_its_relay(tmp_path: Path) -> None:
    async with warm_relay(record=tmp_path / "relay.jsonl") as relay, nothing_left(1):
        async with make_client(relay.url, record=tmp_path / "client.jsonl") as client, make_client(relay.url) as other:
            heard = told(client, Message)
            await client.subscribe("a")
            for number in range(50):
                await other.publish("a", {"n": number})
            await until(lambda: len(heard) == 50)
            await client.publish("b", "ü")
            await client.send(client.peer_id or "", [1, 2])
    assert check(tmp_path / "client.jsonl") > 50
    assert check(tmp_path / "relay.jsonl") > 50
    text = (tmp_path / "client.jsonl").read_text() + (tmp_path / "relay.jsonl").read_text()
    assert KEY not in text
    assert SECRET.secret not in text
    header = open_recording(tmp_path / "client.jsonl").header
    assert isinstance(header.plan, ClientPlan)
    assert isinstance(open_recording(tmp_path / "relay.jsonl").header.plan, RelayPlan)
    assert header.library
    assert header.started
    assert stat.S_IMODE((tmp_path / "client.jsonl").stat().st_mode) == 0o600


async def test_an_outbox_and_a_deduplicator(tmp_path: Path) -> None:
    async with warm_relay() as relay, nothing_left(1):
        for life in range(2):
            outbox = Outbox(max_messages=20 + 20 * life, overflow="reject", path=tmp_path / "outbox.db")
            record = tmp_path / f"life{life}.jsonl"
            client = make_client(relay.url, outbox=outbox, deduplicate=True, record=record)
            for number in range(5):
                client.enqueue("a", {"life": life, "n": number})
            for _ in range(15):
                client.enqueue("a", None)
            with pytest.raises(OutboxFullError):
                client.enqueue("a", None)
            if life:
                async with client:
                    assert await client.flush(5)
            else:
                await client.close()
            assert check(record) > 10


async def test_a_room_of_two_and_video(tmp_path: Path) -> None:
    pytest.importorskip("aiortc", reason="aiortc is not installed")
    from metered_anyio import Track
    from testbed.tracks import RED, ColourTrack, colour_of, is_colour

    async with warm_relay(record=tmp_path / "relay.jsonl") as relay:
        options: dict[str, Any] = {"record": tmp_path}
        async with token_peer(relay.url, "alice", **options) as alice, token_peer(relay.url, "bob", **options) as bob:
            alice.add_stream(MediaStream([ColourTrack(RED)], id="front-door"), {"label": "Front door"})
            await alice.join(ROOM)
            await bob.join(ROOM)
            await until(lambda: bob.remote_peers)
            tracks = told(remote(bob), Track)
            heard = told(bob, Data)
            await until(lambda: tracks or remote(bob).state == "connected", 20)
            await until(lambda: tracks, 20)
            with anyio.fail_after(20):
                while not is_colour(colour_of(await tracks[0].track.recv()), RED):
                    pass
            await alice.send({"hello": "everybody"})
            await until(lambda: heard)
    files = [tmp_path / name for name in os.listdir(tmp_path) if name.startswith("peer-")]
    assert len(files) == 2
    for path in files:
        assert isinstance(open_recording(path).header.plan, RoomPlan)
        assert check(path) > 10
        text = path.read_text()
        assert "a=ice-ufrag:" in text
        assert SECRET.secret not in text
    assert check(tmp_path / "relay.jsonl") > 10


async def test_a_track_that_is_added_before_there_is_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.metered_peer.make_engine", lambda feed, *_: ScriptedEngine(feed))
    async with warm_relay() as relay:
        peer = MeteredPeer(api_key=KEY, url=relay.url, record=tmp_path / "peer.jsonl")
        assert not (tmp_path / "peer.jsonl").exists()
        async with peer.joined(ROOM):
            pass
    assert check(tmp_path / "peer.jsonl") > 3


class TestWhereItGoes:
    async def test_a_directory_in_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with warm_relay() as relay:
            monkeypatch.setenv("METERED_RECORD", str(tmp_path / "all"))
            for _ in range(2):
                async with make_client(relay.url):
                    pass
        files = sorted((tmp_path / "all").iterdir())
        assert len(files) == 2
        assert all(path.name.startswith("client-") for path in files)
        for path in files:
            check(path)

    def test_nothing_is_loaded_when_it_is_off(self) -> None:
        script = """
            import sys, anyio, metered_anyio
            from metered_anyio.relay import RelayServer
            async def main():
                async with RelayServer(keys=["pk_live_x"]) as relay:
                    async with metered_anyio.SignallingClient(api_key="pk_live_x", url=relay.url) as client:
                        assert type(client._pump.machine).__name__ == "ClientSession"
            anyio.run(main)
            assert not any(name.startswith("metered_proto.replay") for name in sys.modules)
        """
        environment = {name: value for name, value in os.environ.items() if name != "METERED_RECORD"}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment, timeout=60
        )
        assert done.returncode == 0, done.stderr

    async def test_what_was_there_before_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "client.jsonl"
        async with warm_relay() as relay:
            for _ in range(2):
                async with make_client(relay.url, record=path):
                    pass
        check(path)
        check(tmp_path / "client.jsonl.1")

    async def test_bad_options(self, tmp_path: Path) -> None:
        for record, error in (
            (5, TypeError),
            ("", ValueError),
            (tmp_path / "none" / "x.jsonl", NotADirectoryError),
        ):
            with pytest.raises(error):
                SignallingClient(api_key=KEY, record=record)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="max_bytes"):
            RecordOptions("x", 5)
        with pytest.raises(NotADirectoryError):
            RelayServer(keys=[KEY], record=tmp_path / "none" / "x")
        client = SignallingClient(SignallingClientOptions(api_key=KEY, record=tmp_path / "options.jsonl"))
        await client.close()
        check(tmp_path / "options.jsonl")

    async def test_a_file_that_cannot_be_made_fails_the_first_call(self, tmp_path: Path) -> None:
        path = tmp_path / "gone"
        path.mkdir()
        client = SignallingClient(api_key=KEY, url="ws://127.0.0.1:9", record=path / "client.jsonl")
        relay = make_relay(record=path / "relay.jsonl")
        path.rmdir()
        with pytest.raises(FileNotFoundError):
            await client.connect()
        with pytest.raises(FileNotFoundError):
            await relay.start()

    async def test_no_recording(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"{}\n")
        with pytest.raises(RecordingFileError):
            open_recording(tmp_path / "x")


class TestTheNewestPart:
    async def test_both_files_can_be_replayed(self, tmp_path: Path) -> None:
        path = tmp_path / "client.jsonl"
        async with warm_relay() as relay:
            async with make_client(relay.url, record=RecordOptions(path, 1 << 20)) as client:
                states = told(client, StateChange)
                await client.subscribe("a")
                for _ in range(300):
                    await client.publish_many([("b", {"text": "x" * 2000})] * 2)
                assert not states
        assert path.stat().st_size + (tmp_path / "client.jsonl.1").stat().st_size < 1.5 * (1 << 20)
        first, second = open_recording(tmp_path / "client.jsonl.1"), open_recording(path)
        assert check(tmp_path / "client.jsonl.1") > 10
        assert check(path) > 10
        assert second.header.steps == first.header.steps + len(list(first.steps()))
        assert len(second.header.state) > 1000
        assert replay(second) is None


class TestTheFile:
    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
    async def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        log = Log()
        errors: list[Any] = []
        log.error = lambda msg, ctx=None, /: errors.append((msg, ctx))  # type: ignore[method-assign]
        file = RecordingFile(tmp_path / "full", log)
        file._fresh = lambda: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)  # type: ignore[method-assign]
        file.open()
        file.write(b"x\n")
        await until(lambda: file._failure)
        file.write(b"x\n")
        file.write(b"x\n")
        assert len(errors) == 1
        assert errors[0][1]["path"] == str(tmp_path / "full")
        file.close()
        file.close()

    async def test_one_that_falls_behind_is_ended(self, tmp_path: Path) -> None:
        errors: list[Any] = []
        log = Log()
        log.error = lambda msg, ctx=None, /: errors.append(ctx["reason"])  # type: ignore[method-assign]
        file = RecordingFile(tmp_path / "slow", log)  # never opened, so nobody writes
        for _ in range(70):
            file.write(b"x" * (1 << 20))
        assert errors == ["the disk is too slow"]

    async def test_a_used_deduplicator_is_warned_of(self, tmp_path: Path) -> None:
        seen = Deduplicator()
        seen.read(Message("a", "b", {"__meteredOutbox": {"id": "o-1", "outbox": "o", "seq": 1}, "value": 1}))
        log = Log()
        SignallingClient(api_key=KEY, deduplicate=seen, record=tmp_path / "x", logger=log)
        assert len(log.warnings) == (not seen.is_new)
