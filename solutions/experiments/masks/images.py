"""Which weights of an image classifier are for one class alone, and are masks repeatable? (section 3.4, B.2.1)"""

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, pad

from solutions import plots
from solutions.convolutional import PlainCNN, ResNet
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register, superiority
from solutions.experiments.ensemble import clip_each, generator
from solutions.experiments.masks.parts import TEST, share
from solutions.masks import (
    MaskedModel,
    Masks,
    expected_overlap,
    fast_uniforms,
    hard_samples,
    iou,
    mask_regulariser,
    maskable_names,
    threshold_masks,
)
from solutions.plots import Picture
from solutions.tasks import digits
from solutions.tasks.digits import Images, Split

CLASSES = 10

# images, and networks for them ------------------------------------------------------------------------------------


def read_images(data: str, seed: int, folder: Path = Path("runs")) -> Split:
    """The images a setting names: "small digits" (the seed splits them), "MNIST", "CIFAR-10", or "made up", noise."""
    if data == "small digits":
        return digits.small_digits(seed=seed, test_every=3)
    if data == "MNIST":
        return digits.read_mnist(digits.download_mnist(folder / "mnist").folder)
    if data == "CIFAR-10":
        return digits.read_cifar10(digits.download_cifar10(folder / "cifar10").folder)
    if data != "made up":
        raise ValueError(f'data must be "small digits", "MNIST", "CIFAR-10" or "made up", got {data!r}')
    labels = torch.arange(4 * CLASSES) % CLASSES
    pixels = torch.rand(len(labels), 3, 32, 32, generator=generator(TEST, seed))
    return Split(Images(pixels, labels), Images(pixels.flip(-1), labels))


def standardise(split: Split) -> Split:
    """Give every channel mean 0 and standard deviation 1 over the training images."""
    mean, spread = (getattr(split.train.pixels, name)((0, 2, 3), keepdim=True) for name in ("mean", "std"))
    return Split(*(part._replace(pixels=(part.pixels - mean) / spread) for part in split))


