"""The laws of the memory's look-up, retention and write."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions.dnc import content_lookup, oneplus, retention, write_memory

LAWS = settings(derandomize=True, deadline=None, max_examples=20)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="pending: GPU"))]


def close(got, expected, tolerance=1e-9):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


class Source:
    """Random tensors in float64 from one seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def address(self, *shape):
        weights = self.uniform(*shape, low=0.01)
        return weights / weights.sum(-1, keepdim=True)


SIZES = st.tuples(*[st.integers(1, 5)] * 4)         # batch, heads, cells, word
SEEDS = st.integers(0, 2**31)


@st.composite
def lookups(draw):
    """Arguments of a look-up: memory, key, strength, mask."""
    (batch, heads, cells, word), source = draw(SIZES), Source(draw(SEEDS))
    mask = source.uniform(batch, heads, word)
    mask[source.uniform(batch, heads, word) < 0.3] = 0
    return (source.normal(batch, cells, word), source.normal(batch, heads, word),
            source.uniform(batch, heads, low=1, high=20), mask)


@st.composite
def writes(draw):
    """Arguments of a write: memory, write weights, erase, word, retained."""
    (batch, _, cells, word), source = draw(SIZES), Source(draw(SEEDS))
    return (source.normal(batch, cells, word), source.address(batch, cells) * source.uniform(batch, 1),
            source.uniform(batch, word), source.normal(batch, word), source.uniform(batch, cells))


def scores(memory, key, mask=None, eps=1e-6):
    """What a look-up compares, read off two of its addresses: a row of zeros beside the memory scores exactly 0."""
    memory = torch.cat([memory, torch.zeros_like(memory[:, :1])], dim=1)
    address = content_lookup(memory, key, torch.ones_like(key[..., 0]), mask, eps).log()
    return address[..., :-1] - address[..., -1:]


# oneplus ----------------------------------------------------------------------------------------------------------

@LAWS
@given(st.floats(-700, 700))
def test_oneplus_is_its_formula(x):
    assert float(oneplus(torch.tensor(x, dtype=torch.float64))) == pytest.approx(1 + max(x, 0) + math.log1p(
        math.exp(-abs(x))), rel=1e-9)


def test_oneplus_is_one_or_more_and_never_overflows():
    x = torch.tensor([-1e30, -100.0, 0.0, 100.0, 1e30])
    assert torch.equal(oneplus(x), torch.tensor([1.0, 1.0, 1 + math.log(2), 101.0, 1e30]))
    assert (oneplus(torch.linspace(-20, 20, 41).double()).diff() > 0).all()


# content look-up --------------------------------------------------------------------------------------------------

@LAWS
@given(lookups(), st.sampled_from([1e-6, 0.3]))
def test_the_address_is_the_softmax_of_strength_times_masked_cosine(arguments, eps):
    memory, key, strength, mask = arguments
    address = content_lookup(memory, key, strength, mask, eps)
    assert address.shape == (memory.shape[0], key.shape[1], memory.shape[1])
    for b in range(len(memory)):
        for h in range(key.shape[1]):
            raw = []
            for row in memory[b]:
                u, v = [(k * m).item() for k, m in zip(key[b, h], mask[b, h], strict=True)], \
                       [(x * m).item() for x, m in zip(row, mask[b, h], strict=True)]
                dot = sum(p * q for p, q in zip(u, v, strict=True))
                raw.append(math.exp(strength[b, h].item() * dot / (math.hypot(*u) * math.hypot(*v) + eps)))
            close(address[b, h], torch.tensor([value / sum(raw) for value in raw], dtype=torch.float64))


@LAWS
@given(lookups())
def test_every_address_is_positive_and_sums_to_one(arguments):
    address = content_lookup(*arguments)
    assert (address > 0).all()
    close(address.sum(-1), torch.ones_like(address[..., 0]))


@LAWS
@given(lookups(), SEEDS)
def test_a_what_the_mask_hides_changes_nothing(arguments, seed):
    memory, key, strength, mask = arguments
    mask, source = mask.clone(), Source(seed)
    hidden = source.uniform(mask.shape[-1]) < 0.5                       # the same positions for all heads
    mask[..., hidden] = 0
    other_memory = torch.where(hidden, 100 * source.normal(*memory.shape), memory)
    other_key = torch.where(hidden, 100 * source.normal(*key.shape), key)
    assert torch.equal(content_lookup(other_memory, other_key, strength, mask),
                       content_lookup(memory, key, strength, mask))


