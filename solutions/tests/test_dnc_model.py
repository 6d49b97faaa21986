"""The whole DNC: every mechanism's laws, every variant's gradients, and a literal transcription to compare with."""

import itertools

import pytest
import torch
from torch import Tensor

from solutions import dnc
from solutions.dnc import DNC, allocation, read_weights, sharpen, update_links, update_usage

torch.set_num_threads(1)
DOUBLE = torch.float64
VARIANTS = [dict(zip(("mask", "deallocation", "sharpness"), flags, strict=True))
            for flags in itertools.product((False, True), repeat=3)]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def addresses(*shape: int, seed: int = 0) -> Tensor:
    return torch.softmax(4 * rand(*shape, seed=seed), -1)


# usage and allocation --------------------------------------------------------------------------------------------

def test_a_full_write_fills_a_cell_and_a_full_free_empties_it():
    usage, ones, zeros = rand(2, 5), torch.ones(2, 5, dtype=DOUBLE), torch.zeros(2, 5, dtype=DOUBLE)
    torch.testing.assert_close(update_usage(usage, ones, ones), ones)
    assert torch.equal(update_usage(usage, zeros, ones), usage)
    assert not update_usage(usage, ones, zeros).any()
    between = update_usage(usage, rand(2, 5, seed=1), rand(2, 5, seed=2))
    assert ((between >= 0) & (between <= 1)).all()


@pytest.mark.parametrize("cells", [1, 2, 7])
def test_allocation_gives_away_what_is_free(cells):
    usage = rand(3, cells, seed=cells)
    moved = usage * (1 - 1e-6) + 1e-6
    torch.testing.assert_close(allocation(usage).sum(-1), 1 - moved.prod(-1))
    literal = torch.zeros_like(usage)
    for b in range(3):
        order = moved[b].argsort()
        for j in range(cells):
            literal[b, order[j]] = (1 - moved[b, order[j]]) * moved[b, order[:j]].prod()
    torch.testing.assert_close(allocation(usage), literal)


def test_allocation_points_at_the_one_empty_cell_moves_with_the_cells_and_leaves_full_ones_alone():
    usage = torch.tensor([[0.9, 0.0, 0.4], [1.0, 1.0, 1.0]], dtype=DOUBLE)
    given = allocation(usage, eps=0)
    assert given.tolist() == [[0, 1, 0], [0, 0, 0]]
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(allocation(usage[:, order]), allocation(usage)[:, order])


def test_allocation_has_finite_gradients_in_an_empty_memory():
    usage = torch.zeros(2, 5, requires_grad=True)
    allocation(usage).square().sum().backward()
    assert torch.isfinite(usage.grad).all()


# links -------------------------------------------------------------------------------------------------------------

def test_one_hot_writes_make_a_chain():
    links, precedence = torch.zeros(1, 4, 4, dtype=DOUBLE), torch.zeros(1, 4, dtype=DOUBLE)
    for cell in (0, 1, 2):
        links, precedence = update_links(links, precedence, torch.eye(4, dtype=DOUBLE)[cell][None])
    expected = torch.zeros(4, 4, dtype=DOUBLE)
    expected[1, 0] = expected[2, 1] = 1
    assert torch.equal(links[0], expected)
    assert precedence.tolist() == [[0, 0, 1, 0]]


def test_links_stay_a_substochastic_matrix_with_an_empty_diagonal():
    links, precedence = torch.zeros(2, 5, 5, dtype=DOUBLE), torch.zeros(2, 5, dtype=DOUBLE)
    for step in range(40):
        links, precedence = update_links(links, precedence, 0.9 * addresses(2, 5, seed=step))
        assert (links >= 0).all()
        assert not torch.diagonal(links, dim1=1, dim2=2).any()
        assert (links.sum(1) <= 1 + 1e-12).all()
        assert (links.sum(2) <= 1 + 1e-12).all()
        assert (precedence.sum(-1) <= 1 + 1e-12).all()
    same = update_links(links, precedence, torch.zeros(2, 5, dtype=DOUBLE))
    assert torch.equal(same[0], links)
    assert torch.equal(same[1], precedence)


