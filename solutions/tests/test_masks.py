"""The laws of chapter 3: samples and their gradients, overlaps and their chance level, masks over whole networks."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, logistic
from torch import Tensor, nn

from solutions.dnc import DNC
from solutions.masks import (
    MaskedModel,
    calibrate_beta,
    chance_overlap,
    expected_overlap,
    fast_uniforms,
    gumbel_sigmoid,
    hard_samples,
    invert_masks,
    iomin,
    iou,
    mask_regulariser,
    maskable_names,
    masked_linear,
    overlap_counts,
    random_masks,
    shared_proportion,
    straight_through,
    threshold_masks,
    train_masks,
    unit_groups,
)

torch.set_num_threads(1)
LAWS = settings(derandomize=True, deadline=None, max_examples=40)
DOUBLE = torch.float64
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed), dtype=DOUBLE)


def coins(*shape: int, density: float = 0.5, seed: int = 0) -> Tensor:
    return uniform(*shape, seed=seed) < density


def perceptron(*sizes: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).to(dtype)


def calibrated(betas: list, accuracies: list, unmasked: list, keep: float = 0.95,
               dtype: torch.dtype = DOUBLE) -> float:
    return calibrate_beta(*(torch.tensor(part, dtype=dtype) for part in (betas, accuracies, unmasked)), keep)


# sampling --------------------------------------------------------------------------------------------------------

def test_soft_samples_are_equation_31_to_the_letter():
    logits, (u, v) = normal(3, 4), uniform(2, 3, 4)
    soft = gumbel_sigmoid(logits, torch.stack([u, v]), temperature=0.7)
    for i in range(3):
        for j in range(4):
            inner = (logits[i, j] - math.log(math.log(u[i, j]) / math.log(v[i, j]))) / 0.7
            assert soft[i, j].item() == pytest.approx(1 / (1 + math.exp(-inner)), rel=1e-12)


def test_the_noise_is_logistic():
    soft = gumbel_sigmoid(torch.full((20_000,), 1.5, dtype=DOUBLE), generator=seeded(), temperature=2.0)
    noise = 2.0 * torch.logit(soft) - 1.5
    assert kstest(noise.numpy(), logistic.cdf).pvalue > 0.01
    assert noise.var().item() == pytest.approx(math.pi**2 / 3, rel=0.05)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 5.0])
def test_a_weight_is_kept_with_the_probability_of_its_logit_at_every_temperature(temperature):
    logits, draws = torch.tensor([-4.0, -1.0, 0.0, 0.5, 2.0]), 100_000
    soft = gumbel_sigmoid(logits.expand(draws, 5), temperature=temperature, generator=seeded())
    kept = straight_through(soft).mean(0)
    p = torch.sigmoid(logits)
    assert ((kept - p).abs() < 4 * (p * (1 - p) / draws).sqrt()).all()


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_the_gradient_of_soft_and_hard_samples_is_exactly_s_times_1_minus_s_over_the_temperature(temperature):
    logits = normal(4, 5).requires_grad_()
    soft = gumbel_sigmoid(logits, uniform(2, 3, 4, 5), temperature)
    cotangent = normal(3, 4, 5, seed=1)
    expected = (cotangent * soft * (1 - soft) / temperature).sum(0).detach()
    for sample in (soft, straight_through(soft)):
        grad, = torch.autograd.grad(sample, logits, cotangent, retain_graph=True)
        torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)


SLOPES = {0.1: [(0.249, 0.60), (0.105, 0.40), (0.0179, 0.17)],      # mean, std of ds/dl at logits of 0, 2, 4
          0.5: [(0.215, 0.18), (0.114, 0.15), (0.0247, 0.079)],
          1.0: [(0.167, 0.074), (0.113, 0.080), (0.0408, 0.056)],
          2.0: [(0.107, 0.022), (0.091, 0.029), (0.0568, 0.030)]}


def slopes(temperature: float, draws: int) -> Tensor:
    logits = torch.tensor([0.0, 2.0, 4.0], dtype=DOUBLE).repeat(draws, 1).requires_grad_()
    gumbel_sigmoid(logits, generator=seeded(), temperature=temperature).sum().backward()
    return logits.grad


@pytest.mark.parametrize("temperature", SLOPES)
def test_the_mean_gradient_is_the_table_of_the_specification(temperature):
    """Appendix B.1.4 is wrong: the temperature changes more than a factor that Adam would remove."""
    draws = 100_000
    grads = slopes(temperature, draws)
    for column, (mean, spread) in enumerate(SLOPES[temperature]):
        one_unit = 0.5 * 10.0 ** -(4 if column == 2 else 3)         # the table's last digit, rounded
        assert abs(grads[:, column].mean().item() - mean) < 4 * spread / draws**0.5 + one_unit
        assert grads[:, column].std().item() == pytest.approx(spread, rel=0.05)


def test_no_factor_can_turn_the_gradients_of_one_temperature_into_those_of_another():
    ratios = [(lambda mean: mean[0] / mean[2])(slopes(temperature, 50_000).mean(0)) for temperature in (0.1, 1.0, 2.0)]
    assert ratios[0] > 2 * ratios[1] > 2 * ratios[2]


def test_at_temperature_1_the_moments_are_the_closed_forms():
    draws, a = 200_000, math.e**2
    soft = gumbel_sigmoid(torch.tensor([0.0, 2.0], dtype=DOUBLE).expand(draws, 2), generator=seeded())
    assert (soft * (1 - soft))[:, 0].mean().item() == pytest.approx(1 / 6, abs=4 * 0.0745 / draws**0.5)
    expected = a * (a - 1 - math.log(a)) / (a - 1) ** 2                         # 0.794, not P(b = 1) = 0.881
    assert soft[:, 1].mean().item() == pytest.approx(expected, abs=4 * soft[:, 1].std().item() / draws**0.5)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_nothing_is_infinite_at_the_ends_of_the_uniforms_or_at_huge_logits(dtype, temperature):
    logits = torch.tensor([-1e4, -10.0, 0.0, 10.0, 1e4], dtype=dtype).requires_grad_()
    ends = torch.tensor([0.0, 0.5, 1.0], dtype=dtype)
    uniforms = torch.stack([part.flatten() for part in torch.meshgrid(ends, ends, indexing="ij")])
    before = uniforms.clone()
    soft = gumbel_sigmoid(logits, uniforms[..., None].expand(2, 9, 5), temperature)
    hard = straight_through(soft)
    hard.sum().backward()
    assert torch.equal(uniforms, before)
    assert soft.dtype == hard.dtype == dtype
    assert ((soft >= 0) & (soft <= 1)).all()
    assert torch.isfinite(logits.grad).all()
    assert hard[:, 0].eq(0).all()
    assert hard[:, 4].eq(1).all()
    # U1 = 0 against U2 = 1 is the lowest noise there is, the reverse the highest: both beat a logit of 10
    assert hard[2].tolist() == [0, 0, 0, 0, 1]
    assert hard[6].tolist() == [0, 1, 1, 1, 1]


def test_uniforms_may_hold_many_samples_and_a_generator_repeats_itself():
    logits, uniforms = normal(3, 4), uniform(2, 6, 5, 3, 4)
    soft = gumbel_sigmoid(logits, uniforms)
    assert soft.shape == (6, 5, 3, 4)
    assert torch.equal(soft[2, 1], gumbel_sigmoid(logits, uniforms[:, 2, 1]))
    one, two, other = (gumbel_sigmoid(logits, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_hard_samples_are_exactly_0_or_1_and_the_threshold_excludes_one_half(dtype):
    soft = torch.cat([torch.linspace(0, 1, 2001).to(dtype), torch.tensor([0.5, 0.0, 1.0], dtype=dtype)])
    before = soft.clone().requires_grad_()
    hard = straight_through(before)
    assert hard.dtype == dtype
    assert torch.equal(hard.detach(), (soft.double() > 0.5).to(dtype))
    assert torch.equal(before.detach(), soft)
    cotangent = normal(2004).to(dtype)
    assert torch.equal(torch.autograd.grad(hard, before, cotangent)[0], cotangent)


# sampling, fast ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_fast_samples_and_their_gradient_are_those_of_the_formula(temperature):
    logits, uniforms, cotangent = normal(4, 5).requires_grad_(), uniform(3, 4, 5), normal(3, 4, 5, seed=1)
    before = uniforms.clone()
    soft = torch.sigmoid((logits + torch.log(uniforms) - torch.log1p(-uniforms)) / temperature)
    expected, fast = straight_through(soft), hard_samples(logits, uniforms, temperature)
    assert torch.equal(fast, expected)
    wanted, = torch.autograd.grad(expected, logits, cotangent)
    for _ in range(2):                                      # what is kept for the gradient survives it
        grad, = torch.autograd.grad(fast, logits, cotangent, retain_graph=True)
        torch.testing.assert_close(grad, wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(uniforms, before)


@pytest.mark.parametrize("temperature", SLOPES)
def test_fast_samples_have_the_rate_and_the_gradient_of_the_slow_ones(temperature):
    draws, values = 100_000, torch.tensor([[0.0], [2.0], [4.0]], dtype=DOUBLE)
    logits = values.repeat(1, draws).requires_grad_()
    samples = hard_samples(logits, fast_uniforms(logits, 2, seeded()), temperature)
    kept, p = samples.mean((0, 2)), torch.sigmoid(values[:, 0])
    assert ((kept - p).abs() < 4 * (p * (1 - p) / (2 * draws)).sqrt()).all()
    slopes, = torch.autograd.grad(samples[0].sum(), logits)
    for row, (mean, spread) in enumerate(SLOPES[temperature]):
        one_unit = 0.5 * 10.0 ** -(4 if row == 2 else 3)
        assert abs(slopes[row].mean().item() - mean) < 4 * spread / draws**0.5 + one_unit
        assert slopes[row].std().item() == pytest.approx(spread, rel=0.05)
    if temperature == 1:
        assert slopes[0].mean().item() == pytest.approx(1 / 6, abs=4 * 0.0745 / draws**0.5)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_fast_samples_are_finite_at_the_ends_of_the_uniforms_and_at_huge_logits(dtype, temperature):
    logits = torch.tensor([-1e4, -10.0, 0.0, 10.0, 1e4], dtype=dtype).requires_grad_()
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-24, 1.0])[:, None].expand(4, 5)
    hard = hard_samples(logits, uniforms, temperature)
    hard.sum().backward()
    assert hard.dtype == logits.grad.dtype == dtype
    assert hard.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert torch.isfinite(logits.grad).all()


def test_fast_uniforms_are_uniform_and_share_only_what_is_below_their_top_16_bits():
    draws = fast_uniforms(torch.zeros(40, 50, dtype=DOUBLE), 6, seeded())
    assert draws.shape == (6, 40, 50)
    own, shared = (draws * 2**16).floor(), draws * 2**16 % 1
    assert kstest(draws.flatten().numpy(), "uniform").pvalue > 0.01
    assert kstest(shared[..., 0].flatten().numpy(), "uniform").pvalue > 0.01
    torch.testing.assert_close(shared, shared[..., :1].expand_as(shared), rtol=0, atol=1e-9)
    assert own.unique().numel() > 0.9 * own.numel()         # 12 000 of 65 536 places: 9 in 100 meet another
    for first, second in [(own[0], own[1]), (own[:, 0], own[:, 1]), (own[:, :, 0], own[:, :, 1])]:
        pair = torch.stack([first.flatten(), second.flatten()])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 4 / pair.shape[1]**0.5


def test_fast_uniforms_resolve_weights_that_are_hardly_ever_kept():
    draws = fast_uniforms(torch.zeros(8000, 1000), 1, seeded())
    for tail in (draws, 1 - draws):
        expected = draws.numel() / (1 + math.exp(12))       # 49; 16 bits alone would give 0 or 122
        assert abs((tail < 1 / (1 + math.exp(12))).sum().item() - expected) < 4 * expected**0.5


@pytest.mark.parametrize("shape", [(), (3,), (3, 5), (2, 3, 5, 1)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_fast_uniforms_are_laid_out_as_the_logits_are_and_a_generator_repeats_itself(shape, dtype):
    logits = torch.zeros(shape, dtype=dtype)
    for part in (logits, logits.permute(tuple(reversed(range(len(shape))))), logits.expand(2, *shape)):
        one, two, other = (fast_uniforms(part, 7, seeded(seed)) for seed in (1, 1, 2))
        assert one.shape == (7, *part.shape)
        assert one.dtype == torch.promote_types(dtype, torch.float32)
        assert one.unique().numel() > 0.95 * one.numel()    # no number twice
        assert one[0].stride() == torch.empty_like(part).stride()
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


@pytest.mark.parametrize(("broken", "message"), [
    (lambda: gumbel_sigmoid(torch.tensor([1.0, math.nan]), generator=seeded()), "1 of 2 not finite"),
    (lambda: gumbel_sigmoid(torch.tensor([math.inf]), generator=seeded()), "finite"),
    (lambda: gumbel_sigmoid(torch.ones(3, dtype=torch.int64), generator=seeded()), "int64"),
    (lambda: gumbel_sigmoid(torch.zeros(3), generator=seeded(), temperature=0.0), "temperature must be above 0"),
    (lambda: gumbel_sigmoid(torch.zeros(3), generator=seeded(), temperature=-1.0), "temperature must be above 0"),
    (lambda: gumbel_sigmoid(torch.zeros(3), generator=seeded(), temperature=math.nan), "temperature must be above 0"),
    (lambda: gumbel_sigmoid(torch.zeros(3)), "neither"),
    (lambda: gumbel_sigmoid(torch.zeros(3), torch.rand(2, 3), generator=seeded()), "both"),
    (lambda: gumbel_sigmoid(torch.zeros(3), torch.rand(3)), "uniforms must be"),
    (lambda: gumbel_sigmoid(torch.zeros(3), torch.rand(3, 3)), "uniforms must be"),
    (lambda: gumbel_sigmoid(torch.zeros(3), torch.rand(2, 4)), r"\(2, ..., 3\)"),
    (lambda: gumbel_sigmoid(torch.zeros(3), torch.ones(2, 3, dtype=torch.int64)), "uniforms must be floats"),
    (lambda: straight_through(torch.ones(3, dtype=torch.bool)), "float tensor"),
    (lambda: hard_samples(torch.tensor([1.0, math.nan]), torch.rand(2, 2)), "1 of 2 not finite"),
    (lambda: hard_samples(torch.tensor([math.inf, -math.inf]), torch.rand(2, 2)), "2 of 2 not finite"),
    (lambda: hard_samples(torch.ones(3, dtype=torch.int64), torch.rand(2, 3)), "int64"),
    (lambda: hard_samples(torch.zeros(3), torch.rand(3)), r"\(samples, 3\)"),
    (lambda: hard_samples(torch.zeros(3), torch.rand(2, 4, 3)), r"\(samples, 3\), got .* \(2, 4, 3\)"),
    (lambda: hard_samples(torch.zeros(3), torch.ones(2, 3, dtype=torch.int64)), "uniforms must be floats"),
    (lambda: hard_samples(torch.zeros(3), torch.rand(2, 3), 0.0), "temperature must be above 0"),
    (lambda: hard_samples(torch.zeros(3), torch.rand(2, 3), math.nan), "temperature must be above 0"),
    (lambda: masked_linear(torch.zeros(6, 3), torch.zeros(2, 3), torch.zeros(4, 2, 3)), "batch of 6 and 4 samples"),
    (lambda: masked_linear(torch.zeros(6, 3), torch.zeros(2, 3), torch.zeros(2, 3, 2)), "masks must be"),
    (lambda: masked_linear(torch.zeros(6, 3), torch.zeros(2, 3), torch.zeros(2, 2, 3), torch.zeros(3)), "bias must be"),
    (lambda: mask_regulariser({}, 1e-4, 8), "at least one"),
    (lambda: mask_regulariser({"w": torch.zeros(2)}, -1e-4, 8), "beta must be 0 or more"),
    (lambda: mask_regulariser({"w": torch.zeros(2)}, math.nan, 8), "beta must be 0 or more"),
    (lambda: mask_regulariser({"w": torch.zeros(2)}, 1e-4, 0), "batch 1 or more"),
    (lambda: calibrated([1e-3, 1e-2], [[0.9], [0.8]], [1.0]), "smallest beta, 0.001, .* smaller ones, or train"),
    (lambda: calibrated([1e-3, 1e-2], [[1.0]], [1.0]), "accuracies must be"),
    (lambda: calibrated([1e-3], [[1.0, 1.0]], [1.0]), "unmasked must be"),
    (lambda: calibrate_beta(torch.zeros(0), torch.zeros(0, 2), torch.ones(2)), "one beta and one network"),
    (lambda: calibrate_beta(torch.ones(2), torch.zeros(2, 0), torch.ones(0)), "one beta and one network"),
    (lambda: calibrated([0.0, 1e-2], [[1.0], [1.0]], [1.0]), "betas must be above 0"),
    (lambda: calibrated([math.nan], [[1.0]], [1.0]), "betas must be above 0"),
    (lambda: calibrated([math.inf], [[1.0]], [1.0]), "betas must be above 0"),
    (lambda: calibrated([1e-2, 1e-2], [[1.0], [1.0]], [1.0]), "no two alike"),
    (lambda: calibrated([1e-2], [[98.0]], [1.0]), r"accuracies must be in \[0, 1\], got 98"),
    (lambda: calibrated([1e-2], [[math.nan]], [1.0]), r"accuracies must be in \[0, 1\], got nan"),
    (lambda: calibrated([1e-2], [[1.0]], [100.0]), "unmasked must be above 0"),
    (lambda: calibrated([1e-2], [[0.0]], [0.0]), "unmasked must be above 0"),
    (lambda: calibrated([1e-2], [[1.0]], [math.nan]), "unmasked must be above 0"),
    (lambda: calibrated([1e-2], [[1.0]], [1.0], keep=1.0), "keep must be above 0 and below 1"),
    (lambda: calibrated([1e-2], [[1.0]], [1.0], keep=95), "keep must be above 0 and below 1"),
    (lambda: threshold_masks({"v": torch.zeros(2), "w": torch.tensor([math.nan])}), "those of w"),
    (lambda: invert_masks({"w": torch.ones(2)}), "must be bool"),
    (lambda: invert_masks({}), "at least one"),
    (lambda: random_masks({"w": torch.ones(2)}, seeded()), "must be bool"),
    (lambda: iou({"w": coins(2)}, {"v": coins(2)}), "names"),
    (lambda: iomin({"w": coins(2)}, {"w": coins(3)}), r"bool \(2,\)"),
    (lambda: shared_proportion({"w": coins(2)}, {"w": coins(2).float()}), "float32"),
    (lambda: iou({"total": coins(2)}, {"total": coins(2)}), "total"),
    (lambda: chance_overlap(0.5, 1.5), r"in \[0, 1\]"),
    (lambda: unit_groups({"w": coins(2, 3)}, "v", {"a": [0]}), "'v'"),
    (lambda: unit_groups({"w": coins(2, 3)}, "w", {"a": [0]}, axis=2), "axis 2"),
    (lambda: unit_groups({"w": coins(2, 3)}, "w", {"a": slice(2, 2)}), "one unit or more"),
])
def test_bad_arguments_are_told_clearly(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()


# the masked layer, the regulariser, the finished masks -----------------------------------------------------------

def test_a_masked_layer_gives_every_block_of_the_batch_its_own_weights():
    inputs, weight, bias, masks = normal(6, 5), normal(4, 5, seed=1), normal(4, seed=2), coins(3, 4, 5).double()
    outputs = masked_linear(inputs, weight, masks, bias)
    for row in range(6):
        torch.testing.assert_close(outputs[row], (weight * masks[row // 2]) @ inputs[row] + bias)
    torch.testing.assert_close(masked_linear(inputs, weight, masks), outputs - bias)


def test_a_masked_layer_sends_gradients_to_masks_and_inputs_but_not_to_frozen_weights():
    inputs, weight, bias, masks = (tensor.requires_grad_() for tensor in (
        normal(6, 5), normal(4, 5, seed=1), normal(4, seed=2), coins(3, 4, 5).double()))
    cotangent = normal(6, 4, seed=3)
    masked_linear(inputs, weight, masks, bias).backward(cotangent)
    assert weight.grad is None
    assert bias.grad is None
    expected = torch.einsum("gbo,gbi->goi", cotangent.view(3, 2, 4), inputs.detach().view(3, 2, 5)) * weight.detach()
    torch.testing.assert_close(masks.grad, expected)            # the weight's gradient times the weight
    assert inputs.grad.any()


def test_the_regulariser_pulls_every_raw_logit_down_with_beta_over_the_batch():
    logits = {"a": normal(3, 4).requires_grad_(), "b": (100 * normal(5)).requires_grad_()}
    price = mask_regulariser(logits, beta=1e-4, batch=128)
    assert price.item() == pytest.approx(1e-4 / 128 * sum(part.sum().item() for part in logits.values()))
    for grad in torch.autograd.grad(price, list(logits.values())):
        torch.testing.assert_close(grad, torch.full_like(grad, 7.8125e-7), rtol=1e-12, atol=0)


@st.composite
def scans(draw):
    """Betas in any order, accuracies of one to three networks with ties among them, and a share to keep."""
    size, seeds = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    tenths = st.integers(1, 10).map(lambda number: number / 10)
    betas = draw(st.lists(st.integers(1, 99).map(lambda number: number / 1e4), min_size=size, max_size=size,
                          unique=True))
    accuracies = draw(st.lists(st.lists(tenths, min_size=seeds, max_size=seeds), min_size=size, max_size=size))
    return betas, accuracies, draw(st.lists(tenths, min_size=seeds, max_size=seeds)), draw(st.sampled_from([0.5, 0.95]))


@LAWS
@given(scan=scans())
def test_the_calibrated_beta_and_all_below_keep_enough_for_every_network_and_the_next_does_not(scan):
    betas, accuracies, unmasked, keep = scan
    kept = {beta: all(round(100 * a) > 100 * keep * u for a, u in zip(row, unmasked, strict=True))
            for beta, row in zip(betas, accuracies, strict=True)}
    climb = list(itertools.takewhile(kept.get, sorted(kept)))
    if not climb:
        with pytest.raises(ValueError, match="not even the smallest beta"):
            calibrated(betas, accuracies, unmasked, keep)
        return
    assert calibrated(betas, accuracies, unmasked, keep) == climb[-1]
    assert calibrated(betas[::-1], accuracies[::-1], unmasked, keep) == climb[-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_tie_is_not_above_the_share_however_floats_round(dtype):
    for percent in range(20, 101):
        tie = 0.95 * percent / 100
        found = calibrated([1e-3, 1e-2, 1e-1], [[percent / 100], [round(tie + 0.0001, 4)], [round(tie, 4)]],
                           [percent / 100], dtype=dtype)
        assert found == pytest.approx(1e-2)


def test_one_network_that_breaks_is_not_made_up_for_by_nine_that_do_not():
    accuracies = torch.full((2, 10), 0.99)
    accuracies[1, 3] = 0.9
    assert accuracies[1].mean() > 0.95
    assert calibrate_beta(torch.tensor([1.0, 2.0]), accuracies, torch.ones(10)) == 1


def test_masks_keep_positive_logits_and_inversion_is_the_complement():
    logits = {"w": torch.tensor([[-3.0, -1e-9, 0.0], [1e-9, 2.0, 9.0]], requires_grad=True)}
    masks = threshold_masks(logits)
    assert masks["w"].tolist() == [[False, False, False], [True, True, True]]
    assert not masks["w"].requires_grad
    inverse = invert_masks(masks)
    assert torch.equal(inverse["w"], masks["w"].logical_not())
    assert masks["w"][1].all()                                  # the argument is as it was
    assert torch.equal(invert_masks(inverse)["w"], masks["w"])


def test_a_random_control_keeps_as_many_weights_in_every_tensor_but_others():
    masks = {"a": coins(20, 30, density=0.2), "b": coins(7, density=0.9)}
    control = random_masks(masks, seeded())
    assert {name: int(mask.sum()) for name, mask in control.items()} == {n: int(m.sum()) for n, m in masks.items()}
    assert control["a"].shape == (20, 30)
    assert abs(iomin(masks, control)["a"] - 0.2) < 0.15         # chance, for 120 of 600: a spread of about 0.03
    assert torch.equal(control["a"], random_masks(masks, seeded())["a"])
    assert not torch.equal(control["a"], random_masks(masks, seeded(1))["a"])


# overlap ---------------------------------------------------------------------------------------------------------

@st.composite
def mask_pairs(draw):
    """Two mask sets over the same two tensors, of any densities, empty and full ones included."""
    shapes = {"a": (draw(st.integers(1, 4)), draw(st.integers(1, 5))), "b": (draw(st.integers(1, 9)),)}
    return tuple({name: coins(*shape, density=draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])),
                              seed=draw(st.integers(0, 99))) for name, shape in shapes.items()} for _ in range(2))


@LAWS
@given(pair=mask_pairs())
def test_overlaps_count_sets(pair):
    first, second = pair
    union, smaller, shares = iou(first, second), iomin(first, second), shared_proportion(first, second)
    together = {"total": {name: (first[name], second[name]) for name in first}}
    for key in ("a", "b", "total"):
        parts = together.get(key, {key: (first.get(key), second.get(key))})
        used = [{(n, i) for n, pair in parts.items() for i in pair[k].flatten().nonzero().flatten().tolist()}
                for k in (0, 1)]
        both, a, b = len(used[0] & used[1]), *map(len, used)
        if not a or not b:
            assert union[key] == smaller[key] == (a == b)
            assert shares[key] == ((a == b),) * 2
            continue
        assert union[key] == both / len(used[0] | used[1])
        assert smaller[key] == both / min(a, b)
        assert shares[key] == (both / a, both / b)
        assert union[key] <= min(a, b) / max(a, b)
    assert iou(second, first) == union
    assert iomin(second, first) == smaller
    assert all(union[key] <= smaller[key] == max(shares[key]) for key in union)


def test_equal_disjoint_nested_and_empty_masks():
    half, quarter = torch.arange(12) < 6, torch.arange(12) < 3
    none, other = torch.zeros(12, dtype=torch.bool), torch.arange(12) >= 6

    def both(a, b):
        return iou({"w": a}, {"w": b})["w"], iomin({"w": a}, {"w": b})["w"]

    assert both(half, half) == (1, 1)
    assert both(half, other) == (0, 0)
    assert both(half, quarter) == (0.5, 1)
    assert both(none, half) == both(half, none) == (0, 0)
    assert both(none, none) == (1, 1)
    assert shared_proportion({"w": half}, {"w": quarter})["w"] == (0.5, 1.0)
    assert shared_proportion({"w": none}, {"w": quarter})["w"] == (0.0, 0.0)


def test_the_total_weighs_weights_and_not_tensors_and_takes_the_smaller_total():
    first = {"small": torch.tensor([True, True, False, False]), "large": torch.arange(100) < 10}
    second = {"small": torch.tensor([True, False, False, False]), "large": torch.arange(100) < 40}
    assert overlap_counts(first, second)["total"] == (11, 12, 41)
    assert iou(first, second) == {"small": 1 / 2, "large": 10 / 40, "total": 11 / 42}
    assert iomin(first, second) == {"small": 1, "large": 1, "total": 11 / 12}       # not 11 / (1 + 10)
    assert shared_proportion(first, second)["total"] == (11 / 12, 11 / 41)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.1, 0.6), (0.9, 0.9), (0.02, 0.05)])
def test_independent_masks_overlap_at_the_chance_level(p, q):
    size = 400_000
    first, second = ({"w": coins(size, density=p, seed=1)}, {"w": coins(size, density=q, seed=2)})
    union, smaller = chance_overlap(p, q)
    assert (union, smaller) == (pytest.approx(p * q / (p + q - p * q)), max(p, q))
    spread = 4 / (size * min(p, q)) ** 0.5          # of a share of at least that many weights
    assert abs(iou(first, second)["w"] - union) < spread
    assert abs(iomin(first, second)["w"] - smaller) < spread
    assert expected_overlap(first, second)["w"] == pytest.approx((union, smaller), abs=spread)


def test_the_chance_level_has_the_conventions_of_the_overlaps_and_knows_the_layers():
    assert chance_overlap(0, 0) == (1, 1)
    assert chance_overlap(0, 0.5) == chance_overlap(0.5, 0) == (0, 0)
    assert chance_overlap(1, 1) == (1, 1)
    none, full = torch.zeros(10, dtype=torch.bool), torch.ones(10, dtype=torch.bool)
    first, second = {"dense": full, "empty": none}, {"dense": full, "empty": none}
    expected = expected_overlap(first, second)
    assert expected == {"dense": (1, 1), "empty": (1, 1), "total": (1, 1)}          # densities of 1/2 alone say 1/3
    assert expected_overlap({"w": full, "v": none}, {"w": none, "v": full})["total"] == (0, 0)


@LAWS
@given(pair=mask_pairs())
def test_the_chance_level_is_the_mean_over_all_shifts_of_one_mask_and_adds_up_for_the_total(pair):
    first, second = pair
    expected = expected_overlap(first, second)
    meetings = {name: sum((mask.flatten() & second[name].flatten().roll(shift)).sum().item()
                          for shift in range(mask.numel())) / mask.numel() for name, mask in first.items()}
    meetings["total"] = sum(meetings.values())
    for name, (shared, a, b) in overlap_counts(first, second).items():
        if a and b:
            shared = meetings[name]
            assert expected[name] == pytest.approx((shared / (a + b - shared), shared / min(a, b)))
        else:
            assert expected[name] == (a == b, a == b)
    assert expected_overlap(second, first) == expected


def test_units_in_groups_are_compared_apart():
    first, second = {"w": coins(6, 8, seed=1)}, {"w": coins(6, 8, seed=2)}
    outputs = [unit_groups(masks, "w", {"low": slice(0, 2), "high": [2, 4]}) for masks in (first, second)]
    assert torch.equal(outputs[0]["w[high]"], first["w"][[2, 4]])
    low = (first["w"][:2] & second["w"][:2]).sum().item()
    assert shared_proportion(*outputs)["w[low]"] == (low / first["w"][:2].sum(), low / second["w"][:2].sum())
    inputs = unit_groups(first, "w", {"x": slice(0, 3), "y": slice(3, 8)}, axis=1)
    assert torch.equal(inputs["w[y]"], first["w"][:, 3:])


# masks over a whole network ----------------------------------------------------------------------------------------

class CellLoop(nn.Module):
    """An LSTM as nn.LSTM computes it, but as a loop over two linear layers, which vmap can run."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.from_input, self.from_hidden = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = carry = inputs.new_zeros(inputs.shape[1], self.from_hidden.in_features)
        outputs = []
        for step in self.from_input(inputs).unbind(0):
            enter, forget, candidate, out = (step + self.from_hidden(hidden)).chunk(4, dim=-1)
            carry = forget.sigmoid() * carry + enter.sigmoid() * candidate.tanh()
            hidden = out.sigmoid() * carry.tanh()
            outputs.append(hidden)
        return torch.stack(outputs)


