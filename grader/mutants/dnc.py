"""Lesson 01: the likely mistakes of each exercise, and other right solutions."""

from grader.checks.dnc import content_lookup, retention, write_memory
from grader.mutants import alternative, mutant

# content look-up -------------------------------------------------------------------------------------------------

COSINE = "at strength one the address is the softmax over cells of the cosine"
STRENGTH = "the strength of a head sharpens that head, inside the softmax"
MASK = "what the mask hides does not count: not in the product, not in the norms"
EPS = "eps stands once, beside the product of the norms, so an empty row scores exactly 0"
GRADIENTS = "gradients are finite at empty rows, and reach all four arguments"
LAYOUT = "any float dtype and layout goes in, comes out, and is left as it was"

MASKING = "rows, key = rows * mask[:, :, None], key * mask "
NORMS = "norms = torch.linalg.vector_norm(rows, dim=-1) * torch.linalg.vector_norm(key, dim=-1)[..., None]"
RETURN = "torch.softmax(strength[..., None] * dot / (norms + eps), dim=-1)"

for name, old, new, told_by in [
    ("masks the key only", MASKING, "key = key * mask ", MASK),
    ("masks the memory only", MASKING, "rows = rows * mask[:, :, None] ", MASK),
    ("takes the norm of the unmasked rows", NORMS, NORMS.replace("norm(rows", "norm(memory[:, None]"), MASK),
    ("uses the mask of the first head for all heads", MASKING,
     "rows, key = rows * mask[:, :1, None], key * mask[:, :1] ", MASK),
    ("rounds the mask to 0 or 1", MASKING,
     "rows, key = rows * (mask > 0.5)[:, :, None], key * (mask > 0.5) ", MASK),
    ("applies the mask twice", MASKING, "rows, key = rows * mask[:, :, None] ** 2, key * mask ** 2 ", MASK),
    ("ignores the mask", MASKING, "pass ", MASK),
    ("uses the opposite of the mask", MASKING, "rows, key = rows * (1 - mask[:, :, None]), key * (1 - mask) ", MASK),
    ("takes the dot product without norms", RETURN, "torch.softmax(strength[..., None] * dot, dim=-1)", COSINE),
    ("divides by one norm only", NORMS, "norms = torch.linalg.vector_norm(rows, dim=-1)", COSINE),
    ("looks for the least similar cell", RETURN, RETURN.replace("* dot", "* -dot"), COSINE),
    ("normalises over the heads", RETURN, RETURN.replace("dim=-1", "dim=1"), COSINE),
    ("normalises over the batch", RETURN, RETURN.replace("dim=-1", "dim=0"), COSINE),
    ("returns scores, not an address", RETURN, "strength[..., None] * dot / (norms + eps)", COSINE),
    ("ignores the strength", RETURN, RETURN.replace("strength[..., None] * ", ""), STRENGTH),
    ("applies the strength after the softmax", RETURN,
     "strength[..., None] * torch.softmax(dot / (norms + eps), dim=-1)", STRENGTH),
    ("divides by the strength as if it were a temperature", RETURN,
     RETURN.replace("strength[..., None] * dot", "dot / strength[..., None]"), STRENGTH),
    ("lays the strengths along the cells", RETURN, RETURN.replace(
        "strength[..., None]", "(strength[:, None] if strength.shape[1] == dot.shape[2] else strength[..., None])"),
     STRENGTH),
    ("adds eps to each norm", NORMS, "norms = (torch.linalg.vector_norm(rows, dim=-1) + eps) "
     "* (torch.linalg.vector_norm(key, dim=-1)[..., None] + eps) - eps", EPS),
    ("uses eps as a lower bound of the denominator", RETURN, RETURN.replace("(norms + eps)", "norms.clamp_min(eps)"),
     EPS),
    ("uses cosine_similarity, whose eps is a lower bound of each norm", RETURN,
     "torch.softmax(strength[..., None] * torch.cosine_similarity(key[:, :, None], rows, dim=-1, eps=eps), dim=-1)",
     EPS),
    ("scores empty rows with minus infinity", RETURN, "torch.softmax((strength[..., None] * dot / (norms + eps))"
     ".masked_fill(norms == 0, float('-inf')), dim=-1)", EPS),
    ("forgets eps", RETURN, RETURN.replace("(norms + eps)", "norms"), EPS),
    ("takes the square root of a sum of squares", NORMS,
     "norms = (rows ** 2).sum(-1).sqrt() * (key ** 2).sum(-1).sqrt()[..., None]", GRADIENTS),
    ("detaches the norms", RETURN, RETURN.replace("norms + eps", "norms.detach() + eps"), GRADIENTS),
    ("makes its default mask in float32", "    if mask is not None:\n",
     "    mask = torch.ones(key.shape) if mask is None else mask\n    if mask is not None:\n", LAYOUT),
    ("masks the key in place", MASKING, "rows = rows * mask[:, :, None]; key = key.detach().mul_(mask) ", GRADIENTS),
    ("computes in float32 whatever comes", RETURN, "torch.softmax((strength[..., None] * dot / (norms + eps))"
     ".float(), dim=-1)", COSINE),
]:
    mutant(name, content_lookup, old, new, told_by)

