"""Chapter 3: the likely mistakes of each exercise, and other right solutions."""

from grader.checks.masks import (
    calibrate_beta,
    expected_overlap,
    gumbel_sigmoid,
    iomin,
    iou,
    mask_regulariser,
    masked_linear,
    straight_through,
)
from grader.mutants import alternative, equivalent, mutant

# soft samples -----------------------------------------------------------------------------------------------------

NOISE = "the noise -log(log U1 / log U2) is added to the logit, inside the sigmoid"
SWAPPED = "equal uniforms make no noise, and swapped ones turn it around"
TEMPERATURE = "the temperature divides logit and noise alike, and never decides the side of 1/2"
SAMPLES = "every axis between the pair and the logits' own is one more sample"
ENDS = "uniforms of exactly 0 and 1 give finite samples on the right side, in any float dtype"
SLOPE = "the gradient of a logit is s (1 - s) / temperature, and none is cut off"
PRECISION = "the sample has the logits' dtype, but its noise is computed in float32 at least"

INFO = "info = torch.finfo(uniforms.dtype)"
CLAMP = "uniforms.clamp(info.tiny, 1 - info.eps / 2)"
LOGS = f"torch.log({CLAMP})"
SOFT = "torch.sigmoid((logits - torch.log(first / second)) / temperature).to(logits.dtype)"
FOUND = "(logits - torch.log(first / second)) / temperature"

for name, old, new, told_by in [
    ("takes one logarithm too few: log(U1 / U2)", SOFT, SOFT.replace("torch.log(first / second)", "(first - second)"),
     NOISE),
    ("adds log(log U1 / log U2) instead of subtracting it", SOFT, SOFT.replace("logits -", "logits +"), NOISE),
    ("takes the uniforms for the noise", SOFT, SOFT.replace("torch.log(first / second)", "(uniforms[0] - uniforms[1])"),
     NOISE),
    ("takes both logarithms of the same uniform", LOGS, f"{LOGS}[[0, 0]]", NOISE),
    ("adds the first Gumbel only", SOFT, SOFT.replace("torch.log(first / second)", "torch.log(-first)"), NOISE),
    ("adds the two Gumbels up", SOFT, SOFT.replace("first / second", "first * second"), NOISE),
    ("adds normal noise and ignores the uniforms", SOFT, SOFT.replace(
        "- torch.log(first / second)", "+ torch.randn(first.shape)"), NOISE),
    ("draws its own uniforms", LOGS, LOGS.replace("uniforms.", "torch.rand_like(uniforms)."), NOISE),
    ("forgets the noise", SOFT, "torch.sigmoid(logits / temperature)", NOISE),
    ("adds the noise to the probability", SOFT,
     "(torch.sigmoid(logits) - torch.log(first / second) / temperature).to(logits.dtype)", NOISE),
    ("takes the sigmoid twice", SOFT, SOFT.replace("logits -", "torch.sigmoid(logits) -"), NOISE),
    ("forgets the sigmoid", SOFT, f"({FOUND}).to(logits.dtype)", NOISE),
    ("makes the sample hard", SOFT, f"({FOUND} > 0).to(logits.dtype)", NOISE),
    ("cuts the noise off at uniforms of 0.01 and 0.99", CLAMP, "uniforms.clamp(0.01, 0.99)", NOISE),
    ("divides only the logits by the temperature", SOFT, SOFT.replace(
        FOUND, "logits / temperature - torch.log(first / second)"), TEMPERATURE),
    ("divides only the noise by the temperature", SOFT, SOFT.replace(
        FOUND, "logits - torch.log(first / second) / temperature"), TEMPERATURE),
    ("multiplies by the temperature", SOFT, SOFT.replace("/ temperature", "* temperature"), TEMPERATURE),
    ("ignores the temperature", SOFT, SOFT.replace(" / temperature", ""), TEMPERATURE),
    ("divides the sample by the temperature", SOFT,
     SOFT.replace(" / temperature)", ")").replace(".to", ".div(temperature).to"), TEMPERATURE),
    ("gives all samples the noise of the first", LOGS, LOGS.replace(
        "uniforms.", "(uniforms if uniforms.dim() == logits.dim() + 1 else uniforms[:, :1].expand_as(uniforms))."),
     SAMPLES),
    ("averages over the samples", SOFT, f"(lambda s: s if s.dim() == logits.dim() else s.mean(0))({SOFT})", SAMPLES),
    ("takes the last pair of axes for U1 and U2 where there are two", LOGS, LOGS.replace(
        "uniforms.", "(uniforms.movedim(1, 0) if uniforms.dim() > logits.dim() + 1 and uniforms.shape[1] == 2 "
        "else uniforms)."), SAMPLES),
    ("takes the logarithm of 0", CLAMP, "uniforms", ENDS),
    ("adds 1e-10 inside the logarithms", CLAMP, "uniforms + 1e-10", ENDS),
    ("keeps the uniforms away from 0 only", CLAMP, "uniforms.clamp_min(info.tiny)", ENDS),
    ("clamps the ratio of the logarithms, too late", LOGS, "(lambda u, v: ((u / v).clamp(1e-10, 1e10), "
     "torch.ones_like(v)))(*torch.log(uniforms))", ENDS),
    ("computes the noise in the logits' dtype, with the bounds of another", CLAMP, CLAMP.replace(
        "uniforms.", "uniforms.to(logits.dtype)."), ENDS),
    ("computes the noise in the logits' dtype, however coarse", INFO,
     f"uniforms = uniforms.to(logits.dtype)\n    {INFO}", PRECISION),
    ("rounds the uniforms to the logits' dtype before it computes the noise", CLAMP, CLAMP.replace(
        "uniforms.", "uniforms.to(logits.dtype).to(uniforms.dtype)."), PRECISION),
    ("returns the dtype of the uniforms", SOFT, SOFT.replace(".to(logits.dtype)", ""), PRECISION),
    ("returns float32 for logits in half precision", SOFT, SOFT.replace(
        "logits.dtype", "torch.promote_types(logits.dtype, torch.float32)"), PRECISION),
    ("cuts the sample off at 1e-6 and 1 - 1e-6", SOFT, SOFT + ".clamp(1e-6, 1 - 1e-6)", SLOPE),
    ("cuts the sum of logit and noise off at 14 and -14", SOFT, SOFT.replace(FOUND, f"({FOUND}).clamp(-14, 14)"),
     SLOPE),
    ("clamps the given uniforms in place", CLAMP, CLAMP.replace("clamp", "clamp_"), ENDS),
    ("detaches the logits", SOFT, SOFT.replace("logits -", "logits.detach() -"), SLOPE),
    ("divides by the temperature in the value, but not in the gradient", SOFT, SOFT.replace(
        FOUND, f"logits + ({FOUND} - logits).detach()"), SLOPE),
]:
    mutant(name, gumbel_sigmoid, old, new, told_by)

for change in ("line 2, column 60: / becomes *", "line 2, column 60: only the left of /",
               "line 2, column 71: 2 becomes 3"):
    equivalent(gumbel_sigmoid, change, "how far below 1 the upper bound lies is free: eps / 2, eps / 3, eps and 2 eps "
               "all keep the noise finite, and none is felt at uniforms that are not within an eps of 1")

