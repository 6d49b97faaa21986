"""Networks of which the sharing is known are what they are said to be; verdicts follow rules."""

import pytest
import torch

from solutions.baselines import FeedForward
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, experiments
from solutions.experiments.ensemble import generator
from solutions.experiments.masks import controls
from solutions.masks import MaskedModel, train_masks
from solutions.tasks import arithmetic

torch.set_num_threads(1)


def seeded(sizes: list[int], seed: int = 0) -> FeedForward:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeedForward(sizes)


# networks that are known to share, and not to share ---------------------------------------------------------------

def test_hidden_layers_cannot_tell_the_pairs_of_a_copied_interface_apart():
    net = controls.copy_interface(seeded([40, 9, 7, 20]))
    pair = torch.randn(6, 20, generator=generator(1))
    nothing = torch.zeros(6, 20)
    first, second = torch.cat((pair, nothing), 1), torch.cat((nothing, pair), 1)
    assert torch.equal(net.layers[0](first), net.layers[0](second))
    torch.testing.assert_close(net(first)[:, :10], net(second)[:, 10:], rtol=0, atol=0)
    torch.testing.assert_close(net(first)[:, 10:], net(second)[:, :10], rtol=0, atol=0)


def test_the_interface_is_copied_and_neither_tied_nor_taken_from_the_network():
    net = seeded([40, 9, 7, 20])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    edited = controls.copy_interface(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    x = torch.cat((torch.randn(6, 20, generator=generator(1)), torch.zeros(6, 20)), 1)
    torch.testing.assert_close(edited(x)[:, :10], net(x)[:, :10])               # the first pair is as it was
    assert all(torch.equal(edited.state_dict()[name], before[name]) for name in ("layers.1.weight", "layers.1.bias"))
    with torch.no_grad():
        edited.layers[0].weight[:, :20] += 1
        edited.layers[-1].bias[:10] += 1
    assert torch.equal(edited.layers[0].weight[:, 20:], before["layers.0.weight"][:, :20])
    assert torch.equal(edited.layers[-1].bias[10:], before["layers.2.bias"][:10])


def test_joined_networks_answer_as_they_did_alone():
    first, second = seeded([6, 5, 4, 3], 1), seeded([7, 2, 3, 4], 2)
    joined = controls.join(first, second)
    x = torch.randn(8, 13, generator=generator(2))
    torch.testing.assert_close(joined(x), torch.cat((first(x[:, :6]), second(x[:, 6:])), 1))
    assert not joined.layers[1].weight[:4, 5:].any()
    assert not joined.layers[1].weight[4:, :5].any()
    assert all(parameter.requires_grad for parameter in joined.parameters())


@pytest.mark.parametrize(("make", "says"), [
    (lambda: controls.copy_interface(seeded([5, 4, 3, 2])), "two equal groups, got 5 inputs and 2 outputs"),
    (lambda: controls.copy_interface(seeded([4, 4, 3, 1])), "two equal groups, got 4 inputs and 1 outputs"),
    (lambda: controls.join(seeded([4, 3, 2]), seeded([4, 2])), "as many layers, got 2 and 1")],
    ids=["odd inputs", "odd outputs", "layers"])
def test_what_cannot_be_is_an_error(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_one_half_is_shown_what_a_pair_of_double_addition_shows():
    task = controls.addition(2)
    batch = task.draw(generator(3), 40, None)
    assert batch.inputs.shape == (40, 40)
    shown = torch.cat((batch.inputs, torch.zeros(40, 40)), 1)
    assert torch.equal(arithmetic.read_pairs(shown)[:, 0], batch.operands)
    assert torch.equal(arithmetic.join_digits(batch.targets), batch.operands.sum(1) % 100)


def test_the_half_that_a_part_does_not_use_is_dropped():
    joined = controls.join(seeded([3, 4, 4, 2], 1), seeded([3, 4, 4, 2], 2))
    masked, source = MaskedModel(joined), generator(4)
    inputs = torch.cat((torch.randn(32, 3, generator=source), torch.zeros(32, 3)), 1)
    target = joined(inputs).detach()
    found = train_masks(masked, [(inputs, target)] * 30, lambda y, t: 100 * (y[:, :2] - t[:, :2]).square().mean(),
                        beta=1e-2, generator=source, lr=0.2)
    for layer, (size, into) in enumerate(((4, 3), (4, 4), (2, 4))):
        kept = found.masks[f"layers.{layer}.weight"]
        assert not kept[size:].any()
        assert not kept[:, into:].any()


# judging ----------------------------------------------------------------------------------------------------------

def measured(iou: list[float], chance: float = 0.1, whole: float = 1.0, hidden: float | None = None) -> dict:
    row = {"full": 1.0, "all": whole, "add": 1.0, "multiply": 1.0}
    values = [{"first": 0.0, "middle": each, "last": 0.0, "hidden": each if hidden is None else hidden, "total": each}
              for each in iou]
    by_chance = [dict.fromkeys(values[0], chance)] * len(iou)
    return {"matrix": [{"add": row, "multiply": row}] * len(iou), "iou": values, "chance": by_chance, "again": values,
            "density": [{"all": {"total": 0.3}}] * len(iou), "shared": [{"add": {"total": 0.5}}] * len(iou)}


@pytest.mark.parametrize(("shared", "apart", "verdict"), [
    (measured([0.9] * 4), measured([0.0] * 4), SEEN),
    (measured([0.9] * 4, chance=0.8), measured([0.0] * 4), NOT_SEEN),
    (measured([0.9] * 4), measured([0.5] * 4), NOT_SEEN),
    (measured([0.5] * 4), measured([0.5] * 4), CONTRADICTED),
    (measured([0.1] * 4, hidden=0.9), measured([0.05] * 3 + [0.9]), SEEN),
    (measured([0.9] * 4, whole=0.5), measured([0.0] * 4, whole=0.5), NOT_SEEN)],
    ids=["found", "as much by chance", "sharing where there is none", "neither", "hidden, and three of four",
         "nothing counts"])
def test_the_control_must_find_both(shared, apart, verdict):
    found, finding = controls.judge_control({controls.SHARED: shared, controls.APART: apart})
    assert found == verdict
    assert f"{controls.SHARED}: " in finding
    assert f"{controls.APART}: " in finding


@pytest.mark.parametrize(("arms", "verdict"), [
    ({"1e-3": measured([0.40] * 4), "1e-2": measured([0.35] * 4)}, SEEN),
    ({"1e-3": measured([0.80] * 4), "1e-2": measured([0.35] * 4)}, CONTRADICTED),
    ({"1e-3": measured([0.50] * 4), "1e-2": measured([0.35] * 4)}, NOT_SEEN),
    ({"1e-3": measured([0.40] * 4), "3e-3": measured([0.40] * 4)}, NOT_SEEN),
    ({"1e-3": measured([0.40] * 4), "1e-2": measured([0.35] * 4), "1e-1": measured([0.9] * 4, whole=0.5)}, SEEN),
    ({"1e-4": measured([0.40] * 4), "1e-3": measured([0.4] * 4), "1e-2": measured([0.9] * 4, whole=0.5),
      "1e-1": measured([0.9] * 4)}, SEEN)],
    ids=["insensitive", "sensitive", "in between", "not a tenth", "too strong does not count", "nor what is luck"])
def test_a_beta_is_compared_with_a_tenth_of_it(arms, verdict):
    assert controls.judge_regulariser(dict(reversed(arms.items())))[0] == verdict


@pytest.mark.parametrize(("small", "big", "verdict"), [
    ([0.5, 0.5, 0.5], [0.4, 0.4, 0.6], SEEN), ([0.5, 0.5, 0.5], [0.4, 0.6, 0.6], CONTRADICTED),
    ([0.5, 0.5], [0.4, 0.6], NOT_SEEN)])
def test_size_is_judged_by_the_sign_seed_by_seed(small, big, verdict):
    arms = {"small": measured(small), "medium": measured([0.9] * len(small)), "big": measured(big)}
    assert controls.judge_size(arms)[0] == verdict
    assert controls.judge_size(arms | {"big": measured(big, whole=0.1)})[0] == NOT_SEEN


# running ----------------------------------------------------------------------------------------------------------

def test_all_strengths_and_sizes_start_from_networks_of_their_seed():
    smoke = experiments()["masks.regulariser"].presets["smoke"]
    weak, strong = (controls.at_strength(Arm(beta, smoke, [3])) for beta in ("3e-4", "3e-2"))
    assert [row["full"] for row in weak["matrix"][0].values()] == [row["full"] for row in strong["matrix"][0].values()]
    assert "again" not in weak


@pytest.mark.parametrize("name", ["masks.control", "masks.regulariser", "masks.size"])
def test_the_settings_of_the_paper_can_be_built(name):
    experiment = experiments()[name]
    few = dict(iterations=1, mask_steps=1, every=1, batch=4, test_batch=8, hidden=[20] * 4)
    few |= {size: [20] * 4 for size in ("small", "medium", "big", "huge") if size in experiment.presets["paper"]}
    first, *_, last = experiment.presets["paper"]["arms"]
    found = {arm: experiment.run(Arm(arm, experiment.presets["paper"] | few, [0])) for arm in (first, last)}
    assert experiment.judge(found)[0] == NOT_SEEN
    assert all(arm in experiment.figure(found).alt for arm in (first, last))
