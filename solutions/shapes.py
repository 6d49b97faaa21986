"""One line that states the shapes a function expects and says clearly what came instead."""

import functools

from torch import Size, Tensor


def require_shapes(**arguments: tuple[Tensor, str]) -> dict[str, int]:
    """Check tensors against named axes; an axis named twice must have the same size everywhere.

    arguments  name=(tensor, "axis axis ..."), for example key=(key, "batch heads word"); a number is its own size
    returns    the size of every named axis

    Raises ValueError that names the argument, its shape, the shape expected and who fixed each size.

    >>> import torch
    >>> require_shapes(memory=(torch.zeros(2, 5, 3), "batch cells word"), key=(torch.zeros(2, 3), "batch word"))
    {'batch': 2, 'cells': 5, 'word': 3}
    """
    return dict(_sizes(tuple((name, tensor.shape, axes) for name, (tensor, axes) in arguments.items())))


@functools.lru_cache(1024)      # a recurrent model asks for the same shapes at every step
def _sizes(arguments: tuple[tuple[str, Size, str], ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    fixed_by: dict[str, str] = {}
    for name, shape, axes_text in arguments:
        axes = axes_text.split()
        known = sizes | {axis: int(axis) for axis in axes if axis.isdigit()}
        agrees = len(shape) == len(axes)
        for axis, size in zip(axes, shape, strict=False):
            agrees = agrees and known.setdefault(axis, size) == size
        if not agrees:
            expected = ", ".join(f"{axis} {sizes[axis]}" if axis in sizes else axis for axis in axes)
            witnesses = sorted({fixed_by[axis] for axis in axes if axis in fixed_by})
            because = f" as {' and '.join(witnesses)} has it" if witnesses else ""
            raise ValueError(f"{name} must be ({expected}){because}, got {tuple(shape)}")
        sizes |= {axis: known[axis] for axis in axes if not axis.isdigit()}
        for axis in axes:
            fixed_by.setdefault(axis, name)
    return sizes
