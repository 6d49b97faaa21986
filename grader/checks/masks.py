"""What the exercises of chapter 3 must do: samples of masks, layers that use them, their price, their overlap."""

import math

import torch
from torch import Tensor

from grader.judge import Failed, Raised, describe, exercise, expect, gradients, number, unchanged
from solutions import masks


def coins(draw, *shape):
    """A hard mask of ones and zeros as float64: more kept than dropped."""
    return (draw.uniform(*shape) < 0.6).to(torch.float64)


def sets_unchanged(call, names):
    """Fail when the call modified a tensor of one of its arguments, which are dicts."""
    for path in call.changed:
        position, _, key = path.partition(".")
        name = f"{names[int(position)]}[{key!r}]"
        raise Failed(f"the function changed {name} in place; the caller still needs it. Make new tensors instead of "
                     "using operations ending in _, &= and the like", f"{name} as it was", f"{name} with other values")


# soft samples -----------------------------------------------------------------------------------------------------

gumbel_sigmoid = exercise(masks.gumbel_sigmoid, hints=(
    "A coin that shows heads with probability sigmoid(l) can be thrown in two steps: add noise to l that does not "
    "depend on l, then look at the sign. Which part of this has a gradient, and what softens the sign?",
    "Equation 3.1: s = sigmoid((l - log(log U1 / log U2)) / temperature). Both inner logarithms are negative, so "
    "their ratio is positive. At which U is a logarithm minus infinity, and at which is it a zero that you divide by?",
    "Clamp the uniforms to <smallest positive, largest below 1> of their dtype (torch.finfo has tiny and eps), take "
    "the logarithm of the pair, unpack it into two, and put the sigmoid around (logits - <noise>) / temperature. Cast "
    "the result to the logits' dtype last.",
))

SAMPLE_ARGUMENTS = ("logits", "uniforms", "temperature")


def soft_one_by_one(logits, uniforms, temperature=1.0):
    """Equation 3.1 for every weight of every sample by itself."""
    first, second = uniforms.flatten(1).tolist()
    repeated = logits.expand(uniforms.shape[1:]).flatten().tolist()
    soft = [1 / (1 + math.exp(-(logit - math.log(math.log(u) / math.log(v))) / temperature))
            for logit, u, v in zip(repeated, first, second, strict=True)]
    return torch.tensor(soft, dtype=torch.float64).view(uniforms.shape[1:])


@gumbel_sigmoid.property("the noise -log(log U1 / log U2) is added to the logit, inside the sigmoid")
def _(student, ref, draw):
    for shape in [(5,), (3, 4), (2, 2)]:                                # as many rows as uniforms, on purpose
        logits, uniforms = draw.normal(*shape), draw.uniform(2, *shape, low=0.02, high=0.98)
        expect(student(logits, uniforms)).close(
            soft_one_by_one(logits, uniforms), tolerance=1e-5,
            because="s = sigmoid(l - log(log U1 / log U2)) at temperature 1: two logarithms, a ratio, one more "
                    "logarithm, and a minus. U1 is uniforms[0] and U2 is uniforms[1]; nothing else is drawn (Eq. 3.1)")
    logits = draw.normal(3)
    uniforms = torch.tensor([[1e-5, 1 - 1e-5, 0.3], [0.6, 0.2, 1e-5]]).double()         # exact in float32
    expect(student(logits, uniforms)).close(
        soft_one_by_one(logits, uniforms), tolerance=1e-5,
        because="uniforms near 0 and 1 make the tails of the noise: a bound that keeps 0 and 1 themselves away must "
                "not be felt at 0.00001 (Eq. 3.1)")


@gumbel_sigmoid.property("equal uniforms make no noise, and swapped ones turn it around")
def _(student, ref, draw):
    logits, uniforms = draw.normal(3, 4), draw.uniform(2, 3, 4, low=0.02, high=0.98)
    expect(student(logits, uniforms[:1].expand(2, 3, 4))).close(
        torch.sigmoid(logits), tolerance=1e-5,
        because="where U1 = U2 the ratio of their logarithms is 1 and its logarithm 0, so the sample is sigmoid(l). "
                "A difference of two Gumbels needs both, one alone is not centred (Eq. 3.1)")
    soft = student(logits, uniforms)
    expect(student(-logits, uniforms.flip(0)), "the sample with -l, U2, U1").close(
        1 - soft, tolerance=1e-5,
        because="with U1 and U2 swapped the noise has the other sign, so that the sample for -l is 1 - s. "
                "What comes here is neither a logistic noise nor a function of the uniforms given (Eq. 3.1)")


@gumbel_sigmoid.property("the temperature divides logit and noise alike, and never decides the side of 1/2")
def _(student, ref, draw):
    for temperature in (0.3, 2.5):
        logits, uniforms = draw.normal(4, 5), draw.uniform(2, 4, 5, low=0.02, high=0.98)
        logits[0], uniforms[:, 0] = 1, torch.tensor([[0.1], [0.6]])     # a likely weight that the noise drops
        expect(student(logits, uniforms, temperature)).close(
            soft_one_by_one(logits, uniforms, temperature), tolerance=1e-5,
            because=f"the whole sum, l + noise, is divided by the temperature ({temperature} here). Then s > 1/2 "
                    "exactly where l + noise > 0, and a weight is kept with probability sigmoid(l) at every "
                    "temperature (Eq. 3.1)")


@gumbel_sigmoid.property("every axis between the pair and the logits' own is one more sample")
def _(student, ref, draw):
    for between, shape in [((3, 4), (2, 5)), ((2,), (2, 2))]:
        logits, uniforms = draw.normal(*shape), draw.uniform(2, *between, *shape, low=0.02, high=0.98)
        expect(student(logits, uniforms)).close(
            soft_one_by_one(logits, uniforms), tolerance=1e-5,
            because=f"uniforms are (2, samples, logits), here {tuple(uniforms.shape)}: the first axis alone is the "
                    "pair U1, U2, every sample has its own noise, and all of them share the logits (Eq. 3.1)")


