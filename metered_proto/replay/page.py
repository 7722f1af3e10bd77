"""A recording as one page of HTML that needs nothing else: no scripts, no pictures, nothing from the network.

What is in a recording was written by whoever talked to the machine. So all of it is escaped, and the page's own policy
lets no script run, should anything get through all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from metered_proto.replay.diff import show_time
from metered_proto.replay.reading import Header
from metered_proto.replay.replaying import Outcome
from metered_proto.replay.story import Cause
from metered_proto.replay.transcript import LANES, Entry, Lane, clean

MAX_ROWS: Final = 5000
"""Rows of the sequence; of a longer one, the last."""

_STYLE: Final = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{padding:.15rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid #eee}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap;color:#666}.trouble{color:#a00000}.notable{font-weight:600}
td.l{border-left:1px solid #ddd}.m{background:#f3f6fb;border-radius:3px;padding:0 .35rem;overflow-wrap:anywhere}
pre{background:#f6f6f6;padding:.8rem;overflow:auto}dt{font-weight:600}dd{margin:0 0 .4rem 1.5rem}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}td,th{border-color:#2a2d33}
td.l{border-color:#333}.m{background:#22262d}pre{background:#1e2126}.trouble{color:#ff8d8d}td.n{color:#999}}
"""


def page(
    title: str, header: Header, causes: Sequence[Cause], entries: Iterable[Entry], outcome: Outcome | None = None
) -> str:
    """The page. `outcome` is what a replay with today's code came to, if there was one."""
    rows = list(entries)
    left_out = max(0, len(rows) - MAX_ROWS)
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(header.machine)}, recorded by version {_text(header.library or '?')}.{_replayed(outcome)}</p>",
        "<h2>Why</h2>",
        _causes(causes),
        "<h2>Who said what</h2>",
        f"<p>{left_out} rows before these are left out.</p>" if left_out else "",
        _sequence(rows[left_out:]),
    ]
    if outcome is not None and outcome.divergence is not None:
        body.insert(2, f"<h2>Where this code does otherwise</h2><pre>{escape(str(outcome.divergence))}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _text(text: str) -> str:
    return escape(clean(text, 500))


def _replayed(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.divergence is None:
        return f" Today's code does the same in all {outcome.steps} steps."
    return f" Today's code does otherwise at step {outcome.divergence.step.number}."


def _causes(causes: Sequence[Cause]) -> str:
    rows = [
        f'<tr><td class="n">{show_time(cause.at)}</td><td class="n">{cause.step}</td>'
        f"<td>{_text(cause.what)}</td><td>{_text(cause.why)}</td></tr>"
        for cause in causes
    ]
    head = "<tr><th>seconds</th><th>step</th><th>what</th><th>why</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else "<p>Nothing that needs explaining.</p>"


def _sequence(rows: Sequence[Entry]) -> str:
    head = "".join(f"<th>{lane}</th>" for lane in LANES)
    body = "".join(_row(entry) for entry in rows)
    return f"<table><tr><th>seconds</th><th>step</th>{head}</tr>{body}</table>"


def _row(entry: Entry) -> str:
    """An arrow over the columns between the two that speak."""
    source, target = _column(entry.source), _column(entry.target)
    first, last = min(source, target), max(source, target)
    arrow = "" if source == target else "→ " if source < target else "← "
    times = f" × {entry.count}" if entry.count > 1 else ""
    cells = [
        *('<td class="l"></td>' for _ in range(first)),
        f'<td class="l" colspan="{last - first + 1}"><span class="m {entry.level}">{arrow}{_text(entry.text)}{times}'
        "</span></td>",
        *('<td class="l"></td>' for _ in range(last + 1, len(LANES))),
    ]
    return f'<tr><td class="n">{show_time(entry.at)}</td><td class="n">{entry.step}</td>{"".join(cells)}</tr>'


def _column(lane: Lane) -> int:
    return LANES.index("machine" if lane == "log" else lane)
