"""Key-value retrieval: complete stored pairs from their first half, or from either half, and the best anyone can do."""

from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from solutions.tasks.draw import Bounds, coded, distinct_words, draw_size, permutations, random_bits, require_sizes

STORE, BY_KEY, BY_VALUE, MARKER = range(4)


class KeyValueBatch(NamedTuple):
    """A batch of key-value retrieval; all entries have the same number of pairs.

    inputs       (time, batch, 2 width + markers): key, value, then one marker channel (one way) or two (two ways);
                 {-1, +1} or {0, 1}
    targets      (time, batch, width) in {0, 1}: the missing half, in the same row as its query
    answer_rows  (time, batch), bool: the query rows
    phase        (time, batch), int64: STORE, BY_KEY, BY_VALUE or MARKER
    pair         (time, batch), int64: which stored pair a row is about, from 0; -1 in marker rows
    """

    inputs: Tensor
    targets: Tensor
    answer_rows: Tensor
    phase: Tensor
    pair: Tensor


class Ceiling(NamedTuple):
    """What the best possible answers reach, on average, for whoever knows the inputs and nothing else.

    accuracy   the share of answer rows right in every bit, when that is what is aimed at
    bit_error  the share of wrong bits, when that is what is aimed at
    ambiguous  the share of queries that more than one stored pair matches
    """

    accuracy: float
    bit_error: float
    ambiguous: float


def key_value(
    length: Bounds = (2, 16),
    width: int = 8,
    batch: int = 16,
    *,
    generator: Generator,
    two_way: bool = True,
    query_in_place: bool = True,
    distinct_keys: bool = True,
    distinct_values: bool = True,
    bipolar: bool = True,
) -> KeyValueBatch:
    """Store pairs of words, then complete each pair from its key and, two ways, from its value.

    length           pairs, 1 or more: a number, or (low, high) with both ends included
    width            bits in a key, and in a value
    two_way          ask for every key by its value after asking for every value by its key
    query_in_place   a value is shown in the second half, where it was stored; otherwise in the first half, as in the
                     released code, where only the marker tells a value from a key
    distinct_keys    no two keys of a sequence are the same; otherwise they are independent
    distinct_values  the same for values; the released code draws them independently, see ceiling
    bipolar          inputs in {-1, +1}; otherwise {0, 1}

    Rows: the pairs in random order; a marker; all keys, in a new order, each with its value due in the same row; a
    marker; two ways: all values, in a third order, each with its key due; a marker. One way has 2 length + 2 rows and
    both markers on channel -1. Two ways has 3 (length + 1) rows: channel -2 marks the first, -1 the second, both the
    last. Raises ValueError on empty ranges, sizes under 1, and more distinct words than there are.
    Thesis section 2.3, appendix A.2.
    """
    require_sizes(generator, width=width, batch=batch)
    most = 2**width if distinct_keys or distinct_values else None
    count = draw_size("length", length, least=1, most=most, generator=generator)
    keys = (distinct_words if distinct_keys else random_bits)(count, batch, width, generator=generator)
    values = (distinct_words if distinct_values else random_bits)(count, batch, width, generator=generator)
    orders = [permutations(count, batch, generator=generator) for _ in range(2)]    # drawn also when one way
    phases = (STORE, BY_KEY, BY_VALUE) if two_way else (STORE, BY_KEY)

    stride, markers = count + 1, len(phases) - 1
    inputs = keys.new_zeros(len(phases), stride, batch, 2 * width + markers)
    targets = keys.new_zeros(len(phases), stride, batch, width)
    phase = torch.full((len(phases), stride, batch), MARKER, device=keys.device)
    pair = torch.full_like(phase, -1)
    first, second = slice(0, width), slice(width, 2 * width)

    phase[:, :count] = torch.tensor(phases, device=keys.device)[:, None, None]
    pair[STORE, :count] = torch.arange(count, device=keys.device)[:, None]
    inputs[STORE, :count, :, first], inputs[STORE, :count, :, second] = keys, values
    inputs[STORE, count, :, 2 * width] = inputs[-1, count, :, 2 * width] = 1
    for asked, order in zip(phases[1:], orders, strict=False):
        shown, due = (keys, values) if asked == BY_KEY else (values, keys)
        half = second if asked == BY_VALUE and query_in_place else first
        rows = order[..., None].expand(-1, -1, width)                   # (length, batch, width)
        inputs[asked, :count, :, half] = shown.gather(0, rows)
        targets[asked, :count] = due.gather(0, rows)
        pair[asked, :count] = order
        inputs[asked, count, :, -1] = 1

    answer_rows = (phase == BY_KEY) | (phase == BY_VALUE)
    inputs = coded(inputs, bipolar=bipolar)
    return KeyValueBatch(*(part.flatten(0, 1) for part in (inputs, targets, answer_rows, phase, pair)))