alternative("matrix products of squared masks", content_lookup, '''
    def content_lookup(memory, key, strength, mask=None, eps=1e-6):
        mask = torch.ones_like(key) if mask is None else mask
        dot = (key * mask.square()) @ memory.mT
        rows = mask.square() @ memory.square().mT
        row_norm = torch.where(rows > 0, rows.clamp_min(1e-38).sqrt(), rows)
        key_norm = torch.linalg.vector_norm(key * mask, dim=-1, keepdim=True)
        return (strength[..., None] * dot / (row_norm * key_norm + eps)).softmax(-1)
''')
alternative("one head at a time", content_lookup, '''
    def content_lookup(memory, key, strength, mask=None, eps=1e-6):
        heads = []
        for head in range(key.shape[1]):
            k, m = key[:, head], torch.ones_like(key[:, head]) if mask is None else mask[:, head]
            rows, k = memory * m.unsqueeze(1), k * m
            score = torch.einsum("bnw,bw->bn", rows, k) / (rows.norm(dim=-1) * k.norm(dim=-1, keepdim=True) + eps)
            heads.append(torch.softmax(score * strength[:, head, None], dim=1))
        return torch.stack(heads, dim=1)
''')
alternative("log-softmax and einsum", content_lookup, '''
    def content_lookup(memory, key, strength, mask=None, eps=1e-6):
        if mask is None:
            mask = torch.ones_like(key)
        rows = torch.einsum("bnw,bhw->bhnw", memory, mask)
        key = key * mask
        score = torch.einsum("bhnw,bhw->bhn", rows, key)
        score = score / (torch.einsum("bhn,bh->bhn", rows.norm(dim=3), key.norm(dim=2)) + eps)
        return torch.log_softmax(score * strength.unsqueeze(2), 2).exp()
''')

# retention --------------------------------------------------------------------------------------------------------

EXTREMES = "closed gates keep everything; an open gate forgets exactly what was read"
PROPORTION = "a half-open gate forgets in proportion to gate and weight"
PRODUCT = "the heads' factors multiply"
OWN_HEAD = "each gate belongs to its own head, and gradients are finite where a cell is fully freed"
PSI = "(1 - free_gates[..., None] * read_weights).prod(dim=1)"

