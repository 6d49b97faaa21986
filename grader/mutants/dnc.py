"""Lesson 01: the likely mistakes of each exercise, and other right solutions."""

from grader.checks.dnc import (
    allocation,
    content_lookup,
    read_weights,
    retention,
    sharpen,
    update_links,
    update_usage,
    write_memory,
)
from grader.mutants import alternative, equivalent, mutant

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

# usage ------------------------------------------------------------------------------------------------------------

FULL = "a full write fills a cell, a full free empties it, and the others stay as they were"
FILLS = "partial writes fill up what is still empty, and never pass 1"
FREES = "freeing comes after the write, on old and new usage alike"
USAGE_GRADIENTS = "the arguments stay as they were, and gradients reach all three"
USAGE = "(usage + write_weights - usage * write_weights) * retained"

for name, new, told_by in [
    ("adds the write without taking away the overlap", "(usage + write_weights) * retained", FILLS),
    ("adds the write and cuts off at 1", "(usage + write_weights).clamp(max=1) * retained", FILLS),
    ("takes the larger of usage and write", "torch.maximum(usage, write_weights) * retained", FILLS),
    ("averages usage and write", "(usage + write_weights) / 2 * retained", FULL),
    ("takes the overlap of usage and write", "usage * write_weights * retained", FULL),
    ("rounds usage to full or empty", USAGE.replace(") *", ").round() *"), FULL),
    ("rounds the retention", USAGE + ".round()", FREES),
    ("remembers the last write only", "write_weights * retained", FULL),
    ("ignores the write", "usage * retained", FULL),
    ("empties what is written", "(usage - usage * write_weights) * retained", FULL),
    ("fills with the square of the write", "(usage + write_weights ** 2 * (1 - usage)) * retained", FILLS),
    ("ignores the retention", "usage + write_weights - usage * write_weights", FULL),
    ("takes the retention for what is freed", USAGE.replace("* retained", "* (1 - retained)"), FULL),
    ("subtracts what is freed, down to 0 at least",
     "(usage + write_weights - usage * write_weights - (1 - retained)).clamp_min(0)", FREES),
    ("takes the smaller of usage and retention",
     "torch.minimum(usage + write_weights - usage * write_weights, retained)", FREES),
    ("frees before it writes", "usage * retained + write_weights - usage * retained * write_weights", FREES),
    ("frees the old usage only, in the first term", "usage * retained + write_weights - usage * write_weights", FREES),
    ("frees the new write only", "usage + (write_weights - usage * write_weights) * retained", FREES),
    ("frees twice", USAGE + " ** 2", FREES),
    ("writes into the given usage", "usage.detach().add_(write_weights.detach() * (1 - usage.detach()))"
     ".mul_(retained.detach())", USAGE_GRADIENTS),
    ("detaches the write weights", "(usage + write_weights.detach() * (1 - usage)) * retained", USAGE_GRADIENTS),
    ("detaches the retention", USAGE + ".detach()", USAGE_GRADIENTS),
]:
    mutant(name, update_usage, USAGE, new, told_by)

alternative("what stays empty", update_usage, '''
    def update_usage(usage, write_weights, retained):
        return (1 - (1 - usage) * (1 - write_weights)) * retained
''')
alternative("interpolation towards one", update_usage, '''
    def update_usage(usage, write_weights, retained):
        return usage.lerp(torch.ones_like(usage), write_weights).mul(retained)
''')
alternative("retention multiplied in, cell by cell", update_usage, '''
    def update_usage(usage, write_weights, retained):
        cells = []
        for u, w, kept in zip(usage.unbind(1), write_weights.unbind(1), retained.unbind(1)):
            cells.append(u * kept + w * kept - u * w * kept)
        return torch.stack(cells, 1)
''')

# allocation -------------------------------------------------------------------------------------------------------

EMPTY = "one empty cell among used ones gets everything"
ASCENDING = "in ascending order each cell gets 1 - u times the product of all emptier cells"
GIVEN_OUT = "what is given out is 1 - the product of all usages, in whatever order equal cells come"
MOVED = "usages are moved to u (1 - eps) + eps first, everywhere they are used"
ALLOCATION_GRADIENTS = "gradients are finite in an empty memory and right elsewhere; argument and dtype stay"

SORT = "torch.sort(usage * (1 - eps) + eps, dim=-1)"
BEFORE = "torch.cumprod(torch.cat([torch.ones_like(ascending[:, :1]), ascending[:, :-1]], dim=-1), dim=-1)"
PLACE = "torch.zeros_like(usage).scatter(-1, order, (1 - ascending) * before)"

