"""Adding and multiplying, and adding twice: do networks use different weights, and share any? (thesis section 3.2)"""

from collections.abc import Callable
from statistics import fmean, median
from typing import Any

from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from solutions import plots
from solutions.baselines import FeedForward, Recurrent
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register
from solutions.experiments.ensemble import generator
from solutions.experiments.masks.parts import TEST, Task, accuracy, find_masks, share, short, train_networks
from solutions.masks import expected_overlap, invert_masks, iomin, iou, random_masks
from solutions.plots import Picture
from solutions.tasks import arithmetic

# the tasks --------------------------------------------------------------------------------------------------------

def add_or_multiply(digits: int, steps: int | None = None) -> Task:
    """Sums and products, told apart by two inputs (appendix B.2.2).

    steps  the network is recurrent, sees the same input so often and answers at the last; None: it is not
    """
    def draw(source: Generator, batch: int, part: int | None) -> arithmetic.ArithmeticBatch:
        made = arithmetic.add_or_multiply(batch, digits, generator=source, operation=part)
        return made if steps is None else made._replace(inputs=arithmetic.repeated(made.inputs, steps))

    def last(outputs: Tensor) -> Tensor:
        return outputs if steps is None else outputs[-1]

    def right(outputs: Tensor, batch: arithmetic.ArithmeticBatch) -> Tensor:
        return arithmetic.answer_accuracy(last(outputs), batch.targets)

    def loss(outputs: Tensor, batch: arithmetic.ArithmeticBatch) -> Tensor:
        return cross_entropy(last(outputs).unflatten(-1, (digits, 10)).flatten(0, 1), batch.targets.flatten())

    return Task(("add", "multiply"), 0 if steps is None else 1, draw, right, loss)


