"""What the exercises of lesson 01 must do."""

import itertools

import torch
from torch.nn.functional import cosine_similarity

from grader.judge import Failed, describe, exercise, expect, gradients, one_hot, unchanged
from solutions import dnc


def expect_gradients(call, names, wanted, equation, tolerance=1e-9):
    """The gradients of the positional arguments, by name, are the wanted ones."""
    for path, (name, gradient) in enumerate(zip(names, wanted, strict=True)):
        expect(call.gradients[str(path)], f"the gradient of {name}").close(
            gradient, tolerance=tolerance,
            because=f"the gradient of {name} is not that of {equation}; is part of it detached?")


# content look-up -------------------------------------------------------------------------------------------------

content_lookup = exercise(dnc.content_lookup, hints=(
    "Hide first, compare then: what the mask closes must be gone from the key and from every row before any product "
    "or norm is taken.",
    "Equation 2.4 has one eps, added to the product of the two norms. Equation 2.1 has the strength inside the "
    "softmax, and the softmax runs over cells.",
    "Make rows (batch, heads, cells, word) and key (batch, heads, 1, word), both masked; "
    "scores = sum over word / (norm x norm + eps); softmax of strength x scores over the last axis. "
    "torch.linalg.vector_norm has a finite gradient at zero.",
))

CONTENT_ARGUMENTS = ("memory", "key", "strength", "mask", "eps")


def scores_one_by_one(memory, key, mask, eps):
    """Equation 2.4 in a loop over everything: the masked cosine of every head with every cell."""
    scores = memory.new_zeros(key.shape[0], key.shape[1], memory.shape[1])
    for b, h, n in torch.cartesian_prod(*[torch.arange(size) for size in scores.shape]).tolist():
        u, v = key[b, h] * mask[b, h], memory[b, n] * mask[b, h]
        scores[b, h, n] = u.dot(v) / (u.dot(u).sqrt() * v.dot(v).sqrt() + eps)
    return scores


@content_lookup.property("at strength one the address is the softmax over cells of the cosine")
def _(student, ref, draw):
    for batch, heads, cells, word in [(1, 1, 2, 3), (2, 3, 5, 4), (2, 4, 4, 4)]:
        memory, key = draw.normal(batch, cells, word), draw.normal(batch, heads, word)
        cosine = cosine_similarity(key[:, :, None], memory[:, None], dim=-1)
        expect(student(memory, key, torch.ones(batch, heads, dtype=torch.float64))).close(
            torch.softmax(cosine, -1), tolerance=1e-4,
            because="every head compares its key with every cell; the largest cosine gets the most weight, and the "
                    "weights of one head sum to 1 over the cells (Eq. 2.1, 2.4)")


@content_lookup.property("the strength of a head sharpens that head, inside the softmax")
def _(student, ref, draw):
    memory, key = draw.normal(2, 3, 5), draw.normal(2, 3, 5)            # as many heads as cells, on purpose
    strength = draw.uniform(2, 3, low=2, high=9)
    scores = scores_one_by_one(memory, key, torch.ones_like(key), 1e-6)
    expect(student(memory, key, strength)).close(
        torch.softmax(strength[:, :, None] * scores, -1), tolerance=1e-4,
        because="multiply the scores of head i by strength i, before the softmax over cells (Eq. 2.1)")


@content_lookup.property("what the mask hides does not count: not in the product, not in the norms")
def _(student, ref, draw):
    for heads, cells in [(1, 3), (3, 4)]:
        memory, key = draw.normal(2, cells, 5), draw.normal(2, heads, 5)
        strength, mask = draw.uniform(2, heads, low=1, high=3), draw.uniform(2, heads, 5, low=0.1)
        mask[:, :, 2:4] = 0
        expected = torch.softmax(strength[:, :, None] * scores_one_by_one(memory, key, mask, 1e-6), -1)
        expect(student(memory, key, strength, mask)).close(
            expected, tolerance=1e-4,
            because="multiply both sides, the head's key and every row, by the head's mask before comparing, so that "
                    "the norms too see only what is let through (Eq. 2.1)")


@content_lookup.property("eps stands once, beside the product of the norms, so an empty row scores exactly 0")
def _(student, ref, draw):
    memory, key, strength = draw.normal(2, 5, 4), draw.normal(2, 3, 4), draw.uniform(2, 3, low=2, high=4)
    memory[:, 1] = 0
    key[:, 2] = 0
    mask = draw.uniform(2, 3, 4)
    expected = torch.softmax(strength[:, :, None] * scores_one_by_one(memory, key, mask, 0.3), -1)
    expect(student(memory, key, strength, mask, eps=0.3)).close(
        expected, because="the denominator of Eq. 2.4 is |u| |v| + eps: eps is added once, after the norms are "
                          "multiplied; a row or key of zeros then scores exactly 0 (eps is 0.3 here, so that its "
                          "effect is visible)")


