"""Sums and products of two numbers, digit by digit, for one network; and two additions side by side for another.

Results are taken modulo 100 (10 to the power of `digits`), so that they have as many digits as the operands. There are
only 20000 different problems (100 pairs, 2 operations): whoever trains on many draws has seen all of them, and accuracy
then measures what was stored, not what generalises. Csordás et al. 2021; thesis chapter 3, appendices B.2 and B.3.
"""

from numbers import Integral
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from solutions.tasks.draw import require_sizes

ADD, MULTIPLY = range(2)
BASE = 10
MOST_DIGITS = 9     # products of longer numbers do not fit an int64
MOST_LISTED = 3     # digits; tables of all pairs are not made for longer numbers


class ArithmeticBatch(NamedTuple):
    """A batch of problems with one operation each.

    inputs     (batch, 20 digits + 2), float32: one-hot digits of the first number, of the second, then the operation
    targets    (batch, digits), int64 in 0..9: the digits of the result
    operands   (batch, 2), int64: the two numbers
    operation  (batch), int64: ADD or MULTIPLY
    """

    inputs: Tensor
    targets: Tensor
    operands: Tensor
    operation: Tensor


class DoubleAddition(NamedTuple):
    """A batch of problems with two independent additions each.

    inputs   (batch, 40 digits), float32: one-hot digits of the four numbers, first pair first
    targets  (batch, 2, digits), int64 in 0..9: the digits of each pair's sum
    pairs    (batch, 2, 2), int64: the numbers, by pair
    """

    inputs: Tensor
    targets: Tensor
    pairs: Tensor


class Presentation(NamedTuple):
    """Double addition as a network is shown it: row by row, some pairs hidden, some answers due.

    inputs   (time, batch, 40 digits), float32: zeros where a pair is hidden
    targets  (time, batch, 2, digits), int64: the digits of each pair's sum, 0 where it is not due
    due      (time, batch, 2), bool: which pair's sum is due in a row; the other outputs of that row do not count

    A loss that counts what is due, for outputs (time, batch, 20 digits) of which each pair has its own half:
    cross_entropy(outputs.unflatten(-1, (2, digits, 10))[due].flatten(0, 1), targets[due].flatten()).
    """

    inputs: Tensor
    targets: Tensor
    due: Tensor


class Performed(NamedTuple):
    """Which operation answers are the result of, whatever was asked for: shares of the problems that sum to 1.

    add       the sum and not the product
    multiply  the product and not the sum
    both      sum and product, which agree for these operands
    neither   another number, or an answer with a nan
    """

    add: float
    multiply: float
    both: float
    neither: float


class Constant(NamedTuple):
    """The best answer that never looks at its input.

    answer  the number that is right most often; the smallest of them
    share   how often it is right
    """

    answer: int
    share: float


# digits

def split_digits(numbers: Tensor, digits: int, *, little_endian: bool = True) -> Tensor:
    """The last `digits` digits of numbers, units first when little_endian: (...) to (..., digits), int64.

    >>> split_digits(torch.tensor([7, 142]), 2).tolist()
    [[7, 0], [2, 4]]
    """
    places = BASE ** torch.arange(digits, device=numbers.device)
    found = numbers[..., None] // places % BASE
    return found if little_endian else found.flip(-1)


def join_digits(digits: Tensor, *, little_endian: bool = True) -> Tensor:
    """The numbers that digits stand for: (..., digits) to (...), int64; what split_digits undoes."""
    ordered = digits if little_endian else digits.flip(-1)
    return (ordered * BASE ** torch.arange(ordered.shape[-1], device=digits.device)).sum(-1)


# one operation

def add_or_multiply(
    batch: int = 128,
    digits: int = 2,
    *,
    generator: Generator,
    operation: int | None = None,
    little_endian: bool = True,
) -> ArithmeticBatch:
    """Two random numbers to add or to multiply, modulo 10^digits.

    digits         digits of each number and of the result, 1 to 9; two make 42 inputs
    operation      ADD or MULTIPLY gives that one only, a sub-task; None draws either, equally often
    little_endian  units first, in the inputs and in the targets, as in the released code; otherwise units last

    Raises ValueError on other digits or operations and on batch under 1.
    """
    require_sizes(generator, batch=batch)
    _require_digits(digits, MOST_DIGITS)
    _require_operation(operation)
    device = generator.device
    operands = torch.randint(BASE**digits, (batch, 2), generator=generator, device=device)
    drawn = torch.randint(2, (batch,), generator=generator, device=device)      # drawn also when one is asked for
    chosen = drawn if operation is None else torch.full_like(drawn, operation)
    return pose(operands, chosen, digits, little_endian=little_endian)


