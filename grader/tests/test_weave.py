"""What the weave promises, on a small made-up course and on whatever lessons are there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import IncludeHeaderFooter, InstantiateTests, SaveCells
from traitlets.config import Config

from grader import weave
from grader.definitions import BEGIN, END, DefinitionError, exercise_text, find_definition
from grader.lessons import ROOT, all_lessons, exercises, find
from grader.names import UnknownName

MODULE = '''"""A module of the made-up course."""

import math
from collections.abc import Sequence
from functools import cache, wraps

SCALE = 2.0                             # a constant


def scaled(x: float) -> float:
    """Multiply by the scale."""
    return SCALE * x


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ### BEGIN SOLUTION
    total = math.fsum(values)           # without rounding on the way
    return total / len(values)
    ### END SOLUTION


# about the next one, and no part of it
@cache
def factorial(n: int) -> int:
    """n!"""

    # first the small ones
    if n < 2:
        return 1
    return n * factorial(n - 1)
    # nothing else


class Tally:
    """Counts."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, number: int) -> int:
        """Add and tell."""
        ### BEGIN SOLUTION
        self.count = self.count + number
        return self.count
        ### END SOLUTION

    def twice(self, number: int) -> int:
        """Add two times."""
        self.add(number)
        ### BEGIN SOLUTION
        return self.add(number) + 0
        ### END SOLUTION
'''

LESSON = '''---
title: not part of the notebook
---
# A made-up lesson

Some words.

```{code-cell} ipython3
import math
from builtins import print as check
from collections.abc import Sequence
from functools import cache
```

Words in the middle.

```{code-cell} ipython3
:tags: [demo]

numbers = [3.0, 5.0]
largest = max(number for number in numbers)
```

```{code-cell} ipython3
:include: solutions.toy.SCALE
```

```{code-cell} ipython3
:include: solutions.toy.scaled
```

```{code-cell} ipython3
:exercise: solutions.toy.mean
:points: 4
:difficulty: 2
:minutes: 15
```

```{code-cell} ipython3
mean(numbers)
```

```{code-cell} ipython3
:exercise: solutions.toy.factorial
:points: 1
:difficulty: 1
:minutes: 5
```

```{code-cell} ipython3
:exercise: solutions.toy.Tally
:points: 2.5
:difficulty: 3
:minutes: 20
```

+++ {"answer": "why", "points": 3}

Why is the mean not enough?

### BEGIN MARK SCHEME
- the rubric: one point for outliers
### END MARK SCHEME

+++

The last words.
'''


class Course:
    """A course of one lesson in a folder of its own."""

    def __init__(self, root: Path, lesson: str = LESSON, module: str = MODULE) -> None:
        self.root, self.lesson, self.module = root, lesson, module
        self.registry = {f"toy-{name}": SimpleNamespace(hints=("idea", "equation", "code"), points=points)
                         for name, points in (("mean", 4.0), ("factorial", 1.0), ("Tally", 2.5))}
        self.write()

    def write(self) -> None:
        for place, text in (("lessons/00_toy.md", self.lesson), ("solutions/toy.py", self.module),
                            ("grader/checks/toy.py", "# the checks\n"), ("solutions/other.py", "X = 1\n"),
                            ("grader/checks/other.py", "# other checks\n")):
            path = self.root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def edit(self, what: str, old: str, new: str) -> None:
        text = getattr(self, what)
        assert text.count(old) == 1, f"{old!r} must be in the {what} exactly once"
        setattr(self, what, text.replace(old, new))
        self.write()

    @property
    def source(self):
        return find("00", self.root)

    def instructor(self) -> nbformat.NotebookNode:
        return weave.instructor_notebook(self.source, self.root, self.registry)

    def learner(self) -> nbformat.NotebookNode:
        return weave.learner_notebook(self.source, self.root, self.registry)

    def build(self, check: bool = False) -> list[str]:
        return weave.build(self.root, check, self.registry)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


def by_grade_id(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


# what comes out -------------------------------------------------------------------------------------------------

def test_cells_come_in_the_order_of_the_lesson(course):
    cells = course.instructor().cells
    assert [cell.metadata.get("nbgrader", {}).get("grade_id", cell.source.split("\n")[0]) for cell in cells] == [
        "# A made-up lesson", "import math", "Words in the middle.", "numbers = [3.0, 5.0]",
        "include-toy-SCALE", "include-toy-scaled",
        "about-toy-mean", "toy-mean", "check-toy-mean", "mean(numbers)",
        "about-toy-factorial", "toy-factorial", "check-toy-factorial",
        "about-toy-Tally", "toy-Tally", "check-toy-Tally",
        "question-why", "*Write your answer here.*", "The last words.",
    ]


def test_an_exercise_is_three_cells_in_nbgraders_terms(course):
    cells = by_grade_id(course.instructor())
    flags = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}
    about, exercise, graded = cells["about-toy-mean"], cells["toy-mean"], cells["check-toy-mean"]
    assert about.cell_type == "markdown"
    assert about.source == "### `mean`\n\nExercise · 4 points · difficulty 2 of 3 · about 15 minutes"
    assert about.metadata.nbgrader == flags | {"grade_id": "about-toy-mean", "locked": True}
    assert exercise.metadata.nbgrader == flags | {"grade_id": "toy-mean", "solution": True}
    assert exercise.metadata.exercise == {"id": "toy-mean", "points": 4, "difficulty": 2, "minutes": 15}
    assert graded.source == "check(mean)"
    assert graded.metadata.nbgrader == flags | {"grade_id": "check-toy-mean", "grade": True, "locked": True,
                                                "points": 4}
    assert cells["about-toy-factorial"].source.endswith("1 point · difficulty 1 of 3 · about 5 minutes")


def test_tags_stay_and_other_options_do_not(course):
    metadata = [dict(cell.metadata) for cell in course.instructor().cells if "nbgrader" not in cell.metadata]
    assert metadata == [{}, {}, {}, {"tags": ["demo"]}, {}, {"answer": "why"}, {}]


def test_the_learner_sees_a_marked_exercise_up_to_the_marked_part(course):
    assert by_grade_id(course.learner())["toy-mean"].source == '''\