class Outputs(nn.Module):
    """Of what a network returns, only the outputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)[0]


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))


NETWORKS = {    # network, inputs, axis of the batch
    "perceptron": (lambda: perceptron(5, 7, 3), (8, 5), 0),
    "convolution and batch norm": (conv, (8, 2, 4, 4), 0),
    "transformer": (lambda: nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), (8, 5, 6), 0),
    "lstm as a cell loop": (lambda: CellLoop(3, 4), (5, 8, 3), 1),
    "dnc": (lambda: Outputs(DNC(3, 2, cells=5, word=4, mask=True, deallocation=True, sharpness=True)), (4, 8, 3), 1),
}


def networks(name: str) -> tuple[MaskedModel, nn.Module, Tensor]:
    build, shape, axis = NETWORKS[name]
    torch.manual_seed(0)
    net = build().to(DOUBLE).eval()
    return MaskedModel(net, batch_axis=axis), net, normal(*shape, seed=1)


def by_hand(net: nn.Module, masks: dict[str, Tensor], *inputs: Tensor | float) -> Tensor:
    """The obvious way: a copy of the network whose weights were multiplied."""
    net = copy.deepcopy(net)
    for name, parameter in net.named_parameters():
        if name in masks:
            parameter.data.mul_(masks[name].detach())
    return net(*inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_of_ones_are_the_network_itself(name):
    masked, net, inputs = networks(name)
    ones = {n: torch.ones_like(part) for n, part in masked.logits.items()}
    torch.testing.assert_close(masked(inputs, masks=ones), net(inputs))
    torch.testing.assert_close(masked(inputs, masks=masked.masks()), net(inputs))       # all start above 0
    torch.testing.assert_close(masked(inputs, masks={}), net(inputs))
    grouped = {n: part.expand(4, *part.shape) for n, part in ones.items()}
    torch.testing.assert_close(masked(inputs, masks=grouped), net(inputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_group_of_the_batch_sees_its_own_sample_in_all_layers_and_no_other(name):
    masked, net, inputs = networks(name)
    masks, axis = masked.sample(4, seeded()), masked.batch_axis
    outputs = masked(inputs, masks=masks)
    for group, (block, got) in enumerate(zip(inputs.chunk(4, axis), outputs.chunk(4, axis), strict=True)):
        torch.testing.assert_close(got, by_hand(net, {n: part[group] for n, part in masks.items()}, block))
        grads = torch.autograd.grad(got.sum(), list(masks.values()), retain_graph=True)
        reached = torch.stack([torch.stack([part.any() for part in grad]) for grad in grads])   # (tensors, groups)
        assert reached[:, group].all()
        assert reached.sum() == len(grads)


@pytest.mark.parametrize("fast", [True, False])
def test_pytorchs_switch_for_fused_attention_is_put_back_even_after_an_error(fast):
    masked, _, inputs = networks("transformer")
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with torch.no_grad():
            outputs = masked(inputs, masks=masked.sample(4, seeded()))
        with pytest.raises(ValueError, match="rows on axis 1"):
            MaskedModel(masked.model, output_axis=1)(inputs, masks=masked.sample(4, seeded()))
        assert torch.backends.mha.get_fastpath_enabled() == fast
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    torch.testing.assert_close(outputs, masked(inputs, masks=masked.sample(4, seeded())).detach())


@pytest.mark.parametrize("make", [lambda: perceptron(5, 7, 3), lambda: CellLoop(5, 4).to(DOUBLE)],
                         ids=["perceptron", "cell loop"])
def test_masks_and_their_gradients_lie_in_memory_alike(make):
    """What is not alike is slow: every product of the two would walk one of them against its grain."""
    masked = MaskedModel(make(), batch_axis=1)
    gradients = {}
    for name, sample in (masks := masked.sample(2, seeded())).items():
        sample.register_hook(lambda gradient, name=name: gradients.update({name: gradient}))
    masked(normal(3, 4, 5), masks=masks).square().sum().backward()
    for name, sample in masks.items():
        assert gradients[name].stride() == sample.stride()
        assert masked.logits[name].grad.stride() == masked.logits[name].stride() == sample[0].stride()


def test_one_linear_layer_is_the_masked_layer():
    net = nn.Linear(5, 4).to(DOUBLE)
    masked, inputs = MaskedModel(net), normal(6, 5)
    masks = masked.sample(3, seeded())
    expected = masked_linear(inputs, net.weight, masks["weight"], net.bias)
    torch.testing.assert_close(masked(inputs, masks=masks), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_frozen_and_nothing_that_was_given_is_changed(name):
    build, shape, axis = NETWORKS[name]
    torch.manual_seed(0)
    net = build().to(DOUBLE).train()
    before = copy.deepcopy(net.state_dict())
    masked = MaskedModel(net, batch_axis=axis).train()
    train_masks(masked, [(normal(*shape, seed=seed), None) for seed in range(3)],
                lambda outputs, _: outputs.square().mean(), beta=1e-4, generator=seeded())
    for state in (net.state_dict(), masked.model.state_dict()):
        assert state.keys() == before.keys()
        assert all(torch.equal(state[key], value) for key, value in before.items())
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert not any(module.training for module in masked.model.modules())
    assert {id(p) for p in masked.parameters() if p.requires_grad} == {id(p) for p in masked.logits.values()}
    assert all(parameter.grad is None for parameter in masked.model.parameters())
    assert all((part.grad != 0).any() for part in masked.logits.values())
    with torch.no_grad():                                   # what happens to the original later does not matter
        for parameter in net.parameters():
            parameter.zero_()
    assert all(torch.equal(masked.model.state_dict()[key], value) for key, value in before.items())


def test_dropout_is_off_while_masks_train():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 50), nn.Dropout(0.5), nn.Linear(50, 3)).train()
    masked, inputs = MaskedModel(net), torch.ones(4, 5)
    masks = masked.sample(2, seeded())
    for mode in (True, False, True):
        torch.testing.assert_close(masked(inputs, masks={}), copy.deepcopy(net).eval()(inputs))
        assert torch.equal(masked(inputs, masks=masks), masked(inputs, masks=masks))
        assert masked.train(mode).training is mode
    assert net.training


class Tied(nn.Module):
    """An embedding, a layer, a scale, and the embedding once more as the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer, self.norm = nn.Embedding(7, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.norm(self.layer(self.embed(tokens))))