alternative("a difference of two Gumbels", gumbel_sigmoid, '''
    def gumbel_sigmoid(logits, uniforms=None, temperature=1.0, *, generator=None):
        if uniforms is None:
            uniforms = torch.rand((2, *logits.shape), generator=generator, dtype=logits.dtype)
        dtype = torch.promote_types(uniforms.dtype, torch.float32)
        gumbel = -torch.log(-torch.log(uniforms.to(dtype).clamp(1e-7, 1 - 1e-7)))
        return torch.sigmoid((logits + gumbel[0] - gumbel[1]) / temperature).to(logits.dtype)
''')
alternative("a softmax over keeping and dropping", gumbel_sigmoid, '''
    def gumbel_sigmoid(logits, uniforms=None, temperature=1.0, *, generator=None):
        u = uniforms.float() if uniforms.dtype in (torch.float16, torch.bfloat16) else uniforms
        u = torch.where(u <= 0, torch.finfo(u.dtype).tiny, torch.where(u >= 1, 1 - torch.finfo(u.dtype).eps, u))
        keep, drop = -torch.log(-torch.log(u))
        scores = torch.stack([(logits + keep) / temperature, drop / temperature], -1)
        return torch.softmax(scores, -1).select(-1, 0).type_as(logits)
''')
alternative("in float32, whatever comes", gumbel_sigmoid, '''
    def gumbel_sigmoid(logits, uniforms=None, temperature=1.0, *, generator=None):
        first, second = uniforms.float().clamp(1e-30, 1 - 2**-24).log()
        noise = second.neg().log() - first.neg().log()
        return logits.float().add(noise).div(temperature).sigmoid().to(logits.dtype)
''')
alternative("one over one plus an exponential", gumbel_sigmoid, '''
    def gumbel_sigmoid(logits, uniforms=None, temperature=1.0, *, generator=None):
        first, second = uniforms.double().clamp(1e-30, 1 - 1e-16).log().neg().log()
        wide = (logits.double() - (first - second)).div(temperature)
        return (1 / (1 + torch.exp(-wide))).to(logits.dtype)
''')

# hard samples -----------------------------------------------------------------------------------------------------

HALF = "a weight is kept where s is above 1/2, and dropped at 1/2 and below"
LAST_BIT = "every value is 0 or 1 to the last bit, in every float dtype"
PASSES = "the gradient passes as if nothing had been rounded: db/ds = 1 on both sides"

HARD = "hard = (soft > 0.5).to(soft.dtype)"
THROUGH = "(hard - soft).detach() + soft"

for name, old, new, told_by in [
    ("returns the soft sample", THROUGH, "soft", HALF),
    ("keeps at exactly 1/2 too", HARD, HARD.replace(">", ">="), HALF),
    ("drops what should be kept", HARD, HARD.replace(">", "<="), HALF),
    ("takes the threshold of a logit, 0", HARD, HARD.replace("0.5", "0"), HALF),
    ("throws the coin again, with s as its probability", HARD, "hard = torch.bernoulli(soft)", HALF),
    ("stops s instead of the difference", THROUGH, "soft.detach() + hard", HALF),
    ("subtracts the wrong way round", THROUGH, "(soft - hard).detach() + soft", HALF),
    ("forgets to add s again", THROUGH, "(hard - soft).detach()", HALF),
    ("keeps the largest of the last axis only", HARD,
     "hard = (soft == soft.amax(-1, keepdim=True)).to(soft.dtype)", HALF),
    ("keeps the soft value where it keeps", THROUGH, "soft * hard", HALF),
    ("makes 1 and -1", HARD, HARD + " * 2 - 1", HALF),
    ("keeps where s is above its mean", HARD, HARD.replace("0.5", "soft.mean()"), HALF),
    ("returns booleans", THROUGH, "soft > 0.5", HALF),
    ("adds s before it subtracts it", THROUGH, "hard + soft - soft.detach()", LAST_BIT),
    ("computes in float32 whatever comes", THROUGH, "((hard - soft).detach() + soft).float()", HALF),
    ("makes its mask in float32, whatever s is", HARD, HARD.replace("soft.dtype", "torch.float32"), LAST_BIT),
    ("subtracts s outside of stop, where its derivative cancels", THROUGH, "hard - soft + soft", PASSES),
    ("gives the hard value without a way back", THROUGH, "hard", PASSES),
    ("passes the gradient of kept weights only", THROUGH, "(hard - soft * hard).detach() + soft * hard", PASSES),
    ("brings in s (1 - s) a second time", THROUGH,
     "hard + (lambda slow: slow - slow.detach())(soft ** 2 / 2 - soft ** 3 / 3)", PASSES),
    ("overwrites the soft sample", THROUGH, "soft.detach().copy_(hard) + 0 * soft", PASSES),
]:
    mutant(name, straight_through, old, new, told_by)

alternative("a difference that is zero", straight_through, '''
    def straight_through(soft):
        hard = torch.where(soft > 0.5, torch.ones_like(soft), torch.zeros_like(soft))
        return hard + (soft - soft.detach())
''')
alternative("a function of its own for autograd", straight_through, '''
    def straight_through(soft):
        class Step(torch.autograd.Function):
            @staticmethod
            def forward(ctx, s):
                return torch.gt(s, 0.5).type_as(s)

            @staticmethod
            def backward(ctx, back):
                return back

        return Step.apply(soft)
''')
alternative("rounding, which takes 1/2 to the even 0", straight_through, '''
    def straight_through(soft):
        with torch.no_grad():
            step = soft.round() - soft
        return soft + step
''')

# a layer with one mask per group ----------------------------------------------------------------------------------

PLAIN = "an open mask leaves the layer as it was, a closed one leaves the bias alone"
ENTRIES = "one mask multiplies the weights, entry by entry"
BLOCKS = "each block of consecutive rows sees its own mask, and the rows keep their order"
FROZEN = "weight and bias are frozen: gradients reach inputs and masks only, and the arguments stay"

SPLIT = "grouped = inputs.unflatten(0, (len(masks), -1)) "
DEALT = "grouped = inputs.unflatten(0, (-1, len(masks))).transpose(0, 1) "
LAYER = 'outputs = torch.einsum("gbi,goi->gbo", grouped, weight.detach() * masks).flatten(0, 1)'
BIAS = "outputs if bias is None else outputs + bias.detach()"

