"""`MeteredPeer`: a room in which everybody sees, hears and can write to everybody else.

All decisions are `metered_proto.room.Room`'s. This is its surroundings: those that every client has, an engine with
the real peer connections, and the objects that the application holds in place of the room's numbers.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import anyio
import anyio.lowlevel
import msgspec

from metered_anyio.backend import keep_interrupts_out
from metered_anyio.emitting import Emitting
from metered_anyio.encoding import AUDIO_CODECS, CodecName, Encoding, encoding_for
from metered_anyio.lazy_engine import LazyEngine, has_webrtc, make_engine
from metered_anyio.local_media import LocalMedia, copy_of
from metered_anyio.logger import Logger
from metered_anyio.media_stream import MediaStream, MediaTrack, StreamMetadata, check_track
from metered_anyio.options import Record, SignallingClientOptions, TokenProviderFn, checked, settings_from
from metered_anyio.pump import Pump
from metered_anyio.remote_peer import RemotePeer
from metered_anyio.room_events import PeerJoined, PeerLeft
from metered_anyio.room_stats import RoomStats
from metered_anyio.stats import client_stats
from metered_anyio.surroundings import Surroundings
from metered_proto.client import FetchToken, Subscribe
from metered_proto.errors import MeteredPeerStateError, WebRtcMissingError
from metered_proto.events import Data, IceServer, StateChange
from metered_proto.facts import Asked
from metered_proto.orders import Answer, Order
from metered_proto.room.room import Room
from metered_proto.room.settings import IceTransportPolicy, RoomSettings
from metered_proto.room.words import (
    AddTrack,
    AtPeer,
    Join,
    Leave,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    OpenDataChannel,
    RemoveTrack,
    ReplaceTrack,
    RoomCall,
    RoomState,
    SendAll,
    SendOne,
)
from metered_proto.rtc.absent import HOW_TO_INSTALL, AbsentPeers
from metered_proto.rtc.peer import RtcPeer
from metered_proto.rtc.words import ChannelOptions
from metered_proto.settings import ClientSettings, ReconnectOptions
from metered_proto.wire.channels import is_pattern, is_reserved
from metered_proto.wire.codec import encode_data

if TYPE_CHECKING:
    from metered_anyio.rtc.engine import ChannelHandle, ConnectionStats

MeteredPeerState: TypeAlias = RoomState

NO_TRACK = 0
"""The number of no track."""


class MeteredPeer(Emitting):
    """One peer of one room: everybody else in it is a `RemotePeer`, whom media, data channels and messages reach.

    Exactly one of `api_key` (`pk_live_…`) and `token_provider` (an async function that returns a JWT, asked before
    every attempt and given `token_provider_timeout` seconds) is needed; the other options are those of
    `SignallingClient`, given as keywords or as one `SignallingClientOptions`. `ice_servers` are used where the server
    gives none; with `ice_transport_policy="relay"` connections go through TURN servers only.

    It tells `Joined`, `Left`, `StateChange`, `PeerJoined`, `PeerLeft`, `Data` and `FatalError`. It works the same on
    asyncio and on trio, and without aiortc, then only without media and data channels. It belongs to the event loop
    on which it is first used.

    Raises `TypeError` or `ValueError` for bad options, which never show what they hold.
    """

    def __init__(
        self,
        options: SignallingClientOptions | None = None,
        /,
        *,
        api_key: str | None = None,
        token_provider: TokenProviderFn | None = None,
        url: str = "wss://rms.metered.ca",
        token_provider_timeout: float = 10.0,
        logger: Logger | None = None,
        reconnect: ReconnectOptions | bool = True,
        inactivity_timeout: float = 60.0,
        auto_resubscribe: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        record: Record = None,
        ice_servers: Iterable[IceServer] = (),
        ice_transport_policy: IceTransportPolicy = "all",
    ) -> None:
        keywords = SignallingClientOptions(
            api_key=api_key,
            token_provider=token_provider,
            url=url,
            token_provider_timeout=token_provider_timeout,
            logger=logger,
            reconnect=reconnect,
            inactivity_timeout=inactivity_timeout,
            auto_resubscribe=auto_resubscribe,
            ssl_context=ssl_context,
            record=record,
        )
        options = checked(options, keywords)
        if options.outbox is not None or options.deduplicate is not False:
            raise ValueError("a room has no outbox and does not deduplicate: use a SignallingClient for that")
        settings = RoomSettings(
            client=ClientSettings(**settings_from(options)),
            ice_servers=tuple(ice_servers),
            ice_transport_policy=ice_transport_policy,
        )
        self._around = _Around(options, settings)
        self._room = self._around.room
        self._emitter = self._around.emitter
        self._media = self._around.media

    def __repr__(self) -> str:
        return f"<MeteredPeer {self.peer_id} {self.state}>"

    # --- what it is ---

    @property
    def state(self) -> MeteredPeerState:
        """`idle`, `joining`, `joined`, `reconnecting`, `leaving` or `closed`, as of the latest `StateChange`."""
        return self._around.state

    @property
    def peer_id(self) -> str | None:
        """Our id, from the latest welcome; None before the first."""
        return self._room.peer_id

    @property
    def channel(self) -> str | None:
        """The room we have joined; None before."""
        return self._room.channel

    @property
    def remote_peers(self) -> list[RemotePeer]:
        """Everybody else in the room, as of now. Right after `join` nobody is there yet: listen to `PeerJoined`."""
        return list(self._around.remotes.values())

    @property
    def dropped_events(self) -> int:
        """How many events full handler queues and streams have lost so far, those of remote peers included."""
        return self._emitter.dropped

    # --- coming and going ---

    async def join(self, channel: str, *, include_sender_metadata: bool = False) -> None:
        """Connect and enter a room. Returns on the server's acknowledgement; who is there is told after that.

        With `include_sender_metadata`, `Data` that was sent to everybody carries what the sender's token asserts.

        Raises `MeteredPeerSendError` (`reserved_channel`), `MeteredPeerStateError` (`invalid_state`) unless idle,
        `TypeError` or `ValueError` for another bad name, `SignallingConnectError`, `ServerRequestError`,
        `DisconnectedError` or `AckTimeoutError` if it fails. The peer is idle again then, and may try again.
        """
        if not isinstance(channel, str) or not is_reserved(channel):
            Subscribe(channel, include_sender_metadata)
            if is_pattern(channel):
                raise ValueError("channel must name one room, not a pattern for several")
        self._around.check_loop()
        pump = self._running()
        self._around.engine.load()
        await pump.ask(Join(channel, include_sender_metadata))

    @asynccontextmanager
    async def joined(self, channel: str, *, include_sender_metadata: bool = False) -> AsyncIterator[Self]:
        """`join` on entering, `close` on leaving. Raises as `join` does; a peer that cannot join stays what it is."""
        idle = self._room.state == "idle"
        try:
            await self.join(channel, include_sender_metadata=include_sender_metadata)
        except BaseException:
            if idle and self._room.state != "idle":  # cancelled in the very moment in which it was let in
                await self.__aexit__(None, None, None)
            raise
        try:
            yield self
        finally:
            await self.__aexit__(None, None, None)

    async def close(self, reason: str | None = None) -> None:
        """Leave for good: close every connection and the socket, end all streams of events, remove all handlers.

        Returns within two seconds, whatever the others do. Idempotent. Called from one of its own handlers, or of one
        of its remote peers or data channels, it does not wait for that handler. `reason` is told in `Left`.
        """
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        if self._room.state != "closed":
            self._around.check_loop()
            await self._running().ask(Leave(reason))
        await self._around.gone()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Winding down is bounded, and leaving it half done would leave tasks behind.
        with anyio.CancelScope(shield=True):
            await self.close()

    # --- messages over the relay ---

    async def send(self, data: Any) -> None:
        """Send `data`, any JSON value, to everybody else in the room. Returns on the server's acknowledgement.

        Raises `MeteredPeerSendError` (`not_joined`), `MeteredPeerOversizedError`, `TypeError` or `ValueError` for what
        is no JSON, before anything is sent; `ServerRequestError`, `DisconnectedError` or `AckTimeoutError` after.
        """
        await self._running().ask(SendAll(msgspec.Raw(encode_data(data))))

    async def send_to(self, peer_id: str, data: Any) -> None:
        """Send `data` to one peer. Returns on the server's acknowledgement; raises as `send` does.

        Also `MeteredPeerSendError`: `invalid_args` for what is no peer id, `self_send` for our own.
        """
        await self._running().ask(SendOne(peer_id, msgspec.Raw(encode_data(data))))

    # --- media ---

    def add_stream(
        self,
        stream: MediaStream,
        metadata: StreamMetadata | None = None,
        *,
        codec: CodecName | None = None,
        max_bitrate: int | None = None,
        max_fps: float | None = None,
        max_height: int | None = None,
        encoder: str | None = None,
        encode_once: bool = True,
    ) -> None:
        """Send every track of a stream to everybody, now and later: `add_track` for each, with a copy of `metadata`.

        The options are for the tracks that they fit: `max_fps`, `max_height` and `encoder` for video, `codec` for
        those of its kind, and so is `max_bitrate` if there is a `codec`; without one it is for video.

        Raises as `add_track` does; what was added before the one that failed stays added.
        """
        _check_stream(stream)
        tracks = stream.get_tracks()
        options: dict[str, dict[str, Any]] = {
            "video": {"max_fps": max_fps, "max_height": max_height, "encoder": encoder},
            "audio": {},
        }
        kind = "audio" if codec in AUDIO_CODECS else "video"
        options[kind] |= {"codec": codec, "max_bitrate": max_bitrate}
        # All of them are checked, even if there is no track of that kind.
        encodings = {kind: encoding_for(kind, encode_once=encode_once, **each) for kind, each in options.items()}
        for track in tracks:
            self._add(track, encodings[track.kind], stream, metadata)

    def add_track(
        self,
        track: MediaTrack,
        stream: MediaStream | None = None,
        metadata: StreamMetadata | None = None,
        *,
        codec: CodecName | None = None,
        max_bitrate: int | None = None,
        max_fps: float | None = None,
        max_height: int | None = None,
        encoder: str | None = None,
        encode_once: bool = True,
    ) -> None:
        """Send a track to everybody who is in the room and to everybody who will be, over all reconnects.

        Receivers get it in `Track`, grouped under the id of `stream` if there is one. `metadata` is copied and reaches
        them ahead of the media. Add it before `join` where you can. A track that is sent already stays as it is, with
        the metadata and the options it has. One that ends is taken back by itself, within a second.

        It is encoded once for everybody who takes the same codec, at the bitrate that suits all of them; with
        `encode_once` false, once for each, at a bitrate of its own. `codec` (`VP8`, `H264`, `opus`, `PCMU`, `PCMA` or
        `G722`) is sent to those who take it, others get what they take. `max_bitrate` is in bit/s, `max_fps` in frames
        a second, `max_height` in pixels, with the width in proportion. `encoder` names an encoder of FFmpeg, for
        example `h264_nvenc`; if it does not work on this machine, the one in software does. A source of packets is
        sent as it is to those who take its codec, whatever else is asked for.

        Raises `MeteredPeerStateError` (`track_already_attached` in another stream, `too_many_tracks`, `invalid_state`
        after `close`), `MeteredPeerOversizedError` for too much metadata, `TypeError` or `ValueError` for bad
        arguments, `WebRtcMissingError` without aiortc.
        """
        check_track("track", track)
        if stream is not None:
            _check_stream(stream)
        if not has_webrtc():
            raise WebRtcMissingError(HOW_TO_INSTALL)
        encoding = encoding_for(
            track.kind,
            codec=codec,
            max_bitrate=max_bitrate,
            max_fps=max_fps,
            max_height=max_height,
            encoder=encoder,
            encode_once=encode_once,
        )
        self._add(track, encoding, stream, metadata)

    def _add(
        self, track: MediaTrack, encoding: Encoding, stream: MediaStream | None, metadata: StreamMetadata | None
    ) -> None:
        if metadata is not None and not isinstance(metadata, dict):
            raise TypeError(f"metadata must be a dict, not {type(metadata).__name__}")
        if not has_webrtc():
            raise WebRtcMissingError(HOW_TO_INSTALL)
        stream_id = None if stream is None else stream.id
        sent = self._media.find(track)
        if sent is None:
            sent = self._media.number(track, encoding, stream_id, copy_of(metadata))
        else:
            sent = msgspec.structs.replace(sent, stream_id=stream_id)
        try:
            self._around.ask_now(AddTrack(sent))
        finally:
            self._media.tidy()

    def remove_stream(self, stream: MediaStream) -> None:
        """Stop sending the tracks of a stream: `remove_track` for each that is in it, or that is sent in it."""
        _check_stream(stream)
        self._around.check_open("remove_stream")
        in_it = [sent for track in stream.get_tracks() if (sent := self._media.find(track)) is not None]
        # What is sent in it need not be in it: a track that took the place of another one is in no `MediaStream`.
        for key in dict.fromkeys(sent.key for sent in self._media.of_stream(stream.id) + in_it):
            self._remove(key)

    def remove_track(self, track: MediaTrack) -> None:
        """Stop sending a track to everybody. It is not stopped itself. A no-op if it is not sent.

        Raises `MeteredPeerStateError` (`invalid_state`) after `close`, `TypeError` for what is no track.
        """
        check_track("track", track)
        self._around.check_open("remove_track")
        sent = self._media.find(track)
        if sent is not None:
            self._remove(sent.key)

    def _remove(self, key: int) -> None:
        self._around.ask_now(RemoveTrack(key))
        self._media.tidy()

    async def replace_track(self, old_track: MediaTrack, new_track: MediaTrack | None) -> None:
        """Send another track in the place of one that is sent, with its stream, metadata and options, without a
        negotiation.

        None stops sending there. Everybody has the new track when this returns; cancelled meanwhile, it goes on. A
        no-op if `old_track` is not sent.

        Raises `MeteredPeerReplaceTrackError` if it failed for some: what is sent from now on, to newcomers too, is the
        new track if it worked for anybody, and else the old one. `MeteredPeerStateError` (`invalid_state`) while
        reconnecting and after `close`, (`track_already_attached`) if the new one is sent already. `TypeError` for what
        is no track, `ValueError` for one of another kind.
        """
        check_track("old_track", old_track)
        if new_track is not None:
            check_track("new_track", new_track)
            if new_track.kind != old_track.kind:
                raise ValueError(f"new_track must be {old_track.kind} as the old one is, not {new_track.kind}")
        old = self._media.find(old_track)
        new = None if new_track is None or old is None else self._media.find(new_track)
        if new is None and new_track is not None and old is not None:
            new = self._media.number(new_track, self._media.encoding(old.key))
        self._around.check_loop()
        pump = self._running()
        waiter = pump.backend.waiter()
        release = self._media.hold([sent.key for sent in (old, new) if sent is not None])

        def answered(value: Any, error: Exception | None) -> None:
            release()
            if not waiter.done():
                waiter.set_result(error)

        pump.ask_later(ReplaceTrack(NO_TRACK if old is None else old.key, new), answered)
        if waiter.done():
            await anyio.lowlevel.checkpoint()
        error = await waiter
        if error is not None:
            raise error

    def get_stream_metadata(self, stream: MediaStream) -> StreamMetadata | None:
        """A copy of the metadata of the first track that is sent in a stream of ours; None if there is none."""
        _check_stream(stream)
        sent = self._media.of_stream(stream.id)
        return copy_of(sent[0].metadata) if sent else None

    def get_track_metadata(self, track: MediaTrack) -> StreamMetadata | None:
        """A copy of the metadata with which a track of ours is sent; None if there is none, or if it is not sent."""
        sent = self._media.find(track)
        return None if sent is None else copy_of(sent.metadata)

    # --- statistics ---

    async def stats(self) -> RoomStats:
        """How everything stands, the connections measured now."""
        return await self._around.stats()

    def _running(self) -> Pump:
        return self._around.pump or self._around.start()


class _Around(Surroundings):
    """The room's surroundings, its engine, and an object for each member. To them it is a `Peerage`."""

    def __init__(self, options: SignallingClientOptions, settings: RoomSettings) -> None:
        super().__init__(options)
        make_peer = RtcPeer if self._stand_in is not None or has_webrtc() else AbsentPeers()
        entropy = self.entropy()
        self.room = self.machine = Room(settings, entropy, make_peer=make_peer)
        self._handle = self.room.handle
        if self.records:
            from metered_proto.replay import RoomPlan

            self._handle = self.record("peer", RoomPlan(settings, entropy.seed, make_peer is RtcPeer)).handle
        self.tell = self._tell
        self.state: MeteredPeerState = self.room.state
        self.remotes: dict[str, RemotePeer] = {}
        self.engine = LazyEngine(self.logger, needs_import=self._stand_in is None)
        self.engine.on_track_ended = self._track_ended
        self.media = LocalMedia(self.engine, lambda: self.room.tracks)

    # --- asking the room ---

    def ask_now(self, call: RoomCall) -> Any:
        """Ask for what is answered at once. Works without an event loop, too, as long as nothing has begun."""
        if self.pump is not None:
            return self.pump.ask_now(call)
        (answer,) = (order for order in self._handle(0, Asked(0, call)) if isinstance(order, Answer))
        if answer.error is not None:
            raise answer.error
        return answer.value

    def check_open(self, method: str) -> None:
        """Raises `MeteredPeerStateError` once we are leaving."""
        if self.room.state in ("leaving", "closed"):
            raise MeteredPeerStateError("invalid_state", method, self.room.state)

    def _track_ended(self, key: int) -> None:
        """A source has come to its end: receivers are to know."""
        if self.room.state not in ("leaving", "closed"):
            self.ask_now(RemoveTrack(key))
            self.media.tidy()

    async def stats(self) -> RoomStats:
        """How everything stands."""
        counters = self.room.counters
        return RoomStats(
            state=self.room.state,
            signalling=client_stats(self.room.session, None, self.emitter, self.pump),
            signals_in=counters.signals_in,
            signals_out=counters.signals_out,
            signals_malformed=counters.signals_malformed,
            signals_refused=counters.signals_refused,
            strangers=counters.strangers,
            members_refused=counters.members_refused,
            remotes={peer_id: await self.connection_stats(peer_id) for peer_id in list(self.remotes)},
        )

    # --- surrounding it ---

    def start(self) -> Pump:
        pump = super().start()
        make = make_engine if self._stand_in is None else self._stand_in.make_engine
        self.engine.bind(lambda: make(pump.feed, self.logger, pump.backend), pump)
        return pump

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        return self.engine.perform()

    async def work(self, work: Any) -> Any:
        if isinstance(work, FetchToken):
            return await super().work(work)
        return await self.engine.work(work)

    async def finish(self) -> None:
        async def drain() -> None:
            await self.emitter.finish()

        async with anyio.create_task_group() as group:
            group.start_soon(keep_interrupts_out(drain))
            await self.engine.aclose()

    def _tell(self, event: Any) -> None:
        match event:
            case Data():  # the most frequent by far
                self.emitter.emit(event)
            case AtPeer(peer_id, inner):
                if (remote := self.remotes.get(peer_id)) is not None:
                    remote.happened(inner)
            case MemberJoined(peer_id, metadata):
                assert self.pump is not None
                emitter, backend = self.emitter.child(), self.pump.backend
                remote = self.remotes[peer_id] = RemotePeer(peer_id, metadata, self, emitter, backend)
                self.emitter.emit(PeerJoined(remote))
            case MemberUpdated(peer_id, metadata):
                if (remote := self.remotes.get(peer_id)) is not None:
                    remote.update(metadata)
            case MemberLeft(peer_id):
                if (remote := self.remotes.pop(peer_id, None)) is not None:
                    self.emitter.emit(PeerLeft(remote))
                    remote.over()
            case StateChange(_, to):
                # The room may be further on already: what handlers see has to fit what they are told.
                self.state = to  # type: ignore[assignment]
                self.emitter.emit(event)
            case _:
                self.emitter.emit(event)

    # --- as remote_peer.Peerage has it ---

    def is_polite(self, peer_id: str) -> bool:
        return bool(self.room.is_polite(peer_id))

    def connection(self, peer_id: str) -> Any:
        number = self._connection_number(peer_id)
        return None if number is None else self.engine.connection(number)

    def _connection_number(self, peer_id: str) -> int | None:
        machine = self.room.peer(peer_id)
        return None if machine is None else machine.pc

    def open_channel(self, peer_id: str, options: ChannelOptions) -> ChannelHandle:
        return self.engine.create_channel(self.ask_now(OpenDataChannel(peer_id, options)), options)

    def track(self, number: int) -> Any:
        return self.engine.track(number)

    def channel(self, number: int) -> ChannelHandle:
        return self.engine.channel(number)

    async def send_to(self, peer_id: str, data: Any) -> None:
        assert self.pump is not None
        await self.pump.ask(SendOne(peer_id, msgspec.Raw(encode_data(data))))

    async def connection_stats(self, peer_id: str) -> ConnectionStats | None:
        number = self._connection_number(peer_id)
        return None if number is None else await self.engine.stats(number)


def _check_stream(stream: object) -> None:
    if not isinstance(stream, MediaStream):
        raise TypeError(f"stream must be a MediaStream, not {type(stream).__name__}")