def test_matrices_are_masked_but_no_biases_norms_or_embeddings_unless_asked_for():
    assert maskable_names(perceptron(5, 7, 3)) == ["0.weight", "2.weight"]
    assert maskable_names(conv()) == ["0.weight", "4.weight"]
    assert maskable_names(nn.LSTM(3, 4)) == ["weight_ih_l0", "weight_hh_l0"]
    assert maskable_names(Tied()) == ["layer.weight"]
    assert MaskedModel(nn.Linear(3, 2), ["weight", "weight"]).names == ["weight"]
    masked = MaskedModel(Tied(), ["embed.weight", "layer.bias"])
    assert {name: tuple(part.shape) for name, part in masked.logits.items()} == {"embed.weight": (7, 4),
                                                                                 "layer.bias": (4,)}
    assert all((part == 2.0).all() for part in masked.logits.values())
    tokens = torch.arange(6).view(6, 1)
    off = {"embed.weight": torch.zeros(7, 4)}               # tied weights are masked in both places
    assert not masked(tokens, masks=off).any()
    assert masked(tokens, masks=masked.sample(2, seeded())).shape == (6, 1, 7)


def test_samples_differ_between_groups_and_keep_their_temperature_free_rate():
    masked = MaskedModel(nn.Linear(300, 100, bias=False))
    samples = masked.sample(4, seeded(), temperature=0.5)["weight"]
    assert samples.shape == (4, 100, 300)
    p = 1 / (1 + math.exp(-2))                              # 0.8808, not the text's 0.9
    assert abs(samples.mean().item() - p) < 4 * (p * (1 - p) / samples.numel()) ** 0.5
    agree = (samples[0] == samples[1]).double().mean().item()
    assert agree == pytest.approx(p**2 + (1 - p) ** 2, abs=0.01)


