"""A reader of the questions, who knows English and fractions only, arrives at the answers."""

import re
from collections import Counter
from fractions import Fraction

import pytest
import torch

from solutions.tasks import scan, word_arithmetic
from solutions.tasks.word_arithmetic import LEVELS, Problem

NUMBER = r"-?\d+(?:\.\d+)?"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read(question: str) -> tuple[str, str, str]:
    """The operation, "+" or "-", and the two numbers as written, in the order in which they are to be taken."""
    first, second = (found.rstrip(".") for found in re.findall(NUMBER, re.sub(r"(?<=\d) - ", " minus ", question)))
    rest = re.sub(NUMBER, "#", re.sub(r"(?<=\d) - ", " minus ", question))
    if re.search(r"\+|plus|Add|Increase|sum|together", rest):
        assert not re.search("minus|Subtract|Decrease|more|left", rest)
        return "+", first, second
    assert re.search("minus|Subtract|Decrease|more than|left of", rest)
    return ("-", second, first) if re.search("from|more than", rest) else ("-", first, second)


def value(question: str) -> Fraction:
    operation, first, second = read(question)
    return Fraction(first) + Fraction(second) if operation == "+" else Fraction(first) - Fraction(second)


def what(question: str) -> tuple:
    """What a question asks for, in whatever words: a sum in either order."""
    operation, first, second = read(question)
    return (operation, *sorted((first, second))) if operation == "+" else (operation, first, second)


def digits(number: str) -> int:
    return len(re.sub(r"[-.]", "", number).lstrip("0")) or 1


@pytest.fixture(scope="module")
def made() -> word_arithmetic.WordArithmetic:
    return word_arithmetic.word_arithmetic(1500, 400, generator=seeded(0))


def every(made: word_arithmetic.WordArithmetic) -> list[Problem]:
    return [*made.train, *(problem for problems in made.test.values() for problem in problems)]


@pytest.mark.parametrize(("question", "answer"), [
    ("5 - -3", "8"), ("-0.5 + 3", "2.5"), ("Subtract 2 from 0.75.", "-1.25"), ("How much more than 10 is 3?", "-7"),
    ("What is left of -1 after taking away 0.1?", "-1.1"), ("What is 3 - 4?", "-1")])
def test_the_reader_reads(question, answer):
    assert value(question) == Fraction(answer)


def test_the_answer_follows_from_the_question_alone(made):
    for question, answer, _ in every(made):
        assert value(question) == Fraction(answer), question


def test_numbers_are_written_in_one_way_only(made):
    for question, answer, _ in every(made):
        for number in (*read(question)[1:], answer):
            assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", number), (question, answer)
            assert number != "-0"


def test_there_are_as_many_as_asked_for_of_each_level(made):
    assert Counter(problem.level for problem in made.train) == dict.fromkeys(LEVELS, 1500)
    assert {level: len(problems) for level, problems in made.test.items()} == dict.fromkeys(LEVELS, 400)
    assert all(problem.level == level for level, problems in made.test.items() for problem in problems)
    first = Counter(problem.level for problem in made.train[:600])
    assert min(first.values()) > 140                                    # mixed


def test_a_level_is_how_many_digits_the_longer_number_has(made):
    seen = {level: Counter() for level in LEVELS}
    shorter = Counter()
    for question, _, level in every(made):
        sizes = [digits(number) for number in read(question)[1:]]
        seen[level][max(sizes)] += 1
        shorter[level, min(sizes)] += 1
    for level, (low, high) in LEVELS.items():
        assert set(seen[level]) == set(range(low, high + 1))
        assert {size for of, size in shorter if of == level} == set(range(1, high + 1))


def test_no_problem_is_asked_twice_in_whatever_words(made):
    asked = [what(problem.question) for problem in every(made)]
    assert len(set(asked)) == len(asked) == 3 * 1900
    questions = {problem.question for problem in made.train}
    assert not questions & {problem.question for problems in made.test.values() for problem in problems}


def test_words_signs_and_points_come_equally_often(made):
    problems = every(made)
    phrasings = Counter(re.sub(NUMBER, "#", re.sub(r"(?<=\d) - ", " minus ", question)) for question, _, _ in problems)
    assert len(phrasings) == len(word_arithmetic.SUMS) + len(word_arithmetic.DIFFERENCES)
    assert min(phrasings.values()) > 0.75 * len(problems) / len(phrasings)
    numbers = [number for question, _, _ in problems for number in read(question)[1:]]
    for has in ("-", "."):
        assert abs(sum(has in number for number in numbers) / len(numbers) - 0.5) < 0.03
    first_is_longer = Counter(digits(first) > digits(second) for _, first, second in
                              (read(question) for question, _, _ in problems) if digits(first) != digits(second))
    assert abs(first_is_longer[True] / first_is_longer.total() - 0.5) < 0.03


def test_whole_numbers_have_whole_sums():
    made = word_arithmetic.word_arithmetic(200, 50, generator=seeded(1), decimals=False)
    for question, answer, _ in every(made):
        assert not any("." in number for number in (*read(question)[1:], answer))
        assert value(question) == int(answer)