def ceiling(batch: KeyValueBatch, phase: int | None = None) -> Ceiling:
    """The best attainable on this very batch, exactly.

    phase  BY_KEY or BY_VALUE; None takes every query of the batch

    Pairs that match a query are equally likely to be meant: all of them are asked for, in an order nobody is told. So
    the best word is the commonest among the answers of those pairs, the best bit the commoner in each position.
    Raises ValueError when the batch has no such phase.
    """
    phases = [asked for asked in (BY_KEY, BY_VALUE) if phase in (None, asked) and (batch.phase == asked).any()]
    if not phases:
        raise ValueError(f"phase must be BY_KEY ({BY_KEY}), BY_VALUE ({BY_VALUE}) or None, and asked for in the batch, "
                         f"got {phase!r}")
    width = batch.targets.shape[-1]
    pairs = batch.inputs[batch.phase[:, 0] == STORE, :, :2 * width].transpose(0, 1) > 0     # (batch, length, 2 width)
    keys, values = pairs[..., :width], pairs[..., width:]
    parts = []
    for asked in phases:
        query, answer = (keys, values) if asked == BY_KEY else (values, keys)
        match, agree = _same_words(query), _same_words(answer)          # (batch, length, length)
        matching = match.sum(-1)                                        # (batch, length)
        commonest = (match @ agree).amax(-1)                            # of the pairs that match, by answer
        ones = match @ answer.double()                                  # (batch, length, width)
        minority = torch.minimum(ones, matching[..., None] - ones).mean(-1)
        parts.append((commonest / matching, minority / matching, (matching > 1).double()))
    return Ceiling(*(float(torch.cat(part).mean()) for part in zip(*parts, strict=True)))


def expected_ceiling(
    length: int, width: int, *, distinct_queries: bool = False, distinct_answers: bool = True
) -> Ceiling:
    """The best attainable on average over sequences of this length: ceiling, by arithmetic instead of by drawing.

    length            pairs
    width             bits in each half
    distinct_queries  whether the half that is shown is distinct; if so, nothing is ambiguous
    distinct_answers  whether the half that is due is distinct

    The defaults are the released code's queries by value. Each other pair has the same query with chance 2^-width, so
    1 - (1 - 2^-width)^(length - 1) of the queries are ambiguous. Raises ValueError on sizes under 1 and more distinct
    words than there are.
    """
    words = 2**width
    for name, size in (("length", length), ("width", width)):
        if size < 1:
            raise ValueError(f"{name} must be 1 or more, got {size}")
    if length > words and (distinct_queries or distinct_answers):
        raise ValueError(f"there are only {words} distinct words of {width} bits, got length {length}")
    if distinct_queries:
        return Ceiling(1.0, 0.0, 0.0)
    commonest = np.ones(length + 1) if distinct_answers else _largest_group(length, width)
    accuracy = bit_error = 0.0
    for others in range(length):
        matching = others + 1
        chance = comb(length - 1, others) * (words - 1) ** (length - 1 - others) / words ** (length - 1)
        accuracy += chance * commonest[matching] / matching
        bit_error += chance * _minority(matching, words, distinct_answers) / matching
    return Ceiling(float(accuracy), bit_error, 1 - (1 - 1 / words) ** (length - 1))


def _same_words(words: Tensor) -> Tensor:
    """Which words of an entry are the same: (batch, length, width) to (batch, length, length), 1 or 0, float64."""
    return (words[:, :, None] == words[:, None]).all(-1).double()


def _minority(count: int, words: int, distinct: bool) -> float:
    """Of `count` random words, how many on average lack the bit that most of them have, in a given position."""
    if distinct:
        ways = [comb(words // 2, ones) * comb(words // 2, count - ones) for ones in range(count + 1)]
    else:
        ways = [comb(count, ones) for ones in range(count + 1)]
    return sum(min(ones, count - ones) * way for ones, way in enumerate(ways)) / sum(ways)


def _largest_group(most: int, width: int) -> np.ndarray:
    """The mean size of the largest group of equal ones among k independent words, for k = 0..most."""
    sizes = np.arange(most + 1)
    halves = [np.array([comb(count, part) / 2**count for part in range(count + 1)]) for count in sizes.tolist()]
    fits = (sizes <= sizes[:, None]).astype(float)      # [m, k]: the chance that no group of k words is larger than m
    for _ in range(width):                              # one bit more: k words fall into two halves at random
        fits = np.stack([fits[:, :k + 1] * fits[:, k::-1] @ halves[k] for k in sizes.tolist()], 1)
    return (1 - fits).sum(0)                            # a mean is the sum of the chances to exceed 0, 1, 2, ...
