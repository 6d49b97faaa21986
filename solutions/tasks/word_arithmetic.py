"""Sums and differences asked for in words, character by character, in easy and in hard sizes.

    What is left of 7 after taking away -0.25?   7.25

In the manner of add_or_sub in the Mathematics dataset (Saxton et al. 2019), with phrasings, sizes and numbers of our
own. Train on all levels, then compare the levels in test. Thesis sections 3.3 and 4.3, appendix B.3.7. As numbers, the
problems are Sequences as those of SCAN: its batches, decoder_inputs and exact_match serve here too.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from solutions.tasks.draw import Bounds, check_bounds, require_sizes
from solutions.tasks.scan import SYMBOLS, Sequences, numbers_of, pad_pairs, symbols_of

SUMS = (
    "{p} + {q}", "What is {p} + {q}?", "Calculate {p} plus {q}.", "Add {p} to {q}.", "Increase {p} by {q}.",
    "What is the sum of {p} and {q}?", "How much is {p} and {q} together?",
)
DIFFERENCES = (
    "{p} - {q}", "What is {p} - {q}?", "Calculate {p} minus {q}.", "Subtract {q} from {p}.", "Decrease {p} by {q}.",
    "How much more than {q} is {p}?", "What is left of {p} after taking away {q}?",
)
CHARACTERS = sorted({*"0123456789-.", *"".join((*SUMS, *DIFFERENCES)).replace("{p}", "").replace("{q}", "")})
VOCABULARY = {symbol: index for index, symbol in enumerate((*SYMBOLS, *CHARACTERS))}

LEVELS: dict[str, Bounds] = {"easy": (1, 3), "medium": (4, 6), "hard": (7, 9)}
"""How many digits the longer of the two numbers has, leading zeros not counted."""

MOST_DIGITS = 15    # longer numbers are not drawn exactly
PATIENCE = 100      # draws for each problem that is asked for, before giving up


class Problem(NamedTuple):
    """A question, "Add -3 to 0.5.", its answer, "-2.5", and the name of its level."""

    question: str
    answer: str
    level: str


class Manner(NamedTuple):
    """How problems are put: as the arguments of word_arithmetic."""

    decimals: bool
    negative: bool
    differences: bool
    phrasings: int


class WordArithmetic(NamedTuple):
    """Problems of all levels, mixed, to train on; and others to test on, level by level."""

    train: list[Problem]
    test: dict[str, list[Problem]]


def word_arithmetic(
    train: int,
    test: int,
    *,
    generator: Generator,
    levels: Mapping[str, Bounds] = LEVELS,
    decimals: bool = True,
    negative: bool = True,
    differences: bool = True,
    phrasings: int = len(SUMS),
) -> WordArithmetic:
    """Draw problems to train on, over all levels, and to test on, for each level.

    train     problems of each level
    test      problems of each level; a seed gives the same ones whatever train is
    levels    by name, how many digits the longer of the two numbers has: a number, or (low, high), 1 to 15
    decimals  half of the numbers have a decimal point; otherwise all are whole
    negative  either number is negative half of the time; otherwise only answers can be
    differences  half of the problems are differences; otherwise all are sums
    phrasings    so many of SUMS and of DIFFERENCES, the first ones, 1 to 7; the very first are bare formulas

    The longer number is first or second; the other has any digits from 1 to as many. No two problems, in train and
    test together, ask for the same: the same two numbers added, in either order, or subtracted, in whatever words.
    Raises ValueError on sizes under 1, on levels or phrasings that are none, and when a level has too few problems.
    """
    require_sizes(generator, train=train, test=test)
    if not 1 <= phrasings <= len(SUMS):
        raise ValueError(f"phrasings must be 1 to {len(SUMS)}, got {phrasings}")
    manner = Manner(decimals, negative, differences, phrasings)
    bounds = {level: _check_level(level, digits) for level, digits in levels.items()}
    if not bounds:
        raise ValueError("levels must have one or more names, got none")
    asked: set[tuple] = set()
    tests, trains = ({level: _different(count, level, digits, manner, asked, generator)
                      for level, digits in bounds.items()} for count in (test, train))
    mixed = [problem for problems in trains.values() for problem in problems]
    order = torch.randperm(len(mixed), generator=generator, device=generator.device)
    return WordArithmetic([mixed[index] for index in order.tolist()], tests)


def _different(
    count: int, level: str, digits: tuple[int, int], manner: Manner, asked: set[tuple], generator: Generator
) -> list[Problem]:
    """Draw problems that are not yet in `asked`, and note them there."""
    found: list[Problem] = []
    drawn = 0
    while len(found) < count:
        if drawn > PATIENCE * count + 1000:
            raise ValueError(f"level {level!r} must have {count} problems more, found only {len(found)} in {drawn} "
                             "draws; ask for fewer, or allow more digits")
        more = count - len(found) + 100
        drawn += more
        for p, q, is_sum, phrasing in _draw(more, *digits, manner, generator):
            what = (is_sum, *(sorted((p, q)) if is_sum else (p, q)))
            if what not in asked and len(found) < count:
                asked.add(what)
                question = (SUMS if is_sum else DIFFERENCES)[phrasing].format(p=_written(*p), q=_written(*q))
                found.append(Problem(question, _written(*_sum(p, q if is_sum else (-q[0], q[1]))), level))
    return found


def _draw(count: int, low: int, high: int, manner: Manner, generator: Generator):
    """Random problems: two numbers as (coefficient, places), whether to add them, and which phrasing to use."""
    def below(bound: Tensor | int) -> Tensor:                           # uniform on 0..bound - 1, (count)
        share = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
        return (share * bound).long()

    longer = low + below(high - low + 1)
    shorter = 1 + below(longer)
    swapped = below(2).bool()
    numbers = []
    for digits in (torch.where(swapped, shorter, longer), torch.where(swapped, longer, shorter)):
        least = torch.where(digits > 1, 10 ** (digits - 1), 0)
        size = least + below(10**digits - least)
        places = (1 + below(digits)) * below(2) * manner.decimals
        size = torch.where(places > 0, size - size % 10 + 1 + below(9), size)       # no zero ends a decimal
        numbers.append(zip((size * (1 - 2 * below(2) * manner.negative)).tolist(), places.tolist(), strict=True))
    is_sum = below(2).bool() | (not manner.differences)
    return zip(*numbers, is_sum.tolist(), below(manner.phrasings).tolist(), strict=True)


def _sum(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
    """The exact sum of two numbers (coefficient, places), each coefficient / 10^places."""
    places = max(p[1], q[1])
    return sum(coefficient * 10 ** (places - own) for coefficient, own in (p, q)), places


def _written(coefficient: int, places: int) -> str:
    """A number as one writes it: no zeros at the end of a decimal, no point without a decimal, no -0."""
    while places and coefficient % 10 == 0:
        coefficient, places = coefficient // 10, places - 1
    digits = str(abs(coefficient)).zfill(places + 1)
    point = len(digits) - places
    return "-" * (coefficient < 0) + digits[:point] + ("." + digits[point:] if places else "")


def _check_level(level: str, digits: Bounds) -> tuple[int, int]:
    low, high = check_bounds(f"the digits of level {level!r}", digits, least=1)
    if high > MOST_DIGITS:
        raise ValueError(f"the digits of level {level!r} must be at most {MOST_DIGITS}, got {digits!r}")
    return low, high


# numbers

def encode(problems: Sequence[Problem]) -> Sequences:
    """Turn problems into numbers, those of VOCABULARY, one a character, with END after each question and answer.

    returns  source (problems, longest question + 1) and target (problems, longest answer + 1)

    Raises ValueError on no problems and on characters that are not in the vocabulary.
    """
    return pad_pairs([numbers_of(problem.question, VOCABULARY) for problem in problems],
                     [numbers_of(problem.answer, VOCABULARY) for problem in problems])


def text_of(numbers: Tensor) -> str:
    """What a row of numbers (length) says, up to END."""
    return "".join(symbols_of(numbers, VOCABULARY))
