"""Readers that see the inputs only arrive at the targets; tables of all problems give the baselines."""

import re
from collections import Counter

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from solutions.tasks import arithmetic
from solutions.tasks.arithmetic import ADD, MULTIPLY


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(channels: list[float], little_endian: bool) -> int:
    """The number that groups of ten channels spell, by hand."""
    digits = []
    for start in range(0, len(channels), 10):
        group = channels[start:start + 10]
        assert sorted(group) == [0] * 9 + [1]
        digits.append(str(group.index(1)))
    return int("".join(digits[::-1] if little_endian else digits))


def spelled(digits: list[int], little_endian: bool) -> int:
    return int("".join(map(str, digits[::-1] if little_endian else digits)))


def answers(targets: torch.Tensor) -> torch.Tensor:
    """Outputs that are right: ten logits a digit, flat."""
    return one_hot(targets, 10).float().flatten(-2)


# one operation

@pytest.mark.parametrize("digits", [1, 2, 3, 9])
@pytest.mark.parametrize("little_endian", [True, False])
def test_the_result_follows_from_the_inputs_alone(digits, little_endian):
    made = arithmetic.add_or_multiply(60, digits, generator=seeded(0), little_endian=little_endian)
    assert made.inputs.shape == (60, 20 * digits + 2)
    assert made.targets.shape == (60, digits)
    for shown, due, operands, operation in zip(*(part.tolist() for part in made), strict=True):
        first, second = (number(shown[at:at + 10 * digits], little_endian) for at in (0, 10 * digits))
        result = {(1, 0): first + second, (0, 1): first * second}[tuple(shown[-2:])]
        assert spelled(due, little_endian) == result % 10**digits
        assert operands == [first, second]
        assert operation == [ADD, MULTIPLY][int(shown[-1])]
    found = arithmetic.read_problems(made.inputs, little_endian=little_endian)
    assert all(map(torch.equal, found, (made.operands, made.operation)))
    assert torch.equal(arithmetic.join_digits(made.targets, little_endian=little_endian),
                       torch.where(made.operation == ADD, made.operands.sum(1), made.operands.prod(1)) % 10**digits)


def test_the_released_code_writes_units_first_and_so_do_we():
    made = arithmetic.pose(torch.tensor([[47, 85]]), torch.tensor([ADD]))
    assert made.inputs[0].nonzero().flatten().tolist() == [7, 10 + 4, 20 + 5, 30 + 8, 40]
    assert made.targets.tolist() == [[2, 3]]                            # 132
    assert arithmetic.pose(made.operands, torch.tensor([MULTIPLY])).targets.tolist() == [[5, 9]]    # 3995


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("little_endian", [True, False])
def test_digits_that_are_split_are_joined_again(digits, little_endian):
    numbers = torch.arange(10**digits).view(10, -1)
    split = arithmetic.split_digits(numbers, digits, little_endian=little_endian)
    assert split.shape == (*numbers.shape, digits)
    assert torch.equal(arithmetic.join_digits(split, little_endian=little_endian), numbers)


@pytest.mark.parametrize(("operation", "count"), [(None, 20000), (ADD, 10000), (MULTIPLY, 10000)])
def test_all_problems_are_there_once(operation, count):
    made = arithmetic.all_problems(operation=operation)
    problems = set(zip(*made.operands.T.tolist(), made.operation.tolist(), strict=True))
    assert len(problems) == len(made.inputs) == count
    assert set(made.operation.tolist()) == ({ADD, MULTIPLY} if operation is None else {operation})
    assert made.operands.min() == 0
    assert made.operands.max() == 99


def test_numbers_and_operations_are_drawn_equally_often():
    made = arithmetic.add_or_multiply(40000, generator=seeded(1))
    for position in range(2):
        counts = made.operands[:, position].bincount(minlength=100)
        assert len(counts) == 100
        assert counts.min() > 300
        assert counts.max() < 500
    assert abs(made.operation.double().mean() - 0.5) < 0.01
    assert abs(torch.corrcoef(made.operands.T.double())[0, 1]) < 0.02


def test_a_sub_task_is_the_same_problems_with_one_operation():
    either, sums, products = (arithmetic.add_or_multiply(50, generator=seeded(2), operation=operation)
                              for operation in (None, ADD, MULTIPLY))
    assert torch.equal(sums.operands, either.operands)
    assert torch.equal(products.operands, either.operands)
    assert sums.operation.eq(ADD).all()
    assert products.operation.eq(MULTIPLY).all()
    for part, own in ((sums, either.operation == ADD), (products, either.operation == MULTIPLY)):
        assert torch.equal(part.targets[own], either.targets[own])