@gumbel_sigmoid.property("uniforms of exactly 0 and 1 give finite samples on the right side, in any float dtype")
def _(student, ref, draw):
    pairs = torch.tensor([[0, 0.5], [0.5, 0], [1, 0.5], [0.5, 1], [0, 1], [1, 0], [0, 0], [1, 1]])
    pairs = pairs[draw.permutation(8)].T
    for dtype in (torch.float64, torch.float32, torch.float16):
        logits, uniforms = torch.zeros(8, dtype=dtype), pairs.to(dtype)
        call = student.call(logits, uniforms)
        unchanged(call, SAMPLE_ARGUMENTS)
        soft = call.value
        expect(soft).finite(
            because="log 0 is minus infinity, log 1 is a zero to divide by, and 1 + 1e-10 is above 1 or, in float32, "
                    "exactly 1: clamp the uniforms, by torch.finfo of their own dtype, between the smallest positive "
                    "number and the largest below 1, before the first logarithm (Eq. 3.1)")
        expect((soft > 0.6).double() - (soft < 0.4).double(), "the side of 1/2").close(
            torch.sign(pairs[0] - pairs[1]).double(),
            because="at l = 0 a sample is above 1/2 where U1 > U2, below where U1 < U2, and 1/2 where both are alike: "
                    "the ends 0 and 1 make no exception. Here 1 stands for above, -1 for below, 0 for 1/2 (Eq. 3.1)")
        call = student.call(logits.requires_grad_(), uniforms, gradients=True)
        if call.gradients["0"] is not None:
            expect(call.gradients["0"]).finite(
                because="the gradient of logits, s (1 - s) / temperature, is finite too: clamp before the logarithms, "
                        "not after them (Eq. 3.1)")


@gumbel_sigmoid.property("the gradient of a logit is s (1 - s) / temperature, and none is cut off", points=0.5)
def _(student, ref, draw):
    logits, uniforms = draw.normal(3, 4), draw.uniform(2, 2, 3, 4, low=0.02, high=0.98)
    temperature, back = 0.6, draw.normal(2, 3, 4)
    call = student.call(logits, uniforms, temperature)
    unchanged(call, SAMPLE_ARGUMENTS)
    soft = soft_one_by_one(logits, uniforms, temperature)
    expect(call.value).close(soft, tolerance=1e-5, because="this is not yet the sample s of Eq. 3.1")
    call = student.call(logits.requires_grad_(), uniforms, temperature, cotangent=back)
    expect(call.gradients["0"], "the gradient of logits").close(
        (back * soft * (1 - soft) / temperature).sum(0), tolerance=1e-5,
        because="ds/dl = s (1 - s) / temperature, and the two samples drawn from one logit add up; s is the sample, "
                "not sigmoid(l). The temperature in it is no mere factor, as B.1.4 has it: a small one leaves a "
                "gradient only where s is near 1/2")
    tails = torch.tensor([-30, -15, 15], dtype=torch.float64)
    slope = torch.sigmoid(tails) * torch.sigmoid(-tails)
    call = student.call(tails.requires_grad_(), draw.uniform(1, 3, low=0.1, high=0.9).expand(2, 3), cotangent=1 / slope)
    expect(call.gradients["0"], "the gradient of logits").close(
        torch.ones_like(tails), tolerance=0.2,                          # room for a sample in float32
        because="the logits are -30, -15 and 15 and the uniforms equal, so s is 1e-13, 3e-7 and 1 - 3e-7, and the "
                "gradient s (1 - s) is tiny, yet not 0; here it is shown divided by what it must be. Is the sample "
                "cut off, between 1e-6 and 1 - 1e-6 say? The uniforms alone are clamped: a weight whose sample is cut "
                "off gets no gradient and stays where it is")


@gumbel_sigmoid.property("the sample has the logits' dtype, but its noise is computed in float32 at least", points=0.5)
def _(student, ref, draw):
    for dtype, tolerance in [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 0.02)]:
        logits, uniforms = draw.normal(2, 3).to(dtype), draw.uniform(2, 2, 3, low=0.02, high=0.98)
        soft = student(logits, uniforms)
        if isinstance(soft, Tensor) and soft.dtype != dtype:
            raise Failed("the sample has the logits' dtype, whatever that of the uniforms is and whatever the noise "
                         "was computed in: cast it last", str(dtype), str(soft.dtype))
        expect(soft).close(soft_one_by_one(logits.double(), uniforms).to(dtype), tolerance=tolerance,
                           because="the same equation, in whatever dtype the logits are (Eq. 3.1)")
        logits = torch.tensor([-8, 8], dtype=dtype)
        uniforms = torch.tensor([[1 - 2**-13, 0.5], [0.5, 1 - 2**-13]], dtype=torch.float64)    # exact in float32
        expect(student(logits, uniforms)).close(
            soft_one_by_one(logits.double(), uniforms).to(dtype), tolerance=tolerance,
            because="the noise is computed in the dtype that the uniforms have, float32 at least, and only the sample "
                    "is cast to the logits' dtype. In half precision 0.9999 is 1: the tails of the noise are gone, and "
                    "with them the rare samples that drop a likely weight, or keep an unlikely one")


# hard samples -----------------------------------------------------------------------------------------------------

straight_through = exercise(masks.straight_through, hints=(
    "A step function has no useful gradient, a soft sample no hard value. Take a number that is hard in the forward "
    "pass, and let autograd see only the part of it that is soft.",
    "Equation 3.2: b = stop(1[s > 1/2] - s) + s. stop is .detach(): what stands inside is a constant for autograd, so "
    "db/ds is the 1 of the + s.",
    "hard = (soft > <threshold>), cast to soft's dtype; then (<hard minus soft>).detach() + soft. In which order must "
    "three floats be added for 1 - s + s to be 1 exactly?",
))


@straight_through.property("a weight is kept where s is above 1/2, and dropped at 1/2 and below")
def _(student, ref, draw):
    for shape in [(7,), (3, 5), (4, 4)]:
        soft = draw.uniform(*shape)
        soft.view(-1)[:5] = torch.tensor([0, 0.5, 1, 0.5 + 1e-7, 0.5 - 1e-7])[draw.permutation(5)]
        expect(student(soft)).close(
            torch.tensor([float(s > 0.5) for s in soft.flatten().tolist()], dtype=torch.float64).view(shape),
            because="b = 1[s > 1/2]: 1 above one half, 0 at it and below. The coin was thrown when s was drawn: s is "
                    "no probability to throw it again, and no logit, whose threshold would be 0 (Eq. 3.2)")


@straight_through.property("every value is 0 or 1 to the last bit, in every float dtype")
def _(student, ref, draw):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        soft = draw.uniform(200, high=0.8).to(dtype)
        soft[draw.integer(200)] = 0.5
        hard = (soft > 0.5).to(dtype)
        expect(student(soft)).close(hard, because="b = stop(1[s > 1/2] - s) + s, all of it in the dtype of s (Eq. 3.2)")
        value = student.calls[-1].value
        if not torch.equal(value.detach(), hard):
            worst = (value.detach() - hard).abs().argmax()
            raise Failed("the values are nearly 0 and 1: (1 + s) - s rounds in floats, (1 - s) + s does not. Take the "
                         "difference first, then add s, so that a dropped weight is gone (Eq. 3.2)",
                         number(hard[worst]), f"{float(value[worst]):.17g}",
                         f"{int((value != hard).sum())} of 200 entries differ, most at [{int(worst)}]")


