"""How packets leave: what is ours in place of the heart of aiortc's `RTCRtpSender`, and why.

aiortc encodes for each sender, and makes an object of each packet, with its header extensions serialized one by one:
20 to 25 µs a packet. Here a frame comes encoded and cut into payloads, which all senders share, and a packet is a
header, the frame's extensions and a payload, joined. What aiortc does well is left to it: RTCP, statistics, starting
and stopping. `private.missing()` looks after these names, too.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from aiortc.codecs import is_rtx
from aiortc.rtp import HeaderExtensions
from aiortc.utils import random16, random32

from metered_anyio.rtc import private_ice
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.outlet import Outlet

SENDER: Final = "_RTCRtpSender__"

NAMES: Final = ("send", "_run_rtp", "_retransmit", "_send_keyframe", "_ssrc", "_rtx_ssrc", "transport")
HIDDEN: Final = (
    *("encoder", "mid", "rtp_started", "rtp_exited", "rtp_header_extensions_map"),
    *("ntp_timestamp", "rtp_timestamp", "octet_count", "packet_count"),
)
"""What a sender has to have."""

HISTORY: Final = 512
"""Packets that can be sent once more, a power of two. aiortc keeps 128, which is less than one group of pictures."""

AT_ONCE: Final = 24
PAUSE: Final = 0.004
"""So many packets leave in one go, and then others are let in for some seconds: no way takes any number at once."""

_HEADER: Final = struct.Struct("!BBHLL")
_EXTENSION: Final = struct.Struct("!HH")
_DTLS: Final = "_RTCDtlsTransport__"
_NTP_EPOCH: Final = 2_208_988_800  # seconds from 1900 to 1970


class Payload(NamedTuple):
    """One codec as it was negotiated. `rtx` is the payload type of packets that are sent once more, if there is one."""

    type: int
    clock: int
    rtx: int | None


def send_from(sender: Any, outlet: Outlet, failed: Callable[[Exception], None]) -> None:
    """Have a sender that has not started yet send what comes out of `outlet`."""
    _Sending(sender, outlet, failed)


class _Sending:
    """One sender. `failed` hears of what should not happen: nothing is sent from then on."""

    def __init__(self, sender: Any, outlet: Outlet, failed: Callable[[Exception], None]) -> None:
        self._sender = sender
        self._outlet = outlet
        self._failed = failed
        self._payloads: dict[str, Payload] = {}
        self._history: list[tuple[int, int, bool, Payload, bytes, bytes] | None] = [None] * HISTORY
        self._running = False
        self._origin = random32()
        self._ssrc = sender._ssrc
        self._timeless: bool | None = None  # whether extensions say when a packet was sent
        self._extensions: dict[int | None, bytes] = {}  # by level, if they do not
        self._withheld = False  # frames, because the remote did not want any
        self._in_a_row = 0  # packets
        self._paused_at = 0.0
        self._sequence = _first_sequence_number()
        self._repaired = _first_sequence_number()  # the next sequence number of what is sent once more
        self._send = sender.send
        sender.send = self.send
        sender._run_rtp = self.run
        sender._retransmit = self.repair
        sender._send_keyframe = outlet.ask_key_frame
        # aiortc hands the remote's estimates (REMB) to whatever it takes for the encoder.
        setattr(sender, SENDER + "encoder", _Steering(outlet))

    async def send(self, parameters: Any) -> None:
        """Begin to send, in one of the codecs that were negotiated."""
        self._payloads = _payloads(parameters.codecs)
        if self._running:
            self._outlet.open(list(self._payloads))  # another description has come
        await self._send(parameters)

    async def run(self, codec: Any) -> None:
        """Send until the sender is stopped or the transport is gone. See aiortc's `RTCRtpSender._run_rtp`."""
        sender = self._sender
        getattr(sender, SENDER + "rtp_started").set()
        try:
            self._running = True
            self._outlet.open(list(self._payloads))
            await self._run()
        except (asyncio.CancelledError, ConnectionError):
            pass
        except Exception as error:
            self._failed(error)
        finally:
            self._running = False
            self._outlet.stop()
            setattr(sender, SENDER + "encoder", None)
            getattr(sender, SENDER + "rtp_exited").set()

    async def _run(self) -> None:
        outlet = self._outlet
        outlet.direct = self._send_at_once
        while True:
            frame, at = await outlet.next()
            if not self._sender._enabled or outlet.codec is None:
                self._withheld = True
            elif self._withheld:
                # The remote has seen nothing of what came before this.
                self._withheld = False
                outlet.start_anew()
            else:
                await self._transmit(frame, at, outlet.codec)

    def _send_at_once(self, frame: Encoded, at: int) -> bool:
        """Send a frame from within whoever made it, which saves waking a task for it. False: it has to wait."""
        codec = self._outlet.codec
        if self._withheld or not self._sender._enabled or not can_send(self._sender.transport):
            return False
        if codec is None or self._in_a_row + len(frame.payloads) > AT_ONCE:
            return False
        for packet in self._packets(frame, at, codec):
            send(self._sender.transport, packet)
        self._in_a_row += len(frame.payloads)
        return True

    async def _transmit(self, frame: Encoded, at: int, codec: str) -> None:
        for packet in self._packets(frame, at, codec):
            if not can_send(self._sender.transport):
                raise ConnectionError("the transport is gone")
            send(self._sender.transport, packet)
            self._in_a_row += 1
            if self._in_a_row >= AT_ONCE:
                self._in_a_row = 0
                loop = asyncio.get_running_loop()
                if loop.time() - self._paused_at < PAUSE * 2:
                    await asyncio.sleep(PAUSE)
                self._paused_at = loop.time()

    def _packets(self, frame: Encoded, at: int, codec: str) -> Iterator[bytes]:
        """The packets of a frame, each counted when it is taken."""
        sender, payload = self._sender, self._payloads[codec]
        timestamp = (self._origin + at * payload.clock // self._outlet.clock) & 0xFFFFFFFF
        ntp = int((time.time() + _NTP_EPOCH) * (1 << 32))
        extension = self._extension(frame, ntp)
        first = 0x90 if extension else 0x80
        last = len(frame.payloads) - 1
        for number, data in enumerate(frame.payloads):
            sequence = self._sequence
            self._sequence = (sequence + 1) & 0xFFFF
            marker = number == last
            self._history[sequence % HISTORY] = (sequence, timestamp, marker, payload, extension, data)
            head = _HEADER.pack(first, payload.type | marker << 7, sequence, timestamp, self._ssrc)
            yield head + extension + data
        setattr(sender, SENDER + "ntp_timestamp", ntp)
        setattr(sender, SENDER + "rtp_timestamp", timestamp)
        _add(sender, SENDER + "octet_count", frame.size)
        _add(sender, SENDER + "packet_count", last + 1)

    def _extension(self, frame: Encoded, ntp: int) -> bytes:
        """The header extensions of a frame's packets (RFC 8285)."""
        if self._timeless is None:
            self._timeless = not self._map().set(HeaderExtensions(abs_send_time=0))[1]
        known = self._extensions.get(frame.level) if self._timeless else None
        if known is None:
            values = HeaderExtensions(mid=getattr(self._sender, SENDER + "mid"))
            values.abs_send_time = (ntp >> 14) & 0xFFFFFF
            if frame.level is not None:
                values.audio_level = (False, frame.level)
            profile, value = self._map().set(values)
            known = _EXTENSION.pack(profile, len(value) >> 2) + value if value else b""
            if self._timeless:
                self._extensions[frame.level] = known
        return known

    def _map(self) -> Any:
        return getattr(self._sender, SENDER + "rtp_header_extensions_map")

    async def repair(self, sequence: int) -> None:
        """Send a packet once more that the remote missed (RFC 4588, or just as it was)."""
        known = self._history[sequence % HISTORY]
        if known is None or known[0] != sequence:
            return
        _, timestamp, marker, payload, extension, data = known
        kind, number, ssrc = payload.type, sequence, self._sender._ssrc
        if payload.rtx is not None:
            kind, number, ssrc = payload.rtx, self._repaired, self._sender._rtx_ssrc
            self._repaired = (number + 1) & 0xFFFF
            data = sequence.to_bytes(2, "big") + data
        head = _HEADER.pack(0x90 if extension else 0x80, kind | marker << 7, number, timestamp, ssrc)
        if can_send(self._sender.transport):
            send(self._sender.transport, head + extension + data)


class _Steering:
    """What aiortc tells an encoder."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    @property
    def target_bitrate(self) -> float:
        """What the remote said last, in bit/s."""
        return self._outlet.estimate or 0

    @target_bitrate.setter
    def target_bitrate(self, bitrate: float) -> None:
        self._outlet.estimated(bitrate)


def _payloads(codecs: Sequence[Any]) -> dict[str, Payload]:
    repairs = {codec.parameters.get("apt"): codec.payloadType for codec in codecs if is_rtx(codec)}
    found: dict[str, Payload] = {}
    for codec in codecs:
        if not is_rtx(codec) and codec.name not in found:
            found[codec.name] = Payload(codec.payloadType, codec.clockRate, repairs.get(codec.payloadType))
    return found


def _first_sequence_number() -> int:
    # In the lower half, so that what is lost before the first one arrives cannot confuse SRTP.
    return int(random16()) % 32768


def can_send(dtls: Any) -> bool:
    """Whether there is a way to the remote, and keys for it."""
    return dtls.state == "connected" and private_ice.selected_pair(dtls.transport._connection) is not None


def send(dtls: Any, packet: bytes) -> None:
    """Encrypt an RTP packet and let it go, as aiortc and aioice do it in four coroutines that never wait."""
    data = dtls._tx_srtp.protect(packet)
    pair = private_ice.selected_pair(dtls.transport._connection)
    assert pair is not None
    pair.protocol.transport.sendto(data, pair.remote_addr)
    _add(dtls, _DTLS + "tx_bytes", len(data))
    _add(dtls, _DTLS + "tx_packets", 1)


def _add(owner: Any, name: str, amount: int) -> None:
    setattr(owner, name, getattr(owner, name) + amount)