def test_a_set_may_mix_one_mask_for_all_with_one_for_each_group_and_name_unmasked_parameters():
    net = perceptron(5, 7, 3)
    masked, inputs = MaskedModel(net, ["0.weight"]), normal(6, 5)
    masks = masked.sample(3, seeded()) | {"2.weight": coins(3, 7), "2.bias": coins(3)}
    outputs = masked(inputs, masks=masks)
    for group in range(3):
        chosen = {"0.weight": masks["0.weight"][group], "2.weight": masks["2.weight"], "2.bias": masks["2.bias"]}
        rows = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(outputs[rows], by_hand(net, chosen, inputs[rows]))


def test_inverted_masks_drop_what_masks_keep_and_leave_biases_whole():
    net = perceptron(5, 7, 3)
    masked, inputs = MaskedModel(net), normal(6, 5)
    with torch.no_grad():
        for seed, part in enumerate(masked.logits.values()):
            part.copy_(normal(*part.shape, seed=seed))
    for masks in (masked.masks(), invert_masks(masked.masks())):
        torch.testing.assert_close(masked(inputs, masks=masks), by_hand(net, masks, inputs))
    nothing = {name: torch.zeros_like(part) for name, part in masked.logits.items()}
    torch.testing.assert_close(masked(inputs, masks=nothing), net[2].bias.expand(6, 3))