def test_simpler_manners_leave_out_what_they_say():
    plain = word_arithmetic.word_arithmetic(300, 50, generator=seeded(3), levels={"a": (1, 2)}, decimals=False,
                                            negative=False, differences=False, phrasings=1)
    assert all(re.fullmatch(r"\d+ \+ \d+", problem.question) for problem in every(plain))
    taken = word_arithmetic.word_arithmetic(300, 50, generator=seeded(3), negative=False, phrasings=2)
    assert not any("-" in number for problem in every(taken) for number in read(problem.question)[1:])
    assert any(problem.answer.startswith("-") for problem in every(taken))
    phrased = {re.sub(NUMBER, "#", re.sub(r"(?<=\d) - ", " minus ", problem.question)) for problem in every(taken)}
    assert phrased == {"# + #", "What is # + #?", "# minus #", "What is # minus #?"}


def test_every_small_number_is_drawn_zero_included():
    made = word_arithmetic.word_arithmetic(300, 50, generator=seeded(2), levels={"one": 1}, decimals=False)
    numbers = {int(number) for problem in every(made) for number in read(problem.question)[1:]}
    assert numbers == set(range(-9, 10))


def test_long_numbers_are_exact():
    made = word_arithmetic.word_arithmetic(300, 1, generator=seeded(3), levels={"huge": 15})
    last = Counter(read(problem.question)[1][-1] for problem in made.train)
    assert set(last) == set("0123456789")
    for question, answer, _ in every(made):
        assert value(question) == Fraction(answer)


def test_the_seed_alone_decides_and_the_test_does_not_depend_on_the_training(made):
    before = torch.get_rng_state()
    again = word_arithmetic.word_arithmetic(1500, 400, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert again == made
    assert word_arithmetic.word_arithmetic(3, 400, generator=seeded(0)).test == made.test
    assert word_arithmetic.word_arithmetic(3, 400, generator=seeded(1)).test != made.test


# numbers

def test_numbers_say_what_was_encoded(made):
    problems = made.test["hard"]
    data = word_arithmetic.encode(problems)
    assert data.source.shape == (400, 1 + max(len(problem.question) for problem in problems))
    assert data.target.shape == (400, 1 + max(len(problem.answer) for problem in problems))
    for problem, source, target in zip(problems, *data, strict=True):
        assert word_arithmetic.text_of(source) == problem.question
        assert word_arithmetic.text_of(target) == problem.answer
        assert (source == scan.END).sum() == (target == scan.END).sum() == 1
    assert [word_arithmetic.VOCABULARY[symbol] for symbol in scan.SYMBOLS] == [scan.PAD, scan.START, scan.END]


def test_every_character_of_every_phrasing_has_a_number_and_no_other_has(made):
    used = {character for question, answer, _ in every(made) for character in question + answer}
    assert used == set(word_arithmetic.CHARACTERS)
    assert len(word_arithmetic.VOCABULARY) == 3 + len(used)
    with pytest.raises(ValueError, match="'~' must be in the vocabulary"):
        word_arithmetic.encode([Problem("~3 + 4", "7", "easy")])


def test_what_serves_scan_serves_here(made):
    data = word_arithmetic.encode(made.test["easy"])
    whole = list(scan.batches(data, 64, generator=seeded(4)))
    assert sum(len(batch.source) for batch in whole) == 400
    batch = whole[0]
    assert scan.exact_match(batch.target, batch.target) == 1
    fed = scan.decoder_inputs(batch.target)
    assert fed[:, 0].eq(scan.START).all()
    assert torch.equal(fed[:, 1:], batch.target[:, :-1])
    wrong = batch.target.clone()
    wrong[:16, 0] = word_arithmetic.VOCABULARY["?"]
    assert scan.exact_match(wrong, batch.target) == 48 / 64


@pytest.mark.parametrize(("options", "says"), [
    ({"train": 0}, "train must be a whole number, 1 or more, got 0"),
    ({"test": 0}, "test must be a whole number, 1 or more, got 0"),
    ({"phrasings": 0}, "phrasings must be 1 to 7, got 0"),
    ({"phrasings": 8}, "phrasings must be 1 to 7, got 8"),
    ({"levels": {}}, "levels must have one or more names, got none"),
    ({"levels": {"none": 0}}, "the digits of level 'none' must be a number or"),
    ({"levels": {"back": (3, 2)}}, "the digits of level 'back' must be a number or"),
    ({"levels": {"long": (3, 16)}}, r"the digits of level 'long' must be at most 15, got \(3, 16\)"),
    ({"levels": {"tiny": 1}, "decimals": False, "train": 600}, "level 'tiny' must have 600 problems more, found only"),
    ({"levels": {"tiny": 1, "same": (1, 1)}, "decimals": False, "train": 275}, "'same' must have 275 problems more"),
])
def test_what_cannot_be_is_an_error(options, says):
    with pytest.raises(ValueError, match=says):
        word_arithmetic.word_arithmetic(**{"train": 5, "test": 5, "generator": seeded(0)} | options)


def test_all_the_problems_there_are_can_be_found():
    made = word_arithmetic.word_arithmetic(545, 6, generator=seeded(5), levels={"one": 1}, decimals=False)
    asked = {what(problem.question) for problem in every(made)}
    assert len(asked) == 19 * 20 // 2 + 19 * 19                         # sums of -9..9 in either order, differences


def test_a_generator_must_be_given():
    with pytest.raises(TypeError, match=r"must be a torch\.Generator, got NoneType"):
        word_arithmetic.word_arithmetic(1, 1, generator=None)
