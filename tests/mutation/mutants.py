"""Small faults to put into a module: what a tired hand might have typed, and what a test should notice.

A mutant is one change to the syntax tree: a comparison that is off by one or turned around, a sign, a number, a
condition that is negated or half of it left out, a statement that is missing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SUMS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
EXTREMES = {"min": "max", "max": "min"}
NOT_TRIED = ("__repr__", "__rich_repr__")
"""What is for people to read: see the tests of secrets for what must not be in there."""


class Mutant(NamedTuple):
    """A module with one fault. `where` is a line of the file as it stands."""

    where: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    sites = list(_sites(tree))
    for index, (node, _) in enumerate(sites):
        for number, what in enumerate(_names(node)):
            mutated = copy.deepcopy(tree)
            target, parent = list(_sites(mutated))[index]
            _apply(target, parent, number)
            try:
                text = ast.unparse(ast.fix_missing_locations(mutated))
            except ValueError:  # a tree that is no program
                continue
            yield Mutant(node.lineno, f"{what}: {ast.unparse(node).splitlines()[0][:100]}", text)


def _sites(tree: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, ast.AST]]:
    """Every statement and expression that runs, with its parent. Annotations do not run."""
    todo: list[tuple[ast.AST, ast.AST]] = [(child, tree) for child in ast.iter_child_nodes(tree)]
    while todo:
        node, parent = todo.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in NOT_TRIED:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.arg | ast.JoinedStr | ast.Raise):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.stmt | ast.expr):
            yield node, parent
        left_out = _not_run(node)
        todo[:0] = [
            (child, node) for child in ast.iter_child_nodes(node) if not any(child is each for each in left_out)
        ]


def _not_run(node: ast.AST) -> list[ast.AST | None]:
    match node:
        case ast.AnnAssign():
            return [node.annotation, node.target]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.returns, *node.decorator_list]
        case ast.ClassDef():
            return [*node.bases, *node.keywords, *node.decorator_list]
        case ast.Subscript():
            return [node.slice] if isinstance(node.value, ast.Name) and node.value.id[:1].isupper() else []
        case _:
            return []


def _names(node: ast.AST) -> list[str]:
    """What can be done to a node."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            return [f"{type(op).__name__} for {COMPARISONS[type(op)].__name__}"]
        case ast.BinOp(op=op) if type(op) in SUMS and not _is_text(node):
            return [f"{type(op).__name__} for {SUMS[type(op)].__name__}"]
        case ast.BoolOp(op=op):
            return ["and/or swapped", "the first condition alone"]
        case ast.UnaryOp(op=ast.Not()):
            return ["not left out"]
        case ast.Constant(value=bool()):
            return ["the opposite"]
        case ast.Constant(value=int() | float()):
            return ["one more"]
        case ast.Call(func=ast.Name(id=name)) if name in EXTREMES:
            return [f"{EXTREMES[name]} for {name}"]
        case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            return ["condition negated"]
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            return ["left out"]
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Delete():
            return ["left out"]
        case ast.Return(value=ast.expr()):
            as_good_as_none = isinstance(node.value, ast.Constant) and not node.value.value
            return [] if as_good_as_none else ["None returned"]
        case ast.Continue() | ast.Break():
            return ["left out"]
        case _:
            return []


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(side, ast.JoinedStr | ast.List | ast.ListComp) for side in (node.left, node.right)) or any(
        isinstance(side, ast.Constant) and isinstance(side.value, str | bytes) for side in (node.left, node.right)
    )


def _apply(node: ast.stmt | ast.expr, parent: ast.AST, number: int) -> None:
    match node:
        case ast.Compare():
            node.ops = [COMPARISONS[type(node.ops[0])]()]
        case ast.BinOp():
            node.op = SUMS[type(node.op)]()
        case ast.BoolOp():
            if number == 0:
                node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
            else:
                node.values = node.values[:1] * 2
        case ast.UnaryOp():
            _replace(parent, node, node.operand)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + 1
        case ast.Call(func=ast.Name(id=name)):
            node.func = ast.Name(EXTREMES[name], ast.Load())
        case ast.If() | ast.While() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Return():
            node.value = ast.Constant(None)
        case _:
            _replace(parent, node, ast.Pass())


def _replace(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list):
            value[:] = [new if each is old else each for each in value]
