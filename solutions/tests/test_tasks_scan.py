"""Another reader of the commands finds the same actions; counts and splits are the published ones."""

import re
from collections import Counter

import pytest
import torch

from solutions.tasks import scan
from solutions.tasks.scan import END, PAD, START, Example

# commands by number of actions, as counted in the official list
BY_LENGTH = dict(zip(
    [*range(1, 23), *range(24, 29), 30, 32, 33, 36, 40, 48],
    [6, 88, 398, 860, 1184, 1178, 1104, 1450, 1256, 1696, 1072, 1578, 432, 848, 688, 304, 512, 784, 448, 464, 64, 576,
     336, 448, 512, 448, 448, 576, 448, 256, 64, 256, 128], strict=True))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_rewriting(command: str) -> tuple[str, ...]:
    """The actions of a command by replacing text until only actions are left, innermost first."""
    text = command
    rules = [                                                           # a replacement in capitals is not read again
        (r"(\w+) opposite (left|right)", r"[\2 \2 \1]"), (r"(\w+) around (left|right)", r"[\2 \1 \2 \1 \2 \1 \2 \1]"),
        (r"(walk|look|run|jump|turn) (left|right)", r"[\2 \1]"), (r"(walk|look|run|jump)", r"[\1]"),
        (r"\[([^]]*)\] twice", r"[\1 \1]"), (r"\[([^]]*)\] thrice", r"[\1 \1 \1]"),
        (r"\[([^]]*)\] and \[([^]]*)\]", r"[\1 \2]"), (r"\[([^]]*)\] after \[([^]]*)\]", r"[\2 \1]"),
    ]
    for pattern, replacement in rules:
        text = re.sub(pattern, lambda found, to=replacement: found.expand(to).upper(), text)
    assert re.fullmatch(r"\[[^][]*\]", text), (command, text)
    names = {"LEFT": "I_TURN_LEFT", "RIGHT": "I_TURN_RIGHT"}
    return tuple(names.get(word, f"I_{word}") for word in text[1:-1].split() if word != "TURN")


# the grammar

@pytest.mark.parametrize(("command", "actions"), [
    ("jump", "JUMP"),
    ("turn left", "LEFT"),
    ("jump left", "LEFT JUMP"),
    ("turn opposite right", "RIGHT RIGHT"),
    ("walk opposite right", "RIGHT RIGHT WALK"),
    ("look around left", "LEFT LOOK LEFT LOOK LEFT LOOK LEFT LOOK"),
    ("turn around left thrice", " ".join(["LEFT"] * 12)),
    ("jump after walk", "WALK JUMP"),
    ("run twice and look", "RUN RUN LOOK"),
    ("run and look twice", "RUN LOOK LOOK"),
    ("walk left twice after run thrice", "RUN RUN RUN LEFT WALK LEFT WALK"),
])
def test_commands_mean_what_they_say(command, actions):
    named = {"LEFT": "TURN_LEFT", "RIGHT": "TURN_RIGHT"}
    expected = tuple(f"I_{named.get(action, action)}" for action in actions.split())
    assert scan.interpret(command) == by_rewriting(command) == expected


def test_every_command_is_there_once_with_its_actions():
    examples = scan.all_examples()
    assert len(examples) == len({command for command, _ in examples}) == 20910
    for command, actions in examples:
        assert actions == by_rewriting(command), command
    phrases = {command for command, _ in examples if not re.search("and|after|twice|thrice", command)}
    assert len(phrases) == 34
    assert len({command for command, _ in examples if not re.search("and|after", command)}) == 102


def test_the_counts_are_those_of_the_official_list():
    examples = scan.all_examples()
    assert Counter(len(actions) for _, actions in examples) == BY_LENGTH
    words = Counter(len(command.split()) for command, _ in examples)
    assert [words[length] for length in range(1, 10)] == [4, 18, 72, 328, 1288, 3520, 6080, 6400, 3200]
    assert {word for command, _ in examples for word in command.split()} == set(list(scan.SOURCE)[3:])
    assert {action for _, actions in examples for action in actions} == set(list(scan.TARGET)[3:])
    assert (len(scan.SOURCE), len(scan.TARGET)) == (3 + 13, 3 + 6)


@pytest.mark.parametrize("command", [
    "", "turn", "left", "twice", "walk walk", "turn twice", "jump opposite", "walk around", "around left", "Walk",
    "walk and", "after walk", "walk twice twice", "walk and look and run", "walk after look and run", "walk left right",
    "walk opposite around left", "sing"])
def test_what_the_grammar_does_not_have_is_an_error(command):
    with pytest.raises(ValueError, match=f"of {command!r} must be a phrase"):
        scan.interpret(command)


# splits