@content_lookup.property("gradients are finite at empty rows, and reach all four arguments")
def _(student, ref, draw):
    memory, key = draw.normal(2, 5, 4), draw.normal(2, 3, 4)
    strength, mask, back = draw.uniform(2, 3, low=1, high=4), draw.uniform(2, 3, 4, low=0.2), draw.normal(2, 3, 5)
    memory[:, 0] = 0
    key[:, 1] = 0
    arguments = [tensor.requires_grad_() for tensor in (memory, key, strength, mask)]
    unchanged(student.call(*[tensor.detach() for tensor in arguments]), CONTENT_ARGUMENTS)
    call = student.call(*arguments, cotangent=back)
    wanted = gradients(ref(*arguments), arguments, back)
    for path, (name, gradient) in enumerate(zip(CONTENT_ARGUMENTS, wanted, strict=False)):
        got = call.gradients[str(path)]
        if got is not None:
            expect(got).finite(because=f"the gradient of {name} is not finite: at a row of zeros the square root of "
                                       "a sum of squares has no derivative; torch.linalg.vector_norm has one")
        expect(got, f"the gradient of {name}").close(gradient,
                          because=f"the gradient of {name} is not that of Eq. 2.1: is part of it detached, or is the "
                                  "formula another one at empty rows?")


@content_lookup.property("any float dtype and layout goes in, comes out, and is left as it was")
def _(student, ref, draw):
    memory = draw.normal(2, 4, 5).transpose(1, 2)                       # (2, 5, 4), not contiguous
    key = draw.normal(2, 1, 4).expand(2, 3, 4)                          # all heads view one key
    strength, mask = draw.uniform(2, 1, low=1, high=3).expand(2, 3), draw.uniform(1, 1, 4).expand(2, 3, 4)
    for dtype, tolerance in [(torch.float64, 1e-4), (torch.float32, 1e-4)]:
        arguments = [tensor.to(dtype) for tensor in (memory, key, strength, mask)]
        call = student.call(*arguments)
        unchanged(call, CONTENT_ARGUMENTS)
        expect(call.value).close(ref(*arguments), tolerance=tolerance,
                                 because="the same equations in the dtype of the arguments, and no operation in place")
    half = [tensor.to(torch.bfloat16) for tensor in (memory, key, strength)]
    expect(student(*half)).close(ref(*half), tolerance=0.05,
                                 because="without a mask too, nothing may be made in another dtype")


# retention --------------------------------------------------------------------------------------------------------

retention = exercise(dnc.retention, hints=(
    "For one head and one cell: how much is left when a gate f frees what was read with weight w? And when a second "
    "head frees it again?",
    "Equation A.5: each head leaves the factor 1 - f w in every cell, and the factors of the heads are multiplied.",
    "Give the gates a cell axis, <gates>[..., None], form 1 - gates x weights, and take .prod over the head axis.",
))


@retention.property("closed gates keep everything; an open gate forgets exactly what was read")
def _(student, ref, draw):
    read = one_hot([3], 5).expand(2, 1, 5)
    gate = torch.tensor([[0.0], [1.0]], dtype=torch.float64)            # first entry keeps, second frees
    expect(student(gate, read)).close(
        torch.stack([torch.ones(5, dtype=torch.float64), 1 - one_hot(3, 5)]),
        because="psi is exactly 1 where nothing is freed and exactly 0 where a gate of 1 meets a weight of 1: psi = "
                "1 - f w (A.5). Off by a tiny amount? Then something was added against a zero, for a logarithm perhaps")


@retention.property("a half-open gate forgets in proportion to gate and weight")
def _(student, ref, draw):
    gate, read = draw.uniform(3, 1, low=0.2, high=0.8), draw.address(3, 1, 4)
    expect(student(gate, read)).close(
        1 - gate * read[:, 0],
        because="with one head psi = 1 - f w: neither gate nor weight alone, nothing squared or rounded (A.5)")


@retention.property("the heads' factors multiply")
def _(student, ref, draw):
    for heads in (2, 3):
        gates, read = draw.uniform(2, heads, low=0.3), draw.address(2, heads, 5)
        kept = torch.ones(2, 5, dtype=torch.float64)
        for head in range(heads):
            kept = kept * (1 - gates[:, head, None] * read[:, head])
        expect(student(gates, read)).close(
            kept, because="psi is the product over heads of (1 - f w), not their sum, mean, smallest or first (A.5)")


@retention.property("each gate belongs to its own head, and gradients are finite where a cell is fully freed")
def _(student, ref, draw):
    gates, read = draw.uniform(2, 4, low=0.2, high=0.9), draw.address(2, 4, 4)      # heads == cells, on purpose
    gates[:, 0], read[:, 0] = 1, one_hot(2, 4)
    gates, read, back = gates.requires_grad_(), read.requires_grad_(), draw.normal(2, 4)
    unchanged(student.call(gates.detach(), read.detach()), ("free_gates", "read_weights"))
    call = student.call(gates, read, cotangent=back)
    expect(call.value).close(
        ref(gates, read),
        because="with several heads, gate i multiplies the weights of head i, and then the factors multiply (A.5)")
    wanted = gradients(ref(gates, read), (gates, read), back)
    for name, path, gradient in zip(("free_gates", "read_weights"), "01", wanted, strict=True):
        expect(call.gradients[path], f"the gradient of {name}").close(
            gradient, because=f"the gradient of {name} is not that of the product; logarithms have none at zero")


