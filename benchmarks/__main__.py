"""What client, relay, core, rooms and media cost, each against a peer that is measured in the same run.

`core`, `client` (`publish`, `receive`, `deliver`) and `relay` (`fan-out`, `memory`, `storm`) are measured if nothing
is named; `soak`, `record`, `rooms` (`first-frame`, `gap`, `channel`, `lag`), `calls` (`joins`, `replace`, `viewers`,
`churn`, `returns`) and `media` (`sending`, `media-lag`, `picture`, `speech`, `opening`) only if they are. The exit code
is 1 where something was lost that must not be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec

from benchmarks import calls, client, core, media, record, relay, rooms, soak
from benchmarks.figures import Figure, document, markdown, table
from benchmarks.plan import QUICK, Plan

MEASUREMENTS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "core": core.core,
    "publish": client.publish,
    "receive": client.receive,
    "deliver": client.deliver,
    "fan-out": relay.fan_out,
    "memory": relay.memory,
    "storm": relay.storm,
    "soak": soak.soak,
    "record": record.record,
    "first-frame": rooms.first_frame,
    "gap": rooms.gap,
    "channel": rooms.channel,
    "lag": rooms.lag,
    "joins": calls.joins,
    "replace": calls.replace,
    "viewers": calls.viewers,
    "churn": calls.churn,
    "returns": calls.returns,
    "sending": media.sending,
    "media-lag": media.lag,
    "picture": media.picture,
    "speech": media.speech,
    "opening": media.opening,
}
GROUPS = {
    "all": tuple(MEASUREMENTS),
    "client": ("publish", "receive", "deliver"),
    "relay": ("fan-out", "memory", "storm"),
    "rooms": ("first-frame", "gap", "channel", "lag"),
    "calls": ("joins", "replace", "viewers", "churn", "returns"),
    "media": ("sending", "media-lag", "picture", "speech", "opening"),
}
ONLY_IF_NAMED = ("soak", "record", *GROUPS["rooms"], *GROUPS["calls"], *GROUPS["media"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join({**MEASUREMENTS, **GROUPS})}")
    parser.add_argument("--json", dest="form", action="store_const", const=_json, help="print JSON")
    parser.add_argument(
        "--markdown", dest="form", action="store_const", const=markdown, help="print a table for a page"
    )
    parser.add_argument("--quick", action="store_true", help="see that everything runs, in a few seconds")
    parser.add_argument("--seconds", type=float, help="how long the soak lasts, each way (default 60)")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in MEASUREMENTS and name not in GROUPS:
            parser.error(f"no measurement is called {name!r}")
    plan = QUICK if options.quick else Plan()
    if options.seconds is not None:
        plan = msgspec.structs.replace(plan, soak_seconds=options.seconds)
    figures: list[Figure] = []
    for name in _chosen(options.names):
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures += MEASUREMENTS[name](plan)
    print((options.form or table)(figures, quick=plan.quick))
    return int(any(figure.is_loss for figure in figures))


def _json(figures: Sequence[Figure], *, quick: bool) -> str:
    return document(figures, quick=quick).decode()


def _chosen(names: Sequence[str]) -> list[str]:
    if not names:
        return [name for name in MEASUREMENTS if name not in ONLY_IF_NAMED]
    wanted = {part for name in names for part in GROUPS.get(name, (name,))}
    return [name for name in MEASUREMENTS if name in wanted]


if __name__ == "__main__":
    sys.exit(main())
