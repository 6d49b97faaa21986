"""Several models of one architecture, one per seed, trained at once: nine cost about twice as much as one."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from solutions.files import write_whole


class Ensemble:
    """Models that share their code and nothing else; every parameter has a leading axis of models.

    make    builds one model; called once per seed, with torch's random numbers seeded
    seeds   one per model
    device  where the parameters live
    """

    def __init__(self, make: Callable[[], nn.Module], seeds: Sequence[int], device: str = "cpu") -> None:
        models = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                models.append(make().to(device))
        stacked, _ = stack_module_state(models)
        self.make, self.seeds, self.device, self.skeleton = make, list(seeds), device, models[0]
        self.parameters = {name: value.detach().requires_grad_() for name, value in stacked.items()}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run every model on its own inputs (models, ...); returns their (first) outputs, stacked."""
        def run(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
            outputs = functional_call(self.skeleton, parameters, (one,))
            return outputs if isinstance(outputs, Tensor) else outputs[0]
        return vmap(run)(self.parameters, inputs)

    def member(self, index: int) -> nn.Module:
        """One of the models, on its own, with a copy of its parameters."""
        with torch.random.fork_rng(devices=[]):
            model = self.make().to(self.device)
        model.load_state_dict({name: value[index].detach() for name, value in self.parameters.items()})
        return model


def clip_each(gradients: Sequence[Tensor], most: float) -> None:
    """Scale the gradients of every model, (models, ...) each, so that its norm over all of them is at most `most`."""
    norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))


def train(
    ensemble: Ensemble,
    loss: Callable[[Ensemble, int], Tensor],
    evaluate: Callable[[Ensemble], dict[str, Tensor]],
    *,
    iterations: int,
    every: int,
    optimiser: Callable[[dict[str, Tensor]], torch.optim.Optimizer],
    clip: float = 10.0,
    store: Path | None = None,
    progress: Callable[[int, dict[str, Tensor]], None] = lambda iteration, measures: None,
) -> dict[str, list]:
    """Train all models and measure them now and then.

    loss       (ensemble, iteration) -> (models,): its sum is minimised, so no model sees another's gradient. Draws its
               data from seed and iteration alone, so that an interrupted training goes on as if it had not been
    evaluate   ensemble -> measures, (models, ...) each
    every      iterations between two measurements; the last iteration is always measured
    clip       largest gradient norm of a model
    store      a file that keeps the state at every measurement; a training that finds it goes on from there
    progress   told (iteration, measures) at every measurement
    returns    {"iteration": [...], measure: [[one per model] per measurement]}, rounded as in `rounded`

    Raises FloatingPointError when the loss of every model has stopped being finite.
    """
    parameters = list(ensemble.parameters.values())
    stepper, curve, first = optimiser(ensemble.parameters), {"iteration": []}, 1
    if store is not None and store.exists():
        saved = torch.load(store, map_location=ensemble.device, weights_only=True)
        curve, first = saved["curve"], saved["iteration"] + 1
        stepper.load_state_dict(saved["optimiser"])
        with torch.no_grad():
            for name, value in ensemble.parameters.items():
                value.copy_(saved["parameters"][name])
    for iteration in range(first, iterations + 1):
        stepper.zero_grad()
        losses = loss(ensemble, iteration)
        if not torch.isfinite(losses).any():
            raise FloatingPointError(f"no model has a finite loss at iteration {iteration}: {losses.tolist()}")
        losses.sum().backward()
        clip_each([parameter.grad for parameter in parameters], clip)
        stepper.step()
        if iteration % every == 0 or iteration == iterations:
            with torch.no_grad():
                measures = evaluate(ensemble)
            curve["iteration"].append(iteration)
            for name, value in measures.items():
                curve.setdefault(name, []).append(rounded(value))
            if store is not None:
                buffer = io.BytesIO()
                torch.save({"iteration": iteration, "curve": curve, "parameters": dict(ensemble.parameters),
                            "optimiser": stepper.state_dict()}, buffer)
                write_whole(store, buffer.getvalue())
            progress(iteration, measures)
    return curve


def generator(*numbers: int) -> Generator:
    """A generator of its own for every tuple of numbers, such as a seed and an iteration."""
    state = 0
    for number in numbers:
        state = (state * 1_000_003 + number + 1) % (2**63 - 1)
    return Generator().manual_seed(state)


def rounded(values: Tensor) -> Any:
    """Numbers short enough for a record: four significant digits, None for what is not finite."""
    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(part) for part in value]
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return clean(values.tolist())


def first_below(iterations: Sequence[int], errors: Sequence[float], threshold: float = 0.01) -> float:
    """The first iteration at which an error was under the threshold; inf when it never was."""
    return next((float(at) for at, error in zip(iterations, errors, strict=True) if error < threshold), math.inf)