for name, old, new, told_by in [
    ("uses the first mask for the whole batch", LAYER,
     LAYER.replace("* masks", "* masks[:1].expand_as(masks)"), BLOCKS),
    ("uses the last mask for the whole batch", LAYER,
     LAYER.replace("* masks", "* masks[-1:].expand_as(masks)"), BLOCKS),
    ("averages the masks", LAYER, LAYER.replace("* masks", "* masks.mean(0).expand_as(masks)"), BLOCKS),
    ("keeps what all masks keep", LAYER, LAYER.replace("* masks", "* masks.prod(0).expand_as(masks)"), BLOCKS),
    ("takes the masks from last to first", LAYER, LAYER.replace("* masks", "* masks.flip(0)"), BLOCKS),
    ("deals the rows out to the masks in turn", f"{SPLIT}                            # (groups, batch/groups, inputs)\n"
     f"    {LAYER}", DEALT + "\n    " + LAYER.replace(".flatten", ".transpose(0, 1).flatten"), BLOCKS),
    ("deals the rows out in turn and leaves them so", SPLIT, DEALT, BLOCKS),
    ("cuts blocks and then mixes their rows", LAYER, LAYER.replace(".flatten", ".transpose(0, 1).flatten"), BLOCKS),
    ("leaves the groups apart", LAYER, LAYER.replace(".flatten(0, 1)", ""), PLAIN),
    ("sends every row through every mask and adds up", LAYER,
     'outputs = torch.einsum("bi,goi->bo", inputs, weight.detach() * masks)', PLAIN),
    ("masks the opposite weights", LAYER, LAYER.replace("* masks", "* (1 - masks)"), PLAIN),
    ("ignores the masks", LAYER, LAYER.replace("* masks", "* torch.ones_like(masks)"), PLAIN),
    ("masks whole outputs", LAYER, LAYER.replace("* masks", "* masks.amax(2, keepdim=True)"), ENTRIES),
    ("masks whole inputs", LAYER, LAYER.replace("* masks", "* masks.amax(1, keepdim=True)"), ENTRIES),
    ("scales by the share that is kept, as dropout does", LAYER,
     LAYER.replace("* masks", "* masks / masks.mean((1, 2), keepdim=True).clamp_min(1e-9)"), ENTRIES),
    ("adds the mask to the weight", LAYER, LAYER.replace("* masks", "+ masks"), PLAIN),
    ("transposes the mask where it is square", LAYER,
     LAYER.replace("* masks", "* (masks.mT if masks.shape[1] == masks.shape[2] else masks)"), ENTRIES),
    ("transposes the weight where it is square", LAYER, LAYER.replace(
        "weight.detach()", "(weight.detach().mT if len(weight) == weight.shape[1] else weight.detach())"), ENTRIES),
    ("forgets the bias", BIAS, "outputs", PLAIN),
    ("drops the bias of an output without weights", BIAS, "outputs if bias is None else (outputs.unflatten(0, "
     "(len(masks), -1)) + (bias.detach() * masks.amax(2))[:, None]).flatten(0, 1)", PLAIN),
    ("masks the bias by the share of its weights that is kept", BIAS, "outputs if bias is None else (outputs.unflatten("
     "0, (len(masks), -1)) + (bias.detach() * masks.mean(2))[:, None]).flatten(0, 1)", PLAIN),
    ("trains the weight along", LAYER, LAYER.replace("weight.detach()", "weight"), FROZEN),
    ("trains the bias along", BIAS, "outputs if bias is None else outputs + bias", FROZEN),
    ("detaches the masks", LAYER, LAYER.replace("* masks", "* masks.detach()"), FROZEN),
    ("detaches the masked weight", LAYER,
     LAYER.replace("weight.detach() * masks", "(weight * masks).detach()"), FROZEN),
    ("makes the masks hard again", LAYER, LAYER.replace("* masks", "* (masks > 0.5)"), FROZEN),
    ("detaches the inputs", SPLIT, SPLIT.replace("inputs.", "inputs.detach()."), FROZEN),
    ("writes the mask into the weight", LAYER,
     LAYER.replace("weight.detach() * masks", "weight.detach().mul_(masks[0]) * masks"), FROZEN),
]:
    mutant(name, masked_linear, old, new, told_by)

alternative("one group after the other", masked_linear, '''
    def masked_linear(inputs, weight, masks, bias=None):
        bias = None if bias is None else bias.detach()
        blocks = inputs.chunk(len(masks))
        return torch.cat([torch.nn.functional.linear(block, weight.detach() * mask, bias)
                          for block, mask in zip(blocks, masks)])
''')
alternative("a batched matrix product", masked_linear, '''
    def masked_linear(inputs, weight, masks, bias=None):
        groups, outputs, _ = masks.shape
        blocks = inputs.reshape(groups, -1, inputs.shape[1])
        result = torch.bmm(blocks, (masks * weight.data).transpose(1, 2))
        if bias is not None:
            result = result + bias.data
        return result.reshape(-1, outputs)
''')
alternative("a mask for every row", masked_linear, '''
    def masked_linear(inputs, weight, masks, bias=None):
        own = masks.repeat_interleave(inputs.shape[0] // masks.shape[0], dim=0)
        result = (own * weight.detach() * inputs.unsqueeze(1)).sum(-1)
        return result if bias is None else result.add(bias.detach())
''')

# the regulariser --------------------------------------------------------------------------------------------------

PRICE = "the price is beta / batch times the sum of all logits of all tensors"
PULL = "every logit is pulled down by beta / batch, however large or small it is"
ALPHA = "it grows with beta and falls with the batch"
BELOW = "logits below zero make it negative, and cutting a tensor in two changes nothing"

SUM = "sum(part.sum() for part in logits.values())"
WHOLE = f"beta / batch * {SUM}"

for name, new, told_by in [
    ("adds up probabilities instead of logits", WHOLE.replace("part.sum", "part.sigmoid().sum"), PRICE),
    ("adds up softplus, whose slope is the sigmoid",
     WHOLE.replace("part.sum()", "torch.nn.functional.softplus(part).sum()"), PRICE),
    ("counts the weights that are kept", WHOLE.replace("part.sum()", "(part > 0).to(part.dtype).sum()"), PRICE),
    ("averages within each tensor", WHOLE.replace("part.sum", "part.mean"), PRICE),
    ("averages over all logits", WHOLE + " / sum(part.numel() for part in logits.values())", PRICE),
    ("averages over the tensors", WHOLE + " / len(logits)", PRICE),
    ("rewards large logits: the sign is turned", "-" + WHOLE, PRICE),
    ("takes absolute values", WHOLE.replace("part.sum", "part.abs().sum"), PRICE),
    ("takes the absolute value of the sum", f"abs({WHOLE})", BELOW),
    ("takes squares, as weight decay does", WHOLE.replace("part.sum", "part.square().sum"), PRICE),
    ("takes the norm of each tensor", WHOLE.replace("part.sum", "part.norm"), PRICE),
    ("cuts each logit off at 0", WHOLE.replace("part.sum", "part.clamp_min(0).sum"), PRICE),
    ("cuts the price off at 0", f"({WHOLE}).clamp_min(0)", BELOW),
    ("forgets to divide by the batch", f"beta * {SUM}", PRICE),
    ("multiplies by the batch", f"beta * batch * {SUM}", PRICE),
    ("divides by beta", WHOLE.replace("beta / batch", "1 / (beta * batch)"), PRICE),
    ("ignores beta", WHOLE.replace("beta / batch", "1 / batch"), PRICE),
    ("divides by the batch once for each tensor", f"beta / batch ** len(logits) * {SUM}", PRICE),
    ("takes the first tensor only", WHOLE.replace(SUM, "next(iter(logits.values())).sum()"), PRICE),
    ("takes the last tensor only", WHOLE.replace(SUM, "list(logits.values())[-1].sum()"), PRICE),
    ("leaves out tensors with one axis", WHOLE.replace(".values())", ".values() if part.dim() > 1)"), PRICE),
    ("returns one price for each tensor", WHOLE.replace(SUM, "torch.stack([part.sum() for part in logits.values()])"),
     PRICE),
    ("returns a plain number", WHOLE.replace("part.sum()", "part.sum().item()"), PRICE),
    ("makes a new tensor of plain numbers, which no gradient leaves", f"torch.tensor({WHOLE})".replace(
        "part.sum()", "part.sum().item()"), PULL),
    ("detaches the logits", WHOLE.replace("part.sum", "part.detach().sum"), PULL),
    ("stops pulling at logits below 0", WHOLE.replace(
        "part.sum()", "(part.clamp_min(0) + part.clamp_max(0).detach()).sum()"), PULL),
    ("pulls with the slope of the sigmoid", WHOLE.replace(
        "part.sum()", "(part.sigmoid() + (part - part.sigmoid()).detach()).sum()"), PULL),
    ("scales the logits in place", WHOLE.replace("part.sum()", "(part.detach().mul_(beta) / beta).sum()"), PULL),
]:
    mutant(name, mask_regulariser, WHOLE, new, told_by)

