"""What a learner types in a notebook: check(f), hint("f"), case("f"), solution("f"), unlock("f")."""

import inspect
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython import get_ipython

from grader import judge, mutants, progress, report
from grader.judge import Exercise, Judgement
from grader.names import CourseError, UnknownName
from grader.report import Block
from grader.sandbox import codec
from grader.sandbox.worker import Worker

_latest: dict[str, Judgement] = {}
_hints_given: dict[str, int] = {}
mutants.load()          # with the imports, so that the first check is as quick as the others


@dataclass(frozen=True, repr=False)
class Score(Block):
    """The verdict of a check. Under nbgrader its text is the points, which is how nbgrader takes part credit."""

    earned: float

    def __repr__(self) -> str:
        return f"{self.earned}" if os.environ.get("NBGRADER_EXECUTION") else self.text


def check(definition: Callable, exercise: str | None = None, seed: int | None = None) -> Score:
    """Ask a definition for every property of its exercise and show which hold.

    definition  the function or class, not called
    exercise    its identity, where the definition's own name does not say which exercise is meant
    seed        0 to 99999: repeats an earlier check, which printed it; a fresh one by default
    """
    found = judge.find(exercise or _name_of(definition))
    outcome = judge.judge(found, _transport(found, definition), judge.chosen_seed(seed))
    outcome.own = definition is not found.reference
    _latest[found.identity] = outcome
    if outcome.own:
        _record(lambda folder: progress.save_judgement(folder, outcome, _source_of(definition)), outcome)
    else:
        outcome.note = report.UNLOCKED
    return Score(report.as_text(outcome), report.as_html(outcome), outcome.earned)


def hint(name: str, step: int | None = None) -> Block:
    """The next hint of an exercise, or the hint of this step (1 to 3)."""
    exercise = judge.find(_as_name(name))
    folder = progress.folder_here()
    given = _hints_given.get(exercise.identity, 0)
    if folder:
        given = max(given, progress.load(folder, exercise.identity).get("hints", 0))
    last = len(exercise.hints)
    if step is not None and not (type(step) is int and 1 <= step <= last):
        raise CourseError(f"a hint's step is 1 to {last}, got {step!r}")
    step = step or min(given + 1, last)
    _hints_given[exercise.identity] = max(given, step)
    _record(lambda folder: progress.save(folder, exercise.identity, hints=max(given, step)))
    more = "" if step < last else f' There is no further hint; solution("{exercise.name}") shows one way to write it.'
    return report.prose(f"{exercise.name}: hint {step} of {last}", exercise.hints[step - 1] + more)


class Case:
    """The call a property failed on: `arguments` and `keywords` to call with, `expected` and `got` as compared."""

    def __init__(self, exercise: Exercise, title: str, diagnosis: judge.Diagnosis) -> None:
        call = diagnosis.case
        self.arguments, self.keywords = codec.unpack(codec.pack((call.arguments, call.keywords)))
        self.expected, self.got = diagnosis.pair or (diagnosis.expected, diagnosis.got)
        self.property, self.because, self.seed = title, diagnosis.because, call.seed
        self._text = (f"{exercise.name}: fails {title!r} when called with {report.signature(exercise, call)}\n"
                      f"  c.arguments, c.keywords: what it was called with; c.expected, c.got: what was compared\n"
                      f"  {exercise.name}(*c.arguments, **c.keywords) calls yours again")

    def __repr__(self) -> str:
        return self._text


def case(name: str) -> Case:
    """The smallest failing call of the latest check of this exercise, to debug with."""
    exercise = judge.find(_as_name(name))
    latest = _latest.get(exercise.identity)
    if latest is None:
        raise CourseError(f"no check of {exercise.name} was run since this notebook's kernel started: "
                          f"run check({exercise.name}) first")
    failed = [v for v in latest.verdicts if v.status == "failed" and v.diagnosis.case]
    if latest.unwritten or not failed:
        why = "it is not written yet" if latest.unwritten else "every property that was checked holds"
        raise CourseError(f"there is no failing case of {exercise.name}: {why}")
    return Case(exercise, failed[0].title, failed[0].diagnosis)


def solution(name: str) -> Block:
    """The reference solution of an exercise, as it runs in the course's own experiments."""
    exercise = judge.find(_as_name(name))
    _record(lambda folder: progress.save(folder, exercise.identity, solution_shown=True))
    source = textwrap.dedent(inspect.getsource(exercise.reference))
    shown = "\n".join(line for line in source.splitlines() if "### BEGIN SOL" not in line and "### END SOL" not in line)
    return report.prose(f"{exercise.name}: one solution", shown, code=True)


def unlock(name: str) -> Block:
    """Go on with the reference under the exercise's name. Recorded: unlocked, not earned."""
    exercise = judge.find(_as_name(name))
    shell = get_ipython()
    if shell is None:
        raise CourseError("unlock works inside a notebook: it puts the reference among the notebook's names")
    shell.user_ns[exercise.name] = exercise.reference
    _record(lambda folder: progress.save(folder, exercise.identity, unlocked=True))
    return report.prose(f"{exercise.name}: unlocked", f"{exercise.name} is now the course's reference; the cells below "
                        "run with it. It is recorded as unlocked, not earned. Run your own cell again to come back.")


def _transport(exercise: Exercise, definition: Callable) -> judge.Answer:
    own = getattr(inspect.unwrap(definition), "__globals__", None)
    if own is None:
        methods = (vars(definition).values() if inspect.isclass(definition) else ())
        own = next((m.__globals__ for m in methods if hasattr(m, "__globals__")), {})
    return Worker({exercise.name: definition}, show=True, own=own).answer


def _name_of(definition: Any) -> str:
    if isinstance(definition, str):
        raise CourseError(f"check takes the function itself, not its name: check({definition})")
    name = getattr(definition, "__name__", None)
    if name is None or name == "<lambda>":
        if not callable(definition):
            raise CourseError(f"check takes a function or class, got {judge.describe(definition)}: pass the function "
                              "itself, do not call it")
        raise CourseError("check takes a function or class; this one has no name, so say which exercise is meant, for "
                          'example check(f, "retention")')
    return name


def _as_name(name: Any) -> str:
    """Accept the function itself where its name was asked for."""
    if isinstance(name, str):
        return name
    if callable(name) and hasattr(name, "__name__"):
        return name.__name__
    raise UnknownName(f"give the exercise's name in quotes, got {judge.describe(name)}")


def _source_of(definition: Callable) -> str | None:
    try:
        return textwrap.dedent(inspect.getsource(definition))
    except (OSError, TypeError):
        return None


def _record(write: Callable, outcome: Judgement | None = None) -> None:
    """Keep progress where the learner works; a folder that cannot be written must not cost them the verdict."""
    folder = progress.folder_here()
    if folder is None:
        return
    try:
        write(folder)
    except OSError as error:
        if outcome is not None:
            outcome.note = (outcome.note + " " if outcome.note else "") + \
                f"your progress could not be saved in {folder}: {error.strerror or error}"
