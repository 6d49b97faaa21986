"""Claims of the papers as runnable rows: `course run dnc.copy`, or `python -m solutions.experiments dnc.copy`."""

import difflib
import importlib
import os
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solutions.plots import Picture

SEEN, NOT_SEEN, CONTRADICTED = "seen", "not seen", "contradicted"
PRESETS = ("smoke", "laptop", "paper")

Measures = dict[str, Any]           # what one arm measured, made of what JSON knows


@dataclass(frozen=True)
class Arm:
    """One training (or one study without training) of an experiment, with all its seeds.

    name      the arm, for example "DNC-D"
    settings  the preset's settings, after --set
    seeds     one model each
    device    "cpu" or "cuda"
    store     where a training keeps its state, so that it can go on after an interruption; None keeps nothing
    progress  told (done, of, words) now and then
    """

    name: str
    settings: dict[str, Any]
    seeds: list[int]
    device: str = "cpu"
    store: Path | None = None
    progress: Callable[[int, int, str], None] = lambda done, of, words: None


@dataclass(frozen=True)
class Experiment:
    """A claim, the run that tests it and the rule, fixed beforehand, that says what came out.

    name       module and subject, for example "dnc.copy"
    claim      what the text says, in a sentence
    source     where it says so
    paper      what the text reports: its numbers, or that it has none
    criterion  when the result is called seen, and when contradicted
    presets    smoke, laptop or paper -> settings; "arms" and "seeds" (how many) are always among them
    run        arm -> measures
    judge      {arm: measures} -> (seen, not seen or contradicted; the finding in a sentence)
    figure     {arm: measures} -> the picture of the result
    ship       {arm: measures} -> {arm: which of its models a lesson looks into}, kept when a run is recorded
    """

    name: str
    claim: str
    source: str
    paper: str
    criterion: str
    presets: dict[str, dict[str, Any]]
    run: Callable[[Arm], Measures]
    judge: Callable[[dict[str, Measures]], tuple[str, str]]
    figure: Callable[[dict[str, Measures]], Picture]
    ship: Callable[[dict[str, Measures]], dict[str, int]] = lambda measures: {}


class Unknown(ValueError):
    """A name, setting or value that is not there; the message says what is."""


_registry: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    _registry[experiment.name] = experiment
    return experiment


def experiments() -> dict[str, Experiment]:
    """All experiments of the course by name, in the order of their modules."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_registry.items(), key=lambda entry: entry[0].partition(".")[0]))    # whoever was imported first


def find(name: str) -> Experiment:
    """The experiment of this name. Raises Unknown with the nearest names."""
    known = experiments()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 3, 0.4)
    raise Unknown(f"there is no experiment {name!r}; {'did you mean' if near else 'there are'} "
                  f"{', '.join(near or known)}?")


def live(iterations: int) -> int:
    """How long a notebook's training lasts: a few iterations where nobody looks (COURSE_PRESET=smoke, or nbgrader)."""
    hurry = os.environ.get("COURSE_PRESET") == "smoke" or "NBGRADER_EXECUTION" in os.environ
    return min(iterations, 3) if hurry else iterations


def superiority(lower: Sequence[float], higher: Sequence[float]) -> float:
    """The chance that a draw from the first is below a draw from the second, ties counting half (Mann-Whitney)."""
    pairs = [(a, b) for a in lower for b in higher]
    return sum((a < b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