# sharpening ---------------------------------------------------------------------------------------------------------

def test_sharpen_is_the_stabilised_power_of_a10():
    distribution, exponent = rand(2, 3, 5), 1 + 5 * rand(2, 3, seed=1)
    scaled = (distribution + 1e-6) / (distribution + 1e-6).amax(-1, keepdim=True)
    power = scaled ** exponent[..., None]
    torch.testing.assert_close(sharpen(distribution, exponent), power / power.sum(-1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [1.0, 20.0, 100.0, 1000.0])
def test_sharpen_is_finite_at_any_exponent_and_on_empty_rows(dtype, exponent):
    distribution = torch.cat([rand(2, 2, 6), torch.zeros(2, 1, 6, dtype=DOUBLE)], 1).to(dtype).requires_grad_()
    power = torch.full((2, 3), exponent, dtype=dtype, requires_grad=True)
    sharp = sharpen(distribution, power)
    torch.testing.assert_close(sharp.sum(-1), torch.ones(2, 3, dtype=dtype))
    torch.testing.assert_close(sharp[:, 2], torch.full((2, 6), 1 / 6, dtype=dtype))
    assert torch.equal(sharp[:, :2].argmax(-1), distribution[:, :2].argmax(-1))
    (sharp * rand(2, 3, 6).to(dtype)).sum().backward()
    assert torch.isfinite(distribution.grad).all()
    assert torch.isfinite(power.grad).all()


def follow(exponent: float | None, noise: float = 0.02, cells: int = 8, hops: int = 5) -> list[float]:
    """Write cells 0, 1, 2 ... noisily, then follow the forward link from cell 0: the weight on the right cell."""
    links, precedence = torch.zeros(1, cells, cells, dtype=DOUBLE), torch.zeros(1, cells, dtype=DOUBLE)
    for cell in range(hops + 1):
        write = torch.full((1, cells), noise, dtype=DOUBLE)
        write[0, cell] = 1 - noise * (cells - 1)
        links, precedence = update_links(links, precedence, write)
    at, found = torch.eye(cells, dtype=DOUBLE)[:1][None], []
    for hop in range(1, hops + 1):
        at = at @ links.mT
        at = at if exponent is None else sharpen(at, torch.full((1, 1), exponent, dtype=DOUBLE))
        found.append(float(at[0, 0, hop]))
    return found


@pytest.mark.parametrize(("exponent", "weights"), [
    (None, [.630, .414, .284, .202, .151]), (1.0, [.855, .783, .743, .729, .743]),
    (2.0, [.995, .995, .996, .996, .996]),
])
def test_sharpening_keeps_links_that_noise_blurs(exponent, weights):
    assert follow(exponent) == pytest.approx(weights, abs=6e-4)


# reading -------------------------------------------------------------------------------------------------------------

def test_modes_are_backward_content_forward():
    ways = [addresses(2, 3, 5, seed=seed) for seed in range(3)]
    for index, way in enumerate(ways):
        modes = torch.eye(3, dtype=DOUBLE)[index].expand(2, 3, 3)
        assert torch.equal(read_weights(modes, *ways), way)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: update_usage(rand(2, 5), rand(2, 4), rand(2, 5)), "write_weights must be .batch 2, cells 5."),
    (lambda: allocation(rand(5)), "usage must be .batch, cells., got .5,."),
    (lambda: update_links(rand(2, 5, 4), rand(2, 5), rand(2, 5)), "links must be .batch 2, cells 5, cells 5."),
    (lambda: sharpen(rand(2, 3, 5), rand(2, 5)), "exponent must be .batch 2, heads 3."),
    (lambda: read_weights(rand(2, 3, 2), *[rand(2, 3, 5)] * 3), "modes must be .batch, heads, 3."),
    (lambda: DNC(0, 1), "input_size must be 1 or more, got 0"),
    (lambda: DNC(1, 1, controller="gru"), "got 'gru'"),
    (lambda: DNC(1, 1, mask_floor=1.0), r"in \[0, 1\), got 1.0"),
    (lambda: DNC(3, 1)(torch.zeros(2, 2)), r"got \(2, 2\)"),
    (lambda: DNC(3, 1)(torch.zeros(0, 2, 3)), "time 1 or more"),
])
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the whole -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("word", "heads"), [(3, 1), (5, 4)])
def test_the_interface_has_the_printed_size_and_every_part_once(word, heads):
    fields = dnc.interface_fields(word, heads, mask=True, sharpness=True)
    names = [name for part in fields.values() for name in part]
    assert sorted(names) == sorted(dnc.Interface._fields)
    size = sum(sum(part.values()) for part in fields.values())
    assert size == 2 * word * heads + 4 * word + 7 * heads + 3
    plain = dnc.interface_fields(word, heads, mask=False, sharpness=False)
    assert size - sum(sum(part.values()) for part in plain.values()) == (heads + 1) * word + 2 * heads


