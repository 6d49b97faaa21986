"""Sizes, bits, words and orders come from the whole range, each equally often, and from the given generator only."""

import re
from collections import Counter
from math import perm

import pytest
import torch

from solutions.tasks import draw
from solutions.tasks.copy import repeated_copy
from solutions.tasks.key_value import key_value
from solutions.tasks.recall import associative_recall

GENERATORS = {"repeated copy": repeated_copy, "associative recall": associative_recall, "key-value": key_value}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_numbers(words: torch.Tensor) -> torch.Tensor:
    return (words.long() << torch.arange(words.shape[-1])).sum(-1)


@pytest.mark.parametrize("listed", [draw.LISTED, 0], ids=["all words listed", "drawn one by one"])
@pytest.mark.parametrize(("count", "width"), [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (2, 3)])
def test_every_list_of_distinct_words_is_equally_likely(monkeypatch, listed, count, width):
    monkeypatch.setattr(draw, "LISTED", listed)
    draws = 9000
    words = draw.distinct_words(count, draws, width, generator=seeded(0))
    assert words.shape == (count, draws, width)
    seen = Counter(map(tuple, as_numbers(words).T.tolist()))
    lists = perm(2**width, count)
    assert all(len(set(entry)) == count for entry in seen)
    assert len(seen) == lists
    mean = draws / lists
    deviation = sum((times - mean) ** 2 for times in seen.values()) / mean      # chi-square, lists - 1 degrees
    assert deviation < lists - 1 + 5 * (2 * lists) ** 0.5


@pytest.mark.parametrize("width", [4, 11, 16, 62, 63, 100])
def test_words_of_any_width_are_distinct_and_their_bits_fair(width):
    count = min(40, 2**width)
    words = draw.distinct_words(count, 200, width, generator=seeded(1))
    lists = words.transpose(0, 1).int().tolist()
    assert all(len(set(map(tuple, entry))) == count for entry in lists)
    assert torch.isin(words, torch.tensor([0.0, 1.0])).all()
    assert (words.mean((0, 1)) - 0.5).abs().max() < 0.04


def test_more_distinct_words_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="only 8 distinct words of 3 bits, got a request for 9"):
        draw.distinct_words(9, 2, 3, generator=seeded(0))


def test_permutations_are_permutations_and_differ_between_entries():
    orders = draw.permutations(7, 300, generator=seeded(2))
    assert (orders.sort(0).values == torch.arange(7)[:, None]).all()
    first = Counter(orders[0].tolist())
    assert set(first) == set(range(7))
    assert max(first.values()) < 80


def test_sizes_come_from_the_whole_range_and_nowhere_else():
    generator = seeded(3)
    drawn = Counter(draw.draw_size("length", (2, 5), least=1, generator=generator) for _ in range(400))
    assert set(drawn) == {2, 3, 4, 5}
    assert min(drawn.values()) > 60
    assert draw.draw_size("length", 4, least=1, generator=generator) == 4


@pytest.mark.parametrize("bounds", [(5, 4), (0, 3), 0, (1, 2, 3), (1.0, 2.0), "3", None, 2.5])
def test_a_range_that_is_none_says_what_was_expected_and_what_came(bounds):
    says = f"length must be a number or (low, high) with 1 <= low <= high, got {bounds!r}"
    with pytest.raises(ValueError, match=re.escape(says)):
        draw.draw_size("length", bounds, least=1, generator=seeded(0))


@pytest.mark.parametrize("task", GENERATORS.values(), ids=GENERATORS)
@pytest.mark.parametrize(("wrong", "says"), [
    ({"batch": 0}, "batch must be a whole number, 1 or more, got 0"),
    ({"width": 0}, "width must be a whole number, 1 or more, got 0"),
    ({"width": 2.0}, "width must be a whole number, 1 or more, got 2.0"),
])
def test_sizes_under_one_are_errors(task, wrong, says):
    with pytest.raises(ValueError, match=says):
        task(**wrong, generator=seeded(0))


@pytest.mark.parametrize("task", GENERATORS.values(), ids=GENERATORS)
def test_a_generator_must_be_given(task):
    with pytest.raises(TypeError, match=r"must be a torch\.Generator, got NoneType"):
        task(generator=None)


@pytest.mark.parametrize("task", GENERATORS.values(), ids=GENERATORS)
def test_the_seed_alone_decides_the_batch(task):
    before = torch.get_rng_state()
    first, again, other = (task(generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    later = task(generator=seeded(5))
    torch.set_rng_state(before)
    for part, same, much_later in zip(first, again, later, strict=True):
        assert torch.equal(part, same)
        assert torch.equal(part, much_later)
    assert first.inputs.shape != other.inputs.shape or not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("task", GENERATORS.values(), ids=GENERATORS)
def test_one_generator_gives_batch_after_batch_of_new_data(task):
    generator = seeded(7)
    first, second = task(5, batch=3, generator=generator), task(5, batch=3, generator=generator)
    assert first.inputs.shape != second.inputs.shape or not torch.equal(first.inputs, second.inputs)
    assert not torch.equal(first.inputs[:, 0], first.inputs[:, 1])


@pytest.mark.parametrize("task", GENERATORS.values(), ids=GENERATORS)
def test_the_coding_changes_the_inputs_and_nothing_else(task):
    bipolar, binary = (task(generator=seeded(8), bipolar=coding) for coding in (True, False))
    assert set(bipolar.inputs.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(bipolar.inputs, 2 * binary.inputs - 1)
    assert set(bipolar.targets.unique().tolist()) == {0.0, 1.0}
    for name in set(bipolar._fields) - {"inputs"}:
        assert torch.equal(getattr(bipolar, name), getattr(binary, name))


@pytest.mark.parametrize("task", GENERATORS.values(), ids=GENERATORS)
def test_every_part_is_ready_to_use(task):
    batch = task(generator=seeded(9))
    assert batch.inputs.dtype == batch.targets.dtype == torch.float32
    assert batch.answer_rows.dtype == torch.bool
    assert batch.inputs.shape[:2] == batch.targets.shape[:2] == batch.answer_rows.shape
    assert all(part.is_contiguous() for part in batch)
    assert batch.targets[~batch.answer_rows].eq(0).all()
