"""A device with a file outbox, killed again and again: is anything lost that was accepted, is every repeat marked?

    python benchmarks/outbox_kills.py --kills 1000

Each life of the device is a process of its own. It enqueues numbered readings, sends them to a relay that writes what
it gets to a file, gets some acknowledged, loses its connection now and then, and is killed (SIGKILL) at a random
moment. The last life may finish. Then the relay's file is held against the list of what was accepted. Exit code 1 if
anything was lost, came in the wrong order, or came twice unmarked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from metered_anyio.outbox_store import SqliteStore
from metered_proto.client.deduplicator import Deduplicator, Delivery
from metered_proto.client.envelope import unseal
from metered_proto.client.outbox import Attempted, Enqueue, Entry, Forget, OutboxQueue
from metered_proto.entropy import Entropy
from metered_proto.events import Message
from metered_proto.facts import Asked, LinkDown, Woken
from metered_proto.orders import Order, Send
from metered_proto.settings import BatchOptions, Outbox

CHANNELS = ("fleet/a/telemetry", "fleet/a/log")


class Device:
    """One life."""

    def __init__(self, directory: Path, life: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = SqliteStore(directory / "outbox.db")
        loaded = self.store.load()
        batch = BatchOptions(max_messages=5, max_delay=0.001) if life % 2 else None
        options = Outbox(max_messages=100_000, rate=None, window=8, batch=batch)
        self.queue = OutboxQueue(options, Entropy(seed), loaded)
        self.accepted = open(directory / "accepted", "ab", buffering=0)  # noqa: SIM115
        self.relay = open(directory / "relay", "ab", buffering=0)  # noqa: SIM115
        self.born = time.monotonic()
        self.number = life * 1_000_000
        self.link = 0
        self.in_flight: list[str] = []
        self.connect()

    def now(self) -> int:
        return int((time.monotonic() - self.born) * 1_000_000)

    def connect(self) -> None:
        self.link += 1
        self.carry_out(self.queue.opened(self.now(), self.link, 65_536))

    def live(self) -> None:
        """Until the kill."""
        while True:
            match self.random.randrange(10):
                case 0 | 1 | 2 | 3:
                    self.enqueue()
                case 4 | 5 | 6 | 7:
                    self.acknowledge()
                case 8:
                    self.carry_out(self.queue.handle(self.now(), Woken()))
                    self.store.tidy()
                case _ if self.random.random() < 0.1:
                    self.in_flight.clear()
                    self.carry_out(self.queue.handle(self.now(), LinkDown(self.link, 1006)))
                    self.connect()

    def finish(self) -> None:
        """Until nothing is left."""
        while len(self.queue):
            self.carry_out(self.queue.handle(self.now(), Woken()))
            self.acknowledge()
        self.store.close()

    def enqueue(self) -> None:
        self.number += 1
        channel = CHANNELS[self.random.random() < 0.2]
        entry = self.queue.draft(self.now(), channel, b'{"n":%d}' % self.number)
        assert isinstance(entry, Entry)
        self.store.keep(entry)
        self.accepted.write(b"%d\n" % self.number)
        self.carry_out(self.queue.handle(self.now(), Asked(self.number, Enqueue(entry))))

    def acknowledge(self) -> None:
        if self.in_flight:
            request_id = self.in_flight.pop(0)
            self.carry_out(self.queue.settled(self.now(), request_id, None))

    def carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Send(_, payload):
                    self.relay.write(payload + b"\n")
                    self.in_flight.append(msgspec.json.decode(payload)["requestId"])
                case Attempted(through):
                    self.store.attempted(through)
                case Forget(keys):
                    self.store.forget(keys)
                case _:
                    pass


def one_life(directory: Path, life: int, seed: int, seconds: float | None) -> None:
    """Fork a device, and kill it after so many seconds; None lets it finish."""
    child = os.fork()
    if not child:
        code = 1
        try:
            device = Device(directory, life, seed)
            device.finish() if seconds is None else device.live()
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    expected = 0 if seconds is None else -signal.SIGKILL
    if os.waitstatus_to_exitcode(status) != expected:
        raise SystemExit(f"life {life} ended by itself: {status}")


def judge(directory: Path) -> dict[str, int]:
    """Hold what the relay got against what was accepted."""
    accepted = [int(line) for line in (directory / "accepted").read_text().split()]
    reader = Deduplicator()
    sent: set[str] = set()
    first: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
    delivered: list[int] = []
    repeats = unmarked = gaps = 0
    for line in (directory / "relay").read_bytes().splitlines():
        frame: dict[str, Any] = msgspec.json.decode(line)
        for one in unseal(frame["data"]) or []:
            if one.id in sent:
                repeats += 1
                unmarked += not one.redelivered
            else:
                first[frame["channel"]].append(one.data["n"])
            sent.add(one.id)
        for found in reader.read(Message(frame["channel"], "device", frame["data"])):
            if isinstance(found, Delivery):
                delivered.append(found.data["n"])
            else:
                gaps += found.missed
    return {
        "accepted": len(accepted),
        "lost": len(set(accepted) - set(delivered)),
        "delivered_twice": len(delivered) - len(set(delivered)),
        "out_of_order": sum(a > b for numbers in first.values() for a, b in pairwise(numbers)),
        "gaps": gaps,
        "repeats": repeats,
        "unmarked_repeats": unmarked,
    }


def main() -> int:
    """Run it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=0.03, help="seconds that a life lasts at most (default 0.03)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for life in range(arguments.kills):
            one_life(directory, life, arguments.seed + life, moments.uniform(0, arguments.longest))
        one_life(directory, arguments.kills, arguments.seed + arguments.kills, None)
        figures: dict[str, Any] = {"kills": arguments.kills, **judge(directory)}
    figures["seconds"] = round(time.monotonic() - began, 1)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for what, value in figures.items():
            print(f"{what.replace('_', ' '):>18}  {value}")
    wrong = ("lost", "delivered_twice", "out_of_order", "gaps", "unmarked_repeats")
    return int(any(figures[what] for what in wrong))


if __name__ == "__main__":
    sys.exit(main())
