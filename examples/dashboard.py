"""A dashboard: hears a whole fleet on one connection, replies to each device, and can command one.

    python -m examples.dashboard --url ws://127.0.0.1:8787 --key pk_live_demo
    python -m examples.dashboard … --command sensor-42 '{"type": "interval", "seconds": 1}'

`examples.device` is its counterpart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from contextlib import suppress
from typing import Any

import anyio

from metered_anyio import Gap, Message, ReconnectOptions, SignallingClient, SignallingError

TELEMETRY = re.compile(r"fleet/(sensor-[^/]+)/telemetry")


async def run(url: str, key: str, command: tuple[str, Any] | None) -> None:
    """Show what the fleet sends, for as long as this runs."""
    # What comes from a device's outbox is told once, and as it was enqueued: repeats are dropped, batches taken apart.
    client = SignallingClient(api_key=key, url=url, reconnect=ReconnectOptions(max_attempts=math.inf), deduplicate=True)

    @client.on(Message)
    async def telemetry_came(event: Message) -> None:
        # The channel says which device it is; to be sure of that, let each token publish to its own channel only.
        match TELEMETRY.fullmatch(event.channel), event.data:
            case re.Match() as channel, {"at": int(at)}:
                print(f"{channel[1]}: {event.data}", flush=True)
                # For that device alone, so not to a channel. Its id is the relay's word, not the device's.
                with suppress(SignallingError):
                    await client.send(event.sender_peer_id, {"type": "ack", "for": at})

    @client.on(Gap)
    def something_is_missing(event: Gap) -> None:
        print(f"{event.channel}: {event.missed} readings went by", flush=True)

    async with client:
        await client.subscribe("fleet/sensor-*/telemetry")
        print(f"listening as {client.peer_id}", flush=True)
        if command is not None:
            await client.publish(f"fleet/{command[0]}/cmd", command[1])
        await anyio.sleep_forever()


def main() -> None:
    """Run a dashboard as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("METERED_URL", "wss://rms.metered.ca"))
    parser.add_argument("--key", default=os.environ.get("METERED_KEY"))
    parser.add_argument("--command", nargs=2, metavar=("DEVICE", "JSON"), help="publish this to a device first")
    args = parser.parse_args()
    if args.key is None:
        parser.error("a key is needed: --key or METERED_KEY")
    command = (args.command[0], json.loads(args.command[1])) if args.command else None
    with suppress(KeyboardInterrupt):
        anyio.run(run, args.url, args.key, command)


if __name__ == "__main__":
    main()
