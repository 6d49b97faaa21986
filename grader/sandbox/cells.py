"""Which statements of a notebook define something, and which only run: training, plots and shell cells do not count."""

import ast
import types
from collections.abc import Iterator, Mapping
from typing import Any

OURS = ("notebook", "solutions", "kernels", "grader", "matplotlib", "IPython")     # calls into these may be long
CHEAP_BUILTINS = {"range", "len", "int", "float", "str", "bool", "tuple", "list", "dict", "set", "frozenset", "max",
                  "min", "abs", "sum", "round", "zip", "enumerate", "sorted", "slice", "object"}


def statements(source: str, filename: str) -> list[ast.stmt]:
    """A cell's statements. Raises SyntaxError as Python does; IPython's own lines (`%`, `!`, `?`) are left out."""
    try:
        return ast.parse(source, filename).body
    except SyntaxError:
        return ast.parse(without_magics(source), filename).body


def without_magics(source: str) -> str:
    """The source with IPython's own lines blanked; a cell that starts with %% is none of Python's, if not timed."""
    first = source.lstrip().split("\n")[0].split()[:1]
    if first and first[0].startswith("%%") and first[0] not in ("%%time", "%%timeit", "%%capture", "%%prun"):
        return ""
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) or line.rstrip().endswith("?") else line
                     for line in source.split("\n"))


def defines(node: ast.stmt, names: Mapping[str, Any], exercise: bool = False) -> bool:
    """Whether a statement is an import, a function, a class or a plain assignment.

    names     what the notebook has defined so far: a call of its own functions, or of the course's, may be training
    exercise  take every assignment for plain
    """
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            return exercise or node.value is None or all(_cheap(call, names) for call in _calls(node.value))
        case ast.If() | ast.Try():
            parts = [node, *getattr(node, "handlers", [])]
            return all(defines(child, names, exercise) for part in parts for field in ("body", "orelse", "finalbody")
                       for child in getattr(part, field, []))
        case ast.Pass():
            return True
    return False


def assigned(node: ast.stmt) -> set[str]:
    """The names a statement would have bound."""
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that evaluating an expression makes: those inside a lambda come later."""
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)


def _cheap(call: ast.Call, names: Mapping[str, Any]) -> bool:
    """A call of a builtin that makes a value, or of a library: not of the notebook's own functions or objects."""
    root = call.func
    while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return True                             # a method of a value made here; calls that made it are judged too
    if root.id not in names:
        return root.id in CHEAP_BUILTINS
    found = names[root.id]
    home = found.__name__ if isinstance(found, types.ModuleType) else getattr(found, "__module__", None)
    return isinstance(found, types.ModuleType | type) | callable(found) and isinstance(home, str) \
        and home.partition(".")[0] not in OURS