def test_pytorchs_own_lstm_runs_with_finished_masks_and_with_one_sample_but_not_with_several():
    torch.manual_seed(0)
    lstm, inputs = nn.LSTM(3, 4).to(DOUBLE), normal(5, 8, 3)
    masked = MaskedModel(Outputs(lstm), batch_axis=1)
    masks = {name: coins(*part.shape) for name, part in masked.logits.items()}
    torch.testing.assert_close(masked(inputs, masks=masks), by_hand(Outputs(lstm), masks, inputs))
    one = masked.sample(1, seeded())
    masked(inputs, masks=one).sum().backward()
    assert all((part.grad != 0).any() for part in masked.logits.values())
    with pytest.raises(ValueError, match="loop over linear layers"):
        masked(inputs, masks=masked.sample(2, seeded()))


def test_the_cell_loop_is_pytorchs_lstm():
    """So the way round vmap's gap is the same network: several samples at once equal nn.LSTM run group by group."""
    torch.manual_seed(0)
    lstm, loop, inputs = nn.LSTM(3, 4).to(DOUBLE), CellLoop(3, 4).to(DOUBLE), normal(5, 8, 3)
    names = {"from_input.weight": "weight_ih_l0", "from_hidden.weight": "weight_hh_l0",
             "from_input.bias": "bias_ih_l0", "from_hidden.bias": "bias_hh_l0"}
    loop.load_state_dict({name: lstm.state_dict()[old] for name, old in names.items()})
    masked = MaskedModel(loop, batch_axis=1)
    masks = masked.sample(4, seeded())
    outputs = masked(inputs, masks=masks)
    for group in range(4):
        chosen = {names[name]: part[group] for name, part in masks.items()}
        block = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(outputs[:, block], by_hand(lstm, chosen, inputs[:, block])[0])


