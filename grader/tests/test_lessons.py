"""Finding lessons and their exercises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from grader import lessons
from grader.lessons import ExerciseCell, Lesson, UnreadableNotebook
from grader.names import UnknownName


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "lessons"
    folder.mkdir()
    for name in ("10_shared_workspace.md", "01_dnc.md", "00_start.md", "README.md", "2_short.md"):
        (folder / name).write_text("# A lesson\n")
    return tmp_path


def test_lessons_are_in_order_with_their_files(root, monkeypatch):
    listed = sorted((root / "lessons").iterdir(), reverse=True)         # a folder may be listed in any order
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter(listed))
    found = lessons.all_lessons(root)
    assert [lesson.name for lesson in found] == ["00_start", "01_dnc", "10_shared_workspace"]
    assert found[1] == Lesson("01", "dnc", root / "lessons")
    assert (found[1].source, found[1].notebook) == (root / "lessons/01_dnc.md", root / "lessons/01_dnc.ipynb")


def test_no_lessons_in_an_empty_folder(tmp_path):
    assert lessons.all_lessons(tmp_path) == []
    with pytest.raises(UnknownName, match="no lesson '01': there is none in"):
        lessons.find("01", tmp_path)


@pytest.mark.parametrize("text", ["1", "01", "dnc", "01_dnc", "01_dnc.ipynb", "work/01_dnc.ipynb", "lessons/01_dnc.md",
                                  Path("work/01_dnc.ipynb")])
def test_a_lesson_by_any_of_its_names(root, text):
    assert lessons.find(text, root).name == "01_dnc"


def test_a_renamed_notebook_says_whose_it_is(root, tmp_path):
    path = tmp_path / "my copy.ipynb"
    path.write_text(json.dumps({"cells": [], "metadata": {"systematic": {"lesson": "10_shared_workspace"}}}))
    assert lessons.find(path, root).name == "10_shared_workspace"
    path.rename(tmp_path / "01_dnc.ipynb")
    assert lessons.find(tmp_path / "01_dnc.ipynb", root).name == "10_shared_workspace"


@pytest.mark.parametrize("content", ["", "{", '{"cells": []}', '{"cells": [], "metadata": {"systematic": 3}}', "[]"])
def test_a_broken_notebook_is_found_by_its_name(root, tmp_path, content):
    path = tmp_path / "01_dnc.ipynb"
    path.write_text(content)
    assert lessons.find(path, root).name == "01_dnc"


@pytest.mark.parametrize(("text", "message"), [
    ("dcn", "no lesson 'dcn'; did you mean dnc?"),
    ("01_dcn", "no lesson '01_dcn'; did you mean 01_dnc?"),
    ("work/01_dcn.ipynb", "no lesson '01_dcn'; did you mean 01_dnc?"),
    ("77", "no lesson '77'; there are 00_start, 01_dnc, 10_shared_workspace"),
    ("", "no lesson ''; there are start, dnc, shared_workspace"),
])
def test_an_unknown_lesson_is_told_with_the_nearest(root, text, message):
    with pytest.raises(UnknownName) as caught:
        lessons.find(text, root)
    assert str(caught.value) == message


def notebook(*about):
    return {"cells": [{"cell_type": "code", "metadata": {} if each is None else {"exercise": each}} for each in about]}


def test_exercise_cells_with_their_places(tmp_path):
    first = {"id": "dnc-a", "points": 4, "difficulty": 2, "minutes": 15}
    second = {"id": "dnc-b", "points": 1.5, "difficulty": 1, "minutes": 5}
    content = notebook(None, first, None, second, first)
    expected = [ExerciseCell("dnc-a", 4, 2, 15, 1), ExerciseCell("dnc-b", 1.5, 1, 5, 3),
                ExerciseCell("dnc-a", 4, 2, 15, 4)]
    assert lessons.exercises(content) == expected
    path = tmp_path / "01_dnc.ipynb"
    path.write_text(json.dumps(content))
    assert lessons.exercises(path) == lessons.exercises(str(path)) == expected


def test_metadata_of_others_is_no_exercise():
    assert lessons.exercises(notebook("words", 3, {"points": 4}, [])) == []
    assert lessons.exercises({"cells": [{"cell_type": "raw"}]}) == []


@pytest.mark.parametrize(("content", "message"), [
    (b'{"cells": [', "is not a notebook, its JSON is broken or cut short"),
    (b"\xff\xfe", "is not a notebook, its JSON is broken or cut short"),
    (b"[1]", "is not a notebook: it has no list of cells"),
    (b'{"cells": 3}', "is not a notebook: it has no list of cells"),
    (b'{"cells": [3]}', "is not a notebook: it has no list of cells"),
    (None, "cannot be read: No such file"),
])
def test_what_is_no_notebook_is_told(tmp_path, content, message):
    path = tmp_path / "01_dnc.ipynb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableNotebook, match=message) as caught:
        lessons.exercises(path)
    assert str(caught.value).startswith(str(path))


def test_importing_lessons_needs_the_standard_library_only():
    done = subprocess.run([sys.executable, "-S", "-c", "import grader.lessons, grader.definitions"],
                          cwd=lessons.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