def mean(values: Sequence[float]) -> float:
    """The arithmetic mean. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    # YOUR CODE HERE
    raise NotImplementedError()'''


def test_an_unmarked_function_is_solution_from_its_docstring_on(course):
    instructor, learner = by_grade_id(course.instructor()), by_grade_id(course.learner())
    head = '@cache\ndef factorial(n: int) -> int:\n    """n!"""\n\n'
    assert instructor["toy-factorial"].source == head + '''\
    ### BEGIN SOLUTION
    # first the small ones
    if n < 2:
        return 1
    return n * factorial(n - 1)
    # nothing else
    ### END SOLUTION'''
    assert learner["toy-factorial"].source == head + "    # YOUR CODE HERE\n    raise NotImplementedError()"


def test_a_class_exercise_is_one_cell_with_its_methods_emptied(course):
    stub = by_grade_id(course.learner())["toy-Tally"].source
    assert stub.count("raise NotImplementedError()") == 2
    assert "self.count = start" in stub
    assert "self.add(number)\n        # YOUR CODE HERE" in stub
    names: dict = {}
    exec(stub, names)
    with pytest.raises(NotImplementedError):
        names["Tally"]().add(1)


def test_an_include_is_verbatim_and_read_only(course):
    cells = by_grade_id(course.learner())
    assert cells["include-toy-SCALE"].source == "SCALE = 2.0                             # a constant"
    assert cells["include-toy-scaled"].source in MODULE
    assert cells["include-toy-scaled"].metadata.editable is False


def test_a_constant_may_not_be_an_exercise(course):
    with pytest.raises(DefinitionError, match=r"solutions.toy.SCALE \(toy.py:7\) is not a function or a class"):
        weave.stub_source("solutions.toy.SCALE", course.root)


def test_definition_source_is_the_files_text_without_markers(course):
    source = weave.definition_source("solutions.toy.mean", course.root)
    assert source == MODULE[MODULE.index("def mean"):MODULE.index("\n\n\n# about")].replace(
        f"    {BEGIN}\n", "").replace(f"\n    {END}", "")
    assert weave.definition_source("solutions.toy.factorial", course.root).startswith("@cache\ndef factorial")
    assert weave.definition_source("solutions.toy.factorial", course.root).endswith("    # nothing else")


def test_the_last_of_two_definitions_counts_as_in_python(course):
    course.module += '\n\ndef scaled(x):\n    """Again."""\n    return x\n'
    course.write()
    assert weave.definition_source("solutions.toy.scaled", course.root).startswith("def scaled(x):")


def test_stub_source_is_the_learners_cell(course):
    cells = by_grade_id(course.learner())
    for name in ("mean", "factorial", "Tally"):
        assert weave.stub_source(f"solutions.toy.{name}", course.root) == cells[f"toy-{name}"].source


@pytest.mark.parametrize(("dotted", "message"), [
    ("solutions.toy.meen", "no definition in solutions.toy 'meen'; did you mean mean"),
    ("solutions.tay.mean", "no module 'solutions.tay'; did you mean solutions.toy"),
    ("mean", "names no definition"),
    ("grader.checks.toy.mean", "no module 'grader.checks.toy'"),
])
def test_unknown_definitions_are_told_with_the_nearest(course, dotted, message):
    with pytest.raises(UnknownName, match=message):
        weave.definition_source(dotted, course.root)


# bytes ----------------------------------------------------------------------------------------------------------

def test_two_builds_are_the_same_bytes(tmp_path):
    first, second = Course(tmp_path / "one"), Course(tmp_path / "two")
    assert first.build() == second.build() == ["lessons/00_toy.ipynb is written"]
    assert first.source.notebook.read_bytes() == second.source.notebook.read_bytes()


def test_the_file_is_what_jupyter_would_save(course):
    course.build()
    path = course.source.notebook
    before = path.read_bytes()
    nbformat.write(nbformat.read(path, as_version=4), path)
    assert path.read_bytes() == before


def test_notebook_metadata_is_small_and_there_are_no_outputs(course):
    notebook = course.learner()
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert sorted(notebook.metadata) == ["kernelspec", "language_info", "systematic"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.systematic.lesson == "00_toy"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_ids_are_unique_and_stay_when_other_cells_change(course):
    course.edit("lesson", "Words in the middle.", "Words in the middle.\n\n+++\n\nAgain.\n\n+++\n\nAgain.")
    before = course.learner().cells
    ids = [cell.id for cell in before]
    assert len(set(ids)) == len(ids)
    course.edit("lesson", "Some words.", "Some words.\n\n+++\n\nA paragraph of its own.")
    after = [cell.id for cell in course.learner().cells]
    assert len(after) == len(ids) + 1
    changed = [old for old in ids if old not in after]
    assert changed == []
    course.edit("module", "total / len(values)", "sum(values) / len(values)")
    assert [cell.id for cell in course.learner().cells] == after


@pytest.mark.parametrize(("place", "changes"), [
    ("lessons/00_toy.md", True), ("solutions/toy.py", True), ("grader/checks/toy.py", True),
    ("solutions/other.py", False), ("grader/checks/other.py", False),
])
def test_the_digest_is_of_lesson_definitions_and_checks(course, place, changes):
    def digest() -> str:
        assert course.learner().metadata.systematic == course.instructor().metadata.systematic
        return course.learner().metadata.systematic.digest

    before = digest()
    path = course.root / place
    path.write_text(path.read_text().replace("total / len(values)", "total / len( values )") + "\n# more\n")
    assert (digest() != before) is changes


def test_check_tells_what_differs_and_writes_nothing(course):
    notebook = course.source.notebook
    assert course.build(check=True) == ["lessons/00_toy.ipynb is missing: run `course build` and commit it"]
    assert not notebook.exists()
    course.build()
    assert course.build(check=True) == []
    before = notebook.stat().st_mtime_ns
    assert course.build() == []
    assert notebook.stat().st_mtime_ns == before, "a notebook that is right is left alone"
    edited = notebook.read_text().replace("The last words.", "My last words.")
    notebook.write_text(edited)
    line = edited[:edited.index("My last words.")].count("\n") + 1
    assert course.build(check=True) == [f"lessons/00_toy.ipynb is not what its source gives, first on line {line}: "
                                        "run `course build` and commit it"]
    notebook.write_text(edited.replace("My last words.", "The last words.").rstrip("\n"))
    assert len(course.build(check=True)) == 1
    course.build()
    (notebook.parent / "07_gone.ipynb").write_text("{}")
    assert course.build(check=True) == [
        "lessons/07_gone.ipynb has no source lessons/07_gone.md: delete it or restore that"]


# what a learner must not get ------------------------------------------------------------------------------------

def solution_lines(text: str) -> list[str]:
    """The lines of a definition's solution regions that say something of their own."""
    regions = re.findall(rf"{BEGIN}\n(.*?){END}", text, re.DOTALL)
    lines = [line.strip() for region in regions for line in region.split("\n")]
    return [line for line in lines if len(line) >= 12]