# write ------------------------------------------------------------------------------------------------------------

write_memory = exercise(dnc.write_memory, hints=(
    "Two things happen to the old content, forgetting and erasing, and one to the new word: it is added. Keep the "
    "two apart.",
    "Equation 2.3: the old memory is scaled cell by cell by psi and entry by entry by 1 - w e; then w v is added.",
    "Outer products are <weights>[..., None] * <vector>[:, None]. memory x retained[..., None] x (1 - outer of w "
    "and e) + outer of w and v; leave the retention factor out when it is None.",
))

WRITE_ARGUMENTS = ("memory", "write_weights", "erase", "word", "retained")


@write_memory.property("without retention it is the plain write: erase where the weight is, then add")
def _(student, ref, draw):
    for batch, cells, width in [(1, 2, 3), (2, 5, 4), (3, 4, 4)]:
        memory, weights = draw.normal(batch, cells, width), draw.address(batch, cells, total=0.9)
        erase, word = draw.uniform(batch, width), draw.normal(batch, width)
        written = memory.clone()
        for b in range(batch):
            for n in range(cells):
                written[b, n] = memory[b, n] * (1 - weights[b, n] * erase[b]) + weights[b, n] * word[b]
        expect(student(memory, weights, erase, word)).close(
            written, because="entry [i, j] keeps the share 1 - w[i] e[j] of its old value and gains w[i] v[j] "
                             "(A.8 without psi)")


@write_memory.property("retention scales the old content, cell by cell")
def _(student, ref, draw):
    for cells, width in [(5, 3), (4, 4)]:
        memory, retained = draw.normal(2, cells, width), draw.uniform(2, cells)
        nowhere, erase, word = torch.zeros(2, cells).double(), draw.uniform(2, width), draw.normal(2, width)
        expect(student(memory, nowhere, erase, word, retained)).close(
            memory * retained[:, :, None],
            because="with no write, row i of the memory is multiplied by psi[i], all of its positions alike: psi 1^T "
                    "has one value per cell (Eq. 2.3)")


@write_memory.property("the new word arrives whole: retention and erasure are for the old content")
def _(student, ref, draw):
    memory, weights, word = draw.normal(2, 5, 4), draw.address(2, 5), draw.normal(2, 4)
    erase, retained = torch.ones(2, 4).double(), torch.zeros(2, 5).double()
    expect(student(memory, weights, erase, word, retained)).close(
        weights[:, :, None] * word[:, None],
        because="psi and e act on M, before w v is added: where all is forgotten and erased, exactly w v is left "
                "(Eq. 2.3)")


@write_memory.property("forgetting, erasing and adding compose as in Eq. 2.3")
def _(student, ref, draw):
    memory, weights, retained = draw.normal(2, 5, 4), draw.address(2, 5, total=0.8), draw.uniform(2, 5)
    erase, word = draw.uniform(2, 4), draw.normal(2, 4)
    kept = retained[:, :, None] * (1 - torch.einsum("bn,bw->bnw", weights, erase))
    expect(student(memory, weights, erase, word, retained)).close(
        memory * kept + torch.einsum("bn,bw->bnw", weights, word),
        because="M psi 1^T (1 - w e^T) + w v^T, all products entry by entry: the factors multiply (Eq. 2.3)")


@write_memory.property("the given memory stays as it was, and gradients reach every argument")
def _(student, ref, draw):
    arguments = [draw.normal(2, 5, 4), draw.address(2, 5), draw.uniform(2, 4), draw.normal(2, 4), draw.uniform(2, 5)]
    unchanged(student.call(*arguments), WRITE_ARGUMENTS)
    arguments, back = [tensor.requires_grad_() for tensor in arguments], draw.normal(2, 5, 4)
    call = student.call(*arguments, cotangent=back)
    wanted = gradients(ref(*arguments), arguments, back)
    for path, (name, gradient) in enumerate(zip(WRITE_ARGUMENTS, wanted, strict=True)):
        expect(call.gradients[str(path)], f"the gradient of {name}").close(
            gradient, because=f"the gradient of {name} is not that of Eq. 2.3; is part of the write detached?")


# usage ------------------------------------------------------------------------------------------------------------

update_usage = exercise(dnc.update_usage, hints=(
    "A write can only fill what is still empty. A cell of usage 0.8 has 0.2 left: what does a write of weight 0.5 do "
    "to it? And when the cell is freed, how much of the old and of the new is kept?",
    "Equation A.6: u + w - u w is u + w (1 - u), the old usage and the part w of what is empty; all of it times psi.",
    "All three are (batch, cells), so every product is entry by entry: (<usage after the write>) * <retention>.",
))

