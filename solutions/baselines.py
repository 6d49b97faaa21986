"""The plain networks that mechanisms are compared with or looked for in."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

State = list[tuple[Tensor, Tensor]]      # of every layer: hidden state and cell state


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


class LSTM(nn.Module):
    """Stacked LSTM layers as loops over linear layers, so that vmap can run them under several masks at once.

    inputs, hidden, layers  sizes, each 1 or more

    One bias per gate, weights and biases drawn as nn.LSTM does. Called with (time, batch, inputs) and a state,
    or None for zeros, it returns the last layer's (time, batch, hidden) and the new state: for every layer the pair
    (hidden state, cell state), (batch, hidden) each. Raises ValueError on other sizes.
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        if min(inputs, hidden, layers) < 1:
            raise ValueError(f"inputs, hidden and layers must be 1 or more, got {inputs}, {hidden} and {layers}")
        widths = [inputs] + [hidden] * (layers - 1)
        self.hidden = hidden
        self.from_input = nn.ModuleList(nn.Linear(width, 4 * hidden) for width in widths)
        self.from_state = nn.ModuleList(nn.Linear(hidden, 4 * hidden, bias=False) for _ in widths)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        zeros = inputs.new_zeros(inputs.shape[1], self.hidden)
        before, after = state or [(zeros, zeros)] * len(self.from_input), []
        for from_input, from_state, (hidden, cell) in zip(self.from_input, self.from_state, before, strict=True):
            outputs = []
            for entering in from_input(inputs):
                enter, forget, new, leave = (entering + from_state(hidden)).chunk(4, dim=-1)
                cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
                hidden = leave.sigmoid() * cell.tanh()
                outputs.append(hidden)
            inputs = torch.stack(outputs)
            after.append((hidden, cell))
        return inputs, after


class Recurrent(nn.Module):
    """An LSTM that answers at every step: (time, batch, inputs) to (time, batch, outputs).

    inputs, hidden, outputs, layers  sizes, each 1 or more
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 1) -> None:
        super().__init__()
        self.lstm, self.to_output = LSTM(inputs, hidden, layers), nn.Linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.to_output(self.lstm(inputs)[0])
