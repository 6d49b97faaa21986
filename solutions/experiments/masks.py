"""The claims of chapter 3 of the thesis: which weights of a trained network do which part of its task?"""

from collections.abc import Callable, Iterator
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from solutions import plots
from solutions.baselines import FeedForward
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register
from solutions.experiments.ensemble import Ensemble, generator, rounded, train
from solutions.masks import (
    MaskedModel,
    expected_overlap,
    gumbel_sigmoid,
    invert_masks,
    iomin,
    iou,
    random_masks,
    train_masks,
    uniform_pairs,
)
from solutions.plots import Picture
from solutions.tasks import arithmetic

TEST = 10**9                            # no seed and no iteration


# tasks of two parts -----------------------------------------------------------------------------------------------

class Task(NamedTuple):
    """A task of two parts for a network that answers in digits; a batch has `inputs`.

    parts       what the parts are called
    sizes       inputs and outputs of the network
    batch_axis  of the inputs
    draw        (generator, batch, part 0 or 1, or None for all) -> a batch
    right       (outputs, batch) -> the share of what is due that is right in every digit
    loss        (outputs, batch) -> the mean cross-entropy of what is due
    """

    parts: tuple[str, str]
    sizes: tuple[int, int]
    batch_axis: int
    draw: Callable[[Generator, int, int | None], Any]
    right: Callable[[Tensor, Any], Tensor]
    loss: Callable[[Tensor, Any], Tensor]


def add_or_multiply(digits: int) -> Task:
    """Sums and products, told apart by two inputs (appendix B.2.2)."""
    def draw(source: Generator, batch: int, part: int | None) -> arithmetic.ArithmeticBatch:
        return arithmetic.add_or_multiply(batch, digits, generator=source, operation=part)

    def right(outputs: Tensor, batch: arithmetic.ArithmeticBatch) -> Tensor:
        return arithmetic.answer_accuracy(outputs, batch.targets)

    def loss(outputs: Tensor, batch: arithmetic.ArithmeticBatch) -> Tensor:
        return cross_entropy(outputs.unflatten(-1, (digits, 10)).flatten(0, 1), batch.targets.flatten())

    return Task(("add", "multiply"), (20 * digits + 2, 10 * digits), 0, draw, right, loss)


