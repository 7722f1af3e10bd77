"""What the tests of rooms have in common: peers, and an engine that follows a script."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from adapter_kit import KEY, QUICK, SECRET, until
from channel_kit import ScriptedHandle

from metered_anyio import Event, MeteredPeer, RemotePeer
from metered_anyio.encoding import Encoding
from metered_anyio.relay import RelayServer
from metered_proto.errors import MeteredRealtimeError
from metered_proto.orders import Order
from metered_proto.rtc.words import (
    AddCandidate,
    ChannelOptions,
    CloseConnection,
    CountReceived,
    Described,
    EndTrack,
    MakeAnswer,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    SwapSender,
    TakeAnswer,
    TakeTrack,
    Work,
)
from metered_proto.wire.tokens import mint

ROOM = "room-42"


def make_peer(url: str, **options: Any) -> MeteredPeer:
    if "token_provider" not in options:
        options.setdefault("api_key", KEY)
    options.setdefault("reconnect", QUICK)
    return MeteredPeer(url=url, **options)


def make_token(peer_id: str, metadata: dict[str, Any] | None = None) -> str:
    now = int(time.time())
    return mint(key_id=SECRET.id, secret=SECRET.secret, peer_id=peer_id, now=now, peer_metadata=metadata)


def token_peer(url: str, peer_id: str, *, metadata: dict[str, Any] | None = None, **options: Any) -> MeteredPeer:
    """A peer with an id of its own, which it keeps over reconnects."""

    async def provide() -> str:
        return make_token(peer_id, metadata)

    return make_peer(url, token_provider=provide, **options)


def told(teller: Any, *kinds: type[Event]) -> list[Any]:
    """A list that fills with what a peer, or a remote peer, tells."""
    events: list[Any] = []
    for kind in kinds or (Event,):
        teller.on(kind, events.append)
    return events


def remote(peer: MeteredPeer, peer_id: str | None = None) -> RemotePeer:
    """The only other one, or the one with this id."""
    (found,) = (one for one in peer.remote_peers if peer_id in (None, one.id))
    return found


class Log:
    """A logger that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, msg: str, ctx: object = None, /) -> None:
        pass

    info = error = debug

    def warning(self, msg: str, ctx: object = None, /) -> None:
        self.warnings.append(msg)


@asynccontextmanager
async def meeting(relay: RelayServer, *ids: str, **options: Any) -> AsyncIterator[list[MeteredPeer]]:
    """Peers with these ids who are in one room and all see each other."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(token_peer(relay.url, peer_id, **options)) for peer_id in ids]
        for peer in peers:
            await peer.join(ROOM)
        await until(lambda: all(len(peer.remote_peers) == len(ids) - 1 for peer in peers))
        yield peers


# --- an engine without connections ---


class ScriptedTrack:
    """A received track, or one of the application's own."""

    def __init__(self, kind: str = "video", id: str = "track", readyState: str = "live") -> None:
        self.kind = kind
        self.id = id
        self.readyState = readyState

    async def recv(self) -> Any:
        raise AssertionError("nobody reads it here")


class ScriptedEngine:
    """See `metered_anyio.rtc.engine.Engine`. It writes down what it is asked and answers as it was told to."""

    def __init__(self, feed: Callable[[Any], None]) -> None:
        self.feed = feed
        self.orders: list[Order] = []
        self.works: list[Work] = []
        self.sources: dict[int, Any] = {}
        self.encodings: dict[int, Encoding] = {}
        self.tracks: dict[int, ScriptedTrack] = {}
        self.channels: dict[int, ScriptedHandle] = {}
        self.failures: dict[type[Work], Exception] = {}
        self.closed = False
        self.on_track_ended: Callable[[int], object] | None = None

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        kinds = (OpenConnection, CloseConnection, AddCandidate, OpenChannel, TakeTrack, EndTrack)
        return dict.fromkeys(kinds, self._carry_out)

    def _carry_out(self, order: Order) -> None:
        self.orders.append(order)
        match order:
            case OpenChannel(_, channel):
                self.channels.setdefault(channel, ScriptedHandle("connecting"))
            case TakeTrack(_, _, track, kind, track_id):
                self.tracks[track] = ScriptedTrack(kind, track_id)
            case _:
                pass

    async def work(self, work: Work) -> Any:
        self.works.append(work)
        if type(work) in self.failures:
            raise self.failures[type(work)]
        match work:
            case MakeOffer(pc) | MakeAnswer(pc):
                return Described(f"v=0\r\na=ice-ufrag:u{-pc}\r\n")
            case CountReceived():
                return 0
            case SwapSender() | TakeAnswer():
                return None
            case _:
                raise MeteredRealtimeError("what is that?")

    def offer_track(self, key: int, track: Any, encoding: Encoding) -> None:
        self.sources[key] = track
        self.encodings[key] = encoding

    def withdraw_track(self, key: int) -> None:
        del self.sources[key]

    def track(self, number: int) -> Any:
        return self.tracks.setdefault(number, ScriptedTrack(id=f"track{number}"))

    def channel(self, number: int) -> ScriptedHandle:
        return self.channels.setdefault(number, ScriptedHandle())

    def create_channel(self, number: int, options: ChannelOptions) -> ScriptedHandle:
        return self.channels.setdefault(number, ScriptedHandle("connecting"))

    def connection(self, pc: int) -> Any:
        return f"connection {pc}"

    async def stats(self, pc: int) -> Any:
        return f"stats {pc}"

    async def aclose(self) -> None:
        self.closed = True
