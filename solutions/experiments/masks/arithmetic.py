"""Adding and multiplying, and adding twice: do networks use different weights, and share any? (thesis section 3.2)"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from solutions import plots
from solutions.baselines import FeedForward, Recurrent
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register, superiority
from solutions.experiments.ensemble import Ensemble, generator
from solutions.experiments.masks.parts import TEST, Task, short, train_networks
from solutions.experiments.masks.study import (
    SOUND,
    MaskSets,
    decide,
    excess,
    matrix_figure,
    middle,
    own_and_other,
    sharing_figure,
    sound,
    study,
    verdict_of,
)
from solutions.masks import MaskedModel
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


def double_addition(digits: int, show: Callable = arithmetic.apart, multiply: bool = False) -> Task:
    """Two pairs to be added, each with inputs and outputs of its own (section 3.2.2).

    show      how a network sees them: arithmetic.apart, together or one_at_a_time
    multiply  the second pair is to be multiplied: other functions, other places
    """
    def draw(source: Generator, batch: int, part: int | None) -> arithmetic.Presentation:
        problems = arithmetic.double_addition(batch, digits, generator=source)
        if multiply:
            products = arithmetic.split_digits(problems.pairs[:, 1].prod(-1), digits)
            problems = problems._replace(targets=torch.stack((problems.targets[:, 0], products), 1))
        shown = show(problems)
        return shown if part is None else arithmetic.only_pair(shown, part)

    def due(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return outputs.unflatten(-1, (2, digits, 10))[batch.due]        # (answers, digits, 10)

    def right(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return (due(outputs, batch).argmax(-1) == batch.targets[batch.due]).all(-1).double().mean()

    def loss(outputs: Tensor, batch: arithmetic.Presentation) -> Tensor:
        return cross_entropy(due(outputs, batch).flatten(0, 1), batch.targets[batch.due].flatten())

    return Task(("pair 1", "pair 2"), 1, draw, right, loss)


# the runs ---------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = dict(
    digits=1, hidden=[128, 128, 64], width=64, batch=128, learning_rate=1e-3, clip=1.0, mask_rate=5e-2, samples=4,
    beta=3e-3, beta_lstm=3e-3, test_batch=2000)


def presets(arms: list[str], beta: float = 1e-4, **laptop: Any) -> dict[str, dict[str, Any]]:
    """Settings for arms whose names tell an LSTM from a feed-forward network.

    beta    the thesis's, of a feed-forward network trained for 20000 steps. A short mask training of a small network
            needs more of it and a higher rate: calibrated on the whole task, as B.3.3 says, on seeds 0 to 9
    laptop  more settings, there and at smoke
    """
    settings = SETTINGS | dict(arms=arms)
    small = dict(seeds=2, iterations=2, every=1, mask_steps=2, batch=8, test_batch=16, hidden=[8, 8], width=4)
    paper = dict(seeds=10, iterations=20_000, every=1000, mask_steps=20_000, mask_rate=1e-2, digits=2, beta=beta,
                 beta_lstm=1e-4, hidden=[2000, 2000, 2000, 2000], width=256, test_batch=10_000)
    return {"smoke": settings | laptop | small,
            "laptop": settings | dict(seeds=3, iterations=1500, every=250, mask_steps=400) | laptop,
            "paper": settings | paper}


def members(nets: Ensemble) -> list[nn.Module]:
    return [nets.member(index) for index in range(len(nets.seeds))]


def trained(task: Task, arm: Arm, inputs: int, outputs: int) -> tuple[list[nn.Module], Arm]:
    """The networks of an arm, one per seed, and the arm with the strength of regularisation that is its own."""
    lstm = arm.name.startswith("LSTM")
    arm = replace(arm, settings=arm.settings | {"beta": arm.settings["beta_lstm" if lstm else "beta"]})

    def make() -> nn.Module:
        return (Recurrent(inputs, arm.settings["width"], outputs) if lstm
                else FeedForward([inputs, *arm.settings["hidden"], outputs]))
    return members(train_networks(task, make, arm)), arm


def add_mul(arm: Arm) -> Measures:
    """Masks for adding and for multiplying; measures are those of study, and

    performed  [seed] {full, or part whose mask it is: {part asked for: {add, multiply, both, neither: share}}}
    ignorance  {part: how often the best constant is right; "the other": how often whoever does the other operation is}
    """
    digits, recurrent = arm.settings["digits"], arm.name.startswith("LSTM")
    task = add_or_multiply(digits, 3 if recurrent else None)

    @torch.no_grad()
    def answers(masked: MaskedModel, sets: MaskSets, seed: int) -> Measures:
        found: dict[str, dict[str, dict[str, float]]] = {}
        for name in ("full", *task.parts):
            found[name] = {}
            for number, part in enumerate(task.parts):
                batch = task.draw(generator(TEST, seed), arm.settings["test_batch"], number)
                outputs = masked(batch.inputs, masks=sets.get(name, {}))
                shares = arithmetic.performed(outputs[-1] if recurrent else outputs, batch.operands)
                found[name][part] = short(shares._asdict())
        return {"performed": found}

    nets, own = trained(task, arm, 20 * digits + 2, 10 * digits)
    blind = {part: arithmetic.best_constant(number, digits).share for number, part in enumerate(task.parts)}
    return study(task, nets, own, also=answers) | {
        "ignorance": short(blind | {"the other": arithmetic.agreement(digits)})}


SHOWN = {"FNN": arithmetic.apart, "LSTM": arithmetic.together, "LSTM, one at a time": arithmetic.one_at_a_time}


def double_add(arm: Arm) -> Measures:
    """Masks for two pairs that are both added; measures are those of study."""
    digits = arm.settings["digits"]
    task = double_addition(digits, SHOWN[arm.name])
    return study(task, *trained(task, arm, 40 * digits, 20 * digits))


INTERFACES = ("add or multiply", "add twice", "add and multiply")


def interface(arm: Arm) -> Measures:
    """Masks of feed-forward networks that share inputs and outputs, or the function, or neither, between two parts."""
    digits = arm.settings["digits"]
    task, inputs, outputs = {
        "add or multiply": (add_or_multiply(digits), 20 * digits + 2, 10 * digits),
        "add twice": (double_addition(digits), 40 * digits, 20 * digits),
        "add and multiply": (double_addition(digits, multiply=True), 40 * digits, 20 * digits)}[arm.name]
    return study(task, *trained(task, arm, inputs, outputs), again=False)


# judging ----------------------------------------------------------------------------------------------------------

def judge_specialise(measures: dict[str, Measures]) -> tuple[str, str]:
    return decide({name: specialised(found) for name, found in measures.items()})


def specialised(found: Measures) -> tuple[str, str]:
    """Whether the parts work under their own masks and not under each other's; with how much more one needs."""
    counted = sound(found)
    rows = [own_and_other(found["matrix"][index]) for index in counted]
    apart = [own >= 0.95 and other <= 0.5 for own, other in rows]
    sizes = [second["total"] / max(first["total"], 1e-4) for first, second in
             (list(found["density"][index].values())[1:] for index in counted)]
    words = (f"{len(counted)} of {len(found['matrix'])} networks count, in {sum(apart)} the parts are apart; a part "
             f"keeps {middle([own for own, _ in rows])} of its accuracy under its own mask and has "
             f"{middle([other for _, other in rows])} under the other's; multiplying uses {middle(sizes)} times the "
             "weights of adding")
    return verdict_of(apart, [not each for each in apart]), words


