"""Copy, and repeated copy: different patterns back to back in one sequence, so that memory must be used again."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from solutions.tasks.draw import Bounds, check_bounds, coded, draw_size, random_bits, require_sizes


class CopyBatch(NamedTuple):
    """A batch of copy problems; all entries share their lengths.

    inputs       (time, batch, width + 1): the pattern's bits, and a marker on the last channel; {-1, +1} or {0, 1}
    targets      (time, batch, outputs) in {0, 1}: outputs is width + 1 with the marker in the target, else width
    answer_rows  (time, batch), bool: where an answer is due
    problem      (time, batch), int64: which problem of the sequence a row belongs to, from 0
    """

    inputs: Tensor
    targets: Tensor
    answer_rows: Tensor
    problem: Tensor


def copy(
    length: Bounds = (2, 14),
    width: int = 8,
    batch: int = 16,
    *,
    generator: Generator,
    marker_in_target: bool = True,
    bipolar: bool = True,
) -> CopyBatch:
    """See a pattern and a marker, then repeat the pattern: repeated_copy with one problem."""
    return repeated_copy(
        length, 1, width, batch, generator=generator, marker_in_target=marker_in_target, bipolar=bipolar
    )


def repeated_copy(
    length: Bounds = (2, 14),
    problems: Bounds = (1, 8),
    width: int = 8,
    batch: int = 16,
    *,
    generator: Generator,
    same_length: bool = False,
    marker_in_target: bool = True,
    bipolar: bool = True,
) -> CopyBatch:
    """Several different copy problems, one after the other.

    length            rows of a pattern, 1 or more: a number, or (low, high) with both ends included
    problems          patterns in a sequence, 1 or more: a number or (low, high)
    width             bits in a row
    same_length       one length for the whole sequence; otherwise each problem draws its own
    marker_in_target  the answer ends with the marker row, as in the released code
    bipolar           inputs in {-1, +1}; otherwise {0, 1}

    A problem is `length` rows of random bits, a row with only the marker set, then empty rows in which the pattern
    (and the marker row, if asked for) is due: 2 length + 2 rows, or 2 length + 1 without the marker. This is not the
    repeat copy of Graves et al. 2016, which repeats one pattern. Raises ValueError on empty ranges and sizes under 1.
    Thesis section 2.3, appendix A.2, where the ranges of length and repetitions appear to be swapped; the defaults
    are those of the released code.
    """
    require_sizes(generator, width=width, batch=batch)
    check_bounds("length", length, least=1)
    count = draw_size("problems", problems, least=1, generator=generator)
    lengths = [draw_size("length", length, least=1, generator=generator) for _ in range(count)]
    if same_length:
        lengths = lengths[:1] * count
    patterns = random_bits(sum(lengths), batch, width, generator=generator).split(lengths)
    parts = [_problem(pattern, index, marker_in_target) for index, pattern in enumerate(patterns)]
    inputs, targets, answer_rows, problem = (torch.cat(part) for part in zip(*parts, strict=True))
    return CopyBatch(coded(inputs, bipolar=bipolar), targets, answer_rows, problem)


def _problem(pattern: Tensor, index: int, marker_in_target: bool) -> CopyBatch:
    """One copy problem in {0, 1} around its pattern (length, batch, width)."""
    length, batch, width = pattern.shape
    answers = length + marker_in_target
    time = length + 1 + answers
    inputs = pattern.new_zeros(time, batch, width + 1)
    inputs[:length, :, :width] = pattern
    inputs[length, :, width] = 1
    targets = pattern.new_zeros(time, batch, width + marker_in_target)
    targets[length + 1:] = inputs[:answers, :, :targets.shape[-1]]
    answer_rows = torch.zeros(time, batch, dtype=torch.bool, device=pattern.device)
    answer_rows[length + 1:] = True
    return CopyBatch(inputs, targets, answer_rows, torch.full_like(answer_rows, index, dtype=torch.int64))