for name, old, new, told_by in [
    ("includes a cell's own usage in its product", BEFORE, "torch.cumprod(ascending, dim=-1)", ASCENDING),
    ("starts with the fullest cell", SORT, SORT.replace("dim=-1", "dim=-1, descending=True"), ASCENDING),
    ("goes through the cells without sorting them", SORT,
     "usage * (1 - eps) + eps, torch.arange(usage.shape[1]).expand_as(usage)", ASCENDING),
    ("leaves the result in sorted order", PLACE, "(1 - ascending) * before", EMPTY),
    ("gathers by the order instead of scattering", PLACE, "((1 - ascending) * before).gather(-1, order)", EMPTY),
    ("sorts the batch instead of the cells", SORT, SORT.replace("dim=-1", "dim=0"), EMPTY),
    ("puts all entries in the order of the first", PLACE,
     PLACE.replace("order,", "order[:1].expand_as(order),"), EMPTY),
    ("forgets the product of the emptier cells", PLACE, PLACE.replace(" * before", ""), EMPTY),
    ("forgets the factor 1 - u", PLACE, PLACE.replace("(1 - ascending) * before", "before"), ASCENDING),
    ("uses only the usage of the next emptier cell", BEFORE,
     "torch.cat([torch.ones_like(ascending[:, :1]), ascending[:, :-1]], dim=-1)", ASCENDING),
    ("multiplies what is free instead of what is used", BEFORE, BEFORE.replace(
        "ascending[:, :-1]]", "1 - ascending[:, :-1]]"), EMPTY),
    ("gives everything to the emptiest cell", PLACE,
     "torch.zeros_like(usage).scatter(-1, order[:, :1], 1.0) + 0 * usage", ASCENDING),
    ("takes a softmax of what is free", PLACE, "torch.softmax(1 - (usage * (1 - eps) + eps), dim=-1)", EMPTY),
    ("normalises what is given out to 1", PLACE, "(lambda a: a / a.sum(-1, keepdim=True))(" + PLACE + ")", GIVEN_OUT),
    ("lets equal cells share a place in the order", PLACE, "(lambda u: (1 - u) * torch.where(u[:, None] < u[:, :, None]"
     ", u[:, None], torch.ones_like(u[:, None])).prod(-1))(usage * (1 - eps) + eps)", GIVEN_OUT),
    ("ignores eps", SORT, "torch.sort(usage, dim=-1)", MOVED),
    ("adds eps without making room for it", SORT, "torch.sort(usage + eps, dim=-1)", MOVED),
    ("uses eps as a lower bound of the usages", SORT, "torch.sort(usage.clamp_min(eps), dim=-1)", MOVED),
    ("uses the moved usages in the product only", PLACE,
     PLACE.replace("1 - ascending", "1 - usage.gather(-1, order)"), MOVED),
    ("multiplies through logarithms without eps", SORT + "\n    before = " + BEFORE, "torch.sort(usage, dim=-1)\n"
     "    before = torch.exp(ascending.log().cumsum(-1) - ascending.log()).nan_to_num(1.0)", MOVED),
    ("detaches what is free", PLACE, PLACE.replace("1 - ascending", "1 - ascending.detach()"), ALLOCATION_GRADIENTS),
    ("detaches the product", PLACE, PLACE.replace("before)", "before.detach())"), ALLOCATION_GRADIENTS),
    ("moves the given usages in place", SORT, "torch.sort(usage.detach().mul_(1 - eps).add_(eps), dim=-1)",
     ALLOCATION_GRADIENTS),
    ("computes in float64 whatever comes", PLACE, PLACE + ".double()", ALLOCATION_GRADIENTS),
]:
    mutant(name, allocation, old, new, told_by)

