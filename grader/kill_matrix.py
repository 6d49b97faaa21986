"""The table of checks against mutants: what every wrong solution is told by, and what no check can tell."""

from dataclasses import dataclass, field

from grader import mutants
from grader.judge import Answer, Exercise, Judgement, judge, local_answer
from grader.mutants import Variant

SHOWN = 2           # failures a report shows in full; the property that names a mistake must be among them
FEWEST = 8          # named mutants an exercise needs


@dataclass
class Row:
    """How one exercise's checks fare. `problems` is empty when the judge is proven."""

    exercise: Exercise
    failures: dict[str, list[str]] = field(default_factory=dict)     # mutant -> titles that failed, in order
    operators: int = 0
    operators_equivalent: int = 0
    problems: list[str] = field(default_factory=list)


def failed_titles(judgement: Judgement) -> list[str]:
    return [verdict.title for verdict in judgement.verdicts if verdict.status == "failed"]


def prove(exercise: Exercise, seed: int = 0, answer_of=None, operators: bool = True) -> Row:
    """Judge the reference, the alternatives, the named mutants and the operator mutants of an exercise.

    answer_of  makes a transport from a Variant; None judges in this process
    """
    def judged(variant: Variant) -> Judgement:
        answer: Answer = answer_of(variant) if answer_of else local_answer(variant.definition)
        return judge(exercise, answer, seed, recognise=False)

    row = Row(exercise)
    reference = Variant("the reference", exercise, mutants.reference_source(exercise))
    alternatives = mutants.alternatives_of(exercise)
    for right in [reference, *alternatives]:
        if failed := failed_titles(judged(right)):
            row.problems.append(f"{right.name} is right and fails: {failed[0]}")
    if len(alternatives) < 2:
        row.problems.append(f"{len(alternatives)} right-but-different solutions; at least 2 are needed")
    named = mutants.mutants_of(exercise)
    if len(named) < FEWEST:
        row.problems.append(f"{len(named)} named mutants; at least {FEWEST} are needed")
    for wrong in named:
        failed = row.failures[wrong.name] = failed_titles(judged(wrong))
        if not failed:
            row.problems.append(f"mutant survives: {wrong.name}")
        elif wrong.told_by not in failed[:SHOWN]:
            row.problems.append(f"{wrong.name} should be told by {wrong.told_by!r}, is told by {failed[:SHOWN]}")
    for law in exercise.properties:
        if law.needs is None and not any(law.title in failed for failed in row.failures.values()):
            row.problems.append(f"dead check, no mutant fails it: {law.title}")
    if operators:
        _prove_operators(row, judged)
    return row


def _prove_operators(row: Row, judged) -> None:
    made = set()
    for wrong in mutants.operator_mutants(row.exercise):
        row.operators += 1
        made.add(wrong.name)
        reason = mutants.why_equivalent(row.exercise, wrong.name)
        survives = not failed_titles(judged(wrong))
        row.operators_equivalent += reason is not None
        if survives and reason is None:
            row.problems.append(f"operator mutant survives: {wrong.name}")
        elif not survives and reason is not None:
            row.problems.append(f"listed as equivalent, yet told apart: {wrong.name}")
    for change in set(mutants.equivalents_of(row.exercise)) - made:
        row.problems.append(f"listed as equivalent, but there is no such operator mutant: {change}")