def leaked(notebook: nbformat.NotebookNode, lines: list[str]) -> list[str]:
    everything = json.dumps(notebook.metadata) + "".join(
        f"{cell.source}\n{json.dumps(cell.metadata)}\n" for cell in notebook.cells)
    return [line for line in lines if line in everything]


def test_no_solution_and_no_rubric_reaches_the_learner(course):
    secret = [line for name in ("mean", "factorial", "Tally")
              for line in solution_lines(exercise_text(find_definition(f"solutions.toy.{name}", course.root)))]
    assert len(secret) == 8
    secret.append("the rubric")
    assert leaked(course.instructor(), secret) == secret
    assert leaked(course.learner(), secret) == []


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.name)
def test_no_solution_line_of_a_real_lesson_reaches_the_learner(lesson):
    instructor, learner = weave.instructor_notebook(lesson), weave.learner_notebook(lesson)
    secret = [line for cell in exercises(instructor) for line in solution_lines(instructor.cells[cell.index].source)]
    assert leaked(instructor, secret) == secret
    assert leaked(learner, secret) == []
    assert len(exercises(learner)) == len(re.findall(r"^:exercise:", lesson.source.read_text(), re.MULTILINE))
    for cell in exercises(learner):
        assert "raise NotImplementedError()" in learner.cells[cell.index].source