alternative("the inclusive product divided by the own usage", allocation, '''
    def allocation(usage, eps=1e-6):
        usage = eps + (1 - eps) * usage
        order = usage.argsort(dim=1, stable=True)
        ordered = usage.gather(1, order)
        result = (1 - ordered) * ordered.cumprod(1) / ordered
        return result.gather(1, order.argsort(dim=1))
''')
alternative("sums of logarithms over the cells that come before", allocation, '''
    def allocation(usage, eps=1e-6):
        usage = usage * (1 - eps) + eps
        rank = usage.argsort(dim=-1, descending=True).flip(-1).argsort(dim=-1)
        before = (rank[:, None] < rank[:, :, None]).to(usage.dtype)         # (batch, cell, those before it)
        return (1 - usage) * (before @ usage.log()[..., None])[..., 0].exp()
''')
alternative("a loop with what is left over", allocation, '''
    def allocation(usage, eps=1e-6):
        usage = usage - usage * eps + eps
        order, left = usage.detach().argsort(-1), torch.ones_like(usage[:, :1])
        address = torch.zeros_like(usage)
        for cell in order.split(1, dim=-1):
            here = usage.gather(-1, cell)
            address = address.scatter(-1, cell, left - left * here)
            left = left * here
        return address
''')
for place in ("line 1, column 63", "line 2, column 97", "line 2, column 106", "line 3, column 43"):
    equivalent(allocation, f"{place}: sign dropped", "usage has two axes, so axis 1 is axis -1")
equivalent(allocation, "line 1, column 59: dim= dropped", "torch.sort sorts the last axis unless told otherwise")

# links ------------------------------------------------------------------------------------------------------------

CHAIN = "writing cell after cell links each to the one before it, and to nothing else"
DIAGONAL = "no cell follows itself: the diagonal is zero, whatever is given or written"
FADES = "a write fades the links of its cells and adds w times the precedence from before"
PRECEDENCE = "precedence fades by the sum of the write, in all cells alike, and gains the write"
LINK_GRADIENTS = "a step without a write changes nothing; the arguments stay, and gradients reach all three"

LINKED = "(1 - into - out_of) * links + into * precedence[:, None]"
CLEAR = "linked = linked * (1 - torch.eye(links.shape[-1], dtype=links.dtype, device=links.device))"
AFTER = "(1 - write_weights.sum(-1, keepdim=True)) * precedence + write_weights"

for name, old, new, told_by in [
    ("links the earlier cell to the later one, transposed", LINKED,
     "(1 - into - out_of) * links + out_of * precedence[:, :, None]", CHAIN),
    ("transposes the links at every step", CLEAR, CLEAR + "; linked = linked.mT", CHAIN),
    ("uses the precedence after this write", LINKED, LINKED.replace("precedence[:, None]", f"({AFTER})[:, None]"),
     FADES),
    ("links the cells of one write to each other", LINKED, LINKED.replace("precedence[:, None]", "out_of"), CHAIN),
    ("adds the precedence to every row", LINKED, LINKED.replace("into * precedence", "precedence"), CHAIN),
    ("overwrites the links instead of adding", LINKED, "into * precedence[:, None]", CHAIN),
    ("keeps the share (1 - w[i]) (1 - w[j])", LINKED,
     LINKED.replace("(1 - into - out_of)", "(1 - into) * (1 - out_of)"), FADES),
    ("fades by the later cell's weight only", LINKED, LINKED.replace(" - out_of", ""), FADES),
    ("fades by the earlier cell's weight only", LINKED, LINKED.replace(" - into", ""), FADES),
    ("never fades a link", LINKED, LINKED.replace("(1 - into - out_of) * ", ""), FADES),
    ("normalises the rows of the links", CLEAR, CLEAR + "\n    linked = linked / linked.sum(-1, keepdim=True)"
     ".clamp_min(1e-9)", FADES),
    ("leaves the diagonal as it comes", CLEAR, "pass", DIAGONAL),
    ("clears the diagonal before the new links come", LINKED, LINKED.replace(
        "* links", "* (links * (1 - torch.eye(links.shape[-1], dtype=links.dtype)))") + "; return linked, " + AFTER,
     DIAGONAL),
    ("sets the diagonal to 1", CLEAR, CLEAR + " + torch.eye(links.shape[-1], dtype=links.dtype)", DIAGONAL),
    ("fades the precedence of the written cells only", AFTER, "(1 - write_weights) * precedence + write_weights",
     PRECEDENCE),
    ("never fades the precedence", AFTER, "precedence + write_weights", PRECEDENCE),
    ("takes this write for the precedence", AFTER, "write_weights + 0 * precedence", PRECEDENCE),
    ("fades the precedence by the writes of the whole batch", AFTER, AFTER.replace("sum(-1, keepdim=True)", "sum()"),
     PRECEDENCE),
    ("fades the precedence by the strongest weight", AFTER, AFTER.replace("sum(", "amax("), PRECEDENCE),
    ("returns the precedence before the links", "return linked, " + AFTER, f"return {AFTER}, linked", CHAIN),
    ("clears the diagonal of the given links in place", LINKED, "(links.detach().diagonal(dim1=1, dim2=2).zero_(), "
     f"{LINKED})[1]", LINK_GRADIENTS),
    ("detaches the precedence", LINKED, LINKED.replace("precedence", "precedence.detach()"), LINK_GRADIENTS),
    ("detaches the given links", LINKED, LINKED.replace("links", "links.detach()"), LINK_GRADIENTS),
]:
    mutant(name, update_links, old, new, told_by)

