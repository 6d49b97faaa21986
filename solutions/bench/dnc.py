"""A training iteration of the copy task, against a literal transcription and an LSTM of the same width."""

import torch
from torch import Tensor, nn

from solutions.bench import fastest, kept_for_backward
from solutions.dnc import DNC
from solutions.tasks.copy import copy
from solutions.tasks.metrics import summed_bce

ALL = dict(mask=True, deallocation=True, sharpness=True)
TOGETHER = 9                                                # models trained at once


class LiteralDNC(nn.Module):
    """Appendix A.1 formula by formula, every head and every number of the interface on its own; batched, no more.

    net  the DNC whose parameters and switches it uses
    """

    def __init__(self, net: DNC) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        net, batch, eps = self.net, inputs.shape[1], 1e-6
        zeros = inputs.new_zeros
        ones = inputs.new_ones(batch, net.cells, net.word)
        memory, links = zeros(batch, net.cells, net.word), zeros(batch, net.cells, net.cells)
        usage, precedence, written = (zeros(batch, net.cells) for _ in range(3))
        hidden, carry = zeros(batch, net.controller_size), zeros(batch, net.controller_size)
        read = [zeros(batch, net.cells) for _ in range(net.heads)]
        words = [zeros(batch, net.word) for _ in range(net.heads)]
        names = [name for part in net.fields.values() for name in part]
        sizes = [size for part in net.fields.values() for size in part.values()]
        heads, outputs = range(net.heads), []
        for x in inputs:
            gates = net.from_input(x) + net.from_state(torch.cat([*words, hidden], dim=1))
            forget, enter, out, candidate = gates.chunk(4, dim=1)
            carry = torch.sigmoid(forget) * carry + torch.sigmoid(enter) * torch.tanh(candidate)
            hidden = torch.sigmoid(out) * torch.tanh(carry)
            xi = dict(zip(names, net.to_interface(hidden).clamp(-20, 20).split(sizes, dim=1), strict=True))
            read_keys, modes = xi["read_keys"].chunk(net.heads, dim=1), xi["modes"].chunk(net.heads, dim=1)
            masks = xi["read_masks"].chunk(net.heads, dim=1) if net.mask else [None] * net.heads
            psi = torch.ones_like(usage)
            for i in heads:                                                             # A.5
                psi = psi * (1 - torch.sigmoid(xi["free_gates"][:, i : i + 1]) * read[i])
            w = written.detach()
            usage = (usage + w - usage * w) * psi                                       # A.6
            moved = usage * (1 - eps) + eps
            order = torch.argsort(moved, dim=1)
            allocated, before = torch.zeros_like(usage), torch.ones_like(usage[:, :1])
            for j in range(net.cells):
                u = moved.gather(1, order[:, j : j + 1])
                allocated = allocated.scatter(1, order[:, j : j + 1], (1 - u) * before)
                before = before * u
            found = self.lookup(memory, xi["write_key"], xi["write_strength"], xi.get("write_mask"))
            fresh, write = torch.sigmoid(xi["allocation_gate"]), torch.sigmoid(xi["write_gate"])
            written = write * (fresh * allocated + (1 - fresh) * found)                 # A.7
            erase = written[:, :, None] @ torch.sigmoid(xi["erase"])[:, None]
            if net.deallocation:                                                        # A.8
                memory = memory * (psi[:, :, None] @ torch.ones_like(xi["word"])[:, None])
            memory = memory * (ones - erase) + written[:, :, None] @ xi["word"][:, None]
            into, out_of = written[:, :, None].expand_as(links), written[:, None].expand_as(links)
            links = (1 - into - out_of) * links + into * precedence[:, None].expand_as(links)   # A.9
            links = links - torch.diag_embed(torch.diagonal(links, dim1=1, dim2=2))
            precedence = (1 - written.sum(1, keepdim=True)) * precedence + written
            for i in heads:
                forward, backward = (links @ read[i][:, :, None])[..., 0], (links.mT @ read[i][:, :, None])[..., 0]
                if net.sharpness:                                                       # A.10
                    forward = self.sharpen(forward, xi["forward_exponents"][:, i : i + 1])
                    backward = self.sharpen(backward, xi["backward_exponents"][:, i : i + 1])
                content = self.lookup(memory, read_keys[i], xi["read_strengths"][:, i : i + 1], masks[i])
                pi = torch.softmax(modes[i], dim=1)
                read[i] = pi[:, :1] * backward + pi[:, 1:2] * content + pi[:, 2:] * forward     # A.12
                words[i] = (memory.mT @ read[i][:, :, None])[..., 0]
            outputs.append(net.to_output(torch.cat([hidden, *words], dim=1)))
        return torch.stack(outputs)

    def lookup(self, memory: Tensor, key: Tensor, strength: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:                                                            # A.2, A.3
            mask = self.net.mask_floor + (1 - self.net.mask_floor) * torch.sigmoid(mask)
            memory, key = memory * mask[:, None], key * mask
        norms = torch.linalg.vector_norm(memory, dim=2) * torch.linalg.vector_norm(key, dim=1)[:, None]
        cosine = (memory @ key[:, :, None])[..., 0] / (norms + 1e-6)                    # A.4
        return torch.softmax((1 + torch.nn.functional.softplus(strength)) * cosine, dim=1)

    def sharpen(self, distribution: Tensor, exponent: Tensor) -> Tensor:
        moved = distribution + 1e-6
        power = (moved / moved.max(dim=1, keepdim=True).values) ** (1 + torch.nn.functional.softplus(exponent))
        return power / power.sum(dim=1, keepdim=True)


class CellLoop(nn.Module):
    """An nn.LSTMCell stepped by hand: what any recurrent loop of this width costs."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.cell, self.to_output = nn.LSTMCell(inputs, width), nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        state, outputs = None, []
        for x in inputs:
            state = self.cell(x, state)
            outputs.append(state[0])
        return self.to_output(torch.stack(outputs))


def measure(rounds: int) -> list[str]:
    """Memory 16 x 16, one head, LSTM 32, batch 16, a pattern of 17 rows: 36 steps."""
    from solutions.experiments.ensemble import Ensemble

    batch = copy(17, 8, 16, generator=torch.Generator().manual_seed(0))
    plain, full = DNC(9, 9), DNC(9, 9, **ALL)
    together = Ensemble(lambda: DNC(9, 9, **ALL), range(TOGETHER))
    models = {"plain": lambda x: plain(x)[0], "mds": lambda x: full(x)[0], "literal_plain": LiteralDNC(plain),
              "literal_mds": LiteralDNC(full), "lstm_cell": CellLoop(9, 32, 9)}

    def loss(name: str) -> Tensor:
        return summed_bce(models[name](batch.inputs), batch.targets).mean()

    calls = {name: (lambda name=name: loss(name).backward()) for name in models}
    calls["together"] = lambda: together(batch.inputs.expand(TOGETHER, -1, -1, -1)).square().mean().backward()
    spent = fastest(calls, rounds)
    kept = {name: kept_for_backward(lambda name=name: loss(name)) for name in models}
    return [
        f"{len(batch.inputs)} steps forward and backward: DNC {1e3 * spent['plain']:.0f} ms, DNC-MDS "
        f"{1e3 * spent['mds']:.0f} ms, nn.LSTMCell loop {1e3 * spent['lstm_cell']:.0f} ms; kept for the gradient: "
        f"DNC-MDS {kept['mds'] / 1e6:.1f} MB",
        f"dnc.plain_to_literal ratio={spent['plain'] / spent['literal_plain']:.3f}",
        f"dnc.mds_to_literal ratio={spent['mds'] / spent['literal_mds']:.3f}",
        f"dnc.plain_to_lstm_cell ratio={spent['plain'] / spent['lstm_cell']:.3f}",
        f"dnc.mds_to_lstm_cell ratio={spent['mds'] / spent['lstm_cell']:.3f}",
        f"dnc.nine_together_to_one ratio={spent['together'] / spent['mds']:.3f}",
        f"dnc.mds_memory_to_literal ratio={kept['mds'] / kept['literal_mds']:.3f}",
    ]