def test_the_committed_notebooks_are_what_their_sources_give():
    assert weave.build(ROOT, check=True) == []


# what is refused ------------------------------------------------------------------------------------------------

MEAN = ":exercise: solutions.toy.mean\n:points: 4\n:difficulty: 2\n:minutes: 15"
SCALED = ":include: solutions.toy.scaled"


def in_lesson(old: str, new: str, problem: str, at: str) -> tuple:
    return "lesson", old, new, problem, at


def in_module(old: str, new: str, problem: str, at: str = MEAN) -> tuple:
    return "module", old, new, problem, at


REFUSALS = {
    "no points": in_lesson(
        ":points: 4\n", "", "points must be a positive number, got none", ":exercise: solutions.toy.mean"),
    "points in words": in_lesson(
        ":points: 4", ":points: four", "points must be a positive number, got 'four'", "toy.mean"),
    "points true": in_lesson(":points: 4", ":points: true", "points must be a positive number, got True", "toy.mean"),
    "no points at all": in_lesson(":points: 4", ":points: 0", "points must be a positive number, got 0", "toy.mean"),
    "points without end": in_lesson(
        ":points: 4", ":points: .inf", "points must be a positive number, got inf", "toy.mean"),
    "no difficulty": in_lesson(":difficulty: 2\n", "", "difficulty must be 1, 2 or 3, got none", "toy.mean"),
    "difficulty 4": in_lesson(":difficulty: 2", ":difficulty: 4", "difficulty must be 1, 2 or 3, got 4", "toy.mean"),
    "difficulty true": in_lesson(
        ":difficulty: 1", ":difficulty: true", "difficulty must be 1, 2 or 3, got True", "toy.factorial"),
    "no minutes": in_lesson(":minutes: 15\n", "", "minutes must be a positive number, got none", "toy.mean"),
    "minutes negative": in_lesson(
        ":minutes: 15", ":minutes: -15", "minutes must be a positive number, got -15", "toy.mean"),
    "misspelt option": in_lesson(
        ":minutes: 15", ":minutes: 15\n:dificulty: 2", "no option 'dificulty'; did you mean difficulty?",
        "toy.mean"),
    "misspelt kind": in_lesson(
        SCALED, ":inclde: solutions.toy.scaled", "no option 'inclde'; did you mean include", ":inclde:"),
    "option of another kind": in_lesson(
        SCALED, SCALED + "\n:points: 3", "option 'points' does not belong to this cell", SCALED),
    "exercise and include": in_lesson(
        MEAN, MEAN + "\n:include: solutions.toy.mean", "option 'include' does not belong to this cell", MEAN),
    "misspelt option of a text": in_lesson(
        '{"answer": "why", "points": 3}', '{"answer": "why", "points": 3, "tag": 1}',
        "no option 'tag'; did you mean tags?", '"tag": 1'),
    "unknown module": in_lesson(
        SCALED, ":include: solutions.tois.scaled", "no module 'solutions.tois'; did you mean solutions.toy",
        "tois"),
    "unknown definition": in_lesson(
        ":exercise: solutions.toy.factorial\n", ":exercise: solutions.toy.factorials\n",
        "no definition in solutions.toy 'factorials'; did you mean factorial?", "factorials"),
    "a number for a name": in_lesson(SCALED, ":include: 3", "'' names no definition", ":include: 3"),
    "body in an exercise": in_lesson(MEAN, MEAN + "\n\nx = 1", "the body of an exercise must be empty", MEAN),
    "body in an include": in_lesson(SCALED, SCALED + "\n\nx = 1", "the body of an include must be empty", SCALED),
    "include twice": in_lesson(
        SCALED, SCALED + "\n```\n\n```{code-cell} ipython3\n:tags: [b]\n" + SCALED,
        "include toy-scaled is there already", ":tags: [b]"),
    "include of an exercise": in_lesson(
        SCALED, ":include: solutions.toy.mean", "including solutions.toy.mean would give away",
        ":include: solutions.toy.mean"),
    "a cell that binds an exercise": in_lesson(
        "mean(numbers)", "from statistics import mean", "this cell binds mean, which is an exercise",
        "import mean"),
    "name never bound": in_lesson(
        "from collections.abc import Sequence\n", "",
        "solutions.toy.mean uses Sequence, bound by no earlier cell; toy.py has: from collections.abc import "
        "Sequence",
        MEAN),
    "names of exercise and body": in_lesson(
        "import math\n", "", "solutions.toy.mean uses math, bound by no earlier cell; toy.py has: import math",
        MEAN),
    "decorator not bound": in_lesson(
        "from functools import cache\n", "",
        "solutions.toy.factorial uses cache, bound by no earlier cell; toy.py has: from functools import cache",
        "toy.factorial"),
    "include that is needed": in_lesson(
        ":include: solutions.toy.SCALE\n", "X = 1\n",
        "solutions.toy.scaled uses SCALE, bound by no earlier cell; toy.py has: :include: solutions.toy.SCALE",
        SCALED),
    "cell uses a later name": in_lesson(
        "numbers = [3.0, 5.0]", "numbers = [3.0, 5.0]\nmean(numbers)",
        "this cell uses mean, bound by no earlier cell", "mean(numbers)"),
    "an argument of another cell": in_lesson(
        "largest = max(number for", "largest = max(numbr for", "this cell uses numbr, bound by no earlier cell",
        "largest = max("),
    "not Python": in_lesson("mean(numbers)", "%timeit mean(numbers)", "not plain Python", "%timeit"),
    "star import": in_lesson(
        "import math\n", "import math\nfrom cmath import *\n", "import names one by one, not *", "import math"),
    "a long cell": in_lesson(
        "mean(numbers)", "\n".join(["mean(numbers)"] * 26), "this cell has 26 lines, the most is 25",
        "mean(numbers)"),
    "first cell not imports": in_lesson(
        "import math\n", "import math\nseed = 0\n", "the first code cell must hold the imports and nothing else",
        "import math"),
    "first cell empty": in_lesson(
        "Some words.\n", "Some words.\n\n```{code-cell} ipython3\n```\n",
        "the first code cell must hold the imports and nothing else", "```{code-cell}"),
    "nbgrader's words in text": in_lesson(
        "The last words.", "The words END SOLUTION.", "the words 'END SOLUTION'", "The words END"),
    "nbgrader's words in a cell": in_lesson(
        "mean(numbers)", "mean(numbers)\n### BEGIN HIDDEN TESTS", "the words 'BEGIN HIDDEN TESTS'",
        "mean(numbers)"),
    "a rubric without a question": in_lesson(
        '+++ {"answer": "why", "points": 3}\n', "+++\n", "the words 'BEGIN MARK SCHEME'", "Why is the mean"),
    "no rubric": in_lesson("### END MARK SCHEME\n", "", "needs a text and then, to its end, one rubric", '"answer"'),
    "rubric without a question's text": in_lesson("Why is the mean not enough?\n", "", "needs a text", '"answer"'),
    "empty rubric": in_lesson("- the rubric: one point for outliers\n", "", "needs a text", '"answer"'),
    "two rubrics": in_lesson(
        "- the rubric:", "### END MARK SCHEME\n### BEGIN MARK SCHEME\n-", "one rubric", '"answer"'),
    "text after the rubric": in_lesson(
        "### END MARK SCHEME", "### END MARK SCHEME\n\nlost", "one rubric", '"answer"'),
    "question without points": in_lesson(
        '"why", "points": 3', '"why"', "points must be a positive number", '"answer"'),
    "a question's name with a space": in_lesson(
        '"why"', '"why so"', "answer must be the question's name, of letters", '"answer"'),
    "a question twice": in_lesson(
        "The last words.\n",
        'Words.\n\n+++ {"answer": "why", "points": 1}\n\nWhy?\n\n### BEGIN MARK SCHEME\n- x\n### END MARK SCHEME\n',
        "question why is there already", '"points": 1'),
    "options without a text": in_lesson(
        "The last words.\n", '+++ {"tags": ["a"]}\n\n```{code-cell} ipython3\nnumbers\n```\n',
        "these options belong to no text", '"tags"'),
    "another directive": in_lesson(
        "Some words.", "Some words.\n\n```{note}\nMind this.\n```", "'```{note}' is not read as a cell",
        "```{note}"),
    "a cell in a list": in_lesson(
        "Some words.", "- Some words.\n\n  ```{code-cell} ipython3\n  x = 1\n  ```",
        "'```{code-cell} ipython3' is not read as a cell", "  ```{code-cell}"),
    "a raw cell": in_lesson("Some words.", "Some words.\n\n```{raw-cell}\nx\n```", "a raw cell", "```{raw-cell}"),
    "begin without end": in_module(
        "    return total / len(values)\n    ### END SOLUTION\n", "    return total / len(values)\n",
        "line 19: ### BEGIN SOLUTION without ### END"),
    "end without begin": in_module(
        'no values")\n    ### BEGIN SOLUTION\n', 'no values")\n', "line 21: ### END SOLUTION without ### BEGIN"),
    "begin in begin": in_module(
        "    total = math", "    ### BEGIN SOLUTION\n    total = math",
        "line 20: ### BEGIN SOLUTION inside the region begun on line 19"),
    "a marker with other words": in_module(
        'no values")\n    ### BEGIN SOLUTION\n', 'no values")\n    # BEGIN SOLUTION\n',
        "line 19: nbgrader would take this for a marker"),
    "a marker indented wrongly": in_module(
        'no values")\n    ### BEGIN SOLUTION\n', 'no values")\n  ### BEGIN SOLUTION\n',
        "what a learner gets of solutions.toy.mean is not valid Python"),
    "a docstring between markers": in_module(
        '    """The arithmetic mean. Raises ValueError for no values."""\n    if not values:\n'
        '        raise ValueError("no values")\n    ### BEGIN SOLUTION\n',
        '    ### BEGIN SOLUTION\n    """The arithmetic mean. Raises ValueError for no values."""\n',
        "the docstring of solutions.toy.mean is between the markers"),
    "no docstring": in_module(
        '    """The arithmetic mean. Raises ValueError for no values."""\n', "",
        "solutions.toy.mean (toy.py:15) has no docstring"),
    "hidden tests in a definition": in_module(
        "# without rounding on the way", "### BEGIN HIDDEN TESTS", "the words 'BEGIN HIDDEN TESTS'"),
    "nothing to write": in_module(
        '    """n!"""\n\n    # first the small ones\n    if n < 2:\n        return 1\n'
        '    return n * factorial(n - 1)\n    # nothing else\n',
        '    """n!"""\n', "has no body after its docstring", "toy.factorial"),
    "all on one line": in_module('"""n!"""\n', '"""n!"""; n = n\n', "give it its own lines", "toy.factorial"),
    "an annotation not bound": in_module(
        "values: Sequence[float]) -> float", "values: Sequence[float]) -> Real",
        "solutions.toy.mean uses Real, bound by no earlier cell"),
    "a default not bound": in_module(
        "values: Sequence[float])", "values: Sequence[float] = NONE)",
        "solutions.toy.mean uses NONE, bound by no earlier cell"),
    "a nested function's name": in_module(
        "    total = math.fsum(values) ",
        "    def part():\n        return wraps(values)\n    total = math.fsum(values) ",
        "solutions.toy.mean uses wraps, bound by no earlier cell; toy.py has: from functools import wraps"),
    "a class's base": in_module("class Tally:", "class Tally(Base):", "solutions.toy.Tally uses Base", "toy.Tally"),
    "a name in a class's body": in_module(
        '"""Counts."""\n', '"""Counts."""\n\n    limit = LIMIT\n', "solutions.toy.Tally uses LIMIT", "toy.Tally"),
    "a class that names itself too early": in_module(
        "    def add(self, number: int) -> int:", "    def add(self, number: int) -> Tally:",
        "solutions.toy.Tally uses Tally", "toy.Tally"),
    "a method's annotation": in_module(
        "start: int = 0) -> None", "start: Count = 0) -> None", "solutions.toy.Tally uses Count", "toy.Tally"),
    "markers around a method": in_module(
        '    def add(self, number: int) -> int:\n        """Add and tell."""\n        ### BEGIN SOLUTION\n',
        '    ### BEGIN SOLUTION\n    def add(self, number: int) -> int:\n        """Add and tell."""\n',
        "the markers of solutions.toy.Tally are around methods", "toy.Tally"),
}