def test_training_on_many_draws_leaves_no_problem_out():
    made = arithmetic.add_or_multiply(300_000, generator=seeded(3))      # the released code draws a million
    seen = 10**4 * made.operation + 100 * made.operands[:, 0] + made.operands[:, 1]
    assert len(seen.unique()) == 20000


def test_a_recurrent_network_sees_the_same_at_every_step():
    inputs = arithmetic.add_or_multiply(4, generator=seeded(4)).inputs
    assert torch.equal(arithmetic.repeated(inputs), torch.stack([inputs] * 3))
    assert len(arithmetic.repeated(inputs, 1)) == 1
    with pytest.raises(ValueError, match="steps must be 1 or more, got 0"):
        arithmetic.repeated(inputs, 0)


def test_an_answer_is_right_when_all_its_digits_are():
    made = arithmetic.all_problems(operation=MULTIPLY)
    outputs = answers(made.targets)
    assert arithmetic.answer_accuracy(outputs, made.targets) == 1
    half = outputs.clone()
    half[:, :10] = outputs[:, :10].roll(1, -1)                          # a wrong digit everywhere, the other right
    assert arithmetic.answer_accuracy(half, made.targets) == 0
    broken = outputs.clone()
    broken[:500, -1] = torch.nan
    found = arithmetic.answer_accuracy(torch.stack((outputs, half, broken)), made.targets)
    assert found.tolist() == pytest.approx([1, 0, 0.95])
    with pytest.raises(ValueError, match=r"outputs \(\.\.\., batch, 10 digits\), got \(10000, 2\) and \(10000, 42\)"):
        arithmetic.answer_accuracy(made.inputs, made.targets)


# what is performed

@pytest.mark.parametrize("little_endian", [True, False])
def test_what_is_performed_is_told_whatever_was_asked(little_endian):
    made = arithmetic.all_problems(operation=MULTIPLY, little_endian=little_endian)
    results = torch.cat([arithmetic.split_digits(numbers, 2, little_endian=little_endian)
                         for numbers in (made.operands.sum(1), made.operands.prod(1))])
    adds, multiplies = (arithmetic.performed(outputs, made.operands, little_endian=little_endian)
                        for outputs in answers(results).chunk(2))
    agree = arithmetic.agreement()
    assert adds == pytest.approx((1 - agree, 0, agree, 0))
    assert multiplies == pytest.approx((0, 1 - agree, agree, 0))


def test_what_no_operation_gives_is_neither_and_shares_sum_to_one():
    operands = torch.tensor([[2, 2], [3, 4], [3, 4], [3, 4], [3, 4]])           # 4 either way; 7; 12; 0; not a number
    outputs = answers(arithmetic.split_digits(torch.tensor([4, 7, 12, 0, 7]), 2))
    outputs[4, 0] = torch.nan
    assert arithmetic.performed(outputs, operands) == (0.2, 0.2, 0.2, 0.4)
    drawn = torch.randn(500, 10, generator=seeded(2))
    found = arithmetic.performed(drawn, torch.randint(10, (500, 2), generator=seeded(3)))
    assert sum(found) == pytest.approx(1)


def test_a_share_of_performed_answers_is_the_accuracy_of_who_is_asked():
    made = arithmetic.add_or_multiply(300, 1, generator=seeded(4), operation=ADD)
    outputs = torch.randn(300, 10, generator=seeded(5))
    found = arithmetic.performed(outputs, made.operands)
    assert found.add + found.both == pytest.approx(float(arithmetic.answer_accuracy(outputs, made.targets)))


# two additions

@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("little_endian", [True, False])
def test_both_sums_follow_from_the_inputs_alone(digits, little_endian):
    made = arithmetic.double_addition(40, digits, generator=seeded(5), little_endian=little_endian)
    assert made.inputs.shape == (40, 40 * digits)
    assert made.targets.shape == (40, 2, digits)
    for shown, due, pairs in zip(*(part.tolist() for part in made), strict=True):
        numbers = [number(shown[at:at + 10 * digits], little_endian) for at in range(0, 40 * digits, 10 * digits)]
        assert pairs == [numbers[:2], numbers[2:]]
        for pair in range(2):
            assert spelled(due[pair], little_endian) == sum(pairs[pair]) % 10**digits
    assert torch.equal(arithmetic.read_pairs(made.inputs, little_endian=little_endian), made.pairs)


FIRST, SECOND, BOTH, NONE = [True, False], [False, True], [True, True], [False, False]


