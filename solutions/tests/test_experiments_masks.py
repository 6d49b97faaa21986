"""What is said of masks follows from what was measured."""

import pytest
import torch
from torch import nn

from solutions import experiments
from solutions.baselines import FeedForward
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm
from solutions.experiments.ensemble import Ensemble, generator
from solutions.experiments.masks import arithmetic, parts, study, temperature
from solutions.tasks import arithmetic as tasks

torch.set_num_threads(1)


def matrix(own: float, other: float, full: float = 1.0, whole: float = 1.0, inverse: tuple = (0.0, 1.0, 1.0)) -> dict:
    """Accuracies of two parts; inverse: without its own weights, without the other part's, without random ones."""
    lost, left, by_chance = inverse
    base = {"full": full, "all": whole, "not random": by_chance}
    return {"a": base | {"a": own, "b": other, "not a": lost, "not b": left},
            "b": base | {"a": other, "b": own, "not a": left, "not b": lost}}


def measured(matrices: list, **hidden: float) -> dict:
    """The measures of an arm whose masks are alike in all its networks."""
    count = len(matrices)
    return {"matrix": matrices, "density": [{"all": {"total": 0.3}, "a": {"total": 0.1}, "b": {"total": 0.2}}] * count,
            **{kind: [{"hidden": value, "total": value}] * count for kind, value in hidden.items()}}


VERDICTS = [
    ([matrix(1.0, 0.1)] * 4, SEEN), ([matrix(1.0, 0.1)] * 3 + [matrix(1.0, 0.9)], SEEN),
    ([matrix(1.0, 0.9)] * 4, CONTRADICTED), ([matrix(0.8, 0.1)] * 4, CONTRADICTED),
    ([matrix(1.0, 0.1), matrix(1.0, 0.9)], NOT_SEEN), ([matrix(1.0, 0.1, full=0.5)] * 4, NOT_SEEN),
    ([matrix(1.0, 0.9, whole=0.9)] * 4 + [matrix(1.0, 0.1)], SEEN)]
NAMES = ["apart", "apart in three of four", "works under the other", "fails under its own", "half of them",
         "not learned", "broken by the mask for all"]


@pytest.mark.parametrize(("matrices", "verdict"), VERDICTS, ids=NAMES)
def test_specialised_is_who_works_under_its_own_mask_and_fails_under_the_other(matrices, verdict):
    found = measured(matrices)
    assert arithmetic.judge_specialise({"FNN": found})[0] == verdict
    assert "multiplying uses 2.00 times" in arithmetic.judge_specialise({"FNN": found})[1] or not study.sound(found)


def test_arms_are_judged_one_by_one_and_must_agree():
    good, bad = measured([matrix(1.0, 0.1)] * 4), measured([matrix(1.0, 0.9)] * 4)
    assert arithmetic.judge_specialise({"FNN": good, "LSTM": good})[0] == SEEN
    assert arithmetic.judge_specialise({"FNN": bad, "LSTM": bad})[0] == CONTRADICTED
    verdict, finding = arithmetic.judge_specialise({"FNN": good, "LSTM": bad})
    assert verdict == NOT_SEEN
    first, second = finding.split("; LSTM: ")
    assert first.startswith("FNN: ")
    assert first.endswith("(seen)")
    assert second.endswith("(contradicted)")


@pytest.mark.parametrize(("shared", "chance", "full", "verdict"), [
    (0.30, 0.25, 1.0, SEEN), (0.30, 0.10, 1.0, NOT_SEEN), (0.60, 0.20, 1.0, CONTRADICTED), (0.3, 0.25, 0.4, NOT_SEEN)])
def test_sharing_is_judged_against_chance(shared, chance, full, verdict):
    found = measured([matrix(1.0, 0.1, full)] * 3, iou=shared, chance=chance, again=0.9)
    assert arithmetic.judge_reuse({"FNN": found})[0] == verdict


def test_layers_that_cannot_be_shared_say_nothing_about_reuse():
    found = measured([matrix(1.0, 0.1)] * 3, iou=0.9, chance=0.1, again=0.9)
    found["iou"] = [{"hidden": 0.9, "total": 0.1}] * 3
    assert arithmetic.judge_reuse({"FNN": found})[0] == CONTRADICTED