def refusal(course: Course) -> list[str]:
    with pytest.raises(weave.LessonError) as caught:
        course.learner()
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def points_at(problem: str, lesson: str, text: str) -> bool:
    """Whether a problem names the line of this text, or the beginning of the code cell that has it."""
    lines = lesson.split("\n")
    number = int(re.match(r"lessons/00_toy\.md:(\d+): ", problem)[1])
    cell = "\n".join(lines[number:]).split("\n```")[0]
    return text in lines[number - 1] or (lines[number - 1].startswith("```{code-cell}") and text in cell)


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_with_one_reason_and_its_place(course, name):
    what, old, new, expected, at = REFUSALS[name]
    course.edit(what, old, new)
    problems = refusal(course)
    assert len(problems) == 1, problems
    assert expected in problems[0]
    assert points_at(problems[0], course.lesson, at), problems


def test_every_exercise_needs_check(course):
    course.edit("lesson", "print as check", "print as checked")
    assert [problem.split(": ", 1)[1] for problem in refusal(course)] == [
        f"check({name}) uses check, bound by no earlier cell; from grader import check"
        for name in ("mean", "factorial", "Tally")]


def test_all_reasons_are_told_at_once_in_the_order_of_the_lesson(course):
    course.edit("lesson", "import math\n", "")
    course.edit("lesson", ":difficulty: 2", ":difficulty: 5")
    course.edit("lesson", "The last words.", "AUTOTEST")
    problems = refusal(course)
    assert [re.split(r":\d+: ", problem)[1][:30] for problem in problems] == [
        "difficulty must be 1, 2 or 3, ", "solutions.toy.mean uses math, ", "nbgrader would act upon the wo"]
    lines = [int(problem.split(":")[1]) for problem in problems]
    assert lines == sorted(lines)