def test_the_batch_may_leave_on_another_axis_and_other_arguments_pass_through():
    class LastStep(CellLoop):
        def forward(self, inputs: Tensor, scale: float, offset: Tensor | None = None) -> Tensor:
            return scale * super().forward(inputs)[-1]

    torch.manual_seed(0)
    net, inputs = LastStep(3, 4).to(DOUBLE), normal(5, 8, 3)
    masked = MaskedModel(net, batch_axis=1, output_axis=0)
    masks = masked.sample(2, seeded())
    outputs = masked(inputs, 3.0, None, masks=masks)
    assert outputs.shape == (8, 4)
    for group, rows in enumerate((slice(0, 4), slice(4, 8))):
        chosen = {name: part[group] for name, part in masks.items()}
        torch.testing.assert_close(outputs[rows], by_hand(net, chosen, inputs[:, rows], 3.0))


# training ----------------------------------------------------------------------------------------------------------

def planted() -> tuple[nn.Sequential, dict[str, Tensor], dict[str, Tensor]]:
    """A linear net of two halves that share nothing: inputs 0-2 reach outputs 0-1, inputs 3-5 reach outputs 2-3.

    Each half has four hidden units of its own, so 4 x 3 + 2 x 4 weights. All weights between the halves are zero; units
    8 and 9 have weights, but 8 is read by nobody and 9 reads nothing. Returns the net and what each half needs.
    """
    net = nn.Sequential(nn.Linear(6, 10, bias=False), nn.Linear(10, 4, bias=False)).to(DOUBLE)
    needs = {"0.weight": torch.zeros(10, 6, dtype=torch.bool), "1.weight": torch.zeros(4, 10, dtype=torch.bool)}
    needs["0.weight"][:4, :3] = needs["1.weight"][:2, :4] = True        # hidden units 0-3; 4-7 for the other half
    other = {"0.weight": needs["0.weight"].roll((4, 3), (0, 1)), "1.weight": needs["1.weight"].roll((2, 4), (0, 1))}
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(net.named_parameters()):
            signs = normal(*parameter.shape, seed=seed).sign()
            parameter.copy_(signs * (0.7 + 0.6 * uniform(*parameter.shape, seed=seed)) * (needs[name] | other[name]))
        net[0].weight[8] = normal(6, seed=7)            # read by nobody: outputs ignore unit 8
        net[1].weight[:, 9] = normal(4, seed=8)         # reads nothing: unit 9 is always 0
    return net, needs, other


