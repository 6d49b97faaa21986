"""Associative recall: after a list of blocks, one block is shown again and the block that followed it is due."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from solutions.tasks.draw import Bounds, coded, distinct_words, draw_size, random_bits, require_sizes


class RecallBatch(NamedTuple):
    """A batch of associative recall; all entries have the same number of blocks.

    inputs       (time, batch, width + 2): the words' bits, then two marker channels; {-1, +1} or {0, 1}
    targets      (time, batch, width) in {0, 1}
    answer_rows  (time, batch), bool: the last rows, one per word of a block
    query        (batch), int64: which block is shown again, 0 to blocks - 2
    """

    inputs: Tensor
    targets: Tensor
    answer_rows: Tensor
    query: Tensor


def associative_recall(
    blocks: Bounds = (2, 16),
    block_length: int = 3,
    width: int = 8,
    batch: int = 16,
    *,
    generator: Generator,
    distinct: bool = True,
    bipolar: bool = True,
) -> RecallBatch:
    """See a list of blocks and one of them again; answer with the block after it.

    blocks        blocks in the list, 2 or more: a number, or (low, high) with both ends included
    block_length  words in a block
    width         bits in a word
    distinct      no two blocks of a list are the same, so the answer is certain; otherwise left to chance
    bipolar       inputs in {-1, +1}; otherwise {0, 1}

    A block is its words and a row that ends it: marker on channel -2, but on channel -1 after the last block. Then
    come the words of the queried block, which is never the last one, a row with channel -1 set, and empty rows in which
    the answer is due: (block_length + 1) (blocks + 2) - 1 rows. The released code has two more outputs, always zero,
    and leaves distinctness to chance. Raises ValueError on fewer than 2 blocks, empty ranges, sizes under 1, and more
    distinct blocks than there are. Graves et al. 2014; thesis section 2.3, appendix A.2.
    """
    require_sizes(generator, block_length=block_length, width=width, batch=batch)
    bits = block_length * width
    count = draw_size("blocks", blocks, least=2, most=2**bits if distinct else None, generator=generator)
    words = (distinct_words if distinct else random_bits)(count, batch, bits, generator=generator)
    words = words.view(count, batch, block_length, width).transpose(1, 2)   # (blocks, block_length, batch, width)
    query = torch.randint(count - 1, (batch,), generator=generator, device=words.device)
    entry = torch.arange(batch, device=words.device)
    shown, answer = words[query, :, entry], words[query + 1, :, entry]      # (batch, block_length, width)

    stride = block_length + 1
    inputs = words.new_zeros(count + 2, stride, batch, width + 2)           # the list, the query, the answer
    inputs[:count, :block_length, :, :width] = words
    inputs[count, :block_length, :, :width] = shown.transpose(0, 1)
    inputs[:count - 1, block_length, :, -2] = 1
    inputs[count - 1:count + 1, block_length, :, -1] = 1
    inputs = inputs.flatten(0, 1)[:-1]
    targets = words.new_zeros(len(inputs), batch, width)
    targets[-block_length:] = answer.transpose(0, 1)
    answer_rows = torch.zeros(targets.shape[:2], dtype=torch.bool, device=words.device)
    answer_rows[-block_length:] = True
    return RecallBatch(coded(inputs, bipolar=bipolar), targets, answer_rows, query)