alternative("outer products and masked_fill", update_links, '''
    def update_links(links, precedence, write_weights):
        cells = links.shape[1]
        w = write_weights.unsqueeze(2).expand(-1, -1, cells)
        new = links - w * links - w.transpose(1, 2) * links + torch.einsum("bi,bj->bij", write_weights, precedence)
        new = new.masked_fill(torch.eye(cells, dtype=torch.bool), 0)
        return new, precedence - write_weights.sum(1)[:, None] * precedence + write_weights
''')
alternative("the diagonal subtracted, the precedence computed first", update_links, '''
    def update_links(links, precedence, write_weights):
        written = write_weights.sum(-1, keepdim=True)
        after = torch.lerp(precedence, torch.zeros_like(precedence), written) + write_weights
        pair = write_weights[..., None] + write_weights[..., None, :]
        linked = links - pair * links + write_weights[..., None] @ precedence[..., None, :]
        return [linked - torch.diag_embed(linked.diagonal(dim1=-2, dim2=-1)), after]
''')
alternative("row by row", update_links, '''
    def update_links(links, precedence, write_weights):
        rows = []
        for i in range(links.shape[1]):
            w = write_weights[:, i, None]
            row = (1 - w - write_weights) * links[:, i] + w * precedence
            rows.append(torch.cat([row[:, :i], torch.zeros_like(w), row[:, i + 1:]], 1))
        return torch.stack(rows, 1), (1 - write_weights.sum(1, True)) * precedence + write_weights
''')
for change, reason in [
    ("line 3, column 49: sign dropped", "the link matrix is square, so its axis 1 is as long as its last"),
    ("line 3, column 50: 1 becomes 2", "the link matrix is square, so its axis -2 is as long as its last"),
    ("line 3, column 54: dtype= dropped", "the float32 zeros and ones are promoted without loss to float64"),
    ("line 3, column 73: device= dropped", "the checks run on the CPU, where torch.eye makes its result"),
    ("line 4, column 42: sign dropped", "write_weights has two axes, so axis 1 is axis -1"),
]:
    equivalent(update_links, change, reason)

# sharpening -------------------------------------------------------------------------------------------------------

SUMS = "rows sum to 1 whatever they summed to, and a row of zeros becomes uniform"
NORMALISES = "an exponent of one only normalises"
OWN_EXPONENT = "each head is raised to its own exponent"
EPS_FIRST = "eps is added to every cell, before the power"
HUNDRED = "an exponent of 100 or more keeps the largest alone, in float32 too"
SHARPEN_GRADIENTS = "gradients reach both, right, and finite at zeros and an exponent of 100; the arguments stay"

SHARPENED = "torch.softmax(exponent[..., None] * torch.log(distribution + eps), dim=-1)"
POWER = "(lambda p: p / p.sum(-1, keepdim=True))(({}) ** exponent[..., None])"

