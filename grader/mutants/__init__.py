"""Wrong solutions every check must reject, and right ones it must accept: the proof of the judge, and its dictionary.

A mutant is a small edit of the reference with a name a teacher would use; when a learner's output equals exactly one
mutant's output, the diagnosis says that name. An alternative is a right solution written differently.
"""

import __future__

import ast
import functools
import importlib
import inspect
import linecache
import pkgutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from grader.judge import Exercise


@dataclass(frozen=True)
class Variant:
    """Another definition for an exercise: a mutant (told_by names the property that must tell it) or an alternative."""

    name: str
    exercise: Exercise
    source: str
    told_by: str | None = None

    @functools.cached_property
    def definition(self) -> Callable:
        """The variant, compiled among the reference module's own names."""
        return compile_beside(self.exercise.reference, self.source, f"<variant: {self.name}>")


_variants: list[Variant] = []
_equivalent: dict[tuple[str, str], str] = {}


def mutant(name: str, exercise: Exercise, old: str, new: str, told_by: str) -> None:
    """A wrong solution: the reference with `old`, which occurs exactly once, replaced by `new`."""
    source = reference_source(exercise)
    if source.count(old) != 1:
        raise ValueError(f"mutant {name!r}: {old!r} occurs {source.count(old)} times in {exercise.identity}, not once")
    if told_by not in {law.title for law in exercise.properties}:
        raise ValueError(f"mutant {name!r}: {exercise.identity} has no property {told_by!r}")
    _variants.append(Variant(name, exercise, source.replace(old, new), told_by))


def alternative(name: str, exercise: Exercise, source: str) -> None:
    """A right solution that goes another way; the whole definition."""
    _variants.append(Variant(name, exercise, textwrap.dedent(source)))


def equivalent(exercise: Exercise, change: str, reason: str) -> None:
    """An operator mutant (by the words of `operator_mutants`) that no check can reject, and why."""
    _equivalent[exercise.identity, change] = reason


def mutants_of(exercise: Exercise) -> list[Variant]:
    return [v for v in load() if v.exercise is exercise and v.told_by is not None]


def alternatives_of(exercise: Exercise) -> list[Variant]:
    return [v for v in load() if v.exercise is exercise and v.told_by is None]


def why_equivalent(exercise: Exercise, change: str) -> str | None:
    load()
    return _equivalent.get((exercise.identity, change))


def equivalents_of(exercise: Exercise) -> list[str]:
    load()
    return [change for identity, change in _equivalent if identity == exercise.identity]


def load() -> list[Variant]:
    """Every variant of the course; the first call imports the modules that list them."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return _variants


def reference_source(exercise: Exercise) -> str:
    return inspect.getsource(exercise.reference)


def module_source(exercise: Exercise) -> str:
    return inspect.getsource(inspect.getmodule(exercise.reference))


def compile_beside(reference: Callable, source: str, filename: str) -> Callable:
    """Run a definition among the names of the reference's module, without touching that module."""
    namespace = {"torch": torch, **vars(inspect.getmodule(reference))}
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec", __future__.annotations.compiler_flag), namespace)
    return namespace[reference.__name__]


# operator mutants: small mechanical edits of the solution region ------------------------------------------------

SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.MatMult: ast.Mult,
         ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
         ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
         ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And}


def operator_mutants(exercise: Exercise) -> Iterator[Variant]:
    """Every single mechanical edit of the reference's solution: operators swapped, constants moved, parts dropped.

    Each is named by its line of the solution and the edit, for example "line 2: * becomes /".
    """
    source = reference_source(exercise)
    lines = source.splitlines()
    first = next((i for i, line in enumerate(lines, 1) if "### BEGIN SOLUTION" in line), 0)
    seen = {ast.unparse(ast.parse(source))}
    for position, node in enumerate(ast.walk(ast.parse(source))):
        if getattr(node, "lineno", 0) <= first:
            continue
        for words, change in _edits(node):
            tree = ast.parse(source)
            target = list(ast.walk(tree))[position]
            _apply(tree, target, change)
            edited = ast.unparse(ast.fix_missing_locations(tree))
            if edited not in seen:
                seen.add(edited)
                place = f"line {node.lineno - first}, column {node.col_offset}"
                yield Variant(f"{place}: {words}", exercise, edited, "")


def _edits(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST | None]]]:
    """(words, function that gives the replacement of the node, or None to delete it)."""
    match node:
        case ast.BinOp() if type(node.op) in SWAPS:
            yield f"{_sign(node.op)} becomes {_sign(SWAPS[type(node.op)]())}", _with(op=SWAPS[type(node.op)]())
            yield f"only the left of {_sign(node.op)}", lambda n: n.left
            yield f"only the right of {_sign(node.op)}", lambda n: n.right
        case ast.Compare() if type(node.ops[0]) in SWAPS:
            yield "comparison turned", _with(ops=[SWAPS[type(node.ops[0])]()])
        case ast.UnaryOp():
            yield "sign dropped", lambda n: n.operand
        case ast.Constant() if type(node.value) is int:
            yield f"{node.value} becomes {node.value + 1}", _with(value=node.value + 1)
        case ast.Constant() if type(node.value) is float:
            yield f"{node.value} becomes {node.value * 2}", _with(value=node.value * 2)
        case ast.keyword() if node.arg:
            yield f"{node.arg}= dropped", lambda n: None
        case ast.Assign() | ast.AugAssign() | ast.If() | ast.For() | ast.Expr():
            yield "statement dropped", lambda n: ast.Pass()
        case ast.Call() if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
            yield f".{node.func.attr}() dropped", lambda n: n.func.value


def _with(**fields: object) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        for name, value in fields.items():
            setattr(node, name, value)
        return node
    return change


def _apply(tree: ast.AST, target: ast.AST, change: Callable[[ast.AST], ast.AST | None]) -> None:
    class Edit(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST | None:
            return change(node) if node is target else super().generic_visit(node)

    Edit().visit(tree)


def _sign(operator: ast.operator) -> str:
    return {"Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "MatMult": "@", "Pow": "**",
            "FloorDiv": "//", "Mod": "%"}.get(type(operator).__name__, type(operator).__name__)
