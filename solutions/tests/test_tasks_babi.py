"""The official format is read, kept, written and batched; the generated stories can be answered by reading them."""

import hashlib
import io
import re
import socket
import tarfile
from collections import Counter

import pytest
import torch

from solutions.tasks import babi
from solutions.tasks.babi import Sentence

# the format's every feature: several questions, several words in an answer, several lines or none in support
TEXT = (
    "1 Ann took the lamp.\n"
    "2 Ann went to the attic.\n"
    "3 Where is the lamp? \tattic\t1 2\n"
    "4 Ann took the rug there.\n"
    "5 What is Ann carrying? \tlamp,rug\t1 4\n"
    "1 The attic is west of the cellar.\n"
    "2 How do you go from the cellar to the attic?\tw,n\t1\n"
    "3 How many lamps are there?\tnone\t\n"
)
STORIES = [
    (Sentence("Ann took the lamp."), Sentence("Ann went to the attic."),
     Sentence("Where is the lamp?", ("attic",), (1, 2)), Sentence("Ann took the rug there."),
     Sentence("What is Ann carrying?", ("lamp", "rug"), (1, 4))),
    (Sentence("The attic is west of the cellar."),
     Sentence("How do you go from the cellar to the attic?", ("w", "n"), (1,)),
     Sentence("How many lamps are there?", ("none",))),
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# reading and writing

def test_the_official_format_is_read_to_the_last_story():
    assert babi.parse_stories(TEXT) == STORIES


@pytest.mark.parametrize("text", [TEXT.replace("\n", "\r\n"), TEXT.replace("\n1 The", "\n\n1 The"), TEXT.rstrip("\n"),
                                  TEXT.replace(" \t", "\t"), TEXT.replace("lamp,rug", "lamp rug")])
def test_line_ends_blank_lines_and_spaces_do_not_matter(text):
    assert babi.parse_stories(text) == STORIES


def test_what_is_written_is_read_back():
    written = babi.format_stories(STORIES)
    assert babi.parse_stories(written) == STORIES
    assert "\n3 Where is the lamp? \tattic\t1 2\n" in written
    assert babi.format_stories([]) == ""
    assert babi.parse_stories("") == []


@pytest.mark.parametrize(("text", "says"), [
    ("Ann took the lamp.\n", "line 1: must begin with 1"),
    ("2 Ann took the lamp.\n", "line 1: must begin with 1"),
    ("1 Ann took the lamp.\n3 Ann left.\n", "line 2: must begin with 2 or with 1"),
    ("1 Ann took the lamp.\n2\n", "line 2: must be 'number sentence'"),
    ("1 Where is Ann?\t\t1\n", "line 1: must be 'number sentence'"),
    ("1 Where is Ann?\tattic\tone\n", "line 1: must be 'number sentence'"),
])
def test_a_line_that_does_not_fit_is_an_error_with_its_place(text, says):
    with pytest.raises(ValueError, match=f"stories.txt, {says}.* got "):
        babi.parse_stories(text, "stories.txt")


def test_a_task_is_read_from_a_folder(tmp_path):
    (tmp_path / "qa1_single-supporting-fact_train.txt").write_text(TEXT)
    (tmp_path / "qa11_basic-coreference_train.txt").write_text("1 A.\n")
    (tmp_path / "qa1_single-supporting-fact_test.txt").write_text("1 B.\n")
    assert babi.read_task(tmp_path, 1) == STORIES
    assert babi.read_task(tmp_path, 1, "test") == [(Sentence("B."),)]
    with pytest.raises(FileNotFoundError, match=r"one file qa2_\*_train.txt in .*, found none"):
        babi.read_task(tmp_path, 2)
    (tmp_path / "qa1_again_train.txt").write_text(TEXT)
    with pytest.raises(FileNotFoundError, match=r"found qa1_again_train.txt, qa1_single"):
        babi.read_task(tmp_path, 1)
    (tmp_path / "qa3_x_test.txt").write_text("7 A.\n")
    with pytest.raises(ValueError, match=r"qa3_x_test.txt, line 1"):
        babi.read_task(tmp_path, 3, "test")


# batches

def test_punctuation_marks_are_words_and_case_does_not_matter():
    assert babi.words_of("Where is  Mary?") == ["where", "is", "mary", "?"]
    assert babi.words_of("Then, Ann's twenty-one.") == ["then", ",", "ann's", "twenty-one", "."]


def test_the_vocabulary_is_every_word_once_and_the_blank_first():
    vocabulary = babi.build_vocabulary(STORIES)
    assert vocabulary[babi.BLANK] == 0
    assert list(vocabulary.values()) == list(range(len(vocabulary)))
    assert list(vocabulary)[1:] == sorted(vocabulary.keys() - {babi.BLANK})
    assert {"attic", "?", ".", "none", "w", "rug"} <= vocabulary.keys()
    assert vocabulary == babi.build_vocabulary(STORIES[::-1])


@pytest.mark.parametrize("think_steps", [0, 1, 3])
def test_after_a_question_come_think_steps_and_then_its_answer_with_nothing_shown(think_steps):
    vocabulary = babi.build_vocabulary(STORIES)
    words = list(vocabulary)
    batch = babi.take(babi.encode(STORIES, vocabulary, think_steps), torch.tensor([1, 0]))
    think = [(babi.BLANK, None, -1)] * think_steps
    for entry, story in enumerate(STORIES[::-1]):
        expected, asked = [], 0
        for sentence in story:
            spaced = re.sub(r"([.?])", r" \1", sentence.text.lower()).split()
            expected += [(word, None, -1) for word in spaced]
            if sentence.answer:
                expected += think + [(babi.BLANK, word, asked) for word in sentence.answer]
                asked += 1
        assert batch.length[entry] == len(expected)
        expected += [(babi.BLANK, None, -1)] * (len(batch.inputs) - len(expected))
        rows = zip(batch.inputs[:, entry], batch.targets[:, entry], batch.question[:, entry], strict=True)
        assert [(words[shown], words[due] if due else None, int(which)) for shown, due, which in rows] == expected
    assert torch.equal(batch.answer_rows, batch.targets > 0)
    assert len(batch.inputs) == batch.length.max()


def test_a_batch_is_cut_to_its_longest_story():
    corpus = babi.encode(STORIES, babi.build_vocabulary(STORIES))
    both = babi.take(corpus, torch.tensor([0, 1]))
    for story in (0, 1):
        alone = babi.take(corpus, torch.tensor([story]))
        assert alone.inputs.shape == (both.length[story], 1)
        for part, padded in zip(alone[:4], both[:4], strict=True):
            assert torch.equal(part[:, 0], padded[:len(part), story])


def test_an_epoch_has_every_story_once_in_an_order_that_the_seed_decides():
    stories = [(Sentence(f"{number}."),) for number in range(11)]
    vocabulary = babi.build_vocabulary(stories)
    corpus = babi.encode(stories, vocabulary)
    epochs = []
    for seed in (0, 0, 1):
        made = list(babi.batches(corpus, 4, generator=seeded(seed)))
        assert [batch.inputs.shape[1] for batch in made] == [4, 4, 3]
        epochs.append(torch.cat([batch.inputs[0] for batch in made]).tolist())
    assert sorted(epochs[0]) == sorted(vocabulary[str(number)] for number in range(11))
    assert epochs[0] == epochs[1] != epochs[2]


def test_what_cannot_be_encoded_or_taken_is_an_error():
    vocabulary = babi.build_vocabulary(STORIES[:1])
    with pytest.raises(ValueError, match=r"the word '(is|west)' of .* must be in the vocabulary"):
        babi.encode(STORIES[1:], vocabulary)
    with pytest.raises(ValueError, match="think_steps must be 0 or more, got -1"):
        babi.encode(STORIES[:1], vocabulary, think_steps=-1)
    corpus = babi.encode(STORIES[:1], vocabulary)
    for wrong in ([], [1], [-1]):
        with pytest.raises(ValueError, match=f"numbers of 0 to 0, got {re.escape(str(wrong))}"):
            babi.take(corpus, torch.tensor(wrong, dtype=torch.int64))
    with pytest.raises(ValueError, match="batch must be a whole number, 1 or more, got 0"):
        babi.batches(corpus, 0, generator=seeded(0))


# generated stories: readers that know English only

def where_is_a_person(lines: dict[int, str], question: str, whole: bool = False) -> str | None:
    name, place = re.fullmatch(r"Where is (\w+)\?", question)[1], None
    for at in sorted(lines):
        who, there = re.fullmatch(r"(\w+) (?:went|journeyed|travelled|moved) to the (\w+)\.", lines[at]).groups()
        if who == name:
            assert place != there, "nobody walks to where they are"
            place = there
    return place


def where_is_a_thing(lines: dict[int, str], question: str, whole: bool = False) -> str | None:
    thing = re.fullmatch(r"Where is the (\w+)\?", question)[1]
    place_of, holder, place = {}, None, None
    for at in sorted(lines):
        if moved := re.fullmatch(r"(\w+) (?:went|journeyed|travelled|moved) to the (\w+)\.", lines[at]):
            assert place_of.get(moved[1]) != moved[2], "nobody walks to where they are"
            place_of[moved[1]] = moved[2]
        else:
            name, verb, what = re.fullmatch(r"(\w+) (took|got|grabbed|left|dropped) the (\w+)\.", lines[at]).groups()
            if what == thing:
                taken = verb in ("took", "got", "grabbed")
                if whole:
                    assert holder == (None if taken else name), "what is held is not taken, what is not is not left"
                    assert place_of[name]
                    assert not taken or place in (None, place_of[name]), "what lies elsewhere is not taken"
                holder, place = (name, None) if taken else (None, place_of.get(name))
    return place_of.get(holder, place)


def what_colour(lines: dict[int, str], question: str, whole: bool = False) -> str | None:
    name = re.fullmatch(r"What color is (\w+)\?", question)[1]
    kinds = dict(re.fullmatch(r"(\w+) is a (\w+)\.", line).groups() for line in lines.values() if " is a " in line)
    colours = dict(re.fullmatch(r"(\w+) is (\w+)\.", line).groups() for line in lines.values() if " is a " not in line)
    assert name not in colours
    if whole:
        assert len(set(colours.values())) == len({kinds[other] for other in colours}), "one colour a kind"
    [colour] = {colours[other] for other in kinds if kinds[other] == kinds[name] and other in colours}
    return colour


GENERATED = [
    ({"facts": (2, 8)}, babi.single_supporting_fact, where_is_a_person, 1),
    ({"facts": 2, "questions": 5}, babi.single_supporting_fact, where_is_a_person, 1),
    ({"facts": (2, 12)}, babi.two_supporting_facts, where_is_a_thing, 2),
    ({"facts": (2, 4), "questions": 5}, babi.two_supporting_facts, where_is_a_thing, 2),
    ({}, babi.induction, what_colour, None),
]


@pytest.mark.parametrize(("options", "generate", "reader", "supporting"), GENERATED)
def test_the_answer_follows_from_the_story_and_from_its_support_alone(options, generate, reader, supporting):
    stories = generate(80, generator=seeded(0), **options)
    assert len(stories) == 80
    for story in stories:
        told: dict[int, str] = {}
        assert sum(bool(sentence.answer) for sentence in story) == options.get("questions", 1)
        assert story[-1].answer
        for number, (text, answer, support) in enumerate(story, start=1):
            if not answer:
                told[number] = text
                continue
            assert (reader(told, text, whole=True),) == answer
            assert (reader({at: told[at] for at in support}, text),) == answer
            if supporting is None:  # induction: all that is told of this kind, one line for the animal asked for
                named = {line.split()[0]: line.split()[-1] for line in told.values() if " is a " in line}
                kind = named[re.fullmatch(r"What color is (\w+)\?", text)[1]]
                assert support == tuple(at for at in told if named[told[at].split()[0]] == kind)
                continue
            assert len(set(support)) == len(support) == supporting
            for at in support:      # no line of the support can be spared
                assert reader({other: told[other] for other in support if other != at}, text) is None
            assert max(at for at in told if text.split()[-1].strip("?") in told[at]) in support


@pytest.mark.parametrize(("options", "generate", "reader", "supporting"), GENERATED)
def test_generated_stories_are_in_the_official_format_and_the_seed_decides_them(options, generate, reader, supporting):
    stories, again, other = (generate(20, generator=seeded(seed), **options) for seed in (1, 1, 2))
    assert stories == again != other
    assert babi.parse_stories(babi.format_stories(stories)) == stories
    assert len(set(stories)) > 15


def test_the_number_of_facts_and_the_answers_come_from_their_whole_ranges():
    stories = babi.single_supporting_fact(400, generator=seeded(3), facts=(2, 5))
    assert set(map(len, stories)) == {3, 4, 5, 6}
    answers = Counter(story[-1].answer[0] for story in stories)
    assert set(answers) == set(babi.PLACES)
    assert min(answers.values()) > 40
    stories = babi.two_supporting_facts(400, generator=seeded(3), facts=(2, 9))
    assert set(map(len, stories)) == set(range(3, 11))
    assert {story[-1].answer[0] for story in stories} == set(babi.PLACES)
    verbs = {story[max(story[-1].support, default=1) - 1].text.split()[1] for story in stories}
    assert {"took", "left", "went"} <= verbs            # held, lying, carried away


def test_what_is_told_for_induction_comes_in_any_order():
    stories = babi.induction(200, generator=seeded(4))
    assert len({story[-1].text for story in stories}) == len(babi.NAMES)
    kinds_first = Counter(" is a " in story[0].text for story in stories)
    assert 80 < kinds_first[True] < 145                 # five lines of nine
    assert len({story[0].text.split()[0] for story in stories}) == len(babi.NAMES)


def test_names_of_ones_own():
    story, = babi.two_supporting_facts(1, generator=seeded(0), people=["Al"], places=["x", "y"], objects=["z"], facts=2)
    assert re.fullmatch(r"1 Al \w+ to the [xy]\.\n2 Al \w+ the z\.\n3 Where is the z\? \t[xy]\t2 1\n",
                        babi.format_stories([story]))


@pytest.mark.parametrize(("make", "says"), [
    (lambda g: babi.single_supporting_fact(0, generator=g), "stories must be a whole number, 1 or more, got 0"),
    (lambda g: babi.single_supporting_fact(1, generator=g, facts=0), "facts must be .* 1 <= low <= high, got 0"),
    (lambda g: babi.two_supporting_facts(1, generator=g, facts=(1, 3)), "facts must be .* 2 <= low <= high, got"),
    (lambda g: babi.single_supporting_fact(1, generator=g, places=["x"]), "places must be 2 or more different names"),
    (lambda g: babi.two_supporting_facts(1, generator=g, objects=[]), "objects must be 1 or more different names"),
    (lambda g: babi.induction(1, generator=g, names=["Al", "Al"]), "names must be 2 or more different names"),
    (lambda g: babi.induction(1, generator=g, colours=["red"]), "colours must be 4 or more different names"),
])
def test_stories_that_cannot_be_told_are_errors(make, says):
    with pytest.raises(ValueError, match=says):
        make(seeded(0))


# the download, from files and a closed port in place of the official server

MEMBERS = {
    f"{babi.ARCHIVE}/en/qa1_x_train.txt": TEXT,
    f"{babi.ARCHIVE}/en/._qa1_x_train.txt": "left by an archiver",
    f"{babi.ARCHIVE}/en/program.sh": "no story",
    f"{babi.ARCHIVE}/../outside.txt": "outside",
    "/tmp/absolute.txt": "outside",
    "elsewhere/qa1.txt": "outside",
}


def archive(members=MEMBERS) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo(f"{babi.ARCHIVE}/en/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return buffer.getvalue()


def files_in(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


UNPACKED = {f"{babi.ARCHIVE}.tar.gz", f"{babi.ARCHIVE}/en/qa1_x_train.txt"}


@pytest.fixture
def served(tmp_path):
    (tmp_path / "server.tar.gz").write_bytes(archive())
    return (tmp_path / "server.tar.gz").as_uri()


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/{babi.ARCHIVE}.tar.gz"


def test_a_download_gives_the_stories_once_and_nothing_else(tmp_path, served, closed_port):
    folder = tmp_path / "data" / "babi"
    found = babi.download(folder, url=served)
    assert babi.read_task(found.folder / "en", 1) == STORIES
    assert files_in(folder) == UNPACKED
    assert files_in(tmp_path) == {f"data/babi/{name}" for name in UNPACKED} | {"server.tar.gz"}
    assert babi.download(folder, url=closed_port) == found     # asks nobody


def test_a_checksum_that_nobody_recorded_is_pending_and_says_so(tmp_path, served):
    assert babi.CHECKSUM is None
    found = babi.download(tmp_path / "a", url=served)
    assert found.sha256 == hashlib.sha256((tmp_path / "server.tar.gz").read_bytes()).hexdigest()
    assert found.checksum.startswith("pending: no checksum is recorded")
    assert found.sha256 in found.checksum
    assert babi.download(tmp_path / "b", url=served, checksum=found.sha256.upper()).checksum == "verified"


def test_another_checksum_is_an_error_and_nothing_is_kept(tmp_path, served):
    folder = tmp_path / "data"
    with pytest.raises(ValueError, match=r"has SHA-256 .*, expected 00ff; nothing was unpacked"):
        babi.download(folder, url=served, checksum="00ff")
    assert not folder.exists()
    babi.download(folder, url=served)
    with pytest.raises(ValueError, match=r"tar\.gz has SHA-256 .*, expected 00ff"):
        babi.download(folder, url=served, checksum="00ff")


def test_without_a_network_the_error_says_what_to_do(tmp_path, closed_port):
    says = r"could not fetch .* put a copy of tasks_1-20_v1-2\.tar\.gz into .*data .* single_supporting_fact"
    with pytest.raises(ConnectionError, match=says):
        babi.download(tmp_path / "data", url=closed_port, timeout=5)
    assert not (tmp_path / "data").exists()


def test_an_archive_put_there_by_hand_is_used(tmp_path, closed_port):
    (tmp_path / f"{babi.ARCHIVE}.tar.gz").write_bytes(archive())
    found = babi.download(tmp_path, url=closed_port)
    assert files_in(tmp_path) == UNPACKED
    assert found.folder == tmp_path / babi.ARCHIVE


@pytest.mark.parametrize("content", [b"<html>sign in to the hotel's network</html>", b"", archive()[:-40],
                                     archive()[:20], archive({"elsewhere/qa1.txt": TEXT})],
                         ids=["a page", "nothing", "cut at the end", "cut at the start", "another archive"])
def test_what_is_no_such_archive_is_an_error_and_leaves_nothing(tmp_path, content):
    (tmp_path / "server.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"server\.tar\.gz (is not a whole tar\.gz archive|has no text files in)"):
        babi.download(tmp_path / "data", url=(tmp_path / "server.tar.gz").as_uri())
    assert not list((tmp_path / "data").iterdir())
