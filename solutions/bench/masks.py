"""A step of mask training with four samples, against a plain step of the same network; and what drawing them costs."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from solutions.baselines import FeedForward, Recurrent
from solutions.bench import fastest, kept_for_backward
from solutions.masks import (
    MaskedModel,
    fast_uniforms,
    gumbel_sigmoid,
    hard_samples,
    mask_step,
    straight_through,
    uniform_pairs,
)

BATCH, SAMPLES = 128, 4


def networks() -> dict[str, tuple[nn.Module, Tensor, int]]:
    """Name -> a network for addition and multiplication, inputs for it, and the axis of their batch."""
    digits = torch.randn(BATCH, 42, generator=Generator().manual_seed(0))
    return {"small": (FeedForward([42, 400, 400, 200, 20]), digits, 0),
            "big": (FeedForward([42, 800, 800, 800, 800, 20]), digits, 0),
            "recurrent": (Recurrent(42, 256, 20), digits.expand(3, -1, -1), 1)}


def loss(outputs: Tensor, targets: None = None) -> Tensor:
    return outputs.square().mean()


def steps(net: nn.Module, inputs: Tensor, axis: int) -> dict[str, Callable[[], object]]:
    """A plain step and a mask step with the same Adam, and the forward and backward pass under masks that are given."""
    masked, generator = MaskedModel(net, batch_axis=axis), Generator().manual_seed(0)
    given = {name: sample.detach().requires_grad_() for name, sample in masked.sample(SAMPLES, generator).items()}
    weights, logits = torch.optim.Adam(net.parameters()), torch.optim.Adam(masked.logits.values(), lr=1e-2)

    def plain() -> None:
        weights.zero_grad()
        loss(net(inputs)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        weights.step()

    return {"plain": plain,
            "given": lambda: torch.autograd.grad(loss(masked(inputs, masks=given)), list(given.values())),
            "masks": lambda: mask_step(masked, logits, (inputs, None), loss, beta=1e-4, generator=generator,
                                       samples=SAMPLES, clip=1.0, temperature=1.0)}


def samplers() -> dict[str, Callable[[], Tensor]]:
    """The sampler of MaskedModel and equations 3.1 and 3.2 to the letter, on one layer of 800 x 800."""
    logits, generator = torch.full((800, 800), 2.0, requires_grad=True), Generator().manual_seed(0)
    return {"fast": lambda: hard_samples(logits, fast_uniforms(logits, SAMPLES, generator)),
            "literal": lambda: straight_through(gumbel_sigmoid(logits, uniform_pairs(logits, (SAMPLES,), generator)))}


def measure(rounds: int) -> list[str]:
    """Batch 128 in 4 groups. Forward and backward alone bound a step from below: every weight is there four times."""
    torch.manual_seed(0)
    calls = {(name, what): call for name, how in networks().items() for what, call in steps(*how).items()}
    weigh = torch.randn(SAMPLES, 800, 800)
    calls |= {("sampler", what): (lambda draw=draw: draw().backward(weigh)) for what, draw in samplers().items()}
    spent = fastest(calls, rounds)
    kept = {what: kept_for_backward(draw) for what, draw in samplers().items()}
    ms, named = {call: 1e3 * seconds for call, seconds in spent.items()}, list(networks())
    shown = ", ".join(f"{name} {ms[name, 'masks']:.0f} ms ({ms[name, 'plain']:.0f})" for name in named)
    return [
        f"a mask step with {SAMPLES} samples (a plain step): {shown}; {SAMPLES} samples of 800 x 800 and their "
        f"gradient: {ms['sampler', 'fast']:.0f} ms, {kept['fast'] / 1e6:.1f} MB kept",
        *(f"masks.{name}_step_to_plain ratio={spent[name, 'masks'] / spent[name, 'plain']:.3f}" for name in named),
        *(f"masks.{name}_forward_backward_to_plain ratio={spent[name, 'given'] / spent[name, 'plain']:.3f}"
          for name in named),
        f"masks.sampler_to_literal ratio={spent['sampler', 'fast'] / spent['sampler', 'literal']:.3f}",
        f"masks.memory_to_literal ratio={kept['fast'] / kept['literal']:.3f}",
    ]