def test_an_exercise_twice(course):
    course.edit("lesson", "The last words.", f"```{{code-cell}} ipython3\n{MEAN}\n```")
    first = course.lesson.split("\n").index(":exercise: solutions.toy.mean")
    assert [problem.split(": ", 1)[1] for problem in refusal(course)] == [
        f"solutions.toy.mean is an exercise already, on line {first}"]


def test_two_exercises_of_one_name(course):
    (course.root / "solutions" / "stats.py").write_text('def mean(values):\n    """Mean."""\n    return sum(values)\n')
    course.registry["stats-mean"] = course.registry["toy-mean"]
    course.edit("lesson", "The last words.", f"```{{code-cell}} ipython3\n{MEAN.replace('toy', 'stats')}\n```")
    first = course.lesson.split("\n").index(":exercise: solutions.toy.mean")
    assert [problem.split(": ", 1)[1] for problem in refusal(course)] == [
        f"solutions.stats.mean has the name of solutions.toy.mean, an exercise on line {first}"]


def test_a_class_exercise_must_be_marked(course):
    course.module = course.module.replace(f"        {BEGIN}\n", "").replace(f"        {END}\n", "")
    course.write()
    problem, = refusal(course)
    assert "solutions.toy.Tally (toy.py:37) is a class: mark what is to be written in its methods" in problem