@pytest.mark.parametrize(("present", "shown", "due"), [
    (arithmetic.apart, [FIRST, SECOND], [FIRST, SECOND]),
    (arithmetic.one_at_a_time, [FIRST] * 3 + [SECOND] * 3, [NONE, NONE, FIRST, NONE, NONE, SECOND]),
    (lambda problems: arithmetic.one_at_a_time(problems, 2), [FIRST] * 2 + [SECOND] * 2, [NONE, FIRST, NONE, SECOND]),
    (arithmetic.together, [BOTH] * 6, [NONE] * 5 + [BOTH]),
    (lambda problems: arithmetic.together(problems, 1), [BOTH], [BOTH]),
])
def test_a_presentation_hides_what_it_should_and_asks_when_it_should(present, shown, due):
    made = arithmetic.double_addition(7, generator=seeded(6))
    found = present(made)
    assert found.inputs.shape == (len(shown), 7, 80)
    assert found.targets.shape == (len(shown), 7, 2, 2)
    assert (arithmetic.read_pairs(found.inputs)[:, 0] >= 0).all(-1).tolist() == shown
    for row, (visible, asked) in enumerate(zip(shown, due, strict=True)):
        for pair in range(2):
            half = slice(40 * pair, 40 * pair + 40)
            assert torch.equal(found.inputs[row][:, half], made.inputs[:, half] * visible[pair])
            assert torch.equal(found.targets[row][:, pair], made.targets[:, pair] * asked[pair])
            assert found.due[row][:, pair].eq(asked[pair]).all()
    assert found.due.sum((0, 1)).tolist() == [7, 7]                     # each sum is due once
    for pair in range(2):
        only = arithmetic.only_pair(found, pair)
        assert torch.equal(only.inputs, found.inputs)
        assert torch.equal(only.due[..., pair], found.due[..., pair])
        assert torch.equal(only.targets[..., pair, :], found.targets[..., pair, :])
        assert not only.due[..., 1 - pair].any()
        assert not only.targets[..., 1 - pair, :].any()


def test_pairs_are_judged_apart_and_only_where_they_are_due():
    found = arithmetic.one_at_a_time(arithmetic.double_addition(8, generator=seeded(7)))
    outputs = answers(found.targets).flatten(-2)
    noise = torch.randn(outputs.shape, generator=seeded(8)).unflatten(-1, (2, 20))
    elsewhere = torch.where(found.due[..., None], outputs.unflatten(-1, (2, 20)), noise)
    assert arithmetic.pair_accuracy(elsewhere.flatten(-2), found.targets, found.due).tolist() == [1, 1]
    wrong = elsewhere.clone()
    wrong[2, :2, 0, :10] = wrong[2, :2, 0, :10].roll(1, -1)             # two first sums wrong, in one digit
    wrong[5, 0, 1, 3] = torch.nan
    several = torch.stack((elsewhere, wrong)).flatten(-2)
    assert arithmetic.pair_accuracy(several, found.targets, found.due).tolist() == [[1, 1], [6 / 8, 7 / 8]]
    only = arithmetic.only_pair(found, 1)
    first, second = arithmetic.pair_accuracy(several[1], only.targets, only.due).tolist()
    assert first != first                                               # nan: never due
    assert second == 7 / 8
    with pytest.raises(ValueError, match=r"got \(6, 8, 2, 2\), \(6, 8, 2\) of torch.int64 and"):
        arithmetic.pair_accuracy(several, found.targets, found.due.long())


def test_the_documented_loss_counts_what_is_due_and_nothing_else():
    found = arithmetic.apart(arithmetic.double_addition(9, generator=seeded(9)))
    outputs = torch.zeros(2, 9, 40, requires_grad=True)
    loss = cross_entropy(outputs.unflatten(-1, (2, 2, 10))[found.due].flatten(0, 1), found.targets[found.due].flatten())
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(10.0).log())
    assert torch.equal(outputs.grad.unflatten(-1, (2, 20)).ne(0).any(-1), found.due)


# baselines

def test_baselines_are_what_counting_gives():
    sums, products = (Counter(f(a, b) % 100 for a in range(100) for b in range(100))
                      for f in (int.__add__, int.__mul__))
    assert set(sums.values()) == {100}
    assert products.most_common(1) == [(0, 520)]
    assert arithmetic.best_constant(ADD) == (0, 0.01)
    assert arithmetic.best_constant(MULTIPLY) == (0, 0.052)
    assert arithmetic.agreement() == sum((a + b - a * b) % 100 == 0 for a in range(100) for b in range(100)) / 10**4


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_sum_and_product_agree_for_as_many_pairs_as_there_are_units(digits):
    assert arithmetic.agreement(digits) == pytest.approx(0.4 / 10**digits)      # phi(10^d) / 10^(2 d)


