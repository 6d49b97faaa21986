"""A task with parts, a network trained on all of it, and a mask for every part."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from solutions.experiments import Arm
from solutions.experiments.ensemble import Ensemble, generator, train
from solutions.masks import MaskedModel, Masks, train_masks

TEST = 10**9                            # no seed and no iteration


class Task(NamedTuple):
    """A task with parts; a batch has `inputs`.

    parts       what the parts are called
    batch_axis  of the inputs and of the outputs
    draw        (generator, batch size, number of a part, or None for all of the task) -> a batch
    right       (outputs, batch) -> the share of answers due that are right
    loss        (outputs, batch) -> the mean loss of what is due
    """

    parts: tuple[str, ...]
    batch_axis: int
    draw: Callable[[Generator, int, int | None], Any]
    right: Callable[[Tensor, Any], Tensor]
    loss: Callable[[Tensor, Any], Tensor]


def train_networks(task: Task, make: Callable[[], nn.Module], arm: Arm) -> Ensemble:
    """One network per seed, trained on the whole task, each on data of its own.

    Settings: iterations, every, batch, learning_rate, test_batch; clip, where there is one.
    """
    settings, seeds, on = arm.settings, arm.seeds, {"device": arm.device}
    tests = [task.draw(generator(TEST, seed), settings["test_batch"], None) for seed in seeds]
    nets = Ensemble(make, seeds, arm.device)

    def loss(models: Ensemble, iteration: int) -> Tensor:
        made = [task.draw(generator(seed, iteration), settings["batch"], None) for seed in seeds]
        outputs = models(torch.stack([batch.inputs for batch in made]).to(**on)).cpu()
        return torch.stack([task.loss(*pair) for pair in zip(outputs, made, strict=True)])

    def evaluate(models: Ensemble) -> dict[str, Tensor]:
        outputs = models(torch.stack([batch.inputs for batch in tests]).to(**on)).cpu()
        return {"accuracy": torch.stack([task.right(*pair) for pair in zip(outputs, tests, strict=True)])}

    train(nets, loss, evaluate, iterations=settings["iterations"], every=settings["every"], store=arm.store,
          clip=settings.get("clip", 10.0),
          optimiser=lambda parameters: torch.optim.Adam(parameters.values(), lr=settings["learning_rate"]),
          progress=lambda iteration, found: arm.progress(
              iteration, 2 * settings["iterations"], f"accuracy {found['accuracy'].median():.2f}"))
    return nets


def find_masks(task: Task, net: nn.Module, part: int | None, settings: dict[str, Any], seed: int, draw: int = 0
               ) -> tuple[MaskedModel, dict[str, Tensor]]:
    """A fresh mask for one part of a task, or for all of it (None): the weights it needs.

    draw  another number gives other data and other samples for the same part
    """
    source = generator(TEST, seed, 0 if part is None else 1 + part, draw)

    def batches() -> Iterator[tuple[Tensor, Any]]:
        while True:
            batch = task.draw(source, settings["batch"], part)
            yield batch.inputs, batch

    masked = MaskedModel(net.cpu(), batch_axis=task.batch_axis)
    found = train_masks(masked, batches(), task.loss, beta=settings["beta"], generator=source,
                        samples=settings["samples"], lr=settings["mask_rate"], steps=settings["mask_steps"])
    return masked, found.masks


@torch.no_grad()
def accuracy(task: Task, masked: MaskedModel, masks: Masks, part: int | None, settings: dict[str, Any], seed: int
             ) -> float:
    """The share of right answers to one part of a task under a mask, on test data."""
    batch = task.draw(generator(TEST, seed), settings["test_batch"], part)
    return round(float(task.right(masked(batch.inputs, masks=masks), batch)), 4)


def share(masks: Masks) -> float:
    """The share of the weights that a mask keeps."""
    return round(float(sum(mask.sum() for mask in masks.values()) / sum(mask.numel() for mask in masks.values())), 4)


def short(values: dict[str, float]) -> dict[str, float]:
    """Numbers short enough for a record."""
    return {name: round(float(value), 4) for name, value in values.items()}