alternative("one long vector", mask_regulariser, '''
    def mask_regulariser(logits, beta, batch):
        return torch.cat([part.reshape(-1) for part in logits.values()]).sum() * (beta / batch)
''')
alternative("one tensor after the other", mask_regulariser, '''
    def mask_regulariser(logits, beta, batch):
        alpha, price = beta / batch, 0
        for name in logits:
            price = price + alpha * logits[name].mean() * logits[name].numel()
        return price
''')
alternative("a stack of sums, divided last", mask_regulariser, '''
    def mask_regulariser(logits, beta, batch):
        return torch.stack([torch.sum(part) for part in logits.values()]).sum().mul(beta).div(batch)
''')

# how strong the regulariser may be ------------------------------------------------------------------------------

LARGEST = "one network: the largest beta under which it keeps its share, wherever that is listed"
EVERY = "every network must keep the share, and each of its own unmasked accuracy"
LUCK = "the climb ends at the first beta that drops: what recovers above it is luck"
TIE = "exactly the share is not above it, however floats round"
REFUSES = "where not even the smallest beta keeps enough, it says so with a ValueError"

ABOVE = "accuracies > keep * unmasked + 1e-6"
ROWS = f"({ABOVE}).all(1)"
KEPT = f"kept = {ROWS}[order]"
STEPS = "int(kept.cumprod(0).sum())"
ANSWER = "return betas[order[steps - 1]].item()"
NONE = "if not steps:"

for name, old, new, told_by in [
    ("takes the smallest beta", ANSWER, "return betas.min().item()", LARGEST),
    ("forgets to step back, and takes the first beta that drops", ANSWER,
     "return betas[order[min(steps, len(betas) - 1)]].item()", LARGEST),
    ("steps back twice", ANSWER, "return betas[order[max(steps - 2, 0)]].item()", LARGEST),
    ("returns the place in the list", ANSWER, "return order[steps - 1].item()", LARGEST),
    ("returns how many betas keep enough", ANSWER, "return steps", LARGEST),
    ("returns the accuracy under that beta", ANSWER, "return accuracies[order[steps - 1]].mean().item()", LARGEST),
    ("takes the beta with the highest accuracy", ANSWER, "return betas[accuracies.mean(1).argmax()].item()", LARGEST),
    ("takes the beta whose accuracy is nearest to the limit", ANSWER,
     "return betas[(accuracies - keep * unmasked).abs().mean(1).argmin()].item()", LARGEST),
    ("goes half way to the beta that drops", ANSWER,
     "return (betas[order[steps - 1]] * betas[order[min(steps, len(betas) - 1)]]).sqrt().item()", LARGEST),
    ("takes half of the beta that drops", ANSWER,
     "return betas[order[min(steps, len(betas) - 1)]].item() / 2", LARGEST),
    ("climbs the list as it is given", "betas.argsort()", "torch.arange(len(betas))", LARGEST),
    ("sorts the betas, but not their accuracies", KEPT, f"kept = {ROWS}", LARGEST),
    ("puts the accuracies in order, but looks up the beta in the list as it is given", ANSWER,
     "return betas[steps - 1].item()", LARGEST),
    ("climbs down from the largest beta", "betas.argsort()", "betas.argsort(descending=True)", LARGEST),
    ("sorts by accuracy", "betas.argsort()", "accuracies.mean(1).argsort(descending=True)", LUCK),
    ("returns a tensor", ANSWER, ANSWER.replace(".item()", ""), LARGEST),
    ("always asks for 0.95, whatever keep is", ABOVE, ABOVE.replace("keep *", "0.95 *"), LARGEST),
    ("asks for 1 - keep", ABOVE, ABOVE.replace("keep *", "(1 - keep) *"), LARGEST),
    ("sorts the given betas in place", ANSWER, "return betas.copy_(betas[order])[steps - 1].item()", LARGEST),
    ("asks for an accuracy of keep, whatever it was without a mask", ABOVE, ABOVE.replace("* unmasked", ""), EVERY),
    ("allows a loss of 1 - keep in accuracy", ABOVE, ABOVE.replace("keep * unmasked", "unmasked - (1 - keep)"), EVERY),
    ("compares with the accuracy under the weakest mask", ABOVE, ABOVE.replace("unmasked", "accuracies[order[0]]"),
     EVERY),
    ("asks the mean over the networks", ROWS, "(accuracies.mean(1) > keep * unmasked.mean() + 1e-6)", EVERY),
    ("asks the mean of the networks' shares", ROWS, "((accuracies / unmasked).mean(1) > keep + 1e-6)", EVERY),
    ("asks the median of the networks' shares", ROWS, "((accuracies / unmasked).median(1).values > keep + 1e-6)",
     EVERY),
    ("is content when one network keeps enough", ROWS, ROWS.replace("all", "any"), EVERY),
    ("looks at the first network only", ROWS, f"({ABOVE})[:, 0]", EVERY),
    ("looks at the last network only", ROWS, f"({ABOVE})[:, -1]", EVERY),
    ("compares every network with the mean of the unmasked ones", ABOVE, ABOVE.replace("unmasked", "unmasked.mean()"),
     EVERY),
    ("compares every network with the worst of the unmasked ones", ABOVE, ABOVE.replace("unmasked", "unmasked.min()"),
     EVERY),
    ("takes the mean of the betas that suit each network", f"{STEPS}                              # how many before "
     f"the first that drops\n    {NONE}", f"(({ABOVE})[order].cumprod(0).sum(0))\n    if steps.min() > 0:\n        "
     f"return betas[order][steps - 1].mean().item()\n    if True:", EVERY),
    ("takes the largest beta that keeps enough, whatever smaller ones do", STEPS,
     "int((kept * torch.arange(1, len(betas) + 1)).max())", LUCK),
    ("counts the betas that keep enough, wherever they are", STEPS, "int(kept.sum())", LUCK),
    ("takes a tie for kept", ABOVE, "accuracies >= keep * unmasked - 1e-6", TIE),
    ("compares the floats as they come", ABOVE, "accuracies > keep * unmasked", TIE),
    ("compares the shares as they come", ABOVE, "accuracies / unmasked > keep", TIE),
    ("rounds to per cent", ABOVE, "accuracies.mul(100).round() > (keep * unmasked).mul(100).round()", TIE),
    ("takes the smallest beta where none keeps enough", NONE, f"steps = max(steps, 1)\n    {NONE}", REFUSES),
    ("takes the largest beta where none keeps enough: place 0 - 1", NONE, "if False:", REFUSES),
    ("returns 0 where no beta keeps enough", NONE, f"{NONE}\n        return 0.0\n    if False:", REFUSES),
    ("returns nan where no beta keeps enough", NONE, f"{NONE}\n        return math.nan\n    if False:", REFUSES),
    ("returns nothing where no beta keeps enough", NONE, f"{NONE}\n        return None\n    if False:", REFUSES),
    ("crashes where no beta keeps enough", NONE, f"{NONE}\n        return [].pop()\n    if False:", REFUSES),
]:
    mutant(name, calibrate_beta, old, new, told_by)

