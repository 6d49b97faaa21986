"""What the generators share: sizes drawn from a range, random bits, distinct words, permutations, the two codings.

Everything is made on the generator's device, and nothing reads or changes torch's global generator.
"""

from numbers import Integral

import torch
from torch import Generator, Tensor

Bounds = int | tuple[int, int]
"""A size: a number, or (low, high) with both ends included."""

TOLD_APART_BY = 62  # bits; a number of so many fits an int64 with room to spare
LISTED = 10         # bits; all words of so many are few enough to be put in random order


def require_sizes(generator: Generator, **sizes: int) -> None:
    """Raise ValueError unless every size is a whole number of at least 1, TypeError unless there is a generator."""
    if not isinstance(generator, Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    for name, size in sizes.items():
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, got {size!r}")


def draw_size(name: str, bounds: Bounds, *, least: int, most: int | None = None, generator: Generator) -> int:
    """Draw one number uniformly from a range.

    bounds   a number, or (low, high) with both ends included
    returns  that number, or one of low..high

    Raises ValueError when the range is empty, is not a range, or leaves least..most, whatever would be drawn.
    """
    low, high = check_bounds(name, bounds, least=least, most=most)
    return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))


def check_bounds(name: str, bounds: Bounds, *, least: int, most: int | None = None) -> tuple[int, int]:
    """The two ends of a range. Raises ValueError as draw_size does."""
    ends = (bounds, bounds) if isinstance(bounds, Integral) else bounds
    is_range = isinstance(ends, tuple | list) and len(ends) == 2 and all(isinstance(end, Integral) for end in ends)
    if not is_range or not least <= ends[0] <= ends[1]:
        raise ValueError(f"{name} must be a number or (low, high) with {least} <= low <= high, got {bounds!r}")
    if most is not None and ends[1] > most:
        raise ValueError(f"{name} must be at most {most}, for there are no more distinct ones, got {bounds!r}")
    return ends[0], ends[1]


def random_bits(*shape: int, generator: Generator) -> Tensor:
    """Independent fair bits, float32 in {0, 1}, of the given shape."""
    return torch.randint(2, shape, generator=generator, device=generator.device).float()


def distinct_words(count: int, batch: int, width: int, *, generator: Generator) -> Tensor:
    """Words of which no two in one batch entry are the same, in random order: every such list is equally likely.

    returns  (count, batch, width), float32 in {0, 1}

    Words wider than 62 bits are told apart by their first 62. Raises ValueError when there are fewer than `count`
    words of this width. Subsets after Floyd (Bentley and Floyd 1987).
    """
    if count > 2**width:
        raise ValueError(f"there are only {2**width} distinct words of {width} bits, got a request for {count}")
    device, told_apart = generator.device, min(width, TOLD_APART_BY)
    if width <= LISTED:
        numbers = permutations(2**width, batch, generator=generator)[:count]
    else:
        numbers = torch.empty(count, batch, dtype=torch.int64, device=device)
        for drawn, last in enumerate(range(2**told_apart - count, 2**told_apart)):
            number = torch.randint(last + 1, (batch,), generator=generator, device=device)
            taken = (numbers[:drawn] == number).any(0)                  # (batch)
            numbers[drawn] = torch.where(taken, last, number)
        numbers = numbers.gather(0, permutations(count, batch, generator=generator))
    bits = (numbers[..., None] >> torch.arange(told_apart, device=device)) & 1
    rest = random_bits(count, batch, width - told_apart, generator=generator)
    return torch.cat((bits.float(), rest), -1)


def permutations(length: int, batch: int, *, generator: Generator) -> Tensor:
    """One random order of 0..length-1 per batch entry, (length, batch), int64."""
    ranks = torch.rand(length, batch, generator=generator, device=generator.device, dtype=torch.float64)
    return ranks.argsort(0)


def coded(bits: Tensor, *, bipolar: bool) -> Tensor:
    """Bits as a network reads them: {-1, +1} when bipolar, else {0, 1} as they are. Same shape."""
    return 2 * bits - 1 if bipolar else bits
