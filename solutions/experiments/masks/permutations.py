"""The same digits with their pixels in another order, task after task: are weights used again? (section 3.2.3)"""

from collections.abc import Iterator
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from solutions import plots
from solutions.baselines import FeedForward
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register
from solutions.experiments.ensemble import generator
from solutions.experiments.masks.images import CLASSES, read_images, standardise
from solutions.experiments.masks.parts import TEST
from solutions.masked_transfer import inherit, nothing_occupied, occupy, shared_with_earlier, train_with_masks
from solutions.masks import MaskedModel, Masks, maskable_names
from solutions.plots import Picture
from solutions.tasks import digits
from solutions.tasks.digits import Images

NEW, PREFERRED, GIVEN = "new first layer", "old weights preferred", "first layer given"


def permutations(arm: Arm) -> Measures:
    """One network, its weights and masks trained together, on one order of the pixels after another.

    NEW        as in the thesis: each task has a first layer of its own, all that could be shared is behind it
    PREFERRED  the logits of weights in use begin at 2, those of free ones at -1 (appendix B.3.6)
    GIVEN      the same order in every task and the first layer is kept like all others: a network that finds what it
               has needs nothing new. How much is shared here is what the method can find at most

    measures  accuracy  [seed] [task] under the task's mask
              kept      [seed] [task] share of the weights the mask keeps
              shared    [seed] [task from the second] {layer, or total: share of the task's weights in use before}
              chance    [seed] [task from the second] {the same: share of the layer in use before}

    Layers are 1, 2, ..., the first only for GIVEN; total is over those between the first and the last.
    """
    measures: Measures = {name: [] for name in ("accuracy", "kept", "shared", "chance")}
    settings, tasks = arm.settings, arm.settings["tasks"]
    for index, seed in enumerate(arm.seeds):
        split, rows = standardise(read_images(settings["data"], seed)), {name: [] for name in measures}
        pixels = split.train.pixels[0].numel()
        orders = digits.pixel_orders(tasks, pixels, generator=generator(TEST, seed, 6))
        sizes = [pixels, *settings["hidden"], CLASSES]
        before, occupied = None, {}
        for number, order in enumerate(orders):
            net = new_network(sizes, seed, number)
            if before is None:
                first, *later = maskable_names(net)
                occupied = nothing_occupied(net, [first, *later] if arm.name == GIVEN else later)
            else:
                inherit(net, before, occupied)
            masked = MaskedModel(net.to(arm.device))
            occupied = {name: used.to(arm.device) for name, used in occupied.items()}
            if arm.name == PREFERRED and number:
                prefer(masked, occupied)
            train, test = digits.permute(split, orders[0] if arm.name == GIVEN else order)
            source = torch.Generator(arm.device).manual_seed(generator(TEST, seed, 7, number).initial_seed())
            masks = train_with_masks(
                masked, batches(train, settings["batch"], arm.device, [seed, number]), cross_entropy,
                occupied=occupied, beta=settings["beta"], generator=source, samples=settings["samples"],
                lr=settings["learning_rate"], steps=settings["iterations"]).masks
            rows["accuracy"].append(accuracy(masked, masks, test, arm.device))
            rows["kept"].append(round(float(torch.cat([mask.flatten() for mask in masks.values()]).double().mean()), 4))
            if number:
                shared, chance = sharing(masks, occupied, later[:-1])
                rows["shared"].append(shared)
                rows["chance"].append(chance)
            before, occupied = masked.model, occupy(occupied, masks)
            arm.progress(index * tasks + number + 1, len(arm.seeds) * tasks,
                         f"seed {seed}, task {number + 1}: accuracy {rows['accuracy'][-1]:.2f}")
        for name, values in rows.items():
            measures[name].append(values)
    return measures


def new_network(sizes: list[int], seed: int, number: int) -> FeedForward:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, number).initial_seed())
        return FeedForward(sizes)


@torch.no_grad()
def prefer(masked: MaskedModel, occupied: Masks, new: float = -1.0) -> None:
    """Let the logits of free weights begin at `new`; those in use stay at their 2. Appendix B.3.6."""
    for name, used in occupied.items():
        masked.logits[name].masked_fill_(~used, new)