equivalent(calibrate_beta, "line 2, column 12: comparison turned", "a tie is apart by the 1e-6 that are added")
equivalent(calibrate_beta, "line 2, column 43: 1e-06 becomes 2e-06", "any margin between a float's rounding and one "
           "example of a test set is right")
equivalent(calibrate_beta, "line 5, column 56: .item() dropped", "a tensor of one number prints alike in the message")

alternative("a loop that climbs", calibrate_beta, '''
    def calibrate_beta(betas, accuracies, unmasked, keep=0.95):
        best = None
        for beta, row in sorted(zip(betas.tolist(), accuracies.tolist())):
            if any(accuracy - keep * whole < 1e-7 for accuracy, whole in zip(row, unmasked.tolist())):
                break
            best = beta
        if best is None:
            raise ValueError("every beta costs too much; give smaller ones")
        return best
''')
alternative("the worst share of each beta, and its running minimum", calibrate_beta, '''
    def calibrate_beta(betas, accuracies, unmasked, keep=0.95):
        ordered, places = torch.sort(betas)
        worst = (accuracies / unmasked).min(dim=1).values[places].cummin(0).values
        good = worst > keep + 1e-5
        if not good.any():
            raise ValueError(f"{ordered[0]} is too strong")
        return float(ordered[good].max())
''')
alternative("smaller than the smallest beta that drops", calibrate_beta, '''
    def calibrate_beta(betas, accuracies, unmasked, keep=0.95):
        drops = torch.round(accuracies - keep * unmasked, decimals=8).le(0).any(-1)
        limit = betas[drops].min() if drops.any() else math.inf
        allowed = [beta for beta in betas.tolist() if beta < limit]
        if allowed:
            return max(allowed)
        raise ValueError("no beta is weak enough: try smaller ones")
''')
alternative("the shortest climb of the networks, each by itself", calibrate_beta, '''
    def calibrate_beta(betas, accuracies, unmasked, keep=0.95):
        rows = sorted(range(len(betas)), key=lambda i: betas[i].item())
        above = accuracies[rows] / unmasked - keep > 1e-6
        steps = torch.cat([above, torch.zeros_like(above[:1])]).int().argmin(0).min()
        if steps == 0:
            raise ValueError("the smallest beta drops")
        return betas[rows[steps - 1]].item()
''')

# overlap ----------------------------------------------------------------------------------------------------------

UNION = "it is the number of shared weights, divided by the number that either mask keeps"
EXTREMES = "the same mask has 1, disjoint masks have 0, and a part has its share of the whole"
NEITHER = "weights that neither mask keeps do not count, and the order of the two does not matter"
TOTAL = "the total is that of all weights together, not the mean of the tensors"
EMPTY = "two empty masks have 1, an empty and another have 0"

IOU = """{name: both / (a + b - both) if a or b else 1.0
            for name, (both, a, b) in overlap_counts(first, second).items()}"""


def over(divisor: str) -> str:
    return IOU.replace("(a + b - both) if a or b", f"({divisor}) if ({divisor})")


def per_tensor(total: str, source: str) -> str:
    """The number of each tensor from the reference's dict, and another number for all of them."""
    return f"(lambda own, counts: own | dict(total={total}))({source}, overlap_counts(first, second))"


def by_entry(expression: str) -> str:
    """A number from the entries of two masks, for each tensor and for all of them laid end to end."""
    pairs = ("{**{name: (first[name], second[name]) for name in first}, "
             "'total': [torch.cat([mask.flatten() for mask in each.values()]) for each in (first, second)]}")
    return f"{{name: float({expression}) for name, (A, B) in {pairs}.items()}}"

MEAN_TOTAL = "sum(v for k, v in own.items() if k != 'total') / len(first)"
WEIGHTED_TOTAL = "sum(own[k] * first[k].numel() for k in first) / sum(part.numel() for part in first.values())"
LARGEST_TOTAL = "own[max(first, key=lambda k: first[k].numel())]"

for name, new, told_by in [
    ("divides by the larger mask", over("max(a, b)"), UNION),
    ("divides by the smaller mask, which is IoMin", over("min(a, b)"), UNION),
    ("divides by the first mask", over("a"), UNION),
    ("divides by the second mask", over("b"), UNION),
    ("divides by the mean of both sizes, which is Dice's coefficient", over("(a + b) / 2"), UNION),
    ("is IoMin, with its conventions for empty masks",
     IOU.replace("(a + b - both) if a or b else 1.0", "min(a, b) if a and b else float(a == b)"), UNION),
    ("counts the shared weights twice in the union: both sizes added, half of Dice's coefficient", over("a + b"),
     UNION),
    ("divides by what is not shared", over("a + b - 2 * both"), UNION),
    ("divides by the square root of both sizes, which is the cosine", over("(a * b) ** 0.5"), UNION),
    ("turns the fraction around", IOU.replace("both / (a + b - both) if a or b", "(a + b - both) / both if both"),
     UNION),
    ("returns the distance, 1 - IoU", IOU.replace("both / (a", "1 - both / (a"), UNION),
    ("returns per cent", IOU.replace("both / (a + b - both)", "100 * both / (a + b - both)"), UNION),
    ("rounds to two digits", IOU.replace("both / (a + b - both)", "round(both / (a + b - both), 2)"), UNION),
    ("returns the number of shared weights", IOU.replace("both / (a + b - both)", "both"), UNION),
    ("adds 1 above and below the line", IOU.replace("both / (a + b - both)", "(both + 1) / (a + b - both + 1)"), UNION),
    ("returns tensors", IOU.replace("both / (a + b - both) if a or b else 1.0",
                                    "torch.tensor(both / (a + b - both) if a or b else 1.0)"), UNION),
    ("counts weights that both masks drop as shared", by_entry("(A == B).double().mean()"), UNION),
    ("divides by the number of weights", by_entry("(A & B).double().mean()"), UNION),
    ("leaves out the total", "{name: number for name, number in " + IOU + ".items() if name in first}", UNION),
    ("changes the first mask to what is shared", "{name: (int(first[name].logical_and_(second[name]).sum()) if name in "
     "first else both) / (a + b - both) if a or b else 1.0\n            for name, (both, a, b) in "
     "overlap_counts(first, second).items()}", UNION),
    ("takes the mean of the tensors for the total", per_tensor(MEAN_TOTAL, IOU), TOTAL),
    ("takes the mean of the tensors, weighted by their sizes, for the total", per_tensor(WEIGHTED_TOTAL, IOU), TOTAL),
    ("takes the largest tensor for the total", per_tensor(LARGEST_TOTAL, IOU), TOTAL),
    ("gives two empty masks 0", IOU.replace("1.0", "0.0"), EMPTY),
    ("gives two empty masks nan", IOU.replace("1.0", "math.nan"), EMPTY),
    ("adds 1e-9 to the denominator instead of asking for empty masks",
     IOU.replace("(a + b - both) if a or b else 1.0", "(a + b - both + 1e-9)"), EMPTY),
    ("adds 1e-6 to the denominator instead of asking for empty masks",
     IOU.replace("(a + b - both) if a or b else 1.0", "(a + b - both + 1e-6)"), EMPTY),
    ("divides by zero where both are empty", IOU.replace(" if a or b else 1.0", ""), EMPTY),
    ("gives 1 as soon as one mask is empty", IOU.replace("a or b", "a and b"), EMPTY),
    ("gives 1 where only the second is empty", IOU.replace("a or b", "b"), EMPTY),
    ("leaves out tensors where both are empty",
     "{name: number for name, number in " + IOU + ".items() if name == 'total' or (first[name] | second[name]).any()}",
     EMPTY),
]:
    mutant(name, iou, IOU, new, told_by)

