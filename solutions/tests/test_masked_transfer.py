"""What an earlier task's mask kept never changes; what is free is trained, and only there."""

import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from solutions.baselines import FeedForward
from solutions.experiments.ensemble import generator
from solutions.masked_transfer import inherit, nothing_occupied, occupy, shared_with_earlier, train_with_masks
from solutions.masks import MaskedModel

torch.set_num_threads(1)
LATER = ["layers.1.weight", "layers.2.weight"]


def batches(seed: int):
    for number in itertools.count():
        x = torch.randn(16, 4, generator=generator(seed, number))
        yield x, (x[:, 0] > x[:, seed % 4]).long()


def train(net, occupied, seed=1, steps=20, **options):
    masked = MaskedModel(net)
    found = train_with_masks(masked, batches(seed), cross_entropy, occupied=occupied, generator=generator(seed),
                             steps=steps, **{"beta": 0.5, "samples": 4, "lr": 0.05} | options)
    return masked, found


def half(net, names=LATER, seed=9):
    """Occupied at random."""
    return {name: torch.rand(value.shape, generator=generator(seed)) < 0.5
            for name, value in net.named_parameters() if name in names}


def test_occupied_weights_keep_every_bit_and_all_free_ones_move():
    torch.manual_seed(0)
    net = FeedForward([4, 30, 20, 2])
    occupied = half(net)
    masked, _ = train(net, occupied)
    for (name, after), (_, before) in zip(masked.model.named_parameters(), net.named_parameters(), strict=True):
        used = occupied.get(name, torch.zeros_like(after, dtype=torch.bool))
        assert torch.equal(after[used], before[used])
        assert (after[~used] != before[~used]).double().mean() > 0.5, name     # but those of dead units


def test_the_given_network_is_not_changed_and_the_trained_one_is_frozen_again():
    net = FeedForward([4, 6, 5, 2])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    masked, found = train(net, {})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(value.requires_grad or value.grad is not None for value in masked.model.parameters())
    assert len(found.losses) == len(found.kept) == 20
    assert all(torch.equal(found.masks[name], part > 0) for name, part in masked.logits.items())


def test_a_task_is_learned_through_weights_and_mask_together():
    _, found = train(FeedForward([4, 32, 32, 2]), {}, steps=150, beta=0.01)
    assert found.losses[-20:].mean() < 0.5 * found.losses[0]


def test_with_everything_occupied_only_the_masks_are_trained():
    net = FeedForward([4, 6, 5, 2])
    occupied = {name: torch.ones_like(value, dtype=torch.bool) for name, value in net.named_parameters()}
    masked, _ = train(net, occupied)
    assert all(torch.equal(after, before) for after, before in
               zip(masked.model.parameters(), net.parameters(), strict=True))
    assert all((part != 2).all() for part in masked.logits.values())


def test_an_earlier_task_computes_what_it_did_with_its_own_first_layer_and_biases():
    net, kept = FeedForward([4, 6, 5, 2]), []
    occupied = nothing_occupied(net, LATER)
    for number in range(3):
        masked, found = train(net, occupied, seed=number + 1)
        own = {name: value.clone() for name, value in masked.model.named_parameters() if name not in occupied}
        x = torch.randn(7, 4, generator=generator(50 + number))
        kept.append((own, found.masks, x, masked(x, masks=found.masks)))
        grown = occupy(occupied, found.masks)
        assert all((grown[name] == (occupied[name] | found.masks[name])).all() for name in LATER)
        assert set(grown) == set(LATER)
        occupied = grown
        net = FeedForward([4, 6, 5, 2])
        inherit(net, masked.model, occupied)
    for own, masks, x, expected in kept:
        restored = MaskedModel(net)
        restored.model.load_state_dict(own, strict=False)
        assert torch.equal(restored(x, masks=masks), expected)


def test_only_what_is_occupied_is_inherited():
    old, new = FeedForward([4, 6, 5, 2]), FeedForward([4, 6, 5, 2])
    drawn = {name: value.clone() for name, value in new.named_parameters()}
    occupied = half(old)
    inherit(new, old, occupied)
    for name, value in new.named_parameters():
        used = occupied.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert torch.equal(value, torch.where(used, dict(old.named_parameters())[name], drawn[name]))


def test_sharing_is_counted_by_layer_and_compared_with_chance():
    masks = {"first": torch.ones(2, 2, dtype=torch.bool), "a": torch.tensor([True, True, True, False]),
             "b": torch.tensor([True, False])}
    occupied = {"a": torch.tensor([True, False, False, False]), "b": torch.tensor([True, False])}
    found = shared_with_earlier(masks, occupied)
    assert found == {"a": (pytest.approx(1 / 3), 0.25), "b": (1.0, 0.5), "total": (0.5, pytest.approx(1.25 / 4))}
    empty = {"a": torch.zeros(4, dtype=torch.bool)}
    assert shared_with_earlier(empty, {"a": occupied["a"]})["a"] == (0.0, 0.0)


def test_masks_at_random_places_share_what_chance_says():
    draw = generator(4)
    masks, occupied = ({name: torch.rand(20_000, generator=draw) < share for name, share in shares.items()}
                       for shares in ({"a": 0.2, "b": 0.7}, {"a": 0.6, "b": 0.1}))
    for shared, chance in shared_with_earlier(masks, occupied).values():
        assert shared == pytest.approx(chance, abs=0.02)


@pytest.mark.parametrize(("call", "message"), [
    (lambda net: nothing_occupied(net, ["layers.9.weight"]), "names must be parameters"),
    (lambda net: occupy(half(net), {}), "must hold at least one mask"),
    (lambda net: inherit(FeedForward([4, 6, 5, 3]), net, half(net)), "must have a parameter 'layers.2.weight'"),
    (lambda net: train(net, {"layers.9.weight": torch.ones(2, dtype=torch.bool)}), "of the shape of a parameter"),
    (lambda net: train(net, {"layers.1.weight": torch.ones(5, 6)}), "must be bool"),
    (lambda net: train(net, {}, steps=0), "got none"),
    (lambda net: shared_with_earlier({}, half(net)), "must hold at least one mask")],
    ids=["no parameter", "no mask", "another architecture", "occupied nowhere", "not boolean", "no batch",
         "sharing of nothing"])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(FeedForward([4, 6, 5, 2]))


def test_a_loss_per_row_is_refused_and_the_network_is_frozen_all_the_same():
    masked = MaskedModel(FeedForward([4, 6, 5, 2]))
    with pytest.raises(ValueError, match="scalar"):
        train_with_masks(masked, batches(1), lambda outputs, labels: outputs.sum(-1), occupied={}, beta=0.1,
                         generator=generator(1), samples=4)
    assert not any(value.requires_grad for value in masked.model.parameters())
