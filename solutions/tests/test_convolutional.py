"""The convolutional networks have the sizes of their sources, and vmap can run them under several masks."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from solutions.convolutional import BasicBlock, PlainCNN, ResNet
from solutions.experiments.ensemble import generator
from solutions.masks import MaskedModel

torch.set_num_threads(1)


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


NETWORKS = {"plain, digits": (lambda: PlainCNN(1, widths=[3, 4, 5]), (1, 8, 8)),
            "plain, CIFAR": (lambda: PlainCNN(3, widths=[2, 3, 4, 5]), (3, 32, 32)),
            "plain, no dropout": (lambda: PlainCNN(3, 7, [2, 3], dropout=False), (3, 5, 7)),
            "residual": (lambda: ResNet(3, depth=14, widths=[2, 4, 7]), (3, 32, 32)),
            "residual, one channel": (lambda: ResNet(1, depth=8, widths=[2, 2, 3]), (1, 8, 8))}
each_network = pytest.mark.parametrize("name", list(NETWORKS))


@each_network
def test_every_group_of_the_batch_sees_its_own_mask(name):
    make, shape = NETWORKS[name]
    net, x = make(), normal(6, *shape)
    net(x)                                                  # batch norm has seen something
    masked = MaskedModel(net)
    masks = masked.sample(3, generator(2))
    together = masked(x, masks=masks)
    alone = torch.cat([masked(part, masks={key: mask[group] for key, mask in masks.items()})
                       for group, part in enumerate(x.split(2))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    together.square().sum().backward()
    assert all(part.grad.abs().sum() > 0 for part in masked.logits.values())


@each_network
def test_in_eval_mode_nothing_changes_and_nothing_is_random(name):
    make, shape = NETWORKS[name]
    net, x = make().eval(), normal(3, *shape)
    before, kept = {key: value.clone() for key, value in net.state_dict().items()}, x.clone()
    assert torch.equal(net(x), net(x))
    assert torch.equal(net(x)[:2], net(x[:2])) or torch.allclose(net(x)[:2], net(x[:2]), atol=1e-5)
    assert torch.equal(x, kept)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_plain_network_is_that_of_the_table():
    net = PlainCNN(3)
    assert sum(value.numel() for value in net.parameters()) == (
        9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 32 + 64 + 128 + 256 + 256 * 10 + 10)
    assert [dropout.p for dropout in net.dropouts] == [0, 0, 0.25, 0.5]
    assert [dropout.p for dropout in PlainCNN(3, dropout=False).dropouts] == [0] * 4
    first, second = PlainCNN(1, 4, [3, 5], dropout=False).convolutions
    small = PlainCNN(1, 4, [3, 5], dropout=False)
    first, second = small.convolutions
    x = normal(2, 1, 6, 6)
    hidden = max_pool2d(conv2d(x, first.weight, first.bias, padding=1).clamp_min(0), 2)
    hidden = conv2d(hidden, second.weight, second.bias, padding=1).clamp_min(0)
    torch.testing.assert_close(small(x), small.output(hidden.flatten(2).mean(-1)))


@pytest.mark.parametrize("depth", [8, 20, 110])
def test_a_residual_network_has_as_many_layers_as_it_says(depth):
    net = ResNet(depth=depth)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    assert sum(module.weight.numel() for module in layers) == 9 * 3 * 16 + 640 + 9 * (
        16 * 16 * (depth - 2) // 3 + 32 * (16 + 32 * ((depth - 2) // 3 - 1)) + 64 * (32 + 64 * ((depth - 2) // 3 - 1)))


def test_the_resnet_of_the_thesis_has_the_size_he_et_al_print():
    assert round(sum(value.numel() for value in ResNet().parameters()) / 1e6, 1) == 1.7


def test_a_block_that_changes_nothing_lets_its_input_through():
    same, smaller = BasicBlock(3, 3).eval(), BasicBlock(3, 5, stride=2).eval()
    for block in (same, smaller):
        nn.init.zeros_(block.second.weight)
    x = normal(2, 3, 4, 6).relu()
    torch.testing.assert_close(same(x), x)
    torch.testing.assert_close(smaller(x)[:, 1:4], x[..., ::2, ::2])
    assert smaller(x)[:, [0, 4]].abs().sum() == 0


@pytest.mark.parametrize(("make", "message"), [
    (lambda: PlainCNN(1, widths=[4]), "widths two numbers or more"), (lambda: PlainCNN(0), "must be 1 or more"),
    (lambda: PlainCNN(1, widths=[4, 0]), "each 1 or more"), (lambda: ResNet(depth=100), "depth must be 6 n"),
    (lambda: ResNet(depth=2), "depth must be 6 n"), (lambda: ResNet(depth=8, widths=[4, 8]), "three numbers"),
    (lambda: ResNet(depth=8, widths=[4, 2, 8]), "none below the one before")],
    ids=["one convolution", "no channel", "no width", "no such depth", "too shallow", "two stages", "shrinking"])
def test_networks_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
