"""The proof of the judge: right solutions pass, stubs fail, every mutant dies by the check that names it."""

import ast
import json

import pytest
import torch

from grader import kill_matrix, lessons, mutants, scopes, weave
from grader.judge import describe, exercises, judge, local_answer
from grader.mutants import Variant
from grader.sandbox.process import Lost, Process

torch.set_num_threads(1)
EXERCISES = exercises()
SEEDS = range(20)


@pytest.fixture(scope="module")
def process():
    with Process([], timeout=60) as made:
        yield made


def in_process(process, variant: Variant):
    """A transport to a variant in the worker's process, defined there as a notebook's cells would be."""
    tree, name = ast.parse(mutants.module_source(variant.exercise)), variant.exercise.name
    imports = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    given = scopes.bound(tree) - scopes.bound(imports) - {name}         # a lesson includes what of it is needed
    source = f"import torch\n{ast.unparse(imports)}"
    if given:
        source += f"\nfrom {variant.exercise.reference.__module__} import {', '.join(sorted(given))}"
    outcomes = process.define([{"name": "imports", "source": source},
                               {"name": "definition", "source": variant.source}])
    assert not any(outcome["problems"] for outcome in outcomes), outcomes
    return process.answer


@pytest.mark.parametrize("identity", EXERCISES)
def test_every_wrong_solution_dies_and_every_right_one_lives(identity):
    row = kill_matrix.prove(EXERCISES[identity])
    assert row.problems == []
    assert len(row.failures) >= kill_matrix.FEWEST


@pytest.mark.parametrize("identity", EXERCISES)
def test_the_judge_says_the_same_across_the_boundary(identity, process):
    exercise = EXERCISES[identity]
    row = kill_matrix.prove(exercise, answer_of=lambda variant: in_process(process, variant), operators=False)
    assert row.problems == []
    assert row.failures == kill_matrix.prove(exercise, operators=False).failures


def variants(exercise):
    reference = Variant("the reference", exercise, mutants.reference_source(exercise))
    return [reference, *mutants.alternatives_of(exercise), *mutants.mutants_of(exercise)]


@pytest.mark.parametrize("identity", EXERCISES)
def test_verdicts_do_not_depend_on_the_seed(identity):
    exercise = EXERCISES[identity]
    for variant in variants(exercise):
        answer = local_answer(variant.definition)
        verdicts = {tuple(v.status for v in judge(exercise, answer, seed, recognise=False).verdicts) for seed in SEEDS}
        assert len(verdicts) == 1, f"{variant.name}: {verdicts}"


@pytest.mark.parametrize("identity", EXERCISES)
def test_the_stub_is_not_written_and_earns_nothing(identity, process):
    exercise = EXERCISES[identity]
    stub = weave.stub_source(f"solutions.{exercise.module}.{exercise.name}", lessons.ROOT)
    outcome = judge(exercise, in_process(process, Variant("stub", exercise, stub)), 0)
    assert outcome.unwritten
    assert outcome.earned == 0


@pytest.mark.parametrize("identity", EXERCISES)
@pytest.mark.parametrize("cheat", ["return None", "return args[0]", "return torch.zeros(())", "return 'passed'",
                                   "return [a for a in args]", "return torch.full((2, 3, 5), float('nan'))",
                                   "return args[0].sum(", "raise ValueError('no')", "return type('T', (), {})()"])
def test_cheap_answers_earn_nothing_and_never_break_the_judge(identity, cheat):
    exercise = EXERCISES[identity]
    source = f"def {exercise.name}(*args, **kwargs):\n    {cheat if not cheat.endswith('(') else cheat + ')'}"
    outcome = judge(exercise, local_answer(Variant("cheat", exercise, source).definition), 0)
    assert outcome.earned == 0
    assert all(verdict.diagnosis.because for verdict in outcome.verdicts)


@pytest.mark.parametrize(("late", "asked"), [(True, 1), (False, 4)])
def test_an_endless_loop_is_waited_for_once_and_a_crash_only_costs_its_own_property(late, asked):
    questions = []

    def answer(message):
        questions.append(message)
        raise Lost("your code did not return", late)

    outcome = judge(EXERCISES["dnc-retention"], answer, 0)
    assert len(questions) == asked
    assert [verdict.status for verdict in outcome.verdicts] == ["failed"] * 4


@pytest.mark.parametrize("identity", EXERCISES)
def test_most_mutants_are_recognised_by_name_and_no_right_solution_is(identity):
    exercise = EXERCISES[identity]
    named = mutants.mutants_of(exercise)
    told = 0
    for variant in named:
        outcome = judge(exercise, local_answer(variant.definition), 3)
        names = {v.diagnosis.mistake for v in outcome.verdicts if v.diagnosis}
        assert names <= {"", variant.name}, f"{variant.name} is taken for {names}"
        told += variant.name in names
    assert told >= 0.7 * len(named), f"only {told} of {len(named)} mutants of {identity} are recognised"