def literal(net: DNC, inputs: Tensor) -> Tensor:
    """Appendix A.1 transcribed step by step for one sequence, one head, an LSTM, all repairs on. inputs (time, X)."""
    cells, word, eps = net.cells, net.word, 1e-6
    memory, links = torch.zeros(cells, word, dtype=DOUBLE), torch.zeros(cells, cells, dtype=DOUBLE)
    usage, precedence, written, read = (torch.zeros(cells, dtype=DOUBLE) for _ in range(4))
    reads, hidden, carry = (torch.zeros(n, dtype=DOUBLE) for n in (word, net.controller_size, net.controller_size))
    oneplus, outputs = lambda x: 1 + torch.log1p(torch.exp(x)), []

    def lookup(key, strength, mask):
        scores = []
        for row in memory:
            u, v = key * mask, row * mask
            scores.append(strength * u.dot(v) / (u.norm() * v.norm() + eps))
        return torch.softmax(torch.cat(scores), 0)

    def sharp(d, s):
        power = ((d + eps) / (d + eps).max()) ** s
        return power / power.sum()

    for x in inputs:
        gates = net.from_input(x) + net.from_state(torch.cat([reads, hidden]))
        forget, enter, out, candidate = gates.chunk(4)
        carry = forget.sigmoid() * carry + enter.sigmoid() * candidate.tanh()
        hidden = out.sigmoid() * carry.tanh()
        emitted = net.to_interface(hidden).split([size for part in net.fields.values() for size in part.values()])
        xi = dict(zip([name for part in net.fields.values() for name in part], emitted, strict=True))
        psi = 1 - xi["free_gates"].sigmoid() * read
        usage = (usage + written - usage * written) * psi
        moved = usage * (1 - eps) + eps
        given, order = torch.zeros(cells, dtype=DOUBLE), moved.argsort()
        for j, cell in enumerate(order):
            given[cell] = (1 - moved[cell]) * moved[order[:j]].prod()
        found = lookup(xi["write_key"], oneplus(xi["write_strength"]), xi["write_mask"].sigmoid())
        fresh = xi["allocation_gate"].sigmoid()
        written = xi["write_gate"].sigmoid() * (fresh * given + (1 - fresh) * found)
        erased = memory * psi[:, None] * (1 - torch.outer(written, xi["erase"].sigmoid()))
        memory = erased + torch.outer(written, xi["word"])
        fresh = torch.zeros_like(links)
        for i in range(cells):
            for j in range(cells):
                if i != j:
                    fresh[i, j] = (1 - written[i] - written[j]) * links[i, j] + written[i] * precedence[j]
        links, precedence = fresh, (1 - written.sum()) * precedence + written
        modes = xi["modes"].softmax(0)
        read = (modes[0] * sharp(links.T @ read, oneplus(xi["backward_exponents"]))
                + modes[1] * lookup(xi["read_keys"], oneplus(xi["read_strengths"]), xi["read_masks"].sigmoid())
                + modes[2] * sharp(links @ read, oneplus(xi["forward_exponents"])))
        reads = memory.T @ read
        outputs.append(net.to_output(torch.cat([hidden, reads])))
    return torch.stack(outputs)


