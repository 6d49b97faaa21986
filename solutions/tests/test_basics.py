"""The laws of reading a memory through soft addresses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions.basics import weighted_recall

LAWS = settings(derandomize=True, deadline=None, max_examples=25)


@st.composite
def readings(draw):
    """A memory and addresses whose rows sum to at most 1, in float64."""
    batch, heads, cells, word = (draw(st.integers(1, 5)) for _ in range(4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    memory = torch.randn(batch, cells, word, generator=generator, dtype=torch.float64)
    weights = torch.rand(batch, heads, cells, generator=generator, dtype=torch.float64)
    return memory, weights / weights.sum(-1, keepdim=True) * draw(st.sampled_from([1.0, 0.5, 0.0]))


@LAWS
@given(readings())
def test_every_number_is_the_weighted_sum_over_cells(reading):
    memory, weights = reading
    read = weighted_recall(memory, weights)
    assert read.shape == (memory.shape[0], weights.shape[1], memory.shape[2])
    for b, h, w in torch.cartesian_prod(*(torch.arange(n) for n in read.shape)).reshape(-1, 3).tolist():
        total = sum(float(weights[b, h, n]) * float(memory[b, n, w]) for n in range(memory.shape[1]))
        assert float(read[b, h, w]) == pytest.approx(total, abs=1e-12)


@LAWS
@given(readings(), st.floats(-3, 3), st.floats(-3, 3))
def test_it_is_linear_in_the_memory_and_in_the_weights(reading, a, b):
    memory, weights = reading
    other_memory, other_weights = memory.flip(1), weights.flip(2)
    torch.testing.assert_close(weighted_recall(a * memory + b * other_memory, weights),
                               a * weighted_recall(memory, weights) + b * weighted_recall(other_memory, weights))
    torch.testing.assert_close(weighted_recall(memory, a * weights + b * other_weights),
                               a * weighted_recall(memory, weights) + b * weighted_recall(memory, other_weights))


@LAWS
@given(readings())
def test_what_is_read_lies_between_what_is_stored_and_zero(reading):
    memory, weights = reading
    read = weighted_recall(memory, weights)
    assert (read <= memory.amax(1, keepdim=True).clamp_min(0) + 1e-12).all()
    assert (read >= memory.amin(1, keepdim=True).clamp_max(0) - 1e-12).all()


@LAWS
@given(readings())
def test_the_order_of_the_cells_does_not_matter_and_that_of_the_heads_is_kept(reading):
    memory, weights = reading
    read = weighted_recall(memory, weights)
    torch.testing.assert_close(weighted_recall(memory.flip(1), weights.flip(2)), read)
    torch.testing.assert_close(weighted_recall(memory, weights.flip(1)), read.flip(1))


def test_a_one_reads_its_cell_and_zeros_read_zeros():
    memory = torch.randn(2, 4, 3)
    weights = torch.eye(4).expand(2, 4, 4)
    assert torch.equal(weighted_recall(memory, weights), memory)
    assert torch.equal(weighted_recall(memory, torch.zeros(2, 5, 4)), torch.zeros(2, 5, 3))


def test_arguments_stay_as_they_were_and_dtypes_are_kept():
    for dtype in (torch.float32, torch.float64):
        memory, weights = torch.randn(2, 4, 3, dtype=dtype), torch.rand(2, 1, 4, dtype=dtype).expand(2, 5, 4)
        before = memory.clone(), weights.clone()
        assert weighted_recall(memory, weights).dtype == dtype
        assert torch.equal(memory, before[0])
        assert torch.equal(weights, before[1])


def test_gradients_are_those_of_the_sum():
    memory = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(weighted_recall, (memory, weights))


@pytest.mark.parametrize(("memory", "weights", "message"), [
    ((2, 4, 3), (3, 5, 4), r"weights must be \(batch 2, heads, cells 4\) as memory has it, got \(3, 5, 4\)"),
    ((2, 4, 3), (2, 5, 3), r"weights must be \(batch 2, heads, cells 4\) as memory has it, got \(2, 5, 3\)"),
    ((2, 4, 3), (2, 4), r"weights must be \(batch 2, heads, cells 4\) as memory has it, got \(2, 4\)"),
    ((4, 3), (2, 5, 4), r"memory must be \(batch, cells, word\), got \(4, 3\)"),
])
def test_shapes_that_disagree_are_told(memory, weights, message):
    with pytest.raises(ValueError, match=message):
        weighted_recall(torch.zeros(memory), torch.zeros(weights))