alternative("sets of places", iou, '''
    def iou(first, second):
        result, all_a, all_b = {}, set(), set()
        for name in first:
            a = {(name, i) for i in first[name].flatten().nonzero().flatten().tolist()}
            b = {(name, i) for i in second[name].flatten().nonzero().flatten().tolist()}
            result[name] = len(a & b) / len(a | b) if a | b else 1.0
            all_a, all_b = all_a | a, all_b | b
        result["total"] = len(all_a & all_b) / len(all_a | all_b) if all_a | all_b else 1
        return result
''')
alternative("logical operations on the tensors, laid end to end for the total", iou, '''
    def iou(first, second):
        def one(a, b):
            union = torch.logical_or(a, b).sum().item()
            return torch.logical_and(a, b).sum().item() / union if union > 0 else 1.0

        numbers = {name: one(first[name], second[name]) for name in first}
        flat = [torch.cat([masks[name].flatten() for name in first]) for masks in (first, second)]
        return {"total": one(*flat), **numbers}
''')
alternative("a division of tensors, in float32", iou, '''
    def iou(first, second):
        def one(a, b):
            union = (a | b).sum()
            return ((a & b).sum() / union).item() if union else 1.0

        flat = [torch.cat([part.flatten() for part in masks.values()]) for masks in (first, second)]
        return {name: one(first[name], second[name]) for name in first} | {"total": one(*flat)}
''')
alternative("what differs, from the counts", iou, '''
    def iou(first, second):
        numbers = {}
        for name, count in overlap_counts(first, second).items():
            different = count.first + count.second - 2 * count.both
            numbers[name] = 1.0 if different == 0 else count.both / (count.both + different)
        return numbers
''')

SMALLER = "it is the number of shared weights, divided by the size of the smaller mask"
INSIDE = "a mask inside another has 1, whichever comes first, and disjoint masks have 0"
SMALLER_TOTAL = "the total divides by the smaller of the two total sizes"

IOMIN = """{name: both / min(a, b) if a and b else float(a == b)
            for name, (both, a, b) in overlap_counts(first, second).items()}"""


def minimum(divisor: str) -> str:
    return IOMIN.replace("min(a, b) if a and b", f"({divisor}) if a and b")


for name, new, told_by in [
    ("divides by the larger mask", minimum("max(a, b)"), SMALLER),
    ("divides by the union, which is IoU", minimum("a + b - both"), SMALLER),
    ("divides by the first mask", minimum("a"), SMALLER),
    ("divides by the second mask", minimum("b"), SMALLER),
    ("divides by the mean of both sizes, which is Dice's coefficient", minimum("(a + b) / 2"), SMALLER),
    ("divides by the square root of both sizes, which is the cosine", minimum("(a * b) ** 0.5"), SMALLER),
    ("divides by both sizes, one after the other", minimum("a * b"), SMALLER),
    ("turns the fraction around", IOMIN.replace("both / min(a, b)", "min(a, b) / max(both, 1)"), SMALLER),
    ("divides the smaller size by the larger", IOMIN.replace("both / min(a, b)", "min(a, b) / max(a, b)"), SMALLER),
    ("returns what is not shared of the smaller mask", IOMIN.replace("both / min", "1 - both / min"), SMALLER),
    ("rounds to two digits", IOMIN.replace("both / min(a, b)", "round(both / min(a, b), 2)"), SMALLER),
    ("adds 1 above and below the line", IOMIN.replace("both / min(a, b)", "(both + 1) / (min(a, b) + 1)"), SMALLER),
    ("says only whether one is inside the other", IOMIN.replace("both / min(a, b)", "float(both == min(a, b))"),
     SMALLER),
    ("returns tensors", IOMIN.replace("both / min(a, b) if", "torch.tensor(both / min(a, b)) if"), SMALLER),
    ("counts weights that both masks drop as shared",
     by_entry("((A == B).sum() / torch.minimum(A.sum(), B.sum()).clamp_min(1)).clamp_max(1)"), SMALLER),
    ("leaves out the total", "{name: number for name, number in " + IOMIN + ".items() if name in first}", SMALLER),
    ("changes the first mask to what is shared", "{name: (int(first[name].logical_and_(second[name]).sum()) if name in "
     "first else both) / min(a, b) if a and b else float(a == b)\n            for name, (both, a, b) in "
     "overlap_counts(first, second).items()}", SMALLER),
    ("takes the mean of the tensors for the total", per_tensor(MEAN_TOTAL, IOMIN), SMALLER_TOTAL),
    ("takes the mean of the tensors, weighted by their sizes, for the total", per_tensor(WEIGHTED_TOTAL, IOMIN),
     SMALLER_TOTAL),
    ("adds up the smaller sizes of the tensors for the total", per_tensor(
        "(lambda size: counts['total'].both / size if size else own['total'])(sum(min(c.first, c.second) "
        "for k, c in counts.items() if k != 'total'))", IOMIN), SMALLER_TOTAL),
    ("takes the smallest number of the tensors for the total", per_tensor("min(own[k] for k in first)", IOMIN),
     SMALLER_TOTAL),
    ("takes the largest tensor for the total", per_tensor(LARGEST_TOTAL, IOMIN), SMALLER_TOTAL),
    ("gives two empty masks 0", IOMIN.replace("float(a == b)", "0.0"), EMPTY),
    ("adds 1e-9 to the denominator instead of asking for empty masks",
     IOMIN.replace("min(a, b) if a and b else float(a == b)", "(min(a, b) + 1e-9)"), EMPTY),
    ("gives two empty masks nan", IOMIN.replace("float(a == b)", "0.0 if a or b else math.nan"), EMPTY),
    ("gives 1 as soon as one mask is empty, as it is inside any other", IOMIN.replace("float(a == b)", "1.0"), EMPTY),
    ("divides by zero where one is empty", IOMIN.replace(" if a and b else float(a == b)", ""), EMPTY),
    ("divides by zero where only the second is empty", IOMIN.replace("if a and b", "if a"), EMPTY),
    ("takes the larger size where the smaller is 0, and 0 for two empty masks",
     IOMIN.replace("min(a, b) if a and b else float(a == b)", "max(min(a, b) or max(a, b), 1)"), EMPTY),
]:
    mutant(name, iomin, IOMIN, new, told_by)

