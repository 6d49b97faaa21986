"""The plain networks that mechanisms are compared with or looked for in."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Linear layers with ReLU between them.

    sizes  inputs, hidden layers, outputs: two numbers or more, each 1 or more

    inputs (..., sizes[0]) to outputs (..., sizes[-1]). Raises ValueError on other sizes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be two numbers or more, each 1 or more, got {list(sizes)}")
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))

    def forward(self, inputs: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            inputs = layer(inputs).relu()
        return last(inputs)
