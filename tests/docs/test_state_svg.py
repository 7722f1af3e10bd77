"""The pictures of state machines in the documentation: all of the table is in them, and nothing else."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from metered_proto import websocket
from metered_proto.client import session
from metered_proto.relay import guest
from metered_proto.room import room

SVG = "{http://www.w3.org/2000/svg}"
TABLES: dict[str, Any] = {
    "session": session.TRANSITIONS,
    "room": room.TRANSITIONS,
    "guest": guest.LIFE,
    "websocket": websocket.TRANSITIONS,
}


@pytest.fixture(scope="module")
def state_svg() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "_ext" / "state_svg.py"
    spec = importlib.util.spec_from_file_location("state_svg", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", TABLES)
def test_every_transition_is_drawn(state_svg: ModuleType, name: str) -> None:
    table = TABLES[name]
    svg = state_svg.draw(table, name)
    states = {state_svg.word(state) for (state, _), target in table.items() for state in (state, target)}
    labels = sorted(", ".join(triggers) for targets in state_svg.edges(table).values() for triggers in targets.values())
    assert sorted(_texts(svg)) == sorted([*states, *labels])
    assert sum(len(label.split(", ")) for label in labels) == len(table)
    joins = len(list(ElementTree.fromstring(svg).iter(f"{SVG}circle")))
    assert joins == len({(state, target) for (state, _), target in table.items()})


@pytest.mark.parametrize("name", TABLES)
def test_the_same_table_gives_the_same_picture(state_svg: ModuleType, name: str) -> None:
    assert state_svg.draw(TABLES[name], name) == state_svg.draw(dict(TABLES[name]), name)


def test_a_line_leads_from_a_state_to_the_lane_of_the_next(state_svg: ModuleType) -> None:
    svg = state_svg.draw({("a", "go"): "b", ("b", "back & forth"): "a"}, "two <states>")
    assert sorted(_texts(svg)) == ["a", "b", "back & forth", "go"]
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "two <states>"
    # Out of `a` and into `b` meet on one lane, which is of one colour.
    colours = [path.get("stroke") for path in root.iter(f"{SVG}path") if path.get("stroke")]
    assert {colours.count(colour) for colour in colours} == {3}  # the lane, the line to it, the arrow from it


def test_a_final_state_has_a_thick_frame(state_svg: ModuleType) -> None:
    frames = re.findall(r'<rect [^>]*stroke-width="([\d.]+)"', state_svg.draw({("a", "end"): "b"}, ""))
    assert frames == ["1.5", "3"]
