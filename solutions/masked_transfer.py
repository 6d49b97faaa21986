"""Tasks one after the other in one network: each gets a mask, and no weight that a mask kept ever changes again.

Weights and masks are trained together. What a mask keeps is occupied: later tasks may use it, as it is. What is free
starts anew for each task. Thesis section 3.2.3, appendix B.3.6.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from solutions.masks import MaskedModel, Masks, TrainedMasks, mask_regulariser, overlap_counts, require_masks


def nothing_occupied(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Before the first task: name -> bool tensors of the parameters' shapes, all False, for the given names.

    Leave the first layer out and every task gets one of its own. Raises ValueError on names that are not parameters.
    """
    parameters, names = dict(model.named_parameters()), list(names)
    if strays := [name for name in names if name not in parameters]:
        raise ValueError(f"names must be parameters of the model, {sorted(parameters)}, got {strays}")
    return {name: torch.zeros_like(parameters[name], dtype=torch.bool) for name in names}


def occupy(occupied: Masks, masks: Masks) -> dict[str, Tensor]:
    """After a task: what was occupied and what its mask keeps, for the names of occupied only.

    The thesis says both "any of the previous tasks" (Figure 3.4) and "the previous task" (B.3.6); this is any.
    Raises ValueError on masks that are missing, not boolean or of another shape.
    """
    require_masks(occupied=occupied, masks={name: mask for name, mask in masks.items() if name in occupied})
    return {name: used | masks[name] for name, used in occupied.items()}


@torch.no_grad()
def inherit(model: nn.Module, before: nn.Module, occupied: Masks) -> None:
    """Put the occupied weights of the network before into a new one; all others stay as they were drawn.

    model     changed in place
    before    of the same architecture
    occupied  name -> bool tensors of the parameters' shapes

    Raises ValueError where a name is no parameter of both or a shape differs.
    """
    new, old = dict(model.named_parameters()), dict(before.named_parameters())
    for name, used in occupied.items():
        if name not in new or name not in old or not new[name].shape == old[name].shape == used.shape:
            raise ValueError(f"occupied[{name!r}] is {tuple(used.shape)}, so both networks must have a parameter "
                             f"{name!r} of that shape")
        new[name].copy_(torch.where(used, old[name], new[name]))


def train_with_masks(masked: MaskedModel, batches: Iterable[tuple[Tensor | tuple, Any]],
                     loss: Callable[[Tensor, Any], Tensor], *, occupied: Masks, beta: float,
                     generator: torch.Generator, samples: int = 8, lr: float = 1e-2, clip: float = 1.0,
                     steps: int | None = None) -> TrainedMasks:
    """Train the weights that are free, and a mask over all weights, at once.

    masked     its logits and its network, masked.model, are changed in place; the network stays in eval mode
    batches    yields (inputs, targets); inputs is a tensor, or a tuple of several arguments
    loss       (outputs, targets) -> a scalar, the mean over the batch
    occupied   name -> bool tensors of the parameters' shapes: these weights keep every bit. A parameter without a
               name here is free as a whole, biases too
    beta       strength of the regulariser
    generator  on the logits' device: draws the masks
    samples    masks per batch; the batch must divide. More than for finished weights, as the gradient is noisier
    lr, clip   of one fresh Adam for weights and logits; the norm of all gradients together is clipped
    steps      take so many batches at most; None takes all there are

    A weight is trained only by the samples that keep it. Raises ValueError on no batch at all, a loss that is not a
    scalar, and occupied weights that are no parameter or of another shape. Section 3.2.3, appendix B.3.6.
    """
    weights, logits = dict(masked.model.named_parameters()), masked.logits
    for name, used in occupied.items():
        if name not in weights or used.dtype != torch.bool or used.shape != weights[name].shape:
            raise ValueError(f"occupied[{name!r}] must be bool and of the shape of a parameter, "
                             f"{ {each: tuple(value.shape) for each, value in weights.items()} }")
    size = sum(part.numel() for part in logits.values())
    trained, losses, kept = [*weights.values(), *logits.values()], [], []
    optimiser = torch.optim.Adam(trained, lr=lr)
    masked.model.requires_grad_(True)
    try:
        for inputs, targets in itertools.islice(batches, steps):
            inputs = inputs if isinstance(inputs, tuple) else (inputs,)
            task = loss(masked(*inputs, masks=masked.sample(samples, generator)), targets)
            if task.dim():
                raise ValueError(f"loss must return a scalar, got {tuple(task.shape)}")
            optimiser.zero_grad()
            (task + mask_regulariser(logits, beta, inputs[0].shape[masked.batch_axis])).backward()
            for name, used in occupied.items():
                weights[name].grad.masked_fill_(used, 0)        # Adam leaves alone what never had a gradient
            nn.utils.clip_grad_norm_(trained, clip)
            optimiser.step()
            losses.append(task.detach())
            kept.append(sum((part.detach() > 0).sum() for part in logits.values()) / size)
    finally:
        masked.model.requires_grad_(False)
        masked.model.zero_grad()
    if not losses:
        raise ValueError("batches must yield at least one batch, got none")
    return TrainedMasks(masked.masks(), torch.stack(losses), torch.stack(kept))


def shared_with_earlier(masks: Masks, occupied: Masks) -> dict[str, tuple[float, float]]:
    """Which share of a task's weights does any earlier task use, per tensor and in "total"; and at random?

    masks     name -> bool tensors: the task's mask
    occupied  name -> bool tensors, as they were before the task; other names of masks are left out
    returns   name -> (|M and O| / |M|, |O| / n), 0 for an empty mask. The second is what a mask at random places shares
              on average: the occupied share of the layer. Its total weighs every layer by what the task keeps there

    Raises ValueError on masks that are missing, not boolean or of another shape. Figure 3.4; the second is not there.
    """
    own = {name: masks[name] for name in occupied if name in masks}
    require_masks(occupied=occupied, masks=own)
    counts, found = overlap_counts(own, occupied), {}
    by_chance = {name: counts[name].first * counts[name].second / mask.numel() for name, mask in own.items()}
    by_chance["total"] = sum(by_chance.values())
    for name, (both, kept, _) in counts.items():
        found[name] = (both / kept, by_chance[name] / kept) if kept else (0.0, 0.0)
    return found