USAGE_ARGUMENTS = ("usage", "write_weights", "retained")


@update_usage.property("a full write fills a cell, a full free empties it, and the others stay as they were")
def _(student, ref, draw):
    usage, cell = draw.uniform(2, 5, low=0.1, high=0.9), one_hot([draw.integer(5), draw.integer(5)], 5)
    nothing, everything = torch.zeros_like(usage), torch.ones_like(usage)
    expect(student(usage, cell, everything)).close(
        usage.masked_fill(cell == 1, 1),
        because="psi is 1 everywhere here, so nothing is freed: the cell written with weight 1 is now full, u = 1, and "
                "all other cells are used as much as before (A.6)")
    expect(student(usage, nothing, everything - cell)).close(
        usage.masked_fill(cell == 1, 0),
        because="nothing is written here, and psi is 0 in one cell: that one is empty now, u = 0. psi is what is kept, "
                "not what is freed (A.6)")


@update_usage.property("partial writes fill up what is still empty, and never pass 1")
def _(student, ref, draw):
    for batch, cells in [(1, 3), (3, 5), (4, 4)]:
        usage, weights = draw.uniform(batch, cells, low=0.6, high=0.95), draw.uniform(batch, cells, low=0.3, high=0.9)
        expect(student(usage, weights, torch.ones_like(usage))).close(
            usage + weights * (1 - usage),
            because="a write of weight w fills the part w of what is still empty, 1 - u: u + w (1 - u) = u + w - u w. "
                    "The sum u + w counts their overlap twice, cut off at 1 or not, and the larger of the two forgets "
                    "the other (A.6; psi is 1 here)")


@update_usage.property("freeing comes after the write, on old and new usage alike")
def _(student, ref, draw):
    for batch, cells in [(2, 5), (3, 3)]:
        usage, weights = draw.uniform(batch, cells, low=0.2, high=0.9), draw.uniform(batch, cells, low=0.2, high=0.9)
        retained = draw.uniform(batch, cells, low=0.2, high=0.8)
        retained[:, 0] = 0                                              # written and freed: must end up empty
        expect(student(usage, weights, retained)).close(
            retained * (usage + weights * (1 - usage)),
            because="psi multiplies the whole bracket, (u + w - u w) psi: w is the write of the step before, and this "
                    "step frees it just as it frees what was there earlier (A.6)")


@update_usage.property("the arguments stay as they were, and gradients reach all three")
def _(student, ref, draw):
    arguments = [draw.uniform(2, 5), draw.address(2, 5, total=0.9), draw.uniform(2, 5)]
    unchanged(student.call(*arguments), USAGE_ARGUMENTS)
    arguments, back = [tensor.requires_grad_() for tensor in arguments], draw.normal(2, 5)
    call = student.call(*arguments, cotangent=back)
    expect_gradients(call, USAGE_ARGUMENTS, gradients(ref(*arguments), arguments, back), "A.6")


# allocation -------------------------------------------------------------------------------------------------------

allocation = exercise(dnc.allocation, hints=(
    "Fill glasses from a jug that holds 1, the emptiest glass first. Each takes the part 1 - u of what the jug still "
    "holds. How much is left for the next one?",
    "Below A.6: in ascending order of usage, cell number j gets 1 - u of its own, times the product of the usages of "
    "the j - 1 cells before it. For the first that product is 1, and its own usage is never in it.",
    "torch.sort gives values and order. cumprod of <a one, then all values but the last> is the product of those "
    "before. torch.zeros_like(...).scatter(-1, order, <result in sorted order>) puts every number back to its cell.",
))


def allocate_one_by_one(usage):
    """Emptiest cell first: each gets the part 1 - u of what is left, and leaves the part u to the fuller ones."""
    address = torch.zeros_like(usage)
    for b in range(len(usage)):
        left = 1.0
        for n in usage[b].argsort().tolist():
            address[b, n] = (1 - usage[b, n]) * left
            left = left * usage[b, n]
    return address


@allocation.property("one empty cell among used ones gets everything")
def _(student, ref, draw):
    start, usage = draw.integer(3), draw.uniform(3, 5, low=0.3, high=0.9)
    empty = one_hot([1 + (start + b) % 3 for b in range(3)], 5)         # another cell in every batch entry
    usage = usage.masked_fill(empty == 1, 0)
    usage[:, 0] = 1
    expect(student(usage)).close(
        empty, tolerance=1e-4,
        because="the cell of usage 0 takes all there is, 1, and its usage leaves 0 to the fuller cells. Is it nan? "
                "Then 0 was divided by 0. Is there no 1 at all? Then the cell's own usage is in its product. Is the 1 "
                "in another cell? Then the result is still in sorted order, or was put back the wrong way round: "
                "number j of the sorted ones belongs to cell order[j]")