def judge_performed(measures: dict[str, Measures]) -> tuple[str, str]:
    return decide({name: performs(name, found) for name, found in measures.items()})


def performs(arm: str, found: Measures) -> tuple[str, str]:
    """What a network does that is asked for the operation that its mask is not of: the mask's, or neither."""
    counted = sound(found)
    rows = [tuple(min(found["performed"][index][mask][other][mask if kind == "own" else kind]
                      for mask, other in (("add", "multiply"), ("multiply", "add"))) for kind in ("own", "neither"))
            for index in counted]
    own, neither = ([row[at] >= 0.5 for row in rows] for at in (0, 1))
    each = [f"under the mask of {mask}, asked to {other}, " + ", ".join(
        f"{kind} {middle([found['performed'][index][mask][other][kind] for index in counted])}"
        for kind in arithmetic.Performed._fields) for mask, other in (("add", "multiply"), ("multiply", "add"))]
    return (verdict_of(neither, own) if arm.startswith("LSTM") else verdict_of(own, neither),
            f"{len(counted)} of {len(found['matrix'])} networks count; {'; '.join(each)}")


def judge_reuse(measures: dict[str, Measures]) -> tuple[str, str]:
    return decide({name: shared(found) for name, found in measures.items()})


def shared(found: Measures) -> tuple[str, str]:
    """Whether hidden tensors are shared no more than by chance."""
    counted, above = sound(found), excess(found, "hidden")
    by_kind = {kind: middle([found[kind][index]["hidden"] for index in counted]) for kind in ("iou", "chance", "again")}
    words = (f"{len(counted)} of {len(found['iou'])} networks count; hidden IoU of the two pairs {by_kind['iou']}, by "
             f"chance {by_kind['chance']}, of two masks of one pair {by_kind['again']}")
    return verdict_of([extra <= 0.1 for extra in above], [extra >= 0.3 for extra in above]), words


