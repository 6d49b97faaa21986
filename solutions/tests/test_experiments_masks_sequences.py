"""Splits hold what they say, masks found together are those found alone, and verdicts follow from what was measured."""

import pytest
import torch

from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, experiments
from solutions.experiments.ensemble import Ensemble, generator
from solutions.experiments.masks import sequences
from solutions.experiments.masks.parts import TEST
from solutions.masks import MaskedModel, train_masks
from solutions.seq2seq import Seq2Seq
from solutions.tasks import scan, word_arithmetic
from solutions.tasks.scan import END, PAD, SOURCE, TARGET, Sequences, decoder_inputs, symbols_of

torch.set_num_threads(1)
SMOKE = sequences.SCAN_PRESETS["smoke"]
WORDS_SMOKE = experiments()["masks.words"].presets["smoke"]


# data -------------------------------------------------------------------------------------------------------------

def commands(corpus: sequences.Corpus, rows: torch.Tensor) -> list[str]:
    return [" ".join(symbols_of(row, SOURCE)) for row in corpus.data.source[rows]]


def lengths(data: torch.Tensor) -> torch.Tensor:
    return (data != PAD).sum(-1) - 1


def test_a_network_learns_all_short_commands_and_every_split_is_of_those():
    corpus = sequences.scan_corpus(SMOKE, 0)
    assert len(corpus.known) == len(corpus.data.source)
    assert set(commands(corpus, corpus.known)) == {
        example.command for example in scan.all_examples() if len(example.actions) <= 4}
    for name, split in corpus.splits.items():
        trained, tested = set(split.train.tolist()), set(split.far.tolist())
        assert not trained & tested, name
        assert trained == set(split.near.tolist()), name
        assert trained | tested == set(corpus.known.tolist()), name
        assert len(split.subset.unique()) == len(split.subset) == len(split.near), name


def test_splits_leave_out_what_they_are_named_after():
    corpus = sequences.scan_corpus(SMOKE, 0)
    jump, left, length = (corpus.splits[name] for name in ("add-jump", "add-turn-left", "length"))
    for split, phrase in ((jump, "jump"), (left, "turn left")):
        seen = commands(corpus, split.train)
        assert {command for command in seen if phrase in command} == {phrase}
        assert all(phrase in command for command in commands(corpus, split.far))
        assert 0.08 < seen.count(phrase) / len(seen) < 0.12
    assert lengths(corpus.data.target[length.train]).max() == SMOKE["cutoff"]
    assert lengths(corpus.data.target[length.far]).min() == SMOKE["cutoff"] + 1


def test_whole_scan_has_the_sizes_of_the_official_splits():
    corpus = sequences.scan_corpus(sequences.SCAN_PRESETS["paper"], 0)
    sizes = {name: (len(split.train), len(split.far)) for name, split in corpus.splits.items()}
    assert sizes == {"simple": (16728, 4182), "length": (16990, 3920), "add-jump": (13204 + 1467, 7706),
                     "add-turn-left": (19702 + 2189, 1208)}


def test_a_subset_is_of_all_kinds_and_the_seed_decides():
    first, again, other = (sequences.scan_corpus(SMOKE, seed) for seed in (0, 0, 1))
    for name in ("length", "add-jump", "add-turn-left"):
        subset, far = first.splits[name].subset, first.splits[name].far
        assert 0 < torch.isin(far, subset).sum() < len(far)
        assert torch.equal(subset, again.splits[name].subset)
        assert not torch.equal(subset, other.splits[name].subset)
    assert first.splits["simple"].subset is first.splits["simple"].near


def test_levels_of_words_are_mixed_as_asked_and_tested_on_others():
    settings = WORDS_SMOKE | {"mix": [1, 3], "differences": True}
    corpus = sequences.words_corpus(settings, 3)
    split = corpus.splits["easy"]
    easy = torch.isin(corpus.known, split.train)
    assert easy.float().mean() == 0.25
    assert len(corpus.known[~easy].unique()) == 60
    assert len(split.train) == len(split.subset) == len(split.subset.unique()) == 20
    assert len(split.far) == 20
    assert not torch.isin(split.far, corpus.known).any()
    assert not torch.isin(split.subset, split.train).all()
    for rows, most in ((split.near, 1), (split.far, 2)):
        for source, target in zip(corpus.data.source[rows], corpus.data.target[rows], strict=True):
            first, sign, second = word_arithmetic.text_of(source)[::-1].split()
            assert max(len(first), len(second)) == most
            assert int(first) + int(second) * (1 if sign == "+" else -1) == int(word_arithmetic.text_of(target))


