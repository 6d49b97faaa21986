"""Checking a whole notebook: the learner's definitions in a fresh process, every property of every exercise."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grader import judge, lessons, report, workbook
from grader.judge import Diagnosis, Exercise, Judgement, Verdict
from grader.lessons import Lesson
from grader.sandbox import codec
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
            own = [index for index, cell in enumerate(cells) if cell["exercise"] == wanted.id]
            if not own:
                yield _all_failed(exercise, seed, "its cell is missing from the notebook: course start "
                                  f"{lesson.number} --reset {exercise.name} puts it back"), None
                continue
            judgement = _judge_cell(exercise, outcomes[own[-1]], process, seed)
            judgement.note = judgement.note or _note(judgement, cells, outcomes, own)
            yield judgement, cells[own[-1]]["source"]


def _judge_cell(exercise: Exercise, outcome: dict[str, Any], process: Process, seed: int) -> Judgement:
    if outcome["problems"]:
        problem = outcome["problems"][0]
        line = problem["lines"][-1] if problem["lines"] else None
        where = f"{line['place']}, line {line['line']}: {line['text']}" if line else ""
        return _all_failed(exercise, seed, f"its cell does not run: {_said(problem)}", where)
    judgement = judge.judge(exercise, process.answer, seed)
    if judgement.earned:
        origin = codec.unpack(process.answer(codec.pack({"op": "origin", "name": exercise.name}))).get("value", "")
        judgement.own = not origin.startswith("solutions.")
    return judgement


def _note(judgement: Judgement, cells: list[dict], outcomes: list[dict], own: list[int]) -> str:
    """What concerns the whole exercise: where it came from, copies of its cell, or what an earlier cell broke."""
    exercise = judgement.exercise
    if not judgement.own:
        return report.UNLOCKED
    if len(own) > 1:
        return (f"{len(own)} cells carry {exercise.identity}; the last one was checked, as it is the one that counts "
                "when the notebook runs. Delete the others: nbgrader refuses copies")
    if judgement.passed or judgement.unwritten:
        return ""
    reasons = " ".join(v.diagnosis.because for v in judgement.verdicts if v.status == "failed")
    unknown = re.search(r"name '(\w+)' is not defined", reasons)
    for cell, outcome in zip(cells, outcomes, strict=True):
        if unknown and unknown[1] in outcome["skipped"]:
            line = outcome["skipped"][unknown[1]]
            return (f"{unknown[1]} is assigned in {cell['name']}, line {line}, by a call that `course check` does not "
                    "run: it runs imports, definitions and plain assignments. Put what the exercise needs into the "
                    "exercise's own cell")
        if unknown and outcome["problems"] and not cell["exercise"]:
            return f"{cell['name']} does not run: {_said(outcome['problems'][0])}"
    return ""


def _said(problem: dict[str, Any]) -> str:
    return problem["text"] if problem["type"] == "Lost" else f"{problem['type']}: {problem['text']}"


def _all_failed(exercise: Exercise, seed: int, because: str, where: str = "") -> Judgement:
    return Judgement(exercise, seed, [Verdict(law.title, law.points, "failed", Diagnosis(because, where=where))
                                      for law in exercise.properties], note=because)
