"""A slow reader completes every pair from the inputs alone; the ceiling is what enumerating everything gives."""

from collections import Counter, defaultdict
from itertools import permutations, product
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions.tasks.key_value import BY_KEY, BY_VALUE, MARKER, STORE, ceiling, expected_ceiling, key_value


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read(rows: list[list[int]], width: int, two_way: bool, in_place: bool) -> list[tuple[int, list[int] | None, int]]:
    """Per row the phase, the answer due (None where none is) and the pair."""
    markers = [[0, 1], [1, 1]] if two_way else [[1]]
    pairs, read_so_far, phase, marked = [], [], STORE, 0
    expected = [[1, 0], *markers] if two_way else [[1], [1]]
    for row in rows:
        first, second, marker = row[:width], row[width:2 * width], row[2 * width:]
        if any(marker):
            assert not any(row[:2 * width]), "a marker row shows the marker only"
            assert marker == expected[marked]
            read_so_far.append((MARKER, None, -1))
            phase, marked = (BY_KEY, BY_VALUE, MARKER)[marked], marked + 1
        elif phase == STORE:
            read_so_far.append((STORE, None, len(pairs)))
            pairs.append((first, second))
        else:
            asked_half = 1 if phase == BY_VALUE and in_place else 0
            query, other = ((first, second), (second, first))[asked_half]
            assert not any(other), "the missing half is not shown"
            column = 0 if phase == BY_KEY else 1
            [found] = [index for index, pair in enumerate(pairs) if pair[column] == query]
            read_so_far.append((phase, pairs[found][1 - column], found))
    assert marked == len(expected)
    return read_so_far


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans(),
       st.integers(0, 10**6))
def test_the_answers_follow_from_the_inputs_alone(length, width, batch, two_way, in_place, bipolar, seed):
    length = min(length, 2**width)
    made = key_value(length, width, batch, two_way=two_way, query_in_place=in_place, bipolar=bipolar,
                     generator=seeded(seed))
    time = 3 * (length + 1) if two_way else 2 * length + 2
    assert made.inputs.shape == (time, batch, 2 * width + 1 + two_way)
    assert made.targets.shape == (time, batch, width)
    for entry in range(batch):
        rows = read((made.inputs[:, entry] > 0).int().tolist(), width, two_way, in_place)
        phases, answers, pairs = zip(*rows, strict=True)
        assert made.phase[:, entry].tolist() == list(phases)
        assert made.pair[:, entry].tolist() == list(pairs)
        assert made.answer_rows[:, entry].tolist() == [answer is not None for answer in answers]
        assert made.targets[:, entry].int().tolist() == [answer or [0] * width for answer in answers]
        for phase in (STORE, BY_KEY, BY_VALUE)[:2 + two_way]:
            each = sorted(pair for at, pair in zip(phases, pairs, strict=True) if at == phase)
            assert each == list(range(length)), "every pair is stored once and asked for once a phase"


def test_stored_pairs_and_both_rounds_of_queries_come_in_orders_of_their_own():
    made = key_value(4, 6, 3000, generator=seeded(0))
    first, second = (made.pair[made.phase[:, 0] == phase] for phase in (BY_KEY, BY_VALUE))
    for orders in (first, second):
        assert len(Counter(map(tuple, orders.T.tolist()))) == 24
    assert abs((first[0] == second[0]).double().mean() - 0.25) < 0.04
    keys = made.inputs[:4, :, :6].gt(0).long() @ (1 << torch.arange(6))
    assert abs((keys.diff(dim=0) > 0).all(0).double().mean() - 1 / 24) < 0.015, "keys are not sorted"


@pytest.mark.parametrize("half", ["keys", "values"])
def test_words_are_distinct_or_independent_as_asked(half):
    for distinct in (True, False):
        made = key_value(4, 3, 2000, generator=seeded(1), **{f"distinct_{half}": distinct})
        words = made.inputs[:4, :, :3] if half == "keys" else made.inputs[:4, :, 3:6]
        repeats = (words[0] == words[1]).all(-1).double().mean()
        assert repeats == 0 if distinct else abs(repeats - 1 / 8) < 0.04


def test_where_a_value_is_shown_is_all_that_query_in_place_changes():
    here, there = (key_value(5, 3, 4, generator=seeded(2), query_in_place=choice, bipolar=False) for choice in (1, 0))
    by_value = here.phase == BY_VALUE
    assert torch.equal(here.inputs[by_value][:, 3:6], there.inputs[by_value][:, :3])
    assert torch.equal(here.inputs[~by_value], there.inputs[~by_value])
    assert torch.equal(here.targets, there.targets)


@pytest.mark.parametrize(("wrong", "says"), [
    ({"length": (3, 2)}, r"length .* 1 <= low <= high, got \(3, 2\)"),
    ({"length": 0}, "length .* got 0"),
    ({"length": (2, 9), "width": 3}, r"length must be at most 8, .* distinct ones, got \(2, 9\)"),
    ({"length": 9, "width": 3, "distinct_keys": False}, "length must be at most 8"),
    ({"length": 9, "width": 3, "distinct_values": False}, "length must be at most 8"),
])
def test_what_cannot_be_made_is_an_error_whatever_would_be_drawn(wrong, says):
    for seed in range(4):
        with pytest.raises(ValueError, match=says):
            key_value(**wrong, generator=seeded(seed))


def test_independent_words_may_be_more_than_there_are():
    made = key_value(9, 2, 3, generator=seeded(3), distinct_keys=False, distinct_values=False)
    assert made.answer_rows.sum() == 18 * 3