@LAWS
@given(lookups())
def test_b_a_mask_of_ones_is_no_mask(arguments):
    memory, key, strength, mask = arguments
    close(content_lookup(memory, key, strength, torch.ones_like(mask)), content_lookup(memory, key, strength))


@LAWS
@given(lookups(), st.floats(0.2, 5))
def test_c_and_d_the_size_of_mask_and_key_do_not_matter_but_for_eps(arguments, scale):
    memory, key, strength, mask = arguments
    expected = content_lookup(memory, key, strength, mask, eps=1e-30)
    close(content_lookup(memory, key, strength, scale * mask, eps=1e-30), expected)
    close(content_lookup(memory, scale * key, strength, mask, eps=1e-30), expected)
    close(content_lookup(scale * memory, key, strength, mask, eps=1e-30), expected)


@LAWS
@given(lookups(), st.sampled_from([1e-6, 0.5]))
def test_e_a_row_of_zeros_scores_exactly_zero_and_a_key_of_zeros_is_uniform(arguments, eps):
    memory, key, strength, mask = arguments
    memory, key = memory.clone(), key.clone()
    memory[:, 0] = 0
    assert (scores(memory, key, mask, eps)[..., 0] == 0).all()
    key[:, 0] = 0
    address = content_lookup(memory, key, strength, mask, eps)[:, 0]
    close(address, torch.full_like(address, 1 / memory.shape[1]))


@LAWS
@given(lookups())
def test_heads_and_batch_entries_do_not_touch_each_other(arguments):
    memory, key, strength, mask = arguments
    whole = content_lookup(memory, key, strength, mask)
    for b in range(len(memory)):
        for h in range(key.shape[1]):
            alone = content_lookup(memory[b:b + 1], key[b:b + 1, h:h + 1], strength[b:b + 1, h:h + 1],
                                   mask[b:b + 1, h:h + 1])
            close(alone[0, 0], whole[b, h])


@LAWS
@given(lookups())
def test_the_address_moves_with_the_cells(arguments):
    memory, *rest = arguments
    close(content_lookup(memory.flip(1), *rest), content_lookup(memory, *rest).flip(-1))


def test_strength_sharpens_without_end_and_keeps_the_order():
    source = Source(0)
    memory, key = source.normal(1, 6, 8), source.normal(1, 1, 8)
    soft = content_lookup(memory, key, torch.ones(1, 1).double())[0, 0]
    sharp = content_lookup(memory, key, torch.full((1, 1), 1000.0).double())[0, 0]
    assert torch.equal(soft.argsort(), sharp.argsort())
    assert sharp.max() > 1 - 1e-6
    assert soft.max() < 0.5


def test_gradients_of_the_look_up():
    source = Source(1)
    arguments = [source.normal(2, 4, 3), source.normal(2, 3, 3), source.uniform(2, 3, low=1, high=4),
                 source.uniform(2, 3, 3, low=0.2)]
    for tensor in arguments:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(content_lookup, arguments)
    assert torch.autograd.gradcheck(lambda m, k, s: content_lookup(m, k, s), arguments[:3])


