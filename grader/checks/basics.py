"""What lesson 00's exercise must do."""

from grader.judge import exercise, expect, gradients, one_hot, unchanged
from solutions import basics

weighted_recall = exercise(basics.weighted_recall, hints=(
    "Each head has one number per cell. Multiply every cell's word by its number and add the words up.",
    "In r = w M the sum runs over cells: (batch, heads, cells) times (batch, cells, word) gives (batch, heads, word).",
    "One batched matrix product does it for all heads and all batch entries at once: <weights> @ <memory>.",
))


@weighted_recall.property("one-hot weights read exactly one cell", points=0.5)
def _(student, ref, draw):
    for batch, cells, word in [(1, 2, 3), (3, 5, 7), (2, 4, 4)]:
        memory, cell = draw.normal(batch, cells, word), draw.integer(cells)
        weights = one_hot(cell, cells).expand(batch, 2, cells)          # expanded on purpose: stride 0
        expect(student(memory, weights)).close(
            memory[:, cell][:, None].expand(batch, 2, word),
            because="a weight of one on a cell returns that cell's word, one word per head: sum over cells (r = w M)")


@weighted_recall.property("each head reads on its own", points=0.5)
def _(student, ref, draw):
    memory, cells = draw.normal(2, 5, 4), draw.permutation(5)[:3]
    weights = one_hot(cells.tolist(), 5).expand(2, 3, 5)
    expect(student(memory, weights)).close(
        memory[:, cells],
        because="head i reads with row i of the weights and nothing else; are the heads mixed or added up?")


@weighted_recall.property("small weights read little, and zeros read a word of zeros", points=0.5)
def _(student, ref, draw):
    memory, weights = draw.normal(2, 5, 4), draw.address(2, 3, 5, total=0.6)
    weights[:, 1] = 0
    word = sum(weights[:, :, i, None] * memory[:, None, i] for i in range(5))
    expect(student(memory, weights)).close(
        word, because="the weights are used as they are: rows may sum to less than 1, and are not normalised again")


@weighted_recall.property("gradients reach memory and weights, which stay as they were", points=0.5)
def _(student, ref, draw):
    memory, weights = draw.normal(2, 5, 4).requires_grad_(), draw.address(2, 3, 5).requires_grad_()
    back = draw.normal(2, 3, 4)
    unchanged(student.call(memory.detach(), weights.detach()), ("memory", "weights"))
    call = student.call(memory, weights, cotangent=back)
    wanted = gradients(ref(memory, weights), (memory, weights), back)
    for name, path, gradient in zip(("memory", "weights"), "01", wanted, strict=True):
        expect(call.gradients[path], f"the gradient of {name}").close(
            gradient, because=f"the gradient of {name} is not that of the weighted sum; is part of it detached?")
