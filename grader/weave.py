"""From a lesson's source to its notebooks: lessons/NN_slug.md and the definitions it names, to NN_slug.ipynb.

A lesson is MyST Markdown as jupytext reads it, in one language. Its cells are

- text. It ends where a code cell begins; a line `+++` alone begins a new text cell.

- a question that is graded by hand. The rubric is for the instructor: it never reaches the learner's notebook and is
  back in front of whoever grades (nbgrader calls this a manually graded task with a mark scheme). A free text cell
  for the answer follows by itself:

      +++ {"answer": "open-question", "points": 3}

      What would you expect, and why?

      ### BEGIN MARK SCHEME
      - one point for ...
      ### END MARK SCHEME

      +++

- ordinary code, 25 lines at most, `:tags:` if wanted. The first code cell holds the imports, nothing else:

      ```{code-cell} ipython3
      lookup_scores.plot()
      ```

- an exercise, with an empty body. The weave puts a heading before it, the definition in it and a graded cell that
  calls `check` after it:

      ```{code-cell} ipython3
      :exercise: solutions.dnc.content_lookup
      :points: 4
      :difficulty: 2
      :minutes: 15
      ```

- an include, with an empty body: the definition as it is, read-only:

      ```{code-cell} ipython3
      :include: solutions.dnc.oneplus
      ```

Only the instructor's notebook is made here; nbgrader's own preprocessors make the learner's from it. The same source
gives the same bytes. Whatever would make a lesson that cannot be worked through is refused with all its reasons.
"""

import ast
import bisect
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml
from jupytext.myst import MystMetadataParsingError, myst_to_notebook
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

from grader import lesson_rules
from grader.definitions import Definition, definition_source, exercise_text, find_definition
from grader.lesson_rules import Piece, Tell
from grader.lessons import ROOT, Lesson, all_lessons
from grader.names import CourseError, nearest
from solutions.files import write_whole

__all__ = ["LessonError", "build", "definition_source", "instructor_notebook", "learner_notebook", "serialise",
           "stub_source"]

OPTIONS = {
    "exercise": ("exercise", "points", "difficulty", "minutes", "tags"),
    "include": ("include", "tags"),
    "answer": ("answer", "points", "tags"),
    "code": ("tags",),
    "markdown": ("tags",),
}
# what nbgrader's `generate_assignment` does, in its order, less what needs its database or a kernel
PREPROCESSORS = (LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ComputeChecksums, ClearHiddenTests,
                 ClearMarkScheme, ComputeChecksums, CheckCellMetadata)
# words that nbgrader acts upon wherever it finds them
NBGRADER_WORDS = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS|MARK SCHEME)|AUTOTEST")
MARK_SCHEME = re.compile(r"(?ms)(.*\S.*?)^### BEGIN MARK SCHEME$(.*\S.*)^### END MARK SCHEME$\s*")


class LessonError(CourseError, ValueError):
    """A lesson that cannot be woven; `problems` has a sentence for each reason, with file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def instructor_notebook(lesson: Lesson, root: Path = ROOT, registry: Mapping[str, Any] | None = None) -> NotebookNode:
    """The notebook with solutions and rubrics, as nbgrader's `source` folder wants it.

    registry  the exercises' checks by identity, each with `hints` and `points`; None takes the course's

    Raises LessonError with every reason why the lesson is refused.
    """
    source = lesson.source.read_text(encoding="utf-8")
    place = lesson.source.relative_to(root).as_posix()
    problems: list[tuple[int, str]] = []

    def tell(line: int, text: str) -> None:
        problems.append((line, text))

    try:
        pieces = [piece for cell in _cells(source, tell) for piece in _woven(cell, Path(root), tell)]
    except (MystMetadataParsingError, yaml.YAMLError, nbformat.ValidationError) as error:
        reason = " ".join(str(error).partition("\n\nFailed validating")[0].split())
        raise LessonError([f"{place}:{_first_unreadable(source)}: {reason}"]) from None
    lesson_rules.require_each_once(pieces, tell)
    lesson_rules.require_checks(pieces, registry, tell)
    lesson_rules.require_style(pieces, tell)
    lesson_rules.require_names(pieces, tell)
    if problems:
        raise LessonError([f"{place}:{line}: {text}" for line, text in sorted(set(problems))])
    cells = [piece.cell for piece in pieces]
    _give_ids(cells)
    return new_notebook(cells=cells, metadata={
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "systematic": {"lesson": lesson.name, "digest": _digest(source, pieces, Path(root))},
    })


def learner_notebook(lesson: Lesson, root: Path = ROOT, registry: Mapping[str, Any] | None = None) -> NotebookNode:
    """The notebook a learner gets: what nbgrader makes of the instructor's. Raises LessonError as that does."""
    notebook, resources = instructor_notebook(lesson, root, registry), {}
    for preprocessor in PREPROCESSORS:
        notebook, resources = preprocessor().preprocess(notebook, resources)
    return notebook


