"""The one mechanism of lesson 00: reading a memory through soft addresses."""

from torch import Tensor

from solutions.shapes import require_shapes


def weighted_recall(memory: Tensor, weights: Tensor) -> Tensor:
    """Read one word per head as the weighted sum of the memory's cells: r = w M.

    memory   (batch, cells, word)
    weights  (batch, heads, cells), non-negative, each row sums to at most 1
    returns  (batch, heads, word)

    A row of zeros reads a word of zeros; the result has the arguments' dtype. Raises ValueError when the two disagree
    on batch or cells.
    Graves et al. 2016, methods, read vectors; thesis, appendix A.1, last formula.
    """
    require_shapes(memory=(memory, "batch cells word"), weights=(weights, "batch heads cells"))
    ### BEGIN SOLUTION
    return weights @ memory
    ### END SOLUTION