for name, new, told_by in [
    ("normalises over the heads", SHARPENED.replace("dim=-1", "dim=1"), SUMS),
    ("forgets to normalise", "(distribution + eps) ** exponent[..., None]", SUMS),
    ("normalises before the power only",
     "((distribution + eps) / (distribution + eps).sum(-1, keepdim=True)) ** exponent[..., None]", SUMS),
    ("keeps the row's former sum", SHARPENED + " * distribution.sum(-1, keepdim=True)", SUMS),
    ("divides by the maximum and not by the sum", "((distribution + eps) / (distribution + eps)"
     ".amax(-1, keepdim=True)) ** exponent[..., None]", SUMS),
    ("leaves eps out of the maximum", POWER.format("(distribution + eps) / distribution.amax(-1, keepdim=True)"), SUMS),
    ("adds eps to the sum of the powers", "(lambda p: p / (p.sum(-1, keepdim=True) + eps))"
     "(distribution ** exponent[..., None])", SUMS),
    ("returns the distribution as it is at exponent one",
     f"torch.where(exponent[..., None] == 1, distribution, {SHARPENED})", NORMALISES),
    ("takes the softmax of s d instead of a power", "torch.softmax(exponent[..., None] * distribution, dim=-1)",
     NORMALISES),
    ("takes the logarithm of 1 + d", SHARPENED.replace("torch.log(", "torch.log1p("), NORMALISES),
    ("ignores the exponents", POWER.format("distribution + eps").replace("exponent[..., None]", "1"), OWN_EXPONENT),
    ("divides by the exponent as if it were a temperature", SHARPENED.replace(
        "exponent[..., None] * torch", "1 / exponent[..., None] * torch"), OWN_EXPONENT),
    ("lays the exponents along the cells", SHARPENED.replace("exponent[..., None]", "(exponent[:, None] if "
     "exponent.shape[1] == distribution.shape[2] else exponent[..., None])"), OWN_EXPONENT),
    ("uses the exponent of the first head for all", SHARPENED.replace("exponent[..., None]", "exponent[:, :1, None]"),
     OWN_EXPONENT),
    ("rounds the exponents", SHARPENED.replace("exponent[..., None]", "exponent.round()[..., None]"), OWN_EXPONENT),
    ("adds one to the exponents", SHARPENED.replace("exponent[..., None]", "(1 + exponent[..., None])"), NORMALISES),
    ("forgets eps", SHARPENED.replace(" + eps", ""), EPS_FIRST),
    ("adds eps after the power", "(lambda p: p / p.sum(-1, keepdim=True))(distribution ** exponent[..., None] + eps)",
     EPS_FIRST),
    ("uses eps as a lower bound", SHARPENED.replace("distribution + eps", "distribution.clamp_min(eps)"), EPS_FIRST),
    ("adds eps after dividing by the row's sum", SHARPENED.replace(
        "distribution + eps", "distribution / distribution.sum(-1, keepdim=True).clamp_min(eps) + eps"), EPS_FIRST),
    ("adds eps only where there are zeros", SHARPENED.replace(
        "distribution + eps", "distribution + eps * (distribution == 0)"), EPS_FIRST),
    ("takes powers without dividing by the maximum", POWER.format("distribution + eps"), HUNDRED),
    ("divides by the largest of all heads", POWER.format("(distribution + eps) / (distribution + eps).amax()"),
     HUNDRED),
    ("holds the exponents at 20", SHARPENED.replace("exponent[..., None]", "exponent.clamp(max=20)[..., None]"),
     HUNDRED),
    ("computes in float64 whatever comes", SHARPENED.replace("torch.log(", "torch.log(1.0 * ").replace(
        "distribution + eps", "distribution.double() + eps"), HUNDRED),
    ("detaches the exponents", SHARPENED.replace("exponent[", "exponent.detach()["), SHARPEN_GRADIENTS),
    ("detaches the distribution", SHARPENED.replace("distribution", "distribution.detach()"), SHARPEN_GRADIENTS),
    ("adds eps to the given distribution in place", SHARPENED.replace(
        "distribution + eps", "distribution.detach().add_(eps)"), SHARPEN_GRADIENTS),
]:
    mutant(name, sharpen, SHARPENED, new, told_by)

alternative("A.10 to the letter", sharpen, '''
    def sharpen(distribution, exponent, eps=1e-6):
        ratio = (distribution + eps) / (distribution + eps).max(dim=-1, keepdim=True).values
        powers = ratio ** exponent.unsqueeze(-1)
        return powers / powers.sum(dim=-1, keepdim=True)
''')
alternative("A.10 with a constant for the maximum, which cancels", sharpen, '''
    def sharpen(distribution, exponent, eps=1e-6):
        d = distribution + eps
        powers = torch.pow(d / d.detach().amax(-1, True), exponent[:, :, None])
        return torch.nn.functional.normalize(powers, p=1, dim=-1)
''')
alternative("logarithms, one head at a time", sharpen, '''
    def sharpen(distribution, exponent, eps=1e-6):
        heads = []
        for d, s in zip(distribution.unbind(1), exponent.unbind(1)):
            scores = (d + eps).log() * s.unsqueeze(1)
            heads.append((scores - scores.logsumexp(1, keepdim=True)).exp())
        return torch.stack(heads, 1)
''')

# read weights -----------------------------------------------------------------------------------------------------

ORDER = "a one-hot mode returns backward, content or forward, in this order"
MIXTURE = "a mixture takes from each way as much as its mode says"
OWN_MODES = "each head has its own modes and its own addresses"
AS_GIVEN = "nothing is normalised again: what the links leave out is left out"
MODE_GRADIENTS = "the arguments stay as they were, and gradients reach all four"