@pytest.mark.parametrize("empty", ["memory", "key", "mask", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_norms_are_zero(empty, dtype):
    source = Source(2)
    arguments = {"memory": source.normal(2, 4, 3), "key": source.normal(2, 3, 3),
                 "strength": source.uniform(2, 3, low=1, high=4), "mask": source.uniform(2, 3, 3)}
    for name in ("memory", "key", "mask") if empty == "all" else (empty,):
        arguments[name].zero_()
    arguments = {name: tensor.to(dtype).requires_grad_() for name, tensor in arguments.items()}
    (content_lookup(**arguments) * source.normal(2, 3, 4).to(dtype)).sum().backward()
    for name, tensor in arguments.items():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


# retention --------------------------------------------------------------------------------------------------------

@LAWS
@given(SIZES, SEEDS)
def test_retention_is_the_product_over_heads(sizes, seed):
    (batch, heads, cells, _), source = sizes, Source(seed)
    gates, read = source.uniform(batch, heads), source.address(batch, heads, cells)
    kept = retention(gates, read)
    assert kept.shape == (batch, cells)
    for b in range(batch):
        for n in range(cells):
            expected = math.prod(1 - gates[b, h].item() * read[b, h, n].item() for h in range(heads))
            assert kept[b, n].item() == pytest.approx(expected, abs=1e-12)
    assert (kept >= 0).all()
    assert (kept <= 1).all()
    close(retention(gates.flip(1), read.flip(1)), kept)
    close(retention(gates, read.flip(2)), kept.flip(1))


@LAWS
@given(SIZES, SEEDS)
def test_opening_a_gate_never_keeps_more_and_shut_gates_keep_all(sizes, seed):
    (batch, heads, cells, _), source = sizes, Source(seed)
    gates, read = source.uniform(batch, heads), source.address(batch, heads, cells)
    more = gates + (1 - gates) * source.uniform(batch, heads)
    assert (retention(more, read) <= retention(gates, read)).all()
    assert (retention(torch.zeros_like(gates), read) == 1).all()
    assert (retention(gates, torch.zeros_like(read)) == 1).all()


def test_an_open_gate_frees_exactly_the_cell_that_was_read():
    read = torch.eye(4)[None, 2:3]
    assert torch.equal(retention(torch.ones(1, 1), read), torch.tensor([[1.0, 1.0, 0.0, 1.0]]))
    assert torch.equal(retention(torch.full((1, 2), 0.5), read.expand(1, 2, 4)), torch.tensor([[1.0, 1.0, 0.25, 1.0]]))


def test_gradients_of_the_retention_also_where_a_cell_is_freed_twice():
    source = Source(3)
    gates, read = source.uniform(2, 3), source.address(2, 3, 4)
    gates[:, :2], read[:, :2] = 1, torch.eye(4, dtype=torch.float64)[0]
    assert torch.autograd.gradcheck(retention, (gates.requires_grad_(), read.requires_grad_()))


# write ------------------------------------------------------------------------------------------------------------

@LAWS
@given(writes())
def test_every_number_of_the_new_memory(arguments):
    memory, weights, erase, word, retained = arguments
    after = write_memory(*arguments)
    for b, n, w in torch.cartesian_prod(*(torch.arange(n) for n in memory.shape)).reshape(-1, 3).tolist():
        kept = memory[b, n, w].item() * retained[b, n].item() * (1 - weights[b, n].item() * erase[b, w].item())
        assert after[b, n, w].item() == pytest.approx(kept + weights[b, n].item() * word[b, w].item(), abs=1e-12)


@LAWS
@given(writes())
def test_without_retention_it_is_the_plain_write_and_ones_forget_nothing(arguments):
    memory, weights, erase, word, retained = arguments
    plain = memory * (1 - torch.einsum("bn,bw->bnw", weights, erase)) + torch.einsum("bn,bw->bnw", weights, word)
    close(write_memory(memory, weights, erase, word), plain)
    close(write_memory(memory, weights, erase, word, None), plain)
    close(write_memory(memory, weights, erase, word, torch.ones_like(retained)), plain)


@LAWS
@given(writes())
def test_retention_touches_the_old_content_only(arguments):
    memory, weights, erase, word, retained = arguments
    added = write_memory(torch.zeros_like(memory), weights, erase, word)
    assert torch.equal(write_memory(torch.zeros_like(memory), weights, erase, word, retained), added)
    old = write_memory(memory, weights, erase, torch.zeros_like(word))
    close(write_memory(memory, weights, erase, torch.zeros_like(word), retained), old * retained[..., None])
    close(write_memory(memory, weights, erase, word, retained), old * retained[..., None] + added)


@LAWS
@given(writes())
def test_where_nothing_is_written_cells_keep_their_share_whatever_the_erase(arguments):
    memory, weights, erase, word, retained = arguments
    nowhere = torch.zeros_like(weights)
    assert torch.equal(write_memory(memory, nowhere, erase, word), memory)
    close(write_memory(memory, nowhere, erase, word, retained), memory * retained[..., None])


@LAWS
@given(writes())
def test_a_full_write_with_full_erase_leaves_exactly_the_word(arguments):
    memory, weights, erase, word, retained = arguments
    here = torch.zeros_like(weights)
    here[:, -1] = 1
    for kept in (None, retained):
        after = write_memory(memory, here, torch.ones_like(erase), word, kept)
        assert torch.equal(after[:, -1], word)


def test_gradients_of_the_write():
    source = Source(4)
    arguments = [source.normal(2, 4, 3), source.address(2, 4), source.uniform(2, 3), source.normal(2, 3),
                 source.uniform(2, 4)]
    for tensor in arguments:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(write_memory, arguments)
    assert torch.autograd.gradcheck(lambda *four: write_memory(*four), arguments[:4])


# together ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kept", "cosine"), [
    (1e-1, 0.99999), (1e-2, 0.9999), (1e-4, 0.990), (1e-6, 0.500), (1e-8, 0.0099),
])
def test_how_far_a_cell_must_be_freed_before_look_up_loses_it(kept, cosine):
    """Freed by the retention, cleared by the write, seen through the look-up: kept / (kept + eps)."""
    word = torch.tensor([[[0.6, 0.0, -0.8]]], dtype=torch.float64)
    read, nothing = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    psi = retention(torch.tensor([[1 - kept]], dtype=torch.float64), read)
    cleared = write_memory(word, nothing[:, :1], nothing, nothing, psi)
    plain = write_memory(word, nothing[:, :1], nothing, nothing)
    assert scores(cleared, word).item() == pytest.approx(cosine, rel=5e-3)
    assert scores(cleared, word).item() == pytest.approx(kept / (kept + 1e-6), rel=1e-6)
    assert scores(plain, word).item() == pytest.approx(1, abs=1e-5)


