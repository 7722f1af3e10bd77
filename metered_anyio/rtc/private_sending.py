"""How packets leave: what is ours in place of the heart of aiortc's `RTCRtpSender`, and why.

aiortc encodes for each sender, and makes an object of each packet, with its header extensions serialized one by one:
20 to 25 µs a packet. Here a frame comes encoded and cut into payloads, which all senders share, and a packet is a
header, the frame's extensions and a payload, joined. What aiortc does well is left to it: RTCP, statistics, starting
and stopping. `private.missing()` looks after these names, too.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import State
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
# Interned: these are asked for with every packet, and others would be compared letter by letter.
_SENT_BYTES: Final = sys.intern("_RTCDtlsTransport__tx_bytes")
_SENT_PACKETS: Final = sys.intern("_RTCDtlsTransport__tx_packets")
_NTP_TIMESTAMP: Final = sys.intern(f"{SENDER}ntp_timestamp")
_RTP_TIMESTAMP: Final = sys.intern(f"{SENDER}rtp_timestamp")
_OCTET_COUNT: Final = sys.intern(f"{SENDER}octet_count")
_PACKET_COUNT: Final = sys.intern(f"{SENDER}packet_count")
_NTP_EPOCH: Final = 2_208_988_800  # seconds from 1900 to 1970


class Payload(NamedTuple):
    """One codec as it was negotiated. `rtx` is the payload type of packets that are sent once more, if there is one."""

    type: int
    clock: int
    rtx: int | None


class _Sent(NamedTuple):
    """One frame that was sent. `first` is the sequence number of its first packet."""

    first: int
    timestamp: int
    payload: Payload
    extension: bytes
    payloads: Sequence[bytes]


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
        self._history: list[_Sent | None] = [None] * HISTORY
        self._running = False
        self._origin = random32()
        self._ssrc = sender._ssrc
        self._extensions: dict[int | None, tuple[bytes, bool, bytes]] = {}  # by level; see `_make_extensions`
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
        if self._withheld or not self._sender._enabled or codec is None:
            return False
        count = self._in_a_row + len(frame.payloads)
        if count > AT_ONCE or not send(self._sender.transport, self._packets(frame, at, codec)):
            return False
        self._in_a_row = count
        return True

    async def _transmit(self, frame: Encoded, at: int, codec: str) -> None:
        packets = self._packets(frame, at, codec)
        left = len(frame.payloads)
        while left:
            count = min(left, max(1, AT_ONCE - self._in_a_row))
            if not send(self._sender.transport, islice(packets, count)):
                raise ConnectionError("the transport is gone")
            left -= count
            self._in_a_row += count
            if self._in_a_row >= AT_ONCE:
                self._in_a_row = 0
                loop = asyncio.get_running_loop()
                if loop.time() - self._paused_at < PAUSE * 2:
                    await asyncio.sleep(PAUSE)
                self._paused_at = loop.time()

    def _packets(self, frame: Encoded, at: int, codec: str) -> Iterator[bytes]:
        """The packets of a frame. With the first one, all of them are counted."""
        sender, payload = self._sender, self._payloads[codec]
        timestamp = (self._origin + at * payload.clock // self._outlet.clock) & 0xFFFFFFFF
        ntp = int((time.time() + _NTP_EPOCH) * (1 << 32))
        extension = self._extension(frame, ntp)
        first = 0x90 if extension else 0x80
        last = len(frame.payloads) - 1
        setattr(sender, _NTP_TIMESTAMP, ntp)
        setattr(sender, _RTP_TIMESTAMP, timestamp)
        _add(sender, _OCTET_COUNT, frame.size)
        _add(sender, _PACKET_COUNT, last + 1)
        sent = _Sent(self._sequence, timestamp, payload, extension, frame.payloads)
        for number, data in enumerate(frame.payloads):
            sequence = self._sequence
            self._sequence = (sequence + 1) & 0xFFFF
            marker = number == last
            self._history[sequence % HISTORY] = sent
            head = _HEADER.pack(first, payload.type | marker << 7, sequence, timestamp, self._ssrc)
            yield head + extension + data

    def _extension(self, frame: Encoded, ntp: int) -> bytes:
        """The header extensions of a frame's packets (RFC 8285)."""
        known = self._extensions.get(frame.level)
        if known is None:
            known = self._extensions[frame.level] = self._make_extensions(frame.level)
        before, is_timed, after = known
        return before + (ntp >> 14 & 0xFFFFFF).to_bytes(3, "big") + after if is_timed else before

    def _make_extensions(self, level: int | None) -> tuple[bytes, bool, bytes]:
        """What is before the time at which a packet is sent, whether there is such a time, and what is behind."""
        found = []
        for at in (0, 0xFFFFFF):
            values = HeaderExtensions(mid=getattr(self._sender, SENDER + "mid"), abs_send_time=at)
            if level is not None:
                values.audio_level = (False, level)
            profile, value = self._map().set(values)
            found.append(_EXTENSION.pack(profile, len(value) >> 2) + value if value else b"")
        early, late = found
        if early == late:
            return early, False, b""
        begin = next(at for at, (one, other) in enumerate(zip(early, late, strict=True)) if one != other)
        return early[:begin], True, early[begin + 3 :]

    def _map(self) -> Any:
        return getattr(self._sender, SENDER + "rtp_header_extensions_map")

    async def repair(self, sequence: int) -> None:
        """Send a packet once more that the remote missed (RFC 4588, or just as it was)."""
        sent = self._history[sequence % HISTORY]
        if sent is None or (place := (sequence - sent.first) & 0xFFFF) >= len(sent.payloads):
            return
        _, timestamp, payload, extension, payloads = sent
        marker, data = place == len(payloads) - 1, payloads[place]
        kind, number, ssrc = payload.type, sequence, self._sender._ssrc
        if payload.rtx is not None:
            kind, number, ssrc = payload.rtx, self._repaired, self._sender._rtx_ssrc
            self._repaired = (number + 1) & 0xFFFF
            data = sequence.to_bytes(2, "big") + data
        head = _HEADER.pack(0x90 if extension else 0x80, kind | marker << 7, number, timestamp, ssrc)
        send(self._sender.transport, (head + extension + data,))


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


def send(dtls: Any, packets: Iterable[bytes]) -> bool:
    """Encrypt RTP packets and let them go, as aiortc and aioice do it in four coroutines that never wait.

    False, and nothing was taken of them, if there is no way to the remote, or no keys for it.
    """
    pair = private_ice.selected_pair(dtls.transport._connection)
    if pair is None or dtls._state is not State.CONNECTED:
        return False
    protect, sendto, address = dtls._tx_srtp.protect, pair.protocol.transport.sendto, pair.remote_addr
    count = size = 0
    for packet in packets:
        data = protect(packet)
        sendto(data, address)
        count += 1
        size += len(data)
    _add(dtls, _SENT_BYTES, size)
    _add(dtls, _SENT_PACKETS, count)
    return True


def _add(owner: Any, name: str, amount: int) -> None:
    setattr(owner, name, getattr(owner, name) + amount)
