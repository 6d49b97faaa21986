"""Lesson 00: ways to read a memory wrongly, and other right ways."""

from grader.checks.basics import weighted_recall
from grader.mutants import alternative, mutant

ONE_HOT = "one-hot weights read exactly one cell"
HEADS = "each head reads on its own"
SMALL = "small weights read little, and zeros read a word of zeros"
GRADIENTS = "gradients reach memory and weights, which stay as they were"
READ = "weights @ memory"


def wrong(name, new, told_by):
    mutant(name, weighted_recall, READ, new, told_by)


wrong("averages the heads", "weights.mean(1, keepdim=True).expand_as(weights) @ memory", HEADS)
wrong("adds the heads up", "weights.sum(1, keepdim=True).expand_as(weights) @ memory", ONE_HOT)
wrong("reads every head with the first head's weights", "weights[:, :1].expand_as(weights) @ memory", HEADS)
wrong("sums over the word instead of the cells", "weights @ memory.transpose(1, 2)", ONE_HOT)
wrong("normalises the weights again", "(weights / weights.sum(-1, keepdim=True)) @ memory", SMALL)
wrong("takes a softmax of weights that already are an address", "weights.softmax(-1) @ memory", ONE_HOT)
wrong("reads only the largest weight",
      "memory.gather(1, weights.argmax(-1)[..., None].expand(-1, -1, memory.shape[2]))", SMALL)
wrong("divides by the number of cells", "weights @ memory / memory.shape[1]", ONE_HOT)
wrong("reads every batch entry from the first memory", "weights @ memory[:1]", ONE_HOT)
wrong("detaches the weights", "weights.detach() @ memory", GRADIENTS)
wrong("returns heads and word swapped", "(weights @ memory).transpose(1, 2)", ONE_HOT)
wrong("detaches the memory", "weights @ memory.detach()", GRADIENTS)

alternative("einsum", weighted_recall, '''
    def weighted_recall(memory, weights):
        return torch.einsum("bhc,bcw->bhw", weights, memory)
''')
alternative("broadcast and sum", weighted_recall, '''
    def weighted_recall(memory, weights):
        return (weights[..., None] * memory[:, None]).sum(2)
''')
alternative("a loop over batch and heads", weighted_recall, '''
    def weighted_recall(memory, weights):
        return torch.stack([torch.stack([(row[:, None] * cells).sum(0) for row in heads])
                            for heads, cells in zip(weights, memory)])
''')
