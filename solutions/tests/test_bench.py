"""The benchmark compares like with like."""

import itertools
import re

import pytest
import torch

from solutions import bench
from solutions.bench import dnc as dnc_bench
from solutions.bench import masks as masks_bench
from solutions.dnc import DNC

torch.set_num_threads(1)


@pytest.mark.parametrize("flags", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("heads", [1, 3])
def test_the_literal_transcription_computes_the_same(flags, heads):
    torch.manual_seed(2)
    switches = dict(zip(("mask", "deallocation", "sharpness"), flags, strict=True))
    net = DNC(4, 3, cells=5, word=6, heads=heads, controller_size=7, mask_floor=0.1, **switches).double()
    for parameter in net.parameters():
        parameter.data.mul_(3)
    inputs = torch.randn(8, 2, 4, dtype=torch.float64)
    ours, literal = net(inputs)[0], dnc_bench.LiteralDNC(net)(inputs)
    torch.testing.assert_close(ours, literal, rtol=1e-9, atol=1e-9)
    wanted = torch.autograd.grad(ours.square().sum(), net.parameters(), retain_graph=True)
    for gradient, expected in zip(torch.autograd.grad(literal.square().sum(), net.parameters()), wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("subject", "count"), [("dnc", 6), ("masks", 8)])
def test_every_ratio_stands_on_a_line_of_its_own(subject, count):
    threads = torch.get_num_threads()
    shown = bench.lines(subject, rounds=1)
    assert torch.get_num_threads() == threads
    ratios = [re.fullmatch(rf"{subject}\.(\w+) ratio=(\d+\.\d{{3}})", line) for line in shown[1:]]
    assert all(ratios)
    assert len({match[1] for match in ratios}) == count
    assert all(float(match[2]) > 0 for match in ratios)


@pytest.mark.parametrize("name", masks_bench.networks())
def test_a_plain_step_trains_the_weights_and_a_mask_step_the_logits(name):
    net, inputs, axis = masks_bench.networks()[name]
    calls, before = masks_bench.steps(net, inputs, axis), [part.clone() for part in net.parameters()]
    calls["masks"]()
    assert all(torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True))
    calls["plain"]()
    assert not any(torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True))
    gradients, weights = calls["given"](), [part for part in net.parameters() if part.dim() > 1]
    assert [part.shape for part in gradients] == [(masks_bench.SAMPLES, *part.shape) for part in weights]
    assert all(part.any() for part in gradients)


def test_the_two_samplers_of_the_benchmark_draw_masks_of_one_size_and_rate():
    fast, literal = (draw() for draw in masks_bench.samplers().values())
    assert fast.shape == literal.shape
    assert abs(fast.mean() - literal.mean()) < 0.002        # five standard errors of 2.56 million draws are 0.0014


def test_what_is_kept_for_the_gradient_is_counted_once():
    x = torch.randn(100, 10, requires_grad=True)
    assert bench.kept_for_backward(lambda: x * x) == 4000
    assert bench.kept_for_backward(lambda: (x * x) * x) == 4000 + 4000
    assert bench.kept_for_backward(lambda: x + x) == 0