def all_problems(digits: int = 2, *, operation: int | None = None, little_endian: bool = True) -> ArithmeticBatch:
    """Every problem once, additions first: 20000 with two digits, half of them with one operation.

    digits  1 to 3; the other arguments and errors as in add_or_multiply
    """
    _require_digits(digits, MOST_LISTED)
    _require_operation(operation)
    numbers = torch.arange(BASE**digits)
    operations = torch.tensor([ADD, MULTIPLY] if operation is None else [operation])
    which, first, second = torch.cartesian_prod(operations, numbers, numbers).unbind(-1)
    return pose(torch.stack((first, second), -1), which, digits, little_endian=little_endian)


def pose(operands: Tensor, operation: Tensor, digits: int = 2, *, little_endian: bool = True) -> ArithmeticBatch:
    """Write given problems as a network reads them.

    operands   (batch, 2), int64 in 0..10^digits - 1
    operation  (batch), int64: ADD or MULTIPLY

    Raises ValueError on other shapes and numbers.
    """
    _require_digits(digits, MOST_DIGITS)
    if operands.dim() != 2 or operands.shape[1] != 2 or operation.shape != operands.shape[:1]:
        raise ValueError(f"operands must be (batch, 2) and operation (batch), got {tuple(operands.shape)} and "
                         f"{tuple(operation.shape)}")
    for name, numbers, count in (("operands", operands, BASE**digits), ("operation", operation, 2)):
        _require_below(name, numbers, count)
    first, second = operands.unbind(-1)
    results = torch.where(operation == MULTIPLY, first * second, first + second)
    shown = _one_hot(split_digits(operands, digits, little_endian=little_endian), BASE).flatten(1)
    inputs = torch.cat((shown, _one_hot(operation, 2)), -1)
    return ArithmeticBatch(inputs, split_digits(results, digits, little_endian=little_endian), operands, operation)


def read_problems(inputs: Tensor, *, little_endian: bool = True) -> tuple[Tensor, Tensor]:
    """What pose wrote: the operands (..., 2) and the operation (...) of inputs (..., 20 digits + 2), int64.

    Raises ValueError when the inputs are not one-hot or have another width.
    """
    digits, rest = divmod(inputs.shape[-1] - 2, 2 * BASE)
    if digits < 1 or rest:
        raise ValueError(f"inputs must be (..., 20 digits + 2), got {tuple(inputs.shape)}")
    numbers = _read_one_hot(inputs[..., :-2].unflatten(-1, (2, digits, BASE)))
    return join_digits(numbers, little_endian=little_endian), _read_one_hot(inputs[..., -2:])


def repeated(inputs: Tensor, steps: int = 3) -> Tensor:
    """The same inputs at every step, for a recurrent network that answers at the last: (steps, *inputs.shape).

    Raises ValueError on steps under 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    return inputs.expand(steps, *inputs.shape)


def answer_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of problems with every digit right.

    outputs  (..., batch, 10 digits): ten logits for each digit; nan counts as wrong
    targets  (batch, digits), int64
    returns  (...) in [0, 1]

    Raises ValueError on shapes that disagree.
    """
    if targets.dim() != 2 or outputs.shape[-2:] != (targets.shape[0], BASE * targets.shape[-1]):
        raise ValueError(f"targets must be (batch, digits) and outputs (..., batch, 10 digits), got "
                         f"{tuple(targets.shape)} and {tuple(outputs.shape)}")
    return _all_right(outputs.unflatten(-1, (-1, BASE)), targets).sum(-1) / len(targets)


def performed(outputs: Tensor, operands: Tensor, *, little_endian: bool = True) -> Performed:
    """Of what are the answers the result: who is asked to multiply may add.

    outputs   (batch, 10 digits): ten logits for each digit; nan counts as neither
    operands  (batch, 2), int64: the numbers that were shown; one problem or more

    A network that is right about sums has add and both, by chance both alone is `agreement`. Raises ValueError on
    shapes that disagree and on no problem. Figure 3.2, which leaves out that the two may agree.
    """
    digits, rest = divmod(outputs.shape[-1], BASE)
    if outputs.dim() != 2 or rest or not digits or operands.shape != (len(outputs), 2) or not len(outputs):
        raise ValueError(f"outputs must be (batch, 10 digits) and operands (batch, 2), got {tuple(outputs.shape)} and "
                         f"{tuple(operands.shape)}")
    logits = outputs.unflatten(-1, (-1, BASE))
    added, multiplied = (_all_right(logits, split_digits(results, digits, little_endian=little_endian))
                         for results in (operands.sum(-1), operands.prod(-1)))
    counted = (added & ~multiplied, multiplied & ~added, added & multiplied, ~added & ~multiplied)
    return Performed(*(float(which.double().mean()) for which in counted))


