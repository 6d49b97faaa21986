"""The text of a definition as its module's file has it, read without importing the module."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

from grader.lessons import ROOT
from grader.names import CourseError, UnknownName, nearest

PACKAGES = ("solutions", "kernels")                 # the only code a lesson may show
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARKER = re.compile(r"(BEGIN|END) SOLUTION")        # what nbgrader takes for a marker, anywhere in a line


class DefinitionError(CourseError, ValueError):
    """A definition that cannot be made an exercise; the message says where and why."""


class Definition(NamedTuple):
    """A top-level definition: its dotted name, the file and line where it begins, its text with its markers."""

    dotted: str
    path: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        return self.dotted.rpartition(".")[2]

    @property
    def module(self) -> str:
        """The last part of the module's name: solutions.dnc -> dnc."""
        return self.dotted.split(".")[-2]

    @property
    def identity(self) -> str:
        """The exercise's name for ever: dnc-content_lookup."""
        return f"{self.module}-{self.name}"

    @property
    def source(self) -> str:
        """The text without the marker lines."""
        return "\n".join(line for line in self.text.split("\n") if line.strip() not in (BEGIN, END))


def definition_source(dotted: str, root: Path = ROOT) -> str:
    """The source text of solutions.dnc.content_lookup, comments and decorators included, marker lines left out.

    Raises UnknownName with the nearest names.
    """
    return find_definition(dotted, root).source


def find_definition(dotted: str, root: Path = ROOT) -> Definition:
    """A function, class or assignment at the top level of a module. Raises UnknownName with the nearest names."""
    module, _, name = dotted.rpartition(".")
    if not module:
        raise UnknownName(f"{dotted!r} names no definition; write its module too, as in solutions.dnc.content_lookup")
    path = _module_path(module, Path(root))
    lines, statements = _parsed(path)
    matches = [statement for statement in statements if name in _names(statement)]
    if not matches:
        known = sorted({each for statement in statements for each in _names(statement)})
        raise UnknownName(nearest(f"definition in {module}", name, known))
    statement = matches[-1]                         # as in Python, the last one counts
    first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", []))])
    return Definition(dotted, path, first, "\n".join(lines[first - 1:_end(lines, statement.end_lineno)]))


def exercise_text(definition: Definition) -> str:
    """A definition with the learner's part between nbgrader's markers: as it is marked, or all after its docstring.

    Raises DefinitionError when it cannot be an exercise.
    """
    statement = ast.parse(definition.text).body[0]
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise _refused(definition, "is not a function or a class")
    if ast.get_docstring(statement) is None:
        raise _refused(definition, "has no docstring, and a learner would have nothing to work from")
    lines = definition.text.split("\n")
    if MARKER.search(definition.text):
        _require_balanced(definition, lines)
        return definition.text
    if isinstance(statement, ast.ClassDef):
        raise _refused(definition, f"is a class: mark what is to be written in its methods with {BEGIN} and {END}")
    docstring, *body = statement.body
    if not body:
        raise _refused(definition, "has no body after its docstring, so there is nothing to write")
    if docstring.lineno == statement.lineno or body[0].lineno == docstring.end_lineno:
        raise _refused(definition, "has its body on the line of its signature or docstring; give it its own lines")
    start = docstring.end_lineno
    while not lines[start].strip():
        start += 1
    indent = " " * docstring.col_offset
    return "\n".join([*lines[:start], indent + BEGIN, *lines[start:], indent + END])


def binding(definition: Definition, name: str) -> str | None:
    """How the definition's own module comes by a name, as a line for a lesson: the import, or an include."""
    _, statements = _parsed(definition.path)
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                if name == (alias.asname or alias.name.partition(".")[0]):
                    statement.names = [alias]
                    return ast.unparse(statement)
        elif name in _names(statement):
            return f":include: {definition.dotted.rpartition('.')[0]}.{name}"
    return None


def _module_path(module: str, root: Path) -> Path:
    parts = module.split(".")
    if parts[0] in PACKAGES and all(part.isidentifier() for part in parts):
        place = root.joinpath(*parts)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    known = sorted(".".join(path.relative_to(root).with_suffix("").parts) for package in PACKAGES
                   for path in (root / package).rglob("*.py") if "tests" not in path.parts)
    raise UnknownName(nearest("module", module, [name for name in known if not name.endswith("__init__")]))


def _parsed(path: Path) -> tuple[list[str], list[ast.stmt]]:
    text = path.read_text(encoding="utf-8")
    try:
        return text.split("\n"), ast.parse(text).body
    except SyntaxError as error:
        raise DefinitionError(f"{path.parent.name}/{path.name}:{error.lineno}: not valid Python: {error.msg}") from None


def _names(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _end(lines: list[str], end: int) -> int:
    """The last line of a statement that ends at line `end`, with the indented comments that follow: a closing
    marker is a comment, and no part of the syntax tree."""
    for number in range(end, len(lines)):
        if lines[number][:1].isspace() and lines[number].strip():
            end = number + 1
        elif lines[number].strip():
            break
    return end


def _require_balanced(definition: Definition, lines: list[str]) -> None:
    opened = 0                                      # the line of the marker that is open
    for number, line in enumerate(lines, definition.line):
        if not MARKER.search(line):
            continue
        if line.strip() not in (BEGIN, END):
            raise _refused(definition, f"line {number}: nbgrader would take this for a marker; write {BEGIN!r} or "
                                       f"{END!r} on a line of its own, or other words")
        if line.strip() == BEGIN and opened:
            raise _refused(definition, f"line {number}: {BEGIN} inside the region begun on line {opened}")
        if line.strip() == END and not opened:
            raise _refused(definition, f"line {number}: {END} without {BEGIN}")
        opened = number if line.strip() == BEGIN else 0
    if opened:
        raise _refused(definition, f"line {opened}: {BEGIN} without {END}")


def _refused(definition: Definition, why: str) -> DefinitionError:
    return DefinitionError(f"{definition.dotted} ({definition.path.name}:{definition.line}) {why}")
