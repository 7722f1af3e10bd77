"""`python -m examples.demo`: play it, show it, and judge it by the exit status.

0 if every reading that was taken was delivered, every command was answered and every device finished; 1 if not;
128 and the number of the signal if one interrupted it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys

import anyio

from examples.demo.fleet import Fleet, Outcome, Plan
from examples.demo.processes import DemoError
from examples.demo.screen import Screen
from metered_anyio import SignallingError


async def play(plan: Plan, screen: Screen) -> Outcome | int:
    """The outcome, or the exit status of a play that was interrupted. What it raises comes in groups of exceptions."""
    result: Outcome | int = 1
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as tasks:

            async def stop_at_signal() -> None:
                nonlocal result
                async for number in signals:
                    result = 128 + number
                    tasks.cancel_scope.cancel()

            tasks.start_soon(stop_at_signal)
            tasks.start_soon(screen.refresh)
            result = await Fleet(plan, screen).play()
            tasks.cancel_scope.cancel()
    return result


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Devices publish this machine's own readings; midway the relay is killed and comes back.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long readings are taken")
    parser.add_argument("--devices", type=int, default=5, help="how many, each a process")
    parser.add_argument("--outage", type=float, default=4.0, help="seconds without a relay; 0 for none")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between two readings of a device")
    parser.add_argument("--sabotage", action="store_true", help="have a device lose a reading; the demo has to fail")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, too, in the last line")
    args = parser.parse_args()
    if not 1 <= args.devices <= 100:
        parser.error("--devices must be between 1 and 100")
    if not 0 <= args.outage <= args.seconds - 2 <= 3600:
        parser.error("--outage must not be negative, and --seconds at least 2 more than it")
    if not 0.05 <= args.interval <= 60:
        parser.error("--interval must be between 0.05 and 60")
    plan = Plan(
        seconds=args.seconds,
        devices=args.devices,
        outage=args.outage,
        interval=args.interval,
        sabotage=args.sabotage,
    )

    result: Outcome | int = 1
    with Screen() as screen:
        try:
            result = anyio.run(play, plan, screen)
        except* (DemoError, SignallingError) as failures:
            screen.say(f"the demo cannot go on: {_first(failures)}")
    if isinstance(result, int):
        return result
    screen.summary(result)
    if args.json:
        print(json.dumps(dataclasses.asdict(result)))
    return 1 if result.problems else 0


def _first(failure: BaseException) -> BaseException:
    """The first error in groups within groups: each task group that it passed has wrapped it once."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


if __name__ == "__main__":
    sys.exit(main())
