"""Networks, masks for the two parts of their task, and what can be said of them: who works, and who shares weights."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from statistics import fmean, median
from typing import Any

from torch import Generator, nn

from solutions import plots
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Measures
from solutions.experiments.ensemble import generator
from solutions.experiments.masks.parts import TEST, Task, accuracy, find_masks, short
from solutions.masks import (
    MaskedModel,
    Masks,
    expected_overlap,
    invert_masks,
    iomin,
    iou,
    random_masks,
    shared_proportion,
)
from solutions.plots import Picture

MaskSets = Mapping[str, Masks]
Measure = Callable[[Masks, Masks], Mapping[str, float]]
Also = Callable[[MaskedModel, MaskSets, int], Measures]

# measuring --------------------------------------------------------------------------------------------------------

def study(task: Task, nets: Sequence[nn.Module], arm: Arm, *, again: bool = True,
          also: Also = lambda masked, sets, seed: {}) -> Measures:
    """Masks for all of a task and for each of its two parts, and how networks fare under them.

    nets   one per seed, trained, each with three weight tensors or more, of which the first and the last are the
           network's interface and all others are hidden
    again  find a second mask of the first part, with other random numbers, too
    also   (network, {name: masks}, seed) -> more measures of that seed

    measures, each a list of one per seed:
        matrix     {test part: {mask: accuracy}}. Masks are full (none), all, each part, "not" each (inverted), random
                   (as many weights per tensor as the first part keeps, at random places) and "not random"
        interface  {"all" or "full": {test part: {"not" part or "not random": accuracy}}}: only hidden tensors are
                   inverted, the interface is under the mask for all of the task, or whole (B.3.5, Table B.2)
        half       {part: {"early", "late", "random early" or "random late": accuracy}}: one half of the network is
                   under the part's own mask, or under a random one of its size, the other is whole (B.2.2)
        density    {mask: {tensor: share of its weights kept}}
        iou, iomin, chance, chance_iomin   {tensor: a number} of the two parts' masks; chance is the IoU of masks with
                   as many weights per tensor, but at random places
        shared     {part: {tensor: share of the weights of its mask that the other part's mask has too}}; by chance the
                   density of the other
        again      {tensor: IoU of the first part's mask with the second one found for it}

    Tensors have their parameters' names; "hidden" is all hidden tensors, "total" is all.
    """
    found: list[Measures] = []
    for index, (net, seed) in enumerate(zip(nets, arm.seeds, strict=True)):
        masked, sets = mask_sets(task, net, arm.settings, seed)
        first, second = (sets[part] for part in task.parts)
        one = tested(task, masked, sets, arm.settings, seed)
        one |= {"density": {name: densities(masks) for name, masks in sets.items()}, **overlaps(first, second)}
        one["shared"] = {part: by_layer(column(shared_proportion, at), first, second)
                         for at, part in enumerate(task.parts)}
        if again:
            one["again"] = by_layer(iou, first, find_masks(task, net, 0, arm.settings, seed, draw=1)[1])
        found.append(one | also(masked, sets, seed))
        arm.progress(len(nets) + index + 1, 2 * len(nets), f"masks of seed {seed}")
    return {name: [each[name] for each in found] for name in found[0]}


def mask_sets(task: Task, net: nn.Module, settings: dict[str, Any], seed: int) -> tuple[MaskedModel, dict[str, Masks]]:
    """A frozen network and the masks found for all of a task and for each part."""
    found = {name: find_masks(task, net, part, settings, seed)
             for name, part in zip(("all", *task.parts), (None, 0, 1), strict=True)}
    return found["all"][0], {name: masks for name, (_, masks) in found.items()}


def tested(task: Task, masked: MaskedModel, sets: MaskSets, settings: dict[str, Any], seed: int) -> Measures:
    """The accuracies of one network: matrix, interface and half, as in study."""
    def test(masks: MaskSets) -> dict[str, dict[str, float]]:
        return {part: {name: accuracy(task, masked, mask, number, settings, seed) for name, mask in masks.items()}
                for number, part in enumerate(task.parts)}

    by_chance = random_masks(sets[task.parts[0]], generator(TEST, seed, 9))
    inverted = {f"not {part}": invert_masks(sets[part]) for part in task.parts}
    removed = inverted | {"not random": invert_masks(by_chance)}
    whole = {name: inner(masks) for name, masks in removed.items()}
    return {
        "matrix": test({"full": {}, **sets, **inverted, "random": by_chance, "not random": removed["not random"]}),
        "interface": {"all": test({name: {**sets["all"], **masks} for name, masks in whole.items()}),
                      "full": test(whole)},
        "half": {part: test(halves(sets[part], generator(TEST, seed, 10)))[part] for part in task.parts}}


def inner(masks: Masks) -> dict[str, Any]:
    """The masks of the hidden tensors. Raises ValueError when there are none between the first and the last."""
    if len(masks) < 3:
        raise ValueError(f"there must be a tensor between the first and the last, got {list(masks)}")
    return {name: masks[name] for name in list(masks)[1:-1]}


def halves(masks: Masks, source: Generator) -> dict[str, Masks]:
    """The masks of the early tensors only, of the late ones only, and as many weights at random.

    The early half are the first tensors, so many that it has as near as can be half of the weights, and not all.
    """
    ends = list(accumulate(mask.numel() for mask in masks.values()))
    count = 1 + min(range(len(ends) - 1), key=lambda at: abs(ends[at] - ends[-1] / 2))
    by_chance, names = random_masks(masks, source), list(masks)
    return {f"{prefix}{half}": {name: kept[name] for name in part} for prefix, kept in (("", masks),
                                                                                      ("random ", by_chance))
            for half, part in (("early", names[:count]), ("late", names[count:]))}


def densities(masks: Masks) -> dict[str, float]:
    """The share of weights kept, by tensor, hidden and total."""
    everything = {name: mask | True for name, mask in masks.items()}
    return by_layer(column(shared_proportion, 1), masks, everything)        # of all weights, those the mask has too


def by_layer(measure: Measure, first: Masks, second: Masks) -> dict[str, float]:
    """A measure of two mask sets by tensor, for all hidden tensors and in total."""
    *tensors, (_, total) = measure(first, second).items()
    return short(dict(tensors) | {"hidden": measure(inner(first), inner(second))["total"], "total": total})


def overlaps(first: Masks, second: Masks) -> dict[str, dict[str, float]]:
    """IoU and IoMin of two mask sets, and what they would be at random places."""
    measures = {"iou": iou, "iomin": iomin, "chance": column(expected_overlap, 0),
                "chance_iomin": column(expected_overlap, 1)}
    return {name: by_layer(measure, first, second) for name, measure in measures.items()}


def column(measure: Callable[[Masks, Masks], Mapping[str, tuple]], at: int) -> Measure:
    """One of the numbers of a measure that has several."""
    return lambda first, second: {name: values[at] for name, values in measure(first, second).items()}


# judging ----------------------------------------------------------------------------------------------------------

SOUND = ("a network counts when it learned both parts (95 %) and the mask for all of the task keeps 95 % of its "
         "accuracy in both")


def sound(measures: Measures) -> list[int]:
    """The networks that learned both parts and lose nothing under the mask for all: of others masks say nothing."""
    return [index for index, matrix in enumerate(measures["matrix"])
            if all(row["full"] >= 0.95 and row["all"] >= 0.95 * row["full"] for row in matrix.values())]


def own_and_other(matrix: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
    """The lowest share of its accuracy that a part keeps under its own mask, the highest accuracy under the other's."""
    (one, first), (two, second) = matrix.items()
    return min(first[one] / first["full"], second[two] / second["full"]), max(first[two], second[one])


def excess(measures: Measures, layer: str) -> list[float]:
    """Of every network that counts, how far the IoU of the two parts is above chance."""
    return [measures["iou"][index][layer] - measures["chance"][index][layer] for index in sound(measures)]


def verdict_of(hits: Sequence[bool], misses: Sequence[bool]) -> str:
    """Seen when three quarters of the networks hit, contradicted when three quarters miss; not seen without any."""
    if not hits:
        return NOT_SEEN
    return SEEN if fmean(hits) >= 0.75 else CONTRADICTED if fmean(misses) >= 0.75 else NOT_SEEN


def decide(verdicts: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """One verdict from those of the arms: theirs where they agree, otherwise not seen; the finding tells all."""
    finding = "; ".join(f"{arm}: {words} ({verdict})" for arm, (verdict, words) in verdicts.items())
    (first, *others) = {verdict for verdict, _ in verdicts.values()}
    return NOT_SEEN if others else first, finding


def middle(values: Sequence[float]) -> str:
    """The median as it is told; "none" without values."""
    return f"{median(values):.2f}" if values else "none"


# drawing ----------------------------------------------------------------------------------------------------------

def matrix_figure(measures: dict[str, Measures]) -> Picture:
    """The accuracy of each part under each mask, the median over the seeds, a panel per arm."""
    masks = list(next(iter(next(iter(measures.values()))["matrix"][0].values())))
    panels, told = {}, []
    for arm, found in measures.items():
        parts = list(found["matrix"][0])
        panels[arm] = [[median(each[part][mask] for each in found["matrix"]) for part in parts] for mask in masks]
        told += [f"{arm}, {mask}: " + ", ".join(f"{part} {value:.2f}" for part, value in zip(parts, row, strict=True))
                 for mask, row in zip(masks, panels[arm], strict=True)]
    return plots.grid(
        panels, rows=masks, columns=parts, value_range=(0, 1), title="What each part can do with which weights",
        x_label="tested on", y_label="weights kept", unit="accuracy",
        alt="Accuracy of two parts of a task under masks, medians over networks. " + "; ".join(told) + ".")


def sharing_figure(measures: dict[str, Measures]) -> Picture:
    """The IoU of the two parts' masks, layer by layer, beside chance and two masks of one part, medians over seeds."""
    series: dict[str, list[float]] = {}
    labels, told = [], []
    kinds = {"iou": "of the two parts", "chance": "by chance", "again": "of one part, found twice"}
    for arm, found in measures.items():
        for place, name in enumerate(list(found["iou"][0])[:-2], 1):
            labels.append(f"{arm} {place}" if len(measures) > 1 else place)
            values = {words: median(each[name] for each in found[kind]) for kind, words in kinds.items()
                      if kind in found}
            told.append(f"{arm}, layer {place}: " + ", ".join(f"{words} {value:.2f}" for words, value in
                                                              values.items()))
            for words, value in values.items():
                series.setdefault(words, []).append(value)
    return plots.bars(
        labels, series, title="Share of weights that two masks have in common (IoU), by layer", y_range=(0, 1.05),
        x_label="layer, from input to output", y_label="IoU",
        alt="Intersection over union of masks, medians over networks. " + "; ".join(told) + ".")
