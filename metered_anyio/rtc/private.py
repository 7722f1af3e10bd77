"""Everything of aiortc that is not its public API, and why we go there. Nobody else does.

What is below a connection has files of its own: `private_ice` (aioice), `private_sctp` (data channels), and so has
what sends packets: `private_sending`.

aiortc does not let an application place its tracks, choose payload types, gather in the background or decode into
a bound. Each function here reaches for one such thing. `missing()` tells which names are not there (any more); a test
asks it, so that a new release of aiortc fails there and not in a call.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.codecs import CODECS, HEADER_EXTENSIONS, get_capabilities, is_rtx
from aiortc.codecs import get_encoder as aiortc_encoder
from aiortc.rtcicetransport import candidate_from_aioice, connection_kwargs
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.sdp import SessionDescription, candidate_from_sdp, candidate_to_sdp

from metered_anyio.rtc import private_ice, private_sctp, private_sending
from metered_anyio.rtc.packing import is_h264_key_frame, is_vp8_key_frame
from metered_anyio.rtc.private_ice import IceConnection

__all__ = [
    "CODECS",
    "HEADER_EXTENSIONS",
    "SessionDescription",
    "candidate_from_aioice",
    "candidate_from_sdp",
    "candidate_to_sdp",
    "connection_kwargs",
    "find_common_codecs",
    "is_rtx",
]

_PC: Final = "_RTCPeerConnection__"
_SENDER: Final = "_RTCRtpSender__"
_RECEIVER: Final = "_RTCRtpReceiver__"
_DTLS: Final = "_RTCDtlsTransport__"
_ICE: Final = "_RTCIceTransport__"

BASELINE: Final = "42e01f"
"""H.264 in the profile that every browser has an encoder and a decoder for: Constrained Baseline (RFC 6184)."""

UNREADABLE: Final = (ValueError, AssertionError, LookupError, AttributeError, TypeError, StopIteration, RuntimeError)
"""What aiortc's parser raises for what it cannot read."""

SOURCES: Final = 1024
"""RTP sources (SSRC) of one connection; packets of others are dropped."""

UNDECODED_FRAMES: Final = 64
"""What may wait for the decoder of one track, about two seconds of video."""


# --- a connection ---


def dtls_transports(pc: RTCPeerConnection) -> list[Any]:
    """The DTLS transports: one at most, since everything is bundled; none before there is anything to transport."""
    return list(getattr(pc, _PC + "dtlsTransports"))


def ice_connection(dtls: Any) -> IceConnection:
    """aioice's connection under a DTLS transport."""
    connection: IceConnection = dtls.transport._connection
    return connection


class Connecting:
    """Lets aiortc bring up the transports for one description after the other, and hears of what goes wrong.

    aiortc starts a task for each description, and a later one that finds the handshake under way goes home: what it
    was to start would never start. It looks at descriptions that are just being applied, its failures are heard by
    nobody, and it goes on when the connection is closed. `applying` is locked while a description is applied.
    """

    def __init__(self, pc: RTCPeerConnection, applying: asyncio.Lock, failed: Callable[[Exception], None]) -> None:
        self._applying = applying
        self._connect: Callable[[], Awaitable[None]] = getattr(pc, _PC + "connect")
        self._failed = failed
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        setattr(pc, _PC + "connect", self._run)

    async def _run(self) -> None:
        task = asyncio.current_task()
        if self._closed or task is None:
            return
        self._tasks.add(task)
        try:
            async with self._turn:
                await self._bring_up()
        finally:
            self._tasks.discard(task)

    async def _bring_up(self) -> None:
        while True:
            async with self._applying:
                pass
            try:
                await self._connect()
            except Exception as error:
                if self._applying.locked():
                    continue  # it began before, and saw half of what is being applied
                self._failed(error)
            return

    async def stop(self) -> None:
        """Break it off."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def forget_bundling(pc: RTCPeerConnection) -> None:
    """Tell aiortc that every section shares the transport already.

    It takes the first transceiver it made for the owner of the transport. Where the bundle's first section is another
    one, it would stop "the transport that is no longer needed", which is the one in use.
    """
    for transceiver in pc.getTransceivers():
        transceiver._bundled = True
    if pc.sctp is not None:
        pc.sctp._bundled = True


def create_sctp(pc: RTCPeerConnection) -> None:
    """Be ready for data channels, without one of our own."""
    if pc.sctp is None:
        getattr(pc, _PC + "createSctpTransport")()


def put_section(pc: RTCPeerConnection, transceiver: Any | None, index: int) -> None:
    """Say where in our offer the section of a transceiver is; None: the one of the data channels."""
    if transceiver is None:
        setattr(pc, _PC + "sctp_mline_index", index)
    else:
        transceiver._set_mline_index(index)


def section_of(transceiver: Any) -> int | None:
    """Where its section is in the latest description."""
    index: int | None = transceiver._get_mline_index()
    return index


def is_established(pc: RTCPeerConnection) -> bool:
    """Whether an offer was answered, and no other is under way."""
    return getattr(pc, _PC + "remoteDescription")() is not None and pc.signalingState == "stable"


def drop_unnamed(pc: RTCPeerConnection) -> list[Any]:
    """Forget the transceivers that no description has named."""
    transceivers = getattr(pc, _PC + "transceivers")
    dropped = [transceiver for transceiver in transceivers if transceiver.mid is None]
    transceivers[:] = [transceiver for transceiver in transceivers if transceiver.mid is not None]
    return dropped


# --- transceivers ---


def offered_direction(transceiver: Any) -> str | None:
    """What we may do in a section that the remote offered, seen from us."""
    direction: str | None = transceiver._offerDirection
    return direction


def close_unoffered(transceivers: Sequence[Any], mids: Sequence[str]) -> None:
    """Transceivers without a section in the remote's offer do nothing; aiortc would stumble over them."""
    for transceiver in transceivers:
        if transceiver.mid not in mids:
            transceiver._offerDirection = "inactive"


