"""Transport-wide feedback: when each numbered packet arrived, as RTCP packets.

The format is that of draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1: an RTPFB packet (RFC 4585) of
format 15. Senders number their packets over all streams of a transport in a header extension; from these reports they
see how much the path takes.
"""

from __future__ import annotations

from struct import pack
from typing import Final

REPORTED: Final = 512
"""Packets that one report speaks of at most. Of those that are still to be reported, no more than that are kept."""

_TICK: Final = 250  # microseconds: the unit of a delta
_REFERENCE: Final = 64_000  # microseconds: the unit of the time that the first delta counts from
_LOST, _SMALL, _LARGE = 0, 1, 2


class Arrivals:
    """Collects arrivals and makes reports of them. Times are microseconds of any clock that does not go backwards."""

    __slots__ = ("_count", "_newest", "_next", "_times")

    def __init__(self) -> None:
        self._times: dict[int, int] = {}  # by number, counted on past 16 bits
        self._next: int | None = None  # the first number that was not reported on
        self._newest = 0
        self._count = 0  # of reports

    def add(self, number: int, at: int) -> None:
        """The packet with this number, of 16 bits, arrived."""
        if self._next is None:
            self._next = self._newest = number
        else:
            number = self._newest + _nearest(number - self._newest)
        if number < self._next:
            return  # was reported as lost, and is of no use by now
        self._newest = max(self._newest, number)
        self._times.setdefault(number, at)
        if self._newest - self._next >= 2 * REPORTED:
            # A jump. What lies that far back is not worth a report.
            self._next = self._newest - REPORTED + 1
            self._times = {known: at for known, at in self._times.items() if known >= self._next}

    def reports(self, sender: int, media: int) -> list[bytes]:
        """RTCP packets about all that arrived since the last time; none if nothing did.

        `sender` is our own source (SSRC), `media` one of the remote's.
        """
        packets: list[bytes] = []
        while self._times and self._next is not None:
            first = min(self._times)
            # What is missing before the first that came is told, too, as far as there is room.
            base = max(self._next, first - REPORTED // 2)
            statuses, deltas, end = self._statuses(base)
            packets.append(self._packet(sender, media, base, self._times[first], statuses, deltas))
            for number in range(base, end):
                self._times.pop(number, None)
            self._next = end
        return packets

    def _statuses(self, base: int) -> tuple[list[int], bytes, int]:
        """What became of each packet from `base` on, the deltas of those that came, and the number after the last."""
        last = self._times[min(self._times)] // _REFERENCE * _REFERENCE
        statuses: list[int] = []
        deltas = b""
        number = base
        while number <= min(max(self._times), base + REPORTED - 1):
            at = self._times.get(number)
            if at is None:
                statuses.append(_LOST)
            else:
                delta = (at - last) // _TICK
                if not -0x8000 <= delta <= 0x7FFF:
                    break  # a pause that a delta cannot tell: the next report has a time of its own
                last += delta * _TICK  # so that rounding does not add up
                small = 0 <= delta <= 0xFF
                statuses.append(_SMALL if small else _LARGE)
                deltas += pack("!B", delta) if small else pack("!h", delta)
            number += 1
        return statuses, deltas, number

    def _packet(self, sender: int, media: int, base: int, first: int, statuses: list[int], deltas: bytes) -> bytes:
        body = pack("!LLHH", sender, media, base & 0xFFFF, len(statuses))
        body += pack("!L", (first // _REFERENCE & 0xFFFFFF) << 8 | self._count & 0xFF)
        body += _chunks(statuses) + deltas
        body += bytes(-len(body) % 4)
        self._count += 1
        return pack("!BBH", 0x80 | 15, 205, len(body) // 4) + body


def _chunks(statuses: list[int]) -> bytes:
    """Statuses, 16 bits for each run of equal ones or for seven of any kind."""
    chunks = b""
    at = 0
    while at < len(statuses):
        run = 1
        while at + run < len(statuses) and statuses[at + run] == statuses[at]:
            run += 1
        if run >= 7:
            chunks += pack("!H", statuses[at] << 13 | run)
            at += run
        else:
            seven = (statuses[at : at + 7] + [_LOST] * 7)[:7]
            vector = 0b11 << 14
            for place, status in enumerate(seven):
                vector |= status << (12 - 2 * place)
            chunks += pack("!H", vector)
            at += 7
    return chunks


def _nearest(difference: int) -> int:
    """The difference of two numbers of 16 bits, as the shorter way round."""
    return (difference + 0x8000 & 0xFFFF) - 0x8000
