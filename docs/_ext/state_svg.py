"""Draws a transition table as SVG, with nothing but arithmetic.

States stand in a column, in the order in which the table names them. Every state that can be entered has a lane
of its own to the right; a transition is a line from its state to the lane of the state it leads to, and the lane
ends in an arrow. No line has to find its way around another, so any table can be drawn, and the same table always
gives the same picture.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from colorsys import hls_to_rgb
from enum import Enum
from html import escape
from typing import TypeAlias

Table: TypeAlias = Mapping[tuple[Hashable, Hashable], Hashable]
"""What the code looks its next state up in: (state, trigger) → state."""

Edges: TypeAlias = dict[str, dict[str, list[str]]]
"""state → state it leads to → triggers."""

STEP = 24
"""Pixels between two lines that leave or enter a state."""
GAP = 14
"""Pixels between two states."""
LANE = 20
"""Pixels between two lanes."""
CHARACTER = 7.2
"""Pixels a character is taken to be wide."""


def word(value: object) -> str:
    """What a state or a trigger is called."""
    return str(value.value) if isinstance(value, Enum) else str(value)


def edges(table: Table) -> Edges:
    """The table by state, in its own order; a state that leads nowhere has no targets."""
    found: Edges = {}
    for (source, trigger), target in table.items():
        found.setdefault(word(source), {}).setdefault(word(target), []).append(word(trigger))
    for target in [word(target) for target in table.values()]:
        found.setdefault(target, {})
    return found


def draw(table: Table, title: str) -> str:
    """The table as an `<svg>` element that takes the colour of the text around it."""
    leads = edges(table)
    entered = [state for state in leads if any(state in targets for targets in leads.values())]
    box = max(len(state) for state in leads) * CHARACTER + 24
    labels = [", ".join(triggers) for targets in leads.values() for triggers in targets.values()]
    first_lane = box + max(len(label) for label in labels) * CHARACTER + 30
    lane = {state: first_lane + LANE * index for index, state in enumerate(entered)}
    width, y = first_lane + LANE * len(entered), 6.0

    boxes: list[str] = []
    lines: list[str] = []
    words: list[str] = []
    reach: dict[str, list[float]] = {state: [] for state in entered}
    for state, targets in leads.items():
        top = y
        if state in lane:
            y += STEP
            middle = y - STEP / 2
            reach[state].append(middle)
            colour = _colour(entered, state)
            lines.append(
                f'<path stroke="{colour}" d="M{lane[state]:g} {middle:g}H{box + 7:g}"/>'
                f'<path fill="{colour}" d="M{box + 1:g} {middle:g}l8 -4v8z"/>'
            )
        for target, triggers in targets.items():
            y += STEP
            middle = y - STEP / 2
            reach[target].append(middle)
            colour = _colour(entered, target)
            lines.append(
                f'<path stroke="{colour}" d="M{box:g} {middle:g}H{lane[target]:g}"/>'
                f'<circle fill="{colour}" cx="{lane[target]:g}" cy="{middle:g}" r="3"/>'
            )
            words.append(f'<text x="{box + 12:g}" y="{middle - 4:g}">{escape(", ".join(triggers))}</text>')
        stroke = 1.5 if targets else 3
        boxes.append(
            f'<rect x="2" y="{top:g}" width="{box - 2:g}" height="{y - top:g}" rx="4" stroke-width="{stroke}"/>'
        )
        words.append(
            f'<text x="{box / 2:g}" y="{(top + y) / 2 + 4:g}" font-weight="bold" text-anchor="middle">'
            f"{escape(state)}</text>"
        )
        y += GAP
    lanes = [
        f'<path stroke="{_colour(entered, state)}" d="M{lane[state]:g} {min(ys):g}V{max(ys):g}"/>'
        for state, ys in reach.items()
    ]
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}"'
            f' viewBox="0 0 {width:g} {y:g}" width="{width:g}" style="max-width:100%;height:auto">',
            '<g fill="none" stroke-width="1.5">',
            *lanes,
            *lines,
            '</g><g fill="none" stroke="currentColor">',
            *boxes,
            '</g><g fill="currentColor" font-family="sans-serif" font-size="12">',
            *words,
            "</g></svg>",
        )
    )


def _colour(entered: list[str], state: str) -> str:
    red, green, blue = hls_to_rgb(entered.index(state) / len(entered), 0.48, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