def judge_independent(measures: dict[str, Measures]) -> tuple[str, str]:
    return decide({name: independent(found) for name, found in measures.items()})


def independent(found: Measures) -> tuple[str, str]:
    """Whether one pair is still added without the weights of the other, and not without its own."""
    counted, rows = sound(found), []
    for index in counted:
        (one, first), (two, second) = found["matrix"][index].items()
        rows.append((min(first[f"not {two}"] / first["full"], second[f"not {one}"] / second["full"]),
                     max(first[f"not {one}"], second[f"not {two}"]),
                     min(first["not random"] / first["full"], second["not random"] / second["full"])))
    words = (f"{len(counted)} of {len(found['matrix'])} networks count; without the weights of the other pair a pair "
             f"keeps {middle([row[0] for row in rows])} of its accuracy, without its own weights it has "
             f"{middle([row[1] for row in rows])}; without as many at random it keeps "
             f"{middle([row[2] for row in rows])}")
    return verdict_of([other >= 0.75 and own <= 0.5 for other, own, _ in rows],
                      [other < 0.5 for other, _, _ in rows]), words


def judge_interfaces(measures: dict[str, Measures]) -> tuple[str, str]:
    above = {name: excess(measures[name], "hidden") for name in INTERFACES}
    told = ", ".join(f"{name} {middle(values)} ({len(values)} of {len(measures[name]['iou'])} networks count)"
                     for name, values in above.items())
    first, second, _ = above.values()
    if not first or not second:
        return NOT_SEEN, f"hidden IoU above chance: {told}"
    chance = superiority(second, first)
    verdict = SEEN if chance >= 0.75 else CONTRADICTED if chance <= 0.25 else NOT_SEEN
    total = {name: middle([each["total"] for each in measures[name]["iou"]]) for name in INTERFACES[:2]}
    return verdict, (f"hidden IoU above chance: {told}; networks that share inputs and outputs share more than those "
                     f"that share the function with probability {chance:.2f}. In total, with the layers that cannot be "
                     f"shared, IoU is {' and '.join(total.values())}")


# drawing ----------------------------------------------------------------------------------------------------------

def performed_figure(measures: dict[str, Measures]) -> Picture:
    """Which operation is performed under which mask, asked for what (Figure 3.2); the medians over the seeds."""
    sign, panels, told = {"add": "+", "multiply": "×"}, {}, []
    cases = [(mask, part) for mask in sign for part in sign]
    for arm, found in measures.items():
        panels[arm] = [[median(each[mask][part][kind] for each in found["performed"]) for mask, part in cases]
                       for kind in arithmetic.Performed._fields]
        told += [f"{arm} under the mask of {mask}, asked to {part}: " + ", ".join(
            f"{kind} {row[at]:.2f}" for kind, row in zip(arithmetic.Performed._fields, panels[arm], strict=True))
            for at, (mask, part) in enumerate(cases)]
    return plots.grid(
        panels, rows=arithmetic.Performed._fields, columns=[f"{sign[mask]}, {sign[part]}" for mask, part in cases],
        value_range=(0, 1), title="Which operation is performed under a mask", x_label="mask of, asked to",
        y_label="performed", unit="share of answers",
        alt="Shares of answers that equal the sum, the product, both or neither, medians over networks. "
            + "; ".join(told) + ".")


