"""What is said does not depend on padding or neighbours, decoding is what the scores say, and masks can be sampled."""

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from solutions.experiments.ensemble import generator
from solutions.masks import MaskedModel, maskable_names
from solutions.seq2seq import Seq2Seq
from solutions.tasks.scan import END, PAD, START, decoder_inputs, same_sequences

torch.set_num_threads(1)


def network(layers: int = 2, seed: int = 0) -> Seq2Seq:
    """Weights large enough that it says different things."""
    torch.manual_seed(seed)
    net = Seq2Seq(9, 7, embedding=5, hidden=6, layers=layers).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    return net


def sentences(lengths: list[int], symbols: int, seed: int = 1) -> torch.Tensor:
    rows = torch.full((len(lengths), max(lengths) + 1), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(3, symbols, (length,), generator=generator(seed, length))
        row[length] = END
    return rows


@pytest.mark.parametrize("forced", [True, False], ids=["forced", "free"])
def test_neither_padding_nor_neighbours_change_what_is_said(forced):
    net, source, fed = network(), sentences([1, 5, 3], 9), decoder_inputs(sentences([4, 2, 3], 7))
    together = net(source, fed, forced)
    torch.testing.assert_close(net(pad(source, (0, 4), value=PAD), fed, forced), together)
    for row, length in enumerate([1, 5, 3]):
        alone = net(source[row:row + 1, :length + 1], fed[row:row + 1], forced)
        torch.testing.assert_close(alone, together[row:row + 1])


def test_the_encoder_is_an_lstm_over_the_words_up_to_the_end():
    net, source = network(), sentences([2, 5], 9)
    states = net.read(source)
    for row, length in enumerate([2, 5]):
        expected = net.encoder(net.source_embedding(source[row, :length + 1])[:, None])[1]
        for got, want in zip(states, expected, strict=True):
            torch.testing.assert_close(torch.stack(got)[:, row], torch.stack(want)[:, 0])


def test_a_forced_step_sees_what_it_is_fed_up_to_then_and_nothing_later():
    net, source, target = network(), sentences([3], 9).expand(2, -1), sentences([5], 7).repeat(2, 1)
    target[1, 3] = 3 + (target[0, 3] - 2) % 4
    one, other = net(source, decoder_inputs(target))
    torch.testing.assert_close(one[:4], other[:4])
    assert not torch.allclose(one[4], other[4])


def test_left_to_itself_it_is_fed_what_it_said_last():
    net, source = network(), sentences([4, 2, 6, 1], 9)
    start = torch.full((4, 8), START)
    free = net(source, start, False)
    torch.testing.assert_close(free, net(source, decoder_inputs(free.argmax(-1))))
    torch.testing.assert_close(free, net(source, start.clone().index_fill_(1, torch.arange(1, 8), 3), False))


def test_decoding_says_what_scores_highest_up_to_the_end():
    lengths = set()
    for seed in range(4):
        net, source = network(seed=seed), sentences([4, 2, 6, 1, 5, 3], 9)
        said = net.decode(source, 12)
        free = net(source, torch.full((6, 12), START), False).argmax(-1)
        assert same_sequences(free, said).all()
        ended = (said == END).long()
        assert (said[(ended.cumsum(1) - ended) > 0] == PAD).all()
        assert said.shape[1] == 12 or bool((said[:, -1] == END).any())
        lengths |= set((said != PAD).sum(1).tolist())
    assert len(lengths) > 2, "the check needs sentences that end at different steps"


def test_decoding_stops_at_the_longest():
    net = network()
    with torch.no_grad():
        net.to_output.bias[END] -= 100
    said = net.decode(sentences([4, 2], 9), 5)
    assert said.shape == (2, 5)
    assert not (said == END).any()
    with pytest.raises(ValueError, match="longest must be 1 or more"):
        net.decode(sentences([4, 2], 9), 0)


@pytest.mark.parametrize("forced", [True, False], ids=["forced", "free"])
def test_it_runs_under_several_masks_as_under_each(forced):
    masked = MaskedModel(network())
    source, fed = sentences([1, 5, 3, 4], 9), decoder_inputs(sentences([4, 2, 3, 1], 7))
    samples = masked.sample(2, generator(3))
    together = masked(source, fed, forced, masks=samples)
    for group in range(2):
        rows = slice(2 * group, 2 * group + 2)
        alone = masked(source[rows], fed[rows], forced, masks={name: part[group] for name, part in samples.items()})
        torch.testing.assert_close(together[rows], alone)
    together.square().sum().backward()
    assert all(logit.grad.abs().sum() > 0 for logit in masked.logits.values())


def test_every_weight_can_be_masked_and_no_embedding_or_bias():
    net = network()
    linear = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    assert set(maskable_names(net)) == linear
    assert len(linear) == 2 * 2 * 2 + 1


@pytest.mark.parametrize("sizes", [(3, 9, 4), (9, 3, 4), (9, 9, 0)], ids=str)
def test_a_network_without_symbols_is_refused(sizes):
    with pytest.raises(ValueError, match="sources and targets must be 4 or more"):
        Seq2Seq(*sizes[:2], embedding=sizes[2])