@straight_through.property("the gradient passes as if nothing had been rounded: db/ds = 1 on both sides")
def _(student, ref, draw):
    soft, back = draw.uniform(6, 11, high=0.7), draw.normal(6, 11)
    call = student.call(soft)
    unchanged(call, ("soft",))
    expect(call.value).close((soft > 0.5).to(torch.float64), because="b = stop(1[s > 1/2] - s) + s (Eq. 3.2)")
    call = student.call(soft.requires_grad_(), cotangent=back)
    expect(call.gradients["0"], "the gradient of soft").close(
        back, because="db/ds is exactly 1, for kept and dropped weights alike, so the gradient of soft is the "
                      "gradient that b was given. 0? Then s is subtracted outside of stop, where its derivative "
                      "cancels that of the + s. The factor s (1 - s) belongs to the sigmoid and comes in there, once "
                      "(Eq. 3.2)")


# a layer with one mask per group ----------------------------------------------------------------------------------

masked_linear = exercise(masks.masked_linear, hints=(
    "One layer, several samples of its mask, one batch. Which rows see which sample? And which tensors here are still "
    "being learned?",
    "Section 3.1: w' = w * b, so the outputs of block g are inputs (weight * masks[g])^T + bias. Only the logits "
    "behind the masks learn: weight and bias are frozen.",
    "Split the batch with unflatten or reshape into (groups, batch/groups, inputs), multiply block by block with "
    "<weight, detached> * masks, which is (groups, outputs, inputs), by einsum or a matrix product with its "
    "transpose, and join the first two axes again; then add the bias, detached.",
))

LAYER_ARGUMENTS = ("inputs", "weight", "masks", "bias")