def test_the_best_constant_is_best_on_all_problems():
    for operation in (ADD, MULTIPLY):
        made = arithmetic.all_problems(operation=operation)
        answer, share = arithmetic.best_constant(operation)
        reached = [float(arithmetic.answer_accuracy(
            answers(arithmetic.split_digits(torch.tensor(constant), 2)).expand(10000, 20), made.targets))
            for constant in range(100)]
        assert max(reached) == reached[answer] == pytest.approx(share)


def test_whoever_always_adds_is_right_about_products_as_often_as_they_agree():
    sums, products = (arithmetic.all_problems(operation=operation) for operation in (ADD, MULTIPLY))
    reached = arithmetic.answer_accuracy(answers(sums.targets), products.targets)
    assert float(reached) == pytest.approx(arithmetic.agreement())


# seeds and errors

@pytest.mark.parametrize("task", [arithmetic.add_or_multiply, arithmetic.double_addition])
def test_the_seed_alone_decides_the_batch(task):
    before = torch.get_rng_state()
    first, again, other = (task(generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.inputs, other.inputs)
    generator = seeded(5)
    assert torch.equal(task(generator=generator).inputs, first.inputs)
    assert not torch.equal(task(generator=generator).inputs, first.inputs)
    with pytest.raises(TypeError, match=r"must be a torch\.Generator, got NoneType"):
        task(generator=None)


@pytest.mark.parametrize(("make", "says"), [
    (lambda g: arithmetic.add_or_multiply(0, generator=g), "batch must be a whole number, 1 or more, got 0"),
    (lambda g: arithmetic.add_or_multiply(digits=0, generator=g), "digits must be a whole number of 1 to 9, got 0"),
    (lambda g: arithmetic.add_or_multiply(digits=10, generator=g), "digits must be a whole number of 1 to 9, got 10"),
    (lambda g: arithmetic.add_or_multiply(operation=2, generator=g), r"ADD \(0\), MULTIPLY \(1\) or None, got 2"),
    (lambda g: arithmetic.all_problems(4), "digits must be a whole number of 1 to 3, got 4"),
    (lambda g: arithmetic.double_addition(-1, generator=g), "batch must be a whole number, 1 or more, got -1"),
    (lambda g: arithmetic.double_addition(digits=2.0, generator=g), "digits must be .* got 2.0"),
    (lambda g: arithmetic.together(arithmetic.double_addition(2, generator=g), 0), "steps must be 1 or more, got 0"),
    (lambda g: arithmetic.one_at_a_time(arithmetic.double_addition(2, generator=g), 0), "steps must be 1 or more"),
    (lambda g: arithmetic.only_pair(arithmetic.apart(arithmetic.double_addition(2, generator=g)), 2), "0 or 1, got 2"),
    (lambda g: arithmetic.performed(torch.zeros(3, 12), torch.zeros(3, 2)), "operands (batch, 2), got (3, 12)"),
    (lambda g: arithmetic.performed(torch.zeros(3, 10), torch.zeros(4, 2)), "got (3, 10) and (4, 2)"),
    (lambda g: arithmetic.performed(torch.zeros(0, 10), torch.zeros(0, 2)), "got (0, 10) and (0, 2)"),
    (lambda g: arithmetic.best_constant(7), r"operation must be ADD \(0\) or MULTIPLY \(1\), got 7"),
    (lambda g: arithmetic.agreement(0), "digits must be a whole number of 1 to 3, got 0"),
    (lambda g: arithmetic.pose(torch.tensor([[3, 100]]), torch.tensor([0])), "whole numbers of 0 to 99, got [[3, 100"),
    (lambda g: arithmetic.pose(torch.tensor([[3, 4]]), torch.tensor([2])), "operation must be whole numbers of 0 to 1"),
    (lambda g: arithmetic.pose(torch.tensor([3, 4]), torch.tensor([0])), "operands must be (batch, 2)"),
    (lambda g: arithmetic.read_problems(torch.zeros(3, 42)), "inputs must be one-hot"),
    (lambda g: arithmetic.read_problems(torch.zeros(3, 80)), "inputs must be (..., 20 digits + 2), got (3, 80)"),
    (lambda g: arithmetic.read_pairs(torch.full((3, 80), 0.1)), "inputs must be one-hot"),
    (lambda g: arithmetic.read_pairs(torch.zeros(3, 42)), "inputs must be (..., 40 digits), got (3, 42)"),
])
def test_what_cannot_be_is_an_error(make, says):
    with pytest.raises(ValueError, match=says if "\\" in says or ".*" in says else re.escape(says)):
        make(seeded(0))
