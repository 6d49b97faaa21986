"""Do masks find sharing where it is and none where it is not; how much hangs on the regulariser and on the size?

Thesis appendices B.3.1, B.3.3 and B.3.4.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from solutions import plots
from solutions.baselines import FeedForward
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register
from solutions.experiments.masks.arithmetic import add_or_multiply, double_addition, members, presets
from solutions.experiments.masks.parts import Task, train_networks
from solutions.experiments.masks.study import SOUND, decide, middle, sharing_figure, sound, study, verdict_of
from solutions.plots import Picture
from solutions.tasks import arithmetic

# networks that are known to share, and not to share ---------------------------------------------------------------

@torch.no_grad()
def copy_interface(net: FeedForward) -> FeedForward:
    """A network for two pairs that treats the second as it treats the first: hidden layers cannot tell them apart.

    net      reads two pairs, first pair first, and has two groups of outputs: both numbers even
    returns  a new network. The input weights, the output weights and the output biases of the first pair are copied
             over those of the second, not tied; the hidden layers and their biases, common to both pairs, stay

    Raises ValueError on an odd number of inputs or outputs. Appendix B.3.1.
    """
    first, *_, last = net.layers
    sizes = [first.in_features, *(layer.out_features for layer in net.layers)]
    if sizes[0] % 2 or sizes[-1] % 2:
        raise ValueError(f"inputs and outputs must be two equal groups, got {sizes[0]} inputs and {sizes[-1]} outputs")
    edited = FeedForward(sizes)
    edited.load_state_dict(net.state_dict())
    first, *_, last = edited.layers
    for parts in (first.weight.chunk(2, 1), last.weight.chunk(2, 0), last.bias.chunk(2, 0)):
        parts[1].copy_(parts[0])
    return edited


@torch.no_grad()
def join(first: FeedForward, second: FeedForward) -> FeedForward:
    """Two networks side by side in one, with zeros for all weights between them (block-diagonal matrices).

    first, second  as many layers each; sizes may differ
    returns        a network of summed sizes: inputs, hidden units and outputs of the first come first

    Raises ValueError on different numbers of layers.
    """
    if len(first.layers) != len(second.layers):
        raise ValueError(f"both must have as many layers, got {len(first.layers)} and {len(second.layers)}")
    weights = [torch.block_diag(one.weight, other.weight) for one, other in zip(first.layers, second.layers,
                                                                                strict=True)]
    joined = FeedForward([weights[0].shape[1], *(len(weight) for weight in weights)])
    for layer, weight, one, other in zip(joined.layers, weights, first.layers, second.layers, strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.cat((one.bias, other.bias)))
    return joined


def addition(digits: int) -> Task:
    """One pair of numbers to be added: what one half of a joined network learns."""
    def draw(source: Generator, batch: int, part: int | None) -> arithmetic.ArithmeticBatch:
        made = arithmetic.add_or_multiply(batch, digits, generator=source, operation=arithmetic.ADD)
        return made._replace(inputs=made.inputs[:, :-2])

    def right(outputs: Tensor, batch: arithmetic.ArithmeticBatch) -> Tensor:
        return arithmetic.answer_accuracy(outputs, batch.targets)

    def loss(outputs: Tensor, batch: arithmetic.ArithmeticBatch) -> Tensor:
        return cross_entropy(outputs.unflatten(-1, (digits, 10)).flatten(0, 1), batch.targets.flatten())

    return Task(("add",), 0, draw, right, loss)


SHARED, APART = "copied interface", "joined halves"
OTHER_HALF = 10**6                      # a second network for every seed; no seed


def known(arm: Arm) -> Measures:
    """Masks for two additions in networks of which the sharing is known; measures are those of study."""
    digits, hidden = arm.settings["digits"], arm.settings["hidden"]
    task, nets = double_addition(digits), []
    if arm.name == SHARED:
        make = [40 * digits, *hidden, 20 * digits]
        nets = [copy_interface(net) for net in members(train_networks(task, lambda: FeedForward(make), arm))]
    else:
        make = [20 * digits, *(size // 2 for size in hidden), 10 * digits]
        pairs = replace(arm, seeds=[each for seed in arm.seeds for each in (seed, seed + OTHER_HALF)])
        alone = members(train_networks(addition(digits), lambda: FeedForward(make), pairs))
        nets = [join(*pair) for pair in zip(alone[::2], alone[1::2], strict=True)]
    return study(task, nets, arm)


def judge_control(measures: dict[str, Measures]) -> tuple[str, str]:
    return decide({name: found_sharing(name, found) for name, found in measures.items()})


def found_sharing(name: str, found: Measures) -> tuple[str, str]:
    """Whether masks report the sharing that is there: all in the hidden layers, or none anywhere."""
    layer = "hidden" if name == SHARED else "total"
    counted = sound(found)
    shared, chance, again = ([found[kind][index][layer] for index in counted] for kind in ("iou", "chance", "again"))
    hits = [iou > 0.7 and iou - by_chance >= 0.3 if name == SHARED else iou < 0.1
            for iou, by_chance in zip(shared, chance, strict=True)]
    outer = [max(iou for tensor, iou in found["iou"][index].items() if tensor in ends(found["iou"][index]))
             for index in counted]
    words = (f"{len(counted)} of {len(found['iou'])} networks count; {layer} IoU of the two pairs {middle(shared)}, by "
             f"chance {middle(chance)}, of two masks of one pair {middle(again)}; first or last layer at most "
             f"{middle(outer)}")
    return verdict_of(hits, [not hit for hit in hits]), words


def ends(by_tensor: dict[str, Any]) -> list[str]:
    """The first and the last tensor of a measure that ends with "hidden" and "total"."""
    *tensors, _, _ = by_tensor
    return [tensors[0], tensors[-1]]


# how strong a regulariser, how large a network ----------------------------------------------------------------------

def at_strength(arm: Arm) -> Measures:
    """Masks for adding and for multiplying with the beta that the arm is named after; measures are those of study."""
    digits = arm.settings["digits"]
    task, sizes = add_or_multiply(digits), [20 * digits + 2, *arm.settings["hidden"], 10 * digits]
    nets = members(train_networks(task, lambda: FeedForward(sizes), arm))
    return study(task, nets, replace(arm, settings=arm.settings | {"beta": float(arm.name)}), again=False)


def of_size(arm: Arm) -> Measures:
    """Masks for adding and for multiplying in networks with the hidden layers set for the arm; measures as in study."""
    digits = arm.settings["digits"]
    task, sizes = add_or_multiply(digits), [20 * digits + 2, *arm.settings[arm.name], 10 * digits]
    return study(task, members(train_networks(task, lambda: FeedForward(sizes), arm)), arm, again=False)


def judge_regulariser(measures: dict[str, Measures]) -> tuple[str, str]:
    """Compare the strongest regulariser that the whole task allows with one ten times weaker."""
    betas = sorted(measures, key=float)
    usable = list(takewhile(lambda beta: len(sound(measures[beta])) >= 0.75 * len(measures[beta]["matrix"]), betas))
    told = ", ".join(f"{beta} {middle(total(measures[beta], 'iou', sound(measures[beta])))} (by chance "
                     f"{middle(total(measures[beta], 'chance', sound(measures[beta])))}, kept "
                     f"{middle([each['all']['total'] for each in measures[beta]['density']])})" for beta in betas)
    weaker = [beta for beta in usable if abs(10 * float(beta) / float(usable[-1]) - 1) < 0.1]
    if not weaker:
        return NOT_SEEN, f"no two betas ten times apart leave the whole task intact; IoU {told}"
    counted = sorted({*sound(measures[usable[-1]])} & {*sound(measures[weaker[0]])})
    changes = [abs(one - other) for one, other in zip(total(measures[usable[-1]], "iou", counted),
                                                      total(measures[weaker[0]], "iou", counted), strict=True)]
    return (verdict_of([change <= 0.1 for change in changes], [change >= 0.2 for change in changes]),
            f"IoU of adding and multiplying by beta: {told}; from {weaker[0]} to {usable[-1]}, the strongest that the "
            f"whole task allows, it changes by {middle(changes)}")


def total(measures: Measures, kind: str, counted: Sequence[int]) -> list[float]:
    """A measure of all tensors together, of the networks that count."""
    return [measures[kind][index]["total"] for index in counted]


def judge_size(measures: dict[str, Measures]) -> tuple[str, str]:
    """Compare the smallest networks with the largest, seed by seed."""
    names = list(measures)
    counted = sorted(set.intersection(*(set(sound(measures[name])) for name in (names[0], names[-1]))))
    told = "; ".join(f"{name}: {len(sound(found))} of {len(found['iou'])} networks count, IoU "
                     f"{middle(total(found, 'iou', sound(found)))}, by chance "
                     f"{middle(total(found, 'chance', sound(found)))}, of adding's weights multiplying uses "
                     f"{middle([found['shared'][index]['add']['total'] for index in sound(found)])}"
                     for name, found in measures.items())
    if not counted:
        return NOT_SEEN, f"no seed counts in both the smallest and the largest; {told}"
    less = [large < small for small, large in zip(*(total(measures[name], "iou", counted) for name in
                                                    (names[0], names[-1])), strict=True)]
    share = sum(less) / len(less)
    verdict = SEEN if share >= 2 / 3 else CONTRADICTED if share <= 1 / 3 else NOT_SEEN
    return verdict, f"the largest network shares less than the smallest in {sum(less)} of {len(less)} seeds; {told}"


# drawing ----------------------------------------------------------------------------------------------------------

def regulariser_figure(measures: dict[str, Measures]) -> Picture:
    """Accuracy under the mask for all of the task, weights kept, IoU and chance, by beta; medians over seeds."""
    betas = sorted(measures, key=float)
    rows = {
        "accuracy, whole task": [[min(row["all"] for row in matrix.values()) for matrix in measures[beta]["matrix"]]
                                 for beta in betas],
        "weights kept": [[each["all"]["total"] for each in measures[beta]["density"]] for beta in betas],
        "IoU of the parts": [[each["total"] for each in measures[beta]["iou"]] for beta in betas],
        "IoU by chance": [[each["total"] for each in measures[beta]["chance"]] for beta in betas]}
    lines = {name: [float(middle(values)) for values in row] for name, row in rows.items()}
    return plots.lines(
        [float(beta) for beta in betas], lines, x_scale="log", y_range=(0, 1.05), x_label="beta", y_label="share",
        title="What masks keep and share, by the strength of the regulariser",
        alt="Medians over networks. " + "; ".join(f"beta {beta}: " + ", ".join(
            f"{name} {line[at]:.2f}" for name, line in lines.items()) for at, beta in enumerate(betas)) + ".")


def size_figure(measures: dict[str, Measures]) -> Picture:
    """IoU and chance by size, medians over seeds."""
    lines = {words: [float(middle([each["total"] for each in found[kind]])) for found in measures.values()]
             for kind, words in (("iou", "IoU of the parts"), ("chance", "by chance"))}
    return plots.bars(
        list(measures), lines, y_range=(0, 1.05), x_label="network", y_label="IoU",
        title="Share of weights that adding and multiplying have in common, by size of the network",
        alt="Medians over networks. " + "; ".join(f"{name}: " + ", ".join(
            f"{words} {line[at]:.2f}" for words, line in lines.items()) for at, name in enumerate(measures)) + ".")


# claims -----------------------------------------------------------------------------------------------------------

register(Experiment(
    name="masks.control",
    claim="Masks find sharing where there is sharing, and none where there is none",
    source="thesis appendix B.3.1, Figure B.2; the joined halves are ours",
    paper="hidden layers share almost perfectly when one pair's input and output weights are copied to the other, the "
          "first and the last layer share nothing",
    criterion=f"in 3/4 of the networks that count: {SHARED}, IoU of the two pairs in the hidden layers above 0.7 and "
              f"at least 0.3 above chance; {APART}, IoU below 0.1 in total. Contradicted when it is not so in 3/4 of "
              f"the networks of both kinds; {SOUND}",
    presets=presets([SHARED, APART], 4e-4, iterations=800), run=known, judge=judge_control, figure=sharing_figure))

BETAS = ["3e-4", "1e-3", "3e-3", "1e-2", "3e-2"]


def regulariser_presets() -> dict[str, dict[str, Any]]:
    made = presets(BETAS, iterations=800)
    made["smoke"]["arms"] = BETAS[:2]
    made["paper"]["arms"] = ["1e-6", "1e-5", "1e-4", *BETAS]
    return made


register(Experiment(
    name="masks.regulariser",
    claim="How much is shared is not very sensitive to the strength of the regulariser",
    source="thesis appendix B.3.3, Figure B.4",
    paper="a picture of accuracy over beta, coloured by the total sharing",
    criterion="from the strongest beta at which, as at all weaker ones, 3/4 of the networks count, down to a tenth of "
              "it the IoU of the two parts changes by at most 0.1 in 3/4 of the networks; contradicted when by 0.2 or "
              "more in 3/4; "
              f"{SOUND}",
    presets=regulariser_presets(), run=at_strength, judge=judge_regulariser, figure=regulariser_figure))


def size_presets() -> dict[str, dict[str, Any]]:
    sizes = dict(small=[64, 64, 32], medium=[112, 112, 56], big=[192, 192, 96], huge=[384, 384, 192])
    made = presets(["small", "medium", "big"], iterations=1000, **sizes)
    made["smoke"] |= dict(small=[8, 8], medium=[10, 10], big=[12, 12], huge=[14, 14])
    made["paper"] |= dict(arms=list(sizes), small=[400, 400, 200], medium=[800] * 4, big=[2000] * 4, huge=[4000] * 4)
    return made


register(Experiment(
    name="masks.size",
    claim="Larger networks share less of what adding and multiplying use",
    source="thesis appendix B.3.4, Figure B.5",
    paper="a picture: less sharing from 400-400-200 to 4000-4000-4000-4000",
    criterion="the IoU of the two parts is lower in the largest network than in the smallest in 2 of 3 seeds; "
              "contradicted in 1 of 3 or fewer. Only the sign: chance falls with size too, and is told beside it; "
              f"{SOUND}",
    presets=size_presets(), run=of_size, judge=judge_size, figure=size_figure))