def test_a_module_that_is_not_python(course):
    course.edit("module", "def scaled(x: float)", "def scaled(x: float")
    problems = refusal(course)
    assert all(" solutions/toy.py:10: not valid Python" in problem for problem in problems)
    assert len(problems) == 5


@pytest.mark.parametrize(("change", "message"), [
    (lambda registry: registry.pop("toy-mean"), "toy-mean has no checks in grader/checks/toy.py"),
    (lambda registry: setattr(registry["toy-mean"], "hints", ("one", "two")), "must have three hints, it has 2"),
    (lambda registry: setattr(registry["toy-mean"], "hints", ("one", "two", " ")), "must have three hints"),
    (lambda registry: setattr(registry["toy-mean"], "points", 3.5), "toy-mean is worth 4 here and its properties 3.5"),
])
def test_an_exercise_needs_checks_hints_and_their_points(course, change, message):
    change(course.registry)
    problem, = refusal(course)
    assert message in problem
    assert points_at(problem, course.lesson, MEAN)


@pytest.mark.parametrize(("old", "new", "reason"), [
    (":points: 4", ":points: [4", "Invalid YAML"),
    (":points: 4\n", ":points\n", "Invalid YAML"),
    (":tags: [demo]", ":tags: demo", "'demo' is not of type 'array'"),
    (":tags: [demo]", ":demo", "'demo' is not of type 'object'"),
    ('"points": 3}', '"points": 3', "Expecting ',' delimiter"),
    ("title: not part of the notebook", "title: [not", "Notebook metadata"),
])
def test_options_that_cannot_be_read_are_told_with_their_line(course, old, new, reason):
    course.edit("lesson", old, new)
    problem, = refusal(course)
    assert reason in problem
    number = int(problem.split(":")[1])
    assert new.strip() in "\n".join(course.lesson.split("\n")[:number])
    assert new.strip() not in "\n".join(course.lesson.split("\n")[:number - 3])


