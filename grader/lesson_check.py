"""Checking a whole notebook: the learner's definitions in a fresh process, every property of every exercise."""

from collections.abc import Iterator
from pathlib import Path

from grader import judge, lessons, workbook
from grader.judge import Diagnosis, Exercise, Judgement, Verdict
from grader.lessons import Lesson
from grader.sandbox.process import Process


def check_notebook(path: Path, lesson: Lesson, seed: int) -> Iterator[tuple[Judgement, str | None]]:
    """Judge every exercise of the lesson on this notebook, one by one: the judgement and the cell's source.

    Raises CourseError when the notebook as a whole cannot be read. A cell that is missing, doubled or does not run
    becomes a sentence in its exercise's judgement and takes nothing from the others.
    """
    cells = workbook.code_cells(workbook.read(path, lesson))
    with Process(cells) as process:
        outcomes = process.start()
        for wanted in lessons.exercises(lesson.notebook):
            exercise = judge.find(wanted.id)
            own = [(cell, out) for cell, out in zip(cells, outcomes, strict=True) if cell["exercise"] == wanted.id]
            judgement = _judge_cell(exercise, lesson, own, process, seed)
            yield judgement, own[-1][0]["source"] if own else None


def _judge_cell(exercise: Exercise, lesson: Lesson, own: list[tuple[dict, dict]], process: Process,
                seed: int) -> Judgement:
    if not own:
        return _all_failed(exercise, seed, f"its cell is missing from the notebook: course start {lesson.number} "
                           f"--reset {exercise.name} puts it back")
    _, outcome = own[-1]
    if outcome["problems"]:
        problem = outcome["problems"][0]
        line = problem["lines"][-1] if problem["lines"] else None
        where = f"{line['place']}, line {line['line']}: {line['text']}" if line else ""
        what = problem["text"] if problem["type"] == "Lost" else f"{problem['type']}: {problem['text']}"
        return _all_failed(exercise, seed, f"its cell does not run: {what}", where)
    judgement = judge.judge(exercise, process.answer, seed)
    if len(own) > 1:
        judgement.note = (f"{len(own)} cells carry {exercise.identity}; the last one was checked, as it is the one "
                          "that counts when the notebook runs. Delete the others: nbgrader refuses copies")
    return judgement


def _all_failed(exercise: Exercise, seed: int, because: str, where: str = "") -> Judgement:
    return Judgement(exercise, seed, [Verdict(law.title, law.points, "failed", Diagnosis(because, where=where))
                                      for law in exercise.properties], note=because)