def free_section(transceivers: Sequence[Any], index: int, mid: str) -> None:
    """The section at `index` was recycled under a new `mid` (RFC 8829 section 5.2.2): whoever had it is out."""
    for transceiver in transceivers:
        if transceiver._get_mline_index() == index and transceiver.mid != mid:
            transceiver._set_mline_index(None)


def codecs(transceiver: Any) -> list[Any]:
    """What was negotiated, in order of preference; the first is what is sent."""
    found: list[Any] = transceiver._codecs
    return found


def extensions(transceiver: Any) -> list[Any]:
    """The RTP header extensions that were negotiated."""
    found: list[Any] = transceiver._headerExtensions
    return found


def set_negotiated(transceiver: Any, codecs: list[Any], extensions: list[Any]) -> None:
    """Say what is negotiated. `createOffer` forgets it while the connection goes on using it."""
    transceiver._codecs = codecs
    transceiver._headerExtensions = extensions


# --- senders ---


def set_msid(sender: Any, stream_id: str | None, track_id: str) -> None:
    """The stream and the track id that our next description gives for a sender (RFC 8830)."""
    sender._stream_id = "-" if stream_id is None else stream_id
    sender._track_id = track_id


def get_encoder(codec: str) -> Any:
    """aiortc's encoder for a codec, by its name."""
    known = (each for codecs in CODECS.values() for each in codecs)
    return aiortc_encoder(next(each for each in known if each.name == codec))


def prefer(transceiver: Any, codec: str) -> None:
    """Put a codec first, in what is offered and in what was negotiated already.

    aiortc's `setCodecPreferences` counts for offers, and for answers only before it has read the offer.
    """
    transceiver._preferred_codecs = sorted(
        get_capabilities(transceiver.kind).codecs,
        key=lambda each: (each.name != codec, each.parameters.get("profile-level-id", BASELINE) != BASELINE),
    )
    transceiver._codecs = reordered(transceiver._codecs, codec)


def reordered(codecs: Sequence[Any], codec: str) -> list[Any]:
    """What was negotiated, with a codec first, each with its way of sending packets once more."""
    first = {each.payloadType for each in codecs if each.name == codec}
    return sorted(codecs, key=lambda each: each.payloadType not in first and each.parameters.get("apt") not in first)


# --- receivers ---


def receive_into(track: Any, inlet: Any) -> None:
    """Decoded frames go to `await inlet.put(frame)`, the last one being None. aiortc's own queue has no bound."""
    track._queue = inlet


def ignore_goodbye(receiver: Any) -> None:
    """An RTCP BYE ends a source, not the section: a remote that starts to send in it again must be heard again."""
    original = receiver._handle_rtcp_packet

    async def handle(packet: Any) -> None:
        if type(packet).__name__ != "RtcpByePacket":
            await original(packet)

    receiver._handle_rtcp_packet = handle