# two additions

def double_addition(
    batch: int = 128, digits: int = 2, *, generator: Generator, little_endian: bool = True
) -> DoubleAddition:
    """Two random pairs of numbers, each to be added modulo 10^digits, apart from the other.

    Arguments and errors as in add_or_multiply; two digits make 80 inputs and 40 outputs, one digit half as many. How
    it is shown is the choice of together, one_at_a_time and apart.
    """
    require_sizes(generator, batch=batch)
    _require_digits(digits, MOST_DIGITS)
    pairs = torch.randint(BASE**digits, (batch, 2, 2), generator=generator, device=generator.device)
    inputs = _one_hot(split_digits(pairs, digits, little_endian=little_endian), BASE).flatten(1)
    return DoubleAddition(inputs, split_digits(pairs.sum(-1), digits, little_endian=little_endian), pairs)


def together(problems: DoubleAddition, steps: int = 6) -> Presentation:
    """For a recurrent network: both pairs at every step, both sums due at the last.

    Raises ValueError on steps under 1.
    """
    shown = torch.ones(2, dtype=torch.bool).expand(max(steps, 1), 2)
    due = shown.clone()
    due[:-1] = False
    return _present(problems, steps, shown, due)


def one_at_a_time(problems: DoubleAddition, steps: int = 3) -> Presentation:
    """For a recurrent network that keeps its state: `steps` rows of the first pair alone, then of the second.

    Each sum is due in the last row of its pair. Raises ValueError on steps under 1.
    """
    shown = torch.eye(2, dtype=torch.bool).repeat_interleave(max(steps, 1), 0)
    due = shown.clone()
    due[torch.arange(len(due)) % max(steps, 1) != steps - 1] = False
    return _present(problems, steps, shown, due)


def apart(problems: DoubleAddition) -> Presentation:
    """For a feed-forward network: two passes that know nothing of each other, row 0 the first pair, row 1 the second.

    In each pass the other pair's inputs are zero and its outputs do not count: one_at_a_time with one step.
    """
    return one_at_a_time(problems, 1)


def only_pair(presentation: Presentation, pair: int) -> Presentation:
    """The same inputs with one pair's sum due and the other's not: a sub-task.

    pair  0 or 1; raises ValueError otherwise
    """
    if pair not in (0, 1):
        raise ValueError(f"pair must be 0 or 1, got {pair!r}")
    due = presentation.due & (torch.arange(2, device=presentation.due.device) == pair)
    return Presentation(presentation.inputs, presentation.targets * due[..., None], due)


def read_pairs(inputs: Tensor, *, little_endian: bool = True) -> Tensor:
    """The numbers shown in inputs (..., 40 digits): (..., 2, 2), int64, by pair; -1 where a pair is hidden.

    Raises ValueError when the inputs of a pair are neither one-hot nor all zero, and on another width.
    """
    digits, rest = divmod(inputs.shape[-1], 4 * BASE)
    if digits < 1 or rest:
        raise ValueError(f"inputs must be (..., 40 digits), got {tuple(inputs.shape)}")
    groups = inputs.unflatten(-1, (2, 2, digits, BASE))
    hidden = (groups == 0).flatten(-3).all(-1)                          # (..., 2)
    blank = _one_hot(torch.zeros((), dtype=torch.int64, device=inputs.device), BASE).to(inputs)
    numbers = _read_one_hot(torch.where(hidden[..., None, None, None], blank, groups))
    return join_digits(numbers, little_endian=little_endian).masked_fill(hidden[..., None], -1)