def double_addition(digits: int) -> Task:
    """Two pairs to be added, each with inputs and outputs of its own, one shown at a time (section 3.2.1)."""
    def draw(source: Generator, batch: int, part: int | None) -> arithmetic.Presentation:
        shown = arithmetic.apart(arithmetic.double_addition(batch, digits, generator=source))
        return shown if part is None else arithmetic.only_pair(shown, part)

    def due(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return outputs.unflatten(-1, (2, digits, 10))[batch.due]        # (answers, digits, 10)

    def right(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return (due(outputs, batch).argmax(-1) == batch.targets[batch.due]).all(-1).double().mean()

    def loss(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return cross_entropy(due(outputs, batch).flatten(0, 1), batch.targets[batch.due].flatten())

    return Task(("pair 1", "pair 2"), (40 * digits, 20 * digits), 1, draw, right, loss)


# a network, and masks for its parts -------------------------------------------------------------------------------

SETTINGS = dict(digits=1, hidden=[128, 128, 64], batch=128, learning_rate=1e-3, mask_rate=1e-2, samples=4,
                test_batch=2000)


def train_networks(task: Task, arm: Arm) -> Ensemble:
    """One network per seed, trained on the whole task, each on data of its own."""
    settings, seeds, on = arm.settings, arm.seeds, {"device": arm.device}
    tests = [task.draw(generator(TEST, seed), settings["test_batch"], None) for seed in seeds]
    nets = Ensemble(lambda: FeedForward([task.sizes[0], *settings["hidden"], task.sizes[1]]), seeds, arm.device)

    def loss(models: Ensemble, iteration: int) -> Tensor:
        made = [task.draw(generator(seed, iteration), settings["batch"], None) for seed in seeds]
        outputs = models(torch.stack([batch.inputs for batch in made]).to(**on)).cpu()
        return torch.stack([task.loss(*pair) for pair in zip(outputs, made, strict=True)])

    def evaluate(models: Ensemble) -> dict[str, Tensor]:
        outputs = models(torch.stack([batch.inputs for batch in tests]).to(**on)).cpu()
        return {"accuracy": torch.stack([task.right(*pair) for pair in zip(outputs, tests, strict=True)])}

    train(nets, loss, evaluate, iterations=settings["iterations"], every=settings["every"], store=arm.store,
          optimiser=lambda parameters: torch.optim.Adam(parameters.values(), lr=settings["learning_rate"]),
          progress=lambda iteration, found: arm.progress(
              iteration, 2 * settings["iterations"], f"accuracy {found['accuracy'].median():.2f}"))
    return nets


def find_masks(task: Task, net: nn.Module, part: int | None, settings: dict[str, Any], seed: int
               ) -> tuple[MaskedModel, dict[str, Tensor]]:
    """A fresh mask for one part of a task, or for all of it (None): the weights it needs."""
    source = generator(TEST, seed, 0 if part is None else 1 + part)

    def batches() -> Iterator[tuple[Tensor, Any]]:
        while True:
            batch = task.draw(source, settings["batch"], part)
            yield batch.inputs, batch

    masked = MaskedModel(net.cpu(), batch_axis=task.batch_axis)
    found = train_masks(masked, batches(), task.loss, beta=settings["beta"], generator=source,
                        samples=settings["samples"], lr=settings["mask_rate"], steps=settings["mask_steps"])
    return masked, found.masks


def study(task: Task, arm: Arm) -> Measures:
    """Masks for all of a task and for each part; how every part fares under each, its inverse and a random one.

    measures  matrix   [seed] {test part: {mask: accuracy}}; masks are full, all, each part, "not" each and "random"
                       (as many weights as the first part's, at random)
              kept     [seed] {mask: share of the weights kept}
              iou, iomin, chance   [seed] {tensor, or total: a number}, of the two parts' masks
              again    [seed] IoU of two masks of the first part that differ in their random numbers
    """
    nets, settings = train_networks(task, arm), arm.settings
    measures: Measures = {name: [] for name in ("matrix", "kept", "iou", "iomin", "chance", "again")}
    for index, seed in enumerate(arm.seeds):
        net, sets = nets.member(index), {}
        for name, part in zip(("all", *task.parts), (None, 0, 1), strict=True):
            masked, sets[name] = find_masks(task, net, part, settings, seed)
        again = find_masks(task, net, 0, settings, seed + 1_000_000)[1]
        first, second = (sets[part] for part in task.parts)
        shown = {"full": {}, **sets, **{f"not {part}": invert_masks(sets[part]) for part in task.parts},
                 "random": random_masks(first, generator(TEST, seed, 9))}
        measures["matrix"].append({part: {name: accuracy(task, masked, masks, number, settings, seed)
                                          for name, masks in shown.items()} for number, part in enumerate(task.parts)})
        measures["kept"].append({name: float(rounded(share(masks))) for name, masks in sets.items()})
        measures["iou"].append(short(iou(first, second)))
        measures["iomin"].append(short(iomin(first, second)))
        measures["chance"].append(short({name: at for name, (at, _) in expected_overlap(first, second).items()}))
        measures["again"].append(short(iou(first, again))["total"])
        arm.progress(len(arm.seeds) + index + 1, 2 * len(arm.seeds), f"masks of seed {seed}")
    return measures


@torch.no_grad()
def accuracy(task: Task, masked: MaskedModel, masks: dict[str, Tensor], part: int, settings: dict[str, Any], seed: int
             ) -> float:
    batch = task.draw(generator(TEST, seed), settings["test_batch"], part)
    return round(float(task.right(masked(batch.inputs, masks=masks), batch)), 4)


def share(masks: dict[str, Tensor]) -> Tensor:
    return sum(mask.sum() for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def short(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}


# claims -----------------------------------------------------------------------------------------------------------

def add_mul(arm: Arm) -> Measures:
    return study(add_or_multiply(arm.settings["digits"]), arm)


def double_add(arm: Arm) -> Measures:
    return study(double_addition(arm.settings["digits"]), arm)


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


# the temperature --------------------------------------------------------------------------------------------------

LOGITS = [0.0, 2.0, 4.0]


def gradients(arm: Arm) -> Measures:
    """The mean of ds/dl at three logits, for the temperature that the arm is named after."""
    temperature, slopes = float(arm.name), []
    for seed in arm.seeds:
        logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
        uniforms = uniform_pairs(logits, (arm.settings["draws"],), generator(seed))
        gumbel_sigmoid(logits, uniforms, temperature).mean(0).sum().backward()
        slopes.append(rounded(logits.grad))
    arm.progress(1, 1, f"slope at 0: {slopes[0][0]:.3f}")
    return {"logits": LOGITS, "slopes": slopes}


def judge_temperature(measures: dict[str, Measures]) -> tuple[str, str]:
    ratios = {name: median(slopes[0] / slopes[-1] for slopes in found["slopes"]) for name, found in measures.items()}
    told = ", ".join(f"{ratio:.1f} at temperature {name}" for name, ratio in ratios.items())
    changed = max(ratios.values()) / min(ratios.values())
    verdict = CONTRADICTED if changed > 2 else SEEN if changed < 1.1 else NOT_SEEN
    return verdict, f"slope at logit 0 over slope at logit 4: {told}; one factor for all would leave it the same"


def temperature_figure(measures: dict[str, Measures]) -> Picture:
    lines = {f"temperature {name}": [median(each) for each in zip(*found["slopes"], strict=True)]
             for name, found in measures.items()}
    return plots.lines(
        LOGITS, lines, title="The mean gradient of a sample, by logit and temperature",
        x_label="logit", y_label="mean ds/dl",
        alt="Mean gradient of a soft sample at logits 0, 2 and 4, one line per temperature: low temperatures fall "
            "steeply, high ones hardly.")


TEMPERATURES = ["0.1", "0.5", "1", "2"]
register(Experiment(
    name="masks.temperature",
    claim="The temperature can be chosen freely, because it only multiplies the gradient by a factor",
    source="thesis appendix B.1.4",
    paper="an argument, no measurement",
    criterion="the ratio of the mean gradients at logits 0 and 4 changes by less than a tenth between temperatures 0.1 "
              "and 2; contradicted when it more than doubles",
    presets={
        "smoke": dict(arms=TEMPERATURES, seeds=2, iterations=1, draws=20_000),
        "laptop": dict(arms=TEMPERATURES, seeds=5, iterations=1, draws=1_000_000),
        "paper": dict(arms=TEMPERATURES, seeds=5, iterations=1, draws=4_000_000)},
    run=gradients, judge=judge_temperature, figure=temperature_figure))
