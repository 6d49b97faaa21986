"""What the curves of several arms say: who errs less, who has learned, and the picture of it.

An arm's measures hold {"curve": {"iteration": [...], "bit_error": [[one per model] per measurement]}}.
"""

import math
from collections.abc import Sequence
from statistics import median

from solutions import plots
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Measures, superiority
from solutions.experiments.ensemble import first_below
from solutions.plots import Picture


def error_at(measures: Measures, iteration: int) -> list[float]:
    """The bit errors of all seeds at the last measurement that is not after an iteration."""
    curve = measures["curve"]
    index = max(i for i, at in enumerate(curve["iteration"]) if at <= iteration or i == 0)
    return curve["bit_error"][index]


def learned_at(measures: Measures) -> list[float]:
    """When each seed's bit error was first under one per cent; inf for never."""
    curve = measures["curve"]
    return [first_below(curve["iteration"], errors) for errors in zip(*curve["bit_error"], strict=True)]


def solved(measures: Measures) -> list[int]:
    """The models whose last bit error is under five per cent: what others do with their memory says little."""
    return [index for index, error in enumerate(measures["curve"]["bit_error"][-1]) if error < 0.05]


def last(measures: dict[str, Measures]) -> int:
    """The last iteration at which the arms were measured."""
    return next(iter(measures.values()))["curve"]["iteration"][-1]


def compare(measures: dict[str, Measures], baseline: str, at: int) -> dict[str, float]:
    """For every other arm the chance that one of its models errs less than one of the baseline's."""
    base = error_at(measures[baseline], at)
    return {name: superiority(error_at(arm, at), base) for name, arm in measures.items() if name != baseline}


def weigh(chances: Sequence[float]) -> str:
    """Seen when every chance is 3/4 or more, contradicted when every chance is 1/4 or less."""
    if chances and min(chances) >= 0.75:
        return SEEN
    return CONTRADICTED if chances and max(chances) <= 0.25 else NOT_SEEN


def describe(measures: dict[str, Measures], at: int) -> str:
    """Median errors and the number of models that learned, arm by arm."""
    parts = []
    for name, arm in measures.items():
        learned = learned_at(arm)
        done = [when for when in learned if math.isfinite(when)]
        when = f", half of those by {median(done):.0f}" if done else ""
        parts.append(f"{name} {median(error_at(arm, at)):.3f} ({len(done)} of {len(learned)} under 1 %{when})")
    return "; ".join(parts)


def error_figure(measures: dict[str, Measures], title: str) -> Picture:
    """Bit error against iterations, the median over the seeds, one line per arm."""
    curves = {name: [median(errors) for errors in arm["curve"]["bit_error"]] for name, arm in measures.items()}
    iterations = next(iter(measures.values()))["curve"]["iteration"]
    ends = ", ".join(f"{name} {curve[-1]:.3f}" for name, curve in curves.items())
    return plots.lines(
        iterations, curves, title=title, x_label="iteration", y_label="bit error",
        alt=f"Bit error against training iterations, one line per variant. At the end: {ends}.")
