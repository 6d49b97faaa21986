"""What the exercises of lesson 01 must do."""

import torch
from torch.nn.functional import cosine_similarity

from grader.judge import exercise, expect, gradients, one_hot, unchanged
from solutions import dnc

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
