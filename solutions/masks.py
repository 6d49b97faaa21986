"""Binary masks over the weights of a frozen network: which weights does a function need? (thesis ch. 3, appendix B)

A mask set is a dict from parameter names to tensors: logits and samples are floats, finished masks are bools.
"""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from solutions.shapes import require_shapes

Masks = Mapping[str, Tensor]


# sampling --------------------------------------------------------------------------------------------------------

def gumbel_sigmoid(logits: Tensor, uniforms: Tensor | None = None, temperature: float = 1.0, *,
                   generator: torch.Generator | None = None) -> Tensor:
    """Draw soft masks: s = sigmoid((l - log(log U1 / log U2)) / temperature).

    logits       any shape, finite, any float dtype: keep a weight with probability sigmoid(logit)
    uniforms     (2, ..., *logits.shape) in [0, 1], both ends allowed: U1 and U2; axes between give further samples
    temperature  above 0. At every temperature a weight is kept with P(s > 1/2) = sigmoid(logit); but the gradient
                 s (1 - s) / temperature does depend on it, and not only by a factor as B.1.4 says: the smaller it is,
                 the fewer samples have any
    generator    on the logits' device: draws U1 and U2 of the logits' shape; give either this or uniforms
    returns      uniforms.shape[1:], in [0, 1], in the logits' dtype

    The noise -log(log U1 / log U2) is Logistic(0, 1), kept finite at uniforms of 0 and 1 and computed in float32 at
    least, also for logits in half precision; the sample itself is not cut off. No argument is changed. Raises
    ValueError on logits that are not finite floats, a temperature that is not positive, uniforms of another shape, or
    both or neither of uniforms and generator. Equation 3.1 (B.6).
    """
    if not logits.is_floating_point() or not torch.isfinite(logits).all():
        raise ValueError(f"logits must be finite floats, got {logits.dtype} with "
                         f"{int((~torch.isfinite(logits)).sum())} of {logits.numel()} not finite")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
    if (uniforms is None) == (generator is None):
        raise ValueError("give either uniforms or a generator, so that the randomness is explicit; got "
                         + ("neither" if uniforms is None else "both"))
    if uniforms is None:
        uniforms = uniform_pairs(logits, (), generator)
    fits = uniforms.dim() > logits.dim() and uniforms.shape[uniforms.dim() - logits.dim():] == logits.shape
    if not uniforms.is_floating_point() or not fits or len(uniforms) != 2:
        raise ValueError(f"uniforms must be floats (2, ..., {', '.join(map(str, logits.shape))}), "
                         f"got {uniforms.dtype} {tuple(uniforms.shape)}")
    uniforms = uniforms.to(torch.promote_types(uniforms.dtype, torch.float32))
    ### BEGIN SOLUTION
    info = torch.finfo(uniforms.dtype)
    first, second = torch.log(uniforms.clamp(info.tiny, 1 - info.eps / 2))      # finite at U = 0, below 0 at U = 1
    return torch.sigmoid((logits - torch.log(first / second)) / temperature).to(logits.dtype)
    ### END SOLUTION


