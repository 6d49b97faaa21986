"""The differentiable neural computer's memory and its repairs (thesis chapter 2 and appendix A)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from solutions.basics import weighted_recall
from solutions.shapes import require_shapes


def oneplus(x: Tensor) -> Tensor:
    """Map any real number into (1, inf): 1 + log(1 + exp(x)), without overflow. Same shape as x. Appendix A.1."""
    return 1 + softplus(x)


def content_lookup(
    memory: Tensor, key: Tensor, strength: Tensor, mask: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """Address the cells by how similar they are to a key, comparing only what the mask lets through.

    memory    (batch, cells, word)
    key       (batch, heads, word)
    strength  (batch, heads), 1 or more: the higher, the sharper the address
    mask      (batch, heads, word) in [0, 1], one per head; None compares everything
    eps       added to the product of the two norms, so a row (or key) of zeros scores exactly 0
    returns   (batch, heads, cells): non-negative, each row sums to 1

    Any float dtype goes in and comes out, and no argument is changed. Gradients reach all four tensors and are finite
    everywhere, at rows of zeros too. Raises ValueError on shapes that disagree. Equations 2.1 and 2.4 (A.3, A.4).
    """
    require_shapes(
        memory=(memory, "batch cells word"),
        key=(key, "batch heads word"),
        strength=(strength, "batch heads"),
        mask=(key if mask is None else mask, "batch heads word"),
    )
    ### BEGIN SOLUTION
    rows = memory[:, None]                                              # (batch, 1, cells, word)
    if mask is not None:
        rows, key = rows * mask[:, :, None], key * mask                 # rows (batch, heads, cells, word)
    dot = (rows * key[:, :, None]).sum(-1)                              # (batch, heads, cells)
    # vector_norm has a finite gradient at zero; the square root of a sum of squares does not
    norms = torch.linalg.vector_norm(rows, dim=-1) * torch.linalg.vector_norm(key, dim=-1)[..., None]
    return torch.softmax(strength[..., None] * dot / (norms + eps), dim=-1)
    ### END SOLUTION


def retention(free_gates: Tensor, read_weights: Tensor) -> Tensor:
    """How much of each cell is kept after the reads of the last step: psi = prod over heads of (1 - f w).

    free_gates    (batch, heads) in [0, 1]: 1 frees what the head has just read
    read_weights  (batch, heads, cells): where each head read at the last step
    returns       (batch, cells) in [0, 1]: 1 keeps the cell, 0 forgets it

    Gradients reach both and are finite where a cell is freed completely. Raises ValueError on shapes that disagree.
    Equation A.5.
    """
    require_shapes(free_gates=(free_gates, "batch heads"), read_weights=(read_weights, "batch heads cells"))
    ### BEGIN SOLUTION
    return (1 - free_gates[..., None] * read_weights).prod(dim=1)
    ### END SOLUTION


def write_memory(
    memory: Tensor, write_weights: Tensor, erase: Tensor, word: Tensor, retained: Tensor | None = None
) -> Tensor:
    """Forget what was freed, erase where we write, then add the new word. Returns a new memory.

    memory         (batch, cells, word): the memory before the write, left unchanged
    write_weights  (batch, cells), non-negative, sums to at most 1: where to write
    erase          (batch, word) in [0, 1]: which positions of a written cell are cleared first
    word           (batch, word): what is written
    retained       (batch, cells) in [0, 1]: the retention of each cell; None forgets nothing (the plain DNC)
    returns        (batch, cells, word)

    Retention and erasure act on the old content only, never on the word being written. Gradients reach all five.
    Raises ValueError on shapes that disagree. Equation 2.3 (A.8).
    """
    require_shapes(
        memory=(memory, "batch cells word"),
        write_weights=(write_weights, "batch cells"),
        erase=(erase, "batch word"),
        word=(word, "batch word"),
        retained=(write_weights if retained is None else retained, "batch cells"),
    )
    ### BEGIN SOLUTION
    kept = 1 - write_weights[..., None] * erase[:, None]                # (batch, cells, word)
    if retained is not None:
        kept = kept * retained[..., None]
    return memory * kept + write_weights[..., None] * word[:, None]
    ### END SOLUTION


def update_usage(usage: Tensor, write_weights: Tensor, retained: Tensor) -> Tensor:
    """How occupied each cell is: u <- (u + w - u w) psi; written cells fill up, freed cells empty.

    usage          (batch, cells) in [0, 1], before this step
    write_weights  (batch, cells): where the last step wrote
    retained       (batch, cells) in [0, 1]: the retention of this step
    returns        (batch, cells) in [0, 1]

    No argument is changed, and gradients reach all three. Raises ValueError on shapes that disagree. Equation A.6.
    """
    require_shapes(usage=(usage, "batch cells"), write_weights=(write_weights, "batch cells"),
                   retained=(retained, "batch cells"))
    ### BEGIN SOLUTION
    return (usage + write_weights - usage * write_weights) * retained
    ### END SOLUTION


def allocation(usage: Tensor, eps: float = 1e-6) -> Tensor:
    """Point at the emptiest cells: in ascending order of usage, a = (1 - u) times the product of the usages before.

    usage    (batch, cells) in [0, 1]
    eps      every usage is moved to u (1 - eps) + eps first, so that the product keeps a gradient at 0
    returns  (batch, cells), non-negative; its sum is 1 - the product of all moved usages, so a full one gets nothing

    The order itself has no gradient, the usages have, finite in an empty memory too. Cells of equal usage may be taken
    in any order. The dtype stays and usage is not changed. Raises ValueError unless usage has two axes. Appendix A.1,
    below A.6.
    """
    require_shapes(usage=(usage, "batch cells"))
    ### BEGIN SOLUTION
    ascending, order = torch.sort(usage * (1 - eps) + eps, dim=-1)
    before = torch.cumprod(torch.cat([torch.ones_like(ascending[:, :1]), ascending[:, :-1]], dim=-1), dim=-1)
    return torch.zeros_like(usage).scatter(-1, order, (1 - ascending) * before)
    ### END SOLUTION


def update_links(links: Tensor, precedence: Tensor, write_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Remember which cell was written right after which.

    links          (batch, cells, cells): [b, i, j] is how much cell i was written directly after cell j
    precedence     (batch, cells): how much each cell was the last one written, before this write
    write_weights  (batch, cells): where this step writes, sum at most 1
    returns        new links, with a diagonal of zeros, and the precedence after this write, in that order

    The links use the precedence from before the write; whatever is on the diagonal given is cleared too. No argument is
    changed, and gradients reach all three. Raises ValueError on shapes that disagree. Equation A.9.
    """
    require_shapes(precedence=(precedence, "batch cells"), write_weights=(write_weights, "batch cells"),
                   links=(links, "batch cells cells"))
    ### BEGIN SOLUTION
    into, out_of = write_weights[:, :, None], write_weights[:, None]
    linked = (1 - into - out_of) * links + into * precedence[:, None]
    linked = linked * (1 - torch.eye(links.shape[-1], dtype=links.dtype, device=links.device))
    return linked, (1 - write_weights.sum(-1, keepdim=True)) * precedence + write_weights
    ### END SOLUTION


