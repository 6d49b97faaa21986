"""The plain networks do what torch's own do, and vmap can run them."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from solutions.baselines import LSTM, FeedForward, Recurrent
from solutions.experiments.ensemble import generator

torch.set_num_threads(1)


@pytest.mark.parametrize("sizes", [[3], [3, 0, 2]])
def test_a_network_without_layers_is_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be two numbers or more"):
        FeedForward(sizes)


def test_a_feed_forward_network_is_linear_layers_with_relu_between():
    net, x = FeedForward([3, 4, 5, 2]), torch.randn(7, 3, generator=generator(1))
    first, second, third = net.layers
    torch.testing.assert_close(net(x), third(second(first(x).clamp_min(0)).clamp_min(0)))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_lstm_computes_what_that_of_torch_does(layers):
    own, other = LSTM(3, 4, layers).double(), nn.LSTM(3, 4, layers).double()
    with torch.no_grad():
        for layer in range(layers):
            getattr(other, f"weight_ih_l{layer}").copy_(own.from_input[layer].weight)
            getattr(other, f"bias_ih_l{layer}").copy_(own.from_input[layer].bias)
            getattr(other, f"weight_hh_l{layer}").copy_(own.from_state[layer].weight)
            getattr(other, f"bias_hh_l{layer}").zero_()
    draw = generator(2)
    for state in (None, [torch.randn(2, 5, 4, generator=draw, dtype=torch.float64) for _ in range(layers)]):
        x = torch.randn(6, 5, 3, generator=draw, dtype=torch.float64)
        outputs, after = own(x, state and [tuple(pair) for pair in state])
        expected, (hidden, cell) = other(x, state and tuple(torch.stack(part) for part in zip(*state, strict=True)))
        torch.testing.assert_close(outputs, expected)
        torch.testing.assert_close(torch.stack([pair[0] for pair in after]), hidden)
        torch.testing.assert_close(torch.stack([pair[1] for pair in after]), cell)


def test_a_recurrent_network_runs_under_vmap():
    net, x = Recurrent(3, 4, 2), torch.randn(5, 7, 3, generator=generator(3))
    weights = {name: torch.stack([value, 2 * value]) for name, value in net.named_parameters()}
    both = torch.vmap(lambda own: functional_call(net, own, (x,)))(weights)
    torch.testing.assert_close(both[0], net(x))
    assert not torch.allclose(both[1], both[0])


@pytest.mark.parametrize("sizes", [(0, 4, 1), (3, 0, 1), (3, 4, 0)])
def test_an_lstm_without_units_is_refused(sizes):
    with pytest.raises(ValueError, match="must be 1 or more"):
        LSTM(*sizes)