def test_read_backwards_twice_is_read_as_before():
    rows = torch.tensor([[5, 6, 7, END], [5, END, PAD, PAD], [END, PAD, PAD, PAD]])
    assert sequences.backwards(rows).tolist() == [[7, 6, 5, END], [5, END, PAD, PAD], [END, PAD, PAD, PAD]]
    assert torch.equal(sequences.backwards(sequences.backwards(rows)), rows)


def test_batches_side_by_side_are_as_long_as_the_longest():
    short, long = (Sequences(torch.ones(2, n, dtype=torch.int64), torch.ones(2, n + 1, dtype=torch.int64))
                   for n in (2, 4))
    both = sequences.side_by_side([short, long])
    assert both.source.tolist() == [[[1, 1, PAD, PAD]] * 2, [[1] * 4] * 2]
    assert both.target.shape == (2, 2, 5)


def test_the_loss_is_the_mean_over_what_is_due():
    scores = torch.randn(3, 2, 4, 5, generator=generator(1), dtype=torch.float64)
    target = torch.tensor([[3, 4, END, PAD], [4, END, PAD, PAD]]).expand(3, -1, -1)
    losses = sequences.mean_losses(scores, target)
    for model in range(3):
        due = [-scores[model, row, step].log_softmax(-1)[target[model, row, step]] for row, step in
               ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))]
        torch.testing.assert_close(losses[model], sum(due) / 5)


# masks ------------------------------------------------------------------------------------------------------------

def test_masks_found_together_are_those_found_alone():
    corpus, settings = sequences.scan_corpus(SMOKE, 0), SMOKE | {"mask_steps": 6, "mask_rate": 0.5, "clip": 0.01}
    net = Ensemble(lambda: Seq2Seq(len(SOURCE), len(TARGET), hidden=6, layers=1), [4]).member(0).double()
    parts = {name: corpus.splits[name].train for name in ("add-jump", "length")}
    _, together = sequences.find_masks(net, corpus.data, parts, settings, seed=5)
    for number, (name, rows) in enumerate(parts.items()):
        source = generator(TEST, 5, number)

        def batches(rows=rows, source=source):
            while True:
                batch = sequences.draw(corpus.data, rows, settings["mask_batch"], source)
                yield (batch.source, decoder_inputs(batch.target)), batch.target

        alone = train_masks(MaskedModel(net), batches(), lambda *pair: sequences.mean_losses(
            *(each[None] for each in pair))[0], beta=settings["beta"], generator=source, samples=settings["samples"],
            lr=settings["mask_rate"], clip=settings["clip"], steps=settings["mask_steps"]).masks
        assert 0.1 < torch.cat([mask.flatten() for mask in alone.values()]).float().mean() < 0.9
        assert all(torch.equal(together[name][weight], mask) for weight, mask in alone.items())


@pytest.mark.parametrize("forced", [0.0, 1.0], ids=["free", "forced"])
def test_a_study_of_scan_has_every_mask_for_every_split(forced):
    found = sequences.scan_splits(Arm("LSTM", SMOKE | {"forced": forced}, [0, 1]))
    for kind in ("near", "far"):
        assert len(found[kind]) == 2
        for each in found[kind]:
            assert list(each) == ["simple", "length", "add-jump", "add-turn-left"]
            assert all(list(row) == ["full", "all", "split", "subset", "random"] for row in each.values())
    masks = {"all", "simple", *(f"{name}{which}" for name in ("length", "add-jump", "add-turn-left")
                                for which in ("", ", subset"))}
    assert set(found["kept"][0]) == set(found["removed"][0]) == masks
    assert set(found["removed"][0]["all"]) == {"I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT",
                                               "END"}
    assert sequences.scan_figure({"LSTM": found}).alt
    assert sequences.tokens_figure({"LSTM": found}).alt