def uniform_pairs(logits: Tensor, samples: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """U1 and U2 for every logit: (2, *samples, *logits.shape) in [0, 1), in float32 at least, on the logits' device."""
    return torch.rand((2, *samples, *logits.shape), generator=generator, device=logits.device,
                      dtype=torch.promote_types(logits.dtype, torch.float32))


def straight_through(soft: Tensor) -> Tensor:
    """Make a mask hard but let the gradient pass as if it were soft: b = stop(1[s > 1/2] - s) + s.

    soft     any shape, in [0, 1], any float dtype: samples of gumbel_sigmoid
    returns  the same shape and dtype: exactly 0 or 1, and exactly 0 at s = 1/2; db/ds = 1

    soft is not changed. Raises ValueError when soft is not a float tensor. Equation 3.2 (B.10).
    """
    if not soft.is_floating_point():
        raise ValueError(f"soft must be a float tensor, got {soft.dtype}")
    ### BEGIN SOLUTION
    hard = (soft > 0.5).to(soft.dtype)
    return (hard - soft).detach() + soft        # exact: both s and 1 - s are floats wherever s > 1/2
    ### END SOLUTION


def fast_uniforms(logits: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """U for every logit, from half the random bits that torch.rand takes: (samples, *logits.shape) in [0, 1].

    In float32 at least, on the logits' device, and laid out in memory as the logits are. Each number by itself is
    uniform down to what the dtype resolves. The 16 bits on top are its own. What is below is shared by all weights of
    one sample with the same first index, the weights into one unit: two of them, kept with one probability, correlate
    by 2^-16 at most, and by 2^-30 at 0.88.
    """
    # 16 bits alone would not do: a logit of -12 means 6e-6, and steps of 2^-16 = 1.5e-5 make that 0 or 1.5e-5
    words = torch.empty(math.ceil(samples * logits.numel() / 4), dtype=torch.int64, device=logits.device)
    own = words.random_(-2**63, None, generator=generator).view(torch.int16).as_strided(
        (samples, *logits.shape), (logits.numel(), *torch.empty_like(logits).stride()))
    shared = torch.rand((samples, *logits.shape[:1], *[1] * (logits.dim() - 1)), generator=generator,
                        device=logits.device, dtype=torch.promote_types(logits.dtype, torch.float32))
    return torch.add(0.5 + shared * 2**-16, own, alpha=2**-16)


def hard_samples(logits: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw hard masks fast: equal in law to straight_through(gumbel_sigmoid(...)), from one uniform instead of two.

    logits       any shape, finite, any float dtype
    uniforms     (samples, *logits.shape) in [0, 1], both ends allowed
    temperature  above 0
    returns      (samples, *logits.shape) in the logits' dtype, exactly 0 or 1: b = 1[s > 1/2], where
                 s = sigmoid((l + log U - log(1 - U)) / temperature) and db/dl = s (1 - s) / temperature

    log U - log(1 - U) is Logistic(0, 1), as the noise of gumbel_sigmoid is. No argument is changed. Raises ValueError
    on logits that are not finite floats, uniforms of another shape and a temperature that is not positive.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    # the sum is finite when all are, and a single pass
    if not logits.is_floating_point() or not torch.isfinite(logits.detach().sum(dtype=wide)):
        raise ValueError(f"logits must be finite floats, got {logits.dtype} with "
                         f"{int((~torch.isfinite(logits)).sum())} of {logits.numel()} not finite")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
    if not uniforms.is_floating_point() or not uniforms.dim() or uniforms.shape[1:] != logits.shape:
        raise ValueError(f"uniforms must be floats (samples, {', '.join(map(str, logits.shape))}), "
                         f"got {uniforms.dtype} {tuple(uniforms.shape)}")
    return _HardSamples.apply(logits, uniforms.to(wide), temperature)


class _HardSamples(torch.autograd.Function):
    """hard_samples in place, with nothing but s (1 - s) kept for the gradient: time goes by passes over the samples."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        noise = torch.logit(uniforms, torch.finfo(uniforms.dtype).eps / 2)      # finite at U = 0 and U = 1
        soft = torch.add(logits / temperature, noise, alpha=1 / temperature, out=noise).sigmoid_()
        hard = torch.gt(soft, 0.5, out=torch.empty_like(soft, dtype=logits.dtype))
        ctx.save_for_backward(torch.addcmul(soft, soft, soft, value=-1, out=soft))
        ctx.temperature = temperature
        return hard

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        slope, = ctx.saved_tensors
        # out= keeps the logits' order in memory: a sum from one order into the other takes ten times as long
        product = torch.mul(gradient, slope, out=torch.empty_like(slope))
        total = torch.sum(product, 0, out=torch.empty_like(slope[0]))
        return total.div_(ctx.temperature), None, None


def masked_linear(inputs: Tensor, weight: Tensor, masks: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer with frozen weights of which every group of the batch sees another sample of the mask.

    inputs   (batch, inputs); rows 0 .. batch/groups - 1 are group 0, and so on: consecutive blocks
    weight   (outputs, inputs), frozen: gets no gradient
    masks    (groups, outputs, inputs) in {0, 1}; batch is divisible by groups
    bias     (outputs,), frozen and never masked; None for none
    returns  (batch, outputs), the rows in their old order

    Gradients reach inputs and masks. Raises ValueError on shapes that disagree and on a batch that does not divide.
    Section 3.1 and appendix B.3.2.
    """
    sizes = require_shapes(inputs=(inputs, "batch inputs"), weight=(weight, "outputs inputs"),
                           masks=(masks, "groups outputs inputs"),
                           bias=(weight[:, 0] if bias is None else bias, "outputs"))
    require_groups(sizes["batch"], sizes["groups"])
    ### BEGIN SOLUTION
    grouped = inputs.unflatten(0, (len(masks), -1))                             # (groups, batch/groups, inputs)
    outputs = torch.einsum("gbi,goi->gbo", grouped, weight.detach() * masks).flatten(0, 1)
    return outputs if bias is None else outputs + bias.detach()
    ### END SOLUTION


def require_groups(batch: int, groups: int) -> None:
    """Raise ValueError unless the batch can be split in that many groups of equal size, one row or more each."""
    if groups < 1 or batch < 1 or batch % groups:
        raise ValueError(f"the batch must divide into groups of one size, one per mask sample; "
                         f"got a batch of {batch} and {groups} samples")


# the loss and the finished masks -----------------------------------------------------------------------------------

def mask_regulariser(logits: Masks, beta: float, batch: int) -> Tensor:
    """The price of keeping weights: r = alpha times the sum of all logits, with alpha = beta / batch.

    logits   name -> logits of any shape
    beta     0 or more: what the thesis prints
    batch    1 or more: rows of the batch. That alpha falls with the batch is a convention, not a derivation
    returns  a scalar; its derivative is alpha for every single logit

    These are the raw logits and not the probabilities: the pull downwards is as strong on a kept weight as on a dropped
    one, and never ends. Raises ValueError without logits, on a negative or infinite beta and a batch below 1. Section
    3.1 and appendix B.3.2.
    """
    if not logits:
        raise ValueError("there must be at least one tensor of logits, got none")
    if not 0 <= beta < math.inf or batch < 1:
        raise ValueError(f"beta must be 0 or more and batch 1 or more, got {beta} and {batch}")
    ### BEGIN SOLUTION
    return beta / batch * sum(part.sum() for part in logits.values())
    ### END SOLUTION


def calibrate_beta(betas: Tensor, accuracies: Tensor, unmasked: Tensor, keep: float = 0.95) -> float:
    """How strong may the regulariser be? Raise beta until a mask for the full task loses accuracy, then step back.

    betas       (n,), above 0 and finite, no two alike, in any order
    accuracies  (n, seeds) in [0, 1]: of each beta and network, on the full task under the finished mask for that task
    unmasked    (seeds,) in (0, 1]: of the same networks without a mask
    keep        above 0 and below 1: the share of its own unmasked accuracy that every network must stay above
    returns     the largest beta such that it and every smaller one keep enough, a float; where all keep enough the
                largest there is, so give larger ones

    A beta keeps enough when accuracy > keep * unmasked holds for every network, by more than 1e-6, as floats round: a
    tie does not. A larger beta that happens to keep enough above one that does not is luck and does not count. The
    thesis speaks of "the performance" and plots means over seeds; here no network may drop, since a mask that breaks
    its network's full task says nothing about the parts of it. Raises ValueError when not even the smallest beta keeps
    enough, and on other shapes and ranges. Appendix B.3.3.
    """
    require_shapes(betas=(betas, "betas"), accuracies=(accuracies, "betas seeds"), unmasked=(unmasked, "seeds"))
    if not accuracies.numel():
        raise ValueError(f"accuracies must be of one beta and one network at least, got {tuple(accuracies.shape)}")
    if not ((betas > 0) & (betas < math.inf)).all() or len(betas.unique()) < len(betas):
        raise ValueError(f"betas must be above 0, finite and no two alike, got {betas.tolist()}")
    if not ((accuracies >= 0) & (accuracies <= 1)).all():
        raise ValueError(f"accuracies must be in [0, 1], got {accuracies.min().item():g} "
                         f"to {accuracies.max().item():g}")
    if not ((unmasked > 0) & (unmasked <= 1)).all():
        raise ValueError(f"unmasked must be above 0 and at most 1, got {unmasked.tolist()}")
    if not 0 < keep < 1:
        raise ValueError(f"keep must be above 0 and below 1, got {keep}")
    ### BEGIN SOLUTION
    order = betas.argsort()
    kept = (accuracies > keep * unmasked + 1e-6).all(1)[order]      # (n,), from the smallest beta to the largest
    steps = int(kept.cumprod(0).sum())                              # how many before the first that drops
    if not steps:
        raise ValueError(f"not even the smallest beta, {betas.min().item():g}, keeps more than {keep:g} of every "
                         "network's unmasked accuracy: try smaller ones, or train the masks for longer")
    return betas[order[steps - 1]].item()
    ### END SOLUTION


def threshold_masks(logits: Masks) -> dict[str, Tensor]:
    """The finished masks: keep what is more likely kept than not, M = 1[sigmoid(l) > 1/2] = 1[l > 0].

    logits   name -> logits of any shape, finite
    returns  name -> bool tensors of the same shapes, detached; a logit of exactly 0 is dropped

    Raises ValueError on logits that are not finite, naming the tensor. Section 3.1.
    """
    for name, part in logits.items():
        if not torch.isfinite(part).all():
            raise ValueError(f"logits must be finite, but those of {name} are not")
    return {name: part > 0 for name, part in logits.items()}


def invert_masks(masks: Masks) -> dict[str, Tensor]:
    """Keep exactly the weights that were dropped: 1 - M, for every tensor that is in the set and no other.

    masks    name -> bool tensors
    returns  name -> bool tensors of the same shapes; biases and embeddings, which are in no set, stay whole

    An inverted mask shows which weights are needed exclusively. Raises ValueError on masks that are not boolean.
    Section 3.1.
    """
    require_masks(masks=masks)
    return {name: ~mask for name, mask in masks.items()}


def random_masks(masks: Masks, generator: torch.Generator) -> dict[str, Tensor]:
    """The control that the thesis omits: as many weights kept in every tensor, but at random places.

    masks      name -> bool tensors
    generator  on the CPU
    returns    name -> bool tensors of the same shapes and devices

    Raises ValueError on masks that are not boolean.
    """
    require_masks(masks=masks)
    return {name: mask.flatten()[torch.randperm(mask.numel(), generator=generator).to(mask.device)].view(mask.shape)
            for name, mask in masks.items()}


# overlap -----------------------------------------------------------------------------------------------------------

def require_masks(**sets: Masks) -> None:
    """Raise ValueError unless every set holds bool tensors, all sets have the same names and shapes, none "total"."""
    (reference_name, reference), *_ = sets.items()
    for set_name, masks in sets.items():
        if not masks:
            raise ValueError(f"{set_name} must hold at least one mask, got none")
        if masks.keys() != reference.keys() or "total" in masks:
            raise ValueError(f'{set_name} must have the names {sorted(reference)}, as {reference_name} has, and '
                             f'"total" must not be one; got {sorted(masks)}')
        for name, mask in masks.items():
            if mask.dtype != torch.bool or mask.shape != reference[name].shape:
                raise ValueError(f"{set_name}[{name!r}] must be bool {tuple(reference[name].shape)}, "
                                 f"got {mask.dtype} {tuple(mask.shape)}")


class Counts(NamedTuple):
    """Sizes of two masks of one tensor, or of all tensors together."""

    both: float                 # weights in the first and in the second
    first: int
    second: int


def overlap_counts(first: Masks, second: Masks) -> dict[str, Counts]:
    """Count the weights that two mask sets keep and share, per tensor and in "total" over all of them.

    first, second  name -> bool tensors, the same names and shapes
    returns        name -> Counts, in the order of first, then "total": the sums

    Raises ValueError on masks that are not boolean or do not fit together.
    """
    require_masks(first=first, second=second)
    counts = {name: Counts(*(int(part.sum()) for part in (mask & second[name], mask, second[name])))
              for name, mask in first.items()}
    return counts | {"total": Counts(*map(sum, zip(*counts.values(), strict=True)))}


def iou(first: Masks, second: Masks) -> dict[str, float]:
    """Intersection over union, |A and B| / |A or B|: how much of all that two functions use do they share?

    first, second  name -> bool tensors, the same names and shapes
    returns        name -> a float in [0, 1], and "total" over all weights (not the mean of the tensors' numbers)

    Two empty masks have 1, an empty and another have 0. Never above IoMin, nor above the smaller size over the larger.
    It says something only beside the chance level, which expected_overlap gives. Raises ValueError on masks that are
    not boolean or do not fit together. Section 3.1.
    """
    require_masks(first=first, second=second)
    ### BEGIN SOLUTION
    return {name: both / (a + b - both) if a or b else 1.0
            for name, (both, a, b) in overlap_counts(first, second).items()}
    ### END SOLUTION


def iomin(first: Masks, second: Masks) -> dict[str, float]:
    """Intersection over the smaller set, |A and B| / min(|A|, |B|): is the one contained in the other?

    first, second  name -> bool tensors, the same names and shapes
    returns        name -> a float in [0, 1], and "total" over all weights (the smaller of the two total sizes)

    Two empty masks have 1, an empty and another have 0; otherwise a subset has 1. It says something only beside the
    chance level, which expected_overlap gives: masks that keep nearly everything have nearly 1. Raises ValueError on
    masks that are not boolean or do not fit together. Section 3.1 (Szymkiewicz-Simpson).
    """
    require_masks(first=first, second=second)
    ### BEGIN SOLUTION
    return {name: both / min(a, b) if a and b else float(a == b)
            for name, (both, a, b) in overlap_counts(first, second).items()}
    ### END SOLUTION


def shared_proportion(first: Masks, second: Masks) -> dict[str, tuple[float, float]]:
    """Which share of each function's weights does the other use too? (|A and B| / |A|, |A and B| / |B|)

    first, second  name -> bool tensors, the same names and shapes; per layer as they are, per group of input or output
                   units after unit_groups
    returns        name -> two numbers in [0, 1], the first function's share before the second's, and "total"

    The larger of the two is IoMin. Of an empty mask the share is 0, and 1 when the other is empty too. Of masks placed
    at random the first is the density of the second mask, and the other way round. Raises ValueError on masks that are
    not boolean or do not fit together. Figures 3.1 and 3.3; the thesis gives no formula, this is "per operation".
    """
    require_masks(first=first, second=second)
    return {name: tuple(both / size if size else float(a == b) for size in (a, b))
            for name, (both, a, b) in overlap_counts(first, second).items()}


def unit_groups(masks: Masks, name: str, groups: Mapping[str, slice | list[int]], axis: int = 0) -> dict[str, Tensor]:
    """Cut one mask into groups of units, so that iou, iomin and shared_proportion tell them apart.

    masks    name -> tensors
    name     the one to cut
    groups   label -> the units, as a slice or a list of indices
    axis     0 for groups of output units, 1 for groups of input units
    returns  "name[label]" -> the weights from or to those units only

    Raises ValueError on an unknown name, a missing axis and a group without units. Figure 3.5b: one group per output.
    """
    if name not in masks or not 0 <= axis < masks[name].dim():
        raise ValueError(f"name must be one of {sorted(masks)} with an axis {axis}, got {name!r}")
    parts = {f"{name}[{label}]": masks[name].movedim(axis, 0)[units].movedim(0, axis)
             for label, units in groups.items()}
    for label, part in parts.items():
        if not part.shape[axis]:
            raise ValueError(f"{label} must have one unit or more, got none")
    return parts


def chance_overlap(density: float, other: float) -> tuple[float, float]:
    """IoU and IoMin of two masks that have nothing to do with each other: p q / (p + q - p q) and max(p, q).

    density, other  the share of weights each mask keeps, p and q in [0, 1]
    returns         (IoU, IoMin) of large independent masks, with the conventions for empty ones of iou and iomin

    Raises ValueError on densities outside [0, 1]. Specification 1.7; not in the thesis.
    """
    if not (0 <= density <= 1 and 0 <= other <= 1):
        raise ValueError(f"densities must be in [0, 1], got {density} and {other}")
    if density == 0 or other == 0:
        return float(density == other), float(density == other)
    return density * other / (density + other - density * other), max(density, other)


def expected_overlap(first: Masks, second: Masks) -> dict[str, tuple[float, float]]:
    """The chance level of two given mask sets: as many weights in every tensor, but placed independently.

    first, second  name -> bool tensors, the same names and shapes
    returns        name -> (IoU, IoMin), two floats, and "total" over all weights

    In a tensor of n weights, kept or not, masks of |A| and |B| weights are expected to share |A| |B| / n; IoU and IoMin
    follow from this and the sizes. For the total, the expected intersections and the sizes are added up over the
    tensors. Two empty masks have 1, an empty and another have 0.

    Where both sets are dense in the same layers, the total is above the chance level of one tensor with all weights in
    it: that much sharing says nothing about single weights. IoMin is the exact expectation, IoU the ratio of
    expectations. Raises ValueError on masks that are not boolean or do not fit together. Not in the thesis.
    """
    require_masks(first=first, second=second)
    ### BEGIN SOLUTION
    counts = overlap_counts(first, second)
    del counts["total"]                                             # what the sets really share is not asked for
    chance = {name: Counts(a * b / max(first[name].numel(), 1), a, b) for name, (_, a, b) in counts.items()}
    chance["total"] = Counts(*map(sum, zip(*chance.values(), strict=True)))
    return {name: (both / (a + b - both), both / min(a, b)) if a and b else (float(a == b),) * 2
            for name, (both, a, b) in chance.items()}
    ### END SOLUTION


# masks over a whole network ------------------------------------------------------------------------------------------

def maskable_names(model: nn.Module) -> list[str]:
    """Names of the parameters masked by default: weights of two axes or more; no biases, norms or embeddings (B.3)."""
    embeddings = {id(parameter) for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)
                  for parameter in module.parameters()}
    return [name for name, parameter in model.named_parameters()
            if parameter.dim() > 1 and parameter.is_floating_point() and id(parameter) not in embeddings]


@contextlib.contextmanager
def unfused_attention() -> Iterator[None]:
    """Keep nn.MultiheadAttention and nn.TransformerEncoderLayer from kernels that vmap cannot batch.

    The one for eval mode does not see, under vmap, that masks want a gradient, and gives none.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class MaskedModel(nn.Module):
    """Any network with its weights frozen and a logit for each of them: w' = w b.

    model          any nn.Module. It is copied: neither what you give nor its mode is changed, and training it further
                   changes nothing here. The copy is always in eval mode (no dropout, batch norm fixed)
    names          parameters to mask; None: maskable_names(model)
    initial_logit  finite; 2.0 keeps a weight with probability 0.88 (the text says 0.9)
    batch_axis     the batch's axis in every tensor that goes in: 1 for (time, batch, ...)
    output_axis    the batch's axis in what comes out; None: the same

    model is the frozen copy, logits the dict of what is trained. For every target function make a fresh MaskedModel.

    Samples are run with torch.vmap, all at once. torch 2.13 has no vmap rule for nn.LSTM, nn.GRU, nn.RNN and
    nn.LSTMCell: a model with one of these can be evaluated with finished masks, or trained with one sample, but for
    several samples the recurrence must be a loop over linear layers (nn.RNNCell and nn.GRUCell do on the CPU). A random
    number that the model draws itself in eval mode is refused by vmap too.

    Raises ValueError when there is nothing to mask, on an unknown or not floating parameter, an initial logit that is
    not finite and a negative axis. Section 3.1.
    """

    def __init__(self, model: nn.Module, names: Iterable[str] | None = None, *, initial_logit: float = 2.0,
                 batch_axis: int = 0, output_axis: int | None = None) -> None:
        super().__init__()
        parameters = dict(model.named_parameters())
        self.names = list(dict.fromkeys(maskable_names(model) if names is None else names))
        self.batch_axis, self.output_axis = batch_axis, batch_axis if output_axis is None else output_axis
        if not self.names:
            raise ValueError(f"there must be a parameter to mask, such as a weight matrix; the model has "
                             f"{sorted(parameters) or 'no parameter'}")
        for name in self.names:
            if name not in parameters or not parameters[name].is_floating_point():
                raise ValueError(f"names must be floating parameters of the model, {sorted(parameters)}, got {name!r}")
        if not math.isfinite(initial_logit):
            raise ValueError(f"initial_logit must be finite, got {initial_logit}")
        if min(self.batch_axis, self.output_axis) < 0:
            raise ValueError(f"batch_axis and output_axis must be 0 or more, got {batch_axis} and {output_axis}")
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        parameters = dict(self.model.named_parameters())
        for name in self.names:
            if parameters[name].dim() == 2:     # the order in which vmap hands back the gradient of a linear layer
                parameters[name].data = parameters[name].data.mT.contiguous().mT
        self.free = nn.ParameterList(torch.full_like(parameters[name], initial_logit) for name in self.names)

    @property
    def logits(self) -> dict[str, nn.Parameter]:
        """Name -> logits, the shape, dtype and device of the parameter: all that is trained."""
        return dict(zip(self.names, self.free, strict=True))

    def train(self, mode: bool = True) -> "MaskedModel":
        """As of any module, but the frozen network stays in eval mode."""
        super().train(mode)
        self.model.eval()
        return self

    def sample(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> dict[str, Tensor]:
        """Draw masks: name -> (count, *shape of the parameter), exactly 0 or 1, with straight-through gradients."""
        return {name: hard_samples(part, fast_uniforms(part, count, generator), temperature)
                for name, part in self.logits.items()}

    def masks(self) -> dict[str, Tensor]:
        """The finished masks as they are now: threshold_masks(logits)."""
        return threshold_masks(self.logits)

    def forward(self, *inputs: Any, masks: Masks) -> Any:
        """Run the frozen network with masked weights.

        inputs   what the network takes; every tensor has the batch on batch_axis, anything else is passed on
        masks    name -> a mask of the parameter's shape, one for the whole batch, or (groups, *shape): group g, the
                 g-th consecutive block of the batch, sees mask g throughout, in all layers and at all time steps. One
                 set may mix both. A parameter without a mask is whole, and any parameter may have one
        returns  what the network returns; under several samples that must be one tensor with the batch on output_axis

        model(x, masks=model.sample(4, generator)) trains, masks=model.masks() and masks=invert_masks(model.masks())
        test. Gradients reach masks and inputs. Raises ValueError on an unknown name, a mask of another shape, numbers
        of groups that differ, a batch that does not divide, and on networks that vmap cannot run (see above).
        """
        weights = dict(self.model.named_parameters())
        grouped, groups = set(), 1
        for name, mask in masks.items():
            if name not in weights:
                raise ValueError(f"masks must be for parameters of the model, {sorted(weights)}, got {name!r}")
            if mask.shape != weights[name].shape:
                groups = len(mask) if not grouped and mask.dim() else groups
                if mask.shape != (groups, *weights[name].shape):
                    raise ValueError(f"masks[{name!r}] must be {tuple(weights[name].shape)}, or one such mask for each "
                                     f"group and as many groups as the other masks have, got {tuple(mask.shape)}")
                grouped.add(name)

        def run(masks: Masks, *inputs: Any) -> Any:
            return functional_call(self.model, {name: weights[name] * mask for name, mask in masks.items()}, inputs)

        if groups == 1:
            return run({name: mask[0] if name in grouped else mask for name, mask in masks.items()}, *inputs)
        return self._vectorised(run, masks, grouped, groups, inputs)

    def _vectorised(self, run: Callable, masks: Masks, grouped: set[str], groups: int, inputs: tuple) -> Tensor:
        """Every group with its own masks, by one vmap over the groups."""
        if any(isinstance(module, nn.RNNBase | nn.LSTMCell) for module in self.model.modules()):
            raise ValueError("vmap cannot run nn.LSTM, nn.GRU, nn.RNN or nn.LSTMCell with several mask samples: write "
                             "the recurrence as a loop over linear layers, or use one sample")
        axis, split, rows = self.batch_axis, [], set()
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                if tensor.dim() <= axis:
                    raise ValueError(f"inputs must have the batch on axis {axis}, got {tuple(tensor.shape)}")
                require_groups(tensor.shape[axis], groups)
                rows.add(tensor.shape[axis] // groups)
                tensor = tensor.unflatten(axis, (groups, -1))
            split.append(tensor)
        if len(rows) != 1:
            raise ValueError(f"inputs must have one batch size, got {sorted(size * groups for size in rows)}")

        def checked(masks: Masks, *inputs: Any) -> Tensor:
            output = run(masks, *inputs)
            if not isinstance(output, Tensor) or output.shape[self.output_axis:][:1] != (*rows,):
                got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"under several mask samples the model must return one tensor with the group's "
                                 f"{min(rows)} rows on axis {self.output_axis}, got {got}")
            return output

        axes = {name: 0 if name in grouped else None for name in masks}
        in_axes = (axes, *(axis if isinstance(value, Tensor) else None for value in inputs))
        with unfused_attention():
            outputs = torch.vmap(checked, in_axes, self.output_axis)(dict(masks), *split)
        return outputs.flatten(self.output_axis, self.output_axis + 1)


class TrainedMasks(NamedTuple):
    """What train_masks hands back."""

    masks: dict[str, Tensor]    # name -> bool, the parameters' shapes
    losses: Tensor              # (steps,): the task's loss, without the regulariser
    kept: Tensor                # (steps,) in [0, 1]: the share of weights with a logit above 0, after each step


def train_masks(masked: MaskedModel, batches: Iterable[tuple[Tensor | tuple, Any]],
                loss: Callable[[Tensor, Any], Tensor], *, beta: float, generator: torch.Generator, samples: int = 4,
                lr: float = 1e-2, clip: float = 1.0, temperature: float = 1.0, steps: int | None = None
                ) -> TrainedMasks:
    """Find the weights that a function needs: train the logits on its data, with the weights frozen.

    masked       its logits are changed in place, from where they are; a fresh one for every function
    batches      yields (inputs, targets) of this function; inputs is a tensor, or a tuple of several arguments
    loss         (outputs, targets) -> a scalar, the mean over the batch
    beta         strength of the regulariser: calibrate it on the full task, the control without which a drop in
                 accuracy says nothing
    generator    on the logits' device: all randomness, so equal seeds and batches give equal masks
    samples      masks per batch; the batch must divide
    lr, clip     of a fresh Adam; the norm of all gradients together, regulariser included, is clipped
    temperature  above 0
    steps        take so many batches at most; None takes all there are

    A logit that the task does not touch falls by about lr a step whatever beta is (Adam divides the size out, unless
    beta / batch comes near its eps of 1e-8), so from 2.0 an unneeded weight is gone after about 2 / lr steps. Raises
    ValueError on no batch at all, a loss that is not a scalar, a clip that is not positive, and a loss, gradients or
    logits that are not finite. Section 3.1, appendix B.3.2.
    """
    if not clip > 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    logits = masked.logits.values()
    size = sum(part.numel() for part in logits)
    optimiser, losses, kept = torch.optim.Adam(logits, lr=lr), [], []
    for batch in itertools.islice(batches, steps):
        losses.append(mask_step(masked, optimiser, batch, loss, beta=beta, generator=generator, samples=samples,
                                clip=clip, temperature=temperature))
        kept.append(sum(torch.count_nonzero(part > 0) for part in logits) / size)
    if not losses:
        raise ValueError("batches must yield at least one batch, got none")
    return TrainedMasks(masked.masks(), torch.stack(losses), torch.stack(kept))


def mask_step(masked: MaskedModel, optimiser: torch.optim.Optimizer, batch: tuple[Tensor | tuple, Any],
              loss: Callable[[Tensor, Any], Tensor], *, beta: float, generator: torch.Generator, samples: int,
              clip: float, temperature: float) -> Tensor:
    """One step of train_masks, with its arguments and errors; the optimiser is over masked.logits.

    returns  the task's loss, without the regulariser: a scalar without gradient
    """
    logits, (inputs, targets) = masked.logits, batch
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    outputs = masked(*inputs, masks=masked.sample(samples, generator, temperature))
    task = loss(outputs, targets)
    if task.dim():
        raise ValueError(f"loss must return a scalar, got {tuple(task.shape)}")
    optimiser.zero_grad()
    (task + mask_regulariser(logits, beta, inputs[0].shape[masked.batch_axis])).backward()
    gradients = {name: part.grad for name, part in logits.items()}
    norm = nn.utils.get_total_norm(gradients.values())
    if not torch.isfinite(task.detach() + norm):
        broken = [name for name, part in gradients.items() if not torch.isfinite(part).all()]
        raise ValueError(f"the loss and its gradients must be finite, but the loss is {task.item()} and the logits "
                         f"with other gradients are {broken}")
    nn.utils.clip_grads_with_norm_(logits.values(), clip, norm)
    optimiser.step()
    return task.detach()