@allocation.property("in ascending order each cell gets 1 - u times the product of all emptier cells", points=2)
def _(student, ref, draw):
    for batch, cells in [(1, 3), (3, 5), (4, 4)]:
        ranked = draw.uniform(batch, cells, low=0.1, high=0.9).sort(-1).values
        usage = torch.stack([row.roll(b + 1) for b, row in enumerate(ranked)])      # another order in every row
        expect(student(usage)).close(
            allocate_one_by_one(usage), tolerance=1e-4,
            because="a = (1 - u) times the product of the usages of all emptier cells of the same batch entry, without "
                    "the cell's own: for the emptiest that product is 1 (below A.6)")


@allocation.property("what is given out is 1 - the product of all usages, in whatever order equal cells come")
def _(student, ref, draw):
    full, empty = torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    expect(student(full)).close(torch.zeros_like(full), tolerance=1e-4,
                                because="a full memory has no room: every cell gets 0, and nothing is normalised to 1")
    usage = draw.uniform(2, 3, low=0.2, high=0.8).repeat(1, 2)          # every usage twice
    for tied in (usage, empty):
        address = student(tied)
        expect(address.sum(-1), "the sum over the cells").close(
            1 - tied.prod(-1), tolerance=1e-4,
            because="the sum over the cells is 1 - the product of all usages: what is not given out is what the full "
                    "cells have no room for (below A.6). Here several cells are equally used; one comes before the "
                    "other all the same, and its usage counts in the product of the other")
        expect(address.sort(-1).values, "the result, sorted,").close(
            allocate_one_by_one(tied).sort(-1).values, tolerance=1e-4,
            because="cells of equal usage come one after the other, in any order, and do not share (below A.6; both "
                    "sides are sorted here)")


@allocation.property("usages are moved to u (1 - eps) + eps first, everywhere they are used")
def _(student, ref, draw):
    for eps, keywords in [(0.2, {"eps": 0.2}), (1e-6, {})]:
        usage = draw.uniform(2, 5, low=0.05, high=0.95)
        usage[:, 2], usage[:, 4] = 0, 1
        expect(student(usage, **keywords)).close(
            allocate_one_by_one(usage * (1 - eps) + eps),
            because="0 becomes eps and 1 stays 1: u (1 - eps) + eps takes the place of u in the product and in 1 - u "
                    "alike (called with eps = 0.2, so that its effect is visible, and then with the usual 1e-6)")


@allocation.property("gradients are finite in an empty memory and right elsewhere; argument and dtype stay")
def _(student, ref, draw):
    usage, back = draw.uniform(3, 5, low=0.1, high=0.9), draw.normal(3, 5)
    unchanged(student.call(usage), ("usage",))
    single = usage.to(torch.float32)
    expect(student(single)).close(ref(single), tolerance=1e-4, because="the same numbers in float32, and in its dtype")
    usage, empty = usage.requires_grad_(), torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    call = student.call(usage, cotangent=back)
    expect_gradients(call, ("usage",), gradients(ref(usage), (usage,), back),
                     "(1 - u) times the product: the order has no gradient, the usages have, in both places", 1e-4)
    expect(student.call(empty, cotangent=back).gradients["0"]).finite(
        because="the gradient of an empty memory must be a finite number; before the first write all usages are 0, and "
                "eps is there to keep products and logarithms away from 0")


# links ------------------------------------------------------------------------------------------------------------

update_links = exercise(dnc.update_links, hints=(
    "Write to cell 0, then to cell 1. Before the second write, precedence says that 0 was the last; the second write "
    "says 1. Which entry of the links must these two make, and which numbers must be kept until it is made?",
    "Equation A.9: entry [i, j] keeps the share 1 - w[i] - w[j] and gains w[i] p[j], with the old p; the diagonal is "
    "0. Only then precedence becomes (1 - the sum of w) p + w.",
    "w as a column is <weights>[:, :, None], as a row <weights>[:, None]; (1 - column - row) * links + column * "
    "<precedence as a row>, times (1 - torch.eye(cells)). The sum needs keepdim=True. Return both, links first.",
))

LINK_ARGUMENTS = ("links", "precedence", "write_weights")


def link_step(student, *arguments, **keywords):
    """A call and its two results, or a failure that says what to return."""
    call = student.call(*arguments, **keywords)
    parts = call.value if isinstance(call.value, tuple | list) else [call.value]
    if [getattr(part, "shape", None) for part in parts] != [tensor.shape for tensor in arguments[:2]]:
        raise Failed("return two tensors, first the links (batch, cells, cells), then the precedence (batch, cells)",
                     " and ".join(describe(tensor) for tensor in arguments[:2]),
                     " and ".join(describe(part) for part in parts))
    return call, *parts


def links_one_by_one(links, precedence, weights):
    """Equation A.9 for every pair of different cells."""
    linked = torch.zeros_like(links)
    for b, i, j in torch.cartesian_prod(*[torch.arange(size) for size in links.shape]).tolist():
        if i != j:
            linked[b, i, j] = ((1 - weights[b, i] - weights[b, j]) * links[b, i, j]
                               + weights[b, i] * precedence[b, j])
    return linked


