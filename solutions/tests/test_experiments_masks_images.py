"""What is said of masks of images follows from what was measured, and what is measured is what is said."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from solutions.convolutional import PlainCNN, ResNet
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, find
from solutions.experiments.ensemble import generator
from solutions.experiments.masks import images, permutations
from solutions.experiments.masks.images import LEFT_OUT, TENTH, THINNED, UNCOUNTED
from solutions.experiments.masks.permutations import GIVEN, NEW, PREFERRED
from solutions.masks import MaskedModel, train_masks
from solutions.tasks.digits import Images, Split

torch.set_num_threads(1)


def noise(count: int = 40, channels: int = 1, seed: int = 0) -> Images:
    return Images(torch.rand(count, channels, 8, 8, generator=generator(seed)), torch.arange(count) % 10)


def settings(**changed) -> dict:
    return dict(beta=0.01, samples=2, mask_rate=0.2, mask_steps=4, mask_batch=8, at_once=5) | changed


def strong() -> PlainCNN:
    """A small network in which every weight matters."""
    torch.manual_seed(0)
    net = PlainCNN(1, widths=[2, 3])
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(4)
    return net


# masks trained together -------------------------------------------------------------------------------------------

def test_a_mask_alone_is_that_of_train_masks():
    data, net, names = noise(), strong(), ["convolutions.0.weight", "convolutions.1.weight"]
    together = images.find_masks_together(MaskedModel(net, names), data, [images.everything(data)],
                                          settings(mask_steps=20), [7])
    source = generator(7, 0)

    def batches():
        while True:
            rows = (torch.rand(1, 8, generator=source) * 40).long()[0]
            yield data.pixels[rows], data.labels[rows]

    alone = train_masks(MaskedModel(net, names), batches(), cross_entropy, beta=0.01, samples=2, lr=0.2, steps=20,
                        generator=torch.Generator().manual_seed(generator(7, 0).initial_seed()))
    assert all(torch.equal(together[0][name], mask) for name, mask in alone.masks.items())
    assert 0 < sum(mask.sum() for mask in together[0].values()) < sum(mask.numel() for mask in together[0].values())


def test_masks_trained_together_do_not_touch_each_other():
    """What one target asks for changes nothing for the others, and an equal target gets a mask of its own."""
    data, masked = noise(), MaskedModel(strong())
    full = images.everything(data)
    kept, other = (images.find_masks_together(masked, data, [full, images.of_classes(data, pair), full],
                                              settings(mask_steps=20), [1]) for pair in ([3, 4], [5, 6]))
    for index in (0, 2):
        assert all(torch.equal(kept[index][name], other[index][name]) for name in kept[index])
    assert any(not torch.equal(kept[0][name], kept[2][name]) for name in kept[0])
    assert all((part == 2).all() for part in masked.logits.values())


def test_no_more_masks_than_allowed_are_trained_at_once():
    data, masked, seen = noise(), MaskedModel(PlainCNN(1, widths=[2, 3])), []
    masked.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    found = images.find_masks_together(masked, data, [images.everything(data)] * 5, settings(at_once=2, mask_steps=1),
                                       [1])
    assert len(found) == 5
    assert seen == [16, 16, 8]


def test_an_answer_that_does_not_count_gets_no_gradient():
    data = noise()
    target = images.all_but(data, 3, counted=False)
    assert 3 not in data.labels[target.rows]
    assert target.counted.tolist() == [label != 3 for label in range(10)]
    assert images.all_but(data, 3, counted=True).counted.all()
    net = PlainCNN(1, widths=[2, 3])
    with torch.no_grad():
        net.output.weight[3] = 100.0                        # an answer that would always be given
    [mask] = images.find_masks_together(MaskedModel(net), data, [target], settings(mask_steps=10, beta=0), [2])
    assert mask["output.weight"][3].all()                   # beta 0: without a gradient nothing moves


def test_targets_have_the_images_they_say():
    data = noise(50)
    assert images.of_classes(data, [2, 7]).rows.tolist() == [row for row in range(50) if row % 10 in (2, 7)]
    less = images.random_tenth_less(data, generator(1))
    assert len(less.rows) == 45
    assert len(set(less.rows.tolist())) == 45
    assert less.counted.all()


# what is measured -------------------------------------------------------------------------------------------------

def test_a_thinned_mask_is_part_of_the_mask_and_of_the_smaller_size():
    mask = {"a": torch.rand(20, 5, generator=generator(1)) < 0.6, "b": torch.rand(30, generator=generator(2)) < 0.5}
    one = {"a": torch.rand(20, 5, generator=generator(3)) < 0.3, "b": torch.ones(30, dtype=torch.bool)}
    two = {"a": torch.rand(20, 5, generator=generator(4)) < 0.4, "b": torch.ones(30, dtype=torch.bool)}
    thinned = images.thin(mask, [one, two], generator(5))
    assert thinned["a"].sum() == one["a"].sum()
    assert not (thinned["a"] & ~mask["a"]).any()
    assert torch.equal(thinned["b"], mask["b"])
    again = images.thin(mask, [one, two], generator(6))
    assert not torch.equal(thinned["a"], again["a"])


def test_drops_are_relative_and_the_largest_other_is_another():
    before = torch.tensor([[8, 2], [0, 10]])
    after = torch.tensor([[[2, 8], [1, 9]], [[8, 2], [5, 5]]])
    falls = images.relative_drops(before, after)
    torch.testing.assert_close(falls, torch.tensor([[0.75, 0.1], [0.0, 0.5]], dtype=torch.float64))
    torch.testing.assert_close(images.largest_other(falls), torch.tensor([0.1, 0.0], dtype=torch.float64))
    assert images.relative_drops(torch.tensor([[0, 4], [0, 4]]), torch.tensor([[[0, 4], [0, 4]]])).abs().sum() == 0


def test_ranks_do_not_change_when_an_answer_only_becomes_rarer():
    data = noise(60)
    logits = torch.randn(60, 10, generator=generator(3)) + 2 * nn.functional.one_hot(data.labels, 10)
    ranked = images.ranked_above(logits, data)
    shifted = logits.clone()
    shifted[:, 4] -= 50
    assert not (shifted.argmax(-1) == 4).any()
    torch.testing.assert_close(images.ranked_above(shifted, data)[4], ranked[4])
    own = logits[:, 4] - logits.index_fill(1, torch.tensor(4), -torch.inf).amax(1)
    above = (own[data.labels == 4][:, None] > own[data.labels != 4]).double().mean()
    torch.testing.assert_close(ranked[4], above)


def test_images_are_shifted_and_mirrored_each_on_its_own():
    pixels = torch.arange(1, 201.0).view(2, 1, 10, 10).expand(2, 3, 10, 10)
    found = [images.shift_and_flip(pixels, generator(seed), 2) for seed in range(20)]
    inner = pixels[:, :, 4:6, 4:6]
    for each in found:
        assert each.shape == pixels.shape
        for image, wanted in zip(each, inner, strict=True):
            patches = image.unfold(1, 2, 1).unfold(2, 2, 1)
            same = [(patches == part[:, None, None]).all((0, 3, 4)).sum() for part in (wanted, wanted.flip(-1))]
            assert sum(same) == 1
    assert len({tuple(each.flatten().tolist()) for each in found}) > 15


def test_images_are_standardised_with_what_training_images_have():
    split = Split(noise(30, 2, 1), noise(10, 2, 2))
    done = images.standardise(split)
    torch.testing.assert_close(done.train.pixels.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(done.train.pixels.std((0, 2, 3)), torch.ones(2))
    mean, spread = split.train.pixels[:, 1].mean(), split.train.pixels[:, 1].std()
    torch.testing.assert_close(done.test.pixels[:, 1], (split.test.pixels[:, 1] - mean) / spread)


def test_unknown_images_are_refused():
    with pytest.raises(ValueError, match='"small digits", "MNIST"'):
        images.read_images("ImageNet", 0)


# at the sizes of the paper, on made-up images ---------------------------------------------------------------------

BRIEF = dict(data="made up", iterations=2, mask_steps=1, batch=4, mask_batch=4, at_once=22)


@pytest.mark.parametrize("name", ["dropout", "no dropout"])
def test_the_plain_network_of_the_paper_is_trained_and_masked(name):
    arm = Arm(name, find("masks.classes").presets["paper"] | BRIEF, [0])
    train = images.read_images("made up", 0).train
    net = images.train_network(arm, train, 0)
    assert [convolution.out_channels for convolution in net.convolutions] == [32, 64, 128, 256]
    assert net.dropouts[-1].p == (0.5 if name == "dropout" else 0)
    [mask] = images.find_masks_together(MaskedModel(net), train, [images.everything(train)], arm.settings, [1])
    assert all(part.all() for part in mask.values())                # one step is not enough to drop anything


@pytest.mark.parametrize("name", ["dropout", "ResNet-110"])
def test_the_experiment_of_the_paper_starts_with_narrower_networks(name):
    preset = find("masks.classes").presets["paper"] | BRIEF | dict(widths=[2, 3, 4, 5])
    found = images.classes(Arm(name, preset | dict(resnet=preset["resnet"] | BRIEF | dict(depth=8)), [0]))
    assert set(found["drop"][0]) == {LEFT_OUT, UNCOUNTED, TENTH, THINNED}
    assert all(len(values) == 10 for kinds in (found["drop"][0], found["other"][0], found["ranked"][0])
               for values in kinds.values())
    for row in found["taken_for"][0]:
        assert sum(row) == pytest.approx(0, abs=2e-3)


def test_the_resnet_of_the_paper_has_110_layers():
    made = images.make_network(Arm("ResNet-110", find("masks.classes").presets["paper"], [0]), 3, 0)
    assert isinstance(made, ResNet)
    assert len([module for module in made.modules() if isinstance(module, nn.Conv2d | nn.Linear)]) == 110


def test_stability_and_permutations_of_the_paper_start():
    preset = find("masks.stability").presets["paper"] | BRIEF | dict(widths=[2, 3, 4, 5])
    found = images.stability(Arm("no dropout", preset, [0]))
    assert 0 <= found["same"][0] <= 1
    preset = find("masks.permutations").presets["paper"] | dict(data="made up", iterations=1, tasks=2, samples=1)
    found = permutations.permutations(Arm(NEW, preset, [0]))
    assert list(found["shared"][0][0]) == ["2", "3", "4", "total"]


# permutations -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arm", [NEW, PREFERRED, GIVEN])
def test_a_sequence_has_every_task_and_what_is_in_use_only_grows(arm):
    preset = find("masks.permutations").presets["smoke"] | dict(data="made up", tasks=4, iterations=3)
    found = permutations.permutations(Arm(arm, preset, [0, 1]))
    for shared, chance in zip(found["shared"], found["chance"], strict=True):
        assert len(shared) == len(chance) == 3
        assert [list(each) for each in shared] == [["1"] * (arm == GIVEN) + ["2", "3", "4", "total"]] * 3
        for layer in ("2", "3", "4"):
            in_use = [task[layer] for task in chance]
            assert in_use == sorted(in_use)
    assert found == permutations.permutations(Arm(arm, preset, [0, 1]))


def test_only_free_weights_begin_lower():
    masked = MaskedModel(PlainCNN(1, widths=[2, 3]))
    used = torch.rand(10, 3, generator=generator(1)) < 0.5
    permutations.prefer(masked, {"output.weight": used})
    assert torch.equal(masked.logits["output.weight"], torch.where(used, 2.0, -1.0))
    assert (masked.logits["convolutions.0.weight"] == 2).all()


def sequence(shared: float, chance: float, accuracy: float = 0.95) -> dict:
    return {"accuracy": [[accuracy] * 2] * 4, "shared": [[{"total": shared}]] * 4, "chance": [[{"total": chance}]] * 4}


@pytest.mark.parametrize(("measures", "verdict"), [
    (sequence(0.2, 0.2), SEEN), (sequence(0.1, 0.3), SEEN), (sequence(0.4, 0.2), NOT_SEEN),
    (sequence(0.7, 0.3), CONTRADICTED), (sequence(0.95, 0.9), NOT_SEEN), (sequence(0.2, 0.2, 0.5), NOT_SEEN)],
    ids=["at chance", "below chance", "between", "half of the way", "no room", "not learned"])
def test_using_weights_again_is_judged_against_chance_where_there_is_room(measures, verdict):
    assert permutations.judge_permutations({NEW: measures})[0] == verdict


# verdicts on classes ----------------------------------------------------------------------------------------------

def without(drop: float, uncounted: float, thinned: float = 0.0, other: float = 0.05, control: float = 0.97) -> dict:
    kinds = {LEFT_OUT: drop, UNCOUNTED: uncounted, THINNED: thinned, TENTH: 0.0}
    return {"full": [0.98] * 4, "all": [control] * 4, "drop": [{kind: [at] * 10 for kind, at in kinds.items()}] * 4,
            "other": [{kind: [other] * 10 for kind in kinds}] * 4,
            "ranked": [{kind: [0.9] * 10 for kind in ("all", *kinds)}] * 4}


@pytest.mark.parametrize(("measures", "lost", "needed"), [
    (without(0.6, 0.5), SEEN, SEEN), (without(0.6, 0.1), SEEN, CONTRADICTED), (without(0.6, 0.25), SEEN, NOT_SEEN),
    (without(0.6, 0.5, thinned=0.55), CONTRADICTED, NOT_SEEN), (without(0.6, 0.5, other=0.4), NOT_SEEN, SEEN),
    (without(0.05, 0.05), CONTRADICTED, NOT_SEEN), (without(0.6, 0.5, control=0.9), NOT_SEEN, NOT_SEEN)],
    ids=["needed", "fought", "in between", "size alone", "others too", "no drop", "no control mask"])
def test_a_drop_is_judged_against_size_and_its_cause_without_the_answer(measures, lost, needed):
    assert images.judge_classes({"dropout": measures, "no dropout": without(0, 0)})[0] == lost
    assert images.judge_exclusive({"dropout": measures, "no dropout": without(0, 0)})[0] == needed


@pytest.mark.parametrize(("plain", "dropout", "verdict"), [
    (without(0.3, 0), without(0.6, 0), SEEN), (without(0.6, 0), without(0.3, 0), CONTRADICTED),
    (without(0.6, 0), without(0.6, 0), NOT_SEEN), (without(0.3, 0, control=0.1), without(0.6, 0), NOT_SEEN)],
    ids=["more", "less", "the same", "no control mask"])
def test_dropout_is_judged_by_who_drops_more(plain, dropout, verdict):
    assert images.judge_dropout({"no dropout": plain, "dropout": dropout})[0] == verdict


@pytest.mark.parametrize(("same", "other", "chance", "control", "verdict"), [
    (0.9, 0.4, 0.2, 0.97, SEEN), (0.5, 0.35, 0.2, 0.97, NOT_SEEN), (0.5, 0.2, 0.45, 0.97, CONTRADICTED),
    (0.9, 0.4, 0.2, 0.5, NOT_SEEN)], ids=["stable", "in between", "at chance", "no control mask"])
def test_stability_is_judged_against_other_targets_and_chance(same, other, chance, control, verdict):
    measures = {"full": [0.98] * 3, "all": [control] * 3, "same": [same] * 3, "other": [other] * 3,
                "chance": [chance] * 3}
    assert images.judge_stability({"no dropout": measures})[0] == verdict