def sharpen(distribution: Tensor, exponent: Tensor, eps: float = 1e-6) -> Tensor:
    """Raise a distribution to a power and normalise it: ((d + eps) / max(d + eps))^s / its sum over the cells.

    distribution  (batch, heads, cells), non-negative; its rows need not sum to 1
    exponent      (batch, heads), 1 or more and finite: 1 only normalises, 100 keeps little but the largest
    returns       (batch, heads, cells); rows sum to 1, a row of zeros becomes uniform

    Finite, with finite gradients to both, for exponents of 100 and more in float32. The dtype stays and no argument is
    changed. Raises ValueError on shapes that disagree. Equation 2.5 with the stabilisation of A.10.
    """
    require_shapes(distribution=(distribution, "batch heads cells"), exponent=(exponent, "batch heads"))
    ### BEGIN SOLUTION
    return torch.softmax(exponent[..., None] * torch.log(distribution + eps), dim=-1)
    ### END SOLUTION


def read_weights(modes: Tensor, backward: Tensor, content: Tensor, forward: Tensor) -> Tensor:
    """Mix three ways to find a cell: the one written before, the one that looks like the key, the one written after.

    modes                       (batch, heads, 3), each row sums to 1, in the order backward, content, forward
    backward, content, forward  (batch, heads, cells), rows sum to at most 1
    returns                     (batch, heads, cells), not normalised again

    No argument is changed, and gradients reach all four. Raises ValueError on shapes that disagree. Equation A.12.
    """
    require_shapes(modes=(modes, "batch heads 3"), backward=(backward, "batch heads cells"),
                   content=(content, "batch heads cells"), forward=(forward, "batch heads cells"))
    ### BEGIN SOLUTION
    ways = torch.stack([backward, content, forward], dim=-1)            # (batch, heads, cells, 3)
    return (ways * modes[:, :, None]).sum(-1)
    ### END SOLUTION