CALLS = {
    "look-up": (content_lookup, {"memory": (2, 5, 4), "key": (2, 3, 4), "strength": (2, 3), "mask": (2, 3, 4)}),
    "retention": (retention, {"free_gates": (2, 3), "read_weights": (2, 3, 5)}),
    "write": (write_memory, {"memory": (2, 5, 4), "write_weights": (2, 5), "erase": (2, 4), "word": (2, 4),
                             "retained": (2, 5)}),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_arguments_stay_as_they_were_and_dtypes_are_kept(name, dtype):
    function, shapes = CALLS[name]
    arguments = {key: Source(5).uniform(*shape).to(dtype) for key, shape in shapes.items()}
    before = {key: value.clone() for key, value in arguments.items()}
    result = function(**arguments)
    assert result.dtype == dtype
    assert result.isfinite().all()
    assert all(torch.equal(arguments[key], before[key]) for key in arguments)
    starts = {value.data_ptr() for value in arguments.values()}
    assert result.data_ptr() not in starts


@pytest.mark.parametrize("name", CALLS)
def test_expanded_and_transposed_arguments_give_the_same(name):
    function, shapes = CALLS[name]
    source = Source(6)
    expanded = {key: source.uniform(1, *shape[1:]).expand(*shape) for key, shape in shapes.items()}
    close(function(**expanded), function(**{key: value.contiguous() for key, value in expanded.items()}))
    turned = {key: source.uniform(*shape).transpose(-1, -2).contiguous().transpose(-1, -2) for key, shape in
              shapes.items()}
    close(function(**turned), function(**{key: value.contiguous() for key, value in turned.items()}))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CALLS)
def test_the_result_is_on_the_device_of_the_arguments(name, device):
    function, shapes = CALLS[name]
    arguments = {key: Source(7).uniform(*shape) for key, shape in shapes.items()}
    there = function(**{key: value.to(device) for key, value in arguments.items()})
    assert there.device.type == device
    close(there.cpu(), function(**arguments))


@pytest.mark.parametrize(("name", "argument", "shape", "message"), [
    ("look-up", "memory", (5, 4), "memory must be (batch, cells, word), got (5, 4)"),
    ("look-up", "key", (2, 4), "key must be (batch 2, heads, word 4) as memory has it, got (2, 4)"),
    ("look-up", "key", (2, 3, 5), "key must be (batch 2, heads, word 4) as memory has it, got (2, 3, 5)"),
    ("look-up", "strength", (2, 3, 1), "strength must be (batch 2, heads 3) as key and memory has it, got (2, 3, 1)"),
    ("look-up", "mask", (2, 4), "mask must be (batch 2, heads 3, word 4) as key and memory has it, got (2, 4)"),
    ("look-up", "mask", (2, 1, 4), "mask must be (batch 2, heads 3, word 4) as key and memory has it, got (2, 1, 4)"),
    ("retention", "free_gates", (2,), "free_gates must be (batch, heads), got (2,)"),
    ("retention", "read_weights", (2, 4, 5),
     "read_weights must be (batch 2, heads 3, cells) as free_gates has it, got (2, 4, 5)"),
    ("write", "write_weights", (2, 1, 5), "write_weights must be (batch 2, cells 5) as memory has it, got (2, 1, 5)"),
    ("write", "erase", (2, 5), "erase must be (batch 2, word 4) as memory has it, got (2, 5)"),
    ("write", "word", (1, 4), "word must be (batch 2, word 4) as memory has it, got (1, 4)"),
    ("write", "retained", (2, 4), "retained must be (batch 2, cells 5) as memory has it, got (2, 4)"),
])
def test_shapes_that_disagree_are_told(name, argument, shape, message):
    function, shapes = CALLS[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        function(**{key: torch.zeros(shape if key == argument else usual) for key, usual in shapes.items()})
    assert str(caught.value) == message