def bound_decoding(receiver: Any) -> None:
    """No more than `UNDECODED_FRAMES` wait to be decoded, however fast the remote sends."""
    setattr(receiver, _RECEIVER + "decoder_queue", _DecoderQueue(getattr(receiver, _RECEIVER + "decoder_error")))
    # aiortc waits here for the decoder's thread, in the loop, and for all that is still to be decoded.
    receiver._handle_disconnect = lambda: None


class _DecoderQueue(queue.Queue[Any]):
    """Drops what comes on top, and pictures that cannot be decoded because no complete one came before.

    For either a key frame is asked for, which is what aiortc does after a decoding error.
    """

    def __init__(self, error: threading.Event) -> None:
        super().__init__()
        self._error = error
        self._dropped = 0
        self._incomplete = True

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:
            codec, frame = item
            is_key_frame = _KEY_FRAMES.get(codec.name)
            if is_key_frame is not None:
                self._incomplete = self._incomplete and not is_key_frame(frame.data)
            full = self.qsize() >= UNDECODED_FRAMES
            if full or (is_key_frame is not None and self._incomplete):
                self._incomplete = True
                if self._dropped % _ASK_EVERY == 0:
                    self._error.set()
                self._dropped += 1
                return
            self._dropped = 0
        super().put(item, block, timeout)

    def end(self) -> None:
        """Nothing that waits is decoded any more."""
        with self.mutex:
            self.queue.clear()
        self.put(None)


_KEY_FRAMES: Final[dict[str, Callable[[bytes], bool]]] = {"VP8": is_vp8_key_frame, "H264": is_h264_key_frame}
_ASK_EVERY: Final = 10  # frames


async def stop_decoding(receiver: Any) -> None:
    """End the decoder's thread, without holding up the loop."""
    thread: threading.Thread | None = getattr(receiver, _RECEIVER + "decoder_thread")
    if thread is None:
        return
    setattr(receiver, _RECEIVER + "decoder_thread", None)
    getattr(receiver, _RECEIVER + "decoder_queue").end()
    while thread.is_alive():  # noqa: ASYNC110 - a thread sets no asyncio.Event
        await asyncio.sleep(0.002)
    await asyncio.sleep(0)  # what it handed to the loop in its last moments is still to be taken


def start_estimating_at(receiver: Any, bitrate: int) -> None:
    """Tell the sender from its first packet on that it may send so many bit/s, until that proves too much.

    aiortc says nothing for three seconds, and then goes by what has come in so far, which is what little a browser
    sends that was told nothing: 300 kbit/s.
    """
    estimator = getattr(receiver, _RECEIVER + "remote_bitrate_estimator")
    if estimator is not None:
        estimator.rate_control.set_estimate(bitrate, None)


# --- packets ---


def route_by_mid(dtls: Any, arrived: Callable[[Any, Any], None]) -> None:
    """Have RTP packets go to the section that they name, and hear of each: `arrived(packet, receiver)`.

    aiortc goes by the sources (SSRC) of the first description, and gives a new source to whoever happens to be the
    only one with its payload type: a second video lands in the first one's track (RFC 9143 section 9.2 says better).
    """
    router = dtls._rtp_router
    original = router.route_rtp

    def route(packet: Any) -> Any:
        mid = packet.extensions.mid
        known = packet.ssrc in router.ssrc_table
        if not known and len(router.ssrc_table) >= SOURCES:
            return None
        if mid and not known:
            receiver = router.mid_table.get(mid)
            if receiver is None:
                return None
            router.ssrc_table[packet.ssrc] = receiver
        receiver = original(packet)
        if receiver is not None:
            arrived(packet, receiver)
        return receiver

    router.route_rtp = route


def contain(dtls: Any, sctp: Any | None, failed: Callable[[Exception], None]) -> None:
    """A packet that cannot be read is dropped. In aiortc it ends the connection, with a traceback in the log."""
    for owner, names in ((dtls, ("_handle_rtp_data", "_handle_rtcp_data")), (sctp, ("_handle_data",))):
        for name in names:
            if owner is not None and name not in vars(owner):
                setattr(owner, name, _contained(getattr(owner, name), failed))


def _contained(handle: Callable[..., Awaitable[None]], failed: Callable[[Exception], None]) -> Callable[..., Any]:
    async def contained(*args: Any, **kwargs: Any) -> None:
        try:
            await handle(*args, **kwargs)
        except ConnectionError:
            raise
        except Exception as error:
            failed(error)

    return contained


def traffic(dtls: Any) -> tuple[int, int, int, int]:
    """Bytes sent, bytes received, packets sent, packets received."""
    return (
        getattr(dtls, _DTLS + "tx_bytes"),
        getattr(dtls, _DTLS + "rx_bytes"),
        getattr(dtls, _DTLS + "tx_packets"),
        getattr(dtls, _DTLS + "rx_packets"),
    )