def by_enumeration(games: list[tuple[tuple, tuple]]) -> tuple[float, float]:
    """The best accuracy and bit error over equally likely games, each (what is shown, answers due): for everything
    that can be shown and every row, the answer, and the bits, that are due most often."""
    seen = defaultdict(Counter)
    for shown, answers in games:
        for row, answer in enumerate(answers):
            seen[shown, row][answer] += 1
    right = sum(max(due.values()) for due in seen.values())
    total = sum(sum(due.values()) for due in seen.values())
    wrong_bits = bits = 0
    for due in seen.values():
        width = len(next(iter(due)))
        for bit in range(width):
            ones = sum(times for answer, times in due.items() if answer[bit])
            wrong_bits += min(ones, sum(due.values()) - ones)
            bits += sum(due.values())
    return right / total, wrong_bits / bits


def rounds(queries: tuple, answers: tuple) -> list[tuple[tuple, tuple]]:
    """All games with these stored pairs: one for each order of the queries."""
    return [((queries, answers, tuple(queries[pair] for pair in order)), tuple(answers[pair] for pair in order))
            for order in permutations(range(len(queries)))]


@pytest.mark.parametrize(("length", "width", "distinct_queries"), [
    *((length, 1, distinct) for length in (1, 2, 3, 4) for distinct in (True, False)),
    (2, 2, True), (2, 2, False), (3, 2, False)])
@pytest.mark.parametrize("distinct_answers", [True, False])
def test_the_expected_ceiling_is_what_enumerating_everything_gives(length, width, distinct_queries, distinct_answers):
    words = list(product((0, 1), repeat=width))
    if length > len(words) and (distinct_queries or distinct_answers):
        with pytest.raises(ValueError, match=f"only {len(words)} distinct words"):
            expected_ceiling(length, width, distinct_queries=distinct_queries, distinct_answers=distinct_answers)
        return
    asked, due = (permutations(words, length) if distinct else product(words, repeat=length)
                  for distinct in (distinct_queries, distinct_answers))
    stored = list(product(asked, due))
    games = [game for queries, answers in stored for game in rounds(queries, answers)]
    found = expected_ceiling(length, width, distinct_queries=distinct_queries, distinct_answers=distinct_answers)
    assert found[:2] == pytest.approx(by_enumeration(games), abs=1e-12)
    ambiguous = sum(queries.count(query) > 1 for queries, _ in stored for query in queries) / (len(stored) * length)
    assert found.ambiguous == pytest.approx(ambiguous, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("distinct_keys", [True, False])
def test_the_ceiling_of_a_batch_is_what_enumerating_its_queries_gives(seed, distinct_keys):
    made = key_value(4, 2, 5, generator=seeded(seed), distinct_keys=distinct_keys, distinct_values=False)
    expected = {BY_KEY: [], BY_VALUE: []}
    for entry in range(5):
        stored = made.inputs[:4, entry, :4].gt(0).int().tolist()
        keys, values = (tuple(tuple(row[half]) for row in stored) for half in (slice(0, 2), slice(2, 4)))
        expected[BY_KEY].append(by_enumeration(rounds(keys, values)))
        expected[BY_VALUE].append(by_enumeration(rounds(values, keys)))
    for phase, each in expected.items():
        mean = [sum(part) / 5 for part in zip(*each, strict=True)]
        assert ceiling(made, phase)[:2] == pytest.approx(mean, abs=1e-12)
    both = [sum(part) / 2 for part in zip(ceiling(made, BY_KEY), ceiling(made, BY_VALUE), strict=True)]
    assert ceiling(made) == pytest.approx(both, abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"distinct_keys": False}])
def test_drawn_batches_reach_the_expected_ceiling_on_average(options):
    made = key_value(8, 3, 4000, generator=seeded(4), distinct_values=False, **options)
    expected = expected_ceiling(8, 3, distinct_answers=not options)
    found = ceiling(made, BY_VALUE)
    assert found == pytest.approx(expected, abs=0.01)
    assert (ceiling(made, BY_KEY) == (1, 0, 0)) is not options


def test_the_ceiling_of_the_released_settings():
    for length, width, percent in ((16, 6, 21.0), (8, 6, 10.4), (16, 8, 5.7)):
        found = expected_ceiling(length, width)
        assert round(100 * found.ambiguous, 1) == percent
        words = 2**width
        distinct_values = words * (1 - (1 - 1 / words) ** length)       # one key of each value can be named
        assert found.accuracy == pytest.approx(distinct_values / length, abs=1e-12)
        assert 0 < found.bit_error < 1 - found.accuracy < found.ambiguous


def test_a_pair_of_equal_values_costs_one_word_and_half_the_bits_that_differ():
    found = expected_ceiling(2, 2)
    assert found.ambiguous == pytest.approx(1 / 4)
    assert found.accuracy == pytest.approx(1 - 1 / 4 / 2)
    differing = 1 - comb(2, 1) * comb(2, 2) / comb(4, 2)                # chance that two distinct keys differ in a bit
    assert found.bit_error == pytest.approx(1 / 4 * differing / 2)


def test_where_words_are_distinct_nothing_is_lost():
    made = key_value(7, 3, 20, generator=seeded(5))
    assert ceiling(made) == (1, 0, 0)
    assert expected_ceiling(7, 3, distinct_queries=True) == (1, 0, 0)


def test_a_ceiling_needs_queries():
    one_way = key_value(3, 3, 2, two_way=False, generator=seeded(6))
    with pytest.raises(ValueError, match=r"BY_VALUE \(2\) .* got 2"):
        ceiling(one_way, BY_VALUE)
    assert ceiling(one_way) == (1, 0, 0)
    for wrong in ({"length": 0, "width": 3}, {"length": 3, "width": 0}):
        with pytest.raises(ValueError, match="must be 1 or more, got 0"):
            expected_ceiling(**wrong)