@pytest.mark.parametrize(("inverse", "verdict"), [
    ((0.1, 0.9, 0.9), SEEN), ((0.9, 0.9, 0.9), NOT_SEEN), ((0.1, 0.6, 0.6), NOT_SEEN), ((0.1, 0.2, 0.2), CONTRADICTED)],
    ids=["independent", "needs nothing", "in between", "needs the other"])
def test_independent_is_who_needs_its_own_weights_only(inverse, verdict):
    found = measured([matrix(1.0, 0.1, inverse=inverse)] * 4)
    assert arithmetic.judge_independent({"LSTM": found})[0] == verdict


@pytest.mark.parametrize(("own", "neither", "feedforward"), [
    (0.9, 0.1, SEEN), (0.1, 0.9, CONTRADICTED), (0.4, 0.4, NOT_SEEN)])
def test_what_is_performed_is_judged_by_what_the_text_says_of_the_network(own, neither, feedforward):
    def shares(mask: str) -> dict:
        return dict.fromkeys(("add", "multiply", "both", "neither"), 0.0) | {mask: own, "neither": neither}

    found = measured([matrix(1.0, 0.1)] * 4)
    found["performed"] = [{mask: {part: shares(mask) for part in ("add", "multiply")}
                           for mask in ("add", "multiply")}] * 4
    turned = {SEEN: CONTRADICTED, CONTRADICTED: SEEN, NOT_SEEN: NOT_SEEN}[feedforward]
    assert arithmetic.judge_performed({"FNN": found})[0] == feedforward
    assert arithmetic.judge_performed({"LSTM": found})[0] == turned


@pytest.mark.parametrize(("first", "second", "verdict"), [
    (0.5, 0.2, SEEN), (0.2, 0.5, CONTRADICTED), (0.3, 0.3, NOT_SEEN)])
def test_interfaces_are_judged_by_what_hidden_layers_share_above_chance(first, second, verdict):
    arms = {name: measured([matrix(1.0, 0.1)] * 3, iou=value, chance=0.1)
            for name, value in zip(arithmetic.INTERFACES, (first, second, 0.0), strict=True)}
    assert arithmetic.judge_interfaces(arms)[0] == verdict
    arms["add twice"] = measured([matrix(1.0, 0.1, full=0.2)] * 3, iou=0.3, chance=0.1)
    assert arithmetic.judge_interfaces(arms)[0] == NOT_SEEN


@pytest.mark.parametrize(("slopes", "verdict"), [
    ([[0.2, 0.1], [0.1, 0.05]], SEEN), ([[0.2, 0.1], [0.1, 0.01]], CONTRADICTED),
    ([[0.2, 0.1], [0.2, 0.08]], NOT_SEEN)])
def test_a_factor_leaves_ratios_as_they_are(slopes, verdict):
    measures = {str(index): {"slopes": [each]} for index, each in enumerate(slopes)}
    assert temperature.judge_temperature(measures)[0] == verdict


@pytest.mark.parametrize("task", [
    arithmetic.add_or_multiply(1), arithmetic.add_or_multiply(1, 3),
    *(arithmetic.double_addition(1, show) for show in arithmetic.SHOWN.values()),
    arithmetic.double_addition(1, multiply=True)],
    ids=["add or multiply", "add or multiply, LSTM", *arithmetic.SHOWN, "add and multiply"])
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
    task, settings = arithmetic.add_or_multiply(1), arithmetic.presets(["FNN"])["smoke"]
    net = Ensemble(lambda: FeedForward([22, 8, 10]), [4]).member(0)
    found = [parts.find_masks(task, net, part, settings, 1)[1] for part in (None, 0, 1, 0)]
    assert all(set(each) == {"layers.0.weight", "layers.1.weight"} for each in found)
    assert all(torch.equal(found[1][name], found[3][name]) for name in found[1])


def test_of_two_pairs_the_second_may_be_multiplied():
    task = arithmetic.double_addition(2, multiply=True)
    batch = task.draw(generator(2), 50, None)
    pairs = [tasks.read_pairs(batch.inputs[row])[:, row] for row in (0, 1)]
    assert torch.equal(tasks.join_digits(batch.targets[0, :, 0]), pairs[0].sum(-1) % 100)
    assert torch.equal(tasks.join_digits(batch.targets[1, :, 1]), pairs[1].prod(-1) % 100)


@pytest.fixture(scope="module")
def studied() -> dict:
    return arithmetic.add_mul(Arm("FNN", arithmetic.presets(["FNN"])["smoke"], [0, 1]))