@update_links.property("writing cell after cell links each to the one before it, and to nothing else")
def _(student, ref, draw):
    chains = [draw.permutation(5)[:4].tolist() for _ in range(2)]       # another chain in each batch entry
    links, last = torch.zeros(2, 5, 5, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64)
    expected = torch.zeros_like(links)
    for cells in zip(*chains, strict=True):
        _, links, _ = link_step(student, links, last, one_hot(cells, 5))
        last = one_hot(cells, 5)
    for b, chain in enumerate(chains):
        for before, after in itertools.pairwise(chain):
            expected[b, after, before] = 1
    expect(links, "the link matrix").close(
        expected,
        because="links[i, j] is 1 when i was written directly after j: w[i] is a column and p[j] a row, and p is the "
                f"one given, from before the write. Here cells {', '.join(map(str, chains[0]))} were written one after "
                "the other in batch entry 0, and the arguments shown are those of the last write (A.9)")


@update_links.property("no cell follows itself: the diagonal is zero, whatever is given or written")
def _(student, ref, draw):
    links, nothing, cell = draw.uniform(2, 4, 4, low=0.1), torch.zeros(2, 4).double(), one_hot([draw.integer(4), 2], 4)
    _, kept, _ = link_step(student, links, draw.address(2, 4), nothing)
    expect(kept, "the link matrix").close(
        links.masked_fill(torch.eye(4) == 1, 0),
        because="L[i, i] = 0 for every i, also when the given links have something there. Nothing is written here, so "
                "all other entries stay (A.9)")
    _, twice, _ = link_step(student, torch.zeros_like(links), cell, cell)
    expect(twice, "the link matrix").close(
        torch.zeros_like(links),
        because="the same cell is written twice in a row here: w[i] p[i] is 1, and yet no cell follows itself. Clear "
                "the diagonal last (A.9)")


@update_links.property("a write fades the links of its cells and adds w times the precedence from before", points=2)
def _(student, ref, draw):
    for batch, cells in [(1, 3), (2, 5), (3, 3)]:
        links, precedence = draw.uniform(batch, cells, cells, low=0.1), draw.address(batch, cells, total=0.9)
        links, weights = links * (1 - torch.eye(cells)), draw.address(batch, cells, total=0.8)
        _, linked, _ = link_step(student, links, precedence, weights)
        expect(linked, "the link matrix").close(
            links_one_by_one(links, precedence, weights),
            because="L[i, j] becomes (1 - w[i] - w[j]) L[i, j] + w[i] p[j] off the diagonal: both cells' weights are "
                    "subtracted, no product of them is added, p is the one given, not yet that of this write, and "
                    "nothing is normalised (A.9)")


@update_links.property("precedence fades by the sum of the write, in all cells alike, and gains the write")
def _(student, ref, draw):
    for batch, cells in [(1, 3), (2, 5), (4, 4)]:
        links, precedence = torch.zeros(batch, cells, cells).double(), draw.address(batch, cells, total=0.9)
        weights = torch.stack([draw.address(cells, total=0.3 + 0.1 * b) for b in range(batch)])
        _, _, after = link_step(student, links, precedence, weights)
        expected = torch.stack([(1 - sum(w.tolist())) * p + w for w, p in zip(weights, precedence, strict=True)])
        expect(after, "the precedence").close(
            expected, because="p becomes (1 - the sum of w over the cells) p + w: one number per batch entry fades all "
                              "cells, written or not, so that a full write leaves nothing of the older ones (A.9)")


@update_links.property("a step without a write changes nothing; the arguments stay, and gradients reach all three")
def _(student, ref, draw):
    arguments = [draw.uniform(2, 4, 4), draw.address(2, 4), draw.address(2, 4, total=0.9)]
    zero_diagonal = arguments[0] * (1 - torch.eye(4))
    _, links, precedence = link_step(student, zero_diagonal, arguments[1], torch.zeros(2, 4).double())
    expect(links, "the link matrix").close(zero_diagonal, because="where w = 0, links stay exactly as they are (A.9)")
    expect(precedence, "the precedence").close(arguments[1], because="where w = 0, precedence stays as it is (A.9)")
    unchanged(link_step(student, *arguments)[0], LINK_ARGUMENTS)
    arguments, back = [tensor.requires_grad_() for tensor in arguments], (draw.normal(2, 4, 4), draw.normal(2, 4))
    call, *_ = link_step(student, *arguments, cotangent=back)
    joined = [torch.cat([links.flatten(1), precedence], 1) for links, precedence in (ref(*arguments), back)]
    wanted = gradients(joined[0], arguments, joined[1])
    expect_gradients(call, LINK_ARGUMENTS, wanted, "A.9")


# sharpening -------------------------------------------------------------------------------------------------------

