"""A slow reader that sees the inputs only, row by row, must arrive at the targets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions.tasks.copy import copy, repeated_copy


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read(rows: list[list[int]], marker_in_target: bool) -> tuple[list[list[int] | None], list[list[list[int]]]]:
    """The answer due in each row, None where none is, and the patterns seen."""
    answers, patterns, seen, due = [], [], [], []
    for row in rows:
        if due:
            assert not any(row), "nothing is shown while an answer is due"
            answers.append(due.pop(0))
            continue
        answers.append(None)
        if row[-1]:
            assert not any(row[:-1]), "a marker row shows the marker only"
            patterns.append(seen)
            due = [[*bits, 0] for bits in seen] + [row] if marker_in_target else list(seen)
            seen = []
        else:
            seen.append(row[:-1])
    assert not due
    assert not seen
    return answers, patterns


sizes = st.fixed_dictionaries({
    "length": st.integers(1, 6) | st.tuples(st.integers(1, 3), st.integers(3, 6)),
    "problems": st.integers(1, 4) | st.tuples(st.integers(1, 2), st.integers(2, 4)),
    "width": st.integers(1, 9), "batch": st.integers(1, 4), "same_length": st.booleans(),
    "marker_in_target": st.booleans(), "bipolar": st.booleans()})


@settings(derandomize=True, deadline=None, max_examples=60)
@given(sizes, st.integers(0, 10**6))
def test_the_answers_follow_from_the_inputs_alone(options, seed):
    batch = repeated_copy(**options, generator=seeded(seed))
    marker, width = options["marker_in_target"], options["width"]
    assert batch.inputs.shape[1:] == (options["batch"], width + 1)
    assert batch.targets.shape == (len(batch.inputs), options["batch"], width + marker)
    for entry in range(options["batch"]):
        answers, patterns = read((batch.inputs[:, entry] > 0).int().tolist(), marker)
        blank = [0] * (width + marker)
        assert batch.answer_rows[:, entry].tolist() == [answer is not None for answer in answers]
        assert batch.targets[:, entry].int().tolist() == [blank if answer is None else answer for answer in answers]
        rows = [index for index, pattern in enumerate(patterns) for _ in range(2 * len(pattern) + 1 + marker)]
        assert batch.problem[:, entry].tolist() == rows


def lengths(batch) -> list[int]:
    return (batch.answer_rows[:, 0].int() * (batch.problem[:, 0] + 1)).bincount()[1:].tolist()


def test_lengths_and_numbers_of_problems_come_from_their_whole_ranges():
    generator, drawn = seeded(0), []
    for _ in range(150):
        drawn.append(lengths(repeated_copy((2, 5), (1, 3), 1, 1, generator=generator, marker_in_target=False)))
    assert {len(each) for each in drawn} == {1, 2, 3}
    assert {length for each in drawn for length in each} == {2, 3, 4, 5}
    assert any(len(set(each)) > 1 for each in drawn)


def test_problems_may_share_one_length():
    generator = seeded(0)
    drawn = [lengths(repeated_copy((2, 5), 3, 1, 1, generator=generator, marker_in_target=False, same_length=True))
             for _ in range(60)]
    assert all(len(set(each)) == 1 for each in drawn)
    assert {each[0] for each in drawn} == {2, 3, 4, 5}


def test_each_problem_has_its_own_pattern_of_fair_bits():
    batch = repeated_copy(6, 4, 8, 200, generator=seeded(1))
    patterns = batch.targets[batch.answer_rows[:, 0]].view(4, 7, 200, 9)[:, :6, :, :8]
    assert (patterns.mean((0, 1, 2)) - 0.5).abs().max() < 0.05
    for first in range(4):
        for second in range(first):
            assert not (patterns[first] == patterns[second]).all((0, 2)).any()


def test_the_marker_in_the_target_is_an_option_that_changes_nothing_else():
    options = {"length": (2, 5), "problems": 3, "width": 4, "batch": 2}
    with_marker = repeated_copy(**options, generator=seeded(2))
    without = repeated_copy(**options, generator=seeded(2), marker_in_target=False)
    assert len(with_marker.inputs) == len(without.inputs) + 3
    assert with_marker.targets[..., -1].sum() == 3 * 2
    kept = with_marker.targets[..., -1] == 0
    assert torch.equal(with_marker.targets[kept][:, :-1], without.targets.flatten(0, 1))


def test_copy_is_one_problem():
    batch, repeated = copy(5, 3, 2, generator=seeded(3)), repeated_copy(5, 1, 3, 2, generator=seeded(3))
    assert all(torch.equal(part, other) for part, other in zip(batch, repeated, strict=True))
    assert len(batch.inputs) == 12
    assert batch.problem.eq(0).all()


@pytest.mark.parametrize(("wrong", "says"), [
    ({"length": (5, 4)}, r"length .* 1 <= low <= high, got \(5, 4\)"),
    ({"length": 0}, "length .* got 0"),
    ({"problems": 0}, "problems .* got 0"),
    ({"problems": (3, 1)}, r"problems .* got \(3, 1\)"),
])
def test_empty_ranges_are_errors(wrong, says):
    with pytest.raises(ValueError, match=says):
        repeated_copy(**wrong, generator=seeded(0))