def row_by_row(inputs, weight, masks, bias=None):
    """The masked layer for every row by itself."""
    size = len(inputs) // len(masks)
    rows = [(weight * masks[i // size]) @ row for i, row in enumerate(inputs)]
    return torch.stack(rows) + (0 if bias is None else bias)


@masked_linear.property("an open mask leaves the layer as it was, a closed one leaves the bias alone")
def _(student, ref, draw):
    inputs, weight, bias = draw.normal(4, 3), draw.normal(5, 3), draw.normal(5)
    everything = torch.ones(2, 5, 3, dtype=torch.float64)
    expect(student(inputs, weight, everything, bias)).close(
        inputs @ weight.T + bias,
        because="masks of ones keep every weight, so this is nn.Linear: inputs @ weight.T + bias. Nothing is scaled "
                "by how much is kept, and the result is (batch, outputs), without a group axis (section 3.1)")
    expect(student(inputs, weight, torch.zeros_like(everything), bias)).close(
        bias.expand(4, 5), because="masks of zeros drop every weight and nothing else: the bias is never masked, in "
                                   "no group (B.3.2)")


@masked_linear.property("one mask multiplies the weights, entry by entry")
def _(student, ref, draw):
    for batch, outputs, inner in [(2, 5, 3), (5, 3, 6), (4, 4, 4)]:
        inputs, weight = draw.normal(batch, inner), draw.normal(outputs, inner)
        mask, bias = coins(draw, 1, outputs, inner), draw.normal(outputs)
        mask[0, :2, :2] = torch.tensor([[1, 0], [1, 0]])                # neither open nor closed, nor symmetric
        mask[0, 2] = 0                                                  # an output that only has its bias
        for given in (bias, None):
            expect(student(inputs, weight, mask, given)).close(
                row_by_row(inputs, weight, mask, given),
                because="with one group the weights are weight * masks[0], both (outputs, inputs): the mask drops "
                        "single connections, no whole inputs or outputs, and it keeps where it is 1 (section 3.1; "
                        "bias may be None)")


@masked_linear.property("each block of consecutive rows sees its own mask, and the rows keep their order", points=2)
def _(student, ref, draw):
    for groups, batch, outputs, inner in [(2, 6, 5, 4), (3, 6, 4, 5), (4, 16, 4, 4), (3, 3, 4, 5)]:
        inputs, weight, bias = draw.normal(batch, inner), draw.normal(outputs, inner), draw.normal(outputs)
        several = coins(draw, groups, outputs, inner)
        several[:, 0], several[:, 1] = 1, 0
        several[torch.arange(groups), 0, torch.arange(groups)] = 0      # so that no two are alike
        expect(student(inputs, weight, several, bias)).close(
            row_by_row(inputs, weight, several, bias),
            because=f"the {batch} rows are {groups} blocks of {batch // groups}: the first {batch // groups} see "
                    "masks[0], the next masks[1], as if each block went through a layer of its own. The blocks are "
                    "consecutive, as in all other layers: dealing the rows out in turn would give a row different "
                    "samples in different layers (B.3.2)")


@masked_linear.property("weight and bias are frozen: gradients reach inputs and masks only, and the arguments stay")
def _(student, ref, draw):
    inputs, weight, bias = draw.normal(6, 4), draw.normal(5, 4), draw.normal(5)
    several, back = coins(draw, 2, 5, 4), draw.normal(6, 5)
    several[:, 3] = 0
    call = student.call(inputs, weight, several, bias)
    unchanged(call, LAYER_ARGUMENTS)
    arguments = [tensor.requires_grad_() for tensor in (inputs, weight, several, bias)]
    call = student.call(*arguments, cotangent=back)
    expect(call.value).close(row_by_row(*arguments), because="each block of rows sees its own mask (section 3.1)")
    for name, path in [("weight", "1"), ("bias", "3")]:
        got = call.gradients[path]
        expect(got, f"the gradient of {name}").holds(
            got is None or not got.any(),
            because=f"{name} is that of a finished network: masks are found around it, it must not learn along. "
                    "Detach it, and nothing else (section 3.1)", expected="no gradient")
    wanted = gradients(ref(*arguments), (inputs, several), back)
    for name, path, gradient in zip(("inputs", "masks"), "02", wanted, strict=True):
        expect(call.gradients[path], f"the gradient of {name}").close(
            gradient,
            because=f"the gradient of {name} is not that of inputs (weight * masks[g])^T: that of a mask is the "
                    "weight's gradient times the weight, at dropped weights too, and sums over the rows of its own "
                    "block (Eq. 3.2, section 3.1)")


# the regulariser --------------------------------------------------------------------------------------------------

mask_regulariser = exercise(masks.mask_regulariser, hints=(
    "Every weight should pay the same for being kept, whatever its logit is by now. Which function has the same slope "
    "everywhere?",
    "Section 3.1: r = alpha times the sum of all logits, and B.3.2 says what is printed: beta = batch times alpha.",
    "alpha = <beta over batch>; the sum runs over the tensors of logits.values() and within each over all entries. No "
    "sigmoid, no mean, no absolute value.",
))


def set_of_logits(draw):
    """Three tensors of different size and rank, above zero in sum, as the layers of a network have them."""
    return {"first.weight": draw.normal(3, 5) + 2, "first.bias": draw.normal(7) - 1,
            "second.weight": draw.normal(2, 4, 2) + 2}


def total_one_by_one(logits):
    return sum(value for part in logits.values() for value in part.flatten().tolist())


def expect_price(student, logits, beta, batch, because):
    """The call, with gradients, once its value is beta / batch times the sum of all logits."""
    leaves = {name: part.detach().requires_grad_() for name, part in logits.items()}
    call = student.call(leaves, beta, batch, gradients=True)
    wanted = torch.tensor(beta / batch * total_one_by_one(logits), dtype=torch.float64)
    new = isinstance(call.value, Tensor) and call.value.dtype != wanted.dtype and not any(
        part is not None for part in call.gradients.values())
    if new or isinstance(call.value, float):
        raise Failed("no gradient reaches the logits: the price is computed outside torch. .item(), float() and a new "
                     "torch.tensor(...) make a number that knows nothing of the logits; add up tensors instead",
                     "a tensor with a gradient", "a new tensor without one" if new else "a plain number")
    expect(call.value).close(wanted, because=because)
    return call


@mask_regulariser.property("the price is beta / batch times the sum of all logits of all tensors")
def _(student, ref, draw):
    for count in (1, 3):
        logits = dict(list(set_of_logits(draw).items())[-count:])
        beta, batch = float(draw.uniform(1, low=0.1, high=0.9)), 3 + draw.integer(5)
        expect_price(
            student, logits, beta, batch,
            because="r = alpha (l1 + l2 + ...) over every entry of every tensor, as a scalar: the raw logits, summed, "
                    "not averaged, and not their sigmoids (section 3.1); alpha = beta / batch (B.3.2)")


@mask_regulariser.property("every logit is pulled down by beta / batch, however large or small it is", points=2)
def _(student, ref, draw):
    logits = set_of_logits(draw)
    logits["first.weight"][0, :3] = torch.tensor([9, -9, 0])
    logits["second.weight"] *= 4
    beta, batch = float(draw.uniform(1, low=0.1, high=0.9)), 6
    call = student.call(logits, beta, batch)
    sets_unchanged(call, ("logits",))
    call = expect_price(student, logits, beta, batch, because="r = alpha times the sum of all logits (section 3.1)")
    for name, part in logits.items():
        expect(call.gradients[f"0.{name}"], f"the gradient of {name}").close(
            torch.full_like(part, beta / batch),
            because="dr/dl = alpha for each logit of each tensor: it is positive, so descent lowers the logits; it is "
                    "as strong at 9 as at 0, where a sigmoid's slope would have vanished; and it goes on below 0 "
                    "(section 3.1)")


@mask_regulariser.property("it grows with beta and falls with the batch")
def _(student, ref, draw):
    logits, beta = set_of_logits(draw), float(draw.uniform(1, low=0.1, high=0.9))
    for times, batch in [(1, 1), (3, 1), (1, 8), (2, 128)]:
        expect_price(
            student, logits, times * beta, batch,
            because=f"alpha is beta / batch, and r is proportional to it: here beta is {number(times * beta)} and the "
                    f"batch {batch}. A batch of 1 shows beta itself (B.3.2)")


@mask_regulariser.property("logits below zero make it negative, and cutting a tensor in two changes nothing")
def _(student, ref, draw):
    below = {"weight": -draw.uniform(3, 4, low=1, high=5)}
    expect_price(
        student, below, 0.5, 4,
        because="all logits are negative here, and so is r: it has no lower bound, no absolute value or "
                "square is taken, and it is not cut off at 0 (section 3.1)")
    part, rest = below["weight"][:1], below["weight"][1:]
    expect_price(
        student, {"part": part, "rest": rest}, 0.5, 4,
        because="the same logits, as one tensor before and as two of different size now: each logit counts "
                "the same, wherever it lies, so do not average within or over tensors (section 3.1)")


# how strong the regulariser may be ------------------------------------------------------------------------------

calibrate_beta = exercise(masks.calibrate_beta, hints=(
    "Turn one knob from weak to strong and watch all networks. At which moment do you stop, and which of the settings "
    "tried so far is then yours? What does a later recovery tell you?",
    "Appendix B.3.3: raise beta while every network stays above keep times its own unmasked accuracy, then step back "
    "to the last beta that did. accuracies are (betas, seeds) and unmasked (seeds,), so the comparison is one "
    "expression; all over the seeds leaves one yes or no for each beta.",
    "order = betas.argsort(); kept = (accuracies > <share of unmasked> + 1e-6).all(<the axis of the seeds>)[order]. "
    "kept.cumprod(0) is 1 up to the first no, and its sum is the number of betas you may climb: none is a ValueError, "
    "otherwise yours is betas[order[<that number, less one>]], as a float.",
))


def scan(draw, shares, unmasked, order=None):
    """betas, accuracies, unmasked: shares of the unmasked accuracies from the smallest beta up, listed in an order."""
    order = order or [0, *range(len(shares) - 1, 0, -1)]
    steps = torch.arange(len(order), dtype=torch.float64) / 2 + draw.uniform(len(order), high=0.3)
    betas = torch.tensor([float(f"{10 ** (step - 5):.2g}") for step in steps.tolist()], dtype=torch.float64)
    shares, unmasked = (torch.tensor(part, dtype=torch.float64) for part in (shares, unmasked))
    shares = shares if shares.dim() == 2 else shares[:, None].expand(-1, len(unmasked))
    return betas[order], (shares * unmasked)[order], unmasked


def climbs(student, given, step, because, **keep):
    """Fail unless the answer is a plain float: the beta on this step of the climb, counted from 0 at the smallest."""
    betas, accuracies, unmasked = given
    climb = betas.argsort()
    wanted = float(betas[climb[step]])
    rows = ["accuracy of each network, from the smallest beta up"]
    rows += [f"beta {number(betas[i])}: " + ", ".join(map(number, accuracies[i])) for i in climb.tolist()]
    rows.append("unmasked: " + ", ".join(map(number, unmasked)))
    try:
        call = student.call(*given, **keep)
    except Raised as error:
        if error.type_name != "ValueError":
            raise
        raise Failed(because, number(wanted), f"ValueError: {error.text}", "\n".join([*rows, error.where])) from None
    unchanged(call, ("betas", "accuracies", "unmasked"))
    got = call.value
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise Failed("the result is not a plain number" + ("; does every path return something?" if got is None else
                     "; float() or .item() makes one"), "a float", describe(got))
    if not abs(got - wanted) <= 1e-6 * wanted:
        raise Failed(because, number(wanted), number(got), "\n".join(rows))


@calibrate_beta.property("one network: the largest beta under which it keeps its share, wherever that is listed")
def _(student, ref, draw):
    for shares, order, keep, step in [
        ([0.98, 0.99, 0.98, 0.97, 0.94, 0.6, 0.2], [0, 2, 5, 1, 4, 6, 3], {}, 3),
        ([0.98, 0.93, 0.85, 0.7, 0.3], [1, 0, 4, 2, 3], {"keep": 0.8}, 2),
        ([1, 0.96, 0.9, 0.5], [0, 2, 1, 3], {"keep": 0.3}, 3),
    ]:
        limit = keep.get("keep", 0.95)
        climbs(student, scan(draw, shares, [1.0], order), step, **keep,
               because=f"the network is perfect without a mask, and keep is {limit}: raise beta from the smallest "
                       f"up as long as the accuracy is above {limit}, then step back to the last that was. It is a "
                       "beta of the list that is asked for, not its place, nor one in between; the list is in no "
                       "order, and row i of accuracies belongs to betas[i] (B.3.3)")


@calibrate_beta.property("every network must keep the share, and each of its own unmasked accuracy")
def _(student, ref, draw):
    for shares, unmasked, keep, step, because in [
        ([[0.98, 0.97], [0.9, 0.8], [0.65, 0.64], [0.595, 0.59], [0.3, 0.1]], [0.9, 0.7], {"keep": 0.6}, 2,
         "keep is a share: 0.6 of the 0.9 that the first network had without a mask, 0.6 of 0.7 for the second, so "
         "0.54 and 0.42. It is no accuracy of 0.6, no loss of 0.4, no share of a mean or of what the weakest mask "
         "left"),
        ([[1, 1, 1], [0.98, 1, 0.99], [0.8, 1, 1], [0.6, 0.7, 0.98]], [0.5, 0.9, 0.95], {}, 1,
         "under the third beta the first network falls to 80 % of what it could, and others do not make up for it: "
         "their mean and their median look fine, but masks of its parts would tell nothing"),
        ([[1, 0.99, 1], [1, 0.99, 0.98], [1, 0.88, 1], [0.7, 0.6, 0.8]], [0.9, 0.95, 0.9], {}, 1,
         "under the third beta the second network falls to 88 % of what it could, and others do not make up for it"),
        ([[1, 0.97], [0.99, 0.98], [0.99, 0.8], [0.6, 0.7]], [0.6, 0.9], {}, 1,
         "under the third beta the second network falls to 80 % of what it could, and is still better than the first: "
         "each is compared with itself, not with the worst, the mean or the best of them"),
    ]:
        climbs(student, scan(draw, shares, unmasked), step, **keep,
               because=f"{because}. A beta keeps enough where accuracy > keep * unmasked for every network (B.3.3)")


@calibrate_beta.property("the climb ends at the first beta that drops: what recovers above it is luck")
def _(student, ref, draw):
    for shares, unmasked, step in [
        ([1, 0.98, 0.9, 0.97, 0.3], [1.0], 1),
        ([[1, 1], [0.99, 0.98], [0.98, 0.97], [0.6, 0.7], [0.98, 0.99], [0.99, 0.98]], [0.99, 1.0], 2),
        ([[0.99, 0.98], [0.93, 0.94], [0.97, 0.98], [0.7, 0.5]], [1.0, 0.98], 0),
    ]:
        climbs(student, scan(draw, shares, unmasked), step,
               because="raise beta until the accuracy drops, then step back: one that drops ends the climb, also where "
                       "a larger beta looks fine again. The answer and every smaller one must keep enough: neither the "
                       "largest that does counts, nor how many do (B.3.3)")


@calibrate_beta.property("exactly the share is not above it, however floats round", points=0.5)
def _(student, ref, draw):
    for unmasked, keep in [(1.0, 0.75), (0.73, 0.7), (0.77, 0.6), (0.97, 0.7), (0.96, 0.95)]:
        tie = round(unmasked * keep, 3)
        betas, _, whole = scan(draw, [1, 1, 1], [unmasked], [1, 2, 0])
        accuracies = torch.tensor([[tie + 0.001], [tie], [unmasked]], dtype=torch.float64)
        floats = f"{keep} * {unmasked} is {keep * unmasked!r} and {tie} / {unmasked} is {tie / unmasked!r}"
        climbs(student, (betas, accuracies, whole), 1, keep=keep,
               because=f"{keep} of {unmasked} is {tie}: an accuracy of {number(tie + 0.001)} is above it and kept, one "
                       f"of {tie} is not (B.3.3, above 95 %)"
                       + f". In floats {floats}: ask for 1e-6 more than the share" * (unmasked < 1))


@calibrate_beta.property("where not even the smallest beta keeps enough, it says so with a ValueError", points=0.5)
def _(student, ref, draw):
    climbs(student, scan(draw, [[0.99, 0.98], [0.97, 0.8]], [1.0, 0.98]), 0,
           because="the smaller beta keeps enough, the larger one does not (B.3.3)")
    for shares in ([0.9, 0.5, 0.2], [[0.99, 0.6], [0.5, 0.4]], [0.9, 0.97, 0.98]):
        betas, accuracies, unmasked = scan(draw, shares, [0.9, 0.8])
        wrapped = ""
        try:
            value = student(betas, accuracies, unmasked)
            got = describe(value)
            keeps = (accuracies[betas.argmax()] > 0.95 * unmasked).all()
            if isinstance(value, float) and value == betas.max() and not keeps:
                wrapped = (" Here the largest beta came back: is its place 0 - 1? As an index -1 is no "
                           "error, it wraps around to the last entry.")
        except Raised as error:
            if error.type_name == "ValueError":
                student.calls.pop()         # a refusal that is right does not tell one mistake from another
                continue
            got = f"{error.type_name}: {error.text}"
        raise Failed("no beta here is weak enough, the smallest already costs too much. Any number would look like an "
                     "answer, so raise ValueError and say what to try: smaller betas, or a longer training of the "
                     f"masks (B.3.3).{wrapped}", "a ValueError", got)


# overlap ----------------------------------------------------------------------------------------------------------

def two_masks(draw, shape, both, first, second):
    """Two masks at random places: `both` weights in common, `first` and `second` more in only one of them."""
    places, made = draw.permutation(math.prod(shape)), torch.zeros(2, math.prod(shape), dtype=torch.bool)
    made[0, places[:both + first]] = True
    made[1, places[:both]] = True
    made[1, places[both + first:both + first + second]] = True
    return made[0].view(shape), made[1].view(shape)


def two_sets(draw, **tensors):
    """Mask sets from name=(shape, both, first, second)."""
    made = {name: two_masks(draw, *how) for name, how in tensors.items()}
    return {name: pair[0] for name, pair in made.items()}, {name: pair[1] for name, pair in made.items()}


def kept_places(masks):
    """Per tensor, and in "total" for all of them, the set of (tensor, index) that are kept."""
    places = {name: {(name, i) for i, kept in enumerate(mask.flatten().tolist()) if kept}
              for name, mask in masks.items()}
    return places | {"total": set().union(*places.values())}


def expect_number(got, wanted, because, where):
    """A plain number, as near as a division in float32 comes."""
    if isinstance(got, Tensor) or not isinstance(got, int | float):
        raise Failed(f"{where}: this is not a plain number; float() or .item() makes one", "a float", describe(got))
    if not math.isclose(got, wanted, rel_tol=1e-5, abs_tol=1e-9):
        raise Failed(because, number(wanted), number(got), where)


def expect_numbers(got, wanted, because):
    """A dict of plain numbers under the wanted names."""
    if not isinstance(got, dict):
        raise Failed("the result is no dict from names to numbers" + ("; does every path return something?"
                     if got is None else ""), "a dict with " + ", ".join(wanted), describe(got))
    if set(got) != set(wanted):
        raise Failed('the result has one number for every tensor of the masks, under its name, and one under "total"',
                     ", ".join(wanted), ", ".join(map(str, got)))
    for name, value in wanted.items():
        expect_number(got[name], value, because, f"under {name!r}")


iou = exercise(masks.iou, hints=(
    "Think of each mask as the set of weights it keeps. How many are in both? How many in at least one? Who counts "
    "twice when you add the two sizes?",
    "Section 3.1: IoU = |A and B| / |A or B|, and |A or B| = |A| + |B| - |A and B|. It is 0/0 when both are empty: "
    "two empty masks are the same mask, so that is a 1.",
    "overlap_counts gives (both, first, second) for every name and for \"total\", already summed: one dict "
    "comprehension over its items(), <both> / <union> if there is a union, else 1.0.",
))


def iou_by_sets(first, second):
    a, b = kept_places(first), kept_places(second)
    return {name: len(a[name] & b[name]) / len(a[name] | b[name]) for name in a}


@iou.property("it is the number of shared weights, divided by the number that either mask keeps")
def _(student, ref, draw):
    for shape, both, more, other in [((3, 5), 2, 5, 3), ((4, 4), 3, 1, 7), ((2, 3, 4), 7, 6, 2 + draw.integer(2))]:
        first, second = two_sets(draw, weight=(shape, both, more, other))
        call = student.call(first, second)
        sets_unchanged(call, ("first", "second"))
        expect_numbers(call.value, iou_by_sets(first, second),
                       because=f"A keeps {both + more} weights here and B {both + other}, {both} of them shared. IoU "
                               "is |A and B| / |A or B|, and the union counts the shared weights once: both sizes "
                               "added, minus what is shared, not one of the sizes, their sum or mean; and nothing is "
                               "added against a zero (section 3.1)")


@iou.property("the same mask has 1, disjoint masks have 0, and a part has its share of the whole")
def _(student, ref, draw):
    for both, more, other, value in [(5, 0, 0, 1), (0, 3, 4, 0), (3, 9, 0, 0.25), (2, 0, 3, 0.4)]:
        first, second = two_sets(draw, weight=((3, 5), both, more, other))
        sizes = f"A has {both + more} weights and B {both + other}, {both} of them shared"
        expect_numbers(student(first, second), {"weight": value, "total": value},
                       because=f"{sizes}, so IoU is {both} / {both + more + other}. Being contained is not enough for "
                               "a 1, that is IoMin: IoU is never above the smaller size over the larger (section 3.1)")


@iou.property("weights that neither mask keeps do not count, and the order of the two does not matter")
def _(student, ref, draw):
    first, second = two_sets(draw, weight=((3, 5), 2, 5, 3))
    wanted, wide = iou_by_sets(first, second), torch.zeros(3, 2 + draw.integer(9), dtype=torch.bool)
    for pair, order in [((first, second), "A comes first"), ((second, first), "B comes first")]:
        expect_numbers(student(*pair), wanted,
                       because=f"A keeps 7 weights and B 5, 2 of them shared, and {order} here: IoU is 2 / 10 in "
                               "either order. |A and B| and |A or B| are the same with A and B swapped (section 3.1)")
    first, second = ({"weight": torch.cat([part["weight"], wide], 1)} for part in (first, second))
    expect_numbers(student(first, second), wanted,
                   because=f"{wide.numel()} weights that both masks drop were added to 15: IoU stays. To drop the "
                           "same weight is no overlap, and the size of the tensor is in no place of the formula "
                           "(section 3.1)")


@iou.property("the total is that of all weights together, not the mean of the tensors")
def _(student, ref, draw):
    first, second = two_sets(draw, small=((2, 3), 3, 1, 0), large=((5, 8), 2, 21, 11), third=((7,), 1, 0, 3))
    expect_numbers(student(first, second), iou_by_sets(first, second),
                   because='every tensor has its own number, and "total" is what all tensors together share, 6 '
                           "weights here, divided by all that either set keeps, 42: large tensors count for more. "
                           "It is no mean of the numbers, weighted or not (IoU, section 3.1)")


@iou.property("two empty masks have 1, an empty and another have 0")
def _(student, ref, draw):
    first, second = two_sets(draw, nothing=((2, 3), 0, 0, 0), one=((4,), 0, 0, 3), both=((3, 5), 2, 5, 3))
    expect_numbers(student(first, second), {"nothing": 1, "one": 0, "both": 0.2, "total": 2 / 13},
                   because="0/0 has to be defined: two masks that keep nothing are the same mask, so 1; a small number "
                           "added below the line would make that 0. An empty one shares nothing with another, so 0, "
                           "from either side. The total counts their weights as it counts all others (IoU, section "
                           "3.1)")
    expect_numbers(student({"one": second["one"]}, {"one": first["one"]}), {"one": 0, "total": 0},
                   because="now the second mask is the empty one: 0 again, in the total too (IoU, section 3.1)")
    first, second = two_sets(draw, weight=((2, 3), 0, 0, 0), bias=((4,), 0, 0, 0))
    expect_numbers(student(first, second), {"weight": 1, "bias": 1, "total": 1},
                   because="no mask of either set keeps anything: equal sets have 1, in total too (IoU, section 3.1)")


iomin = exercise(masks.iomin, hints=(
    "IoU is small when one function needs a few of the weights that another one needs anyway, because the other needs "
    "many more. What would you divide by to get 1 there?",
    "Section 3.1: IoMin = |A and B| / min(|A|, |B|). When the smaller mask is empty that is 0/0: 1 if the other is "
    "empty too, else 0.",
    "overlap_counts gives (both, first, second) for every name and for \"total\", where all are sums already: "
    "<both> / <the smaller size> if neither is empty, else 1.0 or 0.0.",
))


def iomin_by_sets(first, second):
    a, b = kept_places(first), kept_places(second)
    return {name: len(a[name] & b[name]) / min(len(a[name]), len(b[name])) for name in a}


@iomin.property("it is the number of shared weights, divided by the size of the smaller mask")
def _(student, ref, draw):
    for shape, both, more, other in [((3, 5), 2, 5, 1), ((4, 4), 3, 1, 7), ((2, 3, 4), 5, 6, 2)]:
        first, second = two_sets(draw, weight=(shape, both, more, other))
        call = student.call(first, second)
        sets_unchanged(call, ("first", "second"))
        expect_numbers(call.value, iomin_by_sets(first, second),
                       because=f"A keeps {both + more} weights here and B {both + other}, {both} of them shared. "
                               "IoMin is |A and B| / min(|A|, |B|): the smaller of the sizes, whichever mask it is, "
                               "neither the union nor a mean; and nothing is added against a zero (section 3.1)")


@iomin.property("a mask inside another has 1, whichever comes first, and disjoint masks have 0")
def _(student, ref, draw):
    for both, more, other, value in [(3, 8, 0, 1), (4, 0, 9, 1), (5, 0, 0, 1), (0, 3, 4, 0)]:
        first, second = two_sets(draw, weight=((3, 5), both, more, other))
        sizes = f"A has {both + more} weights and B {both + other}, {both} of them shared"
        expect_numbers(student(first, second), {"weight": value, "total": value},
                       because=f"{sizes}, so IoMin is {both} / {min(both + more, both + other)}: it asks whether one "
                               "is contained in the other, however large the other is (section 3.1)")


@iomin.property("weights that neither mask keeps do not count, and the order of the two does not matter")
def _(student, ref, draw):
    first, second = two_sets(draw, weight=((3, 5), 2, 5, 3))
    wanted, wide = iomin_by_sets(first, second), torch.zeros(3, 2 + draw.integer(9), dtype=torch.bool)
    for pair, order in [((first, second), "A comes first"), ((second, first), "B comes first")]:
        expect_numbers(student(*pair), wanted,
                       because=f"A keeps 7 weights and B 5, 2 of them shared, and {order} here: IoMin is 2 / 5 in "
                               "either order. It divides by the smaller size, whichever of the two comes first, and "
                               "neither that nor |A and B| changes when A and B are swapped (section 3.1)")
    first, second = ({"weight": torch.cat([part["weight"], wide], 1)} for part in (first, second))
    expect_numbers(student(first, second), wanted,
                   because=f"{wide.numel()} weights that both masks drop were added to 15: IoMin stays. To drop the "
                           "same weight is no overlap, and the size of the tensor is in no place of the formula "
                           "(section 3.1)")


@iomin.property("the total divides by the smaller of the two total sizes")
def _(student, ref, draw):
    first, second = two_sets(draw, small=((2, 3), 2, 0, 3), large=((5, 8), 4, 19, 7), third=((7,), 1, 1, 4))
    expect_numbers(student(first, second), iomin_by_sets(first, second),
                   because="A keeps 27 weights in all and B 21, although A is the smaller one in two of the three "
                           "tensors; 7 are shared. The total adds up both sizes over the tensors and then takes "
                           "the smaller. It is no mean of the tensors' numbers, and not divided by the sum of "
                           "their smaller sizes (IoMin, section 3.1)")


@iomin.property("two empty masks have 1, an empty and another have 0")
def _(student, ref, draw):
    first, second = two_sets(draw, nothing=((2, 3), 0, 0, 0), one=((4,), 0, 0, 3), both=((3, 5), 2, 5, 3))
    expect_numbers(student(first, second), {"nothing": 1, "one": 0, "both": 0.4, "total": 2 / 7},
                   because="0/0 has to be defined: two masks that keep nothing are the same mask, so 1; a small number "
                           "added below the line would make that 0. An empty one is inside any other, yet they share "
                           "nothing: 0, from either side. The total counts their weights as it counts all others "
                           "(IoMin, section 3.1)")
    expect_numbers(student({"one": second["one"]}, {"one": first["one"]}), {"one": 0, "total": 0},
                   because="now the second mask is the empty one: 0 again, in the total too (IoMin, section 3.1)")
    first, second = two_sets(draw, weight=((2, 3), 0, 0, 0), bias=((4,), 0, 0, 0))
    expect_numbers(student(first, second), {"weight": 1, "bias": 1, "total": 1},
                   because="no mask of either set keeps anything: equal sets have 1, in total too (IoMin, section 3.1)")


expected_overlap = exercise(masks.expected_overlap, hints=(
    "Take one weight of A. If B were thrown onto the tensor at random, |B| weights on n places, how likely would it "
    "hit this one? How many of A's weights does it hit on average?",
    "A tensor's expected intersection is |A| |B| / n; from there IoU and IoMin are what they always are. The "
    "expectation of a sum is the sum of the expectations: so what is added up for the total, and what is not?",
    "From overlap_counts(first, second) take the sizes of every tensor, not of \"total\". Make Counts(<expected "
    "intersection, with the numel of this tensor>, a, b) for each, and Counts of the three sums under \"total\". Then "
    "one dict comprehension: (both / (a + b - both), both / min(a, b)) where neither is empty, else twice 1.0 or 0.0.",
))


def overlap_by_shifts(first, second):
    """The mean intersection over all n ways to shift the second mask along its tensor; IoU and IoMin of the means."""
    counts = {}
    for name in first:
        a, b = first[name].flatten().tolist(), second[name].flatten().tolist()
        shared = [sum(map(min, a, b[shift:] + b[:shift])) for shift in range(len(a))]
        counts[name] = sum(shared) / len(shared), sum(a), sum(b)
    counts["total"] = tuple(map(sum, zip(*counts.values(), strict=True)))
    return {name: (both / (a + b - both), both / min(a, b)) for name, (both, a, b) in counts.items()}


def expect_pairs(got, wanted, because):
    """A dict of two plain numbers under each of the wanted names."""
    if not isinstance(got, dict):
        raise Failed("the result is no dict from names to pairs of numbers" + ("; does every path return something?"
                     if got is None else ""), "a dict with " + ", ".join(wanted), describe(got))
    if set(got) != set(wanted):
        raise Failed('the result has one pair for every tensor of the masks, under its name, and one under "total"',
                     ", ".join(wanted), ", ".join(map(str, got)))
    for name, pair in wanted.items():
        if not isinstance(got[name], tuple | list) or len(got[name]) != 2:
            raise Failed(f"what stands under {name!r} is not a pair of numbers", "a tuple (IoU, IoMin)",
                         describe(got[name]))
        for what, value, number_got in zip(("IoU", "IoMin"), pair, got[name], strict=True):
            expect_number(number_got, value, because, f"the {what} under {name!r}")


@expected_overlap.property("by chance two masks of a tensor share |A| |B| / n weights; IoU and IoMin follow from that")
def _(student, ref, draw):
    for shape, both, more, other in [((3, 5), 2, 5, 2), ((4, 4), 5, 1, 6), ((2, 3, 4), 6, 2, 4 + draw.integer(2))]:
        first, second = two_sets(draw, weight=(shape, both, more, other))
        call = student.call(first, second)
        sets_unchanged(call, ("first", "second"))
        a, b, n = both + more, both + other, math.prod(shape)
        expect_pairs(call.value, overlap_by_shifts(first, second),
                     because=f"A keeps {a} and B {b} of {n} weights. Placed independently, each weight of A meets one "
                             f"of B with a chance of {b}/{n}, so {a} * {b} / {n} = {number(a * b / n)} are shared on "
                             "average: no whole number, and no draw. Divide that by the union, both sizes less what is "
                             "shared, for IoU, then by the smaller size for IoMin. What they really share does not "
                             "enter")


@expected_overlap.property("n counts every weight of the tensor, kept or not")
def _(student, ref, draw):
    first, second = two_sets(draw, weight=((3, 5), 0, 6, 5))
    for columns in (2, 4 + draw.integer(5)):
        wide = torch.zeros(3, columns, dtype=torch.bool)
        pair = [{"weight": torch.cat([part["weight"], wide], 1)} for part in (first, second)]
        expect_pairs(student(*pair), overlap_by_shifts(*pair),
                     because=f"A keeps 6 weights and B 5, and n is {15 + wide.numel()}, the numel of the tensor: the "
                             "weights that both drop are places where a mask could have been. More of them make a "
                             "meeting rarer. n is not the union, not the sum of the sizes and not one side of the "
                             "tensor")
    for shape, size in [((3, 5), 4), ((1,), 1)]:
        n = math.prod(shape)
        first, second = two_sets(draw, weight=(shape, size, n - size, 0))
        expect_pairs(student(first, second), {"weight": (size / n, 1), "total": (size / n, 1)},
                     because=f"A keeps all {n} weights, so B lies inside it wherever it is placed: IoMin is 1, and IoU "
                             f"the share that B keeps, {size} / {n}")


@expected_overlap.property("only the sizes count: not where the masks lie, and not which comes first")
def _(student, ref, draw):
    for both, where in [(0, "disjoint"), (5, "one inside the other"), (2, "partly the same")]:
        first, second = two_sets(draw, weight=((2, 3, 4), both, 6 - both, 5 - both))
        for pair in [(first, second), (second, first)]:
            expect_pairs(student(*pair), {"weight": (5 / 39, 1 / 4), "total": (5 / 39, 1 / 4)},
                         because=f"6 and 5 of 24 weights, {where}: independent masks of these sizes share 1.25 "
                                 "weights on average, however the given ones lie. This is what their real overlap "
                                 "is to be compared with, so nothing of it may be in here")


@expected_overlap.property("the total adds up what the tensors are expected to share, each with its own n")
def _(student, ref, draw):
    first, second = two_sets(draw, small=((2, 3), 4, 1, 1), large=((5, 8), 1, 3, 5), third=((7,), 0, 5, 1))
    expect_pairs(student(first, second), overlap_by_shifts(first, second),
                 because="the tensors have 6, 40 and 7 weights: 5 * 5 / 6 + 4 * 6 / 40 + 5 * 1 / 7 = 5.481 are shared "
                         "by chance, of 14 in A and 12 in B. Divide that by 14 + 12 - 5.481 and by 12. From all "
                         "densities together it would be 14 * 12 / 53 = 3.170, but no weight of a mask may move to "
                         "another tensor, and both are dense in the small one. No mean of the tensors' numbers, and "
                         "no sum of their smaller sizes")
    first, second = two_sets(draw, one=((3, 4), 1, 8, 1), two=((2, 5), 1, 0, 7))
    expect_pairs(student(first, second), overlap_by_shifts(first, second),
                 because="9 * 2 / 12 + 1 * 8 / 10 = 2.3 weights are shared by chance, of 10 in each set: here where "
                         "the one is dense the other is not, so it is less than 10 * 10 / 22 = 4.545")


@expected_overlap.property("two empty masks have 1, an empty and another have 0")
def _(student, ref, draw):
    first, second = two_sets(draw, nothing=((2, 3), 0, 0, 0), one=((4,), 0, 0, 3), both=((3, 5), 2, 5, 3))
    expect_pairs(student(first, second), {"nothing": (1, 1), "one": (0, 0), "both": (7 / 29, 7 / 15),
                                          "total": (7 / 38, 1 / 3)},
                 because="the conventions are those of iou and iomin: two masks that keep nothing are the same mask, "
                         "so 1 twice, where a small number added below the line would make 0; an empty one shares "
                         "nothing with another, so 0 twice. The total counts the "
                         "weights of every tensor: 7 in A, 8 in B, and 0 + 0 + 7 * 5 / 15 expected to be shared")
    expect_pairs(student({"one": second["one"]}, {"one": first["one"]}), {"one": (0, 0), "total": (0, 0)},
                 because="now the second mask is the empty one: 0 again, in the total too")
    first, second = two_sets(draw, weight=((2, 3), 0, 0, 0), bias=((4,), 0, 0, 0))
    expect_pairs(student(first, second), {"weight": (1, 1), "bias": (1, 1), "total": (1, 1)},
                 because="no mask of either set keeps anything: equal sets have 1, in total too")
    first, second = two_sets(draw, weight=((2, 3), 0, 6, 0), bias=((4,), 0, 0, 4))
    expect_pairs(student(first, second), {"weight": (0, 0), "bias": (0, 0), "total": (0, 0)},
                 because="each set keeps all of one tensor and nothing of the other: neither set is empty, but they "
                         "have no chance to meet, so the total is 0")