sharpen = exercise(dnc.sharpen, hints=(
    "Powers of numbers below 1 get small, the smaller number's the faster, so a power and a normalisation sharpen. In "
    "float32, what is 0.001 to the power of 100? And what would you then divide by?",
    "Equation 2.5: add eps, raise to the head's exponent, divide by the sum over the cells. A.10 first divides by the "
    "row's maximum, which cancels and keeps the largest at exactly 1. x^s is also exp(s log x).",
    "Either ((d + eps) / <its amax over cells, keepdim>) ** <exponent>[..., None], divided by its sum over cells; or "
    "say what softmax does to s log(d + eps), and let it do the rest.",
))

SHARPEN_ARGUMENTS = ("distribution", "exponent")


@sharpen.property("rows sum to 1 whatever they summed to, and a row of zeros becomes uniform")
def _(student, ref, draw):
    exponent = draw.uniform(2, 3, low=1.5, high=4)
    expect(student(torch.zeros(2, 3, 5, dtype=torch.float64), exponent)).close(
        torch.full((2, 3, 5), 0.2, dtype=torch.float64),
        because="a row of zeros is what the links give before the second write. With eps in every cell all of them are "
                "equal, so each of 5 gets 1/5: add eps before the power, and divide by the sum over the cells after "
                "it. A nan is a 0/0 or a log 0 that eps should have prevented (Eq. 2.5)")
    distribution = draw.address(2, 3, 5, total=0.4)
    expect(student(distribution, exponent).sum(-1), "the sum over the cells").close(
        torch.ones(2, 3, dtype=torch.float64),
        because="whatever the row summed to (0.4 here, as links do), the powers are divided by their own sum over the "
                "cells, after the power and for each head (Eq. 2.5)")


@sharpen.property("an exponent of one only normalises")
def _(student, ref, draw):
    for batch, heads, cells in [(1, 2, 3), (2, 3, 5)]:
        distribution = draw.address(batch, heads, cells, total=0.5)
        expect(student(distribution, torch.ones(batch, heads, dtype=torch.float64))).close(
            distribution / 0.5, tolerance=1e-4,
            because="at s = 1 the row is d divided by its sum: it is not d itself, which sums to 0.5 here, and not the "
                    "softmax of d, because the power is of d: exp(s log d), not exp(s d) (Eq. 2.5)")


@sharpen.property("each head is raised to its own exponent")
def _(student, ref, draw):
    for heads, cells in [(3, 5), (4, 4)]:                               # as many heads as cells, on purpose
        distribution, exponent = draw.uniform(2, heads, cells, low=0.2), draw.uniform(2, heads, low=2, high=6)
        expected = torch.zeros_like(distribution)
        for b, h in torch.cartesian_prod(torch.arange(2), torch.arange(heads)).tolist():
            powers = distribution[b, h] ** exponent[b, h]
            expected[b, h] = powers / powers.sum()
        expect(student(distribution, exponent)).close(
            expected, tolerance=1e-4,
            because="row h is d to the power s[h], divided by the sum of these powers: the exponent of head h for all "
                    "of its cells, as it is, and a higher one makes the row sharper (Eq. 2.5)")


@sharpen.property("eps is added to every cell, before the power")
def _(student, ref, draw):
    distribution, exponent = draw.address(2, 3, 5, total=0.7), draw.uniform(2, 3, low=1, high=4)
    distribution[:, :, 2] = 0
    powers = (distribution + 0.1) ** exponent[:, :, None]
    expect(student(distribution, exponent, eps=0.1)).close(
        powers / powers.sum(-1, keepdim=True),
        because="(d + eps)^s divided by its sum: eps goes to every cell before anything else, it is no lower bound, "
                "and it is added nowhere a second time (A.10; eps is 0.1 here, so that its effect is visible)")


@sharpen.property("an exponent of 100 or more keeps the largest alone, in float32 too")
def _(student, ref, draw):
    ranks = torch.stack([draw.permutation(5) for _ in range(6)]).view(2, 3, 5)
    row = torch.tensor([0, 0, 0.25, 0.9, 1])[ranks]                     # the largest is where the rank is 4
    distribution = row * torch.tensor([0.8, 1e-2, 1e-3])[:, None]       # one scale for each head
    result = student(distribution, torch.tensor([100.0, 100.0, 1000.0]).expand(2, 3))
    expect(result).finite(because="0.001 to the power of 100 is 0 in float32, and 0/0 is nan: divide by the maximum of "
                                  "the same row before the power (A.10), or work with s log(d + eps)")
    expect(result).close(
        (ranks == 4).to(torch.float32), tolerance=1e-4,
        because="at s = 100 a cell with 0.9 of the largest weight counts 0.9^100, under 0.0001: the largest of the row "
                "gets 1, however small it is itself. Powers of it vanish in float32: divide by the maximum of the same "
                "row first (A.10)")