def test_the_simple_split_is_four_fifths_at_random():
    split = scan.simple_split(generator=seeded(0))
    assert (len(split.train), len(split.test)) == (16728, 4182)
    assert {*split.train, *split.test} == {*scan.all_examples()}
    train, test = (Counter(len(actions) > 22 for _, actions in part) for part in split)
    assert abs(train[True] / 16728 - test[True] / 4182) < 0.03
    assert split == scan.simple_split(generator=seeded(0)) != scan.simple_split(generator=seeded(1))


def test_the_length_split_has_the_long_ones_for_test():
    split = scan.length_split()
    assert (len(split.train), len(split.test)) == (16990, 3920)
    assert max(len(actions) for _, actions in split.train) == 22
    assert min(len(actions) for _, actions in split.test) == 24         # no command has 23 actions
    assert scan.length_split(23) == split
    for wrong in (0, 48, -1):
        with pytest.raises(ValueError, match=f"cutoff must be 1 to 47, .* got {wrong}"):
            scan.length_split(wrong)


@pytest.mark.parametrize(("cutoff", "train", "iid", "test"), [
    (22, 15292, 1698, 3920), (24, 15594, 1732, 3584), (25, 15997, 1777, 3136), (26, 16458, 1828, 2624),
    (27, 16861, 1873, 2176), (28, 17264, 1918, 1728), (30, 17783, 1975, 1152), (32, 18186, 2020, 704),
    (33, 18416, 2046, 448), (36, 18474, 2052, 384), (40, 18704, 2078, 128)])
def test_a_resplit_keeps_a_tenth_of_the_short_ones(cutoff, train, iid, test):
    made = scan.length_resplit(cutoff, generator=seeded(0))
    assert tuple(map(len, made)) == (train, iid, test)
    assert {*made.train, *made.iid, *made.test} == {*scan.all_examples()}
    assert max(len(actions) for _, actions in (*made.train, *made.iid)) == cutoff
    assert min(len(actions) for _, actions in made.test) > cutoff


def test_a_resplit_is_decided_by_its_seed():
    first, again, other = (scan.length_resplit(generator=seeded(seed)) for seed in (0, 0, 1))
    assert first == again
    assert set(first.iid) != set(other.iid)
    assert first.test == other.test


@pytest.mark.parametrize(("split", "primitive", "others", "copies", "test"), [
    (scan.add_jump_split, "jump", 13203, 1467, 7706),
    (scan.add_turn_left_split, "turn left", 19701, 2189, 1208)])
def test_a_primitive_is_trained_alone_and_tested_in_company(split, primitive, others, copies, test):
    train, tested = split()
    times = Counter(train)
    alone = Example(primitive, scan.interpret(primitive))
    assert times.pop(alone) == copies
    assert set(times.values()) == {1}
    assert len(times) == others
    assert len(train) == others + copies
    assert 10 * copies == len(train)                                    # the primitive is a tenth of the rows
    assert len(tested) == len(set(tested)) == test
    assert {*times, alone, *tested} == {*scan.all_examples()}
    assert not {*train} & {*tested}
    assert all(re.search(rf"\b{primitive}\b", command) for command, _ in tested)
    assert not any(re.search(rf"\b{primitive}\b", command) for command, _ in times)


def test_the_published_sizes():
    assert tuple(map(len, scan.add_jump_split())) == (14670, 7706)
    train, _ = scan.add_turn_left_split()
    assert tuple(map(len, scan.add_turn_left_split())) == (21890, 1208)
    assert {"turn opposite left", "turn around left", "walk left"} <= {command for command, _ in train}


# numbers

@pytest.fixture(scope="module")
def everything() -> scan.Sequences:
    return scan.encode(scan.all_examples())


def test_numbers_say_what_was_encoded(everything):
    assert everything.source.shape == (20910, 10)
    assert everything.target.shape == (20910, 49)
    for part, lengths in zip(everything, ([len(command.split()) for command, _ in scan.all_examples()],
                                          [len(actions) for _, actions in scan.all_examples()]), strict=True):
        assert part.dtype == torch.int64
        assert torch.equal((part == END).sum(-1), torch.ones(20910, dtype=torch.int64))
        assert (part == END).long().argmax(-1).tolist() == lengths
        assert torch.equal((part != PAD).sum(-1), torch.tensor(lengths) + 1)
        assert not (part == START).any()
    for row in range(0, 20910, 37):
        command, actions = scan.all_examples()[row]
        assert " ".join(scan.symbols_of(everything.source[row], scan.SOURCE)) == command
        assert tuple(scan.symbols_of(everything.target[row], scan.TARGET)) == actions


def test_a_decoder_is_fed_the_target_one_step_late():
    made = scan.encode([Example("jump left", scan.interpret("jump left")), Example("run", ("I_RUN",))])
    left, jump, run = (scan.TARGET[f"I_{name}"] for name in ("TURN_LEFT", "JUMP", "RUN"))
    assert made.target.tolist() == [[left, jump, END], [run, END, PAD]]
    assert scan.decoder_inputs(made.target).tolist() == [[START, left, jump], [START, run, END]]


