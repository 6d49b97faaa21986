"""Stories with questions in the official bAbI format: a reader, a download, batches, and a small story generator.

A file holds stories one after the other; lines are numbered from 1 in each. A question's line has three parts between
tabs: the question, its answer, the numbers of the lines that support it.

    1 Mary moved to the bathroom.
    2 Where is Mary? <tab>bathroom<tab>1

Weston et al. 2016; thesis section 2.3, appendix A.2.
"""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from solutions.files import write_whole
from solutions.tasks.draw import Bounds, draw_size, require_sizes
from solutions.tasks.fetch import fetch

ARCHIVE = "tasks_1-20_v1-2"
URL = f"http://www.thespermwhale.com/jaseweston/babi/{ARCHIVE}.tar.gz"
CHECKSUM: str | None = None  # pending: nobody has recorded the archive's SHA-256 for this course yet
INSTEAD = "the stories of single_supporting_fact, two_supporting_facts and induction"
BLANK = "<blank>"            # word 0: what is fed while the network thinks and answers, and padding

PEOPLE = ("Mary", "John", "Sandra", "Daniel")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "football", "milk")
NAMES = ("Lily", "Bernhard", "Greg", "Julius", "Brian")
ANIMALS = ("swan", "lion", "frog", "rhino")
COLOURS = ("gray", "white", "yellow", "green")


class Sentence(NamedTuple):
    """One line of a story.

    text     as it is written: "Where is Mary?"
    answer   the words of the answer; empty when the line is no question
    support  the numbers of the lines that the answer follows from, from 1
    """

    text: str
    answer: tuple[str, ...] = ()
    support: tuple[int, ...] = ()


Story = tuple[Sentence, ...]


class Corpus(NamedTuple):
    """Encoded stories, one after the other.

    inputs, targets, question  (words), int64: as in a BabiBatch
    start                      (stories + 1), int64: where each story begins, and where the last one ends
    """

    inputs: Tensor
    targets: Tensor
    question: Tensor
    start: Tensor


class BabiBatch(NamedTuple):
    """Stories side by side, padded at the end to the longest.

    inputs       (time, batch), int64: words; 0 while the network thinks and answers, and after the end
    targets      (time, batch), int64: the words of the answers, 0 in all other rows
    answer_rows  (time, batch), bool: where a word of an answer is due
    question     (time, batch), int64: which question of its story a row answers, from 0; -1 where no answer is due
    length       (batch), int64: the rows of each story
    """

    inputs: Tensor
    targets: Tensor
    answer_rows: Tensor
    question: Tensor
    length: Tensor


class Download(NamedTuple):
    """What download found.

    folder    holds en, en-10k, ... with their files
    sha256    of the archive
    checksum  "verified", or "pending: ..." as long as no checksum has been recorded to compare it with
    """

    folder: Path
    sha256: str
    checksum: str


# reading and writing

def parse_stories(text: str, source: str = "text") -> list[Story]:
    """Read stories in the official format.

    source  what to call the text in error messages

    Raises ValueError, with the line, when a line has no number, an unexpected number or no words, and when a question
    has no answer or a support that is no number.

    >>> parse_stories("1 Mary moved to the bathroom.\\n2 Where is Mary? \\tbathroom\\t1\\n")[0][1]
    Sentence(text='Where is Mary?', answer=('bathroom',), support=(1,))
    """
    stories: list[list[Sentence]] = []
    for at, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        numbered, *rest = line.split("\t")
        number, _, sentence = numbered.strip().partition(" ")
        if number == "1":
            stories.append([])
        expected = len(stories[-1]) + 1 if stories else 1
        if number != str(expected):
            raise ValueError(f"{source}, line {at}: must begin with {expected} or with 1 for a new story, got {line!r}")
        answer = tuple(re.findall(r"[^\s,]+", rest[0])) if rest else ()
        support = rest[1].split() if len(rest) > 1 else []
        if not sentence.strip() or (rest and not answer) or not all(fact.isdecimal() for fact in support):
            raise ValueError(f"{source}, line {at}: must be 'number sentence' or 'number question <tab> answer <tab> "
                             f"numbers of lines', got {line!r}")
        stories[-1].append(Sentence(sentence.strip(), answer, tuple(map(int, support))))
    return [tuple(story) for story in stories]