def shift_and_flip(pixels: Tensor, source: Generator, most: int = 4) -> Tensor:
    """Move every image by up to `most` pixels both ways, zeros coming in, and mirror half of them (He et al. 2016).

    pixels  (images, channels, height, width); returns the same shape
    """
    count, _, height, width = pixels.shape
    down, right = torch.randint(2 * most + 1, (2, count, 1), generator=source)
    columns = right + torch.arange(width)                                       # (images, width)
    mirrored = torch.rand(count, 1, generator=source) < 0.5
    columns = torch.where(mirrored, columns.flip(-1), columns)
    rows = down + torch.arange(height)                                          # (images, height)
    image = torch.arange(count)[:, None, None]
    wide = pad(pixels, (most,) * 4).movedim(1, -1)
    return wide[image, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def settings_of_arm(arm: Arm) -> dict[str, Any]:
    """A ResNet has settings of its own, under "resnet"."""
    return arm.settings | (arm.settings["resnet"] if arm.name == "ResNet-110" else {})


def make_network(arm: Arm, channels: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if arm.name == "ResNet-110":
            return ResNet(channels, CLASSES, settings_of_arm(arm)["depth"])
        return PlainCNN(channels, CLASSES, arm.settings["widths"], dropout=arm.name == "dropout")


def train_network(arm: Arm, images: Images, seed: int) -> nn.Module:
    """One network, in eval mode: Adam for the plain one; for a ResNet the schedule of He et al. 2016, section 4.2.

    Settings: iterations, batch, learning_rate.
    """
    settings, residual = settings_of_arm(arm), arm.name == "ResNet-110"
    net = make_network(arm, images.pixels.shape[1], seed).to(arm.device)
    if residual:
        optimiser = torch.optim.SGD(net.parameters(), settings["learning_rate"], momentum=0.9, weight_decay=1e-4)
    else:
        optimiser = torch.optim.Adam(net.parameters(), settings["learning_rate"])
    steps = settings["iterations"]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps // 2, 3 * steps // 4], 0.1 if residual else 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)                                                 # for dropout
        for step in range(1, steps + 1):
            source = generator(seed, step)
            rows = torch.randint(len(images.labels), (settings["batch"],), generator=source)
            pixels = shift_and_flip(images.pixels[rows], source) if residual else images.pixels[rows]
            optimiser.zero_grad()
            cross_entropy(net(pixels.to(arm.device)), images.labels[rows].to(arm.device)).backward()
            if not residual:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net.eval()


# several masks at once --------------------------------------------------------------------------------------------

class Target(NamedTuple):
    """What a mask is trained for.

    rows     (images of this target,), int64: which of the training images
    counted  (classes,), bool: the answers that count in the loss; the labels of all rows must be among them
    """

    rows: Tensor
    counted: Tensor


def find_masks_together(masked: MaskedModel, images: Images, targets: Sequence[Target], settings: dict[str, Any],
                        numbers: Sequence[int]) -> list[dict[str, Tensor]]:
    """A mask for each target, of the same network, as if each had been trained on its own, but faster.

    masked    only its network and its initial logits are used; nothing is changed
    numbers   what the random numbers come from
    returns   a mask set per target, on the CPU

    Settings: beta, samples, mask_rate, mask_steps, mask_batch; at_once, how many are trained together.
    """
    found, at_once = [], settings["at_once"]
    for start in range(0, len(targets), at_once):
        found += _train_together(masked, images, targets[start:start + at_once], settings, [*numbers, start])
    return found


def _train_together(masked: MaskedModel, images: Images, targets: Sequence[Target], settings: dict[str, Any],
                    numbers: Sequence[int]) -> list[dict[str, Tensor]]:
    device = next(masked.parameters()).device
    of_data, of_masks = generator(*numbers), torch.Generator(device).manual_seed(generator(*numbers).initial_seed())
    batch, samples = settings["mask_batch"], settings["samples"]
    rows = nn.utils.rnn.pad_sequence([target.rows for target in targets], batch_first=True)     # (targets, most rows)
    sizes = torch.tensor([[len(target.rows)] for target in targets])
    barred = ~torch.stack([target.counted for target in targets])[:, None].to(device)           # (targets, 1, classes)
    logits = {name: part.detach().repeat(len(targets), *[1] * part.dim()).requires_grad_()
              for name, part in masked.logits.items()}
    optimiser = torch.optim.Adam(logits.values(), settings["mask_rate"])
    for _ in range(settings["mask_steps"]):
        chosen = rows.gather(1, (torch.rand(len(targets), batch, generator=of_data) * sizes).long()).flatten()
        masks = {name: sample_each(part, samples, of_masks) for name, part in logits.items()}
        outputs = masked(images.pixels[chosen].to(device), masks=masks).unflatten(0, (len(targets), batch))
        labels = images.labels[chosen].to(device)
        loss = cross_entropy(outputs.masked_fill(barred, -torch.inf).flatten(0, 1), labels) * len(targets)
        optimiser.zero_grad()
        (loss + mask_regulariser(logits, settings["beta"], batch)).backward()
        clip_each([part.grad for part in logits.values()], 1.0)
        optimiser.step()
    finished = {name: part.cpu() for name, part in threshold_masks(logits).items()}
    return [{name: part[number] for name, part in finished.items()} for number in range(len(targets))]


def sample_each(logits: Tensor, samples: int, source: Generator) -> Tensor:
    """Samples for each of several masks: (targets, *shape) to (targets * samples, *shape), a target's together."""
    units = logits.flatten(0, 1)
    drawn = hard_samples(units, fast_uniforms(units, samples, source))          # (samples, targets * units, ...)
    return drawn.unflatten(1, (len(logits), -1)).transpose(0, 1).flatten(0, 1)


def everything(images: Images) -> Target:
    """All classes."""
    return Target(torch.arange(len(images.labels)), torch.ones(CLASSES, dtype=torch.bool))


def of_classes(images: Images, classes: Sequence[int]) -> Target:
    """Images of some classes only; all answers count."""
    return Target(torch.isin(images.labels, torch.tensor(classes)).nonzero()[:, 0], torch.ones(CLASSES, dtype=bool))


def all_but(images: Images, label: int, counted: bool) -> Target:
    """Images of all classes but one.

    counted  the left-out class stays among the answers, as in the thesis: then every image teaches the mask not to give
             this answer. False takes it out of the loss, so that its weights are no longer needed, but not fought
    """
    rest = one_hot(torch.tensor(label), CLASSES) == 0
    return Target((images.labels != label).nonzero()[:, 0], rest | counted)


def random_tenth_less(images: Images, source: Generator) -> Target:
    """Nine tenths of the images of all classes: as little data as without a class."""
    count = len(images.labels)
    return everything(images)._replace(rows=torch.randperm(count, generator=source)[:count - count // CLASSES])


def thin(masks: Masks, others: Sequence[Masks], source: Generator) -> dict[str, Tensor]:
    """Of a mask as many weights as the smallest of the others keeps, tensor by tensor, at random; never more."""
    thinned = {}
    for name, mask in masks.items():
        places, keep = mask.flatten().nonzero()[:, 0], min(int(other[name].sum()) for other in others)
        kept = places[torch.randperm(len(places), generator=source)[:keep]]
        thinned[name] = torch.zeros(mask.numel(), dtype=torch.bool).index_fill_(0, kept, True).view(mask.shape)
    return thinned


@torch.no_grad()
def answers(masked: MaskedModel, masks: Masks, images: Images) -> Tensor:
    """(images, classes): the logits under a mask, on the CPU."""
    device = next(masked.parameters()).device
    masks = {name: mask.to(device) for name, mask in masks.items()}
    return torch.cat([masked(part.to(device), masks=masks).cpu() for part in images.pixels.split(1000)])


def confusion(logits: Tensor, images: Images) -> Tensor:
    """(classes, classes): how many images of each class are taken for which."""
    return digits.confusion_matrix(logits.argmax(-1), images.labels, CLASSES)


def right(matrix: Tensor) -> float:
    """The accuracy in a confusion matrix."""
    return round(float(matrix.diagonal().sum() / matrix.sum()), 4)


def ranked_above(logits: Tensor, images: Images) -> Tensor:
    """(classes,): the chance that an image of a class has a larger margin for it than one of another class (AUC).

    The margin is the class's logit less the largest other. What only makes an answer rarer leaves this as it is.
    """
    own = one_hot(images.labels, CLASSES).bool()
    others = torch.stack([logits.index_fill(1, label, -torch.inf).amax(1) for label in torch.arange(CLASSES)], 1)
    ranks = (logits - others).argsort(0).argsort(0).double()                    # (images, classes), from 0
    count = own.sum(0)
    return ((ranks * own).sum(0) - count * (count - 1) / 2) / (count * (len(own) - count))


# one class left out -----------------------------------------------------------------------------------------------

LEFT_OUT, UNCOUNTED, TENTH, THINNED = "left out", "left out and not counted", "a random tenth", "thinned"
TENTHS = 2


def classes(arm: Arm) -> Measures:
    """A mask of all classes; one without each class, the output layer's kept; what each class loses by it.

    measures  full, all  [seed] accuracy of the network, and under the mask of all classes
              kept       [seed] {mask: share of the weights kept}, the mean where there are several
              drop       [seed] {kind: [class] by how much of its accuracy under the mask of all the class falls}
              other      [seed] {kind: [class] the largest such drop of another class}
              ranked     [seed] {"all", kind: [class] as in ranked_above}
              taken_for  [seed] [class left out] [answer] change in the share of the class's images so answered

    The kinds: LEFT_OUT; UNCOUNTED, the same with the class no answer in the loss; THINNED, the mask of all classes
    with as few weights per layer as the smaller of these two, at random; TENTH, all classes but fewer images (the mean
    over masks).
    """
    measures: Measures = {name: [] for name in ("full", "all", "kept", "drop", "other", "ranked", "taken_for")}
    for index, seed in enumerate(arm.seeds):
        split, settings = standardise(read_images(arm.settings["data"], seed)), settings_of_arm(arm)
        net = train_network(arm, split.train, seed)
        arm.progress(3 * index + 1, 3 * len(arm.seeds), f"trained seed {seed}")
        masked, test = MaskedModel(net), split.test
        [control] = find_masks_together(masked, split.train, [everything(split.train)], settings, [TEST, seed, 0])
        arm.progress(3 * index + 2, 3 * len(arm.seeds), f"control mask of seed {seed}")
        sets = masks_without(net, control, split.train, settings, seed)
        given = answers(masked, control, test)
        after = {kind: [answers(masked, masks, test) for masks in of_kind] for kind, of_kind in sets.items()}
        before = confusion(given, test)
        changed = {kind: torch.stack([confusion(each, test) for each in logits]) for kind, logits in after.items()}
        falls = {kind: relative_drops(before, each) for kind, each in changed.items()}
        ranks = {kind: torch.stack([ranked_above(each, test) for each in logits]) for kind, logits in after.items()}
        for table in (falls, ranks):
            table[TENTH] = table[TENTH].mean(0).expand(CLASSES, -1)
        measures["full"].append(right(confusion(answers(masked, {}, test), test)))
        measures["all"].append(right(before))
        measures["kept"].append({"all": share(control)} | {kind: round(fmean(map(share, of_kind)), 4)
                                                           for kind, of_kind in sets.items()})
        measures["drop"].append({kind: numbers(fall.diagonal()) for kind, fall in falls.items()})
        measures["other"].append({kind: numbers(largest_other(fall)) for kind, fall in falls.items()})
        measures["ranked"].append({"all": numbers(ranked_above(given, test))}
                                  | {kind: numbers(rank.diagonal()) for kind, rank in ranks.items()})
        change = digits.confusion_difference(before.expand_as(changed[LEFT_OUT]), changed[LEFT_OUT])
        measures["taken_for"].append([numbers(change[label, label]) for label in range(CLASSES)])
        arm.progress(3 * index + 3, 3 * len(arm.seeds), f"drop {fmean(measures['drop'][-1][LEFT_OUT]):.2f}")
    return measures


def masks_without(net: nn.Module, control: Masks, images: Images, settings: dict[str, Any], seed: int
                  ) -> dict[str, list[dict[str, Tensor]]]:
    """Kind -> masks, one per class (TENTHS of a random tenth), with the output layer's of the control throughout."""
    output = "output.weight"
    fixed = copy.deepcopy(net)
    with torch.no_grad():
        fixed.output.weight.mul_(control[output].to(fixed.output.weight.device))
    targets = {LEFT_OUT: [all_but(images, label, True) for label in range(CLASSES)],
               UNCOUNTED: [all_but(images, label, False) for label in range(CLASSES)],
               TENTH: [random_tenth_less(images, generator(TEST, seed, 1, number)) for number in range(TENTHS)]}
    masked = MaskedModel(fixed, [name for name in maskable_names(fixed) if name != output])
    found = iter(find_masks_together(masked, images, [*itertools.chain(*targets.values())], settings, [TEST, seed, 2]))
    sets = {kind: [next(found) | {output: control[output]} for _ in each] for kind, each in targets.items()}
    pairs = enumerate(zip(sets[LEFT_OUT], sets[UNCOUNTED], strict=True))
    return sets | {THINNED: [thin(control, pair, generator(TEST, seed, 3, label)) for label, pair in pairs]}


def relative_drops(before: Tensor, after: Tensor) -> Tensor:
    """(masks, classes): by how much of its accuracy before each class falls; 0 where there was none.

    before  (classes, classes) and after (masks, classes, classes): confusion matrices of the same images
    """
    hits = before.diagonal()
    return (hits - after.diagonal(dim1=-2, dim2=-1)).double() / hits.clamp_min(1)


def largest_other(falls: Tensor) -> Tensor:
    """(classes,): the largest number off the diagonal of each row of (classes, classes)."""
    return falls.masked_fill(torch.eye(len(falls), dtype=torch.bool), -torch.inf).amax(-1)


def numbers(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


SETTINGS = dict(data="small digits", widths=[8, 16, 32], batch=64, learning_rate=3e-3, mask_batch=64, mask_rate=3e-2,
                samples=4, beta=1e-2, at_once=22, resnet={})
RESNET = dict(depth=110, iterations=64_000, batch=128, learning_rate=0.1, mask_batch=256, mask_rate=3e-2,
              mask_steps=30_000, beta=2e-5, at_once=11)
SMOKE = dict(seeds=1, iterations=2, mask_steps=2, batch=8, mask_batch=8, widths=[2, 3], samples=2, at_once=8)
TABLE_B4 = dict(data="CIFAR-10", widths=[32, 64, 128, 256], batch=128, learning_rate=1e-3, mask_batch=128,
                mask_rate=1e-3, beta=1e-4, iterations=20_000, mask_steps=20_000)


def class_presets() -> dict[str, dict[str, Any]]:
    arms = ["dropout", "no dropout"]
    return {
        "smoke": SETTINGS | SMOKE | dict(arms=arms),
        "laptop": SETTINGS | dict(arms=arms, seeds=3, iterations=800, mask_steps=300),
        "paper": SETTINGS | TABLE_B4 | dict(arms=[*arms, "ResNet-110"], seeds=10, resnet=RESNET)}


def sound(measures: Measures) -> list[int]:
    """The networks whose mask of all classes keeps 95 % of their accuracy: what others lose says nothing."""
    pairs = zip(measures["full"], measures["all"], strict=True)
    return [index for index, (full, masked) in enumerate(pairs) if masked >= 0.95 * full]


def mean_drop(measures: Measures, kind: str) -> list[float]:
    """Per sound network the drop of the class left out, the mean over the classes."""
    return [fmean(measures["drop"][index][kind]) for index in sound(measures)]


def beyond_size(measures: Measures, kind: str) -> list[float]:
    """The same less the drop under as small a mask at random."""
    return [drop - thinned for drop, thinned in zip(mean_drop(measures, kind), mean_drop(measures, THINNED),
                                                    strict=True)]


def main_arm(measures: dict[str, Measures]) -> Measures:
    """The thesis's network has dropout."""
    return measures.get("dropout", next(iter(measures.values())))


def told_by_arm(measures: dict[str, Measures], numbers: dict[str, tuple[str, str]]) -> str:
    """Medians over the sound networks of means over classes; numbers: words -> (measure, kind)."""
    told = []
    for name, found in measures.items():
        good = sound(found)
        values = {words: median(fmean(found[key][index][kind]) for index in good)
                  for words, (key, kind) in numbers.items()} if good else {}
        told.append(f"{name}, {len(good)} of {len(found['full'])} control masks hold: "
                    + ", ".join(f"{words} {value:.3f}" for words, value in values.items()))
    return "; ".join(told)


def judge_classes(measures: dict[str, Measures]) -> tuple[str, str]:
    finding = told_by_arm(measures, {"drop of the class left out": ("drop", LEFT_OUT),
                                     "largest other drop": ("other", LEFT_OUT),
                                     "thinned at random": ("drop", THINNED),
                                     "with a random tenth of the images left out": ("drop", TENTH)})
    found = main_arm(measures)
    gaps = beyond_size(found, LEFT_OUT)
    if not gaps:
        return NOT_SEEN, finding
    others = [fmean(found["other"][index][LEFT_OUT]) for index in sound(found)]
    clear = [gap >= 0.2 and other <= drop / 2
             for gap, other, drop in zip(gaps, others, mean_drop(found, LEFT_OUT), strict=True)]
    absent = [gap < 0.1 for gap in gaps]
    return SEEN if fmean(clear) >= 0.75 else CONTRADICTED if fmean(absent) >= 0.75 else NOT_SEEN, finding


def judge_exclusive(measures: dict[str, Measures]) -> tuple[str, str]:
    finding = told_by_arm(measures, {"drop of the class left out": ("drop", LEFT_OUT),
                                     "where its answer does not count": ("drop", UNCOUNTED),
                                     "thinned at random": ("drop", THINNED),
                                     "AUC of the class": ("ranked", "all"),
                                     "left out": ("ranked", LEFT_OUT),
                                     "not counted": ("ranked", UNCOUNTED)})
    found = main_arm(measures)
    pairs = list(zip(beyond_size(found, LEFT_OUT), beyond_size(found, UNCOUNTED), strict=True))
    remains = [uncounted / counted for counted, uncounted in pairs if counted >= 0.1]
    if not remains:
        return NOT_SEEN, finding
    most, little = fmean(part >= 0.5 for part in remains), fmean(part <= 0.25 for part in remains)
    return SEEN if most >= 0.75 else CONTRADICTED if little >= 0.75 else NOT_SEEN, finding


def judge_dropout(measures: dict[str, Measures]) -> tuple[str, str]:
    drops = {name: mean_drop(measures[name], LEFT_OUT) for name in ("no dropout", "dropout") if name in measures}
    told = ", ".join(f"{name} {median(each):.2f}" for name, each in drops.items() if each)
    if len(drops) < 2 or not all(drops.values()):
        return NOT_SEEN, f"drop of the class left out: {told or 'no control mask holds'}"
    chance = superiority(drops["no dropout"], drops["dropout"])
    verdict = SEEN if chance >= 0.75 else CONTRADICTED if chance <= 0.25 else NOT_SEEN
    return verdict, (f"drop of the class left out: {told} (medians over seeds); a network with dropout drops more than "
                     f"one without with a chance of {chance:.2f}")


def classes_figure(measures: dict[str, Measures]) -> Picture:
    """The drop of the class left out beside its controls, and the largest drop of another class."""
    kinds = [LEFT_OUT, UNCOUNTED, THINNED, TENTH]
    series = {f"{name}: {what}": [median(fmean(each[kind]) for each in found[key]) for kind in kinds]
              for name, found in measures.items() for what, key in (("this class", "drop"), ("largest other", "other"))}
    return plots.bars(
        ["left out", "and not counted", "thinned at random", "a tenth less data"], series,
        title="Relative drop in accuracy, of a class left out and of the others", x_label="how the mask was made",
        y_label="relative drop",
        alt="Relative drop in accuracy against the mask of all classes. " + "; ".join(
            f"{name}: " + ", ".join(f"{kind} {value:.2f}" for kind, value in zip(kinds, values, strict=True))
            for name, values in series.items()) + ".")


register(Experiment(
    name="masks.classes",
    claim="Under a mask trained without one class a CNN loses that class and hardly any other",
    source="thesis section 3.4, Figure 3.7, appendix B.3.8",
    paper="relative drop of the class left out 40 to 60 %, of others little (Figure 3.7); ResNet-110 almost 100 %; no "
          "mask of equal size beside it",
    criterion="in 3/4 of the networks with dropout whose control mask keeps 95 % of the accuracy the class left out "
              "drops by 0.2 more than under the control mask thinned to that size at random, and the largest drop of "
              "another class is at most half as large (means over classes); contradicted when it drops by less than "
              "0.1 more in 3/4",
    presets=class_presets(), run=classes, judge=judge_classes, figure=classes_figure))

register(Experiment(
    name="masks.class_weights",
    claim="A class drops under a mask trained without it because weights that only this class needs are gone",
    source="thesis section 3.4",
    paper="the conclusion from Figure 3.7; the class left out stays an answer there, so that every image of the others "
          "teaches the mask not to give it",
    criterion="where the class left out does not count as an answer in the loss, so that nothing needs its weights but "
              "nothing fights them, at least half of its drop remains in 3/4 of the networks with dropout that have "
              "one (0.1 more than thinned at random; both less the drop of the thinned mask); contradicted when at "
              "most a quarter remains in 3/4",
    presets=class_presets(), run=classes, judge=judge_exclusive, figure=classes_figure))

register(Experiment(
    name="masks.class_dropout",
    claim="A network trained with dropout depends more on weights for one class alone than one without",
    source="thesis appendix B.3.8, Figures B.11 and B.12",
    paper="without dropout the drop of the class left out is 30 to 40 % smaller",
    criterion="a network without dropout drops less than one with it with a chance of 3/4 or more; contradicted at 1/4 "
              "or less",
    presets=class_presets(), run=classes, judge=judge_dropout, figure=classes_figure))


# the same mask twice ----------------------------------------------------------------------------------------------

def stability(arm: Arm) -> Measures:
    """Two masks of the same pair of classes, with other data and samples; five pairs with no class in common.

    measures  full, all            [seed] accuracy of the network, and under a mask of all classes
              kept                 [seed] share of the weights that the masks of pairs keep, the mean
              pair                 [seed] accuracy on a pair's images under its mask, the mean
              same, other, chance  [seed] IoU in total: of two masks of one pair, of masks of two pairs, and of one
                                   pair's at random places in the same layers; means
    """
    measures: Measures = {name: [] for name in ("full", "all", "kept", "pair", "same", "other", "chance")}
    for index, seed in enumerate(arm.seeds):
        split, settings = standardise(read_images(arm.settings["data"], seed)), settings_of_arm(arm)
        masked = MaskedModel(train_network(arm, split.train, seed))
        arm.progress(2 * index + 1, 2 * len(arm.seeds), f"trained seed {seed}")
        pairs = torch.randperm(CLASSES, generator=generator(TEST, seed, 4)).view(-1, 2).tolist()
        targets = [everything(split.train), *(of_classes(split.train, pair) for pair in pairs * 2)]
        control, *found = find_masks_together(masked, split.train, targets, settings, [TEST, seed, 5])
        first, second = found[:len(pairs)], found[len(pairs):]
        tested = [digits.select(split.test, of_classes(split.test, pair).rows) for pair in pairs]
        measures["full"].append(right(confusion(answers(masked, {}, split.test), split.test)))
        measures["all"].append(right(confusion(answers(masked, control, split.test), split.test)))
        measures["kept"].append(round(fmean(map(share, found)), 4))
        measures["pair"].append(round(fmean(right(confusion(answers(masked, masks, images), images))
                                            for masks, images in zip(first, tested, strict=True)), 4))
        twice = list(zip(first, second, strict=True))
        measures["same"].append(round(fmean(iou(*both)["total"] for both in twice), 4))
        measures["other"].append(round(fmean(iou(*both)["total"] for both in itertools.combinations(first, 2)), 4))
        measures["chance"].append(round(fmean(expected_overlap(*both)["total"][0] for both in twice), 4))
        arm.progress(2 * index + 2, 2 * len(arm.seeds), f"IoU {measures['same'][-1]:.2f}")
    return measures


def judge_stability(measures: dict[str, Measures]) -> tuple[str, str]:
    found = measures["no dropout"]
    rows = list(zip(found["same"], found["other"], found["chance"], strict=True))
    same, other, chance = (median(each) for each in zip(*rows, strict=True))
    finding = (f"{len(sound(found))} of {len(rows)} control masks hold; IoU of two masks of one pair {same:.2f} "
               f"(thesis: 0.93), of different pairs {other:.2f}, at chance {chance:.2f} (medians over seeds)")
    more = [rows[index][0] - max(rows[index][1:]) for index in sound(found)]
    if not more:
        return NOT_SEEN, finding
    much, little = fmean(extra >= 0.2 for extra in more), fmean(extra < 0.1 for extra in more)
    return SEEN if much >= 0.75 else CONTRADICTED if little >= 0.75 else NOT_SEEN, finding


def stability_figure(measures: dict[str, Measures]) -> Picture:
    found = measures["no dropout"]
    names = {"the same pair": "same", "different pairs": "other", "at random places": "chance"}
    values = {label: [median(found[name])] for label, name in names.items()}
    return plots.bars(
        [""], values, title="IoU of two masks, for the same and for different pairs of classes",
        x_label="two masks of", y_label="IoU, median over seeds", y_range=(0, 1.05),
        alt="IoU of two masks: " + ", ".join(f"{label} {value:.2f}" for label, [value] in values.items()) + ".")


register(Experiment(
    name="masks.stability",
    claim="Masks of the same target that differ only in their random numbers are nearly the same",
    source="thesis appendix B.2.1",
    paper="IoU 0.9326 with a standard deviation of 0.0096 over 100 pairs of classes; no chance level",
    criterion="in 3/4 of the networks whose control mask keeps 95 % of the accuracy the IoU of two masks of one pair "
              "of classes is 0.2 above that of masks of different pairs, and above chance; contradicted when it is "
              "less than 0.1 above the higher of these in 3/4",
    presets={
        "smoke": SETTINGS | SMOKE | dict(arms=["no dropout"]),
        "laptop": SETTINGS | dict(arms=["no dropout"], seeds=3, iterations=800, mask_steps=300),
        "paper": SETTINGS | TABLE_B4 | dict(arms=["no dropout"], seeds=10)},
    run=stability, judge=judge_stability, figure=stability_figure))
