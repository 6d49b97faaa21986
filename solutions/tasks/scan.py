"""SCAN: all commands of a small grammar with the actions they stand for, and the splits that ask for recombination.

    command   sentence  |  sentence "and" sentence  |  sentence "after" sentence
    sentence  phrase  |  phrase "twice"  |  phrase "thrice"
    phrase    act  |  verb side  |  verb "opposite" side  |  verb "around" side
    verb      act  |  "turn"
    act       "walk"  |  "look"  |  "run"  |  "jump"
    side      "left"  |  "right"

There are 4 + 5 * 3 * 2 = 34 phrases, 34 * 3 = 102 sentences and 102 + 2 * 102^2 = 20910 commands, all made here from
the grammar. Lake and Baroni 2018; thesis chapter 3 (masks) and chapter 4 (Transformers).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from solutions.tasks.draw import require_sizes

ACTS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
SIDES = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
TIMES = {"twice": 2, "thrice": 3}

PAD, START, END = range(3)
SYMBOLS = ("<pad>", "<start>", "<end>")     # numbers 0, 1 and 2 of every vocabulary
SOURCE = {word: number for number, word in enumerate(
    (*SYMBOLS, *ACTS, *SIDES, "turn", "opposite", "around", *TIMES, "and", "after"))}
TARGET = {action: number for number, action in enumerate((*SYMBOLS, *ACTS.values(), *SIDES.values()))}


class Example(NamedTuple):
    """A command, "jump twice", and its actions, ("I_JUMP", "I_JUMP")."""

    command: str
    actions: tuple[str, ...]


class Split(NamedTuple):
    """Examples to train on, some perhaps more than once, and examples to test on, none of which is in train."""

    train: list[Example]
    test: list[Example]


class Resplit(NamedTuple):
    """A length split that also keeps some short examples from training, to test on what training looks like.

    train  short examples
    iid    other short examples
    test   long examples
    """

    train: list[Example]
    iid: list[Example]
    test: list[Example]


class Sequences(NamedTuple):
    """Pairs of sequences as numbers, side by side; a batch, or a whole data set.

    source  (batch, source length), int64: each ends with END, then PAD
    target  (batch, target length), int64: each ends with END, then PAD
    """

    source: Tensor
    target: Tensor


# the grammar

@cache
def all_examples() -> tuple[Example, ...]:
    """The 20910 commands, each once and always in the same order, with their actions."""
    directed = [f"{verb} {how}{side}" for verb in (*ACTS, "turn") for how in ("", "opposite ", "around ")
                for side in SIDES]
    sentences = [f"{phrase}{times}" for phrase in (*ACTS, *directed) for times in ("", *(f" {word}" for word in TIMES))]
    joined = [f"{left} {joint} {right}" for joint in ("and", "after") for left in sentences for right in sentences]
    return tuple(Example(command, interpret(command)) for command in (*sentences, *joined))


def interpret(command: str) -> tuple[str, ...]:
    """The actions of a command.

    "turn left" is one turn; "U left" turns, then acts; "U opposite left" turns twice, then acts; "U around left" does
    "U left" four times. "after" does what follows it first. Raises ValueError on what the grammar does not have.

    >>> interpret("run after jump opposite left")
    ('I_TURN_LEFT', 'I_TURN_LEFT', 'I_JUMP', 'I_RUN')
    """
    words = command.split()
    for joint in ("and", "after"):
        if joint in words:
            at = words.index(joint)
            left, right = _sentence(words[:at], command), _sentence(words[at + 1:], command)
            return left + right if joint == "and" else right + left
    return _sentence(words, command)


def _sentence(words: list[str], command: str) -> tuple[str, ...]:
    if words[-1:] and words[-1] in TIMES:
        return _phrase(words[:-1], command) * TIMES[words[-1]]
    return _phrase(words, command)


def _phrase(words: list[str], command: str) -> tuple[str, ...]:
    match words:
        case [act] if act in ACTS:
            return (ACTS[act],)
        case [verb, *how, side] if verb in (*ACTS, "turn") and side in SIDES:
            act, turn = ((ACTS[verb],) if verb in ACTS else ()), (SIDES[side],)
            match how:
                case []:
                    return turn + act
                case ["opposite"]:
                    return turn + turn + act
                case ["around"]:
                    return (turn + act) * 4
    raise ValueError(f"{' '.join(words)!r} of {command!r} must be a phrase such as 'walk', 'turn left' or "
                     f"'jump around right'")


# splits

def simple_split(*, generator: Generator) -> Split:
    """A random 16728 of the commands to train on, 80 %, and the other 4182 to test on.

    The official split has the same sizes and other commands.
    """
    shuffled = _shuffled(all_examples(), generator)
    trained = len(shuffled) * 4 // 5
    return Split(shuffled[:trained], shuffled[trained:])


def length_split(cutoff: int = 22) -> Split:
    """Train on up to `cutoff` actions, test on more: 16990 and 3920 for 22, the official split.

    Raises ValueError unless both parts have examples, cutoff 1 to 47.
    """
    train = [example for example in all_examples() if len(example.actions) <= cutoff]
    test = [example for example in all_examples() if len(example.actions) > cutoff]
    if not train or not test:
        raise ValueError(f"cutoff must be 1 to 47, for commands have 1 to 48 actions, got {cutoff}")
    return Split(train, test)


def length_resplit(cutoff: int = 26, *, generator: Generator) -> Resplit:
    """length_split with a tenth of the short commands, at random, kept from training as a test of the usual kind.

    The tenth of n commands is int(n * (1 - 0.9)), which is how the released code computes it: 1698 and not 1699 of
    16990. Raises ValueError as length_split does.
    """
    short, long = length_split(cutoff)
    shuffled = _shuffled(short, generator)
    kept = int(len(short) * (1 - 0.9))
    return Resplit(shuffled[kept:], shuffled[:kept], long)


def add_jump_split() -> Split:
    """Train on "jump" alone and on all commands without it; test on "jump" in company: the official split.

    Train has 14670 rows: 13203 commands without "jump", and "jump" 1467 times. Test has 7706.
    """
    return _add_primitive("jump", lambda command: "jump" in command.split())


def add_turn_left_split() -> Split:
    """Train on "turn left" alone and on all commands without it; test on it in company: the official split.

    Train has 21890 rows: 19701 commands without the phrase "turn left", and that phrase 2189 times; "turn opposite
    left" and "turn around left" are other phrases and stay in train. Test has 1208.
    """
    return _add_primitive("turn left", lambda command: "turn left" in command)


def _add_primitive(primitive: str, has: Callable[[str], bool]) -> Split:
    """Everything without the primitive, and the primitive alone so often that it is a tenth of the training rows.

    A single row would be lost among thousands: of n other commands, n / 9 copies make n / 9 of 10 n / 9 rows.
    """
    train = [example for example in all_examples() if not has(example.command)]
    test = [example for example in all_examples() if has(example.command) and example.command != primitive]
    return Split(train + [Example(primitive, interpret(primitive))] * (len(train) // 9), test)


def _shuffled(examples: Sequence[Example], generator: Generator) -> list[Example]:
    require_sizes(generator)
    order = torch.randperm(len(examples), generator=generator, device=generator.device)
    return [examples[index] for index in order.tolist()]


# numbers

def encode(examples: Sequence[Example]) -> Sequences:
    """Turn examples into numbers, those of SOURCE and of TARGET, with END after each sequence.

    returns  source (examples, 1 to 10) and target (examples, 1 to 49), as wide as the longest

    Raises ValueError on no examples and on words that are not in the vocabulary.
    """
    return pad_pairs([numbers_of(example.command.split(), SOURCE) for example in examples],
                     [numbers_of(example.actions, TARGET) for example in examples])


def numbers_of(symbols: Sequence[str], vocabulary: dict[str, int]) -> list[int]:
    """The numbers of symbols, and END. Raises ValueError on a symbol that is not in the vocabulary."""
    unknown = [symbol for symbol in symbols if symbol not in vocabulary]
    if unknown:
        raise ValueError(f"{unknown[0]!r} must be in the vocabulary, and is not")
    return [*(vocabulary[symbol] for symbol in symbols), END]


def symbols_of(numbers: Tensor, vocabulary: dict[str, int]) -> list[str]:
    """What a row of numbers (length) says: its symbols up to END, or all where there is none."""
    names = list(vocabulary)
    row = numbers.tolist()
    return [names[index] for index in (row[:row.index(END)] if END in row else row)]


def pad_pairs(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Sequences:
    """Put sequences of numbers side by side, filled with PAD to the longest. Raises ValueError when there is none."""
    if not sources:
        raise ValueError("there must be one or more sequences, got none")
    return Sequences(*(_padded(rows) for rows in (sources, targets)))


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows], dtype=torch.int64)


def decoder_inputs(target: Tensor) -> Tensor:
    """What a decoder is fed while it is to say target: START, then target without its last column; same shape."""
    return torch.cat((torch.full_like(target[..., :1], START), target[..., :-1]), -1)


def take(data: Sequences, rows: Tensor) -> Sequences:
    """Some of the sequences, cut to the longest among them.

    rows  (batch), int64: which ones, 0 to the number of sequences - 1

    Raises ValueError when there is no such row or none is asked for.
    """
    count = len(data.source)
    if rows.dim() != 1 or not len(rows) or rows.min() < 0 or rows.max() >= count:
        raise ValueError(f"rows must be one or more numbers of 0 to {count - 1}, got {rows.tolist()}")
    return Sequences(*(_cut(part[rows.to(part.device)]) for part in data))


def _cut(rows: Tensor) -> Tensor:
    return rows[:, :int((rows != PAD).sum(-1).max())]


def batches(data: Sequences, batch: int, *, generator: Generator) -> Iterator[Sequences]:
    """Go once through all sequences in random order; the last batch may be smaller. Raises ValueError on batch < 1."""
    require_sizes(generator, batch=batch)
    order = torch.randperm(len(data.source), generator=generator, device=generator.device)
    return (take(data, rows) for rows in order.split(batch))


# accuracy

def exact_match(predicted: Tensor, target: Tensor) -> Tensor:
    """The share of sequences said exactly: every symbol right, and the end in the right place.

    predicted  (..., batch, any length), int64
    target     (batch, length), int64
    returns    (...) in [0, 1]

    Raises ValueError on shapes that disagree and on an empty batch.
    """
    right = same_sequences(predicted, target)
    if not right.shape[-1]:
        raise ValueError("there must be one or more sequences, got none")
    return right.sum(-1) / right.shape[-1]


def same_sequences(predicted: Tensor, target: Tensor) -> Tensor:
    """Which sequences are the same, END included; whatever comes after a sequence's first END does not count.

    A sequence without END is the same as another without END only, and then up to padding: this is how to judge what
    was cut at the true length. Arguments and errors as in exact_match; returns (..., batch), bool.
    """
    if target.dim() != 2 or predicted.dim() < 2 or predicted.shape[-2] != len(target):
        raise ValueError(f"target must be (batch, length) and predicted (..., batch, any length), got "
                         f"{tuple(target.shape)} and {tuple(predicted.shape)}")
    width = max(predicted.shape[-1], target.shape[-1])
    predicted, target = (_after_end_padded(rows, width) for rows in (predicted, target))
    return (predicted == target).all(-1)


def _after_end_padded(rows: Tensor, width: int) -> Tensor:
    """(..., length) to (..., width) with PAD after the first END."""
    ended = (rows == END).cumsum(-1) - (rows == END).long() > 0
    return torch.nn.functional.pad(rows.masked_fill(ended, PAD), (0, width - rows.shape[-1]), value=PAD)