def stub_source(dotted: str, root: Path = ROOT) -> str:
    """What a learner finds in the cell of the exercise solutions.dnc.content_lookup.

    Raises UnknownName for no such definition, DefinitionError for one that cannot be an exercise.
    """
    return _stub(exercise_text(find_definition(dotted, root)))


def serialise(notebook: NotebookNode) -> str:
    """The text of a notebook's file: the same notebook gives the same bytes, those that Jupyter writes."""
    return nbformat.writes(notebook) + "\n"


def build(root: Path = ROOT, check: bool = False, registry: Mapping[str, Any] | None = None) -> list[str]:
    """Write the learner's notebook of every lesson beside its source; files that are right are left alone.

    check     write nothing, only say which notebooks are not what their sources give
    registry  as for instructor_notebook
    returns   a sentence for each notebook written or, with check, for each that is missing, differs or has no source

    Raises LessonError with the reasons of all lessons that are refused; then nothing is written.
    """
    lessons, refused, woven = all_lessons(root), [], {}
    for lesson in lessons:
        try:
            woven[lesson] = serialise(learner_notebook(lesson, root, registry))
        except LessonError as error:
            refused += error.problems
    numbers = [lesson.number for lesson in lessons]
    refused += [f"lessons/{lesson.name}.md: lesson {lesson.number} is there twice" for lesson in lessons
                if numbers.count(lesson.number) > 1]
    if refused:
        raise LessonError(refused)
    said = []
    for lesson, text in woven.items():
        present = lesson.notebook.read_bytes() if lesson.notebook.exists() else None
        if present == text.encode():
            continue
        if not check:
            write_whole(lesson.notebook, text)
            said.append(f"lessons/{lesson.name}.ipynb is written")
        elif present is None:
            said.append(f"lessons/{lesson.name}.ipynb is missing: run `course build` and commit it")
        else:
            said.append(f"lessons/{lesson.name}.ipynb is not what its source gives, first on line "
                        f"{_first_difference(present, text.encode())}: run `course build` and commit it")
    for notebook in sorted((Path(root) / "lessons").glob("*.ipynb")):
        if notebook not in [lesson.notebook for lesson in lessons]:
            said.append(f"lessons/{notebook.name} has no source lessons/{notebook.stem}.md: delete it or restore that")
    return said


# reading ----------------------------------------------------------------------------------------------------------

class Cell(NamedTuple):
    """A cell of the source: text, its options, and the lines of the file where it and its text begin."""

    kind: str
    text: str
    options: dict[str, Any]
    line: int
    body: int


def _cells(source: str, tell: Tell) -> list[Cell]:
    notebook = myst_to_notebook(source, add_source_map=True)
    lines, cells = source.splitlines(), []
    for node, start in zip(notebook.cells, notebook.metadata["source_map"], strict=True):
        first = node.source.splitlines()[:1]
        body = next((number for number, line in enumerate(lines[start:], start + 1) if [line] == first), start)
        line = start if node.cell_type != "markdown" or node.metadata else body
        cells.append(Cell(node.cell_type, node.source, dict(node.metadata), line, body))
    _require_nothing_lost(lines, cells, tell)
    return cells


def _first_unreadable(source: str) -> int:
    """The line with which a source that jupytext refuses begins to be refused."""
    lines = source.splitlines()

    def refused(count: int) -> bool:
        try:
            myst_to_notebook("\n".join(lines[:count]))
        except (MystMetadataParsingError, yaml.YAMLError, nbformat.ValidationError):
            return True
        return False

    return bisect.bisect_left(range(len(lines)), True, key=refused)