@pytest.mark.parametrize("identity", EXERCISES)
def test_an_exercise_has_three_hints_and_its_points_are_whole_or_half(identity):
    exercise = EXERCISES[identity]
    assert len(exercise.hints) == 3
    assert all(len(hint) > 30 for hint in exercise.hints)
    assert exercise.points > 0
    assert (exercise.points * 2) % 1 == 0


def test_a_surviving_mutant_a_dead_check_and_too_few_mutants_are_problems(monkeypatch):
    exercise = EXERCISES["dnc-retention"]
    reference = mutants.reference_source(exercise)
    same = Variant("no change at all", exercise, reference, exercise.properties[0].title)
    monkeypatch.setattr(mutants, "mutants_of", lambda _: [same])
    problems = "\n".join(kill_matrix.prove(exercise, operators=False).problems)
    assert "mutant survives: no change at all" in problems
    assert "1 named mutants; at least 8" in problems
    assert problems.count("dead check") == len(exercise.properties)


def test_an_operator_mutant_that_survives_is_a_problem_unless_a_reason_is_given(monkeypatch):
    exercise = EXERCISES["dnc-retention"]
    source = mutants.reference_source(exercise)
    harmless = Variant("line 1, column 4: nothing", exercise, source, "")
    monkeypatch.setattr(mutants, "operator_mutants", lambda _: iter([harmless]))
    assert kill_matrix.prove(exercise).problems == ["operator mutant survives: line 1, column 4: nothing"]
    monkeypatch.setitem(mutants._equivalent, (exercise.identity, harmless.name), "it is the reference")
    assert kill_matrix.prove(exercise).problems == []
    monkeypatch.setitem(mutants._equivalent, (exercise.identity, "line 9: gone"), "it was here once")
    assert "no such operator mutant" in kill_matrix.prove(exercise).problems[0]


def test_operator_mutants_edit_the_solution_only_and_each_once():
    exercise = EXERCISES["dnc-write_memory"]
    made = list(mutants.operator_mutants(exercise))
    assert len({variant.source for variant in made}) == len(made) > 15
    assert all("require_shapes(" in variant.source for variant in made)


def test_a_mutant_must_edit_exactly_one_place_and_name_a_property():
    exercise = EXERCISES["dnc-retention"]
    with pytest.raises(ValueError, match="occurs 0 times"):
        mutants.mutant("typo", exercise, "not in there", "", exercise.properties[0].title)
    with pytest.raises(ValueError, match="no property"):
        mutants.mutant("typo", exercise, ".prod(dim=1)", "", "something else")


@pytest.mark.parametrize("lesson", lessons.all_lessons(), ids=lambda lesson: lesson.name)
def test_no_mutant_and_no_seed_reaches_a_learners_notebook(lesson):
    text = lesson.notebook.read_text()
    content = json.loads(text)
    given = [cell["metadata"].get("nbgrader", {}).get("grade_id", "").startswith("include-")
             for cell in content["cells"]]
    written = {" ".join(line.split()) for cell, whole in zip(content["cells"], given, strict=True) if not whole
               for line in "".join(cell["source"]).splitlines()}
    for cell in lessons.exercises(content):
        exercise = EXERCISES[cell.id]
        shown = {" ".join(line.split()) for line in mutants.reference_source(exercise).splitlines()}
        for variant in mutants.mutants_of(exercise) + mutants.alternatives_of(exercise):
            lines = {" ".join(line.split()) for line in variant.source.splitlines()} - shown
            assert not {line for line in lines & written if len(line) > 25 and not line.startswith("def ")}
            assert variant.told_by is None or variant.name not in text
    assert set(content["metadata"]) == {"kernelspec", "language_info", "systematic"}
    assert set(content["metadata"]["systematic"]) == {"lesson", "digest"}
    assert not {key for cell in content["cells"] for key in cell["metadata"]} - {
        "answer", "deletable", "editable", "exercise", "nbgrader", "tags"}


def test_values_are_told_in_a_few_words():
    masks = {name: torch.zeros(2, 3) for name in "abcde"}
    assert describe({"a": torch.zeros(2, 3), "b": 1}) == "a dict {a: (2, 3), b: 1}"
    assert describe(masks) == "a dict {a: (2, 3), b: (2, 3), c: (2, 3), d: (2, 3), ...}"
    assert describe({"a": 1}) == "{'a': 1}"
    assert describe(torch.zeros(2)) == "a float32 tensor of shape (2,)"