def pair_accuracy(outputs: Tensor, targets: Tensor, due: Tensor) -> Tensor:
    """Of each pair, the share of due sums with every digit right.

    outputs  (..., time, batch, 20 digits): ten logits for each digit, the first pair's first; nan counts as wrong
    targets  (time, batch, 2, digits), int64
    due      (time, batch, 2), bool
    returns  (..., 2) in [0, 1]; nan for a pair that is never due

    Raises ValueError on shapes that disagree.
    """
    if (targets.dim() != 4 or targets.shape[2] != 2 or due.shape != targets.shape[:3] or due.dtype != torch.bool
            or outputs.shape[-3:] != (*targets.shape[:2], 2 * BASE * targets.shape[-1])):
        raise ValueError(f"targets must be (time, batch, 2, digits), due (time, batch, 2) of bools and outputs (..., "
                         f"time, batch, 20 digits), got {tuple(targets.shape)}, {tuple(due.shape)} of {due.dtype} and "
                         f"{tuple(outputs.shape)}")
    right = _all_right(outputs.unflatten(-1, (2, -1, BASE)), targets) & due     # (..., time, batch, 2)
    return right.sum((-3, -2)) / due.sum((0, 1))


# what knowing nothing reaches

def best_constant(operation: int, digits: int = 2) -> Constant:
    """The best answer that never looks, over all pairs of numbers.

    Sums are even, so that any number does: 1 % with two digits. Products are not: 0 is right for 5.2 % of them. Raises
    ValueError on other operations and on digits outside 1..3.
    """
    results = _results(digits)
    if operation not in results:
        raise ValueError(f"operation must be ADD ({ADD}) or MULTIPLY ({MULTIPLY}), got {operation!r}")
    counts = results[operation].flatten().bincount(minlength=BASE**digits)
    answer = int((counts == counts.max()).nonzero()[0])
    return Constant(answer, int(counts[answer]) / BASE ** (2 * digits))


def agreement(digits: int = 2) -> float:
    """The share of pairs whose sum and product agree: how often whoever always adds is right about products.

    a + b and a b agree where (a - 1)(b - 1) leaves 1: 0.4 % of the pairs with two digits, 4 % with one. Raises
    ValueError on digits outside 1..3.
    """
    results = _results(digits)
    return float((results[ADD] == results[MULTIPLY]).double().mean())


def _results(digits: int) -> dict[int, Tensor]:
    """The results of all pairs of numbers, by operation: (10^digits, 10^digits), int64."""
    _require_digits(digits, MOST_LISTED)
    numbers = torch.arange(BASE**digits)
    return {ADD: (numbers[:, None] + numbers) % BASE**digits, MULTIPLY: numbers[:, None] * numbers % BASE**digits}


def _present(problems: DoubleAddition, steps: int, shown: Tensor, due: Tensor) -> Presentation:
    """Show (time, 2) pairs and ask for (time, 2) sums of every problem."""
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    inputs, targets, _ = problems
    batch, device = len(inputs), inputs.device
    channels = shown.to(device).repeat_interleave(inputs.shape[-1] // 2, 1)     # (time, 40 digits)
    due = due.to(device)[:, None].expand(-1, batch, -1).contiguous()
    return Presentation(inputs * channels[:, None], targets * due[..., None], due)


def _one_hot(numbers: Tensor, count: int) -> Tensor:
    return torch.nn.functional.one_hot(numbers, count).float()


def _read_one_hot(groups: Tensor) -> Tensor:
    """The position of the one in each group, (..., count) to (...). Raises ValueError where there is not one."""
    if not (((groups == 0) | (groups == 1)).all() and (groups.sum(-1) == 1).all()):
        raise ValueError("inputs must be one-hot: in each group of channels a single 1, and 0 in all others")
    return groups.argmax(-1)


def _all_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Where all digits are right: logits (..., digits, 10) and targets (..., digits) to (...), bool."""
    return ((logits.argmax(-1) == targets) & ~logits.isnan().any(-1)).all(-1)


def _require_digits(digits: int, most: int) -> None:
    if not isinstance(digits, Integral) or not 1 <= digits <= most:
        raise ValueError(f"digits must be a whole number of 1 to {most}, got {digits!r}")


def _require_operation(operation: int | None) -> None:
    if operation not in (ADD, MULTIPLY, None):
        raise ValueError(f"operation must be ADD ({ADD}), MULTIPLY ({MULTIPLY}) or None, got {operation!r}")


def _require_below(name: str, numbers: Tensor, count: int) -> None:
    if numbers.is_floating_point() or ((numbers < 0) | (numbers >= count)).any():
        raise ValueError(f"{name} must be whole numbers of 0 to {count - 1}, got {numbers.tolist()}")