def batches(images: Images, batch: int, device: str, numbers: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Random images without end, flattened, with their labels."""
    source = generator(*numbers)
    while True:
        rows = torch.randint(len(images.labels), (batch,), generator=source)
        yield images.pixels[rows].flatten(1).to(device), images.labels[rows].to(device)


@torch.no_grad()
def accuracy(masked: nn.Module, masks: Masks, images: Images, device: str) -> float:
    said = masked(images.pixels.flatten(1).to(device), masks=masks).argmax(-1).cpu()
    return round(float((said == images.labels).double().mean()), 4)


def sharing(masks: Masks, occupied: Masks, between: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """The shares of a task's weights in use before, and those at chance: by layer, and in total over `between`."""
    layers = shared_with_earlier(masks, occupied)
    layers["total"] = shared_with_earlier(masks, {name: occupied[name] for name in between})["total"]
    named = {"total" if name == "total" else str(1 + list(masks).index(name)): pair for name, pair in layers.items()}
    return ({name: round(pair[0], 4) for name, pair in named.items()},
            {name: round(pair[1], 4) for name, pair in named.items()})


def room(measures: Measures) -> list[list[tuple[float, float]]]:
    """Per network that learned all tasks the (shared, chance) of every task that found half the layers free."""
    return [[(shared["total"], chance["total"]) for shared, chance in zip(*pair, strict=True) if chance["total"] <= 0.5]
            for pair, reached in zip(zip(measures["shared"], measures["chance"], strict=True), measures["accuracy"],
                                     strict=True) if min(reached) >= 0.9]


def judge_permutations(measures: dict[str, Measures]) -> tuple[str, str]:
    told = []
    for name, found in measures.items():
        pairs = [(median(task[at]["total"] for task in found["shared"]),
                  median(task[at]["total"] for task in found["chance"])) for at in range(len(found["shared"][0]))]
        told.append(f"{name}: " + ", ".join(f"{shared:.2f} ({chance:.2f})" for shared, chance in pairs)
                    + f", accuracy {median(min(reached) for reached in found['accuracy']):.2f} or more")
    finding = ("share of a task's weights between first and last layer in use before (at chance), from the second "
               "task: " + "; ".join(told) + " (medians over seeds)")
    rows = [row for row in room(measures[NEW]) if row]
    if not rows:
        return NOT_SEEN, finding
    more = [fmean((shared - chance) / (1 - chance) for shared, chance in row) for row in rows]
    little, much = fmean(each <= 0.1 for each in more), fmean(each >= 0.5 for each in more)
    return SEEN if little >= 0.75 else CONTRADICTED if much >= 0.75 else NOT_SEEN, finding


def permutations_figure(measures: dict[str, Measures]) -> Picture:
    found = measures[NEW]
    tasks = list(range(2, 2 + len(found["shared"][0])))
    series = {f"{name}": [median(each[at]["total"] for each in arm["shared"]) for at in range(len(tasks))]
              for name, arm in measures.items()}
    series[f"chance, {NEW}"] = [median(each[at]["total"] for each in found["chance"]) for at in range(len(tasks))]
    return plots.lines(
        tasks, series, title="Weights of a task that an earlier task uses, between the first and the last layer",
        x_label="task", y_label="share, median over seeds", y_range=(0, 1.02),
        alt="Share of each task's weights in use before. " + "; ".join(
            f"{name}: " + ", ".join(f"{value:.2f}" for value in values) for name, values in series.items()) + ".")


SETTINGS = dict(arms=[NEW, PREFERRED, GIVEN], data="small digits", tasks=4, hidden=[64, 64, 32], batch=128,
                learning_rate=1e-2, samples=8, beta=1e-2)
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": SETTINGS | dict(seeds=1, iterations=2, tasks=2, hidden=[4, 3, 3], batch=8),
    "laptop": SETTINGS | dict(seeds=3, iterations=350),
    "paper": SETTINGS | dict(seeds=10, iterations=30_000, data="MNIST", tasks=11, hidden=[800, 800, 64],
                              beta=1.28e-3)}

register(Experiment(
    name="masks.permutations",
    claim="A network that learns a task again, its inputs in another order, uses new weights though the old would do",
    source="thesis section 3.2.3, Figure 3.4, appendix B.3.6",
    paper="less than 20 % shared as long as there is room, where all layers but the first could be; no chance level",
    criterion="in 3/4 of the networks with 0.9 accuracy in every task, over the tasks that find half of the layers "
              "between the first and the last free, the share of weights in use before is at most a tenth of the way "
              "from chance to 1; contradicted when it is half of the way or more in 3/4",
    presets=PRESETS, run=permutations, judge=judge_permutations, figure=permutations_figure))