def random_batches(steps: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    net, *_ = planted()
    inputs = normal(steps, 32, 6, seed=seed)
    return [(x, net(x).detach()) for x in inputs]


def first_half(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets)[:, :2].square().mean()


def second_half(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets)[:, 2:].square().mean()


def test_training_finds_exactly_the_weights_that_were_planted_and_the_inverse_does_only_the_rest():
    net, needs, other = planted()
    (inputs, targets), = random_batches(1, seed=99)
    found = {}
    for name, loss, needed in (("first", first_half, needs), ("second", second_half, other)):
        masked = MaskedModel(net)
        found[name] = train_masks(masked, random_batches(400), loss, beta=1e-4, generator=seeded()).masks
        for layer, mask in found[name].items():
            assert torch.equal(mask, needed[layer]), (name, layer)
    masked = MaskedModel(net)
    alone, inverse = (masked(inputs, masks=masks) for masks in (found["first"], invert_masks(found["first"])))
    assert first_half(alone, targets) < 1e-20 < 1 < second_half(alone, targets)
    assert second_half(inverse, targets) < 1e-20 < 1 < first_half(inverse, targets)
    assert iou(found["first"], found["second"])["total"] == 0
    control = masked(inputs, masks=random_masks(found["first"], seeded()))
    assert first_half(control, targets) > 1                 # as many weights, but not these


def test_the_control_mask_on_the_whole_task_keeps_both_halves():
    net, needs, other = planted()
    masks = train_masks(MaskedModel(net), random_batches(400), lambda o, t: (o - t).square().mean(), beta=1e-4,
                        generator=seeded()).masks
    for layer, mask in masks.items():
        assert torch.equal(mask, needs[layer] | other[layer])


@pytest.mark.parametrize("beta", [1e-4, 1e-1])
def test_a_weight_without_use_is_gone_after_some_200_steps_whatever_beta(beta):
    net, batches = nn.Linear(1, 1, bias=False), [(torch.zeros(128, 1), None)] * 210
    trained = train_masks(MaskedModel(net), batches, lambda outputs, _: outputs.sum(), beta=beta, generator=seeded())
    assert trained.kept[:195].all()
    assert not trained.kept[-5:].any()
    assert not trained.masks["weight"].any()


def test_a_beta_near_adams_eps_no_longer_pulls_at_full_speed():
    net, batches = nn.Linear(1, 1, bias=False), [(torch.zeros(128, 1), None)] * 210
    trained = train_masks(MaskedModel(net), batches, lambda outputs, _: outputs.sum(), beta=1e-6, generator=seeded())
    assert trained.kept.all()


def test_training_is_adam_on_clipped_gradients_of_loss_and_regulariser_to_the_letter():
    net, batches = perceptron(5, 7, 3), [(normal(6, 5, seed=seed), normal(6, 3, seed=10 + seed)) for seed in range(4)]
    beta, lr, clip, tau = 0.3, 0.02, 0.05, 0.8          # the clip bites, the regulariser is half of the gradient
    masked = MaskedModel(net)
    trained = train_masks(masked, batches, lambda o, t: 5 * (o - t).square().mean(), beta=beta, generator=seeded(5),
                          samples=3, lr=lr, clip=clip, temperature=tau)
    logits = [torch.full_like(part, 2.0).requires_grad_() for part in masked.logits.values()]
    first, second, generator = [0.0, 0.0], [0.0, 0.0], seeded(5)
    for step, (inputs, targets) in enumerate(batches, 1):
        draws = [fast_uniforms(part, 3, generator) for part in logits]
        samples = [straight_through(torch.sigmoid((part + torch.logit(u)) / tau))
                   for part, u in zip(logits, draws, strict=True)]
        hidden = masked_linear(inputs, net[0].weight, samples[0], net[0].bias).relu()
        loss = 5 * (masked_linear(hidden, net[2].weight, samples[1], net[2].bias) - targets).square().mean()
        grads = [grad + beta / 6 for grad in torch.autograd.grad(loss, logits)]
        norm = sum(grad.square().sum() for grad in grads).sqrt()
        assert norm > clip
        for k, (part, grad) in enumerate(zip(logits, grads, strict=True)):
            grad = grad * clip / (norm + 1e-6)
            first[k] = 0.9 * first[k] + 0.1 * grad
            second[k] = 0.999 * second[k] + 0.001 * grad**2
            part.data -= lr * first[k] / (1 - 0.9**step) / ((second[k] / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(trained.losses[step - 1], loss.detach())
    for got, expected in zip(masked.logits.values(), logits, strict=True):
        torch.testing.assert_close(got.detach(), expected.detach())


def test_equal_seeds_give_equal_masks_and_the_curve_has_every_step():
    net, *_ = planted()
    runs = []
    for seed in (1, 1, 2):
        masked = MaskedModel(net)
        runs.append((masked, train_masks(masked, random_batches(30), first_half, beta=1e-4, generator=seeded(seed))))
    (masked, trained), (again, repeated), (_, another) = runs
    assert torch.equal(trained.losses, repeated.losses)
    assert all(torch.equal(masked.logits[name], again.logits[name]) for name in masked.names)
    assert not torch.equal(trained.losses, another.losses)
    assert trained.losses.shape == trained.kept.shape == (30,)
    assert not trained.losses.requires_grad
    masks = masked.masks()
    assert all(torch.equal(trained.masks[name], mask) for name, mask in masks.items())
    assert trained.kept[-1] == sum(mask.sum() for mask in masks.values()) / sum(m.numel() for m in masks.values())
    endless = iter(lambda: random_batches(1)[0], None)
    assert len(train_masks(MaskedModel(net), endless, first_half, beta=0, generator=seeded(), steps=3).losses) == 3


def linear(**options) -> MaskedModel:
    return MaskedModel(nn.Linear(3, 2), **options)


def grouped(groups: int = 2) -> dict[str, Tensor]:
    return {"weight": torch.ones(groups, 2, 3)}


def short_training(net: MaskedModel, batches: list, loss=lambda outputs, _: outputs.mean(), **options):
    return train_masks(net, batches, loss, **dict(beta=1e-4, generator=seeded()) | options)


SOME = [(torch.ones(4, 3), None)]


@pytest.mark.parametrize(("broken", "message"), [
    (lambda: MaskedModel(nn.ReLU()), "a parameter to mask.*no parameter"),
    (lambda: MaskedModel(nn.LayerNorm(3)), "a parameter to mask.*bias"),
    (lambda: MaskedModel(nn.Embedding(3, 4)), "a parameter to mask"),
    (lambda: linear(names=[]), "a parameter to mask"),
    (lambda: linear(names=["wieght"]), "weight.*got 'wieght'"),
    (lambda: linear(initial_logit=math.inf), "initial_logit must be finite"),
    (lambda: linear(batch_axis=-1), "0 or more"),
    (lambda: linear()(torch.ones(4, 3), masks={"bais": torch.ones(2)}), "got 'bais'"),
    (lambda: linear()(torch.ones(4, 3), masks={"weight": torch.ones(3, 2)}), r"\(2, 3\).*got \(3, 2\)"),
    (lambda: linear()(torch.ones(4, 3), masks={"weight": torch.tensor(1.0)}), r"got \(\)"),
    (lambda: linear()(torch.ones(4, 3), masks=grouped() | {"bias": torch.ones(4, 2)}), "as many groups"),
    (lambda: linear()(torch.ones(5, 3), masks=grouped()), "batch of 5 and 2 samples"),
    (lambda: linear()(torch.ones(0, 3), masks=grouped()), "batch of 0"),
    (lambda: linear(batch_axis=2)(torch.ones(4, 3), masks=grouped()), "batch on axis 2"),
    (lambda: linear(output_axis=1)(torch.ones(6, 3), masks=grouped()), r"3 rows on axis 1, got \(3, 2\)"),
    (lambda: linear(output_axis=2)(torch.ones(4, 3), masks=grouped()), "rows on axis 2"),
    (lambda: linear()(masks=grouped()), "one batch size"),
    (lambda: MaskedModel(nn.Bilinear(3, 3, 2))(torch.ones(4, 3), torch.ones(6, 3), masks={
        "weight": torch.ones(2, 2, 3, 3)}), r"one batch size, got \[4, 6\]"),
    (lambda: MaskedModel(CellTuple())(torch.ones(4, 3), masks={"net.weight": torch.ones(2, 2, 3)}), "got tuple"),
    (lambda: short_training(linear(), SOME, samples=3), "batch of 4 and 3 samples"),
    (lambda: short_training(linear(), SOME, samples=0), "0 samples"),
    (lambda: short_training(linear(), SOME, temperature=0), "temperature"),
    (lambda: short_training(linear(), SOME, clip=0), "clip must be above 0"),
    (lambda: short_training(linear(), SOME, beta=-1), "beta must be 0 or more"),
    (lambda: short_training(linear(), SOME, lambda outputs, _: outputs), r"scalar, got \(4, 2\)"),
    (lambda: short_training(linear(), []), "at least one batch"),
    (lambda: short_training(linear(), SOME, steps=0), "at least one batch"),
    (lambda: short_training(linear(), SOME, lambda outputs, _: math.nan * outputs.sum()),
     r"the loss is nan.*\['weight'\]"),
    (lambda: short_training(linear(), SOME, lambda outputs, _: math.inf + outputs.sum()), r"the loss is inf.*\[\]"),
    (lambda: short_training(linear(), SOME, lambda outputs, _: (0 * outputs.sum()).sqrt()), r"is 0.0.*\['weight'\]"),
    (lambda: short_training(linear(), 2 * SOME, lr=math.inf), "logits must be finite"),
    (lambda: short_training(linear(), SOME, lr=math.inf), "logits must be finite, but those of weight are not"),
])
def test_bad_models_masks_and_batches_are_told_clearly(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()


class CellTuple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(inputs), inputs