def test_the_model_is_appendix_a1_to_the_letter():
    torch.manual_seed(3)
    net = DNC(4, 3, cells=5, word=6, controller_size=7, mask=True, deallocation=True, sharpness=True).to(DOUBLE)
    for parameter in net.parameters():
        parameter.data.mul_(3)              # away from the start, where all gates are half open
    inputs = 2 * rand(9, 2, 4) - 1
    with torch.no_grad():
        outputs, _ = net(inputs)
        for b in range(2):
            torch.testing.assert_close(outputs[:, b], literal(net, inputs[:, b]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("flags", VARIANTS, ids=lambda f: "DNC-" + "".join(k[0].upper() for k, on in f.items() if on))
@pytest.mark.parametrize(("controller", "heads"), [("lstm", 1), ("feedforward", 3)])
def test_every_variant_has_finite_gradients_to_every_parameter(flags, controller, heads):
    torch.manual_seed(0)
    net = DNC(3, 2, cells=5, word=4, heads=heads, controller=controller, controller_size=6, **flags)
    outputs, state = net(torch.zeros(4, 2, 3))
    assert outputs.shape == (4, 2, 2)
    assert state.read_weights.shape == (2, heads, 5)
    outputs, _ = net(torch.randn(4, 2, 3))
    outputs.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("extreme", [-100.0, 100.0])
@pytest.mark.parametrize("flags", [VARIANTS[0], VARIANTS[-1]])
def test_saturated_gates_and_exponents_stay_finite(flags, extreme):
    torch.manual_seed(0)
    net = DNC(3, 2, cells=5, word=4, **flags)
    net.to_interface.bias.data.fill_(extreme)
    outputs, _ = net(torch.randn(20, 2, 3))
    outputs.square().sum().backward()
    assert torch.isfinite(outputs).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


def test_batch_entries_do_not_touch_and_a_sequence_may_be_read_in_parts():
    torch.manual_seed(0)
    net = DNC(3, 2, cells=5, word=4, heads=2, **VARIANTS[-1]).to(DOUBLE)
    inputs = rand(6, 3, 3)
    whole, end = net(inputs)
    alone, _ = net(inputs[:, 1:2])
    torch.testing.assert_close(whole[:, 1:2], alone)
    first, state = net(inputs[:2])
    second, last = net(inputs[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(tuple(last), tuple(end))


def test_the_memory_may_have_another_size_and_the_trace_has_every_step():
    net, trace = DNC(3, 2, cells=5, word=4), []
    _, state = net(torch.randn(6, 2, 3), net.initial_state(2, cells=11), trace)
    assert state.memory.shape == (2, 11, 4)
    assert len(trace) == 6
    assert torch.equal(trace[-1][1].memory, state.memory)
    assert trace[0][0].modes.shape == (2, 1, 3)


def test_a_repair_that_is_off_leaves_no_parameter_and_no_trace():
    plain, repaired = DNC(3, 2), DNC(3, 2, **VARIANTS[-1])
    assert repaired.to_interface.out_features - plain.to_interface.out_features == 2 * 16 + 2
    trace = []
    plain(torch.randn(1, 1, 3), trace=trace)
    told = trace[0][0]
    assert told.write_mask is told.read_masks is told.forward_exponents is told.backward_exponents is None


def test_masks_start_open_and_never_close_below_the_floor():
    torch.manual_seed(0)
    net, trace = DNC(3, 2, mask=True, mask_floor=0.1), []
    net(torch.zeros(1, 1, 3), trace=trace)
    torch.testing.assert_close(trace[0][0].write_mask.mean(), torch.tensor(0.758), atol=0.03, rtol=0)
    net.to_interface.bias.data.fill_(-100)
    net(torch.zeros(1, 1, 3), trace=trace)
    assert (trace[1][0].read_masks >= 0.1).all()


def test_no_gradient_flows_through_the_write_into_the_usage():
    """As in the authors' code: with the allocation gate shut, an earlier write reaches later usages only by value."""
    torch.manual_seed(0)
    net = DNC(3, 2, cells=4, word=4).to(DOUBLE)
    state = net.initial_state(1)._replace(write_weights=rand(1, 4).requires_grad_())
    _, after = net(rand(1, 1, 3), state)
    assert torch.autograd.grad(after.usage.sum(), state.write_weights, allow_unused=True)[0] is None
