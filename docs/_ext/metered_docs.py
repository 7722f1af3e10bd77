"""What the pages need from Sphinx.

Pictures of state machines, drawn from the tables that the code itself looks its next state up in; the options of
the `metered` command, from the command; and docstrings, read the way they are written.

    ```{state-diagram} metered_proto.client.session:TRANSITIONS
    ```

    ```{subcommand} serve
    ```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from importlib import import_module
from inspect import cleandoc
from typing import Any

import state_svg
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from metered_anyio.cli.app import app as metered


class StateDiagram(SphinxDirective):
    """A picture of a transition table, and the table in words below it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        module, _, name = self.arguments[0].partition(":")
        table = getattr(import_module(module), name)
        self.env.note_reread()  # it depends on code that Sphinx does not watch
        rows = [
            [state, "; ".join(f"{', '.join(triggers)} → {target}" for target, triggers in targets.items()) or "the end"]
            for state, targets in state_svg.edges(table).items()
        ]
        picture = nodes.raw("", state_svg.draw(table, f"{module}.{name}"), format="html")
        return [picture, _table(["State", "Leads to"], [20, 80], rows)]


class Subcommand(SphinxDirective):
    """What a subcommand of `metered` does, and its arguments and options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        self.env.note_reread()
        root: Any = get_command(metered)
        command = root.commands[self.arguments[0]]
        said = [nodes.paragraph(text=" ".join(part.split())) for part in cleandoc(command.help).split("\n\n")]
        rows = [[_spelling(parameter), _meaning(parameter)] for parameter in command.params]
        return [*said, _table(["", "Meaning"], [30, 70], rows, literal=True)]


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    names = ", ".join(parameter.opts)
    if getattr(parameter, "is_flag", False):
        return names
    choices = [choice.value for choice in type(parameter.default)] if isinstance(parameter.default, Enum) else []
    return f"{names} {parameter.metavar or '|'.join(choices)}"


def _meaning(parameter: Any) -> str:
    default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    if default is None or default is False or callable(default):
        return str(parameter.help)
    return f"{parameter.help} Default: {default}."


def _table(
    head: Sequence[str], widths: Iterable[int], rows: Iterable[Sequence[str]], *, literal: bool = False
) -> nodes.table:
    def row(cells: Sequence[str], *, code: bool) -> nodes.row:
        first, *rest = cells
        name: nodes.Node = nodes.literal(text=first) if code else nodes.Text(first)
        return nodes.row(
            "",
            nodes.entry("", nodes.paragraph("", "", name)),
            *(nodes.entry("", nodes.paragraph(text=cell)) for cell in rest),
        )

    columns = [nodes.colspec(colwidth=width) for width in widths]
    body = nodes.tbody("", *(row(cells, code=literal) for cells in rows))
    group = nodes.tgroup("", *columns, nodes.thead("", row(head, code=False)), body, cols=len(columns))
    return nodes.table("", group)


_UNDERLINE = re.compile(r"(-{3,}|={3,})")


def read_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written to be read where they stand, so Sphinx is told two things: an indented block is a block
    of code, and an underlined title is a title but begins no section."""
    read: list[str] = []
    in_block = in_list = False
    for index, line in enumerate(lines):
        text = line.strip()
        after_blank = index == 0 or not lines[index - 1].strip()
        if text and not line.startswith(" "):
            in_block = False
            in_list = text.startswith(("- ", ".. ", ":"))
        elif text and after_blank and not in_block and not in_list:
            in_block = True
            read += ["::", ""]
        if _UNDERLINE.fullmatch(text) and read and read[-1].strip() and not in_block:
            read[-1:] = [f"**{read[-1].strip()}**", ""]
        else:
            read.append(line)
    lines[:] = read


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("state-diagram", StateDiagram)
    app.add_directive("subcommand", Subcommand)
    app.connect("autodoc-process-docstring", read_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