# claims -----------------------------------------------------------------------------------------------------------

register(Experiment(
    name="masks.specialise",
    claim="Adding and multiplying use different weights: each works under its own mask and fails under the other's",
    source="thesis section 3.2.1, Figures 3.1 and 3.2, Table B.1",
    paper="in per cent: feed-forward, add 100 under its own mask, 1 under that of multiply, multiply 100 and 0; LSTM "
          "100 and 2, 100 and 3. Multiplying uses 3.8 times the weights of adding",
    criterion="in 3/4 of the networks that count both parts keep 95 % of their accuracy under their own mask and have "
              "half or less under the other's; contradicted in 1/4 or fewer. It must be so in every arm; "
              f"{SOUND}",
    presets=presets(["FNN", "LSTM"]), run=add_mul, judge=judge_specialise, figure=matrix_figure,
    ship=lambda measures: {"FNN": counted[0]} if (counted := sound(measures["FNN"])) else {}))

register(Experiment(
    name="masks.performed",
    claim="Asked for the operation that a mask is not of, an FNN performs the mask's, and an LSTM neither",
    source="thesis section 3.2.1, Figure 3.2",
    paper="pictures; that the two may agree is left out",
    criterion="in 3/4 of the networks that count half of the answers or more, under the mask of either operation, are "
              "the result of the mask's operation alone (FNN), or of neither (LSTM); contradicted when in 3/4 it is "
              f"the other way round. It must be so in every arm; {SOUND}",
    presets=presets(["FNN", "LSTM"]), run=add_mul, judge=judge_performed, figure=performed_figure))

register(Experiment(
    name="masks.reuse",
    claim="A network does not use the same weights for the same function at two places",
    source="thesis section 3.2.2, Figure 3.3",
    paper="pictures of little sharing, none in the first and the last layer; the text gives no chance level",
    criterion="in 3/4 of the networks that count the IoU of the two pairs' masks in the hidden tensors is at most 0.1 "
              "above that of masks with as many weights per tensor at random places; contradicted when it is 0.3 above "
              "in 3/4. It must be so in every arm; the first and the last tensor are left out, because different units "
              f"cannot share weights there, whatever the network does; {SOUND}",
    presets=presets(list(SHOWN), 4e-4, iterations=1000), run=double_add, judge=judge_reuse, figure=sharing_figure))

register(Experiment(
    name="masks.independent",
    claim="The weights of two additions are independent: without those of one pair, the other is hardly worse",
    source="thesis section 3.2.2, Table 3.1; B.3.5",
    paper="in per cent, without the weights of pair 1: feed-forward pair 1 20, pair 2 94; LSTM 2 and 100; LSTM, one "
          "at a time, 4 and 96",
    criterion="in 3/4 of the networks that count, for both pairs, a pair keeps 3/4 of its accuracy without the weights "
              "of the other and has half or less without its own; contradicted when in 3/4 a pair keeps less than half "
              f"without the other's. It must be so in every arm; {SOUND}",
    presets=presets(list(SHOWN), 4e-4, iterations=1000), run=double_add, judge=judge_independent, figure=matrix_figure))

register(Experiment(
    name="masks.interfaces",
    claim="Sharing depends more on the place of inputs and outputs than on the similarity of the functions",
    source="thesis section 3.2.2, Figures 3.1 and 3.3",
    paper="a comparison of two pictures, in which the first and the last layer of double addition cannot be shared",
    criterion="where two functions share inputs and outputs (add or multiply), hidden tensors share more above chance "
              "than where one function has two places (add twice): of two networks that count, one of each, the first "
              f"does with probability 3/4 or more; contradicted at 1/4 or less. {SOUND[0].upper() + SOUND[1:]}",
    presets=presets(list(INTERFACES), 4e-4, iterations=1000), run=interface, judge=judge_interfaces,
    figure=sharing_figure))