class Interface(NamedTuple):
    """What the controller tells the memory at one step, in the order of A.1, after its non-linearities."""

    read_keys: Tensor           # (batch, heads, word)
    read_strengths: Tensor      # (batch, heads), above 1
    write_key: Tensor           # (batch, 1, word)
    write_strength: Tensor      # (batch, 1), above 1
    erase: Tensor               # (batch, word) in (0, 1)
    word: Tensor                # (batch, word)
    free_gates: Tensor          # (batch, heads) in (0, 1)
    allocation_gate: Tensor     # (batch, 1) in (0, 1)
    write_gate: Tensor          # (batch, 1) in (0, 1)
    modes: Tensor               # (batch, heads, 3), rows sum to 1: backward, content, forward
    write_mask: Tensor | None   # (batch, 1, word) in (floor, 1); None without masking
    read_masks: Tensor | None   # (batch, heads, word) in (floor, 1)
    forward_exponents: Tensor | None    # (batch, heads), above 1; None without sharpening
    backward_exponents: Tensor | None


class DNCState(NamedTuple):
    """Everything that goes from one step to the next; all zeros before the first."""

    memory: Tensor              # (batch, cells, word)
    usage: Tensor               # (batch, cells)
    links: Tensor               # (batch, cells, cells)
    precedence: Tensor          # (batch, cells)
    write_weights: Tensor       # (batch, cells)
    read_weights: Tensor        # (batch, heads, cells)
    read_words: Tensor          # (batch, heads, word)
    hidden: Tensor              # (batch, controller), of an LSTM controller; unused by a feed-forward one
    carry: Tensor               # (batch, controller), the LSTM's cell state


def interface_fields(word: int, heads: int, mask: bool, sharpness: bool) -> dict[str, dict[str, int]]:
    """The parts of the interface vector (A.1) and how many numbers each has, together by what is applied to them.

    A.1 lists them in another order, which only permutes the rows of the layer that emits them.
    """
    plain = dict(read_keys=heads * word, write_key=word, word=word, modes=3 * heads)
    gates = dict(erase=word, free_gates=heads, allocation_gate=1, write_gate=1)
    strengths = dict(read_strengths=heads, write_strength=1)
    if mask:
        gates |= dict(write_mask=word, read_masks=heads * word)
    if sharpness:
        strengths |= dict(forward_exponents=heads, backward_exponents=heads)
    return dict(plain=plain, gates=gates, strengths=strengths)


