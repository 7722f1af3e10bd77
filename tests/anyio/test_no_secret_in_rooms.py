"""A whole call, its troubles and its end, with a log that keeps every word: no secret is in it, nor in any repr."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from adapter_kit import QUICK, SECRET, Cable, make_relay, until
from room_kit import ROOM, remote, told

from metered_anyio import Event, IceServer, MediaStream, MeteredPeer, StdlibLogger, Track
from metered_proto.wire.tokens import mint
from testbed.tracks import RED, ColourTrack

pytestmark = pytest.mark.anyio

TURN = {"urls": "turn:127.0.0.1:9", "username": "user", "credential": "turn-credential-of-the-server"}


class Collector:
    """A logger that keeps everything, and shows all of it."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def _write(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        self.text.append(f"{msg} {ctx} {dict(ctx or {})!r}")

    debug = info = warning = error = _write


async def test_no_secret_in_any_log_event_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = Collector()
    tokens: list[str] = []

    def provider(peer_id: str, **more: Any) -> Any:
        async def provide() -> str:
            now = int(time.time())
            tokens.append(mint(key_id=SECRET.id, secret=SECRET.secret, peer_id=peer_id, now=now, **more))
            return tokens[-1]

        return provide

    shown: list[str] = []
    sdps: list[str] = []
    server = IceServer(("turn:127.0.0.1:10",), "user", "turn-credential-of-ours")
    async with make_relay() as relay, Cable(relay.port) as cable:
        options: dict[str, Any] = {"reconnect": QUICK}
        given = provider("alice", metadata={"iceServers": [TURN]})
        alice = MeteredPeer(url=cable.url, token_provider=given, logger=log, **options)
        given = provider("bob")
        bob = MeteredPeer(url=relay.url, token_provider=given, logger=StdlibLogger(), ice_servers=[server], **options)
        events: list[Any] = [*told(alice)]
        async with alice, bob:
            alice.add_stream(MediaStream([ColourTrack(RED)], id="cam"), {"role": "camera"})
            for peer in (alice, bob):
                peer.on(Event, events.append)
                await peer.join(ROOM)
            await until(lambda: alice.remote_peers and bob.remote_peers)
            for peer in (alice, bob):
                remote(peer).on(Event, events.append)
            tracks = told(remote(bob), Track)
            await until(lambda: tracks)
            await tracks[0].track.recv()
            sdps += [remote(peer).pc.localDescription.sdp for peer in (alice, bob)]
            shown += [repr(await peer.stats()) for peer in (alice, bob)]
            shown += [repr(each) for peer in (alice, bob) for each in (peer, remote(peer), peer._around.room.session)]
            await alice.send_to("bob", {"type": "rtc-description", "description": {"type": "offer", "sdp": sdps[0]}})
            await cable.cut()
            await until(lambda: alice.state == "reconnecting")
            await until(lambda: alice.state == "joined")
            await anyio.sleep(0.1)
    shown.append(repr(events))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("metered")]
    everything = "\n".join([*log.text, *shown, *ours])
    assert "peer state" in everything
    assert "connection lost" in everything
    passwords = [password for sdp in sdps for password in re.findall(r"a=ice-pwd:(\S+)", sdp)]
    assert len(passwords) >= 2
    assert len(tokens) >= 3
    credentials = ("turn-credential-of-the-server", "turn-credential-of-ours", SECRET.secret)
    for secret in (*passwords, *tokens, *(token.rpartition(".")[2] for token in tokens), *credentials):
        assert secret not in everything