for name, new, told_by in [
    ("adds the heads up instead of multiplying", "1 - (free_gates[..., None] * read_weights).sum(dim=1)", PRODUCT),
    ("adds the heads up, held at 0 or more",
     "(1 - (free_gates[..., None] * read_weights).sum(dim=1)).clamp_min(0)", PRODUCT),
    ("averages the heads", "(1 - free_gates[..., None] * read_weights).mean(dim=1)", PRODUCT),
    ("takes the strongest head only", "(1 - free_gates[..., None] * read_weights).amin(dim=1)", PRODUCT),
    ("uses the first head only", "(1 - free_gates[..., None] * read_weights)[:, 0]", PRODUCT),
    ("multiplies what is freed instead of what is kept",
     "1 - (free_gates[..., None] * read_weights).prod(dim=1)", PRODUCT),
    ("returns what is freed, not what is kept", "(free_gates[..., None] * read_weights).prod(dim=1)", EXTREMES),
    ("ignores the gates", "(1 - read_weights).prod(dim=1)", EXTREMES),
    ("ignores where was read", "(1 - free_gates[..., None] * torch.ones_like(read_weights)).prod(dim=1)", EXTREMES),
    ("takes the gate for a keep gate", "(1 - (1 - free_gates[..., None]) * read_weights).prod(dim=1)", EXTREMES),
    ("frees what was not read", "(1 - free_gates[..., None] * (1 - read_weights)).prod(dim=1)", EXTREMES),
    ("multiplies the gate outside", "(free_gates[..., None] * (1 - read_weights)).prod(dim=1)", EXTREMES),
    ("rounds the gates", "(1 - free_gates[..., None].round() * read_weights).prod(dim=1)", PROPORTION),
    ("squares the weights", "(1 - free_gates[..., None] * read_weights ** 2).prod(dim=1)", PROPORTION),
    ("multiplies over the cells", "(1 - free_gates[..., None] * read_weights).prod(dim=2)", EXTREMES),
    ("keeps the head axis", "(1 - free_gates[..., None] * read_weights).prod(dim=1, keepdim=True)", EXTREMES),
    ("lays the gates along the cells", "(1 - (free_gates[:, None] if read_weights.shape[1] == read_weights.shape[2] "
     "else free_gates[..., None]) * read_weights).prod(dim=1)", OWN_HEAD),
    ("multiplies through logarithms", "(1 - free_gates[..., None] * read_weights).log().sum(dim=1).exp()", OWN_HEAD),
    ("multiplies through logarithms, with a small number against zero",
     "(1 - free_gates[..., None] * read_weights).clamp_min(1e-8).log().sum(dim=1).exp()", EXTREMES),
    ("detaches the gates", "(1 - free_gates.detach()[..., None] * read_weights).prod(dim=1)", OWN_HEAD),
]:
    mutant(name, retention, PSI, new, told_by)

alternative("a loop over heads", retention, '''
    def retention(free_gates, read_weights):
        kept = torch.ones_like(read_weights[:, 0])
        for head in range(free_gates.shape[1]):
            kept = kept * (1 - free_gates[:, head].unsqueeze(-1) * read_weights[:, head])
        return kept
''')
alternative("reduce of einsum", retention, '''
    def retention(free_gates, read_weights):
        kept = 1 - torch.einsum("bh,bhc->hbc", free_gates, read_weights)
        product = kept[0]
        for other in kept[1:]:
            product = product.mul(other)
        return product
''')

# write ------------------------------------------------------------------------------------------------------------

PLAIN = "without retention it is the plain write: erase where the weight is, then add"
CELLS = "retention scales the old content, cell by cell"
WHOLE = "the new word arrives whole: retention and erasure are for the old content"
COMPOSE = "forgetting, erasing and adding compose as in Eq. 2.3"
UNTOUCHED = "the given memory stays as it was, and gradients reach every argument"

KEPT = "kept = 1 - write_weights[..., None] * erase[:, None]"
FORGET = "kept = kept * retained[..., None]"
WRITE = "memory * kept + write_weights[..., None] * word[:, None]"