def _require_nothing_lost(lines: list[str], cells: list[Cell], tell: Tell) -> None:
    """Refuse what jupytext would drop, or leave in the text for JupyterLab to show as it stands."""
    fenced = {number for cell in cells if cell.kind != "markdown"
              for number in range(cell.line, cell.body + len(cell.text.splitlines()) + 1)}
    for number, line in enumerate(lines, 1):
        if number in fenced:
            continue
        if re.match(r"\s*(`{3,}|~{3,})\s*\{", line):
            tell(number, f"{line.strip()!r} is not read as a cell; write ```{{code-cell}} ipython3 at the line's start")
        if re.match(r"\+\+\+\s*\{", line) and number not in [cell.line for cell in cells if cell.options]:
            tell(number, "these options belong to no text; text must follow, not a code cell")


# weaving ----------------------------------------------------------------------------------------------------------

def _woven(cell: Cell, root: Path, tell: Tell) -> list[Piece]:
    kind = next((key for key in ("exercise", "include") if key in cell.options), "code")
    if cell.kind == "markdown":
        kind = "answer" if "answer" in cell.options else "markdown"
    elif cell.kind != "code":
        tell(cell.line, f"a {cell.kind} cell; a lesson has text and code only")
        return []
    for option in cell.options:
        if option not in OPTIONS[kind]:
            known = sorted({name for names in OPTIONS.values() for name in names})
            tell(cell.line, f"option {option!r} does not belong to this cell" if option in known
                 else nearest("option", str(option), known))
    if kind in ("markdown", "code"):
        return _plain(cell, tell)
    if kind == "answer":
        return _question(cell, tell)
    return _shown(kind, cell, root, tell)


def _plain(cell: Cell, tell: Tell) -> list[Piece]:
    _forbid_nbgrader_words(cell, cell.text, tell)
    if cell.kind == "markdown":
        return [Piece("text", new_markdown_cell(cell.text, metadata=_tags(cell)), cell.line, cell.body)]
    return [Piece("code", new_code_cell(cell.text, metadata=_tags(cell)), cell.line, cell.body)]