WAYS = "ways = torch.stack([backward, content, forward], dim=-1)"
MIX = "(ways * modes[:, :, None]).sum(-1)"

for name, old, new, told_by in [
    ("takes the modes in the order backward, forward, content", WAYS,
     WAYS.replace("content, forward", "forward, content"), ORDER),
    ("takes the modes in the order forward, content, backward", WAYS, "ways = torch.stack([forward, content, backward]"
     ", dim=-1)", ORDER),
    ("takes the modes in the order content, backward, forward", WAYS, "ways = torch.stack([content, backward, forward]"
     ", dim=-1)", ORDER),
    ("takes the softmax of the modes once more", MIX, MIX.replace("modes[", "torch.softmax(modes, -1)["), ORDER),
    ("takes the softmax of the mixture", MIX, f"torch.softmax({MIX}, -1)", ORDER),
    ("ignores the modes and averages", MIX, "ways.mean(-1)", ORDER),
    ("leaves the content out", WAYS, WAYS.replace("content", "0 * content"), ORDER),
    ("follows the strongest mode only", MIX,
     "ways.gather(-1, modes.argmax(-1)[..., None, None].expand(*backward.shape, 1))[..., 0]", MIXTURE),
    ("rounds the modes", MIX, MIX.replace("modes[", "modes.round()["), MIXTURE),
    ("squares the modes", MIX, MIX.replace("modes[:, :, None]", "modes[:, :, None] ** 2"), MIXTURE),
    ("multiplies the addresses, with the modes as powers", MIX, "(ways ** modes[:, :, None]).prod(-1)", MIXTURE),
    ("lays the modes along the cells where there are three", MIX, MIX.replace("modes[:, :, None]", "(modes[..., None] "
     "if ways.shape[2] == 3 else modes[:, :, None])"), OWN_MODES),
    ("takes the heads for the modes where there are three", MIX, MIX.replace("modes[", "(modes.mT if modes.shape[1] "
     "== 3 else modes)["), OWN_MODES),
    ("uses the modes of the first head for all", MIX, MIX.replace("modes[:, :, None]", "modes[:, :1, None]"),
     OWN_MODES),
    ("averages the modes over the heads", MIX, MIX.replace("modes[", "modes.mean(1, keepdim=True)["), OWN_MODES),
    ("uses the modes of the first batch entry for all", MIX, MIX.replace("modes[:, :, None]", "modes[:1, :, None]"),
     OWN_MODES),
    ("normalises the result", MIX, f"(lambda w: w / w.sum(-1, keepdim=True))({MIX})", AS_GIVEN),
    ("normalises each of the three addresses", WAYS,
     WAYS + "; ways = ways / ways.sum(2, keepdim=True).clamp_min(1e-9)", AS_GIVEN),
    ("gives what the links leave out to the content", WAYS, WAYS.replace("content,", "content, ") + "; return "
     "(lambda w: w + (1 - w.sum(-1, keepdim=True)) * content)((ways * modes[:, :, None]).sum(-1))", AS_GIVEN),
    ("writes the mixture into the content", MIX,
     "content.detach().mul_(modes[..., 1:2].detach()).add_((ways * modes[:, :, None])[..., ::2].sum(-1).detach())",
     MODE_GRADIENTS),
    ("detaches the modes", MIX, MIX.replace("modes[", "modes.detach()["), MODE_GRADIENTS),
    ("detaches what comes from the links", WAYS, "ways = torch.stack([backward.detach(), content, forward.detach()], "
     "dim=-1)", MODE_GRADIENTS),
]:
    mutant(name, read_weights, old, new, told_by)

alternative("three terms", read_weights, '''
    def read_weights(modes, backward, content, forward):
        back, look, on = modes.split(1, dim=-1)
        return back * backward + look * content + on * forward
''')
alternative("einsum", read_weights, '''
    def read_weights(modes, backward, content, forward):
        return torch.einsum("bhm,mbhc->bhc", modes, torch.stack((backward, content, forward)))
''')
alternative("matrix products, one head at a time", read_weights, '''
    def read_weights(modes, backward, content, forward):
        heads = []
        for h in range(modes.shape[1]):
            ways = torch.stack([backward[:, h], content[:, h], forward[:, h]], 1)
            heads.append((modes[:, h, None] @ ways).squeeze(1))
        return torch.stack(heads, dim=1)
''')