def double_addition(digits: int, show: Callable = arithmetic.apart) -> Task:
    """Two pairs to be added, each with inputs and outputs of its own (section 3.2.2).

    show  how a network sees them: arithmetic.apart, together or one_at_a_time
    """
    def draw(source: Generator, batch: int, part: int | None) -> arithmetic.Presentation:
        shown = show(arithmetic.double_addition(batch, digits, generator=source))
        return shown if part is None else arithmetic.only_pair(shown, part)

    def due(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return outputs.unflatten(-1, (2, digits, 10))[batch.due]        # (answers, digits, 10)

    def right(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return (due(outputs, batch).argmax(-1) == batch.targets[batch.due]).all(-1).double().mean()

    def loss(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return cross_entropy(due(outputs, batch).flatten(0, 1), batch.targets[batch.due].flatten())

    return Task(("pair 1", "pair 2"), 1, draw, right, loss)


# networks, and masks for their parts ------------------------------------------------------------------------------

SETTINGS = dict(digits=1, hidden=[128, 128, 64], width=64, batch=128, learning_rate=1e-3, mask_rate=1e-2, samples=4,
                test_batch=2000)


def study(task: Task, make: Callable[[], nn.Module], arm: Arm) -> Measures:
    """Masks for all of a task and for each part; how every part fares under each, its inverse and a random one.

    measures  matrix   [seed] {test part: {mask: accuracy}}; masks are full, all, each part, "not" each and "random"
                       (as many weights as the first part's, at random)
              kept     [seed] {mask: share of the weights kept}
              iou, iomin, chance   [seed] {tensor, or total: a number}, of the two parts' masks
              again    [seed] IoU of two masks of the first part that differ in their random numbers
    """
    nets, settings = train_networks(task, make, arm), arm.settings
    measures: Measures = {name: [] for name in ("matrix", "kept", "iou", "iomin", "chance", "again")}
    for index, seed in enumerate(arm.seeds):
        net, sets = nets.member(index), {}
        for name, part in zip(("all", *task.parts), (None, 0, 1), strict=True):
            masked, sets[name] = find_masks(task, net, part, settings, seed)
        again = find_masks(task, net, 0, settings, seed, draw=1)[1]
        first, second = (sets[part] for part in task.parts)
        shown = {"full": {}, **sets, **{f"not {part}": invert_masks(sets[part]) for part in task.parts},
                 "random": random_masks(first, generator(TEST, seed, 9))}
        measures["matrix"].append({part: {name: accuracy(task, masked, masks, number, settings, seed)
                                          for name, masks in shown.items()} for number, part in enumerate(task.parts)})
        measures["kept"].append({name: share(masks) for name, masks in sets.items()})
        measures["iou"].append(short(iou(first, second)))
        measures["iomin"].append(short(iomin(first, second)))
        measures["chance"].append(short({name: at for name, (at, _) in expected_overlap(first, second).items()}))
        measures["again"].append(short(iou(first, again))["total"])
        arm.progress(len(arm.seeds) + index + 1, 2 * len(arm.seeds), f"masks of seed {seed}")
    return measures


# claims -----------------------------------------------------------------------------------------------------------

def network(arm: Arm, inputs: int, outputs: int) -> Callable[[], nn.Module]:
    if arm.name == "FNN":
        return lambda: FeedForward([inputs, *arm.settings["hidden"], outputs])
    return lambda: Recurrent(inputs, arm.settings["width"], outputs)


def add_mul(arm: Arm) -> Measures:
    digits = arm.settings["digits"]
    task = add_or_multiply(digits, None if arm.name == "FNN" else 3)
    return study(task, network(arm, 20 * digits + 2, 10 * digits), arm)


SHOWN = {"FNN": arithmetic.apart, "LSTM": arithmetic.together, "LSTM, one at a time": arithmetic.one_at_a_time}


def double_add(arm: Arm) -> Measures:
    digits = arm.settings["digits"]
    return study(double_addition(digits, SHOWN[arm.name]), network(arm, 40 * digits, 20 * digits), arm)


def presets(beta: float) -> dict[str, dict[str, Any]]:
    """beta is the thesis's. A short mask training of a small network needs more, calibrated on the whole task."""
    settings = SETTINGS | dict(arms=["FNN"], beta=1e-2)
    return {
        "smoke": settings | dict(seeds=2, iterations=2, every=1, mask_steps=2, batch=8, test_batch=16, hidden=[8]),
        "laptop": settings | dict(seeds=3, iterations=2000, every=250, mask_steps=800),
        "paper": settings | dict(seeds=10, iterations=20_000, every=1000, mask_steps=20_000, digits=2, beta=beta,
                                 hidden=[2000, 2000, 2000, 2000]),
    }


def own_and_other(measures: Measures) -> list[tuple[float, float, float]]:
    """Of every seed the lowest accuracy of a part unmasked and under its own mask, the highest under the other's."""
    found = []
    for matrix in measures["matrix"]:
        (one, first), (two, second) = matrix.items()
        found.append((min(first["full"], second["full"]), min(first[one], second[two]), max(first[two], second[one])))
    return found


def judge_specialise(measures: dict[str, Measures]) -> tuple[str, str]:
    rows = own_and_other(measures["FNN"])
    learned = [row for row in rows if row[0] >= 0.95]
    apart = [own >= 0.95 * full and other <= 0.5 for full, own, other in learned]
    finding = (f"{len(learned)} of {len(rows)} networks learned the task; lowest accuracy under a part's own mask "
               f"{median(own for _, own, _ in rows):.2f}, highest under the other's "
               f"{median(other for _, _, other in rows):.2f} (medians over seeds)")
    if not learned:
        return NOT_SEEN, finding
    return SEEN if fmean(apart) >= 0.75 else CONTRADICTED if fmean(apart) <= 0.25 else NOT_SEEN, finding


def judge_reuse(measures: dict[str, Measures]) -> tuple[str, str]:
    found = measures["FNN"]
    more = [shared["total"] - chance["total"] for shared, chance in zip(found["iou"], found["chance"], strict=True)]
    learned = [full >= 0.95 for full, _, _ in own_and_other(found)]
    finding = (f"IoU of the two parts {median(each['total'] for each in found['iou']):.3f}, at chance "
               f"{median(each['total'] for each in found['chance']):.3f}; two masks of one part share "
               f"{median(found['again']):.3f} (medians over seeds)")
    counted = [extra for extra, good in zip(more, learned, strict=True) if good]
    if not counted:
        return NOT_SEEN, finding
    little, much = fmean(extra <= 0.1 for extra in counted), fmean(extra >= 0.3 for extra in counted)
    return SEEN if little >= 0.75 else CONTRADICTED if much >= 0.75 else NOT_SEEN, finding


def matrix_figure(measures: dict[str, Measures]) -> Picture:
    """Accuracy of each part under each mask, the median over the seeds."""
    matrices = measures["FNN"]["matrix"]
    parts, masks = list(matrices[0]), list(next(iter(matrices[0].values())))
    table = [[median(matrix[part][mask] for matrix in matrices) for mask in masks] for part in parts]
    return plots.heatmap(
        table, rows=parts, columns=masks, value_range=(0, 1), title="What each part can do with which weights",
        x_label="weights kept", y_label="tested on", unit="accuracy",
        alt="Accuracy of two parts of a task under masks: " + "; ".join(
            f"{part}: " + ", ".join(f"{mask} {value:.2f}" for mask, value in zip(masks, row, strict=True))
            for part, row in zip(parts, table, strict=True)) + ".")


register(Experiment(
    name="masks.specialise",
    claim="Adding and multiplying use different weights: each works under its own mask and fails under the other's",
    source="thesis section 3.2.1, Table B.1",
    paper="feed-forward, in per cent: add 100 under its own mask, 1 under that of multiply; multiply 100 and 0",
    criterion="in 3/4 of the networks that learned the task both parts keep 95 % of their accuracy under their own "
              "mask and have half or less under the other's; contradicted in 1/4 or fewer",
    presets=presets(1e-4), run=add_mul, judge=judge_specialise, figure=matrix_figure))

register(Experiment(
    name="masks.reuse",
    claim="A network does not use the same weights for the same function at two places",
    source="thesis section 3.2.1, Figure 3.2, Table 3.1",
    paper="pictures of little sharing; the text gives no chance level",
    criterion="in 3/4 of the networks that learned the task the IoU of the two pairs' masks is at most 0.1 above that "
              "of masks with as many weights per layer at random places; contradicted when it is 0.3 above in 3/4",
    presets=presets(4e-4), run=double_add, judge=judge_reuse, figure=matrix_figure))