def test_nothing_is_written_when_one_lesson_is_refused(course):
    (course.root / "lessons" / "01_bad.md").write_text("# Bad\n\n```{code-cell} ipython3\nx = 1\n```\n")
    (course.root / "lessons" / "01_worse.md").write_text("# Worse\n")
    with pytest.raises(weave.LessonError) as caught:
        course.build()
    assert caught.value.problems == [
        "lessons/01_bad.md:3: the first code cell must hold the imports and nothing else",
        "lessons/01_bad.md: lesson 01 is there twice", "lessons/01_worse.md: lesson 01 is there twice"]
    assert list((course.root / "lessons").glob("*.ipynb")) == []


def test_a_cell_of_25_lines_is_short_enough(course):
    course.edit("lesson", "mean(numbers)", "\n".join(["mean(numbers)"] * 25))
    assert "\n".join(["mean(numbers)"] * 25) in [cell.source for cell in course.learner().cells]


def test_what_runs_from_top_to_bottom_is_not_refused(course):
    course.edit("lesson", "The last words.", """\
```{code-cell} ipython3
def plot(values, *, scale=SCALE):
    kept = {value: index for index, value in enumerate(values) if (rest := value) > 0}
    def inner():
        nonlocal kept
        kept = [later(value) for value in kept]
        return kept, rest
    return inner, scale, __name__

def later(value):
    return value

for number in numbers:
    total = number
    print(total)
display([plot(numbers) for _ in range(2)])
```""")
    assert course.instructor().cells[-1].source.startswith("def plot")


# nbgrader -------------------------------------------------------------------------------------------------------

def test_our_preprocessors_are_those_of_generate_assignment():
    ours = [*weave.PREPROCESSORS]
    theirs = GenerateAssignment(coursedir=None).preprocessors
    assert ours == [each for each in theirs if each not in (IncludeHeaderFooter, InstantiateTests, SaveCells)]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A course folder in which `nbgrader generate_assignment` has run on the instructor's notebook."""
    folder = tmp_path_factory.mktemp("released")
    course = Course(folder / "repository")
    source = folder / "class" / "source" / "00_toy" / "00_toy.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text(weave.serialise(course.instructor()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:       # nbgrader starts its `alembic` by name
        environment.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        done = subprocess.run([sys.executable, "-m", "nbgrader", "generate_assignment", "00_toy"],
                              cwd=folder / "class", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        yield course, folder / "class"


def test_generate_assignment_makes_the_notebook_that_we_make(released):
    course, folder = released
    theirs = (folder / "release" / "00_toy" / "00_toy.ipynb").read_text(encoding="utf-8")
    assert json.loads(theirs) == json.loads(weave.serialise(course.learner()))


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")         # nbgrader's own
def test_a_question_comes_back_with_its_rubric_to_whoever_grades(released):
    course, folder = released
    notebook = course.learner()
    answer, = (cell for cell in notebook.cells if "answer" in cell.metadata)
    answer.source = "Because of outliers."
    submitted = folder / "submitted" / "ada" / "00_toy" / "00_toy.ipynb"
    submitted.parent.mkdir(parents=True)
    submitted.write_text(weave.serialise(notebook), encoding="utf-8")
    api = NbGraderAPI(config=Config(CourseDirectory={"root": str(folder)}))
    done = api.autograde("00_toy", "ada")
    assert done["success"], done["log"]
    graded = json.loads((folder / "autograded" / "ada" / "00_toy" / "00_toy.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in graded["cells"])
    assert "the rubric: one point for outliers" in text
    assert "Because of outliers." in text
    with api.gradebook as gradebook:
        scores = {grade.name: grade for sheet in gradebook.find_submission("00_toy", "ada").notebooks
                  for grade in sheet.grades}
        assert {name: grade.max_score for name, grade in scores.items()} == {
            "check-toy-mean": 4, "check-toy-factorial": 1, "check-toy-Tally": 2.5, "question-why": 3}
        assert [name for name, grade in scores.items() if grade.needs_manual_grade] == ["question-why"]
        scores["question-why"].manual_score, scores["question-why"].needs_manual_grade = 2, False
        gradebook.db.commit()
    done = api.generate_feedback("00_toy", "ada")
    assert done["success"], done["log"]
    feedback = (folder / "feedback" / "ada" / "00_toy" / "00_toy.html").read_text(encoding="utf-8")
    assert re.search(r"Task</a> \(Score: 2.0 / 3.0\)", feedback)
