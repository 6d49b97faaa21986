"""A slow reader that sees the inputs only must find the queried block in the list and name the next one."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions.tasks.recall import associative_recall


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read(rows: list[list[int]]) -> tuple[list[list[list[int]]], list[list[int]], int]:
    """The blocks of the list, the queried block, and how many rows are left for the answer."""
    blocks, block, in_list = [], [], True
    for at, row in enumerate(rows):
        if not any(row[-2:]):
            block.append(row[:-2])
            continue
        assert not any(row[:-2]), "a row that ends a block shows the marker only"
        assert row[-2:] in ([1, 0], [0, 1])
        if not in_list:
            assert row[-2:] == [0, 1]
            assert not any(map(any, rows[at + 1:])), "nothing is shown while an answer is due"
            return blocks, block, len(rows) - at - 1
        blocks.append(block)
        block, in_list = [], row[-2:] == [1, 0]
    raise AssertionError("the query never ends")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 10**6))
def test_the_answer_follows_from_the_inputs_alone(count, block_length, width, batch, bipolar, seed):
    count = min(count, 2 ** (block_length * width))
    made = associative_recall(count, block_length, width, batch, bipolar=bipolar, generator=seeded(seed))
    time = (block_length + 1) * (count + 2) - 1
    assert made.inputs.shape == (time, batch, width + 2)
    assert made.targets.shape == (time, batch, width)
    assert made.answer_rows.int().sum(0).tolist() == [block_length] * batch
    assert made.answer_rows[-block_length:].all()
    for entry in range(batch):
        blocks, query, left = read((made.inputs[:, entry] > 0).int().tolist())
        assert [len(block) for block in (*blocks, query)] == [block_length] * (count + 1)
        assert left == block_length
        assert blocks.count(query) == 1
        index = blocks.index(query)
        assert index == made.query[entry]
        assert made.targets[:, entry].int().tolist() == [[0] * width] * (time - block_length) + blocks[index + 1]


def test_three_words_a_block_take_four_rows_a_block_and_seven_more():
    assert len(associative_recall(6, generator=seeded(0)).inputs) == 4 * 6 + 7


def test_every_block_but_the_last_is_queried_equally_often():
    asked = Counter(associative_recall(5, 1, 8, 4000, generator=seeded(1)).query.tolist())
    assert set(asked) == {0, 1, 2, 3}
    assert all(abs(times - 1000) < 140 for times in asked.values())


def test_two_blocks_leave_one_question():
    assert associative_recall(2, generator=seeded(2), batch=50).query.eq(0).all()


def test_the_number_of_blocks_comes_from_its_whole_range():
    generator = seeded(3)
    assert {(len(associative_recall((2, 5), 1, 3, 1, generator=generator).inputs) - 3) // 2 for _ in range(80)} \
        == {2, 3, 4, 5}


def test_without_distinctness_blocks_coincide_as_chance_has_it():
    made = associative_recall(2, 1, 1, 2000, generator=seeded(4), distinct=False)
    same = (made.inputs[0] == made.inputs[2]).all(-1).double().mean()
    assert abs(same - 0.5) < 0.06
    assert (made.targets[-1, :, 0] == (made.inputs[2, :, 0] > 0)).all()


@pytest.mark.parametrize(("wrong", "says"), [
    ({"blocks": 1}, "blocks .* 2 <= low <= high, got 1"),
    ({"blocks": (1, 4)}, r"blocks .* 2 <= low <= high, got \(1, 4\)"),
    ({"blocks": (4, 3)}, r"blocks .* got \(4, 3\)"),
    ({"blocks": (2, 5), "block_length": 2, "width": 1}, r"blocks must be at most 4, .* distinct ones, got \(2, 5\)"),
    ({"block_length": 0}, "block_length must be a whole number, 1 or more, got 0"),
])
def test_what_cannot_be_made_is_an_error_whatever_would_be_drawn(wrong, says):
    for seed in range(4):
        with pytest.raises(ValueError, match=says):
            associative_recall(**wrong, generator=seeded(seed))