def format_stories(stories: Sequence[Story]) -> str:
    """Write stories in the official format: what parse_stories reads."""
    lines = []
    for story in stories:
        for number, (text, answer, support) in enumerate(story, start=1):
            asked = f" \t{','.join(answer)}\t{' '.join(map(str, support))}" if answer else ""
            lines.append(f"{number} {text}{asked}\n")
    return "".join(lines)


def read_stories(path: Path | str) -> list[Story]:
    """Read a file in the official format. Raises OSError, and ValueError as parse_stories does."""
    return parse_stories(Path(path).read_text(encoding="utf-8"), str(path))


def read_task(folder: Path | str, task: int, split: str = "train") -> list[Story]:
    """Read one task of a folder such as tasks_1-20_v1-2/en-10k.

    task   1 to 20
    split  "train" or "test" (some folders have "valid")

    Raises FileNotFoundError unless the folder has exactly one file qa{task}_..._{split}.txt.
    """
    found = sorted(Path(folder).glob(f"qa{task}_*_{split}.txt"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(f"expected one file qa{task}_*_{split}.txt in {folder}, found {names}")
    return read_stories(found[0])


def download(
    folder: Path | str, *, url: str = URL, checksum: str | None = CHECKSUM, timeout: float = 60.0
) -> Download:
    """Fetch and unpack the official stories, once.

    folder    gets tasks_1-20_v1-2.tar.gz and, unpacked, tasks_1-20_v1-2; an archive put there by hand is used as it is
    checksum  the archive's SHA-256 in hexadecimal, or None while it is pending: then nothing is compared and the result
              says so
    timeout   seconds without an answer before giving up

    An interrupted call leaves nothing half done. Raises ConnectionError where the network does not give the archive,
    ValueError when what came is not such an archive or has another checksum.
    """
    folder = Path(folder)
    archive, stories = folder / f"{ARCHIVE}.tar.gz", folder / ARCHIVE
    at_hand = archive.exists()
    content = archive.read_bytes() if at_hand else fetch(url, archive, INSTEAD, timeout)
    source, sha256 = (str(archive) if at_hand else url), hashlib.sha256(content).hexdigest()
    if checksum is not None and sha256 != checksum.lower():
        raise ValueError(f"{source} has SHA-256 {sha256}, expected {checksum}; nothing was unpacked")
    if not at_hand or not stories.exists():
        _unpack(content, stories, source)
        write_whole(archive, content)
    pending = f"pending: no checksum is recorded for this archive; this copy has SHA-256 {sha256}"
    return Download(stories, sha256, pending if checksum is None else "verified")


def _unpack(content: bytes, target: Path, source: str) -> None:
    """Unpack the archive's text files into target, whole or not at all; nothing else and nowhere else."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        found = 0
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
                for member in tar:
                    inside = PurePosixPath(member.name)
                    hidden = any(part.startswith(".") for part in inside.parts)     # "..", and what archivers leave
                    if hidden or inside.parts[:1] != (ARCHIVE,) or inside.suffix != ".txt" or not member.isfile():
                        continue
                    path = Path(temporary, inside)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())
                    found += 1
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
            raise ValueError(f"{source} is not a whole tar.gz archive: {problem}") from problem
        if not found:
            raise ValueError(f"{source} has no text files in {ARCHIVE}")
        shutil.rmtree(target, ignore_errors=True)
        Path(temporary, ARCHIVE).replace(target)


# batches

def words_of(text: str) -> list[str]:
    """The words of a sentence in lower case; a punctuation mark is a word: where is mary ?"""
    return re.findall(r"[^\s.,?!]+|[.,?!]", text.lower())


def build_vocabulary(stories: Sequence[Story]) -> dict[str, int]:
    """Number the words of sentences and answers in alphabetical order from 1; 0 is the blank."""
    words = {word for story in stories for sentence in story for word in words_of(sentence.text)}
    words |= {word.lower() for story in stories for sentence in story for word in sentence.answer}
    return {word: index for index, word in enumerate([BLANK, *sorted(words - {BLANK})])}


def encode(stories: Sequence[Story], vocabulary: dict[str, int], think_steps: int = 3) -> Corpus:
    """Turn stories into numbers, the answers taken out of the inputs.

    think_steps  blank rows between a question and its answer, 0 or more

    After a question come think_steps blank rows, then one blank row per word of the answer, in which it is due. Raises
    ValueError on a word that is not in the vocabulary and on negative think_steps.
    """
    if think_steps < 0:
        raise ValueError(f"think_steps must be 0 or more, got {think_steps}")
    inputs, targets, question, start = [], [], [], [0]
    for story in stories:
        asked = 0
        for sentence in story:
            words, answer = words_of(sentence.text), [word.lower() for word in sentence.answer]
            for word in (*words, *answer):
                if word not in vocabulary:
                    raise ValueError(f"the word {word!r} of {sentence.text!r} must be in the vocabulary, and is not")
            silent = len(words) + (think_steps if answer else 0)
            inputs += [vocabulary[word] for word in words] + [0] * (silent - len(words) + len(answer))
            targets += [0] * silent + [vocabulary[word] for word in answer]
            question += [-1] * silent + [asked] * len(answer)
            asked += bool(answer)
        start.append(len(inputs))
    return Corpus(*(torch.tensor(part, dtype=torch.int64) for part in (inputs, targets, question, start)))


def take(corpus: Corpus, stories: Tensor) -> BabiBatch:
    """Put some stories side by side.

    stories  (batch), int64: which ones, 0 to stories - 1

    Raises ValueError when there is no such story or none is asked for.
    """
    count = len(corpus.start) - 1
    if stories.dim() != 1 or not len(stories) or stories.min() < 0 or stories.max() >= count:
        raise ValueError(f"stories must be one or more numbers of 0 to {count - 1}, got {stories.tolist()}")
    start, length = corpus.start[stories], corpus.start[stories + 1] - corpus.start[stories]
    time = torch.arange(int(length.max()), device=start.device)[:, None]
    inside = time < length                                              # (time, batch)
    rows = torch.where(inside, start + time, 0)
    inputs, targets = corpus.inputs[rows] * inside, corpus.targets[rows] * inside
    question = corpus.question[rows].masked_fill(~inside, -1)
    return BabiBatch(inputs, targets, question >= 0, question, length)


def batches(corpus: Corpus, batch: int, *, generator: Generator) -> Iterator[BabiBatch]:
    """Go once through all stories in random order; the last batch may be smaller. Raises ValueError on batch < 1."""
    require_sizes(generator, batch=batch)
    order = torch.randperm(len(corpus.start) - 1, generator=generator, device=generator.device)
    return (take(corpus, stories) for stories in order.to(corpus.start.device).split(batch))


# a small story generator

def single_supporting_fact(
    stories: int,
    *,
    generator: Generator,
    facts: Bounds = (2, 8),
    questions: int = 1,
    people: Sequence[str] = PEOPLE,
    places: Sequence[str] = PLACES,
) -> list[Story]:
    """People walk about; where is one of them? The answer is in the last line about that person (as task 1).

    facts      lines before each question, 1 or more: a number, or (low, high) with both ends included
    questions  questions in a story; the story goes on after each

    Nobody walks to where they are. Raises ValueError on empty ranges, no people and fewer than 2 places.
    """
    require_sizes(generator, stories=stories, questions=questions)
    _require_names(1, people=people)
    _require_names(2, places=places)
    told = []
    for _ in range(stories):
        story: list[Sentence] = []
        where: dict[str, tuple[str, int]] = {}                          # person: place, line
        for _ in range(questions):
            for _ in range(draw_size("facts", facts, least=1, generator=generator)):
                _move(story, where, people, places, generator)
            place, line = where[person := _choose(list(where), generator)]
            story.append(Sentence(f"Where is {person}?", (place,), (line,)))
        told.append(tuple(story))
    return told


def two_supporting_facts(
    stories: int,
    *,
    generator: Generator,
    facts: Bounds = (2, 8),
    questions: int = 1,
    people: Sequence[str] = PEOPLE,
    places: Sequence[str] = PLACES,
    objects: Sequence[str] = OBJECTS,
) -> list[Story]:
    """People walk about, take things and leave them; where is one of the things (as task 2)?

    facts      lines before each question, 2 or more: a number, or (low, high) with both ends included
    questions  questions in a story; the story goes on after each

    The answer follows from two lines: who took or left the thing last, and where that person went last, or was when
    leaving it. Only someone whose place is known takes a thing, and only one that is there or was never seen before.
    Raises ValueError on empty ranges, no people or objects, and fewer than 2 places.
    """
    require_sizes(generator, stories=stories, questions=questions)
    _require_names(1, people=people, objects=objects)
    _require_names(2, places=places)
    return [_errands(facts, questions, people, places, objects, generator) for _ in range(stories)]


def induction(
    stories: int,
    *,
    generator: Generator,
    names: Sequence[str] = NAMES,
    animals: Sequence[str] = ANIMALS,
    colours: Sequence[str] = COLOURS,
) -> list[Story]:
    """Some animals and their colours; what colour is another of the same kind (as task 16)?

    All animals of a kind have one colour, and no two kinds share it. Of one animal only the kind is told; at least one
    more is of that kind, and the lines about those support the answer. Raises ValueError on fewer than 2 names, no
    animals and fewer colours than animals.
    """
    require_sizes(generator, stories=stories)
    _require_names(2, names=names)
    _require_names(1, animals=animals)
    _require_names(len(animals), colours=colours)
    told = []
    for _ in range(stories):
        colour_of = dict(zip(animals, _shuffled(colours, generator), strict=False))
        asked, witness, *others = _shuffled(names, generator)
        kind = {name: _choose(animals, generator) for name in (asked, *others)}
        kind[witness] = kind[asked]
        lines = [(name, f"{name} is a {kind[name]}.") for name in names]
        lines += [(name, f"{name} is {colour_of[kind[name]]}.") for name in names if name != asked]
        lines = _shuffled(lines, generator)
        support = [number for number, (name, _) in enumerate(lines, start=1) if kind[name] == kind[asked]]
        question = Sentence(f"What color is {asked}?", (colour_of[kind[asked]],), tuple(support))
        told.append((*(Sentence(text) for _, text in lines), question))
    return told


def _errands(
    facts: Bounds, questions: int, people: Sequence[str], places: Sequence[str], objects: Sequence[str],
    generator: Generator,
) -> Story:
    """One story of two_supporting_facts."""
    story: list[Sentence] = []
    where: dict[str, tuple[str, int]] = {}                              # person: place, line
    held: dict[str, tuple[str, int]] = {}                               # object: person, line where it was taken
    lying: dict[str, tuple[str, int, int]] = {}                         # object: place, line of leaving, of arriving
    for _ in range(questions):
        lines = draw_size("facts", facts, least=2, generator=generator)
        for left in range(lines, 0, -1):
            at_hand = [(person, thing) for person, (place, _) in where.items() for thing in objects
                       if thing not in held and (thing not in lying or lying[thing][0] == place)]
            must_take = left == 1 and not held and not lying            # else there is nothing to ask for
            actions = ["take"] if must_take else ["move"] + ["take"] * bool(at_hand) + ["leave"] * bool(held)
            match _choose(actions, generator):
                case "move":
                    _move(story, where, people, places, generator)
                case "take":
                    person, thing = _choose(at_hand, generator)
                    lying.pop(thing, None)
                    story.append(Sentence(f"{person} {_choose(('took', 'got', 'grabbed'), generator)} the {thing}."))
                    held[thing] = person, len(story)
                case "leave":
                    person, _ = held.pop(thing := _choose(list(held), generator))
                    story.append(Sentence(f"{person} {_choose(('left', 'dropped'), generator)} the {thing}."))
                    lying[thing] = where[person][0], len(story), where[person][1]
        thing = _choose([*held, *lying], generator)
        if thing in held:
            person, line = held[thing]
            place, arrived = where[person]
        else:
            place, line, arrived = lying[thing]
        story.append(Sentence(f"Where is the {thing}?", (place,), (line, arrived)))
    return tuple(story)


def _move(
    story: list[Sentence], where: dict[str, tuple[str, int]], people: Sequence[str], places: Sequence[str],
    generator: Generator,
) -> None:
    """Somebody walks to another place: adds the line, and who is where since which line."""
    person = _choose(people, generator)
    here = where.get(person, ("", 0))[0]
    place = _choose([place for place in places if place != here], generator)
    verb = _choose(("went", "journeyed", "travelled", "moved"), generator)
    story.append(Sentence(f"{person} {verb} to the {place}."))
    where[person] = place, len(story)


def _choose(items: Sequence, generator: Generator):
    return items[int(torch.randint(len(items), (), generator=generator, device=generator.device))]


def _shuffled(items: Sequence, generator: Generator) -> list:
    order = torch.randperm(len(items), generator=generator, device=generator.device)
    return [items[index] for index in order.tolist()]


def _require_names(least: int, **lists: Sequence[str]) -> None:
    for name, items in lists.items():
        if isinstance(items, str) or len(set(items)) < max(least, len(items)):
            raise ValueError(f"{name} must be {least} or more different names, got {items!r}")
