"""What is said of masks follows from what was measured."""

import pytest
import torch
from torch import nn

from solutions.baselines import FeedForward
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm
from solutions.experiments.ensemble import Ensemble, generator
from solutions.experiments.masks import arithmetic, parts, temperature

torch.set_num_threads(1)


def matrix(own: float, other: float, full: float = 1.0) -> dict:
    return {"a": {"full": full, "all": 1.0, "a": own, "b": other},
            "b": {"full": full, "all": 1.0, "a": other, "b": own}}


@pytest.mark.parametrize(("matrices", "verdict"), [
    ([matrix(1.0, 0.1)] * 4, SEEN), ([matrix(1.0, 0.1)] * 3 + [matrix(1.0, 0.9)], SEEN),
    ([matrix(1.0, 0.9)] * 4, CONTRADICTED), ([matrix(0.8, 0.1)] * 4, CONTRADICTED),
    ([matrix(1.0, 0.1), matrix(1.0, 0.9)], NOT_SEEN), ([matrix(1.0, 0.1, full=0.5)] * 4, NOT_SEEN)])
def test_specialised_is_who_works_under_its_own_mask_and_fails_under_the_other(matrices, verdict):
    assert arithmetic.judge_specialise({"FNN": {"matrix": matrices}})[0] == verdict


@pytest.mark.parametrize(("shared", "chance", "full", "verdict"), [
    (0.30, 0.25, 1.0, SEEN), (0.30, 0.10, 1.0, NOT_SEEN), (0.60, 0.20, 1.0, CONTRADICTED), (0.3, 0.25, 0.4, NOT_SEEN)])
def test_sharing_is_judged_against_chance(shared, chance, full, verdict):
    found = {"matrix": [matrix(1.0, 0.1, full)] * 3, "iou": [{"total": shared}] * 3, "chance": [{"total": chance}] * 3,
             "again": [0.9] * 3}
    assert arithmetic.judge_reuse({"FNN": found})[0] == verdict


@pytest.mark.parametrize(("slopes", "verdict"), [
    ([[0.2, 0.1], [0.1, 0.05]], SEEN), ([[0.2, 0.1], [0.1, 0.01]], CONTRADICTED),
    ([[0.2, 0.1], [0.2, 0.08]], NOT_SEEN)])
def test_a_factor_leaves_ratios_as_they_are(slopes, verdict):
    measures = {str(index): {"slopes": [each]} for index, each in enumerate(slopes)}
    assert temperature.judge_temperature(measures)[0] == verdict


@pytest.mark.parametrize("task", [
    arithmetic.add_or_multiply(1), arithmetic.add_or_multiply(1, 3),
    *(arithmetic.double_addition(1, show) for show in arithmetic.SHOWN.values())],
    ids=["add or multiply", "add or multiply, LSTM", *arithmetic.SHOWN])
def test_right_and_loss_are_about_the_part_that_is_due(task):
    for part in (None, 0, 1):
        batch = task.draw(generator(3), 64, part)
        due = getattr(batch, "due", None)
        perfect = torch.randn(*batch.inputs.shape[:-1], 10 if due is None else 20, generator=generator(5))
        if due is None:
            (perfect if task.batch_axis == 0 else perfect[-1]).zero_().scatter_(-1, batch.targets, 20.0)
        else:
            perfect.unflatten(-1, (2, 10))[due] = nn.functional.one_hot(batch.targets[due], 10)[:, 0] * 20.0
        assert task.right(perfect, batch) == 1
        assert task.loss(perfect, batch) < 1e-6
        assert task.right(-perfect, batch) < 0.3
        assert task.loss(-perfect, batch) > 2


def test_masks_of_a_network_are_found_part_by_part_and_repeatable():
    task, settings = arithmetic.add_or_multiply(1), arithmetic.presets(1e-4)["smoke"]
    net = Ensemble(lambda: FeedForward([22, 8, 10]), [4]).member(0)
    found = [parts.find_masks(task, net, part, settings, 1)[1] for part in (None, 0, 1, 0)]
    assert all(set(each) == {"layers.0.weight", "layers.1.weight"} for each in found)
    assert all(torch.equal(found[1][name], found[3][name]) for name in found[1])


def test_a_study_has_every_mask_for_every_part():
    arm = Arm("FNN", arithmetic.presets(1e-4)["smoke"], [0, 1])
    found = arithmetic.double_add(arm)
    assert len(found["matrix"]) == len(found["iou"]) == len(found["again"]) == 2
    for each in found["matrix"]:
        assert list(each) == ["pair 1", "pair 2"]
        for row in each.values():
            assert list(row) == ["full", "all", "pair 1", "pair 2", "not pair 1", "not pair 2", "random"]
    assert set(found["kept"][0]) == {"all", "pair 1", "pair 2"}