alternative("the larger of the two shares", iomin, '''
    def iomin(first, second):
        numbers = {}
        for name, (both, a, b) in overlap_counts(first, second).items():
            if a == 0 or b == 0:
                numbers[name] = 1.0 if a + b == 0 else 0.0
            else:
                numbers[name] = max(both / a, both / b)
        return numbers
''')
alternative("sums of tensors, laid end to end for the total", iomin, '''
    def iomin(first, second):
        pairs = {name: (first[name].flatten(), second[name].flatten()) for name in first}
        pairs["total"] = torch.cat([a for a, _ in pairs.values()]), torch.cat([b for _, b in pairs.values()])
        numbers = {}
        for name, (a, b) in pairs.items():
            smaller = min(a.sum().item(), b.sum().item())
            numbers[name] = (a & b).sum().item() / smaller if smaller else float(torch.equal(a, b))
        return numbers
''')
alternative("a division of tensors, in float32", iomin, '''
    def iomin(first, second):
        def one(a, b):
            smaller = torch.minimum(a.sum(), b.sum())
            return ((a & b).sum() / smaller).item() if smaller else float(torch.equal(a, b))

        flat = [torch.cat([part.flatten() for part in masks.values()]) for masks in (first, second)]
        return {name: one(first[name], second[name]) for name in first} | {"total": one(*flat)}
''')
alternative("places in lists", iomin, '''
    def iomin(first, second):
        kept = [{(name, i) for name in masks for i, on in enumerate(masks[name].flatten().tolist()) if on}
                for masks in (first, second)]
        result = {}
        for name in [*first, "total"]:
            a, b = ({place for place in places if name in (place[0], "total")} for places in kept)
            small, large = sorted((a, b), key=len)
            result[name] = len(small & large) / len(small) if small else 1 - bool(large)
        return result
''')

MEET = "by chance two masks of a tensor share |A| |B| / n weights; IoU and IoMin follow from that"
PLACES = "n counts every weight of the tensor, kept or not"
SIZES = "only the sizes count: not where the masks lie, and not which comes first"
ADDED = "the total adds up what the tensors are expected to share, each with its own n"

CHANCE = "Counts(a * b / max(first[name].numel(), 1), a, b) for name, (_, a, b)"
SHARED = "a * b / max(first[name].numel(), 1)"
SUMS = "Counts(*map(sum, zip(*chance.values(), strict=True)))"
PAIR = "(both / (a + b - both), both / min(a, b)) if a and b else (float(a == b),) * 2"
ALL = "sum(part.numel() for part in first.values())"


def real(expression: str) -> str:
    """The counts of a tensor with an expression of what the masks really share, `both`, in place of chance."""
    return f"Counts({expression}, a, b) for name, (both, a, b)"


def places(expression: str) -> str:
    """The expected intersection with another n."""
    return f"a * b / max({expression}, 1)"


def in_all(expression: str) -> tuple[str, str]:
    """The reference's pairs of the tensors, and another pair under "total"."""
    return ("return {name:", f"""own = {{name: {PAIR} for name, (both, a, b) in chance.items()}}
    kept = {{name: (a, b, first[name].numel()) for name, (_, a, b) in counts.items()}}
    return own | dict(total={expression})
    return {{name:""")


MEANS = "tuple(sum(pair[i] for name, pair in own.items() if name in first) / len(first) for i in (0, 1))"
WEIGHED = f"tuple(sum(own[name][i] * kept[name][2] for name in first) / {ALL} for i in (0, 1))"
LARGEST_TENSOR = "own[max(first, key=lambda name: first[name].numel())]"
SMALLEST_SIZES = ("own['total'] if not all(a and b for a, b, _ in kept.values()) else (own['total'][0], "
                  "chance['total'].both / sum(min(a, b) for a, b, _ in kept.values()))")
LARGER_DENSITY = ("own['total'] if not all(chance['total'][1:]) else (own['total'][0], "
                  f"max(chance['total'][1:]) / {ALL})")
WHERE_BOTH = ("(lambda both, a, b: (both / (a + b - both), both / min(a, b)) if a and b else own['total'])"
              "(*(sum(chance[name][i] for name in first if kept[name][0] and kept[name][1]) for i in range(3)))")

