"""How far a learner is, from the records of their checks and the notebooks in work/."""

from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from grader import lessons, progress, workbook
from grader.lessons import Lesson
from grader.names import CourseError


class State(NamedTuple):
    """One exercise: earned, unlocked, stale (edited since it was checked), begun or left, with its points."""

    lesson: str
    exercise: str
    state: str
    earned: float
    points: float
    note: str


def all_states(root: Path = lessons.ROOT, work: Path = progress.WORK) -> list[State]:
    return [state for lesson in lessons.all_lessons(root) for state in states(lesson, work)]


def states(lesson: Lesson, work: Path = progress.WORK) -> list[State]:
    """The state of every exercise of a lesson, in the lesson's order."""
    sources = _sources(lesson, work)
    found = []
    for cell in lessons.exercises(lesson.notebook):
        record = progress.load(progress.records(work), cell.id)
        state = _state(record, sources.get(cell.id), cell.id)
        found.append(State(lesson.name, cell.id, state, record.get("earned", 0.0), cell.points, _note(record)))
    return found


def _state(record: dict, source: str | None, identity: str) -> str:
    checked, statuses = record.get("written", False), record.get("statuses", {})
    if checked and source and progress.definition_hash(source, identity.partition("-")[2]) != record.get("source"):
        return "stale"
    if checked and statuses and all(status == "passed" for status in statuses.values()):
        return "earned"
    if record.get("unlocked"):
        return "unlocked"
    return "begun" if checked else "left"


def _note(record: dict) -> str:
    seen = [f"{record['hints']} of 3 hints"] if record.get("hints") else []
    return ", ".join(seen + ["solution shown"] * bool(record.get("solution_shown")))


def _sources(lesson: Lesson, work: Path) -> dict[str, str]:
    """The learner's exercise cells as saved; a notebook that is missing or broken has none."""
    path = workbook.notebook_of(lesson, work)
    if not path.exists():
        return {}
    try:
        cells = workbook.code_cells(lessons.read_notebook(path))
    except CourseError:
        return {}
    return {cell["exercise"]: cell["source"] for cell in cells if cell["exercise"]}


def table(found: list[State]) -> Table:
    """A line per exercise and a summary per lesson."""
    made = Table("lesson", "exercise", "state", "points", "note")
    for lesson in dict.fromkeys(state.lesson for state in found):
        rows = [state for state in found if state.lesson == lesson]
        for state in rows:
            name = state.exercise.partition("-")[2]
            made.add_row(lesson, name, state.state, f"{state.earned:g} of {state.points:g}", state.note)
        done = sum(state.state in ("earned", "unlocked") for state in rows)
        counts = ", ".join(f"{count} {name}" for name in ("earned", "unlocked", "stale", "begun", "left")
                           if (count := sum(state.state == name for state in rows)))
        made.add_row(lesson, f"{done} of {len(rows)} done", counts,
                     f"{sum(s.earned for s in rows):g} of {sum(s.points for s in rows):g}", "", end_section=True)
    return made