for name, old, new, told_by in [
    ("shrinks the new word by the retention too", WRITE,
     "(memory * kept + write_weights[..., None] * word[:, None]) * (1 if retained is None else retained[..., None]) "
     "+ (0 if retained is None else memory * kept * (1 - retained[..., None]))", WHOLE),
    ("erases after adding, its own word too", WRITE, "(memory * (1 if retained is None else retained[..., None]) "
     "+ write_weights[..., None] * word[:, None]) * (1 - write_weights[..., None] * erase[:, None])", PLAIN),
    ("lays the retention along the word", FORGET,
     "kept = kept * (retained[:, None] if retained.shape[1] == memory.shape[2] else retained[..., None])", CELLS),
    ("keeps what should be forgotten", FORGET, "kept = kept * (1 - retained[..., None])", CELLS),
    ("ignores the retention", FORGET, "kept = kept", CELLS),
    ("adds retention and erasure instead of multiplying", FORGET, "kept = kept + retained[..., None] - 1", COMPOSE),
    ("takes the stronger of forgetting and erasing", FORGET, "kept = torch.minimum(kept, retained[..., None])",
     COMPOSE),
    ("forgets only where it writes", FORGET, "kept = kept * (1 - write_weights * (1 - retained))[..., None]", CELLS),
    ("subtracts weight and erase instead of their product", KEPT,
     "kept = 1 - write_weights[..., None] - erase[:, None]", PLAIN),
    ("multiplies (1 - w) and (1 - e) instead of 1 - w e", KEPT,
     "kept = (1 - write_weights[..., None]) * (1 - erase[:, None])", PLAIN),
    ("erases every cell, written or not", KEPT, "kept = (1 - erase[:, None]).expand_as(memory)", PLAIN),
    ("ignores the erase vector", KEPT, "kept = 1 - write_weights[..., None]", PLAIN),
    ("takes erase for keep", KEPT, "kept = 1 - write_weights[..., None] * (1 - erase[:, None])", PLAIN),
    ("never erases", KEPT, "kept = torch.ones_like(memory)", PLAIN),
    ("overwrites instead of adding", WRITE, "write_weights[..., None] * word[:, None]", PLAIN),
    ("adds the word to every cell", WRITE, "memory * kept + word[:, None]", PLAIN),
    ("gates the word by erase", WRITE, "memory * kept + write_weights[..., None] * (erase * word)[:, None]", PLAIN),
    ("writes into the given memory", WRITE,
     "memory.detach().mul_(kept.detach()).add_(write_weights.detach()[..., None] * word.detach()[:, None])",
     UNTOUCHED),
    ("detaches the old memory", WRITE, "memory.detach() * kept + write_weights[..., None] * word[:, None]", UNTOUCHED),
    ("detaches the retention", FORGET, "kept = kept * retained.detach()[..., None]", UNTOUCHED),
]:
    mutant(name, write_memory, old, new, told_by)

alternative("einsum and where", write_memory, '''
    def write_memory(memory, write_weights, erase, word, retained=None):
        if retained is None:
            retained = torch.ones_like(write_weights)
        erased = memory - memory * torch.einsum("bn,bw->bnw", write_weights, erase)
        return torch.einsum("bnw,bn->bnw", erased, retained) + torch.einsum("bn,bw->bnw", write_weights, word)
''')
alternative("outer products by bmm", write_memory, '''
    def write_memory(memory, write_weights, erase, word, retained=None):
        w = write_weights.unsqueeze(2)
        old = memory if retained is None else memory * retained.unsqueeze(2)
        return old * (1 - torch.bmm(w, erase.unsqueeze(1))) + torch.bmm(w, word.unsqueeze(1))
''')
alternative("cell by cell", write_memory, '''
    def write_memory(memory, write_weights, erase, word, retained=None):
        rows = []
        for n in range(memory.shape[1]):
            share = write_weights[:, n, None]
            row = memory[:, n] * (1 - share * erase)
            rows.append((row if retained is None else row * retained[:, n, None]) + share * word)
        return torch.stack(rows, 1)
''')