for name, old, new, told_by in [
    ("returns what the masks really share", CHANCE, real("both"), MEET),
    ("takes the larger of what is shared really and by chance", CHANCE,
     real(f"max(both, {SHARED})"), SIZES),
    ("takes the smaller of what is shared really and by chance", CHANCE,
     real(f"min(both, {SHARED})"), SIZES),
    ("counts what is shared really, and the rest by chance", CHANCE, real(
     "both + (a - both) * (b - both) / max(first[name].numel() - both, 1)"), MEET),
    ("places the second mask at random once, and counts", SHARED, "int((first[name].flatten() & second[name].flatten()["
     "torch.randperm(first[name].numel())]).sum())", MEET),
    ("averages over a hundred random placements", SHARED, "sum(int((first[name].flatten() & second[name].flatten()["
     "torch.randperm(first[name].numel())]).sum()) for _ in range(100)) / 100", MEET),
    ("multiplies the densities, and forgets to multiply by n", SHARED, SHARED + " / max(first[name].numel(), 1)", MEET),
    ("forgets to divide by n", SHARED, "a * b", MEET),
    ("expects the smaller mask inside the larger", SHARED, "min(a, b)", MEET),
    ("expects what is not shared", SHARED, "a * (1 - b / max(first[name].numel(), 1))", MEET),
    ("divides without a remainder", SHARED, SHARED.replace(" / ", " // "), MEET),
    ("rounds to whole weights", SHARED, f"round({SHARED})", MEET),
    ("rounds up to whole weights", SHARED, f"math.ceil({SHARED})", MEET),
    ("counts the shared weights twice in the union", PAIR, PAIR.replace("a + b - both", "a + b"), MEET),
    ("subtracts the shared weights twice from the union", PAIR, PAIR.replace("a + b - both", "a + b - 2 * both"), MEET),
    ("divides IoU by all weights", PAIR, PAIR.replace(
        "(a + b - both)", f"(first[name].numel() if name in first else {ALL})"), MEET),
    ("divides IoMin by the larger size", PAIR, PAIR.replace("min(a, b)", "max(a, b)"), MEET),
    ("divides IoMin by the first size", PAIR, PAIR.replace("min(a, b)", "a"), MEET),
    ("divides IoMin by the second size", PAIR, PAIR.replace("min(a, b)", "b"), MEET),
    ("divides IoU by the larger size", PAIR, PAIR.replace(
        "both / (a + b - both)", "both / max(a, b)"), MEET),
    ("returns IoMin before IoU", PAIR, PAIR.replace("(both / (a + b - both), both / min(a, b))",
                                                    "(both / min(a, b), both / (a + b - both))"), MEET),
    ("returns IoU only", PAIR, PAIR.replace("(both / (a + b - both), both / min(a, b))", "both / (a + b - both)")
     .replace("(float(a == b),) * 2", "float(a == b)"), MEET),
    ("returns expected counts", PAIR, "(both, both) if a and b else (float(a == b),) * 2", MEET),
    ("returns per cent", PAIR, PAIR.replace("both / ", "100 * both / "), MEET),
    ("rounds to two digits", PAIR, PAIR.replace("(both / (a + b - both), both / min(a, b))",
                                                "(round(both / (a + b - both), 2), round(both / min(a, b), 2))"), MEET),
    ("returns tensors", PAIR, PAIR.replace("(both / (a + b - both), both / min(a, b))",
                                           "tuple(torch.tensor([both / (a + b - both), both / min(a, b)]))"), MEET),
    ("leaves out the total", "return {name:", "del chance['total']\n    return {name:", MEET),
    ("changes the first mask to what is shared", SHARED, SHARED + " + 0 * int(first[name].logical_and_("
     "second[name]).sum())", MEET),
    ("takes the union of the two for n", SHARED, places("int((first[name] | second[name]).sum())"), PLACES),
    ("takes both sizes together for n", SHARED, places("a + b"), PLACES),
    ("takes the rows of the tensor for n", SHARED, places("len(first[name])"), PLACES),
    ("takes the last axis of the tensor for n", SHARED, places("first[name].shape[-1]"), PLACES),
    ("takes the weights of all tensors for n", SHARED, places(ALL), ADDED),
    ("takes the n of the first tensor everywhere", SHARED, places("next(iter(first.values())).numel()"), ADDED),
    ("takes the n of the largest tensor everywhere", SHARED, places("max(part.numel() for part in first.values())"),
     ADDED),
    ("takes the total from the densities of all weights together", SUMS, f"""Counts(*map(sum, zip(*chance.values())))
    chance["total"] = chance["total"]._replace(both=chance["total"].first * chance["total"].second / max({ALL}, 1))""",
     ADDED),
    ("takes the mean of the tensors for the total", *in_all(MEANS), ADDED),
    ("takes the mean of the tensors, weighted by their sizes, for the total", *in_all(WEIGHED), ADDED),
    ("takes the largest tensor for the total", *in_all(LARGEST_TENSOR), ADDED),
    ("adds up the smaller sizes of the tensors for the total", *in_all(SMALLEST_SIZES), ADDED),
    ("takes the larger of the total densities for IoMin's total", *in_all(LARGER_DENSITY), ADDED),
    ("adds up what is really shared for the total", SUMS, "overlap_counts(first, second)['total']", MEET),
    ("counts only tensors where both masks keep something in the total", *in_all(WHERE_BOTH), EMPTY),
    ("gives two empty masks 0", PAIR, PAIR.replace("float(a == b)", "0.0"), EMPTY),
    ("adds 1e-9 to both denominators instead of asking for empty masks", PAIR,
     "(both / (a + b - both + 1e-9), both / (min(a, b) + 1e-9))", EMPTY),
    ("gives two empty masks nan", PAIR, PAIR.replace("float(a == b)", "0.0 if a or b else math.nan"), EMPTY),
    ("gives 1 as soon as one mask is empty", PAIR, PAIR.replace("float(a == b)", "1.0"), EMPTY),
    ("divides by zero where one is empty", PAIR, PAIR.replace(" if a and b else (float(a == b),) * 2", ""), EMPTY),
    ("gives an empty mask and another IoMin 1", PAIR, PAIR.replace("(float(a == b),) * 2", "(float(a == b), 1.0)"),
     EMPTY),
    ("gives two empty masks one number", PAIR, PAIR.replace("(float(a == b),) * 2", "float(a == b)"), EMPTY),
    ("leaves out tensors where one is empty", "in chance.items()}", "in chance.items() if name == 'total' or a and b}",
     EMPTY),
]:
    mutant(name, expected_overlap, old, new, told_by)

equivalent(expected_overlap, "line 4, column 61: strict= dropped", "all Counts have three fields")

alternative("densities per tensor, and weights again for the total", expected_overlap, '''
    def expected_overlap(first, second):
        def pair(shared, a, b):
            if a == 0 or b == 0:
                return (1.0, 1.0) if a == b else (0.0, 0.0)
            return shared / (a + b - shared), max(shared / a, shared / b)

        result, sums = {}, [0.0, 0, 0]
        for name, mask in first.items():
            p, q = mask.double().mean().item(), second[name].double().mean().item()
            n = mask.numel()
            result[name] = chance_overlap(p, q)
            sums = [s + new for s, new in zip(sums, (n * p * q, mask.sum().item(), second[name].sum().item()))]
        return result | {"total": pair(*sums)}
''')
alternative("every pair of places, one in n of which is the same", expected_overlap, '''
    def expected_overlap(first, second):
        rows = {name: [torch.outer(mask.flatten(), second[name].flatten()).sum().item() / mask.numel(),
                       mask.count_nonzero().item(), second[name].count_nonzero().item()]
                for name, mask in first.items()}
        rows["total"] = torch.tensor(list(rows.values()), dtype=torch.float64).sum(0).tolist()
        result = {}
        for name, (shared, a, b) in rows.items():
            if a > 0 and b > 0:
                result[name] = (shared / (a + b - shared), shared / min(a, b))
            else:
                result[name] = (1 if a == b else 0,) * 2
        return result
''')
alternative("divisions of tensors, in float32", expected_overlap, '''
    def expected_overlap(first, second):
        def pair(both, a, b):
            if not a or not b:
                return (float(a == b),) * 2
            return (both / (a + b - both)).item(), (both / torch.minimum(a, b)).item()

        sizes = {name: torch.stack([first[name].sum(), second[name].sum()]) for name in first}
        chance = {name: part.prod() / first[name].numel() for name, part in sizes.items()}
        sizes["total"], chance["total"] = sum(sizes.values()), sum(chance.values())
        return {name: pair(chance[name], *part) for name, part in sizes.items()}
''')
alternative("what each weight of the first mask may expect", expected_overlap, '''
    def expected_overlap(first, second):
        shared = {name: (mask * second[name].double().mean()).sum().item() for name, mask in first.items()}
        shared["total"] = sum(shared.values())
        result = {}
        for name, count in overlap_counts(first, second).items():
            small, large = sorted(count[1:])
            if small == 0:
                result[name] = [float(large == 0)] * 2
            else:
                result[name] = [shared[name] / (small + large - shared[name]), shared[name] / small]
        return {name: tuple(pair) for name, pair in result.items()}
''')