def _question(cell: Cell, tell: Tell) -> list[Piece]:
    identity, points = cell.options["answer"], _positive(cell, "points", tell)
    if not isinstance(identity, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", identity):
        tell(cell.line, f"answer must be the question's name, of letters, digits, - and _, got {identity!r}")
    parts = MARK_SCHEME.fullmatch(cell.text)
    if parts is None or any(NBGRADER_WORDS.search(part) for part in parts.groups()):
        tell(cell.line, "a question that is graded by hand needs a text and then, to its end, one rubric between lines "
                        "### BEGIN MARK SCHEME and ### END MARK SCHEME")
    question = new_markdown_cell(cell.text, metadata=_tags(cell) | _nbgrader(
        f"question-{identity}", task=True, locked=True, points=points))
    answer = new_markdown_cell("*Write your answer here.*", metadata={"answer": identity})
    return [Piece("question", question, cell.line, cell.body), Piece("text", answer, cell.line, cell.body)]


def _shown(kind: str, cell: Cell, root: Path, tell: Tell) -> list[Piece]:
    """The pieces of an exercise or an include; where its text cannot be had, pieces that only hold its name."""
    dotted = cell.options[kind] if isinstance(cell.options[kind], str) else ""
    definition, text = None, ""
    if cell.text.strip():
        tell(cell.line, f"the body of an {kind} must be empty: it comes from {dotted}")
    try:
        definition = find_definition(dotted, root)
        text = definition.source
        if kind == "exercise":
            text = exercise_text(definition)
            _require_stub(cell, definition, text, tell)
        _forbid_nbgrader_words(cell, definition.source, tell)
    except CourseError as error:        # unknown names, and what cannot be an exercise
        tell(cell.line, str(error))
    if kind == "include":
        metadata = _nbgrader(f"include-{definition.identity}", locked=True) if definition else {}
        shown = new_code_cell(text, metadata=_tags(cell) | metadata)
        return [Piece("include", shown, cell.line, cell.body, dotted, definition)]
    points, minutes = _positive(cell, "points", tell), _positive(cell, "minutes", tell)
    difficulty = cell.options.get("difficulty")
    if type(difficulty) is not int or difficulty not in (1, 2, 3):
        tell(cell.line, f"difficulty must be 1, 2 or 3, got {_said(difficulty)}")
    if definition is None:
        return [Piece("exercise", new_code_cell(""), cell.line, cell.body, dotted)]
    identity = definition.identity
    about = {"id": identity, "points": points, "difficulty": difficulty, "minutes": minutes}
    heading = (f"### `{definition.name}`\n\nExercise · {_count(points, 'point')} · difficulty {difficulty} of 3 · "
               f"about {_count(minutes, 'minute')}")
    return [
        Piece("text", new_markdown_cell(heading, metadata=_nbgrader(f"about-{identity}", locked=True)),
              cell.line, cell.body),
        Piece("exercise", new_code_cell(text, metadata=_tags(cell) | {"exercise": about} | _nbgrader(
            identity, solution=True)), cell.line, cell.body, dotted, definition),
        Piece("graded", new_code_cell(f"check({definition.name})", metadata=_nbgrader(
            f"check-{identity}", grade=True, locked=True, points=points)), cell.line, cell.body),
    ]


def _nbgrader(grade_id: str, **what: Any) -> dict[str, Any]:
    return {"nbgrader": {"schema_version": 3, "grade_id": grade_id, "grade": False, "solution": False,
                         "locked": False, "task": False} | what}


def _tags(cell: Cell) -> dict[str, Any]:
    return {"tags": cell.options["tags"]} if "tags" in cell.options else {}


def _positive(cell: Cell, option: str, tell: Tell) -> int | float:
    value = cell.options.get(option)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        tell(cell.line, f"{option} must be a positive number, got {_said(value)}")
        return math.nan
    return value


def _said(value: Any) -> str:
    return "none" if value is None else repr(value)


def _count(number: float, unit: str) -> str:
    return f"{number:g} {unit}" + ("" if number == 1 else "s")


def _stub(text: str) -> str:
    cell = new_code_cell(text, metadata=_nbgrader("stub", solution=True))
    notebook, _ = ClearSolutions().preprocess(new_notebook(cells=[cell]), {})
    return notebook.cells[0].source


def _give_ids(cells: list[NotebookNode]) -> None:
    """Ids that depend on nothing but the cell itself and its equals before it."""
    seen: dict[str, int] = {}
    for cell in cells:
        key = cell.metadata.get("nbgrader", {}).get("grade_id") or f"{cell.cell_type}\n{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        cell["id"] = hashlib.sha256(f"{seen[key]}\n{key}".encode()).hexdigest()[:12]


def _digest(source: str, pieces: list[Piece], root: Path) -> str:
    shown = [piece for piece in pieces if piece.definition]
    checks = sorted({root / "grader" / "checks" / f"{piece.definition.module}.py" for piece in shown
                     if piece.kind == "exercise"})
    parts = [source, *(piece.dotted + "\n" + piece.definition.text for piece in shown),
             *(path.name + "\n" + path.read_text(encoding="utf-8") for path in checks if path.exists())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _first_difference(old: bytes, new: bytes) -> int:
    pairs = zip(old.split(b"\n"), new.split(b"\n"), strict=False)
    return next((number for number, (left, right) in enumerate(pairs, 1) if left != right),
                min(old.count(b"\n"), new.count(b"\n")) + 1)


def _forbid_nbgrader_words(cell: Cell, text: str, tell: Tell) -> None:
    if match := NBGRADER_WORDS.search(text):
        tell(cell.line, f"nbgrader would act upon the words {match[0]!r} here; they belong in exercises' definitions "
                        "and in questions only")


def _require_stub(cell: Cell, definition: Definition, text: str, tell: Tell) -> None:
    """The cell a learner gets must run, keep its docstring and not say NotImplementedError before it is called."""
    whole = ast.parse(text).body[0]
    try:
        stub = ast.parse(_stub(text)).body[0]
    except SyntaxError as error:
        tell(cell.line, f"what a learner gets of {definition.dotted} is not valid Python ({error.msg}); "
                        "indent the markers like the code between them")
        return
    if ast.get_docstring(stub) != ast.get_docstring(whole):
        tell(cell.line, f"the docstring of {definition.dotted} is between the markers, and a learner would lose it")
    if isinstance(stub, ast.ClassDef) and any(isinstance(statement, ast.Raise) for statement in stub.body):
        tell(cell.line, f"the markers of {definition.dotted} are around methods; put them inside, after the signature")
