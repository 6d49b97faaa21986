"""What a lesson must hold to: each exercise once and with its checks, short cells, and no name before it is bound."""

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbformat import NotebookNode

from grader import scopes
from grader.definitions import Definition, binding

LONGEST_CELL = 25

Tell = Callable[[int, str], None]       # a line of the lesson's source, and what is wrong there


class Piece(NamedTuple):
    """A cell of the notebook, the line of the source it comes from, and what it shows of a module, if anything."""

    kind: str                           # text, question, code, exercise, graded, include
    cell: NotebookNode
    line: int
    body: int
    dotted: str = ""
    definition: Definition | None = None

    @property
    def name(self) -> str:
        return self.dotted.rpartition(".")[2]


def require_each_once(pieces: list[Piece], tell: Tell) -> None:
    exercises: dict[str, Piece] = {}
    grade_ids: set[str] = set()
    for piece in pieces:
        if piece.kind == "exercise" and piece.name in exercises:
            first = exercises[piece.name]
            tell(piece.line, f"{piece.dotted} is an exercise already, on line {first.line}" if first.dotted ==
                 piece.dotted else f"{piece.dotted} has the name of {first.dotted}, an exercise on line {first.line}")
        elif piece.kind == "exercise":
            exercises[piece.name] = piece
        grade_id = piece.cell.metadata.get("nbgrader", {}).get("grade_id")
        if piece.kind in ("include", "question") and grade_id and grade_id in grade_ids:
            tell(piece.line, f"{grade_id.replace('-', ' ', 1)} is there already")
        grade_ids.add(grade_id)
    for piece in pieces:
        if piece.kind == "include" and piece.name in exercises:
            tell(piece.line, f"including {piece.dotted} would give away or replace the exercise of that name")
        if piece.kind == "code" and (tree := _tree(piece)):
            for name in sorted(scopes.bound(tree) & set(exercises)):
                tell(piece.line, f"this cell binds {name}, which is an exercise; give it another name")


def require_checks(pieces: list[Piece], registry: Mapping[str, Any] | None, tell: Tell) -> None:
    """Every exercise has checks, three hints, and the points that its properties add up to."""
    exercises = [piece for piece in pieces if piece.kind == "exercise" and piece.definition]
    if exercises and registry is None:
        from grader import judge  # it imports torch and every check; only this needs them
        registry = judge.exercises()
    for piece in exercises:
        identity, points = piece.definition.identity, piece.cell.metadata["exercise"]["points"]
        known = registry.get(identity)
        if known is None:
            tell(piece.line, f"{identity} has no checks in grader/checks/{piece.definition.module}.py")
            continue
        if len(known.hints) != 3 or not all(isinstance(hint, str) and hint.strip() for hint in known.hints):
            tell(piece.line, f"{identity} must have three hints, it has {len(known.hints)}")
        if not math.isnan(points) and not math.isclose(known.points, points):
            tell(piece.line, f"{identity} is worth {points:g} here and its properties {known.points:g} together")


def require_style(pieces: list[Piece], tell: Tell) -> None:
    code = [piece for piece in pieces if piece.kind in ("code", "exercise", "include")]
    for piece in code:
        length = len(piece.cell.source.splitlines())
        if piece.kind == "code" and length > LONGEST_CELL:
            tell(piece.line, f"this cell has {length} lines, the most is {LONGEST_CELL}")
    if code and (code[0].kind != "code" or not _only_imports(_tree(code[0]))):
        tell(code[0].line, "the first code cell must hold the imports and nothing else")


def require_names(pieces: list[Piece], tell: Tell) -> None:
    """A notebook run from top to bottom must find every name it looks up."""
    earlier: set[str] = set()
    for piece in pieces:
        if piece.cell.cell_type != "code":
            continue
        try:
            tree = ast.parse(piece.cell.source)
        except SyntaxError as error:
            tell(piece.body + (error.lineno or 1) - 1, f"not plain Python: {error.msg}")
            continue
        if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)):
            tell(piece.line, "import names one by one, not *")
        missing = scopes.missing(tree, earlier)
        if missing:
            names = [lookup.name for lookup in missing]
            line = piece.body + missing[0].line - 1 if piece.kind == "code" else piece.line
            tell(line, f"{_called(piece)} uses {' and '.join(names)}, bound by no earlier cell{_advice(piece, names)}")
        earlier |= scopes.bound(tree) | ({piece.name} if piece.dotted else set())


def _called(piece: Piece) -> str:
    return {"code": "this cell", "graded": piece.cell.source}.get(piece.kind, piece.dotted)


def _advice(piece: Piece, names: list[str]) -> str:
    if piece.kind == "graded":
        return "; from grader import check"
    if piece.definition is None:
        return ""
    lines = dict.fromkeys(filter(None, (binding(piece.definition, name) for name in names)))
    return f"; {piece.definition.path.name} has: {', '.join(lines)}" if lines else ""


def _tree(piece: Piece) -> ast.Module | None:
    try:
        return ast.parse(piece.cell.source)
    except SyntaxError:                 # told where names are looked for
        return None


def _only_imports(tree: ast.Module | None) -> bool:
    if tree is None:
        return True
    return bool(tree.body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