class DNC(nn.Module):
    """A differentiable neural computer, with any of the three repairs switched on.

    input_size, output_size  channels of an input and of an output step
    cells, word, heads       memory size and read heads; no parameter's size depends on cells
    controller               "lstm" or "feedforward" (one hidden layer, tanh)
    controller_size          width of the controller
    mask                     M: masked content look-up (Eq. 2.1)
    deallocation             D: what is freed is erased from the memory (Eq. 2.3)
    sharpness                S: forward and backward links are sharpened (Eq. 2.5)
    mask_floor               the delta of A.2, in [0, 1): no mask closes further than this

    Raises ValueError on sizes below 1, an unknown controller or a floor outside [0, 1). Appendix A.1.
    """

    def __init__(self, input_size: int, output_size: int, *, cells: int = 16, word: int = 16, heads: int = 1,
                 controller: str = "lstm", controller_size: int = 32, mask: bool = False, deallocation: bool = False,
                 sharpness: bool = False, mask_floor: float = 0.0) -> None:
        super().__init__()
        for name, size in dict(input_size=input_size, output_size=output_size, cells=cells, word=word, heads=heads,
                               controller_size=controller_size).items():
            if size < 1:
                raise ValueError(f"{name} must be 1 or more, got {size}")
        if controller not in ("lstm", "feedforward"):
            raise ValueError(f'controller must be "lstm" or "feedforward", got {controller!r}')
        if not 0 <= mask_floor < 1:
            raise ValueError(f"mask_floor must be in [0, 1), got {mask_floor}")
        self.cells, self.word, self.heads, self.controller_size = cells, word, heads, controller_size
        self.lstm, self.mask_floor = controller == "lstm", mask_floor
        self.mask, self.deallocation, self.sharpness = mask, deallocation, sharpness
        self.fields = interface_fields(word, heads, mask, sharpness)
        width, recurrent = (4 * controller_size, controller_size) if self.lstm else (controller_size, 0)
        self.from_input = nn.Linear(input_size, width)
        self.from_state = nn.Linear(heads * word + recurrent, width, bias=False)
        self.sizes = [sum(part.values()) for part in self.fields.values()]
        self.to_interface = nn.Linear(controller_size, sum(self.sizes))
        self.to_output = nn.Linear(controller_size + heads * word, output_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier weights, zero biases; forget gates and mask logits start at 1 (A.1 suggests the latter)."""
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
        with torch.no_grad():
            if self.lstm:
                self.from_input.bias[: self.controller_size] = 1
            if self.mask:                               # the masks are the last of the gates
                end = self.sizes[0] + self.sizes[1]
                self.to_interface.bias[end - self.word * (1 + self.heads) : end] = 1

    def initial_state(self, batch: int, cells: int | None = None) -> DNCState:
        """A state of zeros on the device and in the dtype of the parameters. cells: another memory size."""
        cells, like = cells or self.cells, self.to_output.weight
        zeros = like.new_zeros
        return DNCState(zeros(batch, cells, self.word), zeros(batch, cells), zeros(batch, cells, cells),
                        zeros(batch, cells), zeros(batch, cells), zeros(batch, self.heads, cells),
                        zeros(batch, self.heads, self.word), zeros(batch, self.controller_size),
                        zeros(batch, self.controller_size))

    def forward(self, inputs: Tensor, state: DNCState | None = None, trace: list | None = None
                ) -> tuple[Tensor, DNCState]:
        """Read a sequence.

        inputs   (time, batch, input_size), any length from 1
        state    where an earlier call ended; None starts with an empty memory
        trace    a list to which (Interface, DNCState) of every step is appended
        returns  (time, batch, output_size) and the state after the last step

        Raises ValueError on inputs of another shape.
        """
        if inputs.dim() != 3 or inputs.shape[2] != self.from_input.in_features or not len(inputs):
            raise ValueError(f"inputs must be (time 1 or more, batch, {self.from_input.in_features}), "
                             f"got {tuple(inputs.shape)}")
        state = self.initial_state(inputs.shape[1]) if state is None else state
        outputs = []
        for step in self.from_input(inputs).unbind(0):          # the part that does not recur, for all steps at once
            interface, state = self.step(step, state)
            outputs.append(torch.cat([state.hidden, state.read_words.flatten(1)], dim=-1))
            if trace is not None:
                trace.append((interface, state))
        return self.to_output(torch.stack(outputs)), state

    def step(self, projected: Tensor, state: DNCState) -> tuple[Interface, DNCState]:
        """One step: controller, write, links, read. projected: from_input(x), (batch, gates x controller_size)."""
        hidden, carry = self.control(projected, state)
        told = self.interface(hidden)
        retained = retention(told.free_gates, state.read_weights)
        # as in the authors' code no gradient flows through the write into the usage
        usage = update_usage(state.usage, state.write_weights.detach(), retained)
        found = content_lookup(state.memory, told.write_key, told.write_strength, told.write_mask)[:, 0]
        fresh = told.allocation_gate
        write_weights = told.write_gate * (fresh * allocation(usage) + (1 - fresh) * found)     # A.7
        memory = write_memory(state.memory, write_weights, told.erase, told.word, self.kept(retained))
        links, precedence = update_links(state.links, state.precedence, write_weights)
        forward, backward = state.read_weights @ links.mT, state.read_weights @ links
        if self.sharpness:
            forward, backward = sharpen(forward, told.forward_exponents), sharpen(backward, told.backward_exponents)
        content = content_lookup(memory, told.read_keys, told.read_strengths, told.read_masks)
        weights = read_weights(told.modes, backward, content, forward)
        words = weighted_recall(memory, weights)
        return told, DNCState(memory, usage, links, precedence, write_weights, weights, words, hidden, carry)

    def kept(self, retained: Tensor) -> Tensor | None:
        """The share of every cell's content that a write keeps: all of it (None) without de-allocation."""
        return retained if self.deallocation else None

    def control(self, projected: Tensor, state: DNCState) -> tuple[Tensor, Tensor]:
        """The controller's output and LSTM cell state, from the input and the words read at the last step."""
        words = state.read_words.flatten(1)
        if not self.lstm:
            return torch.tanh(projected + self.from_state(words)), state.carry
        gates = projected + self.from_state(torch.cat([words, state.hidden], dim=-1))
        opened, candidate = gates.split([3 * self.controller_size, self.controller_size], dim=-1)
        forget, enter, out = torch.sigmoid(opened).chunk(3, dim=-1)
        carry = forget * state.carry + enter * torch.tanh(candidate)
        return out * torch.tanh(carry), carry

    def interface(self, hidden: Tensor) -> Interface:
        """Split what the controller emits (A.1) and bring every part into its range (A.2)."""
        plain, gates, strengths = self.to_interface(hidden).clamp(-20, 20).split(self.sizes, dim=-1)
        told = {}
        for values, sizes in zip((plain, torch.sigmoid(gates), oneplus(strengths)), self.fields.values(), strict=True):
            told |= zip(sizes, values.split(list(sizes.values()), dim=-1), strict=True)
        for name in ("read_keys", "write_key", "write_mask", "read_masks"):
            if name in told:
                told[name] = told[name].view(len(hidden), -1, self.word)
        for name in ("write_mask", "read_masks"):
            told[name] = self.mask_floor + (1 - self.mask_floor) * told[name] if self.mask else None
        told["modes"] = torch.softmax(told["modes"].view(len(hidden), self.heads, 3), dim=-1)
        return Interface(**{field: told.get(field) for field in Interface._fields})
