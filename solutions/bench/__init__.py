"""What the code costs, always as a ratio to an alternative measured in the same run: `course bench dnc`."""

import importlib
import pkgutil
import time
from collections.abc import Callable

import torch
from torch import Tensor


def subjects() -> list[str]:
    """What can be measured: the names of the modules here."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def lines(subject: str, rounds: int = 7) -> list[str]:
    """Run one benchmark: a line of absolute numbers to orient by, then `subject.WHAT ratio=R` for every comparison."""
    with _one_thread():
        return importlib.import_module(f"{__name__}.{subject}").measure(rounds)


def fastest(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU seconds of each call, taken in turns so that whatever else the machine does hits all alike."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds + 1):                             # the first turn only warms up
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def kept_for_backward(call: Callable[[], object]) -> int:
    """The bytes a call keeps for its gradient, every storage counted once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = call()                                       # held until counted, so that no address is used twice
    del held
    return sum(storages.values())


class _one_thread:
    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *reason: object) -> None:
        torch.set_num_threads(self.before)