# --- the end ---


def tear_down(pc: RTCPeerConnection) -> None:
    """Let go of everything at once, when a connection does not close by itself."""
    if getattr(pc, _PC + "isClosed") is None:
        closed = asyncio.get_running_loop().create_future()
        closed.set_result(True)
        setattr(pc, _PC + "isClosed", closed)  # or it would begin to close when it sees its transports gone
    for transceiver in pc.getTransceivers():
        for owner, names in ((transceiver.sender, ("rtp_task", "rtcp_task")), (transceiver.receiver, ("rtcp_task",))):
            prefix = _SENDER if owner is transceiver.sender else _RECEIVER
            for name in names:
                if (task := getattr(owner, prefix + name)) is not None:
                    task.cancel()
    for dtls in dtls_transports(pc):
        if dtls._task is not None:
            dtls._task.cancel()
        if (monitor := getattr(dtls.transport, _ICE + "monitor_task")) is not None:
            monitor.cancel()
        private_ice.break_off(ice_connection(dtls))


def alive(executor: ThreadPoolExecutor) -> bool:
    """Whether a thread of it is still there."""
    return any(thread.is_alive() for thread in executor._threads)


# --- the rest ---


def ice_server(urls: Sequence[str], username: str | None, credential: str | None) -> RTCIceServer:
    """One of aiortc's."""
    return RTCIceServer(urls=list(urls), username=username, credential=credential)


async def missing() -> list[str]:
    """Which of the names that are used here do not exist. Makes a connection to look at, and closes it."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    try:
        transceiver = pc.addTransceiver("video")
        channel = pc.createDataChannel("label")
        await pc.setLocalDescription(await pc.createOffer())
        (dtls,) = getattr(pc, _PC + "dtlsTransports", [None])
        ice = dtls.transport._connection
        (protocol, *_) = ice._protocols
        owners = {
            "peer connection": (pc, [_PC + name for name in _PC_NAMES]),
            "transceiver": (transceiver, _TRANSCEIVER_NAMES),
            "sender": (transceiver.sender, [*_SENDER_NAMES, *(_SENDER + name for name in _HIDDEN_IN_SENDER)]),
            "receiver": (transceiver.receiver, [*_RECEIVER_NAMES, *(_RECEIVER + name for name in _HIDDEN_IN_RECEIVER)]),
            "remote track": (RemoteStreamTrack("video"), ["_queue"]),
            "DTLS": (
                dtls,
                [*_DTLS_NAMES, *(_DTLS + f"{way}_{what}" for way in _WAYS for what in ("bytes", "packets"))],
            ),
            "router": (dtls._rtp_router, ["route_rtp", "ssrc_table", "mid_table"]),
            "ICE transport": (dtls.transport, ["_connection", _ICE + "monitor_task"]),
            "ICE": (ice, private_ice.NAMES),
            "socket": (protocol, ["local_candidate", "transport"]),
            "SCTP": (channel.transport, ["_bundled", *private_sctp.NAMES]),
        }
        return [
            f"{name}: {attribute}"
            for name, (owner, attributes) in owners.items()
            for attribute in attributes
            if not hasattr(owner, attribute)
        ]
    finally:
        await pc.close()


_WAYS: Final = ("tx", "rx")
_PC_NAMES: Final = (
    *("dtlsTransports", "remoteDescription", "connect", "createSctpTransport"),
    *("sctp_mline_index", "isClosed", "transceivers"),
)
_TRANSCEIVER_NAMES: Final = (
    *("_offerDirection", "_codecs", "_preferred_codecs", "_headerExtensions", "_bundled"),
    *("_get_mline_index", "_set_mline_index"),
)
_SENDER_NAMES: Final = ("_stream_id", "_track_id", "_enabled", *private_sending.NAMES)
_HIDDEN_IN_SENDER: Final = ("rtp_task", "rtcp_task", *private_sending.HIDDEN)
_RECEIVER_NAMES: Final = ("_handle_rtcp_packet", "_handle_disconnect")
_HIDDEN_IN_RECEIVER: Final = (
    "decoder_queue",
    "decoder_error",
    "decoder_thread",
    "rtcp_task",
    "remote_bitrate_estimator",
)
_DTLS_NAMES: Final = (
    *("_role", "_state", "_task", "_rtp_router", "_handle_rtp_data", "_handle_rtcp_data", "_tx_srtp", "transport"),
)
