"""The differentiable neural computer's memory and its repairs (thesis chapter 2 and appendix A)."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from solutions.shapes import require_shapes


def oneplus(x: Tensor) -> Tensor:
    """Map any real number into (1, inf): 1 + log(1 + exp(x)), without overflow. Same shape as x. Appendix A.1."""
    return 1 + softplus(x)


def content_lookup(
    memory: Tensor, key: Tensor, strength: Tensor, mask: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """Address the cells by how similar they are to a key, comparing only what the mask lets through.

    memory    (batch, cells, word)
    key       (batch, heads, word)
    strength  (batch, heads), 1 or more: the higher, the sharper the address
    mask      (batch, heads, word) in [0, 1], one per head; None compares everything
    eps       added to the product of the two norms, so a row (or key) of zeros scores exactly 0
    returns   (batch, heads, cells): non-negative, each row sums to 1

    Gradients are finite everywhere, at rows of zeros too. Raises ValueError on shapes that disagree.
    Equations 2.1 and 2.4 (A.3, A.4).
    """
    require_shapes(
        memory=(memory, "batch cells word"),
        key=(key, "batch heads word"),
        strength=(strength, "batch heads"),
        mask=(key if mask is None else mask, "batch heads word"),
    )
    ### BEGIN SOLUTION
    rows = memory[:, None]                                              # (batch, 1, cells, word)
    if mask is not None:
        rows, key = rows * mask[:, :, None], key * mask                 # rows (batch, heads, cells, word)
    dot = (rows * key[:, :, None]).sum(-1)                              # (batch, heads, cells)
    # vector_norm has a finite gradient at zero; the square root of a sum of squares does not
    norms = torch.linalg.vector_norm(rows, dim=-1) * torch.linalg.vector_norm(key, dim=-1)[..., None]
    return torch.softmax(strength[..., None] * dot / (norms + eps), dim=-1)
    ### END SOLUTION


def retention(free_gates: Tensor, read_weights: Tensor) -> Tensor:
    """How much of each cell is kept after the reads of the last step: psi = prod over heads of (1 - f w).

    free_gates    (batch, heads) in [0, 1]: 1 frees what the head has just read
    read_weights  (batch, heads, cells): where each head read at the last step
    returns       (batch, cells) in [0, 1]: 1 keeps the cell, 0 forgets it

    Raises ValueError on shapes that disagree. Appendix A.5.
    """
    require_shapes(free_gates=(free_gates, "batch heads"), read_weights=(read_weights, "batch heads cells"))
    ### BEGIN SOLUTION
    return (1 - free_gates[..., None] * read_weights).prod(dim=1)
    ### END SOLUTION


def write_memory(
    memory: Tensor, write_weights: Tensor, erase: Tensor, word: Tensor, retained: Tensor | None = None
) -> Tensor:
    """Forget what was freed, erase where we write, then add the new word. Returns a new memory.

    memory         (batch, cells, word): the memory before the write, left unchanged
    write_weights  (batch, cells), non-negative, sums to at most 1: where to write
    erase          (batch, word) in [0, 1]: which positions of a written cell are cleared first
    word           (batch, word): what is written
    retained       (batch, cells) in [0, 1]: the retention of each cell; None forgets nothing (the plain DNC)
    returns        (batch, cells, word)

    Retention and erasure act on the old content only, never on the word being written. Raises ValueError on
    shapes that disagree. Equation 2.3 (A.8).
    """
    require_shapes(
        memory=(memory, "batch cells word"),
        write_weights=(write_weights, "batch cells"),
        erase=(erase, "batch word"),
        word=(word, "batch word"),
        retained=(write_weights if retained is None else retained, "batch cells"),
    )
    ### BEGIN SOLUTION
    kept = 1 - write_weights[..., None] * erase[:, None]                # (batch, cells, word)
    if retained is not None:
        kept = kept * retained[..., None]
    return memory * kept + write_weights[..., None] * word[:, None]
    ### END SOLUTION