def test_an_epoch_has_every_row_once_repeats_included_and_is_cut_to_its_longest(everything):
    examples = [*scan.all_examples()[:30], *scan.all_examples()[:1] * 7]
    data = scan.encode(examples)
    epochs = []
    for seed in (0, 0, 1):
        made = list(scan.batches(data, 8, generator=seeded(seed)))
        assert [len(batch.source) for batch in made] == [8, 8, 8, 8, 5]
        for batch in made:
            for part in batch:
                assert (part[:, -1] != PAD).any()
        epochs.append([" ".join(scan.symbols_of(row, scan.SOURCE)) for batch in made for row in batch.source])
    assert Counter(epochs[0]) == Counter(example.command for example in examples)
    assert epochs[0] == epochs[1] != epochs[2]
    alone = scan.take(everything, torch.tensor([0]))
    assert alone.source.tolist() == [[scan.SOURCE["walk"], END]]
    assert alone.target.tolist() == [[scan.TARGET["I_WALK"], END]]


def test_what_cannot_be_encoded_or_taken_is_an_error():
    with pytest.raises(ValueError, match="'sing' must be in the vocabulary"):
        scan.encode([Example("sing", ())])
    with pytest.raises(ValueError, match="one or more sequences, got none"):
        scan.encode([])
    data = scan.encode(scan.all_examples()[:3])
    for wrong in ([], [3], [-1]):
        with pytest.raises(ValueError, match=f"numbers of 0 to 2, got {re.escape(str(wrong))}"):
            scan.take(data, torch.tensor(wrong, dtype=torch.int64))
    with pytest.raises(ValueError, match="batch must be a whole number, 1 or more, got 0"):
        scan.batches(data, 0, generator=seeded(0))
    with pytest.raises(TypeError, match="generator must be"):
        scan.simple_split(generator=None)


def test_the_global_generator_is_left_alone(everything):
    before = torch.get_rng_state()
    scan.simple_split(generator=seeded(0))
    scan.length_resplit(generator=seeded(0))
    next(scan.batches(everything, 4, generator=seeded(0)))
    assert torch.equal(torch.get_rng_state(), before)


# accuracy

A, B = 3, 4
TRUE = [A, B, A, END]


@pytest.mark.parametrize(("said", "right"), [
    ([A, B, A, END], True),
    ([A, B, A, END, PAD, PAD], True),
    ([A, B, A, END, A, END, B], True),          # whatever comes after the end
    ([A, B, A], False),                         # never ended
    ([A, B, A, PAD], False),
    ([A, B, END], False),                       # a part
    ([A, B, END, END], False),
    ([A, B, A, A, END], False),                 # goes on
    ([A, B, B, END], False),
    ([END], False),
    ([], False),
])
@pytest.mark.parametrize("padding", [0, 3])
def test_a_sequence_is_right_when_all_of_it_is_and_its_end(said, right, padding):
    predicted = torch.tensor([said], dtype=torch.int64)
    assert scan.same_sequences(predicted, torch.tensor([TRUE + [PAD] * padding])).tolist() == [right]
    assert scan.exact_match(predicted, torch.tensor([TRUE + [PAD] * padding])) == right


def test_without_ends_the_length_still_counts():
    target = torch.tensor([[A, B, PAD]])
    assert [scan.exact_match(torch.tensor([said]), target).item() for said in
            ([A, B], [A, B, PAD, PAD], [A, B, A], [A], [A, B, END])] == [1, 1, 0, 0, 0]
    assert scan.exact_match(torch.tensor([[A, B, A]]), target[:, :2]) == 0      # longer than any target


def test_the_share_is_of_the_batch_and_leading_axes_are_kept(everything):
    target = everything.target[::1000]
    predicted = target.repeat(2, 3, 1, 1)
    predicted[0, 1, :7, 0] += 1
    predicted[1, 2, :, 0] = END
    found = scan.exact_match(predicted, target)
    assert found.shape == (2, 3)
    assert found.flatten().tolist() == pytest.approx([1, 14 / 21, 1, 1, 1, 0])
    shuffled = torch.arange(21).flip(0)
    assert torch.equal(scan.exact_match(predicted[:, :, shuffled], target[shuffled]), found)


@pytest.mark.parametrize(("predicted", "target"), [
    ((3, 5), (4, 5)), ((5,), (3, 5)), ((3, 5), (3, 5, 1)), ((0, 2), (0, 2))])
def test_sequences_that_cannot_be_compared_are_an_error(predicted, target):
    with pytest.raises(ValueError, match=r"(target must be|one or more sequences)"):
        scan.exact_match(torch.zeros(predicted, dtype=torch.int64), torch.zeros(target, dtype=torch.int64))