def test_a_study_has_every_mask_for_every_part(studied):
    assert all(len(values) == 2 for name, values in studied.items() if name != "ignorance")
    inverted = ["not add", "not multiply"]
    for matrix, interface, half in zip(studied["matrix"], studied["interface"], studied["half"], strict=True):
        for rows in (matrix, interface["all"], interface["full"], half):
            assert list(rows) == ["add", "multiply"]
        for part in matrix:
            assert list(matrix[part]) == ["full", "all", "add", "multiply", *inverted, "random", "not random"]
            assert list(interface["all"][part]) == list(interface["full"][part]) == [*inverted, "not random"]
            assert list(half[part]) == ["early", "late", "random early", "random late"]


def test_what_is_performed_agrees_with_the_accuracies(studied):
    for matrix, performed in zip(studied["matrix"], studied["performed"], strict=True):
        for mask, asked in performed.items():
            for part, shares in asked.items():
                assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
                assert shares[part] + shares["both"] == pytest.approx(matrix[part][mask], abs=1e-3)
    assert studied["ignorance"] == {"add": 0.1, "multiply": 0.27, "the other": 0.04}


def test_measures_by_tensor_follow_from_each_other(studied):
    for density, iou, iomin, shared, chance in zip(*(studied[name] for name in (
            "density", "iou", "iomin", "shared", "chance")), strict=True):
        for tensor in iou:
            p, q = density["add"][tensor], density["multiply"][tensor]
            assert iou[tensor] <= iomin[tensor] + 1e-4
            assert max(shared[part][tensor] for part in shared) == pytest.approx(iomin[tensor], abs=1e-3)
            if tensor not in ("hidden", "total"):
                assert chance[tensor] == pytest.approx(p * q / (p + q - p * q), abs=1e-3)
        assert list(iou)[-2:] == ["hidden", "total"]
        assert len(iou) == 5


def drawn(*shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.rand(shape, generator=generator(index)) > 0.4
            for index, (name, shape) in enumerate(zip("abcd", shapes, strict=False))}


def test_hidden_is_all_between_the_first_and_the_last():
    first, second = drawn((3, 5), (4, 4), (6, 2), (2, 3)), drawn((3, 5), (4, 4), (6, 2), (2, 3))
    second["b"], second["c"] = ~first["b"], ~first["c"]
    found = study.overlaps(first, second)
    assert found["iou"]["hidden"] == 0
    assert found["iou"]["a"] == 1
    assert 0 < found["iou"]["total"] < 1
    assert study.densities(first)["hidden"] == pytest.approx(
        float(first["b"].sum() + first["c"].sum()) / 28, abs=1e-4)
    with pytest.raises(ValueError, match="between the first and the last, got "):
        study.inner(drawn((2, 2), (2, 2)))


def test_a_half_is_half_of_the_weights_and_the_halves_are_the_whole():
    masks = drawn((10, 2), (10, 10), (10, 9), (10, 3))                          # 120 of 240 weights in two tensors
    found = study.halves(masks, generator(0))
    assert list(found["early"]) == ["a", "b"]
    assert list(found["late"]) == ["c", "d"]
    assert all(torch.equal(mask, masks[name]) for half in ("early", "late") for name, mask in found[half].items())
    for half in ("early", "late"):
        assert {name: int(mask.sum()) for name, mask in found[f"random {half}"].items()} == {
            name: int(mask.sum()) for name, mask in found[half].items()}
    assert list(study.halves(drawn((1, 1), (1, 1), (30, 30)), generator(0))["late"]) == ["c"]


@pytest.mark.parametrize("name", ["masks.specialise", "masks.reuse", "masks.interfaces"])
def test_the_settings_of_the_paper_can_be_built(name):
    experiment = experiments.find(name)
    few = dict(iterations=1, mask_steps=1, every=1, batch=4, test_batch=8, hidden=[20] * 4, width=8)
    for arm in experiment.presets["paper"]["arms"]:
        found = experiment.run(Arm(arm, experiment.presets["paper"] | few, [0]))
        assert experiment.judge(dict.fromkeys(experiment.presets["paper"]["arms"], found))[0] == NOT_SEEN


def test_figures_say_what_they_show(studied):
    for figure in (arithmetic.performed_figure, study.matrix_figure, study.sharing_figure):
        picture = figure({"FNN": studied, "LSTM": studied})
        assert "LSTM" in picture.alt
        assert f"{studied['matrix'][0]['add']['full']:.2f}"[:2] in picture.alt