@sharpen.property("gradients reach both, right, and finite at zeros and an exponent of 100; the arguments stay")
def _(student, ref, draw):
    distribution, exponent = draw.address(2, 3, 4, total=0.7), draw.uniform(2, 3, low=1, high=5)
    distribution[:, 0, 1] = 0
    back = draw.normal(2, 3, 4)
    unchanged(student.call(distribution, exponent), SHARPEN_ARGUMENTS)
    hard = torch.stack([torch.zeros(2, 4), one_hot([1, 3], 4), distribution[:, 2]], 1).to(torch.float32)
    call = student.call(hard.requires_grad_(), torch.full((2, 3), 100.0, requires_grad=True), cotangent=back.float())
    for name, path in zip(SHARPEN_ARGUMENTS, "01", strict=True):
        if call.gradients[path] is not None:
            expect(call.gradients[path]).finite(
                because=f"the gradient of {name} must be finite in float32, at zeros and at s = 100: eps keeps away "
                        "from log 0, which has none, and dividing by the row's maximum keeps the sum of the powers "
                        "away from 0 (A.10)")
    arguments = distribution.requires_grad_(), exponent.requires_grad_()
    call = student.call(*arguments, cotangent=back)
    expect_gradients(call, SHARPEN_ARGUMENTS, gradients(ref(*arguments), arguments, back), "A.10")


# read weights -----------------------------------------------------------------------------------------------------

read_weights = exercise(dnc.read_weights, hints=(
    "Each head has three candidate addresses and three numbers that say how much of each it takes. Which number "
    "belongs to which address, and over what are they added up?",
    "Equation A.12: modes[..., 0] times backward + modes[..., 1] times content + modes[..., 2] times forward.",
    "One number per head has no cell axis yet: modes[..., 0:1] is (batch, heads, 1) and broadcasts over the cells. Or "
    "stack the three addresses on a last axis, multiply by modes[:, :, None] and sum that axis away.",
))

READ_ARGUMENTS = ("modes", "backward", "content", "forward")


def mix_one_by_one(modes, *ways):
    """Equation A.12 for every head by itself."""
    mixed = torch.zeros_like(ways[0])
    for b, h in torch.cartesian_prod(*[torch.arange(size) for size in mixed.shape[:2]]).tolist():
        for mode, way in enumerate(ways):
            mixed[b, h] += modes[b, h, mode] * way[b, h]
    return mixed


@read_weights.property("a one-hot mode returns backward, content or forward, in this order")
def _(student, ref, draw):
    for heads, cells in [(1, 4), (2, 5)]:
        ways = [draw.address(2, heads, cells) for _ in range(3)]
        for mode, (name, way) in enumerate(zip(READ_ARGUMENTS[1:], ways, strict=True)):
            expect(student(one_hot(mode, 3).expand(2, heads, 3), *ways)).close(
                way, because=f"every head's modes are 1 at index {mode} and 0 elsewhere, so the result is exactly "
                             f"{name}: the order is backward, content, forward, and the modes are used as they come "
                             "(A.12)")


@read_weights.property("a mixture takes from each way as much as its mode says")
def _(student, ref, draw):
    for cells in (4, 5):                                                # one head by itself
        modes, ways = draw.address(1, 1, 3), [draw.address(1, 1, cells) for _ in range(3)]
        expect(student(modes, *ways)).close(
            mix_one_by_one(modes, *ways),
            because="the three addresses, each times its mode, are added: no softmax over the modes once more, no "
                    "winner, no product of the addresses (A.12)")


@read_weights.property("each head has its own modes and its own addresses")
def _(student, ref, draw):
    for batch, heads, cells in [(2, 3, 5), (2, 2, 3), (3, 3, 3)]:       # 3 heads, 3 cells, 3 modes: on purpose
        modes, ways = draw.address(batch, heads, 3), [draw.address(batch, heads, cells) for _ in range(3)]
        expect(student(modes, *ways)).close(
            mix_one_by_one(modes, *ways),
            because="head h of a batch entry mixes its own three addresses with its own modes[:, h]; the last axis of "
                    "modes is the three ways, also where there are three heads or three cells (A.12)")


@read_weights.property("nothing is normalised again: what the links leave out is left out")
def _(student, ref, draw):
    modes, content = draw.address(2, 2, 3), draw.address(2, 2, 5)
    backward, forward = draw.address(2, 2, 5, total=0.3), draw.address(2, 2, 5, total=0.6)
    forward[0] = 0                                                      # as before the second write
    expect(student(modes, backward, content, forward)).close(
        mix_one_by_one(modes, backward, content, forward),
        because="backward and forward come from the links and sum to less than 1, or to 0 at the start; the result "
                "then sums to less than 1 too. A.12 normalises neither them nor the result")


@read_weights.property("the arguments stay as they were, and gradients reach all four")
def _(student, ref, draw):
    arguments = [draw.address(2, 3, 3), *(draw.address(2, 3, 4, total=0.9) for _ in range(3))]
    unchanged(student.call(*arguments), READ_ARGUMENTS)
    arguments, back = [tensor.requires_grad_() for tensor in arguments], draw.normal(2, 3, 4)
    call = student.call(*arguments, cotangent=back)
    expect_gradients(call, READ_ARGUMENTS, gradients(ref(*arguments), arguments, back), "A.12")