def test_a_study_of_words_has_every_mask_for_both_levels():
    found = sequences.words(Arm("LSTM", WORDS_SMOKE, [0, 1]))
    assert [list(each) for each in found["far"]] == [["easy"]] * 2
    assert set(found["kept"][0]) == {"all", "easy", "easy, subset"}
    assert sequences.words_figure({"LSTM": found}).alt


@pytest.mark.parametrize("name", ["masks.scan", "masks.words"])
def test_the_settings_of_the_thesis_build(name):
    experiment = experiments()[name]
    small = dict(iterations=1, mask_steps=1, batch=4, mask_batch=8, samples=2, test_batch=4, hidden=4)
    if name == "masks.words":
        small |= dict(problems=[30] * 3, tests=5)
    found = experiment.run(Arm("LSTM", experiment.presets["paper"] | small, [0]))
    assert experiment.judge({"LSTM": found})[0] == NOT_SEEN


# verdicts ---------------------------------------------------------------------------------------------------------

def network(split: float, subset: float, full: float = 1.0, control: float = 1.0, own: float = 1.0) -> tuple:
    """Near and far accuracy of a network under its masks."""
    return ({"full": full, "all": control, "split": own, "subset": own, "random": 0.0},
            {"full": full, "all": control, "split": split, "subset": subset, "random": 0.0})


def measured(networks: list[tuple], splits: list[str], jump: float = 0.5, subset: float = 0.5) -> dict:
    removed = {part: dict.fromkeys(("I_WALK", "I_LOOK", "I_RUN"), 0.3) | {"I_JUMP": share}
               for part, share in (("add-jump", jump), ("add-jump, subset", subset))}
    return {"LSTM": {"near": [dict.fromkeys(splits, near) for near, _ in networks],
                     "far": [dict.fromkeys(splits, far) for _, far in networks], "removed": [removed] * len(networks)}}


LOST, KEPT = network(0.4, 0.9), network(0.97, 0.98)


@pytest.mark.parametrize(("networks", "verdict"), [
    ([LOST] * 4, SEEN), ([LOST] * 3 + [KEPT], SEEN), ([LOST] * 2 + [KEPT] * 2, NOT_SEEN), ([KEPT] * 4, CONTRADICTED),
    ([network(0.4, 0.7)] * 4, CONTRADICTED), ([network(0.96, 1.0)] * 4, CONTRADICTED),
    ([network(0.9, 1.1)] * 4, SEEN), ([network(0.4, 0.9, full=0.8)] * 4, NOT_SEEN),
    ([network(0.4, 0.9, control=0.9)] * 4, NOT_SEEN), ([network(0.4, 0.9, own=0.9)] * 4, NOT_SEEN),
    ([LOST] + [network(0.4, 0.4, own=0.9)] * 3, SEEN)],
    ids=["all lose", "3/4 lose", "half lose", "none loses", "the control loses too", "little is lost",
         "the control gains", "not learned", "masking harms", "the split is not kept", "who is not sound"])
def test_what_is_exclusive_is_lost_under_the_splits_mask_and_kept_under_the_controls(networks, verdict):
    assert sequences.judge_scan(measured(networks, ["length", "add-jump", "add-turn-left"]))[0] == verdict
    assert sequences.judge_words(measured(networks, ["easy"]))[0] == verdict


def test_scan_needs_every_split():
    one, other = measured([LOST], ["length", "add-jump"]), measured([KEPT], ["add-turn-left"])
    mixed = {"LSTM": {kind: [one["LSTM"][kind][0] | other["LSTM"][kind][0]] for kind in ("near", "far")}}
    assert sequences.judge_scan(mixed)[0] == NOT_SEEN


@pytest.mark.parametrize(("jump", "subset", "verdict"), [
    (0.5, 0.3, SEEN), (0.5, 0.45, NOT_SEEN), (0.5, 0.5, CONTRADICTED), (0.25, 0.1, CONTRADICTED),
    (0.35, 0.1, NOT_SEEN)], ids=["more", "hardly more", "as much", "less than of others", "hardly more than of others"])
def test_weights_of_jump_are_removed_beyond_the_control_and_the_other_acts(jump, subset, verdict):
    assert sequences.judge_tokens(measured([LOST] * 4, ["add-jump"], jump, subset))[0] == verdict
    assert sequences.judge_tokens(measured([network(0.4, 0.9, full=0.5)], ["add-jump"], jump, subset))[0] == NOT_SEEN
